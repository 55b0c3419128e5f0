/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: TLS connections between two gateways (or a sidecar and its gateway) that carry exchanges as HTTP/2
 * streams. One link_set per worker holds them all.
 *
 *	link_set ── one link_peer per configured peer ── links: those that carry our exchanges there (we are
 *	            the HTTP/2 client) and those that carry the peer's here (we are the server)
 *
 * A link: DIALLING → HELLO → READY → DRAINING → gone; an accepted one starts at HELLO. The HTTP/2
 * client's first request is the hello, on the reserved control authority; the answer tells the worker that
 * was reached. A client link takes exchanges from READY on, until it is DRAINING.
 */
#ifndef GATEWAY_LINK_LINK_H
#define GATEWAY_LINK_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/ring.h"
#include "gateway/base/buf.h"
#include "gateway/base/uuid.h"
#include "gateway/config/config.h"
#include "gateway/http2/session.h"
#include "gateway/link/caller.h"
#include "gateway/tls/tls.h"

/* RFC 6761 6.4: ".invalid" never resolves. Ingress refuses it; only links from a configured gateway reach it. */
#define LINK_CONTROL_AUTHORITY "control.sallyport.invalid"

struct link;
struct link_set;
struct link_call;

struct link_env {
	struct loop *loop;
	const struct config *config;     /* outlives the set */
	struct tls_env *tls;             /* referenced */
	struct svid_bundle *const *bundles; /* as in tls_env_config: [0] ours, [1 + i] of peers[i] (an uplink's is ours); borrowed */
	size_t nbundles;
	struct caller_table *callers;
	struct ring *ring;
	uint32_t worker, workers, instance;
	uint8_t *scratch;                /* the worker's reading buffer */
	size_t scratch_size;
	/* A peer's exchange arrived: who calls is known and verified; id is fresh. The callee sets s->leg.ev. */
	void (*on_exchange)(void *ctx, struct link *l, struct h2_stream *s, const struct leg_head *head, const struct link_call *call);
	/* A link that takes exchanges became ready, for those who wait: peer's index. */
	void (*on_ready)(void *ctx, int peer);
	/*
	 * A newer CRL of the peer came over a link and is in its bundle: for the other workers, and to judge again what runs. pem: all that is known; NULL: nothing
	 * new, but a list that is required ran out.
	 */
	void (*on_crl)(void *ctx, int peer, const char *pem, size_t len);
	/* Links are about to be cut (link_cut_reason), or a peer is barred (link_peer_refusal): their exchanges, parked ones too, end first. */
	void (*on_cut)(void *ctx);
	/* Ask the other workers for a newer certificate of this id; link_take_chain() with what they know. NULL: there are none. */
	void (*on_want)(void *ctx, const char *id);
	void *ctx;
};

/* What travels with an exchange beside its head. */
struct link_call {
	struct caller *caller;           /* a reference of the caller's: borrowed for the call */
	struct uuid id;
	unsigned attempt;
	const char *refusal;             /* received ones: why it must not go on ("unknown-slot", "untrusted", …), or NULL */
	unsigned refusal_status;         /* HTTP status to answer then */
	const char *refusal_id;          /* the principal that was claimed, for the journal; "" when none */
};

struct link_set *link_set_new(const struct link_env *env);
void link_set_start(struct link_set *s);            /* begin to dial */
/* GOAWAY on all, dial no more; on_empty when the last link is gone. */
void link_set_drain(struct link_set *s, void (*on_empty)(void *ctx));
void link_set_free(struct link_set *s);
unsigned link_set_count(const struct link_set *s);
/* CRLs were added to bundles, ours or a peer's, or a bundle took another's place: seen within a second anyway, now at once. */
void link_crls_changed(struct link_set *s);

/*
 * A connection whose TLS handshake is done and whose certificate is one of peers[peer].gateways: it becomes a link. Takes
 * the conn (heap memory of its own) with its layer.
 */
void link_accept(struct link_set *s, int peer, struct conn *c, struct tls_conn *tls, const struct addr *from);
/* The peer whose configured gateways contain this id, or -1. */
int link_peer_of(const struct config *c, const char *id);

/* ---- exchanges out ---- */

