/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/method.h"

#include <string.h>
#include <strings.h>

static const struct {
	uint8_t len;
	char name[11];
} known[METHOD_KNOWN] = {
	{ 3, "GET" }, { 4, "POST" }, { 4, "HEAD" }, { 3, "PUT" }, { 6, "DELETE" }, { 5, "PATCH" }, { 7, "OPTIONS" },
	{ 7, "CONNECT" }, { 5, "TRACE" }, { 5, "QUERY" }, { 8, "PROPFIND" }, { 9, "PROPPATCH" }, { 5, "MKCOL" },
	{ 4, "COPY" }, { 4, "MOVE" }, { 4, "LOCK" },
};

uint32_t
method_bit(const char *s, size_t n)
{
	for (unsigned i = 0; i < METHOD_KNOWN; i++)
		if (known[i].len == n && memcmp(known[i].name, s, n) == 0)
			return 1u << i;
	return 0;
}

bool
method_is_token(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("!#$%&'*+-.^_`|~", c))))
			return false;
	}
	return n > 0;
}

const char *
method_other_case(const char *s)
{
	for (unsigned i = 0; i < METHOD_KNOWN; i++)
		if (strcasecmp(known[i].name, s) == 0 && strcmp(known[i].name, s) != 0)
			return known[i].name;
	return NULL;
}
