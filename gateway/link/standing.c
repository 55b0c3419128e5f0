/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trust changes under running links. Each link has a far end (struct caller): the certificate of its handshake, or one of the same id that
 * took its place when that ended. Links whose far end may no longer be are cut with their exchanges; those that carry an old certificate of ours are made
 * anew one after the other, and drain.
 */
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"

/* Our certificate was renewed: so many links are begun anew at a time. */
#define RENEW_BATCH 2
#define RENEW_MS 250
/* Ids that the siblings are asked for in a second. */
#define ASK_MAX 64
/* A certificate that ended may have a successor that nobody told us of yet. */
#define GRACE_MS 400
/* How long before its end a certificate's successor is looked for in earnest, at most. */
#define NOTICE_MAX_S 30

/* ---- successors ---- */

int64_t link_notice_s(const struct caller *c)
{
	int64_t tenth = (c->not_after - c->not_before) / 10;

	return tenth < NOTICE_MAX_S ? tenth : NOTICE_MAX_S;
}

/* From half of its life on now and then, near its end each second: renewal is due then. */
static void ask(struct link_set *s, struct caller *c, int64_t now_s)
{
	uint64_t now = loop_now(s->env.loop), every = 1000;
	int64_t life = c->not_after - c->not_before, left = c->not_after - now_s;

	if (!s->env.on_want || left > life / 2)
		return;
	if (left > link_notice_s(c) + 1 && life / 64 > 1)
		every = (uint64_t)(life / 64) * 1000;
	if (c->asked_ms && now - c->asked_ms < every)
		return;
	if (s->asked_second != now / 1000) {
		s->asked_second = now / 1000;
		s->asked = 0;
	}
	if (s->asked >= ASK_MAX)
		return;
	s->asked++;
	c->asked_ms = now ? now : 1;
	s->env.on_want(s->env.ctx, c->id);
}

/* The one of this id that is good for longest; NULL: none is good. */
static struct caller *best(struct link_set *s, const char *id, size_t len, bool server_too)
{
	struct caller *c = NULL, *out = NULL;

	while ((c = caller_of_id(s->env.callers, id, len, c)))
		if ((server_too || !c->server) && (!out || c->not_after > out->not_after) && !link_caller_refusal(s, c))
			out = c;
	return out;
}

struct caller *link_successor(struct link_set *s, struct caller *c, bool server_too, bool *wait)
{
	uint64_t now_ms = loop_wall_us(s->env.loop) / 1000;
	struct caller *n = c->newer;
	int64_t over;

	*wait = false;
	if (n && (server_too || !n->server) && !link_caller_refusal(s, n))
		return n;
	n = best(s, c->id, c->id_len, server_too);
	if (n && n->not_after > c->not_after) {
		caller_follow(s->env.callers, c, n);
		return n;
	}
	ask(s, c, (int64_t)(now_ms / 1000));
	/* It may be as far away as the type goes: refused, or without an end. */
	if (c->good_until >= (int64_t)(now_ms / 1000)) {
		*wait = true;
	} else if (c->good_until >= (int64_t)(now_ms / 1000) - GRACE_MS / 1000 - 1) {
		over = (int64_t)now_ms - (c->good_until + 1) * 1000;
		*wait = over < GRACE_MS;
	}
	return NULL;
}

void link_remember(struct link_set *s, struct caller *c)
{
	bool theirs = c->peer >= 0;
	struct caller **at = &s->recent[theirs][s->next_recent[theirs]++ % LINK_RECENT], *old = *at;

	*at = caller_ref(c);
	caller_unref(s->env.callers, old);
}

void link_take_chain(struct link_set *s, const struct svid_der *chain, size_t n)
{
	static struct svid_info info;
	const char *detail, *why;
	struct spiffe_id id;
	struct caller *c;
	enum svid_reason r;
	int peer;

	/* Once to learn whose domain it is, which says by whose bundle it is judged. */
	r = svid_verify_der(chain, n, NULL, 0, SVID_ANY, (int64_t)(loop_wall_us(s->env.loop) / 1000000), &info, &detail);
	if (r != SVID_UNKNOWN_DOMAIN || spiffe_parse(&id, info.id, strlen(info.id), &why) != 0)
		return;
	peer = link_peer_of_domain(s->env.config, id.domain, id.domain_len);
	if (peer < -1)
		return;
	for (int server = 0; server < 2; server++) {
		r = link_verify(s, peer, chain, n, server, &info, &detail);
		if (r == SVID_OK) {
			c = caller_get_far(s->env.callers, &info, chain, n, peer, server);
			link_remember(s, c);
			caller_unref(s->env.callers, c);
			return;
		}
		if (r != SVID_EKU)
			return;
	}
}

