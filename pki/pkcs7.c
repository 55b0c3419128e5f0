/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/pkcs7.h"

#include <stdbool.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pkcs7.h>
#include <openssl/x509.h>

#include "gateway/base/mem.h"

static PKCS7 *
empty(void)
{
	PKCS7 *p7 = PKCS7_new();
	PKCS7_SIGNED *s;

	/* RFC 5652 5.1: version 1, content of type data that is absent, no digest algorithms, no signers. */
	if (!p7 || !PKCS7_set_type(p7, NID_pkcs7_signed) || !(s = p7->d.sign) || !ASN1_INTEGER_set(s->version, 1))
		goto fail;
	ASN1_OBJECT_free(s->contents->type);
	s->contents->type = OBJ_nid2obj(NID_pkcs7_data);
	if ((s->cert = sk_X509_new_null()))
		return p7;
fail:
	PKCS7_free(p7);
	return NULL;
}

uint8_t *
pkcs7_encode(const struct svid_der *certs, size_t n, size_t *len, const char **why)
{
	PKCS7 *p7 = NULL;
	uint8_t *out = NULL, *at;
	int need;

	*why = "not 1 to 16 certificates";
	if (n < 1 || n > PKCS7_CERTS_MAX)
		return NULL;
	ERR_set_mark();
	*why = "OpenSSL failed";
	if (!(p7 = empty()))
		goto out;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = certs[i].p;
		X509 *x = certs[i].len <= PKCS7_BYTES_MAX ? d2i_X509(NULL, &p, (long)certs[i].len) : NULL;

		if (!x || p != certs[i].p + certs[i].len || !sk_X509_push(p7->d.sign->cert, x)) {
			*why = "not a certificate in DER form";
			X509_free(x);
			goto out;
		}
	}
	need = i2d_PKCS7(p7, NULL);
	if (need <= 0)
		goto out;
	if (need > PKCS7_BYTES_MAX) {
		*why = "the certificates are too large";
		goto out;
	}
	at = out = mem_alloc((size_t)need);
	i2d_PKCS7(p7, &at);
	*len = (size_t)need;
	*why = NULL;
out:
	PKCS7_free(p7);
	ERR_pop_to_mark();
	return out;
}

/* Of what OpenSSL read. NULL when it is certificates and nothing else. */
static const char *
fault_of(const PKCS7 *p7)
{
	const PKCS7_SIGNED *s;
	int n;

	if (!PKCS7_type_is_signed(p7) || !(s = p7->d.sign))
		return "another kind of PKCS#7 message than SignedData";
	if (sk_PKCS7_SIGNER_INFO_num(s->signer_info) > 0)
		return "it is signed: not certificates alone";
	if (s->contents && s->contents->d.ptr)
		return "it has content: not certificates alone";
	n = sk_X509_num(s->cert);
	if (n < 1)
		return "no certificate in it";
	return n > PKCS7_CERTS_MAX ? "more than 16 certificates in it" : NULL;
}

static int
copy_certs(struct pkcs7_certs *out, const STACK_OF(X509) *certs, const char **why)
{
	size_t total = 0;
	uint8_t *at;

	out->n = (size_t)sk_X509_num(certs);
	for (size_t i = 0; i < out->n; i++) {
		int len = i2d_X509(sk_X509_value(certs, (int)i), NULL);

		/* Encoded anew they may be a little longer, never much. */
		if (len <= 0 || len > 2 * PKCS7_BYTES_MAX) {
			*why = "a certificate that cannot be encoded";
			return -1;
		}
		out->certs[i].len = (size_t)len;
		total += (size_t)len;
	}
	at = out->data = mem_alloc(total);
	for (size_t i = 0; i < out->n; i++) {
		out->certs[i].p = at;
		i2d_X509(sk_X509_value(certs, (int)i), &at);
	}
	return 0;
}

int
pkcs7_decode(struct pkcs7_certs *out, const uint8_t *p, size_t len, const char **why)
{
	const uint8_t *end = p;
	PKCS7 *p7 = NULL;
	int rc = -1;

	memset(out, 0, sizeof(*out));
	*why = "larger than 64 KiB";
	if (len > PKCS7_BYTES_MAX)
		return -1;
	ERR_set_mark();
	p7 = len ? d2i_PKCS7(NULL, &end, (long)len) : NULL;
	if (!p7)
		*why = "not a PKCS#7 message";
	else if (end != p + len)
		*why = "something behind the PKCS#7 message";
	else if (!(*why = fault_of(p7)))
		rc = copy_certs(out, p7->d.sign->cert, why);
	PKCS7_free(p7);
	ERR_pop_to_mark();
	if (rc < 0)
		pkcs7_certs_fini(out);
	return rc;
}

void
pkcs7_certs_fini(struct pkcs7_certs *c)
{
	mem_free(c->data);
	memset(c, 0, sizeof(*c));
}
