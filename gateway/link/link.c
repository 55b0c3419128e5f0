/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/link/link.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/event.h"
#include "gateway/base/clock.h"
#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/link/ids.h"
#include "gateway/tls/layer.h"

/* Reconnection: 100 ms doubling to 5 s, each with jitter, so that two gateways never dial in step. */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
/* Dials in a row that landed on a far worker that has its links already, before we slow down. */
#define COVER_TRIES 64
#define MAX_FAR_WORKERS 256
#define IDS_MAX (1u << 20)
/* How much a link may have waiting for the socket before the next one is taken. */
#define LINK_BUSY (64 * 1024)

enum link_state { L_DIALLING, L_HANDSHAKE, L_HELLO, L_READY, L_DRAINING, L_GONE };
static const char *const state_names[] = { "dialling", "handshake", "hello", "ready", "draining", "gone" };

struct slot {              /* of a principal, on one link, as its sender */
	uint16_t number;   /* 0: none */
	bool confirmed;    /* an exchange with it was answered: the chain need not travel again */
};

struct link_peer {
	struct link_set *set;
	const struct config_peer *cfg;
	int index;
	TAILQ_HEAD(, link) links;
	struct loop_timer dial_timer[2]; /* forward, reverse */
	unsigned fails[2], next_target[2], cover_tries;
	bool dial_due[2];
	struct ids *ids;
	uint32_t instances[MAX_FAR_WORKERS]; /* of far workers, as they said hello */
	struct log_limit log;
};

struct link {
	TAILQ_ENTRY(link) entry;
	struct link_peer *peer;
	struct conn *conn;
	struct tls_conn *tls;  /* the conn's layer */
	struct h2 *h2;
	enum link_state state;
	bool dialled, client, aged;
	uint32_t number;
	uint64_t since_ms, ready_ms;
	uint64_t ping_sent_ms; /* 0: none outstanding */
	uint64_t rtt_ms;
	struct deadline ping, limit, age;
	struct leg hello;      /* receives the answer to our hello */
	struct h2_stream *hello_stream;
	uint32_t far_worker, far_workers, far_instance;
	bool far_known;
	char *gateway, *via;
	struct addr addr;
	uint64_t exchanges;
	/* sender's slots by caller number; receiver's callers by slot */
	struct slot *slots;
	size_t nslots;
	uint16_t next_slot;
	struct caller **owner; /* sender: which caller holds a slot */
	struct caller **known; /* receiver */
	size_t nowner, nknown;
};

struct link_set {
	struct link_env env;
	struct link_peer *peers;
	size_t npeers;
	unsigned count;
	uint32_t next_number;
	bool draining, started;
	void (*on_empty)(void *ctx);
	struct deadline_queue *q_ping, *q_handshake, *q_age, *q_drain;
};

static void dial_check(struct link_peer *p);
static void on_ping_due(struct deadline *d);
static void on_limit(struct deadline *d);
static void on_drain_limit(struct deadline *d);
static void on_age(struct deadline *d);
static const struct conn_ops link_conn_ops;
static const struct h2_ops link_h2_ops;

/* ---- records ---- */

static void note(struct link *l, enum audit_type type, const char *reason, const char *detail)
{
	struct link_set *s = l->peer->set;
	uint64_t now = loop_now(s->env.loop);
	void *mem = ring_reserve_end(s->env.ring, 4096, now);
	struct audit_event e;
	char addr[ADDR_TEXT_MAX];

	if (!mem)
		return;
	addr_format(&l->addr, addr);
	audit_event_init(&e, mem, 4096, type, NULL, 0, loop_wall_us(s->env.loop));
	audit_event_str(&e, AUDIT_F_PEER, l->peer->cfg->name);
	audit_event_str(&e, AUDIT_F_GATEWAY, l->gateway);
	audit_event_u64(&e, AUDIT_F_LINK, l->number);
	audit_event_str(&e, AUDIT_F_DIRECTION, l->client ? "out" : "in");
	audit_event_str(&e, AUDIT_F_CLIENT, addr);
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	audit_event_done(&e);
	ring_commit(s->env.ring, e.len);
}

/* ---- slots ---- */

static void slot_drop(struct link *l, uint16_t number)
{
	struct caller *c = l->owner[number];

	if (!c)
		return;
	if (c->number < l->nslots)
		l->slots[c->number] = (struct slot){ 0 };
	l->owner[number] = NULL;
}

/* The slot of this caller on this link, given now if it has none; the oldest is taken away when all are in use. */
static struct slot *slot_of(struct link *l, struct caller *c)
{
	size_t max = (size_t)l->peer->set->env.config->limits.slots;

	if (c->number >= l->nslots) {
		size_t cap = l->nslots;

		mem_grow(&l->slots, &cap, c->number + 1, sizeof(*l->slots));
		memset(l->slots + l->nslots, 0, (cap - l->nslots) * sizeof(*l->slots));
		l->nslots = cap;
	}
	if (l->slots[c->number].number == 0) {
		if (!l->owner) {
			l->nowner = max + 1;
			l->owner = mem_array(l->nowner, sizeof(*l->owner));
		}
		l->next_slot = (uint16_t)(l->next_slot % max + 1);
		slot_drop(l, l->next_slot);
		l->owner[l->next_slot] = c;
		l->slots[c->number] = (struct slot){ .number = l->next_slot };
	}
	return &l->slots[c->number];
}

