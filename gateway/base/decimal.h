/* SPDX-License-Identifier: Apache-2.0 */
/* Decimal numbers by hand, for text that is made once per request: no printf there. */
#ifndef GATEWAY_BASE_DECIMAL_H
#define GATEWAY_BASE_DECIMAL_H

#include <stdint.h>

#define DECIMAL_MAX 20 /* octets that a uint64_t may take */

/* Writes v at p, without a NUL; returns the end. */
static inline char *decimal_put(char *p, uint64_t v)
{
	char digits[DECIMAL_MAX];
	int n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*p++ = digits[--n];
	return p;
}

#endif
