/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One certificate by itself: its names by length and never as C strings, its usages, its key, and a CA's
 * right to sign for a domain. OpenSSL decodes; what a field means to us is decided here, because its own checks accept
 * an upper-case host, a port, two URI SANs and a leaf with none.
 */
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "pki/svid_int.h"

#define SERIAL_MAX_OCTETS 31   /* what svid_info holds; RFC 5280 4.1.2.2 asks for no more than 20 */

static enum svid_reason
fail(const char **detail, enum svid_reason r, const char *text)
{
	if (detail)
		*detail = text;
	return r;
}

int
svid_cert_time(const ASN1_TIME *t, int64_t *out)
{
	struct tm tm;
	time_t v;

	if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1)
		return -1;
	v = timegm(&tm);
	*out = (int64_t)v;
	return 0;
}

void
svid_cert_serial(X509 *x, char *out, size_t out_size)
{
	const ASN1_INTEGER *s = X509_get0_serialNumber(x);
	size_t n = (size_t)ASN1_STRING_length(s), at = 0;

	if (n > SERIAL_MAX_OCTETS)
		n = SERIAL_MAX_OCTETS;
	if (ASN1_STRING_type(s) == V_ASN1_NEG_INTEGER && out_size > 1)
		out[at++] = '-';
	if (n > (out_size - 1 - at) / 2)
		n = (out_size - 1 - at) / 2;
	esc_hex(out + at, ASN1_STRING_get0_data(s), n);
	out[at + 2 * n] = 0;
}

/* -- reading ------------------------------------------------------------------------------ */

X509 *
svid_cert_from_der(const uint8_t *p, size_t len)
{
	const unsigned char *q = p;
	unsigned char *again = NULL;
	X509 *x;
	int n;

	if (len == 0 || len > SVID_MAX_BYTES)
		return NULL;
	x = d2i_X509(NULL, &q, (long)len);
	if (x == NULL)
		return NULL;
	/* d2i takes some BER too; one certificate must have one encoding, or its fingerprint means nothing. */
	n = i2d_X509(x, &again);
	if (q != p + len || n != (int)len || memcmp(again, p, len) != 0) {
		X509_free(x);
		x = NULL;
	}
	OPENSSL_free(again);
	return x;
}

X509 *
svid_cert_read(BIO *pem, const char **why)
{
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	const char *fault = NULL;
	X509 *x = NULL;
	long len;

	*why = NULL;
	ERR_set_mark();
	if (PEM_read_bio(pem, &name, &header, &data, &len) != 1) {
		unsigned long e = ERR_peek_last_error();

		if (ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
			*why = "damaged PEM";
		ERR_pop_to_mark();
		return NULL;
	}
	if (strstr(name, "PRIVATE KEY"))
		fault = "a private key where only certificates belong";
	else if (strcmp(name, PEM_STRING_X509) != 0)
		fault = "a PEM block that is not a CERTIFICATE";
	else if (header[0] != 0)
		fault = "a certificate with PEM headers";
	else if ((x = svid_cert_from_der(data, (size_t)len)) == NULL)
		fault = "a certificate that is not valid DER";
	*why = fault;
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_clear_free(data, (size_t)len);
	ERR_pop_to_mark();
	return x;
}

/* -- keys and signatures ------------------------------------------------------------------ */

static const char *
ec_fault(EVP_PKEY *key)
{
	char group[64];
	size_t n;
	int explicit_params = 0;

	if (EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit_params) &&
	    explicit_params)
		return "an elliptic curve given by parameters instead of its name";
	if (!EVP_PKEY_get_group_name(key, group, sizeof(group), &n))
		return "an unknown elliptic curve";
	if (strcmp(group, "prime256v1") && strcmp(group, "P-256") && strcmp(group, "secp384r1") &&
	    strcmp(group, "P-384") && strcmp(group, "secp521r1") && strcmp(group, "P-521"))
		return "an elliptic curve other than P-256, P-384 and P-521";
	return NULL;
}

