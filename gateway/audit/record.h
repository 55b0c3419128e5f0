/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One journal record as text (RFC 5424 6): "<PRI>1 TIME HOST sallyport PID MSGID [sallyport@PEN name="value" …]", without
 * its newline. The first parameters are always seq, src and worker; the last one is prev, the leaf hash of the record before.
 * prev is last so that the hashes of a batch's records can be worked on together up to there; only the last two or three blocks
 * of each need the record before.
 *
 * Values: what is not printable (control bytes, DEL, C1 and bidirectional controls, line and paragraph separators, anything that is
 * not UTF-8) and the backslash itself become \xHH; then the three escapes of RFC 5424 6.3.3 are applied. So a record is one line, whatever was
 * put into it, no terminal takes orders from it, and every value can be had back to the byte.
 */
#ifndef GATEWAY_AUDIT_RECORD_H
#define GATEWAY_AUDIT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/digest.h"
#include "gateway/audit/event.h"
#include "gateway/audit/schema.h"

#define RECORD_NONE UINT64_MAX
#define RECORD_HEAD_MAX 1536          /* everything but the texts of the event's fields */
#define RECORD_ESCAPE_MAX 5           /* octets that one octet of a value can become */
#define RECORD_MAX (RECORD_HEAD_MAX + 2 * RECORD_ESCAPE_MAX * AUDIT_EVENT_MAX)
#define RECORD_NAME_MAX 64            /* a producer's name */

struct record_format {         /* what is the same for all records of a journal process */
	char host[256];
	char pid[12];
	size_t host_len, pid_len;
	uint64_t second;           /* of the text below */
	char stamp[32];
};

struct record {
	enum schema_msg msg;
	unsigned severity;
	uint64_t seq;
	uint64_t wall_us;          /* TIMESTAMP */
	uint64_t claimed_us;       /* the producer's clock, when it is not to be believed; 0: left out */
	uint64_t instance;         /* src: producer's instance and where in its ring; pos RECORD_NONE: not from a ring */
	uint64_t pos;
	const char *worker;        /* producer's name; safe characters only */
	uint64_t sync;             /* on the last record of a batch: how many the batch has; else 0 */
	uint64_t open_seq;         /* of an end: its open's number; 0: left out */
	const struct uuid *exchange; /* NULL: none */
	unsigned attempt;
	const struct audit_fields *f;    /* NULL: none */
	const struct audit_fields *open; /* fields of the open, where f has none; NULL: none */
	uint64_t open_mask;        /* which of them: bits 1 << enum audit_field */
	uint64_t count;            /* replaces f's count when above 0 */
};

/* host: shortened to printable ASCII without spaces; empty or NULL: "-". */
void record_format_init(struct record_format *rf, const char *host, long pid);
/* Writes the record and returns its length; out has RECORD_HEAD_MAX + 5 × the lengths of both events. */
size_t record_write(struct record_format *rf, uint8_t *out, const struct record *r);
/* Into a record of n octets that record_write() made, which leaves it all zeros. */
#define RECORD_TAIL (2 * DIGEST_LEN + 2) /* from the first digit of prev to the end */
void record_set_prev(uint8_t *record, size_t n, const uint8_t prev[DIGEST_LEN]);
/* The escaped value alone; returns the length, at most 5n. */
size_t record_escape(uint8_t *out, const uint8_t *p, size_t n);
/* The bits of schema_fields[].repeat. */
uint64_t record_repeat_mask(void);

#endif
