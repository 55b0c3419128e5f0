/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "gateway/base/hash.h"

/*
 * Random bytes are drawn a page at a time: one system call for 500 ids. The page is wiped by the kernel in a child after
 * fork (MADV_WIPEONFORK), where "left" then reads 0 and the child draws its own; so no getpid() per id.
 */
#define POOL_SIZE 4096
struct pool {
	uint64_t left;
	uint8_t b[POOL_SIZE - sizeof(uint64_t)];
};

static struct pool *pool;

static void
random64(uint8_t out[8])
{
	if (__builtin_expect(!pool, 0)) {
		void *p = mmap(NULL, sizeof(*pool), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p != MAP_FAILED && madvise(p, sizeof(*pool), MADV_WIPEONFORK) != 0) {
			munmap(p, sizeof(*pool));
			p = MAP_FAILED;
		}
		if (p == MAP_FAILED) { /* slow, but never the same twice */
			hash_random(out, 8);
			return;
		}
		pool = p;
	}
	if (pool->left < 8) {
		hash_random(pool->b, sizeof(pool->b));
		pool->left = sizeof(pool->b);
	}
	pool->left -= 8;
	memcpy(out, pool->b + pool->left, 8);
}

void
uuid_make(struct uuid *u, uint64_t wall_us)
{
	/* RFC 9562 6.2 method 3: the 12 bits of rand_a hold the fraction of the millisecond, and count on when it stands still. */
	static uint64_t last;
	uint64_t t = wall_us / 1000 << 12 | (wall_us % 1000 << 12) / 1000;

	/* A clock that was set back by more than a second is followed: the id's time must be true enough to check freshness. */
	if (t <= last && last - t < (uint64_t)1000 << 12)
		t = last + 1;
	last = t;

	random64(u->b + 8);
	for (int i = 5; i >= 0; i--)
		u->b[i] = (uint8_t)(t >> (12 + 8 * (5 - i)));
	u->b[6] = (uint8_t)(0x70 | (t >> 8 & 0x0f));
	u->b[7] = (uint8_t)t;
	u->b[8] = (uint8_t)(0x80 | (u->b[8] & 0x3f));
}

/* Where the digits of each octet stand in the text. */
static const uint8_t at[16] = { 0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34 };

void
uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN])
{
	static const char hex[] = "0123456789abcdef";

	out[8] = out[13] = out[18] = out[23] = '-';
	for (int i = 0; i < 16; i++) {
		out[at[i]] = hex[u->b[i] >> 4];
		out[at[i] + 1] = hex[u->b[i] & 15];
	}
}

/* Lower-case hex; N marks what is no digit. */
#define N 0x40
static const uint8_t digits[256] = {
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, 10, 11, 12, 13, 14, 15, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
	N, N, N, N, N, N, N, N, N, N, N, N, N, N, N, N,
};
#undef N

int
uuid_parse(struct uuid *u, const char *s, unsigned len)
{
	struct uuid v;
	int bad = 0;

	if (len != UUID_TEXT_LEN || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-')
		return -1;
	for (int i = 0; i < 16; i++) {
		int hi = digits[(uint8_t)s[at[i]]], lo = digits[(uint8_t)s[at[i] + 1]];

		bad |= hi | lo; /* each exchange of a peer has one to read: no branch per digit */
		v.b[i] = (uint8_t)((hi & 15) << 4 | (lo & 15));
	}
	if (bad & 0x40)
		return -1;
	if (v.b[6] >> 4 != 7 || v.b[8] >> 6 != 2)
		return -1;
	*u = v;
	return 0;
}

uint64_t
uuid_ms(const struct uuid *u)
{
	uint64_t ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | u->b[i];
	return ms;
}
