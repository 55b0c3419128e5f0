/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys role: holds the private keys and signs TLS 1.3 handshakes with them, nothing else. A worker that asks for anything else is
 * reported to master (ROLE_MSG_KEYS_ABUSE) and loses its channel (case 61).
 */
#ifndef GATEWAY_KEYS_ROLE_H
#define GATEWAY_KEYS_ROLE_H

#include "gateway/process/role.h"

/* Keys come as descriptors (ROLE_FD_KEY, arg: number; PEM), channels as ROLE_FD_CHANNEL, later ones of both by ROLE_MSG_FD. Runs until master says so; the exit code. */
int keys_main(struct role_env *env);

#endif
