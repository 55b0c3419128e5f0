/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 to an endpoint: a pool of kept-alive connections per endpoint, one exchange at a time on each.
 *
 * A connection: CONNECTING → (request written) HEAD → BODY → over: back to the pool at release, if both messages
 * were whole and both sides keep it alive; else closed.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "gateway/base/decimal.h"
#include "gateway/base/mem.h"
#include "gateway/upstream/internal.h"

enum up_state { UP_IDLE, UP_HEAD, UP_BODY, UP_OVER };

struct up_http {
	struct leg leg;
	struct conn conn;
	TAILQ_ENTRY(up_http) entry;   /* in the endpoint's idle list */
	struct up_service *service;
	struct up_endpoint *endpoint;
	struct deadline limit;        /* connect, response, idle or pool, by what it waits for */
	struct h1_body body;
	uint64_t tried;
	char *partial;                /* an incomplete head, or content that waits while paused */
	size_t partial_len, scan;
	void *replay;                 /* a whole bodyless request on a reused connection: sent again if that was stale */
	size_t replay_len;
	uint8_t state;
	uint8_t method;               /* enum h1_method */
	bool open, reused, chunked, request_end, keep_alive, got_bytes, safe, in_input;
};

static const struct conn_ops http_conn_ops;
static struct h1_head head; /* one head is parsed at a time */

static void forget_partial(struct up_http *u)
{
	mem_free(u->partial);
	u->partial = NULL;
	u->partial_len = u->scan = 0;
}

static void drop(struct up_http *u)
{
	u->leg.ev = NULL;
	deadline_cancel(&u->limit);
	h1_body_fini(&u->body);
	forget_partial(u);
	outq_block_free(u->replay);
	u->replay = NULL;
	if (u->conn.fd >= 0)
		conn_fini(&u->conn, false);
	else
		outq_reset(&u->conn.out);
	if (u->state == UP_IDLE) {
		TAILQ_REMOVE(&u->endpoint->idle, u, entry);
		u->endpoint->nidle--;
	} else if (u->endpoint) {
		u->endpoint->active--;
	}
	u->service->connections--;
	u->service->set->open--;
	loop_dispose(u->service->set->env.loop, u);
}

static void fail(struct up_http *u, enum leg_why why, bool unsent, const char *detail)
{
	const struct leg_events *ev = u->leg.ev;
	void *x = u->leg.x;

	drop(u);
	if (ev)
		ev->on_abort(x, why, unsent, detail);
}

/* Dial the next endpoint, with what is queued already. False when there is nothing left to try. */
static bool try_next(struct up_http *u)
{
	struct upstream_set *set = u->service->set;
	int fd;

	for (;;) {
		u->endpoint = up_pick(u->service, &u->tried);
		if (!u->endpoint)
			return false;
		fd = conn_dial(&u->endpoint->cfg->addr);
		if (fd >= 0)
			break;
		up_failed(u->endpoint);
	}
	up_conn_init(set, &u->conn, fd, &http_conn_ops, u);
	u->open = u->reused = false;
	u->endpoint->active++;
	deadline_set(u->service->q_connect, &u->limit);
	return true;
}

/* ---- receiving ---- */

static void give_data(struct up_http *u, const char *p, size_t n)
{
	if (u->leg.ev)
		u->leg.ev->on_data(u->leg.x, (const uint8_t *)p, n);
}

