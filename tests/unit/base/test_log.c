/* SPDX-License-Identifier: Apache-2.0 */
/* The operator log: one line, one write, nothing that a terminal would act upon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/log.h"

static int fd[2]; /* datagrams: one per write(2) */

static const char *
received(void)
{
	static char line[8192];
	ssize_t n = recv(fd[0], line, sizeof(line) - 1, MSG_DONTWAIT);

	line[n > 0 ? n : 0] = '\0';
	return line;
}

static void
test_line(void **state)
{
	const char *line;

	(void)state;
	log_warn("conn=%d what=%s", 7, "ab\ncd\x1b[0m\x7f");
	line = received();
	assert_int_equal(strlen(line), 28 + strlen("warn worker/0 conn=7 what=ab cd [0m \n"));
	assert_int_equal(line[26], 'Z');
	assert_string_equal(line + 28, "warn worker/0 conn=7 what=ab cd [0m \n");
}

static void
test_levels(void **state)
{
	(void)state;
	log_set_level(LOG_LV_INFO);
	log_debug("no");
	assert_string_equal(received(), "");
	log_info("yes");
	assert_non_null(strstr(received(), " info worker/0 yes\n"));
	log_set_level(LOG_LV_ERROR);
	log_warn("no");
	assert_string_equal(received(), "");
	log_error("yes");
	assert_non_null(strstr(received(), " error worker/0 yes\n"));
	assert_int_equal(log_get_level(), LOG_LV_ERROR);
	log_set_level(LOG_LV_DEBUG);
	assert_int_equal(log_level_parse("warn"), LOG_LV_WARN);
	assert_int_equal(log_level_parse("loud"), -1);
}

static void
test_long(void **state)
{
	char text[6000];
	const char *line;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_info("%s", text);
	line = received();
	assert_true(strlen(line) <= 4096);
	assert_string_equal(line + strlen(line) - 4, "...\n");
}

static void
test_limit(void **state)
{
	struct log_limit l = { 0 };
	uint32_t suppressed;

	(void)state;
	/* The second may change between two calls; three tries are enough. */
	for (int tries = 0; tries < 3; tries++) {
		unsigned ok = 0;
		uint64_t second;

		memset(&l, 0, sizeof(l));
		log_limit_ok(&l, 2, &suppressed);
		second = l.second;
		for (int i = 0; i < 9; i++)
			ok += log_limit_ok(&l, 2, &suppressed);
		if (l.second != second)
			continue;
		assert_int_equal(ok, 1);
		assert_int_equal(l.suppressed, 8);
		l.second--; /* as if a second had passed */
		assert_true(log_limit_ok(&l, 2, &suppressed));
		assert_int_equal(suppressed, 8);
		assert_int_equal(l.suppressed, 0);
		return;
	}
	fail();
}

static int
setup(void **state)
{
	(void)state;
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) != 0)
		return -1;
	log_init("worker/0");
	log_set_fd(fd[1]);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line), cmocka_unit_test(test_levels), cmocka_unit_test(test_long), cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
