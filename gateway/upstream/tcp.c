/* SPDX-License-Identifier: Apache-2.0 */
/* Raw TCP to an endpoint: one connection per exchange, half-close and reset carried as they are. */
#include <errno.h>
#include <stddef.h>

#include "gateway/base/mem.h"
#include "gateway/upstream/internal.h"

struct up_tcp {
	struct leg leg;
	struct conn conn;
	struct up_service *service;
	struct up_endpoint *endpoint;
	struct deadline limit;
	uint64_t tried;
	bool open, eof;
};

static const struct conn_ops tcp_conn_ops;

static void drop(struct up_tcp *t, bool reset)
{
	t->leg.ev = NULL;
	deadline_cancel(&t->limit);
	conn_fini(&t->conn, reset);
	t->service->connections--;
	t->service->set->open--;
	if (t->endpoint)
		t->endpoint->active--;
	loop_dispose(t->service->set->env.loop, t);
}

static void fail(struct up_tcp *t, enum leg_why why, bool unsent, const char *detail)
{
	const struct leg_events *ev = t->leg.ev;
	void *x = t->leg.x;

	drop(t, false);
	if (ev)
		ev->on_abort(x, why, unsent, detail);
}

/* False when there is nothing left to try. */
static bool try_next(struct up_tcp *t)
{
	struct upstream_set *set = t->service->set;
	int fd;

	for (;;) {
		t->endpoint = up_pick(t->service, &t->tried);
		if (!t->endpoint)
			return false;
		fd = conn_dial(&t->endpoint->cfg->addr);
		if (fd >= 0)
			break;
		up_failed(t->endpoint);
	}
	up_conn_init(set, &t->conn, fd, &tcp_conn_ops, t);
	t->endpoint->active++;
	deadline_set(t->service->q_connect_tcp, &t->limit);
	return true;
}

static void on_open(struct conn *c)
{
	struct up_tcp *t = c->owner;
	struct leg_head h = { .status = 200, .length = LEG_NO_LENGTH };

	t->open = true;
	deadline_set(t->service->q_idle_tcp, &t->limit);
	conn_dirty(c);
	if (t->leg.ev)
		t->leg.ev->on_head(t->leg.x, &h);
}

static void on_input(struct conn *c)
{
	struct up_tcp *t = c->owner;
	struct upstream_env *env = &t->service->set->env;
	ssize_t n = conn_read(c, env->scratch, env->scratch_size);

	if (n < 0)
		return;
	deadline_set(t->service->q_idle_tcp, &t->limit);
	if (n == 0) {
		if (!t->eof && t->leg.ev) {
			t->eof = true;
			t->leg.ev->on_end(t->leg.x, NULL, 0);
		}
		return;
	}
	if (t->leg.ev)
		t->leg.ev->on_data(t->leg.x, env->scratch, (size_t)n);
	conn_settle_all();
	if (c->fd < 0)
		return;
	if (c->readable && !c->paused)
		conn_again(c);
	else
		conn_check(c);
}

static void on_drained(struct conn *c)
{
	struct up_tcp *t = c->owner;

	if (t->leg.ev)
		t->leg.ev->on_drained(t->leg.x);
	else if (c->out.bytes == 0)
		drop(t, false); /* released, and the last bytes are written */
}

static void on_close(struct conn *c, const char *why)
{
	struct up_tcp *t = c->owner;
	int err = c->error;

	if (!t->open) {
		struct outq kept = c->out;

		up_failed(t->endpoint);
		t->endpoint->active--;
		outq_init(&c->out);
		conn_fini(c, false);
		c->out = kept;
		if (try_next(t))
			return;
		t->conn.fd = -1;
		outq_reset(&t->conn.out);
		t->endpoint = NULL;
		fail(t, LEG_REFUSED, true, err == ETIMEDOUT ? "connect-timeout" : "connect-failed");
		return;
	}
	fail(t, err == ECONNRESET || err == EPIPE ? LEG_RESET : LEG_TIMEOUT, false, why);
}

static const struct conn_ops tcp_conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

void up_tcp_on_limit(struct deadline *d)
{
	struct up_tcp *t = (struct up_tcp *)((char *)d - offsetof(struct up_tcp, limit));

	if (t->open) {
		fail(t, LEG_TIMEOUT, false, "idle-timeout");
		return;
	}
	t->conn.error = ETIMEDOUT;
	on_close(&t->conn, "connect-timeout");
}

static void leg_head(struct leg *l, const struct leg_head *h)
{
	(void)l, (void)h; /* a CONNECT has nothing to say to a TCP service */
}

static void leg_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct up_tcp *t = (struct up_tcp *)l;

	if (t->open && n >= 4096)
		conn_borrow(&t->conn, p, n);
	else
		conn_write(&t->conn, p, n);
	if (t->open)
		deadline_set(t->service->q_idle_tcp, &t->limit);
}

static void leg_end(struct leg *l, const struct h1_field *trailers, unsigned n)
{
	(void)trailers, (void)n;
	conn_shutdown(&((struct up_tcp *)l)->conn);
}

static bool leg_full(struct leg *l)
{
	return conn_full(&((struct up_tcp *)l)->conn);
}

static void leg_pause(struct leg *l)
{
	conn_pause(&((struct up_tcp *)l)->conn);
}

static void leg_resume(struct leg *l)
{
	conn_resume(&((struct up_tcp *)l)->conn);
}

static void leg_abort(struct leg *l, enum leg_why why)
{
	(void)why;
	drop((struct up_tcp *)l, true);
}

static void leg_release(struct leg *l)
{
	struct up_tcp *t = (struct up_tcp *)l;

	t->leg.ev = NULL;
	conn_tell_empty(&t->conn);
}

const struct leg_ops up_tcp_ops = {
	.head = leg_head, .data = leg_data, .end = leg_end, .full = leg_full,
	.pause = leg_pause, .resume = leg_resume, .abort = leg_abort, .release = leg_release,
};

const char *up_tcp_endpoint(const struct leg *l)
{
	const struct up_tcp *t = (const struct up_tcp *)l;

	return t->endpoint ? t->endpoint->cfg->text : "";
}

struct leg *upstream_tcp(struct upstream_set *s, int service, const struct leg_events *ev, void *x, const char **why)
{
	struct up_service *sv = &s->services[service];
	struct up_tcp *t;

	if (sv->connections >= sv->cfg->max_connections) {
		*why = "overflow";
		return NULL;
	}
	t = mem_zalloc(sizeof(*t));
	t->leg = (struct leg){ .ops = &up_tcp_ops, .ev = ev, .x = x };
	t->service = sv;
	t->conn.fd = -1;
	if (!try_next(t)) {
		*why = "connect-failed";
		mem_free(t);
		return NULL;
	}
	sv->connections++;
	s->open++;
	return &t->leg;
}
