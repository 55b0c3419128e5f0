/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification of a chain. Order: size bounds, the leaf by itself (svid_cert.c), its domain's bundle, OpenSSL's path
 * building against that bundle alone, then every CA of the path that was found, again by our own rules, then revocation
 * (svid_crl.c; OpenSSL's own CRL checks stay off).
 *
 * It may run inside an OpenSSL ASYNC job, whose stack has 32 KiB: nothing large lives on the stack here.
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/svid_int.h"

/* For the wording alone; a stranger must not make us search hundreds of bundles. */
#define OTHER_DOMAINS_TRIED 16

const char *
svid_reason_text(enum svid_reason r)
{
	static const char *const text[SVID_REASONS] = {
		[SVID_OK] = "ok",
		[SVID_NO_CERTIFICATE] = "no-certificate",
		[SVID_MALFORMED] = "malformed",
		[SVID_CHAIN_TOO_LONG] = "chain-too-long",
		[SVID_NO_URI_SAN] = "no-uri-san",
		[SVID_TWO_URI_SANS] = "two-uri-sans",
		[SVID_BAD_ID] = "bad-id",
		[SVID_CA_LEAF] = "ca-leaf",
		[SVID_KEY_USAGE] = "key-usage",
		[SVID_EKU] = "eku",
		[SVID_UNKNOWN_DOMAIN] = "unknown-domain",
		[SVID_UNTRUSTED] = "untrusted",
		[SVID_EXPIRED] = "expired",
		[SVID_NOT_YET_VALID] = "not-yet-valid",
		[SVID_REVOKED] = "revoked",
		[SVID_NO_CRL] = "no-crl",
		[SVID_NAME_CONSTRAINTS] = "name-constraints",
		[SVID_WEAK_KEY] = "weak-key",
		[SVID_OTHER] = "other",
	};

	return (unsigned)r < SVID_REASONS ? text[r] : "other";
}

static enum svid_reason
fail(const char **detail, enum svid_reason r, const char *text)
{
	*detail = text;
	return r;
}

static enum svid_reason
from_openssl(int err)
{
	switch (err) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return SVID_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return SVID_NOT_YET_VALID;
	case X509_V_ERR_PERMITTED_VIOLATION:
	case X509_V_ERR_EXCLUDED_VIOLATION:
	case X509_V_ERR_SUBTREE_MINMAX:
	case X509_V_ERR_UNSUPPORTED_CONSTRAINT_TYPE:
	case X509_V_ERR_UNSUPPORTED_CONSTRAINT_SYNTAX:
	case X509_V_ERR_UNSUPPORTED_NAME_SYNTAX:
		return SVID_NAME_CONSTRAINTS;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
	case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
		return SVID_WEAK_KEY;
	case X509_V_ERR_CERT_CHAIN_TOO_LONG:
		return SVID_CHAIN_TOO_LONG;
	case X509_V_ERR_INVALID_EXTENSION:
	case X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD:
	case X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD:
	case X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY:
		return SVID_MALFORMED;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_REJECTED:
	case X509_V_ERR_INVALID_CA:
	case X509_V_ERR_INVALID_NON_CA:
	case X509_V_ERR_PATH_LENGTH_EXCEEDED:
	case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
	case X509_V_ERR_AKID_SKID_MISMATCH:
	case X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH:
	case X509_V_ERR_SUBJECT_ISSUER_MISMATCH:
		return SVID_UNTRUSTED;
	case X509_V_ERR_INVALID_PURPOSE: /* the leaf's was checked before: a CA above it is limited to something else */
		return SVID_EKU;
	default:
		return SVID_OTHER;
	}
}

