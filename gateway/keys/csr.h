/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PKCS#10 certificate requests (RFC 2986) of the keys role: for renewing the certificate that a key has, and nothing else. Subject, URI and DNS names are
 * the certificate's.
 *
 * That the holder of the old key wants a renewal is proved by a signature. With the same key it is the request's own. With a new key it stands in the
 * attribute challengePassword (RFC 2985 5.4.1): base64 of a signature by the old key over the octets
 *
 *     "sallyport renewal 1", a zero octet, SubjectPublicKeyInfo of the new key in DER
 *
 * made as a CA of ours signs: ECDSA or PKCS#1 v1.5 with SHA-256, with SHA-384 from 192 bits of security upwards, Ed25519 as it is. No input of a
 * TLS CertificateVerify begins so (RFC 8446 4.4.3: with 64 spaces).
 */
#ifndef GATEWAY_KEYS_CSR_H
#define GATEWAY_KEYS_CSR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evp_pkey_st;
struct x509_st;

#define KEYS_CSR_PROOF "sallyport renewal 1"

/* The first certificate of a PEM text. NULL with *why. The caller's (X509_free). */
struct x509_st *keys_csr_certificate(const char *pem, size_t len, const char **why);
/* A request for cert's names and key, signed by key. old: NULL, or the certificate's key, which then signs the proof. 0 and *der (OPENSSL_free), or -1 with *why. */
int keys_csr_make(struct evp_pkey_st *key, struct evp_pkey_st *old, const struct x509_st *cert, uint8_t **der, size_t *len, const char **why);
/* A new key of the same kind. on_progress is called now and then while one is looked for, which may take seconds (RSA), and ends it by false. NULL: none. */
struct evp_pkey_st *keys_csr_new_key(const struct evp_pkey_st *like, bool (*on_progress)(void *ctx), void *ctx);

#endif
