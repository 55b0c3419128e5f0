/* SPDX-License-Identifier: Apache-2.0 */
/* One question to the daemon: a line of JSON each way over the admin socket. */
#ifndef TOOLS_GWCTL_REQUEST_H
#define TOOLS_GWCTL_REQUEST_H

#include <jansson.h>

#include "tools/gwctl/gwctl.h"

/*
 * Asks, and waits for the answer. level: for log-level, else NULL; peer: for sever and restore, else NULL. 0 with *answer (the caller's, an object), whatever its "ok"; or an exit code after
 * saying what went wrong: GWCTL_UNREACHABLE when no daemon answers.
 */
int request_send(struct gwctl *g, const char *command, const char *level, json_t **answer);
int request_send_peer(struct gwctl *g, const char *command, const char *peer, json_t **answer);
/* The same without a word where nobody answers. */
int request_if_running(struct gwctl *g, const char *command, json_t **answer);
/* Does somebody answer on the admin socket? Says nothing. */
bool request_reachable(const struct gwctl *g);
/* The answer's "error", if it is one, on standard error. GWCTL_OK or GWCTL_FAILED. */
int request_failed(const json_t *answer);
/* For --json: the answer as it is, indented. */
void request_print_json(const json_t *answer);

#endif
