/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/crl.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/buf.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/cert.h"

const char *const crl_reasons[CRL_REASONS] = { [0] = "unspecified", [1] = "keyCompromise", [2] = "cACompromise", [3] = "affiliationChanged",
	[4] = "superseded", [5] = "cessationOfOperation", [6] = "certificateHold", [9] = "privilegeWithdrawn", [10] = "aACompromise" };

/* -- the list of entries, DER (X.690 8), last octet first -------------------------------------------- */

/*
 * OpenSSL makes an object of each entry and each of its extensions, which takes 10 µs: ten thousand revoked certificates would be felt
 * with each revocation. So the frame is OpenSSL's, and what is between is put together here, from its end, where lengths are known.
 */
struct back {
	uint8_t *start, *p;     /* filled from p on */
	size_t size;
};

static void
back_put(struct back *b, const void *octets, size_t n)
{
	size_t used = b->size - (size_t)(b->p - b->start);

	if ((size_t)(b->p - b->start) < n) {
		size_t bigger = 2 * (b->size + n);
		uint8_t *start = mem_alloc(bigger);

		if (used)
			memcpy(start + bigger - used, b->p, used);
		mem_free(b->start);
		b->start = start;
		b->size = bigger;
		b->p = start + bigger - used;
	}
	b->p -= n;
	memcpy(b->p, octets, n);
}

static size_t
back_used(const struct back *b)
{
	return b->size - (size_t)(b->p - b->start);
}

/* Tag and length before what was put since "mark". */
static void
back_wrap(struct back *b, uint8_t tag, size_t mark)
{
	size_t n = back_used(b) - mark;
	uint8_t head[6] = { tag };
	size_t len = 2;

	if (n < 0x80) {
		head[1] = (uint8_t)n;
	} else {
		size_t octets = n < 0x100 ? 1 : n < 0x10000 ? 2 : n < 0x1000000 ? 3 : 4;

		head[1] = (uint8_t)(0x80 | octets);
		for (size_t i = 0; i < octets; i++)
			head[2 + i] = (uint8_t)(n >> 8 * (octets - 1 - i));
		len = 2 + octets;
	}
	back_put(b, head, len);
}

/* RFC 5280 5.1.2.4: UTCTime through 2049. */
static void
back_time(struct back *b, int64_t t)
{
	time_t v = (time_t)t;
	size_t mark = back_used(b);
	char text[32];
	struct tm tm;

	gmtime_r(&v, &tm);
	if (tm.tm_year < 150) {
		strftime(text, sizeof(text), "%y%m%d%H%M%SZ", &tm);
		back_put(b, text, 13);
		back_wrap(b, 0x17, mark);
	} else {
		strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &tm);
		back_put(b, text, 15);
		back_wrap(b, 0x18, mark);
	}
}

/* RFC 5280 5.3.1: unspecified is said by saying nothing. */
static void
back_reason(struct back *b, const char *reason)
{
	for (int i = 1; i < CRL_REASONS; i++) {
		/* SEQUENCE OF { SEQUENCE { 2.5.29.21, OCTET STRING { ENUMERATED } } } */
		const uint8_t der[] = { 0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01, (uint8_t)i };

		if (crl_reasons[i] && strcmp(crl_reasons[i], reason) == 0)
			back_put(b, der, sizeof(der));
	}
}

static bool
back_entry(struct back *b, const struct crl_entry *e)
{
	size_t mark = back_used(b), n = strlen(e->serial), at, first = 0;
	uint8_t serial[32];

	if (n < 2 || n > 2 * sizeof(serial) || esc_unhex(serial, e->serial, n) != 0)
		return false;
	n /= 2;
	while (first + 1 < n && serial[first] == 0 && serial[first + 1] < 0x80)
		first++;
	back_reason(b, e->reason);
	back_time(b, e->at);
	at = back_used(b);
	back_put(b, serial + first, n - first);
	if (serial[first] >= 0x80)
		back_put(b, "", 1); /* positive */
	back_wrap(b, 0x02, at);
	back_wrap(b, 0x30, mark);
	return true;
}

/* -- the frame ------------------------------------------------------------------------------------- */

static bool
add_extensions(X509_CRL *crl, const struct crl_spec *s)
{
	const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(s->issuer);
	AUTHORITY_KEYID *akid = AUTHORITY_KEYID_new();
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	bool ok = akid && number && key_id && (akid->keyid = ASN1_OCTET_STRING_dup(key_id)) != NULL &&
	    ASN1_INTEGER_set_uint64(number, s->number) == 1 &&
	    X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, akid, 0, X509V3_ADD_DEFAULT) == 1 &&
	    X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_DEFAULT) == 1;

	AUTHORITY_KEYID_free(akid);
	ASN1_INTEGER_free(number);
	return ok;
}

