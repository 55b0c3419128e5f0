/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults found in files: collected, not printed, so that one run shows them all, each as
 * "file:line: text". Used by config, policy and pki; printed by whoever asked.
 */
#ifndef GATEWAY_BASE_ERRS_H
#define GATEWAY_BASE_ERRS_H

#include <stdbool.h>
#include <stddef.h>

struct errs {
	struct errs_item {
		char *text;   /* "file:line: what; what to do" */
		bool warning;
	} *items;
	size_t n, cap;
	size_t errors;        /* items that are not warnings */
	size_t dropped;       /* beyond ERRS_MAX */
};
#define ERRS_MAX 1000

void errs_init(struct errs *e);
void errs_fini(struct errs *e);
/* file NULL: no place. line 0: no line. */
void errs_add(struct errs *e, const char *file, unsigned line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void errs_warn(struct errs *e, const char *file, unsigned line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The nearest of n candidates to "word" (edit distance at most a third of its length), or NULL. */
const char *errs_nearest(const char *word, const char *const *candidates, size_t n);

#endif
