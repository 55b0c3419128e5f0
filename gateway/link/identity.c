/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls. The sender puts a caller's chain (or, where its word is taken, its id) on an exchange until one of them was answered, and
 * a slot number that stands for it from then on; the receiver verifies a chain once and remembers it by its slot.
 */
#include <stdio.h>

#include "gateway/base/mem.h"
#include "gateway/link/internal.h"

/* ---- the sender's side ---- */

static void slot_drop(struct link *l, uint16_t number)
{
	struct caller *c = l->owner[number];

	if (!c)
		return;
	if (c->number < l->nslots)
		l->slots[c->number] = (struct slot){ 0 };
	l->owner[number] = NULL;
}

/* As many as both ends remember. */
static size_t slot_count(const struct link *l)
{
	size_t n = (size_t)l->peer->set->env.config->limits.slots;

	if (l->far_slots && l->far_slots < n)
		n = l->far_slots;
	return n < UINT16_MAX ? n : UINT16_MAX;
}

/*
 * The oldest is taken away when all are in use. Its new holder's chain travels before anything relies on it, and only an answer to an
 * exchange of the same lease says that it arrived: else the receiver could take one caller for another.
 */
struct slot *identity_slot(struct link *l, struct caller *c)
{

	if (c->number >= l->nslots) {
		size_t cap = l->nslots;

		mem_grow(&l->slots, &cap, c->number + 1, sizeof(*l->slots));
		memset(l->slots + l->nslots, 0, (cap - l->nslots) * sizeof(*l->slots));
		l->nslots = cap;
	}
	if (!l->slots[c->number].lease) {
		if (!l->owner) {
			l->nowner = slot_count(l) + 1;
			l->owner = mem_array(l->nowner, sizeof(*l->owner));
		}
		l->next_slot = (uint16_t)(l->next_slot % (l->nowner - 1) + 1);
		slot_drop(l, l->next_slot);
		l->owner[l->next_slot] = c;
		l->last_lease += l->last_lease == UINT32_MAX ? 2 : 1;
		l->slots[c->number] = (struct slot){ .lease = l->last_lease, .number = l->next_slot };
	}
	return &l->slots[c->number];
}

void identity_answered(struct link *l, const struct caller *c, uint32_t lease, bool known)
{
	if (lease && c->number < l->nslots && l->slots[c->number].lease == lease)
		l->slots[c->number].confirmed = known;
}

void identity_forget_caller(struct link *l, const struct caller *c)
{
	if (c->number < l->nslots && l->slots[c->number].lease)
		slot_drop(l, l->slots[c->number].number);
}

void identity_fini(struct link *l)
{
	for (size_t i = 0; i < l->nknown; i++)
		caller_unref(l->peer->set->env.callers, l->known[i]);
	mem_free(l->known);
	mem_free(l->owner);
	mem_free(l->slots);
	l->known = l->owner = NULL;
	l->slots = NULL;
	l->nslots = l->nowner = l->nknown = 0;
}

/* ---- the receiver's side ---- */

static struct caller *verify_chain(struct link *l, const struct h1_field *cert, const struct h1_field *chain, struct link_call *call)
{
	static uint8_t der[SVID_MAX_BYTES];
	struct link_env *env = &l->peer->set->env;
	struct svid_der certs[SVID_MAX_CHAIN];
	static struct svid_info info; /* large; refusal_id may point into it until the next call */
	enum svid_reason r;
	struct caller *c;
	const char *detail;
	int n;

	n = caller_parse_cert(cert->value, cert->value_len, chain ? chain->value : "", chain ? chain->value_len : 0,
	    der, sizeof(der), certs, SVID_MAX_CHAIN);
	if (n < 0) {
		call->refusal = "malformed-certificate";
		return NULL;
	}
	c = caller_find_chain(env->callers, certs, (size_t)n, l->peer->index);
	if (c)
		return c;
	r = link_verify(l->peer->set, l->peer->index, certs, (size_t)n, false, &info, &detail);
	call->refusal_id = info.id;
	if (r != SVID_OK) {
		call->refusal = svid_reason_text(r);
		if (r == SVID_NO_CRL) /* may be better soon: case 53 */
			call->refusal_status = 503;
		return NULL;
	}
	return caller_get_mtls(env->callers, &info, certs, (size_t)n, l->peer->index);
}

/* NULL: the slot is nobody's from now on. */
static void remember(struct link *l, unsigned slot, struct caller *c)
{
	struct link_env *env = &l->peer->set->env;

	if (!slot || slot > env->config->limits.slots || (!c && !l->known))
		return;
	if (!l->known) {
		l->nknown = (size_t)env->config->limits.slots + 1;
		l->known = mem_array(l->nknown, sizeof(*l->known));
	}
	caller_unref(env->callers, l->known[slot]);
	l->known[slot] = c ? caller_ref(c) : NULL;
}

/* Named by its slot alone. */
static struct caller *recall(struct link *l, unsigned slot, enum policy_assurance a, struct link_call *call)
{
	struct caller *c = slot && slot < l->nknown ? l->known[slot] : NULL;