static void on_caller_free(void *ctx, struct caller *c)
{
	struct link_set *s = ctx;
	struct link *l;

	for (size_t i = 0; i < s->npeers; i++)
		TAILQ_FOREACH(l, &s->peers[i].links, entry)
			if (c->number < l->nslots && l->slots[c->number].number)
				slot_drop(l, l->slots[c->number].number);
}

static void slots_free(struct link *l)
{
	for (size_t i = 0; i < l->nknown; i++)
		caller_unref(l->peer->set->env.callers, l->known[i]);
	mem_free(l->known);
	mem_free(l->owner);
	mem_free(l->slots);
	l->known = l->owner = NULL;
	l->slots = NULL;
	l->nslots = l->nowner = l->nknown = 0;
}

/* ---- life ---- */

static struct link *link_new(struct link_peer *p, bool dialled, bool client)
{
	struct link *l = mem_zalloc(sizeof(*l));

	l->peer = p;
	l->dialled = dialled;
	l->client = client;
	l->number = ++p->set->next_number;
	l->since_ms = loop_now(p->set->env.loop);
	TAILQ_INSERT_TAIL(&p->links, l, entry);
	p->set->count++;
	return l;
}

/* The one way a link ends. */
static void link_close(struct link *l, const char *why, const char *detail)
{
	struct link_set *s = l->peer->set;
	struct link_peer *p = l->peer;
	bool was_up = l->state >= L_READY;
	uint32_t suppressed = 0;

	if (l->state == L_GONE)
		return;
	if (was_up)
		note(l, AUDIT_LINK_DOWN, why, detail);
	else
		note(l, AUDIT_REFUSED, why, detail);
	if (log_limit_ok(&p->log, 10, &suppressed)) {
		char text[160];

		log_info("link=%u peer=%s gateway=%s state=%s reason=%s detail=\"%s\" suppressed=%u", l->number,
		    p->cfg->name, l->gateway ? l->gateway : "-", state_names[l->state], why,
		    esc_text(text, sizeof(text), detail ? detail : "", detail ? strlen(detail) : 0), suppressed);
	}
	if (l->dialled && !s->draining && !was_up)
		p->fails[l->client ? 0 : 1]++;
	l->state = L_GONE;
	deadline_cancel(&l->ping);
	deadline_cancel(&l->limit);
	deadline_cancel(&l->age);
	l->hello.ev = NULL;
	if (l->h2)
		h2_free(l->h2, LEG_CANCEL);
	slots_free(l);
	if (l->conn)
		conn_part(l->conn);
	TAILQ_REMOVE(&p->links, l, entry);
	s->count--;
	mem_free(l->gateway);
	mem_free(l->via);
	l->gateway = l->via = NULL;
	loop_dispose(s->env.loop, l);
	if (!s->draining)
		dial_check(p);
	else if (s->count == 0 && s->on_empty)
		s->on_empty(s->env.ctx);
}

static void link_drain(struct link *l)
{
	if (l->state >= L_DRAINING)
		return;
	if (l->state < L_HELLO || !l->h2) {
		link_close(l, "drained", NULL);
		return;
	}
	l->state = L_DRAINING;
	h2_goaway(l->h2, H2_NO_ERROR);
	deadline_cancel(&l->age);
	deadline_cancel(&l->limit);
	deadline_set(l->peer->set->q_drain, &l->limit);
	if (h2_streams(l->h2) == 0)
		conn_tell_empty(l->conn);
	if (!l->peer->set->draining)
		dial_check(l->peer);
}

/* ---- dialling ---- */

/* Which far workers this worker has to reach, so that together we cover them all and none twice. */
static bool responsible(const struct link_set *s, uint32_t far, uint32_t far_count)
{
	if (far_count >= s->env.workers)
		return far % s->env.workers == s->env.worker;
	return s->env.worker % far_count == far;
}

static unsigned wanted_reverse(struct link_peer *p, uint32_t *far_count)
{
	struct link *l;
	uint32_t n = 0;

	TAILQ_FOREACH(l, &p->links, entry)
		if (!l->client && l->dialled && l->far_known && l->far_workers > n)
			n = l->far_workers;
	*far_count = n;
	if (n == 0)
		return p->cfg->links;
	n = 0;
	for (uint32_t i = 0; i < *far_count; i++)
		n += responsible(p->set, i, *far_count);
	return n * p->cfg->links;
}

static unsigned covered(struct link_peer *p, uint32_t far)
{
	struct link *l;
	unsigned n = 0;

	TAILQ_FOREACH(l, &p->links, entry)
		if (!l->client && l->dialled && !l->aged && l->state == L_READY && l->far_worker == far)
			n++;
	return n;
}

