/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a journal's directory without believing anything in it but its own arithmetic: numbers without a gap, each
 * record's chain value, the stored leaf hashes, the Merkle roots of the checkpoints. A journal that is being written can be verified.
 */
#ifndef GATEWAY_AUDIT_VERIFY_H
#define GATEWAY_AUDIT_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/audit/digest.h"
#include "gateway/audit/parse.h"
#include "gateway/audit/segment.h"

struct verify_result {
	uint64_t records, segments, octets;
	uint64_t first_us, last_us;    /* times of the first and the last record */
	uint8_t root[DIGEST_LEN];      /* of all records */
	struct segment_checkpoint checkpoint;  /* size 0 and no origin: none */
	uint64_t unfinished;           /* records of a batch that is being written, or was cut by a crash */
	uint64_t tail;                 /* octets of an incomplete line after them */
	/* the first fault; fault[0] is 0 when there is none */
	char fault[256];
	uint64_t seq;                  /* number of the first bad or missing record */
	char file[SEGMENT_NAME_MAX];
	uint64_t line;                 /* 0: no line */
};

/* 0: sound; 1: broken, see fault; -1: cannot be read, fault says why. */
int verify_dir(int dir_fd, struct verify_result *out);

/*
 * Every record of a directory in order, parsed but not verified. on_record returns non-zero to stop. "fault" gets the first
 * line that is no record (reading goes on behind it). Returns on_record's value, 0, or -1 with errno.
 */
struct verify_place {
	const char *file;
	uint64_t line;
	const char *text;              /* the record as it stands, not terminated */
	size_t n;
};
int verify_each(int dir_fd, int (*on_record)(void *ctx, const struct parse_record *r, const struct verify_place *at), void *ctx,
    uint64_t *bad_lines);

#endif