const char *
svid_cert_key_fault(EVP_PKEY *key)
{
	int bits;

	if (key == NULL)
		return "a public key of an unknown kind";
	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_ED25519:
		return NULL;
	case EVP_PKEY_EC:
		return ec_fault(key);
	case EVP_PKEY_RSA:
	case EVP_PKEY_RSA_PSS:
		bits = EVP_PKEY_get_bits(key);
		if (bits < 2048)
			return "an RSA key shorter than 2048 bits";
		/* Verification time grows with the square: a stranger's certificate must not choose it. */
		return bits > 8192 ? "an RSA key longer than 8192 bits" : NULL;
	default:
		return "a public key that is not RSA, ECDSA or Ed25519";
	}
}

static const char *
signature_fault(X509 *x)
{
	int md, pk, bits;
	uint32_t flags;

	if (!X509_get_signature_info(x, &md, &pk, &bits, &flags))
		return "a signature algorithm that is not known";
	return bits < 112 ? "a signature by MD5 or SHA-1" : NULL;
}

/* -- names -------------------------------------------------------------------------------- */

/* The SAN extension: NULL with *absent, or NULL when it cannot be decoded or is there twice. */
static GENERAL_NAMES *
names_of(X509 *x, bool *absent)
{
	int crit;
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, &crit, NULL);

	*absent = names == NULL && crit == -1;
	return names;
}

static bool
plain_text(const ASN1_IA5STRING *s)
{
	const unsigned char *p = ASN1_STRING_get0_data(s);

	for (int i = 0; i < ASN1_STRING_length(s); i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return ASN1_STRING_length(s) > 0;
}

/* X509-SVID 2: exactly one URI SAN, of any scheme; other SANs are allowed. */
static enum svid_reason
only_uri(const GENERAL_NAMES *names, const ASN1_IA5STRING **uri, const char **detail)
{
	*uri = NULL;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		switch (g->type) {
		case GEN_URI:
			if (*uri)
				return fail(detail, SVID_TWO_URI_SANS, "more than one URI name");
			*uri = g->d.uniformResourceIdentifier;
			break;
		case GEN_DNS:
		case GEN_EMAIL:
			if (!plain_text(g->d.ia5))
				return fail(detail, SVID_BAD_ID, "an alternative name with a NUL or another octet that no name has");
			break;
		default:
			break;
		}
	}
	return *uri ? SVID_OK : fail(detail, SVID_NO_URI_SAN, "no URI name");
}

static enum svid_reason
leaf_id(X509 *leaf, struct svid_info *out, const char **detail)
{
	const ASN1_IA5STRING *uri;
	struct spiffe_id id;
	const char *text, *why;
	GENERAL_NAMES *names;
	enum svid_reason r;
	bool absent;
	size_t len;

	names = names_of(leaf, &absent);
	if (names == NULL)
		return absent ? fail(detail, SVID_NO_URI_SAN, "no subject alternative name") :
				fail(detail, SVID_MALFORMED, "a subject alternative name that cannot be decoded or is given twice");
	r = only_uri(names, &uri, detail);
	if (r != SVID_OK)
		goto out;
	text = (const char *)ASN1_STRING_get0_data(uri);
	len = (size_t)ASN1_STRING_length(uri);
	if (spiffe_parse(&id, text, len, &why) != 0) {
		r = fail(detail, SVID_BAD_ID, why);
		goto out;
	}
	memcpy(out->id, text, len);
	out->id[len] = 0;
	memcpy(out->domain, id.domain, id.domain_len);
	out->domain[id.domain_len] = 0;
	/* X509-SVID 4.1 and 5.2: an id without a path names the domain itself, which only its CAs may. */
	if (id.path_len == 0)
		r = fail(detail, SVID_BAD_ID, "a SPIFFE ID without a path");
out:
	GENERAL_NAMES_free(names);
	return r;
}

/* -- leaves ------------------------------------------------------------------------------- */

