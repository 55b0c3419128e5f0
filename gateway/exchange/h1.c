/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 from applications: a connection serves one exchange after the other; what a client pipelines
 * behind the current request waits unread, or in "partial".
 *
 * States: see enum h1_state. Every change goes through set_state(), which sets the state's deadline.
 */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/decimal.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/exchange/ingress.h"
#include "gateway/http1/body.h"

/* After an answer that ends the connection: how long we take in and drop what the client still sends, so that our
 * close does not reset the answer away (RFC 9112 9.6). */
#define DISCARD_MAX (256 * 1024)
/* What is read at once where a head is awaited: what is pipelined behind it is saved and looked at again for each request. */
#define HEAD_READ_MAX (32 * 1024)

enum h1_state {
	H1_S_IDLE,    /* between requests; ends by the first octet of one, or the keep-alive deadline */
	H1_S_HEAD,    /* part of a head is here; ends when it is whole, or at the head deadline: 408 */
	H1_S_BUSY,    /* an exchange runs; its body may still arrive */
	H1_S_TUNNEL,  /* CONNECT: raw octets both ways */
	H1_S_LINGER,  /* our last octets are on their way; once they are written, ends by the client's FIN or the linger deadline */
};

struct h1_ingress {
	struct leg leg;                /* of the exchange that runs; ev NULL when none does */
	LIST_ENTRY(h1_ingress) entry;
	struct conn *conn;
	struct ingress_client client;
	struct tls_conn *tls;
	struct h1_body body;           /* of the request */
	struct deadline limit;
	char *partial;
	uint32_t partial_len;
	uint32_t scan;
	uint32_t discarded;
	uint8_t state;
	bool head_method, http10, keep_alive, chunked_out, until_close, body_done, headers_out, connect, closed_in, retired;
};

static const struct conn_ops h1_conn_ops;
static const struct leg_ops h1_leg_ops;
static struct h1_head head; /* one head is parsed at a time */
static void process(struct h1_ingress *h, char *buf, size_t n);

static void set_state(struct h1_ingress *h, enum h1_state s)
{
	struct ingress *in = h->client.listener->ingress;

	h->state = (uint8_t)s;
	switch (s) {
	case H1_S_IDLE: deadline_set(in->stopped ? in->q_parting : in->q_keepalive, &h->limit); break;
	case H1_S_HEAD: deadline_set(in->q_head, &h->limit); break;
	default: deadline_cancel(&h->limit);
	}
}

/* The one way out. Aborts the exchange if one runs. */
static void destroy(struct h1_ingress *h, bool reset, enum leg_why why, const char *detail)
{
	struct loop *loop = h->client.listener->ingress->gate->loop;
	const struct leg_events *ev = h->leg.ev;
	struct conn *c = h->conn;

	deadline_cancel(&h->limit);
	h1_body_fini(&h->body);
	mem_free(h->partial);
	h->partial = NULL;
	LIST_REMOVE(h, entry);
	conn_fini(c, reset);
	loop_dispose(loop, c);
	h->leg.ev = NULL;
	if (ev)
		ev->on_abort(h->leg.x, why, false, detail);
	ingress_gone(&h->client);
	loop_dispose(loop, h);
}

static void linger(struct h1_ingress *h)
{
	mem_free(h->partial);
	h->partial = NULL;
	h->partial_len = 0;
	set_state(h, H1_S_LINGER);
	conn_shutdown(h->conn);
	conn_tell_empty(h->conn); /* on_drained goes on: a slow client still gets all of it */
	h->conn->paused = false;
	if (h->conn->readable || h->conn->hup)
		h->conn->readable = h->conn->resume = true;
}

/* An answer that needs no exchange: the request could not be read. */
static void refuse(struct h1_ingress *h, unsigned status, const char *reason)
{
	char text[256], body[64];
	int n = snprintf(body, sizeof(body), "%u %s\n", status, h1_reason(status)), len;

	gate_note(h->client.listener->ingress->gate, AUDIT_REFUSED, h->client.listener->cfg->name, &h->client.from,
	    h->client.caller->id, reason, h1_reason(status));
	len = snprintf(text, sizeof(text), "HTTP/1.1 %u %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s",
	    status, h1_reason(status), n, body);
	conn_write(h->conn, text, (size_t)len);
	linger(h);
}

