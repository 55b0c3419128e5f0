/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/enrol/peek.h"

#include <errno.h>
#include <sys/socket.h>

#include "gateway/enrol/hello.h"

/* A client whose hello comes in more pieces than this goes the ordinary way, so that looking stays cheap. */
#define LOOKS_MAX 64

static void
on_ready(void *ctx, unsigned what)
{
	static uint8_t octets[HELLO_OCTETS_MAX];
	struct peek *p = ctx;
	enum hello found = HELLO_NO;
	ssize_t n;

	if (!(what & (IO_READ | IO_HUP)))
		return;
	do
		n = recv(p->fd, octets, sizeof(octets), MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0)
		found = hello_asks(octets, (size_t)n, p->host);
	if (found == HELLO_MORE && !(what & IO_HUP) && ++p->looks < LOOKS_MAX)
		return; /* more will be a new edge */
	io_del(&p->io);
	p->done(p->ctx, found == HELLO_YES);
}

void
peek_start(struct peek *p, struct loop *l, int fd, const char *host, peek_fn *done, void *ctx)
{
	p->fd = fd;
	p->looks = 0;
	p->host = host;
	p->done = done;
	p->ctx = ctx;
	io_add(l, &p->io, fd, on_ready, p);
}

void
peek_stop(struct peek *p)
{
	io_del(&p->io);
}
