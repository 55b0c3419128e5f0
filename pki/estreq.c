/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/estreq.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/token.h"

#define SIGNATURE_MAX 1024

static const char renewal[] = "sallyport renewal 1"; /* its zero octet is signed, too */

static const EVP_MD *
digest_for(const EVP_PKEY *key)
{
	if (EVP_PKEY_is_a(key, "ED25519"))
		return NULL;
	return EVP_PKEY_get_security_bits(key) >= 192 ? EVP_sha384() : EVP_sha256();
}

static bool
add_name(GENERAL_NAMES *names, int type, const char *text)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	if (!g || !s || !ASN1_STRING_set(s, text, -1) || !sk_GENERAL_NAME_push(names, g)) {
		ASN1_IA5STRING_free(s);
		GENERAL_NAME_free(g);
		return false;
	}
	GENERAL_NAME_set0_value(g, type, s);
	return true;
}

static bool
add_names(X509_REQ *req, const struct estreq *r)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	STACK_OF(X509_EXTENSION) *exts = NULL;
	bool ok = names && add_name(names, GEN_URI, r->id);

	for (size_t i = 0; i < r->ndns && ok; i++)
		ok = add_name(names, GEN_DNS, r->dns[i]);
	/* Critical: the subject is empty (RFC 5280 4.2.1.6). */
	ok = ok && X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1 && X509_REQ_add_extensions(req, exts) == 1;
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return ok;
}

/* Base64 of the old key's signature over the new key. mem_free(); NULL. */
static char *
sign_for(EVP_PKEY *old, const uint8_t *spki, size_t len)
{
	uint8_t sig[SIGNATURE_MAX], *tbs = mem_alloc(sizeof(renewal) + len);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	size_t n = sizeof(sig);
	char *text = NULL;

	memcpy(tbs, renewal, sizeof(renewal));
	memcpy(tbs + sizeof(renewal), spki, len);
	if (md && EVP_DigestSignInit(md, NULL, digest_for(old), NULL, old) == 1 && EVP_DigestSign(md, sig, &n, tbs, sizeof(renewal) + len) == 1) {
		text = mem_zalloc(esc_base64_size(n) + 1);
		esc_base64(text, sig, n);
	}
	EVP_MD_CTX_free(md);
	mem_free(tbs);
	return text;
}

static bool
add_challenge(X509_REQ *req, const struct estreq *r)
{
	uint8_t *spki = NULL;
	char *text = NULL;
	bool ok = true;
	int n;

	if (!r->token && !r->old)
		return true;
	n = i2d_PUBKEY(r->key, &spki);
	if (n <= 0)
		return false;
	if (r->token) {
		text = mem_zalloc(TOKEN_PROOF_SIZE);
		token_proof(text, r->token, spki, (size_t)n);
	} else {
		text = sign_for(r->old, spki, (size_t)n);
	}
	ok = text && X509_REQ_add1_attr_by_NID(req, NID_pkcs9_challengePassword, MBSTRING_ASC, (const uint8_t *)text, (int)strlen(text)) == 1;
	if (text)
		mem_wipe(text, strlen(text));
	mem_free(text);
	OPENSSL_free(spki);
	return ok;
}

uint8_t *
estreq_make(const struct estreq *r, size_t *len, const char **why)
{
	X509_REQ *req = X509_REQ_new();
	uint8_t *der = NULL, *out = NULL;
	int n;

	*why = "OpenSSL could not make a certificate request with this key and these names";
	if (req && X509_REQ_set_version(req, X509_REQ_VERSION_1) == 1 && X509_REQ_set_pubkey(req, r->key) == 1 && add_names(req, r) &&
	    add_challenge(req, r) && X509_REQ_sign(req, r->key, digest_for(r->key)) > 0 && (n = i2d_X509_REQ(req, &der)) > 0) {
		out = mem_alloc((size_t)n);
		memcpy(out, der, (size_t)n);
		*len = (size_t)n;
	}
	OPENSSL_free(der);
	X509_REQ_free(req);
	ERR_clear_error();
	return out;
}
