/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/flood.h"

#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/le.h"

void flood_init(struct flood *f, uint32_t limit)
{
	memset(f, 0, sizeof(*f));
	f->limit = limit;
}

/* "192.0.2.1:1234" and "[2001:db8::1]:1234" without the port; anything else whole. */
static size_t without_port(const uint8_t *p, size_t n)
{
	size_t i = n;

	while (i > 0 && p[i - 1] >= '0' && p[i - 1] <= '9')
		i--;
	if (i < 2 || i == n || p[i - 1] != ':' || (p[i - 2] != ']' && memchr(p, ':', i - 1)))
		return n;
	return i - 1;
}

static uint64_t cause(uint64_t instance, const struct audit_fields *e)
{
	static const uint8_t by[] = {AUDIT_F_REASON, AUDIT_F_PRINCIPAL, AUDIT_F_SERVICE, AUDIT_F_LISTENER, AUDIT_F_CLIENT};
	uint8_t key[16 + sizeof(by) * (4 + AUDIT_TEXT_MAX)], *o = key;

	le_put64(o, instance);
	le_put64(o + 8, e->head.type);
	o += 16;
	for (unsigned i = 0; i < sizeof(by); i++) {
		uint32_t n = 0;
		if (e->present >> by[i] & 1)
			n = (uint32_t)(by[i] == AUDIT_F_CLIENT ? without_port(e->f[by[i]].p, e->f[by[i]].n) : e->f[by[i]].n);
		le_put32(o, n);
		memcpy(o + 4, n ? e->f[by[i]].p : o, n);
		o += 4 + n;
	}
	return hash_bytes(key, (size_t)(o - key));
}

uint32_t flood_add(struct flood *f, uint64_t instance, const struct audit_fields *e, uint64_t now_ms, uint64_t batch, uint32_t item)
{
	uint64_t h = cause(instance, e), second = now_ms / 1000 + 1;
	struct flood_slot *s = NULL;

	/* Its own slot, else one of a second that is over; when all eight are busy it is written by itself. */
	for (unsigned i = 0; i < 8; i++) {
		struct flood_slot *at = &f->slot[(h + i) % FLOOD_SLOTS];
		if (at->second == second && at->cause == h) {
			s = at;
			break;
		}
		if (!s && at->second != second)
			s = at;
	}
	if (!s)
		return FLOOD_NONE;
	if (s->second != second || s->cause != h)
		*s = (struct flood_slot){.cause = h, .second = second};
	if (s->n < f->limit) {
		s->n++;
		return FLOOD_NONE;
	}
	if (s->batch != batch) {
		s->batch = batch;
		s->item = item;
	}
	return s->item;
}
