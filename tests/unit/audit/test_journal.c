/* SPDX-License-Identifier: Apache-2.0 */
/* The journal from ring to directory: joining, deaths, floods, rotation, restarts, one writer, hostile rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "tests/unit/audit/book.h"
#include "tests/unit/audit/sample.h"

struct fixture {
	char path[PATH_MAX];
	struct journal_env env;
	struct journal *j;
	int fd[4];
	struct ring *w[4];
	unsigned broken, done;
	char last[64];
};

static void on_broken(void *ctx, const char *name, uint64_t instance, const char *why)
{
	struct fixture *f = ctx;

	(void)instance;
	(void)why;
	f->broken++;
	snprintf(f->last, sizeof(f->last), "%s", name);
}

static void on_done(void *ctx, const char *name, uint64_t instance)
{
	struct fixture *f = ctx;

	(void)instance;
	f->done++;
	snprintf(f->last, sizeof(f->last), "%s", name);
}

static const struct journal_calls calls = {.on_ring_broken = on_broken, .on_ring_done = on_done};

static void start(struct fixture *f)
{
	char why[512];

	f->j = journal_new(&f->env, why, sizeof(why));
	if (!f->j)
		fail_msg("%s", why);
}

static void add(struct fixture *f, unsigned i, uint64_t instance)
{
	char name[16];
	const char *why = NULL;

	if (!f->w[i]) {
		f->fd[i] = ring_create(1u << 20);
		f->w[i] = ring_map_writer(f->fd[i], -1, &why);
	}
	snprintf(name, sizeof(name), "worker/%u", i);
	if (journal_add_ring(f->j, f->fd[i], name, instance, &why) != 0)
		fail_msg("%s", why);
}

static int setup(void **state)
{
	struct fixture *f = mem_zalloc(sizeof(*f));

	log_set_level(LOG_LV_ERROR);
	log_set_fd(-1);
	sample_env(&f->env, sample_dir(f->path, sizeof(f->path)));
	f->env.calls = &calls;
	f->env.ctx = f;
	start(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->j)
		journal_free(f->j);
	for (unsigned i = 0; i < 4; i++) {
		ring_unmap(f->w[i]);
		if (f->w[i])
			close(f->fd[i]);
	}
	sample_remove(f->env.dir_fd, f->path);
	mem_free(f);
	return 0;
}

static uint64_t now(void)
{
	return clock_mono_ms();
}

static struct uuid open_one(struct ring *w, unsigned attempt)
{
	struct uuid id;

	uuid_make(&id, clock_wall_us());
	assert_int_equal(sample_open(w, &id, attempt, clock_wall_us(), now()), 0);
	return id;
}

static void end_one(struct ring *w, const struct uuid *id, unsigned attempt)
{
	assert_int_equal(sample_end(w, id, attempt, clock_wall_us(), now()), 0);
}

static bool log_has(struct fixture *f, const char *text)
{
	size_t n;
	char *log = sample_read(f->env.dir_fd, "journal-000000000001.log", &n);
	bool has = strstr(log, text) != NULL;

	mem_free(log);
	return has;
}

static void joins_in_one_batch_only(void **state)
{
	struct fixture *f = *state;
	struct book b;

	add(f, 0, 7);
	struct uuid one = open_one(f->w[0], 1);
	end_one(f->w[0], &one, 1);
	struct uuid two = open_one(f->w[0], 2);
	sample_run(f->j);
	end_one(f->w[0], &two, 2);
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.msg[SCHEMA_EXCHANGE], 1);
	assert_int_equal(b.msg[SCHEMA_OPEN], 1);
	assert_int_equal(b.msg[SCHEMA_END], 1);
	assert_int_equal(b.opens, 2);
	assert_int_equal(b.ends, 2);
	assert_int_equal(b.twice, 0);
	/* The end can be read by itself: who, to what, by which rule; and where its open is. */
	assert_true(log_has(f, "exchange-end [sallyport@32473 seq=\"4\" src=\"7:"));
	assert_true(log_has(f, "open=\"3\""));
	size_t n;
	char *log = sample_read(f->env.dir_fd, "journal-000000000001.log", &n), *end = strstr(log, "exchange-end");
	assert_non_null(strstr(end, "principal=\"" SAMPLE_PRINCIPAL "\""));
	assert_non_null(strstr(end, "verdict=\"allow\" reason=\"complete\" status=\"200\""));
	assert_non_null(strstr(end, "rule=\"hud-calls-irs\""));
	assert_null(strstr(end, "path=")); /* … but not all of it again */
	mem_free(log);
}

