/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/exchange/exchange.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/exchange/books.h"

/* Tries of one exchange on a link in all. */
#define MAX_ATTEMPTS 3
/* Interim answers (1xx) of a service to one request (case 40). */
#define MAX_INTERIM 16
/* Cancelled exchanges of one principal per second before it is told to slow down (case 92). */
#define MAX_CANCELS 1000
#define TRACEPARENT_LEN 55
#define VIA_MAX (2 * (SPIFFE_ID_MAX + 8))

static const struct leg_events in_events, out_events;
static void route(struct exchange *x);
static void on_response_limit(struct deadline *d);
static void on_park_limit(struct deadline *d);

/* ---- gate ---- */

static void look_up_services(struct gate *g)
{
	for (size_t i = 0; i < g->config->nservices; i++)
		g->services[i].policy_id = policy_service_id(&g->policy, g->config->services[i].name);
}

void gate_init(struct gate *g)
{
	LIST_INIT(&g->exchanges);
	g->services = mem_array(g->config->nservices, sizeof(*g->services));
	for (size_t i = 0; i < g->config->nservices; i++)
		g->services[i].q_response = deadline_queue(g->loop, g->config->services[i].response_ms, on_response_limit);
	g->parked = mem_array(g->config->npeers, sizeof(*g->parked));
	for (size_t i = 0; i < g->config->npeers; i++)
		TAILQ_INIT(&g->parked[i]);
	g->via = link_via_of(g->config->identity.id);
	g->q_park = deadline_queue(g->loop, g->config->limits.park_ms, on_park_limit);
	look_up_services(g);
}

void gate_fini(struct gate *g)
{
	mem_free(g->services);
	mem_free(g->parked);
	mem_free(g->via);
}

/* ---- the copy of a head ---- */

static const char *keep(struct exchange *x, const char *s, size_t n)
{
	char *p = x->text + x->text_used;

	memcpy(p, s, n);
	x->text_used += (uint32_t)n;
	return p;
}

/*
 * What must outlive the read buffer: method, authority and path for judging again; for a link every field too, since
 * the request may be sent later or again.
 */
static void copy_head(struct exchange *x, const struct leg_head *h, bool fields)
{
	size_t need = h->method_len + h->authority_len + h->path_len;
	size_t room = OUTQ_SMALL - sizeof(*x);
	unsigned n = 0;
	char *mem = (char *)(x + 1);

	if (fields) {
		for (unsigned i = 0; i < h->nfields; i++)
			if (!h->fields[i].hop) {
				need += h->fields[i].name_len + h->fields[i].value_len;
				n++;
			}
		need += n * sizeof(struct h1_field);
	}
	if (need > room)
		mem = x->large = mem_alloc(need);
	x->head = *h;
	x->fields = (struct h1_field *)(void *)mem;
	x->text = fields ? mem + n * sizeof(struct h1_field) : mem;
	x->text_used = 0;
	x->head.method = keep(x, h->method, h->method_len);
	x->head.authority = keep(x, h->authority, h->authority_len);
	x->head.path = h->path ? keep(x, h->path, h->path_len) : NULL;
	x->head.fields = x->fields;
	x->head.nfields = 0;
	if (!fields)
		return;
	for (unsigned i = 0; i < h->nfields; i++) {
		struct h1_field *f;

		if (h->fields[i].hop)
			continue;
		f = &x->fields[x->head.nfields++];
		*f = h->fields[i];
		f->name = keep(x, f->name, f->name_len);
		f->value = keep(x, f->value, f->value_len);
	}
}

/* ---- the end ---- */

/* Every exchange ends here; its legs are gone already. */
static void finish(struct exchange *x, const char *reason)
{
	struct gate *g = x->g;

	assert(!x->in && !x->out);
	deadline_cancel(&x->limit);
	if (x->parked) {
		TAILQ_REMOVE(&g->parked[x->peer], x, park);
		g->nparked--;
	}
	if (x->opened) {
		books_end(x, reason);
		LIST_REMOVE(x, entry);
		g->active--;
		x->caller->active--;
		g->services[x->service].active--;
	}
	caller_unref(g->callers, x->caller);
	outq_reset(&x->early);
	mem_free(x->trailers);
	mem_free(x->large);
	outq_block_free(x);
}