static void dial(struct link_peer *p, bool reverse)
{
	const struct config_dial *d = reverse ? p->cfg->dial_reverse : p->cfg->dial;
	size_t n = reverse ? p->cfg->ndial_reverse : p->cfg->ndial;
	const struct config_dial *to = &d[p->next_target[reverse]++ % n];
	struct link_env *env = &p->set->env;
	struct link *l = link_new(p, true, !reverse);
	struct conn *c;
	int fd;

	l->addr = to->addr;
	l->state = L_DIALLING;
	fd = conn_dial(&to->addr);
	if (fd < 0) {
		/* Reported from the loop, like any other failure. */
		l->conn = NULL;
		link_close(l, "connect-failed", strerror(errno));
		return;
	}
	c = l->conn = mem_alloc(sizeof(*c));
	conn_init(c, env->loop, fd, true, &link_conn_ops, l);
	conn_write_timeout(c, env->config->limits.write_ms);
	l->tls = tls_client_new(env->tls, fd, reverse ? TLS_LINK_REVERSE : TLS_LINK_CLIENT, p->cfg->domain, tls_layer_wake, c);
	tls_layer_set(c, l->tls);
	deadline_set(p->set->q_handshake, &l->limit);
}

static uint64_t backoff(unsigned fails)
{
	uint64_t ms = BACKOFF_MIN_MS;

	while (--fails && ms < BACKOFF_MAX_MS)
		ms *= 2;
	return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

/* Is a link of this kind missing, and none on its way? One dial at a time and kind: a far end that comes up is not stormed. */
static bool missing(struct link_peer *p, bool reverse)
{
	unsigned ready = 0, want;
	uint32_t far_count;
	struct link *l;

	if ((reverse ? p->cfg->ndial_reverse : p->cfg->ndial) == 0)
		return false;
	want = reverse ? wanted_reverse(p, &far_count) : p->cfg->links;
	TAILQ_FOREACH(l, &p->links, entry) {
		if (!l->dialled || l->client == reverse || l->aged || l->state >= L_DRAINING)
			continue;
		if (l->state != L_READY)
			return false;
		ready++;
	}
	return ready < want;
}

static void on_dial_timer(struct link_peer *p, bool reverse)
{
	p->dial_due[reverse] = false;
	if (!p->set->draining && missing(p, reverse))
		dial(p, reverse);
}

static void on_dial_timer_forward(void *ctx)
{
	on_dial_timer(ctx, false);
}

static void on_dial_timer_reverse(void *ctx)
{
	on_dial_timer(ctx, true);
}

static void dial_check(struct link_peer *p)
{
	if (p->set->draining || !p->set->started)
		return;
	for (int reverse = 0; reverse < 2; reverse++) {
		uint64_t ms = 0;
		uint8_t r;

		if (p->dial_due[reverse] || !missing(p, reverse))
			continue;
		if (p->fails[reverse])
			ms = backoff(p->fails[reverse]);
		else if (reverse && p->cover_tries)
			/* Links land on workers as the kernel likes: try again, slower and slower. */
			ms = p->cover_tries > COVER_TRIES ? 1000 : 5 + p->cover_tries;
		hash_random(&r, 1);
		p->dial_due[reverse] = true;
		timer_set(p->set->env.loop, &p->dial_timer[reverse], ms / 2 + ms * r / 510,
		    reverse ? on_dial_timer_reverse : on_dial_timer_forward, p);
	}
}

/* ---- hello ---- */

static struct h1_field field(const char *name, const char *value, size_t len)
{
	return (struct h1_field){ .name = name, .name_len = (uint32_t)strlen(name), .value = value, .value_len = (uint32_t)len };
}

static bool field_is(const struct h1_field *f, const char *name)
{
	return f->name_len == strlen(name) && memcmp(f->name, name, f->name_len) == 0;
}

static int hello_text(struct link *l, char *out, size_t size)
{
	struct link_env *env = &l->peer->set->env;

	return snprintf(out, size, "%u;%u;%u", env->worker, env->workers, env->instance);
}

static bool hello_parse(struct link *l, const struct leg_head *h)
{
	char text[48];
	unsigned w, n, inst;

	for (unsigned i = 0; i < h->nfields; i++) {
		const struct h1_field *f = &h->fields[i];

		if (!field_is(f, "sallyport-hello") || f->value_len >= sizeof(text))
			continue;
		memcpy(text, f->value, f->value_len);
		text[f->value_len] = '\0';
		if (sscanf(text, "%u;%u;%u", &w, &n, &inst) != 3 || n == 0 || n > MAX_FAR_WORKERS || w >= n)
			return false;
		l->far_worker = w;
		l->far_workers = n;
		l->far_instance = inst;
		l->far_known = true;
		if (l->peer->instances[w] != inst) {
			l->peer->instances[w] = inst;
			ids_new_sender(l->peer->ids);
		}
		return true;
	}
	return false;
}

static void link_ready_now(struct link *l)
{
	struct link_peer *p = l->peer;
	struct link_set *s = p->set;
	struct link *o, *next;

	l->state = L_READY;
	l->ready_ms = loop_now(s->env.loop);
	deadline_cancel(&l->limit);
	deadline_set(s->q_ping, &l->ping);
	if (l->dialled) {
		deadline_set(s->q_age, &l->age);
		p->fails[l->client ? 0 : 1] = 0;
	}
	note(l, AUDIT_LINK_UP, l->dialled ? "dialled" : "accepted", tls_cipher(l->tls));
	log_info("link=%u peer=%s gateway=%s state=ready direction=%s role=%s far-worker=%u cipher=%s group=%s", l->number,
	    p->cfg->name, l->gateway, l->dialled ? "dialled" : "accepted", l->client ? "client" : "server",
	    l->far_worker, tls_cipher(l->tls), tls_group(l->tls));
	if (l->dialled && !l->client) {
		/* Did it land where one is missing? */
		if (!responsible(s, l->far_worker, l->far_workers) || covered(p, l->far_worker) > p->cfg->links) {
			p->cover_tries++;
			link_drain(l);
			return;
		}
		p->cover_tries = 0;
	}
	/* Made before broken: an aged link of the same kind goes now that another took its place. */
	TAILQ_FOREACH_SAFE(o, &p->links, entry, next)
		if (o != l && o->aged && o->client == l->client && o->state == L_READY &&
		    (l->client || o->far_worker == l->far_worker)) {
			link_drain(o);
			break;
		}
	if (l->client)
		s->env.on_ready(s->env.ctx, p->index);
	dial_check(p);
}

static void on_hello_head(void *x, const struct leg_head *h)
{
	struct link *l = x;

	if (h->status < 200)
		return;
	if (h->status != 200 || !hello_parse(l, h)) {
		link_close(l, "hello", "the far end did not answer as a gateway");
		return;
	}
	l->hello_stream->leg.ev = NULL;
	if (!h->end)
		l->hello_stream->leg.ops->abort(&l->hello_stream->leg, LEG_CANCEL);
	if (l->state == L_HELLO)
		link_ready_now(l);
}

static void on_hello_data(void *x, const uint8_t *p, size_t n)
{
	(void)x, (void)p, (void)n;
}

static void on_hello_end(void *x, const struct h1_field *t, unsigned n)
{
	(void)x, (void)t, (void)n;
}

static void on_hello_drained(void *x)
{
	(void)x;
}

static void on_hello_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct link *l = x;

	(void)why, (void)unsent;
	if (l->state == L_HELLO)
		link_close(l, "hello", detail);
}