/* ---- requests ---- */

static void start(struct h1_ingress *h)
{
	struct ingress_listener *ls = h->client.listener;
	struct leg_head to = {
		.method = head.method, .method_len = head.method_len, .method_id = head.method_id,
		.authority = head.authority, .authority_len = head.authority_len,
		.path = head.path, .path_len = head.path_len, .path_only_len = head.path_only_len,
		.https = h->tls != NULL,
		.fields = head.fields, .nfields = head.nfields,
		.length = head.framing == H1_LENGTH ? head.content_length : LEG_NO_LENGTH,
		.end = head.framing == H1_NONE || (head.framing == H1_LENGTH && head.content_length == 0),
	};
	struct exchange_from from = {
		.listener = ls->cfg->name, .protocol = head.minor ? "http/1.1" : "http/1.0",
		.client = &h->client.from, .uid = h->client.uid, .default_port = ls->default_port,
	};

	h->leg = (struct leg){ .ops = &h1_leg_ops };
	h->head_method = head.method_id == H1_M_HEAD;
	h->http10 = head.minor == 0;
	h->keep_alive = head.keep_alive && !ls->ingress->stopped && !h->retired;
	h->connect = head.method_id == H1_M_CONNECT;
	h->chunked_out = h->until_close = h->headers_out = false;
	h->body_done = to.end;
	set_state(h, H1_S_BUSY);
	/* Case 37: an Upgrade goes no further, for its field is hop-by-hop (RFC 9110 7.8: it may be ignored). */
	if (h->connect) {
		to.path = NULL;
		to.path_len = to.path_only_len = 0;
		to.length = LEG_NO_LENGTH;
		to.end = false;
		h->body_done = true;
		h->keep_alive = false; /* case 35: bytes after a refused CONNECT are never parsed */
		conn_pause(h->conn);
	} else {
		if (to.path_len && to.path[0] == '/')
			to.path_len = (uint32_t)h1_path_normalize((char *)(uintptr_t)to.path, to.path, to.path_len, &to.path_only_len);
		h1_body_init(&h->body, to.end ? H1_NONE : head.framing, head.content_length);
		if (!to.end)
			deadline_set(ls->ingress->q_body, &h->limit);
		if (h->tls && !ingress_sni_ok(ls->ingress->gate, tls_sni(h->tls), &to)) {
			from.refuse_status = 421;
			from.refuse_why = "sni-differs";
		}
	}
	exchange_start(ls->ingress->gate, &h->leg, h->client.caller, &to, &from);
}

/* The body of the request that runs; returns the octets used. */
static size_t feed(struct h1_ingress *h, char *p, size_t n)
{
	size_t used = 0;

	while (!h->body_done && h->leg.ev && !h->conn->paused) {
		struct h1_field trailers[H1_MAX_FIELDS];
		enum h1_event ev;
		const char *data;
		size_t len;
		unsigned nt = 0;

		used += h1_body_feed(&h->body, p + used, n - used, &ev, &data, &len);
		switch (ev) {
		case H1_EV_MORE:
			deadline_set(h->client.listener->ingress->q_body, &h->limit);
			return used;
		case H1_EV_DATA:
			h->leg.ev->on_data(h->leg.x, (const uint8_t *)data, len);
			break;
		case H1_EV_TRAILERS:
			nt = h1_body_trailers(&h->body, trailers, H1_MAX_FIELDS);
			/* fall through */
		case H1_EV_END:
			h->body_done = true;
			deadline_cancel(&h->limit);
			h->leg.ev->on_end(h->leg.x, trailers, nt);
			break;
		case H1_EV_ERROR: {
			const struct leg_events *lev = h->leg.ev;

			h->leg.ev = NULL;
			lev->on_abort(h->leg.x, LEG_PROTOCOL, false, "malformed-body");
			if (h->headers_out)
				destroy(h, true, LEG_PROTOCOL, "malformed-body");
			else
				refuse(h, 400, "malformed-body");
			return n;
		}
		}
	}
	return used;
}

