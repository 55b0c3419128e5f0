/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/model.h"

#include <stdlib.h>

#include "gateway/base/mem.h"
#include "policy/method.h"

#define TEXT_MAX (128u << 20) /* of all names, ids and paths; far beyond any file that is read */
#define RULES_MAX (1u << 22)

#define FAULT(m, r, fmt, ...) errs_add((m)->errs, (r)->file, (r)->line, "rule \"%s\": " fmt, (r)->name, __VA_ARGS__)

static void
push(struct model *m, struct model_list *list, uint32_t number)
{
	mem_grow(&m->lists, &m->lists_cap, m->nlists + 1, sizeof(*m->lists));
	m->lists[m->nlists++] = number;
	list->n++;
}

static int
cmp_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The list is the last one in m->lists. */
static void
sort_unique(struct model *m, struct model_list *list)
{
	uint32_t *l, n = 0;

	if (list->n < 2)
		return;
	l = m->lists + list->at;
	qsort(l, list->n, sizeof(*l), cmp_number);
	for (uint32_t i = 0; i < list->n; i++)
		if (i == 0 || l[i] != l[n - 1])
			l[n++] = l[i];
	list->n = n;
	m->nlists = list->at + n;
}

/* "*" alone. 1 yes, 0 no, -1 for a fault. */
static int
is_any(struct model *m, const struct policy_rule *r, const char *what, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], "*") == 0) {
			if (n == 1)
				return 1;
			FAULT(m, r, "%s: \"*\" means all of them and must stand alone; remove it or the others", what);
			return -1;
		}
	return 0;
}

static void
add_principal(struct model *m, const struct policy_rule *r, struct model_list *list, const char *s)
{
	size_t len = strlen(s);
	bool exact = !memchr(s, '*', len);
	struct intern *t = exact ? &m->ids : &m->principals;
	size_t known = t->n;
	uint32_t i = intern_add(t, s, len);
	const char *why;
	struct pattern p;

	if (t->n > known) {
		if (pattern_parse_principal(&p, s, len, &why) < 0) {
			FAULT(m, r, "principal \"%s\": %s", s, why);
			intern_undo(t);
			return;
		}
		if (!exact)
			trie_patterns_add(&m->principal_patterns, &m->strings, &p);
	}
	push(m, list, exact ? i : SEL_PATTERN | i);
}

static void
add_principals(struct model *m, const struct policy_rule *r, struct model_rule *out)
{
	int any = is_any(m, r, "principals", r->principals, r->nprincipals);

	out->sels.at = (uint32_t)m->nlists;
	if (r->nprincipals == 0)
		FAULT(m, r, "%s", "no principals; name some, or [ \"*\" ] for anybody");
	else if (any > 0)
		push(m, &out->sels, SEL_ANYBODY);
	else if (any == 0)
		for (size_t i = 0; i < r->nprincipals; i++)
			add_principal(m, r, &out->sels, r->principals[i]);
	sort_unique(m, &out->sels);
	if (any <= 0 && r->assurance & (1u << POLICY_NONE))
		FAULT(m, r, "%s", "assurance \"none\" means a caller without a principal, so it goes with principals = [ \"*\" ] only");
}

static void
unknown_service(struct model *m, const struct policy_rule *r, const char *s)
{
	const char **names = mem_array(m->in->nservices, sizeof(*names));
	const char *near = NULL;

	for (size_t i = 0; i < m->in->nservices; i++)
		names[i] = m->in->services[i].name;
	if (m->errs->n < ERRS_MAX) /* else nobody will read it */
		near = errs_nearest(s, names, m->in->nservices);
	if (near)
		FAULT(m, r, "unknown service \"%s\"; did you mean \"%s\"?", s, near);
	else
		FAULT(m, r, "unknown service \"%s\"; services are named in sallyport.conf", s);
	mem_free(names);
}

