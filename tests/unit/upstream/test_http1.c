/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 to endpoints: what is an answer and what is not, what goes into the pool, what is asked twice and what never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/upstream/bed.h"

#define OK "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

/* ---- answers ---- */

static const char *answer;
static bool then_close;

static void one_answer(int listener, struct bed_seen *seen)
{
	int fd;

	while ((fd = bed_accept(listener, seen)) >= 0) {
		while (bed_request(fd, seen)) {
			bed_say(fd, answer);
			if (then_close)
				break;
		}
		close(fd);
	}
}

static const struct {
	const char *method, *text;
	bool close;
	unsigned status; /* 0: LEG_PROTOCOL */
	const char *body, *trailers;
	bool pooled;
} answers[] = {
	{ "GET", OK, false, 200, "ok", "", true },
	{ "GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, 200, "", "", true },
	{ "GET", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", "", true },
	{ "GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", false, 304, "", "", true },
	{ "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false, 200, "", "", true },
	{ "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" OK, false, 200, "ok", "", true },
	{ "GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nx-end: 1\r\n\r\n", false, 200, "abc", "x-end=1;", true },
	{ "GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false, 200, "", "", true },
	{ "GET", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", false, 200, "ok", "", false },
	{ "GET", "HTTP/1.1 200 OK\r\n\r\nall of it", true, 200, "all of it", "", false },
	{ "GET", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, 200, "ok", "", false },
	/* More than was said (case 39): the answer is good, the connection is not. */
	{ "GET", OK "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", false, 200, "ok", "", false },
	{ "HEAD", OK, false, 200, "", "", false },
	{ "GET", "HTTP/1.1 204 No Content\r\n\r\nforged", false, 204, "", "", false },
	/* Case 39: two readings. */
	{ "GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", false, 0, "", "", false },
	{ "GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false, 0, "", "", false },
	{ "GET", "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n", false, 0, "", "", false },
	{ "GET", "HTTP/1.1 200 OK\nx: y\n\n", false, 0, "", "", false },
	{ "GET", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", false, 0, "", "", false },
	{ "GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", false, 0, "", "", false },
	{ "GET", "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc", false, 0, "", "", false },
	{ "GET", "\x16\x03\x01", false, 0, "", "", false },
};

static void test_answers(void **state)
{
	static struct bed b;

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct bed_call *c;

		answer = answers[i].text;
		then_close = answers[i].close;
		bed_init(&b, one_answer);
		bed_ready(&b);
		c = bed_http(&b, answers[i].method, "/a", "x", 0);
		bed_run(&b);
		if (answers[i].status == 0) {
			assert_true(c->aborted && !c->unsent);
			assert_string_equal(c->detail, "malformed-response");
			assert_int_equal(c->why, LEG_PROTOCOL);
		} else {
			if (!c->ended || c->status != answers[i].status || strcmp(c->body, answers[i].body) != 0)
				fail_msg("answer %zu: status %u, body \"%s\", %s", i, c->status, c->body, c->detail);
			assert_string_equal(c->trailers, answers[i].trailers);
			assert_int_equal(c->heads, 1);
		}
		if (b.set->services[0].endpoints[0].nidle != answers[i].pooled)
			fail_msg("answer %zu: pooled %u", i, b.set->services[0].endpoints[0].nidle);
		bed_fini(&b);
	}
}

/* ---- requests ---- */

static void test_request(void **state)
{
	static struct bed b;
	struct bed_call *c;

	(void)state;
	answer = OK;
	then_close = true;
	bed_init(&b, one_answer);
	bed_ready(&b);
	c = bed_http(&b, "POST", "/p?q", "v", LEG_NO_LENGTH);
	bed_send(c, "hello");
	bed_send(c, ""); /* a chunk of nothing would end it */
	bed_send(c, "!");
	bed_end(c);
	bed_run(&b);
	assert_true(c->ended);
	for (int i = 0; i < 100 && !strstr(b.seen->text, "0\r\n\r\n"); i++)
		usleep(1000);
	/* It may not have read all of it, but what it did is the beginning of this. */
	assert_memory_equal(b.seen->text, "POST /p?q HTTP/1.1\r\nhost: svc.example\r\nx-test: v\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
	    b.seen->bytes);
	bed_fini(&b);
}

/* ---- the pool ---- */

static unsigned rounds;

static void ask_again(struct bed *b, struct bed_call *c)
{
	assert_true(c->ended);
	if (--rounds)
		bed_http(b, "GET", "/again", "x", 0);
	else
		bed_stop(b);
}

static void test_kept_alive(void **state)
{
	static struct bed b;

	(void)state;
	answer = OK;
	then_close = false;
	rounds = 4;
	bed_init(&b, one_answer);
	b.on_over = ask_again;
	bed_ready(&b);
	bed_http(&b, "GET", "/first", "x", 0);
	bed_run(&b);
	assert_int_equal(b.seen->connections, 1);
	assert_int_equal(b.seen->requests, 4);
	bed_fini(&b);
}

static void ask_after_a_while(void *ctx)
{
	struct bed *b = ctx;

	assert_int_equal(b->set->services[0].endpoints[0].nidle, 0); /* its end was seen */
	bed_http(b, "POST", "/second", "x", 0);
}

static void close_noticed(struct bed *b, struct bed_call *c)
{
	assert_true(c->ended);
	if (b->ncalls == 1)
		bed_later(b, 100, ask_after_a_while);
	else
		bed_stop(b);
}

/* A connection that the far end closes while it is idle is not used again, not even for what may not be repeated. */
static void close_after_answer(int listener, struct bed_seen *seen)
{
	for (;;) {
		int fd = bed_accept(listener, seen);

		bed_request(fd, seen);
		bed_say(fd, OK);
		usleep(30000);
		close(fd);
	}
}

static void test_closed_while_idle(void **state)
{
	static struct bed b;

	(void)state;
	bed_init(&b, close_after_answer);
	b.on_over = close_noticed;
	bed_ready(&b);
	bed_http(&b, "GET", "/first", "x", 0);
	bed_run(&b);
	assert_int_equal(b.seen->connections, 2);
	bed_fini(&b);
}

/* The first connection ends as it is taken for a second request; later ones answer. */
static bool say_a_little;

static void stale_once(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	bed_request(fd, seen);
	bed_say(fd, OK);
	bed_request(fd, seen);
	if (say_a_little)
		bed_say(fd, "HTTP/1.1 2");
	close(fd);
	while ((fd = bed_accept(listener, seen)) >= 0)
		while (bed_request(fd, seen))
			bed_say(fd, OK);
}

static const char *second_method;
static uint64_t second_length;

static void ask_second(struct bed *b, struct bed_call *c)
{
	if (b->ncalls == 1) {
		struct bed_call *d;

		assert_true(c->ended);
		d = bed_http(b, second_method, "/second", "x", second_length);
		if (second_length) {
			bed_send(d, "body");
			bed_end(d);
		}
	} else {
		bed_stop(b);
	}
}

/* RFC 9112 9.3.1: what is safe to repeat and got no answer at all is asked again; nothing else ever is. */
static void test_stale(void **state)
{
	static const struct {
		const char *method;
		uint64_t length;
		bool little, again;
	} cases[] = {
		{ "GET", 0, false, true },
		{ "HEAD", 0, false, true },
		{ "DELETE", 0, false, true },
		{ "GET", 0, true, false },   /* an answer had begun */
		{ "POST", 0, false, false },
		{ "PATCH", 0, false, false },
		{ "PUT", 4, false, false },  /* the content is not kept */
		{ "POST", 4, false, false },
	};
	static struct bed b;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bed_call *c = &b.call[1];

		say_a_little = cases[i].little;
		second_method = cases[i].method;
		second_length = cases[i].length;
		bed_init(&b, stale_once);
		b.on_over = ask_second;
		bed_ready(&b);
		bed_http(&b, "GET", "/first", "x", 0);
		bed_run(&b);
		assert_int_equal(b.ncalls, 2);
		if (cases[i].again) {
			assert_int_equal(b.seen->requests, strcmp(second_method, "HEAD") == 0 ? 3 : 3);
			assert_int_equal(b.seen->connections, 2);
			assert_int_equal(c->status, 200);
		} else {
			assert_true(c->aborted && !c->unsent);
			assert_string_equal(c->detail, "no-response");
			assert_int_equal(b.seen->requests, 2);
			assert_int_equal(b.seen->connections, 1);
		}
		bed_fini(&b);
	}
}

/* ---- paused ---- */

static void resume_it(void *ctx)
{
	struct bed *b = ctx;

	b->call[0].leg->ops->resume(b->call[0].leg);
}

static void resume_soon(struct bed *b, struct bed_call *c)
{
	(void)c;
	bed_later(b, 30, resume_it);
}

/* Paused with the last octets in hand: the end comes with the next resume, though nothing more arrives. */
static void test_paused_at_the_end(void **state)
{
	static const char *const texts[] = {
		OK,
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
	};
	static struct bed b;

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct bed_call *c;

		answer = texts[i & 1];
		then_close = i & 2;
		bed_init(&b, one_answer);
		b.on_pause = resume_soon;
		bed_ready(&b);
		c = bed_http(&b, "GET", "/", "x", 0);
		c->pause_at_data = true;
		bed_run(&b);
		assert_true(c->ended);
		assert_string_equal(c->body, "ok");
		bed_fini(&b);
	}
}

/* ---- failures ---- */

static void hold(int listener, struct bed_seen *seen)
{
	int fd;

	while ((fd = bed_accept(listener, seen)) >= 0)
		bed_request(fd, seen);
}

static void reset_in_answer(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	bed_request(fd, seen);
	bed_say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
	usleep(20000);
	bed_reset(fd);
}

static void close_in_answer(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	bed_request(fd, seen);
	bed_say(fd, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf");
	close(fd);
}

static void close_in_request(int listener, struct bed_seen *seen)
{
	for (;;) {
		int fd = bed_accept(listener, seen);

		bed_request(fd, seen);
		close(fd);
	}
}

static void hold_in_answer(int listener, struct bed_seen *seen)
{
	int fd = bed_accept(listener, seen);

	bed_request(fd, seen);
	bed_say(fd, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
	pause();
}

static void test_failures(void **state)
{
	static const struct {
		void (*script)(int, struct bed_seen *);
		uint64_t length;
		enum leg_why why;
		const char *detail;
	} cases[] = {
		{ hold, 0, LEG_TIMEOUT, "response-timeout" },
		{ hold_in_answer, 0, LEG_TIMEOUT, "idle-timeout" },
		{ reset_in_answer, 0, LEG_RESET, "reset" },
		{ close_in_answer, 0, LEG_CANCEL, "closed-early" },
		{ close_in_request, 1000, LEG_CANCEL, "no-response" }, /* part of the content was sent: never elsewhere */
	};
	static struct bed b;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bed_call *c;

		bed_init(&b, cases[i].script);
		/* Short where it is what is waited for: elsewhere a busy machine is no failure. */
		b.service.response_ms = strcmp(cases[i].detail, "response-timeout") == 0 ? 150 : 20000;
		b.service.idle_ms = strcmp(cases[i].detail, "idle-timeout") == 0 ? 150 : 20000;
		bed_ready(&b);
		c = bed_http(&b, cases[i].length ? "PUT" : "GET", "/", "x", cases[i].length);
		if (cases[i].length)
			bed_send(c, "some of it");
		bed_run(&b);
		assert_true(c->aborted && !c->unsent);
		assert_string_equal(c->detail, cases[i].detail);
		if (strcmp(cases[i].detail, "no-response") != 0)
			assert_int_equal(c->why, cases[i].why);
		assert_int_equal(b.seen->connections, 1);
		bed_fini(&b);
	}
}

/* An endpoint that is not there is passed over; content that waits goes to the one that is. */
static void test_next_endpoint(void **state)
{
	static struct bed b;
	struct bed_call *c;

	(void)state;
	answer = OK;
	then_close = true;
	bed_init(&b, one_answer);
	bed_dead_endpoint(&b);
	bed_ready(&b);
	c = bed_http(&b, "POST", "/", "x", 4);
	assert_non_null(c->leg);
	bed_send(c, "body");
	bed_end(c);
	bed_run(&b);
	assert_int_equal(c->status, 200);
	assert_int_equal(b.seen->connections, 1);
	bed_fini(&b);
}

static void test_nobody_there(void **state)
{
	static struct bed b;
	struct bed_call *c;

	(void)state;
	bed_init(&b, hold);
	bed_dead_endpoint(&b);
	b.service.nendpoints = 1;
	bed_ready(&b);
	c = bed_http(&b, "GET", "/", "x", 0);
	if (c->leg) {
		bed_run(&b);
		assert_true(c->aborted && c->unsent);
		assert_int_equal(c->why, LEG_REFUSED);
	}
	assert_string_equal(c->detail, "connect-failed");
	b.service.nendpoints = 2;
	bed_fini(&b);
}

static void test_overflow(void **state)
{
	static struct bed b;

	(void)state;
	bed_init(&b, hold);
	b.service.max_connections = 2;
	bed_ready(&b);
	assert_non_null(bed_http(&b, "GET", "/1", "x", 0)->leg);
	assert_non_null(bed_http(&b, "GET", "/2", "x", 0)->leg);
	assert_null(bed_http(&b, "GET", "/3", "x", 0)->leg);
	assert_string_equal(b.call[2].detail, "overflow");
	for (int i = 0; i < 2; i++)
		b.call[i].leg->ops->abort(b.call[i].leg, LEG_CANCEL);
	assert_non_null(bed_http(&b, "GET", "/4", "x", 0)->leg);
	b.call[3].leg->ops->abort(b.call[3].leg, LEG_CANCEL);
	bed_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers), cmocka_unit_test(test_request), cmocka_unit_test(test_kept_alive),
		cmocka_unit_test(test_closed_while_idle), cmocka_unit_test(test_stale), cmocka_unit_test(test_paused_at_the_end),
		cmocka_unit_test(test_failures), cmocka_unit_test(test_next_endpoint), cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
