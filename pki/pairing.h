/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepting a pairing file. An accepted one leaves, in the peers directory:
 *
 *     <domain>.pem    the peer's CA bundle
 *     <domain>.conf   its entry for the "peers" list of sallyport.conf, to be pasted or included
 *     <domain>.pair   the file itself, written last: what the next one is compared with
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
	PAIRING_EXPIRED,
	PAIRING_FROM_FUTURE,   /* made later than now: somebody's clock is wrong */
	PAIRING_WRONG_CODE,
	PAIRING_OTHER_KEY,     /* paired with this domain already, by another key */
	PAIRING_REPLAYED,      /* accepted before, or older than the one accepted last */
	PAIRING_IN_THE_WAY,    /* files that no pairing put there */
	PAIRING_IO,
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
	const char *name;         /* NULL: the first label of the domain */
	bool no_dial;             /* leave the addresses out: the peer dials us */
	bool reverse;             /* dial them for the peer's exchanges to us as well */
	int64_t now;
};
/* Everything but installing: what *out says is then true of the file. A fault (one) names the reason and the next step. */
enum pairing_result pairing_check(const struct pairing_request *r, struct pairfile *out, struct errs *errs);
/* The same, then installs. Nothing changes unless it returns PAIRING_OK. *out is the caller's to pairfile_fini() in every case. */
enum pairing_result pairing_accept(const struct pairing_request *r, struct pairfile *out, struct errs *errs);
/* The entry for "peers", in libconfig syntax. mem_free(). */
char *pairing_entry(const struct pairing_request *r, const struct pairfile *p);

#endif
