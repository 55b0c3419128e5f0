/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/expiry.h"

#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "pki/svid.h"

#define EVERY_MS (3600 * 1000)

struct span {
	int64_t from, until;
};

static void
on_cert(void *ctx, const struct svid_cert *c)
{
	struct span *s = ctx;

	if (!s->until)
		*s = (struct span){ c->not_before, c->not_after };
}

static struct span
span_of(const char *pem)
{
	struct span s = { 0 };
	const char *why;

	if (pem)
		svid_pem_each(pem, on_cert, &s, &why);
	return s;
}

int64_t
expiry_of(const char *pem)
{
	return span_of(pem).until;
}

static void
warn(const char *option, const char *file, const char *pem)
{
	int64_t now = (int64_t)(clock_wall_us() / 1000000);
	struct span s = span_of(pem);
	char until[CLOCK_RFC3339_LEN + 1];

	if (!s.until || s.until - now >= (s.until - s.from) / 10)
		return;
	clock_rfc3339(until, (uint64_t)s.until * 1000000);
	log_warn("%s=%s event=certificate-%s not-after=%.19sZ put a new one in its place, then \"gwctl reload\"", option, file,
	    now >= s.until ? "expired" : "expires", until);
}

uint64_t
expiry_tick(struct master *m, uint64_t now)
{
	const struct config *c = m->current ? m->current->config : NULL;

	if (!c)
		return 0;
	if (!m->expiry_ms) /* what was loaded just now was looked at then */
		m->expiry_ms = now + EVERY_MS;
	if (now >= m->expiry_ms) {
		warn("identity.certificate", c->identity.certificate, c->identity.certificate_pem);
		warn("inside.certificate", c->inside.certificate, c->inside.certificate_pem);
		m->expiry_ms = now + EVERY_MS;
	}
	return m->expiry_ms;
}
