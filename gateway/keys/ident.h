/* SPDX-License-Identifier: Apache-2.0 */
/* What kind a key is and which one: the same answer for a private key and for a certificate's public key. */
#ifndef GATEWAY_KEYS_IDENT_H
#define GATEWAY_KEYS_IDENT_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/keys/proto.h"

struct evp_pkey_st;   /* OpenSSL's EVP_PKEY */

enum keys_type { KEYS_P256, KEYS_P384, KEYS_P521, KEYS_ED25519_KEY, KEYS_RSA, KEYS_TYPES };
const char *keys_ident_text(enum keys_type t);

/* The key's kind, or -1 with *why for one that we do not use (other curves, RSA below 2048 or above 8192 bits, RSASSA-PSS keys). */
int keys_ident_type(const struct evp_pkey_st *k, const char **why);
/* Fingerprint of the public part: independent of how a certificate writes its point. 0 or -1. */
int keys_ident_id(const struct evp_pkey_st *k, uint8_t out[KEYS_ID_LEN]);
bool keys_ident_fits(enum keys_type t, uint16_t scheme);
/* The digest of a scheme ("SHA256"), NULL for Ed25519. */
const char *keys_ident_digest(uint16_t scheme);

#endif
