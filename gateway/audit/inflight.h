/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges whose open was seen and whose end was not: by (exchange id, attempt, producer). Bounded. Entries whose open
 * is in the batch at hand point into that batch; once their open is on disk they own the fields that their end repeats.
 */
#ifndef GATEWAY_AUDIT_INFLIGHT_H
#define GATEWAY_AUDIT_INFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/queue.h"
#include "gateway/base/uuid.h"

struct inflight_entry {
	struct uuid exchange;
	uint16_t attempt;
	bool pending;              /* its open is item "item" of the batch at hand; not yet on disk */
	uint32_t item;
	uint32_t len;              /* of event */
	uint64_t open_seq;         /* number of its open, when on disk */
	uint8_t *event;            /* owned; NULL while pending */
	struct inflight_source *source;
	struct inflight_entry *next;           /* in its bucket, or in the free list */
	LIST_ENTRY(inflight_entry) by_source;
};

/* Embedded in whatever stands for a producer. */
struct inflight_source {
	uint64_t instance;
	LIST_HEAD(, inflight_entry) entries;
};

struct inflight;
struct inflight *inflight_new(size_t max);
void inflight_free(struct inflight *t);
void inflight_source_init(struct inflight_source *s, uint64_t instance);

size_t inflight_count(const struct inflight *t);
/* NULL when the table is full, or (*twice) the same is in flight already. */
struct inflight_entry *inflight_add(struct inflight *t, struct inflight_source *s, const struct uuid *exchange, unsigned attempt,
    bool *twice);
struct inflight_entry *inflight_find(const struct inflight *t, const struct inflight_source *s, const struct uuid *exchange,
    unsigned attempt);
/* Out of the table and of its source's list; still the caller's until inflight_release(). */
void inflight_detach(struct inflight *t, struct inflight_entry *e);
void inflight_release(struct inflight *t, struct inflight_entry *e);

#endif
