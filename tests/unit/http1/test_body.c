/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies: each text is fed at once, cut at every place, and octet by octet; the content and the end must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/http1/body.h"

struct outcome {
	enum h1_event last; /* END, ERROR or MORE */
	size_t used;        /* at END */
	size_t len;
	char content[70000];
	unsigned ntrailers;
	char trailers[40000]; /* "name=value;" of each */
};

/* Feeds pieces of the given sizes: first "first" octets, then "step" at a time. */
static void
run(struct outcome *o, enum h1_framing framing, uint64_t length, const char *text, size_t n, size_t first, size_t step)
{
	struct h1_field f[H1_MAX_FIELDS];
	struct h1_body b;
	size_t at = 0, piece = first;

	memset(o, 0, sizeof(*o));
	h1_body_init(&b, framing, length);
	for (;;) {
		size_t take = piece < n - at ? piece : n - at, off = 0;
		char *in = malloc(take ? take : 1); /* an exact copy, for ASan */

		memcpy(in, text + at, take);
		do {
			const char *data;
			size_t data_len, used = h1_body_feed(&b, in + off, take - off, &o->last, &data, &data_len);

			assert_true(used <= take - off);
			if (o->last == H1_EV_DATA) {
				assert_true(data >= in + off && data + data_len == in + off + used && data_len > 0);
				memcpy(o->content + o->len, data, data_len);
				o->len += data_len;
			} else if (o->last == H1_EV_MORE) {
				assert_int_equal(used, take - off);
			} else if (o->last == H1_EV_TRAILERS) {
				o->ntrailers = h1_body_trailers(&b, f, H1_MAX_FIELDS);
				assert_true(o->ntrailers > 0);
				for (unsigned i = 0; i < o->ntrailers; i++)
					sprintf(o->trailers + strlen(o->trailers), "%.*s=%.*s%s;", (int)f[i].name_len, f[i].name,
						(int)f[i].value_len, f[i].value, f[i].id == H1_F_IDENTITY ? "!" : "");
			}
			off += used;
		} while (o->last == H1_EV_DATA || o->last == H1_EV_TRAILERS);
		free(in);
		at += off;
		if (o->last != H1_EV_MORE || at == n)
			break;
		piece = step;
	}
	o->used = at;
	if (o->last == H1_EV_END)
		assert_true(h1_body_eof_ok(&b));
	h1_body_fini(&b);
}

static const struct outcome *
run_all(enum h1_framing framing, uint64_t length, const char *text, size_t n)
{
	static struct outcome whole, cut;

	run(&whole, framing, length, text, n, n, n);
	for (size_t first = 0; first <= n && n < 2000; first++) {
		for (int octets = 0; octets < 2; octets++) {
			run(&cut, framing, length, text, n, first, octets ? 1 : n);
			assert_int_equal(cut.last, whole.last);
			if (whole.last == H1_EV_ERROR)
				continue;
			assert_int_equal(cut.used, whole.used);
			assert_int_equal(cut.len, whole.len);
			assert_memory_equal(cut.content, whole.content, whole.len);
			assert_int_equal(cut.ntrailers, whole.ntrailers);
			assert_string_equal(cut.trailers, whole.trailers);
		}
	}
	return &whole;
}

