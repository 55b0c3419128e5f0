/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a TLS client asks for, read from its first octets without answering: whether a ClientHello (RFC 8446 4.1.2) names one host by SNI (RFC 6066 3).
 * Strict: what is not exactly one well-formed ClientHello that names that host alone is not it. No I/O, no allocation.
 */
#ifndef GATEWAY_ENROL_HELLO_H
#define GATEWAY_ENROL_HELLO_H

#include <stddef.h>
#include <stdint.h>

#define HELLO_MAX 16384                /* of a ClientHello; hybrid key shares make them 2 KiB and more */
#define HELLO_OCTETS_MAX (HELLO_MAX + 512) /* that, in records of a sane size */

enum hello {
	HELLO_MORE,    /* cannot be said yet */
	HELLO_NO,      /* another name, none, or no TLS: somebody else's matter */
	HELLO_YES,
};
/* p: everything that came so far, at most HELLO_OCTETS_MAX; with that many HELLO_MORE does not come. host: lower case. */
enum hello hello_asks(const uint8_t *p, size_t len, const char *host);

#endif
