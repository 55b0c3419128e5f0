/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/addr.h"
#include "gateway/base/decimal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static int
fail(const char **why, const char *text)
{
	if (why)
		*why = text;
	return -1;
}

/* 1*5DIGIT without leading zeros, at most max. */
static int
parse_number(const char *s, unsigned max, unsigned *out)
{
	unsigned v = 0;
	size_t n = strlen(s);

	if (n == 0 || n > 5 || (s[0] == '0' && n > 1))
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		v = v * 10 + (unsigned)(*s - '0');
	}
	if (v > max)
		return -1;
	*out = v;
	return 0;
}

/* ::ffff:a.b.c.d is IPv4 in another spelling (RFC 4291 2.5.5.2); everything here sees it as IPv4. */
static bool
is_mapped(const uint8_t ip[16])
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(ip, prefix, sizeof(prefix));
}

/* The address's family (0 when it is neither), its bytes at *ip. */
static int
plain_ip(const struct addr *a, const uint8_t **ip)
{
	if (a->ss.ss_family == AF_INET) {
		*ip = (const uint8_t *)&((const struct sockaddr_in *)&a->ss)->sin_addr;
		return AF_INET;
	}
	if (a->ss.ss_family == AF_INET6) {
		*ip = (const uint8_t *)&((const struct sockaddr_in6 *)&a->ss)->sin6_addr;
		if (is_mapped(*ip)) {
			*ip += 12;
			return AF_INET;
		}
		return AF_INET6;
	}
	return 0;
}

int
addr_parse(struct addr *a, const char *s, const char **why)
{
	char host[INET6_ADDRSTRLEN];
	const char *colon = strrchr(s, ':');
	struct sockaddr_in *sin = (struct sockaddr_in *)&a->ss;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&a->ss;
	bool v6 = s[0] == '[';
	unsigned port;
	size_t n;

	memset(a, 0, sizeof(*a));
	if (!colon || (v6 && colon[-1] != ']'))
		return fail(why, "no port; write address:port");
	if (parse_number(colon + 1, 65535, &port) != 0 || port == 0)
		return fail(why, "the port is not a number from 1 to 65535");
	n = (size_t)(colon - s);
	if (n == 1 && s[0] == '*') {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_addr = in6addr_any;
		sin6->sin6_port = htons((uint16_t)port);
		a->len = sizeof(*sin6);
		return 0;
	}
	if (v6) {
		s++;
		n -= 2;
	} else if (memchr(s, ':', n)) {
		return fail(why, "an IPv6 address needs brackets: [address]:port");
	}
	if (n == 0 || n >= sizeof(host))
		return fail(why, "not a numeric address");
	memcpy(host, s, n);
	host[n] = '\0';
	if (v6) {
		if (inet_pton(AF_INET6, host, &sin6->sin6_addr) != 1)
			return fail(why, "not an IPv6 address between the brackets");
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons((uint16_t)port);
		a->len = sizeof(*sin6);
		return 0;
	}
	if (inet_pton(AF_INET, host, &sin->sin_addr) != 1)
		return fail(why, "not a numeric address");
	sin->sin_family = AF_INET;
	sin->sin_port = htons((uint16_t)port);
	a->len = sizeof(*sin);
	return 0;
}

static bool
host_bits_clear(const uint8_t *ip, unsigned bits, unsigned total)
{
	for (unsigned i = bits; i < total; i++)
		if (ip[i / 8] >> (7 - i % 8) & 1)
			return false;
	return true;
}

int
addr_parse_cidr(struct addr_cidr *c, const char *s, const char **why)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(s, '/');
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	unsigned total, bits;

	memset(c, 0, sizeof(*c));
	if (n == 0 || n >= sizeof(host))
		return fail(why, "not a numeric network");
	memcpy(host, s, n);
	host[n] = '\0';
	c->family = strchr(host, ':') ? AF_INET6 : AF_INET;
	total = c->family == AF_INET ? 32 : 128;
	if (inet_pton(c->family, host, c->ip) != 1)
		return fail(why, "not a numeric network");
	bits = total;
	if (slash && parse_number(slash + 1, total, &bits) != 0)
		return fail(why, "the prefix length is out of range");
	if (c->family == AF_INET6 && bits >= 96 && is_mapped(c->ip))
		return fail(why, "an IPv4-mapped network; write it as IPv4");
	if (!host_bits_clear(c->ip, bits, total))
		return fail(why, "host bits are set below the prefix length");
	c->bits = (uint8_t)bits;
	return 0;
}

static bool
prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

bool
addr_in_cidr(const struct addr *a, const struct addr_cidr *c)
{
	const uint8_t *ip;
	int family = plain_ip(a, &ip);

	return family != 0 && family == c->family && prefix_equal(ip, c->ip, c->bits);
}

bool
addr_cidr_overlap(const struct addr_cidr *a, const struct addr_cidr *b)
{
	return a->family == b->family && prefix_equal(a->ip, b->ip, a->bits < b->bits ? a->bits : b->bits);
}

/* By hand: each exchange's record has an address. */
static char *
put_v4(char *p, const uint8_t ip[4])
{
	for (int i = 0; i < 4; i++) {
		if (i)
			*p++ = '.';
		p = decimal_put(p, ip[i]);
	}
	return p;
}

void
addr_format_ip(const struct addr *a, char out[ADDR_TEXT_MAX])
{
	const uint8_t *ip;
	int family = plain_ip(a, &ip);

	if (family == 0) {
		snprintf(out, ADDR_TEXT_MAX, "%s", a->ss.ss_family == AF_UNIX ? "unix" : "-");
		return;
	}
	if (family == AF_INET)
		*put_v4(out, ip) = '\0';
	else
		inet_ntop(family, ip, out, ADDR_TEXT_MAX);
}

