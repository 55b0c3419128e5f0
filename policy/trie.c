/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/trie.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"

void
trie_patterns_fini(struct trie_patterns *t)
{
	mem_free(t->tokens);
	mem_free(t->items);
	memset(t, 0, sizeof(*t));
}

void
trie_patterns_add(struct trie_patterns *t, struct intern *strings, const struct pattern *p)
{
	mem_grow(&t->tokens, &t->tokens_cap, t->ntokens + p->n + 1, sizeof(*t->tokens)); /* one more: never NULL */
	mem_grow(&t->items, &t->cap, t->n + 1, sizeof(*t->items));
	t->items[t->n++] = (struct trie_pattern){ (uint32_t)t->ntokens, (uint32_t)p->n, p->rest };
	for (size_t i = 0; i < p->n; i++) {
		const struct pattern_seg *seg = &p->seg[i];
		uint32_t label = intern_put(strings, seg->text, seg->len);

		t->tokens[t->ntokens++] = (struct trie_token){
			seg->kind, image_hash(seg->text, seg->len), label, (uint32_t)seg->len,
		};
	}
}

static int
cmp_u32(uint32_t a, uint32_t b)
{
	return a < b ? -1 : a > b;
}

static int
cmp_token(const struct trie_token *a, const struct trie_token *b)
{
	int c;

	if ((c = cmp_u32(a->kind, b->kind)) || (c = cmp_u32(a->hash, b->hash)))
		return c;
	return cmp_u32(a->label, b->label); /* interned: the same text has the same place */
}

struct sorted {                        /* a pattern and its position in "which" */
	const struct trie_token *tokens;
	uint32_t n, accept;
	bool rest;
};

static int
cmp_sorted(const void *va, const void *vb)
{
	const struct sorted *a = va, *b = vb;
	int c;

	for (uint32_t i = 0; i < a->n && i < b->n; i++)
		if ((c = cmp_token(&a->tokens[i], &b->tokens[i])))
			return c;
	if ((c = cmp_u32(a->n, b->n)))
		return c;
	return (int)a->rest - (int)b->rest;
}

struct range {                         /* the sorted patterns below a node */
	uint32_t lo, hi, depth;
};

struct build {
	struct trie_nodes *out;
	size_t base;                   /* the trie's first node */
	struct range *ranges;          /* one per node of this trie */
	size_t ranges_cap;
	const struct sorted *s;
};

static void
add_node(struct build *b, uint32_t lo, uint32_t hi, uint32_t depth, const struct trie_token *t)
{
	size_t i = b->out->n - b->base;
	struct image_node *node;

	mem_grow(&b->out->nodes, &b->out->cap, b->out->n + 1, sizeof(*b->out->nodes));
	mem_grow(&b->ranges, &b->ranges_cap, i + 1, sizeof(*b->ranges));
	b->ranges[i] = (struct range){ lo, hi, depth };
	node = &b->out->nodes[b->out->n++];
	memset(node, 0, sizeof(*node));
	node->accept = node->rest = IMAGE_NONE;
	if (t) {
		node->label = t->label;
		node->label_len = t->len;
		node->hash = t->hash;
	}
}

/* Sorted patterns: those that end at the node come first, then one run per child. */
static void
add_children(struct build *b, size_t i)
{
	struct range r = b->ranges[i];
	uint32_t at = r.lo, first;
	size_t me = b->base + i;

	for (; at < r.hi && b->s[at].n == r.depth; at++) {
		if (b->s[at].rest)
			b->out->nodes[me].rest = b->s[at].accept;
		else
			b->out->nodes[me].accept = b->s[at].accept;
	}
	b->out->nodes[me].child = (uint32_t)(b->out->n - b->base);
	for (; at < r.hi; at = first) {
		const struct trie_token *t = &b->s[at].tokens[r.depth];

		for (first = at + 1; first < r.hi && cmp_token(t, &b->s[first].tokens[r.depth]) == 0; first++)
			;
		add_node(b, at, first, r.depth + 1, t);
		switch ((enum pattern_kind)t->kind) {
		case PATTERN_LITERAL:
			b->out->nodes[me].nliteral++;
			break;
		case PATTERN_PREFIX:
			b->out->nodes[me].nprefix++;
			break;
		case PATTERN_STAR:
			b->out->nodes[me].star = 1;
			break;
		}
	}
}

