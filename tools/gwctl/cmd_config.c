/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl config: the configuration on disk; the daemon is not asked. */
#include <stdio.h>

#include "gateway/config/config.h"
#include "tools/gwctl/request.h"

static json_t *
errs_json(const struct errs *errs, bool warnings)
{
	json_t *a = json_array();

	for (size_t i = 0; i < errs->n; i++)
		if (errs->items[i].warning == warnings)
			json_array_append_new(a, json_string(errs->items[i].text));
	return a;
}

static int
config_check(struct gwctl *g, int argc, char **argv)
{
	struct config *c;
	struct errs errs;
	struct buf image;
	int r;

	if (argc > 1)
		return gwctl_usage("config check", "\"%s\" is too much", argv[1]);
	errs_init(&errs);
	buf_init(&image, 0);
	c = config_load(g->config_path, &errs);
	if (c)
		config_policy_compile(c, 1, &image, &errs);
	r = !c || errs.errors ? GWCTL_FAILED : GWCTL_OK;
	if (g->json) {
		json_t *o = json_pack("{s:b, s:o, s:o}", "ok", r == GWCTL_OK, "faults", errs_json(&errs, false), "warnings",
		    errs_json(&errs, true));

		request_print_json(o);
		json_decref(o);
	} else {
		gwctl_print_errs(&errs);
		if (r == GWCTL_OK)
			printf("%s: ok\n", g->config_path);
	}
	config_free(c);
	buf_fini(&image);
	errs_fini(&errs);
	return r;
}

static int
config_show(struct gwctl *g, int argc, char **argv)
{
	struct config *c;
	struct errs errs;
	struct buf out;
	int r;

	if (argc > 1)
		return gwctl_usage("config dump", "\"%s\" is too much", argv[1]);
	errs_init(&errs);
	c = config_load(g->config_path, &errs);
	r = gwctl_print_errs(&errs);
	if (c) {
		buf_init(&out, 0);
		config_dump(c, &out);
		fwrite(out.data, 1, out.len, stdout);
		buf_fini(&out);
	} else {
		r = GWCTL_FAILED;
	}
	config_free(c);
	errs_fini(&errs);
	return r;
}

int
cmd_config(struct gwctl *g, int argc, char **argv)
{
	static const struct gwctl_sub subs[] = {
		{ "check", config_check, "check sallyport.conf and the policy: every fault as file:line" },
		{ "dump", config_show, "every option with the value in effect" },
		{ NULL, NULL, NULL },
	};

	return gwctl_dispatch(g, "config", subs, argc, argv);
}
