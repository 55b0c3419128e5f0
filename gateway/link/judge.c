/* SPDX-License-Identifier: Apache-2.0 */
/* Chains that came by links or were seen before, judged by what is trusted now. */
#include "gateway/link/internal.h"

static int64_t seconds_now(const struct link_set *s)
{
	return (int64_t)(loop_wall_us(s->env.loop) / 1000000);
}

static int64_t skew_s(const struct link_set *s)
{
	return (int64_t)(s->env.config->limits.clock_skew_ms / 1000);
}

const char *link_barred(const struct config_peer *p)
{
	return p->removed ? "peer-removed" : p->severed ? "severed" : NULL;
}

enum svid_reason link_verify(struct link_set *s, int peer, const struct svid_der *chain, size_t n, bool server, struct svid_info *info,
    const char **detail)
{
	struct svid_bundle *bundle = s->env.bundles[1 + peer];
	enum svid_purpose purpose = server ? SVID_SERVER : SVID_CLIENT;
	int64_t now = seconds_now(s), skew = skew_s(s);
	enum svid_reason r = svid_verify_der(chain, n, &bundle, 1, purpose, now, info, detail);

	/* Past its end, but not for longer than clocks may differ. */
	if (r == SVID_EXPIRED && skew)
		r = svid_verify_der(chain, n, &bundle, 1, purpose, now - skew, info, detail);
	return r;
}

/* Its CAs are those that proved it before. */
static bool proven(const struct link_set *s, const struct caller *c)
{
	return c->trust && !c->refusal && c->trust >= s->cas_since[1 + c->peer];
}

static void judge(struct link_set *s, struct caller *c)
{
	static uint8_t der[SVID_MAX_BYTES];
	static struct svid_info info;
	struct caller_table *t = s->env.callers;
	const struct svid_bundle *bundle = s->env.bundles[1 + c->peer];
	struct svid_der chain[SVID_MAX_CHAIN];
	int64_t now = seconds_now(s), until = c->not_after;
	const char *detail, *barred = c->peer >= 0 ? link_barred(&s->env.config->peers[c->peer]) : NULL;
	enum svid_reason r;
	size_t n;

	if (barred) {
		caller_judged(t, c, barred, until);
		return;
	}
	n = caller_chain(c, der, chain);
	if (proven(s, c)) {
		r = svid_recheck_der(chain, n, bundle, now < until ? now : until);
	} else {
		r = link_verify(s, c->peer, chain, n, c->server, &info, &detail);
		if (r == SVID_OK)
			until = info.not_after;
	}
	/* When it ends is looked at each time; here only what does not come by itself. A CA of its path that ended ends it, too. */
	if (r == SVID_EXPIRED) {
		r = SVID_OK;
		if (until >= now - skew_s(s))
			until = now - skew_s(s) - 1;
	}
	caller_judged(t, c, r == SVID_OK ? NULL : svid_reason_text(r), until);
}

const char *link_caller_refusal(struct link_set *s, struct caller *c)
{
	if (c->assurance != POLICY_MTLS)
		return NULL;
	if (c->trust != caller_table_trust(s->env.callers))
		judge(s, c);
	if (c->refusal)
		return c->refusal;
	return c->good_until < seconds_now(s) ? "expired" : NULL;
}

int link_peer_of_domain(const struct config *c, const char *domain, size_t len)
{
	if (strlen(c->domain) == len && memcmp(c->domain, domain, len) == 0)
		return -1;
	for (size_t i = 0; i < c->npeers; i++)
		if (!c->peers[i].uplink && strlen(c->peers[i].domain) == len && memcmp(c->peers[i].domain, domain, len) == 0)
			return (int)i;
	return -2;
}
