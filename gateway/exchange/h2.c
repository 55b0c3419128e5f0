/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 from workloads of our own domain: sidecars' links and clients that speak h2. The certificate says who
 * calls; a sidecar may say of an exchange that its caller is known less well than that, never better.
 */
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/exchange/ingress.h"
#include "gateway/http2/session.h"

struct h2_ingress {
	LIST_ENTRY(h2_ingress) entry;
	struct conn *conn;
	struct h2 *h2;
	struct ingress_client client;
	struct tls_conn *tls;
	struct deadline idle;
	struct caller *lowered[2]; /* the same id as "none" and as "address": made when a sidecar says so */
	bool draining, gone;
};

/* told: the far end was told why (GOAWAY), and should get to read it. */
static void end(struct h2_ingress *h, enum leg_why why, bool told)
{
	struct gate *g = h->client.listener->ingress->gate;

	if (h->gone)
		return;
	h->gone = true;
	LIST_REMOVE(h, entry);
	deadline_cancel(&h->idle);
	h2_free(h->h2, why);
	if (told) {
		conn_part(h->conn);
	} else {
		conn_fini(h->conn, false);
		loop_dispose(g->loop, h->conn);
	}
	for (int i = 0; i < 2; i++)
		caller_unref(g->callers, h->lowered[i]);
	ingress_gone(&h->client);
	loop_dispose(g->loop, h);
}

static void destroy(struct h2_ingress *h, enum leg_why why)
{
	end(h, why, false);
}

/* "uuid;attempt;assurance": of which only the last counts, for ids from workloads are ignored (DESIGN, Audit). */
static struct caller *caller_of(struct h2_ingress *h, const struct leg_head *head, bool *sidecar)
{
	struct gate *g = h->client.listener->ingress->gate;

	for (unsigned i = 0; i < head->nfields; i++) {
		const struct h1_field *f = &head->fields[i];
		enum policy_assurance a;

		if (f->id != H1_F_IDENTITY || f->name_len != 18 || memcmp(f->name, "sallyport-exchange", 18) != 0)
			continue;
		if (f->value_len < UUID_TEXT_LEN + 4)
			continue;
		*sidecar = true;
		switch (f->value[f->value_len - 1]) {
		case 'a': a = POLICY_ADDRESS; break;
		case 'n': a = POLICY_NONE; break;
		default: continue;
		}
		if (!h->lowered[a == POLICY_ADDRESS])
			h->lowered[a == POLICY_ADDRESS] = caller_get(g->callers, h->client.caller->id,
			    a == POLICY_ADDRESS ? h->client.caller->id_len : 0, a, -1);
		return h->lowered[a == POLICY_ADDRESS];
	}
	return h->client.caller;
}

static void on_request(struct h2 *s, struct h2_stream *st, const struct leg_head *head)
{
	struct h2_ingress *h = h2_owner(s);
	struct ingress_listener *ls = h->client.listener;
	struct gate *g = ls->ingress->gate;
	struct caller *caller;
	struct exchange_from from = {
		.listener = ls->cfg->name, .protocol = "h2", .client = &h->client.from,
		/* By the scheme, for that is what the next gateway goes by: both must mean the same service. */
		.default_port = head->https ? 443 : 80,
	};

	deadline_cancel(&h->idle);
	if (head->method_id != H1_M_CONNECT && !ingress_sni_ok(g, tls_sni(h->tls), head)) {
		from.refuse_status = 421;
		from.refuse_why = "sni-differs";
	}
	caller = caller_of(h, head, &from.sidecar);
	exchange_start(g, &st->leg, caller, head, &from);
}

static void on_ping(struct h2 *s)
{
	(void)s;
}

static void on_goaway(struct h2 *s, int32_t last, uint32_t code)
{
	struct h2_ingress *h = h2_owner(s);

	(void)last, (void)code;
	h->draining = true;
	h2_goaway(s, H2_NO_ERROR); /* and on_error("goaway") when no stream is left */
}

static void on_settings(struct h2 *s)
{
	(void)s;
}

static void on_idle(struct h2 *s)
{
	struct h2_ingress *h = h2_owner(s);

	struct ingress *in = h->client.listener->ingress;

	if (h->draining && h2_done(s))
		conn_tell_empty(h->conn);
	else
		deadline_set(h->draining ? in->q_parting_h2 : in->q_keepalive_h2, &h->idle);
}

static void on_room(struct h2 *s)
{
	(void)s;
}