static const struct leg_events hello_events = {
	.on_head = on_hello_head, .on_data = on_hello_data, .on_end = on_hello_end,
	.on_drained = on_hello_drained, .on_abort = on_hello_abort,
};

static void send_hello(struct link *l)
{
	char text[48];
	struct h1_field f = field("sallyport-hello", text, (size_t)hello_text(l, text, sizeof(text)));
	struct h2_request r = {
		.method = "POST", .method_len = 4, .scheme = "https", .scheme_len = 5,
		.authority = LINK_CONTROL_AUTHORITY, .authority_len = sizeof(LINK_CONTROL_AUTHORITY) - 1,
		.path = "/hello", .path_len = 6, .fields = &f, .nfields = 1, .end = true,
	};

	l->hello_stream = h2_request(l->h2, &r);
	if (!l->hello_stream) {
		link_close(l, "hello", "no stream");
		return;
	}
	l->hello_stream->leg.ev = &hello_events;
	l->hello_stream->leg.x = l;
}

/* ---- connection events ---- */

/* TLS is up and the far end is one of the peer's gateways: HTTP/2 begins. */
static void link_begin(struct link *l)
{
	struct link_env *env = &l->peer->set->env;
	const struct config_limits *lim = &env->config->limits;
	struct h2_config cfg = {
		.server = !l->client,
		.max_streams = lim->streams_per_link,
		.stream_window = (uint32_t)lim->stream_window,
		.session_window = (uint32_t)lim->link_window,
	};

	l->gateway = mem_strdup(tls_peer(l->tls)->id);
	l->via = link_via_of(l->gateway);
	l->state = L_HELLO;
	l->h2 = h2_new(l->conn, &cfg, &link_h2_ops, l);
	deadline_set(l->peer->set->q_handshake, &l->limit);
	if (l->client && !l->peer->cfg->uplink)
		send_hello(l);
}

static void on_open(struct conn *c)
{
	struct link *l = c->owner;
	const struct svid_info *peer = tls_peer(l->tls);

	for (size_t i = 0; i < l->peer->cfg->ngateways; i++)
		if (strcmp(l->peer->cfg->gateways[i], peer->id) == 0) {
			link_begin(l);
			return;
		}
	link_close(l, "gateway-not-listed", peer->id);
}

static void on_input(struct conn *c)
{
	struct link *l = c->owner;
	struct link_env *env = &l->peer->set->env;
	ssize_t n = conn_read(c, env->scratch, env->scratch_size);

	if (n == 0) {
		link_close(l, "closed", NULL);
		return;
	}
	if (n < 0)
		return;
	h2_input(l->h2, env->scratch, (size_t)n);
	conn_settle_all();
	if (l->state != L_GONE && c->readable)
		conn_again(c);
}

static void on_drained(struct conn *c)
{
	struct link *l = c->owner;

	if (l->state == L_DRAINING && h2_streams(l->h2) == 0 && c->out.bytes == 0) {
		link_close(l, "drained", NULL);
		return;
	}
	h2_output_ready(l->h2);
}

static void on_close(struct conn *c, const char *why)
{
	struct link *l = c->owner;
	const char *detail = NULL;

	if (l->state == L_DIALLING && strcmp(why, "handshake") == 0) {
		why = tls_failure(l->tls, &detail);
	} else if (c->error) {
		detail = strerror(c->error);
	}
	link_close(l, why, detail);
}

static const struct conn_ops link_conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

/* ---- deadlines ---- */