static void drop_out(struct exchange *x, enum leg_why why)
{
	struct leg *out = x->out;

	x->out = NULL;
	if (out)
		out->ops->abort(out, why);
}

static void drop_in(struct exchange *x, enum leg_why why)
{
	struct leg *in = x->in;

	x->in = NULL;
	if (in)
		in->ops->abort(in, why);
}

/* Cut both legs: "why" goes out on the wire, "reason" into the books. */
static void cut(struct exchange *x, enum leg_why why, const char *reason)
{
	drop_out(x, why);
	drop_in(x, why);
	finish(x, reason);
}

static struct h1_field field(const char *name, size_t name_len, const char *value, size_t len)
{
	return (struct h1_field){ .name = name, .name_len = (uint32_t)name_len, .value = value, .value_len = (uint32_t)len };
}

/*
 * Our own answer: generic words and the exchange's id; the reason is in the journal. Takes the ingress leg from x and
 * releases it.
 */
static void answer(struct exchange *x, unsigned status, const char *token)
{
	struct leg *in = x->in;
	struct leg_head h = { .status = status };
	char body[200], length[8];
	struct h1_field f[6];
	int n, len;
	unsigned k = 0;

	n = snprintf(body, sizeof(body), "%u %s\nexchange ", status, h1_reason(status));
	uuid_format(&x->id, body + n);
	n += UUID_TEXT_LEN;
	body[n++] = '\n';
	len = snprintf(length, sizeof(length), "%d", n);
	f[k++] = field("content-type", 12, "text/plain", 10);
	f[k] = field("content-length", 14, length, (size_t)len);
	f[k++].id = H1_F_CONTENT_LENGTH;
	if (status == 503 || status == 429)
		f[k++] = field("retry-after", 11, "1", 1);
	if (x->from_link || x->from.sidecar)
		f[k++] = field("sallyport-error", 15, token, strlen(token));
	if (x->from.sidecar)
		f[k++] = field("sallyport-exchange", 18, body + n - 1 - UUID_TEXT_LEN, UUID_TEXT_LEN);
	h.fields = f;
	h.nfields = k;
	h.length = (uint64_t)n;
	h.end = x->is_head; /* RFC 9110 9.3.2: the fields of an answer, and no content that would be read as the next one */
	x->in = NULL;
	in->ev = NULL;
	in->ops->head(in, &h);
	if (!h.end) {
		in->ops->data(in, (const uint8_t *)body, (size_t)n);
		in->ops->end(in, NULL, 0);
	}
	in->ops->release(in);
}

/* The egress failed before an answer came: say so, or cut where an answer has begun. */
static void fail(struct exchange *x, unsigned status, const char *token)
{
	drop_out(x, LEG_CANCEL);
	x->g->services[x->service].failed++;
	if (x->head_sent) {
		drop_in(x, LEG_INTERNAL);
	} else {
		x->status = status;
		if (x->tcp_raw)
			drop_in(x, LEG_RESET);
		else
			answer(x, status, token);
	}
	finish(x, token);
}

/* ---- caller → service ---- */

static void in_data(void *ctx, const uint8_t *p, size_t n)
{
	struct exchange *x = ctx;

	if (x->tcp && !x->head_sent) {
		/* Case 36: nothing is said into a tunnel that is not there yet. */
		cut(x, LEG_PROTOCOL, "client-protocol");
		return;
	}
	x->bytes_in += n;
	if (!x->out) {
		/* Parked and paused: what its window still lets an HTTP/2 stream send. */
		outq_append(&x->early, p, n);
		return;
	}
	x->out->ops->data(x->out, p, n);
	x->body_sent = true;
	if (x->limit.q) /* the time for the answer runs from the last of the request, however long that takes */
		deadline_set(x->limit.q, &x->limit);
	if (x->out->ops->full(x->out)) {
		x->in_paused = true;
		x->in->ops->pause(x->in);
	}
}

