/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's CA: a root that is meant to go offline and an issuing CA below it, both limited to URIs of the domain
 * (RFC 5280 4.2.1.10) and carrying its SPIFFE ID, kept in a store (pki/store.h). For gwctl and the ca role; gateways never link it.
 */
#ifndef PKI_CA_H
#define PKI_CA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"
#include "pki/pkey.h"

#define CA_ROOT_S (INT64_C(3650) * 86400)
#define CA_ISSUING_S (INT64_C(1095) * 86400)
#define CA_GATEWAY_S (INT64_C(90) * 86400)
#define CA_WORKLOAD_S INT64_C(86400)
#define CA_DNS_MAX 64          /* DNS names of one certificate */
#define CA_LOCK_MS 10000       /* how long to wait for another gwctl */

/* Makes a CA in dir, which may hold other things but no CA yet. 0, or -1 with faults and nothing changed. now: seconds since the epoch. */
int ca_init(const char *dir, const char *domain, enum pkey_alg alg, int64_t now, struct errs *errs);

/* An opened CA holds the store's lock and the issuing key. NULL with faults. */
struct ca;
struct ca *ca_open(const char *dir, struct errs *errs);
void ca_close(struct ca *ca);  /* wipes; NULL is a no-op */
const char *ca_domain(const struct ca *ca);

struct ca_request {
	const char *kind;        /* "gateway" or "workload": for the index and the default lifetime */
	const char *id;          /* SPIFFE ID of the CA's domain */
	const char *const *dns;  /* DNS names of an inside listener */
	size_t ndns;
	int64_t now, lifetime_s; /* lifetime_s 0: the default */
	const char *csr_pem;     /* PKCS#10 (RFC 2986): take its public key; NULL: make a key by alg */
	enum pkey_alg alg;
};
struct ca_issued {
	char *chain_pem;         /* leaf, then the issuing CA */
	char *key_pem;           /* NULL with a CSR */
	char serial[41];
	int64_t not_after;
	bool shortened;          /* the issuing CA ends before the lifetime asked for */
};
/* Signs, verifies as a gateway would, and records in the index before it returns 0. -1 with faults: nothing was issued. */
int ca_issue(struct ca *ca, const struct ca_request *r, struct ca_issued *out, struct errs *errs);
void ca_issued_fini(struct ca_issued *out);

/* The bundle that peers and our own gateways need: the root. Needs no key and no lock. mem_free(); NULL with faults. */
char *ca_bundle(const char *dir, struct errs *errs);

/* "spiffe://DOMAIN/gateway/NAME" or "spiffe://DOMAIN/NAME" of what an operator typed (a whole id of the domain is fine for both). NULL with *why; mem_free(). */
char *ca_id_of_name(const char *domain, const char *kind, const char *name, const char **why);

#endif
