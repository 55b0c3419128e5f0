/* SPDX-License-Identifier: Apache-2.0 */
/* From leg to leg: content both ways with backpressure, answers, tries, and the one way an exchange ends. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/exchange/books.h"

/* Interim answers (1xx) of a service to one request (case 40). */
#define MAX_INTERIM 16

static void out_end(void *ctx, const struct h1_field *trailers, unsigned n);

/* ---- the end ---- */

void relay_finish(struct exchange *x, const char *reason)
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

void relay_drop_out(struct exchange *x, enum leg_why why)
{
	struct leg *out = x->out;

	x->out = NULL;
	if (out)
		out->ops->abort(out, why);
}

void relay_drop_in(struct exchange *x, enum leg_why why)
{
	struct leg *in = x->in;

	x->in = NULL;
	if (in)
		in->ops->abort(in, why);
}

void relay_cut(struct exchange *x, enum leg_why why, const char *reason)
{
	relay_drop_out(x, why);
	relay_drop_in(x, why);
	relay_finish(x, reason);
}

/*
 * Our own answer: generic words and the exchange's id; the reason is in the journal. Takes the ingress leg from x and
 * releases it.
 */
void relay_answer(struct exchange *x, unsigned status, const char *token)
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
	f[k++] = exchange_field("content-type", 12, "text/plain", 10);
	f[k] = exchange_field("content-length", 14, length, (size_t)len);
	f[k++].id = H1_F_CONTENT_LENGTH;
	if (status == 503 || status == 429)
		f[k++] = exchange_field("retry-after", 11, "1", 1);
	if (x->from_link || x->from.sidecar)
		f[k++] = exchange_field("sallyport-error", 15, token, strlen(token));
	if (x->from.sidecar)
		f[k++] = exchange_field("sallyport-exchange", 18, body + n - 1 - UUID_TEXT_LEN, UUID_TEXT_LEN);
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

void relay_fail(struct exchange *x, unsigned status, const char *token)
{
	relay_drop_out(x, LEG_CANCEL);
	x->g->services[x->service].failed++;
	if (x->head_sent) {
		relay_drop_in(x, LEG_INTERNAL);
	} else {
		x->status = status;
		if (x->tcp_raw)
			relay_drop_in(x, LEG_RESET);
		else
			relay_answer(x, status, token);
	}
	relay_finish(x, token);
}

/* ---- caller → service ---- */

static void in_data(void *ctx, const uint8_t *p, size_t n)
{
	struct exchange *x = ctx;

	if (x->tcp && !x->head_sent) {
		/* Case 36: nothing is said into a tunnel that is not there yet. */
		relay_cut(x, LEG_PROTOCOL, "client-protocol");
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
	relay_finish(x, reason);
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
	x->out->ops->end(x->out, n ? t : NULL, n);
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
	relay_drop_out(x, why == LEG_RESET ? LEG_RESET : LEG_CANCEL);
	relay_finish(x, verify_reason(x, books_client_reason(detail)));
}

static void in_head(void *ctx, const struct leg_head *h)
{
	(void)ctx, (void)h;
	assert(!"an ingress leg has one head");
}

const struct leg_events relay_in_events = {
	.on_head = in_head, .on_data = in_data, .on_end = in_end, .on_drained = in_drained, .on_abort = in_abort,
};

/* The same exchange once more, as an attempt of its own in the books. */
static void try_again(struct exchange *x, unsigned status, const char *reason)
{
	if (books_again(x, status, reason))
		route_link(x);
	else
		relay_fail(x, 503, "not-audited");
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
			relay_fail(x, 502, "interim-flood");
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
			relay_drop_out(x, LEG_CANCEL);
			if (x->body_sent || x->attempt >= EXCHANGE_MAX_ATTEMPTS) {
				relay_fail(x, 503, "unknown-slot");
				return;
			}
			x->link = NULL; /* it did nothing wrong, and may be the only one */
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
		fields[to.nfields++] = exchange_field("sallyport-exchange", 18, id, UUID_TEXT_LEN);
	}
	x->status = h->status;
	x->head_sent = true;
	if (x->peer < 0)
		x->endpoint = upstream_endpoint(x->out);
	if (x->tcp && h->status / 100 != 2) {
		/* The far end refused a CONNECT: there will be no tunnel. */
		relay_drop_out(x, LEG_CANCEL);
		if (x->tcp_raw)
			relay_drop_in(x, LEG_RESET);
		else
			relay_answer(x, h->status, "refused");
		relay_finish(x, x->far_error_len ? "refused-by-peer" : "refused");
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

/* What cannot have reached the service may go by another link, never by the one that failed, if all of it is still here. */
static bool may_try_again(struct exchange *x, struct leg *out)
{
	if (x->peer < 0 || x->head_sent || x->attempt >= EXCHANGE_MAX_ATTEMPTS)
		return false;
	if (x->body_sent && (x->ntrailers || !link_take_back(out, &x->early)))
		return false;
	x->body_sent = false;
	return true;
}

static void out_abort(void *ctx, enum leg_why why, bool unsent, const char *detail)
{
	struct exchange *x = ctx;
	struct leg *out = x->out;

	x->out = NULL;
	if (unsent && may_try_again(x, out)) {
		try_again(x, 503, detail);
		return;
	}
	if (x->head_sent) {
		x->g->services[x->service].failed++;
		relay_drop_in(x, why);
		relay_finish(x, verify_reason(x, books_service_reason(detail)));
		return;
	}
	switch (why) {
	case LEG_TIMEOUT:
		relay_fail(x, 504, detail);
		break;
	case LEG_REFUSED:
		relay_fail(x, strcmp(detail, "connect-timeout") == 0 ? 504 : 503, detail);
		break;
	default:
		/* A link that went away in mid-exchange is the peer's absence, not the service's fault. */
		relay_fail(x, strcmp(detail, "link-lost") == 0 ? 503 : 502, detail);
	}
}

const struct leg_events relay_out_events = {
	.on_head = out_head, .on_data = out_data, .on_end = out_end, .on_drained = out_drained, .on_abort = out_abort,
};