/* Runs over the bytes of one read; returns how many were used. Stops where the leg was paused, ended or lost. */
static size_t consume(struct up_http *u, char *p, size_t n)
{
	size_t used = 0;

	/* The end of a body needs no octet of its own: a body is fed until it asks for more. */
	while ((used < n || u->state == UP_BODY) && u->leg.ev && !u->conn.paused) {
		if (u->state == UP_HEAD) {
			struct leg_head h = { .length = LEG_NO_LENGTH };
			ssize_t len;

			head.scan = used == 0 ? u->scan : 0;
			len = h1_parse_response(&head, p + used, n - used, u->method);
			if (len == 0) {
				u->scan = head.scan;
				if (n - used > H1_MAX_HEAD) {
					fail(u, LEG_PROTOCOL, false, "response-head-too-large");
					return used;
				}
				return used;
			}
			if (len < 0 || head.status == 101) {
				/* Case 39: what two parsers could read in two ways goes no further. */
				fail(u, LEG_PROTOCOL, false, "malformed-response");
				return used;
			}
			used += (size_t)len;
			u->scan = 0;
			h.status = head.status;
			h.fields = head.fields;
			h.nfields = head.nfields;
			if (head.status >= 200) {
				h1_body_init(&u->body, head.framing, head.content_length);
				u->keep_alive = head.keep_alive;
				if (head.framing == H1_LENGTH)
					h.length = head.content_length;
				h.end = head.framing == H1_NONE || (head.framing == H1_LENGTH && head.content_length == 0);
				u->state = h.end ? UP_OVER : UP_BODY;
				deadline_set(u->service->q_idle, &u->limit);
			}
			u->leg.ev->on_head(u->leg.x, &h);
		} else if (u->state == UP_BODY) {
			enum h1_event ev;
			const char *data;
			size_t len;
			struct h1_field trailers[H1_MAX_FIELDS];
			unsigned nt = 0;

			used += h1_body_feed(&u->body, p + used, n - used, &ev, &data, &len);
			switch (ev) {
			case H1_EV_DATA:
				give_data(u, data, len);
				break;
			case H1_EV_TRAILERS:
				nt = h1_body_trailers(&u->body, trailers, H1_MAX_FIELDS);
				/* fall through */
			case H1_EV_END:
				u->state = UP_OVER;
				u->leg.ev->on_end(u->leg.x, trailers, nt);
				break;
			case H1_EV_ERROR:
				fail(u, LEG_PROTOCOL, false, "malformed-response");
				return used;
			case H1_EV_MORE:
				return used;
			}
		} else {
			/* Bytes beyond the answer: not ours to read, and no connection to use again. */
			u->keep_alive = false;
			return n;
		}
	}
	return used;
}

static void on_eof(struct up_http *u)
{
	if (u->state == UP_BODY && h1_body_eof_ok(&u->body)) {
		u->state = UP_OVER;
		u->keep_alive = false;
		if (u->leg.ev)
			u->leg.ev->on_end(u->leg.x, NULL, 0);
		return;
	}
	u->conn.ops->on_close(&u->conn, "closed-early");
}

static void on_input(struct conn *c)
{
	struct up_http *u = c->owner;
	struct upstream_env *env = &u->service->set->env;
	char *buf = (char *)env->scratch;
	size_t have = u->partial_len, used;
	ssize_t n;

	if (u->state == UP_IDLE) {
		/* The far end closed it, or speaks out of turn. */
		drop(u);
		return;
	}
	if (have) {
		memcpy(buf, u->partial, have);
		mem_free(u->partial);
		u->partial = NULL;
		u->partial_len = 0;
	}
	n = have < env->scratch_size ? conn_read(c, buf + have, env->scratch_size - have) : -1;
	if (n > 0) {
		u->got_bytes = true;
		if (u->state == UP_BODY)
			deadline_set(u->service->q_idle, &u->limit);
	}
	if (n <= 0 && (have || u->state == UP_BODY)) {
		/* Only what had waited. */
		used = consume(u, buf, have);
	} else if (n < 0) {
		return;
	} else if (n == 0) {
		on_eof(u);
		return;
	} else {
		have += (size_t)n;
		used = consume(u, buf, have);
	}
	conn_settle_all();
	if (c->fd < 0)
		return;
	if (u->state == UP_IDLE) {
		if (used < have || n == 0)
			drop(u); /* it speaks out of turn, or has closed */
		return;
	}
	if (used < have && u->state != UP_OVER) {
		u->partial_len = have - used;
		u->partial = mem_alloc(u->partial_len);
		memcpy(u->partial, buf + used, u->partial_len);
	}
	if (n == 0 && !c->paused && u->leg.ev && u->state != UP_OVER)
		on_eof(u);
	else if (c->readable && !c->paused)
		conn_again(c);
	else if (n == 0)
		c->readable = true; /* the end is still to be read, after the pause */
	else if (u->state != UP_OVER)
		conn_check(c);
}

