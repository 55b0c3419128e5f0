/* SPDX-License-Identifier: Apache-2.0 */
/* The host of a service, as an administrator writes it. */
#ifndef GATEWAY_CONFIG_HOST_H
#define GATEWAY_CONFIG_HOST_H

#include <stdint.h>

#define HOST_NAME_MAX_LEN 253 /* RFC 1035 2.3.4, as text without the root's dot */

struct host {
	char name[HOST_NAME_MAX_LEN + 1]; /* lower-case; an IPv6 literal with its brackets */
	uint16_t port;                    /* 0: none was given */
};

/*
 * "name", "name:port", "192.0.2.1:80", "[2001:db8::1]": lower-cased. No scheme, path or wildcard; literals only in the
 * one spelling that clients send (RFC 5952). 0, or -1 with *why set to a static text.
 */
int host_parse(struct host *h, const char *s, const char **why);

#endif
