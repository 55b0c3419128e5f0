/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dialling. Forward, a worker wants so many links of its own to the peer, wherever they land: one dialler takes the addresses in turn. In
 * reverse, it is the far workers that need links, behind each address: a dialler per address goes on until each has its own; which worker
 * of ours sees to which of theirs follows from their numbers.
 *
 * A dialler has one link on its way at a time, so a far end that comes up is not stormed.
 */
#include <errno.h>

#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"
#include "gateway/tls/layer.h"

/* Reconnection: 100 ms doubling to 5 s, each with jitter, so that two gateways never dial in step. */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
/* A link that ends sooner than this after it became ready counts as a failure. */
#define STABLE_MS 5000
/* Dials in a row that landed on a far worker that has its links already, before we slow down. */
#define COVER_TRIES 64

/* ---- what is wanted ---- */

/* Which far workers this worker has to reach, so that together we cover them all and none twice. */
static bool responsible(const struct link_set *s, uint32_t far, uint32_t far_count)
{
	if (far_count >= s->env.workers)
		return far % s->env.workers == s->env.worker;
	return s->env.worker % far_count == far;
}

static unsigned share(const struct link_set *s, uint32_t far_count)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < far_count; i++)
		n += responsible(s, i, far_count);
	return n;
}

/* The last ready link to the same gateway: what it said of its workers is newest. */
static bool speaks_for_gateway(const struct link *l)
{
	const struct link *o = l;

	while ((o = TAILQ_NEXT(o, entry)))
		if (o->dialler == l->dialler && o->state == L_READY && strcmp(o->gateway, l->gateway) == 0)
			return false;
	return true;
}

static unsigned wanted(const struct dialler *d)
{
	const struct link *l;
	unsigned n = 0;

	if (!d->reverse)
		return d->peer->cfg->links;
	TAILQ_FOREACH(l, &d->peer->links, entry)
		if (l->dialler == d && l->state == L_READY && speaks_for_gateway(l))
			n += share(d->peer->set, l->far_workers);
	return (n ? n : 1) * d->peer->cfg->links;
}

/* Is a link missing, and none on its way? */
static bool missing(const struct dialler *d)
{
	const struct link *l;
	unsigned ready = 0;

	if (d->peer->cfg->severed || d->peer->cfg->removed)
		return false;
	TAILQ_FOREACH(l, &d->peer->links, entry) {
		if (l->dialler != d || l->aged || l->state >= L_DRAINING)
			continue;
		if (l->state != L_READY)
			return false;
		ready++;
	}
	return ready < wanted(d);
}

bool dial_landed(const struct link *l)
{
	const struct link_peer *p = l->peer;
	const struct link *o;
	unsigned n = 0;

	if (!l->dialler || !l->dialler->reverse)
		return true;
	TAILQ_FOREACH(o, &p->links, entry)
		n += o->dialler == l->dialler && !o->aged && o->state == L_READY && o->far_worker == l->far_worker &&
		    strcmp(o->gateway, l->gateway) == 0;
	if (responsible(p->set, l->far_worker, l->far_workers) && n <= p->cfg->links) {
		l->dialler->tries = 0;
		return true;
	}
	l->dialler->tries++;
	return false;
}

/* ---- when ---- */

static uint64_t backoff(unsigned fails)
{
	uint64_t ms = BACKOFF_MIN_MS;

	while (--fails && ms < BACKOFF_MAX_MS)
		ms *= 2;
	return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

static uint64_t pause_ms(const struct dialler *d)
{
	unsigned fails = d->fails > d->flaps ? d->fails : d->flaps;

	if (fails)
		return backoff(fails);
	/* Links land on workers as the kernel likes: try again, slower and slower. */
	return d->tries > COVER_TRIES ? 1000 : d->tries ? 5 + d->tries : 0;
}

static void dial(struct dialler *d)
{
	struct link_peer *p = d->peer;
	struct link_env *env = &p->set->env;
	const struct config_dial *to = &d->targets[d->next++ % d->ntargets];
	struct link *l = link_new(p, d, !d->reverse);
	struct conn *c;
	int fd;

	l->addr = to->addr;
	l->state = L_DIALLING;
	fd = conn_dial(&to->addr);
	if (fd < 0) {
		link_close(l, "connect-failed", strerror(errno));
		return;
	}
	c = l->conn = mem_alloc(sizeof(*c));
	conn_init(c, env->loop, fd, true, &link_conn_ops, l);
	conn_write_timeout(c, env->config->limits.write_ms);
	l->tls = tls_client_new(env->tls, fd, d->reverse ? TLS_LINK_REVERSE : TLS_LINK_CLIENT, p->cfg->domain, tls_layer_wake, c);
	tls_layer_set(c, l->tls);
	deadline_set(p->set->q_handshake, &l->limit);
}

static void on_timer(void *ctx)
{
	struct dialler *d = ctx;

	d->due = false;
	if (!d->peer->set->draining && missing(d))
		dial(d);
}

void dial_check(struct link_peer *p)
{
	if (p->set->draining || !p->set->started)
		return;
	for (size_t i = 0; i < p->ndiallers; i++) {
		struct dialler *d = &p->diallers[i];
		uint64_t ms;
		uint8_t r;

		if (d->due || !missing(d))
			continue;
		ms = pause_ms(d);
		hash_random(&r, 1);
		d->due = true;
		timer_set(p->set->env.loop, &d->timer, ms / 2 + ms * r / 510, on_timer, d);
	}
}

/* ---- what became of it ---- */

void dial_up(struct link *l)
{
	if (l->dialler)
		l->dialler->fails = 0;
}

void dial_stable(struct link *l)
{
	if (l->dialler && loop_now(l->peer->set->env.loop) - l->ready_ms >= STABLE_MS)
		l->dialler->flaps = 0;
}

void dial_down(struct link *l, bool asked)
{
	struct dialler *d = l->dialler;

	if (!d || l->counted)
		return;
	l->counted = true;
	if (!l->ready_ms)
		d->fails++;
	else if (loop_now(l->peer->set->env.loop) - l->ready_ms >= STABLE_MS)
		d->flaps = 0;
	else if (!asked)
		d->flaps++;
	else if (!d->flaps)
		d->flaps = 1; /* a far end that reloads over and over is followed, but not at once each time */
}

/* ---- life ---- */

static void add(struct link_peer *p, const struct config_dial *targets, size_t n, bool reverse)
{
	p->diallers[p->ndiallers++] = (struct dialler){ .peer = p, .targets = targets, .ntargets = n, .reverse = reverse };
}

void dial_init(struct link_peer *p)
{
	p->diallers = mem_array(1 + p->cfg->ndial_reverse, sizeof(*p->diallers));
	if (p->cfg->ndial)
		add(p, p->cfg->dial, p->cfg->ndial, false);
	for (size_t i = 0; i < p->cfg->ndial_reverse; i++)
		add(p, &p->cfg->dial_reverse[i], 1, true);
}

void dial_stop(struct link_peer *p)
{
	for (size_t i = 0; i < p->ndiallers; i++) {
		timer_cancel(&p->diallers[i].timer);
		p->diallers[i].due = false;
	}
}

void dial_fini(struct link_peer *p)
{
	dial_stop(p);
	mem_free(p->diallers);
	p->diallers = NULL;
	p->ndiallers = 0;
}
