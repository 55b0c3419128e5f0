/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between roles: SOCK_SEQPACKET pairs, one datagram a message, descriptors by SCM_RIGHTS.
 * Whoever receives a message that its table does not allow closes the channel; master then kills that child.
 */
#ifndef GATEWAY_PROCESS_IPC_H
#define GATEWAY_PROCESS_IPC_H

#include <stddef.h>
#include <stdint.h>

#define IPC_MAX_DATA 65536
#define IPC_MAX_FDS 64

struct ipc_msg {
	uint16_t type;
	uint16_t arg;              /* meaning by type */
	uint32_t len;
	uint8_t *data;             /* into the caller's buffer */
	int fds[IPC_MAX_FDS];      /* now owned by the receiver, close-on-exec */
	unsigned nfds;
};

int ipc_pair(int sv[2]);       /* non-blocking, close-on-exec; 0 or -1 */
/* 0; -1 would block (nothing sent); -2 the channel is dead. fds are borrowed. */
int ipc_send(int fd, uint16_t type, uint16_t arg, const void *data, size_t len, const int *fds, unsigned nfds);
/* buf holds IPC_MAX_DATA + 16. 1 a message, 0 nothing there, -1 closed, -2 malformed (its descriptors are closed). */
int ipc_recv(int fd, uint8_t *buf, struct ipc_msg *out);
void ipc_msg_close(struct ipc_msg *m); /* closes descriptors that were not taken (set to -1) */

#endif
