/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/merkle.h"

#include <stdbool.h>
#include <string.h>

#include "gateway/base/mem.h"

void merkle_init(struct merkle *m)
{
	m->size = 0;
}

void merkle_append(struct merkle *m, struct digest *d, const uint8_t leaf[DIGEST_LEN])
{
	uint8_t h[DIGEST_LEN];
	unsigned k;

	memcpy(h, leaf, DIGEST_LEN);
	for (k = 0; m->size >> k & 1; k++)
		digest_node(d, m->node[k], h, h);
	memcpy(m->node[k], h, DIGEST_LEN);
	m->size++;
}

void merkle_append_all(struct merkle *m, struct digest *d, const uint8_t *leaves, size_t n)
{
	/* One hash more than there are: at each level the complete subtree that waits there comes first. */
	uint8_t *level = mem_alloc((n + 1) * DIGEST_LEN);
	uint64_t size = m->size;

	m->size += n;
	memcpy(level + DIGEST_LEN, leaves, n * DIGEST_LEN);
	for (unsigned k = 0; n > 0; k++) {
		uint8_t *first = level + DIGEST_LEN;

		if (size >> k & 1) {
			first -= DIGEST_LEN;
			memcpy(first, m->node[k], DIGEST_LEN);
			n++;
		}
		if (n & 1)
			memcpy(m->node[k], first + (n - 1) * DIGEST_LEN, DIGEST_LEN);
		n /= 2;
		digest_nodes(d, first, n, first);
		if (first == level)
			memmove(level + DIGEST_LEN, level, n * DIGEST_LEN);
	}
	mem_free(level);
}

void merkle_root(const struct merkle *m, struct digest *d, uint8_t out[DIGEST_LEN])
{
	bool first = true;

	if (m->size == 0) {
		digest_plain(d, NULL, 0, out);
		return;
	}
	for (unsigned k = 0; k < 64 && m->size >> k; k++) {
		if (!(m->size >> k & 1))
			continue;
		if (first)
			memcpy(out, m->node[k], DIGEST_LEN);
		else
			digest_node(d, m->node[k], out, out);
		first = false;
	}
}

/* The largest power of two below n (n > 1). */
static uint64_t split(uint64_t n)
{
	return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

void merkle_root_of(struct digest *d, const uint8_t *leaves, uint64_t n, uint8_t out[DIGEST_LEN])
{
	uint8_t l[DIGEST_LEN], r[DIGEST_LEN];

	if (n == 0) {
		digest_plain(d, NULL, 0, out);
	} else if (n == 1) {
		memcpy(out, leaves, DIGEST_LEN);
	} else {
		uint64_t k = split(n);
		merkle_root_of(d, leaves, k, l);
		merkle_root_of(d, leaves + k * DIGEST_LEN, n - k, r);
		digest_node(d, l, r, out);
	}
}

/* RFC 9162 2.1.3.1: PATH(m, D_n); the hash nearest the leaf comes first. */
static void path(struct digest *d, const uint8_t *leaves, uint64_t n, uint64_t index, struct merkle_proof *out)
{
	if (n <= 1)
		return;
	uint64_t k = split(n);
	if (index < k) {
		path(d, leaves, k, index, out);
		merkle_root_of(d, leaves + k * DIGEST_LEN, n - k, out->hash[out->n++]);
	} else {
		path(d, leaves + k * DIGEST_LEN, n - k, index - k, out);
		merkle_root_of(d, leaves, k, out->hash[out->n++]);
	}
}

int merkle_inclusion(struct digest *d, const uint8_t *leaves, uint64_t n, uint64_t index, struct merkle_proof *out)
{
	out->n = 0;
	if (index >= n)
		return -1;
	path(d, leaves, n, index, out);
	return 0;
}

/* RFC 9162 2.1.4.1: SUBPROOF(m, D_n, whole) */
static void subproof(struct digest *d, const uint8_t *leaves, uint64_t m, uint64_t n, bool whole, struct merkle_proof *out)
{
	if (m == n) {
		if (!whole)
			merkle_root_of(d, leaves, n, out->hash[out->n++]);
		return;
	}
	uint64_t k = split(n);
	if (m <= k) {
		subproof(d, leaves, m, k, whole, out);
		merkle_root_of(d, leaves + k * DIGEST_LEN, n - k, out->hash[out->n++]);
	} else {
		subproof(d, leaves + k * DIGEST_LEN, m - k, n - k, false, out);
		merkle_root_of(d, leaves, k, out->hash[out->n++]);
	}
}

int merkle_consistency(struct digest *d, const uint8_t *leaves, uint64_t m, uint64_t n, struct merkle_proof *out)
{
	out->n = 0;
	if (m == 0 || m > n)
		return -1;
	subproof(d, leaves, m, n, true, out);
	return 0;
}

int merkle_check_inclusion(struct digest *d, const struct merkle_proof *p, uint64_t n, uint64_t index,
    const uint8_t leaf[DIGEST_LEN], const uint8_t root[DIGEST_LEN])
{
	uint64_t fn = index, sn = n - 1;
	uint8_t r[DIGEST_LEN];

	if (index >= n || p->n > MERKLE_PROOF_MAX)
		return -1;
	memcpy(r, leaf, DIGEST_LEN);
	for (unsigned i = 0; i < p->n; i++) {
		if (sn == 0)
			return -1;
		if (fn & 1 || fn == sn) {
			digest_node(d, p->hash[i], r, r);
			while (fn && !(fn & 1)) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			digest_node(d, r, p->hash[i], r);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return sn == 0 && memcmp(r, root, DIGEST_LEN) == 0 ? 0 : -1;
}

int merkle_check_consistency(struct digest *d, const struct merkle_proof *p, uint64_t m, const uint8_t root_m[DIGEST_LEN],
    uint64_t n, const uint8_t root_n[DIGEST_LEN])
{
	uint8_t fr[DIGEST_LEN], sr[DIGEST_LEN];
	uint64_t fn, sn;
	unsigned i = 0;

	if (m == 0 || m > n || p->n > MERKLE_PROOF_MAX)
		return -1;
	if (m == n)
		return p->n == 0 && memcmp(root_m, root_n, DIGEST_LEN) == 0 ? 0 : -1;
	fn = m - 1;
	sn = n - 1;
	while (fn & 1) {
		fn >>= 1;
		sn >>= 1;
	}
	/* 2.1.4.2 step 2: when m is a power of two its root is the first hash. */
	if ((m & (m - 1)) == 0) {
		memcpy(fr, root_m, DIGEST_LEN);
	} else {
		if (p->n == 0)
			return -1;
		memcpy(fr, p->hash[i++], DIGEST_LEN);
	}
	memcpy(sr, fr, DIGEST_LEN);
	for (; i < p->n; i++) {
		if (sn == 0)
			return -1;
		if (fn & 1 || fn == sn) {
			digest_node(d, p->hash[i], fr, fr);
			digest_node(d, p->hash[i], sr, sr);
			while (fn && !(fn & 1)) {
				fn >>= 1;
				sn >>= 1;
			}
		} else {
			digest_node(d, sr, p->hash[i], sr);
		}
		fn >>= 1;
		sn >>= 1;
	}
	return sn == 0 && memcmp(fr, root_m, DIGEST_LEN) == 0 && memcmp(sr, root_n, DIGEST_LEN) == 0 ? 0 : -1;
}
