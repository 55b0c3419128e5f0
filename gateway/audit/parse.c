/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/parse.h"

#include <string.h>

#include "gateway/base/esc.h"

struct cursor {
	const char *p, *end;
};

static bool take(struct cursor *c, const char *s)
{
	size_t n = strlen(s);

	if ((size_t)(c->end - c->p) < n || memcmp(c->p, s, n) != 0)
		return false;
	c->p += n;
	return true;
}

/* Up to the next space: printable ASCII, at least one octet. */
static bool take_word(struct cursor *c, struct parse_text *out, size_t max)
{
	const char *s = c->p;

	while (c->p < c->end && *c->p > ' ' && *c->p < 0x7f)
		c->p++;
	out->p = s;
	out->n = (uint32_t)(c->p - s);
	return out->n > 0 && out->n <= max && take(c, " ");
}

/* Digits only, no leading zero, no overflow. */
static bool number(uint64_t *out, const char *s, size_t n)
{
	uint64_t v = 0;

	if (n == 0 || n > 20 || (n > 1 && s[0] == '0'))
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned d = (unsigned char)s[i] - '0';
		if (d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v))
			return false;
	}
	*out = v;
	return true;
}

static bool digits(unsigned *out, const char *s, unsigned n)
{
	*out = 0;
	for (unsigned i = 0; i < n; i++) {
		unsigned d = (unsigned char)s[i] - '0';
		if (d > 9)
			return false;
		*out = *out * 10 + d;
	}
	return true;
}

int parse_stamp(uint64_t *wall_us, const char *s, size_t n)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	unsigned y, mo, d, h, mi, sec, us;

	if (n != 27 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != '.' || s[26] != 'Z')
		return -1;
	if (!digits(&y, s, 4) || !digits(&mo, s + 5, 2) || !digits(&d, s + 8, 2) || !digits(&h, s + 11, 2) || !digits(&mi, s + 14, 2) ||
	    !digits(&sec, s + 17, 2) || !digits(&us, s + 20, 6))
		return -1;
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	if (y < 1970 || mo < 1 || mo > 12 || d < 1 || d > days[mo - 1] + (unsigned)(mo == 2 && leap) || h > 23 || mi > 59 || sec > 59)
		return -1;
	/* Days since the epoch; the year starts in March, so that the leap day comes last. */
	unsigned yy = mo > 2 ? y : y - 1, era = yy / 400, yoe = yy % 400, doy = (153 * (mo > 2 ? mo - 3 : mo + 9) + 2) / 5 + d - 1;
	uint64_t day = (uint64_t)era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
	*wall_us = ((day * 24 + h) * 60 + mi) * UINT64_C(60000000) + sec * UINT64_C(1000000) + us;
	return 0;
}

static int unhex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A quoted value, the opening quote already taken. Only the escapes that record.c writes; no control octet. */
static bool take_value(struct cursor *c, struct parse_text *out)
{
	const char *s = c->p;

	while (c->p < c->end) {
		unsigned char ch = (unsigned char)*c->p;

		if (ch == '"') {
			out->p = s;
			out->n = (uint32_t)(c->p - s);
			c->p++;
			return true;
		}
		if (ch < 0x20 || ch == 0x7f || ch == ']')
			return false;
		if (ch != '\\') {
			c->p++;
			continue;
		}
		if (c->end - c->p < 2)
			return false;
		if (c->p[1] == '"' || c->p[1] == ']') {
			c->p += 2;
			continue;
		}
		if (c->end - c->p < 5 || c->p[1] != '\\' || c->p[2] != 'x' || unhex(c->p[3]) < 0 || unhex(c->p[4]) < 0)
			return false;
		c->p += 5;
	}
	return false;
}

size_t parse_unescape(uint8_t *out, struct parse_text t)
{
	uint8_t *o = out;

	for (size_t i = 0; i < t.n; i++) {
		if (t.p[i] != '\\') {
			*o++ = (uint8_t)t.p[i];
		} else if (t.p[i + 1] == '\\') {
			*o++ = (uint8_t)(unhex(t.p[i + 3]) << 4 | unhex(t.p[i + 4]));
			i += 4;
		} else {
			*o++ = (uint8_t)t.p[++i];
		}
	}
	return (size_t)(o - out);
}

/* src="<instance in hex>:<position or ->" */
static bool source(struct parse_record *r, struct parse_text t)
{
	const char *colon = memchr(t.p, ':', t.n);
	size_t n;

	if (!colon)
		return false;
	n = (size_t)(colon - t.p);
	if (n == 0 || n > 16 || (n > 1 && t.p[0] == '0'))
		return false;
	r->instance = 0;
	for (size_t i = 0; i < n; i++) {
		int d = unhex(t.p[i]);
		if (d < 0)
			return false;
		r->instance = r->instance << 4 | (unsigned)d;
	}
	n = t.n - n - 1;
	if (n == 1 && colon[1] == '-') {
		r->pos = RECORD_NONE;
		return true;
	}
	return number(&r->pos, colon + 1, n);
}

