/* SPDX-License-Identifier: Apache-2.0 */
/* What svid.c, svid_bundle.c and svid_cert.c share; nothing else includes this. */
#ifndef PKI_SVID_INT_H
#define PKI_SVID_INT_H

#include <openssl/x509.h>

#include "pki/svid.h"

struct svid_bundle {
	unsigned refs;
	char domain[SPIFFE_DOMAIN_MAX + 1];
	X509_STORE *store;     /* roots, and CAs below them that the bundle brings along */
};

/* Names, dates, serial and fingerprint of a leaf into *out, and every check of it that needs no CA and no clock. */
enum svid_reason svid_cert_check_leaf(X509 *leaf, enum svid_purpose purpose, struct svid_info *out, const char **detail);
/* A CA of a chain, or (anchor) of a bundle: may it sign for this domain, and are its key and signature strong enough? */
enum svid_reason svid_cert_check_ca(X509 *ca, const char *domain, bool anchor, const char **detail);
/* Public key: RSA 2048–8192, P-256/384/521, Ed25519. NULL, or what is wrong. */
const char *svid_cert_key_fault(EVP_PKEY *key);
/* 0, or -1 for a date that is none. */
int svid_cert_time(const ASN1_TIME *t, int64_t *out);
/* The first or next certificate of a PEM: NULL at the end, or with *why on anything that is not a clean CERTIFICATE block. */
X509 *svid_cert_read(BIO *pem, const char **why);
/* Strict DER: all octets used, and the same octets when written again. */
X509 *svid_cert_from_der(const uint8_t *p, size_t len);
void svid_cert_serial(X509 *x, char *out, size_t out_size);

#endif