static struct link *link_from(struct deadline *d, size_t offset)
{
	return (struct link *)((char *)d - offset);
}

static void on_limit(struct deadline *d)
{
	struct link *l = link_from(d, offsetof(struct link, limit));

	link_close(l, "timeout", state_names[l->state]);
}

static void on_drain_limit(struct deadline *d)
{
	link_close(link_from(d, offsetof(struct link, limit)), "drain-deadline", NULL);
}

static void on_age(struct deadline *d)
{
	struct link *l = link_from(d, offsetof(struct link, age));

	l->aged = true;
	dial_check(l->peer);
}

static void on_ping_due(struct deadline *d)
{
	struct link *l = link_from(d, offsetof(struct link, ping));
	struct link_set *s = l->peer->set;
	uint64_t now = loop_now(s->env.loop);

	if (l->ping_sent_ms && now - l->ping_sent_ms >= 2 * s->env.config->limits.ping_ms) {
		link_close(l, "silent", "PING was not answered");
		return;
	}
	if (!l->ping_sent_ms) {
		l->ping_sent_ms = now;
		h2_ping(l->h2);
	}
	deadline_set(s->q_ping, d);
}

/* ---- HTTP/2 events ---- */

static void refuse_control(struct h2_stream *s, unsigned status)
{
	struct leg_head h = { .status = status, .end = true, .length = 0 };

	s->leg.ops->head(&s->leg, &h);
	s->leg.ops->release(&s->leg);
}

static void on_control(struct link *l, struct h2_stream *s, const struct leg_head *head)
{
	char text[48];
	struct h1_field f;
	struct leg_head h = { .status = 200, .fields = &f, .nfields = 1, .end = true };

	if (head->path_len != 6 || memcmp(head->path, "/hello", 6) != 0 || !hello_parse(l, head)) {
		refuse_control(s, 404);
		return;
	}
	f = field("sallyport-hello", text, (size_t)hello_text(l, text, sizeof(text)));
	s->leg.ops->head(&s->leg, &h);
	s->leg.ops->release(&s->leg);
	if (l->state == L_HELLO)
		link_ready_now(l);
}

static struct caller *verify_chain(struct link *l, const struct h1_field *cert, const struct h1_field *chain, struct link_call *call)
{
	static uint8_t der[SVID_MAX_BYTES];
	struct link_env *env = &l->peer->set->env;
	struct svid_der certs[SVID_MAX_CHAIN];
	struct svid_bundle *bundle = env->bundles[1 + l->peer->index];
	static struct svid_info info; /* large; refusal_id may point into it until the next call */
	int64_t now = (int64_t)(loop_wall_us(env->loop) / 1000000);
	enum svid_reason r;
	struct caller *c;
	const char *detail;
	int n;

	n = caller_parse_cert(cert->value, cert->value_len, chain ? chain->value : "", chain ? chain->value_len : 0,
	    der, sizeof(der), certs, SVID_MAX_CHAIN);
	if (n < 0) {
		call->refusal = "malformed-certificate";
		return NULL;
	}
	c = caller_find_chain(env->callers, certs, (size_t)n, l->peer->index);
	if (c)
		return c;
	r = svid_verify_der(certs, (size_t)n, &bundle, 1, SVID_CLIENT, now, &info, &detail);
	call->refusal_id = info.id;
	if (r != SVID_OK) {
		call->refusal = svid_reason_text(r);
		return NULL;
	}
	return caller_get_mtls(env->callers, &info, certs, (size_t)n, l->peer->index);
}

/* Reads "uuid;attempt;assurance[;slot]". */
static bool parse_exchange(const struct h1_field *f, struct uuid *id, unsigned *attempt, char *assurance, unsigned *slot)
{
	const char *p = f->value, *end = p + f->value_len;
	unsigned n = 0;

	if (f->value_len < UUID_TEXT_LEN + 4 || uuid_parse(id, p, UUID_TEXT_LEN) != 0)
		return false;
	p += UUID_TEXT_LEN;
	if (*p++ != ';')
		return false;
	*attempt = 0;
	while (p < end && *p >= '0' && *p <= '9' && n++ < 3)
		*attempt = *attempt * 10 + (unsigned)(*p++ - '0');
	if (*attempt == 0 || end - p < 2 || *p++ != ';')
		return false;
	*assurance = *p++;
	*slot = 0;
	if (p == end)
		return true;
	if (*p++ != ';' || p == end)
		return false;
	for (n = 0; p < end && *p >= '0' && *p <= '9' && n < 6; n++)
		*slot = *slot * 10 + (unsigned)(*p++ - '0');
	return p == end;
}

/* Who calls: taken from a chain, a slot or the peer's word, as far as the peer may give it (DESIGN, "One exchange"). */
static struct caller *identify(struct link *l, const struct leg_head *head, struct link_call *call)
{
	struct link_env *env = &l->peer->set->env;
	const struct h1_field *x = NULL, *cert = NULL, *chain = NULL, *who = NULL;
	enum policy_assurance a;
	struct spiffe_id sid;
	struct caller *c;
	const char *why;
	char letter;
	unsigned slot;

