/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-1-3 keyed by a random value made at first use: for tables whose keys a peer chooses. */
#ifndef GATEWAY_BASE_HASH_H
#define GATEWAY_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *p, size_t n);             /* keyed per process */
uint64_t hash_keyed(const uint8_t key[16], const void *p, size_t n);
void hash_random(void *p, size_t n);                      /* getrandom(2); aborts when it fails */

#endif
