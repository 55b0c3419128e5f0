/* SPDX-License-Identifier: Apache-2.0 */
/* Field lines (RFC 9112 5) of heads and trailer sections: what head.c and body.c share. */
#ifndef GATEWAY_HTTP1_FIELD_H
#define GATEWAY_HTTP1_FIELD_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/http1/head.h"

/* The lower-case form of each octet that a token may have (RFC 9110 5.6.2), 0 for the others. */
extern const uint8_t h1_field_lower[256];

/*
 * Parse the field lines in [p, end), each with its CRLF, the empty line after them not included; end[-1] is an LF or the
 * section is empty. Names are lower-cased in place; id and hop are set by name (what Connection names is the caller's).
 * Returns their number, or -400, or -431 for more than max.
 */
int h1_field_parse(struct h1_field *out, unsigned max, char *p, const char *end);

/* True where a field of this id is dropped on each hop whether or not Connection names it. */
bool h1_field_is_hop(enum h1_name id);

#endif
