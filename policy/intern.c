/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/intern.h"

#include <assert.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "policy/image.h"

void
intern_init(struct intern *t, bool words)
{
	memset(t, 0, sizeof(*t));
	t->words = words;
}

void
intern_fini(struct intern *t)
{
	mem_free(t->bytes);
	mem_free(t->items);
	mem_free(t->slots);
	memset(t, 0, sizeof(*t));
}

static void
resize(struct intern *t, size_t n)
{
	mem_free(t->slots);
	t->slots = mem_array(n, sizeof(*t->slots));
	t->nslots = n;
	for (size_t i = 0; i < t->n; i++) {
		size_t at = t->items[i].hash & (n - 1);

		while (t->slots[at].item)
			at = (at + 1) & (n - 1);
		t->slots[at] = (struct intern_slot){ t->items[i].hash, (uint32_t)i + 1 };
	}
}

void
intern_reserve(struct intern *t, size_t n)
{
	size_t size = 64;

	while (size < n * 2)
		size *= 2;
	if (size > t->nslots)
		resize(t, size);
}

static uint32_t
find(const struct intern *t, uint32_t hash, const void *p, size_t n, size_t *at)
{
	for (*at = hash & (t->nslots - 1); t->slots[*at].item; *at = (*at + 1) & (t->nslots - 1)) {
		const struct intern_item *it;

		if (t->slots[*at].hash != hash)
			continue;
		it = &t->items[t->slots[*at].item - 1];
		if (it->len == n && (n == 0 || memcmp(t->bytes + it->off, p, n) == 0))
			return t->slots[*at].item - 1;
	}
	return INTERN_NONE;
}

uint32_t
intern_find(const struct intern *t, const void *p, size_t n)
{
	size_t at;

	return t->nslots ? find(t, image_hash(p, n), p, n, &at) : INTERN_NONE;
}

uint32_t
intern_add(struct intern *t, const void *p, size_t n)
{
	uint32_t hash = image_hash(p, n), i;
	size_t at, pad = t->words ? 0 : 1;

	if (t->n * 2 >= t->nslots)
		resize(t, t->nslots ? t->nslots * 2 : 64);
	if ((i = find(t, hash, p, n, &at)) != INTERN_NONE)
		return i;
	/* model.c and compile.c bound what they put in; offsets are 32 bits. */
	assert(n < UINT32_MAX / 2 && t->len < UINT32_MAX / 2);
	mem_grow(&t->bytes, &t->cap, t->len + n + pad, 1);
	mem_grow(&t->items, &t->items_cap, t->n + 1, sizeof(*t->items));
	t->items[t->n] = (struct intern_item){ hash, (uint32_t)t->len, (uint32_t)n };
	if (n)
		memcpy(t->bytes + t->len, p, n);
	if (pad)
		t->bytes[t->len + n] = 0;
	t->len += n + pad;
	t->n++;
	t->slots[at] = (struct intern_slot){ hash, (uint32_t)t->n };
	return (uint32_t)t->n - 1;
}

uint32_t
intern_put(struct intern *t, const void *p, size_t n)
{
	uint32_t i = intern_add(t, p, n);

	return t->items[i].off;
}

void
intern_undo(struct intern *t)
{
	const struct intern_item *it = &t->items[--t->n];
	size_t at = it->hash & (t->nslots - 1);

	/* Nothing was added behind it, so no other search passes its slot. */
	while (t->slots[at].item != t->n + 1)
		at = (at + 1) & (t->nslots - 1);
	t->slots[at] = (struct intern_slot){ 0 };
	t->len = it->off;
}
