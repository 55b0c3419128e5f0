/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners: accept, bound, find out who it is, hand over to the protocol. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/hash.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/enrol/peek.h"
#include "gateway/exchange/ingress.h"
#include "gateway/exchange/owner.h"
#include "gateway/tls/layer.h"

/* Connections taken from one listener per turn, so that a flood leaves room for what is already here. */
#define ACCEPT_BATCH 64
#define PAUSE_MS 100
#define LINGER_MS 2000
#define PARTING_MS 5000 /* draining: how long a silent connection may still ask */

struct source {
	uint64_t key;          /* 0: free */
	uint32_t connections;
	uint32_t handshakes;   /* in this second */
	uint64_t second;
};

/* A TLS handshake under way; who it is decides what comes next. */
struct greeting {
	struct conn *conn;             /* NULL while we look at what it asks for */
	struct tls_conn *tls;
	struct peek peek;
	int fd;                        /* then: its socket */
	struct ingress_client client;
	struct deadline limit;
};

/* A connection of the enrolment service, from which it is counted. */
struct guest {
	struct ingress_client client;
};

static void on_greeting_limit(struct deadline *d);
static const struct conn_ops greeting_ops;

/* ---- sources: a linear-probing table, keyed by a hash of the address (an IPv6 /64 counts as one) ---- */

static uint64_t source_key(const struct addr *a)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->ss;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&a->ss;
	uint64_t h;

	if (a->ss.ss_family == AF_INET)
		h = hash_bytes(&in->sin_addr, 4);
	else if (a->ss.ss_family == AF_INET6)
		h = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? hash_bytes((const uint8_t *)&in6->sin6_addr + 12, 4)
							     : hash_bytes(&in6->sin6_addr, 8);
	else
		return 0;
	return h ? h : 1;
}

static bool source_counts(const struct source *s, uint64_t second)
{
	return s->key && (s->connections || s->second == second);
}

static struct source *source_find(struct ingress *in, uint64_t key, bool add)
{
	size_t i;

	if (add && (in->nsources + 1) * 2 > in->source_cap) {
		uint64_t second = loop_now(in->gate->loop) / 1000;
		size_t cap = 1024, kept = 0;
		struct source *to;

		/* As large as those need that count: sources come and go, and the table must not grow with all that ever were. */
		for (i = 0; i < in->source_cap; i++)
			kept += source_counts(&in->sources[i], second);
		while (cap < kept * 4)
			cap *= 2;
		to = mem_array(cap, sizeof(*to));
		kept = 0;
		for (i = 0; i < in->source_cap; i++) {
			struct source *s = &in->sources[i];
			size_t k;

			if (!source_counts(s, second))
				continue;
			for (k = s->key & (cap - 1); to[k].key; k = (k + 1) & (cap - 1))
				;
			to[k] = *s;
			kept++;
		}
		mem_free(in->sources);
		in->sources = to;
		in->source_cap = cap;
		in->nsources = kept;
	}
	if (!in->source_cap)
		return NULL;
	for (i = key & (in->source_cap - 1); in->sources[i].key; i = (i + 1) & (in->source_cap - 1))
		if (in->sources[i].key == key)
			return &in->sources[i];
	if (!add)
		return NULL;
	in->nsources++;
	in->sources[i] = (struct source){ .key = key };
	return &in->sources[i];
}

/* May this address have one more connection, and if TLS one more handshake? */
static const char *source_admit(struct ingress *in, uint64_t key, bool tls)
{
	const struct config_limits *lim = &in->gate->config->limits;
	uint64_t second = loop_now(in->gate->loop) / 1000;
	struct source *s = source_find(in, key, true);

	if (s->connections >= lim->connections_per_source)
		return "connections-per-source";
	if (tls) {
		if (s->second != second) {
			s->second = second;
			s->handshakes = 0;
		}
		if (s->handshakes >= lim->handshakes_per_source)
			return "handshakes-per-source";
		s->handshakes++;
	}
	s->connections++;
	return NULL;
}

static void source_release(struct ingress *in, uint64_t key)
{
	struct source *s = key ? source_find(in, key, false) : NULL;

	if (s && s->connections)
		s->connections--;
}

void ingress_gone(struct ingress_client *c)
{
	struct ingress *in = c->listener->ingress;

	source_release(in, c->source);
	if (c->kind)
		LIST_REMOVE(c, same_caller);
	c->kind = NULL;
	caller_unref(in->gate->callers, c->caller);
	c->caller = NULL;
	in->connections--;
	if (in->stopped && in->connections == 0 && in->on_empty)
		in->on_empty(in->ctx);
}

