/* SPDX-License-Identifier: Apache-2.0 */
/* Escapes, hex and base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/esc.h"

static void
test_text(void **state)
{
	static const char in[] = "a \"b\\\r\n\x1b[0m\x7f\xc3\xa9";
	char out[64];

	(void)state;
	assert_string_equal(esc_text(out, sizeof(out), in, sizeof(in) - 1), "a \\\"b\\\\\\x0d\\x0a\\x1b[0m\\x7f\\xc3\\xa9");
	assert_string_equal(esc_text(out, sizeof(out), "a\0b", 3), "a\\x00b");
	assert_string_equal(esc_text(out, sizeof(out), "", 0), "");
}

/* However small the room: terminated, never beyond it, dots only where something is missing, no half of an escape. */
static void
test_cut(void **state)
{
	static const char in[] = "ab\ncd\"efgh";
	static const char whole[] = "ab\\x0acd\\\"efgh";
	char out[32];

	(void)state;
	for (size_t room = 1; room <= sizeof(whole) + 1; room++) {
		size_t n, kept;

		memset(out, 0x55, sizeof(out));
		assert_ptr_equal(esc_text(out, room, in, sizeof(in) - 1), out);
		n = strlen(out);
		assert_true(n < room);
		assert_int_equal(out[room], 0x55);
		if (room >= sizeof(whole)) {
			assert_string_equal(out, whole);
			continue;
		}
		assert_true(n < 3 || !strcmp(out + n - 3, "..."));
		kept = n < 3 ? 0 : n - 3;
		assert_memory_equal(out, whole, kept);
		assert_true(kept == 0 || (kept != 3 && kept != 4 && kept != 5 && kept != 9));
	}
	out[0] = 'x';
	esc_text(out, 0, in, 3);
	assert_int_equal(out[0], 'x');
}

static void
test_hex(void **state)
{
	uint8_t bytes[3];
	char text[6];

	(void)state;
	esc_hex(text, (const uint8_t *)"\x00\xaf\x10", 3);
	assert_memory_equal(text, "00af10", 6);
	assert_int_equal(esc_unhex(bytes, "00aF10", 6), 0);
	assert_memory_equal(bytes, "\x00\xaf\x10", 3);
	assert_int_equal(esc_unhex(bytes, "00a", 3), -1);
	assert_int_equal(esc_unhex(bytes, "0g", 2), -1);
	assert_int_equal(esc_unhex(bytes, "", 0), 0);
}

static void
test_base64(void **state)
{
	static const struct {
		const char *plain, *coded;
	} table[] = { /* RFC 4648 10 */
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" }, { "\xff\xff\xfe", "///+" },
	};
	static const char *const bad[] = { "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm8=Zm8=", "Zg==Zg==", "====", "=m9v", "Z=9v", "Zm=v",
		"Zm9 ", "Zm9\n", "Zm-_", "Zm9vZg=a" };
	uint8_t plain[16];
	char coded[16];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].plain), m = strlen(table[i].coded);

		assert_int_equal(esc_base64_size(n), m);
		assert_int_equal(esc_base64(coded, (const uint8_t *)table[i].plain, n), m);
		assert_memory_equal(coded, table[i].coded, m);
		assert_int_equal(esc_unbase64(plain, table[i].coded, m), n);
		assert_memory_equal(plain, table[i].plain, n);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (esc_unbase64(plain, bad[i], strlen(bad[i])) != -1)
			fail_msg("%s: accepted", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text), cmocka_unit_test(test_cut), cmocka_unit_test(test_hex), cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
