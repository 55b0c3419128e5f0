/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/event.h"

#include <string.h>

#include "gateway/base/le.h"

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
	while (len - at >= AUDIT_FIELD_HEAD) {
		unsigned id = le_get16(p + at), n = le_get16(p + at + 2);

		if (id == 0)
			break;
		at += AUDIT_FIELD_HEAD;
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
