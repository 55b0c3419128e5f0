/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain that verified before, looked at again: many at once when a CRL changes, so certificates are not decoded as a whole, which takes OpenSSL 3
 * about 200 µs each for their keys. The library decodes the fields that are needed; here they are found (RFC 5280 4.1).
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "pki/svid_int.h"

struct brief {
	ASN1_INTEGER *serial;
	X509_NAME *issuer, *subject;
	ASN1_OCTET_STRING *key_id, *issuer_key_id; /* NULL: none */
	int64_t until;
};

/* One element: its content from *p on to the end that is returned, NULL when it is not of that kind. */
static const uint8_t *
open_element(const uint8_t **p, const uint8_t *end, int tag, int class)
{
	long len;
	int t, c;

	/* Constructed, of definite length. */
	if (ASN1_get_object(p, &len, &t, &c, end - *p) != V_ASN1_CONSTRUCTED || t != tag || c != class)
		return NULL;
	return *p + len;
}

static bool
skip_element(const uint8_t **p, const uint8_t *end)
{
	long len;
	int t, c;

	if (ASN1_get_object(p, &len, &t, &c, end - *p) & 0x81)
		return false;
	*p += len;
	return true;
}

static bool
read_validity(struct brief *b, const uint8_t **p, const uint8_t *end)
{
	const uint8_t *stop = open_element(p, end, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
	ASN1_TIME *t;
	bool ok;

	if (stop == NULL || !skip_element(p, stop))
		return false;
	t = d2i_ASN1_TIME(NULL, p, stop - *p);
	ok = t && *p == stop && svid_cert_time(t, &b->until) == 0;
	ASN1_TIME_free(t);
	return ok;
}

static bool
read_extensions(struct brief *b, const uint8_t **p, const uint8_t *end)
{
	const uint8_t *stop = open_element(p, end, 3, V_ASN1_CONTEXT_SPECIFIC);
	X509_EXTENSIONS *all = stop ? d2i_X509_EXTENSIONS(NULL, p, stop - *p) : NULL;
	AUTHORITY_KEYID *a;

	if (all == NULL)
		return false;
	b->key_id = X509V3_get_d2i(all, NID_subject_key_identifier, NULL, NULL);
	a = X509V3_get_d2i(all, NID_authority_key_identifier, NULL, NULL);
	if (a) {
		b->issuer_key_id = a->keyid;
		a->keyid = NULL;
	}
	AUTHORITY_KEYID_free(a);
	sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
	return true;
}

static bool
read_cert(struct brief *b, const uint8_t *p, size_t n)
{
	const uint8_t *end = open_element(&p, p + n, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);

	end = end ? open_element(&p, end, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL) : NULL;
	if (end == NULL)
		return false;
	if (p < end && *p == 0xa0 && !skip_element(&p, end)) /* version */
		return false;
	if ((b->serial = d2i_ASN1_INTEGER(NULL, &p, end - p)) == NULL || !skip_element(&p, end) /* signature */ ||
	    (b->issuer = d2i_X509_NAME(NULL, &p, end - p)) == NULL || !read_validity(b, &p, end) ||
	    (b->subject = d2i_X509_NAME(NULL, &p, end - p)) == NULL || !skip_element(&p, end) /* key */)
		return false;
	while (p < end && *p != 0xa3) /* unique ids */
		if (!skip_element(&p, end))
			return false;
	return read_extensions(b, &p, end); /* an SVID has some */
}

static void
drop(struct brief *b)
{
	ASN1_INTEGER_free(b->serial);
	X509_NAME_free(b->issuer);
	X509_NAME_free(b->subject);
	ASN1_OCTET_STRING_free(b->key_id);
	ASN1_OCTET_STRING_free(b->issuer_key_id);
}

/* Name and key id tell the issuer, for the strict checks (svid_bundle_new) take no chain without key ids. */
static bool
issued_by(const struct brief *b, const X509_NAME *name, const ASN1_OCTET_STRING *key_id)
{
	return X509_NAME_cmp(b->issuer, name) == 0 &&
	       (key_id == NULL || b->issuer_key_id == NULL || ASN1_OCTET_STRING_cmp(key_id, b->issuer_key_id) == 0);
}

/* What the lists say of it. The leaf's is required. */
static enum svid_reason
look_up(const struct svid_bundle *bundle, const struct brief *b, bool leaf, int64_t now)
{
	bool in_force = false;

	for (size_t i = 0; bundle->revocation != SVID_REV_OFF && i < bundle->nlists; i++) {
		const struct svid_list *l = bundle->lists[i];

		if (!issued_by(b, X509_get_subject_name(l->issuer), X509_get0_subject_key_id(l->issuer)))
			continue;
		if (svid_crl_names(l, b->serial))
			return SVID_REVOKED;
		in_force = in_force || now < l->next_update;
	}
	return leaf && !in_force && bundle->revocation == SVID_REV_REQUIRED ? SVID_NO_CRL : SVID_OK;
}

static X509 *
issuer_of(const struct svid_bundle *bundle, const struct brief *b)
{
	for (size_t i = 0; i < bundle->ncas; i++)
		if (issued_by(b, X509_get_subject_name(bundle->cas[i]), X509_get0_subject_key_id(bundle->cas[i])))
			return bundle->cas[i];
	return NULL;
}

/* The CAs of the bundle from x on upwards. SVID_OK, SVID_REVOKED, SVID_EXPIRED. */
static enum svid_reason
look_above(const struct svid_bundle *bundle, X509 *x, int64_t now)
{
	for (size_t depth = 0; x && depth < SVID_BUNDLE_MAX_CAS; depth++) {
		X509 *above = NULL;
		int64_t until;

		if (svid_cert_time(X509_get0_notAfter(x), &until) != 0 || now > until)
			return SVID_EXPIRED;
		if (X509_self_signed(x, 0) == 1)
			break;
		for (size_t i = 0; bundle->revocation != SVID_REV_OFF && i < bundle->nlists; i++)
			if (X509_check_issued(bundle->lists[i]->issuer, x) == X509_V_OK &&
			    svid_crl_names(bundle->lists[i], X509_get0_serialNumber(x)))
				return SVID_REVOKED;
		for (size_t i = 0; i < bundle->ncas && above == NULL; i++)
			if (X509_check_issued(bundle->cas[i], x) == X509_V_OK)
				above = bundle->cas[i];
		x = above;
	}
	return SVID_OK;
}

/* Of those that came along: it may be there twice, and end at different times. */
static const struct brief *
sent_issuer(const struct brief *certs, size_t n, const struct brief *b, int64_t now, bool *expired)
{
	*expired = false;
	for (size_t i = 0; i < n; i++) {
		if (&certs[i] == b || !issued_by(b, certs[i].subject, certs[i].key_id))
			continue;
		if (now <= certs[i].until)
			return &certs[i];
		*expired = true;
	}
	return NULL;
}

static enum svid_reason
recheck(const struct svid_bundle *bundle, const struct brief *certs, size_t n, int64_t now)
{
	const struct brief *b = certs, *above;
	enum svid_reason worst = SVID_OK, r;
	bool expired = false;
	X509 *x;

	if (now > b->until)
		return SVID_EXPIRED;
	/* Up the path as it was sent, and on in the bundle. */
	for (size_t depth = 0; depth < n; depth++, b = above) {
		r = look_up(bundle, b, depth == 0, now);
		if (r == SVID_REVOKED)
			return r;
		worst = r != SVID_OK ? r : worst;
		above = sent_issuer(certs, n, b, now, &expired);
		if (above == NULL)
			break;
	}
	x = issuer_of(bundle, b);
	if (x == NULL)
		return expired ? SVID_EXPIRED : worst;
	r = look_above(bundle, x, now);
	return r != SVID_OK ? r : worst;
}

enum svid_reason
svid_recheck_der(const struct svid_der *chain, size_t n, const struct svid_bundle *bundle, int64_t now)
{
	struct brief certs[SVID_MAX_CHAIN] = { { 0 } };
	enum svid_reason r = SVID_MALFORMED;
	size_t have = 0;

	if (n > SVID_MAX_CHAIN)
		return r;
	ERR_set_mark();
	for (size_t i = 0; i < n; i++) {
		if (chain[i].len <= SVID_MAX_BYTES && read_cert(&certs[have], chain[i].p, chain[i].len)) {
			have++;
			continue;
		}
		drop(&certs[have]);
		memset(&certs[have], 0, sizeof(certs[have]));
		if (i == 0)
			break;
		/* Something that came along and that the verification had no use for. */
	}
	if (have > 0)
		r = recheck(bundle, certs, have, now);
	for (size_t i = 0; i < have; i++)
		drop(&certs[i]);
	ERR_pop_to_mark();
	return r;
}
