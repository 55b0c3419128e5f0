/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EST connections. One request at a time: what a client pipelines behind it waits in the socket, or in "in".
 *
 * States: see enum est_state. Every change goes through set_state(), which sets the state's deadline; destroy() is the one way out.
 */
#include "gateway/enrol/enrol.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/enrol/enrol_int.h"
#include "gateway/enrol/wire.h"
#include "pki/pkcs7.h"

#define REQUESTS_MAX 100     /* of one connection */
#define REFUSALS_MAX 5       /* of one connection, for want of the right to ask */
#define READ_MAX 16384
#define RETRY_S 5

enum est_state {
	E_IDLE,    /* between requests; ends by the first octet of one, or the keep-alive deadline */
	E_HEAD,    /* part of a head is here; ends when it is whole, or at the head deadline */
	E_BODY,    /* the content of a request comes; ends with all of it, or at the body deadline, which is for all of it */
	E_ASKED,   /* the ca role is asked; ends with its answer, which always comes */
};

struct est_conn {
	LIST_ENTRY(est_conn) entry;
	struct enrol *e;
	struct conn *conn;
	struct tls_conn *tls;
	struct enrol_client client;
	struct ca_call *call;
	struct deadline limit;
	struct buf in, body;       /* octets not used yet; content of the request */
	struct h1_body reader;
	struct wire_request req;
	size_t scan;
	unsigned status;           /* of an answer that is decided before the content is here; 0: none */
	const char *reason, *why;
	unsigned requests, refusals;
	uint8_t state;
	bool keep_alive, processing;
};

static struct h1_head head; /* one is parsed at a time */
static const struct conn_ops est_ops;
static void process(struct est_conn *c);

_Static_assert(WIRE_CACERTS == (int)CA_CACERTS && WIRE_CSRATTRS == (int)CA_CSRATTRS && WIRE_ENROLL == (int)CA_ENROLL && WIRE_REENROLL == (int)CA_REENROLL,
    "the ca role's operations are EST's");

static void
set_state(struct est_conn *c, enum est_state s)
{
	static const uint8_t from[] = { /* bits of the states that s may come after */
		[E_IDLE] = 1 << E_ASKED | 1 << E_BODY | 1 << E_IDLE, [E_HEAD] = 1 << E_IDLE, [E_BODY] = 1 << E_IDLE | 1 << E_HEAD, [E_ASKED] = 1 << E_BODY,
	};
	struct enrol *e = c->e;

	assert(from[s] >> c->state & 1);
	c->state = (uint8_t)s;
	switch (s) {
	case E_IDLE: deadline_set(e->q_idle, &c->limit); break;
	case E_HEAD: deadline_set(e->q_head, &c->limit); break;
	case E_BODY: deadline_set(e->q_body, &c->limit); break;
	case E_ASKED: deadline_cancel(&c->limit); break;
	}
}

void
enrol_gone(struct enrol *e, const struct enrol_client *client)
{
	e->connections--;
	client->gone(client->ctx);
}

/* told: what is queued goes out first. */
static void
destroy(struct est_conn *c, bool told)
{
	struct loop *loop = c->e->env.loop;

	deadline_cancel(&c->limit);
	ca_client_cancel(c->call);
	c->call = NULL;
	LIST_REMOVE(c, entry);
	if (c->in.data)
		mem_wipe(c->in.data, c->in.cap); /* a token may have been in it */
	buf_fini(&c->in);
	if (c->body.data)
		mem_wipe(c->body.data, c->body.len);
	buf_fini(&c->body);
	h1_body_fini(&c->reader);
	mem_wipe(&c->req, sizeof(c->req));
	if (told) {
		conn_part(c->conn);
	} else {
		conn_fini(c->conn, false);
		loop_dispose(loop, c->conn);
	}
	c->conn = NULL;
	enrol_gone(c->e, &c->client);
	loop_dispose(loop, c);
}

/* ---- answers ---- */

static void
note(struct est_conn *c, unsigned status, const char *reason, const char *detail)
{
	enrol_note(c->e->env.ring, c->e->env.loop, &(struct enrol_note){
		.type = AUDIT_REFUSED, .verdict = "deny", .reason = reason, .detail = detail, .status = status, .listener = c->client.listener,
		.client = &c->client.from, .principal = tls_peer(c->tls)->id,
	});
}

