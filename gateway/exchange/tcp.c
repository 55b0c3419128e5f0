/* SPDX-License-Identifier: Apache-2.0 */
/* Raw TCP from applications: a connection is one exchange with the listener's service. */
#include <errno.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/exchange/ingress.h"

struct tcp_ingress {
	struct leg leg;
	struct conn *conn;
	struct ingress_client client;
	bool open, eof;
};

static const struct conn_ops tcp_conn_ops;
static const struct leg_ops tcp_leg_ops;

static void destroy(struct tcp_ingress *t, bool reset)
{
	struct loop *loop = t->client.listener->ingress->gate->loop;

	t->leg.ev = NULL;
	conn_fini(t->conn, reset);
	loop_dispose(loop, t->conn);
	ingress_gone(&t->client);
	loop_dispose(loop, t);
}

static void on_open(struct conn *c)
{
	(void)c;
}

static void on_input(struct conn *c)
{
	struct tcp_ingress *t = c->owner;
	struct gate *g = t->client.listener->ingress->gate;
	ssize_t n = conn_read(c, g->scratch, g->scratch_size);

	if (n < 0)
		return;
	if (n == 0) {
		if (!t->eof && t->leg.ev) {
			t->eof = true;
			t->leg.ev->on_end(t->leg.x, NULL, 0);
		}
		return;
	}
	if (t->leg.ev)
		t->leg.ev->on_data(t->leg.x, g->scratch, (size_t)n);
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
	struct tcp_ingress *t = c->owner;

	if (t->leg.ev)
		t->leg.ev->on_drained(t->leg.x);
	else if (c->out.bytes == 0)
		destroy(t, false);
}

static void on_close(struct conn *c, const char *why)
{
	struct tcp_ingress *t = c->owner;
	const struct leg_events *ev = t->leg.ev;
	bool reset = c->error == ECONNRESET || c->error == EPIPE;
	void *x = t->leg.x;

	destroy(t, false);
	if (ev)
		ev->on_abort(x, reset ? LEG_RESET : LEG_TIMEOUT, false, why);
}

static const struct conn_ops tcp_conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

static void leg_head(struct leg *l, const struct leg_head *h)
{
	struct tcp_ingress *t = (struct tcp_ingress *)l;

	/* Only a 2xx comes here: refusals abort. */
	if (h->status / 100 == 2) {
		t->open = true;
		conn_resume(t->conn);
	}
}

static void leg_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct tcp_ingress *t = (struct tcp_ingress *)l;

	if (n >= 4096)
		conn_borrow(t->conn, p, n);
	else
		outq_append(&t->conn->out, p, n);
	conn_dirty(t->conn);
}

static void leg_end(struct leg *l, const struct h1_field *f, unsigned n)
{
	(void)f, (void)n;
	conn_shutdown(((struct tcp_ingress *)l)->conn);
}

static bool leg_full(struct leg *l)
{
	return conn_full(((struct tcp_ingress *)l)->conn);
}

static void leg_pause(struct leg *l)
{
	conn_pause(((struct tcp_ingress *)l)->conn);
}

static void leg_resume(struct leg *l)
{
	struct tcp_ingress *t = (struct tcp_ingress *)l;

	if (t->open)
		conn_resume(t->conn);
}

static void leg_abort(struct leg *l, enum leg_why why)
{
	(void)why;
	destroy((struct tcp_ingress *)l, true);
}

static void leg_release(struct leg *l)
{
	struct tcp_ingress *t = (struct tcp_ingress *)l;

	t->leg.ev = NULL;
	conn_tell_empty(t->conn);
}

static const struct leg_ops tcp_leg_ops = {
	.head = leg_head, .data = leg_data, .end = leg_end, .full = leg_full,
	.pause = leg_pause, .resume = leg_resume, .abort = leg_abort, .release = leg_release,
};

void tcp_ingress_start(struct conn *c, struct ingress_client *client)
{
	struct tcp_ingress *t = mem_zalloc(sizeof(*t));
	struct ingress_listener *ls = client->listener;
	const struct config_service *sv = &ls->ingress->gate->config->services[ls->cfg->service_index];
	struct leg_head h = {
		.method = "CONNECT", .method_len = 7, .method_id = H1_M_CONNECT,
		.authority = sv->host, .authority_len = (uint32_t)strlen(sv->host), .length = LEG_NO_LENGTH,
	};
	struct exchange_from from = {
		.listener = ls->cfg->name, .protocol = "tcp", .client = &t->client.from, .uid = client->uid,
		.tcp_service = true, .service = ls->cfg->service_index,
	};

	t->leg.ops = &tcp_leg_ops;
	t->client = *client;
	t->conn = c;
	c->ops = &tcp_conn_ops;
	c->owner = t;
	conn_write_timeout(c, ls->ingress->gate->config->limits.write_ms);
	conn_pause(c);
	exchange_start(ls->ingress->gate, &t->leg, t->client.caller, &h, &from);
}