static void on_error(struct h2 *s, const char *why)
{
	struct h2_ingress *h = h2_owner(s);
	bool flood = strstr(why, "flood") != NULL;

	if (h->gone)
		return;
	if (strcmp(why, "goaway") != 0)
		gate_note(h->client.listener->ingress->gate, flood ? AUDIT_ALERT : AUDIT_REFUSED, h->client.listener->cfg->name,
		    &h->client.from, h->client.caller->id, why, "HTTP/2");
	end(h, LEG_PROTOCOL, true);
}

static const struct h2_ops ops = {
	.on_request = on_request, .on_ping = on_ping, .on_goaway = on_goaway,
	.on_settings = on_settings, .on_idle = on_idle, .on_room = on_room, .on_error = on_error,
};

static void on_open(struct conn *c)
{
	(void)c;
}

static void on_input(struct conn *c)
{
	struct h2_ingress *h = c->owner;
	struct gate *g = h->client.listener->ingress->gate;
	ssize_t n = conn_read(c, g->scratch, g->scratch_size);

	if (n == 0) {
		destroy(h, LEG_CANCEL);
		return;
	}
	if (n < 0)
		return;
	h2_input(h->h2, g->scratch, (size_t)n);
	conn_settle_all();
	if (!h->gone && c->readable)
		conn_again(c);
}

static void on_drained(struct conn *c)
{
	struct h2_ingress *h = c->owner;

	if (h->draining && h2_done(h->h2) && c->out.bytes == 0)
		end(h, LEG_CANCEL, true);
	else
		h2_output_ready(h->h2);
}

static void on_close(struct conn *c, const char *why)
{
	struct h2_ingress *h = c->owner;

	(void)why;
	ingress_tls_lost(&h->client, h->tls);
	destroy(h, LEG_CANCEL);
}

static const struct conn_ops conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

void h2_on_keepalive(struct deadline *d)
{
	struct h2_ingress *h = (struct h2_ingress *)((char *)d - offsetof(struct h2_ingress, idle));

	if (h->draining) {
		end(h, LEG_TIMEOUT, true); /* it did not answer our notice */
		return;
	}
	h->draining = true;
	h2_goaway(h->h2, H2_NO_ERROR);
	deadline_set(h->client.listener->ingress->q_parting_h2, &h->idle);
}

/* ---- its caller's certificate ended ---- */

static struct h2_ingress *of_client(const struct ingress_client *c)
{
	return (struct h2_ingress *)((char *)(uintptr_t)c - offsetof(struct h2_ingress, client));
}

static bool is_busy(const struct ingress_client *c)
{
	return h2_streams(of_client(c)->h2) > 0;
}

static void retire(struct ingress_client *c)
{
	struct h2_ingress *h = of_client(c);

	h->draining = true;
	h2_goaway(h->h2, H2_NO_ERROR);
	if (h2_streams(h->h2) == 0)
		deadline_set(h->client.listener->ingress->q_parting_h2, &h->idle);
}

static void cut(struct ingress_client *c, const char *why)
{
	(void)why;
	end(of_client(c), LEG_REVOKED, false);
}

static const struct ingress_kind h2_kind = { .busy = is_busy, .retire = retire, .cut = cut };

void h2_ingress_start(struct conn *c, struct ingress_client *client, struct tls_conn *tls)
{
	struct h2_ingress *h = mem_zalloc(sizeof(*h));
	struct ingress *in = client->listener->ingress;
	const struct config_limits *lim = &in->gate->config->limits;
	struct h2_config cfg = {
		.server = true,
		.max_streams = lim->streams_per_link,
		.stream_window = (uint32_t)lim->stream_window,
		.session_window = (uint32_t)lim->link_window,
		.resets_per_second = lim->resets_per_second,
		.head_ms = lim->head_ms,
		.write_ms = lim->write_ms,
	};

	h->client = *client;
	h->conn = c;
	h->tls = tls;
	c->ops = &conn_ops;
	c->owner = h;
	conn_write_timeout(c, lim->write_ms);
	LIST_INSERT_HEAD(&in->h2, h, entry);
	ingress_attach(&h->client, &h2_kind);
	h->h2 = h2_new(c, &cfg, &ops, h);
	deadline_set(in->q_keepalive_h2, &h->idle);
}

void h2_ingress_drain(struct ingress *in)
{
	struct h2_ingress *h, *next;

	LIST_FOREACH_SAFE(h, &in->h2, entry, next) {
		h->draining = true;
		h2_goaway(h->h2, H2_NO_ERROR);
		if (h2_streams(h->h2) == 0)
			deadline_set(in->q_parting_h2, &h->idle);
	}
}
