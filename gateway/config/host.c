/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/host.h"

#include <arpa/inet.h>
#include <string.h>

#include "gateway/base/addr.h"

#define LABEL_MAX 63

static int
fail(const char **why, const char *text)
{
	*why = text;
	return -1;
}

static int
parse_port(uint16_t *port, const char *s)
{
	unsigned v = 0;
	size_t n = strlen(s);

	if (n == 0 || n > 5 || s[0] == '0')
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		v = v * 10 + (unsigned)(*s - '0');
	}
	if (v > 65535)
		return -1;
	*port = (uint16_t)v;
	return 0;
}

/* A literal must read back as itself: "[2001:DB8:0::1]" would never equal what a client sends. */
static int
check_ipv6(const char *name, const char **why)
{
	char inner[INET6_ADDRSTRLEN], back[INET6_ADDRSTRLEN];
	struct in6_addr ip;
	size_t n = strlen(name);

	if (n < 4 || n - 2 >= sizeof(inner) || name[n - 1] != ']')
		return fail(why, "an IPv6 address is written [address] or [address]:port");
	memcpy(inner, name + 1, n - 2);
	inner[n - 2] = '\0';
	if (inet_pton(AF_INET6, inner, &ip) != 1)
		return fail(why, "this is no IPv6 address");
	if (!inet_ntop(AF_INET6, &ip, back, sizeof(back)) || strcmp(inner, back) != 0)
		return fail(why, "write the IPv6 address in its shortest form (RFC 5952)");
	return 0;
}

static int
check_name(const char *name, const char **why)
{
	struct in_addr ip;
	size_t label = 0;

	if (addr_looks_numeric(name, (unsigned)strlen(name)))
		return inet_pton(AF_INET, name, &ip) == 1 ? 0 : fail(why, "this is neither a host name nor an IPv4 address");
	for (const char *p = name;; p++) {
		if (*p == '.' || *p == '\0') {
			if (label == 0)
				return fail(why, *p || p == name ? "a label of the host name is empty" : "remove the dot at its end");
			if (p[-1] == '-')
				return fail(why, "a label of the host name ends in \"-\"");
			label = 0;
			if (!*p)
				return 0;
			continue;
		}
		if (++label > LABEL_MAX)
			return fail(why, "a label of the host name is longer than 63 bytes");
		if (*p == '-' && label == 1)
			return fail(why, "a label of the host name starts with \"-\"");
		if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_'))
			return fail(why, *p == '*' ? "wildcards are not possible; name each host"
						   : "a host name has only letters, digits, \"-\", \"_\" and \".\"");
	}
}

int
host_parse(struct host *h, const char *s, const char **why)
{
	const char *colon;
	size_t n;

	memset(h, 0, sizeof(*h));
	if (strstr(s, "://"))
		return fail(why, "write host or host:port, without a scheme");
	if (strpbrk(s, "/?#"))
		return fail(why, "write host or host:port, without a path");
	if (strchr(s, '@'))
		return fail(why, "write host or host:port, without a user");
	if (s[0] == '[') {
		const char *close = strchr(s, ']');

		n = close ? (size_t)(close - s) + 1 : strlen(s);
		colon = s[n] == ':' ? s + n : NULL;
		if (s[n] != '\0' && !colon)
			return fail(why, "an IPv6 address is written [address] or [address]:port");
	} else {
		colon = strchr(s, ':');
		if (colon && strchr(colon + 1, ':'))
			return fail(why, "an IPv6 address is written [address] or [address]:port");
		n = colon ? (size_t)(colon - s) : strlen(s);
	}
	if (colon && parse_port(&h->port, colon + 1) != 0)
		return fail(why, "the port is a number from 1 to 65535");
	if (n == 0)
		return fail(why, "the host name is empty");
	if (n > HOST_NAME_MAX_LEN)
		return fail(why, "the host name is longer than 253 bytes");
	for (size_t i = 0; i < n; i++)
		h->name[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] | 0x20) : s[i];
	return h->name[0] == '[' ? check_ipv6(h->name, why) : check_name(h->name, why);
}
