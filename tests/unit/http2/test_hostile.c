/* SPDX-License-Identifier: Apache-2.0 */
/* Frames by hand: header blocks cut anywhere, malformed requests, floods, and what else a far end may try. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/http2/bed.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8 };

static struct raw raw, block;
static struct seen seen;
static unsigned turn;

static int setup(void **state)
{
	raw_reset(&raw);
	raw_reset(&block);
	memset(&seen, 0, sizeof(seen));
	turn = 0;
	return bed_setup(state);
}

static void headers(uint32_t id, unsigned flags)
{
	raw_frame(&raw, HEADERS, flags | END_HEADERS, id, block.p, block.n);
}

static void field(const char *name, const char *value)
{
	raw_field(&block, name, strlen(name), value, strlen(value));
}

/* A valid request on this stream. */
static void request(uint32_t id, unsigned flags)
{
	raw_reset(&block);
	raw_request_block(&block, "GET", "/0");
	headers(id, flags);
}

static const uint8_t four[4] = { 0, 0, 0, 8 }, eight[8];

/* ---- cut blocks ---- */

static struct end other;

static void new_server(struct end *e)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	memset(e, 0, sizeof(*e));
	bed_open(e, sv[0], &bed_server_config);
	close(sv[1]);
}

static void drop_server(struct end *e)
{
	struct call *c;

	bed_close(e);
	while ((c = LIST_FIRST(&e->calls)))
		bed_forget(c);
}

/* Between the two parts of a block another session decodes one of its own, with as many fields of other names and values. */
static bool cut_everywhere(void)
{
	static struct raw between;
	struct end a, b;

	raw_preface(&raw);
	raw_request_block(&block, "GET", "/the/path?query");
	field("x-test", "the value of the first");
	for (int i = 0; i < 20; i++)
		field("x-more", "more of the first");
	/* Over two frames, the second cut in mid-field by itself. */
	raw_frame(&raw, HEADERS, END_STREAM, 1, block.p, 100);
	raw_frame(&raw, CONTINUATION, END_HEADERS, 1, block.p + 100, block.n - 100);

	raw_preface(&between);
	raw_reset(&block);
	raw_request_block(&block, "POST", "/another");
	for (int i = 0; i < 30; i++)
		field("x-test", "the second's, which must not be seen in the first");
	raw_frame(&between, HEADERS, END_HEADERS, 1, block.p, block.n);

	for (size_t cut = 1; cut < raw.n; cut++) {
		struct call *c;

		new_server(&a);
		new_server(&b);
		assert_int_equal(h2_input(a.h2, raw.p, cut), 0);
		assert_int_equal(h2_input(b.h2, between.p, between.n), 0);
		assert_int_equal(h2_input(a.h2, raw.p + cut, raw.n - cut), 0);
		assert_int_equal(a.requests, 1);
		assert_int_equal(b.requests, 1);
		c = LIST_FIRST(&a.calls);
		assert_string_equal(c->path, "/the/path?query");
		assert_string_equal(c->method, "GET");
		assert_string_equal(c->field, "the value of the first");
		assert_int_equal(c->nfields, 21);
		assert_string_equal(LIST_FIRST(&b.calls)->path, "/another");
		drop_server(&a);
		drop_server(&b);
	}
	return true;
}

static void test_cut_everywhere(void **state)
{
	(void)state;
	bed_run(cut_everywhere);
}

/* Whatever is fed, by single octets and with a block of another session decoded after each, is read as if it came at once. */
static bool octet_by_octet(void)
{
	static struct raw between;
	struct end a;
	struct call *c;

	raw_preface(&raw);
	raw_request_block(&block, "POST", "/1");
	field("content-length", "10");
	field("te", "trailers");
	headers(1, 0);
	raw_frame(&raw, DATA, 0, 1, "01234", 5);
	raw_frame(&raw, DATA, PADDED, 1, "\3" "567\0\0\0", 7);
	raw_frame(&raw, PING, 0, 0, eight, 8);
	raw_frame(&raw, DATA, 0, 1, "89", 2);
	raw_reset(&block);
	field("x-trailer", "last");
	headers(1, END_STREAM);
	request(3, END_STREAM);
	raw_preface(&between);
	raw_reset(&block);
	raw_request_block(&block, "GET", "/other");
	field("x-trailer", "not this");

	new_server(&a);
	new_server(&other);
	assert_int_equal(h2_input(other.h2, between.p, between.n), 0);
	for (size_t i = 0; i < raw.n; i++) {
		static struct raw one;

		assert_int_equal(h2_input(a.h2, raw.p + i, 1), 0);
		raw_reset(&one);
		raw_frame(&one, HEADERS, END_HEADERS | END_STREAM, (uint32_t)(2 * i + 1), block.p, block.n);
		assert_int_equal(h2_input(other.h2, one.p, one.n), 0);
	}
	assert_int_equal(a.requests, 2);
	c = LIST_NEXT(LIST_FIRST(&a.calls), entry);
	assert_int_equal(c->got, 10);
	assert_true(c->ended);
	assert_string_equal(c->trailer, "last");
	assert_int_equal(c->length, 10);
	assert_int_equal(other.requests, raw.n);
	drop_server(&a);
	drop_server(&other);
	return true;
}

