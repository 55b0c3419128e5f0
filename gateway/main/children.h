/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: starting, introducing to each other, restarting, stopping. */
#ifndef GATEWAY_MAIN_CHILDREN_H
#define GATEWAY_MAIN_CHILDREN_H

#include <signal.h>

#include "gateway/main/master.h"

/* A place for a process of this role; nothing is started. gen NULL: of no generation. Owned by master.children. */
struct child *children_add(struct master *m, enum role role, unsigned index, struct generation *gen);
/* Start a process in it: fork, set-up messages, introductions, and GO when it need not wait. Failing to fork counts as a death. */
void children_start(struct master *m, struct child *c);
/* Forget the place; it has no process any more. */
void children_remove(struct master *m, struct child *c);

/* Queue a message; descriptors are duplicated where they have to wait. A child that does not read is killed. */
void children_send(struct master *m, struct child *c, uint16_t type, uint16_t arg, const void *data, size_t len,
    const int *fds, unsigned nfds);
/* To every running process of a role (ROLE_MASTER: of all). */
void children_broadcast(struct master *m, enum role role, uint16_t type, uint16_t arg, const void *data, size_t len,
    const int *fds, unsigned nfds);

void children_drain(struct master *m, struct child *c, uint64_t drain_ms);  /* DRAIN now, SIGKILL 2 s after the deadline */
void children_stop(struct master *m, struct child *c, uint64_t grace_ms);   /* STOP now, SIGKILL after grace_ms */
void children_kill(struct master *m, struct child *c, const char *why);     /* SIGKILL now; why static, for the journal */

/* SIGCHLD: a process ended. False when it is none of ours. */
bool children_reaped(struct master *m, pid_t pid, int status);
/* Due restarts and kills. Returns the next deadline, 0: none. */
uint64_t children_tick(struct master *m, uint64_t now);
/* GO to those that waited for keys and journal. */
void children_release(struct master *m);

bool children_running(const struct child *c);
unsigned children_count(const struct master *m, enum role role); /* processes of a role; ROLE_MASTER: all */
const char *children_ident(const struct child *c, char out[32]); /* "worker/0" */

/* Messages of control that concern the whole of it are handed on: implemented by master.c. */
void master_on_control(struct master *m, struct child *c, struct ipc_msg *msg);

#endif
