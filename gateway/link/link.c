/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/link/internal.h"

#include <stdio.h>

#include "gateway/audit/event.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/tls/layer.h"

/* Links that one peer may have dialled to this worker: more than its workers can want of us. */
#define MAX_ACCEPTED 1024

const char *const link_state_names[] = { "dialling", "hello", "ready", "draining", "gone" };

static const struct h2_ops link_h2_ops;

/* ---- records ---- */

void link_note(struct link *l, enum audit_type type, const char *reason, const char *detail)
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

/* ---- life ---- */

struct link *link_new(struct link_peer *p, struct dialler *d, bool client)
{
	struct link *l = mem_zalloc(sizeof(*l));

	l->peer = p;
	l->dialler = d;
	l->client = client;
	l->identity = p->set->identity;
	l->number = ++p->set->next_number;
	l->since_ms = loop_now(p->set->env.loop);
	TAILQ_INSERT_TAIL(&p->links, l, entry);
	p->set->count++;
	p->accepted += d == NULL;
	return l;
}

/* Not by intent: for the log and for who asks why there is no link. */
static void remember(struct link *l, const char *why, const char *detail)
{
	struct link_peer *p = l->peer;
	bool orderly = strcmp(why, "drained") == 0 || strcmp(why, "stopped") == 0;
	char text[sizeof(p->failed.detail)], addr[ADDR_TEXT_MAX];
	uint32_t suppressed = 0;

	esc_text(text, sizeof(text), detail ? detail : "", detail ? strlen(detail) : 0);
	addr_format(&l->addr, addr);
	if (!orderly) {
		p->failed.at_ms = loop_now(p->set->env.loop);
		snprintf(p->failed.reason, sizeof(p->failed.reason), "%s", why);
		memcpy(p->failed.detail, text, sizeof(text));
		memcpy(p->failed.address, addr, sizeof(addr));
	}
	if (log_limit_ok(&p->log, 10, &suppressed))
		(orderly ? log_info : log_warn)("link=%u peer=%s gateway=%s address=%s direction=%s state=%s reason=%s detail=\"%s\" suppressed=%u",
		    l->number, p->cfg->name, l->gateway ? l->gateway : "-", addr, l->dialler ? "dialled" : "accepted", link_state_names[l->state], why, text,
		    suppressed);
}

void link_close(struct link *l, const char *why, const char *detail)
{
	struct link_set *s = l->peer->set;
	struct link_peer *p = l->peer;
	bool was_up = l->ready_ms != 0;

	if (l->state == L_GONE)
		return;
	link_note(l, was_up ? AUDIT_LINK_DOWN : l->alarm || (l->tls && tls_alarming(l->tls)) ? AUDIT_ALERT : AUDIT_REFUSED, why, detail);
	remember(l, why, detail);
	dial_down(l, false);
	p->draining -= l->state == L_DRAINING;
	l->state = L_GONE;
	deadline_cancel(&l->ping);
	deadline_cancel(&l->limit);
	deadline_cancel(&l->age);
	if (l->h2)
		h2_free(l->h2, LEG_CANCEL);
	identity_fini(l);
	standing_forget_far(l);
	if (l->conn)
		conn_part(l->conn);
	TAILQ_REMOVE(&p->links, l, entry);
	s->count--;
	p->accepted -= l->dialler == NULL;
	mem_free(l->gateway);
	mem_free(l->via);
	l->gateway = l->via = NULL;
	loop_dispose(s->env.loop, l);
	if (!s->draining)
		dial_check(p);
	else if (s->count == 0 && s->on_empty)
		s->on_empty(s->env.ctx);
}

static void drain_oldest(struct link_peer *p)
{
	struct link *l;

	TAILQ_FOREACH(l, &p->links, entry)
		if (l->state == L_DRAINING) {
			link_close(l, "too-many-draining", NULL);
			return;
		}
}

void link_drain(struct link *l, const char *why)
{
	struct link_peer *p = l->peer;
	struct link_set *s = p->set;

	if (l->state == L_DRAINING && s->draining && !l->limit.q)
		deadline_set(s->q_drain, &l->limit);
	if (l->state >= L_DRAINING)
		return;
	if (l->state < L_HELLO || !l->h2) {
		link_close(l, "drained", NULL);
		return;
	}
	if (p->draining >= LINK_MAX_DRAINING)
		drain_oldest(p);
	dial_down(l, true);
	l->state = L_DRAINING;
	l->leaves = why;
	p->draining++;
	h2_goaway(l->h2, H2_NO_ERROR);
	deadline_cancel(&l->age);
	deadline_cancel(&l->limit);
	/* What runs on it is as good as on any other link: it stays as long as that takes. */
	if (s->draining)
		deadline_set(s->q_drain, &l->limit);
	if (h2_done(l->h2))
		conn_tell_empty(l->conn);
	if (!s->draining)
		dial_check(p);
}

