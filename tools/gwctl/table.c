/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/gwctl.h"

struct table {
	const char *const *headings;
	const unsigned *flags;
	size_t columns;
	char **cells;      /* owned; rows one after the other */
	size_t n, cap;
};

struct table *
table_new(const char *const *headings, const unsigned *flags, size_t columns)
{
	struct table *t = mem_zalloc(sizeof(*t));

	t->headings = headings;
	t->flags = flags;
	t->columns = columns;
	return t;
}

static void
add(struct table *t, const char *text)
{
	mem_grow(&t->cells, &t->cap, t->n + 1, sizeof(*t->cells));
	t->cells[t->n] = t->flags && t->flags[t->n % t->columns] & TABLE_OURS ? mem_strdup(text) : gwctl_safe(text);
	t->n++;
}

void
table_cell(struct table *t, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	add(t, text);
}

void
table_row(struct table *t, const char *const *cells)
{
	for (size_t i = 0; i < t->columns; i++)
		add(t, cells[i] ? cells[i] : "-");
}

/* In columns of a terminal: octets that go on a UTF-8 sequence take none. */
static size_t
cell_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void
print_row(const struct table *t, const char *const *cells, const size_t *width)
{
	size_t last = 0, blanks = 0;

	for (size_t i = 0; i < t->columns; i++)
		if (cells[i][0])
			last = i;
	/* No blanks at the end of a line: they wait until something follows. */
	for (size_t i = 0; i <= last; i++) {
		size_t pad = width[i] - cell_width(cells[i]);
		bool right = t->flags && t->flags[i] & TABLE_RIGHT;

		printf("%*s%s", (int)(blanks + (right ? pad : 0)), "", cells[i]);
		blanks = 2 + (right ? 0 : pad);
	}
}

void
table_print(const struct table *t, bool color)
{
	size_t *width = mem_array(t->columns, sizeof(*width));

	for (size_t i = 0; i < t->columns; i++)
		width[i] = cell_width(t->headings[i]);
	for (size_t i = 0; i < t->n; i++)
		if (cell_width(t->cells[i]) > width[i % t->columns])
			width[i % t->columns] = cell_width(t->cells[i]);
	fputs(color ? "\033[1m" : "", stdout);
	print_row(t, t->headings, width);
	puts(color ? "\033[0m" : "");
	for (size_t i = 0; i + t->columns <= t->n; i += t->columns) {
		print_row(t, (const char *const *)&t->cells[i], width);
		putchar('\n');
	}
	mem_free(width);
}

void
table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		mem_free(t->cells[i]);
	mem_free(t->cells);
	mem_free(t);
}
