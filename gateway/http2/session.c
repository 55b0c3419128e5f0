/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions. h2_input() feeds nghttp2, whose callbacks hand header blocks to block.c and content to stream.c; on_send() lets nghttp2 make
 * frames and puts them into conn->out, once a turn, until the conn is full.
 *
 * nghttp2 must not be called to read or write from its own callbacks, and its session must not go while one runs. So a callback that
 * finds that the session is over only says so (session_give_up); the owner hears of it when nghttp2 has returned.
 */
#include "gateway/http2/internal.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/http2/pool.h"

/* Frames that cost us work and carry nothing, per second, before we hang up: cases 7, 8, 9, 12. */
#define GLITCHES_PER_SECOND 1000

/* Of the PING that finds out whether the far end has read our notice of GOAWAY; link health uses zeros. */
static const uint8_t notice_payload[8] = { 'g', 'o', 'i', 'n', 'g' };

void session_kick(struct h2 *h)
{
	if (!h->freed)
		loop_later(h->conn->loop, &h->send);
}

/* ---- the end ---- */

int session_give_up(struct h2 *h, const char *why, uint32_t code)
{
	if (!h->why) {
		h->why = why;
		nghttp2_session_terminate_session(h->ng, code);
	}
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* The GOAWAY, whatever else waits; what is content is dropped (stream_send_data()). */
static void last_words(struct h2 *h)
{
	const uint8_t *p;

	for (int failures = 0; !h->said_error && failures < 2;) {
		size_t before = h->conn->out.bytes;
		ssize_t n = nghttp2_session_mem_send(h->ng, &p);

		if (n > 0)
			outq_append(&h->conn->out, p, (size_t)n);
		else if (n < 0)
			failures++; /* a callback that gave up: nghttp2 goes on behind it */
		else if (h->conn->out.bytes == before)
			break;
	}
	conn_dirty(h->conn);
}

/* Called where nghttp2 is not: true when the session is over, and its owner knows. */
static bool over(struct h2 *h)
{
	if (h->freed || h->told)
		return true;
	if (!h->why && !nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng))
		h->why = h->said_error ? "protocol" : "goaway"; /* nghttp2 hung up; or both have said GOAWAY, and no stream is left */
	if (!h->why)
		return false;
	h->told = true;
	last_words(h);
	h->ops->on_error(h, h->why);
	return true;
}

/* ---- GOAWAY ---- */

/* A request of ours is a stream once its head was written. */
static bool any_unsent(struct h2 *h)
{
	struct h2_stream *s;

	LIST_FOREACH(s, &h->streams, entry)
		if (!nghttp2_session_find_stream(h->ng, s->id))
			return true;
	return false;
}

static void say_final(struct h2 *h, uint32_t code)
{
	h->final = true;
	h->final_due = false;
	h->last = nghttp2_session_get_last_proc_stream_id(h->ng);
	nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE, h->last, code, NULL, 0);
	session_kick(h);
}

/* ---- budgets ---- */

static bool over_budget(struct h2 *h, uint32_t *counter, uint32_t max)
{
	uint64_t s = loop_now(h->conn->loop) / 1000;

	if (s != h->second) {
		h->second = s;
		h->resets = h->glitches = 0;
	}
	return ++*counter > max;
}

static int count_reset(struct h2 *h)
{
	if (h->max_resets && over_budget(h, &h->resets, h->max_resets))
		return session_give_up(h, "reset-flood", NGHTTP2_ENHANCE_YOUR_CALM);
	return 0;
}

static int count_glitch(struct h2 *h)
{
	if (over_budget(h, &h->glitches, GLITCHES_PER_SECOND))
		return session_give_up(h, "frame-flood", NGHTTP2_ENHANCE_YOUR_CALM);
	return 0;
}

/* ---- receiving ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	(void)ng;
	(void)f;
	block_begin(ctx);
	return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nlen,
    const uint8_t *value, size_t vlen, uint8_t flags, void *ctx)
{
	(void)ng;
	(void)f;
	(void)flags;
	return block_field(ctx, (const char *)name, nlen, (const char *)value, vlen);
}

static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nlen,
    const uint8_t *value, size_t vlen, uint8_t flags, void *ctx)
{
	struct h2 *h = ctx;

	(void)ng, (void)f, (void)name, (void)nlen, (void)value, (void)vlen, (void)flags;
	h->in_block = false;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the default drops the field in silence */
}

