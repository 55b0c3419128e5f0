/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two ways to the same hashes. One text after the other through EVP: always right, and the only way where the CPU has SHA
 * instructions, where a FIPS provider is demanded, or for a few texts. Many at a time through lanes.c: what of each text comes before the
 * hash of the one before is compressed in vector lanes, and only its last two or three blocks in order. These need a context
 * with a given state, which EVP does not offer, hence the library's low-level SHA256_*(): on the machine that this was measured on
 * (no SHA instructions, AVX-512) a record of 730 octets took 2.1 µs through EVP and takes 0.7 µs so.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "gateway/audit/digest.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/lanes.h"
#include "gateway/base/mem.h"

#define FEW 4 /* below that many the lanes would be mostly empty */

struct digest {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
	unsigned width;            /* lanes; 0: EVP only */
	uint32_t (*mid)[8];        /* state of each text before its tail */
	size_t mid_cap;
};

static bool self_test(struct digest *d);

struct digest *digest_new(void)
{
	struct digest *d = mem_zalloc(sizeof(*d));

	/* Fetched once: EVP_sha256() would look the implementation up for each record. */
	d->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	d->ctx = EVP_MD_CTX_new();
	if (!d->md || !d->ctx || EVP_DigestInit_ex2(d->ctx, d->md, NULL) != 1)
		abort();
	if (EVP_default_properties_is_fips_enabled(NULL))
		return d;
	d->width = lanes_width();
	if (d->width && !self_test(d))
		d->width = 0;
	return d;
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	EVP_MD_free(d->md);
	mem_free(d->mid);
	mem_free(d);
}

