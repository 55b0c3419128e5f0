/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/batch.h"

#include <assert.h>
#include <string.h>

#include "gateway/base/le.h"
#include "gateway/base/mem.h"

#define FRESH_US 1000000u  /* a producer's time is believed when it is at most this old … */
#define AHEAD_US 10000u    /* … and at most this far ahead */
#define NOTES 32           /* items kept for the journal's own */
#define NOTE_MAX 1024u     /* octets of one */
#define ARENA_BYTES (BATCH_ARENA + 2 * AUDIT_EVENT_MAX + NOTES * NOTE_MAX)

enum kind { EVENT, OPEN, END, ORPHAN, NOTE };

struct item {
	uint8_t kind;              /* enum kind */
	uint8_t msg, severity;
	bool gone;                 /* an open that its end took along, or counted into another */
	uint32_t off, len;         /* in the arena */
	uint32_t open;             /* END: item of its open in this batch, or FLOOD_NONE */
	const char *name;
	uint64_t instance, pos;
	uint64_t count;            /* above 0: replaces the event's */
	uint64_t seq;              /* once numbered */
	struct inflight_entry *entry; /* OPEN: its entry; END, ORPHAN: detached, released by batch_clear() */
};

struct batch {
	struct store *store;
	struct inflight *table;
	struct record_format *rf;
	struct flood flood;
	uint64_t number, counted, repeat;
	uint8_t *arena;
	size_t used;
	struct item *item;
	uint32_t n;
	size_t texts;              /* octets of all events, for batch_need() */
	uint8_t *out;
	size_t out_len, out_cap;
	uint8_t *leaves;
	struct digest_text *line;  /* the records in "out" */
	size_t records;
	bool formatted;
};

struct batch *batch_new(struct store *s, struct inflight *t, struct record_format *rf, uint32_t flood_per_second)
{
	struct batch *b = mem_zalloc(sizeof(*b));

	b->store = s;
	b->table = t;
	b->rf = rf;
	b->number = 1;
	b->repeat = record_repeat_mask();
	flood_init(&b->flood, flood_per_second);
	b->arena = mem_alloc(ARENA_BYTES);
	b->item = mem_array(BATCH_ITEMS + 2 * NOTES, sizeof(*b->item));
	b->leaves = mem_alloc((BATCH_ITEMS + 2 * NOTES) * DIGEST_LEN);
	b->line = mem_array(BATCH_ITEMS + 2 * NOTES, sizeof(*b->line));
	return b;
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	for (uint32_t i = 0; i < b->n; i++)
		if ((b->item[i].kind == END || b->item[i].kind == ORPHAN) && b->item[i].entry)
			inflight_release(b->table, b->item[i].entry);
	mem_free(b->arena);
	mem_free(b->item);
	mem_free(b->leaves);
	mem_free(b->line);
	mem_free(b->out);
	mem_free(b);
}

bool batch_full(const struct batch *b)
{
	return b->formatted || b->used >= BATCH_ARENA || b->n >= BATCH_ITEMS;
}

size_t batch_items(const struct batch *b)
{
	return b->n;
}

uint8_t *batch_room(struct batch *b)
{
	return b->arena + b->used;
}

uint64_t batch_counted(const struct batch *b)
{
	return b->counted;
}

static struct item *add(struct batch *b, enum kind kind, enum schema_msg msg, size_t len)
{
	struct item *it = &b->item[b->n++];

	memset(it, 0, sizeof(*it));
	it->kind = (uint8_t)kind;
	it->msg = (uint8_t)msg;
	it->severity = schema_msgs[msg].severity;
	it->off = (uint32_t)b->used;
	it->len = (uint32_t)len;
	it->open = FLOOD_NONE;
	it->pos = RECORD_NONE;
	it->name = "journal";
	b->used += len;
	b->texts += len;
	return it;
}

static void join(struct batch *b, struct item *it, struct inflight_source *src, const struct audit_fields *f)
{
	struct inflight_entry *e = inflight_find(b->table, src, &f->head.exchange, f->head.attempt);

	if (!e)
		return; /* its open was refused a place in the table: what the end itself says must do */
	inflight_detach(b->table, e);
	if (e->pending) {
		b->item[e->item].gone = true;
		b->item[e->item].entry = NULL;
		it->open = e->item;
		it->msg = SCHEMA_EXCHANGE;
		it->severity = schema_msgs[SCHEMA_EXCHANGE].severity;
		inflight_release(b->table, e);
	} else {
		it->entry = e;
		b->texts += e->len;
	}
}

