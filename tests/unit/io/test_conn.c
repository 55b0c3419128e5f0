/* SPDX-License-Identifier: Apache-2.0 */
/* Connections over socket pairs and loopback TCP, plain and through a layer that shows what the conn asks of it. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/io/conn.h"

static struct loop *loop;
static struct loop_timer limit;

/* One end, as its owner sees it. */
struct end {
	struct conn *c;
	uint8_t *got;
	size_t ngot, cap;
	unsigned opened, drained, closed, inputs;
	char why[32];
	bool eof;
	size_t share;                   /* read so much at a time; 0: all */
	void (*on_input)(struct end *e);
	void (*on_drained)(struct end *e);
	void (*on_open)(struct end *e);
	bool (*until)(struct end *e);   /* stops the loop when true */
};

static void stop(void *ctx)
{
	(void)ctx;
	loop_stop(loop);
}

static void too_long(void *ctx)
{
	(void)ctx;
	fail_msg("the loop never stopped");
}

/* A new loop cannot be run twice, so each phase of a test has its until() in one run. */
static void run_loop(uint64_t ms)
{
	timer_set(loop, &limit, ms, stop, NULL);
	loop_run(loop);
}

static void run_until_stopped(void)
{
	timer_set(loop, &limit, 10000, too_long, NULL);
	loop_run(loop);
}

static void look(struct end *e)
{
	if (e->until && e->until(e))
		loop_stop(loop);
}

static void on_open(struct conn *c)
{
	struct end *e = c->owner;

	e->opened++;
	if (e->on_open)
		e->on_open(e);
	look(e);
}

static void take(struct end *e)
{
	static uint8_t buf[70000];
	ssize_t n = conn_read(e->c, buf, e->share ? e->share : sizeof(buf));

	e->inputs++;
	if (n > 0) {
		mem_grow(&e->got, &e->cap, e->ngot + (size_t)n, 1);
		memcpy(e->got + e->ngot, buf, (size_t)n);
		e->ngot += (size_t)n;
	} else if (n == 0) {
		e->eof = true;
	}
	if (n > 0 && e->c->readable && !e->c->paused)
		conn_again(e->c);
}

static void on_input(struct conn *c)
{
	struct end *e = c->owner;

	if (e->on_input)
		e->on_input(e);
	else
		take(e);
	look(e);
}

static void on_drained(struct conn *c)
{
	struct end *e = c->owner;

	e->drained++;
	if (e->on_drained)
		e->on_drained(e);
	look(e);
}

static void drop(struct end *e, bool reset)
{
	struct conn *c = e->c;

	e->c = NULL;
	conn_fini(c, reset);
	conn_fini(c, reset); /* twice is once */
	loop_dispose(loop, c);
}

static void on_close(struct conn *c, const char *why)
{
	struct end *e = c->owner;

	e->closed++;
	strncpy(e->why, why, sizeof(e->why) - 1);
	drop(e, false);
	look(e);
}

static const struct conn_ops ops = { .on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close };

static void make(struct end *e, int fd, bool connecting)
{
	memset(e, 0, sizeof(*e));
	e->c = mem_alloc(sizeof(*e->c));
	conn_init(e->c, loop, fd, connecting, &ops, e);
}

static void pair(struct end *a, struct end *b)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	make(a, sv[0], false);
	make(b, sv[1], false);
}

