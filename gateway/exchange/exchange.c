/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/exchange/exchange.h"

#include <assert.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/exchange/books.h"

/* Cancelled exchanges of one principal per second before it is told to slow down (case 92). */
#define MAX_CANCELS 1000

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
		g->services[i].q_response = deadline_queue(g->loop, g->config->services[i].response_ms, route_on_response_limit);
	g->parked = mem_array(g->config->npeers, sizeof(*g->parked));
	for (size_t i = 0; i < g->config->npeers; i++)
		TAILQ_INIT(&g->parked[i]);
	g->via = link_via_of(g->config->identity.id);
	g->q_park = deadline_queue(g->loop, g->config->limits.park_ms, route_on_park_limit);
	look_up_services(g);
}

void gate_fini(struct gate *g)
{
	mem_free(g->services);
	mem_free(g->parked);
	mem_free(g->via);
	timer_cancel(&g->trust.timer);
	mem_free(g->trust.marked);
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
	if (x->peer >= 0 && (g->config->peers[x->peer].severed || g->config->peers[x->peer].removed)) {
		*r = (struct refusal){ 503, link_peer_refusal(g->links, x->peer), POLICY_NO_ID };
		return false;
	}
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
	if (x->caller->good_until < (int64_t)(loop_wall_us(g->loop) / 1000000)) {
		const char *why = link_caller_refusal(g->links, x->caller);

		if (why) {
			*r = (struct refusal){ 403, why, POLICY_NO_ID };
			return false;
		}
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
			relay_drop_in(x, LEG_REFUSED);
		else
			relay_answer(x, r.status, r.status == LINK_STATUS_SLOT ? r.reason : "denied");
		relay_finish(x, NULL);
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
			relay_drop_in(x, LEG_REFUSED);
		else
			relay_answer(x, 503, "not-audited");
		relay_finish(x, NULL);
		return;
	}
	x->opened = true;
	LIST_INSERT_HEAD(&g->exchanges, x, entry);
	g->allowed++;
	g->active++;
	x->caller->active++;
	g->services[x->service].allowed++;
	g->services[x->service].active++;
	in->ev = &relay_in_events;
	in->x = x;
	x->in_ended = head->end;
	if (x->peer < 0) {
		copy_head(x, &h, false);
		route_local(x, &h);
		return;
	}
	/* Our Via and a new traceparent are written by the far gateway: it knows both, and the link need not carry them. */
	if (x->tcp)
		h.nfields = 0;
	copy_head(x, &h, true);
	route_link(x);
}

void gate_cut(struct gate *g, const char *reason)
{
	struct exchange *x;

	while ((x = LIST_FIRST(&g->exchanges)))
		relay_cut(x, LEG_CANCEL, reason);
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
			relay_drop_out(x, LEG_REVOKED);
			x->status = 403;
			relay_answer(x, 403, "denied");
			relay_finish(x, "policy-revoked");
		} else {
			relay_cut(x, LEG_REVOKED, "policy-revoked");
		}
	}
}
