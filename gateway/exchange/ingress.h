/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingress: listeners, the connections they accept, and who is behind each. A connection is counted and
 * bounded here from accept to close, whatever protocol it turns out to speak. Private to this folder, but for
 * ingress_new() and what follows it.
 */
#ifndef GATEWAY_EXCHANGE_INGRESS_H
#define GATEWAY_EXCHANGE_INGRESS_H

#include "gateway/exchange/exchange.h"
#include "gateway/tls/tls.h"

struct ingress;
struct ingress_listener {
	struct ingress *ingress;
	const struct config_listener *cfg;
	struct caller **clients;       /* by cfg->clients */
	int fd;
	struct io io;
	uint16_t default_port;         /* of an authority without one */
};

/* What may be asked of a connection whose caller proved itself by certificate. */
struct ingress_client;
struct ingress_kind {
	bool (*busy)(const struct ingress_client *c);   /* exchanges run on it */
	void (*retire)(struct ingress_client *c);       /* take no more of them; end when none is left */
	void (*cut)(struct ingress_client *c, const char *why); /* end now */
};

/* What is known of an accepted connection; embedded in whatever handles it. */
struct ingress_client {
	LIST_ENTRY(ingress_client) same_caller; /* in caller.connections, if kind is set */
	const struct ingress_kind *kind;
	struct ingress_listener *listener;
	struct caller *caller;         /* a reference */
	uint64_t source;               /* key in the table of sources; 0: not counted */
	uint32_t uid;
	struct addr from;
};

struct ingress {
	struct gate *gate;
	struct ingress_listener *listeners;
	size_t n;
	unsigned connections, handshakes;
	struct source *sources;        /* hash table: connections and handshakes by address */
	size_t nsources, source_cap;
	struct loop_timer resume;      /* accepting was paused: out of descriptors or over the limit */
	bool paused, stopped;
	struct deadline_queue *q_handshake, *q_keepalive, *q_head, *q_body, *q_linger, *q_parting, *q_keepalive_h2, *q_parting_h2;
	uint64_t accepted, refused;
	void (*on_empty)(void *ctx);   /* draining: the last connection closed */
	void *ctx;
	LIST_HEAD(, h1_ingress) h1;
	LIST_HEAD(, h2_ingress) h2;
};

/* Takes the descriptors: fds[i] listens for config.listeners[index[i]]. */
struct ingress *ingress_new(struct gate *g, const int *fds, const unsigned *index, size_t n);
/* Stop accepting; connections finish what they do and close. on_empty when none is left. */
void ingress_drain(struct ingress *in, void (*on_empty)(void *ctx), void *ctx);
void ingress_free(struct ingress *in);

/* ---- for the protocols ---- */

/* The connection is gone: uncount it, drop its caller. */
void ingress_gone(struct ingress_client *c);
/* At its last place in memory: found by its caller from now on, if that is an mtls one. */
void ingress_attach(struct ingress_client *c, const struct ingress_kind *kind);
/* The connection is another certificate's of the same principal from now on. */
void ingress_rebind(struct ingress_client *c, struct caller *to);
/* on_close, before ingress_gone(): what a client did wrong within TLS after its handshake goes into the journal and the log. tls may be NULL. */
void ingress_tls_lost(const struct ingress_client *c, const struct tls_conn *tls);
/* Each takes the conn and moves *client; TLS: tls is the conn's layer, else NULL. */
void h1_ingress_start(struct conn *c, struct ingress_client *client, struct tls_conn *tls);
void h2_ingress_start(struct conn *c, struct ingress_client *client, struct tls_conn *tls);
void tcp_ingress_start(struct conn *c, struct ingress_client *client);
void h1_ingress_drain(struct ingress *in);
void h2_ingress_drain(struct ingress *in);
deadline_fn h1_on_keepalive, h1_on_head_limit, h1_on_body_limit, h1_on_linger, h2_on_keepalive;
/* SNI and authority must name one host on a terminated listener (case 50): false when they differ. */
bool ingress_sni_ok(const struct gate *g, const char *sni, const struct leg_head *h);

#endif
