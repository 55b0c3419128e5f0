/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rules say, as it goes into an image: its strings, and the lists of them that each rule has. The strings are
 * the tables of the model, one after the other, so that what is interned there is not interned again.
 */
#ifndef POLICY_SAYS_H
#define POLICY_SAYS_H

#include "policy/compile.h"

enum { SAYS_OTHERS, SAYS_IDS, SAYS_PRINCIPALS, SAYS_SERVICES, SAYS_PATHS, SAYS_NAMES, SAYS_TABLES };

struct says {
	struct compile *c;
	const struct intern *table[SAYS_TABLES];
	uint32_t base[SAYS_TABLES];    /* where each starts in the image's strings */
	uint32_t anybody, digest;      /* strings */
	struct image_rule *rules;
	struct image_service *services;
	uint32_t *singles;             /* lists of one selector, service or path: the first part of the image's lists */
	size_t nsingles;
	struct intern lists;           /* the second part */
};

/* Fills s, and the texts of c's selectors. says_fini() is due. */
void says_init(struct says *s, struct compile *c);
void says_fini(struct says *s);

#endif
