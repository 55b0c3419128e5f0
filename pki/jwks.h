/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE bundles as JSON (SPIFFE Trust Domain and Bundle 4; RFC 7517, RFC 7518 6, RFC 8037 2). */
#ifndef PKI_JWKS_H
#define PKI_JWKS_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

/* A JWK set of CAs for X.509-SVIDs, indented, with a newline at the end. mem_free(); NULL for a key that is none of P-256, P-384, P-521, Ed25519 and RSA. */
char *jwks_of(X509 *const *cas, size_t n, unsigned sequence, int64_t refresh_hint_s);

#endif
