/* SPDX-License-Identifier: Apache-2.0 */
/* What a process is given: descriptors at its start, channels to those that it may talk to, and what replaces some of it later. */
#ifndef GATEWAY_MAIN_SETUP_H
#define GATEWAY_MAIN_SETUP_H

#include "gateway/main/master.h"

/* The config that a process works by: its generation's, or for one that outlives generations the current one. */
const struct generation *setup_generation(const struct master *m, const struct child *c);
/* The set-up messages of a process that was just started. */
void setup_child(struct master *m, struct child *c);
/* It gets a channel to everybody that it may talk to (roles_edges), and they to it. */
void setup_introduce(struct master *m, struct child *c);
bool setup_edge(const struct child *x, const struct child *y);
/* How others name it: (role << 8) | index. */
unsigned setup_channel(const struct child *c);

/* A keys role gets the private keys of a config (opened, not read) with their certificates: at its start, and when they were replaced. */
void setup_send_keys(struct master *m, struct child *c, const struct config *config);
/* The key of this number that waits for its certificate, if there is one: whoever asks for that again asks for the same key (renew.c). */
void setup_send_new_key(struct master *m, struct child *c, unsigned number);
/* A process that outlives generations learns of the new config. */
void setup_new_config(struct master *m, struct child *c, int config_fd);
/* What the keys role's helper is given: mem_free(). NULL: there is no HSM. */
char *setup_hsm(const struct config *c);
/* A ca role that runs gets the passphrase that is in its file now. */
void setup_send_passphrase(struct master *m, struct child *c, const struct config *config);
/* The ca role's directory, or -1 (the role then says so to whoever asks). */
int setup_open_store(const struct config *c);
/* Warnings of a CA's directory that the ca role will not be able to use, or that holds more than it needs. */
void setup_check_store(const struct config *c, struct errs *errs);

#endif
