/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/hash.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>

#include "gateway/base/le.h"

static inline uint64_t
rotl(uint64_t v, unsigned n)
{
	return v << n | v >> (64 - n);
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline void
sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

/* SipHash (Aumasson, Bernstein 2012) with one round per word and three at the end. */
uint64_t
hash_keyed(const uint8_t key[16], const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t k0 = le_get64(key), k1 = le_get64(key + 8);
	struct sip s = {
		.v0 = k0 ^ 0x736f6d6570736575,
		.v1 = k1 ^ 0x646f72616e646f6d,
		.v2 = k0 ^ 0x6c7967656e657261,
		.v3 = k1 ^ 0x7465646279746573,
	};
	uint64_t m, last = (uint64_t)n << 56;
	size_t i, left = n & 7;

	for (i = 0; i + 8 <= n; i += 8) {
		m = le_get64(p + i);
		s.v3 ^= m;
		sip_round(&s);
		s.v0 ^= m;
	}
	while (left-- > 0)
		last |= (uint64_t)p[i + left] << (8 * left);
	s.v3 ^= last;
	sip_round(&s);
	s.v0 ^= last;
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t
hash_bytes(const void *p, size_t n)
{
	static uint8_t key[16];
	static bool have_key;

	if (__builtin_expect(!have_key, 0)) {
		hash_random(key, sizeof(key));
		have_key = true;
	}
	return hash_keyed(key, p, n);
}

void
hash_random(void *p, size_t n)
{
	uint8_t *to = p;

	while (n > 0) {
		ssize_t got = getrandom(to, n, 0);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			abort(); /* no randomness: nothing that we would do next is safe */
		}
		to += got;
		n -= (size_t)got;
	}
}
