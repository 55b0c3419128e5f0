/* SPDX-License-Identifier: Apache-2.0 */
/* Each role runs as a user of its own when sallyportd was started as root. */
#ifndef GATEWAY_PROCESS_PRIVS_H
#define GATEWAY_PROCESS_PRIVS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "gateway/process/role.h"

/* The short-lived child that compiles the policy is no role of the graph, but has a user too. */
#define PRIVS_POLICY ROLES

/*
 * The user of a role (or PRIVS_POLICY): "<prefix><role>" from the user database, or, for a numeric prefix such as
 * "61000", the ids prefix + enum role, whether or not they have names. 0, or -1 with why (what and what to do).
 */
int privs_lookup(const char *prefix, unsigned role, uid_t *uid, gid_t *gid, char *why, size_t why_size);

/*
 * Become that user for good: no supplementary groups, all three ids, no capability; then try to get back, which must
 * fail. keep_read: keep CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where that is not to be had, or none (the policy child,
 * whose sandbox opens files for reading only, and by Landlock those of its directory).
 * 0, or -1 with *why: the process must then exit.
 */
int privs_drop(uid_t uid, gid_t gid, bool keep_read, const char **why);

#endif
