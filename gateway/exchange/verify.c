/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Continuous verification: callers whose certificate ended, was revoked or is not trusted any more, and what depends on them. A round looks
 * through all callers, some of them in each turn, and marks those that are to go; then, once, through the exchanges, if any was marked. When what is
 * trusted changed, those with exchanges come first; the others do nothing before they were judged, anyway.
 *
 *	timer ─▶ round: slice, slice, … ─▶ exchanges of marked callers: cut, or rebound ─▶ their connections ─▶ timer
 *
 * An exchange whose caller's certificate ended is rebound to another caller of the same id that is still good: the same principal with a
 * renewed certificate, seen on a new connection, by a sibling, or told by the far gateway.
 */
#include <string.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/exchange/books.h"
#include "gateway/exchange/ingress.h"

/* Callers looked at, and signatures checked, in one turn. */
#define SLICE 16
/* Callers looked at in one turn while nothing is to be verified. */
#define SLICE_QUIET 512

/* ---- what depends on a caller ---- */

/* The connection that it came by, where that is one of ours. */
static struct ingress_client *client_of(const struct exchange *x)
{
	if (x->from_link || !x->from.client)
		return NULL;
	return (struct ingress_client *)((char *)(uintptr_t)x->from.client - offsetof(struct ingress_client, from));
}

static const char *reason_of(const char *refusal)
{
	return strcmp(refusal, "expired") == 0 ? "certificate-expired" : refusal;
}

const char *verify_reason(struct exchange *x, const char *reason)
{
	struct gate *g = x->g;
	const char *why;

	if (x->caller->good_until >= (int64_t)(loop_wall_us(g->loop) / 1000000))
		return reason;
	why = link_caller_refusal(g->links, x->caller);
	return why ? reason_of(why) : reason;
}

static void rebind(struct exchange *x)
{
	struct caller *was = x->caller, *to = was->newer;

	x->caller = caller_ref(to);
	to->active++;
	was->active--;
	x->rebound = true;
	caller_unref(x->g->callers, was);
}

/* As for a policy that changed: an answer where one is still owed, else a cut. */
static void end_exchange(struct exchange *x, unsigned status, const char *reason)
{
	if (!x->head_sent && !x->tcp_raw) {
		relay_drop_out(x, LEG_REVOKED);
		x->status = status;
		relay_answer(x, status, "denied");
		relay_finish(x, reason);
	} else {
		relay_cut(x, LEG_REVOKED, reason);
	}
}

/* ---- the exchanges of callers that were marked ---- */

/* The far gateway has only the old chain, which ends there as it does here. */
static void vouch(struct exchange *x, struct caller *newer)
{
	if (x->peer >= 0 && x->out && !x->g->config->peers[x->peer].uplink)
		link_vouch(x->out, newer); /* again if it was not taken: what the far end trusts, and its clock, may differ from ours for a while */
}

static void look_at_exchange(struct exchange *x)
{
	struct ingress_client *client = client_of(x);

	if (x->caller->rebind && x->caller->newer && !x->caller->newer->server) {
		rebind(x);
		vouch(x, x->caller);
	}
	if (x->caller->cut) {
		end_exchange(x, 403, x->caller->cut);
		return;
	}
	/* A sidecar's local caller that is known less well stands and falls with the sidecar's certificate. */
	if (client && client->caller->cut) {
		end_exchange(x, 403, client->caller->cut);
		return;
	}
	if (x->g->trust.vouch && x->caller->newer && !x->caller->newer->server)
		vouch(x, x->caller->newer);
}

static void look_at_connections(struct caller *c)
{
	struct ingress_client *client;

	while ((client = LIST_FIRST(&c->connections))) {
		if (!c->rebind || !c->newer) {
			client->kind->cut(client, c->cut ? c->cut : "certificate-expired");
			continue;
		}
		ingress_rebind(client, c->newer);
		client->kind->retire(client);
	}
}

static void act(struct gate *g)
{
	struct exchange *x, *next;

	if (g->trust.nmarked || g->trust.vouch)
		LIST_FOREACH_SAFE(x, &g->exchanges, entry, next)
			look_at_exchange(x);
	for (size_t i = 0; i < g->trust.nmarked; i++) {
		struct caller *c = g->trust.marked[i];

		look_at_connections(c);
		log_info("event=%s id=%s reason=%s %s", c->cut ? "caller-cut" : "caller-rebound", c->id, c->cut ? c->cut : "certificate-expired", c->cert_text);
		c->cut = NULL;
		c->rebind = false;
		caller_unref(g->callers, c);
	}
	g->trust.nmarked = 0;
	g->trust.vouch = false;
}

/* ---- a round ---- */