static void dead_worker(void **state)
{
	struct fixture *f = *state;
	struct book b;

	add(f, 0, 7);
	add(f, 1, 8);
	open_one(f->w[0], 1);
	struct uuid other = open_one(f->w[1], 1);
	sample_run(f->j);
	open_one(f->w[0], 1); /* still in the ring when it dies */
	struct uuid ended = open_one(f->w[0], 1);
	end_one(f->w[0], &ended, 1);
	journal_producer_died(f->j, "worker/0", 7);
	sample_run(f->j);
	assert_int_equal(f->done, 1);
	assert_string_equal(f->last, "worker/0");
	end_one(f->w[1], &other, 1);
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, 4);
	assert_int_equal(b.ends, 4);
	assert_int_equal(b.died, 2);
	assert_int_equal(b.twice, 0);
	assert_true(log_has(f, "verdict=\"allow\" reason=\"worker-died\" principal="));
}

/* A batch is bounded; a death with more exchanges than fit into one ends them all the same. */
static void many_die(void **state)
{
	struct fixture *f = *state;
	struct book b;

	add(f, 0, 7);
	unsigned n = 20000;
	for (unsigned i = 0; i < n;) {
		struct uuid id;
		uuid_make(&id, clock_wall_us());
		if (sample_open(f->w[0], &id, 1, clock_wall_us(), now()) == 0)
			i++;
		else
			sample_run(f->j);
	}
	sample_run(f->j);
	journal_producer_died(f->j, "worker/0", 7);
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, n);
	assert_int_equal(b.died, n);
	assert_int_equal(b.no_end, 0);
}

/* A journal that comes again: open exchanges are known, through the cache and without it. */
static void restart_knows_open_exchanges(void **state)
{
	struct fixture *f = *state;
	struct book b;

	for (int with_cache = 0; with_cache < 2; with_cache++) {
		uint64_t instance = 70 + (uint64_t)with_cache;
		const char *why;
		ring_unmap(f->w[0]);
		f->w[0] = NULL;
		add(f, 0, instance);
		struct uuid a = open_one(f->w[0], 1), c = open_one(f->w[0], 1);
		sample_run(f->j);
		if (with_cache) {
			sample_stop(f->j);
		} else {
			journal_free(f->j);
			unlinkat(f->env.dir_fd, "state", 0);
		}
		struct journal_ring r = {f->fd[0], "worker/0", instance};
		f->env.rings = &r;
		f->env.nrings = 1;
		start(f);
		f->env.nrings = 0;
		end_one(f->w[0], &a, 1);
		sample_run(f->j);
		/* And again, this time without that ring: its producer is gone. */
		journal_free(f->j);
		start(f);
		sample_run(f->j);
		assert_int_equal(journal_add_ring(f->j, f->fd[0], "worker/0", instance, &why), 0); /* forgotten: its exchanges are over */
		journal_producer_died(f->j, "worker/0", instance);
		sample_run(f->j);
		(void)c;
		book_read(&b, f->env.dir_fd);
		assert_int_equal(b.opens, 2 * (with_cache + 1));
		assert_int_equal(b.ends, b.opens);
		assert_int_equal(b.died, with_cache + 1);
		assert_int_equal(b.twice, 0);
	}
}

