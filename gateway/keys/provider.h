/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenSSL 3 provider "sallyport-keys": keys that are numbers, signatures that are messages (client.h). */
#ifndef GATEWAY_KEYS_PROVIDER_H
#define GATEWAY_KEYS_PROVIDER_H

#include <stdint.h>

struct evp_pkey_st;   /* OpenSSL's EVP_PKEY */

/* Loads it, and the default provider beside it, which stays the preferred one for everything else. 0 or -1 (*why). */
int keys_provider_load(const char **why);
/* A private key for libssl: public is the certificate's. Owned by the caller (EVP_PKEY_free). NULL with *why. */
struct evp_pkey_st *keys_provider_key(const struct evp_pkey_st *public, uint16_t number, const char **why);

#endif
