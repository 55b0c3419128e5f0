/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairings: what accepting, updating and removing them does to the peers directory, where each of them has
 *
 *     <domain>.pem      the peer's CA bundle
 *     <domain>.conf     its entry for the "peers" list: sallyport.conf names the directory as peers_dir, or includes the file
 *     <domain>.pair     the file that was accepted, written last: what the next one is compared with
 *     <domain>.removed  after a removal: for each pairing key, how new the newest file was, so that none is accepted again
 */
#ifndef PKI_PAIRING_H
#define PKI_PAIRING_H

#include <stdbool.h>
#include <stdint.h>

#include "pki/pairfile.h"

enum pairing_result {
	PAIRING_OK,
	PAIRING_MALFORMED,
	PAIRING_ALTERED,
	PAIRING_OWN_DOMAIN,
	PAIRING_EXPIRED,       /* the file, or each CA in it */
	PAIRING_FROM_FUTURE,   /* made later than now: somebody's clock is wrong */
	PAIRING_WRONG_CODE,
	PAIRING_OTHER_KEY,     /* paired with this domain already, by another key */
	PAIRING_REPLAYED,      /* accepted before, or older than the one accepted last, also before a removal */
	PAIRING_IN_THE_WAY,    /* files that no pairing put there */
	PAIRING_IO,
	PAIRING_NOT_PAIRED,    /* there is no pairing to update or remove */
	PAIRING_NOT_VOUCHED,   /* a CA is new, and none that is trusted now has certified it */
	PAIRING_RESULTS,
};
const char *pairing_token(enum pairing_result r);  /* "wrong-code", … for scripts */

struct pairing_request {
	const char *text;         /* the file */
	size_t len;
	const char *code;
	const char *own_domain;
	const char *peers_dir;    /* made when it is not there */
	const char *bundle_dir;   /* what the entry's "bundle" has before "/<domain>.pem": "peers" */
	/* For the entry. If none of the three is given, and there is an entry, that is kept but for what the peer changed. */
	const char *name;         /* NULL: the first label of the domain */
	bool no_dial;             /* leave the addresses out: the peer dials us */
	bool reverse;             /* dial them for the peer's exchanges to us as well */
	int64_t now;
};
/* What was installed before, and what became of the entry. */
struct pairing_change {
	bool paired;              /* there was a pairing: before is it */
	struct pairfile before;
	char *before_pem;         /* the bundle as it was; NULL: none */
	char *entry;              /* the entry as it is now */
	bool entry_kept;          /* it was there and was changed in place, or not at all */
	char *by_hand;            /* what of it an operator changed, so that it was left, a line each; NULL: nothing */
};
void pairing_change_fini(struct pairing_change *c);
/* Everything but installing: what *out says is then true of the file. A fault (one) names the reason and the next step. */
enum pairing_result pairing_check(const struct pairing_request *r, struct pairfile *out, struct errs *errs);
/* The same, then installs. Nothing changes unless it returns PAIRING_OK. *out is the caller's to pairfile_fini() in every case. */
enum pairing_result pairing_accept(const struct pairing_request *r, struct pairfile *out, struct pairing_change *change, struct errs *errs);
/*
 * A newer file of a domain that is paired. No code, because the pairing key speaks for the gateways and addresses, and the CAs that are trusted now speak for
 * those that are new (svid_vouch.h): both must. r->code, name, no_dial and reverse are not used. Otherwise as pairing_accept().
 */
enum pairing_result pairing_update(const struct pairing_request *r, struct pairfile *out, struct pairing_change *change, struct errs *errs);
/* Takes the files of a pairing away; what stays is only what tells its files from new ones. */
enum pairing_result pairing_remove(const char *peers_dir, const char *domain, struct errs *errs);

/* What is installed. Texts and structs die with the call. */
struct pairing_installed {
	const char *domain;
	const struct pairfile *pair;   /* NULL: it cannot be read, and fault says why */
	const char *fault;
	const char *bundle_pem, *entry; /* NULL: not there */
	int64_t accepted;              /* seconds since the epoch */
};
typedef void pairing_installed_fn(void *ctx, const struct pairing_installed *i);
/* In the order of their domains. Their number, or -1 with a fault; a directory that does not exist has none. */
int pairing_each(const char *peers_dir, pairing_installed_fn *fn, void *ctx, struct errs *errs);

/* ---- pairing_entry.c ---- */
/* The entry for "peers", in libconfig syntax. mem_free(). */
char *pairing_entry(const struct pairing_request *r, const struct pairfile *p);
/*
 * An entry, with what differs between the two files changed in it where it still says what the first one said; the rest stays as the operator
 * has it. mem_free(). Lines into *by_hand (mem_free(); NULL: none) for what was to be changed and is not as it was written.
 */
char *pairing_entry_update(const char *entry, const struct pairfile *before, const struct pairfile *after, char **by_hand);
/* The value of "name" in an entry; NULL. mem_free(). */
char *pairing_entry_name(const char *entry);

#endif
