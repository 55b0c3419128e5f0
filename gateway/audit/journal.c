/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/batch.h"
#include "gateway/audit/inflight.h"
#include "gateway/audit/record.h"
#include "gateway/audit/ring.h"
#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/base/queue.h"

#define SPACE_MS 250u              /* how often free space is looked at under load */
#define RETRY_MS 500u              /* … and when there is none */
#define CHECKPOINT_MS 1000u
#define SAVE_BYTES (16u << 20)     /* a start reads at most about this much again */
#define STOP_MS 3000u
#define NAME_MAX_LEN 63

struct producer {
	TAILQ_ENTRY(producer) link;
	char name[NAME_MAX_LEN + 1];
	struct inflight_source flight; /* its instance and its open exchanges */
	struct ring *ring;         /* NULL: known from the directory only */
	uint64_t last;             /* position of its last event on disk; RECORD_NONE: none */
	uint64_t events;
	bool broken, dead;
};

struct journal {
	const struct journal_env *env;
	struct store *store;
	struct inflight *inflight;
	struct batch *batch;
	struct record_format rf;
	TAILQ_HEAD(, producer) producers;
	enum journal_state state;
	bool stopping, alarmed;
	uint64_t started_ms, stop_ms;
	uint64_t space_ms, retry_ms, checkpoint_ms;
	size_t state_bytes;        /* of the last cache */
	uint64_t events, batches;
	uint64_t sync_us, sync_us_max;
};

/* ---- producers --------------------------------------------------------------------------------- */

static struct producer *producer_find(struct journal *j, const char *name, size_t n, uint64_t instance)
{
	struct producer *p;

	TAILQ_FOREACH(p, &j->producers, link)
		if (p->flight.instance == instance && strlen(p->name) == n && memcmp(p->name, name, n) == 0)
			return p;
	return NULL;
}

static struct producer *producer_new(struct journal *j, const char *name, size_t n, uint64_t instance)
{
	struct producer *p = mem_zalloc(sizeof(*p));

	memcpy(p->name, name, n);
	inflight_source_init(&p->flight, instance);
	p->last = RECORD_NONE;
	TAILQ_INSERT_TAIL(&j->producers, p, link);
	return p;
}

static void producer_free(struct journal *j, struct producer *p)
{
	TAILQ_REMOVE(&j->producers, p, link);
	ring_unmap(p->ring);
	mem_free(p);
}

static bool name_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-_.:");

	return n > 0 && n <= NAME_MAX_LEN && s[n] == 0;
}

static enum ring_stop stop_flag(const struct journal *j)
{
	switch (j->state) {
	case JOURNAL_RUNNING:
		return j->stopping ? RING_STOPPED_SHUTDOWN : RING_RUNNING;
	case JOURNAL_LOW:
	case JOURNAL_FULL:
		return RING_STOPPED_SPACE;
	case JOURNAL_FAILED:
		return RING_STOPPED_IO;
	case JOURNAL_STOPPED:
		break;
	}
	return RING_STOPPED_SHUTDOWN;
}

int journal_add_ring(struct journal *j, int fd, const char *name, uint64_t instance, const char **why)
{
	struct producer *p;
	struct ring *r;

	if (!name_ok(name) || instance == 0) {
		*why = "bad name or instance of a producer";
		return -1;
	}
	p = producer_find(j, name, strlen(name), instance);
	if (p && (p->ring || p->dead)) {
		*why = "this producer has a ring already";
		return -1;
	}
	r = ring_map_reader(fd, why);
	if (!r)
		return -1;
	/* What is on disk of this instance was once written to its ring; if the ring was never that far, it is another one. */
	if (p && p->last != RECORD_NONE && ring_written(r) <= p->last) {
		*why = "this producer's instance was used before";
		ring_unmap(r);
		return -1;
	}
	if (!p)
		p = producer_new(j, name, strlen(name), instance);
	p->ring = r;
	ring_heartbeat(r, clock_mono_ms());
	ring_set_stopped(r, stop_flag(j));
	return 0;
}

void journal_producer_died(struct journal *j, const char *name, uint64_t instance)
{
	struct producer *p = producer_find(j, name, strlen(name), instance);

	if (p)
		p->dead = true;
}

