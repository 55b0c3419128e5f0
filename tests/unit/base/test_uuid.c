/* SPDX-License-Identifier: Apache-2.0 */
/* Exchange ids: form, order, and that a forked child never repeats its parent's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/uuid.h"

#define NOW 1795165200123456u /* in 2026 */

static void
test_form(void **state)
{
	char text[UUID_TEXT_LEN];
	struct uuid u, v;

	(void)state;
	uuid_make(&u, NOW);
	assert_int_equal(u.b[6] >> 4, 7);
	assert_int_equal(u.b[8] >> 6, 2);
	assert_int_equal(uuid_ms(&u), NOW / 1000);
	uuid_format(&u, text);
	assert_int_equal(uuid_parse(&v, text, UUID_TEXT_LEN), 0);
	assert_memory_equal(&u, &v, sizeof(u));
}

static void
test_order(void **state)
{
	struct uuid before, u;

	(void)state;
	uuid_make(&before, NOW + 1000000);
	for (unsigned i = 0; i < 20000; i++) {
		/* The clock stands still, goes on, and is slewed back a little. */
		uuid_make(&u, NOW + 1000000 + (i % 3 == 0 ? 0 : i / 10));
		assert_true(memcmp(&before, &u, sizeof(u)) < 0);
		before = u;
	}
	/* A clock that is set back by an hour is followed, because the far side checks the time. */
	uuid_make(&u, NOW - 3600000000u);
	assert_int_equal(uuid_ms(&u), (NOW - 3600000000u) / 1000);
}

static void
test_fork(void **state)
{
	struct uuid ours[4], theirs[4];
	int fd[2], status;
	pid_t pid;

	(void)state;
	uuid_make(&ours[0], NOW); /* the pool is filled */
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < 4; i++)
			uuid_make(&theirs[i], NOW);
		_exit(write(fd[1], theirs, sizeof(theirs)) == (ssize_t)sizeof(theirs) ? 0 : 1);
	}
	for (int i = 0; i < 4; i++)
		uuid_make(&ours[i], NOW);
	assert_int_equal(read(fd[0], theirs, sizeof(theirs)), sizeof(theirs));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd[0]);
	close(fd[1]);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 4; k++)
			assert_memory_not_equal(ours[i].b + 8, theirs[k].b + 8, 8);
}

static void
test_parse(void **state)
{
	static const char good[] = "0198c2f0-7d3a-7abc-8def-0123456789ab";
	static const char *const bad[] = {
		"0198C2F0-7d3a-7abc-8def-0123456789ab", "0198c2f0-7d3a-4abc-8def-0123456789ab", "0198c2f0-7d3a-7abc-cdef-0123456789ab",
		"0198c2f0-7d3a-7abc-7def-0123456789ab", "0198c2f007d3a-7abc-8def-0123456789ab", "0198c2f0-7d3a-7abc-8def-0123456789ag",
		"0198c2f0-7d3a-7abc-8def-012345678-ab", "0198c2f07d3a7abc8def0123456789ab    ", "{198c2f0-7d3a-7abc-8def-0123456789a}",
	};
	struct uuid u;

	(void)state;
	assert_int_equal(uuid_parse(&u, good, 36), 0);
	assert_int_equal(uuid_parse(&u, good, 35), -1);
	assert_int_equal(uuid_parse(&u, good, 0), -1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(uuid_parse(&u, bad[i], 36), -1);
	for (int i = 0; i < 36; i++) {
		char text[36];

		memcpy(text, good, 36);
		text[i] = '\0';
		assert_int_equal(uuid_parse(&u, text, 36), -1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form), cmocka_unit_test(test_order), cmocka_unit_test(test_fork), cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
