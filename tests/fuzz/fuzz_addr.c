/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and networks: an accepted text, formatted and parsed again, is the same address. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/addr.h"

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_addr(const struct addr *a)
{
	char text[ADDR_TEXT_MAX], ip[ADDR_TEXT_MAX];
	struct addr_cidr own;
	struct addr b;

	CHECK(addr_port(a) != 0 && a->len > 0);
	addr_format(a, text);
	CHECK(addr_parse(&b, text, NULL) == 0);
	CHECK(addr_equal(a, &b));
	CHECK(addr_is_special(a) == addr_is_special(&b));
	CHECK(!addr_is_loopback(a) || addr_is_special(a));
	addr_format_ip(a, ip);
	CHECK(addr_looks_numeric(ip, (unsigned)strlen(ip)));
	CHECK(addr_parse_cidr(&own, ip, NULL) == 0);
	CHECK(addr_in_cidr(a, &own));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = malloc(size + 1), *host = malloc(size ? size : 1);
	const char *why = NULL;
	struct addr_cidr c;
	struct in_addr in;
	struct addr a;

	memcpy(s, data, size);
	s[size] = '\0';
	if (addr_parse(&a, s, &why) == 0)
		check_addr(&a);
	else
		CHECK(why && *why);
	why = NULL;
	if (addr_parse_cidr(&c, s, &why) == 0) {
		CHECK(c.bits <= (c.family == AF_INET ? 32 : 128));
		CHECK(addr_cidr_overlap(&c, &c));
	} else {
		CHECK(why && *why);
	}
	/* Without the NUL, in its exact size. Whatever the C library reads as an address looks like one to us. */
	memcpy(host, data, size);
	if (!addr_looks_numeric(host, (unsigned)size))
		CHECK(inet_aton(s, &in) == 0);
	free(host);
	free(s);
	return 0;
}
