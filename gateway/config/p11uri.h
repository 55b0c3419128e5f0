/* SPDX-License-Identifier: Apache-2.0 */
/* The pkcs11: URI of a private key (RFC 7512), as far as a configuration may have one. */
#ifndef GATEWAY_CONFIG_P11URI_H
#define GATEWAY_CONFIG_P11URI_H

#include <stdbool.h>

#define P11URI_MAX 1000

bool p11uri_is(const char *text); /* begins like one; NULL is none */
/*
 * Its parts: which key (a URI without a query, with type=private; mem_free()) and the file with its PIN (absolute, decoded; NULL: none; mem_free()).
 * A URI with the PIN itself is refused. 0, or -1 with *why (static).
 */
int p11uri_split(const char *text, char **key, char **pin_file, const char **why);

#endif
