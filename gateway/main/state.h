/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must survive a restart, in files of master's own (config state_dir, mode 0700):
 *
 *     severed/<domain>   empty; there while "gwctl sever" holds
 *     crl/<domain>       a CRL file that came over a link. Master moves it by its descriptor and never reads it: workers verify it each time.
 *
 * Every change is on disk, directory entry included, before it is said to be done.
 */
#ifndef GATEWAY_MAIN_STATE_H
#define GATEWAY_MAIN_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/config/config.h"

struct state;
/* Opens the directory, making it; NULL with errno. */
struct state *state_open(const char *path);
void state_close(struct state *s);   /* NULL is a no-op */

/* 1, 0, or -1 with errno when it cannot be known. domain: a valid trust domain. */
int state_severed(const struct state *s, const char *domain);
/* 0; or -1 with errno when it cannot be written. Then what was to be severed is, for as long as this process lives, and what was to be restored is not. */
int state_set_severed(struct state *s, const char *domain, bool severed);

/* Keep a CRL file: at most SVID_CRL_MAX octets of the sealed memory fd. 0 or -1 with errno. */
int state_put_crl(struct state *s, const char *domain, int fd);
/* What is kept, open for reading, or -1 with errno. */
int state_crl(const struct state *s, const char *domain);

/*
 * Put the content of "fd" in the place of the file at path, whole or not at all; the new one has the old one's owner and mode. The
 * octets are moved by the kernel and never seen here. state_put_file() prepares "<path>.new"; state_commit_file() moves it there. 0 or -1 with errno.
 */
int state_put_file(const char *path, int fd, size_t max);
int state_commit_file(const char *path);
void state_drop_file(const char *path);   /* what was prepared */

#endif
