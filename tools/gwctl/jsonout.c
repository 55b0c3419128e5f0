/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/gwctl/jsonout.h"

#include <stdio.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/gwctl.h"

json_t *
jsonout_text(const char *s)
{
	json_t *j = json_string(s);
	char *safe;

	if (j)
		return j;
	safe = gwctl_safe(s);
	j = json_string(safe);
	mem_free(safe);
	return j;
}

static json_t *
texts(const struct errs *e, bool warnings)
{
	json_t *a = json_array();

	for (size_t i = 0; i < e->n; i++)
		if (e->items[i].warning == warnings)
			json_array_append_new(a, jsonout_text(e->items[i].text));
	return a;
}

json_t *
jsonout_checked(bool ok, const struct errs *e)
{
	return json_pack("{s:b, s:o, s:o, s:I}", "ok", ok, "faults", texts(e, false), "warnings", texts(e, true), "dropped",
	    (json_int_t)e->dropped);
}

int
jsonout_print(json_t *j, int rc)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
	return rc;
}