/* ---- connection ---- */

static void on_open(struct conn *c)
{
	struct up_http *u = c->owner;

	u->open = true;
	deadline_set(u->service->q_response, &u->limit);
	conn_dirty(c);
}

static void on_drained(struct conn *c)
{
	struct up_http *u = c->owner;

	if (u->leg.ev)
		u->leg.ev->on_drained(u->leg.x);
}

static void on_close(struct conn *c, const char *why)
{
	struct up_http *u = c->owner;
	int err = c->error;

	if (u->state == UP_IDLE) {
		drop(u);
		return;
	}
	/*
	 * Nothing was sent yet, or it was a kept connection that the far end closed as we took it, and the request is safe
	 * to repeat (RFC 9112 9.3.1): another connection.
	 */
	if (!u->open || (u->reused && !u->got_bytes && u->replay)) {
		struct outq kept = c->out;

		if (!u->open)
			up_failed(u->endpoint);
		u->endpoint->active--;
		outq_init(&c->out);
		conn_fini(c, false);
		if (u->open) {
			outq_reset(&kept);
			outq_append(&kept, u->replay, u->replay_len);
			outq_block_free(u->replay);
			u->replay = NULL;
			u->tried = 0;
		}
		c->out = kept;
		forget_partial(u);
		if (try_next(u))
			return;
		u->endpoint = NULL;
		fail(u, LEG_REFUSED, true, err == ETIMEDOUT ? "connect-timeout" : "connect-failed");
		return;
	}
	fail(u, err == ECONNRESET || err == EPIPE ? LEG_RESET : LEG_CANCEL, false, u->state == UP_HEAD ? "no-response" : why);
}

static const struct conn_ops http_conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

void up_http_on_limit(struct deadline *d)
{
	struct up_http *u = (struct up_http *)((char *)d - offsetof(struct up_http, limit));

	if (!u->open) {
		u->conn.error = ETIMEDOUT;
		on_close(&u->conn, "connect-timeout");
	} else {
		fail(u, LEG_TIMEOUT, false, u->state == UP_HEAD ? "response-timeout" : "idle-timeout");
	}
}

void up_http_on_pool(struct deadline *d)
{
	drop((struct up_http *)((char *)d - offsetof(struct up_http, limit)));
}

void up_http_free_idle(struct up_endpoint *e)
{
	struct up_http *u;

	while ((u = TAILQ_FIRST(&e->idle)))
		drop(u);
}

/* ---- sending ---- */

static char *put(char *p, const void *s, size_t n)
{
	memcpy(p, s, n);
	return p + n;
}

