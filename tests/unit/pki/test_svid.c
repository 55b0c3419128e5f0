/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zoo of certificates against svid_verify: each wrong one is refused for its own reason, by X509 and by DER.
 * Two domains, hud.example and irs.example, each with a root and an issuing CA.
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
#define ID "spiffe://hud.example/permit-svc"
#define GOOD_ID { GEN_URI, ID, 0 }

static struct zoo_cert hud_root, hud_ca, irs_root, irs_ca;
static struct svid_bundle *bundles[2];

static struct svid_bundle *
bundle_of(const char *domain, X509 *const *certs, size_t n)
{
	char *pem = zoo_pem(certs, n);
	const char *why = NULL;
	struct svid_bundle *b = svid_bundle_new(domain, pem, &why);

	if (b == NULL)
		print_error("%s: %s\n", domain, why);
	assert_non_null(b);
	mem_free(pem);
	return b;
}

static int
setup(void **state)
{
	(void)state;
	hud_root = zoo_ca("hud.example", NULL);
	hud_ca = zoo_ca("hud.example", &hud_root);
	irs_root = zoo_ca("irs.example", NULL);
	irs_ca = zoo_ca("irs.example", &irs_root);
	bundles[0] = bundle_of("hud.example", &hud_root.x, 1);
	bundles[1] = bundle_of("irs.example", &irs_root.x, 1);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	zoo_free(&hud_root);
	zoo_free(&hud_ca);
	zoo_free(&irs_root);
	zoo_free(&irs_ca);
	svid_bundle_unref(bundles[0]);
	svid_bundle_unref(bundles[1]);
	return 0;
}

/* Both entry points must say the same; OpenSSL's error queue must be as it was. */
static enum svid_reason
verify_at(X509 *const *chain, size_t n, enum svid_purpose purpose, int64_t now, struct svid_info *info, const char **detail)
{
	struct svid_der der[SVID_MAX_CHAIN + 1];
	unsigned char *enc[SVID_MAX_CHAIN + 1] = { NULL };
	struct svid_info *again = mem_zalloc(sizeof(*again));
	enum svid_reason r, r2;

	assert_true(n <= SVID_MAX_CHAIN + 1);
	for (size_t i = 0; i < n; i++) {
		int len = i2d_X509(chain[i], &enc[i]);

		assert_true(len > 0);
		der[i].p = enc[i];
		der[i].len = (size_t)len;
	}
	r2 = svid_verify_der(der, n, bundles, 2, purpose, now, again, NULL);
	r = svid_verify(chain, n, bundles, 2, purpose, now, info, detail);
	if (r2 != SVID_MALFORMED && r2 != SVID_CHAIN_TOO_LONG) {
		assert_int_equal(r, r2);
		assert_memory_equal(info, again, sizeof(*info));
	}
	assert_int_equal(ERR_peek_error(), 0);
	for (size_t i = 0; i < n; i++)
		OPENSSL_free(enc[i]);
	mem_free(again);
	return r;
}

static enum svid_reason
verify_leaf(X509 *leaf, X509 *ca, enum svid_purpose purpose, const char **detail)
{
	X509 *chain[2] = { leaf, ca };
	struct svid_info *info = mem_zalloc(sizeof(*info));
	enum svid_reason r = verify_at(chain, 2, purpose, zoo_now, info, detail);

	mem_free(info);
	return r;
}

static void
good(void **state)
{
	static const struct {
		const char *what;
		struct zoo z;
	} rows[] = {
		{ "plain", { .cn = "permit", .san = { GOOD_ID } } },
		{ "with DNS names beside", { .cn = "permit", .san = { { GEN_DNS, "permit.hud.svc", 0 }, GOOD_ID, { GEN_DNS, "*.x.example", 0 } } } },
		{ "no EKU (X509-SVID 4.4: should)", { .cn = "permit", .eku = "", .san = { GOOD_ID } } },
		{ "empty subject", { .san = { GOOD_ID } } },
		{ "no basicConstraints", { .cn = "permit", .bc = "", .san = { GOOD_ID } } },
		{ "keyUsage not critical", { .cn = "permit", .ku = "digitalSignature,keyEncipherment", .san = { GOOD_ID } } },
		{ "P-384", { .cn = "permit", .key = ZOO_P384, .san = { GOOD_ID } } },
		{ "Ed25519", { .cn = "permit", .key = ZOO_ED25519, .san = { GOOD_ID } } },
		{ "RSA 2048", { .cn = "permit", .key = ZOO_RSA2048, .san = { GOOD_ID } } },
		{ "SHA-384", { .cn = "permit", .digest = "SHA384", .san = { GOOD_ID } } },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct zoo_cert c = zoo_make(&rows[i].z, &hud_ca);

		for (enum svid_purpose p = SVID_CLIENT; p <= SVID_ANY; p++) {
			const char *detail = "x";
			enum svid_reason r = verify_leaf(c.x, hud_ca.x, p, &detail);

			if (r != SVID_OK)
				print_error("%s: %s (%s)\n", rows[i].what, svid_reason_text(r), detail);
			assert_int_equal(r, SVID_OK);
			assert_null(detail);
		}
		zoo_free(&c);
	}
}