/* Case 38: what nobody may say about himself is not said in trailers either. */
static unsigned strip_trailers(struct exchange *x, struct h1_field *to, const struct h1_field *t, unsigned n)
{
	unsigned k = 0;
	bool stripped = false;

	for (unsigned i = 0; i < n; i++) {
		if (t[i].id == H1_F_IDENTITY) {
			x->g->stripped++;
			stripped = true;
			continue;
		}
		if (!t[i].hop && t[i].id != H1_F_HOST && t[i].id != H1_F_CONTENT_LENGTH && t[i].id != H1_F_TRANSFER_ENCODING)
			to[k++] = t[i];
	}
	if (stripped)
		books_alert(x, "identity-in-trailers");
	return k;
}

static void complete(struct exchange *x)
{
	struct leg *in = x->in, *out = x->out;
	/* How much of an unfinished request went through differs from book to book, by right. */
	const char *reason = x->in_ended ? "complete" : "answered-early";

	x->in = x->out = NULL;
	in->ev = NULL;
	out->ev = NULL;
	out->ops->release(out);
	in->ops->release(in);
	finish(x, reason);
}

/* The request's trailers came while there was no way for them yet. */
static void keep_trailers(struct exchange *x, const struct h1_field *t, unsigned n)
{
	size_t bytes = 0;
	char *p;

	for (unsigned i = 0; i < n; i++)
		bytes += t[i].name_len + t[i].value_len;
	if (n == 0)
		return;
	x->trailers = mem_alloc(n * sizeof(*t) + bytes);
	x->ntrailers = n;
	memcpy(x->trailers, t, n * sizeof(*t));
	p = (char *)(x->trailers + n);
	for (unsigned i = 0; i < n; i++) {
		struct h1_field *f = &x->trailers[i];

		memcpy(p, t[i].name, f->name_len);
		f->name = p;
		p += f->name_len;
		memcpy(p, t[i].value, f->value_len);
		f->value = p;
		p += f->value_len;
	}
}

static void in_end(void *ctx, const struct h1_field *trailers, unsigned n)
{
	struct exchange *x = ctx;
	struct h1_field t[H1_MAX_FIELDS];

	x->in_ended = true;
	n = strip_trailers(x, t, trailers, n);
	if (!x->out) {
		keep_trailers(x, t, n); /* parked: after_start() goes on */
		return;
	}
	x->out->ops->end(x->out, t, n);
	if (n)
		x->body_sent = true;
	if (x->out_ended)
		complete(x);
}

static void in_drained(void *ctx)
{
	struct exchange *x = ctx;

	if (x->out_paused && x->out) {
		x->out_paused = false;
		x->out->ops->resume(x->out);
	}
}

static void in_abort(void *ctx, enum leg_why why, bool unsent, const char *detail)
{
	struct exchange *x = ctx;

	(void)unsent;
	x->in = NULL;
	/* Counted where the caller is: on a link, cancelled streams are ordinary, and a lost link cancels them all. */
	if (!x->from_link)
		caller_cancelled(x->caller, loop_now(x->g->loop));
	drop_out(x, why == LEG_RESET ? LEG_RESET : LEG_CANCEL);
	finish(x, books_client_reason(detail));
}

static void in_head(void *ctx, const struct leg_head *h)
{
	(void)ctx, (void)h;
	assert(!"an ingress leg has one head");
}

static const struct leg_events in_events = {
	.on_head = in_head, .on_data = in_data, .on_end = in_end, .on_drained = in_drained, .on_abort = in_abort,
};

/* The same exchange once more, as an attempt of its own in the books. */
static void try_again(struct exchange *x, unsigned status, const char *reason)
{
	if (books_again(x, status, reason))
		route(x);
	else
		fail(x, 503, "not-audited");
}

/* ---- service → caller ---- */

static void out_end(void *ctx, const struct h1_field *trailers, unsigned n);

