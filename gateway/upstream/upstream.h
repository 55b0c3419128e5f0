/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local services: connections to their endpoints, pooled for HTTP/1.1, one each for raw TCP. Both are egress
 * legs. Endpoints are taken in turn; one that refused a connection is passed over for a while.
 */
#ifndef GATEWAY_UPSTREAM_UPSTREAM_H
#define GATEWAY_UPSTREAM_UPSTREAM_H

#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/config/config.h"
#include "gateway/io/conn.h"
#include "gateway/io/leg.h"

struct upstream_env {
	struct loop *loop;
	const struct config *config;
	uint8_t *scratch;      /* the worker's reading buffer */
	size_t scratch_size;
};

struct upstream_set *upstream_set_new(const struct upstream_env *env);
void upstream_set_free(struct upstream_set *s);

/*
 * Send a request to an endpoint of this local service. The head is written out at once; content follows by
 * ops->data. Failures to connect come by on_abort(unsent = true) after every endpoint was tried. NULL, with *why
 * ("overflow", "no-endpoint"): not started.
 */
struct leg *upstream_http(struct upstream_set *s, int service, const struct leg_head *head, const struct leg_events *ev,
    void *x, const char **why);
/* Open a TCP connection to an endpoint; on_head with status 200 tells that it is there. */
struct leg *upstream_tcp(struct upstream_set *s, int service, const struct leg_events *ev, void *x, const char **why);
/* The endpoint's text, as configured. */
const char *upstream_endpoint(const struct leg *l);

/* JSON array of endpoints of one service. */
void upstream_status(const struct upstream_set *s, int service, struct buf *out);

#endif
