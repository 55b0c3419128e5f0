/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Double entry: two gateways' journals joined on (exchange id, attempt). What left one must have reached the other, and
 * both must say the same of it.
 *
 * By right in one journal only: what the sending gateway denied; what it opened but, by its own record, never had an answer to
 * (502, 503, 504, or neither status nor content); what went to or came from another gateway; what was local.
 *
 * Of a sidecar and its gateway, whose ids differ, the sidecar's uplink_exchange joins: all of the sidecar's must be with the
 * gateway, whose others are other callers'.
 */
#ifndef GATEWAY_AUDIT_RECONCILE_H
#define GATEWAY_AUDIT_RECONCILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/uuid.h"

enum reconcile_kind {
	RECONCILE_ONLY_A,
	RECONCILE_ONLY_B,
	RECONCILE_DENIED,      /* crossed although its sender denied it, or answered although its receiver did */
	RECONCILE_PRINCIPAL,
	RECONCILE_SERVICE,     /* host (names of services are local) or method */
	RECONCILE_STATUS,
	RECONCILE_BYTES,
	RECONCILE_KINDS,
};

struct reconcile_finding {
	enum reconcile_kind kind;
	struct uuid exchange;
	unsigned attempt;
	uint64_t seq_a, seq_b; /* 0: not there */
	char *text;            /* escaped; owned by the result */
};

struct reconcile_result {
	uint64_t both;         /* in both books, equal */
	uint64_t denied;       /* denied by the sender: in one book by right */
	uint64_t unreached;    /* opened, and by the sender's record never answered */
	uint64_t unfinished;   /* open in a book, without an end yet: compared as far as they go */
	uint64_t elsewhere;    /* with another gateway */
	uint64_t imbalances;
	uint64_t by_kind[RECONCILE_KINDS];
	struct reconcile_finding *findings;
	size_t nfindings, cap; /* at most RECONCILE_MAX; the rest is only counted */
	bool have_offset;
	int64_t offset_us;     /* B's clock less A's: median */
	uint64_t bad_lines[2]; /* lines that are no records: verify says more */
};
#define RECONCILE_MAX 10000

/* 0; -1 with errno when a directory cannot be read (*which: 0 or 1). Free in any case. */
int reconcile_dirs(int dir_a, int dir_b, struct reconcile_result *out, int *which);
void reconcile_free(struct reconcile_result *r);
const char *reconcile_kind_name(enum reconcile_kind k);

#endif
