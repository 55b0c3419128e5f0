/* SPDX-License-Identifier: Apache-2.0 */
/* What compile.c makes of the rules and emit.c writes down. */
#ifndef POLICY_COMPILE_H
#define POLICY_COMPILE_H

#include "policy/image.h"
#include "policy/intern.h"
#include "policy/model.h"
#include "policy/trie.h"

struct pair {
	uint32_t sel, service, rule; /* service: the number of services for "every" */
};

struct compile {
	struct model m;
	struct trie_nodes nodes;
	struct image_trie *tries;
	size_t tries_cap;
	struct intern sets;
	struct image_sel *sels;
	size_t nsels;
	struct pair *pairs;
	size_t npairs, pairs_cap;
	struct image_slot *slots;    /* dense here; hashed by emit */
	size_t nslots, slots_cap;
	struct intern runs;          /* rule numbers of a run of pairs */
	struct image_entry *run_entries;
	size_t runs_cap;
	struct intern pathsets;      /* path numbers of an ACL: one trie each, from number 1 on */
	uint32_t *acls;
	size_t nacls, acls_cap;
};

static inline uint32_t
compile_sel(const struct compile *c, uint32_t sel) /* of the model, as it is in the image */
{
	if (sel == SEL_ANYBODY)
		return (uint32_t)c->nsels - 1;
	return sel & SEL_PATTERN ? (uint32_t)c->m.ids.n + (sel & ~SEL_PATTERN) : sel;
}

#endif
