/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy files are parsed and compiled in a short-lived child: its own user, no network, no file but those of the policy
 * directory. What comes back is an image, checked and then sealed, and text of faults, bounded.
 */
#ifndef GATEWAY_MAIN_COMPILE_H
#define GATEWAY_MAIN_COMPILE_H

#include "gateway/base/errs.h"
#include "gateway/main/master.h"

struct compile;

/* Starts the child. NULL with a fault in *errs. c is borrowed for this call only. */
struct compile *compile_start(struct master *m, const struct config *c, uint64_t generation, struct errs *errs);
/* SIGCHLD: false when it was another process. */
bool compile_reaped(struct compile *p, pid_t pid, int status);
/* Kills it when it takes too long; true once it has ended. *next: its deadline. */
bool compile_done(struct compile *p, uint64_t now, uint64_t *next);
/* After compile_done(): every fault and warning into *errs; the sealed image (the caller's), or -1. */
int compile_take(struct compile *p, struct errs *errs);
void compile_free(struct compile *p);   /* kills it if need be; NULL is a no-op */

/* The image of a policy that allows nothing, for a start without a usable one. Sealed, or -1. */
int compile_nothing(const struct config *c, uint64_t generation);

#endif
