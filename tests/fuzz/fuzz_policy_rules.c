/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules as an operator may write them, a line each: words that start with
 *
 *   + or -  allow or deny      @ principal     = service     ! method     / path     ~ assurance mask, one hex digit
 *
 * What compiles must open, and deciding and explaining must agree on it for queries made of its own words.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "policy/explain.h"

#define RULES 16
#define WORDS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct line {
	char name[8];
	const char *list[4][WORDS]; /* by enum policy_list */
	size_t n[4];
	bool deny;
	uint8_t assurance;
};

static const struct policy_service services[] = { { "web", false }, { "db", true }, { "mail", false } };

static void
add_word(struct line *l, const char *w)
{
	static const char kinds[] = "@=!/";
	const char *kind = strchr(kinds, w[0]);

	if (w[0] == '+' || w[0] == '-')
		l->deny = w[0] == '-';
	else if (w[0] == '~')
		l->assurance = (uint8_t)strtoul(w + 1, NULL, 16);
	else if (kind && *kind && l->n[kind - kinds] < WORDS)
		l->list[kind - kinds][l->n[kind - kinds]++] = *kind == '/' ? w : w + 1;
}

static void
to_rule(const struct line *l, struct policy_rule *r, unsigned number)
{
	*r = (struct policy_rule){
		l->name, "f", number + 1, l->deny, l->list[0], l->n[0], l->list[1], l->n[1],
		l->n[2] ? l->list[2] : NULL, l->n[2], l->n[3] ? l->list[3] : NULL, l->n[3], l->assurance,
	};
}

static void
ask(const struct policy *p, const char *id, const char *method, const char *path, uint32_t service, enum policy_assurance a)
{
	struct policy_query q = { policy_principal(p, id, strlen(id)), service, method, strlen(method), path, strlen(path), a };
	struct policy_explained e[POLICY_EXPLAIN_MAX];
	struct policy_verdict v;
	size_t n;

	if (q.principal == POLICY_NO_ID)
		abort();
	policy_decide(p, &q, &v);
	n = policy_explain(p, &q, id, e);
	if (v.rule != POLICY_NO_ID && (n == 0 || e[0].rule != v.rule || (e[0].missed == 0) != (v.why == POLICY_OK || v.why == POLICY_DENIED)))
		abort();
	if (v.rule == POLICY_NO_ID && n && !(e[0].missed & (POLICY_MISS_SERVICE | POLICY_MISS_PRINCIPAL)))
		abort();
}

static void
use(const struct policy *p, const struct line *lines, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct line *a = &lines[i], *b = &lines[n - 1 - i];

		for (unsigned k = 0; k < 12; k++) {
			/* The first segment decides what is a principal; a star is as good a segment as any other. */
			const char *id = a->n[0] ? a->list[0][k % a->n[0]] : "";
			const char *method = b->n[2] ? b->list[2][k % b->n[2]] : "GET", *path = b->n[3] ? b->list[3][k % b->n[3]] : "/";

			ask(p, strncmp(id, "spiffe://", 9) == 0 ? id : "", method, path, k % 3, (enum policy_assurance)(k % POLICY_ASSURANCES));
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = mem_strndup((const char *)data, size), *at = text, *row, *word;
	struct line *lines = mem_array(RULES, sizeof(*lines));
	struct policy_rule rules[RULES];
	struct policy_input in = { rules, 0, services, 3, 1, "" };
	struct policy p;
	struct buf image;
	struct errs errs;
	const char *why;

	while ((row = strsep(&at, "\n")) && in.nrules < RULES) {
		struct line *l = &lines[in.nrules];

		l->name[0] = (char)('a' + in.nrules);
		while ((word = strsep(&row, " ")))
			add_word(l, word);
		to_rule(l, &rules[in.nrules], (unsigned)in.nrules);
		in.nrules++;
	}
	errs_init(&errs);
	buf_init(&image, 0);
	if (policy_compile(&in, &image, &errs) == 0) {
		if (errs.errors || policy_open(&p, image.data, image.len, &why) < 0)
			abort();
		use(&p, lines, in.nrules);
	} else if (!errs.errors) {
		abort();
	}
	errs_fini(&errs);
	buf_fini(&image);
	mem_free(lines);
	mem_free(text);
	return 0;
}