void
addr_format(const struct addr *a, char out[ADDR_TEXT_MAX])
{
	char ip_text[ADDR_TEXT_MAX];
	const uint8_t *ip;
	int family = plain_ip(a, &ip);
	char *p;

	if (family == AF_INET) {
		p = put_v4(out, ip);
		*p++ = ':';
		*decimal_put(p, addr_port(a)) = '\0';
		return;
	}
	addr_format_ip(a, ip_text);
	if (family == 0)
		memcpy(out, ip_text, sizeof(ip_text));
	else
		snprintf(out, ADDR_TEXT_MAX, "[%.45s]:%u", ip_text, addr_port(a));
}

uint16_t
addr_port(const struct addr *a)
{
	if (a->ss.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&a->ss)->sin_port);
	if (a->ss.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)&a->ss)->sin6_port);
	return 0;
}

void
addr_set_port(struct addr *a, uint16_t port)
{
	if (a->ss.ss_family == AF_INET)
		((struct sockaddr_in *)&a->ss)->sin_port = htons(port);
	else if (a->ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&a->ss)->sin6_port = htons(port);
}

bool
addr_equal(const struct addr *a, const struct addr *b)
{
	const uint8_t *x, *y;
	int family = plain_ip(a, &x);

	if (family == 0 || plain_ip(b, &y) != family || addr_port(a) != addr_port(b))
		return false;
	if (family == AF_INET)
		return !memcmp(x, y, 4);
	/* The same link-local address on two interfaces is two addresses. */
	return !memcmp(x, y, 16) && ((const struct sockaddr_in6 *)&a->ss)->sin6_scope_id ==
				    ((const struct sockaddr_in6 *)&b->ss)->sin6_scope_id;
}

bool
addr_is_loopback(const struct addr *a)
{
	const uint8_t *ip;
	int family = plain_ip(a, &ip);

	if (family == AF_INET)
		return ip[0] == 127;
	return family == AF_INET6 && !memcmp(ip, &in6addr_loopback, 16);
}

/* RFC 6890's table, what of it never is somebody's service, and the metadata services of clouds. */
static bool
special4(const uint8_t *ip)
{
	static const uint8_t metadata_alibaba[4] = { 100, 100, 100, 200 };

	return ip[0] == 0 || ip[0] == 127 ||            /* this host, loopback */
	       (ip[0] == 169 && ip[1] == 254) ||        /* link-local, most metadata services */
	       (ip[0] == 192 && ip[1] == 0 && ip[2] == 0) || /* IETF protocols, Oracle's metadata */
	       (ip[0] == 168 && ip[1] == 63 && ip[2] == 129 && ip[3] == 16) || /* Azure's */
	       !memcmp(ip, metadata_alibaba, 4) ||
	       ip[0] >= 224;                            /* multicast, reserved, broadcast */
}

static bool
special6(const uint8_t *ip)
{
	static const uint8_t zero[12];
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	static const uint8_t nat64_local[6] = { 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01 };
	static const uint8_t teredo[4] = { 0x20, 0x01 };
	static const uint8_t metadata_aws[16] = { 0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54 };

	if (!memcmp(ip, zero, 12)) /* unspecified, loopback, the obsolete v4-compatible form */
		return true;
	if (!memcmp(ip, nat64, 12)) /* RFC 6052 */
		return special4(ip + 12);
	if (!memcmp(ip, nat64_local, 6) || !memcmp(ip, teredo, 4)) /* RFC 8215; the embedded address can be anywhere */
		return true;
	if (ip[0] == 0x20 && ip[1] == 0x02) /* 6to4, RFC 3056 */
		return special4(ip + 2);
	if (ip[0] == 0xfe && (ip[1] & 0x80)) /* fe80::/10 link-local, fec0::/10 site-local */
		return true;
	return ip[0] == 0xff || !memcmp(ip, metadata_aws, 16);
}

bool
addr_is_special(const struct addr *a)
{
	const uint8_t *ip;
	int family = plain_ip(a, &ip);

	if (family == AF_INET)
		return special4(ip);
	return family != AF_INET6 || special6(ip);
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/*
 * inet_aton(3) reads one to four numbers, each decimal, octal or hexadecimal, and stops at white space (or NUL). No host name of the
 * DNS ends in a label that is a number, so the last label decides, and "foo.1" is called numeric as well (as WHATWG does).
 */
bool
addr_looks_numeric(const char *host, unsigned len)
{
	unsigned start, i;

	for (i = 0; i < len; i++) {
		if (host[i] == ':' || host[i] == '[' || host[i] == ']')
			return true;
		if (host[i] == '\0' || host[i] == ' ' || (host[i] >= '\t' && host[i] <= '\r'))
			break;
	}
	len = i;
	if (len > 0 && host[len - 1] == '.') /* a rooted name */
		len--;
	for (start = len; start > 0 && host[start - 1] != '.'; start--)
		;
	if (start == len)
		return false;
	if (len - start >= 2 && host[start] == '0' && (host[start + 1] | 0x20) == 'x') {
		for (i = start + 2; i < len; i++)
			if (!is_hex(host[i]))
				return false;
		return true; /* "0x" alone is zero to some */
	}
	for (i = start; i < len; i++)
		if (host[i] < '0' || host[i] > '9')
			return false;
	return true;
}