/* nghttp2 found a malformed frame; a header block is not told any further then. */
static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *f, int code, void *ctx)
{
	struct h2 *h = ctx;

	(void)ng, (void)f, (void)code;
	h->in_block = false;
	return 0;
}

static void on_headers(struct h2 *h, const nghttp2_frame *f)
{
	bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct h2_stream *s;

	h->in_block = false;
	if (f->headers.cat == NGHTTP2_HCAT_REQUEST) {
		block_request(h, f->hd.stream_id, end);
		return;
	}
	s = session_stream(h, f->hd.stream_id);
	if (!s)
		return;
	if (f->headers.cat == NGHTTP2_HCAT_RESPONSE || !s->head_received)
		block_response(s, end);
	else if (end)
		block_trailers(s);
}

static int on_data(struct h2 *h, const nghttp2_frame *f)
{
	bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct h2_stream *s = session_stream(h, f->hd.stream_id);

	if (!end)
		return f->hd.length == f->data.padlen ? count_glitch(h) : 0; /* case 9 */
	if (s && !s->remote_end) {
		s->remote_end = true;
		if (s->leg.ev)
			s->leg.ev->on_end(s->leg.x, NULL, 0);
	}
	return 0;
}

static int on_ping(struct h2 *h, const nghttp2_frame *f)
{
	if (!(f->hd.flags & NGHTTP2_FLAG_ACK) || !h->pings)
		return count_glitch(h);
	h->pings--;
	if (memcmp(f->ping.opaque_data, notice_payload, sizeof(notice_payload)) != 0) {
		h->ops->on_ping(h);
		return 0;
	}
	/* What was on its way when the notice left is here: now the last stream is known (RFC 9113 6.8). */
	if (h->leaving && !h->final) {
		say_final(h, H2_NO_ERROR);
		if (h->nstreams == 0)
			h->ops->on_idle(h);
	}
	return 0;
}

static int on_settings(struct h2 *h, const nghttp2_frame *f)
{
	if (f->hd.flags & NGHTTP2_FLAG_ACK)
		return 0;
	if (h->settings_seen)
		return count_glitch(h);
	h->settings_seen = true;
	h->ops->on_settings(h);
	return 0;
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2 *h = ctx;
	int r = 0;

	(void)ng;
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		on_headers(h, f);
		break;
	case NGHTTP2_DATA:
		r = on_data(h, f);
		break;
	case NGHTTP2_RST_STREAM:
		r = count_reset(h);
		break;
	case NGHTTP2_PING:
		r = on_ping(h, f);
		break;
	case NGHTTP2_SETTINGS:
		r = on_settings(h, f);
		break;
	case NGHTTP2_PRIORITY:
		r = count_glitch(h);
		break;
	case NGHTTP2_GOAWAY:
		h->goaway_received = true;
		h->ops->on_goaway(h, f->goaway.last_stream_id, f->goaway.error_code);
		break;
	}
	return h->freed ? NGHTTP2_ERR_CALLBACK_FAILURE : r;
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *ctx)
{
	(void)ng;
	(void)flags;
	return stream_on_data(ctx, id, p, n);
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
	(void)ng;
	return stream_on_close(ctx, id, code);
}

/* ---- sending ---- */

static int send_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *framehd, size_t len,
    nghttp2_data_source *src, void *ctx)
{
	(void)ng;
	assert(f->data.padlen == 0);
	return stream_send_data(ctx, src->ptr, framehd, len);
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2 *h = ctx;
	struct h2_stream *s;

	(void)ng;
	if (f->hd.type == NGHTTP2_GOAWAY && f->goaway.error_code != H2_NO_ERROR)
		h->said_error = true;
	/* Cases 1, 2: a reset that the far end made us send costs as much as one of its own. */
	if (f->hd.type == NGHTTP2_RST_STREAM && h->server && !h->why) {
		s = session_stream(h, f->hd.stream_id);
		return s && s->reset ? 0 : count_reset(h);
	}
	if ((f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) && (f->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
		s = session_stream(h, f->hd.stream_id);
		if (s) {
			s->local_end = true;
			/* RFC 9113 8.1: a complete answer before the whole request: ask for no more of it. */
			if (h->server && s->released && !s->remote_end)
				stream_reset(h, s->id, H2_NO_ERROR);
		}
	}
	return 0;
}

/*
 * A request that cannot leave (after a GOAWAY, or too large) is closed as refused, which on_stream_close() tells. An answer that cannot
 * leave would keep its stream for ever.
 */
static int on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *f, int code, void *ctx)
{
	struct h2 *h = ctx;

	(void)ng;
	if (f->hd.type == NGHTTP2_HEADERS && h->server && code != NGHTTP2_ERR_STREAM_CLOSED &&
	    code != NGHTTP2_ERR_STREAM_CLOSING && code != NGHTTP2_ERR_SESSION_CLOSING && session_stream(h, f->hd.stream_id))
		stream_reset(h, f->hd.stream_id, H2_INTERNAL_ERROR);
	return 0;
}