static void test_octet_by_octet(void **state)
{
	(void)state;
	bed_run(octet_by_octet);
}

/* ---- malformed requests ---- */

struct field_row {
	const char *name, *value;
	size_t nlen, vlen;
};
#define F(n, v) { n, v, sizeof(n) - 1, sizeof(v) - 1 }

struct request_row {
	const char *what;
	bool good;
	struct field_row f[8];
};

#define USUAL F(":method", "GET"), F(":scheme", "https"), F(":authority", "a.example"), F(":path", "/")

static const struct request_row requests[] = {
	{ "plain", true, { USUAL } },
	{ "host alone", true, { F(":method", "GET"), F(":scheme", "https"), F(":path", "/"), F("host", "a.example") } },
	{ "host as the authority", true, { USUAL, F("host", "a.example") } },
	{ "options *", true, { F(":method", "OPTIONS"), F(":scheme", "https"), F(":authority", "a"), F(":path", "*") } },
	{ "te: trailers", true, { USUAL, F("te", "trailers") } },
	{ "octets over 127", true, { USUAL, F("x", "\xc3\xa9") } },
	{ "case 10: empty name", false, { USUAL, F("", "x") } },
	{ "case 30: CR", false, { USUAL, F("x", "a\rb") } },
	{ "case 30: LF", false, { USUAL, F("x", "a\nb") } },
	{ "case 30: NUL", false, { USUAL, F("x", "a\0b") } },
	{ "case 30: DEL", false, { USUAL, F("x", "a\x7f") } },
	{ "case 30: LF in a name", false, { USUAL, F("x\ny", "a") } },
	{ "case 30: NUL in a name", false, { USUAL, F("x\0", "a") } },
	{ "case 30: colon in a name", false, { USUAL, F("x:y", "a") } },
	{ "case 30: upper case", false, { USUAL, F("X-Y", "a") } },
	{ "case 30: CRLF in :path", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "/\r\nx: y") } },
	{ "case 30: space in :method", false, { F(":method", "GET /"), F(":scheme", "https"), F(":authority", "a"), F(":path", "/") } },
	{ "case 30: NUL in :authority", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a\0b"), F(":path", "/") } },
	{ "case 32: connection", false, { USUAL, F("connection", "close") } },
	{ "case 32: transfer-encoding", false, { USUAL, F("transfer-encoding", "chunked") } },
	{ "case 32: upgrade", false, { USUAL, F("upgrade", "h2c") } },
	{ "case 32: keep-alive", false, { USUAL, F("keep-alive", "5") } },
	{ "case 32: proxy-connection", false, { USUAL, F("proxy-connection", "close") } },
	{ "case 32: http2-settings", false, { USUAL, F("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA") } },
	{ "case 32: te", false, { USUAL, F("te", "gzip") } },
	{ "case 33: host differs", false, { USUAL, F("host", "b.example") } },
	{ "case 33: two hosts", false, { F(":method", "GET"), F(":scheme", "https"), F(":path", "/"), F("host", "a"), F("host", "a") } },
	{ "case 24: two lengths", false, { USUAL, F("content-length", "1"), F("content-length", "1") } },
	{ "case 24: signed length", false, { USUAL, F("content-length", "+1") } },
	{ "case 24: hex length", false, { USUAL, F("content-length", "0x1") } },
	{ "case 24: empty length", false, { USUAL, F("content-length", "") } },
	{ "case 24: huge length", false, { USUAL, F("content-length", "99999999999999999999") } },
	{ "case 31: a length and no content", false, { USUAL, F("content-length", "1") } },
	{ "case 34: dots", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "/x/../y") } },
	{ "case 34: %2f", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "/x%2fy") } },
	{ "case 34: fragment", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "/x#y") } },
	{ "case 34: //", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "//x") } },
	{ "absolute :path", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "http://b/") } },
	{ "empty :path", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "") } },
	{ "* with GET", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F(":path", "*") } },
	{ "no :path", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a") } },
	{ "no :method", false, { F(":scheme", "https"), F(":authority", "a"), F(":path", "/") } },
	{ "no :scheme", false, { F(":method", "GET"), F(":authority", "a"), F(":path", "/") } },
	{ "no authority", false, { F(":method", "GET"), F(":scheme", "https"), F(":path", "/") } },
	{ "empty authority", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", ""), F(":path", "/") } },
	{ "userinfo", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "u@a"), F(":path", "/") } },
	{ "a bad port", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a:x"), F(":path", "/") } },
	{ "two :path", false, { USUAL, F(":path", "/y") } },
	{ "pseudo after a field", false, { F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"), F("x", "y"), F(":path", "/") } },
	{ "unknown pseudo", false, { USUAL, F(":evil", "x") } },
	{ ":status", false, { USUAL, F(":status", "200") } },
	{ ":protocol", false, { F(":method", "CONNECT"), F(":protocol", "websocket"), F(":scheme", "https"), F(":authority", "a"), F(":path", "/") } },
	{ "CONNECT with :path", false, { F(":method", "CONNECT"), F(":scheme", "https"), F(":authority", "a:1"), F(":path", "/") } },
};

/* Each is reset, or ends the connection; none is told, and the next good request is served where the connection lives. */
static bool all_requests(void)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const struct request_row *r = &requests[i];
		struct end a;
		int ok;

		raw_reset(&raw);
		raw_reset(&block);
		raw_preface(&raw);
		for (const struct field_row *f = r->f; f < r->f + 8 && f->name; f++)
			raw_field(&block, f->name, f->nlen, f->value, f->vlen);
		headers(1, END_STREAM);
		new_server(&a);
		ok = h2_input(a.h2, raw.p, raw.n);
		if (a.requests != r->good)
			fail_msg("%s: %u requests", r->what, a.requests);
		if (ok == 0) {
			raw_reset(&raw);
			request(3, END_STREAM);
			h2_input(a.h2, raw.p, raw.n);
			if (a.requests != r->good + 1u)
				fail_msg("%s: the next is not served", r->what);
		}
		drop_server(&a);
	}
	return true;
}

