/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's side of record.h: one line back into its parts. Strict: what record_write() cannot have written is refused. */
#ifndef GATEWAY_AUDIT_PARSE_H
#define GATEWAY_AUDIT_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/record.h"

struct parse_text {
	const char *p;             /* into the line; still escaped */
	uint32_t n;
};
struct parse_record {
	unsigned severity;
	uint64_t wall_us;
	struct parse_text host, msgid;
	int msg;                   /* enum schema_msg, or -1: a kind that this version does not know */
	uint64_t seq;
	uint8_t prev[DIGEST_LEN];
	uint64_t instance, pos;    /* pos RECORD_NONE: not from a ring */
	struct parse_text worker;
	uint64_t sync, open_seq;   /* 0: absent */
	bool has_exchange;
	struct uuid exchange;
	unsigned attempt;          /* 0: absent */
	uint64_t present;          /* bits 1 << enum audit_field */
	struct parse_text f[SCHEMA_FIELDS]; /* still escaped; set for those in present, and .n > 0 for "at" */
	unsigned unknown;          /* parameters of a later version, passed over */
};

/* "line" without its newline. 0, or -1 with *why static. */
int parse_record(struct parse_record *out, const char *line, size_t n, const char **why);
/* Undo both layers of escaping: out has t.n octets of room; returns the length. The text was checked by parse_record(). */
size_t parse_unescape(uint8_t *out, struct parse_text t);
/* A number field; 0 when absent. */
uint64_t parse_u64(const struct parse_record *r, enum audit_field f);
/* RFC 5424 6.2.3 as record_write() writes it (27 octets); 0 or -1. */
int parse_stamp(uint64_t *wall_us, const char *s, size_t n);
/* The fields of "mask" back into an event of "type" (e has room for AUDIT_EVENT_MAX); audit_event_done() was called. */
void parse_event(const struct parse_record *r, struct audit_event *e, void *mem, enum audit_type type, uint64_t mask);

#endif
