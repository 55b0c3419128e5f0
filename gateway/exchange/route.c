/* SPDX-License-Identifier: Apache-2.0 */
/* Where an exchange goes: a link of the peer, now or when there is one, or an endpoint here. */
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/exchange/internal.h"

#define TRACEPARENT_LEN 55
#define VIA_MAX (2 * (SPIFFE_ID_MAX + 8))

void route_on_response_limit(struct deadline *d)
{
	struct exchange *x = (struct exchange *)((char *)d - offsetof(struct exchange, limit));

	relay_fail(x, 504, "response-timeout");
}

static void after_start(struct exchange *x)
{
	struct iovec iov[16];
	unsigned n;

	while ((n = outq_iov(&x->early, iov, 16))) {
		size_t bytes = 0;

		for (unsigned i = 0; i < n; i++) {
			x->out->ops->data(x->out, iov[i].iov_base, iov[i].iov_len);
			bytes += iov[i].iov_len;
		}
		outq_consume(&x->early, bytes);
		x->body_sent = true;
	}
	if (x->in_ended && !x->head.end) {
		x->out->ops->end(x->out, x->trailers, x->ntrailers);
		x->body_sent |= x->ntrailers > 0;
	}
	/* What was paused for want of a link goes on; a leg of raw TCP or CONNECT by itself waits for the way to be open. */
	if (x->in_paused && !x->out->ops->full(x->out)) {
		x->in_paused = false;
		x->in->ops->resume(x->in);
	}
}

static void park(struct exchange *x)
{
	struct gate *g = x->g;

	if (g->nparked >= g->config->limits.parked || g->draining) {
		relay_fail(x, 503, "no-link");
		return;
	}
	x->parked = true;
	g->nparked++;
	TAILQ_INSERT_TAIL(&g->parked[x->peer], x, park);
	deadline_set(g->q_park, &x->limit);
	if (!x->in_paused) {
		x->in_paused = true;
		x->in->ops->pause(x->in);
	}
}

void route_on_park_limit(struct deadline *d)
{
	relay_fail((struct exchange *)((char *)d - offsetof(struct exchange, limit)), 503, "no-link");
}

/* By a link, now or when there is one. */
void route_link(struct exchange *x)
{
	struct gate *g = x->g;
	struct link_call call = { .caller = x->caller, .id = x->id, .attempt = x->attempt };
	const struct link *avoid = x->link;

	x->out = link_exchange(g->links, x->peer, avoid, &x->head, &call, x->mem, &relay_out_events, x);
	if (!x->out && avoid) {
		/* The other links are gone too: when one is made anew it is another one. */
		x->link = NULL;
		park(x);
		return;
	}
	if (!x->out) {
		park(x);
		return;
	}
	x->link = link_of_leg(x->out);
	x->link_number = link_number(x->link);
	deadline_set(g->services[x->service].q_response, &x->limit);
	after_start(x);
}

void gate_unpark(struct gate *g, int peer)
{
	struct exchange *x, *last = TAILQ_LAST(&g->parked[peer], exchange_queue);
	bool done = false;

	/* Once round: one that is parked again waits for the next link. */
	while (!done && (x = TAILQ_FIRST(&g->parked[peer])) && link_ready(g->links, peer)) {
		done = x == last;
		TAILQ_REMOVE(&g->parked[peer], x, park);
		g->nparked--;
		x->parked = false;
		deadline_cancel(&x->limit);
		route_link(x);
	}
}

static const char hexdigits[] = "0123456789abcdef";

/* W3C Trace Context 3.2: a new trace for what came without one. */
static void make_traceparent(char out[TRACEPARENT_LEN], const struct uuid *id, uint64_t now_us)
{
	uint64_t span = hash_bytes(id, sizeof(*id)) ^ now_us;
	char *p = out;

	memcpy(p, "00-", 3);
	esc_hex(p + 3, id->b, 16);
	p[35] = '-';
	for (int i = 0; i < 16; i++)
		p[36 + i] = hexdigits[span >> (60 - 4 * i) & 15];
	memcpy(p + 52, "-00", 3);
}

static bool has_field(const struct leg_head *h, enum h1_name id)
{
	for (unsigned i = 0; i < h->nfields; i++)
		if (h->fields[i].id == id)
			return true;
	return false;
}

/*
 * RFC 9110 7.6.3: the gateways that it came by, the peer's first. What came with the request stays a field of its own
 * before this one.
 */
static unsigned put_via(struct exchange *x, struct h1_field *f, char mem[VIA_MAX])
{
	const struct gate *g = x->g;
	size_t n = 0;

	if (x->from.link) {
		const char *via = link_via(x->from.link);

		n = strlen(via);
		memcpy(mem, via, n);
		memcpy(mem + n, ", ", 2);
		n += 2;
	}
	memcpy(mem + n, g->via, strlen(g->via));
	if (strcmp(x->from.protocol, "h2") == 0)
		memcpy(mem + n, "2.0", 3); /* as what it was received */
	*f = exchange_field("via", 3, mem, n + strlen(g->via));
	return 1;
}

/* To a local service: what it may know of the caller, said by us alone. */
void route_local(struct exchange *x, const struct leg_head *h)
{
	struct gate *g = x->g;
	struct h1_field fields[H1_MAX_FIELDS + 8];
	char id[UUID_TEXT_LEN], trace[TRACEPARENT_LEN], via[VIA_MAX];
	struct leg_head to = *h;
	const char *why = "no-endpoint";
	unsigned n = 0;

	if (x->tcp) {
		x->out = upstream_tcp(g->upstreams, x->service, &relay_out_events, x, &why);
		if (x->out && x->in_ended)
			x->out->ops->end(x->out, NULL, 0);
	} else {
		for (unsigned i = 0; i < h->nfields; i++)
			if (!h->fields[i].hop)
				fields[n++] = h->fields[i];
		if (x->caller->id_len)
			fields[n++] = exchange_field("sallyport-principal", 19, x->caller->id, x->caller->id_len);
		uuid_format(&x->id, id);
		fields[n++] = exchange_field("sallyport-exchange", 18, id, UUID_TEXT_LEN);
		fields[n++] = exchange_field("forwarded", 9, h->https ? "for=unknown;proto=https" : "for=unknown;proto=http", h->https ? 23 : 22);
		n += put_via(x, fields + n, via);
		if (!has_field(h, H1_F_TRACEPARENT)) {
			make_traceparent(trace, &x->id, x->start_us);
			fields[n++] = exchange_field("traceparent", 11, trace, TRACEPARENT_LEN);
		}
		if (g->config->policy_context)
			fields[n++] = exchange_field("sallyport-policy-context", 24, g->config->policy_context, strlen(g->config->policy_context));
		to.fields = fields;
		to.nfields = n;
		x->out = upstream_http(g->upstreams, x->service, &to, &relay_out_events, x, &why);
	}
	if (!x->out)
		relay_fail(x, 503, why); /* as for one that fails to connect a little later */
}
