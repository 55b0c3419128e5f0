/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revocation lists: which are taken into a bundle, what they mean for a certificate, and that what is read back is the same.
 * hud.example has a root and two issuing CAs below it; irs.example has its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/svid.h"
#include "tests/unit/pki/zoo.h"

#define DAY INT64_C(86400)
#define LEAF(nr) { .cn = "a", .serial = (nr), .until = zoo_now + 30 * DAY, .san = { { GEN_URI, "spiffe://hud.example/permit-svc", 0 } } }

static struct zoo_cert root, ca, ca2, weak_ca, irs_root, good, bad, other;

static int
setup(void **state)
{
	const struct zoo leaf1 = LEAF(11), leaf2 = LEAF(12), leaf3 = LEAF(13);
	const struct zoo second = { .ca = true, .cn = "hud.example issuing CA 2", .serial = 22 };
	const struct zoo signs_no_lists = { .ca = true, .cn = "hud.example certificates only", .ku = "critical,keyCertSign", .serial = 23 };

	(void)state;
	root = zoo_ca("hud.example", NULL);
	ca = zoo_ca("hud.example", &root);
	ca2 = zoo_make(&second, &root);
	weak_ca = zoo_make(&signs_no_lists, &root);
	irs_root = zoo_ca("irs.example", NULL);
	good = zoo_make(&leaf1, &ca);
	bad = zoo_make(&leaf2, &ca);
	other = zoo_make(&leaf3, &ca2);
	return 0;
}

static int
teardown(void **state)
{
	struct zoo_cert *all[] = { &root, &ca, &ca2, &weak_ca, &irs_root, &good, &bad, &other };

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		zoo_free(all[i]);
	return 0;
}

/* Root, then as many of its CAs. */
static struct svid_bundle *
bundle(size_t n, enum svid_revocation r)
{
	X509 *certs[] = { root.x, ca.x, ca2.x, weak_ca.x };
	char *pem = zoo_pem(certs, n);
	const char *why;
	struct svid_bundle *b = svid_bundle_new("hud.example", pem, &why);

	assert_non_null(b);
	svid_bundle_set_revocation(b, r);
	mem_free(pem);
	return b;
}

static int
add_at(struct svid_bundle *b, const struct zoo_crl *z, const struct zoo_cert *issuer, X509 *cert, int64_t now, const char **why)
{
	X509_CRL *crl = zoo_crl(z, issuer);
	char *pem = zoo_crl_pem(&crl, 1, &cert, cert != NULL);
	int rc = svid_bundle_add_crls(b, pem, strlen(pem), now, why);

	assert_int_equal(ERR_peek_error(), 0);
	assert_true((rc < 0) == (*why != NULL));
	mem_free(pem);
	X509_CRL_free(crl);
	return rc;
}

static int
add(struct svid_bundle *b, const struct zoo_crl *z, const struct zoo_cert *issuer)
{
	const char *why;

	return add_at(b, z, issuer, NULL, zoo_now, &why);
}

static size_t
count(const struct svid_bundle *b)
{
	uint8_t digest[32];
	size_t len, n = 0;
	char *pem = svid_bundle_crls_pem(b, &len);

	for (const char *p = pem; p && (p = strstr(p, "BEGIN X509 CRL")); p++)
		n++;
	assert_true(svid_bundle_crls_digest(b, digest) == (n > 0));
	mem_free(pem);
	return n;
}

