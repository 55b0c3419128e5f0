/* SPDX-License-Identifier: Apache-2.0 */
/* Hand-written output: this runs for each record, and printf would take longer than the rest of it. */
#include "gateway/audit/record.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/le.h"

static const char hex[] = "0123456789abcdef";
static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051"
			    "5253545556575859606162636465666768697071727374757677787980818283848586878889909192939495969798"
			    "99";

static uint8_t *put(uint8_t *o, const void *p, size_t n)
{
	memcpy(o, p, n);
	return o + n;
}

static uint8_t *put_u64(uint8_t *o, uint64_t v)
{
	uint8_t tmp[20], *t = tmp + sizeof(tmp);

	while (v >= 100) {
		t -= 2;
		memcpy(t, pairs + 2 * (v % 100), 2);
		v /= 100;
	}
	if (v >= 10) {
		t -= 2;
		memcpy(t, pairs + 2 * v, 2);
	} else {
		*--t = (uint8_t)('0' + v);
	}
	return put(o, t, (size_t)(tmp + sizeof(tmp) - t));
}

static uint8_t *put_hex64(uint8_t *o, uint64_t v)
{
	unsigned shift = v ? (63 - (unsigned)__builtin_clzll(v)) & ~3u : 0;

	for (;; shift -= 4) {
		*o++ = (uint8_t)hex[v >> shift & 15];
		if (shift == 0)
			return o;
	}
}

/* Eight octets to sixteen digits without a table: nibbles are spread out, then made letters where above nine. */
static inline uint64_t spread(uint32_t v)
{
	uint64_t x = v;

	x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
	x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
	/* each octet's high nibble first */
	x = (x >> 4 & UINT64_C(0x000f000f000f000f)) | (x & UINT64_C(0x000f000f000f000f)) << 8;
	uint64_t above = (x + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
	return x + UINT64_C(0x3030303030303030) + above * ('a' - '0' - 10);
}

static void put_digest(uint8_t *o, const uint8_t *p)
{
	for (unsigned i = 0; i < DIGEST_LEN; i += 4, o += 8)
		le_put64(o, spread(le_get32(p + i)));
}

/* Any octet of x that a value cannot have as it is: below 0x20, 0x7f and above, quote, backslash, bracket. */
static inline bool special8(uint64_t x)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = UINT64_C(0x8080808080808080);
	uint64_t q = x ^ ones * '"', b = x ^ ones * '\\', r = x ^ ones * ']', d = x ^ ones * 0x7f;

	return ((x | (x - ones * 0x20) | (q - ones) | (b - ones) | (r - ones) | (d - ones)) & high) != 0;
}

/* Length of a UTF-8 sequence (RFC 3629 4) that may stand in a record, or 0. p[0] >= 0x80. */
static unsigned utf8_printable(const uint8_t *p, size_t n)
{
	unsigned len = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	uint32_t c;

	if (len == 0 || len > n)
		return 0;
	c = p[0] & (0x7fu >> len);
	for (unsigned i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10ffff)) || (c >= 0xd800 && c < 0xe000))
		return 0;
	/* C1 controls; marks and separators that reorder or break what a person sees; byte order mark, non-characters. */
	if (c < 0xa0 || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
	    c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c & 0xfffe) == 0xfffe || (c >= 0xe0000 && c <= 0xe007f))
		return 0;
	return len;
}

static uint8_t *put_text(uint8_t *o, const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;

	while (p < end) {
		if (end - p >= 8) {
			uint64_t x = le_get64(p);
			if (!special8(x)) {
				le_put64(o, x);
				o += 8;
				p += 8;
				continue;
			}
		}
		uint8_t c = *p;
		if (c >= 0x80) {
			unsigned len = utf8_printable(p, (size_t)(end - p));
			if (len) {
				o = put(o, p, len);
				p += len;
				continue;
			}
		} else if (c >= 0x20 && c != 0x7f && c != '\\') {
			if (c == '"' || c == ']')
				*o++ = '\\';
			*o++ = c;
			p++;
			continue;
		}
		*o++ = '\\';
		*o++ = '\\';
		*o++ = 'x';
		*o++ = (uint8_t)hex[c >> 4];
		*o++ = (uint8_t)hex[c & 15];
		p++;
	}
	return o;
}

size_t record_escape(uint8_t *out, const uint8_t *p, size_t n)
{
	return (size_t)(put_text(out, p, n) - out);
}

uint64_t record_repeat_mask(void)
{
	uint64_t mask = 0;

	for (unsigned i = 1; i < AUDIT_FIELDS; i++)
		if (schema_fields[i].repeat)
			mask |= UINT64_C(1) << i;
	return mask;
}

