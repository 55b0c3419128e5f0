/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of principals and paths, by segment:
 *
 *   "*"     one segment, not an empty one
 *   "tax-*" one segment that starts so (and may end there)
 *   "**"    only at the end: any number of segments, none included; "/v1/" followed by it matches
 *           "/v1", "/v1/" and "/v1/a/b"
 *   other   that segment; an empty one at the end is a trailing slash, which counts
 */
#ifndef POLICY_PATTERN_H
#define POLICY_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#define PATTERN_SEGMENTS_MAX 64

enum pattern_kind { PATTERN_LITERAL, PATTERN_PREFIX, PATTERN_STAR };

struct pattern {
	struct pattern_seg {
		enum pattern_kind kind;
		const char *text;       /* borrowed; the literal, or the prefix without its "*" */
		size_t len;
	} seg[PATTERN_SEGMENTS_MAX];
	size_t n;
	bool rest;                      /* "**" follows */
};

/* A path ("/v1/tax-*"). 0, or -1 with *why. */
int pattern_parse_path(struct pattern *out, const char *s, size_t n, const char **why);
/*
 * False when the pattern has bytes that a client can write in more than one way ("!" or "%21", "%c3" or "%C3"): unlike
 * unreserved characters they are compared as they came, so such a pattern is no good for denying.
 */
bool pattern_path_is_plain(const char *s, size_t n);
/* "spiffe://domain/ns/x": the trust domain is the first segment and no pattern. Exact ids are patterns too. */
int pattern_parse_principal(struct pattern *out, const char *s, size_t n, const char **why);
bool pattern_is_exact(const struct pattern *p);

/* Both work on the text behind the first "/" of a path, or behind "spiffe://". */
#define PATTERN_SCHEME "spiffe://"
#define PATTERN_SCHEME_LEN 9
bool pattern_match(const struct pattern *p, const char *s, size_t n);
/* True when whatever "narrow" matches, "wide" matches. */
bool pattern_covers(const struct pattern *wide, const struct pattern *narrow);

#endif
