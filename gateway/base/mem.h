/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that cannot fail: every allocation in the project goes through here and
 * aborts when there is none. What a peer can size is bounded before it is asked for.
 */
#ifndef GATEWAY_BASE_MEM_H
#define GATEWAY_BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t n);                       /* uninitialised; n 0 is allowed */
void *mem_zalloc(size_t n);                      /* zeroed */
void *mem_array(size_t n, size_t size);          /* zeroed; aborts on overflow of n * size */
void *mem_realloc(void *p, size_t n);
/* Grow *p (elements of "size" bytes, *cap of them) so that "need" fit; doubles. */
void mem_grow(void *pp, size_t *cap, size_t need, size_t size);
char *mem_strdup(const char *s);                 /* NULL gives NULL */
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void mem_wipe(void *p, size_t n);                /* not optimised away */
void mem_free(void *p);                          /* NULL is a no-op */

/* Whether freed objects may be kept in lists of their own: a sanitizer sees use after free only where they are not. */
#if defined(__SANITIZE_ADDRESS__)
#define MEM_LISTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_LISTS 0
#endif
#endif
#ifndef MEM_LISTS
#define MEM_LISTS 1
#endif

#endif
