/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy: who may call what. A library without I/O: rules in, a pointer-free image out
 * (policy_compile); an image in, decisions out (policy_open, policy_decide).
 *
 * Deny rules are asked before allow rules, each in order of source; what no rule allows is denied.
 * A decision costs the same with 10 rules and with 100,000.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/base/errs.h"

enum policy_assurance { POLICY_NONE, POLICY_ADDRESS, POLICY_UID, POLICY_MTLS, POLICY_ASSURANCES };
const char *policy_assurance_name(enum policy_assurance a);        /* "none" "address" "uid" "mtls" */
int policy_assurance_parse(const char *s, size_t n);               /* -1 */

/* ---- compiling ---- */

/*
 * Patterns, of principals and of paths, go by segment (between slashes):
 *
 *   *       one whole segment that is not empty
 *   tax-*   one segment that starts with "tax-", "tax-" itself included
 *   **      as the last segment only: any number of segments, none included; with "v1" before it, "/v1",
 *           "/v1/" and "/v1/a/b" match
 *
 * Else bytes are compared, case and a trailing slash included. A trust domain is never a pattern. Paths are
 * compared without their query, after percent-encoded unreserved characters were decoded; other characters compare as they
 * came ("!" is not "%21"), about which a deny rule is warned. Paths that no gateway lets in ("//", "..", "%2F") are faults.
 *
 * A rule matches when its principals, services, methods, paths and assurance all do. On a service of kind
 * "tcp" a rule with methods or paths never matches.
 */

/*
 * A rule as written. Lists that are NULL (n 0) mean any, but for principals and services, which are required; a list of
 * none that is not NULL is a fault.
 */
struct policy_rule {
	const char *name;             /* unique over all files */
	const char *file;             /* as the operator knows it: "policy.d/10-tax.conf" */
	unsigned line;
	bool deny;
	const char *const *principals; /* exact ids or patterns; ["*"] alone: anybody, with or without a principal: assurance tells */
	size_t nprincipals;
	const char *const *services;   /* names; ["*"] alone: every service */
	size_t nservices;
	const char *const *methods;    /* exact tokens */
	size_t nmethods;
	const char *const *paths;      /* exact or patterns; each starts with "/" */
	size_t npaths;
	uint8_t assurance;             /* bit (1 << enum policy_assurance); 0: mtls only for allow, any for deny */
};

struct policy_service {
	const char *name;
	bool tcp;                      /* kind = "tcp": rules with methods or paths never match it */
};

struct policy_input {
	const struct policy_rule *rules;
	size_t nrules;
	const struct policy_service *services;
	size_t nservices;
	uint64_t generation;
	const char *digest;            /* hex SHA-256 of the sources, for journals and status */
};

/*
 * 0 and the image appended to *image, or -1 with every fault in *errs (unknown service with did-you-mean, bad
 * pattern, duplicate name, a rule that can never match, …). Warnings alone (an allow rule that a deny rule covers) do not make it fail.
 */
int policy_compile(const struct policy_input *in, struct buf *image, struct errs *errs);

/* ---- deciding ---- */

struct policy {                    /* a view: all pointers lead into the image, which must outlive it */
	const uint8_t *image;
	size_t len;
	uint64_t generation;
	uint32_t nrules, nservices;
	const void *priv[8];           /* section starts, private to the library */
};

/*
 * Validates every bound of the image, so that policy_decide() need not; the image may be hostile, but must not change afterwards.
 * It must be 8-aligned. 0 or -1 (*why static). An image of no rules denies all.
 */
int policy_open(struct policy *p, const void *image, size_t len, const char **why);
const char *policy_digest(const struct policy *p);

#define POLICY_NO_ID UINT32_MAX
/* A principal's class in this image: look it up once per connection and generation, not per request. */
uint32_t policy_principal(const struct policy *p, const char *id, size_t len);
/* A service's number in this image by its name, or POLICY_NO_ID. */
uint32_t policy_service_id(const struct policy *p, const char *name);

struct policy_query {
	uint32_t principal;            /* from policy_principal(); for nobody: policy_principal(p, "", 0) */
	uint32_t service;
	const char *method;            /* NULL for TCP */
	size_t method_len;
	const char *path;              /* normalised, without its query; NULL for TCP */
	size_t path_len;
	enum policy_assurance assurance;
};

/*
 * Why a query was not allowed: by the allow rule that came nearest. A rule is checked for kind, path, method and
 * assurance, in this order, and the one that got farthest is the nearest: one that only the assurance misses is nearer than
 * one that misses the method, and so on. Of two equally near rules it is the first in order of source.
 */
enum policy_why {
	POLICY_OK,                     /* allowed by *rule */
	POLICY_DENIED,                 /* by the deny rule *rule */
	POLICY_NO_RULE,                /* no rule names this principal and service */
	POLICY_METHOD,                 /* the nearest rule does not allow the method */
	POLICY_PATH,                   /* … the path */
	POLICY_ASSURANCE,              /* … the assurance */
	POLICY_KIND,                   /* … TCP (it has methods or paths) */
};
/* A stable word, for journals and programs: "no-rule"; for people: policy_why_sentence() in explain.h. */
const char *policy_why_text(enum policy_why w);

struct policy_verdict {
	bool allow;
	enum policy_why why;
	uint32_t rule;                 /* that decided or came nearest; POLICY_NO_ID when none did */
};

/*
 * Neither allocates nor fails. *v names the first rule in order of source that matches. A class or service that is none
 * of this image is denied (POLICY_NO_RULE).
 */
void policy_decide(const struct policy *p, const struct policy_query *q, struct policy_verdict *v);

/* What journals and "policy test" print of a rule; pointers into the image. */
struct policy_rule_info {
	const char *name, *file;
	uint32_t line;
	bool deny;
};
void policy_rule_info(const struct policy *p, uint32_t rule, struct policy_rule_info *out);

#endif
