/* SPDX-License-Identifier: Apache-2.0 */
/* Making one CRL (RFC 5280 5): version 2, with crlNumber and authorityKeyIdentifier. For ca_*.c alone: OpenSSL's types. */
#ifndef PKI_CRL_H
#define PKI_CRL_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

struct crl_entry {
	const char *serial;     /* hex */
	int64_t at;             /* seconds since the epoch */
	const char *reason;     /* crl_reasons[], or anything else for none */
};
/* RFC 5280 5.3.1, as they are spelt there, by code; NULL where there is none. */
#define CRL_REASONS 11
extern const char *const crl_reasons[CRL_REASONS];

struct crl_spec {
	X509 *issuer;
	EVP_PKEY *key;
	uint64_t number;
	int64_t this_update, next_update;
	const struct crl_entry *entries;
	size_t n;
};
char *crl_make(const struct crl_spec *s);       /* PEM, mem_free(); NULL when OpenSSL refuses */
/* Exactly one, or NULL. */
X509_CRL *crl_from_pem(const char *pem);

#endif
