/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One group commit: what was read from the rings (and the journal's own notes) becomes records that are written together.
 * Joining happens here: an open and its end in one batch are one record.
 *
 *   batch_add_*()  take events in; nothing is numbered yet, so that a batch can wait for room on the disk
 *   batch_write()  number, format, hash, append
 *   batch_clear()  afterwards: exchanges whose open is now on disk move into the in-flight table for good
 */
#ifndef GATEWAY_AUDIT_BATCH_H
#define GATEWAY_AUDIT_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/event.h"
#include "gateway/audit/flood.h"
#include "gateway/audit/inflight.h"
#include "gateway/audit/record.h"
#include "gateway/audit/store.h"

#define BATCH_ARENA (2u << 20)     /* octets of events */
#define BATCH_ITEMS 8192

struct batch;

struct batch *batch_new(struct store *s, struct inflight *t, struct record_format *rf, uint32_t flood_per_second);
void batch_free(struct batch *b);

bool batch_full(const struct batch *b);
size_t batch_items(const struct batch *b);
/* Where the next event is to be read to: AUDIT_EVENT_MAX octets. */
uint8_t *batch_room(struct batch *b);
/*
 * The event of "len" octets that was put into batch_room(), from position "pos" of the ring of "src" ("name": lives as long as the
 * batch). 0, or -1 with *why static: it is no valid event and was not taken.
 */
int batch_add_event(struct batch *b, struct inflight_source *src, const char *name, size_t len, uint64_t pos, uint64_t now_ms,
    const char **why);
/* The producer died: this exchange ends here. Takes the entry out of the table. */
void batch_add_orphan(struct batch *b, struct inflight_entry *e, const char *name);
/* The journal's own: kind SCHEMA_JOURNAL or SCHEMA_ALERT; detail may be NULL. */
void batch_add_note(struct batch *b, enum schema_msg msg, unsigned severity, const char *reason, const char *detail);

size_t batch_need(const struct batch *b);  /* octets that it takes at most */
/*
 * STORE_OK: durable. STORE_FULL: formatted, numbered and not written; call again later, with nothing added. STORE_DEAD.
 */
enum store_result batch_write(struct batch *b, uint64_t wall_us);
bool batch_written_before(const struct batch *b); /* the last batch_write() was STORE_FULL */
void batch_clear(struct batch *b);
uint64_t batch_counted(const struct batch *b);    /* denials that were put together, since the start */

#endif
