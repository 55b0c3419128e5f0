/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http2/session.h"

#include <assert.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/http2/pool.h"

/*
 * Map: h2_input() feeds nghttp2, whose callbacks collect a header block in the arena, and hand whole heads,
 * content and ends to the stream's exchange. Output: legs fill stream->out; on_send() lets nghttp2 make frames and
 * puts them into conn->out, once a turn, until the conn is full.
 */

/* A stream's queue is full from here: its source is paused. */
#define STREAM_HIGH (256 * 1024)
#define STREAM_LOW (64 * 1024)
/* Frames that cost us work and carry nothing, per second, before we hang up: cases 7, 8, 9, 12. */
#define H2_GLITCHES_PER_SECOND 1000

struct h2 {
	nghttp2_session *ng;
	struct conn *conn;
	const struct h2_ops *ops;
	void *owner;
	LIST_HEAD(, h2_stream) streams;
	unsigned nstreams;
	unsigned nfull;        /* of which owe on_drained */
	struct loop_task send;
	uint32_t session_window;
	size_t held;           /* received for paused streams */
	size_t conn_held;      /* of which the session's window was not opened */
	uint32_t max_resets, resets, glitches;
	uint64_t second;
	bool server, failed, freed, in_callback, goaway_received, goaway_sent, settings_seen;
	/* the header block that is being received; in the arena, or saved while another session uses it */
	struct block *saved;
	bool in_block, too_large;
};

/* One header block at a time is decoded per process, unless a block is cut between two reads. */
struct block {
	struct h1_field fields[H2_MAX_FIELDS];
	unsigned n, used, decoded;
	bool regular;          /* a regular field was seen: pseudo-headers may not follow (nghttp2 checks) */
	const char *method, *scheme, *authority, *path, *protocol;
	uint32_t method_len, scheme_len, authority_len, path_len;
	const char *host;
	uint32_t host_len;
	unsigned status;
	uint64_t length;
	char bytes[H2_MAX_HEAD + 16];
};
static struct block arena;

static void on_send(void *ctx);

static struct h2_stream *stream_of(struct h2 *h, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h->ng, id);
}

static void kick(struct h2 *h)
{
	if (!h->freed)
		loop_later(h->conn->loop, &h->send);
}

