/* SPDX-License-Identifier: Apache-2.0 */
/* What this folder writes into the journal: refusals, connections that went on unopened, how renewals went. */
#ifndef GATEWAY_ENROL_NOTE_H
#define GATEWAY_ENROL_NOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/addr.h"
#include "gateway/io/loop.h"

/* Texts may be NULL. */
struct enrol_note {
	enum audit_type type;
	const char *verdict, *reason, *detail, *principal, *listener, *endpoint, *method;
	const struct addr *client;
	uint64_t status, bytes_in, bytes_out, duration_us; /* 0: left out */
	bool before;               /* of what has not happened yet, and does not if it cannot be recorded; else of what has */
};
/* False: there is no room for it. */
bool enrol_note(struct ring *r, struct loop *l, const struct enrol_note *n);

#endif