void ingress_attach(struct ingress_client *c, const struct ingress_kind *kind)
{
	if (c->caller->assurance != POLICY_MTLS)
		return;
	c->kind = kind;
	LIST_INSERT_HEAD(&c->caller->connections, c, same_caller);
}

void ingress_rebind(struct ingress_client *c, struct caller *to)
{
	struct caller *was = c->caller;

	LIST_REMOVE(c, same_caller);
	c->caller = caller_ref(to);
	LIST_INSERT_HEAD(&to->connections, c, same_caller);
	caller_unref(c->listener->ingress->gate->callers, was);
}

/* ---- who it is ---- */

static struct caller *who(struct ingress_client *c, int fd)
{
	struct ingress_listener *ls = c->listener;
	struct gate *g = ls->ingress->gate;
	bool uplink = g->config->npeers && g->config->peers[0].uplink;
	bool known = false;
	int best = -1;

	if (c->from.ss.ss_family == AF_UNIX) {
		struct ucred cred;
		socklen_t len = sizeof(cred);

		known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0;
		c->uid = known ? cred.uid : UINT32_MAX;
	} else if (addr_is_loopback(&c->from)) {
		/* The owner of the other end, by the kernel's word; asked only where a mapping by uid may use it. */
		for (size_t i = 0; i < ls->cfg->nclients && !known; i++)
			if (ls->cfg->clients[i].user)
				known = owner_of(fd, &c->from, &c->uid) == 0;
	}
	for (size_t i = 0; i < ls->cfg->nclients; i++) {
		const struct config_client *m = &ls->cfg->clients[i];

		if (m->user ? known && m->uid == c->uid
			    : c->from.ss.ss_family != AF_UNIX && addr_in_cidr(&c->from, &m->cidr)) {
			/* A user is a better witness than an address; a longer prefix than a shorter one. */
			if (best < 0 || (m->user && !ls->cfg->clients[best].user) ||
			    (!m->user && !ls->cfg->clients[best].user && m->cidr.bits > ls->cfg->clients[best].cidr.bits))
				best = (int)i;
		}
	}
	if (best >= 0)
		return caller_ref(ls->clients[best]);
	/* A sidecar's other local callers act under its own name, but known by address only (case 90). */
	if (uplink && (c->from.ss.ss_family == AF_UNIX || addr_is_loopback(&c->from)))
		return caller_get(g->callers, g->config->identity.id, strlen(g->config->identity.id), POLICY_ADDRESS, -1);
	return caller_get(g->callers, "", 0, POLICY_NONE, -1);
}

bool ingress_sni_ok(const struct gate *g, const char *sni, const struct leg_head *h)
{
	const char *colon;
	size_t n = h->authority_len;

	/* No SNI: the client named an address. Our domain's own name: a sidecar's link, which carries many hosts. */
	if (!sni || strcmp(sni, g->config->domain) == 0)
		return true;
	colon = n && h->authority[n - 1] != ']' ? memrchr(h->authority, ':', n) : NULL;
	if (colon && !memchr(colon, ']', (size_t)(h->authority + n - colon)))
		n = (size_t)(colon - h->authority);
	return n == strlen(sni) && strncasecmp(sni, h->authority, n) == 0;
}

/* ---- TLS ---- */

static void greeting_free(struct greeting *g, bool keep_conn)
{
	struct ingress *in = g->client.listener->ingress;

	in->handshakes--;
	deadline_cancel(&g->limit);
	if (!keep_conn) {
		if (g->conn) {
			conn_part(g->conn); /* an alert says why */
		} else {
			peek_stop(&g->peek);
			close(g->fd);
		}
		ingress_gone(&g->client);
	}
	loop_dispose(in->gate->loop, g);
}

static void note(const struct ingress_client *c, const char *event, const char *id, const char *reason, const char *detail, bool alert)
{
	static struct log_limit limit;
	uint32_t suppressed;

	gate_note(c->listener->ingress->gate, alert ? AUDIT_ALERT : AUDIT_REFUSED, c->listener->cfg->name, &c->from, id, reason, detail);
	if (log_limit_ok(&limit, 20, &suppressed)) {
		char addr[ADDR_TEXT_MAX];

		addr_format(&c->from, addr);
		log_warn("listener=%s client=%s event=%s reason=%s detail=\"%s\" id=%s suppressed=%u",
		    c->listener->cfg->name, addr, event, reason, detail ? detail : "", id && id[0] ? id : "-", suppressed);
	}
}

