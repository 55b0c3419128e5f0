/* SPDX-License-Identifier: Apache-2.0 */
/* Our own certificates and keys: whose they are, whether each fits the other, and how long they last. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "pki/keyfit.h"
#include "pki/lifetime.h"
#include "pki/svid.h"

/* The key is given to the keys role by master; here only whether it can be, and whether it is this certificate's. */
void
check_key(struct check *ck, char *const *member, const void *owner, const char *certificate, const char *pem)
{
	struct stat st;

	if (!*member || !ck->files || !strncmp(*member, "pkcs11:", 7)) /* a token's is the keys role's to find */
		return;
	if (stat(*member, &st) != 0) {
		check_fault(ck, member, owner, "cannot read \"%s\": %s", *member, strerror(errno));
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		check_fault(ck, member, owner, "cannot read \"%s\": it is not a regular file", *member);
		return;
	}
	if (st.st_mode & 07)
		check_warn(ck, member, owner, "\"%s\" is a private key that every user may read or write; chmod 600 it", *member);
	/* Who may ask for the policy need not be who may start the daemon: that one is told when it opens the key. */
	if (access(*member, R_OK) != 0)
		return;
	switch (pem ? keyfit_check(pem, *member) : KEYFIT_UNKNOWN) {
	case KEYFIT_OTHER:
		check_fault(ck, member, owner, "\"%s\" is not the key of the certificate \"%s\"; one of them belongs to another pair", *member,
		    certificate);
		break;
	case KEYFIT_ENCRYPTED:
		check_fault(ck, member, owner, "\"%s\" is encrypted; write it without a passphrase, readable by its owner only", *member);
		break;
	case KEYFIT_NO_KEY:
		check_fault(ck, member, owner, "\"%s\" holds no private key in PEM", *member);
		break;
	default:
		break;
	}
}

/* ---- how long ---- */

struct span {
	int64_t from, until; /* of the first certificate of a file */
	bool known;
};

static void
on_cert(void *ctx, const struct svid_cert *c)
{
	struct span *s = ctx;

	if (s->known)
		return;
	s->from = c->not_before;
	s->until = c->not_after;
	s->known = true;
}

static char *
when(char out[CLOCK_RFC3339_LEN + 1], int64_t t)
{
	clock_rfc3339(out, (uint64_t)t * 1000000);
	memcpy(out + 19, "Z", 2); /* whole seconds */
	return out;
}

/* Warnings, not faults: what runs may hold a better one in memory, and a new policy must not wait for a certificate. */
static void
check_span(struct check *ck, char *const *member, const void *owner, int64_t from, int64_t until)
{
	int64_t now = (int64_t)(clock_wall_us() / 1000000);
	char text[CLOCK_RFC3339_LEN + 1];

	switch (lifetime_at(from, until, now)) {
	case LIFETIME_OVER:
		check_warn(ck, member, owner, "\"%s\" expired at %s; others will refuse it", *member, when(text, until));
		break;
	case LIFETIME_EARLY:
		check_warn(ck, member, owner, "\"%s\" is not valid before %s; is the clock right?", *member, when(text, from));
		break;
	case LIFETIME_ENDING:
		check_warn(ck, member, owner, "\"%s\" expires at %s; renew it", *member, when(text, until));
		break;
	case LIFETIME_GOOD:
		break;
	}
}

/* Would somebody who has our bundle believe our certificate, as far as the clock allows? */
static void
check_chain(struct check *ck, struct svid_bundle *bundle)
{
	struct config *c = ck->c;
	struct span s = { 0 };
	struct svid_info *info;
	enum svid_reason r;
	const char *why;
	int64_t now = (int64_t)(clock_wall_us() / 1000000);

	svid_pem_each(c->identity.certificate_pem, on_cert, &s, &why);
	if (!s.known)
		return;
	info = mem_zalloc(sizeof(*info));
	/* Asked for a moment at which the leaf is valid: its own end is told apart from a chain that leads nowhere. */
	r = svid_verify_pem(c->identity.certificate_pem, bundle, now < s.from ? s.from : now >= s.until ? s.until - 1 : now, info, &why);
	if (r == SVID_OK || r == SVID_EXPIRED || r == SVID_NOT_YET_VALID)
		check_span(ck, &c->identity.certificate, &c->identity, s.from, r == SVID_OK ? info->not_after : s.until);
	if (r == SVID_EXPIRED || r == SVID_NOT_YET_VALID)
		check_warn(ck, &c->identity.certificate, &c->identity, "a CA above \"%s\" is %s", c->identity.certificate,
		    r == SVID_EXPIRED ? "expired" : "not valid yet");
	else if (r != SVID_OK)
		check_fault(ck, &c->identity.certificate, &c->identity, "\"%s\" is not proved by the bundle \"%s\": %s (%s)", c->identity.certificate,
		    c->identity.bundle, svid_reason_text(r), why ? why : "no more is known");
	mem_free(info);
}

