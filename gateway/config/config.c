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

#define PEERS_MORE "peers" OPTION_MORE_SUFFIX

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

/* The same text with the files of peers_dir as one more list, where the option is written. The first reading is for that option. */
static int
add_peers_dir(struct source *s, const char *path, const char *without, struct errs *errs)
{
	const char *written;
	config_t tree;
	char *dir;
	int rc = 0;

	if (parse_tree(&tree, s, errs) != 0)
		return -1;
	if (config_lookup_string(&tree, "peers_dir", &written) && *written) {
		dir = source_beside(path, written);
		if (source_add_list(s, PEERS_MORE, dir, dir, without, SOURCE_CONFIG_MAX, errs) < 0)
			rc = -1;
		mem_free(dir);
	}
	config_destroy(&tree);
	return rc;
}

struct config *
config_load_without(const char *path, const char *without, struct errs *errs)
{
	struct source s;
	struct config *c = NULL;

	if (source_read(&s, path, path, SOURCE_CONFIG_MAX, errs) == 0 && add_peers_dir(&s, path, without, errs) == 0)
		c = load_source(&s, path, true, errs);
	source_fini(&s);
	return c;
}

struct config *
config_load(const char *path, struct errs *errs)
{
	return config_load_without(path, NULL, errs);
}

/* ---- parts of a configuration that may be faulty otherwise ---- */

/* A text of the top level. mem_free(); NULL. */
static char *
peek(const char *path, const char *option)
{
	struct errs errs;
	struct source s;
	config_t tree;
	const char *text;
	char *copy = NULL;

	errs_init(&errs);
	if (source_read(&s, path, path, SOURCE_CONFIG_MAX, &errs) == 0 && parse_tree(&tree, &s, &errs) == 0) {
		if (config_lookup_string(&tree, option, &text))
			copy = mem_strdup(text);
		config_destroy(&tree);
	}
	source_fini(&s);
	errs_fini(&errs);
	return copy;
}

struct config *
config_load_shape(const char *path)
{
	struct source s;
	struct errs errs;
	struct config *c = NULL;

	errs_init(&errs);
	if (source_read(&s, path, path, SOURCE_CONFIG_MAX, &errs) == 0 && add_peers_dir(&s, path, NULL, &errs) == 0)
		c = load_source(&s, path, false, &errs);
	source_fini(&s);
	errs_fini(&errs);
	return c;
}

char *
config_peek_domain(const char *path)
{
	char *domain = peek(path, "domain");

	if (domain && !spiffe_domain_valid(domain, strlen(domain))) {
		mem_free(domain);
		domain = NULL;
	}
	return domain;
}

char *
config_peek_peers_dir(const char *path)
{
	char *written = peek(path, "peers_dir"), *dir = written && *written ? source_beside(path, written) : NULL;

	mem_free(written);
	return dir;
}

static const char *
member_text(const config_setting_t *group, const char *name)
{
	const char *text;

	return config_setting_lookup_string(group, name, &text) ? text : NULL;
}

static void
each_written(const struct source *s, const config_setting_t *list, bool listed, config_written_peer_fn *on_peer, void *ctx)
{
	for (int i = 0; list && config_setting_is_list(list) && i < config_setting_length(list); i++) {
		config_setting_t *e = config_setting_get_elem(list, (unsigned)i);
		struct config_written_peer p = { .listed = listed };

		if (!config_setting_is_group(e))
			continue;
		p.name = member_text(e, "name");
		p.domain = member_text(e, "domain");
		p.bundle = member_text(e, "bundle");
		source_place(s, config_setting_source_line(e), &p.file, &p.line);
		on_peer(ctx, &p);
	}
}

int
config_peek_peers(const char *path, config_written_peer_fn *on_peer, void *ctx, struct errs *errs)
{
	struct source s;
	config_t tree;
	int rc = -1;

	if (source_read(&s, path, path, SOURCE_CONFIG_MAX, errs) == 0 && add_peers_dir(&s, path, NULL, errs) == 0 && parse_tree(&tree, &s, errs) == 0) {
		each_written(&s, config_lookup(&tree, "peers"), false, on_peer, ctx);
		each_written(&s, config_setting_get_member(config_root_setting(&tree), PEERS_MORE), true, on_peer, ctx);
		config_destroy(&tree);
		rc = 0;
	}
	source_fini(&s);
	return rc;
}