/* OpenSSL's path building and checks. X509_V_OK with *path (leaf to root, owned by the caller), or its error. */
static int
build_path(const struct svid_bundle *b, X509 *leaf, STACK_OF(X509) *untrusted, enum svid_purpose purpose, int64_t now,
    STACK_OF(X509) **path)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	int err = X509_V_ERR_OUT_OF_MEM;

	if (ctx == NULL)
		return err;
	if (X509_STORE_CTX_init(ctx, b->store, leaf, untrusted) != 1)
		goto out;
	param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_time(param, (time_t)now);
	X509_VERIFY_PARAM_set_depth(param, SVID_MAX_CHAIN);
	X509_VERIFY_PARAM_set_auth_level(param, 2);
	if (purpose != SVID_ANY &&
	    X509_STORE_CTX_set_purpose(ctx, purpose == SVID_CLIENT ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER) != 1)
		goto out;
	if (X509_verify_cert(ctx) == 1) {
		err = X509_V_OK;
		if (path && (*path = X509_STORE_CTX_get1_chain(ctx)) == NULL)
			err = X509_V_ERR_OUT_OF_MEM;
	} else {
		err = X509_STORE_CTX_get_error(ctx);
		if (err == X509_V_OK) /* never a failure that reads as success */
			err = X509_V_ERR_UNSPECIFIED;
	}
out:
	X509_STORE_CTX_free(ctx);
	return err;
}

/* The CAs of a path by our own rules, and how long it lasts. */
static enum svid_reason
check_path(const struct svid_bundle *b, STACK_OF(X509) *path, struct svid_info *out, const char **detail)
{
	int n = sk_X509_num(path);

	for (int i = 1; i < n; i++) {
		X509 *ca = sk_X509_value(path, i);
		enum svid_reason r = svid_cert_check_ca(ca, b->domain, i == n - 1, detail);
		int64_t until;

		if (r != SVID_OK)
			return r;
		if (svid_cert_time(X509_get0_notAfter(ca), &until) != 0)
			return fail(detail, SVID_MALFORMED, "a date that is none");
		if (until < out->not_after)
			out->not_after = until;
	}
	return n >= 2 ? SVID_OK : fail(detail, SVID_UNTRUSTED, "a leaf that is its own issuer");
}

bool
svid_path_of_ca(const struct svid_bundle *b, X509 *ca, STACK_OF(X509) *untrusted, int64_t now)
{
	struct svid_info *info = mem_zalloc(sizeof(*info));
	STACK_OF(X509) *path = NULL;
	const char *detail;
	bool good;

	good = build_path(b, ca, untrusted, SVID_ANY, now, &path) == X509_V_OK &&
	       svid_cert_check_ca(ca, b->domain, false, &detail) == SVID_OK && check_path(b, path, info, &detail) == SVID_OK;
	sk_X509_pop_free(path, X509_free);
	mem_free(info);
	return good;
}

static bool
of_another_domain(const struct svid_bundle *own, struct svid_bundle *const *bundles, size_t n, X509 *leaf,
    STACK_OF(X509) *untrusted, int64_t now)
{
	size_t tried = 0;

	for (size_t i = 0; i < n && tried < OTHER_DOMAINS_TRIED; i++) {
		int err;

		if (bundles[i] == own)
			continue;
		tried++;
		err = build_path(bundles[i], leaf, untrusted, SVID_ANY, now, NULL);
		/* Its name constraints forbid what it signed: still its signature. */
		if (err == X509_V_OK || from_openssl(err) == SVID_NAME_CONSTRAINTS)
			return true;
	}
	return false;
}

static enum svid_reason
verify_against(struct svid_bundle *const *bundles, size_t nbundles, X509 *leaf, STACK_OF(X509) *untrusted,
    struct svid_info *out, enum svid_purpose purpose, int64_t now, const char **detail)
{
	const struct svid_bundle *b = NULL;
	STACK_OF(X509) *path = NULL;
	enum svid_reason r;
	int err;

	for (size_t i = 0; i < nbundles && b == NULL; i++)
		if (strcmp(bundles[i]->domain, out->domain) == 0)
			b = bundles[i];
	if (b == NULL)
		return fail(detail, SVID_UNKNOWN_DOMAIN, "no bundle for its trust domain");
	err = build_path(b, leaf, untrusted, purpose, now, &path);
	if (err == X509_V_OK) {
		r = check_path(b, path, out, detail);
		if (r == SVID_OK)
			r = svid_crl_judge(b, path, now, detail);
		sk_X509_pop_free(path, X509_free);
		return r;
	}
	r = from_openssl(err);
	if (r == SVID_UNTRUSTED && of_another_domain(b, bundles, nbundles, leaf, untrusted, now))
		return fail(detail, r, "signed by a CA of another domain"); /* case 48 */
	return fail(detail, r, X509_verify_cert_error_string(err));
}