/* The request is over; the connection goes on or ends. */
static void
answer(struct est_conn *c, struct wire_answer *a)
{
	struct buf out;

	if (a->status >= 400)
		c->e->refused++;
	if (a->status == 401 || a->status == 403)
		c->refusals++;
	a->close = !c->keep_alive || c->e->draining || c->requests >= REQUESTS_MAX || c->refusals >= REFUSALS_MAX;
	buf_init(&out, 0);
	wire_write_answer(&out, a);
	conn_write(c->conn, out.data, out.len);
	buf_fini(&out);
	mem_wipe(&c->req, sizeof(c->req));
	buf_reset(&c->body);
	if (a->close) {
		destroy(c, true);
		return;
	}
	set_state(c, E_IDLE);
	conn_resume(c->conn);
	if (!c->processing)
		process(c);
}

static void
answer_text(struct est_conn *c, unsigned status, const char *text, size_t len)
{
	char line[CA_TEXT_MAX + 2];
	int n = snprintf(line, sizeof(line), "%.*s\n", (int)(len < CA_TEXT_MAX ? len : CA_TEXT_MAX), text);

	answer(c, &(struct wire_answer){
		.status = status, .content = WIRE_TEXT, .body = line, .len = (size_t)n, .realm = status == 401 ? c->e->env.config->domain : NULL,
		.allow = status == 405 ? wire_allow(c->req.op) : NULL, .retry_after_s = status == 503 || status == 429 ? RETRY_S : 0,
	});
}

/* Ours, not the ca role's, which writes books of its own. */
static void
refuse(struct est_conn *c, unsigned status, const char *reason, const char *why)
{
	note(c, status, reason, why);
	answer_text(c, status, why, strlen(why));
}

/* What follows cannot be told apart any more. */
static void
refuse_and_close(struct est_conn *c, unsigned status, const char *reason, const char *why)
{
	c->keep_alive = false;
	refuse(c, status, reason, why);
}

static void
answer_items(struct est_conn *c, const struct ca_answer *a)
{
	struct wire_answer to = { .status = 200, .content = c->req.op == WIRE_CACERTS ? WIRE_CERTS : WIRE_ENROLLED };
	struct svid_der certs[CA_ITEMS_MAX];
	const char *why = NULL;
	uint8_t *der = NULL;

	if (c->req.op == WIRE_CSRATTRS) {
		if (a->nitems == 1)
			to = (struct wire_answer){ .status = 200, .content = WIRE_ATTRS, .body = a->items[0].p, .len = a->items[0].len };
		else
			to.status = 204;
		answer(c, &to);
		return;
	}
	for (size_t i = 0; i < a->nitems; i++)
		certs[i] = (struct svid_der){ a->items[i].p, a->items[i].len };
	der = pkcs7_encode(certs, a->nitems, &to.len, &why);
	if (!der) {
		refuse(c, 503, "ca-answer", why);
		return;
	}
	to.body = der;
	answer(c, &to);
	mem_free(der);
}

static void
on_answer(void *ctx, const struct ca_answer *a)
{
	static const uint16_t statuses[CA_STATUSES] = { 200, 400, 401, 403, 409, 503, 429 };
	struct est_conn *c = ctx;

	c->call = NULL;
	if (a->status == CA_OK)
		answer_items(c, a);
	else
		answer_text(c, a->status < CA_STATUSES ? statuses[a->status] : 503, (const char *)a->text.p, a->text.len);
}

/* ---- requests ---- */