static void out_head(void *ctx, const struct leg_head *h)
{
	struct exchange *x = ctx;
	struct h1_field fields[H1_MAX_FIELDS + 1];
	struct leg_head to = *h;
	char id[UUID_TEXT_LEN];
	const char *token;
	uint32_t len;

	to.fields = fields;
	to.nfields = 0;
	for (unsigned i = 0; i < h->nfields; i++)
		if (!h->fields[i].hop && h->fields[i].id != H1_F_IDENTITY)
			fields[to.nfields++] = h->fields[i];
	if (h->status < 200) {
		if (++x->interim > MAX_INTERIM) {
			fail(x, 502, "interim-flood");
			return;
		}
		if (h->status == 100 || h->status == 103)
			x->in->ops->head(x->in, &to);
		return;
	}
	deadline_cancel(&x->limit);
	if (x->peer >= 0) {
		token = link_error(h, &len);
		if (x->g->config->peers[x->peer].uplink)
			x->far_id_known = link_exchange_id(h, &x->far_id);
		if (token && h->status == LINK_STATUS_SLOT && len == 12 && memcmp(token, "unknown-slot", 12) == 0) {
			link_forget_slot(x->out, x->caller);
			drop_out(x, LEG_CANCEL);
			if (x->body_sent || x->attempt >= MAX_ATTEMPTS)
				fail(x, 503, "unknown-slot");
			else
				try_again(x, LINK_STATUS_SLOT, "unknown-slot");
			return;
		}
		if (!token) {
			link_confirm(x->out, x->caller);
		} else {
			x->far_error_len = len < sizeof(x->far_error) ? len : sizeof(x->far_error);
			memcpy(x->far_error, token, x->far_error_len);
		}
	}
	if (x->from.sidecar) {
		/* Its book has an id of its own: ours lets an auditor join the two. */
		uuid_format(&x->id, id);
		fields[to.nfields++] = field("sallyport-exchange", 18, id, UUID_TEXT_LEN);
	}
	x->status = h->status;
	x->head_sent = true;
	if (x->peer < 0)
		x->endpoint = upstream_endpoint(x->out);
	if (x->tcp && h->status / 100 != 2) {
		/* The far end refused a CONNECT: there will be no tunnel. */
		drop_out(x, LEG_CANCEL);
		if (x->tcp_raw)
			drop_in(x, LEG_RESET);
		else
			answer(x, h->status, "refused");
		finish(x, x->far_error_len ? "refused-by-peer" : "refused");
		return;
	}
	if (h->end && x->tcp) {
		/* The far end has nothing to say into the tunnel; we may. */
		to.end = false;
		x->in->ops->head(x->in, &to);
		out_end(x, NULL, 0);
		return;
	}
	x->in->ops->head(x->in, &to);
	if (h->end) {
		x->out_ended = true;
		/* An answer that is whole ends the exchange; a request that is not stays unfinished. */
		complete(x);
	}
}

static void out_data(void *ctx, const uint8_t *p, size_t n)
{
	struct exchange *x = ctx;

	x->bytes_out += n;
	x->in->ops->data(x->in, p, n);
	if (x->in->ops->full(x->in)) {
		x->out_paused = true;
		x->out->ops->pause(x->out);
	}
}

static void out_end(void *ctx, const struct h1_field *trailers, unsigned n)
{
	struct exchange *x = ctx;
	struct h1_field t[H1_MAX_FIELDS];

	x->out_ended = true;
	n = strip_trailers(x, t, trailers, n);
	x->in->ops->end(x->in, t, n);
	if (x->in_ended || !x->tcp)
		complete(x);
}

static void out_drained(void *ctx)
{
	struct exchange *x = ctx;

	if (x->in_paused && x->in) {
		x->in_paused = false;
		x->in->ops->resume(x->in);
	}
}

static void out_abort(void *ctx, enum leg_why why, bool unsent, const char *detail)
{
	struct exchange *x = ctx;

	x->out = NULL;
	/* What cannot have reached the service may go by another link, never by the one that failed. */
	if (unsent && x->peer >= 0 && !x->body_sent && !x->head_sent && x->attempt < MAX_ATTEMPTS) {
		try_again(x, 503, detail);
		return;
	}
	if (x->head_sent) {
		x->g->services[x->service].failed++;
		drop_in(x, why);
		finish(x, books_service_reason(detail));
		return;
	}
	switch (why) {
	case LEG_TIMEOUT:
		fail(x, 504, detail);
		break;
	case LEG_REFUSED:
		fail(x, strcmp(detail, "connect-timeout") == 0 ? 504 : 503, detail);
		break;
	default:
		/* A link that went away in mid-exchange is the peer's absence, not the service's fault. */
		fail(x, strcmp(detail, "link-lost") == 0 ? 503 : 502, detail);
	}
}