/* May an exchange to this peer start now? */
bool link_ready(const struct link_set *s, int peer);
/*
 * Start an exchange on the best link of this peer but "avoid". head's bytes and mem (LINK_CALL_MEM bytes) must last until the response's
 * head or on_abort. NULL: no link can take it. Sets l's events. Hop-by-hop fields of head are left out.
 */
#define LINK_CALL_MEM 128
struct leg *link_exchange(struct link_set *s, int peer, const struct link *avoid, const struct leg_head *head,
    const struct link_call *call, char *mem, const struct leg_events *ev, void *x);
struct link *link_of_leg(struct leg *l);
/* In on_abort, unsent: the content that the leg was given, if none of it has left (gateway/http2/session.h). */
bool link_take_back(struct leg *l, struct outq *to);
/* The response's head came and it was not about the slot: from now on the slot stands for the chain. */
void link_confirm(struct leg *l, struct caller *c);
/* The far end does not know the slot (it answered LINK_STATUS_SLOT): send the chain again. */
void link_forget_slot(struct leg *l, struct caller *c);
#define LINK_STATUS_SLOT 421
/* Our own name for what a gateway says about its answer: "sallyport-error". NULL when the response is the service's own. */
const char *link_error(const struct leg_head *response, uint32_t *len);

/* The id that our own domain's gateway gave to a sidecar's exchange; false when it told none. */
bool link_exchange_id(const struct leg_head *response, struct uuid *id);

/* ---- trust that changes ---- */

#define LINK_TICK_MS 500
/*
 * env->config, env->bundles (replaced in place) or CRLs within changed. tls: the env for new connections, the old one if it is the same; new_cas: by bundle,
 * are its CAs others than before? NULL: none. renewed: our own certificate is another, links are made anew. Links that may no longer be are cut
 * before this returns.
 */
void link_set_trust(struct link_set *s, struct tls_env *tls, const bool *new_cas, bool renewed);
/* Every LINK_TICK_MS: certificates and CRLs that end. True: callers are to be judged again. */
bool link_set_tick(struct link_set *s);
/* Why this caller must do nothing now ("expired", "revoked", "untrusted", "severed", …; static), judged anew if trust changed since; NULL: it may. */
const char *link_caller_refusal(struct link_set *s, struct caller *c);
/* The same for a peer as a whole: "severed", "peer-removed"; NULL: exchanges may go there. */
const char *link_peer_refusal(const struct link_set *s, int peer);
/*
 * A good caller of the same id as c that lasts longer, remembered in c, or NULL; siblings are asked for one when that is due. *wait: c ended just now, and they
 * or the far gateway may still tell us of one.
 */
struct caller *link_successor(struct link_set *s, struct caller *c, bool server_too, bool *wait);
/* So many seconds before c's end its successor is wanted. */
int64_t link_notice_s(const struct caller *c);
/* Keep a caller that was seen just now, so that a sibling that needs it can have it. */
void link_remember(struct link_set *s, struct caller *c);
/* A chain that a sibling knows (unverified): it becomes a caller, if it is good. */
void link_take_chain(struct link_set *s, const struct svid_der *chain, size_t n);
/* A good chain of this id, for a sibling: number of certificates, 0 none. mem: SVID_MAX_BYTES. */
size_t link_find_chain(struct link_set *s, const char *id, size_t len, uint8_t *mem, struct svid_der out[SVID_MAX_CHAIN]);
/* Exchanges of an older certificate's caller run on this leg's link: tell the far gateway the newer one, once. False: it cannot be told now. */
bool link_vouch(struct leg *l, struct caller *newer);
/* Why this link is being cut, or NULL. */
const char *link_cut_reason(const struct link *l);

const char *link_gateway(const struct link *l);     /* the far gateway's id */
/* What stands in Via for the gateway (or sidecar) with this id: "1.1 dmz1.hud.example" (RFC 9110 7.6.3). The caller's. */
char *link_via_of(const char *id);
const char *link_via(const struct link *l);         /* the same for the far gateway; the link's */
uint32_t link_number(const struct link *l);
int link_peer(const struct link *l);

/* JSON array of links, for status. */
void link_status(const struct link_set *s, struct buf *out);
/* JSON array: why the last link of a peer failed, of those of whom none came up since. */
void link_failures(const struct link_set *s, struct buf *out);

#endif