static void set_state(struct journal *j, enum journal_state s, const char *why)
{
	struct producer *p;

	if (j->state == s)
		return;
	j->state = s;
	TAILQ_FOREACH(p, &j->producers, link)
		if (p->ring)
			ring_set_stopped(p->ring, stop_flag(j));
	if (s == JOURNAL_FAILED)
		log_error("journal failed: %s; nothing crosses until the gateway is started anew on a good disk", why);
	else if (s == JOURNAL_LOW || s == JOURNAL_FULL)
		log_error("journal: %s; nothing crosses until there is space", why);
	else
		log_info("journal: %s", why);
	if (j->env->calls && j->env->calls->on_state)
		j->env->calls->on_state(j->env->ctx, s, why);
}

static void failed(struct journal *j, enum store_result rc, const char *what)
{
	if (rc == STORE_DEAD)
		set_state(j, JOURNAL_FAILED, what);
}

/* ---- what a start finds ------------------------------------------------------------------------ */

static void on_reset(void *ctx)
{
	struct journal *j = ctx;
	struct producer *p, *next;
	struct inflight_entry *e;

	TAILQ_FOREACH_SAFE(p, &j->producers, link, next) {
		while ((e = LIST_FIRST(&p->flight.entries))) {
			inflight_detach(j->inflight, e);
			inflight_release(j->inflight, e);
		}
		producer_free(j, p);
	}
}

static void keep_open(struct journal *j, struct producer *p, const struct uuid *exchange, unsigned attempt, uint64_t seq,
    const uint8_t *event, size_t len)
{
	bool twice;
	struct inflight_entry *e = inflight_add(j->inflight, &p->flight, exchange, attempt, &twice);

	if (!e)
		return;
	e->open_seq = seq;
	e->len = (uint32_t)len;
	e->event = mem_alloc(len);
	memcpy(e->event, event, len);
}

static void on_record(void *ctx, const struct parse_record *r)
{
	struct journal *j = ctx;
	struct producer *p;

	if (r->instance == 0 || r->worker.n > NAME_MAX_LEN)
		return; /* our own */
	p = producer_find(j, r->worker.p, r->worker.n, r->instance);
	if (!p)
		p = producer_new(j, r->worker.p, r->worker.n, r->instance);
	if (r->pos != RECORD_NONE && (p->last == RECORD_NONE || r->pos > p->last))
		p->last = r->pos;
	if (r->msg == SCHEMA_OPEN && r->has_exchange && r->attempt) {
		uint64_t mem[AUDIT_EVENT_MAX / 8];
		struct audit_event e;

		parse_event(r, &e, mem, AUDIT_OPEN, record_repeat_mask());
		keep_open(j, p, &r->exchange, r->attempt, r->seq, e.p, e.len);
	} else if (r->msg == SCHEMA_END && r->has_exchange) {
		struct inflight_entry *e = inflight_find(j->inflight, &p->flight, &r->exchange, r->attempt);
		if (e) {
			inflight_detach(j->inflight, e);
			inflight_release(j->inflight, e);
		}
	}
}

/* Cache: per producer: u64 instance, u64 last, u32 name length, u32 opens, name; per open: uuid, u32 attempt, u32 len, u64 seq, event. */
static void save(struct journal *j)
{
	struct inflight_entry *e;
	struct producer *p;
	uint8_t head[32];
	struct buf b;

	buf_init(&b, 0);
	TAILQ_FOREACH(p, &j->producers, link) {
		uint32_t n = 0;
		LIST_FOREACH(e, &p->flight.entries, by_source)
			n += e->event != NULL;
		if (n == 0 && !p->ring)
			continue;
		le_put64(head, p->flight.instance);
		le_put64(head + 8, p->last);
		le_put32(head + 16, (uint32_t)strlen(p->name));
		le_put32(head + 20, n);
		buf_append(&b, head, 24);
		buf_append(&b, p->name, strlen(p->name));
		LIST_FOREACH(e, &p->flight.entries, by_source) {
			if (!e->event)
				continue;
			memcpy(head, e->exchange.b, 16);
			le_put32(head + 16, e->attempt);
			le_put32(head + 20, e->len);
			le_put64(head + 24, e->open_seq);
			buf_append(&b, head, 32);
			buf_append(&b, e->event, e->len);
		}
	}
	store_save(j->store, b.data, b.len);
	j->state_bytes = b.len;
	buf_fini(&b);
}

