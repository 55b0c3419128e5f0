/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal dies: by kill -9 at any moment, at each of its system calls, with its last batch torn at every octet. Each time the
 * next one goes on from the same rings, and in the end every event is in the journal exactly once (cases 76 and 82).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/audit/verify.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "tests/unit/audit/book.h"
#include "tests/unit/audit/sample.h"

#define INSTANCE 77

static struct journal *start(struct journal_env *env, int ring)
{
	struct journal_ring r = {ring, "worker/0", INSTANCE};
	struct journal *j;
	char why[512];

	env->rings = &r;
	env->nrings = 1;
	j = journal_new(env, why, sizeof(why));
	if (!j)
		fail_msg("%s", why);
	env->nrings = 0;
	return j;
}

/* ---- kill -9 ---- */

struct producer {
	struct ring *w;
	atomic_bool stop;
	uint64_t opened, ended, denied;
};

/* Like a worker: opens, ends some at once, some later, some never. */
static void *produce(void *arg)
{
	struct producer *p = arg;
	struct uuid late[64];
	unsigned nlate = 0;

	while (!p->stop) {
		uint64_t now = clock_mono_ms(), wall = clock_wall_us();
		struct uuid id;

		uuid_make(&id, wall);
		if (p->opened % 7 == 3 && sample_deny(p->w, "192.0.2.9:4000", wall, now) == 0)
			p->denied++;
		if (sample_open(p->w, &id, 1, wall, now) != 0) {
			usleep(200); /* full, or the journal is dead for too long: nothing crosses */
			continue;
		}
		p->opened++;
		if (p->opened % 3 && nlate < 64) {
			late[nlate++] = id;
		} else {
			while (sample_end(p->w, &id, 1, wall, now) != 0)
				usleep(100);
			p->ended++;
		}
		if (nlate == 64) {
			for (unsigned i = 0; i < 60; i++) {
				while (sample_end(p->w, &late[i], 1, clock_wall_us(), now) != 0)
					usleep(100);
				p->ended++;
			}
			nlate = 0;
		}
		if (p->opened % 16 == 0)
			usleep(100);
	}
	return NULL;
}

/* case 76 */
static void kill_nine(void **state)
{
	int rounds = getenv("AUDIT_KILLS") ? atoi(getenv("AUDIT_KILLS")) : 300;
	int ring = ring_create(1u << 17), wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct producer p = {0};
	char path[PATH_MAX];
	struct journal_env env;
	const char *why;
	struct book b;
	pthread_t t;

	(void)state;
	sample_env(&env, sample_dir(path, sizeof(path)));
	env.segment_bytes = 60000;
	env.wake_fd = wake;
	env.group_ms = 2;
	env.flood_per_second = 20;
	p.w = ring_map_writer(ring, wake, &why);
	srand(76);
	for (int i = 0; i < rounds; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct journal_ring r = {ring, "worker/0", INSTANCE};
			env.rings = &r;
			env.nrings = 1;
			_exit(journal_role(&env));
		}
		if (i == 0)
			pthread_create(&t, NULL, produce, &p);
		usleep(1000 + (useconds_t)(rand() % 12000));
		kill(pid, SIGKILL);
		int st;
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFSIGNALED(st)); /* it never gave up by itself */
	}
	p.stop = true;
	pthread_join(t, NULL);

	struct journal *j = start(&env, ring);
	sample_run(j);
	journal_producer_died(j, "worker/0", INSTANCE);
	sample_run(j);
	sample_stop(j);
	book_read(&b, env.dir_fd);
	print_message("%d lives: %llu exchanges, %llu records in %llu segments, %llu torn batches\n", rounds, (unsigned long long)p.opened,
	    (unsigned long long)b.records, (unsigned long long)b.segments, (unsigned long long)b.reasons[BOOK_TORN]);
	assert_true(p.opened > (uint64_t)rounds);
	assert_int_equal(b.opens, p.opened);
	assert_int_equal(b.ends, p.opened);
	assert_int_equal(b.died, p.opened - p.ended);
	assert_int_equal(b.denials, p.denied);
	assert_int_equal(b.twice, 0);
	assert_int_equal(b.bad_lines, 0);
	if (rounds >= 100)
		assert_true(b.segments > 3);
	ring_unmap(p.w);
	close(ring);
	close(wake);
	sample_remove(env.dir_fd, path);
}

