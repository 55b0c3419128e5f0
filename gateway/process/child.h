/* SPDX-License-Identifier: Apache-2.0 */
/* A role's life from exec to its main function, and what the main functions share. */
#ifndef GATEWAY_PROCESS_CHILD_H
#define GATEWAY_PROCESS_CHILD_H

#include <stdbool.h>

#include "gateway/process/ipc.h"
#include "gateway/process/role.h"

/*
 * Called first thing in main(). In a role's process it never returns: limits, privileges, proof, sandbox, then SETUP
 * messages up to ROLE_MSG_GO, then the role's main function out of table[ROLES], whose result is the exit code. In
 * any other process it returns at once.
 */
void child_run(const struct role_desc *table);

/*
 * ROLE_MSG_FD: its descriptors with what they are; a role that gets some after GO (new channels, a new producer's ring) calls
 * it too. The descriptors become out[]'s (m->nfds is 0 afterwards); returns their number, at most IPC_MAX_FDS, or -1
 * for a damaged message (its descriptors are closed).
 */
int child_fds(struct ipc_msg *m, struct role_env_fd out[IPC_MAX_FDS]);

/* The first descriptor of this kind with this arg, or NULL. */
const struct role_env_fd *child_find(const struct role_env *env, enum role_fd kind, unsigned arg);

/* ROLE_MSG_READY to master: this role does its work from now on. 0 or -1. */
int child_ready(const struct role_env *env);

#endif