static void save(struct h1_ingress *h, const char *p, size_t n)
{
	if (n == 0)
		return;
	h->partial = mem_alloc(n);
	memcpy(h->partial, p, n);
	h->partial_len = (uint32_t)n;
}

/* Runs over what was read: heads, bodies, tunnel. What cannot be used yet is saved. */
static void process(struct h1_ingress *h, char *buf, size_t n)
{
	size_t used = 0;
	ssize_t len;

	for (;;) {
		if (h->conn->fd < 0)
			return;
		if (h->state == H1_S_LINGER)
			return;
		if (h->state == H1_S_TUNNEL) {
			if (used < n && !h->conn->paused) {
				h->leg.ev->on_data(h->leg.x, (const uint8_t *)buf + used, n - used);
				used = n;
			}
			break;
		}
		if (h->state == H1_S_BUSY) {
			if (h->connect && used < n) {
				/* Case 36: tunnel data before the answer. */
				destroy(h, true, LEG_PROTOCOL, "protocol");
				return;
			}
			if (!h->body_done && h->leg.ev && !h->conn->paused)
				used += feed(h, buf + used, n - used);
			if (h->conn->fd < 0 || h->state == H1_S_LINGER)
				return;
			if (h->state == H1_S_BUSY)
				break; /* the next request waits for this one's answer */
			continue;
		}
		/* IDLE or HEAD */
		if (used == n)
			break;
		head.scan = used == 0 ? h->scan : 0;
		len = h1_parse_request(&head, buf + used, n - used);
		if (len == 0) {
			h->scan = (uint32_t)head.scan;
			if (n - used >= H1_MAX_HEAD) {
				refuse(h, 431, "head-too-large");
				return;
			}
			if (h->state == H1_S_IDLE)
				set_state(h, H1_S_HEAD);
			break;
		}
		h->scan = 0;
		if (len < 0) {
			refuse(h, (unsigned)-len, "malformed-request");
			return;
		}
		used += (size_t)len;
		start(h);
	}
	save(h, buf + used, n - used);
}

static void on_input(struct conn *c)
{
	struct h1_ingress *h = c->owner;
	struct gate *g = h->client.listener->ingress->gate;
	char *buf = (char *)g->scratch;
	size_t have = h->partial_len, room;
	ssize_t n;

	if (h->state == H1_S_BUSY && h->body_done && !h->connect) {
		/*
		 * Nothing is expected before the answer. A pipelined request stays in the socket; a FIN with none before it means
		 * that nobody waits for the answer, as other proxies have it: the exchange is cancelled.
		 */
		if (c->hup && conn_at_end(c)) {
			destroy(h, false, LEG_CANCEL, "closed");
		} else if (!c->hup) {
			bool was = c->readable;

			c->readable = false; /* a pipelined request does not hide a reset */
			conn_check(c);
			c->readable = was;
		}
		return;
	}
	if (have) {
		memcpy(buf, h->partial, have);
		mem_free(h->partial);
		h->partial = NULL;
		h->partial_len = 0;
	}
	room = g->scratch_size - have;
	if (h->state <= H1_S_HEAD && room > HEAD_READ_MAX)
		room = HEAD_READ_MAX;
	n = room ? conn_read(c, buf + have, room) : -1;
	if (h->state == H1_S_LINGER) {
		if (n == 0)
			h->closed_in = true;
		if ((n == 0 && c->out.bytes == 0) || (n > 0 && (h->discarded += (uint32_t)n) > DISCARD_MAX))
			destroy(h, false, LEG_CANCEL, "closed");
		else if (n > 0 && c->readable)
			conn_again(c);
		return;
	}
	if (n > 0)
		have += (size_t)n;
	if (have || n == -1)
		process(h, buf, have);
	conn_settle_all();
	if (c->fd < 0)
		return;
	if (n == 0 && !c->paused) {
		switch (h->state) {
		case H1_S_TUNNEL:
			if (!h->closed_in) {
				h->closed_in = true;
				h->leg.ev->on_end(h->leg.x, NULL, 0);
			}
			return;
		case H1_S_BUSY:
			h->closed_in = true;
			if (!h->body_done || !h->connect) /* the request is cut short, or nobody waits for the answer */
				destroy(h, false, LEG_CANCEL, "closed");
			return;
		default:
			h->closed_in = true;
			if (c->out.bytes)
				linger(h); /* no other request comes, but our answer to the last one is still on its way */
			else
				destroy(h, false, LEG_CANCEL, "closed");
			return;
		}
	}
	if (h->state == H1_S_BUSY && h->body_done && !h->connect && c->hup && !h->partial && conn_at_end(c))
		destroy(h, false, LEG_CANCEL, "closed");
	else if (n == 0)
		c->readable = true; /* paused: the end is still to be read */
	else if (c->readable && !c->paused && h->state != H1_S_BUSY)
		conn_again(c);
	else if (c->readable && !c->paused && !h->body_done)
		conn_again(c);
	else if (n > 0 && (!h->body_done || h->state == H1_S_TUNNEL))
		conn_check(c);
}

