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
/* A process of the peer started: its clock may have been set back since the last one. What is remembered stays. */
void ids_new_sender(struct ids *s);
/* True and remembered when it is new. */
bool ids_fresh(struct ids *s, const struct uuid *id, unsigned attempt, uint64_t now_ms);

#endif
