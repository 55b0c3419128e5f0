/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA's books, DIR/ca/index: lines of fields between tabs, only ever added to, synced before what they tell leaves the house.
 *
 *     issued   SERIAL KIND FROM UNTIL ID ISSUER HOW PREDECESSOR DNS,DNS…    ("-" for none)
 *     revoked  SERIAL WHEN REASON
 *     crl      NUMBER WHEN                                                the last number given to a CRL
 *
 * Read whole (100,000 lines take some ten milliseconds) and looked up in memory. One that was read can be refreshed: only what is new is read.
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
	uint32_t successor;        /* the last one that names this as its predecessor, or LEDGER_NONE */
};

struct ledger;
/*
 * Reads path. Damaged lines are faults, each, and passed over; a last line without its end is none: what it tells never left. NULL with a fault
 * when the file cannot be read.
 */
struct ledger *ledger_open(const char *path, struct errs *errs);
void ledger_close(struct ledger *l);      /* NULL is a no-op */
/* What was added meanwhile; pointers into the ledger stay good unless the file was replaced. 0, or -1 with faults. */
int ledger_refresh(struct ledger *l, struct errs *errs);
size_t ledger_n(const struct ledger *l);
const struct ledger_entry *ledger_at(const struct ledger *l, size_t i);    /* in the order of issuing; good until the next refresh */
const struct ledger_entry *ledger_find(const struct ledger *l, const char *serial); /* NULL: never issued */
uint64_t ledger_crl_number(const struct ledger *l); /* the last one given; 0: none */

/* Lines, for ledger_append(). */
void ledger_put_issued(struct buf *b, const struct ledger_entry *e);
void ledger_put_revoked(struct buf *b, const char *serial, int64_t at, const char *reason);
void ledger_put_crl(struct buf *b, uint64_t number, int64_t at);
/* Under the store's lock: adds whole lines, all or none, and syncs; then refreshes. A line that a crash cut short is removed first. 0, or -1 with a fault. */
int ledger_append(struct ledger *l, struct buf *lines, struct errs *errs);

#endif
