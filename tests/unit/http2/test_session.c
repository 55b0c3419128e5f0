/* SPDX-License-Identifier: Apache-2.0 */
/* Two of our sessions against each other: exchanges, flow control, limits, and every way to end. */
#include "tests/unit/http2/bed.h"

#include <stdio.h>
#include <stdlib.h>

static struct call *c[64];
static int phase;

/* The server's side of a client's call: the newest first. */
static struct call *served(const char *path)
{
	struct call *s;

	LIST_FOREACH(s, &bed_server.calls, entry)
		if (strcmp(s->path, path) == 0)
			return s;
	return NULL;
}

static bool over(const struct call *k)
{
	return !k->leg;
}

/* ---- exchanges ---- */

static bool requests_done(void)
{
	for (int i = 0; i < 6; i++)
		if (!over(c[i]))
			return false;
	for (int i = 0; i < 6; i++) {
		assert_false(c[i]->aborted);
		assert_int_equal(c[i]->status, 200);
	}
	assert_string_equal(c[0]->field, "GET service.example:8080 /0");
	assert_true(c[0]->head_end);
	assert_string_equal(c[1]->field, "POST service.example:8080 /1000");
	assert_int_equal(c[1]->sum, bed_sum(1000));
	assert_int_equal(served("/1000")->sum, bed_sum(500));
	assert_int_equal(served("/1000")->got, 500);
	assert_true(served("/1000")->https);
	assert_string_equal(served("/1000")->field, "asked");
	/* Trailers both ways, after odd lengths. */
	assert_int_equal(c[2]->sum, bed_sum(70001));
	assert_string_equal(c[2]->trailer, "at the end");
	assert_int_equal(c[2]->ntrailers, 1);
	assert_string_equal(served("/70001")->trailer, "at the end");
	assert_int_equal(served("/70001")->sum, bed_sum(333));
	/* An empty body, and one with trailers only after a single octet. */
	assert_int_equal(c[3]->got, 0);
	assert_int_equal(c[4]->got, 1);
	assert_string_equal(c[4]->trailer, "at the end");
	/* Normalised: unreserved characters decoded, the query kept. */
	assert_non_null(served("/0/~a?x=%7e"));
	assert_int_equal(bed_client.settings, 1);
	assert_int_equal(bed_server.settings, 1);
	assert_int_equal(h2_streams(bed_client.h2), 0);
	assert_int_equal(h2_streams(bed_server.h2), 0);
	assert_true(bed_server.idles >= 1);
	return true;
}

static void test_requests(void **state)
{
	(void)state;
	bed_pair();
	c[0] = bed_request("GET", "/0", UINT64_MAX);
	c[1] = bed_request("POST", "/1000", 500);
	c[2] = bed_request("POST", "/70001", 333);
	c[3] = bed_request("PUT", "/0", 0);
	c[4] = bed_request("PUT", "/1", 0);
	c[5] = bed_request("GET", "/0/%7ea?x=%7e", UINT64_MAX);
	bed_run(requests_done);
}

static void serve_interim(struct call *s)
{
	bed_answer(s, 103, 0);
	bed_answer(s, 100, 0);
	bed_answer(s, 204, 0);
}

static bool first_over(void)
{
	return over(c[0]);
}

static void test_interim(void **state)
{
	(void)state;
	bed_server.serve = serve_interim;
	bed_pair();
	c[0] = bed_request("GET", "/", UINT64_MAX);
	bed_run(first_over);
	assert_int_equal(c[0]->interim, 2);
	assert_int_equal(c[0]->status, 204);
	assert_false(c[0]->aborted);
}

static bool connect_done(void)
{
	struct call *s = LIST_FIRST(&bed_server.calls);

	if (phase == 0 && s && s->leg) {
		assert_string_equal(s->method, "CONNECT");
		assert_string_equal(s->path, "");
		assert_string_equal(s->authority, "service.example:8080");
		/* Half-close: the client ends first, the server goes on. */
		bed_answer(s, 200, 50000);
		phase = 1;
	}
	return over(c[0]);
}