static void test_malformed_requests(void **state)
{
	(void)state;
	bed_run(all_requests);
}

/* Malformed content and trailers: the request was told, and is aborted. */
static const struct {
	const char *what;
	unsigned length;          /* said in the head; 0: not */
	const char *data;
	const char *name, *value; /* of a trailer; NULL: END_STREAM on the data */
} bodies[] = {
	{ "case 31: too short", 5, "123", NULL, NULL },
	{ "case 31: too long", 2, "123", NULL, NULL },
	{ "pseudo-field in trailers", 0, "123", ":path", "/" },
	{ "case 30: LF in a trailer", 0, "123", "x", "a\nb" },
	{ "case 32: connection in trailers", 0, "123", "connection", "close" },
	{ "case 31: too short, with trailers", 5, "123", "x", "y" },
};

static bool all_bodies(void)
{
	static bool fed;

	if (!fed) {
		fed = true;
		raw_preface(&raw);
		for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
			char text[12], path[12];

			snprintf(text, sizeof(text), "%u", bodies[i].length);
			snprintf(path, sizeof(path), "/%u", i);
			raw_reset(&block);
			raw_request_block(&block, "POST", path);
			if (bodies[i].length)
				field("content-length", text);
			headers(2 * i + 1, 0);
			raw_frame(&raw, DATA, bodies[i].name ? 0 : END_STREAM, 2 * i + 1, bodies[i].data, strlen(bodies[i].data));
			if (bodies[i].name) {
				raw_reset(&block);
				field(bodies[i].name, bodies[i].value);
				headers(2 * i + 1, END_STREAM);
			}
		}
		raw_send(&raw);
		return false;
	}
	raw_read(&seen);
	if (seen.resets < sizeof(bodies) / sizeof(bodies[0]))
		return false;
	for (struct call *c = LIST_FIRST(&bed_server.calls); c; c = LIST_NEXT(c, entry)) {
		if (!c->aborted || c->ended)
			fail_msg("%s: not aborted", bodies[c->path[1] - '0'].what);
		assert_false(c->unsent && c->why != LEG_REFUSED);
	}
	assert_int_equal(bed_server.requests, sizeof(bodies) / sizeof(bodies[0]));
	assert_int_equal(bed_server.error[0], 0);
	return true;
}

