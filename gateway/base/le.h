/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian integers at any alignment, for images and records. */
#ifndef GATEWAY_BASE_LE_H
#define GATEWAY_BASE_LE_H

#include <stdint.h>
#include <string.h>

static inline void le_put16(void *p, uint16_t v) { memcpy(p, &v, sizeof(v)); }
static inline void le_put32(void *p, uint32_t v) { memcpy(p, &v, sizeof(v)); }
static inline void le_put64(void *p, uint64_t v) { memcpy(p, &v, sizeof(v)); }
static inline uint16_t le_get16(const void *p) { uint16_t v; memcpy(&v, p, sizeof(v)); return v; }
static inline uint32_t le_get32(const void *p) { uint32_t v; memcpy(&v, p, sizeof(v)); return v; }
static inline uint64_t le_get64(const void *p) { uint64_t v; memcpy(&v, p, sizeof(v)); return v; }

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "images and rings are written in host order and only little-endian hosts are supported"
#endif

#endif