static const struct leg_events out_events = {
	.on_head = out_head, .on_data = out_data, .on_end = out_end, .on_drained = out_drained, .on_abort = out_abort,
};

static void on_response_limit(struct deadline *d)
{
	struct exchange *x = (struct exchange *)((char *)d - offsetof(struct exchange, limit));

	fail(x, 504, "response-timeout");
}

/* ---- egress ---- */

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
		fail(x, 503, "no-link");
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

static void on_park_limit(struct deadline *d)
{
	fail((struct exchange *)((char *)d - offsetof(struct exchange, limit)), 503, "no-link");
}

/* By a link, now or when there is one. */
static void route(struct exchange *x)
{
	struct gate *g = x->g;
	struct link_call call = { .caller = x->caller, .id = x->id, .attempt = x->attempt };
	const struct link *avoid = x->link;

	x->out = link_exchange(g->links, x->peer, avoid, &x->head, &call, x->mem, &out_events, x);
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
		route(x);
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
	*f = field("via", 3, mem, n + strlen(g->via));
	return 1;
}

/* To a local service: what it may know of the caller, said by us alone. */
static void start_local(struct exchange *x, const struct leg_head *h)
{
	struct gate *g = x->g;
	struct h1_field fields[H1_MAX_FIELDS + 8];
	char id[UUID_TEXT_LEN], trace[TRACEPARENT_LEN], via[VIA_MAX];
	struct leg_head to = *h;
	const char *why = "no-endpoint";
	unsigned n = 0;

	if (x->tcp) {
		x->out = upstream_tcp(g->upstreams, x->service, &out_events, x, &why);
		if (x->out && x->in_ended)
			x->out->ops->end(x->out, NULL, 0);
	} else {
		for (unsigned i = 0; i < h->nfields; i++)
			if (!h->fields[i].hop)
				fields[n++] = h->fields[i];
		if (x->caller->id_len)
			fields[n++] = field("sallyport-principal", 19, x->caller->id, x->caller->id_len);
		uuid_format(&x->id, id);
		fields[n++] = field("sallyport-exchange", 18, id, UUID_TEXT_LEN);
		fields[n++] = field("forwarded", 9, h->https ? "for=unknown;proto=https" : "for=unknown;proto=http", h->https ? 23 : 22);
		n += put_via(x, fields + n, via);
		if (!has_field(h, H1_F_TRACEPARENT)) {
			make_traceparent(trace, &x->id, x->start_us);
			fields[n++] = field("traceparent", 11, trace, TRACEPARENT_LEN);
		}
		if (g->config->policy_context)
			fields[n++] = field("sallyport-policy-context", 24, g->config->policy_context, strlen(g->config->policy_context));
		to.fields = fields;
		to.nfields = n;
		x->out = upstream_http(g->upstreams, x->service, &to, &out_events, x, &why);
	}
	if (!x->out)
		fail(x, 503, why); /* as for one that fails to connect a little later */
}

/* ---- the start ---- */

static bool is_control(const struct leg_head *h)
{
	size_t n = sizeof(LINK_CONTROL_AUTHORITY) - 1;

	return h->authority_len >= n && memcmp(h->authority, LINK_CONTROL_AUTHORITY, n) == 0 &&
	    (h->authority_len == n || h->authority[n] == ':' || h->authority[n] == '.');
}

