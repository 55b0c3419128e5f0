/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/io/conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/mem.h"

#define MAX_IOV 64
/* conn_part(): how long, and how much, we go on reading. */
#define PART_MS 1000
#define PART_MAX_BYTES (1024 * 1024)
#define TLS_GATHER 4096 /* below this it pays to copy pieces together for one record */

/* Connections with borrowed output: one list, for one thread reads into one buffer at a time. */
static LIST_HEAD(, conn) borrowers = LIST_HEAD_INITIALIZER(borrowers);

static void on_io(void *ctx, unsigned what);
static void on_flush(void *ctx);

static void close_with(struct conn *c, const char *why)
{
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	io_del(&c->io);
	deadline_cancel(&c->write_deadline);
	c->ops->on_close(c, why);
}

static void on_write_deadline(struct deadline *d)
{
	struct conn *c = (struct conn *)((char *)d - offsetof(struct conn, write_deadline));

	close_with(c, "write-timeout");
}

void conn_init(struct conn *c, struct loop *l, int fd, bool connecting, const struct conn_ops *ops, void *owner)
{
	memset(c, 0, sizeof(*c));
	c->loop = l;
	c->ops = ops;
	c->owner = owner;
	c->fd = fd;
	c->state = connecting ? CONN_CONNECTING : CONN_OPEN;
	c->writable = !connecting;
	/* Data may have come with the connection: the first edge tells, for adding reports what is there. */
	loop_task_init(&c->flush, on_flush, c);
	outq_init(&c->out);
	io_add(l, &c->io, fd, on_io, c);
}

void conn_set_layer(struct conn *c, const struct conn_layer *layer, void *ctx)
{
	c->layer = layer;
	c->layer_ctx = ctx;
	if (c->state == CONN_OPEN) {
		c->state = CONN_HANDSHAKE;
		loop_later(c->loop, &c->flush);
	}
}

