/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams as legs. A stream is freed when nghttp2 has closed it, which happens in nghttp2_session_mem_recv() and _send() only, never
 * in what a leg's functions call.
 */
#include <assert.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/http2/internal.h"

/* A stream's queue is full from here: its source is paused. */
#define STREAM_HIGH (256 * 1024)
#define STREAM_LOW (64 * 1024)

struct h2_stream *stream_new(struct h2 *h, int32_t id)
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

void stream_free(struct h2_stream *s)
{
	struct h2 *h = s->h2;

	stream_open_windows(s);
	LIST_REMOVE(s, entry);
	h->nstreams--;
	h->nfull -= s->was_full;
	outq_reset(&s->out);
	mem_free(s->trailers);
	outq_block_free(s);
	if (h->freed)
		return;
	if (h->starved) {
		h->starved = false;
		h->room_due = true;
		session_kick(h);
	}
	if (h->nstreams == 0)
		h->ops->on_idle(h);
}

void stream_abort_up(struct h2_stream *s, enum leg_why why, const char *detail)
{
	const struct leg_events *ev = s->leg.ev;

	if (!ev)
		return;
	s->leg.ev = NULL;
	ev->on_abort(s->leg.x, why, s->unsent, detail);
}

/* ---- receiving ---- */

void stream_open_windows(struct h2_stream *s)
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
	session_kick(h);
}

int stream_on_data(struct h2 *h, int32_t id, const uint8_t *p, size_t n)
{
	struct h2_stream *s = session_stream(h, id);

	if (!s || !s->leg.ev) {
		/* Nobody wants it any more: give the windows back, so that the session goes on. */
		nghttp2_session_consume(h->ng, id, n);
		session_kick(h);
		return 0;
	}
	s->held += (uint32_t)n;
	h->held += n;
	h->conn_held += n;
	s->leg.ev->on_data(s->leg.x, p, n);
	if (h->freed)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (!s->paused) {
		stream_open_windows(s);
	} else if (h->held < h->session_window) {
		/* A paused stream holds its own window only, until all of them together hold the session's. */
		nghttp2_session_consume_connection(h->ng, h->conn_held);
		h->conn_held = 0;
		session_kick(h);
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
	case H2_NO_ERROR: return "stopped";
	case H2_PROTOCOL_ERROR: return "protocol";
	default: return "stream-error";
	}
}

static enum leg_why code_why(uint32_t code)
{
	switch (code) {
	case H2_REFUSED_STREAM: return LEG_REFUSED;
	case H2_CONNECT_ERROR: return LEG_RESET;
	case H2_PROTOCOL_ERROR: return LEG_PROTOCOL;
	default: return LEG_CANCEL;
	}
}

int stream_on_close(struct h2 *h, int32_t id, uint32_t code)
{
	struct h2_stream *s = session_stream(h, id);

	if (!s)
		return 0;
	nghttp2_session_set_stream_user_data(h->ng, id, NULL);
	if (code == H2_REFUSED_STREAM)
		s->unsent = true; /* RFC 9113 8.7 */
	stream_abort_up(s, code_why(code), code_detail(code));
	if (h->freed)
		return NGHTTP2_ERR_CALLBACK_FAILURE; /* and it went with the session */
	stream_free(s);
	return 0;
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

int stream_send_data(struct h2 *h, struct h2_stream *s, const uint8_t *framehd, size_t len)
{
	/* The connection has enough; or the session is over, or the content was dropped since read_content() promised it. */
	if (h->why || len > s->out.bytes)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (h->conn->out.bytes >= CONN_HIGH)
		return NGHTTP2_ERR_WOULDBLOCK;
	outq_append(&h->conn->out, framehd, 9);
	outq_transfer(&h->conn->out, &s->out, len);
	s->sent += len;
	return 0;
}

void stream_tell_drained(struct h2 *h)
{
	struct h2_stream *s, *next;

	if (!h->nfull)
		return;
	LIST_FOREACH_SAFE(s, &h->streams, entry, next) {
		if (!s->was_full || s->out.bytes > STREAM_LOW)
			continue;
		s->was_full = false;
		h->nfull--;
		if (s->leg.ev)
			s->leg.ev->on_drained(s->leg.x);
		if (h->freed)
			return;
	}
}

/* Case 11: a window that is held shut. */
void stream_sweep(struct h2 *h)
{
	struct h2_stream *s, *next;

	LIST_FOREACH_SAFE(s, &h->streams, entry, next) {
		bool waits = s->out.bytes || (s->out_end && !s->local_end);

		if (!waits || s->reset || s->sent != s->swept) {
			s->swept = s->sent;
			s->still = 0;
			continue;
		}
		if (++s->still <= H2_SWEEPS)
			continue;
		outq_reset(&s->out);
		stream_reset(h, s->id, H2_CANCEL);
		stream_abort_up(s, LEG_TIMEOUT, "write-timeout");
		if (h->freed)
			return;
	}
}

void stream_reset(struct h2 *h, int32_t id, uint32_t code)
{
	struct h2_stream *s = session_stream(h, id);

	if (s)
		s->reset = true;
	nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, id, code);
	session_kick(h);
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
		LIST_REMOVE(s, entry);
		h->nstreams--;
		outq_block_free(s);
		return NULL;
	}
	s->id = id;
	s->out_end = r->end;
	session_kick(h);
	return s;
}

