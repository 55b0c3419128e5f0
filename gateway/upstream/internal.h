/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef GATEWAY_UPSTREAM_INTERNAL_H
#define GATEWAY_UPSTREAM_INTERNAL_H

#include "gateway/base/queue.h"
#include "gateway/http1/body.h"
#include "gateway/upstream/upstream.h"

struct up_http;

struct up_endpoint {
	const struct config_endpoint *cfg;
	struct up_service *service;
	TAILQ_HEAD(, up_http) idle; /* newest first */
	unsigned nidle, active;
	uint64_t failed_until;      /* monotonic ms: passed over until then */
	uint64_t failures;
};

struct up_service {
	struct upstream_set *set;
	const struct config_service *cfg;
	struct up_endpoint *endpoints;
	size_t n;
	unsigned next;
	unsigned connections;       /* active and idle */
	struct deadline_queue *q_connect, *q_response, *q_idle, *q_connect_tcp, *q_idle_tcp;
};

struct upstream_set {
	struct upstream_env env;
	struct up_service *services; /* by index in config.services; those via a peer are empty */
	size_t n;
	struct deadline_queue *q_pool;
	unsigned open;               /* connections of all kinds */
};

/* How long an endpoint that refused a connection is passed over when there are others. */
#define UP_FAILED_MS 1000
/* How long an idle connection is kept: less than what common servers keep theirs (nginx: 75 s). */
#define UP_POOL_MS 55000

/*
 * The endpoint to try, round robin; "tried" is a bit mask of indexes (beyond 64 endpoints: of index % 64) not to take again. NULL when
 * all were tried.
 */
struct up_endpoint *up_pick(struct up_service *s, uint64_t *tried);
void up_failed(struct up_endpoint *e);
/* conn_init() for an endpoint that is being dialled; what was queued, owed or asked of the one before it is this one's. */
void up_conn_init(struct upstream_set *s, struct conn *c, int fd, const struct conn_ops *ops, void *owner);

void up_http_free_idle(struct up_endpoint *e);
extern const struct leg_ops up_http_ops, up_tcp_ops;
const char *up_http_endpoint(const struct leg *l);
const char *up_tcp_endpoint(const struct leg *l);
deadline_fn up_http_on_limit, up_http_on_pool, up_tcp_on_limit;

#endif
