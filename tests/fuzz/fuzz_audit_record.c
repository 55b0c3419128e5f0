/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a journal and checkpoints: parsed or refused; what is parsed can be made an event again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/parse.h"
#include "gateway/audit/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t mem[AUDIT_EVENT_MAX / 8];
	struct segment_checkpoint cp;
	struct parse_record r;
	struct audit_fields f;
	struct audit_event e;
	const char *why = NULL;

	if (segment_checkpoint_parse(&cp, (const char *)data, size, &why) != 0 && !why)
		abort();
	if (parse_record(&r, (const char *)data, size, &why) != 0) {
		if (!why)
			abort();
		return 0;
	}
	for (unsigned i = 1; i < AUDIT_FIELDS; i++) {
		if (!(r.present >> i & 1))
			continue;
		uint8_t *out = malloc(r.f[i].n + 1u);
		if (parse_unescape(out, r.f[i]) > r.f[i].n)
			abort();
		free(out);
	}
	parse_event(&r, &e, mem, AUDIT_OPEN, UINT64_MAX);
	if (audit_event_parse(&f, e.p, e.len, &why) != 0)
		abort();
	return 0;
}
