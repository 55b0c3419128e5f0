/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules, checked and with everything they name interned: what compile.c and shadow.c work on.
 * All faults of what was written are found here.
 */
#ifndef POLICY_MODEL_H
#define POLICY_MODEL_H

#include <stdint.h>

#include "policy/image.h"
#include "policy/intern.h"
#include "policy/trie.h"

/* A selector before the number of exact ids is known. */
#define SEL_PATTERN 0x80000000u        /* | the pattern's number */
#define SEL_ANYBODY UINT32_MAX

struct model_list {                    /* numbers in model.lists */
	uint32_t at, n;
};

struct model_rule {
	const struct policy_rule *src;
	uint32_t cond;                 /* image.h */
	struct model_list sels;        /* sorted, no number twice */
	struct model_list services;    /* n 0: every service */
	struct model_list paths;       /* n 0: any path */
};

struct model {
	const struct policy_input *in;
	struct errs *errs;
	struct intern strings;         /* labels and what else is text; the tables below have theirs */
	struct intern services;        /* by name, in the order of policy_input */
	struct intern ids;             /* exact principals */
	struct intern principals;      /* patterns */
	struct intern paths;           /* exact ones too */
	struct intern names;           /* of rules: by their numbers */
	struct trie_patterns principal_patterns, path_patterns; /* by the same numbers */
	struct model_rule *rules;      /* in->nrules */
	uint32_t *lists;
	size_t nlists, lists_cap;
};

/* 0, or -1 with every fault in *errs. Either way model_fini() is due. */
int model_init(struct model *m, const struct policy_input *in, struct errs *errs);
void model_fini(struct model *m);

static inline uint32_t
model_string(struct model *m, const char *s)
{
	return intern_put(&m->strings, s, strlen(s));
}

#endif
