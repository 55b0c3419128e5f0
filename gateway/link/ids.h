/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchange ids that a peer used: each (id, attempt) once (case 93). Bounded: what is older than the oldest
 * that is remembered is refused, by the id's own time, so that forgetting never lets one in twice.
 */
#ifndef GATEWAY_LINK_IDS_H
#define GATEWAY_LINK_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/base/uuid.h"

struct ids;
struct ids *ids_new(uint32_t max); /* remembers at least max, at most 2 * max */
void ids_free(struct ids *s);
/*
 * The sender says what its clock shows (wall ms; now_ms: ours, monotonic). If it was set back, ids of its new time are taken again, though
 * we cannot tell those from ids of that time that were forgotten: true then, and worth an alert. What is remembered stays.
 */
bool ids_clock(struct ids *s, uint64_t sender_ms, uint64_t now_ms);
/* True and remembered when it is new. An id that is an hour ahead of the sender's clock is not: it would make the others old. */
bool ids_fresh(struct ids *s, const struct uuid *id, unsigned attempt, uint64_t now_ms);

#endif
