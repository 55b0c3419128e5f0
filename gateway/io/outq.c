/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/io/outq.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "gateway/base/mem.h"

struct chunk {
	struct chunk *next;
	uint8_t *start, *end, *limit; /* data is start..end; room is end..limit */
	uint8_t cls;                  /* enum chunk_class */
};

enum chunk_class { CHUNK_SMALL, CHUNK_LARGE, CHUNK_BORROWED, CHUNK_CLASSES };

/* Sizes of the blocks, header included, and how many freed ones are kept. */
static const size_t chunk_size[CHUNK_CLASSES] = { OUTQ_SMALL + 64, OUTQ_LARGE + 64, sizeof(struct chunk) };
static const unsigned chunk_keep[CHUNK_CLASSES] = { MEM_LISTS * 2048, MEM_LISTS * 256, MEM_LISTS * 256 };

static struct {
	struct chunk *free;
	unsigned n;
} pool[CHUNK_CLASSES];

_Static_assert(sizeof(struct chunk) <= 64, "chunk header outgrew its place");

static struct chunk *chunk_new(enum chunk_class cls)
{
	struct chunk *c = pool[cls].free;

	if (c) {
		pool[cls].free = c->next;
		pool[cls].n--;
	} else {
		c = mem_alloc(chunk_size[cls]);
		c->cls = (uint8_t)cls;
	}
	c->next = NULL;
	if (cls != CHUNK_BORROWED) {
		c->start = c->end = (uint8_t *)c + 64;
		c->limit = (uint8_t *)c + chunk_size[cls];
	}
	return c;
}

static void chunk_free(struct chunk *c)
{
	if (pool[c->cls].n >= chunk_keep[c->cls]) {
		mem_free(c);
		return;
	}
	c->next = pool[c->cls].free;
	pool[c->cls].free = c;
	pool[c->cls].n++;
}

void *outq_block(void)
{
	return (uint8_t *)chunk_new(CHUNK_SMALL) + 64;
}

void outq_block_free(void *p)
{
	if (p)
		chunk_free((struct chunk *)((uint8_t *)p - 64));
}

void outq_init(struct outq *q)
{
	*q = (struct outq){ 0 };
}

void outq_reset(struct outq *q)
{
	struct chunk *c, *next;

	for (c = q->head; c; c = next) {
		next = c->next;
		chunk_free(c);
	}
	outq_init(q);
}

static void push(struct outq *q, struct chunk *c)
{
	if (q->tail)
		q->tail->next = c;
	else
		q->head = c;
	q->tail = c;
}

uint8_t *outq_room(struct outq *q, size_t want)
{
	struct chunk *c = q->tail;

	assert(want <= OUTQ_LARGE);
	if (c && c->cls != CHUNK_BORROWED && (size_t)(c->limit - c->end) >= want)
		return c->end;
	c = chunk_new(q->head == NULL && want <= OUTQ_SMALL ? CHUNK_SMALL : CHUNK_LARGE);
	push(q, c);
	return c->end;
}

void outq_commit(struct outq *q, size_t n)
{
	q->tail->end += n;
	q->bytes += n;
}

void outq_append(struct outq *q, const void *p, size_t n)
{
	const uint8_t *s = p;

	while (n) {
		struct chunk *c = q->tail;
		size_t room = c && c->cls != CHUNK_BORROWED ? (size_t)(c->limit - c->end) : 0;

		if (room == 0) {
			c = chunk_new(q->head == NULL && n <= OUTQ_SMALL ? CHUNK_SMALL : CHUNK_LARGE);
			push(q, c);
			room = (size_t)(c->limit - c->end);
		}
		if (room > n)
			room = n;
		memcpy(c->end, s, room);
		c->end += room;
		q->bytes += room;
		s += room;
		n -= room;
	}
}

void outq_borrow(struct outq *q, const void *p, size_t n)
{
	struct chunk *c;

	if (n == 0)
		return;
	c = q->tail;
	if (c && c->cls == CHUNK_BORROWED && c->end == (const uint8_t *)p) {
		c->end += n;
	} else {
		c = chunk_new(CHUNK_BORROWED);
		c->start = (uint8_t *)(uintptr_t)p; /* never written through */
		c->end = c->limit = c->start + n;
		push(q, c);
	}
	q->bytes += n;
}

