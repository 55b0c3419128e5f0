/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session that is fed whatever comes, as server or as client, on a link or not, in pieces of any size, with owners that answer, pause,
 * cut, leave and free it in the middle. The first four octets choose; the rest is input.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/http2/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct loop *loop;
static struct conn *conn;
static struct h2 *h2;
static const uint8_t *in;
static size_t left, piece;
static unsigned mood, turns;
static int far;
static struct loop_task stepper;

#define LEGS 64
static struct call {
	struct leg *leg;
	bool paused;
} calls[LEGS];

static void check(bool ok)
{
	if (!ok)
		abort();
}

static unsigned dice(unsigned below)
{
	mood = mood * 1664525 + 1013904223;
	return (mood >> 8) % below;
}

static void close_all(void)
{
	struct conn *c = conn;

	if (h2)
		h2_free(h2, LEG_CANCEL);
	h2 = NULL;
	conn = NULL;
	if (c) {
		conn_fini(c, false);
		loop_dispose(loop, c);
	}
}

/* ---- legs ---- */

static void check_fields(const struct h1_field *f, unsigned k)
{
	volatile unsigned sum = 0;

	check(k <= H2_MAX_FIELDS + 8);
	for (unsigned i = 0; i < k; i++) {
		for (uint32_t j = 0; j < f[i].name_len; j++)
			sum += (uint8_t)f[i].name[j];
		for (uint32_t j = 0; j < f[i].value_len; j++)
			check(f[i].value[j] != '\n' && f[i].value[j] != '\r' && f[i].value[j] != '\0');
		check(f[i].name_len > 0 && f[i].name[0] != ':');
	}
}

static void act(struct call *c)
{
	static const uint8_t body[3000];
	struct h1_field f = { .name = "x", .name_len = 1, .value = "y", .value_len = 1 };
	struct leg *l = c->leg;

	if (!l)
		return;
	switch (dice(12)) {
	case 0:
		l->ops->abort(l, (enum leg_why)dice(LEG_REVOKED + 1));
		c->leg = NULL;
		break;
	case 1: case 2:
		l->ops->pause(l);
		c->paused = true;
		break;
	case 3:
		l->ops->end(l, &f, dice(2));
		break;
	case 4:
		l->ev = NULL;
		c->leg = NULL;
		l->ops->end(l, NULL, 0);
		l->ops->release(l);
		break;
	case 5:
		if (!l->ops->full(l))
			l->ops->data(l, body, dice(sizeof(body)));
		break;
	case 6:
		h2_goaway(h2, dice(2) ? H2_NO_ERROR : H2_INTERNAL_ERROR);
		break;
	case 7:
		if (dice(8) == 0)
			close_all();
		break;
	case 8:
		h2_ping(h2);
		break;
	default:
		if (c->paused) {
			c->paused = false;
			l->ops->resume(l);
		}
	}
}

static void on_head(void *x, const struct leg_head *h)
{
	check_fields(h->fields, h->nfields);
	check(h->status >= 100 && h->status <= 599);
	act(x);
}

static void on_data(void *x, const uint8_t *d, size_t k)
{
	volatile uint8_t sum = 0;

	for (size_t i = 0; i < k; i++)
		sum ^= d[i];
	act(x);
}

static void on_end(void *x, const struct h1_field *t, unsigned k)
{
	check_fields(t, k);
	act(x);
}

static void on_drained(void *x)
{
	act(x);
}

static void on_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct call *c = x;

	check(c->leg && detail && (unsigned)why <= LEG_REVOKED);
	(void)unsent;
	c->leg = NULL;
}

static const struct leg_events events = {
	.on_head = on_head, .on_data = on_data, .on_end = on_end, .on_drained = on_drained, .on_abort = on_abort,
};

static struct call *free_call(void)
{
	for (int i = 0; i < LEGS; i++)
		if (!calls[i].leg) {
			calls[i].paused = false;
			return &calls[i];
		}
	return NULL;
}

/* ---- the session ---- */

static void answer(struct leg *l, unsigned status, bool end)
{
	struct h1_field f = { .name = "x-a", .name_len = 3, .value = "b", .value_len = 1 };

	l->ops->head(l, &(struct leg_head){ .status = status, .fields = &f, .nfields = 1, .end = end });
}

static void on_request(struct h2 *h, struct h2_stream *s, const struct leg_head *head)
{
	struct call *c = free_call();

	(void)h;
	check_fields(head->fields, head->nfields);
	check(head->method_len > 0 && head->authority_len > 0 && h1_authority_valid(head->authority, head->authority_len));
	check(!head->path == (head->method_id == H1_M_CONNECT));
	if (!c || dice(5) == 0) {
		answer(&s->leg, 403, true);
		s->leg.ops->release(&s->leg);
		return;
	}
	c->leg = &s->leg;
	s->leg.ev = &events;
	s->leg.x = c;
	if (dice(4) == 0)
		answer(&s->leg, 103, false);
	if (dice(3))
		answer(&s->leg, 200, false);
	else if (dice(2)) {
		c->leg->ops->abort(c->leg, LEG_REFUSED);
		c->leg = NULL;
	} else {
		answer(&s->leg, 204, true);
	}
}

