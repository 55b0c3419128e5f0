/* SPDX-License-Identifier: Apache-2.0 */
/* The keys role's helper: the process that has the HSM's module in it. Speaks with hsm.c; knows no worker and holds no key of its own. */
#ifndef GATEWAY_KEYS_HELPER_H
#define GATEWAY_KEYS_HELPER_H

#include "gateway/process/role.h"

/* What it is given: "module FILE" once, "path FILE", "env NAME=VALUE". */
extern const struct role_helper keys_helper;

#endif
