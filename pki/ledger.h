/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA's books, DIR/ca/index: lines of fields between tabs, only ever added to, synced before what they tell leaves the house.
 *
 *     issued   SERIAL KIND FROM UNTIL ID ISSUER HOW PREDECESSOR DNS,DNS…    ("-" for none)
 *     revoked  SERIAL WHEN REASON
 *     crl      NUMBER WHEN                                                the last number given to a CRL
 *
 * Read whole: a line is checked, noted by serial number and left where it is; what it says is taken apart when somebody asks. 100,000 lines take
 * some ten milliseconds. One that was read can be refreshed: only what is new is looked at.
 */
#ifndef PKI_LEDGER_H
#define PKI_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/base/errs.h"

#define LEDGER_SERIAL_LEN 40   /* hex digits, lower case; always as many */
#define LEDGER_NONE UINT32_MAX

struct ledger_entry {
	const char *serial, *kind, *id, *issuer, *how;
	const char *predecessor;   /* NULL: none */
	const char *dns;           /* "a,b"; "" */
	int64_t not_before, not_after; /* seconds since the epoch */
	int64_t revoked_at;
	const char *reason;        /* NULL: not revoked */
};

struct ledger;
/*
 * Reads path. Damaged lines are faults, each, and passed over; a last line without its end is none: what it tells never left. NULL with a fault
 * when the file cannot be read.
 */
struct ledger *ledger_open(const char *path, struct errs *errs);
void ledger_close(struct ledger *l);      /* NULL is a no-op */
/* What was added meanwhile. Numbers of entries stay good unless the file was replaced. 0, or -1 with faults. */
int ledger_refresh(struct ledger *l, struct errs *errs);

/* Entries by number, in the order of issuing. */
uint32_t ledger_n(const struct ledger *l);
uint32_t ledger_find(const struct ledger *l, const char *serial);   /* LEDGER_NONE: never issued */
bool ledger_is_revoked(const struct ledger *l, uint32_t i);
bool ledger_has_id(const struct ledger *l, uint32_t i, const char *id);
uint32_t ledger_predecessor(const struct ledger *l, uint32_t i);    /* or LEDGER_NONE */
uint32_t ledger_successor(const struct ledger *l, uint32_t i);      /* the last one that names this as its predecessor, or LEDGER_NONE */
/* All that is known of one. Its texts are the ledger's, and live until it is refreshed, added to or closed. */
void ledger_get(struct ledger *l, uint32_t i, struct ledger_entry *out);
uint64_t ledger_crl_number(const struct ledger *l); /* the last one given; 0: none */

/* Lines, for ledger_append(). */
void ledger_put_issued(struct buf *b, const struct ledger_entry *e);
void ledger_put_revoked(struct buf *b, const char *serial, int64_t at, const char *reason);
void ledger_put_crl(struct buf *b, uint64_t number, int64_t at);
/* Under the store's lock: adds whole lines, all or none, and syncs; then refreshes. A line that a crash cut short is removed first. 0, or -1 with a fault. */
int ledger_append(struct ledger *l, struct buf *lines, struct errs *errs);

#endif