/* The leaf with the issuing CA beside it: by the whole verification and by the short one, which must agree. */
static enum svid_reason
verdict(struct svid_bundle *b, const struct zoo_cert *leaf, const struct zoo_cert *issuer, int64_t now)
{
	X509 *chain[2] = { leaf->x, issuer->x };
	struct svid_der der[2];
	struct svid_info *info = mem_zalloc(sizeof(*info));
	unsigned char *p[2] = { NULL, NULL };
	const char *detail;
	enum svid_reason r = svid_verify(chain, 2, &b, 1, SVID_CLIENT, now, info, &detail);

	if (r == SVID_NO_CRL) /* the rest is right, and told */
		assert_string_equal(info->id, "spiffe://hud.example/permit-svc");
	for (int i = 0; i < 2; i++) {
		der[i].len = (size_t)i2d_X509(chain[i], &p[i]);
		der[i].p = p[i];
	}
	assert_int_equal(svid_recheck_der(der, 2, b, now), r);
	OPENSSL_free(p[0]);
	OPENSSL_free(p[1]);
	mem_free(info);
	assert_int_equal(ERR_peek_error(), 0);
	return r;
}

static void
revoked(void **state)
{
	const struct zoo_crl z = { .number = 1, .revoked = { 12 } };

	(void)state;
	for (size_t ncas = 1; ncas <= 2; ncas++)
		for (int mode = SVID_REV_OFF; mode <= SVID_REV_REQUIRED; mode++) {
			struct svid_bundle *b = bundle(ncas, mode);
			const char *why;

			assert_int_equal(verdict(b, &good, &ca, zoo_now), mode == SVID_REV_REQUIRED ? SVID_NO_CRL : SVID_OK);
			assert_int_equal(add_at(b, &z, &ca, ca.x, zoo_now, &why), 1);
			assert_int_equal(verdict(b, &good, &ca, zoo_now), SVID_OK);
			assert_int_equal(verdict(b, &bad, &ca, zoo_now), mode == SVID_REV_OFF ? SVID_OK : SVID_REVOKED);
			/* Another CA's: its lists are missing. */
			assert_int_equal(verdict(b, &other, &ca2, zoo_now), mode == SVID_REV_REQUIRED ? SVID_NO_CRL : SVID_OK);
			/* Past nextUpdate: still heeded. */
			assert_int_equal(verdict(b, &bad, &ca, zoo_now + 2 * DAY - 60), mode == SVID_REV_OFF ? SVID_OK : SVID_REVOKED);
			assert_int_equal(verdict(b, &good, &ca, zoo_now + 2 * DAY), mode == SVID_REV_REQUIRED ? SVID_NO_CRL : SVID_OK);
			assert_int_equal(verdict(b, &good, &ca, zoo_now + 40 * DAY), SVID_EXPIRED);
			svid_bundle_unref(b);
		}
}

/* A root's list names the issuing CA: what it signed is gone in both modes; and no list of a root is ever required. */
static void
ca_revoked(void **state)
{
	const struct zoo_crl none = { .number = 1 }, its = { .number = 2, .revoked = { 22 } };

	(void)state;
	for (int mode = SVID_REV_IF_PRESENT; mode <= SVID_REV_REQUIRED; mode++) {
		struct svid_bundle *b = bundle(3, mode);

		assert_int_equal(add(b, &none, &ca2), 1);
		assert_int_equal(verdict(b, &other, &ca2, zoo_now), SVID_OK);
		assert_int_equal(add(b, &its, &root), 1);
		assert_int_equal(verdict(b, &other, &ca2, zoo_now), SVID_REVOKED);
		assert_int_equal(verdict(b, &good, &ca, zoo_now), mode == SVID_REV_REQUIRED ? SVID_NO_CRL : SVID_OK);
		assert_int_equal(add(b, &none, &ca), 1);
		assert_int_equal(verdict(b, &good, &ca, zoo_now), SVID_OK);
		assert_int_equal(verdict(b, &other, &ca2, zoo_now + 2 * DAY), SVID_REVOKED);
		svid_bundle_unref(b);
	}
}

/* Whatever reason it gives: "removed from the list" has no place in a list that is whole. */
static void
reasons(void **state)
{
	(void)state;
	for (int reason = 0; reason <= 10; reason++) {
		const struct zoo_crl z = { .number = 1, .revoked = { 12 }, .reason = reason };
		struct svid_bundle *b = bundle(2, SVID_REV_REQUIRED);

		assert_int_equal(add(b, &z, &ca), 1);
		assert_int_equal(verdict(b, &bad, &ca, zoo_now), SVID_REVOKED);
		svid_bundle_unref(b);
	}
}

