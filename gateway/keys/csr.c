/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/keys/csr.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "gateway/keys/ident.h"

struct x509_st *
keys_csr_certificate(const char *pem, size_t len, const char **why)
{
	BIO *in = BIO_new_mem_buf(pem, (int)len);
	X509 *x = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	ERR_clear_error();
	if (!x)
		*why = "no PEM certificate in it";
	return x;
}

/* NULL: the key brings its own. */
static const EVP_MD *
digest_for(const EVP_PKEY *key)
{
	if (EVP_PKEY_is_a(key, "ED25519"))
		return NULL;
	return EVP_PKEY_get_security_bits(key) >= 192 ? EVP_sha384() : EVP_sha256();
}

/* URI and DNS names alone: an address or a mail name is nobody's in a domain of SPIFFE ids. */
static GENERAL_NAMES *
names_of(const X509 *cert)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	for (int i = all ? sk_GENERAL_NAME_num(all) : 0; i-- > 0;) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(all, i);

		if (n->type != GEN_URI && n->type != GEN_DNS)
			GENERAL_NAME_free(sk_GENERAL_NAME_delete(all, i));
	}
	return all;
}

static int
add_names(X509_REQ *req, const X509 *cert)
{
	GENERAL_NAMES *names = names_of(cert);
	STACK_OF(X509_EXTENSION) *exts = NULL;
	int ok = 1;

	if (names && sk_GENERAL_NAME_num(names) > 0) {
		ok = X509V3_add1_i2d(&exts, NID_subject_alt_name, names, X509_NAME_entry_count(X509_get_subject_name(cert)) == 0,
		    X509V3_ADD_DEFAULT) == 1 && X509_REQ_add_extensions(req, exts) == 1;
	}
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	GENERAL_NAMES_free(names);
	return ok;
}

/* The old key's word for the new one. */
static int
add_proof(X509_REQ *req, EVP_PKEY *key, EVP_PKEY *old)
{
	const size_t head = sizeof(KEYS_CSR_PROOF);
	uint8_t sig[KEYS_SIG_MAX], text[(KEYS_SIG_MAX + 2) / 3 * 4 + 1], *spki = NULL, *tbs = NULL;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	size_t len = sizeof(sig);
	int n = i2d_PUBKEY(key, &spki), ok = 0;

	if (n <= 0 || !md)
		goto out;
	tbs = mem_alloc(head + (size_t)n);
	memcpy(tbs, KEYS_CSR_PROOF, head); /* with its zero octet */
	memcpy(tbs + head, spki, (size_t)n);
	if (EVP_DigestSignInit(md, NULL, digest_for(old), NULL, old) != 1 || EVP_DigestSign(md, sig, &len, tbs, head + (size_t)n) != 1)
		goto out;
	n = EVP_EncodeBlock(text, sig, (int)len);
	ok = X509_REQ_add1_attr_by_NID(req, NID_pkcs9_challengePassword, MBSTRING_ASC, text, n);
out:
	EVP_MD_CTX_free(md);
	OPENSSL_free(spki);
	mem_free(tbs);
	return ok;
}

int
keys_csr_make(struct evp_pkey_st *key, struct evp_pkey_st *old, const struct x509_st *cert, uint8_t **der, size_t *len, const char **why)
{
	X509_REQ *req = X509_REQ_new();
	int n = -1, rc = -1;

	*der = NULL;
	*why = "OpenSSL failed";
	if (!req || !X509_REQ_set_version(req, X509_REQ_VERSION_1) || !X509_REQ_set_subject_name(req, X509_get_subject_name(cert)) ||
	    !X509_REQ_set_pubkey(req, key) || !add_names(req, cert))
		goto out;
	if (old && !add_proof(req, key, old)) {
		*why = "the old key could not sign for the new one";
		goto out;
	}
	if (!X509_REQ_sign(req, key, digest_for(key)) || (n = i2d_X509_REQ(req, der)) <= 0)
		goto out;
	if ((size_t)n > KEYS_CSR_MAX) {
		*why = "the certificate has too many names";
		OPENSSL_free(*der);
		*der = NULL;
		goto out;
	}
	*len = (size_t)n;
	rc = 0;
out:
	X509_REQ_free(req);
	ERR_clear_error();
	return rc;
}

struct progress {
	bool (*fn)(void *ctx);
	void *ctx;
};

static int
on_step(EVP_PKEY_CTX *gen)
{
	const struct progress *p = EVP_PKEY_CTX_get_app_data(gen);

	return p->fn(p->ctx);
}

struct evp_pkey_st *
keys_csr_new_key(const struct evp_pkey_st *like, bool (*on_progress)(void *ctx), void *ctx)
{
	struct progress progress = { on_progress, ctx };
	const char *why;
	int type = keys_ident_type(like, &why);
	EVP_PKEY_CTX *gen = NULL;
	EVP_PKEY *key = NULL;
	char group[32];
	size_t n;

	switch (type) {
	case KEYS_ED25519_KEY:
		gen = EVP_PKEY_CTX_new_from_name(NULL, "ED25519", NULL);
		if (!gen || EVP_PKEY_keygen_init(gen) != 1)
			goto out;
		break;
	case KEYS_RSA:
		gen = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
		if (!gen || EVP_PKEY_keygen_init(gen) != 1 || EVP_PKEY_CTX_set_rsa_keygen_bits(gen, EVP_PKEY_get_bits(like)) != 1)
			goto out;
		break;
	case KEYS_P256: case KEYS_P384: case KEYS_P521:
		gen = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
		if (!gen || EVP_PKEY_keygen_init(gen) != 1 || !EVP_PKEY_get_group_name(like, group, sizeof(group), &n) ||
		    EVP_PKEY_CTX_set_group_name(gen, group) != 1)
			goto out;
		break;
	default:
		return NULL;
	}
	EVP_PKEY_CTX_set_app_data(gen, &progress);
	EVP_PKEY_CTX_set_cb(gen, on_step);
	if (EVP_PKEY_generate(gen, &key) != 1)
		key = NULL;
out:
	EVP_PKEY_CTX_free(gen);
	ERR_clear_error();
	return key;
}
