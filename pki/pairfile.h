/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairing files: what one domain tells another to be paired with it. A flattened JWS (RFC 7515 7.2.2) whose payload is
 * not encoded (RFC 7797), so that people can read it, signed with Ed25519 (RFC 8037), whose key stands in the protected header: the
 * file proves that one key wrote all of it, and the code that two operators compare by phone proves which file that was.
 *
 * The code: SHA-256 over "sallyport pairing code 1", a zero octet and the JWS signing input (header with the key, then the
 * payload), as six groups of five digits: 99 bits, easy to say in any language.
 */
#ifndef PKI_PAIRFILE_H
#define PKI_PAIRFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"

#define PAIRFILE_MAX (256 * 1024)   /* octets of a file */
#define PAIRFILE_LIST_MAX 64        /* gateways, addresses */
#define PAIRFILE_LIFETIME_S (INT64_C(7) * 86400)
#define PAIRFILE_CODE_LEN 35        /* 12345-67890-… */
#define PAIRFILE_SKEW_S 300         /* how far the writer's clock may be ahead */

struct pairfile {
	char *domain;
	char **gateways;                /* SPIFFE IDs under gateway/ of the domain */
	size_t ngateways;
	char **addresses;               /* "203.0.113.20:443"; may be empty where only the reader is dialled */
	size_t naddresses;
	char *bundle_pem;
	char *cross_pem;                /* while the CA is replaced: its new root's key certified by the old root's; NULL. See svid_vouch.h */
	int64_t created, expires;       /* seconds since the epoch */
	uint8_t key[32];                /* the pairing key that signed it */
	char code[PAIRFILE_CODE_LEN + 1];
};
void pairfile_fini(struct pairfile *p);

/* What makes a pairing impossible whoever signs it (domain, ids, addresses, bundle, cross certificates, dates), or NULL. Static text. */
const char *pairfile_fault(const struct pairfile *p);

struct evp_pkey_st;
/* The file's text; fills p->key and p->code. p must be free of faults. mem_free(). */
char *pairfile_write(struct pairfile *p, struct evp_pkey_st *key);
enum pairfile_status { PAIRFILE_OK, PAIRFILE_MALFORMED, PAIRFILE_ALTERED /* the signature does not fit */ };
/* Into *out, which is empty unless PAIRFILE_OK. *why is static. Time is not checked. */
enum pairfile_status pairfile_read(struct pairfile *out, const char *text, size_t len, const char **why);
/* What an operator typed, in constant time; blanks and dashes do not count. */
bool pairfile_code_matches(const struct pairfile *p, const char *typed);

/* The pairing key of a store, made at first use (under the store's lock). NULL with faults; pkey_free(). */
struct evp_pkey_st *pairfile_key(const char *dir, struct errs *errs);

#endif