static void fail(struct h2 *h, const char *why)
{
	if (h->failed)
		return;
	h->failed = true;
	h->ops->on_error(h, why);
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
	if (h->max_resets && over_budget(h, &h->resets, h->max_resets)) {
		nghttp2_session_terminate_session(h->ng, NGHTTP2_ENHANCE_YOUR_CALM);
		fail(h, "reset-flood");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

static int count_glitch(struct h2 *h)
{
	if (over_budget(h, &h->glitches, H2_GLITCHES_PER_SECOND)) {
		nghttp2_session_terminate_session(h->ng, NGHTTP2_ENHANCE_YOUR_CALM);
		fail(h, "frame-flood");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

/* ---- streams ---- */

static struct h2_stream *stream_new(struct h2 *h, int32_t id)
{
	struct h2_stream *s = outq_block();

	_Static_assert(sizeof(struct h2_stream) <= OUTQ_SMALL, "a stream outgrew its block");
	memset(s, 0, sizeof(*s));
	s->leg.ops = &h2_stream_ops;
	s->h2 = h;
	s->id = id;
	LIST_INSERT_HEAD(&h->streams, s, entry);
	h->nstreams++;
	return s;
}

static void open_windows(struct h2_stream *s)
{
	struct h2 *h = s->h2;
	uint32_t n = s->held;

	if (!n)
		return;
	s->held = 0;
	h->held -= n;
	if (!s->remote_end)
		nghttp2_session_consume_stream(h->ng, s->id, n);
	if (h->conn_held && h->held < h->session_window) {
		nghttp2_session_consume_connection(h->ng, h->conn_held);
		h->conn_held = 0;
	}
	kick(h);
}

static void stream_free(struct h2_stream *s)
{
	struct h2 *h = s->h2;

	open_windows(s);
	LIST_REMOVE(s, entry);
	h->nstreams--;
	h->nfull -= s->was_full;
	outq_reset(&s->out);
	mem_free(s->trailers);
	s->trailers = NULL;
	s->id = -1;
	outq_block_free(s);
	if (h->nstreams == 0 && !h->freed)
		h->ops->on_idle(h);
}

static void stream_abort_up(struct h2_stream *s, enum leg_why why, const char *detail)
{
	const struct leg_events *ev = s->leg.ev;

	if (!ev)
		return;
	s->leg.ev = NULL;
	ev->on_abort(s->leg.x, why, s->unsent, detail);
}

/* ---- receiving ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2 *h = ctx;

	(void)ng;
	(void)f;
	h->in_block = true;
	h->too_large = false;
	arena.n = arena.used = arena.decoded = 0;
	arena.regular = false;
	arena.method = arena.scheme = arena.authority = arena.path = arena.protocol = arena.host = NULL;
	arena.method_len = arena.scheme_len = arena.authority_len = arena.path_len = arena.host_len = 0;
	arena.status = 0;
	arena.length = LEG_NO_LENGTH;
	return 0;
}

static bool pseudo(const char *name, size_t len, const char *v, uint32_t n)
{
	switch (len) {
	case 5:
		if (memcmp(name, ":path", 5) == 0) {
			arena.path = v;
			arena.path_len = n;
			return true;
		}
		break;
	case 7:
		if (memcmp(name, ":method", 7) == 0) {
			arena.method = v;
			arena.method_len = n;
			return true;
		}
		if (memcmp(name, ":scheme", 7) == 0) {
			arena.scheme = v;
			arena.scheme_len = n;
			return true;
		}
		if (memcmp(name, ":status", 7) == 0) {
			arena.status = n == 3 ? (unsigned)((v[0] - '0') * 100 + (v[1] - '0') * 10 + (v[2] - '0')) : 0;
			return true;
		}
		break;
	case 9:
		if (memcmp(name, ":protocol", 9) == 0) {
			arena.protocol = v;
			return true;
		}
		break;
	case 10:
		if (memcmp(name, ":authority", 10) == 0) {
			arena.authority = v;
			arena.authority_len = n;
			return true;
		}
		break;
	}
	return false;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nlen,
    const uint8_t *value, size_t vlen, uint8_t flags, void *ctx)
{
	struct h2 *h = ctx;
	struct h1_field *fd;
	char *p;

	(void)ng;
	(void)f;
	(void)flags;
	/* Cases 5, 6: the decoded size and count are ours to bound; nghttp2 only advertises a limit. */
	arena.decoded += (unsigned)(nlen + vlen + 32);
	if (arena.decoded > H2_MAX_HEAD || arena.n == H2_MAX_FIELDS) {
		h->too_large = true;
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	p = arena.bytes + arena.used;
	arena.used += (unsigned)(nlen + vlen);
	memcpy(p, name, nlen);
	memcpy(p + nlen, value, vlen);
	if (nlen && p[0] == ':') {
		if (!pseudo(p, nlen, p + nlen, (uint32_t)vlen))
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		return 0;
	}
	fd = &arena.fields[arena.n++];
	fd->name = p;
	fd->name_len = (uint32_t)nlen;
	fd->value = p + nlen;
	fd->value_len = (uint32_t)vlen;
	fd->id = (uint8_t)h1_name_id(p, nlen);
	fd->hop = false;
	switch (fd->id) {
	case H1_F_HOST:
		if (arena.host) /* case 33's kin: two Hosts */
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		arena.host = fd->value;
		arena.host_len = fd->value_len;
		fd->hop = true;
		break;
	case H1_F_CONTENT_LENGTH:
		/* nghttp2 has checked that it is one number and that the content keeps to it (case 31). */
		arena.length = 0;
		for (size_t i = 0; i < vlen && arena.length < UINT64_MAX / 16; i++)
			arena.length = arena.length * 10 + (uint64_t)(fd->value[i] - '0');
		break;
	case H1_F_TE:
	case H1_F_KEEP_ALIVE:
	case H1_F_PROXY_CONNECTION:
	case H1_F_PROXY_AUTHENTICATE:
	case H1_F_PROXY_AUTHORIZATION:
		fd->hop = true;
		break;
	case H1_F_CONNECTION:
	case H1_F_TRANSFER_ENCODING:
	case H1_F_UPGRADE:
	case H1_F_HTTP2_SETTINGS:
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RFC 9113 8.2.2: malformed (case 32) */
	default:
		/* Written out as HTTP/1 one day: the checks of that side too (case 30). */
		if (!h1_name_valid(fd->name, fd->name_len) || !h1_value_valid(fd->value, fd->value_len))
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return 0;
}

static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nlen,
    const uint8_t *value, size_t vlen, uint8_t flags, void *ctx)
{
	(void)ng, (void)f, (void)name, (void)nlen, (void)value, (void)vlen, (void)flags, (void)ctx;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the default drops the field in silence */
}

static void reset_stream(struct h2 *h, int32_t id, uint32_t code)
{
	nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, id, code);
	kick(h);
}

static void request_head(struct h2 *h, int32_t id, bool end)
{
	struct leg_head head = {
		.method = arena.method, .method_len = arena.method_len,
		.authority = arena.authority, .authority_len = arena.authority_len,
		.path = arena.path, .path_len = arena.path_len,
		.fields = arena.fields, .nfields = arena.n,
		.length = arena.length, .end = end,
	};
	struct h2_stream *s;

	/* RFC 9113 8.3.1: an authority may come as Host alone; both must agree (case 33). */
	if (!head.authority) {
		head.authority = arena.host;
		head.authority_len = arena.host_len;
	} else if (arena.host && (arena.host_len != arena.authority_len ||
	    memcmp(arena.host, arena.authority, arena.host_len) != 0)) {
		reset_stream(h, id, H2_PROTOCOL_ERROR);
		return;
	}
	if (arena.protocol || !head.authority || !h1_authority_valid(head.authority, head.authority_len)) {
		reset_stream(h, id, H2_PROTOCOL_ERROR);
		return;
	}
	head.method_id = h1_method_id(head.method, head.method_len);
	for (uint32_t i = 0; i < head.authority_len; i++) {
		char *c = (char *)(uintptr_t)&head.authority[i]; /* in the arena */

		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c | 0x20);
	}
	if (head.method_id == H1_M_CONNECT) {
		head.path = NULL;
		head.path_len = 0;
		head.length = LEG_NO_LENGTH;
	} else {
		if (head.method_id != H1_M_OPTIONS || head.path_len != 1 || head.path[0] != '*') {
			if (!h1_path_valid(head.path, head.path_len)) {
				reset_stream(h, id, H2_PROTOCOL_ERROR); /* case 34 */
				return;
			}
			head.path_len = (uint32_t)h1_path_normalize((char *)(uintptr_t)head.path, head.path, head.path_len,
			    &head.path_only_len);
		} else {
			head.path_only_len = 1;
		}
		head.https = arena.scheme_len == 5 && memcmp(arena.scheme, "https", 5) == 0;
	}
	s = stream_new(h, id);
	s->remote_end = end;
	s->head_received = true;
	s->tunnel = head.method_id == H1_M_CONNECT;
	nghttp2_session_set_stream_user_data(h->ng, id, s);
	h->ops->on_request(h, s, &head);
}

static void response_head(struct h2_stream *s, bool end)
{
	struct leg_head head = {
		.status = arena.status,
		.fields = arena.fields, .nfields = arena.n,
		.length = arena.length, .end = end,
	};

	if (head.status >= 200)
		s->head_received = true;
	if (end)
		s->remote_end = true;
	if (s->leg.ev)
		s->leg.ev->on_head(s->leg.x, &head);
}

static int on_frame_recv(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2 *h = ctx;
	struct h2_stream *s;
	bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;

	(void)ng;
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		h->in_block = false;
		s = stream_of(h, f->hd.stream_id);
		if (f->headers.cat == NGHTTP2_HCAT_REQUEST) {
			request_head(h, f->hd.stream_id, end);
		} else if (!s) {
			break;
		} else if (f->headers.cat == NGHTTP2_HCAT_RESPONSE ||
		    (f->headers.cat == NGHTTP2_HCAT_HEADERS && !s->head_received)) {
			response_head(s, end);
		} else if (end) {
			s->remote_end = true;
			if (s->leg.ev)
				s->leg.ev->on_end(s->leg.x, arena.fields, arena.n);
		}
		break;
	case NGHTTP2_DATA:
		s = stream_of(h, f->hd.stream_id);
		if (!end && f->hd.length == 0)
			return count_glitch(h); /* case 9 */
		if (s && end && !s->remote_end) {
			s->remote_end = true;
			if (s->leg.ev)
				s->leg.ev->on_end(s->leg.x, NULL, 0);
		}
		break;
	case NGHTTP2_RST_STREAM:
		return count_reset(h);
	case NGHTTP2_PING:
		if (f->hd.flags & NGHTTP2_FLAG_ACK)
			h->ops->on_ping(h);
		else
			return count_glitch(h);
		break;
	case NGHTTP2_SETTINGS:
		if (f->hd.flags & NGHTTP2_FLAG_ACK)
			break;
		if (!h->settings_seen) {
			h->settings_seen = true;
			h->ops->on_settings(h);
			break;
		}
		return count_glitch(h);
	case NGHTTP2_PRIORITY:
		return count_glitch(h);
	case NGHTTP2_GOAWAY:
		h->goaway_received = true;
		h->ops->on_goaway(h, f->goaway.last_stream_id, f->goaway.error_code);
		break;
	}
	return 0;
}

static int on_data_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n, void *ctx)
{
	struct h2 *h = ctx;
	struct h2_stream *s = stream_of(h, id);

	(void)flags;
	if (!s || !s->leg.ev) {
		/* Nobody wants it any more: give the windows back, so that the session goes on. */
		nghttp2_session_consume(ng, id, n);
		kick(h);
		return 0;
	}
	s->held += (uint32_t)n;
	h->held += n;
	h->conn_held += n;
	s->leg.ev->on_data(s->leg.x, p, n);
	s = stream_of(h, id);
	if (s && !s->paused)
		open_windows(s);
	else if (h->held < h->session_window) {
		/* A paused stream holds its own window only, until all of them together hold the session's. */
		nghttp2_session_consume_connection(ng, h->conn_held);
		h->conn_held = 0;
		kick(h);
	}
	return 0;
}