static ssize_t write_some(struct conn *c)
{
	struct iovec iov[MAX_IOV];
	ssize_t total = 0, n;

	while (c->out.bytes && c->writable) {
		if (c->layer) {
			size_t len;
			/* Whole records where possible; small pieces are gathered into one. */
			const uint8_t *p = outq_front(&c->out, TLS_GATHER, &len);

			n = c->layer->write(c->layer_ctx, p, len, c->out.bytes > len);
			if (n == -2)
				return -2;
		} else {
			struct msghdr m = { .msg_iov = iov, .msg_iovlen = outq_iov(&c->out, iov, MAX_IOV) };
			size_t asked = 0;

			for (size_t i = 0; i < m.msg_iovlen; i++)
				asked += iov[i].iov_len;
			n = m.msg_iovlen == 1 ? send(c->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
					      : sendmsg(c->fd, &m, MSG_NOSIGNAL);
			if (n < 0) {
				if (errno == EINTR)
					continue;
				if (errno != EAGAIN) {
					c->error = errno;
					c->send_failed = true;
					return -2;
				}
				n = -1;
			} else if ((size_t)n < asked) {
				outq_consume(&c->out, (size_t)n);
				total += n;
				/* A short write: the socket is full; its edge will come. */
				c->writable = false;
				break;
			}
		}
		if (n < 0) {
			c->writable = false;
			break;
		}
		outq_consume(&c->out, (size_t)n);
		total += n;
	}
	c->wrote |= total > 0;
	return total;
}

void conn_fini(struct conn *c, bool reset)
{
	if (c->fd < 0)
		return;
	io_del(&c->io);
	deadline_cancel(&c->write_deadline);
	loop_task_cancel(c->loop, &c->flush);
	if (c->borrowing) {
		LIST_REMOVE(c, settle);
		c->borrowing = false;
	}
	if (!reset && c->state == CONN_OPEN && c->out.bytes && c->writable && !c->broken)
		write_some(c); /* last words: a GOAWAY, an answer */
	c->state = CONN_CLOSED;
	if (c->layer) {
		if (!reset && !c->shut_done && c->out.bytes == 0)
			c->layer->shutdown(c->layer_ctx);
		c->layer->free(c->layer_ctx);
		c->layer = NULL;
	}
	outq_reset(&c->out);
	if (reset) {
		struct linger lg = { .l_onoff = 1, .l_linger = 0 };

		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	}
	close(c->fd);
	c->fd = -1;
}

/* Drives CONNECTING and HANDSHAKE; true when the connection is open. */
static bool advance(struct conn *c)
{
	if (c->state == CONN_CONNECTING) {
		int err = 0;
		socklen_t len = sizeof(err);

		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
			err = errno;
		if (err) {
			c->error = err;
			close_with(c, "connect-failed");
			return false;
		}
		c->writable = true;
		c->state = c->layer ? CONN_HANDSHAKE : CONN_OPEN;
		if (c->state == CONN_OPEN) {
			conn_dirty(c); /* what was queued before */
			c->ops->on_open(c);
			return c->state == CONN_OPEN;
		}
	}
	if (c->state == CONN_HANDSHAKE) {
		switch (c->layer->handshake(c->layer_ctx)) {
		case CONN_HS_WAIT:
			return false;
		case CONN_HS_FAILED:
			c->refused = true;
			close_with(c, "handshake");
			return false;
		case CONN_HS_DONE:
			c->state = CONN_OPEN;
			c->readable = c->writable = true;
			conn_dirty(c);
			c->ops->on_open(c);
			break;
		}
	}
	return c->state == CONN_OPEN;
}

/* Sending failed: what the far end said before it went is still in the socket, then conn_read() fails. */
static void hear_out(struct conn *c)
{
	c->send_failed = true;
	c->readable = c->hup = c->resume = true;
}

static bool flush_out(struct conn *c)
{
	ssize_t n = write_some(c);

	if (n == -2 && c->hear_out && !c->layer) {
		outq_reset(&c->out);
		deadline_cancel(&c->write_deadline);
		hear_out(c);
		return true;
	}
	if (n == -2) {
		close_with(c, "reset");
		return false;
	}
	if (c->out.bytes == 0) {
		if (!c->parting)
			deadline_cancel(&c->write_deadline);
		if (c->shut_wanted && !c->shut_done) {
			c->shut_done = true;
			if (c->layer)
				c->layer->shutdown(c->layer_ctx);
			else
				shutdown(c->fd, SHUT_WR);
		}
	} else if (c->write_q && !c->parting && (c->wrote || !c->write_deadline.q)) {
		deadline_set(c->write_q, &c->write_deadline);
	}
	c->wrote = false;
	return true;
}

static bool tell_drained(struct conn *c)
{
	if ((c->was_full && c->out.bytes <= CONN_LOW) || (c->tell_empty && c->out.bytes == 0)) {
		c->was_full = false;
		if (c->out.bytes == 0)
			c->tell_empty = false; /* else it is owed still: whoever waits to close would wait for ever */
		c->ops->on_drained(c);
	}
	return c->fd >= 0 && c->state == CONN_OPEN;
}

static void on_flush(void *ctx)
{
	struct conn *c = ctx;

	if (c->state == CONN_HANDSHAKE) {
		if (!advance(c))
			return;
		c->resume = true;
	}
	if (c->state != CONN_OPEN)
		return;
	if (c->broken) {
		close_with(c, "reset");
		return;
	}
	/* With an empty queue too while a deadline runs: conn_settle_all() may have written the rest. */
	if ((c->out.bytes || c->write_deadline.q || (c->shut_wanted && !c->shut_done)) && !flush_out(c))
		return;
	if (!tell_drained(c))
		return;
	if (c->resume) {
		c->resume = false;
		if (c->readable && !c->paused)
			c->ops->on_input(c);
	}
}

static void on_io(void *ctx, unsigned what)
{
	struct conn *c = ctx;

	if (what & IO_HUP)
		c->hup = true;
	if (c->state < CONN_OPEN) {
		if (c->state == CONN_CONNECTING && !(what & (IO_WRITE | IO_HUP)))
			return;
		if (!advance(c))
			return;
		what |= IO_READ;
	}
	if (c->state != CONN_OPEN)
		return;
	if (what & IO_WRITE) {
		bool was = c->writable;

		c->writable = true;
		if (c->read_waits) {
			c->read_waits = false;
			what |= IO_READ;
		}
		if (!was && (c->out.bytes || c->shut_wanted))
			loop_later(c->loop, &c->flush);
	}
	if (what & IO_READ) {
		c->readable = true;
		if (!c->paused)
			c->ops->on_input(c);
	}
}

static void parted(struct conn *c)
{
	struct loop *l = c->loop;

	conn_fini(c, false);
	loop_dispose(l, c);
}

static void on_parting_input(struct conn *c)
{
	uint8_t drop[4096];
	ssize_t n;

	while ((n = conn_read(c, drop, sizeof(drop))) > 0)
		if ((c->dropped += (uint32_t)n) > PART_MAX_BYTES)
			break;
	if (n >= 0)
		parted(c);
}

static void on_parting_drained(struct conn *c)
{
	(void)c;
}

static void on_parting_close(struct conn *c, const char *why)
{
	(void)why;
	parted(c);
}

static const struct conn_ops parting_ops = {
	.on_open = on_parting_drained, .on_input = on_parting_input, .on_drained = on_parting_drained, .on_close = on_parting_close,
};

/* A handshake failed and its alert is written: from here on a plain socket whose input is dropped. */
static void revive(struct conn *c)
{
	c->layer->free(c->layer_ctx);
	c->layer = NULL;
	outq_reset(&c->out);
	c->state = CONN_OPEN;
	io_add(c->loop, &c->io, c->fd, on_io, c);
}

void conn_part(struct conn *c)
{
	if (c->refused && c->layer && c->fd >= 0)
		revive(c);
	if (c->state != CONN_OPEN || c->broken) {
		parted(c);
		return;
	}
	c->ops = &parting_ops;
	c->owner = NULL;
	c->parting = true;
	c->paused = false;
	c->was_full = c->tell_empty = false;
	conn_write_timeout(c, PART_MS);
	deadline_set(c->write_q, &c->write_deadline);
	c->readable = c->resume = true;
	conn_shutdown(c);
}

void conn_kick(struct conn *c)
{
	if (c->state == CONN_HANDSHAKE)
		loop_later(c->loop, &c->flush);
}

ssize_t conn_read(struct conn *c, void *p, size_t n)
{
	ssize_t got;

	if (!c->readable || c->state != CONN_OPEN)
		return -1;
	if (c->layer) {
		got = c->layer->read(c->layer_ctx, p, n);
		if (got == -1) {
			c->readable = false;
			c->read_waits = c->layer->wants_write(c->layer_ctx);
		} else if (got > 0) {
			if (!c->hup && !c->layer->pending(c->layer_ctx))
				c->readable = false; /* drained; what comes later makes a new edge */
		} else if (got == -2) {
			c->error = ECONNRESET;
			c->readable = false;
			c->broken = true;
			loop_later(c->loop, &c->flush);
		}
		return got;
	}
	do
		got = recv(c->fd, p, n, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0) {
		if (errno == EAGAIN) {
			c->readable = false;
			return -1;
		}
		c->error = errno;
		c->readable = false;
		c->broken = true;
		loop_later(c->loop, &c->flush);
		return -2;
	}
	if (got == 0 && c->send_failed) {
		/* The failed send took the socket's error with it: this is a reset, and no FIN. */
		c->readable = false;
		c->broken = true;
		loop_later(c->loop, &c->flush);
		return -2;
	}
	if (got == 0)
		c->readable = false;
	else if ((size_t)got < n && !c->hup)
		c->readable = false; /* drained; what comes later makes a new edge */
	return got;
}

bool conn_at_end(const struct conn *c)
{
	char b;

	return c->hup && (c->layer || recv(c->fd, &b, 1, MSG_PEEK | MSG_DONTWAIT) == 0);
}

void conn_check(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (c->state != CONN_OPEN || c->readable || c->hup || c->broken)
		return;
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err) {
		c->error = err;
		if (c->layer)
			c->broken = true;
		else
			hear_out(c); /* more may have come before it, after the owner's last read */
		loop_later(c->loop, &c->flush);
	}
}