static void test_malformed_bodies(void **state)
{
	(void)state;
	bed_server.serve = NULL;
	bed_raw();
	bed_run(all_bodies);
}

/* ---- floods ---- */

static void flood_resets(void)
{
	for (uint32_t id = 1; id < 400; id += 2) {
		request(id, 0);
		raw_frame(&raw, RST_STREAM, 0, id, four, 4);
	}
}

/* CVE-2025-8671: it is we who reset. */
static void flood_windows(void)
{
	static const uint8_t zero[4];

	for (uint32_t id = 1; id < 400; id += 2) {
		request(id, 0);
		raw_frame(&raw, WINDOW_UPDATE, 0, id, zero, 4);
	}
}

static void flood_overflows(void)
{
	static const uint8_t max[4] = { 0x7f, 0xff, 0xff, 0xff };

	for (uint32_t id = 1; id < 400; id += 2) {
		request(id, 0);
		raw_frame(&raw, WINDOW_UPDATE, 0, id, max, 4);
	}
}

static void flood_lengths(void)
{
	for (uint32_t id = 1; id < 400; id += 2) {
		raw_reset(&block);
		raw_request_block(&block, "POST", "/0");
		field("content-length", "1");
		headers(id, 0);
		raw_frame(&raw, DATA, 0, id, "12", 2);
	}
}

static void flood_malformed(void)
{
	for (uint32_t id = 1; id < 400; id += 2) {
		raw_reset(&block);
		raw_request_block(&block, "GET", "/x/../y");
		headers(id, END_STREAM);
	}
}

static void flood_priorities(void)
{
	static const uint8_t five[5] = { 0, 0, 0, 0, 15 };

	for (uint32_t i = 0; i < 3000; i++)
		raw_frame(&raw, PRIORITY, 0, 1, five, 5);
}

static void flood_settings(void)
{
	for (uint32_t i = 0; i < 3000; i++)
		raw_frame(&raw, SETTINGS, 0, 0, "", 0);
}

static void flood_pings(void)
{
	for (uint32_t i = 0; i < 3000; i++)
		raw_frame(&raw, PING, 0, 0, eight, 8);
}

static void flood_pongs(void)
{
	for (uint32_t i = 0; i < 3000; i++)
		raw_frame(&raw, PING, ACK, 0, eight, 8);
}

static void flood_empty(void)
{
	request(1, 0);
	for (uint32_t i = 0; i < 3000; i++)
		raw_frame(&raw, DATA, 0, 1, "", 0);
}

static void flood_padding(void)
{
	request(1, 0);
	for (uint32_t i = 0; i < 3000; i++)
		raw_frame(&raw, DATA, PADDED, 1, "\4\0\0\0\0", 5);
}

static void flood_continuation(void)
{
	raw_reset(&block);
	raw_request_block(&block, "GET", "/");
	raw_frame(&raw, HEADERS, END_STREAM, 1, block.p, block.n);
	for (uint32_t i = 0; i < 100; i++)
		raw_frame(&raw, CONTINUATION, 0, 1, "", 0);
}

static void flood_continuation_after_reset(void)
{
	request(1, 0);
	raw_frame(&raw, RST_STREAM, 0, 1, four, 4);
	raw_reset(&block);
	field("x", "y");
	raw_frame(&raw, HEADERS, END_STREAM, 1, block.p, block.n);
	for (uint32_t i = 0; i < 100; i++)
		raw_frame(&raw, CONTINUATION, 0, 1, block.p, block.n);
}

static const struct {
	const char *what;
	void (*make)(void);
	const char *error;
	uint32_t code;
} floods[] = {
	{ "case 1: resets", flood_resets, "reset-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 2: zero increments", flood_windows, "protocol", H2_PROTOCOL_ERROR },
	{ "case 2: window overflows", flood_overflows, "reset-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 2: content beyond the length", flood_lengths, "reset-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 2: malformed requests", flood_malformed, "reset-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 3: CONTINUATION", flood_continuation, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 4: CONTINUATION after a reset", flood_continuation_after_reset, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 7: SETTINGS", flood_settings, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 8: PING", flood_pings, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 8: PING answers", flood_pongs, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 9: empty DATA", flood_empty, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 9: padded empty DATA", flood_padding, "frame-flood", H2_ENHANCE_YOUR_CALM },
	{ "case 12: PRIORITY", flood_priorities, "frame-flood", H2_ENHANCE_YOUR_CALM },
};
static size_t which;

