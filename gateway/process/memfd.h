/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed read-only memory that master makes and other roles map: config and policy images. */
#ifndef GATEWAY_PROCESS_MEMFD_H
#define GATEWAY_PROCESS_MEMFD_H

#include <stdbool.h>
#include <stddef.h>

/* An empty one, for a child to fill with write(2). Close-on-exec. -1 with errno. */
int memfd_new(const char *name);
/* Nobody can write, shrink, grow or unseal it from now on. Fails while it is mapped for writing. 0 or -1 with errno. */
int memfd_seal(int fd);
/* Both in one: a sealed one with these bytes. -1 with errno. */
int memfd_sealed(const char *name, const void *p, size_t n);
/* Whether it is such memory: what a process without privileges gives away it cannot change any more. */
bool memfd_is_sealed(int fd);

/*
 * Map it for reading after checking that it can never change: all four seals, at least one byte, at most
 * "max" bytes. The mapping is the caller's (memfd_unmap); fd is borrowed and may be closed. NULL with *why.
 */
const void *memfd_map(int fd, size_t max, size_t *len, const char **why);
void memfd_unmap(const void *p, size_t len);   /* NULL is a no-op */

#endif
