/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's directory: one writer, segments, durability. It knows batches of finished records, not events.
 *
 *   lock                              OFD lock of the one writer
 *   journal-<first seq>.log           records, one per line
 *   journal-<first seq>.leaves        their leaf hashes, 32 octets each
 *   journal-<first seq>.checkpoint    tree size and root at the segment's end, once it is closed
 *   journal-<first seq>.log.torn-<ms> what a crash left of a batch that was never acknowledged
 *   checkpoint                        tree size and root as of at most a second ago (C2SP tlog-checkpoint body)
 *   state                             a cache that spares the next start a full read; never believed by verify
 *   reserve                           room for the alarm record, only on file systems that cannot preallocate
 *
 * A batch is all or nothing: its last record says how many it has (sync="n"), and what follows the last such record is
 * cut at start. It was not acknowledged; its events are still in the rings.
 */
#ifndef GATEWAY_AUDIT_STORE_H
#define GATEWAY_AUDIT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/audit/merkle.h"
#include "gateway/audit/parse.h"
#include "gateway/base/buf.h"

/* What the store asks of the system; tests put faults here. NULL members: the real calls. */
struct store_sys {
	ssize_t (*pwrite)(int fd, const void *p, size_t n, off_t at);
	int (*fdatasync)(int fd);
	int (*fallocate)(int fd, int mode, off_t at, off_t n);
	int (*free_bytes)(int dir_fd, uint64_t *out);
};

struct store_options {
	int dir_fd;                /* borrowed; everything is opened relative to it */
	const char *origin;        /* first line of checkpoints: "hud.example/gateway/dmz1" */
	uint64_t segment_bytes, segment_ms;
	const struct store_sys *sys; /* borrowed; NULL */
};

/* What a start finds, in order; both may be NULL. */
struct store_replay {
	void (*on_state)(void *ctx, const uint8_t *p, size_t n); /* what store_save() was given */
	void (*on_reset)(void *ctx);                             /* forget on_state: the cache was no use */
	void (*on_record)(void *ctx, const struct parse_record *r);
	void *ctx;
};

struct store;

/* The chain's end. Batches are made against it and move it (record text, leaf hash, append). */
struct store_chain {
	uint64_t seq;              /* of the last record; 0: none yet */
	uint8_t prev[DIGEST_LEN];  /* its leaf hash */
	struct merkle tree;
};

enum store_result {
	STORE_OK = 0,
	STORE_FULL = -1,           /* nothing of the batch is there; it may be tried again */
	STORE_DEAD = -2,           /* the disk failed: nothing is known of what it holds; no further writing */
};

/*
 * Lock, repair and open. NULL with a text in why (what is wrong and what to do). *torn: octets that were cut.
 * Records that were acknowledged and are damaged are not repaired: that is refused.
 */
struct store *store_open(const struct store_options *o, const struct store_replay *replay, uint64_t *torn, char *why, size_t why_size);
/* Closes without writing anything; store_finish() before, when it should end clean. */
void store_close(struct store *s);

struct store_chain *store_chain(struct store *s);
struct digest *store_digest(struct store *s);

/* Is there room for n octets beside the reserve? Allocates. "alarm": the reserve may be used. */
enum store_result store_room(struct store *s, size_t n, bool alarm);
/*
 * Write one batch (records with newlines, ending with sync) and its leaf hashes, and make it durable. The chain was moved
 * by the caller. After STORE_FULL only the same batch may be given again.
 */
enum store_result store_commit(struct store *s, const uint8_t *p, size_t n, const uint8_t *leaves, size_t records);
/* Frees the reserve file where there is one, so that a batch that met STORE_FULL can be tried again. True: there was one. */
bool store_release_reserve(struct store *s);

bool store_rotation_due(const struct store *s, uint64_t now_ms);
/* Close the segment and start the next. 0 or a store_result. */
enum store_result store_rotate(struct store *s, uint64_t now_ms);
/* Write "checkpoint" when there is something new; cheap otherwise. */
enum store_result store_checkpoint(struct store *s);
/* Octets since the last store_save(); save when it is worth it. */
uint64_t store_unsaved(const struct store *s);
enum store_result store_save(struct store *s, const uint8_t *p, size_t n);
/* Checkpoint, sync, trim: before store_close() at a clean stop. */
enum store_result store_finish(struct store *s);
int store_free_bytes(struct store *s, uint64_t *out);

const char *store_segment_name(const struct store *s);
uint64_t store_segment_size(const struct store *s);

#endif