/* The request's head in origin form (RFC 9112 3.2.1); crumbs of a cookie become one field (RFC 9113 8.2.3). */
static void write_head(struct up_http *u, const struct leg_head *h)
{
	struct outq *q = &u->conn.out;
	size_t need = h->method_len + h->path_len + h->authority_len + 64, cookies = 0;
	char *start, *p;

	for (unsigned i = 0; i < h->nfields; i++)
		need += h->fields[i].name_len + h->fields[i].value_len + 4;
	if (need > OUTQ_LARGE)
		start = p = mem_alloc(need);
	else
		start = p = (char *)outq_room(q, need);
	p = put(p, h->method, h->method_len);
	*p++ = ' ';
	p = put(p, h->path, h->path_len);
	p = put(p, " HTTP/1.1\r\nhost: ", 17);
	p = put(p, h->authority, h->authority_len);
	p = put(p, "\r\n", 2);
	for (unsigned i = 0; i < h->nfields; i++) {
		const struct h1_field *f = &h->fields[i];

		if (f->hop || f->id == H1_F_CONTENT_LENGTH)
			continue;
		if (f->name_len == 6 && memcmp(f->name, "cookie", 6) == 0 && cookies++) {
			continue;
		}
		p = put(p, f->name, f->name_len);
		p = put(p, ": ", 2);
		p = put(p, f->value, f->value_len);
		if (f->name_len == 6 && memcmp(f->name, "cookie", 6) == 0)
			for (unsigned k = i + 1; k < h->nfields; k++)
				if (h->fields[k].name_len == 6 && memcmp(h->fields[k].name, "cookie", 6) == 0) {
					p = put(p, "; ", 2);
					p = put(p, h->fields[k].value, h->fields[k].value_len);
				}
		p = put(p, "\r\n", 2);
	}
	if (!h->end || h->length != LEG_NO_LENGTH) {
		if (h->length == LEG_NO_LENGTH) {
			u->chunked = true;
			p = put(p, "transfer-encoding: chunked\r\n", 28);
		} else {
			p = put(p, "content-length: ", 16);
			p = decimal_put(p, h->length);
			p = put(p, "\r\n", 2);
		}
	}
	p = put(p, "\r\n", 2);
	if (need > OUTQ_LARGE) {
		outq_append(q, start, (size_t)(p - start));
		mem_free(start);
	} else {
		if (u->reused && h->end && u->safe && (size_t)(p - start) <= OUTQ_SMALL) {
			u->replay = outq_block();
			u->replay_len = (size_t)(p - start);
			memcpy(u->replay, start, u->replay_len);
		}
		outq_commit(q, (size_t)(p - start));
	}
}

static void leg_head(struct leg *l, const struct leg_head *h)
{
	(void)l, (void)h; /* written when the leg was made */
}

static void leg_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct up_http *u = (struct up_http *)l;
	char size[H1_CHUNK_HEAD_MAX];

	if (u->request_end || n == 0) /* a chunk of nothing would be the last one */
		return;
	if (u->chunked)
		outq_append(&u->conn.out, size, h1_chunk_head(size, n));
	if (u->open && n >= 4096)
		conn_borrow(&u->conn, p, n);
	else
		outq_append(&u->conn.out, p, n);
	if (u->chunked)
		outq_append(&u->conn.out, "\r\n", 2);
	conn_dirty(&u->conn);
	if (u->open && u->state == UP_HEAD)
		deadline_set(u->service->q_response, &u->limit);
	else if (u->open && !u->conn.paused)
		deadline_set(u->service->q_idle, &u->limit);
}

static void leg_end(struct leg *l, const struct h1_field *trailers, unsigned n)
{
	struct up_http *u = (struct up_http *)l;

	if (u->request_end)
		return;
	u->request_end = true;
	if (!u->chunked)
		return;
	outq_append(&u->conn.out, "0\r\n", 3);
	for (unsigned i = 0; i < n; i++) {
		if (trailers[i].hop)
			continue;
		outq_append(&u->conn.out, trailers[i].name, trailers[i].name_len);
		outq_append(&u->conn.out, ": ", 2);
		outq_append(&u->conn.out, trailers[i].value, trailers[i].value_len);
		outq_append(&u->conn.out, "\r\n", 2);
	}
	outq_append(&u->conn.out, "\r\n", 2);
	conn_dirty(&u->conn);
}

static bool leg_full(struct leg *l)
{
	return conn_full(&((struct up_http *)l)->conn);
}

static void leg_pause(struct leg *l)
{
	struct up_http *u = (struct up_http *)l;

	conn_pause(&u->conn);
	deadline_cancel(&u->limit); /* it is not the service that is slow */
}

