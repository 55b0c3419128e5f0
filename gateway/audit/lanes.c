/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/lanes.h"

#include <string.h>

const uint32_t lanes_initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#if defined(__x86_64__)
#include <cpuid.h>

/* FIPS 180-4 4.2.2 */
static const uint32_t k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))

/* Rounds t to t + 15 on the schedule w; from the second time on each word is made from those before it. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                                            \
	do {                                                                                                                        \
		if (t)                                                                                                              \
			w[i] += (ROTR(w[((i) + 14) & 15], 17) ^ ROTR(w[((i) + 14) & 15], 19) ^ w[((i) + 14) & 15] >> 10) +          \
			    w[((i) + 9) & 15] +                                                                                     \
			    (ROTR(w[((i) + 1) & 15], 7) ^ ROTR(w[((i) + 1) & 15], 18) ^ w[((i) + 1) & 15] >> 3);                    \
		h += (ROTR(e, 6) ^ ROTR(e, 11) ^ ROTR(e, 25)) + ((e & f) ^ (~e & g)) + w[i] + k[t + (i)];                           \
		d += h;                                                                                                             \
		h += (ROTR(a, 2) ^ ROTR(a, 13) ^ ROTR(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));                                      \
	} while (0)

/* One function per width: the same text, another vector type. */
#define COMPRESS(name, lanes, isa)                                                                                                  \
	typedef uint32_t name##_v __attribute__((vector_size(4 * (lanes))));                                                        \
	__attribute__((target(isa))) static void name(uint32_t state[8][LANES_MAX], const uint8_t *const block[LANES_MAX])          \
	{                                                                                                                           \
		uint32_t words[16][lanes] __attribute__((aligned(64)));                                                             \
		name##_v w[16], s[8], a, b, c, d, e, f, g, h;                                                                       \
                                                                                                                                    \
		for (unsigned l = 0; l < (lanes); l++) {                                                                            \
			for (unsigned i = 0; i < 16; i++) {                                                                         \
				uint32_t x;                                                                                         \
				memcpy(&x, block[l] + 4 * i, 4);                                                                    \
				words[i][l] = __builtin_bswap32(x);                                                                 \
			}                                                                                                           \
		}                                                                                                                   \
		memcpy(w, words, sizeof(w));                                                                                        \
		for (unsigned i = 0; i < 8; i++)                                                                                    \
			memcpy(&s[i], state[i], sizeof(s[i]));                                                                      \
		a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];                                     \
		for (unsigned t = 0; t < 64; t += 16) {                                                                             \
			ROUND(a, b, c, d, e, f, g, h, 0);                                                                           \
			ROUND(h, a, b, c, d, e, f, g, 1);                                                                           \
			ROUND(g, h, a, b, c, d, e, f, 2);                                                                           \
			ROUND(f, g, h, a, b, c, d, e, 3);                                                                           \
			ROUND(e, f, g, h, a, b, c, d, 4);                                                                           \
			ROUND(d, e, f, g, h, a, b, c, 5);                                                                           \
			ROUND(c, d, e, f, g, h, a, b, 6);                                                                           \
			ROUND(b, c, d, e, f, g, h, a, 7);                                                                           \
			ROUND(a, b, c, d, e, f, g, h, 8);                                                                           \
			ROUND(h, a, b, c, d, e, f, g, 9);                                                                           \
			ROUND(g, h, a, b, c, d, e, f, 10);                                                                          \
			ROUND(f, g, h, a, b, c, d, e, 11);                                                                          \
			ROUND(e, f, g, h, a, b, c, d, 12);                                                                          \
			ROUND(d, e, f, g, h, a, b, c, 13);                                                                          \
			ROUND(c, d, e, f, g, h, a, b, 14);                                                                          \
			ROUND(b, c, d, e, f, g, h, a, 15);                                                                          \
		}                                                                                                                   \
		s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;                             \
		for (unsigned i = 0; i < 8; i++)                                                                                    \
			memcpy(state[i], &s[i], sizeof(s[i]));                                                                      \
	}

COMPRESS(compress_16, 16, "avx512f")
COMPRESS(compress_8, 8, "avx2")

unsigned lanes_width(void)
{
	unsigned a, b, c, d;

	/* CPUID leaf 7: EBX bit 29 is SHA. */
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1)
		return 0;
	return __builtin_cpu_supports("avx512f") ? 16 : __builtin_cpu_supports("avx2") ? 8 : 0;
}

void lanes_compress(unsigned width, uint32_t state[8][LANES_MAX], const uint8_t *const block[LANES_MAX])
{
	if (width == 16)
		compress_16(state, block);
	else
		compress_8(state, block);
}

#else

unsigned lanes_width(void)
{
	return 0;
}

void lanes_compress(unsigned width, uint32_t state[8][LANES_MAX], const uint8_t *const block[LANES_MAX])
{
	(void)width;
	(void)state;
	(void)block;
}

#endif
