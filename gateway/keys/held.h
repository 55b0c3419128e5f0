/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keys role holds: private keys, several to a number while one replaces another, and for each number the current certificate, which says what
 * a certificate request may say.
 */
#ifndef GATEWAY_KEYS_HELD_H
#define GATEWAY_KEYS_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/keys/ident.h"

#define KEYS_HELD_MAX 64
#define KEYS_HELD_PER_NUMBER 4 /* the newest */

struct evp_pkey_st;
struct evp_md_ctx_st;
struct x509_st;

struct keys_held_key {
	uint16_t number;
	bool hsm;                 /* pkey is the public part; hsm.h signs */
	enum keys_type type;
	uint8_t id[KEYS_ID_LEN];
	struct evp_pkey_st *pkey;
	struct evp_md_ctx_st *md; /* reused */
	uint64_t signatures;
};

struct keys_held {
	struct keys_held_key keys[KEYS_HELD_MAX];
	size_t n;
	struct keys_held_cert {
		struct x509_st *x;           /* NULL: none */
		uint8_t id[KEYS_ID_LEN];     /* of its key */
		struct evp_pkey_st *pending; /* a new key that waits for its certificate; NULL */
	} certs[KEYS_NUMBERS];
};

/* What the configuration calls it: "identity.key". */
const char *keys_held_option(uint16_t number);

void keys_held_fini(struct keys_held *h);
/* A PEM private key; text is borrowed. Logged; 0 or -1. The same key again is none more. */
int keys_held_add(struct keys_held *h, uint16_t number, const char *text, size_t len);
/* A key that an HSM has; takes the public part. Logged; 0 or -1. */
int keys_held_add_hsm(struct keys_held *h, uint16_t number, struct evp_pkey_st *public);
/* The number's current certificate; a new key that waited for its certificate is forgotten, unless it is the same again. 0, or -1 when it is none (logged). It may come before its key. */
int keys_held_set_certificate(struct keys_held *h, uint16_t number, const char *pem, size_t len);

/*
 * A key that waits for its certificate, PEM: an earlier process made it. Taken where the number has a certificate, of another key of the same kind, and none waits
 * already. Logged; 0 or -1.
 */
int keys_held_add_pending(struct keys_held *h, uint16_t number, const char *text, size_t len);

struct keys_held_key *keys_held_find(struct keys_held *h, uint16_t number, const uint8_t id[KEYS_ID_LEN]);
/* The key of the number's certificate, or NULL. */
struct keys_held_key *keys_held_current(struct keys_held *h, uint16_t number);
/* With a key that is here. sig has room for KEYS_SIG_MAX. */
enum keys_status keys_held_sign(struct keys_held_key *k, uint16_t scheme, const uint8_t *tbs, size_t tbs_len, uint8_t *sig, size_t *len);

#endif
