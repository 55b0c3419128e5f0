/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl audit: reading journals. cmd_audit() itself is declared in gwctl.h; this is what its two files share. */
#ifndef TOOLS_GWCTL_CMD_AUDIT_H
#define TOOLS_GWCTL_CMD_AUDIT_H

#include "tools/gwctl/gwctl.h"

/* The directory named, or the configuration's (NULL). A descriptor, or -1 after a message; *path (mem_free()) is what was opened. */
int cmd_audit_dir(const struct gwctl *g, const char *named, char **path);

int cmd_audit_tail(struct gwctl *g, int argc, char **argv);
int cmd_audit_show(struct gwctl *g, int argc, char **argv);

#endif
