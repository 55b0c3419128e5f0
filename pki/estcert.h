/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what an enrolment service answered (RFC 7030 4.2.3) is the certificate that was asked for. For whoever asked: a worker, gwctl. */
#ifndef PKI_ESTCERT_H
#define PKI_ESTCERT_H

#include <stddef.h>
#include <stdint.h>

#include "pki/svid.h"

struct estcert_want {
	const uint8_t *csr;          /* what was sent, DER */
	size_t csr_len;
	struct svid_bundle *bundle;  /* the CAs that may have signed it */
	const char *id;              /* SPIFFE ID; NULL: any of the bundle's domain */
	const char *chain_pem;       /* NULL, or a chain whose CAs may stand in the gap when the answer has the certificate alone */
	int64_t now;
};
/*
 * Of certificates in any order: the one for the request's key, with the CAs above it, verified. PEM, leaf first; mem_free(). NULL with *why (static, or valid
 * until the next call).
 */
char *estcert_take(const struct estcert_want *w, const struct svid_der *certs, size_t n, int64_t *not_after, const char **why);

#endif
