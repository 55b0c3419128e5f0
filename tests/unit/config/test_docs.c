/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users read: the examples of conf/ load without a fault or warning, and the manual pages have each option of
 * the option table with its type, range and default as they are, and no other. Run from the root of the tree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/config/options.h"
#include "gateway/config/source.h"
#include "tests/unit/config/fixture.h"

static int
setup(void **state)
{
	(void)state;
	fixture_setup();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_teardown();
	return 0;
}

static char *
slurp(const char *path)
{
	const char *why;
	size_t len;
	char *text = source_slurp(path, SOURCE_PEM_MAX, &len, &why);

	if (!text)
		fail_msg("%s: %s", path, why);
	return text;
}

/* ---- examples ---- */

static void
load_example(const char *conf, const char *policy_dir)
{
	struct buf image;
	struct errs errs;
	struct config *c;
	struct policy p;
	const char *why;
	char *text, *dir, *name;

	text = slurp(conf);
	dir = fixture_path(policy_dir);
	mkdir(dir, 0700);
	mem_free(dir);
	errs_init(&errs);
	c = fixture_load(text, &errs);
	mem_free(text);
	for (size_t i = 0; i < errs.n; i++)
		fail_msg("%s: %s", conf, fixture_plain(errs.items[i].text));
	name = mem_printf("conf/%s/10-example.conf", policy_dir);
	text = slurp(name);
	fixture_write_text(name + strlen("conf/"), text);
	mem_free(text);
	buf_init(&image, 0);
	config_policy_compile(c, 1, &image, &errs);
	for (size_t i = 0; i < errs.n; i++)
		fail_msg("%s: %s", name, fixture_plain(errs.items[i].text));
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	assert_true(p.nrules > 0);
	mem_free(name);
	buf_fini(&image);
	config_free(c);
	errs_fini(&errs);
}

static void
gateway_example(void **state)
{
	(void)state;
	/* As "gwctl pair accept" leaves it. */
	fixture_write_text("peers/irs.example.conf", "{ name = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\";\n"
	    "  gateways = [ \"spiffe://irs.example/gateway/dmz1\" ]; dial = [ \"203.0.113.20:443\" ]; }\n");
	load_example("conf/sallyport.conf", "policy.d");
}

static void
sidecar_example(void **state)
{
	char *from = fixture_path("pki/workload.crt"), *to = fixture_path("pki/permit-svc.crt");
	char *from_key = fixture_path("pki/workload.key"), *to_key = fixture_path("pki/permit-svc.key");

	(void)state;
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(rename(from_key, to_key), 0);
	load_example("conf/sidecar.conf", "sidecar-policy.d");
	mem_free(from);
	mem_free(to);
	mem_free(from_key);
	mem_free(to_key);
}

/* The configuration of a fresh gateway is the table's: each limit in the example is its default. */
static void
example_shows_defaults(void **state)
{
	char *text = slurp("conf/sallyport.conf"), *limits, *without;
	struct errs errs;
	struct config *a, *b;
	struct buf da, db;

	(void)state;
	errs_init(&errs);
	a = fixture_load(text, &errs);
	limits = strstr(text, "\nlimits = {");
	assert_non_null(limits);
	without = mem_strndup(text, (size_t)(limits - text));
	b = fixture_load(without, &errs);
	buf_init(&da, 0);
	buf_init(&db, 0);
	config_dump(a, &da);
	config_dump(b, &db);
	assert_string_equal(buf_cstr(&da), buf_cstr(&db));
	buf_fini(&da);
	buf_fini(&db);
	config_free(a);
	config_free(b);
	errs_fini(&errs);
	mem_free(without);
	mem_free(text);
}

/* ---- manual pages ---- */

/*
 * A page's options as lines "path<TAB>what the page says". In the page a list of options begins with the comment
 * "options: PREFIX" and ends with "options end"; each is an item  .It Ic name  whose next line says type and default.
 */
static void
page_options(const char *page, struct buf *out)
{
	char prefix[128] = "", *text = slurp(page), *line, *next;
	bool inside = false;

	for (line = text; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!strncmp(line, ".\\\" options:", 12)) {
			snprintf(prefix, sizeof(prefix), "%s", line + 12 + (line[12] == ' '));
			inside = true;
		} else if (!strcmp(line, ".\\\" options end")) {
			inside = false;
		} else if (inside && !strncmp(line, ".It Ic ", 7)) {
			buf_printf(out, "%s%s\t%.*s\n", prefix, line + 7, (int)strcspn(next, "\n"), next);
		}
	}
	mem_free(text);
}

/* The same of a table. */
static void
table_options(const struct option_group *g, struct buf *out)
{
	struct buf rows;
	char *line, *save = NULL;

	buf_init(&rows, 0);
	options_print(g, "", &rows);
	for (line = strtok_r(buf_cstr(&rows), "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *path = line, *type = strchr(line, '\t'), *def, *expect;

		*type++ = '\0';
		def = strchr(type, '\t');
		*def++ = '\0';
		expect = strchr(def, '\t');
		*expect++ = '\0';
		buf_printf(out, "%s\t%c", path, *expect - ('a' - 'A'));
		for (expect++; *expect; expect++) {
			if (!strncmp(expect, "…", strlen("…"))) {
				buf_puts(out, "...");
				expect += strlen("…") - 1;
			} else {
				buf_append(out, expect, 1);
			}
		}
		if (!strcmp(def, "required"))
			buf_puts(out, "; required.\n");
		else if (!strcmp(def, "-"))
			buf_puts(out, "; no default.\n");
		else if (!strcmp(type, "integer") || !strcmp(type, "boolean"))
			buf_printf(out, "; default %s.\n", def);
		else
			buf_printf(out, "; default \"%s\".\n", def);
	}
	buf_fini(&rows);
}

static bool
has_line(const char *text, const char *line, size_t n)
{
	while (text) {
		if (!strncmp(text, line, n) && text[n] == '\n')
			return true;
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return false;
}

static bool
all_in(const char *some, const char *others, const char *what)
{
	bool ok = true;

	for (const char *line = some; *line; line += strcspn(line, "\n") + 1) {
		size_t n = strcspn(line, "\n");

		if (!has_line(others, line, n)) {
			print_message("%s: %.*s\n", what, (int)n, line);
			ok = false;
		}
	}
	return ok;
}

static void
compare(const char *page, const struct option_group *g)
{
	struct buf in_page, in_table;
	bool ok;

	buf_init(&in_page, 0);
	buf_init(&in_table, 0);
	page_options(page, &in_page);
	table_options(g, &in_table);
	ok = all_in(buf_cstr(&in_table), buf_cstr(&in_page), "not in the page");
	ok &= all_in(buf_cstr(&in_page), buf_cstr(&in_table), "only in the page");
	if (!ok)
		fail_msg("%s and the option table differ", page);
	assert_true(in_page.len > 0);
	buf_fini(&in_page);
	buf_fini(&in_table);
}

static void
pages(void **state)
{
	(void)state;
	compare("man/sallyport.conf.5", &options_config);
	compare("man/sallyport-policy.5", &options_rule);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gateway_example), cmocka_unit_test(example_shows_defaults), cmocka_unit_test(sidecar_example), cmocka_unit_test(pages),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
