/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of HTTP/1 messages: what is accepted with which meaning, what is refused, and that neither depends on how it arrives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/http1/head.h"

static struct h1_head h;
static char *kept; /* what h points into; an exact copy, so that ASan sees any octet read beyond it */

static ssize_t
parse(const char *text, size_t n, bool response, enum h1_method m)
{
	free(kept);
	kept = malloc(n ? n : 1);
	memcpy(kept, text, n);
	return response ? h1_parse_response(&h, kept, n, m) : h1_parse_request(&h, kept, n);
}

/* The whole text at once and an octet at a time must give the same. */
static ssize_t
parse_both(const char *text, size_t n, bool response, enum h1_method m)
{
	ssize_t whole, rc = 0;
	size_t k;

	memset(&h, 0xa5, sizeof(h));
	h.scan = 0;
	whole = parse(text, n, response, m);
	memset(&h, 0x5a, sizeof(h));
	h.scan = 0;
	for (k = 0; k <= n && rc == 0; k++) {
		rc = parse(text, k, response, m);
		if (rc == 0)
			assert_memory_equal(kept, text, k); /* not touched before it is whole */
	}
	if (rc != whole)
		fail_msg("at once %zd, octet by octet %zd after %zu: %.60s", whole, rc, k, text);
	if (rc > 0) {
		assert_int_equal(k - 1, rc); /* as soon as possible */
		assert_int_equal(h.scan, 0);
	}
	return rc;
}

static ssize_t
request(const char *text)
{
	return parse_both(text, strlen(text), false, H1_M_OTHER);
}

static ssize_t
response(const char *text, enum h1_method m)
{
	return parse_both(text, strlen(text), true, m);
}

static void
check_text(const char *what, const char *got, size_t n, const char *want)
{
	if (n != strlen(want) || (n && memcmp(got, want, n) != 0))
		fail_msg("%s is \"%.*s\", not \"%s\"", what, (int)n, got ? got : "", want);
}

#define TEXT(field, want) check_text(#field, h.field, h.field##_len, want)

/* ---- requests -------------------------------------------------------------------------------- */

struct bad {
	const char *text;
	int status;
};

#define R "GET / HTTP/1.1\r\n"
#define RH R "Host: a\r\n"
#define END "\r\n\r\n"

