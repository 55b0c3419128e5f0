/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the ca role: questions go out on the channel, answers come back to whoever asked, and each question ends. */
#ifndef GATEWAY_CA_CLIENT_H
#define GATEWAY_CA_CLIENT_H

#include <stdbool.h>

#include "gateway/ca/proto.h"

#define CA_CLIENT_PENDING_MAX 64
#define CA_CLIENT_DEADLINE_MS 10000

struct loop;
struct ca_client;
struct ca_call;

/* fd: the channel (SOCK_SEQPACKET, non-blocking; borrowed); -1: none yet. */
struct ca_client *ca_client_new(struct loop *loop, int fd);
/* What is under way ends without its done(). NULL is a no-op. */
void ca_client_free(struct ca_client *c);
/* The ca role was started again, or (-1) is gone: what is under way fails before this returns, what comes next uses this channel. */
void ca_client_set_fd(struct ca_client *c, int fd);
/*
 * The loop calls this when the channel is readable (level-triggered). -1: the channel is dead: take it out of the loop and close it; what
 * was under way was failed.
 */
int ca_client_on_readable(struct ca_client *c);
/* Whether there is a channel. */
bool ca_client_up(const struct ca_client *c);
unsigned ca_client_pending(const struct ca_client *c);

/*
 * done() is called once, from the loop and never before ca_client_ask() returns; the answer is borrowed for the call, which may ask and cancel again. Whatever
 * goes wrong is an answer, too: CA_UNAVAILABLE with the reason "ca-gone" or "ca-timeout".
 */
typedef void ca_client_fn(void *ctx, const struct ca_answer *answer);
/* Sends m (copied; its id is ours to choose). NULL: no channel, too many under way, or m is too large (CA_CLIENT_*); done() is not called then. */
enum ca_client_error { CA_CLIENT_GONE = 1, CA_CLIENT_BUSY, CA_CLIENT_TOO_LARGE };
struct ca_call *ca_client_ask(struct ca_client *c, const struct ca_ask *m, ca_client_fn *done, void *ctx, enum ca_client_error *why);
/* done() will not be called. The call is gone afterwards, as it is when done() was called. NULL is a no-op. */
void ca_client_cancel(struct ca_call *call);

#endif
