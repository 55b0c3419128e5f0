/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pair: export, show, accept. cmd_pair() is declared in gwctl.h. */
#ifndef TOOLS_GWCTL_CMD_PAIR_H
#define TOOLS_GWCTL_CMD_PAIR_H

#include "tools/gwctl/gwctl.h"

#endif
