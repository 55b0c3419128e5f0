/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules: every *.conf of policy_dir in bytewise order of their names, so that a prefix orders them everywhere alike.
 * A file has two lists of rules, "allow" and "deny". Texts of rules stay in libconfig's trees until they are compiled.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/options.h"
#include "gateway/config/parse.h"
#include "gateway/config/source.h"
#include "pki/digest.h"

#define FILES_MAX 10000
#define RULES_MAX 1000000

struct policy_files {
	const struct config *c;
	struct errs *errs;
	struct digest_run *digest;
	char **names;
	size_t nnames, names_cap;
	struct policy_file {
		config_t tree;
		struct source source;
		bool parsed;
	} *files;
	struct policy_rule *rules;
	size_t nrules, rules_cap;
};

/* policy_dir as the operator wrote it: relative to the config file, where it lies below its directory. */
static const char *
shown(const struct config *c)
{
	const char *slash = strrchr(c->file, '/');
	size_t n = slash ? (size_t)(slash - c->file) + 1 : 0;

	return n > 0 && !strncmp(c->policy_dir, c->file, n) && c->policy_dir[n] ? c->policy_dir + n : c->policy_dir;
}

static int
by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int
list_files(struct policy_files *pf)
{
	DIR *dir = opendir(pf->c->policy_dir);
	struct dirent *e;
	size_t len;

	if (!dir) {
		errs_add(pf->errs, shown(pf->c), 0, "cannot read the policy directory: %s", strerror(errno));
		return -1;
	}
	while ((e = readdir(dir)) != NULL && pf->nnames <= FILES_MAX) {
		len = strlen(e->d_name);
		if (e->d_name[0] == '.' || len < 6 || strcmp(e->d_name + len - 5, ".conf") != 0)
			continue;
		mem_grow(&pf->names, &pf->names_cap, pf->nnames + 1, sizeof(*pf->names));
		pf->names[pf->nnames++] = mem_strdup(e->d_name);
	}
	closedir(dir);
	if (pf->nnames > FILES_MAX) {
		errs_add(pf->errs, shown(pf->c), 0, "more than %d policy files", FILES_MAX);
		return -1;
	}
	if (pf->nnames > 0)
		qsort(pf->names, pf->nnames, sizeof(*pf->names), by_bytes);
	return 0;
}

static void
read_rules(struct policy_files *pf, struct parse *ps, config_setting_t *list, bool deny)
{
	size_t before;
	int n;

	if (!list)
		return;
	if (!config_setting_is_list(list)) {
		parse_fault(ps, list, "\"%s\" is a list of rules: %s = ( { … }, { … } )", config_setting_name(list), config_setting_name(list));
		return;
	}
	n = config_setting_length(list);
	if ((size_t)n > RULES_MAX - pf->nrules) {
		parse_fault(ps, list, "there are more than %d rules", RULES_MAX);
		return;
	}
	mem_grow(&pf->rules, &pf->rules_cap, pf->nrules + (size_t)n, sizeof(*pf->rules));
	for (int i = 0; i < n; i++) {
		config_setting_t *e = config_setting_get_elem(list, (unsigned)i);
		struct policy_rule *r = &pf->rules[pf->nrules];

		if (!config_setting_is_group(e)) {
			parse_fault(ps, e, "a rule is a group: { … }");
			continue;
		}
		before = pf->errs->errors;
		memset(r, 0, sizeof(*r));
		parse_group(ps, e, &options_rule, r);
		if (pf->errs->errors != before) { /* reported; the compiler need not stumble over it again */
			options_free(&options_rule, r, true);
			continue;
		}
		source_place(ps->source, config_setting_source_line(e), &r->file, &r->line);
		r->deny = deny;
		pf->nrules++;
	}
}

