/* SPDX-License-Identifier: Apache-2.0 */
/* Making one certificate (RFC 5280, X509-SVID 2–4). For ca.c alone: OpenSSL's types. */
#ifndef PKI_CERT_H
#define PKI_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

struct cert_spec {
	bool ca;
	int path_len;              /* of a CA: -1 for none */
	const char *organization;  /* O=; both are cut at 64 octets (ub-common-name) */
	const char *common_name;
	const char *id;            /* the one URI SAN */
	const char *const *dns;    /* further SANs */
	size_t ndns;
	const char *constraint;    /* of a CA: the only host its URIs may have */
	int64_t not_before, not_after;
	uint8_t serial[20];        /* first octet 0x01–0x7f: positive and never shorter */
};

/* Random, and fit for cert_spec.serial (RFC 5280 4.1.2.2). */
void cert_serial(uint8_t out[20]);
/* issuer NULL: self-signed, and signer is the key of public_key. NULL when OpenSSL refuses. */
X509 *cert_make(const struct cert_spec *s, EVP_PKEY *public_key, X509 *issuer, EVP_PKEY *signer);
/* The digest that fits the signer; NULL for Ed25519, which brings its own. */
const EVP_MD *cert_digest(EVP_PKEY *signer);
char *cert_to_pem(X509 *x);     /* mem_free() */

#endif
