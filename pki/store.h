/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a domain's CA:
 *
 *     DIR/lock             taken (flock) by whoever changes anything below
 *     DIR/<domain>.pem     the bundle, for this domain's gateways and sidecars
 *     DIR/pairing.key      signs pairing files
 *     DIR/ca/root.crt,key  the root; the key may be moved away
 *     DIR/ca/issuing.crt,key
 *     DIR/ca/index         what was issued: one line per certificate, appended and synced before the certificate leaves
 *
 * DIR/ca comes into being by one rename, so there is a whole CA or none.
 */
#ifndef PKI_STORE_H
#define PKI_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"

struct store {
	char *dir;
	char *ca;       /* DIR/ca */
	int lock;       /* -1: not held */
};

/* Prepares; touches nothing. */
void store_init(struct store *s, const char *dir);
void store_fini(struct store *s);       /* gives the lock back */
char *store_path(const struct store *s, const char *name);    /* DIR/name; mem_free() */
char *store_ca_path(const struct store *s, const char *name); /* DIR/ca/name */

/* Take the lock, making DIR (0755) and its parents; waits for another gwctl, up to wait_ms. 0, or -1 with a fault. */
int store_lock(struct store *s, unsigned wait_ms, struct errs *errs);

struct store_entry {
	const char *serial;     /* hex */
	const char *kind;       /* "root", "issuing", "gateway", "workload" */
	const char *id;
	int64_t not_before, not_after; /* seconds since the epoch */
};
/* The index, under the lock. dir is DIR/ca, or what will become it. A line that a crash cut short is removed first: its certificate never left. */
int store_append(const char *ca_dir, const struct store_entry *e, struct errs *errs);
/* Every entry, oldest first. A line that is none is a fault, and skipped. 0, or -1 when there is no index. */
typedef void store_fn(void *ctx, const struct store_entry *e);
int store_each(const struct store *s, store_fn *on_entry, void *ctx, struct errs *errs);

#endif