static void refuse(struct greeting *gr, const char *reason, const char *detail, bool alert)
{
	gr->client.listener->ingress->refused++;
	note(&gr->client, "handshake-refused", gr->tls ? tls_peer(gr->tls)->id : NULL, reason, detail, alert);
	greeting_free(gr, false);
}

void ingress_tls_lost(const struct ingress_client *c, const struct tls_conn *t)
{
	const char *detail, *why = t ? tls_failure(t, &detail) : "";

	/* Nobody's fault: the line's, or the client's way to leave. */
	if (!*why || !strcmp(why, "eof") || !strcmp(why, "reset") || !strcmp(why, "io") || !strcmp(why, "alert"))
		return;
	note(c, "tls-broken", c->caller ? c->caller->id : NULL, why, detail, tls_alarming(t));
}

/* ---- the enrolment service ---- */

static void on_guest_gone(void *ctx)
{
	struct guest *guest = ctx;
	struct loop *loop = guest->client.listener->ingress->gate->loop;

	ingress_gone(&guest->client);
	loop_dispose(loop, guest);
}

/* The greeting is over and its client goes on as a guest. False: there are too many; refused. */
static bool welcome_guest(struct greeting *gr, struct enrol_client *to)
{
	struct guest *guest;

	if (!enrol_room(gr->client.listener->ingress->gate->enrol)) {
		refuse(gr, "enrolments", "limit", false);
		return false;
	}
	guest = mem_zalloc(sizeof(*guest));
	guest->client = gr->client;
	*to = (struct enrol_client){ .from = gr->client.from, .listener = gr->client.listener->cfg->name, .gone = on_guest_gone, .ctx = guest };
	greeting_free(gr, true);
	return true;
}

static void greet(struct greeting *gr);

static void on_peeked(void *ctx, bool enrol)
{
	struct greeting *gr = ctx;
	struct gate *g = gr->client.listener->ingress->gate;
	struct enrol_client client;
	int fd = gr->fd;

	if (!enrol)
		greet(gr);
	else if (welcome_guest(gr, &client))
		enrol_forward(g->enrol, fd, &client);
}

/* ---- who came ---- */

static void on_greeting_open(struct conn *c)
{
	struct greeting *gr = c->owner;
	struct ingress_listener *ls = gr->client.listener;
	struct gate *g = ls->ingress->gate;
	const struct svid_info *peer = tls_peer(gr->tls);
	struct svid_der chain[SVID_MAX_CHAIN];
	struct spiffe_id id;
	const char *why;
	size_t n;
	bool ours;
	int p;

	if (tls_enrol(gr->tls)) {
		struct tls_conn *tls = gr->tls;
		struct enrol_client client;

		if (welcome_guest(gr, &client))
			enrol_serve(g->enrol, c, tls, &client);
		return;
	}
	if (spiffe_parse(&id, peer->id, strlen(peer->id), &why) != 0) {
		refuse(gr, "bad-id", why, false);
		return;
	}
	ours = strcmp(peer->domain, g->config->domain) == 0;
	if (!ours || spiffe_is_gateway(&id)) {
		p = ours ? -1 : link_peer_of(g->config, peer->id);
		if (p < 0 || !(ls->cfg->accept & CONFIG_PEERS) || tls_alpn(gr->tls) == TLS_ALPN_HTTP1) {
			/* A peer's workload at the tunnel, or a gateway that nobody listed (case 89). */
			refuse(gr, spiffe_is_gateway(&id) ? "gateway-not-listed" : "foreign-workload", peer->id, !ours && !spiffe_is_gateway(&id));
			return;
		}
		why = link_peer_refusal(g->links, p);
		if (why) {
			refuse(gr, why, peer->id, false);
			return;
		}
		{
			struct addr from = gr->client.from;

			/* Authenticated peers are exempt from what bounds strangers. */
			source_release(ls->ingress, gr->client.source);
			gr->client.source = 0;
			ingress_gone(&gr->client);
			greeting_free(gr, true);
			link_accept(g->links, p, c, gr->tls, &from);
		}
		return;
	}
	if (!(ls->cfg->accept & CONFIG_WORKLOADS) || tls_alpn(gr->tls) == TLS_ALPN_H2_REVERSE) {
		refuse(gr, "workload-not-accepted", peer->id, false);
		return;
	}
	if (tls_no_crl(gr->tls)) {
		refuse(gr, "no-crl", "a CRL is required, and none is in force", true); /* case 53 */
		return;
	}
	n = tls_peer_chain(gr->tls, chain, SVID_MAX_CHAIN);
	caller_unref(g->callers, gr->client.caller);
	gr->client.caller = caller_get_mtls(g->callers, peer, chain, n, -1);
	if (gr->client.caller->refs == 1)
		link_remember(g->links, gr->client.caller);
	/* What is trusted may have changed between its certificate and the end of the handshake, or before, and this one been found wanting. */
	if (!tls_current(gr->tls))
		caller_doubt(gr->client.caller);
	why = link_caller_refusal(g->links, gr->client.caller);
	if (why) {
		refuse(gr, why, peer->id, true);
		return;
	}
	tls_peer_forget(gr->tls); /* the caller has what matters of it */
	greeting_free(gr, true);
	if (tls_alpn(gr->tls) == TLS_ALPN_H2)
		h2_ingress_start(c, &gr->client, gr->tls);
	else
		h1_ingress_start(c, &gr->client, gr->tls);
}

