/* SPDX-License-Identifier: Apache-2.0 */
/* Images that cannot change once they are handed out, and readers that take nothing else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/process/memfd.h"

static void
test_sealed(void **state)
{
	const char *why = NULL;
	const void *p;
	size_t len;
	int fd = memfd_sealed("test", "image", 5);

	(void)state;
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	p = memfd_map(fd, 100, &len, &why);
	assert_non_null(p);
	assert_int_equal(len, 5);
	assert_memory_equal(p, "image", 5);
	/* Neither written, nor cut, nor grown, nor mapped for writing, nor unsealed. */
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1), -1);
	assert_int_equal(ftruncate(fd, 100), -1);
	assert_ptr_equal(mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	memfd_unmap(p, len);
	assert_null(memfd_map(fd, 4, &len, &why));
	assert_string_equal(why, "too large");
	close(fd);
}

static void
test_refused(void **state)
{
	static const int partly[] = { 0, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };
	const char *why;
	size_t len;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(partly) / sizeof(partly[0]); i++) {
		fd = memfd_new("test");
		assert_int_equal(write(fd, "x", 1), 1);
		if (partly[i])
			assert_int_equal(fcntl(fd, F_ADD_SEALS, partly[i]), 0);
		why = NULL;
		assert_null(memfd_map(fd, 100, &len, &why));
		assert_string_equal(why, "not sealed memory");
		close(fd);
	}
	fd = memfd_new("test");
	assert_int_equal(memfd_seal(fd), 0);
	assert_null(memfd_map(fd, 100, &len, &why));
	assert_string_equal(why, "empty");
	close(fd);
	fd = open("/dev/null", O_RDONLY);
	assert_null(memfd_map(fd, 100, &len, &why));
	close(fd);
	assert_null(memfd_map(-1, 100, &len, &why));
}

/* A writer that keeps a writable mapping prevents the seal: the maker notices. */
static void
test_seal_needs_no_writer(void **state)
{
	int fd = memfd_new("test");
	void *p;

	(void)state;
	assert_int_equal(write(fd, "x", 1), 1);
	p = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(memfd_seal(fd), -1);
	munmap(p, 1);
	assert_int_equal(memfd_seal(fd), 0);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_seal_needs_no_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