/* ---- whose ---- */

/* A gateway's peers know it by a gateway id; a sidecar carries its workload's. False when it is not of our domain at all. */
static bool
check_own_id(struct check *ck)
{
	struct config *c = ck->c;
	struct spiffe_id id;
	const char *why;

	if (!c->domain || spiffe_parse(&id, c->identity.id, strlen(c->identity.id), &why) != 0)
		return false;
	if (id.domain_len != strlen(c->domain) || memcmp(id.domain, c->domain, id.domain_len) != 0) {
		check_fault(ck, &c->identity.certificate, &c->identity, "\"%s\" is for \"%s\", which is not in our domain \"%s\"",
		    c->identity.certificate, c->identity.id, c->domain);
		return false;
	}
	if (c->npeers > 0 && !ck->sidecar && !spiffe_is_gateway(&id))
		check_fault(ck, &c->identity.certificate, &c->identity,
		    "\"%s\" is for \"%s\"; with peers it must be for a gateway id, spiffe://%s/gateway/NAME", c->identity.certificate,
		    c->identity.id, c->domain);
	else if (ck->sidecar && spiffe_is_gateway(&id))
		check_fault(ck, &c->identity.certificate, &c->identity,
		    "\"%s\" is for the gateway \"%s\"; a sidecar with an uplink carries its workload's id", c->identity.certificate,
		    c->identity.id);
	return true;
}

static void
check_inside(struct check *ck)
{
	struct config *c = ck->c;
	const void *owner = &c->inside;
	struct span s = { 0 };
	char names[1024] = "";
	const char *why;

	if (!c->inside.certificate && !c->inside.key)
		return;
	if (!c->inside.certificate || !c->inside.key) {
		check_fault(ck, c->inside.key ? &c->inside.key : &c->inside.certificate, owner,
		    "\"inside\" needs both \"certificate\" and \"key\"");
		return;
	}
	c->inside.certificate_pem = check_pem(ck, &c->inside.certificate, owner);
	check_key(ck, &c->inside.key, owner, c->inside.certificate, c->inside.certificate_pem);
	if (!c->inside.certificate_pem)
		return;
	svid_pem_each(c->inside.certificate_pem, on_cert, &s, &why);
	if (s.known)
		check_span(ck, &c->inside.certificate, owner, s.from, s.until);
	if (svid_dns_names_of_pem(c->inside.certificate_pem, names, sizeof(names)) < 0)
		check_fault(ck, &c->inside.certificate, owner, "\"%s\" holds no usable certificate", c->inside.certificate);
	else if (!names[0])
		check_warn(ck, &c->inside.certificate, owner, "\"%s\" has no DNS name, so ordinary clients will refuse it",
		    c->inside.certificate);
}

void
check_identity(struct check *ck)
{
	struct config *c = ck->c;
	const void *owner = &c->identity;
	char id[SPIFFE_ID_MAX + 1];
	struct svid_bundle *bundle = NULL;
	const char *why = NULL;

	if (c->domain && !spiffe_domain_valid(c->domain, strlen(c->domain))) {
		check_fault(ck, &c->domain, NULL, "domain \"%s\": a trust domain has only lower-case letters, digits, \"-\", \"_\" and \".\"",
		    c->domain);
		mem_free(c->domain); /* so that nothing is compared with it */
		c->domain = NULL;
	}
	c->identity.certificate_pem = check_pem(ck, &c->identity.certificate, owner);
	check_key(ck, &c->identity.key, owner, c->identity.certificate, c->identity.certificate_pem);
	c->identity.bundle_pem = check_pem(ck, &c->identity.bundle, owner);
	c->identity.crl_pem = check_crl(ck, &c->identity.crl, owner, c->domain, c->identity.bundle_pem);
	if (c->identity.bundle_pem && c->domain) {
		bundle = svid_bundle_new(c->domain, c->identity.bundle_pem, &why);
		if (!bundle)
			check_fault(ck, &c->identity.bundle, owner, "\"%s\": %s", c->identity.bundle, why);
	}
	if (c->identity.certificate_pem) {
		if (svid_id_of_pem(c->identity.certificate_pem, id, &why) == 0) {
			c->identity.id = mem_strdup(id);
			if (check_own_id(ck) && bundle)
				check_chain(ck, bundle);
		} else {
			check_fault(ck, &c->identity.certificate, owner, "\"%s\" is no certificate of a workload or gateway: %s",
			    c->identity.certificate, why);
		}
	}
	svid_bundle_unref(bundle);
	check_inside(ck);
}
