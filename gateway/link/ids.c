/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/link/ids.h"

#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/mem.h"

/* Two generations of a linear-probing set of 64-bit keyed hashes; the older is dropped as a whole. */
#define ROTATE_MS 15000 /* longer than a retry can take: a silent link is noticed within 10 s */
#define AHEAD_MS 3600000
#define SKEW_MS 5000 /* between a peer's gateways: less than what is remembered */

struct ids {
	uint32_t max, slots;   /* slots: a power of two, at least twice max */
	uint64_t *set[2];      /* 0 marks an empty slot */
	uint32_t used[2];
	unsigned cur;
	uint64_t began;        /* when the current generation began, our clock */
	uint64_t newest;       /* the latest time inside any id so far, the peer's clock */
	uint64_t floor[2];     /* newest when that generation began */
	uint64_t clock, clock_at; /* what the sender's clock showed, and ours then; 0: it never said */
};

struct ids *ids_new(uint32_t max)
{
	struct ids *s = mem_zalloc(sizeof(*s));

	s->max = max;
	s->slots = 1024;
	return s;
}

void ids_free(struct ids *s)
{
	if (!s)
		return;
	mem_free(s->set[0]);
	mem_free(s->set[1]);
	mem_free(s);
}

static void lower(uint64_t *t, uint64_t to)
{
	if (*t > to)
		*t = to;
}

bool ids_clock(struct ids *s, uint64_t sender_ms, uint64_t now_ms)
{
	/* Ids are made up to a second ahead of a clock that stands still or was set back a little. */
	uint64_t to = sender_ms > 1000 ? sender_ms - 1000 : 0;
	s->clock = sender_ms;
	s->clock_at = now_ms;
	if (s->newest <= sender_ms + SKEW_MS)
		return false;
	lower(&s->newest, to);
	lower(&s->floor[0], to);
	lower(&s->floor[1], to);
	return true;
}

static bool has(const uint64_t *set, uint32_t slots, uint64_t h)
{
	if (!set)
		return false;
	for (uint32_t i = (uint32_t)h & (slots - 1); set[i]; i = (i + 1) & (slots - 1))
		if (set[i] == h)
			return true;
	return false;
}

static void put(uint64_t *set, uint32_t slots, uint64_t h)
{
	uint32_t i = (uint32_t)h & (slots - 1);

	while (set[i])
		i = (i + 1) & (slots - 1);
	set[i] = h;
}

/* Both generations have one size: they grow together. */
static void grow(struct ids *s)
{
	uint32_t slots = s->slots * 4;

	while (slots / 2 >= 2 * s->max)
		slots /= 2; /* more would stay empty */
	for (int g = 0; g < 2; g++) {
		uint64_t *to = mem_array(slots, sizeof(*to));

		for (uint32_t i = 0; s->set[g] && i < s->slots; i++)
			if (s->set[g][i])
				put(to, slots, s->set[g][i]);
		mem_free(s->set[g]);
		s->set[g] = to;
	}
	s->slots = slots;
}

static void rotate(struct ids *s, uint64_t now_ms)
{
	s->cur ^= 1;
	if (s->set[s->cur])
		memset(s->set[s->cur], 0, s->slots * sizeof(uint64_t));
	s->used[s->cur] = 0;
	s->floor[s->cur] = s->newest;
	s->began = now_ms;
}

bool ids_fresh(struct ids *s, const struct uuid *id, unsigned attempt, uint64_t now_ms)
{
	struct {
		struct uuid id;
		uint16_t attempt;
	} __attribute__((packed)) key = { *id, (uint16_t)attempt };
	uint64_t ms = uuid_ms(id), h;

	if (!s->set[0])
		grow(s);
	if (now_ms - s->began >= ROTATE_MS || s->used[s->cur] >= s->max)
		rotate(s, now_ms);
	/* Whatever the dropped generation held is not later than what was newest when the older kept one began. */
	if (ms <= s->floor[s->cur ^ 1] || (s->clock && ms > s->clock + (now_ms - s->clock_at) + AHEAD_MS))
		return false;
	h = hash_bytes(&key, sizeof(key));
	h += h == 0;
	if (has(s->set[0], s->slots, h) || has(s->set[1], s->slots, h))
		return false;
	if ((s->used[s->cur] + 1) * 2 > s->slots)
		grow(s);
	put(s->set[s->cur], s->slots, h);
	s->used[s->cur]++;
	if (ms > s->newest)
		s->newest = ms;
	return true;
}
