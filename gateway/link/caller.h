/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callers: who is calling, interned once per worker, so that an exchange names one by pointer. Many
 * connections of one workload, and many exchanges over a link, share one caller.
 */
#ifndef GATEWAY_LINK_CALLER_H
#define GATEWAY_LINK_CALLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/queue.h"
#include "pki/svid.h"
#include "policy/policy.h"

struct ingress_client;
LIST_HEAD(caller_connections, ingress_client);

struct caller {
	LIST_ENTRY(caller) entry;      /* in its hash bucket */
	LIST_ENTRY(caller) same_id;    /* mtls: in that of its id */
	uint32_t refs;
	uint32_t number;               /* small and unique among living callers: an index for per-link tables */
	enum policy_assurance assurance;
	char *id;                      /* SPIFFE ID; "" for nobody */
	size_t id_len;
	int peer;                      /* index in config.peers whose domain it belongs to; -1: ours */
	uint8_t key[32];               /* mtls: SHA-256 over its chain, by which it was interned; others by id */
	int64_t not_before, not_after; /* mtls: seconds since the epoch; else INT64_MAX */
	int64_t good_until;            /* past this it may do nothing before link_caller_refusal() was asked: not_after and the skew allowed, or long ago */
	const char *refusal;           /* mtls: what was found against it when it was last judged, static; NULL */
	uint32_t trust;                /* caller_table_trust() then; 0: judge it from scratch */
	bool server;                   /* it proved itself as a TLS server: no exchange is its */
	/* mtls: what depends on it */
	uint32_t links;                /* whose far end it is */
	struct caller_connections connections; /* from callers of our own (gateway/exchange/ingress.h) */
	struct caller *newer;          /* of the same id, good for longer: a reference, while something depends on this one */
	uint64_t asked_ms;             /* when the other workers were asked for that one; 0: never */
	const char *cut;               /* while exchanges are looked through: they end, and why; static */
	bool rebind;                   /* or go on as those of "newer" */
	char *cert_text;               /* mtls: serial and SHA-256 for the journal; NULL */
	/* mtls: RFC 9440 values, made with it: a Byte Sequence, and a List of them */
	char *client_cert, *client_cert_chain;
	size_t client_cert_len, client_cert_chain_len;
	/* the class in the policy generation it was looked up in */
	uint32_t policy_class;
	uint64_t policy_generation;
	/* case 92: cancelled exchanges of this principal */
	uint64_t cancel_second;
	uint32_t cancels;
	uint32_t active;               /* exchanges that run */
};

struct caller_table;
struct caller_table *caller_table_new(void);
/* How long after its certificate's end a caller is still good; before any is made. */
void caller_table_skew(struct caller_table *t, int64_t seconds);
void caller_table_free(struct caller_table *t);
/* Called when the last reference goes, before the number is used again. */
void caller_table_on_free(struct caller_table *t, void (*fn)(void *ctx, struct caller *c), void *ctx);
unsigned caller_table_count(const struct caller_table *t);

/* A reference to the caller of this id and assurance (not mtls). peer: as in struct caller. */
struct caller *caller_get(struct caller_table *t, const char *id, size_t len, enum policy_assurance a, int peer);
/* A reference to the mtls caller of a verified chain (leaf first, DER). */
struct caller *caller_get_mtls(struct caller_table *t, const struct svid_info *info, const struct svid_der *chain, size_t n, int peer);
/* The same for the far end of a link; server: it was verified as one, and is not to be taken for a caller. */
struct caller *caller_get_far(struct caller_table *t, const struct svid_info *info, const struct svid_der *chain, size_t n, int peer, bool server);
/* The same, if it was interned before: by the SHA-256 over the chain's DER. NULL when not. */
struct caller *caller_find_chain(struct caller_table *t, const struct svid_der *chain, size_t n, int peer);

/* ---- judged again ---- */

/* What is trusted changed: each mtls caller is to be judged before it does anything more. */
void caller_table_distrust(struct caller_table *t);
uint32_t caller_table_trust(const struct caller_table *t); /* counts those changes, from 1 */
/* This one was made of a chain that was verified before the last change. */
void caller_doubt(struct caller *c);
/* It was judged by what is trusted now. refusal: static, or NULL; until: its chain's end. */
void caller_judged(struct caller_table *t, struct caller *c, const char *refusal, int64_t until);
/* Something runs that depends on it. */
bool caller_used(const struct caller *c);
/* The mtls callers of this id one after the other; after NULL: the first. NULL: there is none left. */
struct caller *caller_of_id(struct caller_table *t, const char *id, size_t len, const struct caller *after);
/* Remember "newer" in c, if it lasts longer than what is remembered. */
void caller_follow(struct caller_table *t, struct caller *c, struct caller *newer);
void caller_unfollow(struct caller_table *t, struct caller *c);
/*
 * Calls fn for mtls callers from *cursor on, about "max" of them, and moves *cursor; it is 0 again when all were seen. fn may do anything
 * to callers, of which those that come meanwhile may be missed.
 */
void caller_table_visit(struct caller_table *t, unsigned *cursor, unsigned max, void (*fn)(void *ctx, struct caller *c), void *ctx);
/* Its chain as DER again, in mem (SVID_MAX_BYTES); the number of certificates. */
size_t caller_chain(const struct caller *c, uint8_t *mem, struct svid_der out[SVID_MAX_CHAIN]);

struct caller *caller_ref(struct caller *c);
void caller_unref(struct caller_table *t, struct caller *c); /* NULL is a no-op */

uint32_t caller_class(struct caller *c, const struct policy *p);
/* Count a cancelled exchange; true while this caller is over "max" a second. */
void caller_cancelled(struct caller *c, uint64_t now_ms);
bool caller_over(const struct caller *c, uint64_t now_ms, uint32_t max);

/*
 * RFC 9440: Client-Cert and Client-Cert-Chain back to DER, into mem (cap bytes). Returns the number of certificates, or -1 when
 * malformed or too large.
 */
int caller_parse_cert(const char *cert, size_t cert_len, const char *chain, size_t chain_len, uint8_t *mem, size_t cap,
    struct svid_der *out, size_t max);

#endif