static void pump(struct h2 *h)
{
	const uint8_t *p;
	ssize_t n;
	bool wrote = false;

	while (h->conn->out.bytes < CONN_HIGH && !h->freed) {
		size_t before = h->conn->out.bytes;

		n = nghttp2_session_mem_send(h->ng, &p);
		if (n < 0) {
			if (!h->why)
				session_give_up(h, "send", NGHTTP2_INTERNAL_ERROR);
			return;
		}
		if (n > 0)
			outq_append(&h->conn->out, p, (size_t)n);
		else if (h->conn->out.bytes == before)
			break;
		wrote = true;
	}
	if (h->freed)
		return;
	if (wrote)
		conn_dirty(h->conn);
	if (h->conn->out.bytes >= CONN_HIGH)
		conn_full(h->conn); /* on_drained comes, and with it h2_output_ready() */
}

static void on_send(void *ctx)
{
	struct h2 *h = ctx;

	if (h->freed || h->told)
		return;
	pump(h);
	if (h->final_due && !any_unsent(h)) {
		say_final(h, H2_NO_ERROR);
		pump(h);
		if (h->nstreams == 0)
			h->ops->on_idle(h);
	}
	if (over(h))
		return;
	stream_tell_drained(h);
	if (!h->freed && h->room_due) {
		h->room_due = false;
		h->ops->on_room(h);
	}
}

void h2_output_ready(struct h2 *h)
{
	session_kick(h);
}

/* ---- deadlines ---- */

static void on_head_limit(struct deadline *d)
{
	struct h2 *h = (struct h2 *)((char *)d - offsetof(struct h2, head));

	session_give_up(h, "slow-head", NGHTTP2_ENHANCE_YOUR_CALM); /* case 18 */
	over(h);
}

static void on_sweep(struct deadline *d)
{
	struct h2 *h = (struct h2 *)((char *)d - offsetof(struct h2, sweep));

	deadline_set(h->q_sweep, d);
	stream_sweep(h);
}

/* ---- life ---- */

static nghttp2_session_callbacks *callbacks(void)
{
	static nghttp2_session_callbacks *cb;

	if (cb)
		return cb;
	if (nghttp2_session_callbacks_new(&cb) != 0)
		log_fatal("nghttp2: out of memory");
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
	nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
	return cb;
}

static void make_session(struct h2 *h, const struct h2_config *cfg)
{
	nghttp2_option *opt;
	nghttp2_settings_entry set[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, cfg->server ? cfg->max_streams : 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, cfg->stream_window },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_MAX_HEAD },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
	};
	int r;

	if (nghttp2_option_new(&opt) != 0)
		log_fatal("nghttp2: out of memory");
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	nghttp2_option_set_peer_max_concurrent_streams(opt, 100);
	/* nghttp2's own limit answers 1,000 cancels with a GOAWAY, which on a link would hit every caller (case 92). */
	nghttp2_option_set_stream_reset_rate_limit(opt, cfg->resets_per_second ? 1000 : UINT32_MAX, cfg->resets_per_second ? 200 : UINT32_MAX);
	if (cfg->server)
		r = nghttp2_session_server_new3(&h->ng, callbacks(), h, opt, pool_mem());
	else
		r = nghttp2_session_client_new3(&h->ng, callbacks(), h, opt, pool_mem());
	nghttp2_option_del(opt);
	if (r != 0 || nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, set, cfg->server ? 3 : 4) != 0)
		log_fatal("nghttp2: %s", nghttp2_strerror(r));
	if (cfg->session_window > 65535)
		nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)cfg->session_window);
}

struct h2 *h2_new(struct conn *c, const struct h2_config *cfg, const struct h2_ops *ops, void *owner)
{
	struct h2 *h = mem_zalloc(sizeof(*h));