bool h2_take_back(struct h2_stream *s, struct outq *to)
{
	if (!s->unsent || s->sent || s->trailers)
		return false;
	outq_transfer(to, &s->out, s->out.bytes);
	return true;
}

/* ---- the leg ---- */

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
		nghttp2_submit_response(s->h2->ng, s->id, nv, n, head->end ? NULL : &dp);
	}
	session_kick(s->h2);
}

static void resume_data(struct h2_stream *s)
{
	if (s->deferred) {
		s->deferred = false;
		nghttp2_session_resume_data(s->h2->ng, s->id);
	}
	session_kick(s->h2);
}

static void leg_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct h2_stream *s = (struct h2_stream *)l;

	outq_append(&s->out, p, n);
	resume_data(s);
}

/* An owned copy of trailers: a list that ends with a NULL name, with the octets behind it. NULL when there are none. */
static nghttp2_nv *copy_trailers(const struct h1_field *f, unsigned n)
{
	size_t size = 0, k = 0;
	nghttp2_nv *nv;
	char *p;

	for (unsigned i = 0; i < n; i++)
		size += f[i].name_len + f[i].value_len;
	nv = mem_alloc((n + 1) * sizeof(*nv) + size);
	p = (char *)(nv + n + 1);
	for (unsigned i = 0; i < n; i++) {
		if (f[i].hop)
			continue;
		memcpy(p, f[i].name, f[i].name_len);
		memcpy(p + f[i].name_len, f[i].value, f[i].value_len);
		set_nv(&nv[k++], p, f[i].name_len, p + f[i].name_len, f[i].value_len, 0);
		p += f[i].name_len + f[i].value_len;
	}
	nv[k].name = NULL;
	if (k)
		return nv;
	mem_free(nv);
	return NULL;
}

static void leg_end(struct leg *l, const struct h1_field *trailers, unsigned ntrailers)
{
	struct h2_stream *s = (struct h2_stream *)l;

	if (s->out_end)
		return;
	s->out_end = true;
	if (ntrailers)
		s->trailers = copy_trailers(trailers, ntrailers);
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
	stream_open_windows(s);
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
	stream_open_windows(s);
	stream_reset(s->h2, s->id, codes[why]);
}

static void leg_release(struct leg *l)
{
	struct h2_stream *s = (struct h2_stream *)l;

	s->leg.ev = NULL;
	s->released = true;
	s->paused = false;
	stream_open_windows(s);
	if (s->h2->server && s->local_end && !s->remote_end)
		stream_reset(s->h2, s->id, H2_NO_ERROR);
	/* The answer came before the whole request was given: the rest never comes. */
	if (!s->h2->server && !s->out_end)
		stream_reset(s->h2, s->id, H2_CANCEL);
}

const struct leg_ops h2_stream_ops = {
	.head = leg_head, .data = leg_data, .end = leg_end, .full = leg_full,
	.pause = leg_pause, .resume = leg_resume, .abort = leg_abort, .release = leg_release,
};
