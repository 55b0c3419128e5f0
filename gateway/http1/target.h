/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets (RFC 9112 3.2): authorities and paths. */
#ifndef GATEWAY_HTTP1_TARGET_H
#define GATEWAY_HTTP1_TARGET_H

#include <stddef.h>
#include <stdint.h>

/*
 * host [":" port]: a name of letters, digits, "-", "_" and ".", an IPv4 address or a bracketed IPv6 address. No userinfo, no
 * percent-encoding, no empty labels, no empty port. *port is 0 when there is none. 0 or -1.
 */
int h1_target_authority(const char *s, size_t n, size_t *host_len, uint32_t *port);
/* A path with its query, as head.h lists. 0 with the length before the query, or -1. */
int h1_target_path(const char *s, size_t n, uint32_t *path_only_len);

#endif
