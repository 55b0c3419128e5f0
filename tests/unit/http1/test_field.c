/* SPDX-License-Identifier: Apache-2.0 */
/* Field lines, and the checks that fields from HTTP/2 go through before they are written as HTTP/1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/http1/field.h"

/* Every name that we act upon is found, and no name that differs in one octet is taken for it. */
static void
test_interning(void **state)
{
	static const struct {
		const char *name;
		enum h1_name id;
	} table[] = {
		{ "connection", H1_F_CONNECTION }, { "content-length", H1_F_CONTENT_LENGTH }, { "transfer-encoding", H1_F_TRANSFER_ENCODING },
		{ "host", H1_F_HOST }, { "expect", H1_F_EXPECT }, { "te", H1_F_TE }, { "trailer", H1_F_TRAILER }, { "upgrade", H1_F_UPGRADE },
		{ "keep-alive", H1_F_KEEP_ALIVE }, { "proxy-connection", H1_F_PROXY_CONNECTION }, { "proxy-authenticate", H1_F_PROXY_AUTHENTICATE },
		{ "proxy-authorization", H1_F_PROXY_AUTHORIZATION }, { "http2-settings", H1_F_HTTP2_SETTINGS }, { "via", H1_F_VIA },
		{ "traceparent", H1_F_TRACEPARENT }, { "tracestate", H1_F_TRACESTATE }, { "date", H1_F_DATE }, { "server", H1_F_SERVER },
		{ "retry-after", H1_F_RETRY_AFTER }, { "forwarded", H1_F_IDENTITY }, { "client-cert", H1_F_IDENTITY },
		{ "client-cert-chain", H1_F_IDENTITY }, { "x-real-ip", H1_F_IDENTITY },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].name);
		char name[64];

		assert_int_equal(h1_name_id(table[i].name, n), table[i].id);
		for (size_t k = 0; k < n; k++) {
			memcpy(name, table[i].name, n);
			name[k] = name[k] == 'z' ? 'y' : 'z';
			assert_int_equal(h1_name_id(name, n), H1_F_OTHER);
		}
		assert_int_equal(h1_name_id(table[i].name, n - 1), H1_F_OTHER);
	}
	assert_int_equal(h1_name_id("", 0), H1_F_OTHER);
	assert_int_equal(h1_name_id("content_length", 14), H1_F_OTHER);
}

/* case 30: CR, LF or NUL in a name or value that came by HTTP/2 never goes out */
static void
test_octets(void **state)
{
	static const char token_marks[] = "!#$%&'*+-.^_`|~";
	char value[20];

	(void)state;
	for (int c = 0; c < 256; c++) {
		char name = (char)c;
		bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		assert_int_equal(h1_name_valid(&name, 1), alnum || (c && strchr(token_marks, c)));
		/* At every place, in the eight-octet steps and behind them. */
		for (size_t at = 0; at < sizeof(value); at++) {
			memset(value, 'v', sizeof(value));
			value[at] = (char)c;
			assert_int_equal(h1_value_valid(value, sizeof(value)), (c >= 0x20 && c != 0x7f) || c == '\t');
		}
	}
	assert_false(h1_name_valid("", 0));
	assert_true(h1_value_valid("", 0));
	assert_true(h1_value_valid("\t\t\t\t\t\t\t\t\t\x80\xff ", 12));
	assert_false(h1_value_valid("\t\t\t\t\t\t\t\t\t\x80\xff\n", 12));
}

static void
test_lines(void **state)
{
	char text[] = "A: 1\r\nB:\t2 3\t\r\nC:\r\nD:   \r\n";
	struct h1_field f[4];

	(void)state;
	assert_int_equal(h1_field_parse(f, 4, text, text + sizeof(text) - 1), 4);
	assert_int_equal(f[1].value_len, 3);
	assert_memory_equal(f[1].value, "2 3", 3);
	assert_int_equal(f[2].value_len, 0);
	assert_int_equal(f[3].value_len, 0);
	assert_memory_equal(f[3].name, "d", 1);
	assert_int_equal(h1_field_parse(f, 3, text, text + sizeof(text) - 1), -431);
	assert_int_equal(h1_field_parse(f, 4, text, text), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interning), cmocka_unit_test(test_octets), cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