int batch_add_event(struct batch *b, struct inflight_source *src, const char *name, size_t len, uint64_t pos, uint64_t now_ms,
    const char **why)
{
	struct audit_fields f;
	struct item *it;
	uint32_t into;
	bool twice;

	if (audit_event_parse(&f, batch_room(b), len, why) != 0)
		return -1;
	switch (f.head.type) {
	case AUDIT_OPEN:
	case AUDIT_END:
		if (!audit_event_has_exchange(&f.head) || f.head.attempt == 0) {
			*why = "an exchange without id or attempt";
			return -1;
		}
		it = add(b, f.head.type == AUDIT_OPEN ? OPEN : END, schema_msg_of(f.head.type), len);
		if (it->kind == END) {
			join(b, it, src, &f);
			break;
		}
		it->entry = inflight_add(b->table, src, &f.head.exchange, f.head.attempt, &twice);
		if (it->entry) {
			it->entry->pending = true;
			it->entry->item = b->n - 1;
		} else if (twice && b->n < BATCH_ITEMS + NOTES) {
			it->instance = src->instance;
			it->pos = pos;
			it->name = name;
			batch_add_note(b, SCHEMA_ALERT, 1, "duplicate-exchange", "an exchange was opened twice with one attempt number");
			return 0;
		}
		break;
	case AUDIT_DENY:
	case AUDIT_REFUSED:
	case AUDIT_ALERT:
		into = flood_add(&b->flood, src->instance, &f, now_ms, b->number, b->n);
		if (into != FLOOD_NONE) {
			uint64_t count = f.present >> AUDIT_F_COUNT & 1 ? le_get64(f.f[AUDIT_F_COUNT].p) : 1;
			it = into == b->n ? add(b, EVENT, schema_msg_of(f.head.type), len) : &b->item[into];
			b->counted += it != &b->item[b->n - 1];
			it->count += count;
			break;
		}
		/* fall through */
	default:
		it = add(b, EVENT, schema_msg_of(f.head.type), len);
	}
	it->instance = src->instance;
	it->pos = pos;
	it->name = name;
	return 0;
}

void batch_add_orphan(struct batch *b, struct inflight_entry *e, const char *name)
{
	struct item *it = add(b, ORPHAN, SCHEMA_END, 0);

	it->severity = 4;
	it->name = name;
	it->instance = e->source->instance;
	inflight_detach(b->table, e);
	it->entry = e;
	b->texts += e->len;
}

void batch_add_note(struct batch *b, enum schema_msg msg, unsigned severity, const char *reason, const char *detail)
{
	struct audit_event e;

	if (b->n >= BATCH_ITEMS + 2 * NOTES || b->used + NOTE_MAX > ARENA_BYTES)
		return; /* the operator log has it */
	audit_event_init(&e, batch_room(b), NOTE_MAX, AUDIT_ALERT, NULL, 0, 0);
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	audit_event_done(&e);
	add(b, NOTE, msg, e.len)->severity = (uint8_t)severity;
}

size_t batch_need(const struct batch *b)
{
	return b->n * (size_t)(RECORD_HEAD_MAX + 1) + b->texts * RECORD_ESCAPE_MAX;
}

bool batch_written_before(const struct batch *b)
{
	return b->formatted;
}

/* ---- records ----------------------------------------------------------------------------------- */

static void parse_own(struct audit_fields *f, const uint8_t *p, size_t len)
{
	const char *why;
	int rc = audit_event_parse(f, p, len, &why);

	assert(rc == 0); /* it was checked when it was taken */
	(void)rc;
}

static void stamp(struct record *r, uint64_t claimed_us, uint64_t wall_us)
{
	if (claimed_us <= wall_us ? wall_us - claimed_us <= FRESH_US : claimed_us - wall_us <= AHEAD_US) {
		r->wall_us = claimed_us < wall_us ? claimed_us : wall_us;
		return;
	}
	r->wall_us = wall_us;
	/* Ten thousand years is what the text holds. */
	r->claimed_us = claimed_us < UINT64_C(253402300800000000) ? claimed_us : UINT64_C(253402300799999999);
}