static const struct bad bad_requests[] = {
	/* request lines */
	{ "GET\r\n\r\n", 400 }, { "GET /\r\n\r\n", 400 }, { "GET / \r\n\r\n", 400 }, { "GET  / HTTP/1.1" END, 400 },
	{ "GET /  HTTP/1.1" END, 400 }, { "GET / HTTP/1.1 \r\n\r\n", 400 }, { " GET / HTTP/1.1" END, 400 },
	{ "GET /a b HTTP/1.1" END, 400 }, { "GET\t/ HTTP/1.1" END, 400 }, { "GET /\tHTTP/1.1" END, 400 },
	{ "G(T / HTTP/1.1" END, 400 }, { "G\xc3\xa9T / HTTP/1.1" END, 400 }, { "GET / http/1.1" END, 400 },
	{ "GET / HTTP/11" END, 400 }, { "GET / HTTP/1.10" END, 400 }, { "GET / HTTP/1." END, 400 }, { "GET / HTTP/1,1" END, 400 },
	{ "GET / HTTP/01.1" END, 400 }, { "GET / HTPP/1.1" END, 400 }, { "GET / HTTP/-1.1" END, 400 },
	{ "GET / HTTP/2.0" END, 505 }, { "GET / HTTP/0.9" END, 505 }, { "GET / HTTP/1.2" END, 505 }, { "GET / HTTP/3.1" END, 505 },
	{ "PRI * HTTP/2.0" END "SM" END, 505 }, /* case 37: h2 by prior knowledge */
	{ "THIS-METHOD-IS-LONGER-THAN-32-OCTETS / HTTP/1.1" END, 501 },
	{ "\r\n\r\nGET / HTTP/1.1\r\nHost: a" END, 400 }, { "\r\n\r\n", 400 }, { "\rGET / HTTP/1.1\r\nHost: a" END, 400 },
	{ "\nGET / HTTP/1.1\r\nHost: a" END, 400 }, { "\x16\x03\x01\x02", 400 }, { "\xff", 400 }, { ":", 400 },

	/* case 22: smuggling payloads (RFC 9112 11.2), and what they are made of */
	{ RH "Content-Length: 6\r\nTransfer-Encoding: chunked" END, 400 },   /* case 23 */
	{ RH "Transfer-Encoding: chunked\r\nContent-Length: 6" END, 400 },   /* case 23 */
	{ RH "Content-Length: 0\r\nTransfer-Encoding: chunked" END, 400 },
	{ RH "Transfer-Encoding: identity\r\nContent-Length: 6" END, 501 },
	{ RH "Transfer-Encoding: xchunked" END, 501 }, { RH "Transfer-Encoding : chunked" END, 400 },
	{ RH "Transfer-Encoding: chunked\r\nTransfer-Encoding: x" END, 400 },
	{ RH "Transfer-Encoding: x\r\nTransfer-Encoding: chunked" END, 501 },
	{ RH "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked" END, 400 },
	{ RH "Transfer-Encoding:\x0b" "chunked" END, 400 }, { RH "Transfer-Encoding: \"chunked\"" END, 400 },
	{ RH "Transfer-Encoding\r\n : chunked" END, 400 }, { RH " Transfer-Encoding: chunked" END, 400 },
	{ RH "X: x\nTransfer-Encoding: chunked" END, 400 }, { RH "X: x\rTransfer-Encoding: chunked" END, 400 },
	{ RH "Transfer-Encoding:\r\n chunked" END, 400 }, { RH "Transfer-Encoding: chunked\r\r\n\r\n", 400 },
	{ "GET / HTTP/1.0\r\nTransfer-Encoding: chunked" END, 400 }, /* RFC 9112 6.1 */
	{ RH "Connection: content-length\r\nContent-Length: 5" END, 400 },
	{ RH "Connection: close, Transfer-Encoding" END, 400 }, { RH "Connection: HOST" END, 400 },

	/* case 24: content-length */
	{ RH "Content-Length: 5\r\nContent-Length: 5" END, 400 }, { RH "Content-Length: 5\r\nContent-Length: 6" END, 400 },
	{ RH "Content-Length: +5" END, 400 }, { RH "Content-Length: -5" END, 400 }, { RH "Content-Length: 0x5" END, 400 },
	{ RH "Content-Length: " END, 400 }, { RH "Content-Length:" END, 400 }, { RH "Content-Length: 5, 5" END, 400 },
	{ RH "Content-Length: 5 5" END, 400 }, { RH "Content-Length: 5,"END, 400 }, { RH "Content-Length: 5.0" END, 400 },
	{ RH "Content-Length: 1e3" END, 400 }, { RH "Content-Length: \xb2" END, 400 },
	{ RH "Content-Length: 1234567890123456789" END, 400 }, { RH "Content-Length: 99999999999999999999999" END, 400 },

	/* case 25: transfer-encoding */
	{ RH "Transfer-Encoding: gzip, chunked" END, 400 }, { RH "Transfer-Encoding: chunked, chunked" END, 400 },
	{ RH "Transfer-Encoding: chunked," END, 400 }, { RH "Transfer-Encoding: ,chunked" END, 400 },
	{ RH "Transfer-Encoding: chunked;q=1" END, 400 }, { RH "Transfer-Encoding:" END, 400 },
	{ RH "Transfer-Encoding: gzip" END, 501 }, { RH "Transfer-Encoding: identity" END, 501 },

	/* case 26: obs-fold */
	{ RH "X: a\r\n b" END, 400 }, { RH "X: a\r\n\tb" END, 400 }, { R " Host: a" END, 400 }, { RH "X: a\r\n \r\n\r\n", 400 },

	/* case 27: bare LF, bare CR (NUL: below) */
	{ "GET / HTTP/1.1\nHost: a" END, 400 }, { RH "X: a\nY: b" END, 400 }, { RH "X: a\rY: b" END, 400 }, { RH "\n", 400 },
	{ R "Host: a\n\n", 400 }, { RH "X: a\r\r\n\r\n", 400 }, { RH "X\rY: b" END, 400 }, { "GET /\r HTTP/1.1" END, 400 },
	{ RH "X: \x01" END, 400 }, { RH "X: a\x7f" END, 400 }, { RH "X: 12345678\x1f" "12345678" END, 400 }, { RH "X: \x0c" END, 400 },

	/* case 28: names */
	{ RH "X : a" END, 400 }, { RH "X\t: a" END, 400 }, { RH ": a" END, 400 }, { RH "no colon" END, 400 }, { RH "X" END, 400 },
	{ RH "X(: a" END, 400 }, { RH "X\x80: a" END, 400 }, { RH "\"X\": a" END, 400 }, { RH "X/Y: a" END, 400 }, { RH "X@: a" END, 400 },

	/* hosts */
	{ R "X: a" END, 400 }, { RH "Host: a" END, 400 }, { RH "host: b" END, 400 }, { R "Host:" END, 400 }, { R "Host: a b" END, 400 },
	{ R "Host: u@a" END, 400 }, { R "Host: a:" END, 400 }, { R "Host: a:0" END, 400 }, { R "Host: a:080" END, 400 },
	{ R "Host: a:65536" END, 400 }, { R "Host: a:8o" END, 400 }, { R "Host: a/b" END, 400 }, { R "Host: a,b" END, 400 },
	{ R "Host: a%2eb" END, 400 }, { R "Host: .a" END, 400 }, { R "Host: a..b" END, 400 }, { R "Host: [::1" END, 400 },
	{ R "Host: ::1" END, 400 }, { R "Host: [::g]" END, 400 }, { R "Host: [::1]x" END, 400 }, { R "Host: [v1.x]" END, 400 },
	{ R "Host: [::1%25lo]" END, 400 }, { R "Host: a\xc3\xa9" END, 400 }, { R "Host: :80" END, 400 }, { R "Host: a:80:80" END, 400 },
	{ "GET / HTTP/1.0\r\nHost: a b" END, 400 },

	/* case 33: two authorities */
	{ "GET http://a/ HTTP/1.1\r\nHost: b" END, 400 }, { "GET http://a/ HTTP/1.1\r\nHost: a:8080" END, 400 },
	{ "GET http://a:8080/ HTTP/1.1\r\nHost: a" END, 400 }, { "GET https://a/ HTTP/1.1\r\nHost: a:80" END, 400 },
	{ "GET http://a/ HTTP/1.1" END, 400 }, { "GET http://a/ HTTP/1.0\r\nHost: b" END, 400 },
	{ "CONNECT a:443 HTTP/1.1\r\nHost: b:443" END, 400 }, { "CONNECT a:443 HTTP/1.1\r\nHost: a:80" END, 400 },
	{ "GET http://u@a/ HTTP/1.1\r\nHost: a" END, 400 }, { "GET http://u:p@a/ HTTP/1.1\r\nHost: a" END, 400 },

	/* forms of the target */
	{ "GET * HTTP/1.1\r\nHost: a" END, 400 }, { "OPTIONS ** HTTP/1.1\r\nHost: a" END, 400 }, { "GET a HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET a:80 HTTP/1.1\r\nHost: a" END, 400 }, { "GET ftp://a/ HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET http:/a/ HTTP/1.1\r\nHost: a" END, 400 }, { "GET http:///x HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET http:// HTTP/1.1\r\nHost: a" END, 400 }, { "GET http://a?x HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET httpx://a/ HTTP/1.1\r\nHost: a" END, 400 }, { "GET http://a\\b/ HTTP/1.1\r\nHost: a" END, 400 },
	{ "CONNECT a HTTP/1.1\r\nHost: a" END, 400 }, { "CONNECT a: HTTP/1.1\r\nHost: a" END, 400 },
	{ "CONNECT / HTTP/1.1\r\nHost: a" END, 400 }, { "CONNECT http://a:80/ HTTP/1.1\r\nHost: a" END, 400 },
	{ "CONNECT a:443/ HTTP/1.1\r\nHost: a:443" END, 400 }, { "CONNECT u@a:443 HTTP/1.1\r\nHost: a:443" END, 400 },
	{ "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3" END, 400 },
	{ "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked" END, 400 },
	{ "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3" END, 400 },

	/* case 34: paths (the table of target.c has more) */
	{ "GET /a%2fb HTTP/1.1\r\nHost: a" END, 400 }, { "GET /../b HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET /a/..;/b HTTP/1.1\r\nHost: a" END, 400 }, { "GET /a#b HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET //a HTTP/1.1\r\nHost: a" END, 400 }, { "GET http://a//b HTTP/1.1\r\nHost: a" END, 400 },
	{ "GET http://a/%2e%2e/b HTTP/1.1\r\nHost: a" END, 400 },

	/* Connection lists */
	{ RH "Connection: a b" END, 400 }, { RH "Connection: a;b" END, 400 }, { RH "Connection: \"close\"" END, 400 },
	{ RH "Connection: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17\r\nConnection: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16" END, 400 },
};

