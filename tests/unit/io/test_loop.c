/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: order of tasks, cancelling inside tasks, deadlines, what is disposed of, readiness. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/io/loop.h"

static struct loop *loop;
static char trace[256];

static void stop(void *ctx)
{
	(void)ctx;
	loop_stop(loop);
}

static int setup(void **state)
{
	(void)state;
	loop = loop_new();
	trace[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

/* ---- tasks ---- */

struct task {
	struct loop_task t;
	char name;
	void (*then)(struct task *k);
	struct task *other;
	int left;
};

static void run(void *ctx)
{
	struct task *k = ctx;
	size_t n = strlen(trace);

	if (n + 1 < sizeof(trace)) {
		trace[n] = k->name;
		trace[n + 1] = '\0';
	}
	if (k->then)
		k->then(k);
}

static void task(struct task *k, char name, void (*then)(struct task *k), struct task *other)
{
	*k = (struct task){ .name = name, .then = then, .other = other };
	loop_task_init(&k->t, run, k);
}

static void end(struct task *k)
{
	(void)k;
	loop_stop(loop);
}

static void queue_other(struct task *k)
{
	loop_later(loop, &k->other->t);
}

static void queue_other_next(struct task *k)
{
	loop_next(loop, &k->other->t);
}

static void cancel_other(struct task *k)
{
	loop_task_cancel(loop, &k->other->t);
}

static void test_order(void **state)
{
	struct task a, b, c, d, z;

	(void)state;
	task(&z, 'z', end, NULL);
	task(&d, 'd', queue_other_next, &z);
	task(&c, 'c', NULL, NULL);
	task(&b, 'b', queue_other, &d); /* in the same turn, after what is queued already */
	task(&a, 'a', NULL, NULL);
	loop_later(loop, &a.t);
	loop_later(loop, &b.t);
	loop_later(loop, &a.t); /* twice is once */
	loop_next(loop, &a.t);
	loop_later(loop, &c.t);
	loop_run(loop);
	assert_string_equal(trace, "abcdz");
}

/* A task cancels one of its round: the next one, the last one, one of the next turn; and the lists stay whole. */
static void test_cancel_in_tasks(void **state)
{
	static const char *const expected[] = { "sacdz", "sabdz", "sabcz" };

	(void)state;
	for (int which = 0; which < 3; which++) {
		struct task s, a, b, c, d, z, q;

		loop_free(loop);
		loop = loop_new();
		trace[0] = '\0';
		task(&z, 'z', end, NULL);
		task(&q, 'q', NULL, NULL);
		task(&d, 'd', NULL, NULL);
		task(&c, 'c', NULL, NULL);
		task(&b, 'b', NULL, NULL);
		task(&a, 'a', cancel_other, which == 0 ? &b : which == 1 ? &c : &d);
		task(&s, 's', queue_other_next, &d);
		loop_later(loop, &s.t);
		loop_later(loop, &a.t);
		loop_later(loop, &b.t);
		loop_later(loop, &c.t);
		c.then = b.then = queue_other_next;
		c.other = b.other = &z;
		loop_later(loop, &q.t);
		loop_task_cancel(loop, &q.t);
		loop_task_cancel(loop, &q.t);
		loop_run(loop);
		assert_string_equal(trace, expected[which]);
		assert_false(a.t.queued || b.t.queued || c.t.queued || d.t.queued || z.t.queued);
	}
}

/* Random queueing and cancelling from within tasks, against counts of what should run. */
#define N 20
static struct task many[N];
static int due[N], ran[N], steps;
static uint32_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static void chaos(struct task *k)
{
	int me = (int)(k - many);

	assert_int_equal(due[me], 1);
	due[me] = 0;
	ran[me]++;
	for (int i = 0; i < 4; i++) {
		int o = (int)rnd(N);

		switch (rnd(3)) {
		case 0: loop_later(loop, &many[o].t); due[o] = 1; break;
		case 1: loop_next(loop, &many[o].t); due[o] = 1; break;
		case 2: loop_task_cancel(loop, &many[o].t); due[o] = 0; break;
		}
		assert_int_equal(many[o].t.queued, due[o]);
	}
	if (++steps > 20000)
		loop_stop(loop);
	else if (steps % 50 == 0)
		for (int i = 0; i < N; i++) {
			loop_next(loop, &many[i].t);
			due[i] = 1;
		}
}

static void test_random_tasks(void **state)
{
	(void)state;
	seed = 3;
	for (int i = 0; i < N; i++) {
		task(&many[i], 'm', chaos, NULL);
		loop_later(loop, &many[i].t);
		due[i] = 1;
	}
	loop_run(loop);
	assert_true(steps > 20000);
	for (int i = 0; i < N; i++)
		assert_true(ran[i] > 100);
}

/* ---- readiness ---- */

static int fds[2];
static struct io io;
static unsigned seen;

static void on_io(void *ctx, unsigned what)
{
	(void)ctx;
	seen |= what;
	loop_stop(loop);
}

static void again(struct task *k)
{
	loop_later(loop, &k->t);
	if (++k->left > 1000000)
		loop_stop(loop);
}

/* A task that queues itself for ever does not keep readiness from being looked at. */
static void test_tasks_do_not_starve(void **state)
{
	struct task k;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	memset(&io, 0, sizeof(io));
	io_add_level(loop, &io, fds[0], on_io, NULL);
	task(&k, 'k', again, NULL);
	loop_later(loop, &k.t);
	assert_int_equal(write(fds[1], "x", 1), 1);
	seen = 0;
	loop_run(loop);
	assert_int_equal(seen, IO_READ);
	assert_true(k.left < 1000);
	io_del(&io);
	io_del(&io);
	close(fds[0]);
	close(fds[1]);
}

static void on_edge(void *ctx, unsigned what)
{
	struct io *other = ctx;

	seen |= what;
	if (other)
		io_del(other); /* which may be ready in this turn, too */
}

static void test_edges(void **state)
{
	struct io a = { 0 }, b = { 0 };
	struct loop_timer t = { 0 };
	int more[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, more), 0);
	seen = 0;
	io_add(loop, &a, fds[0], on_edge, &b);
	io_add(loop, &b, more[0], on_edge, &a);
	shutdown(fds[1], SHUT_WR);
	shutdown(more[1], SHUT_WR);
	timer_set(loop, &t, 20, stop, NULL);
	loop_run(loop);
	/* One of them ran once, with everything; the other was removed by it. */
	assert_int_equal(seen, IO_READ | IO_WRITE | IO_HUP);
	assert_int_equal(a.added + b.added, 1);
	io_del(&a);
	io_del(&b);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(more[i]);
	}
}

