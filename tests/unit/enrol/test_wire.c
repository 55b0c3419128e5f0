/* SPDX-License-Identifier: Apache-2.0 */
/* EST's requests and answers: what one end writes the other reads; and what it must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/enrol/wire.h"

#define HOST "enrol.hud.example"

static const char *reason, *why;

static unsigned
head(struct wire_request *r, const char *text)
{
	static struct h1_head h;
	static char copy[8192];
	size_t n = strlen(text);

	memcpy(copy, text, n + 1);
	h.scan = 0;
	assert_int_equal(h1_parse_request(&h, copy, n), n);
	reason = why = NULL;
	return wire_read_head(r, &h, HOST, &reason, &why);
}

static void
requests(void **state)
{
	static const struct {
		const char *text;
		unsigned status;
		enum wire_op op;
	} table[] = {
#define H "Host: " HOST "\r\n"
#define P "/.well-known/est/"
#define T "Content-Type: application/pkcs10\r\n"
		{ "GET " P "cacerts HTTP/1.1\r\n" H "\r\n", 0, WIRE_CACERTS },
		{ "GET " P "csrattrs HTTP/1.1\r\nHost: " HOST ":443\r\n\r\n", 0, WIRE_CSRATTRS },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H T "Content-Length: 4\r\n\r\n", 0, WIRE_ENROLL },
		{ "POST " P "simplereenroll HTTP/1.1\r\n" H "Content-Type: Application/PKCS10 ; x=y\r\nContent-Transfer-Encoding: base64\r\n"
		  "Transfer-Encoding: chunked\r\n\r\n", 0, WIRE_REENROLL },
		{ "GET " P "cacerts HTTP/1.1\r\nHost: other.example\r\n\r\n", 421, 0 },
		{ "GET " P "cacerts HTTP/1.1\r\nHost: " HOST "x\r\n\r\n", 421, 0 },
		{ "GET / HTTP/1.1\r\n" H "\r\n", 404, 0 },
		{ "GET " P "cacert HTTP/1.1\r\n" H "\r\n", 404, 0 },
		{ "GET " P "cacerts/ HTTP/1.1\r\n" H "\r\n", 404, 0 },
		{ "GET " P "cacerts?a HTTP/1.1\r\n" H "\r\n", 404, 0 },
		{ "GET " P "CACERTS HTTP/1.1\r\n" H "\r\n", 404, 0 },
		{ "GET http://" HOST P "cacerts HTTP/1.1\r\n" H "\r\n", 0, WIRE_CACERTS },
		{ "POST " P "cacerts HTTP/1.1\r\n" H "\r\n", 405, 0 },
		{ "get " P "cacerts HTTP/1.1\r\n" H "\r\n", 405, 0 },
		{ "HEAD " P "cacerts HTTP/1.1\r\n" H "\r\n", 405, 0 },
		{ "GET " P "simpleenroll HTTP/1.1\r\n" H "\r\n", 405, 0 },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\n", 415, 0 },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H "Content-Type: application/pkcs1\r\n\r\n", 415, 0 },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H "Content-Type: application/pkcs10x\r\n\r\n", 415, 0 },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H T T "\r\n", 415, 0 },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H T "Content-Length: 65536\r\n\r\n", 0, WIRE_ENROLL },
		{ "POST " P "simpleenroll HTTP/1.1\r\n" H T "Content-Length: 65537\r\n\r\n", 413, 0 },
		{ "GET " P "cacerts HTTP/1.1\r\n" H "Authorization: Basic\r\n\r\n", 400, 0 },
		{ "GET " P "cacerts HTTP/1.1\r\n" H "Authorization: Digest YTpi\r\n\r\n", 400, 0 },
		{ "GET " P "cacerts HTTP/1.1\r\n" H "Authorization: Basic YWI=\r\n\r\n", 400, 0 }, /* no colon */
		{ "GET " P "cacerts HTTP/1.1\r\n" H "Authorization: Basic YTpi\r\nAuthorization: Basic YTpi\r\n\r\n", 400, 0 },
		{ "GET " P "cacerts HTTP/1.1\r\n" H "Authorization: basic  YTpi\r\n\r\n", 0, WIRE_CACERTS },
	};
	struct wire_request r;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		unsigned status = head(&r, table[i].text);

		if (status != table[i].status)
			fail_msg("%s: %u", table[i].text, status);
		if (status) {
			assert_non_null(reason);
			assert_non_null(why);
		} else {
			assert_int_equal(r.op, table[i].op);
		}
	}
	assert_true(r.credentials);
	assert_int_equal(r.user_len, 1);
	assert_memory_equal(r.user, "a", 1);
	assert_int_equal(r.password_len, 1);
	assert_memory_equal(r.password, "b", 1);
}

