/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDv7 (RFC 9562 5.7): the id of an exchange. Monotonic within a process and millisecond. */
#ifndef GATEWAY_BASE_UUID_H
#define GATEWAY_BASE_UUID_H

#include <stdint.h>

#define UUID_TEXT_LEN 36

struct uuid {
	uint8_t b[16];
};

/* Fast: draws random bytes in blocks; forks and re-execs re-seed. */
void uuid_make(struct uuid *u, uint64_t wall_us);
void uuid_format(const struct uuid *u, char out[UUID_TEXT_LEN]); /* no NUL */
/* Lower-case hex and dashes only, version 7, variant 10. 0 or -1. */
int uuid_parse(struct uuid *u, const char *s, unsigned len);
uint64_t uuid_ms(const struct uuid *u);                   /* the time inside */

#endif
