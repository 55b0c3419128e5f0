/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's CA: a root that is meant to go offline and an issuing CA below it, both limited to URIs of the domain
 * (RFC 5280 4.2.1.10) and carrying its SPIFFE ID, kept in a store (pki/store.h). For gwctl and the ca role; gateways never link it.
 *
 * While a CA is replaced (ca_rotate_*) there are two: the one that issues, and one that is about to or used to.
 */
#ifndef PKI_CA_H
#define PKI_CA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"
#include "pki/csr.h"
#include "pki/pkey.h"

#define CA_ROOT_S (INT64_C(3650) * 86400)
#define CA_ISSUING_S (INT64_C(1095) * 86400)
#define CA_GATEWAY_S (INT64_C(90) * 86400)
#define CA_WORKLOAD_S INT64_C(86400)
#define CA_BACKDATE_S 300      /* leaves and CRLs begin so long before they are made: a peer's clock may be behind ours */
#define CA_CRL_S (INT64_C(7) * 86400)
#define CA_DNS_MAX 64          /* DNS names of one certificate */
#define CA_LOCK_MS 10000       /* how long to wait for another gwctl */
#define CA_SERIAL_MAX 40       /* hex digits */

/* -- making and opening ---------------------------------------------------------------------------- */

/* Where private keys are, and what they are encrypted with. NULL members: nothing special. */
struct ca_keys {
	const char *passphrase;
	const char *root_key;      /* a file: the root's key was moved out of the store */
};

/*
 * Makes a CA in dir, which may hold other things but no CA yet. keys NULL or without a passphrase: key files are not encrypted (but 0600).
 * 0, or -1 with faults and nothing changed. now: seconds since the epoch.
 */
int ca_init(const char *dir, const char *domain, enum pkey_alg alg, const struct ca_keys *keys, int64_t now, struct errs *errs);

/* Whether ca_open() will need a passphrase, so that it can be asked for before others have to wait. false also where there is no CA. */
bool ca_encrypted(const char *dir, const struct ca_keys *keys);

/* An opened CA holds the store's lock and the issuing key. keys may be NULL; its passphrase is copied. NULL with faults. */
struct ca;
struct ca *ca_open(const char *dir, const struct ca_keys *keys, struct errs *errs);
void ca_close(struct ca *ca);  /* wipes; NULL is a no-op */
const char *ca_domain(const struct ca *ca);
/* Of the CA that issues: its certificate, and its end. The text is the CA's, until it is locked again or closed. */
const char *ca_issuing_pem(const struct ca *ca);
int64_t ca_issuing_end(const struct ca *ca);
/*
 * For one that stays open (the ca role): give the lock to others, and take it again, with what they did meanwhile. Between the two nothing else
 * of this header may be called with it. ca_lock: 0, or -1 with faults (and still unlocked).
 */
void ca_unlock(struct ca *ca);
int ca_lock(struct ca *ca, struct errs *errs);

/* -- issuing --------------------------------------------------------------------------------------- */

struct ca_request {
	const char *kind;        /* "gateway" or "workload": for the books and the default lifetime */
	const char *id;          /* SPIFFE ID of the CA's domain */
	const char *const *dns;  /* DNS names of an inside listener */
	size_t ndns;
	int64_t now, lifetime_s; /* lifetime_s 0: the default; from one minute up */
	const char *csr_pem;     /* PKCS#10 text: take its public key; or one already read: */
	const struct csr *csr;   /* both NULL: make a key by alg */
	struct evp_pkey_st *key; /* or this key, whose public half alone is used; borrowed */
	enum pkey_alg alg;
	const char *how;         /* for the books: "operator" (also NULL), "token", "renewal" */
	const char *predecessor; /* serial of the certificate that this one replaces, or NULL; must be in the books with the same id */
};
struct ca_issued {
	char *chain_pem;         /* leaf, then the issuing CA */
	char *key_pem;           /* NULL unless the key was made here */
	char serial[CA_SERIAL_MAX + 1];
	int64_t not_after;
	bool shortened;          /* the issuing CA ends before the lifetime asked for */
};
/* Signs, verifies as a gateway would, and records in the index before it returns 0. -1 with faults: nothing was issued. */
int ca_issue(struct ca *ca, const struct ca_request *r, struct ca_issued *out, struct errs *errs);
void ca_issued_fini(struct ca_issued *out);

/* "spiffe://DOMAIN/gateway/NAME" or "spiffe://DOMAIN/NAME" of what an operator typed (a whole id of the domain is fine for both). NULL with *why; mem_free(). */
char *ca_id_of_name(const char *domain, const char *kind, const char *name, const char **why);
/* What is wrong with a DNS name in a certificate (static), or NULL. */
const char *ca_dns_fault(const char *name);

/* -- the books ------------------------------------------------------------------------------------- */

enum ca_state {
	CA_VALID, CA_NOT_YET_VALID, CA_EXPIRED, CA_REVOKED,
	CA_SUPERSEDED,  /* in force, and another was issued in its place */
	CA_RETIRED,     /* of a CA that was replaced and is out of the bundle: good for nobody */
	CA_STATES,
};
const char *ca_state_text(enum ca_state s); /* "valid", "not-yet-valid", … */