static void
test_bad_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_requests) / sizeof(bad_requests[0]); i++) {
		ssize_t rc = request(bad_requests[i].text);

		if (rc != -bad_requests[i].status)
			fail_msg("%zd, not -%d: %s", rc, bad_requests[i].status, bad_requests[i].text);
	}
}

/* case 27: NUL anywhere */
static void
test_nul(void **state)
{
	static const char good[] = "GET /path HTTP/1.1\r\nHost: a.example\r\nX: some value\r\n\r\n";
	static const char answer[] = "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 3\r\n\r\n";
	char text[sizeof(good) + sizeof(answer)];

	(void)state;
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		memcpy(text, good, sizeof(good));
		text[i] = '\0';
		/* Without one of its last octets a head has not ended yet; what follows is then part of it. */
		memcpy(text + sizeof(good) - 1, "\r\n\r\n", 4);
		assert_int_equal(parse_both(text, sizeof(good) + 3, false, H1_M_OTHER), -400);
	}
	for (size_t i = 0; i < sizeof(answer) - 1; i++) {
		memcpy(text, answer, sizeof(answer));
		text[i] = '\0';
		memcpy(text + sizeof(answer) - 1, "\r\n\r\n", 4);
		assert_int_equal(parse_both(text, sizeof(answer) + 3, true, H1_M_GET), -502);
	}
}

