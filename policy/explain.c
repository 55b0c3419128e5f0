/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/explain.h"

#include "policy/image.h"
#include "policy/pattern.h"

#define TEXT_ITEMS 4 /* of a list, before "and N more" */

/* ---- reading rules back ---- */

static const struct image_rule *
get_rule(const struct policy *p, uint32_t rule)
{
	return (const struct image_rule *)p->priv[PRIV_RULES] + rule;
}

/* NULL: any. */
static const uint32_t *
get_list(const struct policy *p, uint32_t rule, enum policy_list which)
{
	const struct image_rule *r = get_rule(p, rule);
	uint32_t at = which == POLICY_PRINCIPALS ? r->principals : which == POLICY_SERVICES ? r->services :
		which == POLICY_METHODS ? r->methods : r->paths;

	return at == IMAGE_NONE ? NULL : (const uint32_t *)image_section(p, IMAGE_LISTS) + at;
}

size_t
policy_list_count(const struct policy *p, uint32_t rule, enum policy_list which)
{
	const uint32_t *list = get_list(p, rule, which);

	return list ? list[0] : 0;
}

const char *
policy_list_item(const struct policy *p, uint32_t rule, enum policy_list which, size_t i)
{
	return (const char *)p->priv[PRIV_STRINGS] + get_list(p, rule, which)[i + 1];
}

uint8_t
policy_rule_assurance(const struct policy *p, uint32_t rule)
{
	return (uint8_t)((get_rule(p, rule)->cond & COND_ASSURANCE) >> COND_ASSURANCE_SHIFT);
}

const char *
policy_service_name(const struct policy *p, uint32_t service)
{
	return (const char *)p->priv[PRIV_STRINGS] + ((const struct image_service *)p->priv[PRIV_SERVICES])[service].name;
}

bool
policy_service_is_tcp(const struct policy *p, uint32_t service)
{
	return ((const struct image_service *)p->priv[PRIV_SERVICES])[service].tcp != 0;
}

/* ---- explaining ---- */

static bool
matches_principal(const char *item, const char *s, size_t n)
{
	struct pattern pattern;
	const char *why;

	if (strcmp(item, "*") == 0)
		return true;
	if (n <= PATTERN_SCHEME_LEN || memcmp(s, PATTERN_SCHEME, PATTERN_SCHEME_LEN) != 0 ||
	    pattern_parse_principal(&pattern, item, strlen(item), &why) < 0)
		return false;
	return pattern_match(&pattern, s + PATTERN_SCHEME_LEN, n - PATTERN_SCHEME_LEN);
}

static bool
matches_path(const char *item, const char *s, size_t n)
{
	struct pattern pattern;
	const char *why;

	if (!s || n == 0 || s[0] != '/' || pattern_parse_path(&pattern, item, strlen(item), &why) < 0)
		return false;
	return pattern_match(&pattern, s + 1, n - 1);
}

bool
policy_rule_names(const struct policy *p, uint32_t rule, enum policy_list which, const char *s, size_t n)
{
	const uint32_t *list = get_list(p, rule, which);

	if (!list)
		return true;
	for (uint32_t i = 0; i < list[0]; i++) {
		const char *item = (const char *)p->priv[PRIV_STRINGS] + list[i + 1];

		switch (which) {
		case POLICY_PRINCIPALS:
			if (matches_principal(item, s, n))
				return true;
			break;
		case POLICY_PATHS:
			if (matches_path(item, s, n))
				return true;
			break;
		case POLICY_SERVICES:
		case POLICY_METHODS:
			if (s && strlen(item) == n && memcmp(item, s, n) == 0)
				return true;
			break;
		}
	}
	return false;
}

static unsigned
missed_by(const struct policy *p, uint32_t rule, const struct policy_query *q, const char *id)
{
	const char *service = policy_service_name(p, q->service);
	unsigned missed = 0;

	if (!policy_rule_names(p, rule, POLICY_PRINCIPALS, id, strlen(id)))
		missed |= POLICY_MISS_PRINCIPAL;
	if (!policy_rule_names(p, rule, POLICY_SERVICES, service, strlen(service)))
		missed |= POLICY_MISS_SERVICE;
	if (policy_service_is_tcp(p, q->service)) {
		if (get_list(p, rule, POLICY_METHODS) || get_list(p, rule, POLICY_PATHS))
			missed |= POLICY_MISS_KIND;
	} else {
		if (!policy_rule_names(p, rule, POLICY_PATHS, q->path, q->path_len))
			missed |= POLICY_MISS_PATH;
		if (!policy_rule_names(p, rule, POLICY_METHODS, q->method, q->method_len))
			missed |= POLICY_MISS_METHOD;
	}
	if (!(policy_rule_assurance(p, rule) & 1u << q->assurance))
		missed |= POLICY_MISS_ASSURANCE;
	return missed;
}