static void on_greeting_input(struct conn *c)
{
	(void)c;
}

static void on_greeting_close(struct conn *c, const char *why)
{
	struct greeting *gr = c->owner;
	const char *detail = NULL;

	if (strcmp(why, "handshake") == 0)
		why = tls_failure(gr->tls, &detail);
	refuse(gr, why, detail, tls_alarming(gr->tls));
}

static const struct conn_ops greeting_ops = {
	.on_open = on_greeting_open, .on_input = on_greeting_input, .on_drained = on_greeting_input, .on_close = on_greeting_close,
};

static void on_greeting_limit(struct deadline *d)
{
	refuse((struct greeting *)((char *)d - offsetof(struct greeting, limit)), "handshake-timeout", NULL, false); /* case 17 */
}

/* ---- accepting ---- */

static void pause_accepting(struct ingress *in, const char *why);
static void on_listener(void *ctx, unsigned what);

static void greet(struct greeting *gr)
{
	struct ingress_listener *ls = gr->client.listener;
	struct gate *g = ls->ingress->gate;
	unsigned accept = ls->cfg->accept;
	struct conn *c = gr->conn = mem_alloc(sizeof(*c));

	conn_init(c, g->loop, gr->fd, false, &greeting_ops, gr);
	gr->tls = tls_server_new(g->tls, gr->fd, (accept & CONFIG_PEERS ? TLS_ACCEPT_PEERS : 0) |
	    (accept & CONFIG_WORKLOADS ? TLS_ACCEPT_WORKLOADS : 0) | (accept & CONFIG_ENROL ? TLS_ACCEPT_ENROL : 0), tls_layer_wake, c);
	tls_layer_set(c, gr->tls);
}

static void welcome(struct ingress_listener *ls, int fd, const struct addr *from)
{
	struct ingress *in = ls->ingress;
	struct gate *g = in->gate;
	bool tls = ls->cfg->accept & (CONFIG_PEERS | CONFIG_WORKLOADS | CONFIG_ENROL);
	struct ingress_client client = { .listener = ls, .from = *from };
	const char *refusal = NULL;
	struct greeting *gr;
	struct conn *c;

	client.source = source_key(from);
	in->accepted++;
	if (client.source)
		refusal = source_admit(in, client.source, tls);
	if (refusal || (tls && in->handshakes >= g->config->limits.handshakes)) {
		if (!refusal) {
			source_release(in, client.source);
			refusal = "handshakes";
		}
		in->refused++;
		gate_note(g, AUDIT_REFUSED, ls->cfg->name, from, NULL, refusal, "limit");
		close(fd);
		return;
	}
	in->connections++;
	client.caller = tls ? caller_get(g->callers, "", 0, POLICY_NONE, -1) : who(&client, fd);
	if (!tls) {
		c = mem_alloc(sizeof(*c));
		conn_init(c, g->loop, fd, false, &greeting_ops, NULL);
		if (ls->cfg->accept & CONFIG_TCP)
			tcp_ingress_start(c, &client);
		else
			h1_ingress_start(c, &client, NULL);
		return;
	}
	gr = mem_zalloc(sizeof(*gr));
	gr->client = client;
	gr->fd = fd;
	in->handshakes++;
	deadline_set(in->q_handshake, &gr->limit);
	if (ls->cfg->accept & CONFIG_ENROL && g->config->enrol.nforward)
		peek_start(&gr->peek, g->loop, fd, g->config->enrol.host, on_peeked, gr);
	else
		greet(gr);
}

