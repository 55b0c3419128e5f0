/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pki/lifetime.h"

#define DAY INT64_C(86400)

static const struct {
	int64_t from, until, now;
	enum lifetime is;
} table[] = {
	/* 90 days: the last 30 are its last third */
	{ 0, 90 * DAY, 0, LIFETIME_GOOD },
	{ 0, 90 * DAY, 60 * DAY, LIFETIME_GOOD },
	{ 0, 90 * DAY, 60 * DAY + 1, LIFETIME_ENDING },
	{ 0, 90 * DAY, 90 * DAY, LIFETIME_ENDING },
	{ 0, 90 * DAY, 90 * DAY + 1, LIFETIME_OVER },
	/* ten years: 30 days */
	{ 0, 3650 * DAY, 3620 * DAY, LIFETIME_GOOD },
	{ 0, 3650 * DAY, 3620 * DAY + 1, LIFETIME_ENDING },
	/* short-lived ones: the last third */
	{ 0, DAY, DAY / 2, LIFETIME_GOOD },
	{ 0, DAY, DAY * 2 / 3, LIFETIME_GOOD },
	{ 0, DAY, DAY * 2 / 3 + 1, LIFETIME_ENDING },
	{ 0, 60, 40, LIFETIME_GOOD },
	{ 0, 60, 41, LIFETIME_ENDING },
	/* odd ones */
	{ 100, 200, 99, LIFETIME_EARLY },
	{ 200, 100, 150, LIFETIME_EARLY },
	{ 200, 100, 250, LIFETIME_OVER },
	{ 100, 100, 100, LIFETIME_GOOD },
	{ 100, 0, 100, LIFETIME_GOOD },
	{ 100, 0, 99, LIFETIME_EARLY },
	{ -5 * DAY, -DAY, 0, LIFETIME_OVER },
	{ 0, INT64_C(253402300799), DAY, LIFETIME_GOOD }, /* 9999-12-31: RFC 5280 4.1.2.5, no end that anybody knows */
};

static void
test_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (lifetime_at(table[i].from, table[i].until, table[i].now) != table[i].is)
			fail_msg("row %zu: %d", i, lifetime_at(table[i].from, table[i].until, table[i].now));
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rule) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