/* ---- at each system call ---- */

static unsigned calls_left;

static void step(void)
{
	if (calls_left && --calls_left == 0)
		raise(SIGKILL);
}

static ssize_t step_pwrite(int fd, const void *p, size_t n, off_t at)
{
	ssize_t w;

	/* Half of it is there when it dies. */
	if (calls_left == 1 && n > 1) {
		w = pwrite(fd, p, n / 2, at);
		(void)w;
	}
	step();
	w = pwrite(fd, p, n, at);
	step();
	return w;
}

static int step_fdatasync(int fd)
{
	int rc;

	step();
	rc = fdatasync(fd);
	step();
	return rc;
}

static int step_fallocate(int fd, int mode, off_t at, off_t n)
{
	step();
	return fallocate(fd, mode, at, n);
}

/* case 82: segments of a few records, so that a rotation is never far; death at call 1, 2, 3, … of each life. */
static void every_call(void **state)
{
	static const struct store_sys sys = {step_pwrite, step_fdatasync, step_fallocate, NULL};
	int ring = ring_create(1u << 20);
	uint64_t opened = 0;
	char path[PATH_MAX];
	struct journal_env env;
	const char *why;
	struct ring *w;
	struct book b;

	(void)state;
	sample_env(&env, sample_dir(path, sizeof(path)));
	env.segment_bytes = 3000;
	env.sys = &sys;
	w = ring_map_writer(ring, -1, &why);
	for (unsigned n = 1; n <= 150; n++) {
		pid_t pid = fork();
		if (pid == 0) {
			calls_left = n;
			struct journal *j = start(&env, ring);
			for (unsigned i = 0; i < 1000; i++)
				journal_turn(j, clock_mono_ms() + i * 1000);
			_exit(0);
		}
		/* While it works and dies: events for it, and for the next one. */
		for (unsigned i = 0; i < 3; i++) {
			struct uuid id;
			uuid_make(&id, clock_wall_us());
			if (sample_open(w, &id, 1, clock_wall_us(), clock_mono_ms()) != 0)
				break;
			opened++;
			assert_int_equal(sample_end(w, &id, 1, clock_wall_us(), clock_mono_ms()), 0);
		}
		int st;
		waitpid(pid, &st, 0);
	}
	calls_left = 0;
	struct journal *j = start(&env, ring);
	sample_run(j);
	sample_stop(j);
	book_read(&b, env.dir_fd);
	assert_true(opened > 100);
	assert_int_equal(b.opens, opened);
	assert_int_equal(b.ends, opened);
	assert_int_equal(b.twice, 0);
	assert_true(b.segments > 10);
	ring_unmap(w);
	close(ring);
	sample_remove(env.dir_fd, path);
}

/* ---- torn at every octet ---- */

static bool dying;

/* The batch is written, and its sync never returns. */
static int deadly_sync(int fd)
{
	if (dying)
		_exit(9);
	return fdatasync(fd);
}

/*
 * case 76: a batch of an exchange, an open, and the end of an older exchange, left in the file up to each of its octets, with and
 * without garbage behind (a power cut leaves zeros): the next start cuts it and writes it anew from the ring.
 */
