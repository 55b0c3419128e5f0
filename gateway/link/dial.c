/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dialling. Forward, a worker wants so many links of its own to the peer, wherever they land. In reverse, it is the far workers
 * that need links, so those are dialled until each has its own; which worker of ours sees to which of theirs follows from their numbers.
 */
#include <errno.h>

#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"
#include "gateway/tls/layer.h"

/* Reconnection: 100 ms doubling to 5 s, each with jitter, so that two gateways never dial in step. */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
/* Dials in a row that landed on a far worker that has its links already, before we slow down. */
#define COVER_TRIES 64

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

void dial_check(struct link_peer *p)
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

void dial_stop(struct link_peer *p)
{
	timer_cancel(&p->dial_timer[0]);
	timer_cancel(&p->dial_timer[1]);
}

bool dial_landed(struct link *l)
{
	struct link_peer *p = l->peer;

	if (!responsible(p->set, l->far_worker, l->far_workers) || covered(p, l->far_worker) > p->cfg->links) {
		p->cover_tries++;
		return false;
	}
	p->cover_tries = 0;
	return true;
}
