/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image's rules say, and why one did not match: for "gwctl policy test" and "policy list". Slow by
 * the standards of match.c (it looks at every rule), and of the same opinion.
 */
#ifndef POLICY_EXPLAIN_H
#define POLICY_EXPLAIN_H

#include "policy/policy.h"

/* ---- reading rules back ---- */

enum policy_list { POLICY_PRINCIPALS, POLICY_SERVICES, POLICY_METHODS, POLICY_PATHS };
/* The length of a rule's list; 0 means any. Principals of anybody are one item, "*"; services of all are none. */
size_t policy_list_count(const struct policy *p, uint32_t rule, enum policy_list which);
/* One of them, as written; points into the image. */
const char *policy_list_item(const struct policy *p, uint32_t rule, enum policy_list which, size_t i);
/* True when the list takes the text: a principal's id or "" for nobody, a service's or method's name, a path. */
bool policy_rule_names(const struct policy *p, uint32_t rule, enum policy_list which, const char *s, size_t n);
uint8_t policy_rule_assurance(const struct policy *p, uint32_t rule); /* bits 1 << enum policy_assurance */
const char *policy_service_name(const struct policy *p, uint32_t service);
bool policy_service_is_tcp(const struct policy *p, uint32_t service);

/* ---- explaining ---- */

/* "no rule names this principal and service". */
const char *policy_why_sentence(enum policy_why w);

/* What of a query a rule does not match; the farther, the larger. */
enum {
	POLICY_MISS_ASSURANCE = 1,
	POLICY_MISS_METHOD = 2,
	POLICY_MISS_PATH = 4,
	POLICY_MISS_KIND = 8,
	POLICY_MISS_SERVICE = 16,
	POLICY_MISS_PRINCIPAL = 32,
};

struct policy_explained {
	uint32_t rule;
	unsigned missed;       /* bits; 0: the rule matches */
};

#define POLICY_EXPLAIN_MAX 10

/*
 * The rules that match (deny first), then the nearest allow rules that do not, in the order of enum policy_why; those that
 * have neither the principal nor the service are left out. "id" is the principal's text ("" for nobody), q as for
 * policy_decide(). Returns how many were written to out.
 */
size_t policy_explain(const struct policy *p, const struct policy_query *q, const char *id, struct policy_explained out[POLICY_EXPLAIN_MAX]);
/* "other methods: GET, HEAD; other assurance: mtls": why it did not match, for people. Nothing when it did. */
void policy_explain_text(const struct policy *p, const struct policy_explained *e, struct buf *out);

#endif