static void
refused(void **state)
{
	static const struct {
		const char *why;
		struct zoo_crl z;
		const struct zoo_cert *issuer;
	} t[] = {
		{ "delta", { .number = 9, .nid = NID_delta_crl, .critical = true }, &ca },
		{ "delta", { .number = 9, .nid = NID_delta_crl }, &ca },
		{ "distribution point", { .number = 9, .nid = NID_issuing_distribution_point, .critical = true }, &ca },
		{ "distribution point", { .number = 9, .nid = NID_issuing_distribution_point }, &ca },
		{ "critical extension", { .number = 9, .nid = NID_netscape_comment, .critical = true }, &ca },
		{ "indirect", { .number = 9, .revoked = { 12 }, .entry_nid = NID_certificate_issuer, .critical = true }, &ca },
		{ "indirect", { .number = 9, .revoked = { 12 }, .entry_nid = NID_certificate_issuer }, &ca },
		{ "critical extension", { .number = 9, .revoked = { 12 }, .entry_nid = NID_netscape_comment, .critical = true }, &ca },
		{ "without nextUpdate", { .number = 9, .until = -1 }, &ca },
		{ "before its thisUpdate", { .number = 9, .from = 1800000000 - 60, .until = 1800000000 - 120 }, &ca },
		{ "future", { .number = 9, .from = 1800000000 + 301 }, &ca },
		{ "SHA-1", { .number = 9, .digest = "SHA1" }, &ca },
		{ "may not sign CRLs", { .number = 9 }, &weak_ca },
		{ "not in the bundle", { .number = 9 }, &irs_root },
		{ "may not sign CRLs", { .number = 9 }, &good },
		{ "without a number", { .revoked = { 12 } }, &ca },
		{ "another CRL with the number", { .number = 3, .revoked = { 12 } }, &ca },
	};
	const struct zoo_crl first = { .number = 3, .revoked = { 11 } };

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct svid_bundle *b = bundle(4, SVID_REV_REQUIRED);
		const char *why = NULL;

		assert_int_equal(add(b, &first, &ca), 1);
		assert_int_equal(add_at(b, &t[i].z, t[i].issuer, NULL, zoo_now, &why), -1);
		/* A leaf is nobody's CA. */
		if (t[i].issuer == &good)
			assert_string_equal(why, "a CRL of a CA that is not in the bundle");
		else if (strstr(why, t[i].why) == NULL)
			fail_msg("%zu: \"%s\" where \"%s\" was expected", i, why, t[i].why);
		/* With its issuer's certificate beside it, too. */
		assert_int_equal(add_at(b, &t[i].z, t[i].issuer, t[i].issuer->x, zoo_now, &why), -1);
		/* Nothing changed. */
		assert_int_equal(count(b), 1);
		assert_int_equal(verdict(b, &good, &ca, zoo_now), SVID_REVOKED);
		assert_int_equal(verdict(b, &bad, &ca, zoo_now), SVID_OK);
		svid_bundle_unref(b);
	}
}

/* Another key under the issuer's name; with and without a key id that tells them apart. */
static void
forged(void **state)
{
	struct zoo_cert fake = zoo_ca("hud.example", NULL), fake_ca;
	const struct zoo_crl plain = { .number = 7 }, no_id = { .number = 7, .no_key_id = true };
	struct svid_bundle *b = bundle(2, SVID_REV_IF_PRESENT);
	const char *why;

	(void)state;
	fake_ca = zoo_ca("hud.example", &fake);
	assert_int_equal(add_at(b, &plain, &fake_ca, fake_ca.x, zoo_now, &why), -1);
	assert_string_equal(why, "a CRL of a CA that is not in the bundle");
	assert_int_equal(add_at(b, &no_id, &fake_ca, fake_ca.x, zoo_now, &why), -1);
	assert_string_equal(why, "a CRL whose signature is not its issuer's");
	assert_int_equal(count(b), 0);
	svid_bundle_unref(b);
	zoo_free(&fake_ca);
	zoo_free(&fake);
}

