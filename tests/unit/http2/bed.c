/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http2/bed.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct loop *bed_loop;
struct end bed_client, bed_server;
struct h2_config bed_client_config, bed_server_config;
int bed_fd;
static struct loop_timer limit;
static struct loop_task stepper;
static bool (*step_fn)(void);

static const struct leg_events call_events;

/* ---- content ---- */

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static uint32_t add(uint32_t sum, uint8_t c)
{
	return (sum ^ c) * 16777619u + 1;
}

uint32_t bed_sum(uint64_t n)
{
	uint32_t sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum = add(sum, pattern(i));
	return sum;
}

uint32_t bed_sum_of(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = add(sum, p[i]);
	return sum;
}

uint64_t bed_bytes(void)
{
	return mallinfo2().uordblks;
}

struct h1_field bed_field(const char *name, const char *value)
{
	return (struct h1_field){
		.name = name, .name_len = (uint32_t)strlen(name), .value = value, .value_len = (uint32_t)strlen(value),
		.id = (uint8_t)h1_name_id(name, strlen(name)),
	};
}

/* ---- calls ---- */

static struct call *call_new(struct end *e)
{
	struct call *c = mem_zalloc(sizeof(*c));

	c->end = e;
	LIST_INSERT_HEAD(&e->calls, c, entry);
	return c;
}

void bed_forget(struct call *c)
{
	LIST_REMOVE(c, entry);
	mem_free(c);
}

static void copy(char *to, size_t size, const char *p, size_t n)
{
	n = n < size - 1 ? n : size - 1;
	memcpy(to, p, n);
	to[n] = '\0';
}

static void keep_head(struct call *c, const struct leg_head *h)
{
	copy(c->method, sizeof(c->method), h->method ? h->method : "", h->method_len);
	copy(c->authority, sizeof(c->authority), h->authority ? h->authority : "", h->authority_len);
	copy(c->path, sizeof(c->path), h->path ? h->path : "", h->path_len);
	c->status = h->status;
	c->https = h->https;
	c->length = h->length;
	c->head_end = h->end;
	c->nfields = h->nfields;
	for (unsigned i = 0; i < h->nfields; i++)
		if (h->fields[i].name_len == 6 && memcmp(h->fields[i].name, "x-test", 6) == 0)
			copy(c->field, sizeof(c->field), h->fields[i].value, h->fields[i].value_len);
}

static void maybe_over(struct call *c)
{
	struct leg *leg = c->leg;

	if (!leg || !(c->ended || c->head_end) || !c->end_sent)
		return;
	c->leg = NULL;
	leg->ev = NULL;
	leg->ops->release(leg);
}

static void send_some(struct call *c)
{
	static uint8_t buf[20000];

	while (c->leg && c->sending && c->sent < c->to_send) {
		struct h2_stream *s = (struct h2_stream *)c->leg;
		size_t n = c->to_send - c->sent < sizeof(buf) ? (size_t)(c->to_send - c->sent) : sizeof(buf);

		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(c->sent + i);
		c->leg->ops->data(c->leg, buf, n);
		c->sent += n;
		if (s->out.bytes > c->most)
			c->most = s->out.bytes;
		if (c->sent < c->to_send && c->leg->ops->full(c->leg))
			return;
	}
	if (c->leg && c->sending && !c->end_sent && c->sent == c->to_send) {
		struct h1_field t = bed_field("x-trailer", "at the end");

		c->end_sent = true;
		c->leg->ops->end(c->leg, &t, c->to_send % 2); /* odd lengths have trailers */
		maybe_over(c);
	}
}

static void on_head(void *x, const struct leg_head *h)
{
	struct call *c = x;

	if (h->status < 200) {
		c->interim++;
		return;
	}
	keep_head(c, h);
	if (h->end)
		maybe_over(c);
}

static void on_data(void *x, const uint8_t *p, size_t n)
{
	struct call *c = x;

	for (size_t i = 0; i < n; i++)
		c->sum = add(c->sum, p[i]);
	c->got += n;
	if (c->pause_always && c->leg) {
		c->paused = true;
		c->leg->ops->pause(c->leg);
	}
}