static void on_listener(void *ctx, unsigned what)
{
	struct ingress_listener *ls = ctx;
	struct ingress *in = ls->ingress;

	(void)what;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct addr from;
		int fd;

		if (in->connections >= in->gate->config->limits.connections) {
			pause_accepting(in, "connections");
			return;
		}
		fd = conn_accept(ls->fd, &from);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				pause_accepting(in, strerror(errno)); /* case 70 */
			return;
		}
		welcome(ls, fd, &from);
	}
}

static void resume_accepting(void *ctx)
{
	struct ingress *in = ctx;

	if (in->stopped || !in->paused)
		return;
	in->paused = false;
	for (size_t i = 0; i < in->n; i++)
		io_add_level(in->gate->loop, &in->listeners[i].io, in->listeners[i].fd, on_listener, &in->listeners[i]);
}

static void pause_accepting(struct ingress *in, const char *why)
{
	static struct log_limit limit;
	uint32_t suppressed;

	if (in->paused)
		return;
	in->paused = true;
	for (size_t i = 0; i < in->n; i++)
		io_del(&in->listeners[i].io);
	if (log_limit_ok(&limit, 1, &suppressed))
		log_warn("event=accepting-paused reason=\"%s\" connections=%u suppressed=%u raise limits.connections or the file limit", why,
		    in->connections, suppressed);
	timer_set(in->gate->loop, &in->resume, PAUSE_MS, resume_accepting, in);
}

struct ingress *ingress_new(struct gate *g, const int *fds, const unsigned *index, size_t n)
{
	struct ingress *in = mem_zalloc(sizeof(*in));
	const struct config_limits *lim = &g->config->limits;

	in->gate = g;
	in->n = n;
	in->listeners = mem_array(n, sizeof(*in->listeners));
	in->q_handshake = deadline_queue(g->loop, lim->handshake_ms, on_greeting_limit);
	in->q_keepalive = deadline_queue(g->loop, lim->keepalive_ms, h1_on_keepalive);
	in->q_keepalive_h2 = deadline_queue(g->loop, lim->keepalive_ms, h2_on_keepalive);
	in->q_parting_h2 = deadline_queue(g->loop, PARTING_MS, h2_on_keepalive);
	in->q_head = deadline_queue(g->loop, lim->head_ms, h1_on_head_limit);
	in->q_body = deadline_queue(g->loop, lim->body_idle_ms, h1_on_body_limit);
	in->q_linger = deadline_queue(g->loop, LINGER_MS, h1_on_linger);
	in->q_parting = deadline_queue(g->loop, PARTING_MS, h1_on_keepalive);
	LIST_INIT(&in->h1);
	LIST_INIT(&in->h2);
	for (size_t i = 0; i < n; i++) {
		struct ingress_listener *ls = &in->listeners[i];

		ls->ingress = in;
		ls->cfg = &g->config->listeners[index[i]];
		ls->fd = fds[i];
		ls->default_port = ls->cfg->accept & (CONFIG_PEERS | CONFIG_WORKLOADS | CONFIG_ENROL) ? 443 : 80;
		ls->clients = mem_array(ls->cfg->nclients, sizeof(*ls->clients));
		for (size_t k = 0; k < ls->cfg->nclients; k++) {
			const struct config_client *m = &ls->cfg->clients[k];

			ls->clients[k] = caller_get(g->callers, m->principal, strlen(m->principal),
			    m->user ? POLICY_UID : POLICY_ADDRESS, -1);
		}
	}
	in->paused = true;
	resume_accepting(in);
	return in;
}

void ingress_drain(struct ingress *in, void (*on_empty)(void *ctx), void *ctx)
{
	if (!in->stopped) {
		in->stopped = true;
		timer_cancel(&in->resume);
		for (size_t i = 0; i < in->n; i++) {
			io_del(&in->listeners[i].io);
			close(in->listeners[i].fd);
			in->listeners[i].fd = -1;
		}
	}
	in->on_empty = on_empty;
	in->ctx = ctx;
	h1_ingress_drain(in);
	h2_ingress_drain(in);
	enrol_drain(in->gate->enrol);
	if (in->connections == 0 && on_empty)
		on_empty(ctx);
}

void ingress_free(struct ingress *in)
{
	if (!in)
		return;
	timer_cancel(&in->resume);
	for (size_t i = 0; i < in->n; i++) {
		io_del(&in->listeners[i].io);
		for (size_t k = 0; k < in->listeners[i].cfg->nclients; k++)
			caller_unref(in->gate->callers, in->listeners[i].clients[k]);
		mem_free(in->listeners[i].clients);
	}
	mem_free(in->listeners);
	mem_free(in->sources);
	mem_free(in);
}