static void
numbers(void **state)
{
	const struct zoo_crl five = { .number = 5, .revoked = { 12 } }, four = { .number = 4 }, six = { .number = 6, .from = zoo_now - 7200, .revoked = { 11 } };
	const struct zoo_crl older = { .from = zoo_now - 9000 }, newer = { .from = zoo_now - 60, .revoked = { 12 } };
	struct svid_bundle *b = bundle(2, SVID_REV_IF_PRESENT);
	X509_CRL *crl = zoo_crl(&five, &ca), *both[2];
	char *pem = zoo_crl_pem(&crl, 1, NULL, 0);
	const char *why;

	(void)state;
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), 1);
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), 0);
	assert_int_equal(add(b, &four, &ca), 0);
	assert_int_equal(verdict(b, &bad, &ca, zoo_now), SVID_REVOKED);
	assert_int_equal(add(b, &six, &ca), 1);
	assert_int_equal(verdict(b, &bad, &ca, zoo_now), SVID_OK);
	assert_int_equal(verdict(b, &good, &ca, zoo_now), SVID_REVOKED);
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), 0);
	X509_CRL_free(crl);
	mem_free(pem);

	/* Without numbers the date decides. */
	assert_int_equal(add(b, &older, &root), 1);
	assert_int_equal(add(b, &newer, &root), 1);
	assert_int_equal(add(b, &older, &root), 0);
	svid_bundle_unref(b);

	/* Two of one issuer in one file: the newer, in either order. */
	for (int i = 0; i < 2; i++) {
		b = bundle(2, SVID_REV_IF_PRESENT);
		both[i] = zoo_crl(&five, &ca);
		both[!i] = zoo_crl(&six, &ca);
		pem = zoo_crl_pem(both, 2, NULL, 0);
		assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), 1);
		assert_int_equal(count(b), 1);
		assert_int_equal(verdict(b, &good, &ca, zoo_now), SVID_REVOKED);
		mem_free(pem);
		X509_CRL_free(both[0]);
		X509_CRL_free(both[1]);
		svid_bundle_unref(b);
	}
}

/* One fault, and nothing of the file is taken; an unknown CA's list beside a known one's is no fault. */
static void
files(void **state)
{
	const struct zoo_crl z = { .number = 1, .revoked = { 12 } }, bad_z = { .number = 1, .until = -1 };
	X509_CRL *ours = zoo_crl(&z, &ca), *faulty = zoo_crl(&bad_z, &ca2), *foreign = zoo_crl(&z, &irs_root);
	const char *why, *key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
	struct svid_bundle *b = bundle(3, SVID_REV_IF_PRESENT);
	X509_CRL *two[2] = { ours, faulty };
	char *pem = zoo_crl_pem(two, 2, NULL, 0), *more;

	(void)state;
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), -1);
	assert_string_equal(why, "a CRL without nextUpdate");
	assert_int_equal(count(b), 0);
	mem_free(pem);

	two[1] = foreign;
	pem = zoo_crl_pem(two, 2, &irs_root.x, 1);
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), 1);
	assert_int_equal(count(b), 1);
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), 0);

	more = mem_printf("%s%s", pem, key);
	assert_int_equal(svid_bundle_add_crls(b, more, strlen(more), zoo_now, &why), -1);
	assert_string_equal(why, "a private key where only CRLs belong");
	mem_free(more);
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem) - 30, zoo_now, &why), -1);
	assert_string_equal(why, "damaged PEM");
	assert_int_equal(svid_bundle_add_crls(b, "", 0, zoo_now, &why), -1);
	assert_string_equal(why, "no CRL");
	mem_free(pem);
	pem = zoo_pem(&ca.x, 1);
	assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), -1);
	assert_string_equal(why, "no CRL");
	mem_free(pem);
	pem = mem_zalloc(SVID_CRL_MAX + 1);
	assert_int_equal(svid_bundle_add_crls(b, pem, SVID_CRL_MAX + 1, zoo_now, &why), -1);
	assert_string_equal(why, "larger than 4 MiB");
	assert_int_equal(svid_bundle_add_crls(b, pem, SVID_CRL_MAX, zoo_now, &why), -1);
	assert_string_equal(why, "no CRL");
	mem_free(pem);
	svid_bundle_unref(b);
	X509_CRL_free(ours);
	X509_CRL_free(faulty);
	X509_CRL_free(foreign);
}