void bed_resume(struct call *c)
{
	c->paused = false;
	if (c->leg)
		c->leg->ops->resume(c->leg);
}

static void on_end(void *x, const struct h1_field *t, unsigned n)
{
	struct call *c = x;

	assert_false(c->ended);
	c->ended = true;
	c->ntrailers = n;
	for (unsigned i = 0; i < n; i++)
		if (t[i].name_len == 9 && memcmp(t[i].name, "x-trailer", 9) == 0)
			copy(c->trailer, sizeof(c->trailer), t[i].value, t[i].value_len);
	maybe_over(c);
}

static void on_drained(void *x)
{
	struct call *c = x;

	c->drained++;
	send_some(c);
}

static void on_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct call *c = x;

	assert_false(c->aborted);
	c->leg = NULL;
	c->aborted = true;
	c->why = why;
	c->unsent = unsent;
	copy(c->detail, sizeof(c->detail), detail, strlen(detail));
}

static const struct leg_events call_events = {
	.on_head = on_head, .on_data = on_data, .on_end = on_end, .on_drained = on_drained, .on_abort = on_abort,
};

struct call *bed_request_fields(const char *method, const char *path, uint64_t to_send, const struct h1_field *f, unsigned n)
{
	struct h2_request r = {
		.method = method, .method_len = (uint32_t)strlen(method), .scheme = path ? "https" : NULL, .scheme_len = 5,
		.authority = "Service.Example:8080", .authority_len = 20, .path = path, .path_len = path ? (uint32_t)strlen(path) : 0,
		.fields = f, .nfields = n, .end = to_send == UINT64_MAX,
	};
	struct h2_stream *s = h2_request(bed_client.h2, &r);
	struct call *c;

	if (!s)
		return NULL;
	c = call_new(&bed_client);
	c->leg = &s->leg;
	s->leg.ev = &call_events;
	s->leg.x = c;
	c->to_send = r.end ? 0 : to_send;
	c->end_sent = r.end;
	c->sending = !r.end;
	send_some(c);
	return c;
}

struct call *bed_request(const char *method, const char *path, uint64_t to_send)
{
	struct h1_field f = bed_field("x-test", "asked");

	return bed_request_fields(method, path, to_send, &f, 1);
}

void bed_answer(struct call *c, unsigned status, uint64_t to_send)
{
	char text[256];
	struct h1_field f;
	int n = snprintf(text, sizeof(text), "%.30s %.100s %.100s", c->method, c->authority, c->path[0] ? c->path : "-");

	f = bed_field("x-test", text);
	f.value_len = (uint32_t)n;
	c->leg->ops->head(c->leg, &(struct leg_head){
		.status = status, .fields = &f, .nfields = 1, .length = LEG_NO_LENGTH, .end = to_send == 0 });
	if (status < 200)
		return;
	c->to_send = to_send;
	c->sending = to_send > 0;
	c->end_sent = to_send == 0;
	send_some(c);
	maybe_over(c);
}

void bed_serve(struct call *c)
{
	bed_answer(c, 200, strtoull(c->path + 1, NULL, 10));
}

/* ---- ends ---- */

static void on_request(struct h2 *h, struct h2_stream *s, const struct leg_head *head)
{
	struct end *e = h2_owner(h);
	struct call *c = call_new(e);

	e->requests++;
	c->leg = &s->leg;
	keep_head(c, head);
	s->leg.ev = &call_events;
	s->leg.x = c;
	if (e->serve)
		e->serve(c);
}

static void on_ping(struct h2 *h)
{
	((struct end *)h2_owner(h))->pings++;
}

static void on_goaway(struct h2 *h, int32_t last, uint32_t code)
{
	struct end *e = h2_owner(h);

	e->goaways++;
	e->goaway_last = last;
	e->goaway_code = code;
	if (e->leaves)
		h2_goaway(h, H2_NO_ERROR);
}

