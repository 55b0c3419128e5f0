/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/expiry.h"

#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/esc.h"
#include "gateway/base/log.h"
#include "pki/lifetime.h"
#include "pki/svid.h"

#define FIRST_MS (10 * 1000)
#define EVERY_MS (3600 * 1000)

static void
on_cert(void *ctx, const struct svid_cert *c)
{
	int64_t *until = ctx;

	if (!*until)
		*until = c->not_after;
}

int64_t
expiry_of(const char *pem)
{
	int64_t until = 0;
	const char *why;

	if (pem)
		svid_pem_each(pem, on_cert, &until, &why);
	return until;
}

/* ---- warnings ---- */

struct where {
	const char *option, *peer, *file, *next; /* next: what the operator can do */
	int64_t now;
};

static void
warn(const struct where *w, const char *what, const char *name, int64_t from, int64_t until)
{
	char when[CLOCK_RFC3339_LEN + 1], safe[512];
	enum lifetime l = lifetime_at(from, until, w->now);

	if (l == LIFETIME_GOOD)
		return;
	clock_rfc3339(when, (uint64_t)(l == LIFETIME_EARLY ? from : until) * 1000000);
	esc_text(safe, sizeof(safe), name, strlen(name));
	log_warn("%s=%s%s%s event=%s-%s %s=%.19sZ name=\"%s\" %s", w->option, w->file, w->peer ? " peer=" : "", w->peer ? w->peer : "", what,
	    l == LIFETIME_OVER ? "expired" : l == LIFETIME_EARLY ? "not-yet-valid" : "expires", l == LIFETIME_EARLY ? "not-before" : "not-after",
	    when, safe, l == LIFETIME_EARLY ? "is the clock right?" : w->next);
}

static void
on_each(void *ctx, const struct svid_cert *c)
{
	warn(ctx, c->ca ? "ca" : "certificate", c->id[0] && !c->ca ? c->id : c->subject, c->not_before, c->not_after);
}

static void
on_crl(void *ctx, const struct svid_crl *c)
{
	warn(ctx, "crl", c->issuer, c->this_update, c->next_update);
}

static void
look(const char *option, const char *peer, const char *file, const char *pem, const char *next, int64_t now)
{
	struct where w = { .option = option, .peer = peer, .file = file, .next = next, .now = now };
	const char *why;

	if (pem)
		svid_pem_each(pem, on_each, &w, &why);
}

static void
look_crl(const char *option, const char *peer, const char *file, const char *pem, int64_t now)
{
	struct where w = { .option = option, .peer = peer, .file = file ? file : "-", .next = "where revocation is required, nothing crosses without one in force",
		.now = now };
	const char *why;

	if (pem)
		svid_crl_pem_each(pem, strlen(pem), on_crl, &w, &why);
}

static void
look_at_all(const struct config *c, int64_t now)
{
	static const char own[] = "put a new one in its place";
	static const char bundle[] = "its domain's new bundle is needed before that: what it signed is refused afterwards";

	look("identity.certificate", NULL, c->identity.certificate, c->identity.certificate_pem, own, now);
	look("inside.certificate", NULL, c->inside.certificate, c->inside.certificate_pem, own, now);
	look("enrol.certificate", NULL, c->enrol.certificate, c->enrol.certificate_pem, own, now);
	look("identity.bundle", NULL, c->identity.bundle, c->identity.bundle_pem, bundle, now);
	look_crl("identity.crl", NULL, c->identity.crl, c->identity.crl_pem, now);
	for (size_t i = 0; i < c->npeers; i++) {
		const struct config_peer *p = &c->peers[i];

		if (p->uplink || p->removed)
			continue;
		look("bundle", p->name, p->bundle, p->bundle_pem, bundle, now);
		look_crl("crl", p->name, p->crl, p->crl_pem, now);
	}
}

uint64_t
expiry_tick(struct master *m, uint64_t now)
{
	const struct config *c = m->current ? m->current->config : NULL;

	if (!c)
		return 0;
	if (!m->expiry_ms)
		m->expiry_ms = now + FIRST_MS;
	if (now >= m->expiry_ms) {
		look_at_all(c, (int64_t)(clock_wall_us() / 1000000));
		m->expiry_ms = now + EVERY_MS;
	}
	return m->expiry_ms;
}