/* Every octet of a list flipped once: never taken. */
static void
damaged(void **state)
{
	const struct zoo_crl z = { .number = 1, .revoked = { 12 } };
	struct svid_bundle *b = bundle(2, SVID_REV_IF_PRESENT);
	X509_CRL *crl = zoo_crl(&z, &ca);
	unsigned char *der = NULL;
	int len = i2d_X509_CRL(crl, &der);

	(void)state;
	for (int i = 0; i < len; i++) {
		const char *why;
		char b64[4096], *pem;

		der[i] ^= 0x20;
		EVP_EncodeBlock((unsigned char *)b64, der, len);
		pem = mem_printf("-----BEGIN X509 CRL-----\n%s\n-----END X509 CRL-----\n", b64);
		assert_int_equal(svid_bundle_add_crls(b, pem, strlen(pem), zoo_now, &why), -1);
		assert_int_equal(ERR_peek_error(), 0);
		mem_free(pem);
		der[i] ^= 0x20;
	}
	assert_int_equal(count(b), 0);
	OPENSSL_free(der);
	X509_CRL_free(crl);
	svid_bundle_unref(b);
}

static void
until(void **state)
{
	const struct zoo_crl one = { .number = 1, .until = zoo_now + 5 * DAY }, two = { .number = 1, .until = zoo_now + 3 * DAY };
	const struct zoo_crl roots = { .number = 1, .until = zoo_now + DAY };
	struct svid_bundle *b = bundle(3, SVID_REV_REQUIRED);

	(void)state;
	assert_int_equal(svid_bundle_crl_until(b), 0);
	assert_false(svid_bundle_crl_in_force(b, zoo_now));
	assert_int_equal(add(b, &roots, &root), 1);
	assert_int_equal(svid_bundle_crl_until(b), 0);
	assert_false(svid_bundle_crl_in_force(b, zoo_now));
	assert_int_equal(add(b, &one, &ca), 1);
	assert_int_equal(svid_bundle_crl_until(b), zoo_now + 5 * DAY);
	assert_int_equal(add(b, &two, &ca2), 1);
	assert_int_equal(svid_bundle_crl_until(b), zoo_now + 3 * DAY);
	assert_true(svid_bundle_crl_in_force(b, zoo_now + 4 * DAY));
	assert_false(svid_bundle_crl_in_force(b, zoo_now + 5 * DAY));
	svid_bundle_set_revocation(b, SVID_REV_IF_PRESENT);
	assert_true(svid_bundle_crl_until(b) == INT64_MAX);
	assert_true(svid_bundle_crl_in_force(b, zoo_now + 5 * DAY));
	svid_bundle_unref(b);

	/* A domain whose root issues to workloads itself. */
	b = bundle(1, SVID_REV_REQUIRED);
	assert_int_equal(add(b, &roots, &root), 1);
	assert_int_equal(svid_bundle_crl_until(b), zoo_now + DAY);
	svid_bundle_unref(b);
}

