/* SPDX-License-Identifier: Apache-2.0 */
/* Which local user owns the other end of a loopback TCP connection: asked of the kernel by sock_diag(7). */
#ifndef GATEWAY_EXCHANGE_OWNER_H
#define GATEWAY_EXCHANGE_OWNER_H

#include <stdint.h>

#include "gateway/base/addr.h"

/* Opens the netlink socket, the one of its family that a worker's sandbox allows; owner_of() does it when needed. 0 or -1. */
int owner_init(void);
/* fd: the accepted connection; from: its far end. 0 and *uid, or -1 when the kernel does not tell. Does not wait. */
int owner_of(int fd, const struct addr *from, uint32_t *uid);

#endif
