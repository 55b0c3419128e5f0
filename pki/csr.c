/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/csr.h"

#include <stdbool.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/svid_int.h"

/* -- decoding ----------------------------------------------------------------------------------- */

/* One request has one encoding, or what was signed is not what was looked at. */
static X509_REQ *
from_der(const uint8_t *p, size_t len)
{
	const unsigned char *q = p;
	unsigned char *again = NULL;
	X509_REQ *req = d2i_X509_REQ(NULL, &q, (long)len);
	int n = req ? i2d_X509_REQ(req, &again) : -1;

	if (req && (q != p + len || n != (int)len || memcmp(again, p, len) != 0)) {
		X509_REQ_free(req);
		req = NULL;
	}
	OPENSSL_free(again);
	return req;
}

static bool
only_white(BIO *in)
{
	char *p;
	long n = BIO_get_mem_data(in, &p);

	for (long i = 0; i < n; i++)
		if (p[i] != '\n' && p[i] != '\r' && p[i] != ' ' && p[i] != '\t')
			return false;
	return true;
}

static X509_REQ *
from_pem(const void *p, size_t len, const char **why)
{
	BIO *in = BIO_new_mem_buf(p, (int)len);
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	X509_REQ *req = NULL;
	long n = 0;

	*why = "not a certificate request in PEM or DER form (\"openssl req -new\" makes one)";
	if (in == NULL || PEM_read_bio(in, &name, &header, &data, &n) != 1)
		goto out;
	if (strstr(name, "PRIVATE KEY"))
		*why = "a private key where a certificate request belongs; keep it to yourself";
	else if (strcmp(name, PEM_STRING_X509) == 0)
		*why = "a certificate, not a certificate request";
	else if (strcmp(name, PEM_STRING_X509_REQ) && strcmp(name, PEM_STRING_X509_REQ_OLD))
		*why = "a PEM block that is not a CERTIFICATE REQUEST";
	else if (header[0])
		*why = "a certificate request with PEM headers";
	else if (!only_white(in))
		*why = "something behind the certificate request";
	else if ((req = from_der(data, (size_t)n)) == NULL)
		*why = "a certificate request that is not valid DER";
out:
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_clear_free(data, (size_t)n);
	BIO_free(in);
	return req;
}

/* -- what is in it ------------------------------------------------------------------------------ */

/* A copy of at most max printable octets, or NULL: a NUL or a control character in a name is there to deceive. */
static char *
text_of(const ASN1_STRING *s, size_t max)
{
	size_t n = (size_t)ASN1_STRING_length(s);
	const uint8_t *p = ASN1_STRING_get0_data(s);

	if (n == 0 || n > max || ASN1_STRING_type(s) == V_ASN1_BMPSTRING || ASN1_STRING_type(s) == V_ASN1_UNIVERSALSTRING)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (p[i] < 0x20 || p[i] > 0x7e)
			return NULL;
	return mem_strndup((const char *)p, n);
}

static const char *
take_names(struct csr *c, const GENERAL_NAMES *names)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		char *text;

		if (g->type == GEN_URI) {
			if (c->id)
				return "it asks for more than one URI (X509-SVID 2: one id)";
			if ((c->id = text_of(g->d.uniformResourceIdentifier, SPIFFE_ID_MAX)) == NULL)
				return "it asks for a URI that is empty, too long or not printable";
		} else if (g->type == GEN_DNS) {
			if (c->ndns == CSR_DNS_MAX)
				return "it asks for more than 64 DNS names";
			if ((text = text_of(g->d.dNSName, 255)) == NULL)
				return "it asks for a DNS name that is empty, too long or not printable";
			c->dns[c->ndns++] = text;
		}
	}
	return NULL;
}

static const char *
take_san(struct csr *c, X509_REQ *req)
{
	STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
	GENERAL_NAMES *names = NULL;
	const char *fault = NULL;
	int crit = -1;

	if (exts)
		names = X509V3_get_d2i(exts, NID_subject_alt_name, &crit, NULL);
	if (names)
		fault = take_names(c, names);
	else if (exts && crit != -1) /* -1: not there; -2: twice; otherwise it could not be decoded */
		fault = crit == -2 ? "two subjectAltName extensions" : "a subjectAltName that is not valid DER";
	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	return fault;
}

