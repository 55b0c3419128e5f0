/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/io/loop.h"

#include <assert.h>
#include <event2/event.h>
#include <event2/event_struct.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"

_Static_assert(sizeof(struct event) <= sizeof(((struct io *)0)->ev), "struct event outgrew struct io");

/* Rounds of tasks in one turn: beyond this they wait for the next, so that readiness is looked at again. */
#define LOOP_ROUNDS 8
/* How late a deadline may be noticed. */
#define DEADLINE_SLACK_MS 50

TAILQ_HEAD(task_list, loop_task);
TAILQ_HEAD(deadline_list, deadline);

struct deadline_queue {
	struct deadline_queue *next;
	struct loop *loop;
	uint64_t ms;
	deadline_fn *fn;
	struct deadline_list list;
};

struct loop {
	struct event_base *base;
	struct task_list later, soon; /* this turn, next turn */
	uint64_t now_ms, now_us, wall_us;
	void **grave; /* to be freed when the turn is over */
	size_t graves, grave_cap;
	struct deadline_queue *queues;
	struct loop_timer tick;
	uint64_t tick_at; /* 0: not armed */
	bool fresh;       /* the clocks were read after this turn's wait */
	bool stop;
};

static void refresh(struct loop *l)
{
	l->now_us = clock_mono_us();
	l->now_ms = l->now_us / 1000;
	l->wall_us = clock_wall_us();
	l->fresh = true;
}

struct loop *loop_new(void)
{
	struct loop *l = mem_zalloc(sizeof(*l));
	struct event_config *cfg = event_config_new();

	if (!cfg)
		log_fatal("libevent: no configuration; out of memory");
	/* No locks: one thread per process. Precise timers cost a system call per turn: not wanted. */
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(cfg, EVENT_BASE_FLAG_IGNORE_ENV);
	event_config_require_features(cfg, EV_FEATURE_ET);
	l->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (!l->base)
		log_fatal("libevent: no edge-triggered back end; epoll is required");
	TAILQ_INIT(&l->later);
	TAILQ_INIT(&l->soon);
	refresh(l);
	return l;
}

static void bury(struct loop *l)
{
	while (l->graves)
		mem_free(l->grave[--l->graves]);
}

void loop_dispose(struct loop *l, void *p)
{
	mem_grow(&l->grave, &l->grave_cap, l->graves + 1, sizeof(*l->grave));
	l->grave[l->graves++] = p;
}

void loop_free(struct loop *l)
{
	struct deadline_queue *q, *next;

	if (!l)
		return;
	timer_cancel(&l->tick);
	for (q = l->queues; q; q = next) {
		next = q->next;
		mem_free(q);
	}
	event_base_free(l->base);
	bury(l);
	mem_free(l->grave);
	mem_free(l);
}

static void run_tasks(struct loop *l)
{
	struct loop_task *t;

	for (int round = 0; round < LOOP_ROUNDS && !TAILQ_EMPTY(&l->later); round++) {
		struct task_list now = TAILQ_HEAD_INITIALIZER(now);

		TAILQ_CONCAT(&now, &l->later, entry);
		while ((t = TAILQ_FIRST(&now))) {
			/* A task may cancel another one of this round: it unlinks itself from wherever it is. */
			TAILQ_REMOVE(&now, t, entry);
			t->queued = false;
			t->fn(t->ctx);
		}
	}
}

void loop_run(struct loop *l)
{
	struct loop_task *t;

	while (!l->stop) {
		bool busy = !TAILQ_EMPTY(&l->soon) || !TAILQ_EMPTY(&l->later);

		l->fresh = false;
		event_base_loop(l->base, EVLOOP_ONCE | (busy ? EVLOOP_NONBLOCK : 0));
		if (!l->fresh)
			refresh(l);
		if (busy) {
			struct task_list now = TAILQ_HEAD_INITIALIZER(now);

			TAILQ_CONCAT(&now, &l->soon, entry);
			while ((t = TAILQ_FIRST(&now))) {
				TAILQ_REMOVE(&now, t, entry);
				t->queued = false;
				t->fn(t->ctx);
			}
		}
		run_tasks(l);
		bury(l);
	}
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now_ms;
}

uint64_t loop_now_us(const struct loop *l)
{
	return l->now_us;
}

uint64_t loop_wall_us(const struct loop *l)
{
	return l->wall_us;
}