size_t link_find_chain(struct link_set *s, const char *id, size_t len, uint8_t *mem, struct svid_der out[SVID_MAX_CHAIN])
{
	struct caller *c = best(s, id, len, true);

	return c ? caller_chain(c, mem, out) : 0;
}

/* ---- the far end ---- */

static void set_far(struct link *l, struct caller *c)
{
	struct caller *old = l->far;

	l->far = caller_ref(c);
	c->links++;
	if (old) {
		old->links--;
		caller_unref(l->peer->set->env.callers, old);
	}
}

void standing_forget_far(struct link *l)
{
	struct caller *c = l->far;

	l->far = NULL;
	if (c) {
		c->links--;
		caller_unref(l->peer->set->env.callers, c);
	}
}

const char *standing_far_end(struct link *l)
{
	struct link_set *s = l->peer->set;
	struct svid_der chain[SVID_MAX_CHAIN];
	size_t n = tls_peer_chain(l->tls, chain, SVID_MAX_CHAIN);
	struct caller *c = caller_get_far(s->env.callers, tls_peer(l->tls), chain, n, l->peer->index, l->dialler != NULL);
	const char *why;

	if (tls_no_crl(l->tls) || !tls_current(l->tls))
		caller_doubt(c);
	set_far(l, c);
	if (c->refs == 2)
		link_remember(s, c);
	caller_unref(s->env.callers, c);
	why = link_barred(l->peer->cfg);
	if (!why)
		why = link_caller_refusal(s, c);
	if (!why || strcmp(why, "no-crl") != 0)
		return why;
	l->no_crl = true;
	return NULL;
}

/* ---- verdicts ---- */

static bool listed(const struct link *l)
{
	const struct config_peer *p = l->peer->cfg;

	for (size_t i = 0; i < p->ngateways; i++)
		if (strcmp(p->gateways[i], l->gateway) == 0)
			return true;
	return false;
}

/* Its far end's certificate ended. */
static const char *expired(struct link *l)
{
	struct link_set *s = l->peer->set;
	bool wait;
	struct caller *n = link_successor(s, l->far, true, &wait);

	if (n) {
		log_info("link=%u peer=%s gateway=%s event=rebound %s", l->number, l->peer->cfg->name, l->gateway, n->cert_text);
		set_far(l, n);
		return NULL;
	}
	return wait ? NULL : "certificate-expired";
}

static const char *verdict(struct link *l)
{
	const char *why = link_barred(l->peer->cfg);

	if (why || !l->far)
		return why;
	if (!listed(l))
		return "not-a-gateway";
	why = link_caller_refusal(l->peer->set, l->far);
	if (!why || strcmp(why, "no-crl") == 0) /* the latter is crl.c's: quarantine */
		return NULL;
	return strcmp(why, "expired") == 0 ? expired(l) : why;
}

/* changed: a peer may have been barred since. */
static void judge_links(struct link_set *s, bool changed)
{
	struct link *l, *next;
	bool any = changed;

	for (size_t i = 0; i < s->npeers; i++)
		TAILQ_FOREACH(l, &s->peers[i].links, entry) {
			l->cut = verdict(l);
			any |= l->cut != NULL;
		}
	if (!any)
		return;
	if (s->env.on_cut)
		s->env.on_cut(s->env.ctx);
	for (size_t i = 0; i < s->npeers; i++)
		TAILQ_FOREACH_SAFE(l, &s->peers[i].links, entry, next)
			if (l->cut)
				link_close(l, l->cut, l->far ? l->far->cert_text : NULL);
}

const char *link_cut_reason(const struct link *l)
{
	return l->cut;
}

const char *link_peer_refusal(const struct link_set *s, int peer)
{
	return link_barred(s->peers[peer].cfg);
}

/* ---- made anew ---- */

