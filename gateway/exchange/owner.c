/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/exchange/owner.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int diag = -1;

int owner_init(void)
{
	if (diag < 0)
		diag = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	return diag < 0 ? -1 : 0;
}

static void put_addr(__be32 to[4], __be16 *port, const struct addr *a)
{
	if (a->ss.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&a->ss;

		to[0] = in->sin_addr.s_addr;
		*port = in->sin_port;
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->ss;

		memcpy(to, &in6->sin6_addr, 16);
		*port = in6->sin6_port;
	}
}

int owner_of(int fd, const struct addr *from, uint32_t *uid)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} q = {
		.h = { .nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.r = { .sdiag_family = (uint8_t)from->ss.ss_family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u },
	};
	union {
		struct nlmsghdr h;
		uint8_t bytes[4096];
	} reply;
	struct addr ours = { .len = sizeof(ours.ss) };
	const struct inet_diag_msg *m;
	ssize_t n;

	if (owner_init() != 0 || getsockname(fd, (struct sockaddr *)&ours.ss, &ours.len) != 0 ||
	    ours.ss.ss_family != from->ss.ss_family)
		return -1;
	/* Their socket: its source is our far end. */
	put_addr(q.r.id.idiag_src, &q.r.id.idiag_sport, from);
	put_addr(q.r.id.idiag_dst, &q.r.id.idiag_dport, &ours);
	q.r.id.idiag_cookie[0] = q.r.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	while (recv(diag, &reply, sizeof(reply), 0) > 0)
		; /* an answer to an earlier question */
	if (send(diag, &q, sizeof(q), 0) != (ssize_t)sizeof(q))
		return -1;
	/* The kernel answers within the send. */
	n = recv(diag, &reply, sizeof(reply), 0);
	if (n < (ssize_t)(sizeof(struct nlmsghdr) + sizeof(*m)) || reply.h.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -1;
	m = (const void *)(reply.bytes + NLMSG_HDRLEN);
	if (m->id.idiag_sport != q.r.id.idiag_sport || m->id.idiag_dport != q.r.id.idiag_dport)
		return -1;
	/* A socket that its process has closed already has no inode any more, and says uid 0 whoever it was. */
	if (m->idiag_inode == 0)
		return -1;
	*uid = m->idiag_uid;
	return 0;
}
