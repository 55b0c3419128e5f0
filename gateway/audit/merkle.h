/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Merkle tree of RFC 9162 2.1 (the tree of RFC 6962) over leaf hashes: grown one leaf at a time in
 * constant memory, and proofs from stored leaf hashes. Leaves are given as hashes, 32 octets each, back to back.
 */
#ifndef GATEWAY_AUDIT_MERKLE_H
#define GATEWAY_AUDIT_MERKLE_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/digest.h"

/* The complete subtrees from the left, by height: all that is needed to go on (a compact range). */
struct merkle {
	uint64_t size;
	uint8_t node[64][DIGEST_LEN]; /* [k] is set when bit k of size is */
};

void merkle_init(struct merkle *m);
void merkle_append(struct merkle *m, struct digest *d, const uint8_t leaf[DIGEST_LEN]);
/* The same for n leaves at once, level by level. */
void merkle_append_all(struct merkle *m, struct digest *d, const uint8_t *leaves, size_t n);
void merkle_root(const struct merkle *m, struct digest *d, uint8_t out[DIGEST_LEN]); /* of no leaf: H() */

/* From leaves in memory. merkle_root_of() is the definition itself (2.1.1), for checking. */
void merkle_root_of(struct digest *d, const uint8_t *leaves, uint64_t n, uint8_t out[DIGEST_LEN]);

#define MERKLE_PROOF_MAX 64
struct merkle_proof {
	unsigned n;
	uint8_t hash[MERKLE_PROOF_MAX + 1][DIGEST_LEN];
};
/* Proof that leaf "index" is in the first n (2.1.3.1); 0 or -1 when index >= n. */
int merkle_inclusion(struct digest *d, const uint8_t *leaves, uint64_t n, uint64_t index, struct merkle_proof *out);
/* Proof that the tree of size n only adds to that of size m (2.1.4.1); 0, or -1 when m is 0 or above n. */
int merkle_consistency(struct digest *d, const uint8_t *leaves, uint64_t m, uint64_t n, struct merkle_proof *out);
/* 2.1.3.2 and 2.1.4.2: 0 when the proof holds, else -1. */
int merkle_check_inclusion(struct digest *d, const struct merkle_proof *p, uint64_t n, uint64_t index,
    const uint8_t leaf[DIGEST_LEN], const uint8_t root[DIGEST_LEN]);
int merkle_check_consistency(struct digest *d, const struct merkle_proof *p, uint64_t m, const uint8_t root_m[DIGEST_LEN],
    uint64_t n, const uint8_t root_n[DIGEST_LEN]);

#endif
