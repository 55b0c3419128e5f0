/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/gwctl/socket_scan.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"

/* As much of a token as matters: names, strings, and single characters for all else. */
struct scan {
	const char *p, *end;
	enum { TOKEN_END, TOKEN_NAME, TOKEN_STRING, TOKEN_OTHER } kind;
	const char *at;    /* of a name */
	size_t len;
	char other;
	struct buf string; /* of a string, escapes undone */
};

static bool
starts(const struct scan *s, const char *what)
{
	size_t n = strlen(what);

	return (size_t)(s->end - s->p) >= n && !memcmp(s->p, what, n);
}

static void
skip_blanks(struct scan *s)
{
	while (s->p < s->end) {
		if (isspace((unsigned char)*s->p)) {
			s->p++;
		} else if (*s->p == '#' || starts(s, "//")) {
			while (s->p < s->end && *s->p != '\n')
				s->p++;
		} else if (starts(s, "/*")) {
			for (s->p += 2; s->p < s->end && !starts(s, "*/"); s->p++)
				;
			s->p += s->p < s->end ? 2 : 0;
		} else {
			return;
		}
	}
}

static void
take_string(struct scan *s)
{
	buf_reset(&s->string);
	for (s->p++; s->p < s->end && *s->p != '"' && *s->p != '\n'; s->p++) {
		if (*s->p == '\\' && s->p + 1 < s->end)
			s->p++;
		buf_append(&s->string, s->p, 1);
	}
	if (s->p < s->end)
		s->p++;
	s->kind = TOKEN_STRING;
}

static void
next(struct scan *s)
{
	skip_blanks(s);
	if (s->p == s->end) {
		s->kind = TOKEN_END;
	} else if (*s->p == '"') {
		take_string(s);
	} else if (isalpha((unsigned char)*s->p)) {
		s->kind = TOKEN_NAME;
		s->at = s->p;
		while (s->p < s->end && (isalnum((unsigned char)*s->p) || *s->p == '_' || *s->p == '-' || *s->p == '*'))
			s->p++;
		s->len = (size_t)(s->p - s->at);
	} else {
		s->kind = TOKEN_OTHER;
		s->other = *s->p++;
	}
}

static bool
is_name(const struct scan *s, const char *name)
{
	return s->kind == TOKEN_NAME && s->len == strlen(name) && !memcmp(s->at, name, s->len);
}

static bool
is_assignment(struct scan *s)
{
	next(s);
	return s->kind == TOKEN_OTHER && (s->other == '=' || s->other == ':');
}

char *
socket_scan(const char *text, size_t len)
{
	struct scan s = { .p = text, .end = text + len };
	bool inside = false;
	char *found = NULL;

	buf_init(&s.string, 4096);
	for (next(&s); s.kind != TOKEN_END && !found;) {
		if (!inside && is_name(&s, "control") && is_assignment(&s)) {
			next(&s);
			inside = s.kind == TOKEN_OTHER && s.other == '{';
		} else if (inside && is_name(&s, "socket") && is_assignment(&s)) {
			next(&s);
			if (s.kind == TOKEN_STRING)
				found = mem_strdup(buf_cstr(&s.string));
		} else if (inside && s.kind == TOKEN_OTHER && s.other == '}') {
			inside = false;
			next(&s);
		} else {
			next(&s);
		}
	}
	buf_fini(&s.string);
	return found;
}
