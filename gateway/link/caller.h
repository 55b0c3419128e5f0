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

struct caller {
	LIST_ENTRY(caller) entry;      /* in its hash bucket */
	uint32_t refs;
	uint32_t number;               /* small and unique among living callers: an index for per-link tables */
	enum policy_assurance assurance;
	char *id;                      /* SPIFFE ID; "" for nobody */
	size_t id_len;
	int peer;                      /* index in config.peers whose domain it belongs to; -1: ours */
	uint8_t key[32];               /* mtls: SHA-256 over its chain, by which it was interned; others by id */
	int64_t not_after;             /* mtls: seconds since the epoch; else INT64_MAX */
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
void caller_table_free(struct caller_table *t);
/* Called when the last reference goes, before the number is used again. */
void caller_table_on_free(struct caller_table *t, void (*fn)(void *ctx, struct caller *c), void *ctx);
unsigned caller_table_count(const struct caller_table *t);

/* A reference to the caller of this id and assurance (not mtls). peer: as in struct caller. */
struct caller *caller_get(struct caller_table *t, const char *id, size_t len, enum policy_assurance a, int peer);
/* A reference to the mtls caller of a verified chain (leaf first, DER). */
struct caller *caller_get_mtls(struct caller_table *t, const struct svid_info *info, const struct svid_der *chain, size_t n, int peer);
/* The same, if it was interned before: by the SHA-256 over the chain's DER. NULL when not. */
struct caller *caller_find_chain(struct caller_table *t, const struct svid_der *chain, size_t n, int peer);
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
