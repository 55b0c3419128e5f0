/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests as EST clients make them, good and bad. Aborts when it cannot. */
#ifndef TESTS_UNIT_PKI_ESTBED_H
#define TESTS_UNIT_PKI_ESTBED_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

struct estbed_csr {
	EVP_PKEY *key;
	const char *uri;          /* NULL: none */
	const char *dns[4];
	const char *challenge;    /* NULL: none, and none of these: */
	const char *token;        /* its proof */
	EVP_PKEY *old;            /* its word for the new key */
	EVP_PKEY *instead;        /* the proof or word is for this one's public key */
};
struct estbed_der {
	uint8_t p[16384];
	size_t len;
};
struct estbed_der estbed_csr(const struct estbed_csr *c);
/* "P-256", "P-384", "ED25519", "RSA" (2048), "RSA1024". */
EVP_PKEY *estbed_key(const char *kind);
/* Whether a DER certificate has that key. */
int estbed_has_key(const uint8_t *der, size_t len, EVP_PKEY *key);
/* A CA's directory of its own for hud.example, removed by estbed_clean(). */
const char *estbed_store(void);
const char *estbed_encrypted_store(const char *passphrase);
void estbed_clean(void);
/* A token for name, now. */
char *estbed_token(const char *store, const char *name, const char *dns, int64_t now, int64_t ttl_s);

#endif