	for (unsigned i = 0; i < head->nfields; i++) {
		const struct h1_field *f = &head->fields[i], **to = NULL;

		if (f->id != H1_F_IDENTITY)
			continue;
		if (field_is(f, "sallyport-exchange"))
			to = &x;
		else if (field_is(f, "client-cert"))
			to = &cert;
		else if (field_is(f, "client-cert-chain"))
			to = &chain;
		else if (field_is(f, "sallyport-principal"))
			to = &who;
		if (!to)
			continue;
		if (*to) {
			call->refusal = "malformed-exchange";
			return NULL;
		}
		*to = f;
	}
	call->refusal_status = 403;
	if (!x || !parse_exchange(x, &call->id, &call->attempt, &letter, &slot)) {
		call->refusal = "malformed-exchange";
		call->refusal_status = 400;
		return NULL;
	}
	if (letter == 'm') {
		if (slot > env->config->limits.slots) {
			call->refusal = "malformed-exchange";
			return NULL;
		}
		if (cert) {
			c = verify_chain(l, cert, chain, call);
			if (!c)
				return NULL;
			if (slot) {
				if (!l->known) {
					l->nknown = (size_t)env->config->limits.slots + 1;
					l->known = mem_array(l->nknown, sizeof(*l->known));
				}
				caller_unref(env->callers, l->known[slot]);
				l->known[slot] = caller_ref(c);
			}
		} else if (slot && l->known && l->known[slot]) {
			c = caller_ref(l->known[slot]);
		} else {
			call->refusal = "unknown-slot";
			call->refusal_status = LINK_STATUS_SLOT;
			return NULL;
		}
		if (c->not_after < (int64_t)(loop_wall_us(env->loop) / 1000000)) {
			call->refusal = "expired";
			call->refusal_id = "";
			caller_unref(env->callers, c);
			return NULL;
		}
		return c;
	}
	a = letter == 'u' ? POLICY_UID : letter == 'a' ? POLICY_ADDRESS : POLICY_NONE;
	if (cert || chain || slot || (letter != 'u' && letter != 'a' && letter != 'n') || (letter == 'n') != !who) {
		call->refusal = "malformed-exchange";
		return NULL;
	}
	if (!(l->peer->cfg->assert_mask & (1u << a))) {
		call->refusal = "assurance-not-accepted";
		return NULL;
	}
	if (a == POLICY_NONE)
		return caller_get(env->callers, "", 0, a, l->peer->index);
	if (spiffe_parse(&sid, who->value, who->value_len, &why) != 0) {
		call->refusal = "bad-id";
		return NULL;
	}
	/* An id of our own domain never arrives from a peer, nor one of a third domain (case 89). */
	if (sid.domain_len != strlen(l->peer->cfg->domain) || memcmp(sid.domain, l->peer->cfg->domain, sid.domain_len) != 0) {
		call->refusal = "foreign-domain";
		return NULL;
	}
	return caller_get(env->callers, who->value, who->value_len, a, l->peer->index);
}

static void on_request(struct h2 *h, struct h2_stream *s, const struct leg_head *head)
{
	struct link *l = h2_owner(h);
	struct link_env *env = &l->peer->set->env;
	struct link_call call = { .attempt = 1, .refusal_id = "" };

	if (head->authority_len == sizeof(LINK_CONTROL_AUTHORITY) - 1 &&
	    memcmp(head->authority, LINK_CONTROL_AUTHORITY, head->authority_len) == 0) {
		on_control(l, s, head);
		return;
	}
	l->exchanges++;
	call.caller = identify(l, head, &call);
	if (call.caller && !ids_fresh(l->peer->ids, &call.id, call.attempt, loop_now(env->loop))) {
		call.refusal = "exchange-id-used"; /* case 93 */
		call.refusal_status = 403;
	}
	env->on_exchange(env->ctx, l, s, head, &call);
	caller_unref(env->callers, call.caller);
}

static void on_ping(struct h2 *h)
{
	struct link *l = h2_owner(h);

	if (l->ping_sent_ms) {
		l->rtt_ms = loop_now(l->conn->loop) - l->ping_sent_ms;
		l->ping_sent_ms = 0;
	}
}

static void on_goaway(struct h2 *h, int32_t last, uint32_t code)
{
	struct link *l = h2_owner(h);

	(void)last;
	if (code != H2_NO_ERROR)
		log_warn("link=%u peer=%s the far end said GOAWAY with code %u", l->number, l->peer->cfg->name, code);
	if (l->state < L_DRAINING)
		link_drain(l);
}

/* A sidecar is no gateway, so it says no hello; that the gateway speaks means that it took our certificate. */
static void on_settings(struct h2 *h)
{
	struct link *l = h2_owner(h);

	if (l->state == L_HELLO && l->peer->cfg->uplink)
		link_ready_now(l);
}

static void on_idle(struct h2 *h)
{
	struct link *l = h2_owner(h);

	if (l->state == L_DRAINING)
		conn_tell_empty(l->conn);
}

static void on_error(struct h2 *h, const char *why)
{
	struct link *l = h2_owner(h);

	/* What nghttp2 queued (a GOAWAY) goes out first, as far as the socket takes it at once. */
	if (l->state != L_GONE) {
		h2_settle(h);
		link_close(l, strcmp(why, "goaway") == 0 ? "drained" : why, NULL);
	}
}

static const struct h2_ops link_h2_ops = {
	.on_request = on_request, .on_ping = on_ping, .on_goaway = on_goaway,
	.on_settings = on_settings, .on_idle = on_idle, .on_error = on_error,
};

