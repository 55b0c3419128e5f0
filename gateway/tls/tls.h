/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 for everything that faces a network: one tls_env per worker and config generation, one
 * tls_conn per connection. OpenSSL is driven directly: the caller owns the socket and its readiness.
 * Private keys are never here: signatures are made by the keys role through the provider in gateway/keys.
 */
#ifndef GATEWAY_TLS_TLS_H
#define GATEWAY_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pki/svid.h"

struct tls_env;     /* contexts, bundles; reference-counted by its connections */
struct tls_conn;

enum tls_kind {
	TLS_LINK_CLIENT,     /* we dial a peer gateway (or, as a sidecar, our own): ALPN "h2" */
	TLS_LINK_REVERSE,    /* we dial and then serve: ALPN "h2-reverse" */
	TLS_SERVER,          /* we accept; see tls_accept */
	TLS_EST_CLIENT,      /* we dial an enrolment service: ALPN "http/1.1"; see tls_est_client_new() */
	TLS_KINDS,
};
/*
 * What an accepting listener takes; ALPN follows: peers: h2, h2-reverse; workloads: h2, http/1.1. A client certificate is always required (case 42). With
 * ENROL, a client that asks for enrol_host by SNI gets that certificate, speaks HTTP/1.1 (by ALPN or without), and may have a certificate of our own domain or
 * none: tls_enrol() is true then. Where the bit is missing that name is refused; where there is only that bit, any other is.
 */
enum { TLS_ACCEPT_PEERS = 1, TLS_ACCEPT_WORKLOADS = 2, TLS_ACCEPT_ENROL = 4 };

enum tls_alpn { TLS_ALPN_NONE, TLS_ALPN_H2, TLS_ALPN_H2_REVERSE, TLS_ALPN_HTTP1 };

struct tls_env_config {
	const char *domain;              /* our trust domain */
	const char *identity_pem;        /* gateway chain, leaf first; its key is number 0 of the keys role */
	const char *inside_pem;          /* NULL, or the chain for listeners that take workloads only; key number 1 */
	const char *enrol_host;          /* NULL, or the name of the enrolment service */
	const char *enrol_pem;           /* its chain; key number 2; NULL where it is elsewhere */
	struct svid_bundle *const *bundles; /* bundles[0] is our own domain's; the rest the peers'; referenced by the env */
	size_t nbundles;
	int64_t skew_s;                  /* a far end's certificate is good for so many seconds after its end */
};
/* NULL with *why (static or until the next call). */
struct tls_env *tls_env_new(const struct tls_env_config *c, const char **why);
void tls_env_unref(struct tls_env *e);
/* A bundle has a new CRL: who was verified before is to be judged again. Or another env took this one's place (replaced): so is whoever it still verifies. */
void tls_env_changed(struct tls_env *e, bool replaced);

/*
 * on_wake is called (from the loop, never from within a tls_* call) when a parked handshake can go on after the keys role answered:
 * the owner then calls tls_handshake() again.
 */
typedef void tls_wake_fn(void *ctx);

/* fd is borrowed, non-blocking. For a server: accept bits; sni is checked by the owner after the handshake. For a client: server_name is the SNI (the peer's domain) or NULL. */
struct tls_conn *tls_server_new(struct tls_env *e, int fd, unsigned accept, tls_wake_fn *on_wake, void *ctx);
struct tls_conn *tls_client_new(struct tls_env *e, int fd, enum tls_kind kind, const char *server_name, tls_wake_fn *on_wake, void *ctx);
void tls_free(struct tls_conn *t);   /* any time, a parked handshake included; NULL is a no-op */
/*
 * As tls_client_new() for an enrolment service, which proves "host" to us by a DNS name of its certificate. key: which of our certificates (KEYS_IDENTITY,
 * KEYS_INSIDE, KEYS_ENROL) we show it; one that the env does not have fails the handshake.
 */
struct tls_conn *tls_est_client_new(struct tls_env *e, int fd, unsigned key, const char *host, tls_wake_fn *on_wake, void *ctx);

enum tls_status { TLS_DONE, TLS_WANT_READ, TLS_WANT_WRITE, TLS_PARKED, TLS_FAILED };
/* Drive the handshake. After TLS_DONE the peer's chain was verified (svid_verify over all bundles). */
enum tls_status tls_handshake(struct tls_conn *t);

/* After TLS_FAILED: a stable token ("expired", "untrusted", "no-certificate", "tls-version", "protocol", "eof", …) and detail for the log. */
const char *tls_failure(const struct tls_conn *t, const char **detail);
/*
 * The failure is one that does not happen by itself: an id under a CA of another domain, a certificate outside its time (which is the first sign
 * of a wrong clock), a flood of KeyUpdates. For the journal: an alert rather than a refusal.
 */
bool tls_alarming(const struct tls_conn *t);
/* What is known of the far end, after TLS_DONE or, as far as it got, TLS_FAILED. */
const struct svid_info *tls_peer(const struct tls_conn *t);
/* Whoever needed it has it: an idle connection need not keep it. tls_peer() knows nothing afterwards. */
void tls_peer_forget(struct tls_conn *t);
/* TLS_DONE all the same: all that speaks against the far end is that no CRL in force covers it, where the bundle requires one. */
bool tls_no_crl(const struct tls_conn *t);
/* The far end's chain was verified by what is trusted now. False: trust changed since. */
bool tls_current(const struct tls_conn *t);
enum tls_alpn tls_alpn(const struct tls_conn *t);
const char *tls_sni(const struct tls_conn *t);        /* NULL: none sent */
bool tls_enrol(const struct tls_conn *t);             /* the client asked for the enrolment service */
const char *tls_group(const struct tls_conn *t);      /* key exchange group and cipher, for status */
const char *tls_cipher(const struct tls_conn *t);
/*
 * The far end's chain, DER, leaf first, as it sent it: up to max entries; pointers live as long as t. Returns the number.
 */
size_t tls_peer_chain(const struct tls_conn *t, struct svid_der *out, size_t max);

/*
 * After TLS_DONE. Read: >0 octets, 0 clean close (close_notify), -1 would block, -2 failed (or closed without close_notify).
 * Reads as many records as fit in len. Write: >0 octets taken (partial writes are on; buffer may move), -1 would block, -2 failed.
 * If a read wants a write or the other way round (KeyUpdate), it is reported as would-block and tls_wants() tells which.
 */
ssize_t tls_read(struct tls_conn *t, void *p, size_t len);
ssize_t tls_write(struct tls_conn *t, const void *p, size_t len);
/*
 * The same where more output follows at once: the kernel then fills its segments (MSG_MORE), 12 % of both sides' CPU in bulk. A single call with
 * more than a record does so by itself.
 */
ssize_t tls_write_more(struct tls_conn *t, const void *p, size_t len, bool more);
bool tls_wants_write(const struct tls_conn *t);
/*
 * Another tls_read() may give something that epoll will not announce: the last one stopped for want of room. False: it saw the socket
 * empty (safe with edge-triggered readiness, but for a FIN that was announced before).
 */
bool tls_pending(const struct tls_conn *t);
void tls_shutdown(struct tls_conn *t);                /* queue close_notify, best effort */

#endif