static enum svid_reason
leaf_usage(X509 *leaf, enum svid_purpose purpose, const char **detail)
{
	uint32_t flags = X509_get_extension_flags(leaf);
	uint32_t ku = X509_get_key_usage(leaf), eku;
	const uint32_t both = XKU_SSL_CLIENT | XKU_SSL_SERVER;

	if (flags & EXFLAG_INVALID)
		return fail(detail, SVID_MALFORMED, "an extension that cannot be decoded or is given twice");
	if (flags & EXFLAG_CA)
		return fail(detail, SVID_CA_LEAF, "a CA certificate used as a leaf");
	if (!(flags & EXFLAG_KUSAGE)) /* UINT32_MAX has every bit set: ask for presence first */
		return fail(detail, SVID_KEY_USAGE, "no keyUsage");
	if (ku & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) /* X509-SVID 5.2 */
		return fail(detail, SVID_CA_LEAF, "a leaf whose keyUsage has keyCertSign or cRLSign");
	/* X509-SVID 4.3. It also wants the extension critical; what is understood and obeyed needs no such mark. */
	if (!(ku & KU_DIGITAL_SIGNATURE))
		return fail(detail, SVID_KEY_USAGE, "keyUsage without digitalSignature");
	if (!(flags & EXFLAG_XKUSAGE)) /* X509-SVID 4.4: should be there */
		return SVID_OK;
	eku = X509_get_extended_key_usage(leaf);
	if (purpose == SVID_CLIENT && !(eku & XKU_SSL_CLIENT))
		return fail(detail, SVID_EKU, "extendedKeyUsage without clientAuth");
	if (purpose == SVID_SERVER && !(eku & XKU_SSL_SERVER))
		return fail(detail, SVID_EKU, "extendedKeyUsage without serverAuth");
	if (!(eku & both))
		return fail(detail, SVID_EKU, "extendedKeyUsage without clientAuth and serverAuth");
	return SVID_OK;
}

enum svid_reason
svid_cert_check_leaf(X509 *leaf, enum svid_purpose purpose, struct svid_info *out, const char **detail)
{
	const char *fault;
	enum svid_reason r;
	unsigned n = 0;

	if (X509_digest(leaf, EVP_sha256(), out->sha256, &n) != 1 || n != sizeof(out->sha256))
		return fail(detail, SVID_OTHER, "no fingerprint");
	svid_cert_serial(leaf, out->serial, sizeof(out->serial));
	if (ASN1_STRING_length(X509_get0_serialNumber(leaf)) > SERIAL_MAX_OCTETS)
		return fail(detail, SVID_MALFORMED, "a serial number longer than 31 octets");
	if (svid_cert_time(X509_get0_notBefore(leaf), &out->not_before) ||
	    svid_cert_time(X509_get0_notAfter(leaf), &out->not_after))
		return fail(detail, SVID_MALFORMED, "a date that is none");
	r = leaf_id(leaf, out, detail);
	if (r == SVID_OK)
		r = leaf_usage(leaf, purpose, detail);
	if (r != SVID_OK)
		return r;
	fault = svid_cert_key_fault(X509_get0_pubkey(leaf));
	if (fault == NULL)
		fault = signature_fault(leaf);
	return fault ? fail(detail, SVID_WEAK_KEY, fault) : SVID_OK;
}

/* -- CAs ---------------------------------------------------------------------------------- */

/* RFC 5280 4.2.1.10, URI: a host matches itself; ".host" matches what has at least one label more. */
static bool
host_matches(const ASN1_IA5STRING *base, const char *domain)
{
	const char *b = (const char *)ASN1_STRING_get0_data(base);
	size_t blen = (size_t)ASN1_STRING_length(base), dlen = strlen(domain);

	if (blen > 0 && b[0] == '.')
		return dlen > blen && strncasecmp(domain + dlen - blen, b, blen) == 0;
	return dlen == blen && strncasecmp(domain, b, blen) == 0;
}

/* What of the subtrees are of type URI, and does one hold the domain? */
static enum svid_reason
scan_subtrees(const STACK_OF(GENERAL_SUBTREE) *trees, const char *domain, bool *any, bool *hit, const char **detail)
{
	*any = *hit = false;
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); i++) {
		const GENERAL_SUBTREE *t = sk_GENERAL_SUBTREE_value(trees, i);
		const ASN1_IA5STRING *base;

		/* RFC 5280 4.2.1.10: minimum is zero and maximum absent. */
		if ((t->minimum && ASN1_INTEGER_get(t->minimum) != 0) || t->maximum)
			return fail(detail, SVID_NAME_CONSTRAINTS, "a name constraint with a minimum or maximum");
		if (t->base->type != GEN_URI)
			continue;
		base = t->base->d.uniformResourceIdentifier;
		if (!plain_text(base))
			return fail(detail, SVID_NAME_CONSTRAINTS, "a URI name constraint that is no host name");
		*any = true;
		*hit = *hit || host_matches(base, domain);
	}
	return SVID_OK;
}

