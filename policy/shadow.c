/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/shadow.h"

#include <stdlib.h>

#include "gateway/base/mem.h"
#include "policy/pattern.h"

#define STEPS_MAX 4000000u /* comparisons of two words: some tens of milliseconds */

struct shadow {
	struct model *m;
	uint32_t *by_id;       /* deny rules that name an exact id: next[] chains from here */
	uint32_t *wide;        /* deny rules with patterns or anybody, the last one first */
	size_t nwide;
	struct link {
		uint32_t rule, next;
	} *links;
	size_t nlinks, links_cap;
	uint32_t steps;
};

static bool
step(struct shadow *s)
{
	return s->steps < STEPS_MAX && ++s->steps;
}

static bool
covers_text(const struct intern *texts, bool path, uint32_t wide, uint32_t narrow, const struct intern *narrow_texts)
{
	struct pattern w, n;
	const char *why;
	int (*parse)(struct pattern *, const char *, size_t, const char **) = path ? pattern_parse_path : pattern_parse_principal;

	return parse(&w, intern_get(texts, wide), texts->items[wide].len, &why) == 0 &&
		parse(&n, intern_get(narrow_texts, narrow), narrow_texts->items[narrow].len, &why) == 0 && pattern_covers(&w, &n);
}

static bool
sel_covers(struct shadow *s, uint32_t wide, uint32_t narrow)
{
	const struct model *m = s->m;

	if (wide == narrow || wide == SEL_ANYBODY)
		return true;
	if (!(wide & SEL_PATTERN) || narrow == SEL_ANYBODY)
		return false;
	s->steps += 10; /* two patterns are parsed */
	return covers_text(&m->principals, false, wide & ~SEL_PATTERN, narrow & ~SEL_PATTERN,
			   narrow & SEL_PATTERN ? &m->principals : &m->ids);
}

static bool
service_covers(struct shadow *s, uint32_t wide, uint32_t narrow)
{
	(void)s;
	return wide == narrow;
}

static bool
path_covers(struct shadow *s, uint32_t wide, uint32_t narrow)
{
	s->steps += 10;
	return wide == narrow || covers_text(&s->m->paths, true, wide, narrow, &s->m->paths);
}

typedef bool covers_fn(struct shadow *s, uint32_t wide, uint32_t narrow);

/* Each of "narrow" is covered by one of "wide". */
static bool
list_covers(struct shadow *s, struct model_list wide, struct model_list narrow, covers_fn *covers)
{
	const uint32_t *l = s->m->lists;

	for (uint32_t i = 0; i < narrow.n; i++) {
		uint32_t k;

		for (k = 0; k < wide.n && step(s); k++)
			if (covers(s, l[wide.at + k], l[narrow.at + i]))
				break;
		if (k == wide.n || s->steps >= STEPS_MAX)
			return false;
	}
	return true;
}

static bool
methods_cover(const struct model_rule *d, const struct model_rule *a)
{
	if (d->cond & COND_ANY_METHOD)
		return true;
	if (a->cond & COND_ANY_METHOD || a->cond & ~d->cond & COND_METHODS)
		return false;
	if (!(a->cond & COND_OTHER_METHODS))
		return true;
	for (size_t i = 0; i < a->src->nmethods; i++) {
		size_t k = 0;

		while (k < d->src->nmethods && strcmp(d->src->methods[k], a->src->methods[i]) != 0)
			k++;
		if (k == d->src->nmethods)
			return false;
	}
	return true;
}

/* What the deny rule covers; over TCP a rule with methods or paths matches nothing, so both narrow alike. */
static bool
rule_covers(struct shadow *s, const struct model_rule *d, const struct model_rule *a)
{
	if (a->cond & ~d->cond & COND_ASSURANCE || !methods_cover(d, a))
		return false;
	if (d->services.n && (!a->services.n || !list_covers(s, d->services, a->services, service_covers)))
		return false;
	if (d->paths.n && (!a->paths.n || !list_covers(s, d->paths, a->paths, path_covers)))
		return false;
	return list_covers(s, d->sels, a->sels, sel_covers);
}

static void
check_rule(struct shadow *s, const struct model_rule *a)
{
	const struct model *m = s->m;
	uint32_t first = m->lists[a->sels.at];
	const struct model_rule *by = NULL;

	if (!(first & SEL_PATTERN))
		for (uint32_t i = s->by_id[first]; i && !by && step(s); i = s->links[i - 1].next)
			if (rule_covers(s, &m->rules[s->links[i - 1].rule], a))
				by = &m->rules[s->links[i - 1].rule];
	for (size_t i = s->nwide; i > 0 && !by && step(s); i--)
		if (rule_covers(s, &m->rules[s->wide[i - 1]], a))
			by = &m->rules[s->wide[i - 1]];
	if (by)
		errs_warn(m->errs, a->src->file, a->src->line, "rule \"%s\" allows nothing: the deny rule \"%s\" (%s:%u) covers it",
			  a->src->name, by->src->name, by->src->file, by->src->line);
}

/* Deny rules that could cover an exact id are found by the id; those with a pattern are looked at for every rule. */
static void
index_rule(struct shadow *s, uint32_t rule)
{
	const struct model_rule *r = &s->m->rules[rule];

	for (uint32_t i = 0; i < r->sels.n; i++) {
		uint32_t sel = s->m->lists[r->sels.at + i];

		if (sel & SEL_PATTERN) {
			s->wide[s->nwide++] = rule;
			return; /* sorted: nothing but patterns follows */
		}
		mem_grow(&s->links, &s->links_cap, s->nlinks + 1, sizeof(*s->links));
		s->links[s->nlinks++] = (struct link){ rule, s->by_id[sel] };
		s->by_id[sel] = (uint32_t)s->nlinks;
	}
}

void
shadow_check(struct model *m)
{
	struct shadow s = { .m = m };

	s.by_id = mem_array(m->ids.n, sizeof(*s.by_id));
	s.wide = mem_array(m->in->nrules, sizeof(*s.wide));
	for (size_t i = m->in->nrules; i-- > 0;) /* chains then start with the first rule */
		if (m->rules[i].src->deny)
			index_rule(&s, (uint32_t)i);
	for (size_t i = 0; i < m->in->nrules && (s.nlinks || s.nwide); i++)
		if (!m->rules[i].src->deny)
			check_rule(&s, &m->rules[i]);
	mem_free(s.by_id);
	mem_free(s.wide);
	mem_free(s.links);
}