static void leg_resume(struct leg *l)
{
	struct up_http *u = (struct up_http *)l;

	u->conn.readable = true; /* on_input finds what waits in "partial", or that the last octet was had already */
	conn_resume(&u->conn);
	deadline_set(u->state == UP_HEAD ? u->service->q_response : u->service->q_idle, &u->limit);
}

static void leg_abort(struct leg *l, enum leg_why why)
{
	struct up_http *u = (struct up_http *)l;

	(void)why;
	/* What has not left yet stays here: it is no longer wanted, or no longer allowed. */
	outq_reset(&u->conn.out);
	drop(u);
}

static void leg_release(struct leg *l)
{
	struct up_http *u = (struct up_http *)l;

	u->leg.ev = NULL;
	if (u->state != UP_OVER || !u->request_end || !u->keep_alive || !u->open || u->conn.out.bytes || u->partial ||
	    u->conn.hup || u->conn.broken || u->conn.readable) {
		/* "readable": more may be there, and it would be read as the next answer. */
		drop(u);
		return;
	}
	h1_body_fini(&u->body);
	outq_block_free(u->replay);
	u->replay = NULL;
	u->state = UP_IDLE;
	u->conn.paused = false;
	u->endpoint->active--;
	u->endpoint->nidle++;
	TAILQ_INSERT_HEAD(&u->endpoint->idle, u, entry);
	deadline_set(u->service->set->q_pool, &u->limit);
}

const struct leg_ops up_http_ops = {
	.head = leg_head, .data = leg_data, .end = leg_end, .full = leg_full,
	.pause = leg_pause, .resume = leg_resume, .abort = leg_abort, .release = leg_release,
};

const char *up_http_endpoint(const struct leg *l)
{
	const struct up_http *u = (const struct up_http *)l;

	return u->endpoint ? u->endpoint->cfg->text : "";
}

static struct up_http *take_idle(struct up_service *sv)
{
	uint64_t now = loop_now(sv->set->env.loop);

	for (size_t i = 0; i < sv->n; i++) {
		struct up_endpoint *e = &sv->endpoints[(sv->next + i) % sv->n];
		struct up_http *u = TAILQ_FIRST(&e->idle);

		if (!u || (e->failed_until > now && sv->n > 1))
			continue;
		sv->next = (unsigned)((sv->next + i + 1) % sv->n);
		TAILQ_REMOVE(&e->idle, u, entry);
		e->nidle--;
		e->active++;
		u->reused = true;
		return u;
	}
	return NULL;
}

struct leg *upstream_http(struct upstream_set *s, int service, const struct leg_head *h, const struct leg_events *ev,
    void *x, const char **why)
{
	struct up_service *sv = &s->services[service];
	struct up_http *u = take_idle(sv);
	bool dialled = false;

	if (!u) {
		if (sv->connections >= sv->cfg->max_connections) {
			*why = "overflow";
			return NULL;
		}
		u = mem_zalloc(sizeof(*u));
		u->service = sv;
		u->conn.fd = -1;
		u->leg.ops = &up_http_ops;
		if (!try_next(u)) {
			*why = "connect-failed";
			mem_free(u);
			return NULL;
		}
		sv->connections++;
		s->open++;
		dialled = true;
	}
	u->leg.ev = ev;
	u->leg.x = x;
	u->state = UP_HEAD;
	u->method = (uint8_t)h->method_id;
	u->safe = h->method_id == H1_M_GET || h->method_id == H1_M_HEAD || h->method_id == H1_M_OPTIONS ||
	    h->method_id == H1_M_PUT || h->method_id == H1_M_DELETE;
	u->chunked = u->got_bytes = u->keep_alive = false;
	u->request_end = h->end;
	write_head(u, h);
	if (!dialled) {
		deadline_set(sv->q_response, &u->limit);
		conn_dirty(&u->conn);
	}
	return &u->leg;
}
