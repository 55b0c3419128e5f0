/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory, and files that are replaced by descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/main/state.h"
#include "pki/svid.h"

static char dir[64];

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/sallyport-state-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static int memory(const char *text, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	return fd;
}

static char *path_of(const char *name)
{
	return mem_printf("%s/%s", dir, name);
}

static void assert_content(const char *path, const char *want)
{
	char got[256] = "";
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_true(read(fd, got, sizeof(got) - 1) >= 0);
	close(fd);
	assert_string_equal(got, want);
}

static void test_severed(void **state)
{
	char *path = path_of("state");
	struct state *s = state_open(path);
	struct stat st;

	(void)state;
	assert_non_null(s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(state_severed(s, "irs.example"), 0);
	assert_int_equal(state_set_severed(s, "irs.example", false), 0); /* as it was */
	assert_int_equal(state_set_severed(s, "irs.example", true), 0);
	assert_int_equal(state_set_severed(s, "irs.example", true), 0);
	assert_int_equal(state_severed(s, "irs.example"), 1);
	state_close(s);
	s = state_open(path); /* another run */
	assert_int_equal(state_severed(s, "irs.example"), 1);
	assert_int_equal(state_severed(s, "hud.example"), 0);
	assert_int_equal(state_set_severed(s, "irs.example", false), 0);
	assert_int_equal(state_severed(s, "irs.example"), 0);
	/* What is no domain never becomes a path. */
	assert_int_equal(state_set_severed(s, "../severed2", true), -1);
	assert_int_equal(errno, EINVAL);
	state_close(s);
	mem_free(path);
}

/* A disk that fails is no reason to leave a peer connected, nor to let it back. */
static void test_severed_but_not_kept(void **state)
{
	char *path = path_of("broken"), *severed = mem_printf("%s/severed", path);
	struct state *s = state_open(path);

	(void)state;
	assert_non_null(s);
	assert_int_equal(rmdir(severed), 0); /* nothing can be made in it any more */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(state_set_severed(s, "irs.example", true), -1);
		assert_int_equal(errno, ENOENT);
		assert_int_equal(state_severed(s, "irs.example"), 1);
		assert_int_equal(state_severed(s, "hud.example"), 0);
	}
	assert_int_equal(state_set_severed(s, "irs.example", false), 0);
	assert_int_equal(state_severed(s, "irs.example"), 0);
	assert_int_equal(state_set_severed(s, "../severed2", true), -1);
	assert_int_equal(state_severed(s, "../severed2"), 0);
	assert_int_equal(state_set_severed(s, "hud.example", true), -1);
	state_close(s);
	mem_free(severed);
	mem_free(path);
}

static void test_not_a_directory(void **state)
{
	char *path = path_of("file");

	(void)state;
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_null(state_open(path));
	assert_int_equal(errno, ENOTDIR);
	mem_free(path);
}

static void test_crl(void **state)
{
	char *path = path_of("state"), *kept = path_of("state/crl/irs.example");
	struct state *s = state_open(path);
	int a = memory("first", 5), b = memory("second", 6), none = memory("", 0);
	int fd;

	(void)state;
	assert_int_equal(state_crl(s, "irs.example"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(state_put_crl(s, "irs.example", a), 0);
	assert_content(kept, "first");
	assert_int_equal(state_put_crl(s, "irs.example", b), 0);
	assert_content(kept, "second");
	fd = state_crl(s, "irs.example");
	assert_true(fd >= 0);
	close(fd);
	/* Refused, and what was there stays. */
	assert_int_equal(state_put_crl(s, "irs.example", none), -1);
	assert_int_equal(ftruncate(a, SVID_CRL_MAX + 1), 0);
	assert_int_equal(state_put_crl(s, "irs.example", a), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(state_put_crl(s, "../../x", b), -1);
	assert_content(kept, "second");
	close(a);
	close(b);
	close(none);
	state_close(s);
	mem_free(path);
	mem_free(kept);
}

static void test_replace(void **state)
{
	char *path = path_of("gateway.crt"), *new = path_of("gateway.crt.new"), *part = path_of("gateway.crt.new.part");
	int fd = memory("new certificate", 15);
	struct stat st;

	(void)state;
	assert_int_equal(state_put_file(path, fd, 100), -1); /* there is nothing to replace */
	close(open(path, O_CREAT | O_WRONLY, 0640));
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(state_put_file(path, fd, 10), -1);
	assert_int_equal(access(new, F_OK), -1);
	assert_int_equal(state_put_file(path, fd, 100), 0);
	assert_content(path, "");
	assert_content(new, "new certificate");
	/* What a crash left is in nobody's way, and what is prepared already stays until the next is whole. */
	close(open(part, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(state_put_file(path, fd, 10), -1);
	assert_content(new, "new certificate");
	assert_int_equal(state_put_file(path, fd, 100), 0);
	assert_int_equal(access(part, F_OK), -1);
	assert_int_equal(state_commit_file(path), 0);
	assert_content(path, "new certificate");
	assert_int_equal(access(new, F_OK), -1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(state_put_file(path, fd, 100), 0);
	state_drop_file(path);
	assert_int_equal(access(new, F_OK), -1);
	close(fd);
	mem_free(path);
	mem_free(new);
	mem_free(part);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { TEST(test_severed), TEST(test_severed_but_not_kept), TEST(test_not_a_directory), TEST(test_crl), TEST(test_replace) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