static const char *code_detail(uint32_t code)
{
	switch (code) {
	case H2_REFUSED_STREAM: return "refused-stream";
	case H2_CANCEL: return "cancelled";
	case H2_CONNECT_ERROR: return "reset";
	case H2_ENHANCE_YOUR_CALM: return "calm";
	case NGHTTP2_NO_ERROR: return "stopped";
	case H2_PROTOCOL_ERROR: return "protocol";
	default: return "stream-error";
	}
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
	struct h2 *h = ctx;
	struct h2_stream *s = stream_of(h, id);

	if (!s)
		return 0;
	nghttp2_session_set_stream_user_data(ng, id, NULL);
	if (s->leg.ev) {
		if (code == H2_REFUSED_STREAM)
			s->unsent = true;
		stream_abort_up(s,
		    code == H2_CONNECT_ERROR ? LEG_RESET
			: code == H2_REFUSED_STREAM ? LEG_REFUSED
			: code == H2_PROTOCOL_ERROR ? LEG_PROTOCOL : LEG_CANCEL,
		    code_detail(code));
	}
	stream_free(s);
	return 0;
}

static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *f, int code, void *ctx)
{
	(void)ng, (void)f, (void)code;
	return count_reset(ctx); /* case 2: resets that the far end makes us send cost as much as its own */
}

