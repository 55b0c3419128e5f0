/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/origin.h"

#include <stdint.h>
#include <string.h>

#include "gateway/base/mem.h"

static size_t
find_slot(const struct origins *o, const void *member)
{
	size_t i = (size_t)(((uintptr_t)member * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (o->cap - 1);

	while (o->slots[i].member && o->slots[i].member != member)
		i = (i + 1) & (o->cap - 1);
	return i;
}

static void
grow(struct origins *o)
{
	struct origins bigger = { .n = o->n, .cap = o->cap ? o->cap * 2 : 256 };

	bigger.slots = mem_array(bigger.cap, sizeof(*bigger.slots));
	for (size_t i = 0; i < o->cap; i++)
		if (o->slots[i].member)
			bigger.slots[find_slot(&bigger, o->slots[i].member)] = o->slots[i];
	mem_free(o->slots);
	*o = bigger;
}

void
origin_note(struct origins *o, const void *member, unsigned line)
{
	size_t slot;

	if ((o->n + 1) * 2 > o->cap)
		grow(o);
	slot = find_slot(o, member);
	if (!o->slots[slot].member)
		o->n++;
	o->slots[slot].member = member;
	o->slots[slot].line = line;
}

unsigned
origin_find(const struct origins *o, const void *member)
{
	return o->cap ? o->slots[find_slot(o, member)].line : 0;
}

void
origin_fini(struct origins *o)
{
	mem_free(o->slots);
	memset(o, 0, sizeof(*o));
}
