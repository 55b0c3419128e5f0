/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/inflight.h"

#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/le.h"
#include "gateway/base/mem.h"

#define SLAB 256

struct slab {
	struct slab *next;
	struct inflight_entry e[SLAB];
};

struct inflight {
	struct inflight_entry **bucket;
	size_t mask, n, max;
	struct inflight_entry *spare;
	struct slab *slabs;
};

struct inflight *inflight_new(size_t max)
{
	struct inflight *t = mem_zalloc(sizeof(*t));

	t->max = max;
	t->mask = 1023;
	t->bucket = mem_array(t->mask + 1, sizeof(*t->bucket));
	return t;
}

void inflight_free(struct inflight *t)
{
	if (!t)
		return;
	for (size_t i = 0; i <= t->mask; i++)
		for (struct inflight_entry *e = t->bucket[i]; e; e = e->next)
			mem_free(e->event);
	for (struct slab *s = t->slabs, *next; s; s = next) {
		next = s->next;
		mem_free(s);
	}
	mem_free(t->bucket);
	mem_free(t);
}

void inflight_source_init(struct inflight_source *s, uint64_t instance)
{
	s->instance = instance;
	LIST_INIT(&s->entries);
}

size_t inflight_count(const struct inflight *t)
{
	return t->n;
}

/* Ids can come from a peer: keyed. */
static uint64_t hash(const struct inflight_source *s, const struct uuid *exchange, unsigned attempt)
{
	uint8_t key[32];

	memcpy(key, exchange->b, 16);
	le_put64(key + 16, s->instance);
	le_put64(key + 24, attempt);
	return hash_bytes(key, sizeof(key));
}

static void grow(struct inflight *t)
{
	size_t mask = t->mask * 2 + 1;
	struct inflight_entry **bucket = mem_array(mask + 1, sizeof(*bucket));

	for (size_t i = 0; i <= t->mask; i++) {
		for (struct inflight_entry *e = t->bucket[i], *next; e; e = next) {
			size_t b = hash(e->source, &e->exchange, e->attempt) & mask;
			next = e->next;
			e->next = bucket[b];
			bucket[b] = e;
		}
	}
	mem_free(t->bucket);
	t->bucket = bucket;
	t->mask = mask;
}

static struct inflight_entry *find(const struct inflight *t, uint64_t h, const struct inflight_source *s, const struct uuid *exchange,
    unsigned attempt)
{
	struct inflight_entry *e = t->bucket[h & t->mask];

	while (e && (e->source != s || e->attempt != attempt || memcmp(&e->exchange, exchange, sizeof(*exchange)) != 0))
		e = e->next;
	return e;
}

struct inflight_entry *inflight_find(const struct inflight *t, const struct inflight_source *s, const struct uuid *exchange,
    unsigned attempt)
{
	return find(t, hash(s, exchange, attempt), s, exchange, attempt);
}

struct inflight_entry *inflight_add(struct inflight *t, struct inflight_source *s, const struct uuid *exchange, unsigned attempt,
    bool *twice)
{
	uint64_t h = hash(s, exchange, attempt);

	*twice = find(t, h, s, exchange, attempt) != NULL;
	if (*twice || t->n >= t->max)
		return NULL;
	if (t->n > t->mask)
		grow(t);
	if (!t->spare) {
		struct slab *slab = mem_alloc(sizeof(*slab));
		slab->next = t->slabs;
		t->slabs = slab;
		for (size_t i = 0; i < SLAB; i++) {
			slab->e[i].next = t->spare;
			t->spare = &slab->e[i];
		}
	}
	struct inflight_entry *e = t->spare;
	t->spare = e->next;
	memset(e, 0, sizeof(*e));
	e->exchange = *exchange;
	e->attempt = (uint16_t)attempt;
	e->source = s;
	e->next = t->bucket[h & t->mask];
	t->bucket[h & t->mask] = e;
	LIST_INSERT_HEAD(&s->entries, e, by_source);
	t->n++;
	return e;
}

void inflight_detach(struct inflight *t, struct inflight_entry *e)
{
	struct inflight_entry **at = &t->bucket[hash(e->source, &e->exchange, e->attempt) & t->mask];

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	LIST_REMOVE(e, by_source);
	t->n--;
}

void inflight_release(struct inflight *t, struct inflight_entry *e)
{
	mem_free(e->event);
	e->event = NULL;
	e->next = t->spare;
	t->spare = e;
}