/* Any single octet changed: accepted or refused, the same at once and in pieces, and h never points outside. */
static void
test_each_octet(void **state)
{
	static const char good[] = "POST http://a.example/p HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\nConnection: x-y\r\nX-Y: z\r\n\r\n";
	char text[sizeof(good)];

	(void)state;
	for (size_t i = 0; i < sizeof(good) - 1; i++)
		for (int c = 0; c < 256; c++) {
			ssize_t rc;

			memcpy(text, good, sizeof(good));
			text[i] = (char)c;
			h.scan = 0;
			rc = parse(text, sizeof(good) - 1, false, H1_M_OTHER);
			assert_true(rc == 0 || rc == (ssize_t)sizeof(good) - 1 || (rc <= -400 && rc >= -505));
			for (uint32_t k = 0; rc > 0 && k < h.nfields; k++)
				assert_true(h.fields[k].value >= kept &&
					    h.fields[k].value + h.fields[k].value_len <= kept + sizeof(good) - 1);
		}
}

static void
test_origin(void **state)
{
	const char *text = "GET /V1/Taxes?Year=1 HTTP/1.1\r\nHOST: Tax-Svc.IRS:8080\r\nX-Mixed: \t Va lue\t \r\nEmpty:\r\n\r\n";

	(void)state;
	assert_int_equal(request(text), strlen(text));
	assert_int_equal(h.method_id, H1_M_GET);
	TEXT(method, "GET");
	assert_int_equal(h.form, H1_ORIGIN);
	TEXT(authority, "tax-svc.irs:8080");
	TEXT(path, "/V1/Taxes?Year=1");
	assert_int_equal(h.path_only_len, 9);
	assert_int_equal(h.minor, 1);
	assert_int_equal(h.framing, H1_NONE);
	assert_true(h.keep_alive);
	assert_false(h.upgrade || h.te_trailers || h.expect_continue || h.absolute_https);
	assert_int_equal(h.nfields, 3);
	TEXT(fields[0].name, "host");
	assert_int_equal(h.fields[0].id, H1_F_HOST);
	TEXT(fields[1].name, "x-mixed");
	TEXT(fields[1].value, "Va lue");
	TEXT(fields[2].name, "empty");
	TEXT(fields[2].value, "");
}

