/* SPDX-License-Identifier: Apache-2.0 */
/* JSON that gwctl makes itself: for --json. */
#ifndef TOOLS_GWCTL_JSONOUT_H
#define TOOLS_GWCTL_JSONOUT_H

#include <jansson.h>

#include "gateway/base/errs.h"

/* Never NULL: text of files may be any bytes, JSON takes UTF-8 only. */
json_t *jsonout_text(const char *s);
/* { "ok": …, "faults": [ … ], "warnings": [ … ] }, as the daemon answers a reload. */
json_t *jsonout_checked(bool ok, const struct errs *e);
/* Prints and releases it; returns rc, so that "return jsonout_print(…)" reads well. */
int jsonout_print(json_t *j, int rc);

#endif