void record_format_init(struct record_format *rf, const char *host, long pid)
{
	size_t n = 0;

	memset(rf, 0, sizeof(*rf));
	rf->second = RECORD_NONE;
	for (; host && *host && n < sizeof(rf->host) - 1; host++)
		rf->host[n++] = *host > ' ' && *host < 0x7f ? *host : '-';
	if (n == 0)
		rf->host[n++] = '-';
	rf->host_len = n;
	rf->pid_len = (size_t)(put_u64((uint8_t *)rf->pid, (uint64_t)pid % 1000000000) - (uint8_t *)rf->pid);
}

static uint8_t *put_stamp(struct record_format *rf, uint8_t *o, uint64_t wall_us)
{
	uint64_t second = wall_us / 1000000;
	uint32_t us = (uint32_t)(wall_us % 1000000);

	if (second != rf->second) {
		clock_rfc3339(rf->stamp, second * 1000000);
		rf->second = second;
	}
	memcpy(o, rf->stamp, CLOCK_RFC3339_LEN);
	memcpy(o + 20, pairs + 2 * (us / 10000), 2);
	memcpy(o + 22, pairs + 2 * (us / 100 % 100), 2);
	memcpy(o + 24, pairs + 2 * (us % 100), 2);
	return o + CLOCK_RFC3339_LEN;
}

static inline uint8_t *put_lead(uint8_t *o, unsigned field)
{
	memcpy(o, schema_fields[field].lead, sizeof(schema_fields[field].lead));
	return o + schema_fields[field].lead_len;
}

static uint8_t *put_number(uint8_t *o, unsigned field, uint64_t v)
{
	o = put_u64(put_lead(o, field), v);
	*o++ = '"';
	return o;
}

static uint8_t *put_fields(uint8_t *o, const struct record *r)
{
	uint64_t own = r->f ? r->f->present : 0, open = r->open ? r->open->present & r->open_mask & ~own : 0;

	if (r->count)
		own |= UINT64_C(1) << AUDIT_F_COUNT;
	for (unsigned i = 0; i < AUDIT_FIELDS - 1; i++) {
		unsigned id = schema_order[i];
		const struct audit_fields *from = own >> id & 1 ? r->f : r->open;

		if (!((own | open) >> id & 1))
			continue;
		o = put_lead(o, id);
		if (id == AUDIT_F_COUNT && r->count)
			o = put_u64(o, r->count);
		else if (audit_event_is_u64((enum audit_field)id))
			o = put_u64(o, le_get64(from->f[id].p));
		else
			o = put_text(o, from->f[id].p, from->f[id].n);
		*o++ = '"';
	}
	return o;
}

size_t record_write(struct record_format *rf, uint8_t *out, const struct record *r)
{
	uint8_t *o = out;
	unsigned pri = SCHEMA_FACILITY * 8 + r->severity;
	const char *msgid = schema_msgs[r->msg].msgid;

	*o++ = '<';
	o = put_u64(o, pri);
	o = put(o, ">1 ", 3);
	o = put_stamp(rf, o, r->wall_us);
	*o++ = ' ';
	o = put(o, rf->host, rf->host_len);
	o = put(o, " " SCHEMA_APP " ", sizeof(" " SCHEMA_APP " ") - 1);
	o = put(o, rf->pid, rf->pid_len);
	*o++ = ' ';
	o = put(o, msgid, strlen(msgid));
	o = put(o, " [" SCHEMA_SD_ID, sizeof(" [" SCHEMA_SD_ID) - 1);

	o = put_number(o, SCHEMA_SEQ, r->seq);
	o = put_hex64(put_lead(o, SCHEMA_SRC), r->instance);
	*o++ = ':';
	if (r->pos == RECORD_NONE)
		*o++ = '-';
	else
		o = put_u64(o, r->pos);
	*o++ = '"';
	o = put(put_lead(o, SCHEMA_WORKER), r->worker, strnlen(r->worker, RECORD_NAME_MAX));
	*o++ = '"';
	if (r->sync)
		o = put_number(o, SCHEMA_SYNC, r->sync);
	if (r->claimed_us) {
		char at[CLOCK_RFC3339_LEN + 1];
		clock_rfc3339(at, r->claimed_us);
		o = put(put_lead(o, SCHEMA_AT), at, CLOCK_RFC3339_LEN);
		*o++ = '"';
	}
	if (r->open_seq)
		o = put_number(o, SCHEMA_OPEN_SEQ, r->open_seq);
	if (r->exchange) {
		o = put_lead(o, SCHEMA_EXCHANGE_ID);
		uuid_format(r->exchange, (char *)o);
		o += UUID_TEXT_LEN;
		*o++ = '"';
		if (r->attempt)
			o = put_number(o, SCHEMA_ATTEMPT, r->attempt);
	}
	o = put_fields(o, r);
	o = put_lead(o, SCHEMA_PREV);
	memset(o, '0', 2 * DIGEST_LEN);
	o = put(o + 2 * DIGEST_LEN, "\"]", 2);
	return (size_t)(o - out);
}

void record_set_prev(uint8_t *record, size_t n, const uint8_t prev[DIGEST_LEN])
{
	put_digest(record + n - RECORD_TAIL, prev);
}
