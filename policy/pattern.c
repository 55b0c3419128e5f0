/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/pattern.h"

#include <string.h>

#include "gateway/base/spiffe.h"

static int
fail(const char **why, const char *text)
{
	*why = text;
	return -1;
}

static int
parse_segment(struct pattern *out, const char *s, size_t n, bool last, const char **why)
{
	const char *star = memchr(s, '*', n);
	struct pattern_seg *seg = &out->seg[out->n];

	if (star && n == 2 && s[1] == '*' && s[0] == '*') {
		if (!last)
			return fail(why, "\"**\" is allowed at the end only");
		out->rest = true;
		return 0;
	}
	if (star && star != s + n - 1)
		return fail(why, "\"*\" must be a whole segment or the end of one");
	if (out->n == PATTERN_SEGMENTS_MAX)
		return fail(why, "more than 64 segments");
	seg->kind = !star ? PATTERN_LITERAL : n == 1 ? PATTERN_STAR : PATTERN_PREFIX;
	seg->text = s;
	seg->len = star ? n - 1 : n;
	out->n++;
	return 0;
}

static int
parse(struct pattern *out, const char *s, size_t n, const char **why)
{
	const char *end = s + n, *slash;

	out->n = 0;
	out->rest = false;
	for (;; s = slash + 1) {
		slash = memchr(s, '/', (size_t)(end - s));
		if (parse_segment(out, s, (size_t)((slash ? slash : end) - s), !slash, why) < 0)
			return -1;
		if (!slash)
			return 0;
	}
}

static int
hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
unreserved(int c) /* RFC 3986 2.3 */
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("-._~", c));
}

/* What can stand in a path as policy sees it; anything else would be a rule that never matches. */
static int
check_path(const char *s, size_t n, const char **why)
{
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)s[i];

		if (c == '?' || c == '#')
			return fail(why, "a path is matched without its query: end it before \"?\" or \"#\"");
		if (c <= ' ' || c >= 0x7f)
			return fail(why, "has a byte that is not printable ASCII: percent-encode it");
		if (c != '%')
			continue;
		if (n - i < 3 || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0)
			return fail(why, "\"%\" needs two hex digits");
		c = hex(s[i + 1]) * 16 + hex(s[i + 2]);
		if (unreserved(c))
			return fail(why, "never matches: letters, digits and -._~ are compared decoded, so write them plainly");
		if (c == '/' || c == '\\' || c == '\0')
			return fail(why, "never matches: a gateway refuses an encoded slash, backslash or NUL");
	}
	return 0;
}

/* A gateway refuses these in a request, since services differ in what they make of them. */
static int
check_segments(const struct pattern *p, const char **why)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct pattern_seg *s = &p->seg[i];

		if (s->kind != PATTERN_LITERAL)
			continue;
		if (s->len == 0 && (i + 1 < p->n || p->rest))
			return fail(why, "never matches: a gateway refuses empty segments");
		if ((s->len == 1 || s->len == 2) && memcmp(s->text, "..", s->len) == 0)
			return fail(why, "never matches: a gateway refuses \".\" and \"..\" as segments");
	}
	return 0;
}

int
pattern_parse_path(struct pattern *out, const char *s, size_t n, const char **why)
{
	if (n == 0 || s[0] != '/')
		return fail(why, "must start with \"/\"");
	if (check_path(s, n, why) < 0)
		return -1;
	if (parse(out, s + 1, n - 1, why) < 0)
		return -1;
	return check_segments(out, why);
}

bool
pattern_path_is_plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] != '/' && s[i] != '*' && !unreserved((unsigned char)s[i]))
			return false;
	return true;
}

int
pattern_parse_principal(struct pattern *out, const char *s, size_t n, const char **why)
{
	char copy[SPIFFE_ID_MAX];
	const char *id = s;
	struct spiffe_id parsed;

	if (n > sizeof(copy))
		return fail(why, "longer than 2048 bytes");
	if (memchr(s, '*', n)) {
		/* With its stars replaced a pattern must be a valid id, or it would never match one. */
		for (size_t i = 0; i < n; i++)
			copy[i] = s[i] == '*' ? 'x' : s[i];
		id = copy;
	}
	if (spiffe_parse(&parsed, id, n, why) < 0)
		return -1;
	if (memchr(s, '*', PATTERN_SCHEME_LEN + parsed.domain_len))
		return fail(why, "the trust domain cannot be a pattern");
	return parse(out, s + PATTERN_SCHEME_LEN, n - PATTERN_SCHEME_LEN, why);
}

bool
pattern_is_exact(const struct pattern *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->seg[i].kind != PATTERN_LITERAL)
			return false;
	return !p->rest;
}

bool
pattern_match(const struct pattern *p, const char *s, size_t n)
{
	const char *end = s + n;
	bool more = true; /* a segment starts at s */

	for (size_t i = 0; i < p->n; i++) {
		const struct pattern_seg *seg = &p->seg[i];
		const char *slash;
		size_t len;

		if (!more)
			return false;
		slash = memchr(s, '/', (size_t)(end - s));
		len = (size_t)((slash ? slash : end) - s);
		if (seg->kind == PATTERN_STAR ? len == 0
		    : (seg->kind == PATTERN_LITERAL ? len != seg->len : len < seg->len) || memcmp(s, seg->text, seg->len) != 0)
			return false;
		more = slash != NULL;
		if (more)
			s = slash + 1;
	}
	return !more || p->rest;
}

static bool
seg_covers(const struct pattern_seg *w, const struct pattern_seg *n)
{
	if (w->kind == PATTERN_STAR)
		return n->kind == PATTERN_STAR || n->len > 0;
	if (w->kind == PATTERN_LITERAL)
		return n->kind == PATTERN_LITERAL && n->len == w->len && memcmp(n->text, w->text, w->len) == 0;
	return n->kind != PATTERN_STAR && n->len >= w->len && memcmp(n->text, w->text, w->len) == 0;
}

bool
pattern_covers(const struct pattern *wide, const struct pattern *narrow)
{
	if (narrow->n < wide->n || (!wide->rest && (narrow->rest || narrow->n > wide->n)))
		return false;
	for (size_t i = 0; i < wide->n; i++)
		if (!seg_covers(&wide->seg[i], &narrow->seg[i]))
			return false;
	return true;
}
