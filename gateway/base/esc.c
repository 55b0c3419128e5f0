/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/esc.h"

#include <string.h>

static const char hex_digits[] = "0123456789abcdef";

/* The escape of one byte; returns its length, at most 4. */
static size_t
escape_one(char out[4], uint8_t c)
{
	if (c == '\\' || c == '"') {
		out[0] = '\\';
		out[1] = (char)c;
		return 2;
	}
	if (c >= 0x20 && c < 0x7f) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = '\\';
	out[1] = 'x';
	out[2] = hex_digits[c >> 4];
	out[3] = hex_digits[c & 15];
	return 4;
}

char *
esc_text(char *out, size_t out_size, const void *p, size_t n)
{
	const uint8_t *in = p;
	size_t len = 0, cut = 0; /* cut: the last place where "..." still fits */
	char e[4];

	if (out_size == 0)
		return out;
	for (size_t i = 0; i < n; i++) {
		size_t k = escape_one(e, in[i]);

		if (len + k + 1 > out_size) {
			size_t dots = out_size - 1 - cut < 3 ? out_size - 1 - cut : 3;

			memcpy(out + cut, "...", dots);
			len = cut + dots;
			break;
		}
		memcpy(out + len, e, k);
		len += k;
		if (len + 4 <= out_size)
			cut = len;
	}
	out[len] = '\0';
	return out;
}

void
esc_hex(char *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = hex_digits[p[i] >> 4];
		out[2 * i + 1] = hex_digits[p[i] & 15];
	}
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
esc_unhex(uint8_t *out, const char *s, size_t n)
{
	if (n % 2)
		return -1;
	for (size_t i = 0; i < n; i += 2) {
		int hi = hex_value(s[i]), lo = hex_value(s[i + 1]);

		if (hi < 0 || lo < 0)
			return -1;
		out[i / 2] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

size_t
esc_base64_size(size_t n)
{
	return (n + 2) / 3 * 4;
}

size_t
esc_base64(char *out, const uint8_t *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *o = out;

	for (; n >= 3; p += 3, n -= 3) {
		uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

		*o++ = digits[v >> 18];
		*o++ = digits[v >> 12 & 63];
		*o++ = digits[v >> 6 & 63];
		*o++ = digits[v & 63];
	}
	if (n > 0) {
		uint32_t v = (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0);

		*o++ = digits[v >> 18];
		*o++ = digits[v >> 12 & 63];
		*o++ = n == 2 ? digits[v >> 6 & 63] : '=';
		*o++ = '=';
	}
	return (size_t)(o - out);
}

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

long
esc_unbase64(uint8_t *out, const char *s, size_t n)
{
	uint8_t *o = out;

	if (n % 4)
		return -1;
	for (size_t i = 0; i < n; i += 4) {
		/* Padding only at the very end. */
		int pad = i + 4 < n ? 0 : s[i + 3] != '=' ? 0 : s[i + 2] != '=' ? 1 : 2;
		uint32_t v = 0;

		for (int k = 0; k < 4; k++) {
			int d = k < 4 - pad ? base64_value(s[i + k]) : 0;

			if (d < 0)
				return -1;
			v = v << 6 | (uint32_t)d;
		}
		/* RFC 4648 3.5: left-over bits must be zero, so that bytes have one encoding. */
		if ((pad == 1 && (v & 0xff)) || (pad == 2 && (v & 0xffff)))
			return -1;
		*o++ = (uint8_t)(v >> 16);
		if (pad < 2)
			*o++ = (uint8_t)(v >> 8);
		if (pad < 1)
			*o++ = (uint8_t)v;
	}
	return o - out;
}