static bool of_old_identity(const struct link *l)
{
	return l->dialler && !l->aged && l->state < L_DRAINING && l->identity != l->peer->set->identity;
}

static void on_renew(void *ctx)
{
	struct link_set *s = ctx;
	unsigned begun = 0;
	bool more = false;
	struct link *l;

	s->renewing = false;
	if (s->draining)
		return;
	for (size_t i = 0; i < s->npeers; i++) {
		bool any = false;

		TAILQ_FOREACH(l, &s->peers[i].links, entry) {
			if (!of_old_identity(l))
				continue;
			more = true;
			if (l->state == L_READY && begun < RENEW_BATCH) {
				begun++;
				l->aged = any = true;
				l->leaves = "renewed";
			}
		}
		if (any)
			dial_check(&s->peers[i]);
	}
	if (more) {
		s->renewing = true;
		timer_set(s->env.loop, &s->renew, RENEW_MS, on_renew, s);
	}
}

/*
 * Where we dial, it is for us to make a link anew whose far end's certificate is about to end: the new one may show its successor. If it does not, the far
 * end is late, and is asked once more whenever half of the time that was left has passed.
 */
static void renew_before_end(struct link *l)
{
	const struct link_set *s = l->peer->set;
	int64_t left, step;

	if (!l->dialler || l->aged || l->state != L_READY || !l->far)
		return;
	left = l->far->not_after - (int64_t)(loop_wall_us(s->env.loop) / 1000000);
	step = link_notice_s(l->far);
	while (!l->far->newer && step / 2 >= left && step > 1)
		step /= 2;
	if (left > step || loop_now(s->env.loop) - l->ready_ms < (uint64_t)(step - left) * 1000 + 1000)
		return;
	l->aged = true;
	l->leaves = "far-certificate-ends";
	dial_check(l->peer);
}

/* ---- from outside ---- */

void link_set_trust(struct link_set *s, struct tls_env *tls, const bool *new_cas, bool renewed)
{
	struct caller_table *t = s->env.callers;

	caller_table_distrust(t);
	for (size_t i = 0; new_cas && i < 1 + s->npeers; i++)
		if (new_cas[i])
			s->cas_since[i] = caller_table_trust(t);
	tls_env_changed(s->env.tls, tls != s->env.tls);
	s->env.tls = tls;
	if (renewed) {
		s->identity++;
		if (!s->renewing)
			on_renew(s);
	}
	judge_links(s, true);
	if (!s->draining)
		for (size_t i = 0; i < s->npeers; i++)
			dial_check(&s->peers[i]);
}

/* A CRL that is required ends by itself. */
static bool crls_changed(struct link_set *s)
{
	int64_t now = (int64_t)(loop_wall_us(s->env.loop) / 1000000);
	bool changed = false;

	for (size_t i = 0; i < 1 + s->npeers; i++) {
		bool stale = svid_bundle_crl_until(s->env.bundles[i]) <= now;

		changed |= stale != s->stale[i];
		s->stale[i] = stale;
	}
	return changed;
}

bool link_set_tick(struct link_set *s)
{
	bool changed = crls_changed(s);
	struct link *l;

	if (changed) {
		caller_table_distrust(s->env.callers);
		tls_env_changed(s->env.tls, false);
	}
	judge_links(s, false);
	for (size_t i = 0; i < s->npeers; i++)
		TAILQ_FOREACH(l, &s->peers[i].links, entry) {
			bool wait;

			/* What is known is kept, what is not is asked for, before it is needed. */
			if (l->far && l->state >= L_READY)
				link_successor(s, l->far, true, &wait);
			renew_before_end(l);
		}
	return changed;
}

void standing_init(struct link_set *s)
{
	s->cas_since = mem_array(1 + s->npeers, sizeof(*s->cas_since));
	s->stale = mem_array(1 + s->npeers, sizeof(*s->stale));
	crls_changed(s);
}

void standing_fini(struct link_set *s)
{
	timer_cancel(&s->renew);
	for (unsigned i = 0; i < 2 * LINK_RECENT; i++) {
		struct caller **at = &s->recent[i / LINK_RECENT][i % LINK_RECENT];

		caller_unref(s->env.callers, *at);
		*at = NULL;
	}
	mem_free(s->cas_since);
	mem_free(s->stale);
}
