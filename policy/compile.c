/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rules to the image:
 *
 *   model_init     checks the rules and interns what they name
 *   selectors      exact ids, patterns, anybody; the sets of patterns that one id can match
 *   pairs          one per rule, selector and service, deny first; sorted by selector and service
 *   entries        each run of pairs becomes an entry; equal runs share one
 *   emit.c         writes it all down
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "policy/compile.h"
#include "policy/emit.h"
#include "policy/policy.h"
#include "policy/sets.h"
#include "policy/shadow.h"

/* Rules × principals × services; a wide rule is better written with patterns or "*". */
#define PAIRS_MAX (3u << 20)
#define ACL_WORDS_MAX (48u << 20)

static uint32_t
add_trie(struct compile *c, size_t ntries, const struct trie_patterns *patterns, const uint32_t *which, size_t n)
{
	mem_grow(&c->tries, &c->tries_cap, ntries + 1, sizeof(*c->tries));
	c->tries[ntries] = trie_build(&c->nodes, patterns, which, n);
	return (uint32_t)ntries;
}

/* ---- selectors ---- */

static int
make_selectors(struct compile *c)
{
	struct model *m = &c->m;
	size_t np = m->principals.n;
	uint32_t *which = mem_array(np, sizeof(*which));
	enum sets_result r;
	struct trie trie;

	for (size_t i = 0; i < np; i++)
		which[i] = (uint32_t)i;
	add_trie(c, 0, &m->principal_patterns, which, np);
	mem_free(which);
	trie = (struct trie){ c->nodes.nodes, (const char *)m->strings.bytes };
	r = sets_find(&c->sets, &trie);
	if (r == SETS_TOO_MANY)
		errs_add(m->errs, NULL, 0, "the patterns of principals overlap in more than %u ways; "
			 "use fewer that have \"*\" in different segments", SETS_STATES_MAX);
	else if (r == SETS_TOO_LARGE)
		errs_add(m->errs, NULL, 0, "more than %u patterns of principals match one id; use fewer that overlap", SET_MAX);
	if (r != SETS_OK)
		return -1;

	c->nsels = m->ids.n + np + 1;
	c->sels = mem_array(c->nsels, sizeof(*c->sels));
	for (size_t i = 0; i < m->ids.n; i++) {
		const struct intern_item *it = &m->ids.items[i];
		const char *id = intern_get(&m->ids, (uint32_t)i);
		struct sets_match match = { 0 };

		if (np)
			sets_match(&match, &trie, id + PATTERN_SCHEME_LEN, it->len - PATTERN_SCHEME_LEN);
		c->sels[i].len = it->len;
		c->sels[i].set = intern_find(&c->sets, match.pattern, match.n * sizeof(*match.pattern));
	}
	for (size_t i = 0; i < np; i++)
		c->sels[m->ids.n + i].len = m->principals.items[i].len;
	c->sels[c->nsels - 1].len = 1;
	return 0;
}

/* ---- pairs ---- */

static int
add_pairs(struct compile *c, bool deny)
{
	const struct model *m = &c->m;

	for (size_t i = 0; i < m->in->nrules; i++) {
		const struct model_rule *r = &m->rules[i];
		size_t n = (size_t)r->sels.n * (r->services.n ? r->services.n : 1);
		struct pair *p;

		if (r->src->deny != deny)
			continue;
		if (n > PAIRS_MAX || c->npairs + n > PAIRS_MAX) {
			errs_add(m->errs, r->src->file, r->src->line, "rule \"%s\": %zu principals × %zu services bring the policy to more than %u "
				 "combinations; use patterns, or \"*\" for every service", r->src->name, (size_t)r->sels.n,
				 r->src->nservices, PAIRS_MAX);
			return -1;
		}
		mem_grow(&c->pairs, &c->pairs_cap, c->npairs + n, sizeof(*c->pairs));
		p = c->pairs + c->npairs;
		for (uint32_t s = 0; s < r->sels.n; s++) {
			uint32_t sel = compile_sel(c, m->lists[r->sels.at + s]);

			if (r->services.n == 0)
				*p++ = (struct pair){ sel, (uint32_t)m->in->nservices, (uint32_t)i };
			for (uint32_t v = 0; v < r->services.n; v++)
				*p++ = (struct pair){ sel, m->lists[r->services.at + v], (uint32_t)i };
		}
		c->npairs += n;
	}
	return 0;
}