static void
add_services(struct model *m, const struct policy_rule *r, struct model_rule *out)
{
	int any = is_any(m, r, "services", r->services, r->nservices);
	bool http = any != 0 || r->nservices == 0;

	out->services.at = (uint32_t)m->nlists;
	if (r->nservices == 0)
		FAULT(m, r, "%s", "no services; name some, or [ \"*\" ] for every service");
	for (size_t i = 0; any == 0 && i < r->nservices; i++) {
		uint32_t s = intern_find(&m->services, r->services[i], strlen(r->services[i]));

		if (s == INTERN_NONE) {
			unknown_service(m, r, r->services[i]);
			http = true;
			continue;
		}
		push(m, &out->services, s);
		http |= !m->in->services[s].tcp;
	}
	sort_unique(m, &out->services);
	if (!http && (r->methods || r->paths))
		FAULT(m, r, "%s", "can never match: all its services are of kind \"tcp\", which have no methods or paths");
}

static void
add_methods(struct model *m, const struct policy_rule *r, struct model_rule *out)
{
	if (!r->methods) {
		out->cond |= COND_ANY_METHOD;
		return;
	}
	if (r->nmethods == 0)
		FAULT(m, r, "%s", "methods is empty, so it can never match; remove the line to allow any method");
	if (r->nmethods > METHODS_MAX)
		FAULT(m, r, "more than %u methods", METHODS_MAX);
	for (size_t i = 0; i < r->nmethods; i++) {
		const char *s = r->methods[i], *other;
		size_t len = strlen(s);
		uint32_t bit = method_bit(s, len);

		if (!method_is_token(s, len))
			FAULT(m, r, "\"%s\" is not a method (RFC 9110 5.6.2)", s);
		else if (strcmp(s, "*") == 0)
			FAULT(m, r, "%s", "methods: \"*\" is a method of that name; remove the line to allow any method");
		else if ((other = method_other_case(s)))
			errs_warn(m->errs, r->file, r->line, "rule \"%s\": method \"%s\" is not \"%s\": methods are case-sensitive", r->name, s, other);
		else if (strcmp(s, "CONNECT") == 0)
			errs_warn(m->errs, r->file, r->line, "rule \"%s\": method \"CONNECT\" never matches: "
				  "it reaches services of kind \"tcp\" only, and those need a rule without methods", r->name);
		out->cond |= bit ? bit : COND_OTHER_METHODS;
	}
}

static void
add_paths(struct model *m, const struct policy_rule *r, struct model_rule *out)
{
	out->paths.at = (uint32_t)m->nlists;
	if (!r->paths)
		return;
	out->cond |= COND_PATHS;
	if (r->npaths == 0)
		FAULT(m, r, "%s", "paths is empty, so it can never match; remove the line to allow any path");
	for (size_t i = 0; i < r->npaths; i++) {
		const char *s = r->paths[i], *why;
		size_t len = strlen(s);
		uint32_t path = intern_find(&m->paths, s, len);
		struct pattern p;

		if (path == INTERN_NONE) {
			if (pattern_parse_path(&p, s, len, &why) < 0) {
				FAULT(m, r, "path \"%s\": %s", s, why);
				continue;
			}
			path = intern_add(&m->paths, s, len);
			trie_patterns_add(&m->path_patterns, &m->strings, &p);
		}
		if (r->deny && !pattern_path_is_plain(s, len))
			errs_warn(m->errs, r->file, r->line, "rule \"%s\": path \"%s\" can be written in other ways (\"%%21\" for \"!\") that it does not "
				  "match; deny a wider pattern, or allow only what is wanted", r->name, s);
		push(m, &out->paths, path);
	}
	sort_unique(m, &out->paths);
}