static void
on_crl(void *ctx, const struct svid_crl *c)
{
	struct svid_crl *last = ctx;

	if (strstr(c->issuer, "issuing CA 2") == NULL)
		return;
	*last = *c;
	last->issuer = NULL;
	assert_string_equal(c->number, "0102");
	last->number = NULL;
}

/* What is written is read again by a bundle with the root alone; a new bundle inherits what its CAs signed. */
static void
there_and_back(void **state)
{
	const struct zoo_crl z = { .number = 0x102, .revoked = { 13, 14 } };
	struct svid_bundle *a = bundle(3, SVID_REV_REQUIRED), *b = bundle(1, SVID_REV_REQUIRED), *c = bundle(1, SVID_REV_REQUIRED);
	char *irs = zoo_pem(&irs_root.x, 1), *pem;
	uint8_t da[32], db[32];
	struct svid_crl seen;
	const char *why;
	struct svid_bundle *stranger = svid_bundle_new("irs.example", irs, &why);
	size_t len;

	(void)state;
	assert_null(svid_bundle_crls_pem(a, &len));
	assert_int_equal(add(a, &z, &ca2), 1);
	assert_int_equal(verdict(a, &other, &ca2, zoo_now), SVID_REVOKED); /* the look-up sorts; its octets stay what was signed */
	assert_int_equal(add(a, &z, &ca), 1);
	pem = svid_bundle_crls_pem(a, &len);
	assert_int_equal(strlen(pem), len);
	assert_int_equal(svid_crl_pem_each(pem, len, on_crl, &seen, &why), 2);
	assert_int_equal(seen.revoked, 2);
	assert_false(seen.root);
	assert_int_equal(seen.next_update, zoo_now + DAY);
	assert_int_equal(svid_bundle_add_crls(b, pem, len, zoo_now, &why), 1);
	assert_int_equal(verdict(b, &other, &ca2, zoo_now), SVID_REVOKED);
	assert_int_equal(verdict(b, &good, &ca, zoo_now), SVID_OK);
	assert_true(svid_bundle_crls_digest(a, da) && svid_bundle_crls_digest(b, db));
	assert_memory_equal(da, db, 32);
	svid_bundle_inherit_crls(c, b, zoo_now);
	assert_true(svid_bundle_crls_digest(c, db));
	assert_memory_equal(da, db, 32);
	memset(&seen, 0, sizeof(seen));
	svid_bundle_crl_each(c, on_crl, &seen);
	assert_int_equal(seen.revoked, 2);
	svid_bundle_inherit_crls(stranger, b, zoo_now);
	assert_int_equal(count(stranger), 0);
	svid_bundle_unref(a);
	svid_bundle_unref(b);
	svid_bundle_unref(c);
	svid_bundle_unref(stranger);
	mem_free(pem);
	mem_free(irs);
}

/* An issuer that the file brings along: it must chain to the bundle, be of its domain, and be valid now. */
static void
issuers_in_files(void **state)
{
	const struct zoo_crl z = { .number = 1 };
	const struct zoo past = { .ca = true, .cn = "old", .from = zoo_now - 90 * DAY, .until = zoo_now - DAY };
	const struct zoo irs = { .ca = true, .cn = "a CA of the irs", .san = { { GEN_URI, "spiffe://irs.example", 0 } } };
	const struct zoo leaf = { .cn = "a leaf", .ku = "critical,digitalSignature,cRLSign", .san = { { GEN_URI, "spiffe://hud.example/a", 0 } } };
	struct zoo_cert old = zoo_make(&past, &root), foreign = zoo_make(&irs, &root), sneaky = zoo_make(&leaf, &ca);
	const struct zoo_cert *wrong[] = { &old, &foreign, &sneaky, &irs_root };
	struct svid_bundle *b = bundle(1, SVID_REV_IF_PRESENT);
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(add_at(b, &z, wrong[i], wrong[i]->x, zoo_now, &why), -1);
		assert_string_equal(why, "a CRL of a CA that is not in the bundle");
	}
	assert_int_equal(add_at(b, &z, &ca2, ca2.x, zoo_now, &why), 1);
	svid_bundle_unref(b);
	zoo_free(&old);
	zoo_free(&foreign);
	zoo_free(&sneaky);
}

