/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http1/field.h"

#include <string.h>

#include "gateway/base/le.h"

const uint8_t h1_field_lower[256] = {
	['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
	['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
	['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',
	['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9',
	['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',
	['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',
	['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
	['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i',
	['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',
	['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
};

/* RFC 9110 7.6.1, and the proxy credentials of 11.7: they are between an application and us. */
static const bool hop_by_hop[] = {
	[H1_F_CONNECTION] = true, [H1_F_TRANSFER_ENCODING] = true, [H1_F_TE] = true, [H1_F_TRAILER] = true,
	[H1_F_UPGRADE] = true, [H1_F_KEEP_ALIVE] = true, [H1_F_PROXY_CONNECTION] = true, [H1_F_PROXY_AUTHENTICATE] = true,
	[H1_F_PROXY_AUTHORIZATION] = true, [H1_F_HTTP2_SETTINGS] = true, [H1_F_IDENTITY] = false,
};

bool
h1_field_is_hop(enum h1_name id)
{
	return hop_by_hop[id];
}

/* True when s is "name" with any octet that is no letter or digit taken for "-": services fold them together (CGI, WSGI). */
static bool
folds_to(const char *s, const char *name, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if ((alnum ? s[i] : '-') != name[i])
			return false;
	}
	return true;
}

#define FOLDS(s, literal) folds_to((s), (literal), sizeof(literal) - 1)
#define IS(s, literal) (memcmp((s), (literal), sizeof(literal) - 1) == 0)

/* What an application may not say about itself. */
static bool
is_identity(const char *s, size_t n)
{
	switch (s[0]) {
	case 'c':
		return (n == 11 && FOLDS(s, "client-cert")) || (n == 17 && FOLDS(s, "client-cert-chain"));
	case 'f':
		return n == 9 && IS(s, "forwarded");
	case 's':
		return n >= 10 && FOLDS(s, "sallyport-");
	case 'x':
		return (n == 9 && FOLDS(s, "x-real-ip")) || (n == 11 && FOLDS(s, "x-forwarded")) ||
		       (n >= 12 && FOLDS(s, "x-forwarded-"));
	default:
		return false;
	}
}

enum h1_name
h1_name_id(const char *s, size_t n)
{
	switch (n) {
	case 0:
		return H1_F_OTHER;
	case 2:
		return IS(s, "te") ? H1_F_TE : H1_F_OTHER;
	case 3:
		return IS(s, "via") ? H1_F_VIA : H1_F_OTHER;
	case 4:
		return IS(s, "host") ? H1_F_HOST : IS(s, "date") ? H1_F_DATE : H1_F_OTHER;
	case 6:
		return IS(s, "server") ? H1_F_SERVER : IS(s, "expect") ? H1_F_EXPECT : H1_F_OTHER;
	case 7:
		return IS(s, "upgrade") ? H1_F_UPGRADE : IS(s, "trailer") ? H1_F_TRAILER : H1_F_OTHER;
	case 10:
		if (IS(s, "connection"))
			return H1_F_CONNECTION;
		if (IS(s, "keep-alive"))
			return H1_F_KEEP_ALIVE;
		if (IS(s, "tracestate"))
			return H1_F_TRACESTATE;
		break;
	case 11:
		if (IS(s, "traceparent"))
			return H1_F_TRACEPARENT;
		if (IS(s, "retry-after"))
			return H1_F_RETRY_AFTER;
		break;
	case 14:
		if (IS(s, "content-length"))
			return H1_F_CONTENT_LENGTH;
		if (IS(s, "http2-settings"))
			return H1_F_HTTP2_SETTINGS;
		break;
	case 16:
		if (IS(s, "proxy-connection"))
			return H1_F_PROXY_CONNECTION;
		break;
	case 17:
		if (IS(s, "transfer-encoding"))
			return H1_F_TRANSFER_ENCODING;
		break;
	case 18:
		if (IS(s, "proxy-authenticate"))
			return H1_F_PROXY_AUTHENTICATE;
		break;
	case 19:
		if (IS(s, "proxy-authorization"))
			return H1_F_PROXY_AUTHORIZATION;
		break;
	default:
		break;
	}
	return n >= 9 && is_identity(s, n) ? H1_F_IDENTITY : H1_F_OTHER;
}

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/*
 * The first octet in [p, end) that a value may not have: a control other than HTAB (RFC 9110 5.5). Eight at a time: in each
 * mask the lowest bit set is a true hit, because a borrow only runs upwards.
 */
static const char *
value_end(const char *p, const char *end)
{
	while (end - p >= 8) {
		uint64_t w = le_get64(p), del = w ^ ONES * 0x7f;
		uint64_t hit = (((w - ONES * 0x20) & ~w) | ((del - ONES) & ~del)) & HIGHS;

		if (!hit) {
			p += 8;
			continue;
		}
		p += __builtin_ctzll(hit) / 8;
		if (*p != '\t')
			return p;
		p++;
	}
	while (p < end && (((unsigned char)*p >= 0x20 && *p != 0x7f) || *p == '\t'))
		p++;
	return p;
}

int
h1_field_parse(struct h1_field *out, unsigned max, char *p, const char *end)
{
	struct h1_field *f = out;
	unsigned n = 0;

	for (; p < end; f++) {
		const char *q;
		uint8_t c;

		if (n++ == max)
			return -431;
		f->name = p;
		/* The section ends in an LF, which no token has: the loop stops in time. */
		while ((c = h1_field_lower[(uint8_t)*p]) != 0)
			*p++ = (char)c;
		f->name_len = (uint32_t)(p - f->name);
		/* RFC 9112 5.1: no white space before the colon; 5.2: an obs-fold starts with one, and is refused too. */
		if (*p != ':' || f->name_len == 0)
			return -400;
		do
			p++;
		while (*p == ' ' || *p == '\t');
		f->value = p;
		q = value_end(p, end);
		/* RFC 9112 2.2: bare CR, bare LF; RFC 9110 5.5: NUL and the other controls. q < end: the LF stops it. */
		if (end - q < 2 || q[0] != '\r' || q[1] != '\n')
			return -400;
		p += q + 2 - p;
		while (q > f->value && (q[-1] == ' ' || q[-1] == '\t'))
			q--;
		f->value_len = (uint32_t)(q - f->value);
		f->id = (uint8_t)h1_name_id(f->name, f->name_len);
		f->hop = hop_by_hop[f->id];
	}
	return (int)n;
}

bool
h1_name_valid(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!h1_field_lower[(uint8_t)s[i]])
			return false;
	return n > 0;
}

bool
h1_value_valid(const char *s, size_t n)
{
	return value_end(s, s + n) == s + n;
}
