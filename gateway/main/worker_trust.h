/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker trusts: bundles and TLS contexts made from its config, and made anew while it runs; what workers tell each other of it. */
#ifndef GATEWAY_MAIN_WORKER_TRUST_H
#define GATEWAY_MAIN_WORKER_TRUST_H

#include <stdbool.h>

#include "gateway/base/buf.h"
#include "gateway/exchange/exchange.h"
#include "gateway/process/ipc.h"
#include "gateway/process/role.h"

/* Sets g->tls and g->callers, and in *le what links need to know of it. The config, which lives as long as the worker, changes from then on. Ends the process if it is no good. */
void worker_trust_start(struct gate *g, struct config *config, const struct role_env *env, struct link_env *le);
/* g->links is there: look after what ends by itself. */
void worker_trust_watch(void);
/* ROLE_MSG_TRUST, ROLE_MSG_CRL, ROLE_MSG_CALLER_WANTED, ROLE_MSG_CALLER. False: it is another. */
bool worker_trust_on_master(const struct ipc_msg *m);
/* A member "trust" of a JSON object, with a comma before it. */
void worker_trust_status(struct buf *out);

#endif
