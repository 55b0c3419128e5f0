/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of the keys role: an OpenSSL provider, built in, whose private keys are numbers.
 * A signature is a message to the keys role; the handshake is parked (ASYNC_pause_job) until the answer.
 */
#ifndef GATEWAY_KEYS_CLIENT_H
#define GATEWAY_KEYS_CLIENT_H

#include <stdint.h>

/* Registers the provider with OpenSSL's default context and takes the channel to the keys role (SOCK_SEQPACKET, non-blocking; borrowed). Once per process. 0 or -1 (*why). */
int keys_client_init(int fd, const char **why);
/* The keys role was restarted: outstanding signatures fail, new ones use this channel. */
void keys_client_set_fd(int fd);
/* The loop calls this when the channel is readable: answers wake their handshakes. -1: the channel is dead. */
int keys_client_on_readable(void);
/* Signatures in progress, for status and bounds. */
unsigned keys_client_pending(void);

#endif
