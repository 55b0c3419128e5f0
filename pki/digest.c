/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"

struct digest_run {
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

struct digest_run *
digest_begin(void)
{
	struct digest_run *d = mem_zalloc(sizeof(*d));

	d->ctx = EVP_MD_CTX_new();
	must(d->ctx != NULL && EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
	return d;
}

void
digest_update(struct digest_run *d, const void *p, size_t n)
{
	if (n > 0)
		must(EVP_DigestUpdate(d->ctx, p, n));
}

void
digest_final(struct digest_run *d, uint8_t out[DIGEST_SHA256_LEN])
{
	must(EVP_DigestFinal_ex(d->ctx, out, NULL));
	digest_cancel(d);
}

void
digest_cancel(struct digest_run *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	mem_free(d);
}

void
digest_sha256(uint8_t out[DIGEST_SHA256_LEN], const void *p, size_t n)
{
	struct digest_run *d = digest_begin();

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
