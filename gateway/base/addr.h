/* SPDX-License-Identifier: Apache-2.0 */
/* Socket addresses: parsing what an administrator writes, matching, classifying. */
#ifndef GATEWAY_BASE_ADDR_H
#define GATEWAY_BASE_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr {
	struct sockaddr_storage ss;
	socklen_t len;
};

struct addr_cidr {
	uint8_t family;  /* AF_INET or AF_INET6 */
	uint8_t bits;
	uint8_t ip[16];
};

#define ADDR_TEXT_MAX 72

/*
 * "192.0.2.1:443", "[2001:db8::1]:443", or "*:443" for any (dual-stack). Numeric only, strict: no
 * decimal, octal or short forms. 0, or -1 with *why set to a static text.
 */
int addr_parse(struct addr *a, const char *s, const char **why);
int addr_parse_cidr(struct addr_cidr *c, const char *s, const char **why); /* no prefix: /32 or /128; host bits set: refused */
bool addr_in_cidr(const struct addr *a, const struct addr_cidr *c);        /* v4-mapped addresses match as IPv4 */
bool addr_cidr_overlap(const struct addr_cidr *a, const struct addr_cidr *b);
void addr_format(const struct addr *a, char out[ADDR_TEXT_MAX]);           /* with port */
void addr_format_ip(const struct addr *a, char out[ADDR_TEXT_MAX]);        /* without */
uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);
bool addr_equal(const struct addr *a, const struct addr *b);
bool addr_is_loopback(const struct addr *a);
/* Loopback, link-local, metadata, unspecified, multicast, v4-mapped or NAT64 of those: never dialled unless written in the config. */
bool addr_is_special(const struct addr *a);
/* True for any text that some libc would read as an IP address ("127.1", "0x7f000001", "2130706433", "[::1]"). */
bool addr_looks_numeric(const char *host, unsigned len);

#endif
