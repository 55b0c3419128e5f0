/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/enrol/note.h"

#include <sys/socket.h>

#define NOTE_MAX 6144

bool
enrol_note(struct ring *r, struct loop *l, const struct enrol_note *n)
{
	const struct {
		enum audit_field f;
		const char *text;
	} texts[] = {
		{ AUDIT_F_VERDICT, n->verdict }, { AUDIT_F_REASON, n->reason }, { AUDIT_F_DETAIL, n->detail }, { AUDIT_F_PRINCIPAL, n->principal },
		{ AUDIT_F_METHOD, n->method }, { AUDIT_F_LISTENER, n->listener }, { AUDIT_F_ENDPOINT, n->endpoint },
	};
	const struct {
		enum audit_field f;
		uint64_t v;
	} numbers[] = {
		{ AUDIT_F_STATUS, n->status }, { AUDIT_F_BYTES_IN, n->bytes_in }, { AUDIT_F_BYTES_OUT, n->bytes_out }, { AUDIT_F_DURATION_US, n->duration_us },
	};
	void *mem = !r ? NULL : n->before ? ring_reserve(r, NOTE_MAX, loop_now(l)) : ring_reserve_end(r, NOTE_MAX, loop_now(l));
	char client[ADDR_TEXT_MAX];
	struct audit_event e;

	if (!mem)
		return false;
	audit_event_init(&e, mem, NOTE_MAX, n->type, NULL, 0, loop_wall_us(l));
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		audit_event_str(&e, texts[i].f, texts[i].text);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (numbers[i].v)
			audit_event_u64(&e, numbers[i].f, numbers[i].v);
	if (n->client && n->client->len && n->client->ss.ss_family != AF_UNIX) {
		addr_format(n->client, client);
		audit_event_str(&e, AUDIT_F_CLIENT, client);
	}
	audit_event_done(&e);
	ring_commit(r, e.len);
	return true;
}