void conn_dirty(struct conn *c)
{
	if (c->state == CONN_OPEN)
		loop_later(c->loop, &c->flush);
}

void conn_write(struct conn *c, const void *p, size_t n)
{
	outq_append(&c->out, p, n);
	conn_dirty(c);
}

void conn_borrow(struct conn *c, const void *p, size_t n)
{
	outq_borrow(&c->out, p, n);
	if (!c->borrowing) {
		c->borrowing = true;
		LIST_INSERT_HEAD(&borrowers, c, settle);
	}
}

void conn_settle_all(void)
{
	struct conn *c;

	while ((c = LIST_FIRST(&borrowers))) {
		LIST_REMOVE(c, settle);
		c->borrowing = false;
		/* A failure shows again in the flush, where on_close may be called. */
		if (c->state == CONN_OPEN && c->writable)
			write_some(c);
		outq_own(&c->out);
		conn_dirty(c);
	}
}

void conn_again(struct conn *c)
{
	c->resume = true;
	loop_next(c->loop, &c->flush);
}

void conn_shutdown(struct conn *c)
{
	c->shut_wanted = true;
	conn_dirty(c);
}

void conn_pause(struct conn *c)
{
	c->paused = true;
}

void conn_resume(struct conn *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	if (c->readable || (c->layer && c->layer->pending(c->layer_ctx))) {
		c->readable = c->resume = true;
		conn_dirty(c);
	}
}

void conn_tell_empty(struct conn *c)
{
	c->tell_empty = true;
	conn_dirty(c);
}

void conn_write_timeout(struct conn *c, uint64_t ms)
{
	c->write_q = ms ? deadline_queue(c->loop, ms, on_write_deadline) : NULL;
}

/* ---- sockets ---- */

static void set_nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int conn_dial(const struct addr *a)
{
	int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (a->ss.ss_family != AF_UNIX)
		set_nodelay(fd);
	if (connect(fd, (const struct sockaddr *)&a->ss, a->len) != 0 && errno != EINPROGRESS) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

int conn_accept(int listener, struct addr *from)
{
	int fd;

	from->len = sizeof(from->ss);
	do
		fd = accept4(listener, (struct sockaddr *)&from->ss, &from->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd >= 0 && from->ss.ss_family != AF_UNIX)
		set_nodelay(fd);
	return fd;
}
