/* SPDX-License-Identifier: Apache-2.0 */
/* A set of byte strings, numbered in order of arrival: each is kept once. For compiling only. */
#ifndef POLICY_INTERN_H
#define POLICY_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTERN_NONE UINT32_MAX

struct intern {
	uint8_t *bytes;        /* the strings, one after the other, each followed by a NUL */
	size_t len, cap;
	struct intern_item {
		uint32_t hash, off, len;
	} *items;
	size_t n, items_cap;
	struct intern_slot {
		uint32_t hash, item;   /* item + 1; 0: empty */
	} *slots;
	size_t nslots;         /* 0 or a power of two */
	bool words;            /* arrays of uint32_t: aligned, no NUL */
};

void intern_init(struct intern *t, bool words);
void intern_fini(struct intern *t);
void intern_reserve(struct intern *t, size_t n);                 /* room for n strings before it has to grow */
uint32_t intern_add(struct intern *t, const void *p, size_t n);  /* the number, old or new (then it is t->n - 1) */
uint32_t intern_put(struct intern *t, const void *p, size_t n);  /* the same; returns where it is in t->bytes */
void intern_undo(struct intern *t);                              /* forgets the newest one, when it was added last */
uint32_t intern_find(const struct intern *t, const void *p, size_t n); /* or INTERN_NONE */

/* Valid until the next intern_add(). */
static inline const void *
intern_get(const struct intern *t, uint32_t i)
{
	return t->bytes + t->items[i].off;
}

#endif