/* Lower is nearer. Among rules of the principal and service only the farthest miss counts, as in policy_decide(). */
static unsigned
distance(const struct policy_explained *e, bool deny)
{
	if (e->missed == 0)
		return deny ? 0 : 1;
	if (e->missed & (POLICY_MISS_PRINCIPAL | POLICY_MISS_SERVICE))
		return 16 + e->missed;
	return e->missed & POLICY_MISS_KIND ? 5 : e->missed & POLICY_MISS_PATH ? 4 : e->missed & POLICY_MISS_METHOD ? 3 : 2;
}

size_t
policy_explain(const struct policy *p, const struct policy_query *q, const char *id, struct policy_explained out[POLICY_EXPLAIN_MAX])
{
	unsigned far[POLICY_EXPLAIN_MAX];
	size_t n = 0;

	if (q->service >= p->nservices || (unsigned)q->assurance >= POLICY_ASSURANCES)
		return 0;
	for (uint32_t rule = 0; rule < p->nrules; rule++) {
		struct policy_explained e = { rule, missed_by(p, rule, q, id) };
		bool deny = (get_rule(p, rule)->cond & COND_DENY) != 0;
		unsigned d = distance(&e, deny);
		size_t at;

		if ((e.missed && deny) || (e.missed & POLICY_MISS_PRINCIPAL && e.missed & POLICY_MISS_SERVICE))
			continue;
		if (n == POLICY_EXPLAIN_MAX && far[n - 1] <= d)
			continue;
		for (at = n < POLICY_EXPLAIN_MAX ? n++ : n - 1; at > 0 && far[at - 1] > d; at--) {
			out[at] = out[at - 1];
			far[at] = far[at - 1];
		}
		out[at] = e;
		far[at] = d;
	}
	return n;
}

static void
put_list(const struct policy *p, uint32_t rule, enum policy_list which, const char *what, struct buf *out, const char **sep)
{
	size_t n = policy_list_count(p, rule, which);

	buf_printf(out, "%s%s: ", *sep, what);
	*sep = "; ";
	for (size_t i = 0; i < n && i < TEXT_ITEMS; i++)
		buf_printf(out, "%s%s", i ? ", " : "", policy_list_item(p, rule, which, i));
	if (n > TEXT_ITEMS)
		buf_printf(out, " and %zu more", n - TEXT_ITEMS);
}

const char *
policy_why_sentence(enum policy_why w)
{
	static const char *const texts[] = {
		[POLICY_OK] = "allowed",
		[POLICY_DENIED] = "a rule denies it",
		[POLICY_NO_RULE] = "no rule names this principal and service",
		[POLICY_METHOD] = "no rule allows the method",
		[POLICY_PATH] = "no rule allows the path",
		[POLICY_ASSURANCE] = "no rule allows the assurance",
		[POLICY_KIND] = "the rule has methods or paths, and the service is TCP",
	};

	return (unsigned)w < sizeof(texts) / sizeof(*texts) ? texts[w] : "?";
}

void
policy_explain_text(const struct policy *p, const struct policy_explained *e, struct buf *out)
{
	const char *sep = "";

	if (e->missed & POLICY_MISS_PRINCIPAL)
		put_list(p, e->rule, POLICY_PRINCIPALS, "other principals", out, &sep);
	if (e->missed & POLICY_MISS_SERVICE)
		put_list(p, e->rule, POLICY_SERVICES, "other services", out, &sep);
	if (e->missed & POLICY_MISS_KIND) {
		buf_printf(out, "%sit has methods or paths, and the service is TCP", sep);
		sep = "; ";
	}
	if (e->missed & POLICY_MISS_PATH)
		put_list(p, e->rule, POLICY_PATHS, "other paths", out, &sep);
	if (e->missed & POLICY_MISS_METHOD)
		put_list(p, e->rule, POLICY_METHODS, "other methods", out, &sep);
	if (!(e->missed & POLICY_MISS_ASSURANCE))
		return;
	buf_printf(out, "%sother assurance", sep);
	sep = ": ";
	for (int a = 0; a < POLICY_ASSURANCES; a++)
		if (policy_rule_assurance(p, e->rule) & 1u << a) {
			buf_printf(out, "%s%s", sep, policy_assurance_name((enum policy_assurance)a));
			sep = ", ";
		}
}
