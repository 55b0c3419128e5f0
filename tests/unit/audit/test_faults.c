/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that fill up (case 74) and disks that fail (case 75), by faults put into the store's system calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "tests/unit/audit/book.h"
#include "tests/unit/audit/sample.h"

/* A disk of so many octets; what is used is what was allocated or, without allocation, written. */
static struct {
	uint64_t room, free;
	bool no_alloc;
	int sync_errno, write_errno;
	unsigned syncs, writes;
	off_t written;             /* highest octet of the log */
} disk;

static int fake_fallocate(int fd, int mode, off_t at, off_t n)
{
	(void)mode;
	(void)fd;
	(void)at;
	if (disk.no_alloc) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if ((uint64_t)n > disk.room) {
		errno = ENOSPC;
		return -1;
	}
	disk.room -= (uint64_t)n;
	return 0;
}

static ssize_t fake_pwrite(int fd, const void *p, size_t n, off_t at)
{
	disk.writes++;
	if (disk.write_errno) {
		/* Part of it first, as disks do. */
		if (n > 100 && pwrite(fd, p, n / 2, at) < 0)
			return -1;
		errno = disk.write_errno;
		return -1;
	}
	return pwrite(fd, p, n, at);
}

static int fake_fdatasync(int fd)
{
	(void)fd;
	disk.syncs++;
	errno = disk.sync_errno;
	return disk.sync_errno ? -1 : 0;
}

static int fake_free(int dir, uint64_t *out)
{
	(void)dir;
	*out = disk.free;
	return 0;
}

static const struct store_sys sys = {fake_pwrite, fake_fdatasync, fake_fallocate, fake_free};

struct fixture {
	char path[PATH_MAX];
	struct journal_env env;
	struct journal *j;
	int fd;
	struct ring *w;
	uint64_t now;              /* monotonic ms, moved by hand */
	unsigned states[5];
};

static void on_state(void *ctx, enum journal_state s, const char *why)
{
	struct fixture *f = ctx;

	assert_non_null(why);
	f->states[s]++;
}

static const struct journal_calls calls = {.on_state = on_state};

static void turns(struct fixture *f, unsigned n, uint64_t ms)
{
	while (n-- > 0) {
		f->now += ms;
		journal_turn(f->j, f->now);
	}
}

static void start(struct fixture *f, uint64_t instance)
{
	char why[512];
	const char *text;

	if (!f->w) {
		f->fd = ring_create(1u << 18);
		f->w = ring_map_writer(f->fd, -1, &text);
	}
	struct journal_ring r = {f->fd, "worker/0", instance};
	f->env.rings = &r;
	f->env.nrings = 1;
	f->j = journal_new(&f->env, why, sizeof(why));
	if (!f->j)
		fail_msg("%s", why);
	f->env.nrings = 0;
	turns(f, 1, 1);
}

static int setup(void **state)
{
	struct fixture *f = mem_zalloc(sizeof(*f));

	log_set_level(LOG_LV_ERROR);
	log_set_fd(-1);
	memset(&disk, 0, sizeof(disk));
	disk.room = UINT64_C(1) << 40;
	disk.free = UINT64_C(1) << 40;
	sample_env(&f->env, sample_dir(f->path, sizeof(f->path)));
	f->env.calls = &calls;
	f->env.ctx = f;
	f->env.sys = &sys;
	f->env.min_free = 64u << 20;
	f->env.segment_bytes = 1u << 20;
	f->now = clock_mono_ms();
	start(f, 7);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->j)
		journal_free(f->j);
	ring_unmap(f->w);
	close(f->fd);
	sample_remove(f->env.dir_fd, f->path);
	mem_free(f);
	return 0;
}

static bool cross(struct fixture *f)
{
	struct uuid id;

	uuid_make(&id, clock_wall_us());
	if (sample_open(f->w, &id, 1, clock_wall_us(), f->now) != 0)
		return false;
	assert_int_equal(sample_end(f->w, &id, 1, clock_wall_us(), f->now), 0);
	return true;
}

/* case 74: below min_free nothing new crosses; ends are still written; it opens again when there is space. */
static void space_runs_low(void **state)
{
	struct fixture *f = *state;
	struct uuid id;
	struct book b;

	uuid_make(&id, clock_wall_us());
	sample_open(f->w, &id, 1, clock_wall_us(), f->now);
	turns(f, 3, 300);
	disk.free = 10u << 20;
	turns(f, 2, 300);
	assert_int_equal(journal_state(f->j), JOURNAL_LOW);
	assert_string_equal(ring_refusal(f->w, f->now), "no-space");
	assert_false(cross(f));
	assert_int_equal(sample_end(f->w, &id, 1, clock_wall_us(), f->now), 0);
	turns(f, 2, 300);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.ends, 1);
	assert_int_equal(b.reasons[BOOK_NO_SPACE], 1);
	disk.free = 65u << 20; /* just above: not yet, or it would flap */
	turns(f, 2, 300);
	assert_int_equal(journal_state(f->j), JOURNAL_LOW);
	disk.free = 100u << 20;
	turns(f, 2, 300);
	assert_int_equal(journal_state(f->j), JOURNAL_RUNNING);
	assert_true(cross(f));
	turns(f, 2, 300);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.reasons[BOOK_SPACE_BACK], 1);
	assert_int_equal(b.opens, 2);
	assert_int_equal(f->states[JOURNAL_LOW], 1);
}

