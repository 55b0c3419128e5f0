/* SPDX-License-Identifier: Apache-2.0 */
/* Escaping bytes of unknown origin for logs and terminals; base64 and hex. */
#ifndef GATEWAY_BASE_ESC_H
#define GATEWAY_BASE_ESC_H

#include <stddef.h>
#include <stdint.h>

/*
 * Printable ASCII stays, the rest becomes \xHH; a backslash and a quote are escaped too. Always
 * NUL-terminates; cuts with "..." when out is too small. Returns out.
 */
char *esc_text(char *out, size_t out_size, const void *p, size_t n);

void esc_hex(char *out, const uint8_t *p, size_t n);      /* 2n lower-case digits, no NUL */
int esc_unhex(uint8_t *out, const char *s, size_t n);     /* n digits, even; 0 or -1 */

size_t esc_base64_size(size_t n);                         /* of the encoding, without NUL */
size_t esc_base64(char *out, const uint8_t *p, size_t n); /* RFC 4648 4, padded; returns the length */
/* Strict (padding required, no other bytes): decoded length, or -1. out holds n / 4 * 3 bytes. */
long esc_unbase64(uint8_t *out, const char *s, size_t n);

#endif