/* ---- connection ---- */

static void on_open(struct conn *c)
{
	(void)c;
}

static void on_drained(struct conn *c)
{
	struct h1_ingress *h = c->owner;

	if (h->state == H1_S_LINGER && c->out.bytes == 0) {
		if (h->closed_in)
			destroy(h, false, LEG_CANCEL, "closed");
		else
			deadline_set(h->client.listener->ingress->q_linger, &h->limit);
	} else if (h->leg.ev) {
		h->leg.ev->on_drained(h->leg.x);
	}
}

static void on_close(struct conn *c, const char *why)
{
	struct h1_ingress *h = c->owner;
	bool timeout = strcmp(why, "write-timeout") == 0;

	ingress_tls_lost(&h->client, h->tls);
	destroy(h, timeout, timeout ? LEG_TIMEOUT : LEG_RESET, why);
}

static const struct conn_ops h1_conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

static struct h1_ingress *of_limit(struct deadline *d)
{
	return (struct h1_ingress *)((char *)d - offsetof(struct h1_ingress, limit));
}

void h1_on_keepalive(struct deadline *d)
{
	struct h1_ingress *h = of_limit(d);

	if (h->conn->out.bytes) /* it takes the last answer slowly, but takes it */
		set_state(h, H1_S_IDLE);
	else
		destroy(h, false, LEG_TIMEOUT, "idle-timeout");
}

void h1_on_linger(struct deadline *d)
{
	destroy(of_limit(d), false, LEG_TIMEOUT, "idle-timeout");
}

void h1_on_head_limit(struct deadline *d)
{
	refuse(of_limit(d), 408, "head-timeout"); /* case 18 */
}

void h1_on_body_limit(struct deadline *d)
{
	struct h1_ingress *h = of_limit(d);
	const struct leg_events *ev = h->leg.ev;

	if (!ev) {
		destroy(h, false, LEG_TIMEOUT, "body-timeout");
		return;
	}
	h->leg.ev = NULL;
	ev->on_abort(h->leg.x, LEG_TIMEOUT, false, "body-timeout");
	if (h->headers_out)
		destroy(h, true, LEG_TIMEOUT, "body-timeout");
	else
		refuse(h, 408, "body-timeout");
}

/* ---- the leg ---- */

static char *put(char *p, const void *s, size_t n)
{
	memcpy(p, s, n);
	return p + n;
}

