/* SPDX-License-Identifier: Apache-2.0 */
/* What master tells control: JSON texts of at most IPC_MAX_DATA octets. */
#ifndef GATEWAY_MAIN_STATUS_H
#define GATEWAY_MAIN_STATUS_H

#include "gateway/base/buf.h"
#include "gateway/base/errs.h"
#include "gateway/main/master.h"

/* Everything that master knows: generations, roles with their processes and sandboxes, listeners. */
void status_master(const struct master *m, struct buf *json);
/* How a reload ended: every fault and warning that fits. */
void status_reload(const struct master *m, bool ok, const struct errs *errs, struct buf *json);
/* Send it to control as the answer to request "id"; error: 0 or 1. */
void status_reply(struct master *m, uint32_t id, unsigned error, const struct buf *json);

#endif