/* Names and passwords of any length up to the bound, and one more. */
static void
credentials(void **state)
{
	struct wire_request r;
	char user[WIRE_CREDENTIAL_MAX + 2], text[4096];
	struct buf out;

	(void)state;
	for (size_t n = 0; n <= WIRE_CREDENTIAL_MAX + 1; n++) {
		size_t len;

		memset(user, 'u', n);
		user[n] = '\0';
		buf_init(&out, 0);
		wire_write_request(&out, &(struct wire_ask){ .op = WIRE_CACERTS, .host = HOST, .user = user, .password = user });
		len = out.len;
		assert_true(len < sizeof(text));
		memcpy(text, out.data, len);
		text[len] = '\0';
		buf_fini(&out);
		assert_int_equal(head(&r, text), n > WIRE_CREDENTIAL_MAX ? 400 : 0);
		if (n <= WIRE_CREDENTIAL_MAX) {
			assert_int_equal(r.user_len, n);
			assert_int_equal(r.password_len, n);
			assert_memory_equal(r.password, user, n);
		}
	}
}

static void
base64(void **state)
{
	static const struct {
		const char *text;
		long len;
	} table[] = {
		{ "", 0 }, { "AAAA", 3 }, { "AA==", 1 }, { "A A\r\nA\tA\n", 3 }, { "AAA", -1 }, { "AA=A", -1 }, { "AAAA=", -1 }, { "AA\1A", -1 }, { "AA-_", -1 },
		{ "AB==", -1 }, { "\n\n", 0 },
	};
	uint8_t out[16];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		assert_int_equal(wire_unbase64(out, table[i].text, strlen(table[i].text)), table[i].len);
}

/* What the service writes, the client reads: whole and octet by octet. */
static void
there_and_back(void **state)
{
	uint8_t der[1000], *got;
	struct wire_reader r;
	struct buf out;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(der); i++)
		der[i] = (uint8_t)(i * 7);
	for (int octets = 0; octets < 2; octets++) {
		int rc = 0;

		buf_init(&out, 0);
		wire_write_answer(&out, &(struct wire_answer){ .status = 200, .content = WIRE_ENROLLED, .body = der, .len = sizeof(der) });
		wire_reader_init(&r);
		for (size_t i = 0; i < out.len && rc == 0; i += octets ? 1 : out.len)
			rc = wire_read_answer(&r, out.data + i, octets ? 1 : out.len, false, &why);
		assert_int_equal(rc, 1);
		assert_int_equal(r.status, 200);
		got = wire_answer_der(&r, &len, &why);
		assert_non_null(got);
		assert_int_equal(len, sizeof(der));
		assert_memory_equal(got, der, len);
		mem_free(got);
		wire_reader_fini(&r);
		buf_fini(&out);
	}
	buf_init(&out, 0);
	wire_write_answer(&out, &(struct wire_answer){ .status = 503, .content = WIRE_TEXT, .body = "not now\nat all", .len = 14, .retry_after_s = 5, .close = true });
	wire_reader_init(&r);
	assert_int_equal(wire_read_answer(&r, "HTTP/1.1 100 Continue\r\n\r\n", 25, false, &why), 0);
	assert_int_equal(wire_read_answer(&r, out.data, out.len, false, &why), 1);
	{
		char text[8];

		wire_answer_text(&r, text, sizeof(text));
		assert_string_equal(text, "not now");
		wire_answer_text(&r, text, 4);
		assert_string_equal(text, "not");
	}
	assert_int_equal(r.retry_after_s, 5);
	assert_null(wire_answer_der(&r, &len, &why));
	wire_reader_fini(&r);
	buf_fini(&out);
}

static void
answers(void **state)
{
	static const struct {
		const char *text;
		bool eof;
		int rc;
	} table[] = {
		{ "", true, -1 }, { "", false, 0 }, { "HTTP/1.1 200 OK\r\n", true, -1 }, { "HTTP/1.1 200 OK\r\n", false, 0 }, { "SSH-2.0\r\n\r\n", false, -1 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", false, 1 }, { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false, 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true, -1 }, { "HTTP/1.1 200 OK\r\n\r\nab", false, 0 }, { "HTTP/1.1 200 OK\r\n\r\nab", true, 1 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", false, 1 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", false, -1 }, { "HTTP/1.1 204 No Content\r\n\r\n", false, 1 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 131073\r\n\r\n", false, 0 },
	};
	struct wire_reader r;
	char big[4096];
	int rc = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		wire_reader_init(&r);
		rc = wire_read_answer(&r, table[i].text, strlen(table[i].text), table[i].eof, &why);
		if (rc != table[i].rc)
			fail_msg("%s: %d", table[i].text, rc);
		wire_reader_fini(&r);
	}
	/* Content and heads without end are ended. */
	memset(big, 'a', sizeof(big));
	wire_reader_init(&r);
	rc = wire_read_answer(&r, "HTTP/1.1 200 OK\r\n\r\n", 19, false, &why);
	for (int i = 0; i < 100 && rc == 0; i++)
		rc = wire_read_answer(&r, big, sizeof(big), false, &why);
	assert_int_equal(rc, -1);
	wire_reader_fini(&r);
	wire_reader_init(&r);
	rc = wire_read_answer(&r, "HTTP/1.1 200 OK\r\nx: ", 20, false, &why);
	for (int i = 0; i < 100 && rc == 0; i++)
		rc = wire_read_answer(&r, big, sizeof(big), false, &why);
	assert_int_equal(rc, -1);
	wire_reader_fini(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests), cmocka_unit_test(credentials), cmocka_unit_test(base64), cmocka_unit_test(there_and_back), cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