static void on_state(void *ctx, const uint8_t *p, size_t n)
{
	struct journal *j = ctx;
	const uint8_t *end = p + n;

	/* The store checked its digest: it is what save() wrote. The lengths are checked all the same. */
	while (end - p >= 24) {
		uint32_t name_len = le_get32(p + 16), opens = le_get32(p + 20);
		struct producer *pr;

		if (name_len == 0 || name_len > NAME_MAX_LEN || (size_t)(end - p) < 24 + name_len)
			return;
		pr = producer_new(j, (const char *)p + 24, name_len, le_get64(p));
		pr->last = le_get64(p + 8);
		p += 24 + name_len;
		while (opens-- > 0) {
			struct audit_fields f;
			struct uuid id;
			const char *why;

			if (end - p < 32 || le_get32(p + 20) > (size_t)(end - p) - 32 || le_get32(p + 16) > UINT16_MAX)
				return;
			memcpy(id.b, p, 16);
			if (audit_event_parse(&f, p + 32, le_get32(p + 20), &why) == 0)
				keep_open(j, pr, &id, le_get32(p + 16), le_get64(p + 24), p + 32, le_get32(p + 20));
			p += 32 + le_get32(p + 20);
		}
	}
}

struct journal *journal_new(const struct journal_env *env, char *why, size_t why_size)
{
	struct journal *j = mem_zalloc(sizeof(*j));
	struct store_options o = {.dir_fd = env->dir_fd, .origin = env->origin, .segment_bytes = env->segment_bytes,
		.segment_ms = env->segment_ms, .sys = env->sys};
	struct store_replay replay = {on_state, on_reset, on_record, j};
	struct producer *p;
	uint64_t torn = 0;
	char text[160];

	j->env = env;
	TAILQ_INIT(&j->producers);
	j->inflight = inflight_new(env->max_inflight ? env->max_inflight : 1000000);
	record_format_init(&j->rf, env->host, (long)getpid());
	j->store = store_open(&o, &replay, &torn, why, why_size);
	if (!j->store) {
		journal_free(j);
		return NULL;
	}
	j->batch = batch_new(j->store, j->inflight, &j->rf, env->flood_per_second ? env->flood_per_second : 100);
	j->started_ms = clock_mono_ms();
	/* From the first moment on something says where the journal ends. */
	failed(j, store_checkpoint(j->store), "writing the checkpoint failed");

	snprintf(text, sizeof(text), "version %s, record %" PRIu64 " follows in %s", SALLYPORT_VERSION, store_chain(j->store)->seq + 1,
	    store_segment_name(j->store));
	batch_add_note(j->batch, SCHEMA_JOURNAL, 5, "start", text);
	if (torn) {
		snprintf(text, sizeof(text), "%" PRIu64 " octets of a batch that was never acknowledged were cut from %s", torn,
		    store_segment_name(j->store));
		batch_add_note(j->batch, SCHEMA_JOURNAL, 4, "torn", text);
		log_warn("journal: %s", text);
	}
	for (size_t i = 0; i < env->nrings; i++) {
		const struct journal_ring *r = &env->rings[i];
		const char *text2;
		if (journal_add_ring(j, r->fd, r->name, r->instance, &text2) != 0) {
			log_error("journal: ring of %s: %s", r->name, text2);
			if (env->calls && env->calls->on_ring_broken)
				env->calls->on_ring_broken(env->ctx, r->name, r->instance, text2);
		}
	}
	TAILQ_FOREACH(p, &j->producers, link)
		p->dead = !p->ring;
	return j;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	batch_free(j->batch);
	for (struct producer *p; (p = TAILQ_FIRST(&j->producers));)
		producer_free(j, p);
	inflight_free(j->inflight);
	store_close(j->store);
	mem_free(j);
}

/* ---- turns ------------------------------------------------------------------------------------- */