static bool own_field(struct parse_record *r, int id, struct parse_text t)
{
	uint64_t v;

	switch (id) {
	case SCHEMA_SEQ:
		return number(&r->seq, t.p, t.n) && r->seq > 0;
	case SCHEMA_PREV:
		return t.n == 2 * DIGEST_LEN && esc_unhex(r->prev, t.p, t.n) == 0;
	case SCHEMA_SRC:
		return source(r, t);
	case SCHEMA_WORKER:
		r->worker = t;
		return t.n > 0 && t.n <= RECORD_NAME_MAX;
	case SCHEMA_SYNC:
		return number(&r->sync, t.p, t.n) && r->sync > 0;
	case SCHEMA_AT:
		return parse_stamp(&v, t.p, t.n) == 0;
	case SCHEMA_OPEN_SEQ:
		return number(&r->open_seq, t.p, t.n) && r->open_seq > 0;
	case SCHEMA_EXCHANGE_ID:
		r->has_exchange = true;
		return uuid_parse(&r->exchange, t.p, t.n) == 0;
	case SCHEMA_ATTEMPT:
		if (!number(&v, t.p, t.n) || v == 0 || v > UINT16_MAX)
			return false;
		r->attempt = (unsigned)v;
		return true;
	default:
		return false;
	}
}

/* ` name="value"` and so on up to the closing bracket */
static int params(struct parse_record *r, struct cursor *c, const char **why)
{
	static const uint8_t first[] = {SCHEMA_SEQ, SCHEMA_SRC, SCHEMA_WORKER};
	uint64_t own = 0;
	unsigned n = 0;
	int last = -1;

	while (take(c, " ")) {
		const char *name = c->p;
		struct parse_text t;
		uint64_t v;

		while (c->p < c->end && ((*c->p >= 'a' && *c->p <= 'z') || *c->p == '_'))
			c->p++;
		size_t len = (size_t)(c->p - name);
		if (len == 0 || len > 32 || !take(c, "=\"")) {
			*why = "bad parameter name";
			return -1;
		}
		if (!take_value(c, &t)) {
			*why = "bad parameter value";
			return -1;
		}
		int id = schema_field_by_name(name, len);
		if (n < sizeof(first) && id != first[n]) {
			*why = "seq, src and worker do not come first";
			return -1;
		}
		n++;
		last = id;
		if (id < 0) {
			r->unknown++;
			continue;
		}
		if (id >= AUDIT_FIELDS) {
			uint64_t bit = UINT64_C(1) << (id - AUDIT_FIELDS);
			if (own & bit || !own_field(r, id, t)) {
				*why = own & bit ? "a parameter twice" : "bad value of a parameter of the journal";
				return -1;
			}
			own |= bit;
		} else {
			if (r->present >> id & 1) {
				*why = "a parameter twice";
				return -1;
			}
			if (schema_fields[id].number && !number(&v, t.p, t.n)) {
				*why = "a parameter that should be a number";
				return -1;
			}
			r->present |= UINT64_C(1) << id;
		}
		r->f[id] = t;
	}
	if (n <= sizeof(first) || last != SCHEMA_PREV) {
		*why = "prev does not come last";
		return -1;
	}
	return 0;
}

int parse_record(struct parse_record *out, const char *line, size_t n, const char **why)
{
	struct cursor c = {line, line + n};
	struct parse_text t;
	unsigned pri;

	out->present = out->sync = out->open_seq = 0;
	out->has_exchange = false;
	out->attempt = out->unknown = 0;
	out->f[SCHEMA_AT].n = 0;
	*why = "no RFC 5424 header of a journal record";
	if (!take(&c, "<") || c.end - c.p < 3 || !digits(&pri, c.p, 3) || pri / 8 != SCHEMA_FACILITY)
		return -1;
	c.p += 3;
	out->severity = pri % 8;
	if (!take(&c, ">1 ") || !take_word(&c, &t, 32) || parse_stamp(&out->wall_us, t.p, t.n) != 0 || !take_word(&c, &out->host, 255))
		return -1;
	if (!take(&c, SCHEMA_APP " ") || !take_word(&c, &t, 10) || !take_word(&c, &out->msgid, 32) || !take(&c, "[" SCHEMA_SD_ID))
		return -1;
	out->msg = schema_msg_by_name(out->msgid.p, out->msgid.n);
	if (params(out, &c, why) != 0)
		return -1;
	if (!take(&c, "]") || c.p != c.end) {
		*why = "bytes after the record, or no closing bracket";
		return -1;
	}
	return 0;
}

uint64_t parse_u64(const struct parse_record *r, enum audit_field f)
{
	uint64_t v = 0;

	if (r->present >> f & 1)
		number(&v, r->f[f].p, r->f[f].n);
	return v;
}

void parse_event(const struct parse_record *r, struct audit_event *e, void *mem, enum audit_type type, uint64_t mask)
{
	audit_event_init(e, mem, AUDIT_EVENT_MAX, type, r->has_exchange ? &r->exchange : NULL, r->attempt, r->wall_us);
	for (unsigned id = 1; id < AUDIT_FIELDS; id++) {
		uint8_t text[AUDIT_TEXT_MAX];

		if (!(r->present & mask & UINT64_C(1) << id))
			continue;
		if (schema_fields[id].number)
			audit_event_u64(e, (enum audit_field)id, parse_u64(r, (enum audit_field)id));
		else if (r->f[id].n <= AUDIT_TEXT_MAX * RECORD_ESCAPE_MAX) {
			uint8_t big[AUDIT_TEXT_MAX * RECORD_ESCAPE_MAX];
			size_t n = parse_unescape(big, r->f[id]);
			memcpy(text, big, n > sizeof(text) ? sizeof(text) : n);
			audit_event_text(e, (enum audit_field)id, text, n > sizeof(text) ? sizeof(text) : n);
		}
	}
	audit_event_done(e);
}