	h->conn = c;
	h->ops = ops;
	h->owner = owner;
	h->server = cfg->server;
	h->link = cfg->link;
	h->session_window = cfg->session_window;
	h->max_resets = cfg->resets_per_second;
	LIST_INIT(&h->streams);
	loop_task_init(&h->send, on_send, h);
	make_session(h, cfg);
	if (cfg->head_ms) {
		h->q_head = deadline_queue(c->loop, cfg->head_ms, on_head_limit);
		deadline_set(h->q_head, &h->head);
	}
	if (cfg->write_ms) {
		h->q_sweep = deadline_queue(c->loop, (cfg->write_ms + H2_SWEEPS - 1) / H2_SWEEPS, on_sweep);
		deadline_set(h->q_sweep, &h->sweep);
	}
	session_kick(h);
	return h;
}

static void really_free(void *ctx)
{
	struct h2 *h = ctx;

	nghttp2_session_del(h->ng);
	mem_free(h->saved);
	mem_free(h);
}

void h2_free(struct h2 *h, enum leg_why why)
{
	struct h2_stream *s;

	if (!h || h->freed)
		return;
	h->freed = true;
	loop_task_cancel(h->conn->loop, &h->send);
	deadline_cancel(&h->head);
	deadline_cancel(&h->sweep);
	while ((s = LIST_FIRST(&h->streams))) {
		/* A request of ours is a stream once its head was written: before that, nobody can have seen it. */
		if (!nghttp2_session_find_stream(h->ng, s->id))
			s->unsent = true;
		nghttp2_session_set_stream_user_data(h->ng, s->id, NULL);
		stream_abort_up(s, why, "link-lost");
		stream_free(s);
	}
	/* We may be inside nghttp2: it goes when the turn is over. */
	loop_task_init(&h->send, really_free, h);
	loop_next(h->conn->loop, &h->send);
}

void *h2_owner(const struct h2 *h)
{
	return h->owner;
}

static const char *failure(ssize_t code)
{
	switch (code) {
	case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
		return "no-http2";
	case NGHTTP2_ERR_CALLBACK_FAILURE:
	case NGHTTP2_ERR_NOMEM:
		return "protocol";
	default: /* case 3: nghttp2's own limits; it says no GOAWAY then */
		return "frame-flood";
	}
}

/* A head that is cut has to be whole in time; so has the first SETTINGS, which shows that the far end speaks HTTP/2 at all. */
static void watch_head(struct h2 *h)
{
	if (!h->q_head)
		return;
	if (h->settings_seen && !h->in_block)
		deadline_cancel(&h->head);
	else if (!h->head.q)
		deadline_set(h->q_head, &h->head);
}

int h2_input(struct h2 *h, const uint8_t *p, size_t n)
{
	ssize_t used;

	if (h->freed || h->told)
		return -1;
	if (h->saved)
		block_restore(h);
	used = nghttp2_session_mem_recv(h->ng, p, n);
	if (h->freed)
		return -1;
	if (used < 0 || (size_t)used != n)
		session_give_up(h, failure(used), used == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR : NGHTTP2_ENHANCE_YOUR_CALM);
	if (over(h))
		return -1;
	if (h->in_block)
		block_save(h);
	watch_head(h);
	if (nghttp2_session_want_write(h->ng))
		session_kick(h);
	return 0;
}

void h2_ping(struct h2 *h)
{
	nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, NULL);
	h->pings++;
	session_kick(h);
}

void h2_goaway(struct h2 *h, uint32_t code)
{
	if (h->leaving)
		return;
	h->leaving = true;
	if (h->server && code == H2_NO_ERROR && !h->goaway_received) {
		nghttp2_submit_shutdown_notice(h->ng);
		nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, notice_payload);
		h->pings++;
	} else if (!h->server && code == H2_NO_ERROR && any_unsent(h)) {
		h->final_due = true; /* nghttp2 would say GOAWAY first, and the far end would take no request that comes behind it */
	} else {
		say_final(h, code);
	}
	session_kick(h);
}

bool h2_done(const struct h2 *h)
{
	return h->nstreams == 0 && h->leaving && (h->final || h->goaway_received);
}

bool h2_open_ok(struct h2 *h)
{
	if (h->server || h->why || h->freed || h->goaway_received || h->leaving)
		return false;
	if (h2_room(h) == 0) {
		h->starved = true;
		return false;
	}
	return nghttp2_session_check_request_allowed(h->ng);
}

unsigned h2_streams(const struct h2 *h)
{
	return h->nstreams;
}

unsigned h2_room(const struct h2 *h)
{
	uint32_t max = h->settings_seen
	    ? nghttp2_session_get_remote_settings(h->ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) : 100;

	return h->nstreams < max ? max - h->nstreams : 0;
}
