/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"

struct digest {
	EVP_MD_CTX *ctx;
};

/* A digest that is wrong must never be taken for one, and there is no caller that could go on without. */
static void
must(int ok)
{
	if (ok == 1)
		return;
	fputs("SHA-256 is not available from OpenSSL\n", stderr);
	abort();
}

struct digest *
digest_new(void)
{
	struct digest *d = mem_zalloc(sizeof(*d));

	d->ctx = EVP_MD_CTX_new();
	must(d->ctx != NULL && EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
	return d;
}

void
digest_update(struct digest *d, const void *p, size_t n)
{
	if (n > 0)
		must(EVP_DigestUpdate(d->ctx, p, n));
}

void
digest_final(struct digest *d, uint8_t out[DIGEST_SHA256_LEN])
{
	must(EVP_DigestFinal_ex(d->ctx, out, NULL));
	digest_free(d);
}

void
digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	mem_free(d);
}

void
digest_sha256(uint8_t out[DIGEST_SHA256_LEN], const void *p, size_t n)
{
	struct digest *d = digest_new();

	digest_update(d, p, n);
	digest_final(d, out);
}

void
digest_sha256_hex(char out[2 * DIGEST_SHA256_LEN + 1], const void *p, size_t n)
{
	uint8_t bytes[DIGEST_SHA256_LEN];

	digest_sha256(bytes, p, n);
	esc_hex(out, bytes, sizeof(bytes));
	out[2 * sizeof(bytes)] = '\0';
}
