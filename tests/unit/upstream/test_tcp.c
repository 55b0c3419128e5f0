/* SPDX-License-Identifier: Apache-2.0 */
/* Raw TCP to endpoints: half-close both ways, resets, what is still to be written at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/upstream/bed.h"

static void look(void *ctx)
{
	struct bed *b = ctx;

	if (b->set->open)
		bed_later(b, 20, look);
	else
		bed_stop(b);
}

/* And until nothing of it is left. */
static void release_it(struct bed *b, struct bed_call *c)
{
	if (c->leg) {
		c->leg->ops->release(c->leg);
		c->leg = NULL;
	}
	look(b);
}

static void echo_then_bye(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	while (bed_read(fd, seen) > 0)
		;
	bed_say(fd, seen->text);
	bed_say(fd, " bye");
	close(fd);
}

/* Our direction ends first; what the service says afterwards still comes. */
static void test_half_close(void **state)
{
	static struct bed b;
	struct bed_call *c;

	(void)state;
	bed_init(&b, echo_then_bye);
	bed_dead_endpoint(&b);
	b.on_over = release_it;
	bed_ready(&b);
	c = bed_tcp(&b);
	bed_send(c, "hello"); /* before it is connected */
	bed_end(c);
	bed_run(&b);
	if (!c->ended)
		fail_msg("%s", c->detail);
	assert_int_equal(c->status, 200);
	assert_string_equal(c->body, "hello bye");
	bed_fini(&b);
}

static void done(void *ctx)
{
	bed_stop(ctx);
}

/* Takes its time to read, and says first that it has no more to say. */
static void slow_reader(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen), small = 65536;
	static char drop[65536];
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	bed_say(fd, "done");
	shutdown(fd, SHUT_WR);
	usleep(100000);
	while ((n = read(fd, drop, sizeof(drop))) > 0)
		seen->bytes += (size_t)n;
	seen->ended += n == 0;
	pause();
}

/* Both directions have ended, and more waits than the socket takes: all of it is written, then the connection goes. */
static void test_release_with_output(void **state)
{
	static struct bed b;
	struct bed_call *c;
	size_t n = 2000000;
	char *big = calloc(1, n + 1);

	(void)state;
	memset(big, 'x', n);
	bed_init(&b, slow_reader);
	b.on_over = release_it;
	bed_ready(&b);
	c = bed_tcp(&b);
	bed_send(c, big);
	assert_true(c->leg->ops->full(c->leg));
	bed_end(c);
	bed_run(&b);
	free(big);
	assert_true(c->ended);
	assert_string_equal(c->body, "done");
	for (int i = 0; i < 2000 && !b.seen->ended; i++)
		usleep(1000);
	assert_int_equal(b.seen->bytes, n);
	assert_int_equal(b.seen->ended, 1);
	bed_fini(&b); /* which finds nothing counted any more */
}

static void reset_it(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	bed_read(fd, seen);
	bed_reset(fd);
}

static void test_reset(void **state)
{
	static struct bed b;
	struct bed_call *c;

	(void)state;
	bed_init(&b, reset_it);
	bed_ready(&b);
	c = bed_tcp(&b);
	bed_send(c, "hello");
	bed_run(&b);
	assert_true(c->aborted && !c->unsent);
	assert_int_equal(c->why, LEG_RESET);
	bed_fini(&b);
}

static void note_end(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	bed_say(fd, "x");
	while (bed_read(fd, seen) > 0)
		;
	pause(); /* "ended" stays 0 when it was a reset */
}

static void abort_it(void *ctx)
{
	struct bed *b = ctx;

	b->call[0].leg->ops->abort(b->call[0].leg, LEG_RESET);
	b->call[0].leg = NULL;
	bed_later(b, 100, done);
}

static void test_abort_is_a_reset(void **state)
{
	static struct bed b;

	(void)state;
	bed_init(&b, note_end);
	bed_ready(&b);
	bed_tcp(&b);
	bed_later(&b, 100, abort_it);
	bed_run(&b);
	assert_int_equal(b.seen->connections, 1);
	assert_int_equal(b.seen->ended, 0);
	bed_fini(&b);
}

static void test_nobody_there(void **state)
{
	static struct bed b;
	struct bed_call *c;

	(void)state;
	bed_init(&b, note_end);
	bed_dead_endpoint(&b);
	b.service.nendpoints = 1;
	bed_ready(&b);
	c = bed_tcp(&b);
	if (c->leg) {
		bed_run(&b);
		assert_true(c->aborted && c->unsent);
	}
	assert_string_equal(c->detail, "connect-failed");
	b.service.nendpoints = 2;
	bed_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_half_close), cmocka_unit_test(test_release_with_output), cmocka_unit_test(test_reset),
		cmocka_unit_test(test_abort_is_a_reset), cmocka_unit_test(test_nobody_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