/* Everything but the entries and the signature. */
static X509_CRL *
frame(const struct crl_spec *s)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)s->this_update), *until = ASN1_TIME_set(NULL, (time_t)s->next_update);
	bool ok = crl && from && until && X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1 &&
	    X509_CRL_set_issuer_name(crl, X509_get_subject_name(s->issuer)) == 1 && X509_CRL_set1_lastUpdate(crl, from) == 1 &&
	    X509_CRL_set1_nextUpdate(crl, until) == 1 && add_extensions(crl, s) && X509_CRL_sign(crl, s->key, cert_digest(s->key)) > 0;

	ASN1_TIME_free(from);
	ASN1_TIME_free(until);
	if (ok)
		return crl;
	X509_CRL_free(crl);
	return NULL;
}

#define PUT_DER(b, i2d, object)                                                                                                 \
	do {                                                                                                                    \
		unsigned char *der_ = NULL;                                                                                     \
		int n_ = i2d(object, &der_);                                                                                    \
		if (n_ > 0)                                                                                                     \
			back_put(b, der_, (size_t)n_);                                                                          \
		ok = ok && n_ > 0;                                                                                              \
		OPENSSL_free(der_);                                                                                             \
	} while (0)

/* TBSCertList (RFC 5280 5.1): the frame's fields around our entries. */
static bool
put_tbs(struct back *b, X509_CRL *crl, const struct crl_spec *s)
{
	static const uint8_t version[] = { 0x02, 0x01, 0x01 };
	const X509_ALGOR *alg;
	bool ok = true;
	size_t mark;

	X509_CRL_get0_signature(crl, NULL, &alg);
	PUT_DER(b, i2d_X509_EXTENSIONS, X509_CRL_get0_extensions(crl));
	back_wrap(b, 0xa0, 0);
	mark = back_used(b);
	for (size_t i = s->n; ok && i-- > 0;)
		ok = back_entry(b, &s->entries[i]);
	/* 5.1.2.6: no entries, no list. */
	if (s->n)
		back_wrap(b, 0x30, mark);
	PUT_DER(b, i2d_ASN1_TIME, X509_CRL_get0_nextUpdate(crl));
	PUT_DER(b, i2d_ASN1_TIME, X509_CRL_get0_lastUpdate(crl));
	PUT_DER(b, i2d_X509_NAME, X509_CRL_get_issuer(crl));
	PUT_DER(b, i2d_X509_ALGOR, alg);
	back_put(b, version, sizeof(version));
	back_wrap(b, 0x30, 0);
	return ok;
}

static bool
sign(const struct crl_spec *s, const struct back *tbs, uint8_t **signature, size_t *n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t len = back_used(tbs);
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, cert_digest(s->key), NULL, s->key) == 1 && EVP_DigestSign(ctx, NULL, n, tbs->p, len) == 1;

	*signature = ok ? mem_alloc(*n) : NULL;
	ok = ok && EVP_DigestSign(ctx, *signature, n, tbs->p, len) == 1;
	EVP_MD_CTX_free(ctx);
	return ok;
}

static char *
to_pem(const uint8_t *der, size_t n)
{
	size_t digits = esc_base64_size(n), at;
	char *text = mem_alloc(digits + 1);
	struct buf out;

	esc_base64(text, der, n);
	buf_init(&out, 0);
	buf_puts(&out, "-----BEGIN X509 CRL-----\n");
	for (at = 0; at < digits; at += 64) {
		buf_append(&out, text + at, digits - at < 64 ? digits - at : 64);
		buf_puts(&out, "\n");
	}
	buf_puts(&out, "-----END X509 CRL-----\n");
	mem_free(text);
	return buf_steal(&out);
}

char *
crl_make(const struct crl_spec *s)
{
	struct back tbs = { 0 }, all = { 0 };
	X509_CRL *crl = frame(s);
	uint8_t *signature = NULL;
	const X509_ALGOR *alg;
	char *pem = NULL;
	size_t n;
	bool ok = crl && put_tbs(&tbs, crl, s) && sign(s, &tbs, &signature, &n);

	if (ok) {
		X509_CRL_get0_signature(crl, NULL, &alg);
		back_put(&all, signature, n);
		back_put(&all, "", 1); /* no unused bits */
		back_wrap(&all, 0x03, 0);
		PUT_DER(&all, i2d_X509_ALGOR, alg);
		back_put(&all, tbs.p, back_used(&tbs));
		back_wrap(&all, 0x30, 0);
	}
	if (ok)
		pem = to_pem(all.p, back_used(&all));
	mem_free(signature);
	mem_free(tbs.start);
	mem_free(all.start);
	X509_CRL_free(crl);
	return pem;
}

X509_CRL *
crl_from_pem(const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509_CRL *crl = in ? PEM_read_bio_X509_CRL(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	return crl;
}
