/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a role: fork, then the same binary again, so that it has its own address layout and nothing of master's memory. */
#ifndef GATEWAY_PROCESS_SPAWN_H
#define GATEWAY_PROCESS_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "gateway/process/role.h"

#define SPAWN_MASTER_FD 3   /* in the child: the channel to master */
#define SPAWN_DIR_FD 4      /* in the child: its one directory, when it has one */
#define SPAWN_ENV "SALLYPORTD_ROLE"
#define SPAWN_HELPER_ENV "SALLYPORTD_HELPER"

struct spawn {
	enum role role;
	unsigned index;
	bool drop;           /* become uid and gid */
	uid_t uid;
	gid_t gid;
	int dir_fd;          /* borrowed; -1: none */
	const char *helper;  /* what the role's helper needs, as struct role_helper says; NULL: it has none. spawn_describe()'s is for good */
};

/* Once, at start: a descriptor of our own binary, so that a replaced file changes nothing for running roles. -1 with errno. */
int spawn_self(void);
/* The child's process id, and *channel to it (owned by the caller, non-blocking). -1 with errno. */
pid_t spawn_role(const struct spawn *s, int self_fd, int *channel);

/* The child's side: reads SPAWN_ENV and clears the environment. 1 a role, 0 not a role's process, -1 a damaged description. */
int spawn_describe(struct spawn *s, pid_t *master);

#endif
