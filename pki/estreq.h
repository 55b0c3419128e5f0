/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests (PKCS#10, RFC 2986) of whoever wants a certificate by EST: for gwctl. Those of a gateway's own keys are gateway/keys/csr.h's. */
#ifndef PKI_ESTREQ_H
#define PKI_ESTREQ_H

#include <stddef.h>
#include <stdint.h>

struct evp_pkey_st;

struct estreq {
	struct evp_pkey_st *key;     /* whose certificate it will be, and which signs the request */
	const char *id;              /* SPIFFE ID */
	const char *const *dns;
	size_t ndns;
	const char *token;           /* NULL, or an enrolment token: its proof for this key goes along (pki/token.h) */
	struct evp_pkey_st *old;     /* NULL, or the key of the certificate that is to be renewed, where it is another: its word for the new one (pki/est.h) */
};
/* DER; mem_free(). NULL with *why (static). */
uint8_t *estreq_make(const struct estreq *r, size_t *len, const char **why);

#endif
