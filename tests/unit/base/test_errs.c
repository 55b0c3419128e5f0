/* SPDX-License-Identifier: Apache-2.0 */
/* Faults in files, and suggestions for misspelt words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/errs.h"

static void
test_collect(void **state)
{
	struct errs e;

	(void)state;
	errs_init(&e);
	errs_add(&e, "policy.d/20-tax.conf", 14, "unknown service \"%s\"", "tax-svx");
	errs_add(&e, "sallyport.conf", 0, "cannot be read");
	errs_warn(&e, NULL, 0, "odd");
	assert_int_equal(e.n, 3);
	assert_int_equal(e.errors, 2);
	assert_string_equal(e.items[0].text, "policy.d/20-tax.conf:14: unknown service \"tax-svx\"");
	assert_string_equal(e.items[1].text, "sallyport.conf: cannot be read");
	assert_string_equal(e.items[2].text, "odd");
	assert_true(e.items[2].warning && !e.items[1].warning);
	/* More than we keep: the rest is counted, and a fault after a thousand warnings still is one. */
	for (int i = 0; i < ERRS_MAX; i++)
		errs_warn(&e, "x", 1, "w%d", i);
	errs_add(&e, "x", 2, "fault");
	assert_int_equal(e.n, ERRS_MAX);
	assert_int_equal(e.dropped, 4);
	assert_int_equal(e.errors, 3);
	errs_fini(&e);
	assert_int_equal(e.n, 0);
	errs_fini(&e);
}

static void
test_nearest(void **state)
{
	static const char *const words[] = { "listeners", "services", "tax-svc", "peers", "identity" };
	static const struct {
		const char *word, *want;
	} table[] = {
		{ "tax-svx", "tax-svc" }, { "lsiteners", "listeners" }, { "service", "services" }, { "peer", "peers" }, { "pers", "peers" },
		{ "idnetity", "identity" }, { "zzz", NULL }, { "", NULL }, { "p", NULL }, { "completely-different", NULL },
	};
	char long_word[200];

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *got = errs_nearest(table[i].word, words, 5);

		if (table[i].want)
			assert_string_equal(got, table[i].want);
		else
			assert_null(got);
	}
	memset(long_word, 'x', sizeof(long_word));
	long_word[sizeof(long_word) - 1] = '\0';
	assert_null(errs_nearest(long_word, words, 5));
	assert_null(errs_nearest("peers", words, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_collect), cmocka_unit_test(test_nearest) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
