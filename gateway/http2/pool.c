/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http2/pool.h"

#include <stdint.h>
#include <string.h>

#include "gateway/base/mem.h"

/* Classes of 64, 128, … 1024 octets, header included; what is larger goes to the allocator. */
#define CLASSES 5
#define SMALLEST 64
#define KEEP 4096 /* free blocks per class */

/* In front of each block; 16 octets, so that what follows is aligned for anything. */
struct head {
	union {
		struct head *next; /* while it is free */
		size_t size;       /* of a large block */
	};
	uint64_t cls;
};
_Static_assert(sizeof(struct head) == 16, "a block's memory must stay aligned");

static struct {
	struct head *free;
	unsigned n;
} classes[CLASSES];

static unsigned class_of(size_t total)
{
	unsigned c = 0;

	for (size_t size = SMALLEST; size < total && c < CLASSES; size *= 2)
		c++;
	return c;
}

static void *pool_alloc(size_t n, void *ctx)
{
	unsigned c = class_of(n + sizeof(struct head));
	struct head *h;

	(void)ctx;
	if (c < CLASSES && classes[c].free) {
		h = classes[c].free;
		classes[c].free = h->next;
		classes[c].n--;
		return h + 1;
	}
	h = mem_alloc(c < CLASSES ? (size_t)SMALLEST << c : n + sizeof(*h));
	h->cls = c;
	if (c == CLASSES)
		h->size = n;
	return h + 1;
}

static void pool_free(void *p, void *ctx)
{
	struct head *h;

	(void)ctx;
	if (!p)
		return;
	h = (struct head *)p - 1;
	if (h->cls >= CLASSES || classes[h->cls].n >= KEEP) {
		mem_free(h);
		return;
	}
	h->next = classes[h->cls].free;
	classes[h->cls].free = h;
	classes[h->cls].n++;
}

static void *pool_calloc(size_t n, size_t size, void *ctx)
{
	void *p;

	if (size && n > SIZE_MAX / 2 / size)
		return NULL;
	p = pool_alloc(n * size, ctx);
	memset(p, 0, n * size);
	return p;
}

static void *pool_realloc(void *p, size_t n, void *ctx)
{
	struct head *h;
	size_t have;
	void *to;

	if (!p)
		return pool_alloc(n, ctx);
	h = (struct head *)p - 1;
	have = h->cls < CLASSES ? ((size_t)SMALLEST << h->cls) - sizeof(*h) : h->size;
	if (n <= have)
		return p;
	to = pool_alloc(n, ctx);
	memcpy(to, p, have);
	pool_free(p, ctx);
	return to;
}

nghttp2_mem *pool_mem(void)
{
	static nghttp2_mem mem = { NULL, pool_alloc, pool_free, pool_calloc, pool_realloc };

	return MEM_LISTS ? &mem : NULL;
}