void link_ready_now(struct link *l)
{
	struct link_peer *p = l->peer;
	struct link_set *s = p->set;
	struct link *o, *next;

	l->state = L_READY;
	l->ready_ms = loop_now(s->env.loop);
	p->failed.at_ms = 0;
	deadline_cancel(&l->limit);
	deadline_set(s->q_ping, &l->ping);
	if (l->dialler)
		deadline_set(s->q_age, &l->age);
	dial_up(l);
	link_note(l, AUDIT_LINK_UP, l->dialler ? "dialled" : "accepted", tls_cipher(l->tls));
	log_info("link=%u peer=%s gateway=%s state=ready direction=%s role=%s far-worker=%u cipher=%s group=%s", l->number,
	    p->cfg->name, l->gateway, l->dialler ? "dialled" : "accepted", l->client ? "client" : "server",
	    l->far_worker, tls_cipher(l->tls), tls_group(l->tls));
	if (!dial_landed(l)) {
		l->counted = true;
		link_drain(l, "not-needed");
		return;
	}
	/* Made before broken: an aged link of the same kind goes now that another took its place. */
	TAILQ_FOREACH_SAFE(o, &p->links, entry, next)
		if (l->dialler && o->dialler == l->dialler && o->aged && o->state == L_READY &&
		    (l->client || (o->far_worker == l->far_worker && strcmp(o->gateway, l->gateway) == 0))) {
			link_drain(o, o->leaves);
			break;
		}
	if (l->client && !quarantine_of(l))
		s->env.on_ready(s->env.ctx, p->index);
	crl_link_up(l);
	dial_check(p);
}

/* ---- connection events ---- */

/* TLS is up and the far end is one of the peer's gateways: HTTP/2 begins. */
static void link_begin(struct link *l)
{
	struct link_env *env = &l->peer->set->env;
	const struct config_limits *lim = &env->config->limits;
	struct h2_config cfg = {
		.server = !l->client,
		.link = true,
		.max_streams = lim->streams_per_link,
		.stream_window = (uint32_t)lim->stream_window,
		.session_window = (uint32_t)lim->link_window,
		.head_ms = lim->head_ms,
		.write_ms = lim->write_ms,
	};

	const char *why;

	l->gateway = mem_strdup(tls_peer(l->tls)->id);
	l->via = link_via_of(l->gateway);
	l->no_crl = tls_no_crl(l->tls);
	why = standing_far_end(l);
	if (why) {
		link_close(l, why, tls_peer(l->tls)->id);
		return;
	}
	l->state = L_HELLO;
	l->h2 = h2_new(l->conn, &cfg, &link_h2_ops, l);
	deadline_set(l->peer->set->q_handshake, &l->limit);
	if (l->client && !l->peer->cfg->uplink)
		hello_send(l);
}

static bool id_of_gateway(const char *text)
{
	struct spiffe_id id;
	const char *why;

	return spiffe_parse(&id, text, strlen(text), &why) == 0 && spiffe_is_gateway(&id);
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
	/* Whoever answers there is of another domain, or no gateway: nobody of theirs is to hold this address (case 89). */
	l->alarm = strcmp(peer->domain, l->peer->cfg->domain) != 0 || !id_of_gateway(peer->id);
	link_close(l, "gateway-not-listed", peer->id);
}

static void on_input(struct conn *c)
{
	struct link *l = c->owner;
	struct link_env *env = &l->peer->set->env;
	ssize_t n = conn_read(c, env->scratch, env->scratch_size);

	if (n == 0) {
		link_close(l, "closed", l->dialler && l->state == L_HELLO ? "right after the handshake: does the far end list our gateway id?" : NULL);
		return;
	}
	if (n < 0)
		return;
	l->heard_ms = loop_now(env->loop);
	h2_input(l->h2, env->scratch, (size_t)n);
	conn_settle_all();
	if (l->state != L_GONE && c->readable)
		conn_again(c);
}

static void on_drained(struct conn *c)
{
	struct link *l = c->owner;

	if (l->state == L_DRAINING && h2_done(l->h2) && c->out.bytes == 0) {
		link_close(l, "drained", NULL);
		return;
	}
	h2_output_ready(l->h2);
}

static void on_close(struct conn *c, const char *why)
{
	struct link *l = c->owner;
	const char *detail = NULL, *tls = "";

	/* In TLS 1.3 the dialler's handshake is over before its certificate is judged: the alert that says why is read later. */
	if (strcmp(why, "handshake") == 0 || strcmp(why, "reset") == 0)
		tls = tls_failure(l->tls, &detail);
	if (*tls)
		why = tls;
	else
		detail = c->error ? strerror(c->error) : NULL;
	link_close(l, why, detail);
}

