/* SPDX-License-Identifier: Apache-2.0 */
/* Output queues against the plainest model there is: one array of octets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/io/outq.h"

#define MODEL_MAX (1 << 20)

struct model {
	uint8_t *p;
	size_t n;
};

static uint32_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return below ? (seed >> 8) % below : 0;
}

/* Sizes around the places where chunks end, mostly small. */
static size_t some_size(void)
{
	static const size_t edges[] = { 0, 1, 2, 9, OUTQ_SMALL - 1, OUTQ_SMALL, OUTQ_SMALL + 1, 4096, 16384, OUTQ_LARGE - 1, OUTQ_LARGE };

	return rnd(3) ? rnd(300) : edges[rnd(sizeof(edges) / sizeof(edges[0]))];
}

static void fill(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)rnd(256);
}

static void model_add(struct model *m, const uint8_t *p, size_t n)
{
	assert_true(m->n + n <= MODEL_MAX);
	memcpy(m->p + m->n, p, n);
	m->n += n;
}

static void model_drop(struct model *m, size_t n)
{
	memmove(m->p, m->p + n, m->n - n);
	m->n -= n;
}

/* Everything that can be seen of a queue without changing it. */
static void check(const struct outq *q, const struct model *m)
{
	struct iovec iov[1024];
	unsigned n = outq_iov(q, iov, 1024), one;
	size_t at = 0;

	assert_int_equal(q->bytes, m->n);
	for (unsigned i = 0; i < n; i++) {
		assert_true(iov[i].iov_len > 0);
		assert_memory_equal(iov[i].iov_base, m->p + at, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_int_equal(at, m->n);
	one = outq_iov(q, iov, 1);
	assert_int_equal(one, n ? 1 : 0);
	if (m->n == 0)
		assert_null(n ? q->head : NULL);
}

static void test_random(void **state)
{
	/* Borrowed octets must outlive the queue's use of them: this many are enough between two outq_own(). */
	uint8_t *source = mem_alloc(MODEL_MAX), *buf = mem_alloc(OUTQ_LARGE);
	struct model m[2] = { { mem_alloc(MODEL_MAX), 0 }, { mem_alloc(MODEL_MAX), 0 } };
	struct outq q[2];

	(void)state;
	fill(source, MODEL_MAX);
	for (uint32_t round = 0; round < 40; round++) {
		seed = round + 1;
		outq_init(&q[0]);
		outq_init(&q[1]);
		for (int step = 0; step < 2000; step++) {
			unsigned a = rnd(2), b = !a;
			size_t n = some_size();
			const uint8_t *front;
			uint8_t *room;

			if (m[0].n + m[1].n + n > MODEL_MAX / 2) {
				outq_reset(&q[a]);
				m[a].n = 0;
				continue;
			}
			switch (rnd(9)) {
			case 0:
				fill(buf, n);
				outq_append(&q[a], buf, n);
				model_add(&m[a], buf, n);
				break;
			case 1:
				room = outq_room(&q[a], n);
				n = n ? rnd((uint32_t)n + 1) : 0;
				fill(room, n);
				outq_commit(&q[a], n);
				model_add(&m[a], room, n);
				break;
			case 2: {
				size_t at = rnd(MODEL_MAX - OUTQ_LARGE), first = rnd((uint32_t)n + 1);

				/* In two pieces that touch, as from one buffer. */
				outq_borrow(&q[a], source + at, first);
				outq_borrow(&q[a], source + at + first, n - first);
				model_add(&m[a], source + at, n);
				break;
			}
			case 3:
				outq_own(&q[a]);
				break;
			case 4:
				outq_move(&q[a], &q[b]);
				model_add(&m[a], m[b].p, m[b].n);
				m[b].n = 0;
				break;
			case 5:
				n = n < m[a].n ? n : m[a].n;
				outq_consume(&q[a], n);
				model_drop(&m[a], n);
				break;
			case 6: {
				size_t got;

				front = outq_front(&q[a], n, &got);
				assert_true(got >= (n < m[a].n ? n : m[a].n));
				assert_true(got <= m[a].n);
				if (m[a].n)
					assert_true(got > 0);
				assert_true(got == 0 || memcmp(front, m[a].p, got) == 0);
				break;
			}
			case 7:
				n = n < m[b].n ? n : m[b].n;
				outq_transfer(&q[a], &q[b], n);
				model_add(&m[a], m[b].p, n);
				model_drop(&m[b], n);
				break;
			case 8: {
				size_t got = outq_take(&q[a], buf, n);

				assert_int_equal(got, n < m[a].n ? n : m[a].n);
				assert_memory_equal(buf, m[a].p, got);
				model_drop(&m[a], got);
				break;
			}
			}
			check(&q[0], &m[0]);
			check(&q[1], &m[1]);
		}
		outq_reset(&q[0]);
		outq_reset(&q[1]);
		m[0].n = m[1].n = 0;
	}
	mem_free(source);
	mem_free(buf);
	mem_free(m[0].p);
	mem_free(m[1].p);
}

/* What was borrowed may change once it is owned. */
static void test_own_copies(void **state)
{
	uint8_t lent[5000];
	struct outq q;
	uint8_t out[5010];

	(void)state;
	outq_init(&q);
	memset(lent, 'a', sizeof(lent));
	outq_append(&q, "head", 4);
	outq_borrow(&q, lent, sizeof(lent));
	outq_append(&q, "tail", 4);
	outq_consume(&q, 6); /* into the borrowed part */
	outq_own(&q);
	memset(lent, 'b', sizeof(lent));
	assert_int_equal(outq_take(&q, out, sizeof(out)), 5002);
	for (int i = 0; i < 4998; i++)
		assert_int_equal(out[i], 'a');
	assert_memory_equal(out + 4998, "tail", 4);
	assert_null(q.head);
}

/* The front, pulled together across many small chunks and a borrowed one, up to the largest that may be asked for. */
static void test_front_across_chunks(void **state)
{
	static uint8_t all[3 * OUTQ_LARGE];
	struct outq q, part;
	const uint8_t *p;
	size_t n;

	(void)state;
	seed = 7;
	fill(all, sizeof(all));
	outq_init(&q);
	for (size_t at = 0; at < 2 * OUTQ_LARGE; at += 100) {
		size_t k = 2 * OUTQ_LARGE - at < 100 ? 2 * OUTQ_LARGE - at : 100;

		outq_init(&part);
		if (at / 100 % 3)
			outq_append(&part, all + at, k);
		else
			outq_borrow(&part, all + at, k);
		outq_move(&q, &part);
		assert_null(part.head);
	}
	outq_borrow(&q, all + 2 * OUTQ_LARGE, OUTQ_LARGE);
	p = outq_front(&q, 1, &n);
	assert_int_equal(n, 100);
	p = outq_front(&q, OUTQ_LARGE, &n);
	assert_int_equal(n, OUTQ_LARGE);
	assert_memory_equal(p, all, n);
	outq_consume(&q, OUTQ_LARGE - 50);
	p = outq_front(&q, 60, &n);
	assert_true(n >= 60);
	assert_memory_equal(p, all + OUTQ_LARGE - 50, n);
	outq_append(&q, "x", 1);
	assert_int_equal(q.bytes, 2 * OUTQ_LARGE + 51);
	outq_reset(&q);
}

static void test_empty_owns_nothing(void **state)
{
	struct outq q;
	size_t n = 1;
	uint8_t b[4];

	(void)state;
	outq_init(&q);
	assert_null(outq_front(&q, 10, &n));
	assert_int_equal(n, 0);
	assert_int_equal(outq_take(&q, b, sizeof(b)), 0);
	outq_consume(&q, 0);
	outq_own(&q);
	outq_borrow(&q, b, 0);
	outq_append(&q, b, 0);
	assert_null(q.head);
	outq_room(&q, 10); /* and nothing was put there */
	assert_null(outq_front(&q, 1, &n));
	assert_null(q.head);
	assert_null(q.tail);
	outq_append(&q, "abc", 3);
	outq_consume(&q, 3);
	assert_null(q.head);
	outq_reset(&q);
}

static void test_blocks(void **state)
{
	void *p[3000];

	(void)state;
	outq_block_free(NULL);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < 3000; i++) {
			p[i] = outq_block();
			assert_int_equal((uintptr_t)p[i] % 16, 0);
			memset(p[i], (int)i, OUTQ_SMALL);
		}
		for (size_t i = 0; i < 3000; i++) {
			assert_int_equal(((uint8_t *)p[i])[OUTQ_SMALL - 1], (uint8_t)i);
			outq_block_free(p[i]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random), cmocka_unit_test(test_own_copies), cmocka_unit_test(test_front_across_chunks),
		cmocka_unit_test(test_empty_owns_nothing), cmocka_unit_test(test_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