static void torn_anywhere(void **state)
{
	static const struct store_sys sys = {NULL, deadly_sync, NULL, NULL};
	static const char garbage[64];
	char path[PATH_MAX], copy_path[PATH_MAX];
	int ring = ring_create(1u << 16), st;
	struct journal_env env;
	const char *why;
	struct uuid id[3];
	struct book b;
	size_t before, after;

	(void)state;
	sample_env(&env, sample_dir(path, sizeof(path)));
	env.sys = &sys;
	struct ring *w = ring_map_writer(ring, -1, &why);
	struct journal *j = start(&env, ring);
	for (unsigned i = 0; i < 3; i++)
		uuid_make(&id[i], clock_wall_us());
	sample_open(w, &id[0], 1, clock_wall_us(), clock_mono_ms());
	sample_run(j);
	journal_turn(j, clock_mono_ms() + 2000); /* checkpoint */
	mem_free(sample_read(env.dir_fd, "journal-000000000001.log", &before));
	for (unsigned i = 1; i < 3; i++)
		sample_open(w, &id[i], 1, clock_wall_us(), clock_mono_ms());
	sample_end(w, &id[1], 1, clock_wall_us(), clock_mono_ms());
	sample_end(w, &id[0], 1, clock_wall_us(), clock_mono_ms());
	pid_t pid = fork();
	if (pid == 0) {
		dying = true;
		journal_turn(j, clock_mono_ms());
		_exit(0);
	}
	waitpid(pid, &st, 0);
	assert_int_equal(WEXITSTATUS(st), 9);
	journal_free(j);
	char *log = sample_read(env.dir_fd, "journal-000000000001.log", &after);
	assert_true(after > before + 1000);
	size_t stride = getenv("AUDIT_EVERY_OCTET") ? 1 : 11; /* each line is cut at many places; each octet takes a minute */
	for (size_t cut = before; cut <= after; cut += cut < before + 8 || cut + 16 > after ? 1 : stride) {
		int copy = sample_dir(copy_path, sizeof(copy_path));
		struct journal_env e = env;

		sample_copy(env.dir_fd, copy);
		if (cut % 3 == 0) {
			char *torn = mem_alloc(cut + sizeof(garbage));
			memcpy(torn, log, cut);
			memcpy(torn + cut, garbage, sizeof(garbage));
			sample_write(copy, "journal-000000000001.log", torn, cut + sizeof(garbage));
			mem_free(torn);
		} else {
			sample_write(copy, "journal-000000000001.log", log, cut);
		}
		/* The ring is shared: the life that reads it must not give its room back. */
		pid = fork();
		if (pid == 0) {
			struct ring *mine;
			int again = ring_create(1u << 16);
			e.dir_fd = copy;
			e.sys = NULL;
			mine = ring_map_writer(again, -1, &why);
			struct ring *alive = ring_map_reader(again, &why);
			ring_heartbeat(alive, clock_mono_ms());
			ring_unmap(alive);
			sample_open(mine, &id[0], 1, clock_wall_us(), clock_mono_ms());
			for (unsigned i = 1; i < 3; i++)
				sample_open(mine, &id[i], 1, clock_wall_us(), clock_mono_ms());
			sample_end(mine, &id[1], 1, clock_wall_us(), clock_mono_ms());
			sample_end(mine, &id[0], 1, clock_wall_us(), clock_mono_ms());
			j = start(&e, again);
			sample_run(j);
			sample_stop(j);
			ring_unmap(mine);
			book_read(&b, copy);
			bool torn = cut % 3 == 0 || (cut > before && cut < after);
			_exit(b.opens == 3 && b.ends == 2 && b.twice == 0 && b.reasons[BOOK_TORN] == torn ? 0 : 1);
		}
		waitpid(pid, &st, 0);
		if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
			fail_msg("cut at octet %zu of %zu..%zu", cut, before, after);
		sample_remove(copy, copy_path);
	}
	mem_free(log);
	ring_unmap(w);
	close(ring);
	sample_remove(env.dir_fd, path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kill_nine),
		cmocka_unit_test(every_call),
		cmocka_unit_test(torn_anywhere),
	};

	log_set_level(LOG_LV_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
