/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output queues: bytes on their way to a socket, in chunks from a pool that the process keeps. An
 * empty queue owns nothing, so an idle connection costs no buffer.
 */
#ifndef GATEWAY_IO_OUTQ_H
#define GATEWAY_IO_OUTQ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chunk;

struct outq {
	struct chunk *head, *tail;
	size_t bytes;
};

#define OUTQ_LARGE (32 * 1024) /* the most that outq_room() gives in one piece; two TLS records */

void outq_init(struct outq *q);
void outq_reset(struct outq *q);                    /* drops everything */
/* "want" (at most OUTQ_LARGE) contiguous bytes at the end, of which outq_commit() makes n part of the queue. */
uint8_t *outq_room(struct outq *q, size_t want);
void outq_commit(struct outq *q, size_t n);
void outq_append(struct outq *q, const void *p, size_t n);
/* Queue bytes without copying them: they must stay until outq_own() was called or they were consumed. */
void outq_borrow(struct outq *q, const void *p, size_t n);
void outq_own(struct outq *q);                      /* copies what is still borrowed */
void outq_move(struct outq *to, struct outq *from); /* appends all of from, without copying */
unsigned outq_iov(const struct outq *q, struct iovec *iov, unsigned max);
void outq_consume(struct outq *q, size_t n);
/* Contiguous bytes at the front: at least min(min, bytes), pulled together by copying where chunks end. min is at most OUTQ_LARGE. */
const uint8_t *outq_front(struct outq *q, size_t min, size_t *n);
/* Copies n bytes (at most from->bytes) from the front of one queue to the end of another and consumes them. */
void outq_transfer(struct outq *to, struct outq *from, size_t n);
/* Copies up to n bytes from the front and consumes them; returns how many. */
size_t outq_take(struct outq *q, void *p, size_t n);

/* Fixed-size blocks of the small class (OUTQ_SMALL bytes), for whoever needs short-lived memory on the hot path. */
#define OUTQ_SMALL (2048 - 64)
void *outq_block(void);
void outq_block_free(void *p);                      /* NULL is a no-op */

#endif