static void mark(struct gate *g, struct caller *c, const char *cut)
{
	if (!c->cut && !c->rebind) {
		mem_grow(&g->trust.marked, &g->trust.cap, g->trust.nmarked + 1, sizeof(*g->trust.marked));
		g->trust.marked[g->trust.nmarked++] = caller_ref(c);
	}
	c->cut = cut;
	c->rebind = !cut;
}

static bool busy(const struct caller *c)
{
	const struct ingress_client *client;

	if (c->active)
		return true;
	LIST_FOREACH(client, &c->connections, same_caller)
		if (client->kind->busy(client))
			return true;
	return false;
}

static void on_expired(struct gate *g, struct caller *c)
{
	bool wait;
	struct caller *n = link_successor(g->links, c, false, &wait);

	if (n) {
		caller_follow(g->callers, c, n);
		if (c->newer == n)
			mark(g, c, NULL);
		return;
	}
	if (!wait || !busy(c))
		mark(g, c, "certificate-expired");
}

static void look_at_caller(void *ctx, struct caller *c)
{
	struct gate *g = ctx;
	int64_t left = c->not_after - (int64_t)(loop_wall_us(g->loop) / 1000000);
	const char *why;
	bool wait;

	if (g->trust.urgent && !busy(c))
		return;
	if (!c->active && LIST_EMPTY(&c->connections)) {
		if (!c->links)
			caller_unfollow(g->callers, c); /* judged when it is needed, if ever again */
		return;
	}
	why = link_caller_refusal(g->links, c);
	if (!why) {
		if (left < (c->not_after - c->not_before) / 2 && busy(c) && link_successor(g->links, c, false, &wait) && c->active && left <= link_notice_s(c) + 1)
			g->trust.vouch = true;
	} else if (strcmp(why, "expired") == 0) {
		on_expired(g, c);
	} else if (strcmp(why, "no-crl") != 0) {
		/* The latter: nothing new begins. What runs was judged while a list was in force, and nobody has revoked it since. */
		mark(g, c, why);
	}
}

static void on_timer(void *ctx);

/* All were looked at, or all with exchanges. True: once more. */
static bool pass_over(struct gate *g)
{
	bool anew = g->trust.anew;

	if (g->trust.urgent && !(anew && !g->trust.hurried)) {
		g->trust.urgent = false; /* now the others */
		return true;
	}
	g->trust.hurried = g->trust.urgent;
	g->trust.anew = false;
	g->trust.again |= anew;
	g->trust.urgent = anew;
	return anew;
}

static void on_slice(void *ctx)
{
	struct gate *g = ctx;

	caller_table_visit(g->callers, &g->trust.cursor, g->trust.again ? SLICE : SLICE_QUIET, look_at_caller, g);
	if (!g->trust.cursor)
		act(g);
	if (!g->trust.cursor && !pass_over(g)) {
		g->trust.running = g->trust.again = false;
		timer_set(g->loop, &g->trust.timer, LINK_TICK_MS, on_timer, g);
		return;
	}
	loop_next(g->loop, &g->trust.slice);
}

static void begin(struct gate *g)
{
	timer_cancel(&g->trust.timer);
	g->trust.cursor = 0;
	g->trust.running = true;
	on_slice(g);
}

static void on_timer(void *ctx)
{
	struct gate *g = ctx;

	g->trust.again = g->trust.urgent = link_set_tick(g->links);
	begin(g);
}

void gate_watch(struct gate *g)
{
	loop_task_init(&g->trust.slice, on_slice, g);
	timer_set(g->loop, &g->trust.timer, LINK_TICK_MS, on_timer, g);
}

void gate_judge_callers(struct gate *g)
{
	g->trust.again = true;
	if (!g->trust.running) {
		g->trust.urgent = true;
		begin(g);
	} else if (!g->trust.urgent && !g->trust.hurried) {
		g->trust.urgent = g->trust.hurried = true;
		g->trust.cursor = 0;
	} else {
		/* Those that were looked at before are looked at again, but first this pass ends: else somebody whose lists change all the time kept it from that. */
		g->trust.anew = true;
	}
}

/* ---- links ---- */

void gate_cut_links(struct gate *g)
{
	struct exchange *x, *next;

	LIST_FOREACH_SAFE(x, &g->exchanges, entry, next) {
		const char *why = NULL;

		if (x->from_link)
			why = link_cut_reason(x->from.link);
		else if (x->peer >= 0 && x->out)
			why = link_cut_reason(link_of_leg(x->out));
		else if (x->peer >= 0)
			why = link_peer_refusal(g->links, x->peer);
		if (why)
			end_exchange(x, 503, why);
	}
}