static void leg_head(struct leg *l, const struct leg_head *r)
{
	struct h1_ingress *h = (struct h1_ingress *)l;
	const char *reason = h1_reason(r->status);
	size_t need = 128 + strlen(reason);
	char *start_p, *p;
	bool no_body = r->end, has_length = false;

	if (r->status < 200 && h->http10)
		return; /* RFC 9110 15.2 */
	for (unsigned i = 0; i < r->nfields; i++)
		need += r->fields[i].name_len + r->fields[i].value_len + 4;
	start_p = p = need > OUTQ_LARGE ? mem_alloc(need) : (char *)outq_room(&h->conn->out, need);
	p = put(p, "HTTP/1.1 ", 9);
	*p++ = (char)('0' + r->status / 100);
	*p++ = (char)('0' + r->status / 10 % 10);
	*p++ = (char)('0' + r->status % 10);
	*p++ = ' ';
	p = put(p, reason, strlen(reason));
	p = put(p, "\r\n", 2);
	if (h->connect && r->status / 100 == 2) {
		/* RFC 9110 9.3.6: no content, no framing fields. */
		p = put(p, "\r\n", 2);
		outq_commit(&h->conn->out, (size_t)(p - start_p));
		conn_dirty(h->conn);
		h->headers_out = true;
		set_state(h, H1_S_TUNNEL);
		conn_resume(h->conn);
		return;
	}
	for (unsigned i = 0; i < r->nfields; i++) {
		const struct h1_field *f = &r->fields[i];

		if (f->hop)
			continue;
		if (f->id == H1_F_CONTENT_LENGTH) {
			if (!no_body)
				continue;
			has_length = true;
		}
		p = put(p, f->name, f->name_len);
		p = put(p, ": ", 2);
		p = put(p, f->value, f->value_len);
		p = put(p, "\r\n", 2);
	}
	if (r->status >= 200) {
		h->headers_out = true;
		if (no_body) {
			if (!has_length && !h->head_method && r->status != 204 && r->status != 304)
				p = put(p, "content-length: 0\r\n", 19);
		} else if (r->length != LEG_NO_LENGTH) {
			p = put(p, "content-length: ", 16);
			p = decimal_put(p, r->length);
			p = put(p, "\r\n", 2);
		} else if (h->http10) {
			h->until_close = true;
			h->keep_alive = false;
		} else {
			h->chunked_out = true;
			p = put(p, "transfer-encoding: chunked\r\n", 28);
		}
		/* An answer before the whole request, and no exchange to read on for: we shall close (RFC 9112 9.6). */
		if (!h->body_done && (no_body || !h->leg.ev))
			h->keep_alive = false;
		if (h->client.listener->ingress->stopped)
			h->keep_alive = false;
		if (!h->keep_alive)
			p = put(p, "connection: close\r\n", 19);
		else if (h->http10)
			p = put(p, "connection: keep-alive\r\n", 24);
	}
	p = put(p, "\r\n", 2);
	if (need > OUTQ_LARGE) {
		outq_append(&h->conn->out, start_p, (size_t)(p - start_p));
		mem_free(start_p);
	} else {
		outq_commit(&h->conn->out, (size_t)(p - start_p));
	}
	conn_dirty(h->conn);
}

static void leg_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct h1_ingress *h = (struct h1_ingress *)l;
	char size[H1_CHUNK_HEAD_MAX];

	if (n == 0)
		return; /* as a chunk it would be the last one */
	if (h->chunked_out)
		outq_append(&h->conn->out, size, h1_chunk_head(size, n));
	if (n >= 4096)
		conn_borrow(h->conn, p, n);
	else
		outq_append(&h->conn->out, p, n);
	if (h->chunked_out)
		outq_append(&h->conn->out, "\r\n", 2);
	conn_dirty(h->conn);
}

static void leg_end(struct leg *l, const struct h1_field *t, unsigned n)
{
	struct h1_ingress *h = (struct h1_ingress *)l;

	if (h->state == H1_S_TUNNEL) {
		conn_shutdown(h->conn);
		return;
	}
	if (!h->chunked_out)
		return;
	outq_append(&h->conn->out, "0\r\n", 3);
	for (unsigned i = 0; i < n; i++) {
		outq_append(&h->conn->out, t[i].name, t[i].name_len);
		outq_append(&h->conn->out, ": ", 2);
		outq_append(&h->conn->out, t[i].value, t[i].value_len);
		outq_append(&h->conn->out, "\r\n", 2);
	}
	outq_append(&h->conn->out, "\r\n", 2);
	conn_dirty(h->conn);
}

