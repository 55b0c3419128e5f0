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
void digest_leaf(struct digest *d, const void *p, size_t n, uint8_t out[DIGEST_LEN]);              /* H(0x00 || p) */
void digest_node(struct digest *d, const uint8_t *left, const uint8_t *right, uint8_t out[DIGEST_LEN]); /* H(0x01 || l || r) */
void digest_plain(struct digest *d, const void *p, size_t n, uint8_t out[DIGEST_LEN]);             /* H(p) */

#endif