static void ring_broke(struct journal *j, struct producer *p, const char *why)
{
	char text[160];

	p->broken = true;
	ring_set_stopped(p->ring, RING_STOPPED_IO);
	snprintf(text, sizeof(text), "ring of %s: %s; its writer is to be killed", p->name, why);
	batch_add_note(j->batch, SCHEMA_ALERT, 1, "ring-broken", text);
	log_error("journal: %s", text);
	if (j->env->calls && j->env->calls->on_ring_broken)
		j->env->calls->on_ring_broken(j->env->ctx, p->name, p->flight.instance, why);
}

static size_t collect_ring(struct journal *j, struct producer *p, uint64_t now_ms)
{
	const char *why = NULL;
	uint64_t pos;
	size_t n = 0;
	long len;

	while (!batch_full(j->batch)) {
		len = ring_read(p->ring, batch_room(j->batch), &pos, &why);
		if (len == 0)
			break;
		/* On disk already: the journal before us died between writing and saying so. */
		if (len > 0 && p->last != RECORD_NONE && pos <= p->last)
			continue;
		if (len < 0 || batch_add_event(j->batch, &p->flight, p->name, (size_t)len, pos, now_ms, &why) != 0) {
			ring_broke(j, p, why);
			break;
		}
		p->last = pos;
		p->events++;
		n++;
	}
	return n;
}

/* A dead producer whose ring is empty: its exchanges end, some in each batch. True when it is gone. */
static bool bury(struct journal *j, struct producer *p)
{
	struct inflight_entry *e, *next;

	for (e = LIST_FIRST(&p->flight.entries); e && !batch_full(j->batch); e = next) {
		next = LIST_NEXT(e, by_source);
		if (!e->pending)
			batch_add_orphan(j->batch, e, p->name);
	}
	return LIST_EMPTY(&p->flight.entries);
}

static size_t collect(struct journal *j, uint64_t now_ms)
{
	struct producer *p, *first = TAILQ_FIRST(&j->producers);
	size_t n = 0;

	TAILQ_FOREACH(p, &j->producers, link) {
		if (p->ring && !p->broken)
			n += collect_ring(j, p, now_ms);
		if (p->dead && (!p->ring || p->broken || !ring_pending(p->ring)))
			bury(j, p);
	}
	/* Whoever was first is last in the next turn, so that one full ring does not keep the others waiting. */
	if (first && batch_full(j->batch)) {
		TAILQ_REMOVE(&j->producers, first, link);
		TAILQ_INSERT_TAIL(&j->producers, first, link);
	}
	return n;
}

/* After a commit: room back to the writers; who is dead and drained goes. */
static void release(struct journal *j)
{
	struct producer *p, *next;

	TAILQ_FOREACH_SAFE(p, &j->producers, link, next) {
		if (p->ring)
			ring_release(p->ring);
		if (!p->dead || (p->ring && !p->broken && ring_pending(p->ring)) || !LIST_EMPTY(&p->flight.entries))
			continue;
		char name[sizeof(p->name)];
		uint64_t instance = p->flight.instance;
		bool had_ring = p->ring != NULL;
		memcpy(name, p->name, sizeof(name));
		producer_free(j, p);
		if (had_ring && j->env->calls && j->env->calls->on_ring_done)
			j->env->calls->on_ring_done(j->env->ctx, name, instance);
	}
}

static bool write_batch(struct journal *j, uint64_t wall_us)
{
	uint64_t before = clock_mono_us();
	enum store_result rc = batch_write(j->batch, wall_us);

	if (rc == STORE_FULL && store_release_reserve(j->store))
		rc = batch_write(j->batch, wall_us);
	if (rc == STORE_DEAD) {
		set_state(j, JOURNAL_FAILED, "writing or syncing a segment failed");
		return false;
	}
	if (rc == STORE_FULL)
		return false;
	j->sync_us = clock_mono_us() - before;
	if (j->sync_us > j->sync_us_max)
		j->sync_us_max = j->sync_us;
	batch_clear(j->batch);
	j->batches++;
	return true;
}