static void on_settings(struct h2 *h)
{
	((struct end *)h2_owner(h))->settings++;
}

static void on_idle(struct h2 *h)
{
	((struct end *)h2_owner(h))->idles++;
}

static void on_room(struct h2 *h)
{
	((struct end *)h2_owner(h))->rooms++;
}

static void on_error(struct h2 *h, const char *why)
{
	struct end *e = h2_owner(h);

	assert_int_equal(e->error[0], 0);
	copy(e->error, sizeof(e->error), why, strlen(why));
	h2_free(h, LEG_CANCEL);
	e->h2 = NULL;
	conn_part(e->conn);
	e->conn = NULL;
}

static const struct h2_ops bed_ops = {
	.on_request = on_request, .on_ping = on_ping, .on_goaway = on_goaway, .on_settings = on_settings,
	.on_idle = on_idle, .on_room = on_room, .on_error = on_error,
};

static void conn_open(struct conn *c)
{
	(void)c;
}

static void conn_input(struct conn *c)
{
	static uint8_t buf[50000];
	struct end *e = c->owner;
	ssize_t n = conn_read(c, buf, sizeof(buf));

	if (n == 0) {
		bed_close(e);
		return;
	}
	if (n < 0)
		return;
	h2_input(e->h2, buf, (size_t)n);
	if (e->conn && e->conn->readable)
		conn_again(e->conn);
}

static void conn_drained(struct conn *c)
{
	struct end *e = c->owner;

	h2_output_ready(e->h2);
}

static void conn_close(struct conn *c, const char *why)
{
	(void)why;
	bed_close(c->owner);
}

static const struct conn_ops conn_events = {
	.on_open = conn_open, .on_input = conn_input, .on_drained = conn_drained, .on_close = conn_close,
};

void bed_close(struct end *e)
{
	if (e->h2)
		h2_free(e->h2, e->free_why);
	e->h2 = NULL;
	if (e->conn) {
		conn_fini(e->conn, false);
		loop_dispose(bed_loop, e->conn);
	}
	e->conn = NULL;
}

void bed_open(struct end *e, int fd, const struct h2_config *cfg)
{
	e->conn = mem_alloc(sizeof(*e->conn));
	conn_init(e->conn, bed_loop, fd, false, &conn_events, e);
	e->server = cfg->server;
	e->h2 = h2_new(e->conn, cfg, e->ops ? e->ops : &bed_ops, e);
}

void bed_pair(void)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	bed_open(&bed_client, sv[0], &bed_client_config);
	bed_open(&bed_server, sv[1], &bed_server_config);
}

void bed_raw(void)
{
	int sv[2], big = 4 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	bed_fd = sv[0];
	bed_open(&bed_server, sv[1], &bed_server_config);
}

int bed_setup(void **state)
{
	(void)state;
	bed_loop = loop_new();
	memset(&limit, 0, sizeof(limit));
	memset(&bed_client, 0, sizeof(bed_client));
	memset(&bed_server, 0, sizeof(bed_server));
	bed_fd = -1;
	bed_client_config = (struct h2_config){ .max_streams = 1000, .stream_window = 1 << 20, .session_window = 16 << 20 };
	bed_server_config = bed_client_config;
	bed_server_config.server = true;
	bed_server.serve = bed_serve;
	return 0;
}

static void forget_all(struct end *e)
{
	struct call *c;

	while ((c = LIST_FIRST(&e->calls)))
		bed_forget(c);
}

int bed_teardown(void **state)
{
	(void)state;
	bed_close(&bed_client);
	bed_close(&bed_server);
	if (bed_fd >= 0)
		close(bed_fd);
	timer_cancel(&limit);
	forget_all(&bed_client);
	forget_all(&bed_server);
	loop_free(bed_loop);
	return 0;
}

static void too_long(void *ctx)
{
	(void)ctx;
	fail_msg("the test's end never came: client \"%s\", server \"%s\"", bed_client.error, bed_server.error);
}

