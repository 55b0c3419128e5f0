/* SPDX-License-Identifier: Apache-2.0 */
/* A role's user, and that there is no way back from it. As root; other users are told that nothing was dropped. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/process/privs.h"

#define READ_SEARCH (1U << CAP_DAC_READ_SEARCH)
#define OVERRIDE (1U << CAP_DAC_OVERRIDE)

static void
test_lookup(void **state)
{
	static const struct {
		const char *prefix;
		unsigned role;
		int expect;
		uid_t uid;
		const char *why;
	} cases[] = {
		{ "61000", ROLE_KEYS, 0, 61001, NULL },
		{ "61000", ROLE_WORKER, 0, 61004, NULL },
		{ "61000", PRIVS_POLICY, 0, 61006, NULL },
		{ "0", ROLE_KEYS, -1, 0, "number" },
		{ "999", ROLE_KEYS, -1, 0, "number" },
		{ "61000x", ROLE_KEYS, -1, 0, "number" },
		{ "4294967290", ROLE_KEYS, -1, 0, "number" },
		{ "99999999999999999999", ROLE_KEYS, -1, 0, "number" },
		{ "no-such-users-", ROLE_KEYS, -1, 0, "systemd-sysusers" },
		{ "", ROLE_KEYS, -1, 0, "\"keys\"" },
	};
	char why[512];
	uid_t uid;
	gid_t gid;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uid = gid = 0;
		why[0] = '\0';
		assert_int_equal(privs_lookup(cases[i].prefix, cases[i].role, &uid, &gid, why, sizeof(why)), cases[i].expect);
		if (cases[i].expect == 0) {
			assert_int_equal(uid, cases[i].uid);
			assert_int_equal(gid, cases[i].uid);
		} else {
			assert_non_null(strstr(why, cases[i].why));
		}
	}
}

static int
in_child(int (*run)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(run());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int
drop_for_good(void)
{
	const gid_t groups[] = { 0, 4, 5 };
	const char *why = NULL;

	if (setgroups(3, groups) < 0 || privs_drop(61004, 61004, false, &why) < 0)
		return 1;
	if (getuid() != 61004 || geteuid() != 61004 || getgid() != 61004 || getgroups(0, NULL) != 0)
		return 2;
	if (setuid(0) == 0 || setresuid((uid_t)-1, 0, (uid_t)-1) == 0 || setgroups(3, groups) == 0)
		return 3;
	return open("/etc/shadow", O_RDONLY) >= 0 ? 4 : 0;
}

static int
caps(long call, struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };

	return (int)syscall(call, &head, data);
}

/* Without these rights, as root is in a container. */
static int
lose(uint32_t rights)
{
	struct __user_cap_data_struct data[2];

	if (caps(SYS_capget, data) < 0)
		return -1;
	data[0].permitted &= ~rights;
	data[0].effective &= ~rights;
	return caps(SYS_capset, data);
}

static bool
has(uint32_t right)
{
	struct __user_cap_data_struct data[2];

	return caps(SYS_capget, data) == 0 && (data[0].permitted & right);
}

static int
drop_but_read(void)
{
	const char *why = NULL;
	bool reads_only = has(READ_SEARCH);

	if (privs_drop(61005, 61005, true, &why) < 0)
		return 1;
	if (open("/etc/shadow", O_RDONLY) < 0) /* reading is what it kept, for the sandbox to confine */
		return 2;
	if ((reads_only && open("/etc/shadow", O_WRONLY) >= 0) || setuid(0) == 0 || chown("/", 61005, 61005) == 0)
		return 3;
	return 0;
}

static int
drop_in_a_container(void)
{
	return lose(READ_SEARCH) < 0 ? 9 : drop_but_read();
}

static int
drop_with_nothing_to_keep(void)
{
	const char *why = NULL;

	if (lose(READ_SEARCH | OVERRIDE) < 0)
		return 9;
	if (privs_drop(61005, 61005, true, &why) < 0)
		return 1;
	return open("/etc/shadow", O_RDONLY) >= 0 || has(READ_SEARCH | OVERRIDE) ? 2 : 0;
}

static int
drop_to_root(void)
{
	const char *why = NULL;

	return privs_drop(0, 61000, false, &why) < 0 && privs_drop(61000, 0, false, &why) < 0 && why ? 0 : 1;
}

static int
drop_without_the_right(void)
{
	const char *why = NULL;

	if (geteuid() == 0 && setresuid(61099, 61099, 61099) < 0)
		return 1;
	return privs_drop(61004, 61004, false, &why) < 0 && why ? 0 : 2;
}

static void
test_drop(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_to_root), 0);
	assert_int_equal(in_child(drop_without_the_right), 0);
	if (geteuid() != 0) {
		print_message("not root: dropping is not tried\n");
		return;
	}
	assert_int_equal(in_child(drop_for_good), 0);
	assert_int_equal(in_child(drop_but_read), 0);
	assert_int_equal(in_child(drop_in_a_container), 0);
	assert_int_equal(in_child(drop_with_nothing_to_keep), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
