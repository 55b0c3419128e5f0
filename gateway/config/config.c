/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From files to a checked struct config:
 *
 *   source.c   file, bounded, includes replaced      -> one text that knows its lines
 *   parse.c    libconfig's tree, options.c's table   -> struct config with defaults; unknown options, types, ranges
 *   check*.c   references, derived members, files    -> complete, or every fault
 *   lookup.c   the table of hosts
 *
 * image.c carries it to the other roles, policy_files.c reads policy.d, dump.c writes it for people.
 */
#include "gateway/config/config.h"

#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "gateway/config/check.h"
#include "gateway/config/load.h"
#include "gateway/config/lookup.h"
#include "gateway/config/options.h"
#include "gateway/config/parse.h"
#include "gateway/config/source.h"

struct config *
load_source(const struct source *s, const char *file, bool files, struct errs *errs)
{
	struct origins origins = { 0 };
	struct parse ps = { .source = s, .errs = errs, .file = file, .origins = &origins };
	struct check ck = { .source = s, .errs = errs, .origins = &origins, .files = files };
	size_t before = errs->errors;
	config_setting_t *uplink;
	struct config *c;
	config_t tree;

	if (parse_tree(&tree, s, errs) != 0)
		return NULL;
	c = mem_zalloc(sizeof(*c));
	c->file = mem_strdup(file);
	parse_group(&ps, config_root_setting(&tree), &options_config, c);
	uplink = config_setting_get_member(config_root_setting(&tree), "uplink");
	if (uplink && config_setting_is_group(uplink))
		c->peers[0].uplink = true;
	ck.c = c;
	check_config(&ck);
	origin_fini(&origins);
	config_destroy(&tree);
	if (errs->errors != before) {
		config_free(c);
		return NULL;
	}
	c->hosts = lookup_new(c);
	return c;
}

struct config *
config_load(const char *path, struct errs *errs)
{
	struct source s;
	struct config *c = NULL;

	if (source_read(&s, path, path, SOURCE_CONFIG_MAX, errs) == 0)
		c = load_source(&s, path, true, errs);
	source_fini(&s);
	return c;
}

char *
config_peek_domain(const char *path)
{
	struct errs errs;
	struct source s;
	config_t tree;
	const char *text;
	char *domain = NULL;

	errs_init(&errs);
	if (source_read(&s, path, path, SOURCE_CONFIG_MAX, &errs) == 0 && parse_tree(&tree, &s, &errs) == 0) {
		if (config_lookup_string(&tree, "domain", &text) && spiffe_domain_valid(text, strlen(text)))
			domain = mem_strdup(text);
		config_destroy(&tree);
	}
	source_fini(&s);
	errs_fini(&errs);
	return domain;
}
