/* SPDX-License-Identifier: Apache-2.0 */
/* What enrol.c (EST) and forward.c share. Private to this folder. */
#ifndef GATEWAY_ENROL_ENROL_INT_H
#define GATEWAY_ENROL_ENROL_INT_H

#include "gateway/base/queue.h"
#include "gateway/enrol/enrol.h"
#include "gateway/enrol/note.h"

struct enrol {
	struct enrol_env env;
	LIST_HEAD(, est_conn) conns;
	struct deadline_queue *q_idle, *q_head, *q_body;             /* EST */
	struct deadline_queue *q_connect, *q_silent, *q_life;        /* forwarded */
	bool draining;
	unsigned connections;
	uint64_t requests, refused, forwarded;
};

/* Counts. */
void enrol_gone(struct enrol *e, const struct enrol_client *client);
deadline_fn forward_on_limit, forward_on_life;

#endif