/* ---- the set ---- */

struct link_set *link_set_new(const struct link_env *env)
{
	struct link_set *s = mem_zalloc(sizeof(*s));
	const struct config_limits *lim = &env->config->limits;

	s->env = *env;
	s->npeers = env->config->npeers;
	s->peers = mem_array(s->npeers, sizeof(*s->peers));
	s->q_ping = deadline_queue(env->loop, lim->ping_ms, on_ping_due);
	s->q_handshake = deadline_queue(env->loop, lim->handshake_ms, on_limit);
	s->q_age = deadline_queue(env->loop, lim->link_age_ms, on_age);
	s->q_drain = deadline_queue(env->loop, lim->drain_ms, on_drain_limit);
	for (size_t i = 0; i < s->npeers; i++) {
		s->peers[i].set = s;
		s->peers[i].cfg = &env->config->peers[i];
		s->peers[i].index = (int)i;
		s->peers[i].ids = ids_new(IDS_MAX);
		TAILQ_INIT(&s->peers[i].links);
	}
	caller_table_on_free(env->callers, on_caller_free, s);
	return s;
}

void link_set_start(struct link_set *s)
{
	s->started = true;
	for (size_t i = 0; i < s->npeers; i++)
		dial_check(&s->peers[i]);
}

void link_set_drain(struct link_set *s, void (*on_empty)(void *ctx))
{
	struct link *l, *next;

	s->draining = true;
	s->on_empty = NULL;
	for (size_t i = 0; i < s->npeers; i++) {
		timer_cancel(&s->peers[i].dial_timer[0]);
		timer_cancel(&s->peers[i].dial_timer[1]);
		TAILQ_FOREACH_SAFE(l, &s->peers[i].links, entry, next)
			link_drain(l);
	}
	s->on_empty = on_empty;
	if (s->count == 0 && on_empty)
		on_empty(s->env.ctx);
}

void link_set_free(struct link_set *s)
{
	struct link *l;

	if (!s)
		return;
	s->draining = true;
	s->on_empty = NULL;
	for (size_t i = 0; i < s->npeers; i++) {
		timer_cancel(&s->peers[i].dial_timer[0]);
		timer_cancel(&s->peers[i].dial_timer[1]);
		while ((l = TAILQ_FIRST(&s->peers[i].links)))
			link_close(l, "stopped", NULL);
		ids_free(s->peers[i].ids);
	}
	caller_table_on_free(s->env.callers, NULL, NULL);
	mem_free(s->peers);
	mem_free(s);
}

unsigned link_set_count(const struct link_set *s)
{
	return s->count;
}

void link_accept(struct link_set *s, int peer, struct conn *c, struct tls_conn *tls, const struct addr *from)
{
	struct link *l = link_new(&s->peers[peer], false, tls_alpn(tls) == TLS_ALPN_H2_REVERSE);

	l->addr = *from;
	l->conn = c;
	l->tls = tls;
	c->ops = &link_conn_ops;
	c->owner = l;
	conn_write_timeout(c, s->env.config->limits.write_ms);
	link_begin(l);
	if (s->draining && l->state != L_GONE)
		link_drain(l);
}

int link_peer_of(const struct config *c, const char *id)
{
	for (size_t i = 0; i < c->npeers; i++)
		for (size_t k = 0; !c->peers[i].uplink && k < c->peers[i].ngateways; k++)
			if (strcmp(c->peers[i].gateways[k], id) == 0)
				return (int)i;
	return -1;
}

/* ---- exchanges out ---- */

/* The first link that is not busy: few links in use means many exchanges in one record and one system call. */
static struct link *pick(const struct link_set *s, int peer, const struct link *avoid)
{
	struct link *l, *best = NULL;

	TAILQ_FOREACH(l, &s->peers[peer].links, entry) {
		if (!l->client || l->state != L_READY || l == avoid || !h2_open_ok(l->h2))
			continue;
		if (l->conn->out.bytes < LINK_BUSY && !l->aged && l->conn->writable)
			return l;
		if (!best || l->conn->out.bytes < best->conn->out.bytes)
			best = l;
	}
	return best;
}

bool link_ready(const struct link_set *s, int peer)
{
	return pick(s, peer, NULL) != NULL;
}

