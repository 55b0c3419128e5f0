/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/upstream/internal.h"

#include "gateway/base/mem.h"

struct upstream_set *upstream_set_new(const struct upstream_env *env)
{
	struct upstream_set *s = mem_zalloc(sizeof(*s));

	s->env = *env;
	s->n = env->config->nservices;
	s->services = mem_array(s->n, sizeof(*s->services));
	s->q_pool = deadline_queue(env->loop, UP_POOL_MS, up_http_on_pool);
	for (size_t i = 0; i < s->n; i++) {
		struct up_service *sv = &s->services[i];

		sv->set = s;
		sv->cfg = &env->config->services[i];
		sv->n = sv->cfg->nendpoints;
		sv->endpoints = mem_array(sv->n, sizeof(*sv->endpoints));
		for (size_t k = 0; k < sv->n; k++) {
			sv->endpoints[k].cfg = &sv->cfg->endpoints[k];
			sv->endpoints[k].service = sv;
			TAILQ_INIT(&sv->endpoints[k].idle);
		}
		if (sv->n == 0)
			continue;
		sv->q_connect = deadline_queue(env->loop, sv->cfg->connect_ms, up_http_on_limit);
		sv->q_response = deadline_queue(env->loop, sv->cfg->response_ms, up_http_on_limit);
		sv->q_idle = deadline_queue(env->loop, sv->cfg->idle_ms, up_http_on_limit);
		sv->q_connect_tcp = deadline_queue(env->loop, sv->cfg->connect_ms, up_tcp_on_limit);
		sv->q_idle_tcp = deadline_queue(env->loop, sv->cfg->idle_ms, up_tcp_on_limit);
	}
	return s;
}

void upstream_set_free(struct upstream_set *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		for (size_t k = 0; k < s->services[i].n; k++)
			up_http_free_idle(&s->services[i].endpoints[k]);
		mem_free(s->services[i].endpoints);
	}
	mem_free(s->services);
	mem_free(s);
}

struct up_endpoint *up_pick(struct up_service *s, uint64_t *tried)
{
	uint64_t now = loop_now(s->set->env.loop);

	/* First those that are not known to fail, then any. */
	for (int any = 0; any < 2; any++)
		for (size_t i = 0; i < s->n; i++) {
			size_t k = (s->next + i) % s->n;
			struct up_endpoint *e = &s->endpoints[k];

			if ((*tried & (1ull << k % 64)) || (!any && e->failed_until > now))
				continue;
			*tried |= 1ull << k % 64;
			s->next = (unsigned)(k + 1);
			return e;
		}
	return NULL;
}

void up_failed(struct up_endpoint *e)
{
	e->failures++;
	e->failed_until = loop_now(e->service->set->env.loop) + UP_FAILED_MS;
}

void up_conn_init(struct upstream_set *s, struct conn *c, int fd, const struct conn_ops *ops, void *owner)
{
	struct conn old = *c;

	conn_init(c, s->env.loop, fd, true, ops, owner);
	outq_move(&c->out, &old.out);
	c->paused = old.paused;
	c->was_full = old.was_full;
	c->tell_empty = old.tell_empty;
	c->shut_wanted = old.shut_wanted;
	c->hear_out = true; /* RFC 9112 9.5: an answer may come before the end of the request, with a reset behind it */
	conn_write_timeout(c, s->env.config->limits.write_ms);
}

const char *upstream_endpoint(const struct leg *l)
{
	return l->ops == &up_http_ops ? up_http_endpoint(l) : up_tcp_endpoint(l);
}

void upstream_status(const struct upstream_set *s, int service, struct buf *out)
{
	const struct up_service *sv = &s->services[service];

	buf_puts(out, "[");
	for (size_t i = 0; i < sv->n; i++)
		buf_printf(out, "%s{\"address\":\"%s\",\"idle\":%u,\"active\":%u,\"failures\":%llu}", i ? "," : "",
		    sv->endpoints[i].cfg->text, sv->endpoints[i].nidle, sv->endpoints[i].active,
		    (unsigned long long)sv->endpoints[i].failures);
	buf_puts(out, "]");
}
