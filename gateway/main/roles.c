/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/roles.h"

#include <stddef.h>

#include "gateway/keys/helper.h"

const struct role_desc roles_table[ROLES] = {
	[ROLE_MASTER] = { ROLE_MASTER, "master", "reads the config, binds, starts the others", false, 0, NULL, NULL },
	[ROLE_KEYS] = { ROLE_KEYS, "keys", "holds the private keys and signs with them", false, 1, keys_main, &keys_helper },
	[ROLE_JOURNAL] = { ROLE_JOURNAL, "journal", "writes the audit journal", false, 1, journal_main, NULL },
	[ROLE_CONTROL] = { ROLE_CONTROL, "control", "answers gwctl", false, 1, control_main, NULL },
	[ROLE_WORKER] = { ROLE_WORKER, "worker", "accepts, decides, forwards", true, 1, worker_main, NULL },
	[ROLE_CA] = { ROLE_CA, "ca", "issues and renews certificates", false, 1, ca_main, NULL },
};

const struct roles_edge roles_edges[] = {
	{ ROLE_WORKER, ROLE_KEYS, true },
	{ ROLE_WORKER, ROLE_CA, true },
	{ ROLE_CONTROL, ROLE_WORKER, false },
	{ ROLE_CONTROL, ROLE_JOURNAL, false },
	{ ROLE_CONTROL, ROLE_KEYS, false },
	{ ROLE_CONTROL, ROLE_CA, false },
};
const unsigned roles_nedges = sizeof(roles_edges) / sizeof(roles_edges[0]);
