/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a role that does I/O: readiness and timers from libevent, and an end to each
 * turn at which everything that became ready is written at once.
 *
 * A turn: wait; run the callbacks of what is ready; run the tasks that they queued with
 * loop_later(); then wait again. loop_now() is read once per turn.
 */
#ifndef GATEWAY_IO_LOOP_H
#define GATEWAY_IO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/queue.h"

struct loop;

struct loop *loop_new(void);
void loop_free(struct loop *l);
/* Runs until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
uint64_t loop_now(const struct loop *l);     /* monotonic ms, of this turn */
uint64_t loop_now_us(const struct loop *l);  /* the same in microseconds */
uint64_t loop_wall_us(const struct loop *l); /* wall clock, of this turn */

/* ---- readiness ---- */

enum { IO_READ = 1, IO_WRITE = 2, IO_HUP = 4 }; /* IO_HUP: the far end sent its FIN */
typedef void io_fn(void *ctx, unsigned what);

struct io {
	_Alignas(8) unsigned char ev[128]; /* struct event */
	io_fn *fn;
	void *ctx;
	struct loop *loop;
	bool added;
};

/* Edge-triggered, both directions: the owner works until it would block. */
void io_add(struct loop *l, struct io *io, int fd, io_fn *fn, void *ctx);
/* Level-triggered, reading only: listeners and channels. */
void io_add_level(struct loop *l, struct io *io, int fd, io_fn *fn, void *ctx);
void io_del(struct io *io); /* no-op when not added */

/* ---- end of turn ---- */

typedef void loop_fn(void *ctx);
struct loop_task {
	TAILQ_ENTRY(loop_task) entry;
	loop_fn *fn;
	void *ctx;
	bool queued;
};
void loop_task_init(struct loop_task *t, loop_fn *fn, void *ctx);
/* Once at the end of this turn; no-op when queued already. What a task queues while tasks run comes in the same turn. */
void loop_later(struct loop *l, struct loop_task *t);
/* Once in the next turn, which then does not wait. */
void loop_next(struct loop *l, struct loop_task *t);
void loop_task_cancel(struct loop *l, struct loop_task *t);
/* mem_free() when this turn is over: callbacks further up the stack may still look at p. */
void loop_dispose(struct loop *l, void *p);

/* ---- timers ---- */

struct loop_timer {
	_Alignas(8) unsigned char ev[128];
	loop_fn *fn;
	void *ctx;
	struct loop *loop;
	bool init;
};
/* One shot, ms from now; setting it again moves it. */
void timer_set(struct loop *l, struct loop_timer *t, uint64_t ms, loop_fn *fn, void *ctx);
void timer_cancel(struct loop_timer *t);

/*
 * Deadlines: many, all of one duration per queue, so that setting, moving and cancelling one costs a
 * list operation. Expiry is noticed up to 50 ms late.
 */
struct deadline_queue;
struct deadline {
	TAILQ_ENTRY(deadline) entry;
	uint64_t at_ms;
	struct deadline_queue *q; /* NULL: not set */
};
typedef void deadline_fn(struct deadline *d);
/* The queue of this duration and callback; made at first use, owned by the loop. */
struct deadline_queue *deadline_queue(struct loop *l, uint64_t ms, deadline_fn *fn);
void deadline_set(struct deadline_queue *q, struct deadline *d); /* from now; moves a set one */
void deadline_cancel(struct deadline *d);

#endif
