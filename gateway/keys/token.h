/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys in an HSM (PKCS#11) by way of what the system's OpenSSL has for it: the provider "pkcs11" (package pkcs11-provider), or else the engine
 * "pkcs11" (package libengine-pkcs11-openssl, on Debian 12). One module per process. Calls block as long as the HSM does, and
 * what is known of tokens is known for good: a token that was away is found by the next process.
 */
#ifndef GATEWAY_KEYS_TOKEN_H
#define GATEWAY_KEYS_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

struct evp_pkey_st;

#define KEYS_TOKEN_WHY 256

/* Maps the module and what speaks to it, for good, and initialises it. via: "provider" or "engine". 0, or -1 with why. */
int keys_token_load(const char *module, const char **via, char why[KEYS_TOKEN_WHY]);
/* The private key that a URI (RFC 7512, path part alone) names; pin NULL: without logging in. NULL with why; *bad_pin: do not try that one again, it may be locked. */
struct evp_pkey_st *keys_token_key(const char *uri, const char *pin, bool *bad_pin, char why[KEYS_TOKEN_WHY]);

#endif
