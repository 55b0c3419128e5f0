/* SPDX-License-Identifier: Apache-2.0 */
/* What a journal directory says, counted: for tests that compare it with what was put in. */
#ifndef TESTS_UNIT_AUDIT_BOOK_H
#define TESTS_UNIT_AUDIT_BOOK_H

#include <stdint.h>

#include "gateway/audit/schema.h"

struct book {
	uint64_t records, bad_lines, segments;
	uint64_t msg[SCHEMA_MSGS];
	uint64_t opens, ends;      /* exchanges opened and ended, joined or not */
	uint64_t twice;            /* opened or ended more than once */
	uint64_t no_end;           /* opened, not ended */
	uint64_t died;             /* ended as worker-died */
	uint64_t denials;          /* with their counts */
	uint64_t reasons[8];       /* journal records: start, stop, segment, torn, no-space, space-back, others */
};
enum { BOOK_START, BOOK_STOP, BOOK_SEGMENT, BOOK_TORN, BOOK_NO_SPACE, BOOK_SPACE_BACK, BOOK_OTHER };

/* Reads and, first, verifies: fails the test when the journal is not sound. */
void book_read(struct book *b, int dir_fd);

#endif