/* ---- sending ---- */

static ssize_t read_content(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
    nghttp2_data_source *src, void *ctx)
{
	struct h2_stream *s = src->ptr;
	size_t n = s->out.bytes;

	(void)buf;
	(void)ctx;
	if (n == 0 && !s->out_end) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (n > len)
		n = len;
	if (s->out_end && n == s->out.bytes) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->trailers) {
			const nghttp2_nv *nv = s->trailers;
			size_t k = 0;

			while (nv[k].name)
				k++;
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			nghttp2_submit_trailer(ng, id, nv, k);
		}
	}
	return (ssize_t)n;
}

static int send_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *framehd, size_t len,
    nghttp2_data_source *src, void *ctx)
{
	struct h2_stream *s = src->ptr;
	struct h2 *h = ctx;

	(void)ng;
	assert(f->data.padlen == 0);
	outq_append(&h->conn->out, framehd, 9);
	outq_transfer(&h->conn->out, &s->out, len);
	s->sent += len;
	return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *ctx)
{
	struct h2 *h = ctx;
	struct h2_stream *s;

	(void)ng;
	/* A reset of what never became a stream of ours: the far end sent something malformed. */
	if (f->hd.type == NGHTTP2_RST_STREAM && !stream_of(h, f->hd.stream_id) && h->server)
		return count_reset(h);
	if ((f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) && (f->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
		s = stream_of(h, f->hd.stream_id);
		if (s) {
			s->local_end = true;
			/* RFC 9113 8.1: a complete answer before the whole request: ask for no more of it. */
			if (h->server && s->released && !s->remote_end)
				reset_stream(h, s->id, H2_NO_ERROR);
		}
	}
	return 0;
}

static int on_frame_not_send(nghttp2_session *ng, const nghttp2_frame *f, int code, void *ctx)
{
	struct h2 *h = ctx;
	struct h2_stream *s;

	(void)ng;
	if (f->hd.type == NGHTTP2_HEADERS && !h->server && code != NGHTTP2_ERR_CANCEL) {
		/* A request that never left, for example after a GOAWAY. on_stream_close does not come for it. */
		s = f->headers.cat == NGHTTP2_HCAT_REQUEST ? stream_of(h, f->hd.stream_id) : NULL;
		if (s)
			s->unsent = true;
	}
	return 0;
}

static void tell_streams(struct h2 *h)
{
	struct h2_stream *s, *next;

	if (!h->nfull)
		return;
	LIST_FOREACH_SAFE(s, &h->streams, entry, next) {
		if (s->was_full && s->out.bytes <= STREAM_LOW) {
			s->was_full = false;
			h->nfull--;
			if (s->leg.ev)
				s->leg.ev->on_drained(s->leg.x);
		}
	}
}

static void pump(struct h2 *h)
{
	const uint8_t *p;
	ssize_t n;
	bool wrote = false;

	while (h->conn->out.bytes < CONN_HIGH) {
		size_t before = h->conn->out.bytes;

		n = nghttp2_session_mem_send(h->ng, &p);
		if (n < 0) {
			fail(h, "send");
			return;
		}
		if (n == 0) {
			if (h->conn->out.bytes == before)
				break;
			wrote = true;
			continue;
		}
		outq_append(&h->conn->out, p, (size_t)n);
		wrote = true;
	}
	if (wrote)
		conn_dirty(h->conn);
	if (h->conn->out.bytes >= CONN_HIGH)
		conn_full(h->conn); /* on_drained comes, and with it h2_output_ready() */
}

static void on_send(void *ctx)
{
	struct h2 *h = ctx;

	if (h->freed)
		return;
	pump(h);
	if (!h->freed)
		tell_streams(h);
}

void h2_output_ready(struct h2 *h)
{
	kick(h);
}

void h2_settle(struct h2 *h)
{
	if (!h->freed)
		pump(h);
}

/* ---- session ---- */

static nghttp2_session_callbacks *callbacks(void)
{
	static nghttp2_session_callbacks *cb;

	if (cb)
		return cb;
	if (nghttp2_session_callbacks_new(&cb) != 0)
		return NULL;
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

struct h2 *h2_new(struct conn *c, const struct h2_config *cfg, const struct h2_ops *ops, void *owner)
{
	struct h2 *h = mem_zalloc(sizeof(*h));
	nghttp2_option *opt;
	nghttp2_settings_entry set[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, cfg->server ? cfg->max_streams : 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, cfg->stream_window },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_MAX_HEAD },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
	};

	h->conn = c;
	h->ops = ops;
	h->owner = owner;
	h->server = cfg->server;
	h->session_window = cfg->session_window;
	h->max_resets = cfg->resets_per_second;
	LIST_INIT(&h->streams);
	loop_task_init(&h->send, on_send, h);
	nghttp2_option_new(&opt);
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	nghttp2_option_set_peer_max_concurrent_streams(opt, 100);
	/* nghttp2's own limit answers 1,000 cancels with a GOAWAY, which on a link would hit every caller (case 92). */
	nghttp2_option_set_stream_reset_rate_limit(opt, cfg->resets_per_second ? 1000 : UINT32_MAX, cfg->resets_per_second ? 200 : UINT32_MAX);
	if (cfg->server)
		nghttp2_session_server_new3(&h->ng, callbacks(), h, opt, pool_mem());
	else
		nghttp2_session_client_new3(&h->ng, callbacks(), h, opt, pool_mem());
	nghttp2_option_del(opt);
	nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, set, cfg->server ? 3 : 4);
	if (cfg->session_window > 65535)
		nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)cfg->session_window);
	kick(h);
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
	while ((s = LIST_FIRST(&h->streams))) {
		/* A request of ours is a stream once its head was written: before that, nobody can have seen it. */
		if (!nghttp2_session_find_stream(h->ng, s->id))
			s->unsent = true;
		nghttp2_session_set_stream_user_data(h->ng, s->id, NULL);
		stream_abort_up(s, why, "link-lost");
		/* on_abort may not free it: it only forgets. */
		LIST_REMOVE(s, entry);
		h->nstreams--;
		outq_reset(&s->out);
		mem_free(s->trailers);
		outq_block_free(s);
	}
	/* We may be inside nghttp2: it goes when the turn is over. */
	loop_task_init(&h->send, really_free, h);
	loop_next(h->conn->loop, &h->send);
}

