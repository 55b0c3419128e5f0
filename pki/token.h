/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enrolment tokens: what an operator makes for one name, and what lets whoever has it get one certificate for that name, once. And what was handed
 * out for a token, or in renewal of a certificate, so that an answer that was lost can be given again.
 *
 *     DIR/enrol/tokens/ID-NAME-EXPIRY     one per token: 16 and 32 hex digits, seconds since the epoch
 *     DIR/enrol/renewed/EXPIRY-SERIAL     one per certificate that was renewed
 *
 * A token itself is nowhere but with its bearer: NAME and the file's "key" are different hashes of it. Files are swept when they expired.
 * There are two ways to show a token. As it is: the password of HTTP Basic authentication. Or as a proof, in the attribute challengePassword of
 * the request (RFC 2985 5.4.1), by which nobody can get a certificate for another key (token_proof()).
 */
#ifndef PKI_TOKEN_H
#define PKI_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"
#include "pki/digest.h"
#include "pki/store.h"

#define TOKEN_SIZE 40             /* of a token's text with its NUL */
#define TOKEN_PROOF_SIZE 44       /* of a proof's text with its NUL */
#define TOKEN_LIVE_MAX 1000       /* tokens that can be used */
#define TOKEN_FILES_MAX 10000     /* and those that were, until they expire */
#define TOKEN_DNS_MAX 64
#define TOKEN_TTL_MIN_S 1
#define TOKEN_TTL_MAX_S (INT64_C(30) * 86400)
#define TOKEN_TTL_S 600

/* -- for bearers: no store ------------------------------------------------------------------------- */

/*
 * base64url (RFC 4648 5) without padding of HMAC-SHA-256 over "sallyport enrolment 1", a zero octet and the SubjectPublicKeyInfo of the request in DER; its key is
 * SHA-256 over "sallyport enrolment token 1", a zero octet and the token.
 */
void token_proof(char out[TOKEN_PROOF_SIZE], const char *token, const uint8_t *spki, size_t spki_len);

/* -- tokens in a store, under its lock --------------------------------------------------------------- */

struct token {
	uint8_t key[DIGEST_SHA256_LEN];  /* what proofs are made with; of a renewal zeros */
	char *id;
	char **dns;                      /* the names that may be asked for */
	size_t ndns;
	int64_t expires;
	bool used;                       /* the rest is set then: */
	uint8_t spki[DIGEST_SHA256_LEN]; /* hash of the SubjectPublicKeyInfo that it was used with */
	char *serial;
	char *chain_pem;                 /* what was handed out */
	/* private */
	char *path;
};
void token_free(struct token *t);   /* wipes; NULL is a no-op */

/* A new one for a workload's id (or its name in the domain). 0 with the token's text and *id (mem_free()), or -1 with faults. */
struct token_wish {
	const char *domain;
	const char *name;
	const char *const *dns;
	size_t ndns;
	int64_t now, ttl_s;
};
int token_make(const struct store *s, const struct token_wish *w, char out[TOKEN_SIZE], char **id, struct errs *errs);

/* The token that was shown, expired ones too; NULL: there is none. Compared in constant time. */
struct token *token_by_password(const struct store *s, const void *password, size_t len);
/* Of the id's tokens the one with which this proof was made. */
struct token *token_by_proof(const struct store *s, const char *id, const char *proof, const uint8_t *spki, size_t spki_len);
/* What the renewal of a certificate gave; NULL: nothing did, or, with *damaged, it cannot be read. */
struct token *token_by_renewal(const struct store *s, const char *serial, int64_t not_after, bool *damaged);
/* The same, before it is used: token_used() writes it. */
struct token *token_for_renewal(const struct store *s, const char *serial, const char *id, int64_t not_after);

/*
 * From now on it is used: on disk when this returns 0. The certificate must not leave before. t is changed with it. -1 with faults: it is unused as before, or,
 * when the disk failed at the end, used.
 */
int token_use(const struct store *s, struct token *t, const uint8_t spki[DIGEST_SHA256_LEN], const char *serial, const char *chain_pem, struct errs *errs);

/* Removes what expired; the number of live tokens. */
size_t token_sweep(const struct store *s, int64_t now);

/* -- the file's text: for token.c and its tests --------------------------------------------------------- */

#define TOKEN_FILE_MAX 65536
struct buf;
void token_format(const struct token *t, struct buf *out);
/* NULL with *why (static). */
struct token *token_parse(const char *text, size_t len, const char **why);

#endif