/* 100,000 entries fit; what would outgrow the limit of a file together with what is known does not. */
static void
large(void **state)
{
	const struct zoo_crl big = { .number = 1, .many = 100000 }, big2 = { .number = 2, .many = 100000, .revoked = { 12 } };
	struct svid_bundle *b = bundle(3, SVID_REV_REQUIRED);
	const char *why;

	(void)state;
	assert_int_equal(add(b, &big, &ca), 1);
	assert_int_equal(verdict(b, &bad, &ca, zoo_now), SVID_OK);
	assert_int_equal(add_at(b, &big, &ca2, NULL, zoo_now, &why), -1);
	assert_string_equal(why, "more than 4 MiB with the CRLs that are known");
	assert_int_equal(add(b, &big2, &ca), 1); /* in the place of the first */
	assert_int_equal(verdict(b, &bad, &ca, zoo_now), SVID_REVOKED);
	svid_bundle_unref(b);
}

static void
same_cas(void **state)
{
	struct svid_bundle *a = bundle(2, 0), *b = bundle(2, SVID_REV_REQUIRED), *c = bundle(3, 0);
	X509 *turned[] = { ca.x, root.x };
	char *pem = zoo_pem(turned, 2);
	const char *why;
	struct svid_bundle *d = svid_bundle_new("hud.example", pem, &why);

	(void)state;
	assert_true(svid_bundle_same_cas(a, b));
	assert_true(svid_bundle_same_cas(a, d));
	assert_false(svid_bundle_same_cas(a, c));
	assert_false(svid_bundle_same_cas(c, a));
	svid_bundle_unref(a);
	svid_bundle_unref(b);
	svid_bundle_unref(c);
	svid_bundle_unref(d);
	mem_free(pem);
}

/* Two CAs of one name, as after a new key: what each revoked is its own. */
static void
twins(void **state)
{
	const struct zoo z = { .ca = true, .cn = "twin" }, leaf = LEAF(12);
	struct zoo_cert t1 = zoo_make(&z, &root), t2 = zoo_make(&z, &root), l1, l2;
	const struct zoo_crl none = { .number = 1 }, its = { .number = 1, .revoked = { 12 } };
	struct svid_bundle *b = bundle(1, SVID_REV_REQUIRED);
	const char *why;

	(void)state;
	l1 = zoo_make(&leaf, &t1);
	l2 = zoo_make(&leaf, &t2);
	assert_int_equal(add_at(b, &none, &t1, t1.x, zoo_now, &why), 1);
	assert_int_equal(add_at(b, &its, &t2, t2.x, zoo_now, &why), 1);
	assert_int_equal(verdict(b, &l1, &t1, zoo_now), SVID_OK);
	assert_int_equal(verdict(b, &l2, &t2, zoo_now), SVID_REVOKED);
	svid_bundle_unref(b);
	zoo_free(&l1);
	zoo_free(&l2);
	zoo_free(&t1);
	zoo_free(&t2);
}

