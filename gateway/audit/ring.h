/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring per producer: memory shared by one writer (a worker, master, …) and the journal role, made
 * by master, which holds it so that it outlives either. Sealed against shrinking and growing.
 * The reader copies a record once, validates the copy, and never trusts an index twice.
 */
#ifndef GATEWAY_AUDIT_RING_H
#define GATEWAY_AUDIT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;               /* a mapping of one; owned by whoever mapped it */

/* Master: a sealed memfd for "bytes" of records (a power of two); -1 with errno. */
int ring_create(size_t bytes);
/* Map it; validates size and seals. NULL with *why. */
struct ring *ring_map_writer(int fd, int wake_fd, const char **why); /* wake_fd: the journal's eventfd, written only when it is idle; borrowed */
struct ring *ring_map_reader(int fd, const char **why);
void ring_unmap(struct ring *r);

/*
 * Writer: room for one event of up to "max" bytes, in place and contiguous, or NULL when the ring is full, the journal has
 * stopped (no space, I/O error) or has been silent for 2 s (now_ms: monotonic). Nothing is visible until ring_commit().
 */
void *ring_reserve(struct ring *r, size_t max, uint64_t now_ms);
void ring_commit(struct ring *r, size_t len);
/* Why ring_reserve() would refuse now: NULL when it would not; else "ring-full", "journal-stopped" or "journal-silent". */
const char *ring_refusal(struct ring *r, uint64_t now_ms);
/* Bytes reserved for ends and alarms: ring_reserve() of an AUDIT_OPEN must leave this much. Use ring_reserve_end() for them. */
void *ring_reserve_end(struct ring *r, size_t max, uint64_t now_ms);

#endif