static bool leg_full(struct leg *l)
{
	return conn_full(((struct h1_ingress *)l)->conn);
}

static void leg_pause(struct leg *l)
{
	struct h1_ingress *h = (struct h1_ingress *)l;

	conn_pause(h->conn);
	deadline_cancel(&h->limit); /* it is not the client that is slow */
}

static void leg_resume(struct leg *l)
{
	struct h1_ingress *h = (struct h1_ingress *)l;

	if (h->connect && h->state == H1_S_BUSY)
		return; /* until the answer */
	if (!h->body_done)
		deadline_set(h->client.listener->ingress->q_body, &h->limit);
	h->conn->readable = true; /* what waits in partial, or in the socket */
	conn_resume(h->conn);
}

static void leg_abort(struct leg *l, enum leg_why why)
{
	struct h1_ingress *h = (struct h1_ingress *)l;

	h->leg.ev = NULL;
	/* An answer cut short must not look whole: a reset, where the framing would not show it. */
	destroy(h, true, why, "cancelled");
}

static void leg_release(struct leg *l)
{
	struct h1_ingress *h = (struct h1_ingress *)l;

	h->leg.ev = NULL;
	if (h->state == H1_S_TUNNEL) {
		linger(h);
		return;
	}
	h1_body_fini(&h->body);
	if (!h->keep_alive || !h->body_done || h->client.listener->ingress->stopped) {
		linger(h);
		return;
	}
	set_state(h, H1_S_IDLE);
	h->conn->paused = false;
	/* A request that was pipelined before a FIN is answered, too. */
	if (h->partial || h->conn->hup || h->closed_in)
		h->conn->readable = true;
	if (h->conn->readable) {
		h->conn->resume = true; /* the next request may be here */
		conn_dirty(h->conn);
	}
}

/* ---- its caller's certificate ended ---- */

static struct h1_ingress *of_client(const struct ingress_client *c)
{
	return (struct h1_ingress *)((char *)(uintptr_t)c - offsetof(struct h1_ingress, client));
}

static bool is_busy(const struct ingress_client *c)
{
	return of_client(c)->leg.ev != NULL;
}

static void retire(struct ingress_client *c)
{
	struct h1_ingress *h = of_client(c);

	h->keep_alive = false;
	h->retired = true;
	/* A request may be on its way. */
	if (h->state == H1_S_IDLE)
		deadline_set(h->client.listener->ingress->q_parting, &h->limit);
}

static void cut(struct ingress_client *c, const char *why)
{
	destroy(of_client(c), false, LEG_REVOKED, why);
}

static const struct ingress_kind h1_kind = { .busy = is_busy, .retire = retire, .cut = cut };

static const struct leg_ops h1_leg_ops = {
	.head = leg_head, .data = leg_data, .end = leg_end, .full = leg_full,
	.pause = leg_pause, .resume = leg_resume, .abort = leg_abort, .release = leg_release,
};

void h1_ingress_start(struct conn *c, struct ingress_client *client, struct tls_conn *tls)
{
	struct h1_ingress *h = mem_zalloc(sizeof(*h));
	struct ingress *in = client->listener->ingress;

	h->client = *client;
	h->conn = c;
	h->tls = tls;
	c->ops = &h1_conn_ops;
	c->owner = h;
	conn_write_timeout(c, in->gate->config->limits.write_ms);
	LIST_INSERT_HEAD(&in->h1, h, entry);
	ingress_attach(&h->client, &h1_kind);
	set_state(h, H1_S_IDLE);
	/* A client that never speaks is held by the head's deadline the first time. */
	deadline_set(in->q_head, &h->limit);
	h->state = H1_S_HEAD;
}

void h1_ingress_drain(struct ingress *in)
{
	struct h1_ingress *h, *next;

	/*
	 * A request may be on its way to those that are idle or new: it is answered, with Connection: close. Who says nothing for a
	 * while is let go.
	 */
	LIST_FOREACH_SAFE(h, &in->h1, entry, next)
		if (h->state == H1_S_IDLE || (h->state == H1_S_HEAD && !h->partial))
			deadline_set(in->q_parting, &h->limit);
}
