/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/lookup.h"

#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/mem.h"

#define HOST_MAX 256 /* no service's host is longer */

struct lookup {
	size_t mask;
	uint32_t slots[]; /* service index + 1; 0: free */
};

static size_t
first_slot(const struct lookup *l, const char *hostname, size_t len, uint16_t port)
{
	/* The name's hash is keyed (clients choose it), so that a fixed stride per port is enough. */
	return (size_t)(hash_bytes(hostname, len) + port * UINT64_C(0x9e3779b97f4a7c15)) & l->mask;
}

struct lookup *
lookup_new(const struct config *c)
{
	size_t cap = 8;
	struct lookup *l;

	while (cap < c->nservices * 2)
		cap *= 2;
	l = mem_zalloc(sizeof(*l) + cap * sizeof(l->slots[0]));
	l->mask = cap - 1;
	for (size_t i = 0; i < c->nservices; i++) {
		const struct config_service *s = &c->services[i];
		size_t slot;

		if (!s->hostname || lookup_find(l, c, s->hostname, strlen(s->hostname), s->port) >= 0)
			continue;
		slot = first_slot(l, s->hostname, strlen(s->hostname), s->port);
		while (l->slots[slot])
			slot = (slot + 1) & l->mask;
		l->slots[slot] = (uint32_t)i + 1;
	}
	return l;
}

void
lookup_free(struct lookup *l)
{
	mem_free(l);
}

int
lookup_find(const struct lookup *l, const struct config *c, const char *hostname, size_t len, uint16_t port)
{
	for (size_t slot = first_slot(l, hostname, len, port); l->slots[slot]; slot = (slot + 1) & l->mask) {
		const struct config_service *s = &c->services[l->slots[slot] - 1];

		if (s->port == port && strlen(s->hostname) == len && !memcmp(s->hostname, hostname, len))
			return (int)(l->slots[slot] - 1);
	}
	return -1;
}

/* host [ ":" port ] in lower case (RFC 3986 3.2.2, 3.2.3). 0 or -1; *port is 0 when there is none. */
static int
split(const char *authority, size_t len, char host[HOST_MAX], size_t *host_len, uint16_t *port)
{
	size_t n = 0;
	unsigned v = 0;

	if (len > 0 && authority[0] == '[') {
		const char *close = memchr(authority, ']', len);

		if (!close)
			return -1;
		n = (size_t)(close - authority) + 1;
	} else {
		const char *colon = memchr(authority, ':', len);

		n = colon ? (size_t)(colon - authority) : len;
	}
	if (n == 0 || n > HOST_MAX)
		return -1;
	for (size_t i = 0; i < n; i++)
		host[i] = authority[i] >= 'A' && authority[i] <= 'Z' ? (char)(authority[i] | 0x20) : authority[i];
	*host_len = n;
	*port = 0;
	if (n == len)
		return 0;
	/* RFC 3986 allows an empty port; nobody needs one, and two readings are one too many. */
	if (authority[n] != ':' || len - n - 1 == 0 || len - n - 1 > 5)
		return -1;
	for (size_t i = n + 1; i < len; i++) {
		if (authority[i] < '0' || authority[i] > '9')
			return -1;
		v = v * 10 + (unsigned)(authority[i] - '0');
	}
	if (v == 0 || v > 65535 || authority[n + 1] == '0')
		return -1;
	*port = (uint16_t)v;
	return 0;
}

int
config_service_by_host(const struct config *c, const char *authority, size_t len, uint16_t default_port)
{
	char host[HOST_MAX];
	size_t n;
	uint16_t port;
	int i;

	if (!c->hosts || split(authority, len, host, &n, &port) != 0)
		return -1;
	i = lookup_find(c->hosts, c, host, n, port ? port : default_port);
	/* A service without a port is meant at the default one, whether or not the authority spells it out. */
	if (i < 0 && default_port != 0 && (port == 0 || port == default_port))
		i = lookup_find(c->hosts, c, host, n, 0);
	return i;
}