static void
ask(struct est_conn *c, const uint8_t *csr, size_t csr_len)
{
	struct svid_der chain[CA_CHAIN_MAX];
	char from[ADDR_TEXT_MAX];
	struct ca_ask m = { .op = (unsigned)c->req.op, .csr = { csr, csr_len } };
	enum ca_client_error why = CA_CLIENT_GONE;

	addr_format(&c->client.from, from);
	m.client = (struct ca_der){ (const uint8_t *)from, strnlen(from, CA_CLIENT_MAX) };
	if (c->req.credentials) {
		m.user = (struct ca_der){ c->req.user, c->req.user_len };
		m.password = (struct ca_der){ c->req.password, c->req.password_len };
	}
	m.nchain = tls_peer_chain(c->tls, chain, CA_CHAIN_MAX);
	for (size_t i = 0; i < m.nchain; i++)
		m.chain[i] = (struct ca_der){ chain[i].p, chain[i].len };
	set_state(c, E_ASKED);
	conn_pause(c->conn);
	c->call = c->e->env.ca ? ca_client_ask(c->e->env.ca, &m, on_answer, c, &why) : NULL;
	if (c->call)
		return;
	if (why == CA_CLIENT_TOO_LARGE)
		refuse(c, 413, "too-large", "the certificate request and the certificates of this connection are too large");
	else
		refuse(c, 503, why == CA_CLIENT_BUSY ? "ca-busy" : "ca-gone", "the certificate authority does not answer; try again");
}

/* All of a request is here. */
static void
dispatch(struct est_conn *c)
{
	uint8_t *csr = NULL;
	long n = 0;

	c->requests++;
	c->e->requests++;
	if (c->status) {
		refuse(c, c->status, c->reason, c->why);
		return;
	}
	if (c->req.op == WIRE_REENROLL && !tls_peer(c->tls)->id[0]) {
		refuse(c, 403, "no-certificate", "to renew a certificate, connect with it");
		return;
	}
	if (c->req.op >= WIRE_ENROLL) {
		csr = mem_alloc(c->body.len / 4 * 3 + 1);
		n = wire_unbase64(csr, (const char *)c->body.data, c->body.len);
		if (n <= 0 || n > WIRE_CSR_MAX) {
			mem_free(csr);
			refuse(c, n > 0 ? 413 : 400, n > 0 ? "too-large" : "not-base64",
			    n > 0 ? "a certificate request has at most 32768 octets" : "the content is no base64 of a certificate request in DER");
			return;
		}
	}
	ask(c, csr, (size_t)n);
	mem_free(csr);
}