static const char *
take_subject(struct csr *c, X509_REQ *req)
{
	const X509_NAME *name = X509_REQ_get_subject_name(req);
	int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);

	if (at < 0)
		return NULL;
	c->subject_cn = text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)), 255);
	return c->subject_cn ? NULL : "a common name that is empty, too long or not printable ASCII";
}

static const char *
take_challenge(struct csr *c, X509_REQ *req)
{
	int at = X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, -1);
	X509_ATTRIBUTE *a = at < 0 ? NULL : X509_REQ_get_attr(req, at);
	ASN1_TYPE *t;

	if (a == NULL)
		return NULL;
	if (X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, at) >= 0 || X509_ATTRIBUTE_count(a) != 1)
		return "more than one challenge password";
	t = X509_ATTRIBUTE_get0_type(a, 0);
	if (t == NULL || (t->type != V_ASN1_UTF8STRING && t->type != V_ASN1_PRINTABLESTRING && t->type != V_ASN1_IA5STRING &&
	    t->type != V_ASN1_T61STRING))
		return "a challenge password that is no text";
	c->challenge = text_of(t->value.asn1_string, CSR_CHALLENGE_MAX);
	return c->challenge ? NULL : "a challenge password that is empty, longer than 2048 octets or not printable ASCII";
}

static const char *
weak_signature(const X509_REQ *req)
{
	int md = NID_undef, pk = NID_undef;

	/* Ed25519 has no digest of its own to name. */
	if (OBJ_find_sigid_algs(X509_REQ_get_signature_nid(req), &md, &pk) != 1)
		return "signed by an unknown algorithm";
	return md == NID_sha1 || md == NID_md5 || md == NID_md5_sha1 || md == NID_md4 || md == NID_md2 || md == NID_mdc2 || md == NID_ripemd160 ?
	    "signed with a broken digest; use SHA-256" : NULL;
}

static const char *
take(struct csr *c, X509_REQ *req)
{
	const char *fault;
	unsigned char *der = NULL;
	int n;

	c->key = X509_REQ_get_pubkey(req);
	if (c->key == NULL)
		return "a public key that is damaged or of an unknown kind";
	/* The key before the signature: what a huge or odd key costs to use is its sender's choice. */
	if ((fault = svid_cert_key_fault(c->key)) != NULL || (fault = weak_signature(req)) != NULL)
		return fault;
	if (X509_REQ_verify(req, c->key) != 1) /* RFC 2986 4.2: proof that the requester has the key */
		return "its signature is not by its own key";
	if ((fault = take_san(c, req)) != NULL || (fault = take_subject(c, req)) != NULL || (fault = take_challenge(c, req)) != NULL)
		return fault;
	n = i2d_PUBKEY(c->key, &der);
	if (n <= 0)
		return "a public key that cannot be written";
	c->spki = mem_alloc((size_t)n);
	memcpy(c->spki, der, (size_t)n);
	c->spki_len = (size_t)n;
	OPENSSL_free(der);
	return NULL;
}

struct csr *
csr_read(const void *p, size_t len, const char **why)
{
	struct csr *c = NULL;
	X509_REQ *req;

	*why = NULL;
	if (len == 0 || len > CSR_MAX) {
		*why = len ? "more than 64 KiB, which is no certificate request" : "an empty certificate request";
		return NULL;
	}
	ERR_set_mark();
	/* A SEQUENCE, or text. */
	if (*(const uint8_t *)p == 0x30) {
		if ((req = from_der(p, len)) == NULL)
			*why = "a certificate request that is not valid DER";
	} else {
		req = from_pem(p, len, why);
	}
	if (req) {
		c = mem_zalloc(sizeof(*c));
		c->dns = mem_array(CSR_DNS_MAX, sizeof(*c->dns));
		if ((*why = take(c, req)) != NULL) {
			csr_free(c);
			c = NULL;
		}
	}
	X509_REQ_free(req);
	ERR_pop_to_mark();
	return c;
}

void
csr_free(struct csr *c)
{
	if (c == NULL)
		return;
	mem_free(c->spki);
	mem_free(c->id);
	for (size_t i = 0; i < c->ndns; i++)
		mem_free(c->dns[i]);
	mem_free(c->dns);
	mem_free(c->subject_cn);
	if (c->challenge)
		mem_wipe(c->challenge, strlen(c->challenge));
	mem_free(c->challenge);
	EVP_PKEY_free(c->key);
	mem_free(c);
}