void *h2_owner(const struct h2 *h)
{
	return h->owner;
}

int h2_input(struct h2 *h, const uint8_t *p, size_t n)
{
	ssize_t used;

	if (h->saved) {
		/* A header block was cut by the last read: its pointers lead into the arena, where it goes again. */
		memcpy(&arena, h->saved, sizeof(arena));
		mem_free(h->saved);
		h->saved = NULL;
	}
	used = nghttp2_session_mem_recv(h->ng, p, n);
	if (h->freed)
		return -1;
	if (used < 0 || (size_t)used != n) {
		fail(h, used == NGHTTP2_ERR_FLOODED ? "frame-flood" : used == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? "no-http2" : "protocol");
		return -1;
	}
	if (h->failed)
		return -1;
	if (h->in_block) {
		h->saved = mem_alloc(sizeof(arena));
		memcpy(h->saved, &arena, sizeof(arena));
	}
	if (nghttp2_session_want_write(h->ng))
		kick(h);
	if (!nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng) && h->nstreams == 0) {
		fail(h, "goaway");
		return -1;
	}
	return 0;
}

void h2_ping(struct h2 *h)
{
	nghttp2_submit_ping(h->ng, NGHTTP2_FLAG_NONE, NULL);
	kick(h);
}

void h2_goaway(struct h2 *h, uint32_t code)
{
	if (h->goaway_sent)
		return;
	h->goaway_sent = true;
	nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->ng), code, NULL, 0);
	kick(h);
}

