/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http1/target.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#include "gateway/http1/head.h"

#define HOST_MAX 255

enum {
	C_HOST = 1,  /* of a host name, as we allow it */
	C_PATH = 2,  /* pchar without "%" (RFC 3986 3.3) */
	C_QUERY = 4, /* query without "%" (RFC 3986 3.4), and "[" "]", which are common there and mislead nobody */
	C_UNRESERVED = 8,
};

#define ALNUM (C_HOST | C_PATH | C_QUERY | C_UNRESERVED)
static const uint8_t char_class[256] = {
	['a' ... 'z'] = ALNUM, ['A' ... 'Z'] = ALNUM, ['0' ... '9'] = ALNUM,
	['-'] = ALNUM, ['.'] = ALNUM, ['_'] = ALNUM, ['~'] = C_PATH | C_QUERY | C_UNRESERVED,
	['!'] = C_PATH | C_QUERY, ['$'] = C_PATH | C_QUERY, ['&'] = C_PATH | C_QUERY, ['\''] = C_PATH | C_QUERY,
	['('] = C_PATH | C_QUERY, [')'] = C_PATH | C_QUERY, ['*'] = C_PATH | C_QUERY, ['+'] = C_PATH | C_QUERY,
	[','] = C_PATH | C_QUERY, [';'] = C_PATH | C_QUERY, ['='] = C_PATH | C_QUERY, [':'] = C_PATH | C_QUERY,
	['@'] = C_PATH | C_QUERY, ['/'] = C_QUERY, ['?'] = C_QUERY, ['['] = C_QUERY, [']'] = C_QUERY,
};

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The octet that "%XX" at p stands for, or -1. */
static int
percent(const char *p, const char *end)
{
	int hi, lo;

	if (end - p < 3 || *p != '%')
		return -1;
	hi = hex_value(p[1]);
	lo = hex_value(p[2]);
	return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

static bool
name_valid(const char *s, size_t n)
{
	if (n == 0 || n > HOST_MAX || s[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!(char_class[(uint8_t)s[i]] & C_HOST))
			return false;
		if (s[i] == '.' && i > 0 && s[i - 1] == '.')
			return false;
	}
	return true;
}

static bool
ipv6_valid(const char *s, size_t n)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr ip;

	if (n < 2 || n >= sizeof(text) || memchr(s, '\0', n))
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &ip) == 1;
}

/* ":" and 1*5DIGIT, one spelling per number. RFC 3986 3.2.3 has an empty port too; that is a second spelling of none. */
static int
port_value(const char *s, size_t n, uint32_t *port)
{
	uint32_t v = 0;

	if (n < 2 || n > 6 || s[0] != ':' || s[1] == '0')
		return -1;
	for (size_t i = 1; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (uint32_t)(s[i] - '0');
	}
	if (v > 65535)
		return -1;
	*port = v;
	return 0;
}

int
h1_target_authority(const char *s, size_t n, size_t *host_len, uint32_t *port)
{
	const char *stop;
	size_t host;

	*port = 0;
	if (n > 0 && s[0] == '[') {
		stop = memchr(s, ']', n);
		if (!stop || !ipv6_valid(s + 1, (size_t)(stop - s) - 1))
			return -1;
		host = (size_t)(stop - s) + 1;
	} else {
		stop = memchr(s, ':', n);
		host = stop ? (size_t)(stop - s) : n;
		if (!name_valid(s, host))
			return -1;
	}
	*host_len = host;
	return host == n ? 0 : port_value(s + host, n - host, port);
}

bool
h1_authority_valid(const char *s, size_t n)
{
	size_t host_len;
	uint32_t port;

	return h1_target_authority(s, n, &host_len, &port) == 0;
}

/*
 * True for a segment that some service would read as "." or "..": with its dots percent-encoded, or with a parameter after
 * them ("..;x": servlet containers cut it off and go up).
 */
static bool
dot_segment(const char *p, const char *end)
{
	int dots = 0;

	while (dots < 2) {
		if (p < end && *p == '.')
			p++;
		else if (percent(p, end) == '.')
			p += 3;
		else
			break;
		dots++;
	}
	return dots > 0 && (p == end || *p == '/' || *p == '?' || *p == ';' || percent(p, end) == ';');
}

static bool
query_valid(const char *p, const char *end)
{
	while (p < end) {
		if (char_class[(uint8_t)*p] & C_QUERY)
			p++;
		else if (percent(p, end) >= 0)
			p += 3;
		else
			return false;
	}
	return true;
}

int
h1_target_path(const char *s, size_t n, uint32_t *path_only_len)
{
	const char *p = s, *end = s + n;

	if (n == 0 || n > H1_MAX_TARGET || *s != '/')
		return -1;
	while (p < end && *p == '/') {
		p++;
		/* An empty segment: some services merge the slashes, some do not. */
		if (p < end && (*p == '/' || ((*p == '.' || *p == '%') && dot_segment(p, end))))
			return -1;
		while (p < end) {
			int octet;

			if (char_class[(uint8_t)*p] & C_PATH) {
				p++;
				continue;
			}
			if (*p != '%')
				break;
			octet = percent(p, end);
			/* An encoded separator is a separator to some services and data to others. */
			if (octet <= 0 || octet == '/' || octet == '\\')
				return -1;
			p += 3;
		}
	}
	*path_only_len = (uint32_t)(p - s);
	if (p < end && (*p != '?' || !query_valid(p + 1, end)))
		return -1;
	return 0;
}

bool
h1_path_valid(const char *s, size_t n)
{
	uint32_t path_only_len;

	return h1_target_path(s, n, &path_only_len) == 0;
}

size_t
h1_path_normalize(char *out, const char *path, size_t n, uint32_t *path_only_len)
{
	const char *query = memchr(path, '?', n), *end = query ? query : path + n, *p = path, *next;
	size_t rest = (size_t)(path + n - end);
	char *o = out;

	/* RFC 3986 6.2.2.2: unreserved characters only; the rest of the encoding means something. */
	while ((next = memchr(p, '%', (size_t)(end - p))) != NULL) {
		int octet = percent(next, end);

		memmove(o, p, (size_t)(next - p));
		o += next - p;
		p = next + 1;
		if (octet >= 0 && (char_class[octet] & C_UNRESERVED)) {
			*o++ = (char)octet;
			p = next + 3;
		} else {
			*o++ = '%';
		}
	}
	memmove(o, p, (size_t)(end - p));
	o += end - p;
	*path_only_len = (uint32_t)(o - out);
	if (rest)
		memmove(o, end, rest);
	return (size_t)(o - out) + rest;
}