struct image_trie
trie_build(struct trie_nodes *out, const struct trie_patterns *patterns, const uint32_t *which, size_t n)
{
	struct sorted *s = mem_array(n, sizeof(*s));
	struct build b = { .out = out, .base = out->n, .s = s };

	for (size_t i = 0; i < n; i++) {
		const struct trie_pattern *p = &patterns->items[which[i]];

		s[i] = (struct sorted){ patterns->tokens + p->token, p->n, (uint32_t)i, p->rest };
	}
	if (n)
		qsort(s, n, sizeof(*s), cmp_sorted);
	add_node(&b, 0, (uint32_t)n, 0, NULL);
	for (size_t i = 0; i < out->n - b.base; i++)
		add_children(&b, i);
	mem_free(b.ranges);
	mem_free(s);
	return (struct image_trie){ (uint32_t)b.base, (uint32_t)(out->n - b.base), (uint32_t)n };
}

uint32_t
trie_literal(const struct trie *trie, const struct image_node *node, const char *s, size_t len, uint32_t hash)
{
	const struct image_node *c = trie->nodes + node->child;
	uint32_t lo = 0, hi = node->nliteral;

	while (hi - lo > 8) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (c[mid].hash < hash)
			lo = mid + 1;
		else
			hi = mid + 1;
	}
	/* The first with this hash is in [lo, hi); equal hashes may go on behind it. */
	for (; lo < node->nliteral && c[lo].hash <= hash; lo++)
		if (c[lo].hash == hash && c[lo].label_len == len && memcmp(trie->strings + c[lo].label, s, len) == 0)
			return node->child + lo;
	return IMAGE_NONE;
}

struct walk {
	const struct trie *trie;
	const char *text;
	size_t len;
	trie_match_fn *on_match;
	void *arg;
};

/* pos: where the next segment starts; w->len + 1 when there is none. */
static void
step(const struct walk *w, uint32_t at, size_t pos, unsigned depth)
{
	for (;; depth++) {
		const struct image_node *n = &w->trie->nodes[at], *c;
		const char *s = w->text + pos, *slash;
		uint32_t follow = IMAGE_NONE, lit;
		size_t len;

		if (n->rest != IMAGE_NONE)
			w->on_match(w->arg, n->rest);
		if (pos > w->len) {
			if (n->accept != IMAGE_NONE)
				w->on_match(w->arg, n->accept);
			return;
		}
		if (depth == PATTERN_SEGMENTS_MAX || n->nliteral + n->nprefix + n->star == 0)
			return;
		slash = memchr(s, '/', w->len - pos);
		len = slash ? (size_t)(slash - s) : w->len - pos;
		pos += len + 1;
		c = w->trie->nodes + n->child + n->nliteral;
		if (n->star && len > 0)
			follow = n->child + n->nliteral + n->nprefix;
		for (uint32_t i = 0; i < n->nprefix; i++) {
			if (c[i].label_len > len || memcmp(w->trie->strings + c[i].label, s, c[i].label_len) != 0)
				continue;
			if (follow != IMAGE_NONE)
				step(w, follow, pos, depth + 1);
			follow = n->child + n->nliteral + i;
		}
		if (n->nliteral) {
			lit = trie_literal(w->trie, n, s, len, image_hash(s, len));
			if (lit != IMAGE_NONE) {
				if (follow != IMAGE_NONE)
					step(w, follow, pos, depth + 1);
				follow = lit;
			}
		}
		if (follow == IMAGE_NONE)
			return;
		at = follow;
	}
}

void
trie_walk(const struct trie *trie, const char *text, size_t len, trie_match_fn *on_match, void *arg)
{
	struct walk w = { trie, text, len, on_match, arg };

	step(&w, 0, 0, 0);
}