bool h2_open_ok(const struct h2 *h)
{
	return !h->failed && !h->freed && !h->goaway_received && !h->goaway_sent && h2_room(h) > 0 &&
	    nghttp2_session_check_request_allowed(h->ng);
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

static void set_nv(nghttp2_nv *nv, const char *name, size_t nlen, const char *value, size_t vlen, uint8_t flags)
{
	nv->name = (uint8_t *)(uintptr_t)name;
	nv->namelen = nlen;
	nv->value = (uint8_t *)(uintptr_t)value;
	nv->valuelen = vlen;
	nv->flags = flags;
}

/* End-to-end fields into nv; returns how many. Values that change every time stay out of the dynamic table. */
static size_t put_fields(nghttp2_nv *nv, const struct h1_field *f, unsigned n, uint8_t flags)
{
	size_t k = 0;

	for (unsigned i = 0; i < n; i++) {
		if (f[i].hop)
			continue;
		set_nv(&nv[k++], f[i].name, f[i].name_len, f[i].value, f[i].value_len,
		    (uint8_t)(flags | (f[i].id == H1_F_TRACEPARENT ? NGHTTP2_NV_FLAG_NO_INDEX : 0)));
	}
	return k;
}

struct h2_stream *h2_request(struct h2 *h, const struct h2_request *r)
{
	nghttp2_nv nv[H2_MAX_FIELDS + 16];
	uint8_t fl = NGHTTP2_NV_FLAG_NO_COPY_NAME | (r->keep ? NGHTTP2_NV_FLAG_NO_COPY_VALUE : 0);
	nghttp2_data_provider dp = { .read_callback = read_content };
	struct h2_stream *s;
	size_t n = 0;
	int32_t id;

	if (!h2_open_ok(h) || r->nfields > H2_MAX_FIELDS + 8)
		return NULL;
	set_nv(&nv[n++], ":method", 7, r->method, r->method_len, fl);
	if (r->scheme)
		set_nv(&nv[n++], ":scheme", 7, r->scheme, r->scheme_len, fl);
	set_nv(&nv[n++], ":authority", 10, r->authority, r->authority_len, fl);
	if (r->path)
		set_nv(&nv[n++], ":path", 5, r->path, r->path_len, fl);
	n += put_fields(nv + n, r->fields, r->nfields, r->keep ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE : 0);
	s = stream_new(h, 0);
	dp.source.ptr = s;
	id = nghttp2_submit_request(h->ng, NULL, nv, n, r->end ? NULL : &dp, s);
	if (id < 0) {
		s->leg.ev = NULL;
		LIST_REMOVE(s, entry);
		h->nstreams--;
		outq_block_free(s);
		return NULL;
	}
	s->id = id;
	s->out_end = r->end;
	s->has_provider = !r->end;
	s->tunnel = r->path == NULL;
	kick(h);
	return s;
}

/* ---- a stream as a leg ---- */

static void leg_head(struct leg *l, const struct leg_head *head)
{
	struct h2_stream *s = (struct h2_stream *)l;
	nghttp2_nv nv[H2_MAX_FIELDS + 2];
	nghttp2_data_provider dp = { .read_callback = read_content, .source.ptr = s };
	char status[3] = { (char)('0' + head->status / 100), (char)('0' + head->status / 10 % 10), (char)('0' + head->status % 10) };
	size_t n = 1;

	assert(s->h2->server);
	set_nv(&nv[0], ":status", 7, status, 3, NGHTTP2_NV_FLAG_NO_COPY_NAME);
	n += put_fields(nv + n, head->fields, head->nfields, 0);
	if (head->status < 200) {
		nghttp2_submit_headers(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, NULL, nv, n, NULL);
	} else {
		s->out_end = head->end;
		s->has_provider = !head->end;
		nghttp2_submit_response(s->h2->ng, s->id, nv, n, head->end ? NULL : &dp);
	}
	kick(s->h2);
}

static void resume_data(struct h2_stream *s)
{
	if (s->deferred) {
		s->deferred = false;
		nghttp2_session_resume_data(s->h2->ng, s->id);
	}
	kick(s->h2);
}

static void leg_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct h2_stream *s = (struct h2_stream *)l;

	outq_append(&s->out, p, n);
	resume_data(s);
}

