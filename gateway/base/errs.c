/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/errs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"

#define WORD_MAX 63 /* longer words get no suggestion */

void
errs_init(struct errs *e)
{
	memset(e, 0, sizeof(*e));
}

void
errs_fini(struct errs *e)
{
	for (size_t i = 0; i < e->n; i++)
		mem_free(e->items[i].text);
	mem_free(e->items);
	memset(e, 0, sizeof(*e));
}

static void __attribute__((format(printf, 5, 0)))
add(struct errs *e, bool warning, const char *file, unsigned line, const char *fmt, va_list ap)
{
	char place[24] = "";
	char *what;

	/* Counted even where there is no room for its text: a fault must fail the run. */
	if (!warning)
		e->errors++;
	if (e->n >= ERRS_MAX) {
		e->dropped++;
		return;
	}
	if (vasprintf(&what, fmt, ap) < 0)
		what = mem_strdup(fmt);
	if (line)
		snprintf(place, sizeof(place), ":%u", line);
	mem_grow(&e->items, &e->cap, e->n + 1, sizeof(*e->items));
	e->items[e->n].warning = warning;
	e->items[e->n].text = file ? mem_printf("%s%s: %s", file, place, what) : mem_strdup(what);
	e->n++;
	mem_free(what);
}

void
errs_add(struct errs *e, const char *file, unsigned line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(e, false, file, line, fmt, ap);
	va_end(ap);
}

void
errs_warn(struct errs *e, const char *file, unsigned line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(e, true, file, line, fmt, ap);
	va_end(ap);
}

static unsigned
min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Edit distance where two swapped neighbours count as one fault (the commonest slip in typing). */
static unsigned
distance(const char *a, size_t an, const char *b, size_t bn)
{
	unsigned rows[3][WORD_MAX + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2], *t;

	for (size_t j = 0; j <= bn; j++)
		above[j] = (unsigned)j;
	for (size_t i = 1; i <= an; i++) {
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= bn; j++) {
			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		t = before;
		before = above;
		above = row;
		row = t;
	}
	return above[bn];
}

const char *
errs_nearest(const char *word, const char *const *candidates, size_t n)
{
	size_t len = strlen(word);
	unsigned best = (unsigned)(len / 3) + 1;
	const char *found = NULL;

	if (len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t clen = strlen(candidates[i]);
		unsigned d;

		if (clen > WORD_MAX || clen + best <= len || len + best <= clen)
			continue;
		d = distance(word, len, candidates[i], clen);
		if (d < best) {
			best = d;
			found = candidates[i];
		}
	}
	return found;
}
