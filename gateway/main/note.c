/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/note.h"

#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/main/children.h"

/* Room in the ring for one event, or NULL: then the operator log is all there is. */
static bool
begin(struct master *m, struct audit_event *e, enum audit_type type)
{
	void *p = m->ring ? ring_reserve_end(m->ring, AUDIT_EVENT_MAX, clock_mono_ms()) : NULL;

	if (!p) {
		if (m->ring)
			log_error("an event of master is not in the journal: the ring is full; see \"gwctl status\" for why");
		return false;
	}
	audit_event_init(e, p, AUDIT_EVENT_MAX, type, NULL, 0, clock_wall_us());
	return true;
}

static void
end(struct master *m, struct audit_event *e)
{
	audit_event_done(e);
	ring_commit(m->ring, e->len);
}

void
note_role(struct master *m, const struct child *c, const char *what, const char *how)
{
	struct audit_event e;
	char detail[128];

	if (!begin(m, &e, AUDIT_ROLE))
		return;
	snprintf(detail, sizeof(detail), "%s%sindex=%u instance=%u uid=%u generation=%u", how ? how : "", how ? " " : "", c->index,
	    c->instance, (unsigned)c->uid, c->gen ? c->gen->number : 0);
	audit_event_str(&e, AUDIT_F_ROLE, role_name(c->role));
	audit_event_str(&e, AUDIT_F_REASON, what);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	end(m, &e);
}

void
note_alert(struct master *m, const struct child *c, const char *reason, const char *detail)
{
	struct audit_event e;
	char ident[32] = "-", text[160];

	if (c)
		children_ident(c, ident);
	snprintf(text, sizeof(text), "%s%s%s instance=%u", detail ? detail : "", detail ? "; " : "", ident, c ? c->instance : 0);
	log_error("alert=%s %s", reason, text);
	if (!begin(m, &e, AUDIT_ALERT))
		return;
	audit_event_str(&e, AUDIT_F_REASON, reason);
	if (c)
		audit_event_str(&e, AUDIT_F_ROLE, role_name(c->role));
	audit_event_str(&e, AUDIT_F_DETAIL, text);
	end(m, &e);
}

void
note_generation(struct master *m, bool taken, const char *reason, const char *detail)
{
	struct audit_event e;

	if (!begin(m, &e, AUDIT_GENERATION))
		return;
	audit_event_str(&e, AUDIT_F_VERDICT, taken ? "allow" : "deny");
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_u64(&e, AUDIT_F_GENERATION, m->policy_generation);
	audit_event_str(&e, AUDIT_F_DIGEST, m->policy_digest);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	end(m, &e);
}

void
note_peer(struct master *m, const char *peer, const char *what)
{
	struct audit_event e;

	if (!begin(m, &e, AUDIT_ALERT))
		return;
	audit_event_str(&e, AUDIT_F_REASON, what);
	audit_event_str(&e, AUDIT_F_PEER, peer);
	end(m, &e);
}

void
note_renewal(struct master *m, const char *what, const char *detail)
{
	struct audit_event e;

	if (!begin(m, &e, AUDIT_GENERATION))
		return;
	audit_event_str(&e, AUDIT_F_VERDICT, strcmp(what, "renewed") ? "deny" : "allow");
	audit_event_str(&e, AUDIT_F_REASON, what);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	end(m, &e);
}