static void test_connect(void **state)
{
	(void)state;
	bed_server.serve = NULL;
	phase = 0;
	bed_pair();
	c[0] = bed_request("CONNECT", NULL, 40000);
	bed_run(connect_done);
	assert_false(c[0]->aborted);
	assert_int_equal(c[0]->sum, bed_sum(50000));
	assert_int_equal(LIST_FIRST(&bed_server.calls)->sum, bed_sum(40000));
}

/* ---- flow control ---- */

static unsigned turn;

static bool big_done(void)
{
	turn++;
	if (over(c[0]) && over(c[1]))
		return true;
	/* The readers pause at each piece and go on some turns later. */
	for (int i = 0; i < 2; i++)
		if (c[i]->paused && turn % 5 == 0)
			bed_resume(c[i]);
	for (struct call *s = LIST_FIRST(&bed_server.calls); s; s = LIST_NEXT(s, entry)) {
		s->pause_always = true;
		if (s->paused && turn % 3 == 0)
			bed_resume(s);
	}
	return false;
}

/* 10 MB each way with readers that pause all the time: whole, in order, and never more waiting than the marks allow. */
static void test_big_with_pauses(void **state)
{
	(void)state;
	bed_server_config.stream_window = bed_client_config.stream_window = 100000;
	bed_server_config.session_window = bed_client_config.session_window = 150000;
	bed_pair();
	c[0] = bed_request("GET", "/10000000", UINT64_MAX);
	c[1] = bed_request("POST", "/10", 10000001);
	c[0]->pause_always = c[1]->pause_always = true;
	bed_run(big_done);
	assert_int_equal(c[0]->got, 10000000);
	assert_int_equal(c[0]->sum, bed_sum(10000000));
	assert_int_equal(served("/10")->sum, bed_sum(10000001));
	assert_true(served("/10000000")->drained > 10);
	assert_true(c[1]->most <= 256 * 1024 + 20000);
	assert_true(served("/10000000")->most <= 256 * 1024 + 20000);
}

static bool held_done(void)
{
	turn++;
	switch (phase) {
	case 0: /* 4 readers that never resume hold all that the session may hold; a fifth goes hungry */
		if (turn < 200)
			return false;
		assert_true(c[4]->got < 500000);
		bed_resume(c[0]); /* which at once pauses again */
		phase = 1;
		turn = 0;
		return false;
	case 1: /* two of them are cut, with what they held: the windows come back */
		if (turn < 100)
			return false;
		for (int i = 0; i < 2; i++) {
			struct leg *leg = c[i]->leg;

			c[i]->leg = NULL;
			leg->ops->abort(leg, LEG_CANCEL);
		}
		phase = 2;
		return false;
	default:
		if (!over(c[4]))
			return false;
		assert_int_equal(c[4]->sum, bed_sum(1000000));
		for (int i = 2; i < 4; i++) {
			c[i]->pause_always = false;
			bed_resume(c[i]);
		}
		return over(c[2]) && over(c[3]);
	}
}

static void test_held_windows_come_back(void **state)
{
	(void)state;
	phase = 0;
	turn = 0;
	bed_client_config.stream_window = 65535;
	bed_client_config.session_window = 4 * 65535;
	bed_pair();
	for (int i = 0; i < 4; i++) {
		c[i] = bed_request("GET", "/1000000", UINT64_MAX);
		c[i]->pause_always = true;
	}
	c[4] = bed_request("GET", "/1000000", UINT64_MAX);
	bed_run(held_done);
	assert_int_equal(c[2]->sum, bed_sum(1000000));
	assert_int_equal(c[3]->sum, bed_sum(1000000));
}