static char long_id[SPIFFE_ID_MAX + 2];

static void
refused_leaves(void **state)
{
	static const uint8_t garbage[] = { 0x30, 0x03, 0x02, 0x01 };
	static const struct {
		const char *what;
		struct zoo z;
		enum svid_reason want;
	} rows[] = {
		/* case 43 */
		{ "server only, as client", { .cn = "a", .eku = "serverAuth", .san = { GOOD_ID } }, SVID_EKU },
		{ "code signing", { .cn = "a", .eku = "codeSigning", .san = { GOOD_ID } }, SVID_EKU },
		{ "any EKU is neither", { .cn = "a", .eku = "anyExtendedKeyUsage", .san = { GOOD_ID } }, SVID_EKU },
		/* case 44 */
		{ "two URIs", { .cn = "a", .san = { GOOD_ID, { GEN_URI, "spiffe://hud.example/b", 0 } } }, SVID_TWO_URI_SANS },
		{ "the same URI twice", { .cn = "a", .san = { GOOD_ID, GOOD_ID } }, SVID_TWO_URI_SANS },
		{ "a second URI of another scheme", { .cn = "a", .san = { GOOD_ID, { GEN_DNS, "x", 0 }, { GEN_URI, "https://x.example/", 0 } } }, SVID_TWO_URI_SANS },
		{ "two SAN extensions", { .cn = "a", .san = { GOOD_ID }, .more = { { .nid = NID_subject_alt_name, .value = "URI:spiffe://hud.example/b" } } }, SVID_MALFORMED },
		/* case 45 */
		{ "NUL in the id", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/permit\0.evil", 32 } } }, SVID_BAD_ID },
		{ "NUL at the end", { .cn = "a", .san = { { GEN_URI, ID "\0", sizeof(ID) } } }, SVID_BAD_ID },
		{ "NUL after the domain", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example\0/x", 23 } } }, SVID_BAD_ID },
		{ "NUL in a DNS name beside", { .cn = "a", .san = { GOOD_ID, { GEN_DNS, "good.example\0.evil", 18 } } }, SVID_BAD_ID },
		{ "Latin-1 in a DNS name beside", { .cn = "a", .san = { GOOD_ID, { GEN_DNS, "gr\xfcn.example", 0 } } }, SVID_BAD_ID },
		{ "UTF-8 in the id", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/gr\xc3\xbcn", 0 } } }, SVID_BAD_ID },
		{ "a newline", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/a\nb", 0 } } }, SVID_BAD_ID },
		{ "a SAN that is no DER", { .cn = "a", .more = { { .nid = NID_subject_alt_name, .der = garbage, .der_len = sizeof(garbage) } } }, SVID_MALFORMED },
		/* case 46 */
		{ "upper-case host", { .cn = "a", .san = { { GEN_URI, "spiffe://HUD.example/x", 0 } } }, SVID_BAD_ID },
		{ "upper-case scheme", { .cn = "a", .san = { { GEN_URI, "SPIFFE://hud.example/x", 0 } } }, SVID_BAD_ID },
		{ "port", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example:99/x", 0 } } }, SVID_BAD_ID },
		{ "userinfo", { .cn = "a", .san = { { GEN_URI, "spiffe://a@hud.example/x", 0 } } }, SVID_BAD_ID },
		{ "percent", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/%41", 0 } } }, SVID_BAD_ID },
		{ "trailing slash", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/x/", 0 } } }, SVID_BAD_ID },
		{ "dot segment", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/x/../y", 0 } } }, SVID_BAD_ID },
		{ "query", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/x?y", 0 } } }, SVID_BAD_ID },
		{ "fragment", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example/x#y", 0 } } }, SVID_BAD_ID },
		{ "2049 octets", { .cn = "a", .san = { { GEN_URI, long_id, 0 } } }, SVID_BAD_ID },
		{ "no path: the domain's own id", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example", 0 } } }, SVID_BAD_ID },
		{ "another scheme", { .cn = "a", .san = { { GEN_URI, "https://hud.example/x", 0 } } }, SVID_BAD_ID },
		/* case 47 */
		{ "DNS name only", { .cn = "a", .san = { { GEN_DNS, "hud.example", 0 } } }, SVID_NO_URI_SAN },
		{ "an id as DNS name", { .cn = "a", .san = { { GEN_DNS, ID, 0 } } }, SVID_NO_URI_SAN },
		{ "CN only", { .cn = "spiffe://hud.example/x" }, SVID_NO_URI_SAN },
		/* case 49 */
		{ "CA leaf", { .cn = "a", .ca = true, .san = { GOOD_ID } }, SVID_CA_LEAF },
		{ "CA by basicConstraints alone", { .cn = "a", .bc = "critical,CA:TRUE", .san = { GOOD_ID } }, SVID_CA_LEAF },
		{ "keyCertSign without CA", { .cn = "a", .ku = "critical,digitalSignature,keyCertSign", .san = { GOOD_ID } }, SVID_CA_LEAF },
		{ "cRLSign without CA", { .cn = "a", .ku = "critical,digitalSignature,cRLSign", .san = { GOOD_ID } }, SVID_CA_LEAF },
		/* case 52 */
		{ "expired", { .cn = "a", .from = 1700000000, .until = 1800000000 - 1, .san = { GOOD_ID } }, SVID_EXPIRED },
		{ "not yet valid", { .cn = "a", .from = 1800000000 + 1, .until = 1800000000 + DAY, .san = { GOOD_ID } }, SVID_NOT_YET_VALID },
		/* the rest */
		{ "no keyUsage", { .cn = "a", .ku = "", .san = { GOOD_ID } }, SVID_KEY_USAGE },
		{ "no digitalSignature", { .cn = "a", .ku = "critical,keyEncipherment", .san = { GOOD_ID } }, SVID_KEY_USAGE },
		{ "unknown domain", { .cn = "a", .san = { { GEN_URI, "spiffe://doe.example/x", 0 } } }, SVID_UNKNOWN_DOMAIN },
		{ "a domain that only starts the same", { .cn = "a", .san = { { GEN_URI, "spiffe://hud.example.evil/x", 0 } } }, SVID_UNKNOWN_DOMAIN },
		{ "RSA 1024", { .cn = "a", .key = ZOO_RSA1024, .san = { GOOD_ID } }, SVID_WEAK_KEY },
		{ "secp256k1", { .cn = "a", .key = ZOO_SECP256K1, .san = { GOOD_ID } }, SVID_WEAK_KEY },
		{ "Ed448", { .cn = "a", .key = ZOO_ED448, .san = { GOOD_ID } }, SVID_WEAK_KEY },
		{ "SHA-1", { .cn = "a", .digest = "SHA1", .san = { GOOD_ID } }, SVID_WEAK_KEY },
		{ "broken keyUsage", { .cn = "a", .ku = "", .san = { GOOD_ID }, .more = { { .nid = NID_key_usage, .der = garbage, .der_len = 4 } } }, SVID_MALFORMED },
		{ "EKU twice", { .cn = "a", .san = { GOOD_ID }, .more = { { .nid = NID_ext_key_usage, .value = "codeSigning" } } }, SVID_MALFORMED },
		{ "unknown critical extension", { .cn = "a", .san = { GOOD_ID }, .more = { { .nid = NID_inhibit_any_policy, .value = "critical,2" }, { .nid = NID_issuer_alt_name, .value = "critical,DNS:x" } } }, SVID_OTHER },
	};
	(void)state;

	memset(long_id, 'a', SPIFFE_ID_MAX + 1);
	memcpy(long_id, "spiffe://hud.example/", 21);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct zoo_cert c = zoo_make(&rows[i].z, &hud_ca);
		const char *detail = NULL;
		enum svid_reason r = verify_leaf(c.x, hud_ca.x, SVID_CLIENT, &detail);

		if (r != rows[i].want || detail == NULL)
			print_error("%s: %s (%s), expected %s\n", rows[i].what, svid_reason_text(r), detail ? detail : "-",
			    svid_reason_text(rows[i].want));
		assert_int_equal(r, rows[i].want);
		assert_non_null(detail);
		zoo_free(&c);
	}
}

/* What only the asked-for direction decides. */
static void
purposes(void **state)
{
	const struct zoo zs = { .cn = "a", .eku = "serverAuth", .san = { GOOD_ID } };
	const struct zoo zc = { .cn = "a", .eku = "clientAuth", .san = { GOOD_ID } };
	struct zoo_cert s = zoo_make(&zs, &hud_ca), c = zoo_make(&zc, &hud_ca);
	(void)state;

	assert_int_equal(verify_leaf(s.x, hud_ca.x, SVID_SERVER, NULL), SVID_OK);
	assert_int_equal(verify_leaf(s.x, hud_ca.x, SVID_CLIENT, NULL), SVID_EKU);
	assert_int_equal(verify_leaf(c.x, hud_ca.x, SVID_SERVER, NULL), SVID_EKU);
	assert_int_equal(verify_leaf(c.x, hud_ca.x, SVID_CLIENT, NULL), SVID_OK);
	zoo_free(&s);
	zoo_free(&c);
}

/* case 48: the other domain's CA, with and without constraints of its own, signs our id. */
static void
other_domain(void **state)
{
	const struct zoo leaf = { .cn = "a", .san = { GOOD_ID } };
	const struct zoo free_root = { .cn = "irs.example free root", .ca = true };
	struct zoo_cert unconstrained = zoo_make(&free_root, NULL), a, b;
	struct svid_bundle *saved = bundles[1];
	X509 *both[2] = { irs_root.x, unconstrained.x };
	const char *detail = NULL;
	(void)state;

	bundles[1] = bundle_of("irs.example", both, 2);
	a = zoo_make(&leaf, &irs_ca);
	b = zoo_make(&leaf, &unconstrained);
	assert_int_equal(verify_leaf(a.x, irs_ca.x, SVID_CLIENT, &detail), SVID_UNTRUSTED);
	assert_string_equal(detail, "signed by a CA of another domain");
	assert_int_equal(verify_leaf(b.x, unconstrained.x, SVID_CLIENT, &detail), SVID_UNTRUSTED);
	assert_string_equal(detail, "signed by a CA of another domain");
	zoo_free(&a);
	zoo_free(&b);
	zoo_free(&unconstrained);
	svid_bundle_unref(bundles[1]);
	bundles[1] = saved;
}

/* CAs between: constraints, ids, strength, purpose. All signed by a root of hud.example without constraints. */
static void
intermediate_rules(void **state)
{
	static const struct {
		const char *what;
		struct zoo z;
		enum svid_reason want;
	} rows[] = {
		{ "unconstrained", { .cn = "i", .ca = true }, SVID_OK },
		{ "own domain", { .cn = "i", .ca = true, .nc = "critical,permitted;URI:hud.example" }, SVID_OK },
		{ "own domain among others", { .cn = "i", .ca = true, .nc = "critical,permitted;URI:irs.example,permitted;URI:hud.example" }, SVID_OK },
		{ "a suffix", { .cn = "i", .ca = true, .nc = "critical,permitted;URI:.example" }, SVID_OK },
		{ "DNS constraints only", { .cn = "i", .ca = true, .nc = "critical,permitted;DNS:hud.example" }, SVID_OK },
		{ "another domain", { .cn = "i", .ca = true, .nc = "critical,permitted;URI:irs.example" }, SVID_NAME_CONSTRAINTS },
		{ "below the domain only", { .cn = "i", .ca = true, .nc = "critical,permitted;URI:.hud.example" }, SVID_NAME_CONSTRAINTS },
		{ "excluded", { .cn = "i", .ca = true, .nc = "critical,excluded;URI:hud.example" }, SVID_NAME_CONSTRAINTS },
		{ "excluded by suffix", { .cn = "i", .ca = true, .nc = "critical,excluded;URI:.example" }, SVID_NAME_CONSTRAINTS },
		{ "id of the domain", { .cn = "i", .ca = true, .san = { { GEN_URI, "spiffe://hud.example", 0 } } }, SVID_OK },
		{ "https URI", { .cn = "i", .ca = true, .san = { { GEN_URI, "https://hud.example/ca", 0 } } }, SVID_OK },
		{ "id of another domain", { .cn = "i", .ca = true, .san = { { GEN_URI, "spiffe://irs.example", 0 } } }, SVID_UNTRUSTED },
		{ "id with a path", { .cn = "i", .ca = true, .san = { { GEN_URI, "spiffe://hud.example/x", 0 } } }, SVID_UNTRUSTED },
		{ "expired", { .cn = "i", .ca = true, .from = 1700000000, .until = 1799999999 }, SVID_EXPIRED },
		{ "not yet valid", { .cn = "i", .ca = true, .from = 1800000001, .until = 1900000000 }, SVID_NOT_YET_VALID },
		{ "not a CA", { .cn = "i", .ku = "critical,digitalSignature,keyCertSign", .bc = "critical,CA:FALSE" }, SVID_UNTRUSTED },
		{ "no keyCertSign", { .cn = "i", .ca = true, .ku = "critical,cRLSign" }, SVID_UNTRUSTED },
		{ "EKU for something else", { .cn = "i", .ca = true, .eku = "codeSigning" }, SVID_EKU },
		{ "RSA 1024", { .cn = "i", .ca = true, .key = ZOO_RSA1024 }, SVID_WEAK_KEY },
		{ "secp256k1", { .cn = "i", .ca = true, .key = ZOO_SECP256K1 }, SVID_WEAK_KEY },
		{ "SHA-1", { .cn = "i", .ca = true, .digest = "SHA1" }, SVID_WEAK_KEY },
	};
	const struct zoo root_z = { .cn = "hud free root", .ca = true }, leaf_z = { .cn = "a", .san = { GOOD_ID } };
	struct zoo_cert root = zoo_make(&root_z, NULL);
	struct svid_bundle *saved = bundles[0];
	(void)state;

	bundles[0] = bundle_of("hud.example", &root.x, 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct zoo_cert ca = zoo_make(&rows[i].z, &root), leaf = zoo_make(&leaf_z, &ca);
		const char *detail = "";
		enum svid_reason r = verify_leaf(leaf.x, ca.x, SVID_CLIENT, &detail);

		if (r != rows[i].want)
			print_error("%s: %s (%s), expected %s\n", rows[i].what, svid_reason_text(r), detail ? detail : "-",
			    svid_reason_text(rows[i].want));
		assert_int_equal(r, rows[i].want);
		zoo_free(&leaf);
		zoo_free(&ca);
	}
	zoo_free(&root);
	svid_bundle_unref(bundles[0]);
	bundles[0] = saved;
}

static void
paths(void **state)
{
	const struct zoo z0 = { .cn = "i0", .ca = true, .bc = "critical,CA:TRUE,pathlen:0" }, z1 = { .cn = "i1", .ca = true };
	const struct zoo leaf_z = { .cn = "a", .san = { GOOD_ID } }, self_z = { .cn = "a", .san = { GOOD_ID } };
	struct zoo_cert i0 = zoo_make(&z0, &hud_root), i1 = zoo_make(&z1, &i0), deep = zoo_make(&leaf_z, &i1);
	struct zoo_cert leaf = zoo_make(&leaf_z, &hud_ca), self = zoo_make(&self_z, NULL), below = zoo_make(&leaf_z, &leaf);
	struct svid_info *info = mem_zalloc(sizeof(*info));
	(void)state;

	assert_int_equal(verify_at((X509 *[]){ deep.x, i1.x, i0.x }, 3, SVID_CLIENT, zoo_now, info, NULL), SVID_UNTRUSTED); /* pathlen */
	assert_int_equal(verify_at((X509 *[]){ leaf.x }, 1, SVID_CLIENT, zoo_now, info, NULL), SVID_UNTRUSTED); /* issuing CA not sent */
	assert_int_equal(verify_at((X509 *[]){ leaf.x, hud_ca.x, hud_root.x }, 3, SVID_CLIENT, zoo_now, info, NULL), SVID_OK); /* root sent too */
	assert_int_equal(verify_at((X509 *[]){ leaf.x, irs_ca.x, hud_ca.x }, 3, SVID_CLIENT, zoo_now, info, NULL), SVID_OK); /* any order */
	assert_int_equal(verify_at((X509 *[]){ self.x }, 1, SVID_CLIENT, zoo_now, info, NULL), SVID_UNTRUSTED); /* self-signed */
	assert_int_equal(verify_at((X509 *[]){ below.x, leaf.x, hud_ca.x }, 3, SVID_CLIENT, zoo_now, info, NULL), SVID_UNTRUSTED); /* a leaf signs */
	assert_int_equal(verify_at(NULL, 0, SVID_CLIENT, zoo_now, info, NULL), SVID_NO_CERTIFICATE);
	zoo_free(&i0);
	zoo_free(&i1);
	zoo_free(&deep);
	zoo_free(&leaf);
	zoo_free(&self);
	zoo_free(&below);
	mem_free(info);
}

/* What a caller learns, of a good chain and of a bad one. */
static void
info_fields(void **state)
{
	const struct zoo ca_z = { .cn = "short-lived", .ca = true, .until = 1800000000 + 600 };
	const struct zoo leaf_z = { .cn = "a", .san = { GOOD_ID }, .serial = 0xabcdef };
	struct zoo_cert ca = zoo_make(&ca_z, &hud_root), leaf = zoo_make(&leaf_z, &ca);
	struct svid_info *info = mem_zalloc(sizeof(*info));
	uint8_t want[32];
	X509 *chain[2] = { leaf.x, ca.x };
	(void)state;

	assert_int_equal(verify_at(chain, 2, SVID_CLIENT, zoo_now, info, NULL), SVID_OK);
	assert_string_equal(info->id, ID);
	assert_string_equal(info->domain, "hud.example");
	assert_string_equal(info->serial, "abcdef");
	assert_int_equal(info->not_before, zoo_now - 3600);
	assert_int_equal(info->not_after, zoo_now + 600); /* the CA's, not the leaf's */
	X509_digest(leaf.x, EVP_sha256(), want, NULL);
	assert_memory_equal(info->sha256, want, 32);
	assert_int_equal(verify_at(chain, 2, SVID_CLIENT, zoo_now + 601, info, NULL), SVID_EXPIRED);
	assert_string_equal(info->id, ID);
	/* RFC 5280 4.1.2.5 counts notAfter itself in; OpenSSL 3.0 is a second stricter. */
	assert_int_equal(verify_at((X509 *[]){ leaf.x, ca.x }, 2, SVID_CLIENT, zoo_now + 599, info, NULL), SVID_OK);
	assert_int_equal(verify_at((X509 *[]){ leaf.x, ca.x }, 2, SVID_CLIENT, zoo_now - 3601, info, NULL), SVID_NOT_YET_VALID);
	zoo_free(&leaf);
	zoo_free(&ca);
	mem_free(info);
}

/* case 59 */
static void
too_large(void **state)
{
	const struct zoo leaf_z = { .cn = "a", .san = { GOOD_ID } }, fat_z = { .cn = "fat", .ca = true, .padding = SVID_MAX_BYTES };
	struct zoo_cert leaf = zoo_make(&leaf_z, &hud_ca), fat = zoo_make(&fat_z, &hud_root);
	struct svid_info *info = mem_zalloc(sizeof(*info));
	struct svid_der der[2] = { { (const uint8_t *)"", SIZE_MAX }, { (const uint8_t *)"", SIZE_MAX } };
	X509 *chain[SVID_MAX_CHAIN + 1];
	(void)state;

	chain[0] = leaf.x;
	for (size_t i = 1; i < SVID_MAX_CHAIN + 1; i++)
		chain[i] = hud_ca.x;
	assert_int_equal(verify_at(chain, SVID_MAX_CHAIN, SVID_CLIENT, zoo_now, info, NULL), SVID_OK);
	assert_int_equal(verify_at(chain, SVID_MAX_CHAIN + 1, SVID_CLIENT, zoo_now, info, NULL), SVID_CHAIN_TOO_LONG);
	assert_string_equal(info->id, ""); /* refused before anything was looked at */
	chain[2] = fat.x;
	assert_int_equal(verify_at(chain, 3, SVID_CLIENT, zoo_now, info, NULL), SVID_CHAIN_TOO_LONG);
	assert_string_equal(info->id, "");
	assert_int_equal(svid_verify_der(der, 2, bundles, 2, SVID_CLIENT, zoo_now, info, NULL), SVID_CHAIN_TOO_LONG);
	zoo_free(&leaf);
	zoo_free(&fat);
	mem_free(info);
}

/* Every DER byte by byte: cut anywhere, and with each octet changed, it never verifies as something else. */
static void
damaged_der(void **state)
{
	const struct zoo z = { .cn = "a", .san = { GOOD_ID } };
	struct zoo_cert leaf = zoo_make(&z, &hud_ca);
	unsigned char *enc = NULL, *ca = NULL, *big;
	int n = i2d_X509(leaf.x, &enc), nca = i2d_X509(hud_ca.x, &ca);
	struct svid_info *info = mem_zalloc(sizeof(*info));
	struct svid_der der[2] = { { enc, (size_t)n }, { ca, (size_t)nca } };
	(void)state;

	assert_int_equal(svid_verify_der(der, 2, bundles, 2, SVID_CLIENT, zoo_now, info, NULL), SVID_OK);
	for (int i = 0; i < n; i++) {
		der[0].len = (size_t)i;
		assert_int_equal(svid_verify_der(der, 2, bundles, 2, SVID_CLIENT, zoo_now, info, NULL), SVID_MALFORMED);
	}
	der[0].len = (size_t)n;
	for (int i = 0; i < n; i++) {
		enc[i] ^= 1;
		assert_int_not_equal(svid_verify_der(der, 2, bundles, 2, SVID_CLIENT, zoo_now, info, NULL), SVID_OK);
		enc[i] ^= 1;
	}
	big = mem_zalloc((size_t)n + 1);
	memcpy(big, enc, (size_t)n);
	der[0] = (struct svid_der){ big, (size_t)n + 1 };
	assert_int_equal(svid_verify_der(der, 2, bundles, 2, SVID_CLIENT, zoo_now, info, NULL), SVID_MALFORMED);
	mem_free(big);
	OPENSSL_free(enc);
	OPENSSL_free(ca);
	zoo_free(&leaf);
	mem_free(info);
}

static const char *
bundle_fault(const char *domain, const char *pem)
{
	const char *why = NULL;
	struct svid_bundle *b = svid_bundle_new(domain, pem, &why);

	svid_bundle_unref(b);
	return b ? "ok" : why;
}

/* case 57 */
static void
bundle_faults(void **state)
{
	const struct zoo leaf_z = { .cn = "a", .san = { GOOD_ID } }, weak_z = { .cn = "weak", .ca = true, .key = ZOO_RSA1024 };
	const struct zoo fixed1_z = { .cn = "one", .ca = true, .key = ZOO_FIXED }, fixed2_z = { .cn = "two", .ca = true, .key = ZOO_FIXED };
	struct zoo_cert leaf = zoo_make(&leaf_z, &hud_ca), weak = zoo_make(&weak_z, NULL);
	struct zoo_cert one = zoo_make(&fixed1_z, NULL), two = zoo_make(&fixed2_z, NULL);
	const struct {
		const char *what;
		const char *domain;
		X509 *certs[3];
		const char *want;
	} rows[] = {
		{ "root", "hud.example", { hud_root.x }, "ok" },
		{ "root and issuing CA", "hud.example", { hud_root.x, hud_ca.x }, "ok" },
		{ "two roots", "hud.example", { hud_root.x, one.x }, "ok" },
		{ "empty", "hud.example", { NULL }, "no certificate" },
		{ "the same twice", "hud.example", { hud_root.x, hud_root.x }, "the same CA key twice" },
		{ "one key, two names", "hud.example", { one.x, two.x }, "the same CA key twice" },
		{ "a leaf", "hud.example", { hud_root.x, leaf.x }, "a certificate that is not a CA" },
		{ "no root", "hud.example", { hud_ca.x }, "no self-signed root" },
		{ "another domain's", "hud.example", { irs_root.x }, "a CA of another domain" },
		{ "weak", "hud.example", { weak.x }, "an RSA key shorter than 2048 bits" },
		{ "bad domain", "HUD.example", { hud_root.x }, "a malformed trust domain" },
	};
	char *pem, *cut;
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = 0;

		while (n < 3 && rows[i].certs[n])
			n++;
		pem = zoo_pem(rows[i].certs, n);
		if (strcmp(bundle_fault(rows[i].domain, pem), rows[i].want))
			print_error("%s: %s\n", rows[i].what, bundle_fault(rows[i].domain, pem));
		assert_string_equal(bundle_fault(rows[i].domain, pem), rows[i].want);
		mem_free(pem);
	}
	assert_string_equal(bundle_fault("hud.example", NULL), "no certificate");
	assert_string_equal(bundle_fault("hud.example", "some text\n"), "no certificate");
	assert_string_equal(bundle_fault("hud.example", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"), "damaged PEM");
	assert_string_equal(bundle_fault("hud.example", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"), "a certificate that is not valid DER");
	assert_string_equal(bundle_fault("hud.example", "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE KEY-----\n"), "a private key where only certificates belong");
	assert_string_equal(bundle_fault("hud.example", "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n"), "a PEM block that is not a CERTIFICATE");
	/* A file that was cut short is no smaller bundle. */
	pem = zoo_pem((X509 *[]){ hud_root.x, one.x }, 2);
	cut = mem_strndup(pem, strlen(pem) - 40);
	assert_string_equal(bundle_fault("hud.example", cut), "damaged PEM");
	mem_free(pem);
	mem_free(cut);
	zoo_free(&leaf);
	zoo_free(&weak);
	zoo_free(&one);
	zoo_free(&two);
}

static void
count_certs(void *ctx, const struct svid_cert *c)
{
	int *n = ctx;

	if (*n == 0) {
		assert_string_equal(c->subject, "/CN=a");
		assert_string_equal(c->id, ID);
		assert_false(c->ca);
		assert_int_equal(c->reason, SVID_OK);
	} else {
		assert_true(c->ca);
	}
	(*n)++;
}

static void
pem_helpers(void **state)
{
	const struct zoo z = { .cn = "a", .san = { { GEN_DNS, "permit.hud.svc", 0 }, GOOD_ID, { GEN_DNS, "*.hud.svc", 0 } } };
	const struct zoo nul_z = { .cn = "a", .san = { { GEN_DNS, "a\0b", 3 } } }, plain_z = { .cn = "a", .san = { GOOD_ID } };
	struct zoo_cert c = zoo_make(&z, &hud_ca), nul = zoo_make(&nul_z, &hud_ca), plain = zoo_make(&plain_z, &hud_ca);
	char *pem = zoo_pem((X509 *[]){ c.x, hud_ca.x }, 2), *bad = zoo_pem(&nul.x, 1), *none = zoo_pem(&plain.x, 1), *ca = zoo_pem(&hud_ca.x, 1);
	char *id = mem_alloc(SPIFFE_ID_MAX + 1), names[64];
	const char *why;
	int n = 0;
	(void)state;

	assert_int_equal(svid_id_of_pem(pem, id, &why), 0);
	assert_string_equal(id, ID);
	assert_int_equal(svid_id_of_pem(ca, id, &why), -1);
	assert_string_equal(id, "");
	assert_int_equal(svid_id_of_pem("", id, &why), -1);
	assert_string_equal(why, "no certificate");
	assert_int_equal(svid_dns_names_of_pem(pem, names, sizeof(names)), 2);
	assert_string_equal(names, "permit.hud.svc *.hud.svc");
	assert_int_equal(svid_dns_names_of_pem(pem, names, 25), 2);
	assert_int_equal(svid_dns_names_of_pem(pem, names, 24), -1);
	assert_int_equal(svid_dns_names_of_pem(none, names, sizeof(names)), 0);
	assert_int_equal(svid_dns_names_of_pem(bad, names, sizeof(names)), -1);
	assert_int_equal(svid_dns_names_of_pem("", names, sizeof(names)), -1);
	assert_int_equal(svid_pem_each(pem, count_certs, &n, &why), 2);
	assert_int_equal(n, 2);
	mem_free(pem);
	mem_free(bad);
	mem_free(none);
	mem_free(ca);
	mem_free(id);
	zoo_free(&c);
	zoo_free(&nul);
	zoo_free(&plain);
}

static void
texts(void **state)
{
	(void)state;
	for (int i = 0; i < SVID_REASONS; i++) {
		assert_non_null(svid_reason_text(i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(svid_reason_text(i), svid_reason_text(j));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(refused_leaves),
		cmocka_unit_test(purposes),
		cmocka_unit_test(other_domain),
		cmocka_unit_test(intermediate_rules),
		cmocka_unit_test(paths),
		cmocka_unit_test(info_fields),
		cmocka_unit_test(too_large),
		cmocka_unit_test(damaged_der),
		cmocka_unit_test(bundle_faults),
		cmocka_unit_test(pem_helpers),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests_name("pki/svid", tests, setup, teardown);
}