static void leg_end(struct leg *l, const struct h1_field *trailers, unsigned ntrailers)
{
	struct h2_stream *s = (struct h2_stream *)l;

	if (s->out_end)
		return;
	s->out_end = true;
	if (ntrailers) {
		size_t bytes = 0, k = 0;
		nghttp2_nv *nv;
		char *p;

		for (unsigned i = 0; i < ntrailers; i++)
			bytes += trailers[i].name_len + trailers[i].value_len;
		/* The list ends with a NULL name; the bytes follow it. */
		nv = mem_alloc((ntrailers + 1) * sizeof(*nv) + bytes);
		p = (char *)(nv + ntrailers + 1);
		for (unsigned i = 0; i < ntrailers; i++) {
			if (trailers[i].hop)
				continue;
			memcpy(p, trailers[i].name, trailers[i].name_len);
			memcpy(p + trailers[i].name_len, trailers[i].value, trailers[i].value_len);
			set_nv(&nv[k++], p, trailers[i].name_len, p + trailers[i].name_len, trailers[i].value_len, 0);
			p += trailers[i].name_len + trailers[i].value_len;
		}
		nv[k].name = NULL;
		if (k)
			s->trailers = nv;
		else
			mem_free(nv);
	}
	resume_data(s);
}

static bool leg_full(struct leg *l)
{
	struct h2_stream *s = (struct h2_stream *)l;

	if (s->out.bytes < STREAM_HIGH)
		return false;
	if (!s->was_full) {
		s->was_full = true;
		s->h2->nfull++;
	}
	return true;
}

