/* SPDX-License-Identifier: Apache-2.0 */
/* All links of a worker, by peer; and what status says of them. */
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"

#define IDS_MAX (1u << 20)

static void on_caller_free(void *ctx, struct caller *c)
{
	struct link_set *s = ctx;
	struct link *l;

	for (size_t i = 0; i < s->npeers; i++)
		TAILQ_FOREACH(l, &s->peers[i].links, entry)
			identity_forget_caller(l, c);
}

struct link_set *link_set_new(const struct link_env *env)
{
	struct link_set *s = mem_zalloc(sizeof(*s));
	const struct config_limits *lim = &env->config->limits;

	s->env = *env;
	s->npeers = env->config->npeers;
	s->peers = mem_array(s->npeers, sizeof(*s->peers));
	s->q_ping = deadline_queue(env->loop, lim->ping_ms, link_on_ping_due);
	s->q_handshake = deadline_queue(env->loop, lim->handshake_ms, link_on_limit);
	s->q_age = deadline_queue(env->loop, lim->link_age_ms, link_on_age);
	s->q_drain = deadline_queue(env->loop, lim->drain_ms, link_on_drain_limit);
	for (size_t i = 0; i < s->npeers; i++) {
		s->peers[i].set = s;
		s->peers[i].cfg = &env->config->peers[i];
		s->peers[i].index = (int)i;
		s->peers[i].ids = ids_new(IDS_MAX);
		TAILQ_INIT(&s->peers[i].links);
		dial_init(&s->peers[i]);
	}
	standing_init(s);
	caller_table_on_free(env->callers, on_caller_free, s);
	return s;
}

void link_set_start(struct link_set *s)
{
	s->started = true;
	crl_start(s);
	for (size_t i = 0; i < s->npeers; i++)
		dial_check(&s->peers[i]);
}

void link_set_drain(struct link_set *s, void (*on_empty)(void *ctx))
{
	struct link *l, *next;

	s->draining = true;
	s->on_empty = NULL;
	for (size_t i = 0; i < s->npeers; i++) {
		dial_stop(&s->peers[i]);
		TAILQ_FOREACH_SAFE(l, &s->peers[i].links, entry, next)
			link_drain(l, "process-ends");
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
		while ((l = TAILQ_FIRST(&s->peers[i].links)))
			link_close(l, "stopped", NULL);
		dial_fini(&s->peers[i]);
		ids_free(s->peers[i].ids);
	}
	crl_fini(s);
	standing_fini(s);
	caller_table_on_free(s->env.callers, NULL, NULL);
	mem_free(s->peers);
	mem_free(s);
}

unsigned link_set_count(const struct link_set *s)
{
	return s->count;
}

int link_peer_of(const struct config *c, const char *id)
{
	for (size_t i = 0; i < c->npeers; i++)
		for (size_t k = 0; !c->peers[i].uplink && !c->peers[i].removed && k < c->peers[i].ngateways; k++)
			if (strcmp(c->peers[i].gateways[k], id) == 0)
				return (int)i;
	return -1;
}

/* ---- status ---- */

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
			    "\"age_s\":%llu,\"streams\":%u,\"exchanges\":%llu,\"rtt_ms\":%llu,\"address\":\"%s\",\"cipher\":\"%s\",\"group\":\"%s\",\"far_worker\":%d,"
			    "\"certificate_until\":%lld,\"leaves\":\"%s\"}",
			    first ? "" : ",", l->peer->cfg->name, l->number, l->gateway ? l->gateway : "", l->state == L_READY && quarantine_of(l) ? "quarantined" : link_state_names[l->state],
			    l->dialler ? "dialled" : "accepted", l->client ? "client" : "server",
			    (unsigned long long)(loop_now(s->env.loop) - l->since_ms) / 1000, l->h2 ? h2_streams(l->h2) : 0,
			    (unsigned long long)l->exchanges, (unsigned long long)l->rtt_ms, addr,
			    l->state >= L_HELLO ? tls_cipher(l->tls) : "", l->state >= L_HELLO ? tls_group(l->tls) : "",
			    l->far_known ? (int)l->far_worker : -1,
			    l->far ? (long long)l->far->not_after : 0LL, l->leaves ? l->leaves : "");
			first = false;
		}
	}
	buf_puts(out, "]");
}

void link_failures(const struct link_set *s, struct buf *out)
{
	bool first = true;

	buf_puts(out, "[");
	for (size_t i = 0; i < s->npeers; i++) {
		const struct link_peer *p = &s->peers[i];
		const char *c;

		if (!p->failed.at_ms)
			continue;
		buf_printf(out, "%s{\"peer\":\"%s\",\"reason\":\"%s\",\"address\":\"%s\",\"ago_s\":%llu,\"detail\":\"", first ? "" : ",", p->cfg->name,
		    p->failed.reason, p->failed.address, (unsigned long long)(loop_now(s->env.loop) - p->failed.at_ms) / 1000);
		for (c = p->failed.detail; *c; c++) /* escaped: printable, but for what JSON itself takes otherwise */
			buf_printf(out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
		buf_puts(out, "\"}");
		first = false;
	}
	buf_puts(out, "]");
}
