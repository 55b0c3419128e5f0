/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPIFFE IDs (SPIFFE-ID 2): the grammar alone. We hold it tighter than the standard where that
 * costs nobody anything: lower-case trust domain, no port, userinfo, percent, query, fragment, empty
 * or dot segments, no trailing slash, at most 2048 bytes.
 */
#ifndef GATEWAY_BASE_SPIFFE_H
#define GATEWAY_BASE_SPIFFE_H

#include <stdbool.h>
#include <stddef.h>

#define SPIFFE_ID_MAX 2048
#define SPIFFE_DOMAIN_MAX 255

struct spiffe_id {
	const char *domain; /* borrowed from the parsed text */
	size_t domain_len;
	const char *path;   /* with its leading "/"; length 0 for a trust domain's own id */
	size_t path_len;
};

/* 0, or -1 with *why set to a static text. */
int spiffe_parse(struct spiffe_id *out, const char *s, size_t len, const char **why);
/* A trust domain name: lower-case letters, digits, "-", "_" and ".". */
bool spiffe_domain_valid(const char *s, size_t len);
/* True when the path is "/gateway/" and one segment: the ids that gateways carry. */
bool spiffe_is_gateway(const struct spiffe_id *id);

#endif