static void instance_is_never_used_twice(void **state)
{
	struct fixture *f = *state;
	const char *why = NULL;

	add(f, 0, 7);
	assert_int_equal(journal_add_ring(f->j, f->fd[0], "worker/0", 7, &why), -1);
	open_one(f->w[0], 1);
	sample_run(f->j);
	journal_free(f->j);
	int fresh = ring_create(65536);
	struct journal_ring r = {fresh, "worker/0", 7};
	f->env.rings = &r;
	f->env.nrings = 1;
	start(f);
	assert_int_equal(f->broken, 1); /* another ring under an old name would be skipped up to where the old one was */
	close(fresh);
	assert_int_equal(journal_add_ring(f->j, f->fd[0], "bad name", 9, &why), -1);
	assert_int_equal(journal_add_ring(f->j, f->fd[0], "", 9, &why), -1);
	assert_int_equal(journal_add_ring(f->j, f->fd[0], "a\"b", 9, &why), -1);
	assert_int_equal(journal_add_ring(f->j, f->fd[0], "w", 0, &why), -1);
}

static void floods_are_counted(void **state)
{
	struct fixture *f = *state;
	struct book b;

	f->env.flood_per_second = 10;
	journal_free(f->j);
	start(f);
	add(f, 0, 7);
	for (unsigned i = 0; i < 1000; i++) {
		char client[64];
		snprintf(client, sizeof(client), "192.0.2.1:%u", 1024 + i);
		assert_int_equal(sample_deny(f->w[0], client, clock_wall_us(), now()), 0);
		if (i < 8) {
			snprintf(client, sizeof(client), "[2001:db8::%u]:%u", i, i + 1);
			assert_int_equal(sample_deny(f->w[0], client, clock_wall_us(), now()), 0);
		}
		if (i % 100 == 99)
			journal_turn(f->j, now());
	}
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.denials, 1008); /* none is left out */
	assert_true(b.msg[SCHEMA_DENY] >= 18 && b.msg[SCHEMA_DENY] < 100);
}

static void rotates_with_one_chain(void **state)
{
	struct fixture *f = *state;
	struct book b;
	size_t n;

	journal_free(f->j);
	f->env.segment_bytes = 20000;
	start(f);
	add(f, 0, 7);
	for (unsigned i = 0; i < 500; i++) {
		struct uuid id = open_one(f->w[0], 1);
		end_one(f->w[0], &id, 1);
		if (i % 5 == 0)
			journal_turn(f->j, now());
	}
	sample_run(f->j);
	sample_stop(f->j);
	start(f);
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_true(b.reasons[BOOK_SEGMENT] > 10);
	assert_int_equal(b.msg[SCHEMA_EXCHANGE], 500);
	char *cp = sample_read(f->env.dir_fd, "journal-000000000001.checkpoint", &n);
	assert_non_null(cp);
	assert_memory_equal(cp, "hud.example/gateway/dmz1\n", 25);
	mem_free(cp);
	f->env.segment_bytes = 64u << 20;
}

static void rotates_by_time(void **state)
{
	struct fixture *f = *state;
	struct book b;

	sample_run(f->j);
	for (unsigned day = 1; day <= 3; day++) {
		journal_turn(f->j, now() + day * 86400001u);
		journal_turn(f->j, now() + day * 86400001u);
	}
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.reasons[BOOK_SEGMENT], 3);
}

/* case 85 */
static void second_writer(void **state)
{
	struct fixture *f = *state;
	char why[512];

	assert_null(journal_new(&f->env, why, sizeof(why)));
	assert_non_null(strstr(why, "another journal"));
}

/* case 84: what a caller sends in a path or a header stays one record. */
static void hostile_text(void **state)
{
	struct fixture *f = *state;
	static const char evil[] = "/a\r\n<110>1 2026-11-20T09:00:00.000000Z x sallyport 1 deny [sallyport@32473 seq=\"9\"]\033[2J\x9b" "1m\xff\0\"]";
	struct audit_event e;
	struct book b;
	size_t n;

	add(f, 0, 7);
	audit_event_init(&e, ring_reserve(f->w[0], 1024, now()), 1024, AUDIT_DENY, NULL, 0, clock_wall_us());
	audit_event_text(&e, AUDIT_F_PATH, evil, sizeof(evil) - 1);
	audit_event_text(&e, AUDIT_F_DETAIL, evil, sizeof(evil) - 1);
	audit_event_done(&e);
	ring_commit(f->w[0], e.len);
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.msg[SCHEMA_DENY], 1);
	assert_int_equal(b.records, 2);
	assert_int_equal(b.bad_lines, 0);
	char *log = sample_read(f->env.dir_fd, "journal-000000000001.log", &n);
	for (size_t i = 0; i < n; i++)
		assert_true((log[i] >= 0x20 && log[i] < 0x7f) || log[i] == '\n');
	mem_free(log);
}