static bool flooded(void)
{
	if (turn++ == 0)
		raw_send(&raw);
	raw_read(&seen);
	return seen.has_goaway && bed_server.error[0];
}

static void test_floods(void **state)
{
	for (which = 0; which < sizeof(floods) / sizeof(floods[0]); which++) {
		bed_teardown(state);
		setup(state);
		bed_server.serve = NULL;
		bed_server_config.resets_per_second = 100;
		raw_preface(&raw);
		floods[which].make();
		bed_raw();
		bed_run(flooded);
		if (strcmp(bed_server.error, floods[which].error) != 0 || seen.goaway != floods[which].code)
			fail_msg("%s: %s, GOAWAY %u", floods[which].what, bed_server.error, seen.goaway);
	}
}

static bool calm(void)
{
	if (turn++ == 0)
		raw_send(&raw);
	raw_read(&seen);
	return bed_server.requests >= 2001;
}

/* Case 92: on a link cancels are ordinary, however many. */
static void test_cancels_on_a_link(void **state)
{
	(void)state;
	bed_server.serve = NULL;
	bed_server_config.link = true;
	raw_preface(&raw);
	for (uint32_t id = 1; id < 4000; id += 2) {
		request(id, 0);
		raw_frame(&raw, RST_STREAM, 0, id, four, 4);
	}
	request(4001, END_STREAM);
	bed_raw();
	bed_run(calm);
	assert_int_equal(bed_server.error[0], 0);
	assert_false(seen.has_goaway);
}

/* ---- large heads ---- */

static bool has_reset(void)
{
	if (turn++ == 0)
		raw_send(&raw);
	raw_read(&seen);
	return seen.resets > 0;
}

/* Cases 5, 6: a field of 4,000 octets in the table, and 16,000 references to it, one octet each. */
static void test_hpack_bomb(void **state)
{
	static uint8_t refs[16000];
	static char value[4001];
	uint64_t before;

	(void)state;
	memset(refs, 0x80 | 62, sizeof(refs));
	memset(value, 'v', 4000);
	raw_request_block(&block, "GET", "/");
	block.p[block.n++] = 0x40; /* RFC 7541 6.2.1: into the table */
	block.p[block.n++] = 1;
	block.p[block.n++] = 'x';
	block.p[block.n++] = 127;
	block.p[block.n++] = (4000 - 127) % 128 + 128;
	block.p[block.n++] = (4000 - 127) / 128;
	memcpy(block.p + block.n, value, 4000);
	block.n += 4000;
	raw_preface(&raw);
	raw_frame(&raw, HEADERS, END_STREAM, 1, block.p, block.n);
	raw_frame(&raw, CONTINUATION, 0, 1, refs, sizeof(refs));
	raw_frame(&raw, CONTINUATION, END_HEADERS, 1, refs, sizeof(refs));
	bed_raw();
	before = bed_bytes();
	bed_run(has_reset);
	assert_int_equal(bed_server.requests, 0);
	assert_true(bed_bytes() < before + 1048576);
}