void outq_own(struct outq *q)
{
	struct chunk *c, *next;
	bool borrowed = false;

	for (c = q->head; c && !borrowed; c = c->next)
		borrowed = c->cls == CHUNK_BORROWED;
	if (!borrowed)
		return;
	c = q->head;
	outq_init(q);
	for (; c; c = next) {
		next = c->next;
		c->next = NULL;
		if (c->cls == CHUNK_BORROWED) {
			outq_append(q, c->start, (size_t)(c->end - c->start));
			chunk_free(c);
		} else {
			push(q, c);
			q->bytes += (size_t)(c->end - c->start);
		}
	}
}

void outq_move(struct outq *to, struct outq *from)
{
	if (!from->head)
		return;
	if (to->tail)
		to->tail->next = from->head;
	else
		to->head = from->head;
	to->tail = from->tail;
	to->bytes += from->bytes;
	outq_init(from);
}

unsigned outq_iov(const struct outq *q, struct iovec *iov, unsigned max)
{
	unsigned n = 0;

	for (struct chunk *c = q->head; c && n < max; c = c->next) {
		if (c->end == c->start)
			continue;
		iov[n].iov_base = c->start;
		iov[n].iov_len = (size_t)(c->end - c->start);
		n++;
	}
	return n;
}

void outq_consume(struct outq *q, size_t n)
{
	assert(n <= q->bytes);
	q->bytes -= n;
	if (q->bytes == 0) {
		outq_reset(q);
		return;
	}
	while (n || q->head->start == q->head->end) {
		struct chunk *c = q->head;
		size_t have = (size_t)(c->end - c->start);

		if (n < have) {
			c->start += n;
			return;
		}
		n -= have;
		q->head = c->next;
		chunk_free(c);
	}
}

const uint8_t *outq_front(struct outq *q, size_t min, size_t *n)
{
	struct chunk *c = q->head, *merged;

	while (c && c->start == c->end) {
		q->head = c->next;
		if (!q->head)
			q->tail = NULL;
		chunk_free(c);
		c = q->head;
	}
	if (!c) {
		*n = 0;
		return NULL;
	}
	if (min > q->bytes)
		min = q->bytes;
	if ((size_t)(c->end - c->start) < min) {
		assert(min <= OUTQ_LARGE);
		merged = chunk_new(CHUNK_LARGE);
		while ((size_t)(merged->end - merged->start) < min) {
			size_t have = (size_t)(c->end - c->start), need = min - (size_t)(merged->end - merged->start);

			if (have > need)
				have = need;
			memcpy(merged->end, c->start, have);
			merged->end += have;
			c->start += have;
			if (c->start == c->end) {
				struct chunk *next = c->next;

				chunk_free(c);
				c = next;
			}
		}
		merged->limit = merged->end; /* what follows is another chunk's */
		merged->next = c;
		q->head = merged;
		if (!c)
			q->tail = merged;
		c = merged;
	}
	*n = (size_t)(c->end - c->start);
	return c->start;
}

void outq_transfer(struct outq *to, struct outq *from, size_t n)
{
	size_t left = n;

	for (struct chunk *c = from->head; c && left; c = c->next) {
		size_t have = (size_t)(c->end - c->start);

		if (have > left)
			have = left;
		outq_append(to, c->start, have);
		left -= have;
	}
	outq_consume(from, n);
}

size_t outq_take(struct outq *q, void *p, size_t n)
{
	uint8_t *to = p;
	size_t done = 0;

	if (n > q->bytes)
		n = q->bytes;
	for (struct chunk *c = q->head; c && done < n; c = c->next) {
		size_t have = (size_t)(c->end - c->start);

		if (have > n - done)
			have = n - done;
		memcpy(to + done, c->start, have);
		done += have;
	}
	outq_consume(q, done);
	return done;
}