/* False: the connection is gone, or waits for octets. */
static bool
take_head(struct est_conn *c)
{
	ssize_t n;

	if (c->in.len == 0)
		return false;
	head.scan = c->scan;
	n = h1_parse_request(&head, (char *)c->in.data, c->in.len);
	if (n == 0) {
		c->scan = head.scan;
		if (c->in.len >= H1_MAX_HEAD)
			refuse_and_close(c, 431, "head-too-large", "the request's head is too large");
		else if (c->state == E_IDLE)
			set_state(c, E_HEAD);
		return false;
	}
	c->scan = 0;
	if (n < 0) {
		refuse_and_close(c, (unsigned)-n, "malformed-request", "this is no request of HTTP/1.1");
		return false;
	}
	c->keep_alive = head.keep_alive;
	c->status = wire_read_head(&c->req, &head, c->e->env.config->enrol.host, &c->reason, &c->why);
	h1_body_init(&c->reader, head.framing, head.content_length);
	buf_consume(&c->in, (size_t)n);
	set_state(c, E_BODY);
	if (c->status && (head.expect_continue || c->status == 413)) {
		/* What would follow is not asked for (RFC 9110 10.1.1). */
		c->keep_alive = false;
		dispatch(c);
		return false;
	}
	if (head.expect_continue && head.framing != H1_NONE)
		conn_write(c->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	return true;
}

static bool
take_body(struct est_conn *c)
{
	enum h1_event ev = H1_EV_DATA;
	size_t used = 0;

	while (ev == H1_EV_DATA || ev == H1_EV_TRAILERS) {
		const char *data;
		size_t n;

		used += h1_body_feed(&c->reader, (const char *)c->in.data + used, c->in.len - used, &ev, &data, &n);
		if (ev == H1_EV_DATA && buf_append(&c->body, data, n) != 0) {
			refuse_and_close(c, 413, "too-large", "a certificate request has at most 65536 octets");
			return false;
		}
	}
	buf_consume(&c->in, used);
	if (ev == H1_EV_MORE)
		return false;
	if (ev == H1_EV_ERROR) {
		refuse_and_close(c, 400, "malformed-body", "the request's content is malformed");
		return false;
	}
	dispatch(c);
	return true;
}

static void
process(struct est_conn *c)
{
	bool more = true;

	c->processing = true;
	while (more && c->conn && c->state != E_ASKED)
		more = c->state == E_BODY ? take_body(c) : take_head(c);
	c->processing = false;
}

/* ---- the connection ---- */

static void
on_input(struct conn *conn)
{
	struct est_conn *c = conn->owner;
	struct enrol_env *env = &c->e->env;
	size_t room = env->scratch_size < READ_MAX ? env->scratch_size : READ_MAX;
	ssize_t n;

	if (c->state == E_ASKED)
		return;
	n = conn_read(conn, env->scratch, room);
	if (n == 0) {
		destroy(c, false); /* whoever closes its half does not wait for an answer */
		return;
	}
	if (n < 0)
		return;
	buf_append(&c->in, env->scratch, (size_t)n);
	process(c);
	if (c->conn && conn->readable && !conn->paused)
		conn_again(conn);
}

static void
on_drained(struct conn *conn)
{
	(void)conn;
}

static void
on_close(struct conn *conn, const char *why)
{
	struct est_conn *c = conn->owner;
	const char *detail = "", *token = tls_failure(c->tls, &detail);

	(void)why;
	if (tls_alarming(c->tls))
		note(c, 0, token, detail);
	destroy(c, false);
}

static void
on_limit(struct deadline *d)
{
	struct est_conn *c = (struct est_conn *)((char *)d - offsetof(struct est_conn, limit));

	if (c->state == E_IDLE)
		destroy(c, true);
	else
		refuse_and_close(c, 408, c->state == E_HEAD ? "head-timeout" : "body-timeout", "the request took too long");
}

static const struct conn_ops est_ops = {
	.on_open = on_drained, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

void
enrol_serve(struct enrol *e, struct conn *conn, struct tls_conn *tls, const struct enrol_client *client)
{
	struct est_conn *c = mem_zalloc(sizeof(*c));

	c->e = e;
	c->conn = conn;
	c->tls = tls;
	c->client = *client;
	buf_init(&c->in, H1_MAX_HEAD + WIRE_BODY_MAX + READ_MAX);
	buf_init(&c->body, WIRE_BODY_MAX);
	e->connections++;
	LIST_INSERT_HEAD(&e->conns, c, entry);
	conn->ops = &est_ops;
	conn->owner = c;
	conn_write_timeout(conn, e->env.config->limits.write_ms);
	set_state(c, E_IDLE);
	deadline_set(e->q_head, &c->limit); /* the first request comes sooner */
	if (conn->readable)
		conn_again(conn);
}

/* ---- the service ---- */

struct enrol *
enrol_new(const struct enrol_env *env)
{
	const struct config_limits *lim = &env->config->limits;
	struct enrol *e;

	if (!env->config->enrol.host)
		return NULL;
	e = mem_zalloc(sizeof(*e));
	e->env = *env;
	LIST_INIT(&e->conns);
	e->q_idle = deadline_queue(env->loop, lim->keepalive_ms, on_limit);
	e->q_head = deadline_queue(env->loop, lim->head_ms, on_limit);
	e->q_body = deadline_queue(env->loop, lim->body_idle_ms, on_limit);
	e->q_connect = deadline_queue(env->loop, lim->handshake_ms, forward_on_limit);
	e->q_silent = deadline_queue(env->loop, lim->body_idle_ms, forward_on_limit);
	e->q_life = deadline_queue(env->loop, lim->keepalive_ms * 2, forward_on_life);
	return e;
}

void
enrol_free(struct enrol *e)
{
	mem_free(e);
}

bool
enrol_room(const struct enrol *e)
{
	return e && e->connections < ENROL_CONNECTIONS_MAX && !e->draining;
}

void
enrol_drain(struct enrol *e)
{
	struct est_conn *c, *next;

	if (!e)
		return;
	e->draining = true;
	for (c = LIST_FIRST(&e->conns); c; c = next) {
		next = LIST_NEXT(c, entry);
		if (c->state == E_IDLE)
			destroy(c, true);
	}
}

void
enrol_status(const struct enrol *e, struct buf *out)
{
	buf_printf(out, "{\"connections\":%u,\"requests\":%llu,\"refused\":%llu,\"forwarded\":%llu}", e->connections, (unsigned long long)e->requests,
	    (unsigned long long)e->refused, (unsigned long long)e->forwarded);
}
