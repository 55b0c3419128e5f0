/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads: the first octet says what (bit 0: a response; the rest: the request's method), the rest is the wire. Checks that the
 * outcome does not depend on how the octets arrive, that every pointer lies in the buffer, that what the header promises to
 * refuse was refused, and that an accepted head, written again from its parts, means the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http1/head.h"

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ssize_t
parse(struct h1_head *h, char *buf, size_t n, uint8_t what)
{
	return what & 1 ? h1_parse_response(h, buf, n, (enum h1_method)((what >> 1) % (H1_M_PATCH + 1))) : h1_parse_request(h, buf, n);
}

static void
check_inside(const char *p, size_t n, const char *buf, size_t len)
{
	CHECK(n == 0 || (p >= buf && p + n <= buf + len));
}

static void
check_octets(const char *p, size_t n)
{
	CHECK(!memchr(p, '\r', n) && !memchr(p, '\n', n) && !memchr(p, '\0', n));
}

/* Decodes the path as a careless service would, and looks for what climbs or hides. */
static void
check_path(const char *p, size_t n)
{
	char *plain = malloc(n + 1);
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned octet;

		if (p[i] == '%') {
			CHECK(i + 2 < n && sscanf((char[]){ p[i + 1], p[i + 2], '\0' }, "%2x", &octet) == 1);
			CHECK(octet != 0 && octet != '/' && octet != '\\');
			plain[k++] = (char)octet;
			i += 2;
		} else {
			CHECK(p[i] != '\\' && p[i] != '#' && p[i] != '?');
			plain[k++] = p[i];
		}
	}
	plain[k] = '\0';
	CHECK(!strstr(plain, "//") && !strstr(plain, "/./") && !strstr(plain, "/../") && !strstr(plain, "/.;") && !strstr(plain, "/..;"));
	CHECK(k < 2 || strcmp(plain + k - 2, "/.") != 0);
	CHECK(k < 3 || strcmp(plain + k - 3, "/..") != 0);
	free(plain);
}

static void
check_normal(const struct h1_head *h)
{
	char *once = malloc(h->path_len), *twice = malloc(h->path_len);
	uint32_t a, b;
	size_t n = h1_path_normalize(once, h->path, h->path_len, &a), m;

	CHECK(n <= h->path_len && a <= n);
	m = h1_path_normalize(twice, once, n, &b);
	CHECK(m == n && a == b && !memcmp(once, twice, n));
	CHECK(h1_path_valid(once, n));
	free(once);
	free(twice);
}

static void
check_head(const struct h1_head *h, const char *buf, size_t len, uint8_t what)
{
	unsigned hosts = 0, lengths = 0, codings = 0;

	CHECK(h->nfields <= H1_MAX_FIELDS && h->minor <= 1);
	for (uint32_t i = 0; i < h->nfields; i++) {
		const struct h1_field *f = &h->fields[i];

		check_inside(f->name, f->name_len, buf, len);
		check_inside(f->value, f->value_len, buf, len);
		CHECK(h1_name_valid(f->name, f->name_len) && h1_value_valid(f->value, f->value_len));
		check_octets(f->value, f->value_len);
		CHECK(h1_name_id(f->name, f->name_len) == f->id);
		hosts += f->id == H1_F_HOST;
		lengths += f->id == H1_F_CONTENT_LENGTH;
		codings += f->id == H1_F_TRANSFER_ENCODING;
	}
	CHECK(hosts <= 1 && lengths + codings <= 1);
	CHECK(h->framing != H1_CHUNKED || codings == 1);
	CHECK(h->framing != H1_LENGTH || lengths == 1);
	if (what & 1) {
		CHECK(h->status >= 100 && h->status <= 599);
		CHECK(h->framing != H1_UNTIL_CLOSE || !h->keep_alive);
		return;
	}
	CHECK(h->framing != H1_UNTIL_CLOSE);
	CHECK(h->framing != H1_NONE || lengths + codings == 0);
	check_inside(h->method, h->method_len, buf, len);
	check_inside(h->authority, h->authority_len, buf, len);
	check_inside(h->path, h->path_len, buf, len);
	CHECK(h1_name_valid(h->method, h->method_len) && h1_method_id(h->method, h->method_len) == h->method_id);
	CHECK(h->minor == 0 || hosts == 1);
	CHECK(h->authority_len > 0 || h->minor == 0);
	CHECK(h->authority_len == 0 || h1_authority_valid(h->authority, h->authority_len));
	CHECK((h->method_id == H1_M_CONNECT) == (h->form == H1_AUTHORITY));
	if (h->form == H1_AUTHORITY) {
		CHECK(h->path_len == 0 && memchr(h->authority, ':', h->authority_len));
		return;
	}
	CHECK(h->path_len > 0 && h->path_only_len <= h->path_len);
	if (h->path_len == 1 && h->path[0] == '*') {
		CHECK(h->method_id == H1_M_OPTIONS);
		return;
	}
	CHECK(h1_path_valid(h->path, h->path_len));
	check_path(h->path, h->path_only_len);
	check_octets(h->path, h->path_len);
	check_normal(h);
}

