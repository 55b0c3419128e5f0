/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/spiffe.h"

#include <string.h>

static int
fail(const char **why, const char *text)
{
	if (why)
		*why = text;
	return -1;
}

/* SPIFFE-ID 2.1: trust domain name characters. */
static bool
is_domain_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* SPIFFE-ID 2.2: path segment characters; no percent-encoding at all. */
static bool
is_path_char(char c)
{
	return is_domain_char(c) || (c >= 'A' && c <= 'Z');
}

bool
spiffe_domain_valid(const char *s, size_t len)
{
	if (len == 0 || len > SPIFFE_DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_domain_char(s[i]))
			return false;
		/* An empty label would make "a..b" or "a." a second spelling of somebody's DNS name. */
		if (s[i] == '.' && (i == 0 || i + 1 == len || s[i - 1] == '.'))
			return false;
	}
	return true;
}

/* What is wrong with a path that starts with "/", or NULL. */
static const char *
path_fault(const char *s, size_t len)
{
	size_t start = 1;

	for (size_t i = 1; i <= len; i++) {
		size_t n = i - start;

		if (i < len && s[i] != '/') {
			if (!is_path_char(s[i]))
				return s[i] == '%' ? "percent-encoding in the path" :
				       s[i] == '?' ? "a query" :
				       s[i] == '#' ? "a fragment" : "a character that a SPIFFE path may not have";
			continue;
		}
		if (n == 0)
			return i == len ? "a trailing slash" : "an empty path segment";
		if ((n == 1 && s[start] == '.') || (n == 2 && s[start] == '.' && s[start + 1] == '.'))
			return "a dot segment in the path";
		start = i + 1;
	}
	return NULL;
}

int
spiffe_parse(struct spiffe_id *out, const char *s, size_t len, const char **why)
{
	static const char scheme[] = "spiffe://";
	const size_t scheme_len = sizeof(scheme) - 1;
	const char *fault, *slash;
	size_t domain_len;

	if (len > SPIFFE_ID_MAX) /* SPIFFE-ID 2.3 */
		return fail(why, "longer than 2048 bytes");
	/* The scheme is compared as it is: SPIFFE ids are compared byte for byte, so there is one spelling. */
	if (len < scheme_len || memcmp(s, scheme, scheme_len) != 0)
		return fail(why, "does not start with spiffe://");
	s += scheme_len;
	len -= scheme_len;
	slash = memchr(s, '/', len);
	domain_len = slash ? (size_t)(slash - s) : len;
	if (domain_len == 0)
		return fail(why, "no trust domain");
	if (domain_len > SPIFFE_DOMAIN_MAX)
		return fail(why, "a trust domain longer than 255 bytes");
	if (memchr(s, '@', domain_len))
		return fail(why, "user information before the trust domain");
	if (memchr(s, ':', domain_len))
		return fail(why, "a port after the trust domain");
	for (size_t i = 0; i < domain_len; i++)
		if (s[i] >= 'A' && s[i] <= 'Z')
			return fail(why, "an upper-case letter in the trust domain");
	if (!spiffe_domain_valid(s, domain_len))
		return fail(why, "a malformed trust domain");
	fault = path_fault(s + domain_len, len - domain_len);
	if (fault)
		return fail(why, fault);
	out->domain = s;
	out->domain_len = domain_len;
	out->path = s + domain_len;
	out->path_len = len - domain_len;
	return 0;
}

bool
spiffe_is_gateway(const struct spiffe_id *id)
{
	static const char prefix[] = "/gateway/";
	const size_t n = sizeof(prefix) - 1;

	return id->path_len > n && !memcmp(id->path, prefix, n) && !memchr(id->path + n, '/', id->path_len - n);
}
