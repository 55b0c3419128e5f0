/* SPDX-License-Identifier: Apache-2.0 */
/* Time stamps, against gmtime_r(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

static void
test_rfc3339(void **state)
{
	char got[CLOCK_RFC3339_LEN + 1], want[64];

	(void)state;
	clock_rfc3339(got, 0);
	assert_string_equal(got, "1970-01-01T00:00:00.000000Z");
	/* Every day from 1970 to 2199, at another time of the day each. */
	for (uint64_t day = 0; day < 84006; day++) {
		uint64_t us = day * 86400000000u + day * 1028571 % 86400000000u;
		time_t t = (time_t)(us / 1000000);
		struct tm tm;
		size_t n;

		gmtime_r(&t, &tm);
		n = strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S", &tm);
		snprintf(want + n, sizeof(want) - n, ".%06uZ", (unsigned)(us % 1000000));
		clock_rfc3339(got, us);
		assert_string_equal(got, want);
	}
	clock_rfc3339(got, UINT64_MAX); /* whatever comes: the length stays */
	assert_int_equal(strlen(got), CLOCK_RFC3339_LEN);
}

static void
test_clocks(void **state)
{
	uint64_t a = clock_mono_us(), b = clock_mono_us();

	(void)state;
	assert_true(b >= a);
	assert_true(clock_mono_ms() >= a / 1000);
	assert_true(clock_wall_us() > 1700000000000000u);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rfc3339), cmocka_unit_test(test_clocks) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