/* Our own mark in Via: this exchange has been here before (case 65). */
static bool been_here(const struct gate *g, const struct leg_head *h)
{
	size_t n = strlen(g->via) - 4;
	const char *us = g->via + 4;

	for (unsigned i = 0; i < h->nfields; i++) {
		const struct h1_field *f = &h->fields[i];

		if (f->id != H1_F_VIA)
			continue;
		for (const char *p = f->value, *end = p + f->value_len; (p = memmem(p, (size_t)(end - p), us, n)); p++)
			if ((p == f->value || p[-1] == ' ') && (p + n == end || p[n] == ',' || p[n] == ' '))
				return true;
	}
	return false;
}

struct refusal {
	unsigned status;
	const char *reason;
	uint32_t rule;
};

/* Everything that may speak against it, cheapest first. True: go on. */
static bool judge(struct gate *g, struct exchange *x, const struct leg_head *h, const struct exchange_from *from, struct refusal *r)
{
	const struct config_service *sv;
	struct policy_query q;
	struct policy_verdict v;

	r->rule = POLICY_NO_ID;
	if (from->call && from->call->refusal) {
		*r = (struct refusal){ from->call->refusal_status, from->call->refusal, POLICY_NO_ID };
		return false;
	}
	if (from->refuse_why) {
		*r = (struct refusal){ from->refuse_status, from->refuse_why, POLICY_NO_ID };
		return false;
	}
	/* It becomes part of a request line; nothing is said of it by what came with HTTP/2. */
	if (h->method_id == H1_M_OTHER && !h1_name_valid(h->method, h->method_len)) {
		*r = (struct refusal){ 400, "malformed-method", POLICY_NO_ID };
		return false;
	}
	if (is_control(h)) {
		*r = (struct refusal){ 403, "control-authority", POLICY_NO_ID };
		return false;
	}
	x->service = from->tcp_service ? from->service
	    : config_service_by_host(g->config, h->authority, h->authority_len, from->default_port);
	if (x->service < 0) {
		*r = (struct refusal){ 403, "unknown-service", POLICY_NO_ID };
		return false;
	}
	sv = &g->config->services[x->service];
	x->peer = sv->peer_index;
	if (been_here(g, h) || (x->from_peer >= 0 && x->peer == x->from_peer)) {
		*r = (struct refusal){ 508, "loop", POLICY_NO_ID };
		return false;
	}
	if (x->from_peer >= 0 && x->peer >= 0) {
		*r = (struct refusal){ 403, "transit", POLICY_NO_ID };
		return false;
	}
	if (x->tcp != (sv->kind == CONFIG_KIND_TCP)) {
		*r = (struct refusal){ 403, x->tcp ? "connect-to-http-service" : "http-to-tcp-service", POLICY_NO_ID };
		return false;
	}
	if (x->caller->not_after < (int64_t)(loop_wall_us(g->loop) / 1000000)) {
		*r = (struct refusal){ 403, "expired", POLICY_NO_ID };
		return false;
	}
	if (caller_over(x->caller, loop_now(g->loop), MAX_CANCELS)) {
		*r = (struct refusal){ 429, "cancel-flood", POLICY_NO_ID };
		return false;
	}
	q = (struct policy_query){
		.principal = caller_class(x->caller, &g->policy),
		.service = g->services[x->service].policy_id,
		.method = x->tcp ? NULL : h->method, .method_len = h->method_len,
		.path = x->tcp ? NULL : h->path, .path_len = h->path_only_len,
		.assurance = x->caller->assurance,
	};
	policy_decide(&g->policy, &q, &v);
	x->rule = r->rule = v.rule;
	if (!v.allow) {
		*r = (struct refusal){ 403, policy_why_text(v.why), v.rule };
		return false;
	}
	return true;
}

