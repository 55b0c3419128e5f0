/* SPDX-License-Identifier: Apache-2.0 */
/* "Certs-only" messages: SignedData that nobody signed and that carries certificates (RFC 5652 5, RFC 7030 4.1.3, 4.2.3). */
#ifndef PKI_PKCS7_H
#define PKI_PKCS7_H

#include <stddef.h>
#include <stdint.h>

#include "pki/svid.h"

#define PKCS7_CERTS_MAX 16
#define PKCS7_BYTES_MAX 65536  /* of a message */

/* In DER, in the order given (which is no order to the reader: RFC 5652 10.2.3, a set). mem_free(); NULL with *why (static): not 1 to PKCS7_CERTS_MAX, or no certificate. */
uint8_t *pkcs7_encode(const struct svid_der *certs, size_t n, size_t *len, const char **why);

struct pkcs7_certs {
	struct svid_der certs[PKCS7_CERTS_MAX]; /* into "data" */
	size_t n;               /* at least 1 */
	uint8_t *data;
};
/* The message alone, in BER or DER, with nothing behind it. 0, or -1 with *why (static). Certificates are parsed, not verified. */
int pkcs7_decode(struct pkcs7_certs *out, const uint8_t *p, size_t len, const char **why);
void pkcs7_certs_fini(struct pkcs7_certs *c);

#endif
