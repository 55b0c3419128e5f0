/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/emit.h"

#include "gateway/base/mem.h"
#include "policy/says.h"

struct emit {
	struct image_header h;
	struct buf *out;
	size_t start;                  /* of the image in *out */
	bool failed;
};

static size_t
table_size(size_t n) /* a power of two, at most three quarters full */
{
	size_t size = 4;

	while (size * 3 < n * 4)
		size *= 2;
	return size;
}

/* A section may come in parts. */
static void
emit_begin(struct emit *e, enum image_section s)
{
	static const uint8_t zero[8];

	if (buf_append(e->out, zero, -(e->out->len - e->start) & 7) < 0)
		e->failed = true;
	e->h.section[s].off = (uint32_t)(e->out->len - e->start);
	e->h.section[s].n = 0;
}

static void
emit_part(struct emit *e, enum image_section s, const void *p, size_t n, size_t size)
{
	e->h.section[s].n += (uint32_t)n;
	if (e->failed || e->out->len - e->start + n * size > IMAGE_MAX || buf_append(e->out, p, n * size) < 0)
		e->failed = true;
}

static void
emit(struct emit *e, enum image_section s, const void *p, size_t n, size_t size)
{
	emit_begin(e, s);
	emit_part(e, s, p, n, size);
}

static void
emit_lists(struct emit *e, const struct says *s)
{
	emit(e, IMAGE_LISTS, s->singles, s->nsingles, 4);
	emit_part(e, IMAGE_LISTS, s->lists.bytes, s->lists.len / 4, 4);
}

static void
emit_strings(struct emit *e, const struct says *s)
{
	emit_begin(e, IMAGE_STRINGS);
	for (size_t i = 0; i < SAYS_TABLES; i++)
		emit_part(e, IMAGE_STRINGS, s->table[i]->bytes, s->table[i]->len, 1);
}

/* Numbers hashed by what "hash" says of each, in open addressing; IMAGE_NONE is empty. */
static void
emit_hash(struct emit *e, enum image_section s, size_t n, uint32_t (*hash)(const void *arg, uint32_t i), const void *arg)
{
	size_t size = table_size(n);
	uint32_t *t = mem_array(size, sizeof(*t));

	memset(t, 0xff, size * sizeof(*t));
	for (uint32_t i = 0; i < n; i++) {
		size_t at = hash(arg, i) & (size - 1);

		while (t[at] != IMAGE_NONE)
			at = (at + 1) & (size - 1);
		t[at] = i;
	}
	emit(e, s, t, size, sizeof(*t));
	mem_free(t);
}

static uint32_t
interned_hash(const void *arg, uint32_t i)
{
	return ((const struct intern *)arg)->items[i].hash;
}

static void
emit_ids(struct emit *e, const struct intern *ids)
{
	size_t size = table_size(ids->n);
	struct image_id *t = mem_array(size, sizeof(*t));

	memset(t, 0xff, size * sizeof(*t));
	for (uint32_t i = 0; i < ids->n; i++) {
		size_t at = ids->items[i].hash & (size - 1);

		while (t[at].sel != IMAGE_NONE)
			at = (at + 1) & (size - 1);
		t[at] = (struct image_id){ ids->items[i].hash, i };
	}
	emit(e, IMAGE_ID_HASH, t, size, sizeof(*t));
	mem_free(t);
}

static void
emit_slots(struct emit *e, const struct image_slot *slots, size_t n)
{
	size_t size = table_size(n);
	struct image_slot *t = mem_array(size, sizeof(*t));

	memset(t, 0xff, size * sizeof(*t));
	for (size_t i = 0; i < n; i++) {
		size_t at = image_slot_hash(slots[i].sel, slots[i].service) & (size - 1);

		while (t[at].sel != IMAGE_NONE)
			at = (at + 1) & (size - 1);
		t[at] = slots[i];
	}
	emit(e, IMAGE_SLOTS, t, size, sizeof(*t));
	mem_free(t);
}

static void
emit_sets(struct emit *e, const struct intern *sets)
{
	uint32_t *start = mem_array(sets->n + 1, sizeof(*start));

	for (size_t i = 0; i < sets->n; i++)
		start[i] = sets->items[i].off / 4;
	start[sets->n] = (uint32_t)(sets->len / 4);
	emit(e, IMAGE_SET_START, start, sets->n + 1, sizeof(*start));
	emit(e, IMAGE_SET_ITEMS, sets->bytes, sets->len / 4, 4);
	emit_hash(e, IMAGE_SET_HASH, sets->n, interned_hash, sets);
	mem_free(start);
}

int
emit_image(struct compile *c, struct buf *out)
{
	const struct policy_input *in = c->m.in;
	struct emit e = { .out = out, .start = out->len };
	struct says says;

	says_init(&says, c);
	e.h.magic = IMAGE_MAGIC;
	e.h.version = IMAGE_VERSION;
	e.h.generation = in->generation;
	e.h.digest = says.digest;
	e.h.nexact = (uint32_t)c->m.ids.n;
	e.h.npatterns = (uint32_t)c->m.principals.n;
	e.failed = buf_append(out, &e.h, sizeof(e.h)) < 0;

	/* What decisions read comes first, what only people read last. */
	emit_slots(&e, c->slots, c->nslots);
	emit(&e, IMAGE_SELS, c->sels, c->nsels, sizeof(*c->sels));
	emit(&e, IMAGE_ACLS, c->acls, c->nacls, sizeof(*c->acls));
	emit(&e, IMAGE_NODES, c->nodes.nodes, c->nodes.n, sizeof(*c->nodes.nodes));
	emit(&e, IMAGE_TRIES, c->tries, c->pathsets.n + 1, sizeof(*c->tries));
	emit_sets(&e, &c->sets);
	emit(&e, IMAGE_SERVICES, says.services, in->nservices, sizeof(*says.services));
	emit_hash(&e, IMAGE_SERVICE_HASH, in->nservices, interned_hash, &c->m.services);
	emit_ids(&e, &c->m.ids);
	emit_strings(&e, &says);
	emit(&e, IMAGE_RULES, says.rules, in->nrules, sizeof(*says.rules));
	emit_lists(&e, &says);
	says_fini(&says);
	if (e.failed) {
		out->len = e.start;
		return -1;
	}
	e.h.len = (uint32_t)(out->len - e.start);
	memcpy(out->data + e.start, &e.h, sizeof(e.h));
	return 0;
}