unsigned digest_narrow(struct digest *d, unsigned width)
{
	if (width < d->width)
		d->width = width < 8 ? 0 : 8;
	return d->width;
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

/* ---- many at a time ---------------------------------------------------------------------------- */

/* Whole blocks of 0x00 || text that do not reach into its tail. */
static size_t early_blocks(const struct digest_text *t, size_t tail)
{
	return t->n > tail ? (1 + t->n - tail) / LANES_BLOCK : 0;
}

/*
 * Fills mid[] for all texts. A lane whose text is through takes the next one; at the end some lanes turn idly on
 * the last block they had.
 */
static void early(struct digest *d, const struct digest_text *text, size_t n, size_t tail)
{
	uint32_t state[8][LANES_MAX] = {{0}};
	uint8_t first[LANES_MAX][LANES_BLOCK] = {{0}};   /* a text's first block begins with an octet that is not in it */
	const uint8_t *block[LANES_MAX];
	size_t which[LANES_MAX], left[LANES_MAX] = {0}, next = 0, busy = 0;

	for (unsigned l = 0; l < LANES_MAX; l++)
		block[l] = first[l];
	for (;;) {
		for (unsigned l = 0; l < d->width; l++) {
			while (left[l] == 0 && next < n) {
				which[l] = next++;
				memcpy(d->mid[which[l]], lanes_initial, sizeof(lanes_initial));
				left[l] = early_blocks(&text[which[l]], tail);
				if (left[l] == 0)
					continue;
				first[l][0] = 0;
				memcpy(first[l] + 1, text[which[l]].p, LANES_BLOCK - 1);
				block[l] = first[l];
				for (unsigned i = 0; i < 8; i++)
					state[i][l] = lanes_initial[i];
				busy++;
			}
		}
		if (busy == 0)
			return;
		lanes_compress(d->width, state, block);
		for (unsigned l = 0; l < d->width; l++) {
			if (left[l] == 0)
				continue;
			block[l] = block[l] == first[l] ? text[which[l]].p + LANES_BLOCK - 1 : block[l] + LANES_BLOCK;
			if (--left[l] > 0)
				continue;
			for (unsigned i = 0; i < 8; i++)
				d->mid[which[l]][i] = state[i][l];
			block[l] = first[l];
			busy--;
		}
	}
}

/* The rest of a text, from its state after "blocks" blocks. */
static void finish(const uint32_t mid[8], size_t blocks, const struct digest_text *t, uint8_t out[DIGEST_LEN])
{
	size_t done = blocks ? blocks * LANES_BLOCK - 1 : 0;
	SHA256_CTX c;

	memset(&c, 0, sizeof(c));
	for (unsigned i = 0; i < 8; i++)
		c.h[i] = mid[i];
	c.md_len = DIGEST_LEN;
	c.Nl = (SHA_LONG)(blocks * LANES_BLOCK * 8); /* octets so far, in bits: a record is far below 2^29 octets */
	if ((blocks == 0 && SHA256_Update(&c, "", 1) != 1) || SHA256_Update(&c, t->p + done, t->n - done) != 1 || SHA256_Final(out, &c) != 1)
		abort();
}

void digest_chain(struct digest *d, const struct digest_text *text, size_t n, void (*set_prev)(uint8_t *p, size_t n, const uint8_t *prev),
    size_t tail, uint8_t prev[DIGEST_LEN], uint8_t *leaves)
{
	bool wide = d->width && n >= FEW;

	if (wide) {
		if (n > d->mid_cap) {
			mem_free(d->mid);
			d->mid = mem_array(n, sizeof(*d->mid));
			d->mid_cap = n;
		}
		early(d, text, n, tail);
	}
	for (size_t i = 0; i < n; i++) {
		set_prev(text[i].p, text[i].n, prev);
		if (wide)
			finish(d->mid[i], early_blocks(&text[i], tail), &text[i], prev);
		else
			digest_leaf(d, text[i].p, text[i].n, prev);
		memcpy(leaves + i * DIGEST_LEN, prev, DIGEST_LEN);
	}
}

static void nodes(struct digest *d, const uint8_t *in, size_t n, uint8_t *out)
{
	uint8_t b[LANES_MAX][2 * LANES_BLOCK] = {{0}};
	uint32_t state[8][LANES_MAX];
	const uint8_t *block[LANES_MAX];

	for (unsigned l = 0; l < LANES_MAX; l++) {
		block[l] = b[l];
		for (unsigned i = 0; i < 8; i++)
			state[i][l] = lanes_initial[i];
	}
	for (size_t l = 0; l < n; l++) {
		b[l][0] = 1;
		memcpy(b[l] + 1, in + 2 * l * DIGEST_LEN, 2 * DIGEST_LEN);
		b[l][65] = 0x80;
		b[l][2 * LANES_BLOCK - 2] = 65 * 8 >> 8;
		b[l][2 * LANES_BLOCK - 1] = 65 * 8 & 255;
	}
	lanes_compress(d->width, state, block);
	for (unsigned l = 0; l < LANES_MAX; l++)
		block[l] += LANES_BLOCK;
	lanes_compress(d->width, state, block);
	for (size_t l = 0; l < n; l++) {
		for (unsigned i = 0; i < 8; i++) {
			uint32_t be = __builtin_bswap32(state[i][l]);
			memcpy(out + l * DIGEST_LEN + 4 * i, &be, 4);
		}
	}
}

void digest_nodes(struct digest *d, const uint8_t *in, size_t n, uint8_t *out)
{
	size_t i = 0;

	while (d->width && n - i >= FEW) {
		size_t m = n - i < d->width ? n - i : d->width;
		nodes(d, in + 2 * i * DIGEST_LEN, m, out + i * DIGEST_LEN);
		i += m;
	}
	for (; i < n; i++)
		digest_node(d, in + 2 * i * DIGEST_LEN, in + (2 * i + 1) * DIGEST_LEN, out + i * DIGEST_LEN);
}

/* ---- before it is believed --------------------------------------------------------------------- */

static void self_prev(uint8_t *p, size_t n, const uint8_t *prev)
{
	memcpy(p + n - DIGEST_LEN, prev, DIGEST_LEN);
}

/* Texts of all lengths modulo the block, against EVP. */
static bool self_test(struct digest *d)
{
	enum { N = 70 };
	uint8_t mem[N][256], leaves[N * DIGEST_LEN], prev[DIGEST_LEN] = {0}, want[DIGEST_LEN], out[N / 2 * DIGEST_LEN];
	struct digest_text text[N];

	for (unsigned i = 0; i < N; i++) {
		text[i].p = mem[i];
		text[i].n = DIGEST_LEN + 2 * i + i % 50;
		for (unsigned k = 0; k < sizeof(mem[i]); k++)
			mem[i][k] = (uint8_t)(i * 31 + k * 7);
	}
	digest_chain(d, text, N, self_prev, DIGEST_LEN, prev, leaves);
	digest_nodes(d, leaves, N / 2, out);
	for (unsigned i = 0; i < N; i++) {
		digest_leaf(d, text[i].p, text[i].n, want);
		if (memcmp(want, leaves + i * DIGEST_LEN, DIGEST_LEN) != 0)
			return false;
		if (i % 2)
			continue;
		digest_node(d, leaves + i * DIGEST_LEN, leaves + (i + 1) * DIGEST_LEN, want);
		if (memcmp(want, out + i / 2 * DIGEST_LEN, DIGEST_LEN) != 0)
			return false;
	}
	return true;
}