static size_t
put(char *out, size_t n, const char *p, size_t len)
{
	if (len)
		memcpy(out + n, p, len);
	return n + len;
}

#define PUTS(s) n = put(out, n, (s), strlen(s))
#define PUT(s, len) n = put(out, n, (s), (len))

static size_t
write_head(char *out, const struct h1_head *h, uint8_t what)
{
	char line[40];
	size_t n = 0;

	if (what & 1) {
		snprintf(line, sizeof(line), "HTTP/1.%u %u \r\n", h->minor, h->status);
		PUTS(line);
	} else {
		PUT(h->method, h->method_len);
		PUTS(" ");
		if (h->form == H1_ABSOLUTE)
			PUTS(h->absolute_https ? "https://" : "http://");
		if (h->form == H1_ABSOLUTE || h->form == H1_AUTHORITY)
			PUT(h->authority, h->authority_len);
		if (h->form != H1_ABSOLUTE || h->path[0] != '*')
			PUT(h->path, h->path_len);
		PUTS(h->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
	}
	for (uint32_t i = 0; i < h->nfields; i++) {
		PUT(h->fields[i].name, h->fields[i].name_len);
		PUTS(":");
		PUT(h->fields[i].value, h->fields[i].value_len);
		PUTS("\r\n");
	}
	PUTS("\r\n");
	return n;
}

static bool
same(const char *a, size_t an, const char *b, size_t bn)
{
	return an == bn && (an == 0 || !memcmp(a, b, an));
}

static void
check_same(const struct h1_head *a, const struct h1_head *b)
{
	CHECK(a->method_id == b->method_id && a->form == b->form && a->absolute_https == b->absolute_https);
	CHECK(same(a->method, a->method_len, b->method, b->method_len));
	CHECK(same(a->authority, a->authority_len, b->authority, b->authority_len));
	CHECK(same(a->path, a->path_len, b->path, b->path_len) && a->path_only_len == b->path_only_len);
	CHECK(a->status == b->status && a->minor == b->minor && a->framing == b->framing);
	CHECK(a->content_length == b->content_length && a->keep_alive == b->keep_alive);
	CHECK(a->upgrade == b->upgrade && a->te_trailers == b->te_trailers && a->expect_continue == b->expect_continue);
	CHECK(a->nfields == b->nfields);
	for (uint32_t i = 0; i < a->nfields; i++) {
		const struct h1_field *f = &a->fields[i], *g = &b->fields[i];

		CHECK(same(f->name, f->name_len, g->name, g->name_len) && f->id == g->id && f->hop == g->hop);
		CHECK(same(f->value, f->value_len, g->value, g->value_len));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct h1_head h, again;
	char *buf, *other, *text;
	ssize_t rc, piece_rc = 0;
	size_t len, step, k;
	uint8_t what;

	if (size < 1)
		return 0;
	what = data[0];
	len = size - 1;
	buf = malloc(len ? len : 1); /* exact sizes: ASan sees a read beyond */
	other = malloc(len ? len : 1);
	text = malloc(len + 256);
	memcpy(buf, data + 1, len);
	memcpy(other, data + 1, len);

	memset(&h, 0xa5, sizeof(h));
	h.scan = 0;
	rc = parse(&h, buf, len, what);
	CHECK(rc <= (ssize_t)len && (rc >= 0 || (rc <= -400 && rc >= -505)));
	CHECK(!(what & 1) || rc >= 0 || rc == -502);

	/* In pieces: one octet each, or more where that would take too long. */
	step = len > 2048 ? len / 512 : 1;
	again.scan = 0;
	for (k = 0; piece_rc == 0; k = k + step < len ? k + step : len) {
		piece_rc = parse(&again, other, k, what);
		if (piece_rc == 0)
			CHECK(!memcmp(other, data + 1, k));
		if (k == len)
			break;
	}
	CHECK(piece_rc == rc);

	if (rc > 0) {
		size_t n;
		char *exact;

		check_head(&h, buf, (size_t)rc, what);
		check_same(&h, &again);
		n = write_head(text, &h, what);
		exact = malloc(n);
		memcpy(exact, text, n);
		again.scan = 0;
		rc = parse(&again, exact, n, what);
		CHECK(rc == (ssize_t)n || n > H1_MAX_HEAD);
		if (rc == (ssize_t)n)
			check_same(&h, &again);
		free(exact);
	}
	free(buf);
	free(other);
	free(text);
	return 0;
}
