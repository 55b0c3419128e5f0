/* SPDX-License-Identifier: Apache-2.0 */
/* A worker's part in enrolment (gateway/enrol): the service with its channel to the ca role, and, in one worker, our own renewals. */
#ifndef GATEWAY_MAIN_WORKER_EST_H
#define GATEWAY_MAIN_WORKER_EST_H

#include <stdbool.h>

#include "gateway/base/buf.h"
#include "gateway/exchange/exchange.h"
#include "gateway/process/role.h"

/* Before listeners are taken: sets g->enrol. Takes the channel to the ca role that is among env's descriptors. */
void worker_est_start(struct gate *g, struct role_env *env);
/* The ca role was started again: its channel, which is taken. */
void worker_est_channel(int fd);
/* The config's trust material is another, and g->tls was made of it. */
void worker_est_trust(void);
/* No more renewals by this process. */
void worker_est_drain(void);
/* Members of a JSON object, each with a comma before it. */
void worker_est_status(struct buf *out);

#endif