static void
read_tree(struct policy_files *pf, struct policy_file *f)
{
	static const char *const lists[] = { "allow", "deny" };
	struct parse ps = { .source = &f->source, .errs = pf->errs, .borrow = true };
	config_setting_t *root = config_root_setting(&f->tree), *s;
	const char *near;

	for (int i = 0; i < config_setting_length(root); i++) {
		s = config_setting_get_elem(root, (unsigned)i);
		if (!strcmp(config_setting_name(s), lists[0]) || !strcmp(config_setting_name(s), lists[1]))
			continue;
		near = errs_nearest(config_setting_name(s), lists, 2);
		parse_fault(&ps, s, near ? "unknown option \"%s\"; did you mean \"%s\"?" : "unknown option \"%s\"; a policy file has \"allow\" and \"deny\"",
		    config_setting_name(s), near);
	}
	read_rules(pf, &ps, config_setting_get_member(root, lists[0]), false);
	read_rules(pf, &ps, config_setting_get_member(root, lists[1]), true);
}

/* The digest covers names, lengths and contents, so that no two sets of files share one. */
static void
add_digest(struct policy_files *pf, const char *name, const struct buf *text)
{
	uint64_t len = text->len;

	digest_update(pf->digest, name, strlen(name) + 1);
	digest_update(pf->digest, &len, sizeof(len));
	digest_update(pf->digest, text->data, text->len);
}

static void
read_file(struct policy_files *pf, size_t i)
{
	struct policy_file *f = &pf->files[i];
	char *path = mem_printf("%s/%s", pf->c->policy_dir, pf->names[i]);
	char *name = mem_printf("%s/%s", shown(pf->c), pf->names[i]);

	if (source_read(&f->source, path, name, SOURCE_POLICY_MAX, pf->errs) == 0) {
		add_digest(pf, pf->names[i], &f->source.text);
		f->parsed = parse_tree(&f->tree, &f->source, pf->errs) == 0;
		buf_fini(&f->source.text); /* libconfig has copied what it needs, and it is large */
		if (f->parsed)
			read_tree(pf, f);
	}
	mem_free(path);
	mem_free(name);
}

static int
compile(struct policy_files *pf, uint64_t generation, struct buf *image)
{
	const struct config *c = pf->c;
	uint8_t digest[DIGEST_SHA256_LEN];
	char hex[2 * DIGEST_SHA256_LEN + 1];
	struct policy_service *services = mem_array(c->nservices, sizeof(*services));
	struct policy_input in = {
		.rules = pf->rules, .nrules = pf->nrules, .services = services, .nservices = c->nservices,
		.generation = generation, .digest = hex,
	};
	int rc;

	for (size_t i = 0; i < c->nservices; i++) {
		services[i].name = c->services[i].name;
		services[i].tcp = c->services[i].kind == CONFIG_KIND_TCP;
	}
	digest_final(pf->digest, digest);
	pf->digest = NULL;
	esc_hex(hex, digest, sizeof(digest));
	hex[sizeof(hex) - 1] = '\0';
	rc = policy_compile(&in, image, pf->errs);
	mem_free(services);
	return rc;
}

static void
fini(struct policy_files *pf)
{
	for (size_t i = 0; i < pf->nrules; i++)
		options_free(&options_rule, &pf->rules[i], true);
	mem_free(pf->rules);
	for (size_t i = 0; i < pf->nnames; i++) {
		if (pf->files && pf->files[i].parsed)
			config_destroy(&pf->files[i].tree);
		if (pf->files)
			source_fini(&pf->files[i].source);
		mem_free(pf->names[i]);
	}
	mem_free(pf->files);
	mem_free(pf->names);
	digest_cancel(pf->digest);
}

int
config_policy_compile(const struct config *c, uint64_t generation, struct buf *image, struct errs *errs)
{
	struct policy_files pf = { .c = c, .errs = errs, .digest = digest_begin() };
	size_t before = errs->errors, start = image->len;
	int rc = -1;

	if (list_files(&pf) == 0) {
		pf.files = mem_array(pf.nnames, sizeof(*pf.files));
		for (size_t i = 0; i < pf.nnames; i++)
			read_file(&pf, i);
		if (pf.nrules == 0 && errs->errors == before)
			errs_warn(errs, shown(c), 0, "there are no rules, so nothing is allowed");
		/* Compiled even after faults, for what the compiler finds in the other rules. */
		rc = compile(&pf, generation, image);
		if (errs->errors != before)
			rc = -1;
		if (rc != 0)
			image->len = start;
	}
	fini(&pf);
	return rc;
}
