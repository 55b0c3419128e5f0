/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quarantine. A link whose far end is covered by no revocation list in force, where one is required, is good for fetching one and for nothing else
 * (link.no_crl), until a list comes; so is each link of a peer of which there is no list in force at all (link_peer.crl_missing).
 */
#include "gateway/link/internal.h"

void quarantine_note(struct link_peer *p, const char *gateway, const char *reason, const char *detail)
{
	struct link_env *env = &p->set->env;
	void *mem = ring_reserve_end(env->ring, 4096, loop_now(env->loop));
	struct audit_event e;

	if (!mem)
		return;
	audit_event_init(&e, mem, 4096, AUDIT_ALERT, NULL, 0, loop_wall_us(env->loop));
	audit_event_str(&e, AUDIT_F_PEER, p->cfg->name);
	audit_event_str(&e, AUDIT_F_GATEWAY, gateway);
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	audit_event_done(&e);
	ring_commit(env->ring, e.len);
}

static struct svid_bundle *bundle_of(const struct link_peer *p)
{
	return p->set->env.bundles[1 + p->index];
}

static bool covered(const struct link *l, const struct svid_bundle *b, int64_t now)
{
	struct svid_der chain[SVID_MAX_CHAIN];

	return svid_recheck_der(chain, tls_peer_chain(l->tls, chain, SVID_MAX_CHAIN), b, now) != SVID_NO_CRL;
}

/* Each link as its own certificate is; all of them only where something changed. True: some are quarantined. */
static bool look_at_links(struct link_peer *p, bool all, bool lifted, int64_t now)
{
	const struct svid_bundle *b = bundle_of(p);
	struct link *l;
	bool some = false, wake = false;

	TAILQ_FOREACH(l, &p->links, entry) {
		bool was = l->no_crl;

		if (l->state != L_HELLO && l->state != L_READY)
			continue;
		if (all || was)
			l->no_crl = !covered(l, b, now);
		some = some || l->no_crl;
		wake = wake || ((was || lifted) && !l->no_crl && l->client && l->state == L_READY);
	}
	if (wake)
		p->set->env.on_ready(p->set->env.ctx, p->index);
	return some;
}

void quarantine_look(struct link_peer *p)
{
	struct svid_bundle *b = bundle_of(p);
	int64_t now = (int64_t)(loop_wall_us(p->set->env.loop) / 1000000), until = svid_bundle_crl_until(b);
	bool missing = !svid_bundle_crl_in_force(b, now), stale = until <= now, lifted = p->crl_missing && !missing;
	bool changed, ran_out, hungry;
	uint8_t digest[32];

	if (!svid_bundle_crls_digest(b, digest))
		memset(digest, 0, sizeof(digest));
	changed = b != p->crl_bundle || until != p->crl_until || memcmp(digest, p->crl_digest, sizeof(digest)) != 0;
	if (b != p->crl_bundle) {
		svid_bundle_unref(p->crl_bundle);
		p->crl_bundle = svid_bundle_ref(b);
		crl_ask_again(p); /* what was refused before may be good for the new CAs */
	}
	p->crl_until = until;
	memcpy(p->crl_digest, digest, sizeof(digest));
	if (missing != p->crl_missing) {
		const char *detail = until ? "its CRL is past nextUpdate" : "there is no CRL of it";

		p->crl_missing = missing;
		quarantine_note(p, NULL, missing ? "quarantined" : "crl-in-force", missing ? detail : NULL);
		if (missing)
			log_warn("peer=%s event=quarantined revocation is \"required\" and %s; links are good for fetching one only", p->cfg->name, detail);
		else
			log_info("peer=%s event=crl-in-force", p->cfg->name);
	}
	ran_out = stale && !p->crl_stale;
	p->crl_stale = stale;
	hungry = look_at_links(p, changed || stale, lifted, now) || stale;
	if (hungry && !p->crl_hungry)
		crl_ask_again(p);
	p->crl_hungry = hungry;
	if (ran_out && p->set->env.on_crl)
		p->set->env.on_crl(p->set->env.ctx, p->index, NULL, 0);
}
