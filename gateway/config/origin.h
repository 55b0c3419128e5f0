/* SPDX-License-Identifier: Apache-2.0 */
/* Which line each member of a config was read from, by the member's address; for messages of the checks. */
#ifndef GATEWAY_CONFIG_ORIGIN_H
#define GATEWAY_CONFIG_ORIGIN_H

#include <stddef.h>

struct origins {               /* zeroed: empty */
	struct origin {
		const void *member;
		unsigned line; /* of the source's text */
	} *slots;
	size_t n, cap;         /* cap is 0 or a power of two */
};

void origin_note(struct origins *o, const void *member, unsigned line);
/* 0: it is not written. */
unsigned origin_find(const struct origins *o, const void *member);
void origin_fini(struct origins *o);

#endif
