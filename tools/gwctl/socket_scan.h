/* SPDX-License-Identifier: Apache-2.0 */
/* Where the admin socket is, from a configuration that may be broken: "gwctl reload" must reach the daemon to be told so. */
#ifndef TOOLS_GWCTL_SOCKET_SCAN_H
#define TOOLS_GWCTL_SOCKET_SCAN_H

#include <stddef.h>

/*
 * The value of "socket" in the group "control" in this text of libconfig's syntax, whatever is wrong elsewhere in it. The caller's
 * (mem_free), or NULL when there is none.
 */
char *socket_scan(const char *text, size_t len);

#endif