static void
test_good_chunks(void **state)
{
	static const struct {
		const char *text, *content, *trailers;
		size_t after; /* octets that belong to the next message */
	} good[] = {
		{ "0\r\n\r\n", "", "", 0 },
		{ "0\r\n\r\nGET /", "", "", 5 },
		{ "5\r\nhello\r\n0\r\n\r\n", "hello", "", 0 },
		{ "5\r\nhello\r\n6\r\n world\r\n000\r\n\r\nX", "hello world", "", 1 },
		{ "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", "", 0 },
		{ "0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", "", 0 },
		{ "2;a=b\r\nhi\r\n0;c=\"d;e\"\r\n\r\n", "hi", "", 0 },
		{ "2 \t ; a = \"\xc3\xa9\t\"\r\nhi\r\n0\r\n\r\n", "hi", "", 0 },
		{ "2;\r\nhi\r\n0;\r\n\r\n", "hi", "", 0 },
		{ "2\r\n\r\n\r\n0\r\n\r\n", "\r\n", "", 0 },
		{ "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", "", 0 },
		{ "0\r\nGrpc-Status: 0\r\n\r\n", "", "grpc-status=0;", 0 },
		{ "2\r\nhi\r\n0\r\nA: 1\r\nB:\t2 \r\nC:\r\n\r\nZZ", "hi", "a=1;b=2;c=;", 2 },
		/* case 38: marked, for the caller to strip */
		{ "0\r\nX-Forwarded-For: 1\r\nSallyport_Principal: x\r\nOk: y\r\n\r\n", "", "x-forwarded-for=1!;sallyport_principal=x!;ok=y;", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct outcome *o = run_all(H1_CHUNKED, 0, good[i].text, strlen(good[i].text));

		if (o->last != H1_EV_END)
			fail_msg("event %d: %s", o->last, good[i].text);
		assert_int_equal(o->used, strlen(good[i].text) - good[i].after);
		assert_int_equal(o->len, strlen(good[i].content));
		assert_memory_equal(o->content, good[i].content, o->len);
		assert_string_equal(o->trailers, good[i].trailers);
	}
}

static void
test_bad_chunks(void **state)
{
	static const char *const bad[] = {
		/* case 29: sizes */
		"g\r\n", "\r\n", "\n", " 5\r\nhello", "+5\r\n", "-5\r\n", "0x5\r\n", "5 \r\nhello", "5\t\r\nhello", "5 x\r\n", "5x\r\n", ";a\r\n",
		"00000000000000005\r\n", "8000000000000000\r\n", "ffffffffffffffff\r\n", "10000000000000000\r\n", "fffffffffffffffff1\r\n",
		"5_0\r\n", "5.\r\n", "5,\r\n", "\"5\"\r\n", "5\x01\r\n",
		/* case 29: CR, LF and others in a chunk line */
		"5\nhello\r\n", "5\rhello", "5\r\r\nhello", "5;a\nhello", "5;a\rb\r\n", "5;a=\"\r\"\r\n", "5;\x01\r\n", "5;\x7f\r\n", "5 \n", "5 \r", "5 ;\n",
		/* the end of the data */
		"5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n", "5\r\nhello\r0\r\n", "5\r\nhelloX\r\n", "5\r\nhello\rX",
		/* the end of the body */
		"0\r\n\n", "0\r\n\rX", "0\n\n",
		/* trailers: field syntax (RFC 9112 5), as in a head */
		"0\r\nA: b\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA : b\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\nA\r\n\r\n", "0\r\n: b\r\n\r\n",
		"0\r\nA: b\rc\r\n\r\n", "0\r\nA: \x02\r\n\r\n", "0\r\nA: b\r\n\n", "0\r\nA: b\r\n\rX", "0\r\n\nA: b\r\n\r\n",
		/* trailers that frame or route (RFC 9110 6.5.1) */
		"0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nHost: a\r\n\r\n", "0\r\nA: b\r\nConnection: a\r\n\r\n",
		"0\r\nTE: x\r\n\r\n", "0\r\nTrailer: x\r\n\r\n", "0\r\nUpgrade: x\r\n\r\n", "0\r\nExpect: 100-continue\r\n\r\n",
		"0\r\nKeep-Alive: x\r\n\r\n", "0\r\nProxy-Authorization: x\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct outcome *o = run_all(H1_CHUNKED, 0, bad[i], strlen(bad[i]));

		if (o->last != H1_EV_ERROR)
			fail_msg("event %d: %s", o->last, bad[i]);
	}
	assert_int_equal(run_all(H1_CHUNKED, 0, "0\r\nX", 4)->last, H1_EV_MORE);
	/* NUL in each part */
	assert_int_equal(run_all(H1_CHUNKED, 0, "\0\r\n", 3)->last, H1_EV_ERROR);
	assert_int_equal(run_all(H1_CHUNKED, 0, "5\0\r\n", 4)->last, H1_EV_ERROR);
	assert_int_equal(run_all(H1_CHUNKED, 0, "5;\0\r\n", 5)->last, H1_EV_ERROR);
	assert_int_equal(run_all(H1_CHUNKED, 0, "0\r\nA: \0\r\n\r\n", 11)->last, H1_EV_ERROR);
}

/* Any octet of a good body changed: the same outcome whatever the cuts (run_all asserts that). */
static void
test_each_octet(void **state)
{
	static const char good[] = "3;a=b\r\nabc\r\n0\r\nT: u\r\n\r\n";
	static const char octets[] = "\0\t\n\r 05;:aZ\x7f\x80\xff";
	char text[sizeof(good)];

	(void)state;
	for (size_t i = 0; i < sizeof(good) - 1; i++)
		for (size_t c = 0; c < sizeof(octets) - 1; c++) {
			memcpy(text, good, sizeof(good));
			text[i] = octets[c];
			run_all(H1_CHUNKED, 0, text, sizeof(good) - 1);
		}
}

static void
test_bounds(void **state)
{
	static char text[200000];
	size_t n;

	(void)state;
	/* One chunk line: 4096 octets, and one more. */
	for (size_t size = 4096; size <= 4097; size++) {
		memset(text, 'x', size);
		memcpy(text, "1;", 2);
		memcpy(text + size, "\r\nd\r\n0\r\n\r\n", 10);
		assert_int_equal(run_all(H1_CHUNKED, 0, text, size + 10)->last, size > 4096 ? H1_EV_ERROR : H1_EV_END);
	}
	/* Extensions of all lines: a few octets each do not add up for ever. */
	n = 0;
	for (int i = 0; i < 2000; i++)
		n += (size_t)sprintf(text + n, "1;abcd\r\nx\r\n");
	n += (size_t)sprintf(text + n, "0\r\n\r\n");
	assert_int_equal(run_all(H1_CHUNKED, 0, text, n)->last, H1_EV_ERROR);
	n = 0;
	for (int i = 0; i < 8192 / 5; i++)
		n += (size_t)sprintf(text + n, "1;abcd\r\nx\r\n");
	n += (size_t)sprintf(text + n, "0\r\n\r\n");
	assert_int_equal(run_all(H1_CHUNKED, 0, text, n)->last, H1_EV_END);
	/* Trailers: octets, as in a head with its last CRLF. */
	for (size_t size = H1_MAX_HEAD; size <= H1_MAX_HEAD + 1; size++) {
		memcpy(text, "0\r\nA: ", 6);
		memset(text + 6, 'x', size);
		memcpy(text + 3 + size - 4, "\r\n\r\n", 4);
		assert_int_equal(run_all(H1_CHUNKED, 0, text, 3 + size)->last, size > H1_MAX_HEAD ? H1_EV_ERROR : H1_EV_END);
	}
	/* A trailer line that never ends is not kept beyond that either. */
	memset(text, 'x', sizeof(text));
	memcpy(text, "0\r\n", 3);
	assert_int_equal(run_all(H1_CHUNKED, 0, text, sizeof(text))->last, H1_EV_ERROR);
	/* Trailers: fields. */
	for (int count = H1_MAX_FIELDS; count <= H1_MAX_FIELDS + 1; count++) {
		n = (size_t)sprintf(text, "0\r\n");
		for (int i = 0; i < count; i++)
			n += (size_t)sprintf(text + n, "T%d: x\r\n", i);
		n += (size_t)sprintf(text + n, "\r\n");
		assert_int_equal(run_all(H1_CHUNKED, 0, text, n)->last, count > H1_MAX_FIELDS ? H1_EV_ERROR : H1_EV_END);
	}
}

static void
test_lengths(void **state)
{
	const struct outcome *o;

	(void)state;
	o = run_all(H1_LENGTH, 5, "helloGET /", 10);
	assert_int_equal(o->last, H1_EV_END);
	assert_int_equal(o->used, 5);
	assert_int_equal(o->len, 5);
	o = run_all(H1_LENGTH, 0, "GET /", 5);
	assert_int_equal(o->last, H1_EV_END);
	assert_int_equal(o->used, 0);
	o = run_all(H1_LENGTH, 6, "hello", 5);
	assert_int_equal(o->last, H1_EV_MORE);
	assert_int_equal(o->len, 5);
	o = run_all(H1_NONE, 0, "GET /", 5);
	assert_int_equal(o->last, H1_EV_END);
	assert_int_equal(o->used, 0);
	o = run_all(H1_UNTIL_CLOSE, 0, "0\r\n\r\n", 5);
	assert_int_equal(o->last, H1_EV_MORE);
	assert_int_equal(o->len, 5);
}

static void
test_eof(void **state)
{
	struct h1_body b;
	enum h1_event ev;
	const char *data;
	size_t n;

	(void)state;
	h1_body_init(&b, H1_UNTIL_CLOSE, 0);
	assert_true(h1_body_eof_ok(&b));
	h1_body_init(&b, H1_LENGTH, 3);
	assert_false(h1_body_eof_ok(&b));
	assert_int_equal(h1_body_feed(&b, "abc", 3, &ev, &data, &n), 3);
	assert_int_equal(ev, H1_EV_DATA);
	assert_true(h1_body_eof_ok(&b));
	assert_int_equal(h1_body_feed(&b, "abc", 0, &ev, &data, &n), 0);
	assert_int_equal(ev, H1_EV_END);
	h1_body_init(&b, H1_CHUNKED, 0);
	assert_false(h1_body_eof_ok(&b));
	assert_int_equal(h1_body_feed(&b, "3\r\nabc\r\n0\r\n\r", 14, &ev, &data, &n), 6);
	assert_int_equal(h1_body_feed(&b, "\r\n0\r\n\r", 6, &ev, &data, &n), 6);
	assert_int_equal(ev, H1_EV_MORE);
	assert_false(h1_body_eof_ok(&b)); /* one octet is missing */
	assert_int_equal(h1_body_feed(&b, "\nX", 2, &ev, &data, &n), 1);
	assert_int_equal(ev, H1_EV_END);
	assert_int_equal(h1_body_feed(&b, "X", 1, &ev, &data, &n), 0);
	assert_int_equal(ev, H1_EV_END);
	h1_body_fini(&b);
	/* An error stays one. */
	h1_body_init(&b, H1_CHUNKED, 0);
	h1_body_feed(&b, "x", 1, &ev, &data, &n);
	assert_int_equal(ev, H1_EV_ERROR);
	h1_body_feed(&b, "0\r\n\r\n", 5, &ev, &data, &n);
	assert_int_equal(ev, H1_EV_ERROR);
	assert_false(h1_body_eof_ok(&b));
	h1_body_fini(&b);
}

static void
test_chunk_head(void **state)
{
	static const struct {
		uint64_t size;
		const char *text;
	} table[] = {
		{ 0, "0\r\n" }, { 1, "1\r\n" }, { 15, "f\r\n" }, { 16, "10\r\n" }, { 255, "ff\r\n" }, { 256, "100\r\n" }, { 0x12345, "12345\r\n" },
		{ INT64_MAX, "7fffffffffffffff\r\n" }, { UINT64_MAX, "ffffffffffffffff\r\n" },
	};
	char out[H1_CHUNK_HEAD_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(h1_chunk_head(out, table[i].size), strlen(table[i].text));
		assert_memory_equal(out, table[i].text, strlen(table[i].text));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_chunks), cmocka_unit_test(test_bad_chunks), cmocka_unit_test(test_each_octet),
		cmocka_unit_test(test_bounds), cmocka_unit_test(test_lengths), cmocka_unit_test(test_eof), cmocka_unit_test(test_chunk_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