static enum svid_reason
verify(svid_x509 *const *chain, size_t n, struct svid_bundle *const *bundles, size_t nbundles, enum svid_purpose purpose,
    int64_t now, struct svid_info *out, const char **detail)
{
	STACK_OF(X509) *untrusted;
	enum svid_reason r;

	r = svid_cert_check_leaf(chain[0], purpose, out, detail);
	if (r != SVID_OK)
		return r;
	if (now < out->not_before)
		return fail(detail, SVID_NOT_YET_VALID, "not yet valid; is the clock right?");
	if (now > out->not_after)
		return fail(detail, SVID_EXPIRED, "expired");
	untrusted = sk_X509_new_null();
	r = SVID_OTHER;
	*detail = "out of memory";
	if (untrusted == NULL)
		goto out;
	for (size_t i = 1; i < n; i++)
		if (sk_X509_push(untrusted, chain[i]) == 0)
			goto out;
	r = verify_against(bundles, nbundles, chain[0], untrusted, out, purpose, now, detail);
out:
	sk_X509_free(untrusted);
	return r;
}

static enum svid_reason
check_size(size_t n, const char **detail)
{
	if (n == 0)
		return fail(detail, SVID_NO_CERTIFICATE, "no certificate");
	if (n > SVID_MAX_CHAIN)
		return fail(detail, SVID_CHAIN_TOO_LONG, "more than 8 certificates");
	return SVID_OK;
}

enum svid_reason
svid_verify(svid_x509 *const *chain, size_t n, struct svid_bundle *const *bundles, size_t nbundles,
    enum svid_purpose purpose, int64_t now, struct svid_info *out, const char **detail)
{
	const char *ignored;
	enum svid_reason r;
	size_t bytes = 0;

	if (detail == NULL)
		detail = &ignored;
	*detail = NULL;
	memset(out, 0, sizeof(*out));
	r = check_size(n, detail);
	if (r != SVID_OK)
		return r;
	ERR_set_mark();
	for (size_t i = 0; i < n; i++) {
		int len = i2d_X509(chain[i], NULL);

		bytes += len > 0 ? (size_t)len : SVID_MAX_BYTES + 1;
	}
	r = bytes > SVID_MAX_BYTES ? fail(detail, SVID_CHAIN_TOO_LONG, "more than 65536 octets") : /* case 59 */
				     verify(chain, n, bundles, nbundles, purpose, now, out, detail);
	ERR_pop_to_mark();
	if (r == SVID_OK)
		*detail = NULL;
	return r;
}

enum svid_reason
svid_verify_der(const struct svid_der *chain, size_t n, struct svid_bundle *const *bundles, size_t nbundles,
    enum svid_purpose purpose, int64_t now, struct svid_info *out, const char **detail)
{
	X509 *certs[SVID_MAX_CHAIN];
	const char *ignored;
	enum svid_reason r;
	size_t bytes = 0, have = 0;

	if (detail == NULL)
		detail = &ignored;
	*detail = NULL;
	memset(out, 0, sizeof(*out));
	r = check_size(n, detail);
	if (r != SVID_OK)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (chain[i].len > SVID_MAX_BYTES - bytes)
			return fail(detail, SVID_CHAIN_TOO_LONG, "more than 65536 octets"); /* case 59: before any decoding */
		bytes += chain[i].len;
	}
	ERR_set_mark();
	while (have < n && (certs[have] = svid_cert_from_der(chain[have].p, chain[have].len)) != NULL)
		have++;
	r = have == n ? svid_verify(certs, n, bundles, nbundles, purpose, now, out, detail) :
			fail(detail, SVID_MALFORMED, "a certificate that is not valid DER");
	while (have > 0)
		X509_free(certs[--have]);
	ERR_pop_to_mark();
	return r;
}

/* -- configuration and status ------------------------------------------------------------------ */

