/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/pkey.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include "gateway/base/mem.h"

int
pkey_secret_memory(size_t octets)
{
	/* openssl.cnf is nothing to us, and out of the role's reach. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	return CRYPTO_secure_malloc_init(octets, 32) == 1 ? 0 : -1;
}

char *
pkey_secret_new(size_t octets)
{
	char *p = OPENSSL_secure_zalloc(octets);

	if (!p)
		abort();
	return p;
}

char *
pkey_secret(const char *text)
{
	return text ? strcpy(pkey_secret_new(strlen(text) + 1), text) : NULL;
}

void
pkey_free_secret(char *secret)
{
	if (secret)
		OPENSSL_secure_clear_free(secret, strlen(secret) + 1);
}

int
pkey_alg_parse(enum pkey_alg *out, const char *text)
{
	static const struct {
		const char *name;
		enum pkey_alg alg;
	} table[] = { { "p256", PKEY_P256 }, { "p384", PKEY_P384 }, { "ed25519", PKEY_ED25519 } };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].name, text) == 0) {
			*out = table[i].alg;
			return 0;
		}
	return -1;
}

struct evp_pkey_st *
pkey_new(enum pkey_alg alg)
{
	EVP_PKEY *k = alg == PKEY_ED25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") :
					    EVP_EC_gen(alg == PKEY_P384 ? "P-384" : "P-256");

	if (k == NULL)
		abort();
	return k;
}

void
pkey_free(struct evp_pkey_st *k)
{
	EVP_PKEY_free(k);
}

char *
pkey_to_pem(struct evp_pkey_st *k)
{
	BIO *out = BIO_new(BIO_s_secmem());
	char *p, *pem;
	long n;

	if (out == NULL || PEM_write_bio_PKCS8PrivateKey(out, k, NULL, NULL, 0, NULL, NULL) != 1)
		abort();
	n = BIO_get_mem_data(out, &p);
	pem = mem_strndup(p, (size_t)n);
	BIO_free(out);
	return pem;
}

void
pkey_free_pem(char *pem)
{
	if (pem)
		mem_wipe(pem, strlen(pem));
	mem_free(pem);
}

char *
pkey_to_pem_encrypted(struct evp_pkey_st *k, const char *passphrase)
{
	PKCS8_PRIV_KEY_INFO *plain;
	X509_ALGOR *how;
	X509_SIG *box;
	BIO *out;
	char *p, *pem;
	long n;

	if (passphrase == NULL)
		return pkey_to_pem(k);
	plain = EVP_PKEY2PKCS8(k);
	how = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), PKEY_PBKDF2_ROUNDS, NULL, 16, NULL, NID_hmacWithSHA256);
	box = plain && how ? PKCS8_set0_pbe(passphrase, (int)strlen(passphrase), plain, how) : NULL; /* takes "how" */
	out = BIO_new(BIO_s_mem());
	if (box == NULL || out == NULL || PEM_write_bio_PKCS8(out, box) != 1)
		abort();
	n = BIO_get_mem_data(out, &p);
	pem = mem_strndup(p, (size_t)n);
	BIO_free(out);
	X509_SIG_free(box);
	PKCS8_PRIV_KEY_INFO_free(plain);
	return pem;
}

bool
pkey_pem_is_encrypted(const char *pem)
{
	return strstr(pem, "-----BEGIN " PEM_STRING_PKCS8 "-----") || strstr(pem, "Proc-Type: 4,ENCRYPTED");
}

enum pkey_alg
pkey_alg_of(const struct evp_pkey_st *k)
{
	if (EVP_PKEY_get_base_id(k) == EVP_PKEY_ED25519)
		return PKEY_ED25519;
	return EVP_PKEY_get_base_id(k) == EVP_PKEY_EC && EVP_PKEY_get_bits(k) == 384 ? PKEY_P384 : PKEY_P256;
}

struct asked {
	const char *passphrase;
	bool asked, too_long;
};

static int
answer(char *buf, int size, int rw, void *ctx)
{
	struct asked *a = ctx;
	size_t n = a->passphrase ? strlen(a->passphrase) : 0;

	(void)rw;
	a->asked = true;
	a->too_long = n > (size_t)size;
	if (n == 0 || a->too_long)
		return -1;
	memcpy(buf, a->passphrase, n);
	return (int)n;
}

struct evp_pkey_st *
pkey_from_pem_encrypted(const char *pem, const char *passphrase, const char **why)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	struct asked a = { .passphrase = passphrase };
	EVP_PKEY *k;

	if (in == NULL)
		abort();
	ERR_set_mark();
	k = PEM_read_bio_PrivateKey(in, NULL, answer, &a);
	ERR_pop_to_mark();
	BIO_free(in);
	*why = k ? NULL : !a.asked ? "no private key in PEM form" : passphrase == NULL ? "the key is encrypted" :
	    a.too_long ? "the passphrase is too long" : "wrong passphrase, or the key is damaged";
	return k;
}

struct evp_pkey_st *
pkey_from_pem(const char *pem, const char **why)
{
	return pkey_from_pem_encrypted(pem, NULL, why);
}

int
pkey_public(struct evp_pkey_st *k, uint8_t out[32])
{
	size_t n = 32;

	if (EVP_PKEY_get_base_id(k) != EVP_PKEY_ED25519)
		return -1;
	return EVP_PKEY_get_raw_public_key(k, out, &n) == 1 && n == 32 ? 0 : -1;
}

int
pkey_sign(struct evp_pkey_st *k, const void *p, size_t n, uint8_t out[64])
{
	EVP_MD_CTX *ctx;
	size_t len = 64;
	int ok;

	if (EVP_PKEY_get_base_id(k) != EVP_PKEY_ED25519)
		return -1;
	ctx = EVP_MD_CTX_new();
	ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, k) == 1 && EVP_DigestSign(ctx, out, &len, p, n) == 1 && len == 64;
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -1;
}

int
pkey_verify(const uint8_t public_key[32], const void *p, size_t n, const uint8_t signature[64])
{
	EVP_PKEY *k;
	EVP_MD_CTX *ctx;
	int ok;

	ERR_set_mark();
	k = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
	ctx = EVP_MD_CTX_new();
	ok = k && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k) == 1 && EVP_DigestVerify(ctx, signature, 64, p, n) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(k);
	ERR_pop_to_mark();
	return ok ? 0 : -1;
}
