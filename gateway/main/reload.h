/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From files to a running generation, at start and at each reload: read and check everything, compile the policy, bind, start keys
 * and workers, and only when all are ready let the old ones drain. A fault on the way leaves the running generation as it was.
 */
#ifndef GATEWAY_MAIN_RELOAD_H
#define GATEWAY_MAIN_RELOAD_H

#include "gateway/base/errs.h"
#include "gateway/base/log.h"
#include "gateway/config/config.h"
#include "gateway/main/master.h"

struct reload *reload_new(struct master *m);
void reload_free(struct reload *r);

/* The first config, before there is anything; then reload_request() goes on with it. NULL: faults were logged. */
struct config *reload_first(struct master *m);

/* Can the private keys be given to the keys role? A fault for each that cannot be opened. */
void reload_check_keys(const struct config *c, struct errs *errs);

/* Ask for a reload. from_control: answer request number "id" when it is over. One under way is followed by another. */
void reload_request(struct master *m, bool from_control, uint32_t id);
/* Moves on what is under way; frees drained generations. Returns the next deadline, 0: none. */
uint64_t reload_tick(struct master *m, uint64_t now);
bool reload_reaped(struct master *m, pid_t pid, int status);
/* For master and every process. */
void reload_log_level(struct master *m, enum log_level lv);
bool reload_busy(const struct master *m);

#endif