/* ---- deadlines ---- */

struct dl {
	struct deadline d;
	char name;
	uint64_t at;
	struct dl *cancel, *set;
};
static struct deadline_queue *q20, *q60;

static void on_deadline(struct deadline *d)
{
	struct dl *x = (struct dl *)d;
	size_t n = strlen(trace);

	assert_null(d->q); /* it may be set again, or freed */
	trace[n] = x->name;
	trace[n + 1] = '\0';
	x->at = loop_now(loop);
	if (x->cancel)
		deadline_cancel(&x->cancel->d);
	if (x->set) {
		deadline_set(q20, &x->set->d);
		x->set = NULL;
	}
	if (x->name == 'z')
		loop_stop(loop);
}

static void test_deadlines(void **state)
{
	struct dl a = { .name = 'a' }, b = { .name = 'b' }, c = { .name = 'c' }, e = { .name = 'e' }, z = { .name = 'z' };
	uint64_t start = loop_now(loop);

	(void)state;
	q20 = deadline_queue(loop, 20, on_deadline);
	q60 = deadline_queue(loop, 160, on_deadline);
	assert_ptr_equal(q20, deadline_queue(loop, 20, on_deadline));
	assert_ptr_not_equal(q20, q60);
	a.cancel = &b;
	a.set = &a; /* once more */
	deadline_set(q60, &a.d);
	deadline_set(q20, &a.d); /* moved: to the other queue */
	deadline_set(q20, &b.d);
	deadline_set(q20, &c.d);
	deadline_set(q60, &e.d);
	deadline_cancel(&e.d);
	deadline_cancel(&e.d);
	deadline_set(q60, &z.d);
	loop_run(loop);
	assert_string_equal(trace, "acaz");
	assert_true(c.at - start >= 20 && c.at - start < 20 + 50 + 500);
	assert_true(z.at - start >= 160);
	assert_null(b.d.q);
}

/* ---- memory ---- */

static void dispose_other(struct task *k)
{
	loop_dispose(loop, k->other);
}

static void look_at_other(struct task *k)
{
	assert_int_equal(k->other->name, 'o'); /* still there: the turn is not over */
	loop_stop(loop);
}

static void test_dispose(void **state)
{
	struct task *o = mem_alloc(sizeof(*o)), a, b;

	(void)state;
	task(o, 'o', NULL, NULL);
	task(&a, 'a', dispose_other, o);
	task(&b, 'b', look_at_other, o);
	loop_later(loop, &a.t);
	loop_later(loop, &b.t);
	loop_run(loop);
	assert_string_equal(trace, "ab");
	loop_dispose(loop, mem_alloc(10)); /* freed with the loop */
}

/* ---- clocks ---- */

static void test_clocks(void **state)
{
	struct loop_timer t = { 0 };
	uint64_t before = clock_mono_ms();

	(void)state;
	timer_set(loop, &t, 1000000, stop, NULL);
	timer_set(loop, &t, 30, stop, NULL);
	loop_run(loop);
	assert_true(loop_now(loop) >= before + 29);
	assert_int_equal(loop_now_us(loop) / 1000, loop_now(loop));
	assert_true(loop_wall_us(loop) > 1600000000000000);
	timer_cancel(&t);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_order), TEST(test_cancel_in_tasks), TEST(test_random_tasks), TEST(test_tasks_do_not_starve),
		TEST(test_edges), TEST(test_deadlines), TEST(test_dispose), TEST(test_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