/* What the books say of one certificate. Texts are the CA's, and live until it is closed, locked again, or issues or revokes. */
struct ca_entry {
	const char *serial;        /* hex, lower case */
	const char *kind;          /* "root", "issuing", "gateway", "workload" */
	const char *id;
	const char *issuer;        /* serial of the CA that signed it; its own for a root */
	const char *how;           /* "operator", "token", "renewal" */
	const char *predecessor;   /* serial, or NULL */
	const char *dns;           /* "a.example,b.example"; "" */
	int64_t not_before, not_after;
	enum ca_state state;       /* now; CA_REVOKED whether it has ended or not */
	int64_t revoked_at;        /* with CA_REVOKED */
	const char *reason;        /* with CA_REVOKED: "keyCompromise", … */
};
/* By serial (hex in either case, colons allowed). 0, or -1: this CA never issued it. */
int ca_find(const struct ca *ca, const char *serial, int64_t now, struct ca_entry *out);
/* What was issued last with this predecessor and is not revoked, expired or not. 0, or -1: nothing. */
int ca_successor_of(const struct ca *ca, const char *serial, int64_t now, struct ca_entry *out);
bool ca_is_revoked(const struct ca *ca, const char *serial);
/* Every certificate, or (id not NULL) every one of an id, oldest first. */
typedef void ca_entry_fn(void *ctx, const struct ca_entry *e);
void ca_each(const struct ca *ca, const char *id, int64_t now, ca_entry_fn *on_entry, void *ctx);
/* The same from the files alone: no lock, no key. 0, or -1 with faults. */
int ca_list(const char *dir, int64_t now, ca_entry_fn *on_entry, void *ctx, struct errs *errs);

/* -- revoking (RFC 5280 5) -------------------------------------------------------------------------- */

/* The name as RFC 5280 5.3.1 spells it, of text in any case; NULL: unknown, or of no use here (removeFromCRL). */
const char *ca_reason(const char *text);
extern const char *const ca_reasons[];      /* all of them, NULL at the end */
/*
 * Revokes (those that are revoked already stay as they are) and publishes a CRL: all of the certificates or none. The revocations are on disk before this
 * returns 0; also with -1 where ca_is_revoked() then says so and only the CRL could not be written. An issuing CA's serial needs the root's key.
 */
int ca_revoke(struct ca *ca, const char *const *serials, size_t n, const char *reason, const struct ca_keys *keys, int64_t now, struct errs *errs);
/* Writes DIR/<domain>.crl: a CRL of each CA whose certificates may be in use. lifetime_s 0: CA_CRL_S. With_root: a new one of the root, too (needs its key). */
struct ca_crl_request {
	int64_t now, lifetime_s;
	bool with_root;
	const struct ca_keys *keys;
};
struct ca_crl_done {
	char *path;                 /* mem_free() */
	size_t revoked;             /* entries, over all CRLs */
	int64_t next_update;
	char number[24];            /* hex: of the issuing CA's */
};
int ca_crl(struct ca *ca, const struct ca_crl_request *r, struct ca_crl_done *out, struct errs *errs);
/*
 * For one that runs: where there is a DIR/<domain>.crl that is past half of its life, a new one for as long. *until: when what is there then runs out, 0: there is
 * none, and none is made. 1 made, 0 nothing to do, -1 with faults.
 */
int ca_crl_keep(struct ca *ca, int64_t now, int64_t *until, struct errs *errs);

/* -- what others need to trust this domain ------------------------------------------------------------ */

/* The bundle: the root, or both roots while the CA is replaced. Needs no key and no lock. mem_free(); NULL with faults. */
char *ca_bundle(const char *dir, struct errs *errs);
/* The same as SPIFFE Trust Domain and Bundle 4 has it (a JWK set). refresh_hint_s 0: one day. */
char *ca_bundle_jwks(const char *dir, int64_t refresh_hint_s, struct errs *errs);
/*
 * While the CA is replaced: the new root's key certified by the old root's (RFC 4210 4.4, "new with old"), PEM. Who trusts the old root can check the
 * new one by it. mem_free(); NULL when there is none (a fault only where it should be and cannot be read).
 */
char *ca_cross_pem(const char *dir, struct errs *errs);

/* -- replacing the CA -------------------------------------------------------------------------------- */

enum ca_rotation {
	CA_ROTATION_NONE,
	CA_ROTATION_BEGUN,      /* the bundle has both; the old one issues */
	CA_ROTATION_SWITCHED,   /* the bundle has both; the new one issues */
};
struct ca_rotation_status {
	enum ca_rotation state;
	char old_issuing[CA_SERIAL_MAX + 1], new_issuing[CA_SERIAL_MAX + 1]; /* serials; "" without a rotation */
	size_t live;            /* certificates of the old CA that are in force */
	size_t live_superseded; /* of these: those that were issued anew by the new one */
};
int ca_rotation_status(const char *dir, int64_t now, struct ca_rotation_status *out, struct errs *errs);
/* Each is whole or did not happen, and says so when it was done before. Needs the old root's key at begin. */
int ca_rotate_begin(struct ca *ca, enum pkey_alg alg, const struct ca_keys *keys, int64_t now, struct errs *errs);
int ca_rotate_switch(struct ca *ca, const struct ca_keys *keys, int64_t now, struct errs *errs);
int ca_rotate_retire(struct ca *ca, bool force, int64_t now, struct errs *errs);

#endif