static void serve_and_drop(struct call *s)
{
	struct leg *leg = s->leg;

	/* Answered before the content came, which nobody takes: it must not close the session's window. */
	s->leg = NULL;
	leg->ev = NULL;
	leg->ops->head(leg, &(struct leg_head){ .status = 403, .end = true });
	leg->ops->release(leg);
}

static bool many_early_done(void)
{
	static int left;

	if (phase == 0) {
		phase = 1;
		left = 200;
		c[0] = NULL;
	}
	if (c[0] && !over(c[0]) && !c[0]->status)
		return false;
	if (c[0]) {
		assert_int_equal(c[0]->status, 403);
		if (!over(c[0])) {
			struct leg *leg = c[0]->leg;

			c[0]->leg = NULL;
			leg->ev = NULL;
			leg->ops->release(leg); /* the answer is whole: the rest of the request is not */
		}
	}
	if (left-- == 0)
		return h2_streams(bed_client.h2) == 0 && h2_streams(bed_server.h2) == 0;
	c[0] = bed_request("POST", "/early", 90000);
	return false;
}

/* Answers that come before the request's end: the stream ends on both sides, its content costs no window (RFC 9113 8.1). */
static void test_early_answers(void **state)
{
	(void)state;
	phase = 0;
	bed_server.serve = serve_and_drop;
	bed_server_config.session_window = 65535;
	bed_server_config.stream_window = 65535;
	bed_pair();
	bed_run(many_early_done);
	assert_int_equal(bed_server.requests, 200);
}

/* ---- resets ---- */

static enum leg_why cut_with;
static bool by_server;

static bool reset_done(void)
{
	struct call *s = LIST_FIRST(&bed_server.calls), *mine, *other;

	if (phase == 0) {
		if (!s || !s->got)
			return false;
		mine = by_server ? s : c[0];
		mine->leg->ops->abort(mine->leg, cut_with);
		mine->leg = NULL;
		phase = 1;
	}
	mine = by_server ? s : c[0];
	other = by_server ? c[0] : s;
	if (!other->aborted || h2_streams(bed_client.h2) || h2_streams(bed_server.h2))
		return false;
	assert_false(mine->aborted);
	return true;
}

