/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's schema: kinds of records (MSGID, severity) and the names of their fields, in the order in
 * which they are written. sallyport-journal(5) is this table in words. One file for writer and reader.
 */
#ifndef GATEWAY_AUDIT_SCHEMA_H
#define GATEWAY_AUDIT_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/event.h"

/*
 * Private enterprise number of the structured data's id. 32473 is the one that RFC 5612 gives to documentation;
 * it is to be replaced here, and nowhere else, by one that IANA assigned.
 */
#define SCHEMA_PEN "32473"
#define SCHEMA_SD_ID "sallyport@" SCHEMA_PEN
#define SCHEMA_APP "sallyport"
#define SCHEMA_FACILITY 13 /* RFC 5424 6.2.1: log audit */

enum schema_msg {
	SCHEMA_EXCHANGE,       /* open and end in one */
	SCHEMA_OPEN,
	SCHEMA_END,
	SCHEMA_DENY,
	SCHEMA_LINK_UP,
	SCHEMA_LINK_DOWN,
	SCHEMA_REFUSED,
	SCHEMA_ALERT,
	SCHEMA_GENERATION,
	SCHEMA_COMMAND,
	SCHEMA_ROLE,
	SCHEMA_CERTIFICATE,
	SCHEMA_ENROLMENT,
	SCHEMA_JOURNAL,        /* the journal's own: start, stop, segment, torn, no-space, … */
	SCHEMA_MSGS,
};

/* Fields that the journal itself writes: prev comes last, the others before those of the event. */
enum schema_own {
	SCHEMA_SEQ = AUDIT_FIELDS, SCHEMA_SRC, SCHEMA_WORKER, SCHEMA_SYNC, SCHEMA_AT, SCHEMA_OPEN_SEQ, SCHEMA_EXCHANGE_ID,
	SCHEMA_ATTEMPT, SCHEMA_PREV,
	SCHEMA_FIELDS,
};

struct schema_msg_desc {
	const char *msgid;
	uint8_t severity;      /* RFC 5424 6.2.1 */
};
struct schema_field {
	const char *name;
	uint8_t name_len;
	char lead[24];         /* ` name="`, padded so that it can be copied in words */
	uint8_t lead_len;
	bool number;
	bool repeat;           /* kept while an exchange is in flight and repeated in its end */
};

extern const struct schema_msg_desc schema_msgs[SCHEMA_MSGS];
extern const struct schema_field schema_fields[SCHEMA_FIELDS];
extern const uint8_t schema_order[AUDIT_FIELDS - 1]; /* the event's fields as they are written */

enum schema_msg schema_msg_of(enum audit_type t);     /* OPEN and END: SCHEMA_OPEN, SCHEMA_END */
int schema_msg_by_name(const char *s, size_t n);      /* -1 */
/* An index of schema_fields, or -1. */
int schema_field_by_name(const char *s, size_t n);

#endif
