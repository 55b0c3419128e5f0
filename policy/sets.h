/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which principal patterns can match one id at the same time. Each such set is a class of principals, so they are
 * all found when the policy is compiled: the trie of patterns is run as a nondeterministic automaton
 * over every kind of segment that makes a difference (the subset construction).
 */
#ifndef POLICY_SETS_H
#define POLICY_SETS_H

#include "policy/intern.h"
#include "policy/trie.h"

#define SETS_STATES_MAX (1u << 18)

enum sets_result { SETS_OK, SETS_TOO_MANY /* states */, SETS_TOO_LARGE /* one set: more than SET_MAX */ };

/* Adds every set to *sets (of words: sorted pattern numbers); the first is the empty one. */
enum sets_result sets_find(struct intern *sets, const struct trie *trie);

/* The patterns that match an id, sorted: at most SET_MAX. */
struct sets_match {
	uint32_t n;
	uint32_t pattern[SET_MAX];
};
void sets_match(struct sets_match *m, const struct trie *trie, const char *id, size_t len);

#endif
