/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer for paths that are not hot. Bounded: appending beyond "max"
 * marks the buffer as overflown and leaves the content as it was.
 */
#ifndef GATEWAY_BASE_BUF_H
#define GATEWAY_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* owned */
	size_t len;
	size_t cap;
	size_t max;    /* 0: no bound */
	bool overflow; /* an append was refused */
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
void buf_reset(struct buf *b);                   /* keeps the memory */
int buf_append(struct buf *b, const void *p, size_t n); /* 0, or -1 beyond max */
int buf_puts(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint8_t *buf_reserve(struct buf *b, size_t n);   /* room for n bytes at data + len, or NULL */
void buf_consume(struct buf *b, size_t n);       /* drop n bytes from the front */
char *buf_cstr(struct buf *b);                   /* NUL-terminated view, owned by b */
char *buf_steal(struct buf *b);                  /* the same, owned by the caller; b is empty again */

#endif
