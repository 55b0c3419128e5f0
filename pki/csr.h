/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificate requests (PKCS#10, RFC 2986) from operators and over EST: decoded by OpenSSL, judged here. A request that was
 * read proves that its sender has the key, and that the key is one that gateways take. What it asks for is not promised to anybody.
 */
#ifndef PKI_CSR_H
#define PKI_CSR_H

#include <stddef.h>
#include <stdint.h>

#define CSR_MAX 65536       /* octets of a request, PEM or DER */
#define CSR_DNS_MAX 64      /* names in it */
#define CSR_CHALLENGE_MAX 2048 /* RFC 2985 has 255, too few for an RSA signature (pki/est.h) */

struct evp_pkey_st;

struct csr {
	uint8_t *spki;          /* SubjectPublicKeyInfo, DER */
	size_t spki_len;
	char *id;               /* the URI SAN, as it stands there; NULL when there is none */
	char **dns;             /* its DNS names, as they stand there; other kinds of names are passed over */
	size_t ndns;
	char *subject_cn;       /* NULL when there is none */
	char *challenge;        /* challengePassword (RFC 2985 5.4.1), NULL when there is none; a secret, perhaps */
	struct evp_pkey_st *key;
};

/*
 * One request, PEM ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST") or strict DER, with nothing behind it but white space. NULL with *why (static) for one
 * that cannot be decoded, is not signed by its own key or by SHA-1 or MD5, has a key that svid.h refuses, two URI SANs, or
 * text with octets that are not printable ASCII.
 */
struct csr *csr_read(const void *p, size_t len, const char **why);
void csr_free(struct csr *c);   /* wipes the challenge; NULL is a no-op */

#endif