static bool all_sizes(void)
{
	static const struct {
		unsigned n, size; /* fields of this decoded size each */
		bool good;
	} rows[] = {
		{ 100, 300, true }, { 101, 40, false }, { 100, 330, false }, { 1, 32000, true }, { 1, 33000, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static char value[40000];
		struct end a;

		memset(value, 'v', sizeof(value));
		raw_reset(&raw);
		raw_reset(&block);
		raw_preface(&raw);
		raw_request_block(&block, "GET", "/");
		for (unsigned k = 0; k < rows[i].n; k++)
			raw_field(&block, "x-name", 6, value, rows[i].size - 38);
		for (size_t at = 0; at < block.n; at += 16384) {
			size_t n = block.n - at < 16384 ? block.n - at : 16384;

			raw_frame(&raw, at ? CONTINUATION : HEADERS, (at ? 0 : END_STREAM) | (at + n == block.n ? END_HEADERS : 0), 1,
			    block.p + at, n);
		}
		request(3, END_STREAM);
		new_server(&a);
		assert_int_equal(h2_input(a.h2, raw.p, raw.n), 0);
		if (a.requests != rows[i].good + 1u)
			fail_msg("%u fields of %u", rows[i].n, rows[i].size);
		drop_server(&a);
	}
	return true;
}

static void test_sizes(void **state)
{
	(void)state;
	bed_run(all_sizes);
}

/* On a link, what gateways say of callers has room of its own, and a bound of its own. */
static bool link_sizes(void)
{
	static const struct {
		unsigned n, size;
		bool good;
	} rows[] = { { 1, 60000, true }, { 8, 8000, true }, { 9, 50, false }, { 2, 40000, false } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static char value[70000];
		struct end a;

		memset(value, 'v', sizeof(value));
		raw_reset(&raw);
		raw_reset(&block);
		raw_preface(&raw);
		raw_request_block(&block, "GET", "/");
		for (unsigned k = 0; k < rows[i].n; k++)
			raw_field(&block, "client-cert", 11, value, rows[i].size - 43);
		for (unsigned k = 0; k < 100; k++)
			field("x-name", "value");
		for (size_t at = 0; at < block.n; at += 16384) {
			size_t n = block.n - at < 16384 ? block.n - at : 16384;

			raw_frame(&raw, at ? CONTINUATION : HEADERS, (at ? 0 : END_STREAM) | (at + n == block.n ? END_HEADERS : 0), 1,
			    block.p + at, n);
		}
		bed_server_config.link = true;
		new_server(&a);
		assert_int_equal(h2_input(a.h2, raw.p, raw.n), 0);
		if (a.requests != rows[i].good)
			fail_msg("%u fields of %u", rows[i].n, rows[i].size);
		drop_server(&a);
	}
	return true;
}

static void test_link_sizes(void **state)
{
	(void)state;
	bed_run(link_sizes);
}

/* ---- connection errors ---- */

static void bad_push(void)
{
	raw_frame(&raw, PUSH_PROMISE, END_HEADERS, 1, "\0\0\0\2\x82", 5);
}

static void bad_data_on_idle(void)
{
	raw_frame(&raw, DATA, 0, 7, "x", 1);
}

static void bad_even_id(void)
{
	request(2, END_STREAM);
}

static void bad_lower_id(void)
{
	request(5, END_STREAM);
	raw_frame(&raw, DATA, 0, 3, "x", 1);
	raw_frame(&raw, RST_STREAM, 0, 9, four, 4);
}

static void bad_hpack(void)
{
	raw_frame(&raw, HEADERS, END_HEADERS | END_STREAM, 1, "\xff\xff\xff\xff\xff", 5);
}

static void bad_window(void)
{
	raw_frame(&raw, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
}

static void bad_zero_window(void)
{
	raw_frame(&raw, WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4);
}

static void bad_settings_size(void)
{
	raw_frame(&raw, SETTINGS, 0, 0, "12345", 5);
}

static void bad_settings_ack(void)
{
	raw_frame(&raw, SETTINGS, ACK, 0, "123456", 6);
}

static void bad_settings_value(void)
{
	raw_frame(&raw, SETTINGS, 0, 0, "\0\4\xff\xff\xff\xff", 6); /* INITIAL_WINDOW_SIZE */
}

static void bad_frame_size(void)
{
	static uint8_t zeros[16385];

	raw_frame(&raw, DATA, 0, 1, zeros, sizeof(zeros));
}

static void bad_ping(void)
{
	raw_frame(&raw, PING, 0, 0, "1234567", 7);
}

static void bad_interleaving(void)
{
	raw_reset(&block);
	raw_request_block(&block, "GET", "/");
	raw_frame(&raw, HEADERS, END_STREAM, 1, block.p, block.n);
	raw_frame(&raw, PING, 0, 0, eight, 8);
}

static void bad_continuation(void)
{
	raw_frame(&raw, CONTINUATION, END_HEADERS, 1, "", 0);
}

static void bad_padding(void)
{
	request(1, 0);
	raw_frame(&raw, DATA, PADDED, 1, "\x09zzz", 4);
}

/* Case 13: and after our GOAWAY, more of it. */
static void bad_after_goaway(void)
{
	bad_push();
	bad_frame_size();
	bad_hpack();
	raw_frame(&raw, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
	raw_frame(&raw, 77, 255, 12345, "what", 4);
	raw_frame(&raw, PRIORITY, 0, 1, "xx", 2);
}

static void too_many_streams(void)
{
	/* Our SETTINGS is acknowledged first: from then on it binds. */
	raw_frame(&raw, SETTINGS, ACK, 0, "", 0);
	for (uint32_t id = 1; id < 100; id += 2)
		request(id, 0);
}

static const struct {
	const char *what;
	void (*make)(void);
	uint32_t code;
} bad[] = {
	{ "case 15: PUSH_PROMISE", bad_push, 1 }, { "DATA on an idle stream", bad_data_on_idle, 1 }, { "an even id", bad_even_id, 1 },
	{ "RST_STREAM on an idle stream", bad_lower_id, 1 }, { "HPACK", bad_hpack, 9 }, { "case 14: window overflow", bad_window, 3 },
	{ "case 14: zero increment", bad_zero_window, 1 }, { "SETTINGS size", bad_settings_size, 6 },
	{ "SETTINGS ack with content", bad_settings_ack, 6 }, { "SETTINGS value", bad_settings_value, 3 },
	{ "frame size", bad_frame_size, 6 }, { "PING size", bad_ping, 6 }, { "a frame within a block", bad_interleaving, 1 },
	{ "CONTINUATION of nothing", bad_continuation, 1 }, { "padding", bad_padding, 1 }, { "case 13", bad_after_goaway, 1 },
	{ "streams beyond the limit", too_many_streams, 1 },
};

/* GOAWAY with the right code, at once, and the session is over though the far end stays; its exchanges are aborted. */
static void test_connection_errors(void **state)
{
	for (which = 0; which < sizeof(bad) / sizeof(bad[0]); which++) {
		struct call *c;

		bed_teardown(state);
		setup(state);
		bed_server.serve = NULL;
		bed_server_config.max_streams = 10;
		raw_preface(&raw);
		request(1, END_STREAM);
		raw_reset(&block);
		if (bad[which].make == bad_push || bad[which].make == bad_lower_id || bad[which].make == bad_padding ||
		    bad[which].make == bad_hpack || bad[which].make == bad_interleaving || bad[which].make == too_many_streams ||
		    bad[which].make == bad_even_id || bad[which].make == bad_frame_size || bad[which].make == bad_after_goaway) {
			raw_reset(&raw);
			raw_preface(&raw);
		}
		bad[which].make();
		bed_raw();
		bed_run(flooded);
		if (strcmp(bed_server.error, "protocol") != 0 || seen.goaway != bad[which].code)
			fail_msg("%s: %s, GOAWAY %u", bad[which].what, bed_server.error, seen.goaway);
		LIST_FOREACH(c, &bed_server.calls, entry)
			assert_true(c->aborted);
	}
}

static bool has_error(void)
{
	if (turn++ == 0)
		raw_send(&raw);
	raw_read(&seen);
	return bed_server.error[0];
}

static void test_no_http2(void **state)
{
	(void)state;
	memcpy(raw.p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27);
	raw.n = 27;
	bed_raw();
	bed_run(has_error);
	assert_string_equal(bed_server.error, "no-http2");
}

static bool goaway_said(void)
{
	if (turn++ == 0)
		raw_send(&raw);
	raw_read(&seen);
	return seen.has_goaway && bed_server.error[0];
}

/* Our GOAWAY says that a request which came behind theirs was not done: then it must not be done. */
static void test_request_behind_goaway(void **state)
{
	(void)state;
	bed_server.leaves = true;
	raw_preface(&raw);
	raw_frame(&raw, GOAWAY, 0, 0, eight, 8);
	request(1, END_STREAM);
	bed_raw();
	bed_run(goaway_said);
	assert_int_equal(seen.goaway, H2_NO_ERROR);
	assert_int_equal(bed_server.requests, 0);
}

/* Case 15, the other way: a server that pushes. */
static bool pushed(void)
{
	if (turn++ == 0) {
		bed_request("GET", "/", UINT64_MAX);
	} else if (turn == 5) {
		raw_frame(&raw, SETTINGS, 0, 0, "", 0);
		raw_frame(&raw, SETTINGS, ACK, 0, "", 0);
		raw_field(&block, ":method", 7, "GET", 3);
		memmove(block.p + 4, block.p, block.n);
		memcpy(block.p, "\0\0\0\2", 4);
		raw_frame(&raw, PUSH_PROMISE, END_HEADERS, 1, block.p, block.n + 4);
		raw_send(&raw);
	}
	raw_read(&seen);
	return bed_client.error[0];
}

static void test_push_to_a_client(void **state)
{
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	bed_open(&bed_client, sv[0], &bed_client_config);
	bed_fd = sv[1];
	bed_run(pushed);
	assert_string_equal(bed_client.error, "protocol");
	assert_true(LIST_FIRST(&bed_client.calls)->aborted);
}

/* An answer whose status is none, or has fields that it must not have, is no answer. */
static const struct {
	const char *status, *name, *value;
	bool good;
} answers[] = {
	{ "200", "x", "y", true }, { "599", "x", "y", true }, { "600", "x", "y", false }, { "003", "x", "y", false }, { "099", "x", "y", false },
	{ "20", "x", "y", false }, { "2000", "x", "y", false }, { "2x0", "x", "y", false }, { "", "x", "y", false }, { "101", "x", "y", false },
	{ "200", "connection", "close", false }, { "200", "x", "a\nb", false }, { "200", "X", "a", false }, { "200", ":path", "/", false },
	{ "200", "transfer-encoding", "chunked", false }, { "204", "content-length", "1", false },
};

static bool answered(void)
{
	if (turn++ == 0)
		bed_request("GET", "/", UINT64_MAX);
	if (turn == 5) {
		raw_frame(&raw, SETTINGS, 0, 0, "", 0);
		field(":status", answers[which].status);
		field(answers[which].name, answers[which].value);
		raw_frame(&raw, HEADERS, END_HEADERS | END_STREAM, 1, block.p, block.n);
		raw_send(&raw);
	}
	return turn > 5 && !LIST_FIRST(&bed_client.calls)->leg;
}

static void test_answers(void **state)
{
	for (which = 0; which < sizeof(answers) / sizeof(answers[0]); which++) {
		struct call *c;
		int sv[2];

		bed_teardown(state);
		setup(state);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
		bed_open(&bed_client, sv[0], &bed_client_config);
		bed_fd = sv[1];
		bed_run(answered);
		c = LIST_FIRST(&bed_client.calls);
		if (c->aborted == answers[which].good || (c->status != 0) != answers[which].good || c->interim)
			fail_msg("%s, %s: %s", answers[which].status, answers[which].name, answers[which].value);
	}
}

/* ---- slow ---- */

/* Case 18: a head that is begun and never ended; and a far end that says nothing at all. */
static void test_slow_heads(void **state)
{
	for (int silent = 0; silent < 2; silent++) {
		uint64_t start;

		bed_teardown(state);
		setup(state);
		bed_server_config.head_ms = 200;
		if (!silent) {
			raw_preface(&raw);
			request(1, END_STREAM);
			raw.n -= 5;
		}
		bed_raw();
		start = loop_now(bed_loop);
		bed_run(has_error);
		assert_string_equal(bed_server.error, "slow-head");
		assert_true(loop_now(bed_loop) - start >= 200);
		assert_int_equal(bed_server.requests, 0);
	}
}

static bool quiet(void)
{
	if (turn++ == 0)
		raw_send(&raw);
	raw_read(&seen);
	if (bed_server.requests == 1)
		usleep(1000);
	return turn > 500;
}

/* And one that is whole holds nothing against an idle connection. */
static void test_idle_is_not_slow(void **state)
{
	(void)state;
	bed_server_config.head_ms = 100;
	raw_preface(&raw);
	request(1, END_STREAM);
	bed_raw();
	bed_run(quiet);
	assert_int_equal(bed_server.error[0], 0);
	assert_int_equal(bed_server.requests, 1);
}

/* A block that is cut costs what came of it, no more; a refused one nothing (many connections may hold one). */
static bool cut_costs(void)
{
	uint64_t before, used;
	struct end a;

	raw_preface(&raw);
	request(1, END_STREAM);
	new_server(&a);
	before = bed_bytes();
	assert_int_equal(h2_input(a.h2, raw.p, raw.n - 10), 0);
	used = bed_bytes() - before;
	assert_true(used < 4096);
	drop_server(&a);
	return true;
}

static void test_cut_block_is_small(void **state)
{
	(void)state;
	bed_run(cut_costs);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, bed_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_cut_everywhere), TEST(test_octet_by_octet), TEST(test_malformed_requests), TEST(test_malformed_bodies),
		TEST(test_floods), TEST(test_cancels_on_a_link), TEST(test_hpack_bomb), TEST(test_sizes), TEST(test_link_sizes),
		TEST(test_connection_errors), TEST(test_no_http2), TEST(test_request_behind_goaway), TEST(test_push_to_a_client), TEST(test_answers), TEST(test_slow_heads),
		TEST(test_idle_is_not_slow), TEST(test_cut_block_is_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
