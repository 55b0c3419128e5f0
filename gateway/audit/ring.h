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
/* Why ring_reserve() would refuse now: NULL when it would not; else "ring-full", "no-space", "journal-stopped" or "journal-silent". */
const char *ring_refusal(struct ring *r, uint64_t now_ms);
/*
 * For ends and alarms: uses the quarter of the ring that ring_reserve() leaves, and works while the journal is stopped or silent,
 * because what has crossed must be recorded. NULL only when the ring is full.
 */
void *ring_reserve_end(struct ring *r, size_t max, uint64_t now_ms);

/*
 * Reader (the journal). Positions count octets since the ring was made; they never wrap.
 * ring_read() copies the next event into "out" (at least AUDIT_EVENT_MAX bytes) and returns its length, 0 when
 * there is none, or -1 with *why static: the ring is broken and must not be read again. What was read stays in the ring until
 * ring_release(); a reader that dies before that reads it again.
 */
long ring_read(struct ring *r, uint8_t *out, uint64_t *pos, const char **why);
void ring_release(struct ring *r);            /* all that was read: its room is the writer's again */
bool ring_pending(const struct ring *r);      /* something was written beyond what was read, or the ring is broken */
void ring_heartbeat(struct ring *r, uint64_t now_ms);
enum ring_stop { RING_RUNNING, RING_STOPPED_SPACE, RING_STOPPED_IO, RING_STOPPED_SHUTDOWN };
void ring_set_stopped(struct ring *r, enum ring_stop stop);
/*
 * Before it blocks the reader says so in every ring, and then looks once more with ring_pending(): a commit either sees the
 * flag and writes wake_fd, or is seen by that look.
 */
void ring_set_idle(struct ring *r, bool idle);
uint64_t ring_written(const struct ring *r);  /* head as the writer claims it now; a hint */
uint64_t ring_position(const struct ring *r); /* where the next ring_read() starts */
size_t ring_bytes(const struct ring *r);

#endif