/* case 74: really full: nothing of what waits is lost, and the alarm record is on disk all the while. */
static void disk_full(void **state)
{
	struct fixture *f = *state;
	unsigned crossed = 0;
	struct book b;

	disk.room = 0;
	for (unsigned i = 0; i < 3000 && journal_state(f->j) == JOURNAL_RUNNING; i++) {
		assert_true(cross(f));
		crossed++;
		turns(f, 1, 1);
	}
	assert_int_equal(journal_state(f->j), JOURNAL_FULL);
	assert_string_equal(ring_refusal(f->w, f->now), "no-space");
	assert_false(cross(f));
	turns(f, 20, 300);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.reasons[BOOK_NO_SPACE], 1);
	assert_int_equal(b.opens, crossed - 1); /* the last one waits in its ring */
	disk.room = UINT64_C(1) << 40;
	turns(f, 10, 300);
	assert_int_equal(journal_state(f->j), JOURNAL_RUNNING);
	assert_true(cross(f));
	turns(f, 2, 300);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, crossed + 1);
	assert_int_equal(b.ends, crossed + 1);
	assert_int_equal(b.twice, 0);
	assert_int_equal(b.reasons[BOOK_NO_SPACE], 1);
	assert_int_equal(b.reasons[BOOK_SPACE_BACK], 1);
}

/* The same where the file system cannot preallocate: a batch is torn by ENOSPC, taken back, and written once. */
static void disk_full_without_preallocation(void **state)
{
	struct fixture *f = *state;
	struct book b;

	disk.no_alloc = true;
	/* Past what was allocated before. */
	for (unsigned i = 0; i < 2500; i++) {
		assert_true(cross(f));
		if (i % 10 == 0)
			turns(f, 1, 1);
	}
	turns(f, 2, 1);
	assert_int_equal(faccessat(f->env.dir_fd, "reserve", F_OK, 0), 0);
	disk.write_errno = ENOSPC;
	assert_true(cross(f));
	turns(f, 20, 300);
	assert_int_equal(journal_state(f->j), JOURNAL_FULL);
	assert_false(cross(f));
	assert_int_equal(faccessat(f->env.dir_fd, "reserve", F_OK, 0), -1); /* given up for the records */
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, 2500);
	disk.write_errno = 0;
	turns(f, 10, 300);
	assert_int_equal(journal_state(f->j), JOURNAL_RUNNING);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, 2501);
	assert_int_equal(b.twice, 0);
	assert_int_equal(b.reasons[BOOK_NO_SPACE], 1);
}

/* case 75: after a failed sync nothing is written or synced again, the ring keeps what was not acknowledged. */
static void sync_fails(void **state)
{
	struct fixture *f = *state;
	struct book b;

	assert_true(cross(f));
	turns(f, 2, 1);
	disk.sync_errno = EIO;
	assert_true(cross(f));
	turns(f, 1, 1);
	assert_int_equal(journal_state(f->j), JOURNAL_FAILED);
	assert_int_equal(f->states[JOURNAL_FAILED], 1);
	disk.sync_errno = 0;
	unsigned syncs = disk.syncs, writes = disk.writes;
	turns(f, 50, 300);
	assert_int_equal(disk.syncs, syncs);
	assert_int_equal(disk.writes, writes);
	assert_int_equal(journal_state(f->j), JOURNAL_FAILED);
	assert_string_equal(ring_refusal(f->w, f->now), "journal-stopped");
	assert_false(cross(f));
	/* It can be told to stop; and a new one, on a good disk, has everything. */
	journal_stop(f->j);
	assert_true(journal_over(f->j, f->now));
	journal_free(f->j);
	start(f, 7);
	turns(f, 3, 1);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, 2);
	assert_int_equal(b.ends, 2);
	assert_int_equal(b.twice, 0);
}

static void write_fails(void **state)
{
	struct fixture *f = *state;

	disk.write_errno = EIO;
	assert_true(cross(f));
	turns(f, 1, 1);
	assert_int_equal(journal_state(f->j), JOURNAL_FAILED);
	disk.write_errno = 0;
	assert_false(cross(f));
	/* What was half written is no record of the next start. */
	journal_free(f->j);
	start(f, 7);
	turns(f, 3, 1);
	struct book b;
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, 1);
}

/* Segments fill up and follow each other while exchanges cross. */
static void rotates_under_load(void **state)
{
	struct fixture *f = *state;
	struct book b;

	for (unsigned i = 0; i < 2500; i++) {
		assert_true(cross(f));
		if (i % 10 == 0)
			turns(f, 1, 1);
	}
	turns(f, 5, 300);
	book_read(&b, f->env.dir_fd);
	assert_true(b.reasons[BOOK_SEGMENT] >= 1);
	assert_int_equal(b.opens, 2500);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(space_runs_low),
		T(disk_full),
		T(disk_full_without_preallocation),
		T(sync_fails),
		T(write_fails),
		T(rotates_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