struct leg *link_exchange(struct link_set *s, int peer, const struct link *avoid, const struct leg_head *head,
    const struct link_call *call, char *mem, const struct leg_events *ev, void *x)
{
	static const char letters[] = { [POLICY_NONE] = 'n', [POLICY_ADDRESS] = 'a', [POLICY_UID] = 'u', [POLICY_MTLS] = 'm' };
	struct link *l = pick(s, peer, avoid);
	struct h1_field fields[H2_MAX_FIELDS + 8];
	struct caller *c = call->caller;
	struct h2_stream *st;
	struct h2_request r;
	unsigned n = 0;
	char *p = mem;

	if (!l)
		return NULL;
	for (unsigned i = 0; i < head->nfields; i++)
		if (!head->fields[i].hop)
			fields[n++] = head->fields[i];
	uuid_format(&call->id, p);
	p += UUID_TEXT_LEN;
	*p++ = ';';
	if (call->attempt >= 100)
		*p++ = (char)('0' + call->attempt / 100 % 10);
	if (call->attempt >= 10)
		*p++ = (char)('0' + call->attempt / 10 % 10);
	*p++ = (char)('0' + call->attempt % 10);
	*p++ = ';';
	if (s->peers[peer].cfg->uplink) {
		/* Our certificate stands for whoever is mapped by uid; of others we say that they are known less well (DESIGN, sidecar). */
		*p++ = c->assurance >= POLICY_UID ? 'm' : letters[c->assurance];
	} else {
		*p++ = letters[c->assurance];
	}
	if (s->peers[peer].cfg->uplink) {
		;
	} else if (c->assurance == POLICY_MTLS) {
		struct slot *slot = slot_of(l, c);

		p += sprintf(p, ";%u", slot->number);
		if (!slot->confirmed) {
			fields[n++] = field("client-cert", c->client_cert, c->client_cert_len);
			if (c->client_cert_chain_len)
				fields[n++] = field("client-cert-chain", c->client_cert_chain, c->client_cert_chain_len);
		}
	} else if (c->assurance != POLICY_NONE) {
		fields[n++] = field("sallyport-principal", c->id, c->id_len);
	}
	fields[n] = field("sallyport-exchange", mem, (size_t)(p - mem));
	fields[n++].id = H1_F_TRACEPARENT; /* changes every time: kept out of the compression table */
	r = (struct h2_request){
		.method = head->method, .method_len = head->method_len,
		.scheme = head->path ? (head->https ? "https" : "http") : NULL, .scheme_len = head->https ? 5 : 4,
		.authority = head->authority, .authority_len = head->authority_len,
		.path = head->path, .path_len = head->path_len,
		.fields = fields, .nfields = n, .end = head->end, .keep = true,
	};
	st = h2_request(l->h2, &r);
	if (!st)
		return NULL;
	st->leg.ev = ev;
	st->leg.x = x;
	l->exchanges++;
	return &st->leg;
}

struct link *link_of_leg(struct leg *l)
{
	return h2_owner(((struct h2_stream *)l)->h2);
}

void link_confirm(struct leg *leg, struct caller *c)
{
	struct link *l = link_of_leg(leg);

	if (c->assurance == POLICY_MTLS && c->number < l->nslots && l->slots[c->number].number)
		l->slots[c->number].confirmed = true;
}

void link_forget_slot(struct leg *leg, struct caller *c)
{
	struct link *l = link_of_leg(leg);

	if (c->number < l->nslots)
		l->slots[c->number].confirmed = false;
}

const char *link_error(const struct leg_head *response, uint32_t *len)
{
	for (unsigned i = 0; i < response->nfields; i++)
		if (response->fields[i].id == H1_F_IDENTITY && field_is(&response->fields[i], "sallyport-error")) {
			*len = response->fields[i].value_len;
			return response->fields[i].value;
		}
	return NULL;
}

const char *link_gateway(const struct link *l)
{
	return l->gateway;
}

char *link_via_of(const char *id)
{
	const char *domain = id + strlen("spiffe://"), *path = strchr(domain, '/');
	int n = path ? (int)(path - domain) : (int)strlen(domain);
	char *via;

	/* A pseudonym that is one gateway's alone, so that sidecar, gateway and peer are told apart. */
	path = path ? path + 1 : "gateway";
	if (strncmp(path, "gateway/", 8) == 0)
		path += 8;
	via = mem_printf("1.1 %s.%.*s", path, n, domain);
	for (char *p = via + 4; *p; p++)
		if (*p == '/')
			*p = '-';
	return via;
}

const char *link_via(const struct link *l)
{
	return l->via;
}

uint32_t link_number(const struct link *l)
{
	return l->number;
}

int link_peer(const struct link *l)
{
	return l->peer->index;
}

void link_status(const struct link_set *s, struct buf *out)
{
	bool first = true;

	buf_puts(out, "[");
	for (size_t i = 0; i < s->npeers; i++) {
		struct link *l;

		TAILQ_FOREACH(l, &s->peers[i].links, entry) {
			char addr[ADDR_TEXT_MAX];

			addr_format(&l->addr, addr);
			buf_printf(out, "%s{\"peer\":\"%s\",\"number\":%u,\"gateway\":\"%s\",\"state\":\"%s\",\"direction\":\"%s\",\"role\":\"%s\","
			    "\"age_s\":%llu,\"streams\":%u,\"exchanges\":%llu,\"rtt_ms\":%llu,\"address\":\"%s\",\"cipher\":\"%s\",\"group\":\"%s\",\"far_worker\":%d}",
			    first ? "" : ",", l->peer->cfg->name, l->number, l->gateway ? l->gateway : "", state_names[l->state],
			    l->dialled ? "dialled" : "accepted", l->client ? "client" : "server",
			    (unsigned long long)(loop_now(s->env.loop) - l->since_ms) / 1000, l->h2 ? h2_streams(l->h2) : 0,
			    (unsigned long long)l->exchanges, (unsigned long long)l->rtt_ms, addr,
			    l->state >= L_HELLO ? tls_cipher(l->tls) : "", l->state >= L_HELLO ? tls_group(l->tls) : "",
			    l->far_known ? (int)l->far_worker : -1);
			first = false;
		}
	}
	buf_puts(out, "]");
}