	if (!c) {
		call->refusal = "unknown-slot";
		call->refusal_status = LINK_STATUS_SLOT;
		return NULL;
	}
	if (c->assurance != a) {
		call->refusal = "malformed-exchange";
		return NULL;
	}
	if (a != POLICY_MTLS && !(l->peer->cfg->assert_mask & (1u << a))) { /* it was accepted once, by another config */
		call->refusal = "assurance-not-accepted";
		return NULL;
	}
	return caller_ref(c);
}

/* The peer's word, as far as its config lets it give it. */
static struct caller *take_word(struct link *l, const struct h1_field *who, enum policy_assurance a, struct link_call *call)
{
	const char *domain = l->peer->cfg->domain, *why;
	struct spiffe_id id;

	if (!(l->peer->cfg->assert_mask & (1u << a))) {
		call->refusal = "assurance-not-accepted";
		return NULL;
	}
	if (a == POLICY_NONE)
		return caller_get(l->peer->set->env.callers, "", 0, a, l->peer->index);
	if (spiffe_parse(&id, who->value, who->value_len, &why) != 0) {
		call->refusal = "bad-id";
		return NULL;
	}
	/* An id of our own domain never arrives from a peer, nor one of a third domain (case 89). */
	if (id.domain_len != strlen(domain) || memcmp(id.domain, domain, id.domain_len) != 0) {
		call->refusal = "foreign-domain";
		return NULL;
	}
	return caller_get(l->peer->set->env.callers, who->value, who->value_len, a, l->peer->index);
}

/* Reads "uuid;attempt;assurance[;slot]". */
static bool parse_exchange(const struct h1_field *f, struct uuid *id, unsigned *attempt, char *assurance, unsigned *slot)
{
	const char *p = f->value, *end = p + f->value_len;
	unsigned n = 0;

	if (f->value_len < UUID_TEXT_LEN + 4 || uuid_parse(id, p, UUID_TEXT_LEN) != 0)
		return false;
	p += UUID_TEXT_LEN;
	if (*p++ != ';')
		return false;
	*attempt = 0;
	while (p < end && *p >= '0' && *p <= '9' && n++ < 3)
		*attempt = *attempt * 10 + (unsigned)(*p++ - '0');
	if (*attempt == 0 || end - p < 2 || *p++ != ';')
		return false;
	*assurance = *p++;
	*slot = 0;
	if (p == end)
		return true;
	if (*p++ != ';' || p == end)
		return false;
	for (n = 0; p < end && *p >= '0' && *p <= '9' && n < 6; n++)
		*slot = *slot * 10 + (unsigned)(*p++ - '0');
	return p == end;
}

struct claim {
	const struct h1_field *cert, *chain, *who;
	char letter;
	unsigned slot;
};

static struct caller *resolve(struct link *l, const struct claim *q, struct link_call *call)
{
	enum policy_assurance a = POLICY_NONE;
	bool ok = true;

	switch (q->letter) {
	case 'm': a = POLICY_MTLS; break;
	case 'u': a = POLICY_UID; break;
	case 'a': a = POLICY_ADDRESS; break;
	case 'n': break;
	default: ok = false;
	}
	if (!ok || (a == POLICY_MTLS ? q->who != NULL : q->cert || q->chain) || (q->chain && !q->cert) ||
	    (a == POLICY_NONE && (q->who || q->slot))) {
		call->refusal = "malformed-exchange";
		return NULL;
	}
	if (a == POLICY_NONE || q->who)
		return take_word(l, q->who, a, call);
	if (q->cert)
		return verify_chain(l, q->cert, q->chain, call);
	return recall(l, q->slot, a, call);
}

/* Who calls: taken from a chain, a slot or the peer's word, as far as the peer may give it (DESIGN, "One exchange"). */
struct caller *identity_of(struct link *l, const struct leg_head *head, struct link_call *call)
{
	struct link_env *env = &l->peer->set->env;
	const struct h1_field *x = NULL;
	static char id[SPIFFE_ID_MAX + 1];
	struct claim q = { 0 };
	struct caller *c;
	const char *why;

	call->refusal_status = 400;
	for (unsigned i = 0; i < head->nfields; i++) {
		const struct h1_field *f = &head->fields[i], **to = NULL;

		if (f->id != H1_F_IDENTITY)
			continue;
		if (link_field_is(f, "sallyport-exchange"))
			to = &x;
		else if (link_field_is(f, "client-cert"))
			to = &q.cert;
		else if (link_field_is(f, "client-cert-chain"))
			to = &q.chain;
		else if (link_field_is(f, "sallyport-principal"))
			to = &q.who;
		if (!to)
			continue;
		if (*to) {
			call->refusal = "malformed-exchange";
			return NULL;
		}
		*to = f;
	}
	if (!x || !parse_exchange(x, &call->id, &call->attempt, &q.letter, &q.slot)) {
		call->refusal = "malformed-exchange";
		return NULL;
	}
	call->refusal_status = 403;
	c = resolve(l, &q, call);
	/* Who comes with a slot takes it, known to us or not: what it stood for before is over. */
	if (q.cert || q.who)
		remember(l, q.slot, c);
	why = c && c->good_until < (int64_t)(loop_wall_us(env->loop) / 1000000) ? link_caller_refusal(l->peer->set, c) : NULL;
	if (why) {
		snprintf(id, sizeof(id), "%s", c->id); /* it may be gone with this reference */
		call->refusal = why;
		call->refusal_id = id;
		caller_unref(env->callers, c);
		return NULL;
	}
	return c;
}
