/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets. Master holds them all, so that neither a worker's death nor a reload loses a connection that waits
 * in a queue: TCP has one SO_REUSEPORT socket per worker and address, a Unix socket is shared.
 */
#ifndef GATEWAY_MAIN_LISTEN_H
#define GATEWAY_MAIN_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/errs.h"
#include "gateway/config/config.h"

struct listen_store;

struct listen_store *listen_new(void);
/* Closes all, and removes the Unix sockets that are still ours. NULL is a no-op. */
void listen_free(struct listen_store *s);

/*
 * Every listener of this config has its sockets afterwards; those of the running config are kept as they are. 0, or -1 with a fault for
 * each listener that cannot be bound, and then nothing has changed. Ends with listen_commit() or listen_abort().
 */
int listen_prepare(struct listen_store *s, const struct config *c, unsigned workers, struct errs *errs);
void listen_commit(struct listen_store *s, const struct config *c);  /* closes what this config has no use for */
void listen_abort(struct listen_store *s);                           /* closes what prepare made; NULL is a no-op */

/* A listener's sockets, borrowed until the next call that changes the store. */
size_t listen_fds(const struct listen_store *s, const struct config_listener *l, const int **fds);

/*
 * A listening Unix socket that appears at its path in one step, with its mode and group. What a dead process left there is
 * replaced; a live one's is a fault. group NULL: unchanged. The socket, or -1.
 */
int listen_unix(const char *path, unsigned mode, const char *group, const char *what, const char *file, unsigned line,
    struct errs *errs);

#endif
