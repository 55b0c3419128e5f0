/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: sole writer of the audit record. It reads the producers' rings, turns events into a chain of records,
 * makes them durable, and only then gives the rings' room back.
 *
 *   journal.c    producers, turns, state      journal_role.c  the process's loop
 *   batch.c      one group commit, joining    record.c        text; schema.c: its tables
 *   inflight.c   open exchanges               store.c         directory, segments, recovery
 *   flood.c      counting denials             merkle.c        the tree
 *
 * No paths: everything is opened relative to dir_fd.
 */
#ifndef GATEWAY_AUDIT_JOURNAL_H
#define GATEWAY_AUDIT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/store.h"
#include "gateway/base/buf.h"

struct journal;

enum journal_state {
	JOURNAL_RUNNING,
	JOURNAL_LOW,       /* less than min_free: nothing new may cross, what runs is still recorded */
	JOURNAL_FULL,      /* nothing can be written: the same, and events wait in their rings */
	JOURNAL_FAILED,    /* the disk failed: nothing is written any more until an operator starts anew */
	JOURNAL_STOPPED,   /* journal_stop() is through */
};

struct journal_ring {
	int fd;            /* borrowed: only mapped */
	const char *name;  /* "worker/0": letters, digits, "/", "-", "_", ".", ":"; at most 63 */
	/*
	 * Which start of that producer it is: it must never be used again for this directory, not by a later gateway either
	 * (say, master's start in seconds << 32 | number of the child), and be the same when a restarted journal is given the ring again.
	 */
	uint64_t instance;
};

/* Called from within journal_turn() and journal_role(); each may be NULL. */
struct journal_calls {
	int (*on_master_readable)(struct journal *j, void *ctx);  /* 0; -1: master is gone, stop */
	void (*on_ring_broken)(void *ctx, const char *name, uint64_t instance, const char *why); /* its writer is to be killed (case 87) */
	void (*on_ring_done)(void *ctx, const char *name, uint64_t instance);  /* of a dead producer: drained, unmapped, its exchanges ended */
	void (*on_state)(void *ctx, enum journal_state s, const char *why);
	void (*on_ready)(struct journal *j, void *ctx);           /* rings are served from now on */
};

struct journal_env {
	int dir_fd;
	int wake_fd;               /* eventfd, non-blocking, which ring writers write; -1 in tests */
	int master_fd;             /* polled for on_master_readable; -1: none */
	const char *host;          /* RFC 5424 HOSTNAME */
	const char *origin;        /* first line of checkpoints; no spaces: the gateway's id without "spiffe://" */
	uint64_t segment_bytes, segment_ms, group_ms, min_free;
	uint32_t flood_per_second; /* 0: 100 */
	size_t max_inflight;       /* 0: 1,000,000 */
	const struct journal_ring *rings;
	size_t nrings;             /* all that master holds; open exchanges of any other producer end as "worker-died" at start */
	const struct journal_calls *calls;
	void *ctx;
	const struct store_sys *sys; /* NULL: the real system */
};

/* Recovers and maps the rings; "env" is borrowed for the journal's life. NULL with a text in why. */
struct journal *journal_new(const struct journal_env *env, char *why, size_t why_size);
void journal_free(struct journal *j);

/* 0, or -1 with *why static: the ring is no ring, or its name and instance were used before. The descriptor may be closed afterwards. */
int journal_add_ring(struct journal *j, int fd, const char *name, uint64_t instance, const char **why);
/* What its ring still has is recorded, then each exchange that it had open ends with reason "worker-died". */
void journal_producer_died(struct journal *j, const char *name, uint64_t instance);
/* Drain, write a last record and checkpoint, and let journal_role() return. No exchange is ended: the next journal goes on. */
void journal_stop(struct journal *j);
void journal_status_json(const struct journal *j, struct buf *out);
enum journal_state journal_state(const struct journal *j);
bool journal_stopping(const struct journal *j); /* journal_stop() was called */
/* After journal_stop(): stopped, or it cannot be done (failed; the disk stayed full for 3 s). */
bool journal_over(const struct journal *j, uint64_t now_ms);

/* One turn: at most one batch. Returns the number of events read or notes written; 0: nothing to do. */
size_t journal_turn(struct journal *j, uint64_t now_ms);
/* About to block: tells the rings, and looks again. False: there is something to read, do not block. */
bool journal_sleep(struct journal *j);
void journal_awake(struct journal *j);

/* The role: runs until journal_stop() (0), or start or master failed (1: operator log says why). */
int journal_role(const struct journal_env *env);

#endif
