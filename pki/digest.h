/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) for folders that may not include OpenSSL themselves. Aborts when the library has no SHA-256. */
#ifndef PKI_DIGEST_H
#define PKI_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SHA256_LEN 32

void digest_sha256(uint8_t out[DIGEST_SHA256_LEN], const void *p, size_t n);
/* The same as 64 lower-case hex digits and a NUL. */
void digest_sha256_hex(char out[2 * DIGEST_SHA256_LEN + 1], const void *p, size_t n);

/* In pieces: digest_begin, any number of digest_update, then digest_final, which frees. */
struct digest_run;
struct digest_run *digest_begin(void);
void digest_update(struct digest_run *d, const void *p, size_t n);
void digest_final(struct digest_run *d, uint8_t out[DIGEST_SHA256_LEN]);
void digest_cancel(struct digest_run *d); /* to give up; NULL is a no-op */

#endif
