/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 as the journal uses it: leaves and nodes of an RFC 9162 2.1.1 tree (the hashes of RFC 6962). */
#ifndef GATEWAY_AUDIT_DIGEST_H
#define GATEWAY_AUDIT_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_LEN 32

struct digest;             /* one fetched algorithm and one context: not for two threads */

struct digest *digest_new(void);   /* aborts when the library has no SHA-256 */
void digest_free(struct digest *d);
/* For tests: as if this CPU had at most so many vector lanes (0: EVP only). Returns how many are used. */
unsigned digest_narrow(struct digest *d, unsigned width);
void digest_leaf(struct digest *d, const void *p, size_t n, uint8_t out[DIGEST_LEN]);              /* H(0x00 || p) */
void digest_node(struct digest *d, const uint8_t *left, const uint8_t *right, uint8_t out[DIGEST_LEN]); /* H(0x01 || l || r) */
void digest_plain(struct digest *d, const void *p, size_t n, uint8_t out[DIGEST_LEN]);             /* H(p) */

/*
 * The leaf hashes of n texts, each of which has the hash of the one before in its last "tail" octets: set_prev() puts it
 * there. "prev" is the hash before the first, and the last one afterwards. Octets before the tail are hashed many texts at a time.
 */
struct digest_text {
	uint8_t *p;
	size_t n;
};
void digest_chain(struct digest *d, const struct digest_text *text, size_t n, void (*set_prev)(uint8_t *p, size_t n, const uint8_t *prev),
    size_t tail, uint8_t prev[DIGEST_LEN], uint8_t *leaves);
/* n nodes from 2n hashes, back to back; out may be the same memory. */
void digest_nodes(struct digest *d, const uint8_t *in, size_t n, uint8_t *out);

#endif