/* A clock that lies is noted, not believed. */
static void claimed_time(void **state)
{
	struct fixture *f = *state;
	struct uuid id;

	add(f, 0, 7);
	uuid_make(&id, clock_wall_us());
	sample_open(f->w[0], &id, 1, UINT64_C(946684800000000), now());
	sample_run(f->j);
	assert_true(log_has(f, "at=\"2000-01-01T00:00:00.000000Z\""));
	uuid_make(&id, clock_wall_us());
	sample_open(f->w[0], &id, 1, UINT64_MAX, now());
	sample_run(f->j);
	assert_true(log_has(f, "at=\"9999-12-31T23:59:59.999999Z\""));
	struct book b;
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.bad_lines, 0);
}

/* case 87: one worker scribbles; it is named, and the other's records are all there. */
static void hostile_ring(void **state)
{
	struct fixture *f = *state;
	struct book b;

	for (unsigned how = 0; how < 5; how++) {
		f->broken = f->done = 0;
		add(f, 0, 100 + how);
		add(f, 1, 200 + how);
		for (unsigned i = 0; i < 10; i++) {
			struct uuid id = open_one(f->w[1], 1);
			end_one(f->w[1], &id, 1);
		}
		open_one(f->w[0], 1);
		sample_run(f->j);
		uint8_t *raw = mmap(NULL, 4096 + (1u << 20), PROT_READ | PROT_WRITE, MAP_SHARED, f->fd[0], 0);
		open_one(f->w[0], 1);
		uint64_t head = le_get64(raw + 64), tail = le_get64(raw + 128);
		switch (how) {
		case 0:
			le_put64(raw + 64, UINT64_MAX - 7);
			break;
		case 1:
			le_put64(raw, 0);
			break;
		case 2:
			le_put32(raw + 4096 + tail, 24);
			break;
		case 3:
			memset(raw + 4096 + tail + 32, 0xff, 32);
			break;
		default:
			le_put64(raw + 64, head - 8);
		}
		munmap(raw, 4096 + (1u << 20));
		for (unsigned i = 0; i < 10; i++) {
			struct uuid id = open_one(f->w[1], 1);
			end_one(f->w[1], &id, 1);
		}
		sample_run(f->j);
		assert_int_equal(f->broken, 1);
		assert_string_equal(f->last, "worker/0");
		journal_producer_died(f->j, "worker/0", 100 + how); /* master killed it */
		journal_producer_died(f->j, "worker/1", 200 + how);
		sample_run(f->j);
		assert_int_equal(f->done, 2);
		for (unsigned i = 0; i < 2; i++) {
			ring_unmap(f->w[i]);
			close(f->fd[i]);
			f->w[i] = NULL;
		}
		book_read(&b, f->env.dir_fd);
		assert_int_equal(b.msg[SCHEMA_EXCHANGE], 20 * (how + 1));
		assert_int_equal(b.msg[SCHEMA_ALERT], how + 1);
		assert_int_equal(b.no_end, 0);
	}
}

static void opened_twice(void **state)
{
	struct fixture *f = *state;
	struct book b;

	add(f, 0, 7);
	struct uuid id = open_one(f->w[0], 1);
	sample_run(f->j);
	sample_open(f->w[0], &id, 1, clock_wall_us(), now());
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.msg[SCHEMA_OPEN], 2);
	assert_int_equal(b.msg[SCHEMA_ALERT], 1);
	assert_true(log_has(f, "reason=\"duplicate-exchange\""));
}