static size_t write_item(struct batch *b, struct item *it, uint8_t *out, uint64_t wall_us, uint64_t sync)
{
	struct audit_fields own, open;
	struct audit_event e;
	uint64_t mem[16];
	struct record r = {.msg = it->msg, .severity = it->severity, .seq = it->seq, .wall_us = wall_us,
		.instance = it->instance, .pos = it->pos, .worker = it->name, .sync = sync, .open_mask = UINT64_MAX, .count = it->count};

	if (it->kind == ORPHAN) {
		audit_event_init(&e, mem, sizeof(mem), AUDIT_END, &it->entry->exchange, it->entry->attempt, wall_us);
		audit_event_str(&e, AUDIT_F_REASON, "worker-died");
		audit_event_done(&e);
		parse_own(&own, e.p, e.len);
	} else {
		parse_own(&own, b->arena + it->off, it->len);
		if (it->kind != NOTE)
			stamp(&r, own.head.wall_us, wall_us);
	}
	r.f = &own;
	if (audit_event_has_exchange(&own.head)) {
		r.exchange = &own.head.exchange;
		r.attempt = own.head.attempt;
	}
	if (it->open != FLOOD_NONE) {
		parse_own(&open, b->arena + b->item[it->open].off, b->item[it->open].len);
		r.open = &open;
	} else if (it->kind != OPEN && it->entry) {
		parse_own(&open, it->entry->event, it->entry->len);
		r.open = &open;
		r.open_seq = it->entry->open_seq;
	}
	return record_write(b->rf, out, &r);
}

static void format(struct batch *b, uint64_t wall_us)
{
	struct store_chain *chain = store_chain(b->store);
	size_t need = batch_need(b) + 64;
	uint64_t total = 0;

	if (need > b->out_cap) {
		mem_free(b->out);
		b->out = mem_alloc(need);
		b->out_cap = need;
	}
	for (uint32_t i = 0; i < b->n; i++)
		total += !b->item[i].gone;
	b->out_len = b->records = 0;
	for (uint32_t i = 0; i < b->n; i++) {
		struct item *it = &b->item[i];

		if (it->gone)
			continue;
		it->seq = ++chain->seq;
		b->line[b->records].p = b->out + b->out_len;
		size_t n = write_item(b, it, b->out + b->out_len, wall_us, b->records + 1 == total ? total : 0);
		b->line[b->records++].n = n;
		b->out[b->out_len + n] = '\n';
		b->out_len += n + 1;
	}
	digest_chain(store_digest(b->store), b->line, b->records, record_set_prev, RECORD_TAIL, chain->prev, b->leaves);
	merkle_append_all(&chain->tree, store_digest(b->store), b->leaves, b->records);
	b->formatted = true;
}

enum store_result batch_write(struct batch *b, uint64_t wall_us)
{
	if (!b->formatted)
		format(b, wall_us);
	return store_commit(b->store, b->out, b->out_len, b->leaves, b->records);
}

/* Keeps what the end will repeat. */
static void settle(struct batch *b, struct item *it)
{
	struct inflight_entry *e = it->entry;
	uint8_t mem[AUDIT_EVENT_MAX];
	struct audit_fields f;
	struct audit_event ev;

	parse_own(&f, b->arena + it->off, it->len);
	audit_event_init(&ev, mem, sizeof(mem), AUDIT_OPEN, &e->exchange, e->attempt, f.head.wall_us);
	for (unsigned id = 1; id < AUDIT_FIELDS; id++) {
		if (!(f.present & b->repeat & UINT64_C(1) << id))
			continue;
		if (audit_event_is_u64((enum audit_field)id))
			audit_event_u64(&ev, (enum audit_field)id, le_get64(f.f[id].p));
		else
			audit_event_text(&ev, (enum audit_field)id, f.f[id].p, f.f[id].n);
	}
	audit_event_done(&ev);
	e->pending = false;
	e->open_seq = it->seq;
	e->len = ev.len;
	e->event = mem_alloc(ev.len);
	memcpy(e->event, ev.p, ev.len);
}

void batch_clear(struct batch *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		struct item *it = &b->item[i];

		if (!it->entry)
			continue;
		if (it->kind == OPEN)
			settle(b, it);
		else
			inflight_release(b->table, it->entry);
	}
	b->n = 0;
	b->used = b->texts = 0;
	b->formatted = false;
	b->number++;
}
