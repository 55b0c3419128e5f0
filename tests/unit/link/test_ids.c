/* SPDX-License-Identifier: Apache-2.0 */
/* Exchange ids of a peer: none comes in twice, whatever is forgotten (case 93); and an honest peer's always come in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/link/ids.h"

#define START 1700000000000u

static struct uuid make(uint64_t wall_ms)
{
	struct uuid u;

	uuid_make(&u, wall_ms * 1000);
	return u;
}

/* Made by hand, for times that uuid_make() would not give. */
static struct uuid forge(uint64_t ms, unsigned n)
{
	struct uuid u = { .b = { [6] = 0x70, [8] = 0x80 } };

	for (int i = 5; i >= 0; i--, ms >>= 8)
		u.b[i] = (uint8_t)ms;
	u.b[14] = (uint8_t)(n >> 8);
	u.b[15] = (uint8_t)n;
	return u;
}

static void test_once(void **state)
{
	struct ids *s = ids_new(100);
	struct uuid u = make(START);

	(void)state;
	assert_true(ids_fresh(s, &u, 1, 1000));
	assert_false(ids_fresh(s, &u, 1, 1000));
	assert_true(ids_fresh(s, &u, 2, 1000)); /* another attempt */
	assert_false(ids_fresh(s, &u, 2, 1000));
	assert_false(ids_fresh(s, &u, 1, 40000)); /* a generation later */
	assert_false(ids_fresh(s, &u, 1, 80000)); /* forgotten, and too old */
	assert_false(ids_fresh(s, &u, 1, 800000));
	ids_free(s);
	ids_free(NULL);
}

static uint32_t seed = 1;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/*
 * An honest sender's ids, each up to ten seconds late, at changing rates, beyond what is remembered: all are taken. A hostile one repeats
 * any of them at any later time: none is.
 */
static void test_random(void **state)
{
	enum { N = 60000 };
	struct uuid *all = mem_array(N, sizeof(*all));
	static const uint32_t sizes[] = { 10, 20, 1000, 100000 };

	(void)state;
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct ids *s = ids_new(sizes[k]);
		uint64_t now = 5000;

		for (unsigned i = 0; i < N; i++) {
			uint64_t late = sizes[k] < 1000 ? 0 : rnd(10000);

			now += rnd(10) ? rnd(3) : rnd(k == 3 ? 20 : 200);
			all[i] = forge(START + now - late, i);
			/* What is remembered is bounded: of those that are late beyond that, some are refused, and that is all right. */
			if (!ids_fresh(s, &all[i], 1, now) && (k == 3 || late == 0))
				fail_msg("%u: refused at first, %u of %u", sizes[k], (unsigned)late, i);
			for (int r = 0; r < 2; r++) {
				unsigned o = rnd(i + 1);

				if (o != i && rnd(4))
					o = i - rnd(i < 50 ? i + 1 : 50);
				if (ids_fresh(s, &all[o], 1, now))
					fail_msg("%u: %u of %u came in twice", sizes[k], o, i);
			}
		}
		ids_free(s);
	}
	mem_free(all);
}

/* Time moves on by rotation alone, too: many ids in one millisecond of the same clock. */
static void test_full(void **state)
{
	struct ids *s = ids_new(64);

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		struct uuid u = forge(START + i / 30, i), first = forge(START, 0);

		assert_true(ids_fresh(s, &u, 1, 1000));
		assert_false(ids_fresh(s, &u, 1, 1000));
		assert_false(ids_fresh(s, &first, 1, 1000));
	}
	ids_free(s);
}

/* The sender's clock is set back by an hour while it runs: its ids are refused until it says so, and taken then; the old ones never. */
static void test_clock_set_back(void **state)
{
	struct ids *s = ids_new(1000);
	uint64_t now = 100000;
	struct uuid old[100], u;
	unsigned n = 0;

	(void)state;
	assert_false(ids_clock(s, START, now));
	for (int i = 0; i < 100; i++, now += 1000) {
		old[i] = forge(START + now - 100000, n++);
		assert_true(ids_fresh(s, &old[i], 1, now));
	}
	u = forge(START + now - 100000 - 3600000, n++);
	assert_false(ids_fresh(s, &u, 1, now));
	assert_true(ids_clock(s, START + now - 100000 - 3600000, now));
	assert_true(ids_fresh(s, &u, 1, now));
	assert_false(ids_fresh(s, &u, 1, now));
	for (int i = 90; i < 100; i++) /* those that are remembered */
		assert_false(ids_fresh(s, &old[i], 1, now));
	/* Said again without a step, or by a gateway whose clock differs a little: nothing changes. */
	assert_false(ids_clock(s, START + now - 100000 - 3600000, now));
	assert_false(ids_clock(s, START + now - 100000 - 3600000 - 3000, now));
	for (int i = 0; i < 100; i++, now += 1000) {
		u = forge(START + now - 100000 - 3600000, n++);
		assert_true(ids_fresh(s, &u, 1, now));
	}
	ids_free(s);
}

/* One id from the far future does not make all others old. */
static void test_future(void **state)
{
	struct ids *s = ids_new(1000);
	uint64_t now = 100000;
	struct uuid u;

	(void)state;
	ids_clock(s, START, now);
	u = forge(START + 7200000, 1);
	assert_false(ids_fresh(s, &u, 1, now));
	for (unsigned i = 0; i < 200; i++, now += 1000) {
		u = forge(START + now - 100000, 1000 + i);
		assert_true(ids_fresh(s, &u, 1, now));
	}
	/* As time passes, so does what is the future. */
	u = forge(START + 3700000, 2);
	assert_true(ids_fresh(s, &u, 1, now));
	ids_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once), cmocka_unit_test(test_random), cmocka_unit_test(test_full),
		cmocka_unit_test(test_clock_set_back), cmocka_unit_test(test_future),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