void exchange_start(struct gate *g, struct leg *in, struct caller *caller, const struct leg_head *head, const struct exchange_from *from)
{
	struct exchange *x = outq_block();
	struct refusal r;
	struct leg_head h = *head;
	struct h1_field fields[H1_MAX_FIELDS];

	_Static_assert(sizeof(struct exchange) <= OUTQ_SMALL / 2, "an exchange leaves no room for its head");
	memset(x, 0, sizeof(*x));
	x->g = g;
	x->in = in;
	x->caller = caller ? caller_ref(caller) : caller_get(g->callers, "", 0, POLICY_NONE, -1);
	x->from = *from;
	x->from_link = from->link != NULL;
	x->from_peer = from->link ? link_peer(from->link) : -1;
	x->service = x->peer = -1;
	x->start_us = loop_now_us(g->loop);
	x->tcp = head->method_id == H1_M_CONNECT;
	x->is_head = head->method_id == H1_M_HEAD;
	x->tcp_raw = from->tcp_service;
	x->attempt = 1;
	if (from->call) {
		x->id = from->call->id;
		x->attempt = from->call->attempt;
	} else {
		uuid_make(&x->id, loop_wall_us(g->loop));
	}
	/* What an application says about itself is dropped before anything looks at it (case 66). */
	h.fields = fields;
	h.nfields = 0;
	for (unsigned i = 0; i < head->nfields; i++) {
		if (head->fields[i].id == H1_F_IDENTITY) {
			g->stripped += from->link == NULL;
			continue;
		}
		/* The authority says it; an absolute target's Host may be spelled in another way (RFC 9112 3.2.2). */
		if (!head->fields[i].hop && head->fields[i].id != H1_F_HOST)
			fields[h.nfields++] = head->fields[i];
	}
	if (x->tcp)
		h.end = false; /* "ended" is the caller's direction alone */
	if (!judge(g, x, &h, from, &r)) {
		g->denied++;
		if (x->service >= 0)
			g->services[x->service].denied++;
		books_deny(x, &h, r.status, r.reason, r.rule);
		in->ev = NULL;
		if (x->tcp_raw)
			drop_in(x, LEG_REFUSED);
		else
			answer(x, r.status, r.status == LINK_STATUS_SLOT ? r.reason : "denied");
		finish(x, NULL);
		return;
	}
	/* Nothing passes unaudited: the decision is in the ring before the first byte goes on. */
	if (!books_open(x, &h)) {
		const char *why = ring_refusal(g->ring, loop_now(g->loop));

		g->denied++;
		g->services[x->service].denied++;
		books_unaudited(g, why ? why : "ring-full");
		in->ev = NULL;
		if (x->tcp_raw)
			drop_in(x, LEG_REFUSED);
		else
			answer(x, 503, "not-audited");
		finish(x, NULL);
		return;
	}
	x->opened = true;
	LIST_INSERT_HEAD(&g->exchanges, x, entry);
	g->allowed++;
	g->active++;
	x->caller->active++;
	g->services[x->service].allowed++;
	g->services[x->service].active++;
	in->ev = &in_events;
	in->x = x;
	x->in_ended = head->end;
	if (x->peer < 0) {
		copy_head(x, &h, false);
		start_local(x, &h);
		return;
	}
	/* Our Via and a new traceparent are written by the far gateway: it knows both, and the link need not carry them. */
	if (x->tcp)
		h.nfields = 0;
	copy_head(x, &h, true);
	route(x);
}

void gate_cut(struct gate *g, const char *reason)
{
	struct exchange *x;

	while ((x = LIST_FIRST(&g->exchanges)))
		cut(x, LEG_CANCEL, reason);
}

/* ---- judged again ---- */

void gate_set_policy(struct gate *g, const struct policy *p)
{
	struct exchange *x, *next;

	g->policy = *p;
	look_up_services(g);
	LIST_FOREACH_SAFE(x, &g->exchanges, entry, next) {
		struct policy_query q = {
			.principal = caller_class(x->caller, &g->policy),
			.service = g->services[x->service].policy_id,
			.method = x->tcp ? NULL : x->head.method, .method_len = x->head.method_len,
			.path = x->tcp ? NULL : x->head.path, .path_len = x->head.path_only_len,
			.assurance = x->caller->assurance,
		};
		struct policy_verdict v;

		policy_decide(&g->policy, &q, &v);
		if (v.allow) {
			x->rule = v.rule;
			continue;
		}
		if (!x->head_sent && !x->tcp_raw) {
			drop_out(x, LEG_REVOKED);
			x->status = 403;
			answer(x, 403, "denied");
			finish(x, "policy-revoked");
		} else {
			cut(x, LEG_REVOKED, "policy-revoked");
		}
	}
}
