/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns compiled to a trie by segment: built from a set of patterns, then walked by what is to
 * be matched. A walk looks at each node at most once, and at most PATTERN_SEGMENTS_MAX segments deep.
 */
#ifndef POLICY_TRIE_H
#define POLICY_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "policy/image.h"
#include "policy/intern.h"
#include "policy/pattern.h"

/* ---- building ---- */

struct trie_patterns {         /* numbered patterns, cut into segments */
	struct trie_token {
		uint32_t kind, hash, label, len; /* label: where in the strings */
	} *tokens;
	size_t ntokens, tokens_cap;
	struct trie_pattern {
		uint32_t token, n;
		bool rest;
	} *items;
	size_t n, cap;
};

void trie_patterns_fini(struct trie_patterns *t);
void trie_patterns_add(struct trie_patterns *t, struct intern *strings, const struct pattern *p);

struct trie_nodes {            /* the tries of an image, one after the other */
	struct image_node *nodes;
	size_t n, cap;
};

/* Appends the trie of patterns[which[0 … n - 1]], which must differ; accept values are positions in which. */
struct image_trie trie_build(struct trie_nodes *out, const struct trie_patterns *patterns,
			     const uint32_t *which, size_t n);

/* ---- walking ---- */

struct trie {                  /* a view of one */
	const struct image_node *nodes;
	const char *strings;   /* where labels are */
};

typedef void trie_match_fn(void *arg, uint32_t accept);
/* Calls on_match for every pattern that matches the text (behind the first "/" or behind "spiffe://"), in no order. */
void trie_walk(const struct trie *trie, const char *text, size_t len, trie_match_fn *on_match, void *arg);
/* A node's child for the literal, or IMAGE_NONE. */
uint32_t trie_literal(const struct trie *trie, const struct image_node *node, const char *s, size_t len, uint32_t hash);

#endif
