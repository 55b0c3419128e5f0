/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"

struct digest {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
	struct digest *d = mem_zalloc(sizeof(*d));

	/* Fetched once: EVP_sha256() would look the implementation up for each record. */
	d->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	d->ctx = EVP_MD_CTX_new();
	if (!d->md || !d->ctx || EVP_DigestInit_ex2(d->ctx, d->md, NULL) != 1)
		abort();
	return d;
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	EVP_MD_free(d->md);
	mem_free(d);
}

/* A NULL type keeps the algorithm and only starts again. */
static void hash(struct digest *d, const void *a, size_t an, const void *b, size_t bn, uint8_t *out)
{
	if (EVP_DigestInit_ex2(d->ctx, NULL, NULL) != 1 || (an && EVP_DigestUpdate(d->ctx, a, an) != 1) ||
	    (bn && EVP_DigestUpdate(d->ctx, b, bn) != 1) || EVP_DigestFinal_ex(d->ctx, out, NULL) != 1)
		abort(); /* a journal without a hash is no journal */
}

void digest_leaf(struct digest *d, const void *p, size_t n, uint8_t out[DIGEST_LEN])
{
	hash(d, "", 1, p, n, out);
}

void digest_node(struct digest *d, const uint8_t *left, const uint8_t *right, uint8_t out[DIGEST_LEN])
{
	uint8_t b[1 + 2 * DIGEST_LEN];

	b[0] = 1;
	memcpy(b + 1, left, DIGEST_LEN);
	memcpy(b + 1 + DIGEST_LEN, right, DIGEST_LEN);
	hash(d, b, sizeof(b), NULL, 0, out);
}

void digest_plain(struct digest *d, const void *p, size_t n, uint8_t out[DIGEST_LEN])
{
	hash(d, p, n, NULL, 0, out);
}

void digest_chain(struct digest *d, const struct digest_text *text, size_t n, void (*set_prev)(uint8_t *p, size_t n, const uint8_t *prev),
    size_t tail, uint8_t prev[DIGEST_LEN], uint8_t *leaves)
{
	(void)tail;
	for (size_t i = 0; i < n; i++) {
		set_prev(text[i].p, text[i].n, prev);
		digest_leaf(d, text[i].p, text[i].n, prev);
		memcpy(leaves + i * DIGEST_LEN, prev, DIGEST_LEN);
	}
}

void digest_nodes(struct digest *d, const uint8_t *in, size_t n, uint8_t *out)
{
	for (size_t i = 0; i < n; i++)
		digest_node(d, in + 2 * i * DIGEST_LEN, in + (2 * i + 1) * DIGEST_LEN, out + i * DIGEST_LEN);
}