static void test_resets(void **state)
{
	static const struct {
		enum leg_why cut, told;
		const char *detail;
		bool unsent;
	} rows[] = {
		{ LEG_CANCEL, LEG_CANCEL, "cancelled", false },
		{ LEG_RESET, LEG_RESET, "reset", false },
		{ LEG_PROTOCOL, LEG_PROTOCOL, "protocol", false },
		{ LEG_INTERNAL, LEG_CANCEL, "stream-error", false },
		{ LEG_TIMEOUT, LEG_CANCEL, "cancelled", false },
		{ LEG_REFUSED, LEG_REFUSED, "refused-stream", true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (int side = 0; side < 2; side++) {
			struct call *other;

			bed_teardown(state);
			bed_setup(state);
			phase = 0;
			by_server = side;
			cut_with = rows[i].cut;
			bed_server.serve = NULL;
			bed_pair();
			c[0] = bed_request("POST", "/x", 300000);
			bed_run(reset_done);
			other = by_server ? c[0] : LIST_FIRST(&bed_server.calls);
			assert_int_equal(other->why, rows[i].told);
			assert_string_equal(other->detail, rows[i].detail);
			if (by_server)
				assert_int_equal(other->unsent, rows[i].unsent);
		}
}

/* A request that is cut in the turn in which it was made never leaves. */
static bool unborn_done(void)
{
	if (phase++ == 0) {
		c[0] = bed_request("POST", "/never", 10);
		c[0]->leg->ops->abort(c[0]->leg, LEG_CANCEL);
		c[0]->leg = NULL;
		c[1] = bed_request("GET", "/0", UINT64_MAX);
	}
	return over(c[1]) && h2_streams(bed_client.h2) == 0;
}

static void test_cut_before_it_leaves(void **state)
{
	(void)state;
	phase = 0;
	bed_pair();
	bed_run(unborn_done);
	assert_int_equal(bed_server.requests, 1);
	assert_false(c[1]->aborted);
}

/* ---- the end of a session ---- */

static bool graceful_done(void)
{
	if (phase == 0 && bed_client.settings) {
		/* In one turn: the server leaves, and requests are on their way to it. */
		h2_goaway(bed_server.h2, H2_NO_ERROR);
		assert_false(h2_done(bed_server.h2));
		for (int i = 0; i < 10; i++)
			c[i] = bed_request("POST", "/100", 50);
		phase = 1;
	}
	if (phase == 1 && bed_client.goaways) {
		assert_false(h2_open_ok(bed_client.h2));
		assert_null(bed_request("GET", "/0", UINT64_MAX));
		phase = 2;
	}
	if (phase < 2)
		return false;
	for (int i = 0; i < 10; i++)
		if (!over(c[i]))
			return false;
	return bed_server.error[0];
}

/* RFC 9113 6.8: with notice, nothing that is on its way is lost, and then it is over. */
static void test_goaway_with_notice(void **state)
{
	(void)state;
	phase = 0;
	bed_pair();
	bed_run(graceful_done);
	for (int i = 0; i < 10; i++) {
		assert_false(c[i]->aborted);
		assert_int_equal(c[i]->sum, bed_sum(100));
	}
	assert_int_equal(bed_client.goaway_code, 0);
	assert_string_equal(bed_server.error, "goaway");
}

static bool both_done(void)
{
	if (phase == 0 && bed_server.requests == 1) {
		h2_goaway(bed_client.h2, H2_NO_ERROR);
		h2_goaway(bed_client.h2, H2_NO_ERROR);
		assert_false(h2_done(bed_client.h2));
		phase = 1;
	}
	if (phase == 1 && bed_server.goaways) {
		bed_answer(LIST_FIRST(&bed_server.calls), 200, 1000);
		phase = 2;
	}
	return bed_client.error[0] || bed_server.error[0];
}

/* The client leaves: what runs goes on, and when it has ended either side knows that it is over. */
static void test_client_goaway(void **state)
{
	(void)state;
	phase = 0;
	bed_server.serve = NULL;
	bed_pair();
	c[0] = bed_request("GET", "/x", UINT64_MAX);
	bed_run(both_done);
	assert_false(c[0]->aborted);
	assert_int_equal(c[0]->sum, bed_sum(1000));
}

static bool at_once_done(void)
{
	if (phase == 0 && bed_server.requests == 1) {
		c[1] = bed_request("POST", "/1000", 5001);
		h2_goaway(bed_client.h2, H2_NO_ERROR);
		assert_false(h2_open_ok(bed_client.h2));
		assert_false(h2_done(bed_client.h2));
		phase = 1;
	}
	return phase == 1 && over(c[0]) && over(c[1]) && (bed_client.error[0] || bed_server.error[0]);
}

/* A client asks and leaves in one turn: what it asked is served, and then it is over. */
static void test_client_goaway_at_once(void **state)
{
	(void)state;
	phase = 0;
	bed_server.leaves = true;
	bed_pair();
	c[0] = bed_request("GET", "/10", UINT64_MAX);
	bed_run(at_once_done);
	assert_int_equal(bed_server.requests, 2);
	assert_false(c[1]->aborted);
	assert_int_equal(c[1]->sum, bed_sum(1000));
}

static bool refused_done(void)
{
	if (phase == 0 && bed_server.requests == 1) {
		h2_goaway(bed_server.h2, H2_INTERNAL_ERROR); /* without notice */
		c[1] = bed_request("POST", "/late", 5);
		phase = 1;
	}
	if (phase != 1 || !over(c[1]))
		return false;
	assert_true(c[1]->aborted);
	assert_int_equal(c[1]->why, LEG_REFUSED);
	assert_true(c[1]->unsent);
	assert_false(over(c[0]));
	assert_int_equal(bed_server.requests, 1);
	return true;
}

/* Beyond the GOAWAY's last stream: safe to try elsewhere. */
static void test_goaway_refuses(void **state)
{
	(void)state;
	phase = 0;
	bed_server.serve = NULL;
	bed_pair();
	c[0] = bed_request("GET", "/x", UINT64_MAX);
	bed_run(refused_done);
}

static bool lost_done(void)
{
	if (bed_server.requests != 1)
		return false;
	c[1] = bed_request("GET", "/queued", UINT64_MAX);
	bed_close(&bed_client);
	return true;
}

/* The link is lost: what left may have been done, what did not leave was not. */
static void test_lost_link(void **state)
{
	(void)state;
	bed_server.serve = NULL;
	bed_client.free_why = LEG_CANCEL;
	bed_pair();
	c[0] = bed_request("GET", "/x", UINT64_MAX);
	bed_run(lost_done);
	assert_true(c[0]->aborted && c[1]->aborted);
	assert_string_equal(c[0]->detail, "link-lost");
	assert_false(c[0]->unsent);
	assert_true(c[1]->unsent);
}

static struct outq back;
static bool took[2];

static void take_back_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct h2_stream *s = x;

	(void)why, (void)detail;
	took[unsent] = h2_take_back(s, &back);
}

static const struct leg_events take_back_events = { .on_abort = take_back_abort };

static void watch(struct call *of)
{
	of->leg->ev = &take_back_events;
	of->leg->x = of->leg;
}

static bool take_back_done(void)
{
	if (bed_server.requests != 1)
		return false;
	took[0] = took[1] = true;
	watch(c[0]);
	c[1] = bed_request("POST", "/queued", 5000);
	watch(c[1]);
	bed_close(&bed_client);
	return true;
}

/* The content of a request that did not leave is there for another try; what left is not. */
static void test_take_back(void **state)
{
	uint8_t got[6000];

	(void)state;
	outq_init(&back);
	bed_server.serve = NULL;
	bed_pair();
	c[0] = bed_request("POST", "/x", 600000);
	bed_run(take_back_done);
	assert_false(took[0]);
	assert_true(took[1]);
	assert_int_equal(back.bytes, 5000);
	assert_int_equal(outq_take(&back, got, sizeof(got)), 5000);
	assert_int_equal(bed_sum_of(got, 5000), bed_sum(5000));
	outq_reset(&back);
}

/* ---- limits ---- */

static bool room_done(void)
{
	if (phase == 0 && bed_client.settings) {
		for (int i = 0; i < 3; i++)
			assert_non_null(c[i] = bed_request("GET", "/x", UINT64_MAX));
		assert_int_equal(h2_room(bed_client.h2), 0);
		assert_false(h2_open_ok(bed_client.h2));
		assert_null(bed_request("GET", "/x", UINT64_MAX));
		phase = 1;
	}
	if (phase == 1 && bed_server.requests == 3) {
		assert_int_equal(bed_client.rooms, 0);
		bed_answer(LIST_FIRST(&bed_server.calls), 200, 0);
		phase = 2;
	}
	if (phase == 2 && bed_client.rooms) {
		assert_int_equal(bed_client.rooms, 1);
		assert_true(h2_open_ok(bed_client.h2));
		assert_non_null(bed_request("GET", "/x", UINT64_MAX));
		phase = 3;
	}
	return phase == 3 && bed_server.requests == 4;
}

/* The far end's limit of streams: kept, and who was turned away hears when there is room. */
static void test_room(void **state)
{
	(void)state;
	phase = 0;
	bed_server.serve = NULL;
	bed_server_config.max_streams = 3;
	bed_pair();
	bed_run(room_done);
}

/* A link takes 100 fields of an application and, beside them, what the gateway adds, a long chain included. */
static char cert[45000];
static bool fields_done(void)
{
	return over(c[0]);
}

static void test_fields_of_a_link(void **state)
{
	struct h1_field f[H2_MAX_FIELDS + 4];
	char names[H2_MAX_FIELDS][16];

	(void)state;
	for (int linked = 1; linked >= 0; linked--) {
		bed_teardown(state);
		bed_setup(state);
		memset(cert, 'A', sizeof(cert) - 1);
		for (int i = 0; i < H2_MAX_FIELDS; i++) {
			sprintf(names[i], "x-field-%d", i);
			f[i] = bed_field(names[i], "value");
		}
		f[H2_MAX_FIELDS] = bed_field("sallyport-exchange", "0");
		f[H2_MAX_FIELDS + 1] = bed_field("client-cert", cert);
		f[H2_MAX_FIELDS + 2] = bed_field("client-cert-chain", ":AAAA:");
		bed_server_config.link = linked;
		bed_pair();
		c[0] = bed_request_fields("GET", "/0", UINT64_MAX, f, H2_MAX_FIELDS + 3);
		bed_run(fields_done);
		if (linked) {
			assert_false(c[0]->aborted);
			assert_int_equal(served("/0")->nfields, H2_MAX_FIELDS + 3);
		} else {
			assert_true(c[0]->aborted);
			assert_int_equal(bed_server.requests, 0);
		}
	}
}

static bool stalled_done(void)
{
	struct call *s = LIST_FIRST(&bed_server.calls);

	return s && s->aborted && over(c[1]);
}

/* Case 11: a window that is held shut. The stream goes at its deadline; others and the session stay. */
static void test_stalled_stream(void **state)
{
	uint64_t start;

	(void)state;
	bed_server_config.write_ms = 300;
	bed_client_config.stream_window = 65535;
	bed_pair();
	c[1] = bed_request("GET", "/200000", UINT64_MAX);
	c[0] = bed_request("GET", "/1000000", UINT64_MAX);
	c[0]->pause_always = true;
	start = loop_now(bed_loop);
	bed_run(stalled_done);
	assert_int_equal(LIST_FIRST(&bed_server.calls)->why, LEG_TIMEOUT);
	assert_string_equal(LIST_FIRST(&bed_server.calls)->detail, "write-timeout");
	assert_true(loop_now(bed_loop) - start >= 300);
	assert_false(c[1]->aborted);
	assert_int_equal(c[1]->got, 200000);
	assert_int_equal(bed_client.error[0] | bed_server.error[0], 0);
}

/* ---- pings ---- */

static bool pinged(void)
{
	if (phase == 0 && bed_client.settings) {
		h2_ping(bed_client.h2);
		h2_ping(bed_client.h2);
		h2_ping(bed_server.h2);
		phase = 1;
	}
	return bed_client.pings == 2 && bed_server.pings == 1;
}

static void test_pings(void **state)
{
	(void)state;
	phase = 0;
	bed_pair();
	bed_run(pinged);
}

/* ---- owners that free the session in its callbacks ---- */

static int where;
static bool freed;

static void drop_server(int here)
{
	if (where != here || freed)
		return;
	freed = true;
	bed_close(&bed_server);
}

static void drop_request(struct h2 *h, struct h2_stream *s, const struct leg_head *head)
{
	(void)h, (void)s, (void)head;
	drop_server(0);
}

static void drop_h2(struct h2 *h)
{
	(void)h;
	drop_server(1);
}

static void drop_goaway(struct h2 *h, int32_t last, uint32_t code)
{
	(void)h, (void)last, (void)code;
	drop_server(2);
}

static void drop_head(struct call *s)
{
	if (where >= 3)
		bed_answer(s, 200, 10);
}

static void drop_error(struct h2 *h, const char *why)
{
	(void)h, (void)why;
	freed = true;
	bed_close(&bed_server);
}

static const struct h2_ops dropping = {
	.on_request = drop_request, .on_ping = drop_h2, .on_goaway = drop_goaway, .on_settings = drop_h2, .on_idle = drop_h2,
	.on_room = drop_h2, .on_error = drop_error,
};

static bool freed_done(void)
{
	if (phase == 0 && (bed_client.settings || freed)) {
		if (!freed) {
			for (int i = 0; i < 5; i++)
				bed_request("POST", "/10", 100);
			h2_goaway(bed_client.h2, H2_NO_ERROR);
		}
		phase = 1;
	}
	if (phase == 1 && freed && ++turn > 20)
		return true;
	return false;
}

static void test_free_in_callbacks(void **state)
{
	for (where = 0; where < 3; where++) {
		bed_teardown(state);
		bed_setup(state);
		phase = 0;
		turn = 0;
		freed = false;
		bed_server.ops = &dropping;
		bed_server.serve = drop_head;
		bed_pair();
		bed_run(freed_done);
	}
}

/* The client's owner frees it in a leg's events: at the head, at content, at an abort. */
static int leg_where;

static void leg_drop(int here)
{
	if (leg_where == here && bed_client.h2) {
		freed = true;
		bed_close(&bed_client);
	}
}

static void leg_head_ev(void *x, const struct leg_head *h)
{
	(void)x, (void)h;
	leg_drop(0);
}

static void leg_data_ev(void *x, const uint8_t *p, size_t n)
{
	(void)x, (void)p, (void)n;
	leg_drop(1);
}

static void leg_end_ev(void *x, const struct h1_field *t, unsigned n)
{
	(void)x, (void)t, (void)n;
	leg_drop(2);
}

static void leg_drained_ev(void *x)
{
	(void)x;
	leg_drop(3);
}

static void leg_abort_ev(void *x, enum leg_why why, bool unsent, const char *detail)
{
	(void)x, (void)why, (void)unsent, (void)detail;
	leg_drop(4);
}

static const struct leg_events dropping_legs = {
	.on_head = leg_head_ev, .on_data = leg_data_ev, .on_end = leg_end_ev, .on_drained = leg_drained_ev, .on_abort = leg_abort_ev,
};

static void answer_or_abort(struct call *s)
{
	if (leg_where == 4) {
		s->leg->ops->abort(s->leg, LEG_INTERNAL);
		s->leg = NULL;
		return;
	}
	bed_answer(s, 200, 101);
}

static bool leg_freed(void)
{
	return freed && ++turn > 10;
}

static void test_free_in_leg_events(void **state)
{
	static uint8_t zeros[300000];

	for (leg_where = 0; leg_where < 5; leg_where++) {
		bed_teardown(state);
		bed_setup(state);
		turn = 0;
		freed = false;
		bed_server.serve = answer_or_abort;
		bed_pair();
		for (int i = 0; i < 4; i++) {
			struct h2_request r = {
				.method = "POST", .method_len = 4, .scheme = "http", .scheme_len = 4, .authority = "a", .authority_len = 1,
				.path = "/", .path_len = 1,
			};
			struct h2_stream *s = h2_request(bed_client.h2, &r);

			s->leg.ev = &dropping_legs;
			s->leg.ops->data(&s->leg, zeros, sizeof(zeros));
			assert_true(s->leg.ops->full(&s->leg));
		}
		bed_run(leg_freed);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_requests), TEST(test_interim), TEST(test_connect), TEST(test_big_with_pauses), TEST(test_held_windows_come_back),
		TEST(test_early_answers), TEST(test_resets), TEST(test_cut_before_it_leaves), TEST(test_goaway_with_notice),
		TEST(test_client_goaway), TEST(test_client_goaway_at_once), TEST(test_take_back), TEST(test_goaway_refuses), TEST(test_lost_link), TEST(test_room), TEST(test_fields_of_a_link),
		TEST(test_stalled_stream), TEST(test_pings), TEST(test_free_in_callbacks), TEST(test_free_in_leg_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
