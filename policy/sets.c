/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state is a sorted array of words: trie nodes where matching may go on, and patterns that have
 * reached their "**" (marked ABSORBED), which stay for good. States are interned, so each is expanded once.
 */
#include "policy/sets.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"

#define ABSORBED 0x80000000u
#define STEPS_MAX (1u << 23)

struct find {
	struct intern *sets, states;
	const struct trie *trie;
	uint32_t *now, *next;          /* the state being expanded, and the one being made */
	size_t nnow, nnext, now_cap, next_cap;
	uint32_t steps;
	enum sets_result result;
};

static int
cmp_word(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static void
push(struct find *f, uint32_t word)
{
	mem_grow(&f->next, &f->next_cap, f->nnext + 1, sizeof(*f->next));
	f->next[f->nnext++] = word;
}

static void
enter(struct find *f, uint32_t node)
{
	const struct image_node *n = &f->trie->nodes[node];

	push(f, node);
	if (n->rest != IMAGE_NONE)
		push(f, ABSORBED | n->rest);
}

/* f->next is complete: make it a state, and its patterns a set. */
static void
add_state(struct find *f)
{
	uint32_t set[SET_MAX], n = 0;
	size_t states = f->states.n;

	qsort(f->next, f->nnext, sizeof(*f->next), cmp_word);
	intern_add(&f->states, f->next, f->nnext * sizeof(*f->next));
	if (f->states.n == states)
		return;
	if (f->states.n > SETS_STATES_MAX)
		f->result = SETS_TOO_MANY;
	for (size_t i = 0; i < f->nnext; i++) {
		uint32_t w = f->next[i], pattern = w & ABSORBED ? w & ~ABSORBED : f->trie->nodes[w].accept;

		if (pattern == IMAGE_NONE)
			continue;
		if (n == SET_MAX) {
			f->result = SETS_TOO_LARGE;
			return;
		}
		set[n++] = pattern;
	}
	qsort(set, n, sizeof(*set), cmp_word);
	intern_add(f->sets, set, n * sizeof(*set));
}

/* What any segment does: absorbed patterns stay, "*" matches. */
static void
next_start(struct find *f)
{
	f->nnext = 0;
	for (size_t i = 0; i < f->nnow; i++) {
		const struct image_node *n;

		if (f->now[i] & ABSORBED) {
			push(f, f->now[i]);
			continue;
		}
		n = &f->trie->nodes[f->now[i]];
		if (n->star)
			enter(f, n->child + n->nliteral + n->nprefix);
	}
}

/* A segment that is the label (literal), or one that starts with it and is no literal (prefix). */
static void
next_label(struct find *f, const struct image_node *label, bool literal)
{
	const char *s = f->trie->strings + label->label;
	size_t len = label->label_len;

	next_start(f);
	for (size_t i = 0; i < f->nnow && !(f->now[i] & ABSORBED); i++) {
		const struct image_node *n = &f->trie->nodes[f->now[i]];

		for (uint32_t k = 0; k < n->nprefix; k++) {
			const struct image_node *c = &f->trie->nodes[n->child + n->nliteral + k];

			if (c->label_len <= len && memcmp(f->trie->strings + c->label, s, c->label_len) == 0)
				enter(f, n->child + n->nliteral + k);
		}
		if (literal && n->nliteral) {
			uint32_t c = trie_literal(f->trie, n, s, len, label->hash);

			if (c != IMAGE_NONE)
				enter(f, c);
		}
	}
	add_state(f);
}

static void
expand(struct find *f, size_t state)
{
	const struct intern_item *it = &f->states.items[state];

	f->nnow = it->len / sizeof(*f->now);
	mem_grow(&f->now, &f->now_cap, f->nnow + 1, sizeof(*f->now));
	if (f->nnow)
		memcpy(f->now, f->states.bytes + it->off, it->len);
	next_start(f);
	add_state(f);
	for (size_t i = 0; i < f->nnow && !(f->now[i] & ABSORBED); i++) {
		const struct image_node *n = &f->trie->nodes[f->now[i]];

		for (uint32_t k = 0; k < n->nliteral + n->nprefix && f->result == SETS_OK; k++) {
			if (++f->steps > STEPS_MAX)
				f->result = SETS_TOO_MANY;
			next_label(f, &f->trie->nodes[n->child + k], k < n->nliteral);
		}
	}
}

enum sets_result
sets_find(struct intern *sets, const struct trie *trie)
{
	struct find f = { .sets = sets, .trie = trie };

	intern_init(&f.states, true);
	intern_add(sets, "", 0);
	enter(&f, 0);
	add_state(&f);
	for (size_t i = 0; i < f.states.n && f.result == SETS_OK; i++)
		expand(&f, i);
	intern_fini(&f.states);
	mem_free(f.now);
	mem_free(f.next);
	return f.result;
}

static void
on_match(void *arg, uint32_t pattern)
{
	struct sets_match *m = arg;
	uint32_t i;

	if (m->n == SET_MAX) /* sets_find() refuses a policy where this could happen */
		return;
	for (i = m->n++; i > 0 && m->pattern[i - 1] > pattern; i--)
		m->pattern[i] = m->pattern[i - 1];
	m->pattern[i] = pattern;
}

void
sets_match(struct sets_match *m, const struct trie *trie, const char *id, size_t len)
{
	m->n = 0;
	trie_walk(trie, id, len, on_match, m);
}
