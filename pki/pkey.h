/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys of CAs, gateways, workloads and pairings: making, writing and reading them. */
#ifndef PKI_PKEY_H
#define PKI_PKEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pkey_alg { PKEY_P256, PKEY_P384, PKEY_ED25519 };

struct evp_pkey_st; /* OpenSSL's EVP_PKEY without its headers */

/*
 * For a process that keeps keys (the ca role), before anything else of this header: keys and secrets lie in memory that is locked, guarded and in no core file.
 * 0; -1: it could not be locked, but for the rest it is so. octets: a power of two.
 */
int pkey_secret_memory(size_t octets);
char *pkey_secret_new(size_t octets);          /* zeros */
char *pkey_secret(const char *text);           /* a copy there, or where there is no such memory, anywhere; NULL gives NULL */
void pkey_free_secret(char *secret);           /* wipes; NULL is a no-op */

/* "p256", "p384", "ed25519". 0 or -1. */
int pkey_alg_parse(enum pkey_alg *out, const char *text);
struct evp_pkey_st *pkey_new(enum pkey_alg alg);             /* aborts when there is no randomness */
void pkey_free(struct evp_pkey_st *k);                       /* NULL is a no-op */
/* PKCS#8 (RFC 5958), not encrypted; the caller gives it to pkey_free_pem(). */
char *pkey_to_pem(struct evp_pkey_st *k);
void pkey_free_pem(char *pem);                 /* wipes; NULL is a no-op */
/* The same encrypted: PBES2 (RFC 8018) of PBKDF2 with HMAC-SHA-256 and AES-256-CBC. passphrase NULL: not encrypted. */
char *pkey_to_pem_encrypted(struct evp_pkey_st *k, const char *passphrase);
#define PKEY_PBKDF2_ROUNDS 600000
/* NULL with *why (static). Never asks for a passphrase. */
struct evp_pkey_st *pkey_from_pem(const char *pem, const char **why);
/* passphrase may be NULL, and is not looked at where the key is not encrypted. */
struct evp_pkey_st *pkey_from_pem_encrypted(const char *pem, const char *passphrase, const char **why);
bool pkey_pem_is_encrypted(const char *pem);   /* by its label */
/* The alg whose keys look like this one; PKEY_P256 for others. */
enum pkey_alg pkey_alg_of(const struct evp_pkey_st *k);
/* Ed25519 alone (RFC 8032): for pairing files. 0 or -1. */
int pkey_public(struct evp_pkey_st *k, uint8_t out[32]);
int pkey_sign(struct evp_pkey_st *k, const void *p, size_t n, uint8_t out[64]);
int pkey_verify(const uint8_t public_key[32], const void *p, size_t n, const uint8_t signature[64]);

#endif
