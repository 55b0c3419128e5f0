/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No stdio here: it may want memory itself. */
static void __attribute__((noreturn, cold))
die(const char *what)
{
	ssize_t n = write(2, what, strlen(what));

	(void)n;
	abort();
}

void *
mem_alloc(size_t n)
{
	void *p = malloc(n ? n : 1);

	if (!p)
		die("out of memory\n");
	return p;
}

void *
mem_zalloc(size_t n)
{
	return mem_array(1, n);
}

void *
mem_array(size_t n, size_t size)
{
	size_t total;
	void *p;

	if (__builtin_mul_overflow(n, size, &total))
		die("allocation size overflow\n");
	p = total ? calloc(n, size) : calloc(1, 1);
	if (!p)
		die("out of memory\n");
	return p;
}

void *
mem_realloc(void *p, size_t n)
{
	p = realloc(p, n ? n : 1);
	if (!p)
		die("out of memory\n");
	return p;
}

void
mem_grow(void *pp, size_t *cap, size_t need, size_t size)
{
	size_t want = *cap, total;
	void *p;

	if (need <= *cap)
		return;
	/* Start at a cache line or so, then double: the cost of growing is linear in the final size. */
	if (want < 8)
		want = 8;
	while (want < need) {
		if (want > SIZE_MAX / 2) {
			want = need;
			break;
		}
		want *= 2;
	}
	if (__builtin_mul_overflow(want, size, &total))
		die("allocation size overflow\n");
	/* pp is the address of a pointer of any type; memcpy keeps that within the aliasing rules. */
	memcpy(&p, pp, sizeof(p));
	p = mem_realloc(p, total);
	memcpy(pp, &p, sizeof(p));
	*cap = want;
}

char *
mem_strdup(const char *s)
{
	return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *
mem_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = mem_alloc(len + 1);

	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *
mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		die("out of memory\n");
	return s;
}

void
mem_wipe(void *p, size_t n)
{
	if (n)
		explicit_bzero(p, n);
}

void
mem_free(void *p)
{
	free(p);
}
