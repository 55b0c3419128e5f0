/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Denials of one kind come in floods: beyond "limit" a second, those with the same type, reason, principal, service,
 * listener and client address are counted into one record per batch. Nothing is left out: the counts add up.
 */
#ifndef GATEWAY_AUDIT_FLOOD_H
#define GATEWAY_AUDIT_FLOOD_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/audit/event.h"

#define FLOOD_SLOTS 4096   /* causes followed at a time; a power of two */
#define FLOOD_NONE UINT32_MAX

struct flood {
	uint32_t limit;
	struct flood_slot {
		uint64_t cause;        /* keyed hash */
		uint64_t second;
		uint64_t batch;        /* in which "item" is good */
		uint32_t n;            /* in this second */
		uint32_t item;         /* of the batch, which counts the others */
	} slot[FLOOD_SLOTS];
};

void flood_init(struct flood *f, uint32_t limit);
/*
 * An event of this cause at now_ms, in batch number "batch" (from 1) as its item "item". FLOOD_NONE: write it by itself; else the item of this
 * batch to count it into; it may be "item": the first over the limit in this batch.
 */
uint32_t flood_add(struct flood *f, uint64_t instance, const struct audit_fields *e, uint64_t now_ms, uint64_t batch, uint32_t item);

#endif