/* One stable pass of a counting sort, by selector or by service. */
static void
sort_pairs(const struct pair *in, struct pair *out, size_t n, size_t values, bool by_sel)
{
	uint32_t *start = mem_array(values + 1, sizeof(*start)), sum = 0;

	for (size_t i = 0; i < n; i++)
		start[(by_sel ? in[i].sel : in[i].service) + 1]++;
	for (size_t i = 0; i <= values; i++)
		start[i] = sum += start[i];
	for (size_t i = 0; i < n; i++)
		out[start[by_sel ? in[i].sel : in[i].service]++] = in[i];
	mem_free(start);
}

static int
make_pairs(struct compile *c)
{
	struct pair *tmp;

	if (add_pairs(c, true) < 0 || add_pairs(c, false) < 0)
		return -1;
	tmp = mem_array(c->npairs, sizeof(*tmp));
	sort_pairs(c->pairs, tmp, c->npairs, c->m.in->nservices + 1, false);
	sort_pairs(tmp, c->pairs, c->npairs, c->nsels, true);
	mem_free(tmp);
	return 0;
}

/* ---- entries ---- */

struct acl_item {
	uint32_t group;              /* 0: every path; else 1 + the path's number, later its position */
	uint32_t order;              /* position in the run */
};

static int
cmp_item(const void *va, const void *vb)
{
	const struct acl_item *a = va, *b = vb;

	if (a->group != b->group)
		return a->group < b->group ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static uint32_t
pathset_trie(struct compile *c, const uint32_t *paths, size_t n)
{
	size_t known = c->pathsets.n;
	uint32_t i;

	if (n == 0)
		return IMAGE_NONE;
	i = intern_add(&c->pathsets, paths, n * sizeof(*paths));
	return c->pathsets.n > known ? add_trie(c, i + 1u, &c->m.path_patterns, paths, n) : i + 1u;
}

/* What earlier tests of the same group and action decide, per assurance; COND_OTHER_METHODS stands for unknown methods. */
struct cover {
	uint32_t methods[POLICY_ASSURANCES];
};

/*
 * False when earlier tests leave nothing for this one: it cannot be first, and it cannot be a nearer miss
 * either, since each of its misses is one of an earlier test, or that one misses by less.
 */
static bool
cover_add(struct cover *v, uint32_t cond)
{
	uint32_t methods = cond & COND_ANY_METHOD ? COND_METHODS | COND_OTHER_METHODS : cond & (COND_METHODS | COND_OTHER_METHODS);
	bool news = false;

	for (unsigned a = 0; a < POLICY_ASSURANCES; a++) {
		if (!(cond >> COND_ASSURANCE_SHIFT & 1u << a))
			continue;
		news |= (methods & ~v->methods[a]) != 0;
		/* A list of some unknown methods does not cover the others. */
		v->methods[a] |= cond & COND_ANY_METHOD ? methods : methods & COND_METHODS;
	}
	return news;
}

static void
put(struct compile *c, uint32_t word)
{
	mem_grow(&c->acls, &c->acls_cap, c->nacls + 1, sizeof(*c->acls));
	c->acls[c->nacls++] = word;
}

/* items: sorted, with groups numbered; the words before the starts are there. */
static void
put_groups(struct compile *c, const uint32_t *run, const struct acl_item *items, size_t n, uint32_t ngroups)
{
	size_t starts = c->nacls, i = 0;
	uint32_t tests = 0;

	for (uint32_t g = 0; g < ngroups + 1; g++)
		put(c, 0);
	for (uint32_t g = 0; g < ngroups; g++) {
		struct cover cover[2] = { 0 };

		for (; i < n && items[i].group == g; i++) {
			uint32_t rule = run[items[i].order], cond = c->m.rules[rule].cond;

			if (!cover_add(&cover[cond & COND_DENY ? 1 : 0], cond))
				continue;
			put(c, cond);
			put(c, rule);
			tests++;
		}
		c->acls[starts + g + 1] = tests;
	}
}

static struct image_entry
make_acl(struct compile *c, const uint32_t *run, uint32_t n)
{
	const struct model *m = &c->m;
	uint32_t first_allow = IMAGE_NONE, npaths = 0;
	struct image_entry e = { ENTRY_ACL, (uint32_t)c->nacls };
	struct acl_item *items;
	uint32_t *paths;
	size_t nitems = 0, total = 0;

	for (uint32_t i = 0; i < n; i++)
		total += m->rules[run[i]].paths.n ? m->rules[run[i]].paths.n : 1;
	items = mem_array(total, sizeof(*items));
	paths = mem_array(total, sizeof(*paths));
	for (uint32_t i = 0; i < n; i++) {
		const struct model_rule *r = &m->rules[run[i]];

		if (!r->src->deny && first_allow == IMAGE_NONE)
			first_allow = run[i];
		if (r->paths.n == 0)
			items[nitems++] = (struct acl_item){ 0, i };
		for (uint32_t k = 0; k < r->paths.n; k++)
			items[nitems++] = (struct acl_item){ m->lists[r->paths.at + k] + 1, i };
	}
	qsort(items, nitems, sizeof(*items), cmp_item);
	for (size_t i = 0; i < nitems; i++) {
		uint32_t path = items[i].group;

		if (path == 0)
			continue;
		if (npaths == 0 || paths[npaths - 1] != path - 1)
			paths[npaths++] = path - 1;
		items[i].group = npaths;
	}
	put(c, first_allow);
	put(c, pathset_trie(c, paths, npaths));
	put(c, npaths);
	put_groups(c, run, items, nitems, npaths + 1);
	mem_free(items);
	mem_free(paths);
	return e;
}

static struct image_entry
make_entry(struct compile *c, const uint32_t *run, uint32_t n)
{
	size_t known = c->runs.n;
	uint32_t i;

	if (n == 1 && !(c->m.rules[run[0]].cond & COND_PATHS))
		return (struct image_entry){ c->m.rules[run[0]].cond, run[0] };
	i = intern_add(&c->runs, run, n * sizeof(*run));
	if (c->runs.n > known) {
		mem_grow(&c->run_entries, &c->runs_cap, c->runs.n, sizeof(*c->run_entries));
		c->run_entries[i] = make_acl(c, run, n);
	}
	return c->run_entries[i];
}

static int
make_entries(struct compile *c)
{
	uint32_t *run = NULL;
	size_t run_cap = 0, next;

	for (size_t i = 0; i < c->npairs; i = next) {
		uint32_t sel = c->pairs[i].sel, service = c->pairs[i].service;
		struct image_entry e;

		for (next = i; next < c->npairs && c->pairs[next].sel == sel && c->pairs[next].service == service; next++) {
			mem_grow(&run, &run_cap, next - i + 1, sizeof(*run));
			run[next - i] = c->pairs[next].rule;
		}
		e = make_entry(c, run, (uint32_t)(next - i));
		if (service == c->m.in->nservices) {
			c->sels[sel].any = e;
		} else {
			mem_grow(&c->slots, &c->slots_cap, c->nslots + 1, sizeof(*c->slots));
			c->slots[c->nslots++] = (struct image_slot){ sel, service, e };
			c->sels[sel].nservices++;
		}
		if (c->nacls > ACL_WORDS_MAX) {
			const struct policy_rule *r = &c->m.in->rules[run[next - i - 1]];

			errs_add(c->m.errs, r->file, r->line, "rule \"%s\": with its paths the policy is too large when compiled; "
				 "use patterns", r->name);
			break;
		}
	}
	mem_free(run);
	return c->nacls > ACL_WORDS_MAX ? -1 : 0;
}

static void
compile_fini(struct compile *c)
{
	model_fini(&c->m);
	intern_fini(&c->sets);
	intern_fini(&c->runs);
	intern_fini(&c->pathsets);
	mem_free(c->nodes.nodes);
	mem_free(c->tries);
	mem_free(c->sels);
	mem_free(c->pairs);
	mem_free(c->slots);
	mem_free(c->run_entries);
	mem_free(c->acls);
}

int
policy_compile(const struct policy_input *in, struct buf *image, struct errs *errs)
{
	struct compile c = { 0 };
	int rc = -1;

	intern_init(&c.sets, true);
	intern_init(&c.runs, true);
	intern_init(&c.pathsets, true);
	if (model_init(&c.m, in, errs) == 0 && make_selectors(&c) == 0 && make_pairs(&c) == 0 && make_entries(&c) == 0) {
		shadow_check(&c.m);
		rc = emit_image(&c, image);
		if (rc < 0)
			errs_add(errs, NULL, 0, "the compiled policy is larger than its bound; use patterns, and \"*\" for every service");
	}
	compile_fini(&c);
	return rc;
}
