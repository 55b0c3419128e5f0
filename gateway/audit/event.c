/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/event.h"

#include <string.h>

#include "gateway/base/le.h"

#define FIELD_HEAD 4u /* u16 id, u16 len */

void audit_event_init(struct audit_event *e, void *mem, size_t cap, enum audit_type type, const struct uuid *exchange,
    unsigned attempt, uint64_t wall_us)
{
	struct audit_head h = {0};

	h.type = (uint16_t)type;
	h.attempt = attempt > UINT16_MAX ? UINT16_MAX : (uint16_t)attempt;
	h.wall_us = wall_us;
	if (exchange)
		h.exchange = *exchange;
	memcpy(mem, &h, sizeof(h));
	e->p = mem;
	e->len = sizeof(h);
	/* The sum of everything is a multiple of 8, so what does not fill one is not ours to use. */
	e->cap = (uint32_t)(cap > AUDIT_EVENT_MAX ? AUDIT_EVENT_MAX : cap) & ~7u;
}

void audit_event_text(struct audit_event *e, enum audit_field f, const void *p, size_t n)
{
	uint8_t *at = e->p + e->len;

	if (n == 0 || e->cap - e->len <= FIELD_HEAD)
		return;
	if (n > AUDIT_TEXT_MAX)
		n = AUDIT_TEXT_MAX;
	if (n > e->cap - e->len - FIELD_HEAD)
		n = e->cap - e->len - FIELD_HEAD;
	le_put16(at, (uint16_t)f);
	le_put16(at + 2, (uint16_t)n);
	memcpy(at + FIELD_HEAD, p, n);
	e->len += FIELD_HEAD + (uint32_t)n;
}

void audit_event_str(struct audit_event *e, enum audit_field f, const char *s)
{
	if (s)
		audit_event_text(e, f, s, strlen(s));
}

void audit_event_u64(struct audit_event *e, enum audit_field f, uint64_t v)
{
	uint8_t *at = e->p + e->len;

	if (e->cap - e->len < FIELD_HEAD + sizeof(v))
		return;
	le_put16(at, (uint16_t)f);
	le_put16(at + 2, sizeof(v));
	le_put64(at + FIELD_HEAD, v);
	e->len += FIELD_HEAD + sizeof(v);
}

void audit_event_done(struct audit_event *e)
{
	while (e->len & 7)
		e->p[e->len++] = 0;
	le_put32(e->p, e->len);
}

bool audit_event_has_exchange(const struct audit_head *h)
{
	return (le_get64(h->exchange.b) | le_get64(h->exchange.b + 8)) != 0;
}

int audit_event_parse(struct audit_fields *out, const uint8_t *p, size_t len, const char **why)
{
	size_t at = sizeof(struct audit_head);

	out->present = 0;
	if (len < sizeof(struct audit_head) || len > AUDIT_EVENT_MAX || len & 7) {
		*why = "bad event length";
		return -1;
	}
	memcpy(&out->head, p, sizeof(out->head));
	if (out->head.len != len) {
		*why = "event length disagrees with its head";
		return -1;
	}
	if (out->head.type == 0 || out->head.type >= AUDIT_TYPES) {
		*why = "unknown event type";
		return -1;
	}
	/* RFC 9562 5.7: version 7, variant 10. Anything else was never minted by a gateway. */
	if (audit_event_has_exchange(&out->head) &&
	    ((out->head.exchange.b[6] & 0xf0) != 0x70 || (out->head.exchange.b[8] & 0xc0) != 0x80)) {
		*why = "exchange id of an event is no UUIDv7";
		return -1;
	}
	while (len - at >= FIELD_HEAD) {
		unsigned id = le_get16(p + at), n = le_get16(p + at + 2);

		if (id == 0)
			break;
		at += FIELD_HEAD;
		if (id >= AUDIT_FIELDS || n > len - at) {
			*why = "bad field in an event";
			return -1;
		}
		if (audit_event_is_u64((enum audit_field)id) ? n != 8 : (n == 0 || n > AUDIT_TEXT_MAX)) {
			*why = "bad field length in an event";
			return -1;
		}
		if (out->present >> id & 1) {
			*why = "a field twice in an event";
			return -1;
		}
		out->present |= UINT64_C(1) << id;
		out->f[id].p = p + at;
		out->f[id].n = (uint16_t)n;
		at += n;
	}
	if (len - at >= 8) {
		*why = "bytes after the last field of an event";
		return -1;
	}
	for (; at < len; at++) {
		if (p[at]) {
			*why = "padding of an event is not zero";
			return -1;
		}
	}
	return 0;
}
