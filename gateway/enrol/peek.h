/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at what a client sends first, and leaves it in the socket: whoever goes on with the connection reads it again. */
#ifndef GATEWAY_ENROL_PEEK_H
#define GATEWAY_ENROL_PEEK_H

#include <stdbool.h>

#include "gateway/io/loop.h"

/* Once, from the loop. enrol: it asks for the host; else anything else, also that there was nothing. */
typedef void peek_fn(void *ctx, bool enrol);

/* Embedded; its memory lasts until the turn is over in which it ended. */
struct peek {
	struct io io;
	int fd;
	unsigned looks;
	const char *host;
	peek_fn *done;
	void *ctx;
};

/* fd is borrowed, and nobody else's until done() or peek_stop(). There is no deadline here. */
void peek_start(struct peek *p, struct loop *l, int fd, const char *host, peek_fn *done, void *ctx);
void peek_stop(struct peek *p);

#endif
