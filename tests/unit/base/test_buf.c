/* SPDX-License-Identifier: Apache-2.0 */
/* Growable buffers and the allocator under them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"

static void
test_append(void **state)
{
	struct buf b;
	char *s;

	(void)state;
	buf_init(&b, 0);
	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(buf_puts(&b, "hello"), 0);
	assert_int_equal(buf_printf(&b, " %s %d", "world", 42), 0);
	assert_string_equal(buf_cstr(&b), "hello world 42");
	assert_int_equal(b.len, 14);
	buf_consume(&b, 6);
	assert_string_equal(buf_cstr(&b), "world 42");
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_append(&b, "0123456789", 10), 0);
	assert_int_equal(b.len, 10008);
	buf_consume(&b, 20000);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	buf_puts(&b, "mine");
	s = buf_steal(&b);
	assert_string_equal(s, "mine");
	assert_null(b.data);
	mem_free(s);
	buf_fini(&b);
	buf_fini(&b);
}

static void
test_bound(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 8);
	assert_int_equal(buf_puts(&b, "1234567"), 0);
	assert_int_equal(buf_puts(&b, "89"), -1);
	assert_true(b.overflow);
	assert_string_equal(buf_cstr(&b), "1234567"); /* as it was */
	assert_int_equal(buf_printf(&b, "%d", 89), -1);
	assert_int_equal(buf_puts(&b, "8"), 0);
	assert_null(buf_reserve(&b, 1));
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_reset(&b);
	assert_false(b.overflow);
	assert_non_null(buf_reserve(&b, 8));
	buf_fini(&b);
}

static void
test_mem(void **state)
{
	size_t cap = 0;
	int *v = NULL;
	char *s;

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		mem_grow(&v, &cap, i + 1, sizeof(*v));
		assert_true(cap > i);
		v[i] = (int)i;
	}
	assert_int_equal(v[999], 999);
	mem_free(v);
	assert_null(mem_strdup(NULL));
	s = mem_strndup("abcdef", 3);
	assert_string_equal(s, "abc");
	mem_wipe(s, 3);
	assert_memory_equal(s, "\0\0\0", 3);
	mem_free(s);
	s = mem_printf("%s-%d", "x", 5);
	assert_string_equal(s, "x-5");
	mem_free(s);
	mem_free(mem_alloc(0));
	mem_free(mem_zalloc(0));
	mem_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append), cmocka_unit_test(test_bound), cmocka_unit_test(test_mem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
