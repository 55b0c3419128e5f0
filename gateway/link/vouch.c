/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A caller renewed its certificate while exchanges of the old one run: the far gateway, which knows only the chain that travelled with them, is told
 * the new one before the old one ends, by "POST /caller" on the control authority with the fields that an exchange has (RFC 9440).
 */
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"

#define PATH "/caller"

/* ---- the receiver ---- */

static unsigned take(struct link *l, const struct leg_head *head)
{
	static uint8_t der[SVID_MAX_BYTES];
	static struct svid_info info;
	const struct h1_field *cert = NULL, *chain = NULL;
	struct link_set *s = l->peer->set;
	struct svid_der certs[SVID_MAX_CHAIN];
	const char *detail;
	enum svid_reason r;
	struct caller *c;
	int n;

	for (unsigned i = 0; i < head->nfields; i++) {
		if (link_field_is(&head->fields[i], "client-cert"))
			cert = &head->fields[i];
		else if (link_field_is(&head->fields[i], "client-cert-chain"))
			chain = &head->fields[i];
	}
	n = cert ? caller_parse_cert(cert->value, cert->value_len, chain ? chain->value : "", chain ? chain->value_len : 0, der, sizeof(der), certs,
		       SVID_MAX_CHAIN)
		 : -1;
	if (n < 0)
		return 400;
	c = caller_find_chain(s->env.callers, certs, (size_t)n, l->peer->index);
	if (c) {
		const char *why = link_caller_refusal(s, c);

		caller_unref(s->env.callers, c);
		return why ? 403 : 204;
	}
	r = link_verify(s, l->peer->index, certs, (size_t)n, false, &info, &detail);
	if (r != SVID_OK) {
		log_debug("link=%u event=caller-refused reason=%s", l->number, svid_reason_text(r));
		return 403;
	}
	c = caller_get_mtls(s->env.callers, &info, certs, (size_t)n, l->peer->index);
	if (c->refs == 1)
		link_remember(s, c);
	caller_unref(s->env.callers, c);
	return 204;
}

void vouch_answer(struct link *l, struct h2_stream *s, const struct leg_head *head)
{
	struct leg_head h = { .status = 404, .end = true };

	if (head->path_len == sizeof(PATH) - 1 && memcmp(head->path, PATH, sizeof(PATH) - 1) == 0)
		h.status = l->peer->cfg->uplink ? 404 : take(l, head);
	s->leg.ops->head(&s->leg, &h);
	s->leg.ops->release(&s->leg);
}

/* ---- the sender ---- */

static void over(struct h2_stream *st, bool taken)
{
	struct link *l = h2_owner(st->h2);

	st->leg.ev = NULL;
	if (!taken && st->user < l->nslots)
		l->slots[st->user].told = false;
}

static void on_head(void *x, const struct leg_head *h)
{
	struct h2_stream *st = x;

	if (h->status < 200)
		return;
	over(st, h->status == 204);
	if (!h->end)
		st->leg.ops->abort(&st->leg, LEG_CANCEL);
}

static void on_data(void *x, const uint8_t *p, size_t n)
{
	(void)x, (void)p, (void)n;
}

static void on_end(void *x, const struct h1_field *t, unsigned n)
{
	(void)x, (void)t, (void)n;
}

static void on_drained(void *x)
{
	(void)x;
}

static void on_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	(void)why, (void)unsent, (void)detail;
	over(x, false);
}

static const struct leg_events events = {
	.on_head = on_head, .on_data = on_data, .on_end = on_end, .on_drained = on_drained, .on_abort = on_abort,
};

static bool may_ask(const struct link *l)
{
	return l->client && l->state == L_READY && !l->no_crl && h2_open_ok(l->h2);
}

/* The link itself; if it takes no more, one to the same worker, or at least the same gateway, whose workers ask each other. */
static struct link *way(struct link *l)
{
	struct link *o, *best = NULL;

	if (may_ask(l))
		return l;
	TAILQ_FOREACH(o, &l->peer->links, entry) {
		if (!may_ask(o) || strcmp(o->gateway, l->gateway) != 0)
			continue;
		if (o->far_worker == l->far_worker)
			return o;
		best = o;
	}
	return best;
}

bool link_vouch(struct leg *leg, struct caller *c)
{
	struct link *l = way(link_of_leg(leg));
	struct h1_field f[2];
	struct h2_request r = {
		.method = "POST", .method_len = 4, .scheme = "https", .scheme_len = 5,
		.authority = LINK_CONTROL_AUTHORITY, .authority_len = sizeof(LINK_CONTROL_AUTHORITY) - 1,
		.path = PATH, .path_len = sizeof(PATH) - 1, .fields = f, .nfields = 1, .end = true,
	};
	struct h2_stream *st;
	struct slot *slot;

	if (!l)
		return false;
	slot = identity_slot(l, c);
	if (slot->confirmed || slot->told)
		return true;
	f[0] = link_field("client-cert", c->client_cert, c->client_cert_len);
	if (c->client_cert_chain_len)
		f[r.nfields++] = link_field("client-cert-chain", c->client_cert_chain, c->client_cert_chain_len);
	st = h2_request(l->h2, &r);
	if (!st)
		return false;
	slot->told = true;
	st->user = c->number;
	st->leg.ev = &events;
	st->leg.x = st;
	return true;
}