static void quiet(struct h2 *h)
{
	(void)h;
}

static void on_goaway(struct h2 *h, int32_t last, uint32_t code)
{
	(void)last, (void)code;
	if (dice(2))
		h2_goaway(h, H2_NO_ERROR);
}

static void on_error(struct h2 *h, const char *why)
{
	check(h == h2 && *why);
	close_all();
}

static const struct h2_ops ops = {
	.on_request = on_request, .on_ping = quiet, .on_goaway = on_goaway, .on_settings = quiet, .on_idle = quiet,
	.on_room = quiet, .on_error = on_error,
};

static void conn_quiet(struct conn *c)
{
	(void)c;
}

static void conn_drained(struct conn *c)
{
	(void)c;
	if (h2)
		h2_output_ready(h2);
}

static void conn_close(struct conn *c, const char *why)
{
	(void)c, (void)why;
	close_all();
}

static const struct conn_ops conn_events = {
	.on_open = conn_quiet, .on_input = conn_quiet, .on_drained = conn_drained, .on_close = conn_close,
};

static void request(void)
{
	struct h2_request r = {
		.method = "GET", .method_len = 3, .scheme = "http", .scheme_len = 4, .authority = "a", .authority_len = 1,
		.path = "/", .path_len = 1, .end = dice(2), .keep = dice(2),
	};
	struct call *c = free_call();
	struct h2_stream *s = c ? h2_request(h2, &r) : NULL;

	if (!s)
		return;
	c->leg = &s->leg;
	s->leg.ev = &events;
	s->leg.x = c;
}

/* One piece of input a turn. */
static void on_turn(void *ctx)
{
	static uint8_t drain[65536];
	bool client = ctx != NULL;

	turns++;
	while (read(far, drain, sizeof(drain)) > 0)
		;
	if (h2 && left) {
		size_t k = piece && piece < left ? piece : left;
		uint8_t *copy = mem_alloc(k); /* of its exact size */

		memcpy(copy, in, k);
		in += k;
		left -= k;
		h2_input(h2, copy, k);
		mem_free(copy);
		if (h2 && client && dice(3) == 0)
			request();
		if (h2 && dice(8) == 0)
			act(&calls[dice(LEGS)]);
	} else {
		close_all();
		if (turns > 3 && !conn && left != SIZE_MAX) {
			left = SIZE_MAX; /* some turns more, for what was put off */
			turns = 0;
		} else if (left == SIZE_MAX && turns > 3) {
			loop_stop(loop);
			return;
		}
	}
	loop_next(loop, &stepper);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	static uint8_t whole[1 << 20];
	static const size_t pieces[] = { 0, 1, 2, 7, 9, 30, 100, 1000 };
	struct h2_config cfg = { .max_streams = 30, .stream_window = 65535, .session_window = 100000 };
	size_t at = 0;
	int sv[2];

	if (n < 4 || n > sizeof(whole) - 64)
		return 0;
	cfg.server = !(p[0] & 1);
	cfg.link = p[0] & 2;
	cfg.resets_per_second = p[0] & 4 ? 20 : 0;
	cfg.head_ms = p[0] & 8 ? 1000 : 0;
	cfg.write_ms = p[0] & 16 ? 1000 : 0;
	piece = pieces[p[1] % 8];
	if (piece && n / piece > 4000)
		piece = 0;
	mood = p[2] | (unsigned)p[3] << 8;
	if (cfg.server && !(p[0] & 32)) {
		memcpy(whole, magic, sizeof(magic) - 1);
		at = sizeof(magic) - 1;
	}
	memcpy(whole + at, p + 4, n - 4);
	in = whole;
	left = at + n - 4;
	turns = 0;
	memset(calls, 0, sizeof(calls));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) != 0)
		abort();
	far = sv[1];
	loop = loop_new();
	conn = mem_alloc(sizeof(*conn));
	conn_init(conn, loop, sv[0], false, &conn_events, NULL);
	h2 = h2_new(conn, &cfg, &ops, NULL);
	if (!cfg.server)
		for (int i = 0; i < 3; i++)
			request();
	loop_task_init(&stepper, on_turn, cfg.server ? NULL : (void *)&stepper);
	loop_next(loop, &stepper);
	loop_run(loop);
	for (int i = 0; i < LEGS; i++)
		check(!calls[i].leg);
	loop_free(loop);
	close(sv[1]);
	return 0;
}