static X509 *
first_of_pem(const char *pem, const char **why)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x;

	*why = NULL;
	if (in == NULL)
		return NULL;
	x = svid_cert_read(in, why);
	if (x == NULL && *why == NULL)
		*why = "no certificate";
	BIO_free(in);
	return x;
}

int
svid_id_of_pem(const char *pem, char out[SPIFFE_ID_MAX + 1], const char **why)
{
	struct svid_info *info = mem_zalloc(sizeof(*info));
	X509 *x = first_of_pem(pem, why);
	int rc = -1;

	out[0] = 0;
	ERR_set_mark();
	if (x && svid_cert_check_leaf(x, SVID_ANY, info, why) == SVID_OK) {
		memcpy(out, info->id, strlen(info->id) + 1);
		*why = NULL;
		rc = 0;
	}
	ERR_pop_to_mark();
	X509_free(x);
	mem_free(info);
	return rc;
}

enum svid_reason
svid_verify_pem(const char *pem, struct svid_bundle *bundle, int64_t now, struct svid_info *out, const char **detail)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *certs[SVID_MAX_CHAIN + 1];
	enum svid_reason r;
	const char *why = NULL;
	size_t n = 0;

	ERR_set_mark();
	while (in && n <= SVID_MAX_CHAIN && (certs[n] = svid_cert_read(in, &why)) != NULL)
		n++;
	r = why ? fail(detail, SVID_MALFORMED, why) : svid_verify(certs, n, &bundle, 1, SVID_ANY, now, out, detail);
	while (n > 0)
		X509_free(certs[--n]);
	BIO_free(in);
	ERR_pop_to_mark();
	return r;
}

static bool
is_dns_name(const char *s, size_t n)
{
	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9');

		if (!alnum && s[i] != '-' && s[i] != '_' && s[i] != '.' && !(s[i] == '*' && i == 0))
			return false;
	}
	return true;
}

int
svid_dns_names_of_pem(const char *pem, char *out, size_t out_size)
{
	const char *why;
	X509 *x = first_of_pem(pem, &why);
	GENERAL_NAMES *names;
	size_t at = 0;
	int found = x ? 0 : -1;

	out[0] = 0;
	names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
	for (int i = 0; found >= 0 && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		const char *s;
		size_t n;

		if (g->type != GEN_DNS)
			continue;
		s = (const char *)ASN1_STRING_get0_data(g->d.dNSName);
		n = (size_t)ASN1_STRING_length(g->d.dNSName);
		if (!is_dns_name(s, n) || at + n + 2 > out_size) {
			found = -1;
			break;
		}
		if (found++ > 0)
			out[at++] = ' ';
		memcpy(out + at, s, n);
		at += n;
		out[at] = 0;
	}
	if (found < 0)
		out[0] = 0;
	GENERAL_NAMES_free(names);
	X509_free(x);
	return found;
}

static void
describe(X509 *x, svid_pem_fn *on_cert, void *ctx)
{
	struct svid_info *info = mem_zalloc(sizeof(*info));
	char *subject = X509_NAME_oneline(X509_get_subject_name(x), NULL, 0);
	struct svid_cert c = { .subject = subject ? subject : "", .id = info->id, .serial = info->serial };

	c.reason = svid_cert_check_leaf(x, SVID_ANY, info, &c.detail);
	c.ca = X509_get_extension_flags(x) & EXFLAG_CA;
	c.not_before = info->not_before;
	c.not_after = info->not_after;
	c.sha256 = info->sha256;
	on_cert(ctx, &c);
	OPENSSL_free(subject);
	mem_free(info);
}

int
svid_pem_each(const char *pem, svid_pem_fn *on_cert, void *ctx, const char **why)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	int n = 0;
	X509 *x;

	*why = NULL;
	if (in == NULL)
		return -1;
	ERR_set_mark();
	while ((x = svid_cert_read(in, why)) != NULL) {
		describe(x, on_cert, ctx);
		X509_free(x);
		n++;
	}
	ERR_pop_to_mark();
	BIO_free(in);
	return *why ? -1 : n;
}
