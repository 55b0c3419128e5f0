/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's side of the keys role: an OpenSSL provider, built in, whose private keys are numbers.
 * A signature is a message to the keys role; the handshake is parked (ASYNC_pause_job) until the answer.
 */
#ifndef GATEWAY_KEYS_CLIENT_H
#define GATEWAY_KEYS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/queue.h"
#include "gateway/keys/proto.h"

/*
 * Registers the provider with OpenSSL's default context and takes the channel to the keys role (SOCK_SEQPACKET, non-blocking; borrowed;
 * -1: none yet). Once per process and thread. 0 or -1 (*why).
 */
int keys_client_init(int fd, const char **why);
/* The keys role was restarted: outstanding signatures fail (their handshakes are woken before this returns), new ones use this channel. */
void keys_client_set_fd(int fd);
/*
 * The loop calls this when the channel is readable: answers wake their handshakes, a few per call (readiness must be level-triggered).
 * -1: the channel is dead: take it out of the loop and close it; what waited for it was failed and woken.
 */
int keys_client_on_readable(void);
/* Signatures in progress, for status and bounds. */
unsigned keys_client_pending(void);

/*
 * A certificate request (PKCS#10, RFC 2986) for key number "key", made and signed by the keys role: subject, URI and DNS names are those of that key's
 * current certificate. new_key: for a new key of the same kind; its private part goes to master alone, the old key's proof is in challengePassword
 * (gateway/keys/csr.h). done() is called once, from the loop, with DER (borrowed) or NULL and *why (static); never before this returns. At
 * most one request in 10 s for each key is answered, and KEYS_CSR_PENDING_MAX are under way at once. 0, or -1: not asked for, done() is not called.
 * Nothing but the channel's death ends the wait: whoever asks sets a deadline and cancels.
 */
typedef void keys_csr_fn(void *ctx, const uint8_t *der, size_t len, const char *why);
#define KEYS_CSR_PENDING_MAX 8
int keys_client_csr(uint16_t key, bool new_key, keys_csr_fn *done, void *ctx);
/* done() will not be called with this ctx any more. */
void keys_client_csr_cancel(keys_csr_fn *done, const void *ctx);

/* ---- for gateway/tls ------------------------------------------------------------------------- */

#define KEYS_JOBS_MAX 256      /* parked handshakes per worker; each owns a 32 KiB stack */
#define KEYS_WAIT_MAX 1024     /* handshakes that wait for one of those */

/* A handshake that may have to wait. Embedded in its owner, who keeps it in place, and calls keys_park_cancel() before it frees it. */
struct keys_park {
	void (*on_wake)(void *ctx);   /* from the loop, out of keys_client_on_readable() or _set_fd() */
	void *ctx;
	/* private to client.c */
	struct keys_slot *slot;       /* the signature it waits for */
	bool queued;                  /* in the queue for a job */
	bool cancelled;
	const char *why;              /* why its signature failed; static */
	unsigned entries;
	TAILQ_ENTRY(keys_park) entry;
};

void keys_park_init(struct keys_park *p, void (*on_wake)(void *ctx), void *ctx);
/* Around each SSL_do_handshake(): signatures made in between belong to p. */
void keys_park_enter(struct keys_park *p);
void keys_park_leave(struct keys_park *p);
/* True while driving the handshake would achieve nothing. */
bool keys_park_waiting(const struct keys_park *p);
/* OpenSSL had no job for it (SSL_ERROR_WANT_ASYNC_JOB): wake p when there is one. -1: too many wait already. */
int keys_park_want_job(struct keys_park *p);
/* Why a signature failed, or NULL. */
const char *keys_park_failure(const struct keys_park *p);
/* The owner goes away: p is woken no more and a signature that it waits for fails as soon as its job is resumed. */
void keys_park_cancel(struct keys_park *p);

/* For the provider: one signature of tbs. 0 with *sig_len, or -1. Parks the current ASYNC job; outside one it blocks, at most 5 s. */
int keys_client_sign(uint16_t key, const uint8_t key_id[KEYS_ID_LEN], uint16_t scheme, const uint8_t *tbs, size_t tbs_len,
    uint8_t *sig, size_t sig_cap, size_t *sig_len);

#endif