/* The table is bounded: beyond it opens and ends are records of their own and nothing is lost. */
static void table_full(void **state)
{
	struct fixture *f = *state;
	struct uuid id[20];
	struct book b;

	journal_free(f->j);
	f->env.max_inflight = 8;
	start(f);
	add(f, 0, 7);
	for (unsigned i = 0; i < 20; i++)
		id[i] = open_one(f->w[0], 1);
	sample_run(f->j);
	for (unsigned i = 0; i < 20; i++)
		end_one(f->w[0], &id[i], 1);
	sample_run(f->j);
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.opens, 20);
	assert_int_equal(b.ends, 20);
	assert_int_equal(b.twice, 0);
}

static void status(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	add(f, 0, 7);
	open_one(f->w[0], 1);
	sample_run(f->j);
	buf_init(&b, 0);
	journal_status_json(f->j, &b);
	assert_non_null(strstr(buf_cstr(&b), "\"state\":\"running\",\"records\":2,"));
	assert_non_null(strstr(buf_cstr(&b), "\"inflight\":1,"));
	assert_non_null(strstr(buf_cstr(&b), "{\"name\":\"worker/0\",\"instance\":7,\"events\":1,\"waiting_bytes\":0,"));
	buf_fini(&b);
}

/* ---- the role's loop ---- */

static int stop_on_message(struct journal *j, void *ctx)
{
	struct journal_env *env = ctx;
	char c;

	if (read(env->master_fd, &c, 1) != 1)
		return -1;
	journal_stop(j);
	return 0;
}

static void *role_thread(void *arg)
{
	return (void *)(intptr_t)journal_role(arg);
}

static void role_runs_and_stops(void **state)
{
	static const struct journal_calls c = {.on_master_readable = stop_on_message};
	struct fixture *f = *state;
	const char *why;
	struct book b;
	void *rc;

	journal_free(f->j);
	f->j = NULL;
	for (int clean = 1; clean >= 0; clean--) {
		int sv[2], fd = ring_create(1u << 20), wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		struct journal_ring r = {fd, "worker/0", 1000 + (uint64_t)clean};
		struct ring *w = ring_map_writer(fd, wake, &why);
		pthread_t t;

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
		f->env.master_fd = sv[1];
		f->env.wake_fd = wake;
		f->env.rings = &r;
		f->env.nrings = 1;
		f->env.calls = &c;
		f->env.ctx = &f->env;
		f->env.group_ms = 10;
		pthread_create(&t, NULL, role_thread, &f->env);
		while (ring_refusal(w, now()))
			usleep(1000);
		for (unsigned i = 0; i < 4; i++) {
			usleep(i % 2 ? 250000 : 20000); /* asleep, and awake */
			struct uuid id = open_one(w, 1);
			end_one(w, &id, 1);
			usleep(50000);
		}
		assert_null(ring_refusal(w, now())); /* the heartbeat is fresh */
		struct uuid late = open_one(w, 1);
		end_one(w, &late, 1);
		if (clean)
			assert_int_equal(write(sv[0], "s", 1), 1);
		close(sv[0]); /* … or master just goes */
		pthread_join(t, &rc);
		assert_int_equal((intptr_t)rc, clean ? 0 : 1);
		assert_string_equal(ring_refusal(w, now()), "journal-stopped");
		close(sv[1]);
		ring_unmap(w);
		close(fd);
		close(wake);
	}
	book_read(&b, f->env.dir_fd);
	assert_int_equal(b.msg[SCHEMA_EXCHANGE], 10); /* woken from sleep, an open and its end are still one record */
	assert_int_equal(b.reasons[BOOK_STOP], 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(joins_in_one_batch_only),
		T(dead_worker),
		T(many_die),
		T(restart_knows_open_exchanges),
		T(instance_is_never_used_twice),
		T(floods_are_counted),
		T(rotates_with_one_chain),
		T(rotates_by_time),
		T(second_writer),
		T(hostile_text),
		T(claimed_time),
		T(hostile_ring),
		T(opened_twice),
		T(table_full),
		T(status),
		T(role_runs_and_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
