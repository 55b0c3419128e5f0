/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image comes from another process: nothing in it is believed. Sections are checked one after
 * the other, each only against those before it; the work is linear in the image's size, and
 * afterwards no lookup can leave the image or run for ever.
 */
#include <stdbool.h>

#include "gateway/base/mem.h"
#include "policy/image.h"
#include "policy/pattern.h"
#include "policy/policy.h"

static const uint8_t element_size[IMAGE_SECTIONS] = {
	[IMAGE_STRINGS] = 1,
	[IMAGE_LISTS] = 4,
	[IMAGE_RULES] = sizeof(struct image_rule),
	[IMAGE_SERVICES] = sizeof(struct image_service),
	[IMAGE_SERVICE_HASH] = 4,
	[IMAGE_SELS] = sizeof(struct image_sel),
	[IMAGE_ID_HASH] = sizeof(struct image_id),
	[IMAGE_TRIES] = sizeof(struct image_trie),
	[IMAGE_NODES] = sizeof(struct image_node),
	[IMAGE_SET_START] = 4,
	[IMAGE_SET_ITEMS] = 4,
	[IMAGE_SET_HASH] = 4,
	[IMAGE_SLOTS] = sizeof(struct image_slot),
	[IMAGE_ACLS] = 4,
};

struct check {
	const struct policy *p;
	const struct image_header *h;
	uint32_t n[IMAGE_SECTIONS];
	uint8_t *lists, *acls;         /* bitmaps: a list or an ACL starts at this word */
	const char *why;
};

static bool
fail(struct check *c, const char *why)
{
	c->why = why;
	return false;
}

static void
mark(uint8_t *bitmap, uint32_t i)
{
	bitmap[i / 8] |= (uint8_t)(1u << i % 8);
}

static bool
marked(const uint8_t *bitmap, uint32_t n, uint32_t i)
{
	return i < n && bitmap[i / 8] & 1u << i % 8;
}

