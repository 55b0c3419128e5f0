/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring whose page and records the input writes: pairs of (offset, value) of 8 octets between reads. The reader ends or calls it
 * broken; the writer's side lives too (case 87).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/le.h"

#define BYTES 65536u

static void put(struct ring *w, size_t n)
{
	static uint8_t text[AUDIT_TEXT_MAX];
	struct audit_event e;
	void *p = ring_reserve_end(w, n + 64, 0);

	if (!p)
		return;
	audit_event_init(&e, p, n + 64, AUDIT_ALERT, NULL, 0, 0);
	audit_event_text(&e, AUDIT_F_DETAIL, text, n);
	audit_event_done(&e);
	ring_commit(w, e.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[AUDIT_EVENT_MAX];
	const char *why = NULL;
	int fd = ring_create(BYTES);
	struct ring *w = ring_map_writer(fd, -1, &why), *r = ring_map_reader(fd, &why);
	uint8_t *raw = mmap(NULL, 4096 + BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	for (size_t at = 0; at + 11 <= size && at < 11 * 64; at += 11) {
		uint32_t where = le_get16(data + at + 1) % (4096 + BYTES / 8);
		uint64_t pos;
		long n;

		put(w, data[at] * 8u);
		if (data[at] & 1)
			le_put64(raw + (where & ~7u), le_get64(data + at + 3));
		for (unsigned i = 0; i < 4; i++) {
			struct audit_fields f;
			n = ring_read(r, out, &pos, &why);
			if (n < 0 && !why)
				abort();
			if (n > AUDIT_EVENT_MAX)
				abort();
			if (n <= 0)
				break;
			audit_event_parse(&f, out, (size_t)n, &why);
		}
		if (data[at] & 2)
			ring_release(r);
		if (data[at] & 4)
			ring_refusal(w, 0);
	}
	munmap(raw, 4096 + BYTES);
	ring_unmap(w);
	ring_unmap(r);
	close(fd);
	return 0;
}
