/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/audit/book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/verify.h"
#include "gateway/base/mem.h"

struct seen {
	struct uuid id;
	unsigned attempt;
	uint8_t opens, ends;
};
struct reader {
	struct book *book;
	struct seen *seen;
	size_t n, cap;
};

static bool is(const struct parse_record *r, enum audit_field f, const char *s)
{
	return r->present >> f & 1 && r->f[f].n == strlen(s) && memcmp(r->f[f].p, s, r->f[f].n) == 0;
}

static int on_record(void *ctx, const struct parse_record *r, const struct verify_place *at)
{
	static const char *const reasons[] = {"start", "stop", "segment", "torn", "no-space", "space-back"};
	struct reader *c = ctx;
	struct book *b = c->book;

	(void)at;
	b->records++;
	b->msg[r->msg]++;
	if (r->msg == SCHEMA_DENY)
		b->denials += r->present >> AUDIT_F_COUNT & 1 ? parse_u64(r, AUDIT_F_COUNT) : 1;
	if (r->msg == SCHEMA_JOURNAL) {
		unsigned i = 0;
		while (i < BOOK_OTHER && !is(r, AUDIT_F_REASON, reasons[i]))
			i++;
		b->reasons[i]++;
	}
	if (r->msg == SCHEMA_EXCHANGE || r->msg == SCHEMA_OPEN || r->msg == SCHEMA_END) {
		mem_grow(&c->seen, &c->cap, c->n + 1, sizeof(*c->seen));
		c->seen[c->n++] = (struct seen){r->exchange, r->attempt, r->msg != SCHEMA_END, r->msg != SCHEMA_OPEN};
		b->died += is(r, AUDIT_F_REASON, "worker-died");
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	int c = memcmp(&x->id, &y->id, sizeof(x->id));

	return c ? c : (int)x->attempt - (int)y->attempt;
}

void book_read(struct book *b, int dir_fd)
{
	struct reader c = {.book = b};
	struct verify_result v;

	memset(b, 0, sizeof(*b));
	if (verify_dir(dir_fd, &v) != 0)
		fail_msg("record %" PRIu64 " %s:%" PRIu64 ": %s", v.seq, v.file, v.line, v.fault);
	b->segments = v.segments;
	assert_int_equal(verify_each(dir_fd, on_record, &c, &b->bad_lines), 0);
	if (c.n)
		qsort(c.seen, c.n, sizeof(*c.seen), compare);
	for (size_t i = 0, k; i < c.n; i = k) {
		unsigned opens = 0, ends = 0;
		for (k = i; k < c.n && compare(&c.seen[i], &c.seen[k]) == 0; k++) {
			opens += c.seen[k].opens;
			ends += c.seen[k].ends;
		}
		b->opens += opens;
		b->ends += ends;
		b->twice += opens > 1 || ends > 1;
		b->no_end += opens > ends;
	}
	mem_free(c.seen);
}