/* Two connected TCP sockets; small buffers. */
static void tcp_pair(int sv[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	struct addr from;
	int ls = socket(AF_INET, SOCK_STREAM, 0), small = 8192;

	assert_int_equal(bind(ls, (struct sockaddr *)&sin, sizeof(sin)), 0);
	setsockopt(ls, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(listen(ls, 1), 0);
	assert_int_equal(getsockname(ls, (struct sockaddr *)&sin, &len), 0);
	sv[0] = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	assert_int_equal(connect(sv[0], (struct sockaddr *)&sin, sizeof(sin)), 0);
	fcntl(sv[0], F_SETFL, O_NONBLOCK);
	sv[1] = conn_accept(ls, &from);
	assert_true(sv[1] >= 0);
	assert_int_equal(from.ss.ss_family, AF_INET);
	close(ls);
}

static int setup(void **state)
{
	(void)state;
	loop = loop_new();
	memset(&limit, 0, sizeof(limit));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	timer_cancel(&limit);
	loop_free(loop);
	return 0;
}

static void finish(struct end *e)
{
	if (e->c)
		drop(e, false);
	mem_free(e->got);
	e->got = NULL;
}

/* ---- bulk: partial writes, borrowing, back-pressure, pauses ---- */

#define BULK (6 * 1024 * 1024)
static uint8_t *bulk;
static size_t sent;
static uint32_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static void send_more(struct end *e)
{
	static uint8_t lent[40000];

	while (sent < BULK && !conn_full(e->c)) {
		size_t n = rnd(3) ? rnd(3000) + 1 : rnd(sizeof(lent)) + 1;

		if (n > BULK - sent)
			n = BULK - sent;
		if (n > 4000) {
			memcpy(lent, bulk + sent, n);
			conn_borrow(e->c, lent, n);
			conn_settle_all();
			memset(lent, 0xee, n); /* it is ours again */
		} else {
			conn_write(e->c, bulk + sent, n);
		}
		sent += n;
	}
	if (sent == BULK && !e->eof)
		conn_shutdown(e->c);
}

static struct loop_timer wake;

static void wake_up(void *ctx)
{
	struct end *e = ctx;

	if (e->c)
		conn_resume(e->c);
}

static void take_and_pause(struct end *e)
{
	take(e);
	assert_false(e->c->paused);
	if (rnd(4) == 0 && !e->eof) {
		conn_pause(e->c);
		if (rnd(2))
			conn_resume(e->c); /* at once */
		else
			timer_set(loop, &wake, rnd(3), wake_up, e);
	}
}

static bool at_eof(struct end *e)
{
	return e->eof;
}

static void bulk_over(struct end *a, struct end *b, size_t share)
{
	sent = 0;
	memset(&wake, 0, sizeof(wake));
	bulk = mem_alloc(BULK);
	for (size_t i = 0; i < BULK; i++)
		bulk[i] = (uint8_t)rnd(256);
	b->until = at_eof;
	b->on_input = take_and_pause;
	b->share = share;
	a->on_drained = send_more;
	a->c->was_full = true; /* to be told when it begins */
	conn_dirty(a->c);
	run_until_stopped();
	timer_cancel(&wake);
	assert_int_equal(b->ngot, BULK);
	assert_memory_equal(b->got, bulk, BULK);
	assert_int_equal(a->closed + b->closed, 0);
	assert_true(a->drained > 5);
	assert_null(a->c->out.head);
	mem_free(bulk);
}

static void test_bulk(void **state)
{
	struct end a, b;

	(void)state;
	seed = 1;
	pair(&a, &b);
	bulk_over(&a, &b, 0);
	finish(&a);
	finish(&b);
}

static void test_bulk_small_reads_tcp(void **state)
{
	struct end a, b;
	int sv[2];

	(void)state;
	seed = 2;
	tcp_pair(sv);
	make(&a, sv[0], false);
	make(&b, sv[1], false);
	bulk_over(&a, &b, 5000);
	finish(&a);
	finish(&b);
}

/* ---- ends ---- */

static void answer_at_eof(struct end *e)
{
	bool before = e->eof;

	take(e);
	if (e->eof && !before) {
		conn_write(e->c, "answer", 6);
		conn_shutdown(e->c);
	}
}

/* Half-close both ways: what is sent after the far end's FIN arrives. */
static void test_half_close(void **state)
{
	struct end a, b;

	(void)state;
	pair(&a, &b);
	b.on_input = answer_at_eof;
	a.until = at_eof;
	conn_write(a.c, "question", 8);
	conn_shutdown(a.c);
	run_until_stopped();
	assert_int_equal(b.ngot, 8);
	assert_memory_equal(a.got, "answer", 6);
	assert_int_equal(a.closed + b.closed, 0);
	finish(&a);
	finish(&b);
}

static bool is_closed(struct end *e)
{
	return e->closed;
}

static void test_reset(void **state)
{
	struct end a, b;
	int sv[2];

	(void)state;
	tcp_pair(sv);
	make(&a, sv[0], false);
	make(&b, sv[1], false);
	b.until = is_closed;
	conn_write(a.c, "x", 1);
	drop(&a, true);
	run_until_stopped();
	assert_string_equal(b.why, "reset");
	finish(&b);
}

static void take_and_check(struct end *e)
{
	take(e);
	if (e->c)
		conn_check(e->c);
}

/* The edge that brings the last octets brings the reset, too: conn_check() finds it. */
static void test_reset_with_last_octets(void **state)
{
	struct linger lg = { 1, 0 };
	struct end b;
	int sv[2];

	(void)state;
	tcp_pair(sv);
	make(&b, sv[1], false);
	b.on_input = take_and_check;
	b.until = is_closed;
	assert_int_equal(write(sv[0], "last", 4), 4);
	setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	close(sv[0]);
	run_until_stopped();
	assert_string_equal(b.why, "reset");
	finish(&b);
}

static void write_then_resume(struct end *e)
{
	conn_resume(e->c);
	e->on_drained = NULL;
}

/* RFC 9112 9.5: a write fails before the last words were read. They are, and the end is a reset, whatever the socket says of it. */
static void test_last_words_before_a_failed_write(void **state)
{
	struct linger lg = { 1, 0 };
	struct end b;
	int sv[2];

	(void)state;
	tcp_pair(sv);
	make(&b, sv[1], false);
	b.c->hear_out = true;
	conn_pause(b.c);
	b.until = is_closed;
	b.on_drained = write_then_resume;
	assert_int_equal(write(sv[0], "last", 4), 4);
	setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	close(sv[0]);
	conn_write(b.c, "more", 4);
	conn_tell_empty(b.c);
	run_until_stopped();
	assert_int_equal(b.ngot, 4);
	assert_memory_equal(b.got, "last", 4);
	assert_false(b.eof);
	assert_string_equal(b.why, "reset");
	finish(&b);
}

static void test_connect_fails(void **state)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct addr a = { .len = sizeof(sin) };
	socklen_t len = sizeof(sin);
	int s = socket(AF_INET, SOCK_STREAM, 0), fd;
	struct end e;

	(void)state;
	assert_int_equal(bind(s, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(s, (struct sockaddr *)&sin, &len), 0); /* bound, and nobody listens */
	memcpy(&a.ss, &sin, sizeof(sin));
	fd = conn_dial(&a);
	assert_true(fd >= 0);
	make(&e, fd, true);
	e.until = is_closed;
	run_until_stopped();
	assert_string_equal(e.why, "connect-failed");
	assert_int_equal(e.opened, 0);
	close(s);
	finish(&e);
}

static bool got_five(struct end *e)
{
	return e->ngot >= 5;
}

/* What was queued while connecting leaves without the owner's help. */
static void test_queued_before_open(void **state)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct addr a = { .len = sizeof(sin) };
	socklen_t len = sizeof(sin);
	int ls = socket(AF_INET, SOCK_STREAM, 0);
	struct end e, far;

	(void)state;
	assert_int_equal(bind(ls, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(ls, 1), 0);
	assert_int_equal(getsockname(ls, (struct sockaddr *)&sin, &len), 0);
	memcpy(&a.ss, &sin, sizeof(sin));
	make(&e, conn_dial(&a), true);
	conn_write(e.c, "early", 5);
	conn_shutdown(e.c);
	make(&far, accept4(ls, NULL, NULL, SOCK_NONBLOCK), false);
	far.until = got_five;
	run_until_stopped();
	assert_int_equal(e.opened, 1);
	finish(&e);
	finish(&far);
	close(ls);
}

/* ---- write deadline ---- */

static void test_write_timeout(void **state)
{
	static uint8_t zeros[1 << 20];
	struct end a, b;

	(void)state;
	pair(&a, &b);
	a.until = is_closed;
	conn_pause(b.c);
	conn_write_timeout(a.c, 100);
	conn_write(a.c, zeros, sizeof(zeros));
	run_until_stopped();
	assert_string_equal(a.why, "write-timeout");
	finish(&a);
	finish(&b);
}

static struct end *writer;
static uint8_t *lent_bulk;

/* In the turn in which the socket takes output again, everything that waits is written by conn_settle_all(), before the flush. */
static void borrow_and_settle(struct end *e)
{
	take(e);
	if (writer->c && writer->c->writable && lent_bulk) {
		conn_borrow(writer->c, lent_bulk, 1000);
		conn_settle_all();
		lent_bulk = NULL;
	}
}

static void test_settled_output_ends_the_deadline(void **state)
{
	static uint8_t zeros[400000];
	struct end a, b;

	(void)state;
	pair(&a, &b);
	writer = &a;
	lent_bulk = zeros;
	b.on_input = borrow_and_settle;
	conn_write_timeout(a.c, 150);
	conn_write(a.c, zeros, sizeof(zeros)); /* more than the socket takes at once */
	run_loop(500);
	assert_int_equal(a.closed, 0);
	assert_null(a.c->write_deadline.q);
	assert_int_equal(a.c->out.bytes, 0);
	assert_int_equal(b.ngot, sizeof(zeros) + 1000);
	finish(&a);
	finish(&b);
}

/* Progress, however slow, is no timeout. */
static struct loop_timer sip_timer;

static void sip(void *ctx)
{
	static uint8_t buf[30000];
	int *fd = ctx;

	if (read(*fd, buf, sizeof(buf)) > 0)
		timer_set(loop, &sip_timer, 60, sip, ctx);
	else
		loop_stop(loop);
}

static void test_slow_progress(void **state)
{
	static uint8_t zeros[600000];
	struct end a;
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	make(&a, sv[0], false);
	conn_write_timeout(a.c, 1000); /* the socket takes more only after several sips */
	conn_write(a.c, zeros, sizeof(zeros));
	memset(&sip_timer, 0, sizeof(sip_timer));
	timer_set(loop, &sip_timer, 60, sip, &sv[1]);
	run_until_stopped();
	assert_int_equal(a.closed, 0);
	assert_int_equal(a.c->out.bytes, 0);
	timer_cancel(&sip_timer);
	finish(&a);
	close(sv[1]);
}

/* ---- parting ---- */

static void flood_back(struct end *e)
{
	take(e);
	if (!e->eof && !conn_full(e->c))
		conn_write(e->c, "still talking", 13);
	if (e->eof && e->c) {
		drop(e, false);
		timer_set(loop, &limit, 50, stop, NULL); /* then the other end may go, too */
	}
}

/* Last words arrive, though the far end talks on and our close would have reset them away. */
static void test_part(void **state)
{
	static uint8_t words[300000];
	struct end a, b;
	struct conn *c;
	int sv[2];

	(void)state;
	tcp_pair(sv);
	make(&a, sv[0], false);
	make(&b, sv[1], false);
	b.on_input = flood_back;
	conn_write(b.c, "unread", 6);
	conn_write(a.c, words, sizeof(words));
	c = a.c;
	a.c = NULL;
	conn_part(c); /* and frees it */
	run_until_stopped();
	assert_int_equal(b.ngot, sizeof(words));
	assert_int_equal(b.closed, 0);
	assert_int_equal(a.closed, 0);
	finish(&a);
	finish(&b);
}

/* A far end that does not go is left after a second. */
static void test_part_is_bounded(void **state)
{
	struct end a, b;

	(void)state;
	pair(&a, &b);
	conn_part(a.c);
	a.c = NULL;
	run_loop(1500); /* b sees the end, and stays */
	assert_true(b.eof);
	assert_int_equal(b.closed, 0);
	finish(&a);
	finish(&b);
}

/* ---- drained ---- */

static bool drained_once(struct end *e)
{
	return e->drained;
}

static void test_tell_empty(void **state)
{
	static uint8_t zeros[700000];
	struct end a, b;

	(void)state;
	pair(&a, &b);
	a.until = drained_once;
	conn_write(a.c, zeros, sizeof(zeros));
	conn_tell_empty(a.c);
	run_until_stopped();
	assert_int_equal(a.c->out.bytes, 0);
	finish(&a);
	finish(&b);
}

/* An owner that frees its connection in any of its callbacks. */
static void drop_it(struct end *e)
{
	drop(e, false);
	loop_stop(loop);
}

static void test_free_in_callbacks(void **state)
{
	(void)state;
	for (int which = 0; which < 2; which++) {
		struct end a, b;

		loop_free(loop);
		loop = loop_new();
		memset(&limit, 0, sizeof(limit));
		pair(&a, &b);
		if (which == 0) {
			conn_write(b.c, "x", 1);
			a.on_input = drop_it;
		} else {
			conn_tell_empty(a.c);
			a.on_drained = drop_it;
		}
		run_until_stopped();
		assert_null(a.c);
		finish(&a);
		finish(&b);
	}
}

/* ---- a layer ---- */

struct layer {
	int fd;
	int waits;              /* handshakes that wait before it is done */
	bool fails, wants_write;
	unsigned handshakes, shutdowns, frees, mores;
	uint8_t held[64];       /* input that no edge announces */
	size_t nheld;
};

static enum conn_hs l_handshake(void *p)
{
	struct layer *l = p;

	l->handshakes++;
	if (l->fails)
		return CONN_HS_FAILED;
	return l->waits-- > 0 ? CONN_HS_WAIT : CONN_HS_DONE;
}

/* Reads more from the socket than it gives. */
static ssize_t l_read(void *p, void *to, size_t n)
{
	struct layer *l = p;
	ssize_t got;

	if (l->nheld == 0) {
		got = recv(l->fd, l->held, sizeof(l->held), 0);
		if (got < 0)
			return errno == EAGAIN ? -1 : -2;
		if (got == 0)
			return 0;
		l->nheld = (size_t)got;
	}
	n = n < 10 ? n : 10;
	n = n < l->nheld ? n : l->nheld;
	memcpy(to, l->held, n);
	memmove(l->held, l->held + n, l->nheld - n);
	l->nheld -= n;
	return (ssize_t)n;
}

static ssize_t l_write(void *p, const void *from, size_t n, bool more)
{
	struct layer *l = p;
	ssize_t put = send(l->fd, from, n < 1000 ? n : 1000, MSG_NOSIGNAL);

	l->mores += more;
	return put < 0 ? (errno == EAGAIN ? -1 : -2) : put;
}

static bool l_pending(void *p)
{
	return ((struct layer *)p)->nheld > 0 || true; /* it cannot know that the socket is empty */
}

static bool l_wants_write(void *p)
{
	return ((struct layer *)p)->wants_write;
}

static void l_shutdown(void *p)
{
	struct layer *l = p;

	l->shutdowns++;
	shutdown(l->fd, SHUT_WR);
}

static void l_free(void *p)
{
	((struct layer *)p)->frees++;
}

static const struct conn_layer layer_ops = {
	.handshake = l_handshake, .read = l_read, .write = l_write, .pending = l_pending, .wants_write = l_wants_write,
	.shutdown = l_shutdown, .free = l_free,
};

static void kick(void *ctx)
{
	struct end *e = ctx;

	conn_kick(e->c);
}

static bool got_all(struct end *e)
{
	return e->ngot >= 50000;
}

/* A handshake that is parked goes on by conn_kick() alone; what came meanwhile is read then. */
static void test_layer(void **state)
{
	static uint8_t words[50000];
	struct layer l = { .waits = 2 };
	struct loop_timer t[2] = { 0 };
	struct end a, b;

	(void)state;
	for (size_t i = 0; i < sizeof(words); i++)
		words[i] = (uint8_t)(i * 7);
	pair(&a, &b);
	l.fd = a.c->fd;
	conn_set_layer(a.c, &layer_ops, &l);
	a.until = got_all;
	conn_write(a.c, "through the layer", 17);
	conn_write(b.c, words, sizeof(words));
	for (int i = 0; i < 2; i++)
		timer_set(loop, &t[i], 20 + 20 * (uint64_t)i, kick, &a);
	run_until_stopped();
	for (int i = 0; i < 2; i++)
		timer_cancel(&t[i]);
	assert_int_equal(a.opened, 1);
	assert_true(l.handshakes >= 3);
	assert_memory_equal(a.got, words, sizeof(words));
	assert_memory_equal(b.got, "through the layer", 17);
	drop(&a, false);
	assert_int_equal(l.frees, 1);
	assert_int_equal(l.shutdowns, 1);
	finish(&a);
	finish(&b);
}

static void test_layer_fails(void **state)
{
	struct layer l = { .fails = true };
	struct end a, b;

	(void)state;
	pair(&a, &b);
	l.fd = a.c->fd;
	conn_set_layer(a.c, &layer_ops, &l);
	a.until = is_closed;
	run_until_stopped();
	assert_string_equal(a.why, "handshake");
	assert_int_equal(a.opened, 0);
	assert_int_equal(l.frees, 1);
	finish(&a);
	finish(&b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_bulk), TEST(test_bulk_small_reads_tcp), TEST(test_half_close), TEST(test_reset),
		TEST(test_reset_with_last_octets), TEST(test_last_words_before_a_failed_write), TEST(test_connect_fails), TEST(test_queued_before_open), TEST(test_write_timeout),
		TEST(test_settled_output_ends_the_deadline), TEST(test_slow_progress), TEST(test_part), TEST(test_part_is_bounded),
		TEST(test_tell_empty), TEST(test_free_in_callbacks), TEST(test_layer), TEST(test_layer_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