static void leg_pause(struct leg *l)
{
	((struct h2_stream *)l)->paused = true;
}

static void leg_resume(struct leg *l)
{
	struct h2_stream *s = (struct h2_stream *)l;

	s->paused = false;
	open_windows(s);
}

static void leg_abort(struct leg *l, enum leg_why why)
{
	struct h2_stream *s = (struct h2_stream *)l;
	static const uint32_t codes[] = {
		[LEG_CANCEL] = H2_CANCEL, [LEG_RESET] = H2_CONNECT_ERROR, [LEG_REFUSED] = H2_REFUSED_STREAM,
		[LEG_PROTOCOL] = H2_PROTOCOL_ERROR, [LEG_INTERNAL] = H2_INTERNAL_ERROR, [LEG_TIMEOUT] = H2_CANCEL,
		[LEG_REVOKED] = H2_CANCEL,
	};

	s->leg.ev = NULL;
	s->paused = false;
	outq_reset(&s->out);
	open_windows(s);
	reset_stream(s->h2, s->id, codes[why]);
}

static void leg_release(struct leg *l)
{
	struct h2_stream *s = (struct h2_stream *)l;

	s->leg.ev = NULL;
	s->released = true;
	s->paused = false;
	open_windows(s);
	if (s->h2->server && s->local_end && !s->remote_end)
		reset_stream(s->h2, s->id, H2_NO_ERROR);
}

const struct leg_ops h2_stream_ops = {
	.head = leg_head, .data = leg_data, .end = leg_end, .full = leg_full,
	.pause = leg_pause, .resume = leg_resume, .abort = leg_abort, .release = leg_release,
};
