/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process/ipc.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* What precedes the data of each datagram; "len" is there so that a cut message is noticed. */
struct wire_head {
	uint16_t type, arg;
	uint32_t len;
};

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * IPC_MAX_FDS)];
};

int
ipc_pair(int sv[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv);
}

int
ipc_send(int fd, uint16_t type, uint16_t arg, const void *data, size_t len, const int *fds, unsigned nfds)
{
	struct wire_head head = { .type = type, .arg = arg, .len = (uint32_t)len };
	struct iovec iov[2] = {
		{ .iov_base = &head, .iov_len = sizeof(head) },
		{ .iov_base = (void *)(uintptr_t)data, .iov_len = len },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };
	union control control;
	ssize_t n;

	if (len > IPC_MAX_DATA || nfds > IPC_MAX_FDS)
		return -2;
	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	/* ETOOMANYREFS: this user has too many descriptors in flight; it passes as they are received. */
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)
		return -1;
	return -2;
}

/* Takes every descriptor that came along, wherever in the control data: none may leak. False: more than fit. */
static bool
take_fds(struct msghdr *msg, struct ipc_msg *out)
{
	bool fit = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (out->nfds < IPC_MAX_FDS) {
				out->fds[out->nfds++] = fd;
			} else {
				close(fd);
				fit = false;
			}
		}
	}
	return fit;
}

int
ipc_recv(int fd, uint8_t *buf, struct ipc_msg *out)
{
	struct iovec iov = { .iov_base = buf, .iov_len = IPC_MAX_DATA + 16 };
	union control control;
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control.room),
	};
	struct wire_head head;
	ssize_t n;

	out->type = out->arg = 0;
	out->len = 0;
	out->data = buf + sizeof(head);
	out->nfds = 0;
	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
	if (!take_fds(&msg, out) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		goto malformed;
	if (n == 0 && out->nfds == 0)
		return -1;
	if ((size_t)n < sizeof(head))
		goto malformed;
	memcpy(&head, buf, sizeof(head));
	if (head.len != (size_t)n - sizeof(head) || head.len > IPC_MAX_DATA)
		goto malformed;
	out->type = head.type;
	out->arg = head.arg;
	out->len = head.len;
	return 1;
malformed:
	ipc_msg_close(out);
	return -2;
}

void
ipc_msg_close(struct ipc_msg *m)
{
	for (unsigned i = 0; i < m->nfds; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	m->nfds = 0;
}
