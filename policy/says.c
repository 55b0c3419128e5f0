/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/says.h"

#include "gateway/base/mem.h"

/* Adds every string that is in no table of the model; from then on all strings have their places. */
static void
place_strings(struct says *s)
{
	struct model *m = &s->c->m;
	const char *file = NULL;
	uint32_t at = 0;

	for (size_t i = 0; i < m->in->nrules; i++) {
		const struct policy_rule *r = &m->in->rules[i];

		if (r->file != file) /* mostly the one before */
			at = model_string(m, file = r->file);
		s->rules[i].file = at;
		for (size_t k = 0; k < r->nmethods; k++)
			model_string(m, r->methods[k]);
	}
	s->anybody = model_string(m, "*");
	s->digest = model_string(m, m->in->digest ? m->in->digest : "");
	s->table[SAYS_OTHERS] = &m->strings; /* first: tries have their labels there */
	s->table[SAYS_IDS] = &m->ids;
	s->table[SAYS_PRINCIPALS] = &m->principals;
	s->table[SAYS_SERVICES] = &m->services;
	s->table[SAYS_PATHS] = &m->paths;
	s->table[SAYS_NAMES] = &m->names;
	for (size_t i = 1; i < SAYS_TABLES; i++)
		s->base[i] = s->base[i - 1] + (uint32_t)s->table[i - 1]->len;
}

static uint32_t
text(const struct says *s, unsigned table, size_t i)
{
	return s->base[table] + s->table[table]->items[i].off;
}

static void
place_sels(struct says *s)
{
	const struct compile *c = s->c;
	size_t nexact = c->m.ids.n;

	for (size_t i = 0; i + 1 < c->nsels; i++)
		c->sels[i].text = i < nexact ? text(s, SAYS_IDS, i) : text(s, SAYS_PRINCIPALS, i - nexact);
	c->sels[c->nsels - 1].text = s->anybody;
}

/* Most lists have one item: those are made for each selector, service and path, so that they are found without a search. */
static void
make_singles(struct says *s)
{
	const struct compile *c = s->c;
	uint32_t *w;

	s->nsingles = 2 * (c->nsels + c->m.services.n + c->m.paths.n);
	s->singles = w = mem_array(s->nsingles, sizeof(*w));
	for (size_t i = 0; i < c->nsels; i++) {
		*w++ = 1;
		*w++ = c->sels[i].text;
	}
	for (size_t i = 0; i < c->m.services.n; i++) {
		*w++ = 1;
		*w++ = text(s, SAYS_SERVICES, i);
	}
	for (size_t i = 0; i < c->m.paths.n; i++) {
		*w++ = 1;
		*w++ = text(s, SAYS_PATHS, i);
	}
}

static uint32_t
add_list(struct says *s, const uint32_t *words)
{
	return (uint32_t)s->nsingles + intern_put(&s->lists, words, (words[0] + 1u) * sizeof(*words)) / 4;
}

/* first: of the singles for this kind of thing. */
static uint32_t
make_list(struct says *s, struct model_list list, size_t first, bool sels)
{
	uint32_t small[16], *words = list.n < 16 ? small : mem_array(list.n + 1, sizeof(*words)), at = 0;

	words[0] = list.n;
	for (uint32_t i = 0; i < list.n; i++) {
		uint32_t number = s->c->m.lists[list.at + i];

		at = (uint32_t)(2 * (first + (sels ? compile_sel(s->c, number) : number)));
		words[i + 1] = s->singles[at + 1];
	}
	if (list.n != 1)
		at = add_list(s, words);
	if (words != small)
		mem_free(words);
	return at;
}

static uint32_t
make_methods(struct says *s, const struct policy_rule *r)
{
	uint32_t words[METHODS_MAX + 1];

	if (!r->methods)
		return IMAGE_NONE;
	words[0] = (uint32_t)r->nmethods; /* model.c bounds them */
	for (size_t i = 0; i < r->nmethods; i++)
		words[i + 1] = model_string(&s->c->m, r->methods[i]); /* there already */
	return add_list(s, words);
}

static void
make_rules(struct says *s)
{
	const struct compile *c = s->c;

	for (size_t i = 0; i < c->m.in->nrules; i++) {
		const struct model_rule *r = &c->m.rules[i];
		struct image_rule *out = &s->rules[i];

		out->name = text(s, SAYS_NAMES, i);
		out->line = r->src->line;
		out->cond = r->cond;
		out->principals = make_list(s, r->sels, 0, true);
		out->services = r->services.n ? make_list(s, r->services, c->nsels, false) : IMAGE_NONE;
		out->methods = make_methods(s, r->src);
		out->paths = r->paths.n ? make_list(s, r->paths, c->nsels + c->m.services.n, false) : IMAGE_NONE;
	}
}

void
says_init(struct says *s, struct compile *c)
{
	const struct policy_input *in = c->m.in;

	memset(s, 0, sizeof(*s));
	s->c = c;
	s->rules = mem_array(in->nrules, sizeof(*s->rules));
	s->services = mem_array(in->nservices, sizeof(*s->services));
	intern_init(&s->lists, true);
	place_strings(s);
	place_sels(s);
	make_singles(s);
	make_rules(s);
	for (size_t i = 0; i < in->nservices; i++)
		s->services[i] = (struct image_service){ text(s, SAYS_SERVICES, i), in->services[i].tcp };
}

void
says_fini(struct says *s)
{
	mem_free(s->rules);
	mem_free(s->services);
	mem_free(s->singles);
	intern_fini(&s->lists);
	memset(s, 0, sizeof(*s));
}
