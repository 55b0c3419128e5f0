/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl policy: check, test, list. cmd_policy() is declared in gwctl.h. */
#ifndef TOOLS_GWCTL_CMD_POLICY_H
#define TOOLS_GWCTL_CMD_POLICY_H

#include "tools/gwctl/gwctl.h"

#endif
