/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SHA-256 compression function (FIPS 180-4 6.2.2) on many independent blocks at once, one per vector lane. For CPUs with wide
 * vectors and without SHA instructions, where it takes a fraction of what one block after the other takes. No padding, no
 * context: digest.c does that, and checks this against the library before it is used.
 */
#ifndef GATEWAY_AUDIT_LANES_H
#define GATEWAY_AUDIT_LANES_H

#include <stdint.h>

#define LANES_MAX 16
#define LANES_BLOCK 64

extern const uint32_t lanes_initial[8];   /* FIPS 180-4 5.3.3 */

/* How many lanes this CPU has; 0: none, or it has SHA instructions, which are better. */
unsigned lanes_width(void);
/* state[word][lane] takes in block[lane], for the first "width" lanes: 8 or 16, at most lanes_width(). */
void lanes_compress(unsigned width, uint32_t state[8][LANES_MAX], const uint8_t *const block[LANES_MAX]);

#endif
