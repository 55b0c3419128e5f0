/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trust material of the running generations: certificates, keys, bundles, CRLs, who is severed. It changes under running processes: keys are handed to
 * the keys role, then every worker gets the newer config and takes its trust over (config_take_trust). Files are looked at twice a second.
 */
#ifndef GATEWAY_MAIN_TRUST_H
#define GATEWAY_MAIN_TRUST_H

#include "gateway/base/errs.h"
#include "gateway/main/children.h"
#include "gateway/main/master.h"

/* What state_dir says of this config's peers. -1 with a fault. Call it for each config that was loaded, before it is used. */
int trust_complete(struct master *m, struct config *c, struct errs *errs);
/* All of it, trust material included. */
bool trust_same(const struct config *a, const struct config *b);
/* This config has the same frame as the running generation's and takes its place, without a new process. Nulls *new. -1: no memory. */
int trust_swap(struct master *m, struct config **new);
/* A config was taken over: its files are as they were read. */
void trust_loaded(struct master *m);
/* The current generation is a new one: every worker, those of draining generations too, judges by its trust from now on. */
void trust_current(struct master *m);
/* A worker was told to go: what is kept for it. */
void trust_greet(struct master *m, struct child *c);
/* Files that changed are read again. Returns the next deadline. */
uint64_t trust_tick(struct master *m, uint64_t now);
/* Read them again now: of "what" (static, for the journal). False: they are not usable, which was said. */
bool trust_reread(struct master *m, const char *what);

/* ROLE_MSG_NEW_CRL, ROLE_MSG_WANT_CALLER, ROLE_MSG_FOUND_CALLER. False: malformed. */
bool trust_on_worker(struct master *m, struct child *c, struct ipc_msg *msg);
/* "gwctl sever", "gwctl restore": request number id, a peer's name or domain. Answers. */
void trust_on_sever(struct master *m, uint32_t id, const char *name, size_t len, bool sever);

struct watch;
void trust_fini(struct watch *w); /* NULL is a no-op */

#endif