const struct conn_ops link_conn_ops = {
	.on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close,
};

/* ---- deadlines ---- */

static struct link *link_from(struct deadline *d, size_t offset)
{
	return (struct link *)((char *)d - offset);
}

void link_on_limit(struct deadline *d)
{
	struct link *l = link_from(d, offsetof(struct link, limit));

	link_close(l, "timeout", link_state_names[l->state]);
}

void link_on_drain_limit(struct deadline *d)
{
	link_close(link_from(d, offsetof(struct link, limit)), "drain-deadline", NULL);
}

void link_on_age(struct deadline *d)
{
	struct link *l = link_from(d, offsetof(struct link, age));

	if (l->peer->draining >= LINK_MAX_DRAINING / 2) {
		deadline_set(l->peer->set->q_age, d); /* long exchanges on many links: no more of them for the sake of age alone */
		return;
	}
	l->aged = true;
	l->leaves = "aged";
	dial_check(l->peer);
}

void link_on_ping_due(struct deadline *d)
{
	struct link *l = link_from(d, offsetof(struct link, ping));
	struct link_set *s = l->peer->set;
	uint64_t now = loop_now(s->env.loop), heard = l->heard_ms > l->ping_sent_ms ? l->heard_ms : l->ping_sent_ms;

	/* On a slow line a PING may queue behind content for long, but then the far end is heard of in other ways. */
	if (l->ping_sent_ms && now - heard >= 2 * s->env.config->limits.ping_ms) {
		link_close(l, "silent", "PING was not answered");
		return;
	}
	if (!l->ping_sent_ms) {
		l->ping_sent_ms = now;
		h2_ping(l->h2);
	}
	deadline_set(s->q_ping, d);
	if (l->state != L_READY)
		return;
	dial_stable(l);
	if (l->client && !l->peer->cfg->uplink)
		hello_check(l);
}

/* ---- HTTP/2 events ---- */

static void on_request(struct h2 *h, struct h2_stream *s, const struct leg_head *head)
{
	struct link *l = h2_owner(h);
	struct link_env *env = &l->peer->set->env;
	struct link_call call = { .attempt = 1, .refusal_id = "" };

	if (head->authority_len == sizeof(LINK_CONTROL_AUTHORITY) - 1 &&
	    memcmp(head->authority, LINK_CONTROL_AUTHORITY, head->authority_len) == 0) {
		if (head->path_len == 7 && memcmp(head->path, "/caller", 7) == 0)
			vouch_answer(l, s, head);
		else
			hello_answer(l, s, head);
		return;
	}
	l->exchanges++;
	call.caller = identity_of(l, head, &call);
	if (quarantine_of(l)) { /* case 53 */
		call.refusal = "no-crl";
		call.refusal_status = 503;
	}
	if (call.caller && !call.refusal && !ids_fresh(l->peer->ids, &call.id, call.attempt, loop_now(env->loop))) {
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
		link_drain(l, "far-end");
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

	if (l->state == L_DRAINING && h2_done(h))
		conn_tell_empty(l->conn);
}

static void on_room(struct h2 *h)
{
	struct link *l = h2_owner(h);

	if (l->state == L_READY && !quarantine_of(l))
		l->peer->set->env.on_ready(l->peer->set->env.ctx, l->peer->index);
}

static void on_error(struct h2 *h, const char *why)
{
	struct link *l = h2_owner(h);

	link_close(l, strcmp(why, "goaway") == 0 ? "drained" : why, NULL);
}

static const struct h2_ops link_h2_ops = {
	.on_request = on_request, .on_ping = on_ping, .on_goaway = on_goaway,
	.on_settings = on_settings, .on_idle = on_idle, .on_room = on_room, .on_error = on_error,
};

/* ---- those that the peer dialled ---- */

void link_accept(struct link_set *s, int peer, struct conn *c, struct tls_conn *tls, const struct addr *from)
{
	struct link *l = link_new(&s->peers[peer], NULL, tls_alpn(tls) == TLS_ALPN_H2_REVERSE);

	l->addr = *from;
	l->conn = c;
	l->tls = tls;
	c->ops = &link_conn_ops;
	c->owner = l;
	conn_write_timeout(c, s->env.config->limits.write_ms);
	if (l->peer->accepted > MAX_ACCEPTED) {
		link_close(l, "too-many-links", NULL);
		return;
	}
	link_begin(l);
	if (s->draining && l->state != L_GONE)
		link_drain(l, "process-ends");
}

/* ---- what is asked of one ---- */

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
