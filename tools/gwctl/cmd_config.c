/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl config: the configuration on disk; the daemon is not asked. */
#include <stdio.h>

#include "gateway/config/config.h"
#include "tools/gwctl/gwctl.h"
#include "tools/gwctl/jsonout.h"

static int
config_check(struct gwctl *g, int argc, char **argv)
{
	struct config *c;
	struct errs errs;
	struct buf image;
	int r;

	(void)argv;
	if (argc > 1)
		return gwctl_usage("config check", "config check takes no argument");
	errs_init(&errs);
	buf_init(&image, 0);
	c = config_load(g->config_path, &errs);
	if (c)
		config_policy_compile(c, 1, &image, &errs);
	r = !c || errs.errors ? GWCTL_FAILED : GWCTL_OK;
	if (g->json) {
		jsonout_print(jsonout_checked(r == GWCTL_OK, &errs), r);
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

	(void)argv;
	if (argc > 1)
		return gwctl_usage("config dump", "config dump takes no argument");
	errs_init(&errs);
	c = config_load(g->config_path, &errs);
	r = gwctl_print_errs(&errs);
	if (c) {
		buf_init(&out, 0);
		if (g->json)
			config_dump_json(c, &out);
		else
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
