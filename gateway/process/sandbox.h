/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a role can still do once it runs: limits, a Landlock domain and a seccomp allow-list, all from one
 * table in sandbox.c. Whatever the table does not name kills the process. What this kernel lacks is told by
 * the bits that are missing in the result, never silently; a step that fails where the kernel has it is an error.
 */
#ifndef GATEWAY_PROCESS_SANDBOX_H
#define GATEWAY_PROCESS_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/process/role.h"

enum sandbox_bit {
	SANDBOX_UID = 1,            /* a user of its own; missing when sallyportd was not started as root */
	SANDBOX_LIMITS = 2,         /* no core files, no children, not dumpable */
	SANDBOX_NO_NEW_PRIVS = 4,
	SANDBOX_SECCOMP = 8,
	SANDBOX_LANDLOCK_FS = 16,   /* no files, or those beneath one directory */
	SANDBOX_LANDLOCK_NET = 32,  /* no TCP, or (worker) no listening; Linux 6.7 */
	SANDBOX_LANDLOCK_SCOPE = 64, /* no signal and no abstract socket outside; Linux 6.12 */
	SANDBOX_ALL = 127,
};
/* The bits' names, in order of their value; NULL beyond the last. */
const char *sandbox_bit_name(unsigned n);

/* The policy compiler's sandbox and that of the keys role's helper for an HSM, beside those of the roles. */
#define SANDBOX_POLICY ROLES
#define SANDBOX_HSM (ROLES + 1)

/* No core file, not dumpable, no new privileges. Before privileges are dropped. 0 or -1 (*why). */
int sandbox_limits(unsigned role, uint32_t *bits, const char **why);
/*
 * Landlock and seccomp, for good. dir_fd: the one directory whose files this role may use (the journal's to write, the
 * policy compiler's to read), or -1. Adds to *bits what was achieved. 0, or -1 with *why: the process must then exit.
 */
int sandbox_enter(unsigned role, int dir_fd, uint32_t *bits, const char **why);
/*
 * The same for SANDBOX_HSM, which may use what is named and nothing else: files, what is beneath directories (to write where its user may write),
 * devices, Unix sockets. Each must be there.
 */
int sandbox_enter_paths(const char *const *paths, size_t n, uint32_t *bits, const char **why);

#endif