static void
test_absolute(void **state)
{
	static const struct {
		const char *text, *authority, *path;
		bool https;
	} good[] = {
		{ "GET http://A.Example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", "/x?y", false },
		{ "GET HTTP://a:80/x HTTP/1.1\r\nHost: A\r\n\r\n", "a:80", "/x", false },
		{ "GET hTTps://a/x HTTP/1.1\r\nHost: a:443\r\n\r\n", "a", "/x", true },
		{ "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "a", "/", false },
		{ "OPTIONS http://a:8 HTTP/1.1\r\nHost: a:8\r\n\r\n", "a:8", "*", false },
		{ "OPTIONS https://a HTTP/1.1\r\nHost: a\r\n\r\n", "a", "*", true },
		{ "OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "a", "/", false },
		{ "GET http://[2001:DB8::1]:8080/ HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n", "[2001:db8::1]:8080", "/", false },
		{ "GET http://a/x HTTP/1.0\r\n\r\n", "a", "/x", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(request(good[i].text), strlen(good[i].text));
		assert_int_equal(h.form, H1_ABSOLUTE);
		assert_int_equal(h.absolute_https, good[i].https);
		TEXT(authority, good[i].authority);
		TEXT(path, good[i].path);
		assert_in_range((uintptr_t)h.path, (uintptr_t)kept, (uintptr_t)kept + strlen(good[i].text));
	}
}

static void
test_connect_and_asterisk(void **state)
{
	const char *connect = "CONNECT DB.irs:5432 HTTP/1.1\r\nHost: db.irs:5432\r\n\r\nEARLY";
	const char *portless = "CONNECT db.irs:5432 HTTP/1.1\r\nHost: db.irs\r\n\r\n";
	const char *old = "CONNECT [::1]:22 HTTP/1.0\r\n\r\n";
	const char *star = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";

	(void)state;
	assert_int_equal(request(connect), strlen(connect) - 5); /* case 35: what follows is not part of the head */
	assert_int_equal(h.method_id, H1_M_CONNECT);
	assert_int_equal(h.form, H1_AUTHORITY);
	TEXT(authority, "db.irs:5432");
	assert_int_equal(h.path_len, 0);
	assert_int_equal(request(portless), strlen(portless));
	assert_int_equal(request(old), strlen(old));
	TEXT(authority, "[::1]:22");
	assert_int_equal(request(star), strlen(star));
	assert_int_equal(h.form, H1_ASTERISK);
	TEXT(path, "*");
}

static void
test_empty_line_before(void **state)
{
	const char *text = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";

	(void)state;
	assert_int_equal(request(text), strlen(text)); /* RFC 9112 2.2: counted, not an error */
	TEXT(path, "/");
}

static void
test_framing(void **state)
{
	static const struct {
		const char *text;
		enum h1_framing framing;
		uint64_t length;
		bool keep_alive;
	} good[] = {
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", H1_LENGTH, 0, true },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n", H1_LENGTH, 999999999999999999, true },
		{ "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:  0042 \r\n\r\n", H1_LENGTH, 42, true },
		{ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChunkeD\r\n\r\n", H1_CHUNKED, 0, true },
		{ "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", H1_NONE, 0, false },
		{ "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n", H1_NONE, 0, false },
		{ "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: ,, close ,\r\n\r\n", H1_NONE, 0, false },
		{ "POST / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n", H1_NONE, 0, true },
		{ "POST / HTTP/1.0\r\n\r\n", H1_NONE, 0, false },
		{ "POST / HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 7\r\n\r\n", H1_LENGTH, 7, true },
		{ "POST http://a/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", H1_NONE, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(request(good[i].text), strlen(good[i].text));
		assert_int_equal(h.framing, good[i].framing);
		assert_int_equal(h.content_length, good[i].length);
		assert_int_equal(h.keep_alive, good[i].keep_alive);
	}
	assert_int_equal(request("GET / HTTP/1.0\r\n\r\n"), 18);
	assert_int_equal(h.authority_len, 0);
}

static void
test_flags(void **state)
{
	const char *text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\nTE: gzip;q=0.5, Trailers;q=1\r\n"
			   "Connection: TE, Upgrade, HTTP2-Settings, X-Mine, forwarded, Not-There\r\nUpgrade: h2c\r\n"
			   "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nX-Mine: 1\r\nX-Other: 2\r\nx-mine: 3\r\nForwarded: for=x\r\n"
			   "Proxy-Authorization: Basic eA==\r\nTrailer: x\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\r\n";
	static const char *const hop[] = { "te", "connection", "upgrade", "http2-settings", "x-mine", "proxy-authorization",
		"trailer", "keep-alive", "proxy-connection", "forwarded" };

	(void)state;
	assert_int_equal(request(text), strlen(text));
	assert_true(h.expect_continue);
	assert_true(h.te_trailers);
	assert_true(h.upgrade); /* case 37: for the caller to refuse */
	assert_true(h.keep_alive); /* Proxy-Connection means nothing */
	for (uint32_t i = 0; i < h.nfields; i++) {
		bool want = false;

		for (size_t k = 0; k < sizeof(hop) / sizeof(hop[0]); k++)
			want = want || (strlen(hop[k]) == h.fields[i].name_len && !memcmp(hop[k], h.fields[i].name, h.fields[i].name_len));
		if (h.fields[i].hop != want)
			fail_msg("hop of %.*s", (int)h.fields[i].name_len, h.fields[i].name);
	}
	/* Neither without Connection's word, nor in HTTP/1.0; and no 100 for nothing. */
	assert_true(request("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nExpect: 100-continue\r\nTE: xtrailers, trailersx\r\n\r\n") > 0);
	assert_false(h.upgrade || h.expect_continue || h.te_trailers);
	assert_true(request("POST / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n") > 0);
	assert_false(h.upgrade || h.expect_continue);
}

/* case 66: what an application may not say about itself, however it spells it */
static void
test_identity(void **state)
{
	static const char *const identity[] = { "Forwarded", "X-Forwarded-For", "X_Forwarded_For", "x-forwarded-host", "X-Forwarded",
		"X-Forwarded-Client-Cert", "x_forwarded-client_cert", "Client-Cert", "client_cert", "Client-Cert-Chain", "Client_Cert-Chain",
		"Sallyport-Principal", "sallyport_exchange", "SALLYPORT-ANYTHING", "X-Real-IP", "x_real_ip", "x.forwarded.for" };
	static const char *const others[] = { "Forward", "X-Forward-For", "Client-Certificate", "Sallyports", "X-Real-Ips", "X-Forwardedfor",
		"Authorization", "Cookie" };
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof(identity) / sizeof(identity[0]); i++) {
		snprintf(text, sizeof(text), RH "%s: spiffe://x/y" END, identity[i]);
		assert_true(request(text) > 0);
		assert_int_equal(h.fields[1].id, H1_F_IDENTITY);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		snprintf(text, sizeof(text), RH "%s: x" END, others[i]);
		assert_true(request(text) > 0);
		assert_int_equal(h.fields[1].id, H1_F_OTHER);
	}
}

static void
test_bounds(void **state)
{
	static char text[2 * H1_MAX_HEAD];
	size_t n;

	(void)state;
	/* Fields: as many as allowed, and one more. */
	for (int count = H1_MAX_FIELDS; count <= H1_MAX_FIELDS + 1; count++) {
		n = (size_t)sprintf(text, RH);
		for (int i = 1; i < count; i++)
			n += (size_t)sprintf(text + n, "X%d: y\r\n", i);
		n += (size_t)sprintf(text + n, "\r\n");
		assert_int_equal(request(text), count > H1_MAX_FIELDS ? -431 : (ssize_t)n);
	}
	/* Octets: a head of exactly the limit, and of one more. */
	for (size_t size = H1_MAX_HEAD; size <= H1_MAX_HEAD + 1; size++) {
		n = (size_t)sprintf(text, RH "X: ");
		memset(text + n, 'x', size - n - 4);
		memcpy(text + size - 4, "\r\n\r\n", 4);
		h.scan = 0;
		assert_int_equal(parse(text, size, false, H1_M_OTHER), size > H1_MAX_HEAD ? -431 : (ssize_t)size);
		h.scan = 0;
		for (size_t k = H1_MAX_HEAD - 5; k <= size; k++) { /* in pieces as well */
			ssize_t rc = parse(text, k, false, H1_M_OTHER);

			assert_int_equal(rc, k < H1_MAX_HEAD ? 0 : size > H1_MAX_HEAD ? -431 : (ssize_t)size);
			if (rc != 0)
				break;
		}
	}
	/* Targets. */
	memset(text, 'x', sizeof(text));
	memcpy(text, "GET /", 5);
	h.scan = 0;
	assert_int_equal(parse(text, sizeof(text), false, H1_M_OTHER), -414);
	for (size_t size = H1_MAX_TARGET; size <= H1_MAX_TARGET + 1; size++) {
		memset(text, 'x', sizeof(text));
		memcpy(text, "GET /", 5);
		n = 4 + size + (size_t)sprintf(text + 4 + size, " HTTP/1.1\r\nHost: a" END);
		h.scan = 0;
		assert_int_equal(parse(text, n, false, H1_M_OTHER), size > H1_MAX_TARGET ? -414 : (ssize_t)n);
	}
	/* A response without an end. */
	memset(text, 'x', sizeof(text));
	memcpy(text, "HTTP/1.1 200 ", 13);
	h.scan = 0;
	assert_int_equal(parse(text, sizeof(text), true, H1_M_GET), -502);
}

static void
test_pipeline(void **state)
{
	char text[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nGET /3";
	ssize_t n, at = 0;

	(void)state;
	h.scan = 0;
	n = h1_parse_request(&h, text, sizeof(text) - 1);
	assert_true(n > 0);
	TEXT(path, "/1");
	at = n;
	n = h1_parse_request(&h, text + at, sizeof(text) - 1 - (size_t)at);
	assert_true(n > 0);
	TEXT(path, "/2");
	TEXT(authority, "b");
	at += n;
	assert_int_equal(h1_parse_request(&h, text + at, sizeof(text) - 1 - (size_t)at), 0);
}

/* ---- responses ------------------------------------------------------------------------------- */

#define S "HTTP/1.1 200 OK\r\n"

/* case 39: what a service may not answer; it becomes a 502 */
static const char *const bad_responses[] = {
	"HTTP/2 200 OK" END, "HTTP/1.2 200 OK" END, "HTTP/2.0 200 OK" END, "http/1.1 200 OK" END, "ICY 200 OK" END, "X", " HTTP/1.1 200 OK" END,
	"\r\nHTTP/1.1 200 OK" END, "HTTP/1.1  200 OK" END, "HTTP/1.1 20 OK" END, "HTTP/1.1 2000 OK" END, "HTTP/1.1 2x0 OK" END,
	"HTTP/1.1 099 OK" END, "HTTP/1.1 600 OK" END, "HTTP/1.1 999 OK" END, "HTTP/1.1 +20 OK" END, "HTTP/1.1 200OK" END, "HTTP/1.1" END,
	"HTTP/1.1 200 O\rK" END, "HTTP/1.1 200 O\x01K" END, "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200\n" END,
	S "X: a\nSet-Cookie: b" END, S "X: a\r\n b" END, S "X: a\rSet-Cookie: b" END, S "X : a" END, S ": a" END, S "X: \x02" END,
	S "Content-Length: 5\r\nContent-Length: 5" END, S "Content-Length: 5\r\nTransfer-Encoding: chunked" END,
	S "Content-Length: -1" END, S "Content-Length: 5, 5" END, S "Transfer-Encoding: gzip, chunked" END, S "Transfer-Encoding: gzip" END,
	"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked" END, S "Connection: content-length\r\nContent-Length: 5" END,
	"HTTP/1.1 204 No\r\nContent-Length: 5" END, "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked" END,
	"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked" END, "HTTP/1.1 101 X\r\nContent-Length: 1" END,
	S "Host: a\r\nHost: b" END,
};

static void
test_bad_responses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_responses) / sizeof(bad_responses[0]); i++) {
		ssize_t rc = response(bad_responses[i], H1_M_GET);

		if (rc != -502)
			fail_msg("%zd: %s", rc, bad_responses[i]);
	}
}

static void
test_responses(void **state)
{
	static const struct {
		const char *text;
		enum h1_method method;
		unsigned status;
		enum h1_framing framing;
		uint64_t length;
		bool keep_alive;
	} good[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", H1_M_GET, 200, H1_LENGTH, 5, true },
		{ "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", H1_M_GET, 200, H1_LENGTH, 0, true },
		{ "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", H1_M_GET, 200, H1_LENGTH, 0, true },
		{ "HTTP/1.1 200\r\n\r\n", H1_M_GET, 200, H1_UNTIL_CLOSE, 0, false },
		{ "HTTP/1.1 404 G\xe4nzlich \t weg\r\nX: \xc3\xa9\xff\r\n\r\n", H1_M_GET, 404, H1_UNTIL_CLOSE, 0, false },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", H1_M_POST, 200, H1_CHUNKED, 0, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", H1_M_POST, 200, H1_CHUNKED, 0, false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", H1_M_HEAD, 200, H1_NONE, 5, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", H1_M_HEAD, 200, H1_NONE, 0, true },
		{ "HTTP/1.1 200 OK\r\n\r\n", H1_M_HEAD, 200, H1_NONE, 0, true },
		{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", H1_M_GET, 304, H1_NONE, 5, true },
		{ "HTTP/1.1 204 No Content\r\n\r\n", H1_M_GET, 204, H1_NONE, 0, true },
		{ "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", H1_M_GET, 204, H1_NONE, 0, true },
		{ "HTTP/1.1 100 Continue\r\n\r\n", H1_M_POST, 100, H1_NONE, 0, true },
		{ "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", H1_M_GET, 103, H1_NONE, 0, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", H1_M_CONNECT, 200, H1_NONE, 0, true },
		{ "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n", H1_M_CONNECT, 403, H1_LENGTH, 2, true },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", H1_M_GET, 200, H1_LENGTH, 2, false },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n", H1_M_GET, 200, H1_LENGTH, 2, true },
		{ "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", H1_M_GET, 200, H1_UNTIL_CLOSE, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ssize_t rc = response(good[i].text, good[i].method);

		if (rc != (ssize_t)strlen(good[i].text))
			fail_msg("%zd: %s", rc, good[i].text);
		assert_int_equal(h.status, good[i].status);
		assert_int_equal(h.framing, good[i].framing);
		assert_int_equal(h.content_length, good[i].length);
		assert_int_equal(h.keep_alive, good[i].keep_alive);
	}
	/* A length that means nothing here is not passed on. */
	assert_true(response("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", H1_M_GET) > 0);
	assert_true(h.fields[0].hop);
	assert_true(response("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", H1_M_GET) > 0);
	assert_true(h.upgrade);
}

static void
test_names(void **state)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH" };

	(void)state;
	for (unsigned i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		assert_int_equal(h1_method_id(methods[i], strlen(methods[i])), H1_M_GET + i);
	assert_int_equal(h1_method_id("get", 3), H1_M_OTHER);
	assert_int_equal(h1_method_id("", 0), H1_M_OTHER);
	assert_string_equal(h1_reason(200), "OK");
	assert_string_equal(h1_reason(100), "Continue");
	assert_string_equal(h1_reason(404), "Not Found");
	assert_string_equal(h1_reason(511), "Network Authentication Required");
	assert_string_equal(h1_reason(299), "");
	assert_string_equal(h1_reason(0), "");
	assert_string_equal(h1_reason(600), "");
}

static int
teardown(void **state)
{
	(void)state;
	free(kept);
	kept = NULL;
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_nul), cmocka_unit_test(test_each_octet),
		cmocka_unit_test(test_origin), cmocka_unit_test(test_absolute), cmocka_unit_test(test_connect_and_asterisk),
		cmocka_unit_test(test_empty_line_before), cmocka_unit_test(test_framing), cmocka_unit_test(test_flags),
		cmocka_unit_test(test_identity), cmocka_unit_test(test_bounds), cmocka_unit_test(test_pipeline),
		cmocka_unit_test(test_bad_responses), cmocka_unit_test(test_responses), cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