/* ---- readiness ---- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct io *io = arg;
	unsigned w = 0;

	(void)fd;
	if (!io->loop->fresh)
		refresh(io->loop);
	if (what & EV_READ)
		w |= IO_READ;
	if (what & EV_WRITE)
		w |= IO_WRITE;
	if (what & EV_CLOSED)
		w |= IO_HUP | IO_READ;
	io->fn(io->ctx, w);
}

static void add(struct loop *l, struct io *io, int fd, short what, io_fn *fn, void *ctx)
{
	assert(!io->added);
	io->fn = fn;
	io->ctx = ctx;
	io->loop = l;
	if (event_assign((struct event *)io->ev, l->base, fd, what, on_event, io) != 0 ||
	    event_add((struct event *)io->ev, NULL) != 0)
		log_fatal("libevent: cannot watch descriptor %d", fd);
	io->added = true;
}

void io_add(struct loop *l, struct io *io, int fd, io_fn *fn, void *ctx)
{
	add(l, io, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, fn, ctx);
}

void io_add_level(struct loop *l, struct io *io, int fd, io_fn *fn, void *ctx)
{
	add(l, io, fd, EV_READ | EV_PERSIST, fn, ctx);
}

void io_del(struct io *io)
{
	if (!io->added)
		return;
	event_del((struct event *)io->ev);
	io->added = false;
}

/* ---- end of turn ---- */

void loop_task_init(struct loop_task *t, loop_fn *fn, void *ctx)
{
	*t = (struct loop_task){ .fn = fn, .ctx = ctx };
}

void loop_later(struct loop *l, struct loop_task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	TAILQ_INSERT_TAIL(&l->later, t, entry);
}

void loop_next(struct loop *l, struct loop_task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	TAILQ_INSERT_TAIL(&l->soon, t, entry);
}

void loop_task_cancel(struct loop *l, struct loop_task *t)
{
	if (!t->queued)
		return;
	/*
	 * TAILQ_REMOVE needs the head only for its tail pointer. The task may be in a list that is being
	 * run, whose head is on the stack: unlink by hand; a stale tail of an emptied list is never used, for
	 * such a list is only taken from, and loop->later/soon are handled by their real heads.
	 */
	if (t->entry.tqe_next == NULL) {
		if (l->later.tqh_last == &t->entry.tqe_next)
			l->later.tqh_last = t->entry.tqe_prev;
		else if (l->soon.tqh_last == &t->entry.tqe_next)
			l->soon.tqh_last = t->entry.tqe_prev;
	} else {
		t->entry.tqe_next->entry.tqe_prev = t->entry.tqe_prev;
	}
	*t->entry.tqe_prev = t->entry.tqe_next;
	t->queued = false;
}

/* ---- timers ---- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void)fd;
	(void)what;
	if (!t->loop->fresh)
		refresh(t->loop);
	t->fn(t->ctx);
}

void timer_set(struct loop *l, struct loop_timer *t, uint64_t ms, loop_fn *fn, void *ctx)
{
	struct timeval tv = { .tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	if (!t->init) {
		event_assign((struct event *)t->ev, l->base, -1, 0, on_timer, t);
		t->init = true;
		t->loop = l;
	}
	t->fn = fn;
	t->ctx = ctx;
	if (event_add((struct event *)t->ev, &tv) != 0)
		log_fatal("libevent: cannot set a timer");
}

void timer_cancel(struct loop_timer *t)
{
	if (t->init)
		event_del((struct event *)t->ev);
}

static void on_tick(void *ctx);

static void arm(struct loop *l, uint64_t at_ms)
{
	if (l->tick_at && l->tick_at <= at_ms)
		return;
	l->tick_at = at_ms;
	timer_set(l, &l->tick, at_ms > l->now_ms ? at_ms - l->now_ms : 0, on_tick, l);
}

static void on_tick(void *ctx)
{
	struct loop *l = ctx;
	uint64_t next = UINT64_MAX;

	l->tick_at = 0;
	for (struct deadline_queue *q = l->queues; q; q = q->next) {
		struct deadline *d;

		while ((d = TAILQ_FIRST(&q->list)) && d->at_ms <= l->now_ms) {
			deadline_cancel(d);
			q->fn(d);
		}
	}
	for (struct deadline_queue *q = l->queues; q; q = q->next) {
		struct deadline *d = TAILQ_FIRST(&q->list);

		if (d && d->at_ms < next)
			next = d->at_ms;
	}
	if (next != UINT64_MAX)
		arm(l, next > l->now_ms + DEADLINE_SLACK_MS ? next : l->now_ms + DEADLINE_SLACK_MS);
}

struct deadline_queue *deadline_queue(struct loop *l, uint64_t ms, deadline_fn *fn)
{
	struct deadline_queue *q;

	for (q = l->queues; q; q = q->next)
		if (q->ms == ms && q->fn == fn)
			return q;
	q = mem_zalloc(sizeof(*q));
	q->loop = l;
	q->ms = ms;
	q->fn = fn;
	TAILQ_INIT(&q->list);
	q->next = l->queues;
	l->queues = q;
	return q;
}

void deadline_set(struct deadline_queue *q, struct deadline *d)
{
	if (d->q)
		TAILQ_REMOVE(&d->q->list, d, entry);
	d->q = q;
	d->at_ms = q->loop->now_ms + q->ms;
	TAILQ_INSERT_TAIL(&q->list, d, entry);
	arm(q->loop, d->at_ms);
}

void deadline_cancel(struct deadline *d)
{
	if (!d->q)
		return;
	TAILQ_REMOVE(&d->q->list, d, entry);
	d->q = NULL;
}
