/* SPDX-License-Identifier: Apache-2.0 */
/* Client-Cert and Client-Cert-Chain (RFC 9440) back to DER: the first octet says where the one ends and the other begins. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/link/caller.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	size_t cut, cap;
	char *cert, *chain;
	struct svid_der out[SVID_MAX_CHAIN], again[SVID_MAX_CHAIN];
	uint8_t *mem;
	int k;

	if (n < 3)
		return 0;
	cap = p[1] * 16u;
	cut = (n - 2) * p[0] / 255;
	cert = mem_alloc(cut);
	chain = mem_alloc(n - 2 - cut);
	memcpy(cert, p + 2, cut);
	memcpy(chain, p + 2 + cut, n - 2 - cut);
	mem = mem_alloc(cap);
	k = caller_parse_cert(cert, cut, chain, n - 2 - cut, mem, cap, out, SVID_MAX_CHAIN);
	if (k > SVID_MAX_CHAIN || k == 0)
		abort();
	if (k > 0) {
		/* Whole, within bounds, and what we make of it reads the same. */
		struct caller_table *t = caller_table_new();
		struct svid_info info = { .id = "spiffe://a/b" };
		uint8_t *mem2 = mem_alloc(cap);
		struct caller *c;

		for (int i = 0; i < k; i++)
			if (out[i].len == 0 || out[i].p < mem || out[i].p + out[i].len > mem + cap)
				abort();
		c = caller_get_mtls(t, &info, out, (size_t)k, 0);
		if (caller_parse_cert(c->client_cert, c->client_cert_len, c->client_cert_chain, c->client_cert_chain_len, mem2, cap, again,
		    SVID_MAX_CHAIN) != k)
			abort();
		for (int i = 0; i < k; i++)
			if (again[i].len != out[i].len || memcmp(again[i].p, out[i].p, out[i].len) != 0)
				abort();
		caller_table_free(t);
		mem_free(mem2);
	}
	mem_free(cert);
	mem_free(chain);
	mem_free(mem);
	return 0;
}
