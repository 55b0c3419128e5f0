/* SPDX-License-Identifier: Apache-2.0 */
/* What master itself puts on record, through a ring of its own. */
#ifndef GATEWAY_MAIN_NOTE_H
#define GATEWAY_MAIN_NOTE_H

#include "gateway/main/master.h"

/* A role was "started", "ended", "died" or "killed"; how may be NULL. */
void note_role(struct master *m, const struct child *c, const char *what, const char *how);
/* Something that should never happen, with the role that did it (NULL: none). detail may be NULL. Also logged. */
void note_alert(struct master *m, const struct child *c, const char *reason, const char *detail);
/* A config or policy generation was taken ("allow") or refused ("deny"). detail may be NULL. */
void note_generation(struct master *m, bool taken, const char *reason, const char *detail);

/* An operator's or the gateway's own act upon a peer: "severed", "restored". */
void note_peer(struct master *m, const char *peer, const char *what);
/* A certificate of ours was renewed, or could not be: principal, what, detail. */
void note_renewal(struct master *m, const char *what, const char *detail);

#endif
