/* SPDX-License-Identifier: Apache-2.0 */
/* Certs-only PKCS#7: the certificates that were read are written and read again. */
#include <stdlib.h>

#include <openssl/err.h>

#include "gateway/base/mem.h"
#include "pki/pkcs7.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pkcs7_certs certs, back;
	const char *why = NULL;
	uint8_t *again;
	size_t n;

	if (pkcs7_decode(&certs, data, len, &why) == 0) {
		if (certs.n < 1 || certs.n > PKCS7_CERTS_MAX)
			abort();
		again = pkcs7_encode(certs.certs, certs.n, &n, &why);
		/* What was read in BER may be too large in DER, and a certificate that only BER can say is none to us. */
		if (again) {
			if (pkcs7_decode(&back, again, n, &why) < 0 || back.n != certs.n)
				abort();
			pkcs7_certs_fini(&back);
		}
		mem_free(again);
		pkcs7_certs_fini(&certs);
	} else if (!why) {
		abort();
	}
	if (ERR_peek_error())
		abort();
	return 0;
}
