/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a journal directory: their names, their order, their lines. Shared by the writer's start and by verify. */
#ifndef GATEWAY_AUDIT_SEGMENT_H
#define GATEWAY_AUDIT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/audit/digest.h"
#include "gateway/base/buf.h"

#define SEGMENT_NAME_MAX 64
#define SEGMENT_LOG "log"
#define SEGMENT_LEAVES "leaves"
#define SEGMENT_CHECKPOINT "checkpoint"
#define SEGMENT_LINE_MAX (128u << 10)

/* journal-000000000001.log; first: number of the first record. Returns out. */
char *segment_name(char out[SEGMENT_NAME_MAX], uint64_t first, const char *suffix);
/* First numbers of all segments (.log), ascending, in *out (mem_free); the count, or -1 with errno. */
long segment_list(int dir_fd, uint64_t **out);

/*
 * Calls on_line for each complete line of [from, to) without its newline; "end" is the offset after the newline. A line
 * longer than SEGMENT_LINE_MAX is given cut, with end 0. Stops when on_line returns non-zero and returns that; -1: the file cannot be
 * read (errno); 0: the end. *tail: octets after the last newline.
 */
int segment_lines(int fd, off_t from, off_t to, int (*on_line)(void *ctx, const char *line, size_t n, off_t end), void *ctx,
    uint64_t *tail);

/* A whole small file, at most max octets. 0, or -1 with errno. */
int segment_read_file(int dir_fd, const char *name, struct buf *out, size_t max);

/*
 * Checkpoints: the body of a C2SP tlog-checkpoint note: origin, size, base64 of the root, one per line, and an empty line,
 * after which signature lines will stand.
 */
struct segment_checkpoint {
	char origin[256];
	uint64_t size;
	uint8_t root[DIGEST_LEN];
};
void segment_checkpoint_write(struct buf *b, const char *origin, uint64_t size, const uint8_t root[DIGEST_LEN]);
/* 0, or -1 with *why static. Lines after the body are left to whoever checks signatures. */
int segment_checkpoint_parse(struct segment_checkpoint *out, const char *p, size_t n, const char **why);

#endif
