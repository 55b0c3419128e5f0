/* SPDX-License-Identifier: Apache-2.0 */
/* Events as a hostile worker writes them: refused, or a record of one line that parses back to the same octets. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/parse.h"
#include "gateway/audit/record.h"
#include "gateway/base/le.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[RECORD_MAX], back[AUDIT_EVENT_MAX * RECORD_ESCAPE_MAX], zero[DIGEST_LEN];
	struct record_format rf;
	struct audit_fields f;
	struct parse_record r;
	const char *why = NULL;
	uint8_t *event = malloc(size + 8);

	/* The ring sets the length to what it copied. */
	if (size >= 4)
		memcpy(event, data, size);
	if (size < 4 || size > AUDIT_EVENT_MAX) {
		free(event);
		return 0;
	}
	size &= ~(size_t)7;
	le_put32(event, (uint32_t)size);
	if (audit_event_parse(&f, event, size, &why) != 0) {
		if (!why)
			abort();
		free(event);
		return 0;
	}
	record_format_init(&rf, "fuzz", 1);
	struct record rec = {.msg = schema_msg_of(f.head.type), .severity = 6, .seq = 1, .wall_us = 1, .instance = 1, .pos = 8, .worker = "w",
		.f = &f, .open = &f, .open_mask = UINT64_MAX};
	if (audit_event_has_exchange(&f.head)) {
		rec.exchange = &f.head.exchange;
		rec.attempt = f.head.attempt;
	}
	size_t n = record_write(&rf, out, &rec);
	record_set_prev(out, n, zero);
	for (size_t i = 0; i < n; i++)
		if (out[i] < 0x20 || out[i] == 0x7f)
			abort();
	if (parse_record(&r, (char *)out, n, &why) != 0 || r.present != f.present)
		abort();
	for (unsigned i = 1; i < AUDIT_FIELDS; i++) {
		if (!(f.present >> i & 1))
			continue;
		if (audit_event_is_u64((enum audit_field)i)) {
			if (parse_u64(&r, (enum audit_field)i) != le_get64(f.f[i].p))
				abort();
		} else if (parse_unescape(back, r.f[i]) != f.f[i].n || memcmp(back, f.f[i].p, f.f[i].n) != 0) {
			abort();
		}
	}
	free(event);
	return 0;
}