/* A leaf that looks like its own issuer is looked up all the same. */
static void
self_styled(void **state)
{
	const struct zoo leaf = { .cn = "hud.example issuing CA", .serial = 12, .san = { { GEN_URI, "spiffe://hud.example/permit-svc", 0 } } };
	const struct zoo_crl z = { .number = 1, .revoked = { 12 } };
	struct zoo_cert c = zoo_make(&leaf, &ca);
	struct svid_bundle *b = bundle(2, SVID_REV_REQUIRED);
	unsigned char *p = NULL;
	struct svid_der der;
	X509_EXTENSION *e = X509_delete_ext(c.x, X509_get_ext_by_NID(c.x, NID_subject_key_identifier, -1));

	(void)state;
	X509_EXTENSION_free(e);
	assert_true(X509_sign(c.x, ca.key, EVP_sha256()) > 0);
	der.len = (size_t)i2d_X509(c.x, &p);
	der.p = p;
	assert_int_equal(svid_recheck_der(&der, 1, b, zoo_now), SVID_NO_CRL);
	assert_int_equal(add(b, &z, &ca), 1);
	assert_int_equal(svid_recheck_der(&der, 1, b, zoo_now), SVID_REVOKED);
	OPENSSL_free(p);
	svid_bundle_unref(b);
	zoo_free(&c);
}

/* What came along: an older certificate of the same CA, and rubbish. */
static void
strange_company(void **state)
{
	const struct zoo past = { .ca = true, .cn = "hud.example issuing CA", .key = ZOO_FIXED, .from = zoo_now - 90 * DAY, .until = zoo_now - DAY };
	const struct zoo now = { .ca = true, .cn = "hud.example issuing CA", .key = ZOO_FIXED, .until = zoo_now + DAY };
	const struct zoo leaf_z = LEAF(5);
	struct zoo_cert old = zoo_make(&past, &root), new = zoo_make(&now, &root), leaf = zoo_make(&leaf_z, &new);
	struct svid_bundle *b = bundle(1, SVID_REV_IF_PRESENT);
	X509 *of[] = { leaf.x, old.x, new.x };
	unsigned char *p[3] = { NULL, NULL, NULL };
	struct svid_der der[4];

	(void)state;
	for (int i = 0; i < 3; i++) {
		der[i].len = (size_t)i2d_X509(of[i], &p[i]);
		der[i].p = p[i];
	}
	der[3] = (struct svid_der){ (const uint8_t *)"junk", 4 };
	assert_int_equal(svid_recheck_der(der, 4, b, zoo_now), SVID_OK);
	assert_int_equal(svid_recheck_der(der, 2, b, zoo_now), SVID_EXPIRED);
	assert_int_equal(svid_recheck_der(der, 4, b, zoo_now + 2 * DAY), SVID_EXPIRED);
	assert_int_equal(svid_recheck_der(der + 3, 1, b, zoo_now), SVID_MALFORMED);
	for (int i = 0; i < 3; i++)
		OPENSSL_free(p[i]);
	svid_bundle_unref(b);
	zoo_free(&leaf);
	zoo_free(&old);
	zoo_free(&new);
}

static void
malformed_chains(void **state)
{
	struct svid_bundle *b = bundle(2, SVID_REV_REQUIRED);
	const struct svid_der junk[2] = { { (const uint8_t *)"\x30\x03junk", 6 }, { (const uint8_t *)"", 0 } };

	(void)state;
	assert_int_equal(svid_recheck_der(junk, 1, b, zoo_now), SVID_MALFORMED);
	assert_int_equal(svid_recheck_der(junk + 1, 1, b, zoo_now), SVID_MALFORMED);
	assert_int_equal(svid_recheck_der(junk, 0, b, zoo_now), SVID_MALFORMED);
	assert_int_equal(ERR_peek_error(), 0);
	svid_bundle_unref(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(revoked),
		cmocka_unit_test(ca_revoked),
		cmocka_unit_test(reasons),
		cmocka_unit_test(refused),
		cmocka_unit_test(forged),
		cmocka_unit_test(numbers),
		cmocka_unit_test(files),
		cmocka_unit_test(damaged),
		cmocka_unit_test(until),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(issuers_in_files),
		cmocka_unit_test(large),
		cmocka_unit_test(same_cas),
		cmocka_unit_test(twins),
		cmocka_unit_test(self_styled),
		cmocka_unit_test(strange_company),
		cmocka_unit_test(malformed_chains),
	};

	return cmocka_run_group_tests_name("pki/svid_crl", tests, setup, teardown);
}
