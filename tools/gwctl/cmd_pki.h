/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki: the domain's CA. cmd_pki() itself is declared in gwctl.h; this is what cmd_pair.c shares. */
#ifndef TOOLS_GWCTL_CMD_PKI_H
#define TOOLS_GWCTL_CMD_PKI_H

#include <stdint.h>

#include "tools/gwctl/gwctl.h"

/* The store that --dir names, or "pki" beside the configuration. mem_free(). */
char *cmd_pki_dir(const struct gwctl *g, const char *option);
/* "2026-11-20T09:00:00Z". */
void cmd_pki_time(char out[32], int64_t t);
int64_t cmd_pki_now(void);

#endif
