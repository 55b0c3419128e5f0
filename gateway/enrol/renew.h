/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own certificates are renewed by EST (RFC 7030 4.2.2) before they end: for each key that has one of our own CA, a request signed by the keys role, a
 * connection to renewal.dial with the present certificate, and a look at what came back. Storing it and taking it over is master's.
 *
 * One worker does it. What is new becomes known here as it does everywhere, by new trust material: renew_trust().
 */
#ifndef GATEWAY_ENROL_RENEW_H
#define GATEWAY_ENROL_RENEW_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/ring.h"
#include "gateway/base/buf.h"
#include "gateway/config/config.h"
#include "gateway/io/loop.h"
#include "gateway/tls/tls.h"

struct renew;
struct renew_env {
	struct loop *loop;
	const struct config *config;       /* its trust material may change under us: renew_trust() then */
	struct tls_env *const *tls;        /* where the present one stands */
	struct ring *ring;
	/* A new chain, PEM, leaf first, for key number "key": to master. From the loop. */
	void (*on_renewed)(void *ctx, unsigned key, const char *pem, size_t len);
	void *ctx;
};
/* NULL when the config has no renewal. Everything is borrowed. */
struct renew *renew_new(const struct renew_env *env);
/* Stops whatever is under way. NULL is a no-op. */
void renew_free(struct renew *r);
/* Begin nothing more; what was asked is still answered: the CA gives each certificate one successor, and who did not hear of it has none. NULL is a no-op. */
void renew_drain(struct renew *r);
/* The config has other certificates or bundles now. NULL is a no-op. */
void renew_trust(struct renew *r);

/* JSON array: for each key its name, until when its certificate is good, when it is tried next, and what went wrong the last time. */
void renew_status(const struct renew *r, struct buf *out);

/* ---- when; for tests, too ---- */

/* Random numbers below n (n > 0). */
typedef uint64_t renew_random(uint64_t n);
/* The moment in a life of which "at" per cent have passed, give or take five; ms since the epoch. */
uint64_t renew_due(uint64_t from_ms, uint64_t until_ms, unsigned at, renew_random *random);
/* After so many failures in a row (from 1), with so much life left: how long to wait. */
uint64_t renew_pause(unsigned failures, uint64_t left_ms, renew_random *random);

#endif