static bool
power_of_two(uint32_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

static bool
check_header(struct check *c, size_t len)
{
	const struct image_header *h = c->h;

	if ((uintptr_t)h % 8)
		return fail(c, "not aligned");
	if (len < sizeof(*h))
		return fail(c, "too short");
	if (h->magic != IMAGE_MAGIC || h->version != IMAGE_VERSION)
		return fail(c, "not a policy image of this version");
	if (h->len != len || len > IMAGE_MAX)
		return fail(c, "wrong length");
	for (int i = 0; i < IMAGE_SECTIONS; i++) {
		uint64_t off = h->section[i].off, n = h->section[i].n;

		if (off % 8 || off < sizeof(*h) || off + n * element_size[i] > len)
			return fail(c, "a section is outside the image");
		c->n[i] = h->section[i].n;
	}
	return true;
}

static bool
check_strings(struct check *c)
{
	const char *s = image_section(c->p, IMAGE_STRINGS);

	if (c->n[IMAGE_STRINGS] == 0 || s[c->n[IMAGE_STRINGS] - 1] != '\0')
		return fail(c, "strings do not end");
	return c->h->digest < c->n[IMAGE_STRINGS] || fail(c, "bad digest");
}

static bool
is_text(const struct check *c, uint32_t off, uint32_t len)
{
	return (uint64_t)off + len < c->n[IMAGE_STRINGS];
}

static bool
check_lists(struct check *c)
{
	const uint32_t *w = image_section(c->p, IMAGE_LISTS);
	uint32_t n = c->n[IMAGE_LISTS];

	for (uint32_t i = 0, count; i < n; i += count) {
		mark(c->lists, i);
		count = w[i++];
		if (count > n - i)
			return fail(c, "a list is outside its section");
		for (uint32_t k = 0; k < count; k++)
			if (!is_text(c, w[i + k], 0))
				return fail(c, "a list names no string");
	}
	return true;
}

static bool
is_list(const struct check *c, uint32_t at, bool optional)
{
	return (optional && at == IMAGE_NONE) || marked(c->lists, c->n[IMAGE_LISTS], at);
}

static bool
check_rules(struct check *c)
{
	const struct image_rule *r = image_section(c->p, IMAGE_RULES);
	const uint32_t *lists = image_section(c->p, IMAGE_LISTS);

	for (uint32_t i = 0; i < c->n[IMAGE_RULES]; i++, r++) {
		if (!is_text(c, r->name, 0) || !is_text(c, r->file, 0) || r->cond & ~COND_MASK)
			return fail(c, "bad rule");
		if (!is_list(c, r->principals, false) || !is_list(c, r->services, true) || !is_list(c, r->methods, true) ||
		    !is_list(c, r->paths, true))
			return fail(c, "a rule has a bad list");
		if (r->cond & COND_OTHER_METHODS && (r->methods == IMAGE_NONE || lists[r->methods] > METHODS_MAX))
			return fail(c, "a rule has bad methods");
	}
	return true;
}

static bool
check_numbers(struct check *c, enum image_section table, uint32_t below, const char *why)
{
	const uint32_t *t = image_section(c->p, table);

	if (!power_of_two(c->n[table]))
		return fail(c, why);
	for (uint32_t i = 0; i < c->n[table]; i++)
		if (t[i] != IMAGE_NONE && t[i] >= below)
			return fail(c, why);
	return true;
}

static bool
check_services(struct check *c)
{
	const struct image_service *s = image_section(c->p, IMAGE_SERVICES);

	for (uint32_t i = 0; i < c->n[IMAGE_SERVICES]; i++)
		if (!is_text(c, s[i].name, 0) || s[i].tcp > 1)
			return fail(c, "bad service");
	return check_numbers(c, IMAGE_SERVICE_HASH, c->n[IMAGE_SERVICES], "bad table of services");
}

/* Children in one unbroken sequence: each node but the first has exactly one parent, before it. */
static bool
check_trie(struct check *c, const struct image_trie *t, const struct image_node *n)
{
	uint64_t next = 1;

	for (uint32_t i = 0; i < t->nnodes; i++, n++) {
		if (i >= next || n->child != next || n->star > 1)
			return fail(c, "a trie is no tree");
		next += (uint64_t)n->nliteral + n->nprefix + n->star;
		if (next > t->nnodes)
			return fail(c, "a trie is no tree");
		if (!is_text(c, n->label, n->label_len))
			return fail(c, "a trie has a bad label");
		if ((n->accept != IMAGE_NONE && n->accept >= t->npatterns) || (n->rest != IMAGE_NONE && n->rest >= t->npatterns))
			return fail(c, "a trie accepts no pattern");
	}
	return next == t->nnodes || fail(c, "a trie is no tree");
}

static bool
check_tries(struct check *c)
{
	const struct image_trie *t = image_section(c->p, IMAGE_TRIES);
	const struct image_node *nodes = image_section(c->p, IMAGE_NODES);
	uint32_t at = 0;

	if (c->n[IMAGE_TRIES] == 0 || t[0].npatterns != c->h->npatterns)
		return fail(c, "no trie of principals");
	for (uint32_t i = 0; i < c->n[IMAGE_TRIES]; i++) {
		if (t[i].first != at || t[i].nnodes == 0 || t[i].nnodes > c->n[IMAGE_NODES] - at)
			return fail(c, "a trie is outside its section");
		if (!check_trie(c, &t[i], nodes + at))
			return false;
		at += t[i].nnodes;
	}
	return at == c->n[IMAGE_NODES] || fail(c, "nodes without a trie");
}

static bool
check_sets(struct check *c)
{
	const uint32_t *start = image_section(c->p, IMAGE_SET_START), *items = image_section(c->p, IMAGE_SET_ITEMS);
	uint32_t n = c->n[IMAGE_SET_START];

	if (n < 2 || start[0] != 0 || start[1] != 0 || start[n - 1] != c->n[IMAGE_SET_ITEMS])
		return fail(c, "bad sets");
	for (uint32_t i = 0; i + 1 < n; i++)
		if (start[i] > start[i + 1] || start[i + 1] - start[i] > SET_MAX)
			return fail(c, "bad sets");
	for (uint32_t i = 0; i < c->n[IMAGE_SET_ITEMS]; i++)
		if (items[i] >= c->h->npatterns)
			return fail(c, "a set has a bad pattern");
	return check_numbers(c, IMAGE_SET_HASH, n - 1, "bad table of sets");
}

static bool
is_test(const struct check *c, uint32_t cond, uint32_t rule)
{
	return !(cond & ~COND_MASK) && rule < c->n[IMAGE_RULES];
}

/* One ACL at word "at"; returns the word behind it, or 0. */
static uint32_t
check_acl(struct check *c, const uint32_t *w, uint32_t at, uint32_t n)
{
	const struct image_trie *tries = image_section(c->p, IMAGE_TRIES);
	uint32_t left = n - at, npaths, tests;

	w += at;
	if (left < ACL_STARTS + 2)
		return 0;
	npaths = w[ACL_NPATHS];
	if (npaths > left - (ACL_STARTS + 2))
		return 0;
	if (w[ACL_FIRST_ALLOW] != IMAGE_NONE && w[ACL_FIRST_ALLOW] >= c->n[IMAGE_RULES])
		return 0;
	if (npaths == 0 ? w[ACL_TRIE] != IMAGE_NONE : w[ACL_TRIE] >= c->n[IMAGE_TRIES] || tries[w[ACL_TRIE]].npatterns != npaths)
		return 0;
	left -= ACL_STARTS + 2 + npaths;
	w += ACL_STARTS;
	if (w[0] != 0)
		return 0;
	for (uint32_t i = 0; i <= npaths; i++)
		if (w[i] > w[i + 1])
			return 0;
	tests = w[npaths + 1];
	if (tests > left / 2)
		return 0;
	w += npaths + 2;
	for (uint32_t i = 0; i < tests; i++)
		if (!is_test(c, w[i * 2], w[i * 2 + 1]))
			return 0;
	return n - left + tests * 2;
}

static bool
check_acls(struct check *c)
{
	const uint32_t *w = image_section(c->p, IMAGE_ACLS);
	uint32_t n = c->n[IMAGE_ACLS];

	for (uint32_t at = 0; at < n;) {
		mark(c->acls, at);
		at = check_acl(c, w, at, n);
		if (at == 0)
			return fail(c, "bad ACL");
	}
	return true;
}

static bool
is_entry(const struct check *c, const struct image_entry *e)
{
	if (e->a & ENTRY_ACL)
		return e->a == ENTRY_ACL && marked(c->acls, c->n[IMAGE_ACLS], e->b);
	return e->a == 0 || is_test(c, e->a, e->b);
}

static bool
check_sels(struct check *c)
{
	const struct image_sel *s = image_section(c->p, IMAGE_SELS);
	uint32_t nsets = c->n[IMAGE_SET_START] - 1;

	if ((uint64_t)c->h->nexact + c->h->npatterns + 1 != c->n[IMAGE_SELS])
		return fail(c, "wrong number of selectors");
	for (uint32_t i = 0; i < c->n[IMAGE_SELS]; i++)
		if (!is_text(c, s[i].text, s[i].len) || (i < c->h->nexact && s[i].set >= nsets) || !is_entry(c, &s[i].any))
			return fail(c, "bad selector");
	return true;
}

static bool
check_ids(struct check *c)
{
	const struct image_id *t = image_section(c->p, IMAGE_ID_HASH);

	if (!power_of_two(c->n[IMAGE_ID_HASH]))
		return fail(c, "bad table of ids");
	for (uint32_t i = 0; i < c->n[IMAGE_ID_HASH]; i++)
		if (t[i].sel != IMAGE_NONE && t[i].sel >= c->h->nexact)
			return fail(c, "bad table of ids");
	return true;
}

static bool
check_slots(struct check *c)
{
	const struct image_slot *s = image_section(c->p, IMAGE_SLOTS);

	if (!power_of_two(c->n[IMAGE_SLOTS]))
		return fail(c, "bad table of rules");
	for (uint32_t i = 0; i < c->n[IMAGE_SLOTS]; i++, s++)
		if (s->sel != IMAGE_NONE &&
		    (s->sel >= c->n[IMAGE_SELS] || s->service >= c->n[IMAGE_SERVICES] || !is_entry(c, &s->entry)))
			return fail(c, "bad table of rules");
	return true;
}

static bool
check_all(struct check *c)
{
	return check_strings(c) && check_lists(c) && check_rules(c) && check_services(c) && check_tries(c) &&
		check_sets(c) && check_acls(c) && check_sels(c) && check_ids(c) && check_slots(c);
}

int
policy_open(struct policy *p, const void *image, size_t len, const char **why)
{
	static const enum image_section sections[] = {
		[PRIV_STRINGS] = IMAGE_STRINGS,
		[PRIV_RULES] = IMAGE_RULES,
		[PRIV_SERVICES] = IMAGE_SERVICES,
		[PRIV_SELS] = IMAGE_SELS,
		[PRIV_SLOTS] = IMAGE_SLOTS,
		[PRIV_ACLS] = IMAGE_ACLS,
		[PRIV_NODES] = IMAGE_NODES,
		[PRIV_TRIES] = IMAGE_TRIES,
	};
	struct check c = { .p = p, .h = image, .why = "" };
	bool ok;

	memset(p, 0, sizeof(*p));
	p->image = image;
	ok = check_header(&c, len);
	if (ok) {
		c.lists = mem_zalloc(c.n[IMAGE_LISTS] / 8 + 1);
		c.acls = mem_zalloc(c.n[IMAGE_ACLS] / 8 + 1);
		ok = check_all(&c);
		mem_free(c.lists);
		mem_free(c.acls);
	}
	if (!ok) {
		memset(p, 0, sizeof(*p));
		*why = c.why;
		return -1;
	}
	p->len = len;
	p->generation = c.h->generation;
	p->nrules = c.n[IMAGE_RULES];
	p->nservices = c.n[IMAGE_SERVICES];
	for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++)
		p->priv[i] = image_section(p, sections[i]);
	return 0;
}
