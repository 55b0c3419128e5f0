/* SPDX-License-Identifier: Apache-2.0 */
/* From libconfig's tree to structs, by the option table. Types, ranges and names are checked here, references in check.c. */
#ifndef GATEWAY_CONFIG_PARSE_H
#define GATEWAY_CONFIG_PARSE_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/errs.h"
#include "gateway/config/options.h"
#include "gateway/config/origin.h"
#include "gateway/config/source.h"

struct parse {
	const struct source *source;
	struct errs *errs;
	const char *file;              /* file names in it are relative to its directory */
	bool borrow;                   /* texts stay libconfig's; the tree must outlive the structs */
	struct origins *origins; /* NULL: not wanted */
};

/* Parse the text of a source. 0 and *tree, which config_destroy() frees; or -1, nothing to free, and the syntax fault in *errs. */
int parse_tree(config_t *tree, const struct source *s, struct errs *errs);

/*
 * Fill the zeroed struct at "base" from a group: what is written, else the default. Every fault is added to errs; a member that
 * could not be read holds its default, or NULL. options_free() frees what was filled.
 */
void parse_group(struct parse *ps, config_setting_t *group, const struct option_group *g, void *base);
/* All defaults of a group that is not written. */
void parse_defaults(struct parse *ps, const struct option_group *g, void *base);

void parse_fault(struct parse *ps, const config_setting_t *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
