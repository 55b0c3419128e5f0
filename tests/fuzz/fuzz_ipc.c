/* SPDX-License-Identifier: Apache-2.0 */
/* A role's view of a channel whose other end is hostile: raw datagrams, with descriptors, through every parser of messages. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/process/child.h"
#include "gateway/process/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
pass(int fd, const void *p, size_t n, int what, unsigned copies)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * 127)];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	memset(&control, 0, sizeof(control));
	if (copies) {
		struct cmsghdr *c;

		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * copies);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * copies);
		for (unsigned i = 0; i < copies; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &what, sizeof(int));
	}
	(void)!sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Each input is some datagrams: one octet number of descriptors, one octet length / 4, then so many octets. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[IPC_MAX_DATA + 16];
	static int sv[2] = { -1, -1 }, null, first;
	struct role_env_fd fds[IPC_MAX_FDS];
	struct ipc_msg m;
	int n, probe;

	if (sv[0] < 0) {
		if (ipc_pair(sv) < 0 || (null = open("/dev/null", O_RDONLY)) < 0)
			abort();
		first = dup(null); /* the lowest free number: it must be free again after each input */
		close(first);
	}
	while (size >= 2) {
		unsigned copies = data[0] % 128;
		size_t len = (size_t)data[1] * 4 < size - 2 ? (size_t)data[1] * 4 : size - 2;

		pass(sv[0], data + 2, len, null, copies);
		data += 2 + len;
		size -= 2 + len;
		while ((n = ipc_recv(sv[1], buf, &m)) != 0) {
			if (n == -1) { /* an empty datagram reads like the end */
				break;
			}
			if (n < 0)
				continue;
			n = child_fds(&m, fds);
			for (int i = 0; i < n; i++) {
				if (fds[i].kind == 0 || fds[i].kind >= ROLE_FD_MAX)
					abort();
				close(fds[i].fd);
			}
			ipc_msg_close(&m);
		}
	}
	probe = dup(null);
	if (probe != first)
		abort(); /* a descriptor leaked */
	close(probe);
	return 0;
}
