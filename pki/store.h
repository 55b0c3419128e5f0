/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a domain's CA:
 *
 *     DIR/lock             taken (flock) by whoever changes anything below
 *     DIR/<domain>.pem     the bundle, for this domain's gateways and sidecars
 *     DIR/<domain>.crl     what was revoked, for the same
 *     DIR/pairing.key      signs pairing files
 *     DIR/ca/root.crt,key  the root; the key may be moved away
 *     DIR/ca/root.crl      the root's CRL, once there is one
 *     DIR/ca/issuing.crt,key
 *     DIR/ca/index         the books (pki/ledger.h)
 *     DIR/ca/state         which CA issues; not there before the first replacement
 *     DIR/ca/2/…           the CA that replaces it: the same files, and cross.crt
 *
 * DIR/ca comes into being by one rename, so there is a whole CA or none; so does DIR/ca/2, and "state" says whether it counts.
 * Files that root writes here belong to the owner of DIR, so that a ca role of its own user can go on working with them.
 */
#ifndef PKI_STORE_H
#define PKI_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"
#include "pki/pkifile.h"

struct store {
	char *dir;
	char *ca;       /* DIR/ca */
	int lock;       /* -1: not held */
	struct pkifile_owner owner; /* of DIR; known while the lock is held */
};

/* Prepares; touches nothing. */
void store_init(struct store *s, const char *dir);
void store_fini(struct store *s);       /* gives the lock back */
char *store_path(const struct store *s, const char *name);    /* DIR/name; mem_free() */
char *store_ca_path(const struct store *s, const char *name); /* DIR/ca/name */
/* A file of the nth CA: DIR/ca/name for the first, DIR/ca/N/name for others. */
char *store_gen_path(const struct store *s, unsigned n, const char *name);

/* Take the lock, making DIR (0755) and its parents; waits for another gwctl, up to wait_ms. 0, or -1 with a fault. */
int store_lock(struct store *s, unsigned wait_ms, struct errs *errs);
void store_unlock(struct store *s);

/* Under the lock: whole files, of the store's owner. 0, or -1 with a fault. */
int store_write_new(const struct store *s, const char *path, mode_t mode, const char *text, struct errs *errs);
int store_replace(const struct store *s, const char *path, mode_t mode, const char *text, struct errs *errs);
int store_make_dir(const struct store *s, const char *path, struct errs *errs);    /* 0700 */
void store_remove_dir(const char *path);    /* with its files; best effort */

/* Which CAs there are, by number. */
struct store_state {
	unsigned current;       /* issues */
	unsigned next, old;     /* at most one of them; 0: none */
	unsigned sequence;      /* counts changes of the bundle */
};
/* {1, 0, 0, 1} where there is no file. 0, or -1 with a fault. */
int store_state_read(const struct store *s, struct store_state *out, struct errs *errs);
int store_state_write(const struct store *s, const struct store_state *st, struct errs *errs);

#endif
