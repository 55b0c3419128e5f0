/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process/role.h"

#include <stddef.h>

const char *
role_name(enum role r)
{
	static const char *const names[ROLES] = {
		[ROLE_MASTER] = "master", [ROLE_KEYS] = "keys", [ROLE_JOURNAL] = "journal",
		[ROLE_CONTROL] = "control", [ROLE_WORKER] = "worker", [ROLE_CA] = "ca",
	};

	return (unsigned)r < ROLES && names[r] ? names[r] : "unknown";
}
