/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"

void
buf_init(struct buf *b, size_t max)
{
	memset(b, 0, sizeof(*b));
	b->max = max;
}

void
buf_fini(struct buf *b)
{
	mem_free(b->data);
	b->data = NULL;
	b->len = b->cap = 0;
	b->overflow = false;
}

void
buf_reset(struct buf *b)
{
	b->len = 0;
	b->overflow = false;
}

/* Room for n bytes and a NUL that buf_cstr() may want; the NUL does not count against max. */
uint8_t *
buf_reserve(struct buf *b, size_t n)
{
	size_t need;

	if (__builtin_add_overflow(b->len, n, &need) || need == SIZE_MAX || (b->max && need > b->max)) {
		b->overflow = true;
		return NULL;
	}
	mem_grow(&b->data, &b->cap, need + 1, 1);
	return b->data + b->len;
}

int
buf_append(struct buf *b, const void *p, size_t n)
{
	uint8_t *to = buf_reserve(b, n);

	if (!to)
		return -1;
	if (n)
		memcpy(to, p, n);
	b->len += n;
	return 0;
}

int
buf_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

int
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	uint8_t *to;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -1;
	to = buf_reserve(b, (size_t)n);
	if (!to)
		return -1;
	va_start(ap, fmt);
	vsnprintf((char *)to, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void
buf_consume(struct buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

char *
buf_cstr(struct buf *b)
{
	mem_grow(&b->data, &b->cap, b->len + 1, 1);
	b->data[b->len] = '\0';
	return (char *)b->data;
}

char *
buf_steal(struct buf *b)
{
	char *s = buf_cstr(b);

	b->data = NULL;
	b->len = b->cap = 0;
	b->overflow = false;
	return s;
}