static void check_space(struct journal *j, uint64_t now_ms)
{
	uint64_t avail;
	char text[128];

	if (now_ms - j->space_ms < SPACE_MS)
		return;
	j->space_ms = now_ms;
	if (store_free_bytes(j->store, &avail) != 0)
		return;
	if (avail < j->env->min_free && j->state == JOURNAL_RUNNING) {
		snprintf(text, sizeof(text), "%" PRIu64 " MiB of disk are free, the limit is %" PRIu64, avail >> 20, j->env->min_free >> 20);
		batch_add_note(j->batch, SCHEMA_JOURNAL, 1, "no-space", text);
		j->alarmed = true;
		set_state(j, JOURNAL_LOW, text);
	} else if (j->state == JOURNAL_LOW && avail >= j->env->min_free + j->env->min_free / 8) {
		snprintf(text, sizeof(text), "%" PRIu64 " MiB of disk are free again", avail >> 20);
		batch_add_note(j->batch, SCHEMA_JOURNAL, 5, "space-back", text);
		j->alarmed = false;
		set_state(j, JOURNAL_RUNNING, text);
	}
}

/*
 * No room for the batch: it waits as it is, unnumbered, and the alarm goes before it into the room that was
 * kept for that (case 74).
 */
static void no_room(struct journal *j, uint64_t now_ms, uint64_t wall_us)
{
	static const char text[] = "the disk is full: events wait in their rings";

	j->retry_ms = now_ms + RETRY_MS;
	set_state(j, JOURNAL_FULL, text);
	/* A batch that has its numbers must be the next one; the alarm then follows it. */
	if (j->alarmed || batch_written_before(j->batch))
		return;
	j->alarmed = true;
	struct batch *alarm = batch_new(j->store, j->inflight, &j->rf, 1);
	batch_add_note(alarm, SCHEMA_JOURNAL, 1, "no-space", text);
	if (store_room(j->store, batch_need(alarm), true) == STORE_OK && batch_write(alarm, wall_us) == STORE_DEAD)
		set_state(j, JOURNAL_FAILED, "writing or syncing a segment failed");
	batch_free(alarm);
}

static void maintain(struct journal *j, uint64_t now_ms)
{
	if (j->state == JOURNAL_FAILED || batch_items(j->batch))
		return;
	if (store_rotation_due(j->store, now_ms)) {
		char text[96];
		enum store_result rc = store_rotate(j->store, now_ms);

		failed(j, rc, "closing a segment failed");
		if (rc == STORE_OK) {
			snprintf(text, sizeof(text), "%s begins", store_segment_name(j->store));
			batch_add_note(j->batch, SCHEMA_JOURNAL, 6, "segment", text);
			failed(j, store_checkpoint(j->store), "writing the checkpoint failed");
			j->checkpoint_ms = now_ms;
			save(j);
		}
		return;
	}
	if (now_ms - j->checkpoint_ms >= CHECKPOINT_MS) {
		j->checkpoint_ms = now_ms;
		failed(j, store_checkpoint(j->store), "writing the checkpoint failed");
	}
	if (store_unsaved(j->store) >= SAVE_BYTES && store_unsaved(j->store) / 4 >= j->state_bytes)
		save(j);
}

static void finish(struct journal *j)
{
	save(j);
	if (store_finish(j->store) == STORE_OK)
		set_state(j, JOURNAL_STOPPED, "stopped");
	else
		set_state(j, JOURNAL_FAILED, "closing the journal failed");
}

size_t journal_turn(struct journal *j, uint64_t now_ms)
{
	struct producer *p;
	size_t n = 0;

	TAILQ_FOREACH(p, &j->producers, link)
		if (p->ring)
			ring_heartbeat(p->ring, now_ms);
	if (j->state == JOURNAL_FAILED || j->state == JOURNAL_STOPPED)
		return 0;
	if (j->state == JOURNAL_FULL && now_ms < j->retry_ms)
		return 0;
	uint64_t wall_us;
	if (!batch_written_before(j->batch)) {
		check_space(j, now_ms);
		n = collect(j, now_ms);
		wall_us = clock_wall_us();
		if (j->stopping && n == 0 && batch_items(j->batch) == 0)
			batch_add_note(j->batch, SCHEMA_JOURNAL, 5, "stop", NULL);
		else if (j->stopping)
			n++;
		if (batch_items(j->batch) == 0) {
			release(j);
			maintain(j, now_ms);
			return batch_items(j->batch);
		}
		enum store_result rc = store_room(j->store, batch_need(j->batch), false);
		if (rc != STORE_OK) {
			failed(j, rc, "allocating room failed");
			if (rc == STORE_FULL)
				no_room(j, now_ms, wall_us);
			return 0;
		}
	} else {
		wall_us = clock_wall_us();
	}
	size_t items = batch_items(j->batch);
	if (!write_batch(j, wall_us)) {
		if (j->state != JOURNAL_FAILED)
			no_room(j, now_ms, wall_us);
		return 0;
	}
	if (j->state == JOURNAL_FULL) {
		/* Whether that was enough for running on is for check_space(). */
		set_state(j, JOURNAL_LOW, "there is room for records again");
		j->space_ms = 0;
		if (!j->alarmed)
			batch_add_note(j->batch, SCHEMA_JOURNAL, 1, "no-space", "the disk was full: events waited in their rings");
		j->alarmed = true;
	}
	j->events += n;
	release(j);
	maintain(j, now_ms);
	if (j->stopping && n == 0)
		finish(j);
	return items;
}