static int last_turns;

static void on_turn(void *ctx)
{
	(void)ctx;
	if (last_turns) {
		if (--last_turns == 0)
			loop_stop(bed_loop);
		else
			loop_next(bed_loop, &stepper);
		return;
	}
	if (step_fn()) {
		/* What is put off to the next turn, as h2_free() does, is seen through. */
		bed_close(&bed_client);
		bed_close(&bed_server);
		if (bed_fd >= 0)
			close(bed_fd);
		bed_fd = -1;
		last_turns = 3;
	}
	loop_next(bed_loop, &stepper);
}

void bed_run(bool (*step)(void))
{
	step_fn = step;
	last_turns = 0;
	loop_task_init(&stepper, on_turn, NULL);
	loop_next(bed_loop, &stepper);
	timer_set(bed_loop, &limit, 10000, too_long, NULL);
	loop_run(bed_loop);
}

/* ---- frames by hand ---- */

static void put(struct raw *r, const void *p, size_t n)
{
	assert_true(r->n + n <= sizeof(r->p));
	memcpy(r->p + r->n, p, n);
	r->n += n;
}

void raw_reset(struct raw *r)
{
	r->n = 0;
}

void raw_frame(struct raw *r, unsigned type, unsigned flags, uint32_t id, const void *payload, size_t n)
{
	uint8_t h[9] = {
		(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)type, (uint8_t)flags,
		(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id,
	};

	put(r, h, 9);
	put(r, payload, n);
}

void raw_preface(struct raw *r)
{
	put(r, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_frame(r, 4, 0, 0, "", 0);
}

/* RFC 7541 5.1, with a prefix of 7 bits. */
static void put_length(struct raw *b, size_t n)
{
	uint8_t c;

	if (n < 127) {
		c = (uint8_t)n;
		put(b, &c, 1);
		return;
	}
	c = 127;
	put(b, &c, 1);
	for (n -= 127; n >= 128; n >>= 7) {
		c = (uint8_t)(n % 128 + 128);
		put(b, &c, 1);
	}
	c = (uint8_t)n;
	put(b, &c, 1);
}

void raw_field(struct raw *b, const char *name, size_t nlen, const char *value, size_t vlen)
{
	put(b, "\x10", 1); /* RFC 7541 6.2.3, a new name */
	put_length(b, nlen);
	put(b, name, nlen);
	put_length(b, vlen);
	put(b, value, vlen);
}

void raw_request_block(struct raw *b, const char *method, const char *path)
{
	raw_field(b, ":method", 7, method, strlen(method));
	raw_field(b, ":scheme", 7, "https", 5);
	raw_field(b, ":authority", 10, "service.example", 15);
	raw_field(b, ":path", 5, path, strlen(path));
}

void raw_send(const struct raw *r)
{
	assert_int_equal(write(bed_fd, r->p, r->n), r->n);
}

void raw_read(struct seen *s)
{
	ssize_t n = 0;
	size_t at = 0;

	while (s->n < sizeof(s->p)) {
		n = read(bed_fd, s->p + s->n, sizeof(s->p) - s->n);
		if (n <= 0)
			break;
		s->n += (size_t)n;
	}
	if (n == 0 || (n < 0 && errno != EAGAIN))
		s->closed = true;
	while (s->n - at >= 9) {
		const uint8_t *f = s->p + at;
		size_t len = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];

		if (s->n - at < 9 + len)
			break;
		s->frames[f[3]]++;
		if (f[3] == 7) {
			s->has_goaway = true;
			s->goaway = (uint32_t)f[13] << 24 | (uint32_t)f[14] << 16 | (uint32_t)f[15] << 8 | f[16];
		}
		if (f[3] == 3) {
			s->resets++;
			s->reset_code = (uint32_t)f[9] << 24 | (uint32_t)f[10] << 16 | (uint32_t)f[11] << 8 | f[12];
		}
		at += 9 + len;
	}
	memmove(s->p, s->p + at, s->n - at);
	s->n -= at;
}