static enum svid_reason
ca_constraints(X509 *ca, const char *domain, const char **detail)
{
	NAME_CONSTRAINTS *nc;
	enum svid_reason r;
	bool any, hit;
	int crit;

	nc = X509_get_ext_d2i(ca, NID_name_constraints, &crit, NULL);
	if (nc == NULL)
		return crit == -1 ? SVID_OK :
				    fail(detail, SVID_NAME_CONSTRAINTS, "name constraints that cannot be decoded or are given twice");
	r = scan_subtrees(nc->permittedSubtrees, domain, &any, &hit, detail);
	if (r == SVID_OK && any && !hit)
		r = fail(detail, SVID_NAME_CONSTRAINTS, "a CA whose name constraints do not permit this trust domain");
	if (r == SVID_OK)
		r = scan_subtrees(nc->excludedSubtrees, domain, &any, &hit, detail);
	if (r == SVID_OK && hit)
		r = fail(detail, SVID_NAME_CONSTRAINTS, "a CA whose name constraints exclude this trust domain");
	NAME_CONSTRAINTS_free(nc);
	return r;
}

/* X509-SVID 4.1: a CA that carries a SPIFFE ID carries its trust domain's, without a path. CAs with other URIs, or none, are fine. */
static enum svid_reason
ca_id(X509 *ca, const char *domain, const char **detail)
{
	static const char scheme[] = "spiffe://";
	const size_t scheme_len = sizeof(scheme) - 1, dlen = strlen(domain);
	enum svid_reason r = SVID_OK;
	GENERAL_NAMES *names;
	bool absent;

	names = names_of(ca, &absent);
	if (names == NULL)
		return absent ? SVID_OK : fail(detail, SVID_MALFORMED, "a CA's alternative name that cannot be decoded");
	for (int i = 0; r == SVID_OK && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		const char *p;
		size_t n;

		if (g->type != GEN_URI)
			continue;
		p = (const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
		n = (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier);
		if (n < scheme_len || strncasecmp(p, scheme, scheme_len) != 0)
			continue;
		if (n != scheme_len + dlen || memcmp(p + scheme_len, domain, dlen) != 0)
			r = fail(detail, SVID_UNTRUSTED, "signed by a CA of another domain");
	}
	GENERAL_NAMES_free(names);
	return r;
}

enum svid_reason
svid_cert_check_ca(X509 *ca, const char *domain, bool anchor, const char **detail)
{
	uint32_t flags = X509_get_extension_flags(ca);
	const char *fault;
	enum svid_reason r;

	if (flags & EXFLAG_INVALID)
		return fail(detail, SVID_MALFORMED, "a CA with an extension that cannot be decoded or is given twice");
	/* X509-SVID 4.3: keyCertSign in a keyUsage that is there; X509_check_ca() alone would take much less. */
	if (!(flags & EXFLAG_CA) || !(flags & EXFLAG_KUSAGE) || !(X509_get_key_usage(ca) & KU_KEY_CERT_SIGN))
		return fail(detail, SVID_UNTRUSTED, "a signer that is not a CA (basicConstraints CA, keyUsage keyCertSign)");
	r = ca_id(ca, domain, detail);
	if (r == SVID_OK)
		r = ca_constraints(ca, domain, detail);
	if (r != SVID_OK)
		return r;
	fault = svid_cert_key_fault(X509_get0_pubkey(ca));
	/* Nobody relies on a trust anchor's own signature. */
	if (fault == NULL && !anchor)
		fault = signature_fault(ca);
	return fault ? fail(detail, SVID_WEAK_KEY, fault) : SVID_OK;
}