static void
add_rule(struct model *m, struct model_rule *out, const struct policy_rule *r)
{
	uint32_t assurance = r->assurance;

	out->src = r;
	if (assurance >> POLICY_ASSURANCES)
		FAULT(m, r, "unknown assurance bits 0x%x", (unsigned)assurance);
	if (!assurance)
		assurance = r->deny ? (1u << POLICY_ASSURANCES) - 1 : 1u << POLICY_MTLS;
	out->cond = assurance << COND_ASSURANCE_SHIFT & COND_ASSURANCE;
	if (r->deny)
		out->cond |= COND_DENY;
	add_principals(m, r, out);
	add_services(m, r, out);
	add_methods(m, r, out);
	add_paths(m, r, out);
}

/* A name that is used twice would make a journal ambiguous. */
static void
check_names(struct model *m)
{
	for (size_t i = 0, n = 0; i < m->in->nrules; i++) {
		const struct policy_rule *r = &m->in->rules[i], *first;
		uint32_t at = intern_add(&m->names, r->name, strlen(r->name));

		if (r->name[0] == '\0')
			errs_add(m->errs, r->file, r->line, "a rule without a name; the journal needs one");
		if (m->names.n > n) {
			n = m->names.n;
			m->rules[at].src = r; /* borrowed until add_rule(): the n-th new name's rule */
			continue;
		}
		first = m->rules[at].src;
		errs_add(m->errs, r->file, r->line, "rule \"%s\": the name is taken by %s:%u; names are unique over all files", r->name, first->file,
			 first->line);
	}
}

static size_t
text_size(const char *const *list, size_t n)
{
	size_t size = 0;

	for (size_t i = 0; i < n; i++)
		size += strlen(list[i]) + 1;
	return size;
}

static bool
too_large(const struct policy_input *in)
{
	size_t size = 0;

	for (size_t i = 0; i < in->nrules && size <= TEXT_MAX; i++) {
		const struct policy_rule *r = &in->rules[i];

		size += strlen(r->name) + strlen(r->file) + text_size(r->principals, r->nprincipals) + text_size(r->services, r->nservices) +
			text_size(r->methods, r->nmethods) + text_size(r->paths, r->npaths);
	}
	return size > TEXT_MAX || in->nrules > RULES_MAX || in->nservices > RULES_MAX;
}

int
model_init(struct model *m, const struct policy_input *in, struct errs *errs)
{
	size_t errors = errs->errors;

	memset(m, 0, sizeof(*m));
	m->in = in;
	m->errs = errs;
	intern_init(&m->strings, false);
	intern_init(&m->services, false);
	intern_init(&m->ids, false);
	intern_init(&m->principals, false);
	intern_init(&m->paths, false);
	intern_init(&m->names, false);
	if (too_large(in)) {
		errs_add(errs, NULL, 0, "the policy is too large: at most %u rules and %u MiB of text", RULES_MAX, TEXT_MAX >> 20);
		return -1;
	}
	m->rules = mem_array(in->nrules, sizeof(*m->rules));
	for (size_t i = 0; i < in->nservices; i++)
		if (intern_add(&m->services, in->services[i].name, strlen(in->services[i].name)) != i) {
			errs_add(errs, NULL, 0, "service \"%s\" is named twice", in->services[i].name);
			return -1;
		}
	intern_reserve(&m->names, in->nrules);
	intern_reserve(&m->ids, in->nrules);
	check_names(m);
	for (size_t i = 0; i < in->nrules; i++)
		add_rule(m, &m->rules[i], &in->rules[i]);
	return errs->errors > errors ? -1 : 0;
}

void
model_fini(struct model *m)
{
	intern_fini(&m->strings);
	intern_fini(&m->services);
	intern_fini(&m->ids);
	intern_fini(&m->principals);
	intern_fini(&m->paths);
	intern_fini(&m->names);
	trie_patterns_fini(&m->principal_patterns);
	trie_patterns_fini(&m->path_patterns);
	mem_free(m->rules);
	mem_free(m->lists);
	memset(m, 0, sizeof(*m));
}