bool journal_sleep(struct journal *j)
{
	struct producer *p;

	if (j->state == JOURNAL_FULL || j->state == JOURNAL_FAILED)
		return true; /* and nobody needs to wake us */
	TAILQ_FOREACH(p, &j->producers, link)
		if (p->ring && !p->broken)
			ring_set_idle(p->ring, true);
	TAILQ_FOREACH(p, &j->producers, link) {
		if ((p->ring && !p->broken && ring_pending(p->ring)) || (p->dead && j->state != JOURNAL_STOPPED)) {
			journal_awake(j);
			return false;
		}
	}
	return true;
}

void journal_awake(struct journal *j)
{
	struct producer *p;

	TAILQ_FOREACH(p, &j->producers, link)
		if (p->ring)
			ring_set_idle(p->ring, false);
}

void journal_stop(struct journal *j)
{
	struct producer *p;

	j->stopping = true;
	j->stop_ms = clock_mono_ms();
	TAILQ_FOREACH(p, &j->producers, link)
		if (p->ring)
			ring_set_stopped(p->ring, stop_flag(j));
}

enum journal_state journal_state(const struct journal *j)
{
	return j->state;
}

bool journal_stopping(const struct journal *j)
{
	return j->stopping;
}

bool journal_over(const struct journal *j, uint64_t now_ms)
{
	return j->state == JOURNAL_STOPPED ||
	    (j->stopping && (j->state == JOURNAL_FAILED || (j->state == JOURNAL_FULL && now_ms - j->stop_ms > STOP_MS)));
}

void journal_status_json(const struct journal *j, struct buf *out)
{
	static const char *const names[] = {"running", "no-space", "full", "failed", "stopped"};
	uint64_t avail = 0, now = clock_mono_ms();
	struct producer *p;
	const char *sep = "";

	store_free_bytes(j->store, &avail);
	buf_printf(out, "{\"state\":\"%s\",\"records\":%" PRIu64 ",\"segment\":\"%s\",\"segment_bytes\":%" PRIu64 ",\"free_bytes\":%" PRIu64
	    ",\"inflight\":%zu,\"events\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"counted_denials\":%" PRIu64 ",\"sync_us\":%" PRIu64
	    ",\"sync_us_max\":%" PRIu64 ",\"uptime_ms\":%" PRIu64 ",\"rings\":[",
	    names[j->state], store_chain(j->store)->seq, store_segment_name(j->store), store_segment_size(j->store), avail,
	    inflight_count(j->inflight), j->events, j->batches, batch_counted(j->batch), j->sync_us, j->sync_us_max, now - j->started_ms);
	TAILQ_FOREACH(p, &j->producers, link) {
		if (!p->ring)
			continue;
		uint64_t used = ring_written(p->ring) - ring_position(p->ring), size = ring_bytes(p->ring);
		/* Names are of the safe set that journal_add_ring() takes. */
		buf_printf(out, "%s{\"name\":\"%s\",\"instance\":%" PRIu64 ",\"events\":%" PRIu64 ",\"waiting_bytes\":%" PRIu64
		    ",\"ring_bytes\":%" PRIu64 ",\"broken\":%s}", sep, p->name, p->flight.instance, p->events, used > size ? size : used,
		    size, p->broken ? "true" : "false");
		sep = ",";
	}
	buf_puts(out, "]}");
}
