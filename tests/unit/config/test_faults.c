/* SPDX-License-Identifier: Apache-2.0 */
/* Bad configurations, and every word that the operator reads of them (case 67: refused as a whole). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "tests/unit/config/fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define EXPECT_MAX 12

/* What is not given is as in a good configuration. Line 1 is the domain, 2 the identity, 3 listeners, 4 peers, 5 services. */
struct fault {
	const char *domain, *identity, *listeners, *peers, *services, *more;
	const char *expect[EXPECT_MAX]; /* without "sallyport.conf:"; warnings start with "warning: " */
};

static const char good_domain[] = "domain = \"hud.example\";";
static const char good_identity[] =
    "identity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };";
static const char good_listeners[] = "listeners = ( { name = \"t\"; address = \"192.0.2.10:443\"; accept = [ \"peers\" ]; } );";
static const char good_peers[] =
    "peers = ( { name = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\"; gateways = [ \"spiffe://irs.example/gateway/a\" ];"
    " dial = [ \"203.0.113.1:443\" ]; } );";
static const char good_services[] =
    "services = ( { name = \"web\"; host = \"web.example\"; via = \"irs\"; }, { name = \"db\"; host = \"db.example:5432\"; kind = \"tcp\"; via = \"irs\"; } );";

#define LISTENER(text) .listeners = "listeners = ( { " text " } );"
#define PEER(text) .peers = "peers = ( { name = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\"; " text " } );"
#define GATEWAYS "gateways = [ \"spiffe://irs.example/gateway/a\" ]; "
#define SERVICE(text) .services = "services = ( { name = \"web\"; host = \"web.example\"; via = \"irs\"; }, { name = \"x\"; " text " } );"
#define PLAIN "name = \"p\"; address = \"10.1.0.10:80\"; accept = [ \"plaintext\" ]; "
#define CLIENTS(text) LISTENER(PLAIN "clients = ( " text " );")
#define SIDECAR "identity = { certificate = \"pki/workload.crt\"; key = \"pki/workload.key\"; bundle = \"pki/hud.example.pem\"; };"
#define IDENTITY(certificate, key) \
	"identity = { certificate = \"pki/" certificate ".crt\"; key = \"pki/" key ".key\"; bundle = \"pki/hud.example.pem\"; };"
#define UPLINK "uplink = { dial = [ \"10.1.0.1:443\" ]; gateways = [ \"spiffe://hud.example/gateway/dmz2\" ]; };"
#define HUD "spiffe://hud.example/"

static const struct fault faults[] = {
#include "tests/unit/config/faults.inc"
};

static int
setup(void **state)
{
	(void)state;
	fixture_setup();
	fixture_write_text("empty.pem", "");
	fixture_write("nul.pem", "-----BEGIN\0", 12);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_teardown();
	return 0;
}

static const char *
shown(const struct errs_item *item, char *out, size_t size)
{
	const char *text = fixture_plain(item->text);
	const char *file = "sallyport.conf:";

	if (!strncmp(text, file, strlen(file)))
		text += strlen(file);
	snprintf(out, size, "%s%s", item->warning ? "warning: " : "", text);
	return out;
}

static bool
matches(const struct errs *errs, const char *const *expect)
{
	char text[2048];
	size_t n = 0;

	while (n < EXPECT_MAX && expect[n])
		n++;
	if (errs->n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(shown(&errs->items[i], text, sizeof(text)), expect[i]) != 0)
			return false;
	return true;
}

static void
table(void **state)
{
	bool failed = false;
	char text[2048];

	(void)state;
	for (size_t i = 0; i < COUNT(faults); i++) {
		const struct fault *f = &faults[i];
		char *conf = mem_printf("%s\n%s\n%s\n%s\n%s\n%s", f->domain ? f->domain : good_domain, f->identity ? f->identity : good_identity,
		    f->listeners ? f->listeners : good_listeners, f->peers ? f->peers : good_peers, f->services ? f->services : good_services,
		    f->more ? f->more : "");
		struct errs errs;
		struct config *c;

		errs_init(&errs);
		c = fixture_load(conf, &errs);
		if (!c != (errs.errors > 0) || !matches(&errs, f->expect)) {
			failed = true;
			print_message("in:\n%s\n", conf);
			for (size_t j = 0; j < EXPECT_MAX && f->expect[j]; j++)
				print_message("  expected: %s\n", f->expect[j]);
			for (size_t j = 0; j < errs.n; j++)
				print_message("  got:      %s\n", shown(&errs.items[j], text, sizeof(text)));
		}
		config_free(c);
		errs_fini(&errs);
		mem_free(conf);
	}
	if (failed)
		fail();
}

static void
expect_one(const char *path, const char *expect)
{
	struct errs errs;
	struct config *c;

	errs_init(&errs);
	c = config_load(path, &errs);
	assert_null(c);
	assert_int_equal(errs.n, 1);
	assert_string_equal(fixture_plain(errs.items[0].text), expect);
	errs_fini(&errs);
}

/* The file itself: missing, a directory, a FIFO (opened without hanging), too large, binary. */
static void
files(void **state)
{
	char *path;

	(void)state;
	path = fixture_path("none.conf");
	expect_one(path, "none.conf: cannot read it: No such file or directory");
	mem_free(path);
	path = fixture_path("pki");
	expect_one(path, "pki: cannot read it: it is not a regular file");
	mem_free(path);
	path = fixture_path("fifo");
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_one(path, "fifo: cannot read it: it is not a regular file");
	mem_free(path);
	path = fixture_path("large.conf");
	fixture_write_text("large.conf", "");
	assert_int_equal(truncate(path, (16 << 20) + 1), 0);
	expect_one(path, "large.conf: cannot read it: it is larger than 16 MiB");
	assert_int_equal(truncate(path, 100), 0);
	expect_one(path, "large.conf: cannot read it: it contains a NUL byte, so it is no text file");
	mem_free(path);
}

static void
includes(void **state)
{
	static const struct {
		const char *name, *text;  /* of the included file */
		const char *conf, *expect;
	} cases[] = {
		{ NULL, NULL, "\n@include \"none.inc\"\n", "sallyport.conf:2: cannot include \"none.inc\": No such file or directory" },
		{ NULL, NULL, "@include \"/etc/passwd\"\n",
		    "sallyport.conf:1: cannot include \"/etc/passwd\": name a file in or below the directory of the configuration" },
		{ NULL, NULL, "@include \"../x\"\n", "sallyport.conf:1: cannot include \"../x\": name a file in or below the directory of the configuration" },
		{ NULL, NULL, "@include \"pki/../../x\"\n",
		    "sallyport.conf:1: cannot include \"pki/../../x\": name a file in or below the directory of the configuration" },
		{ NULL, NULL, "@include \"link.inc\"\n", "sallyport.conf:1: cannot include \"link.inc\": it lies outside the directory of the configuration" },
		{ NULL, NULL, "@include \"pki\"\n", "pki: cannot read it: it is not a regular file" },
		{ "loop.inc", "# loop\n@include \"loop.inc\"\n", "@include \"loop.inc\"\n",
		    "loop.inc:2: cannot include \"loop.inc\": files include each other too deeply" },
		{ "bad.inc", "a = 1;\n\nb = ;\n", "\n\n@include \"bad.inc\"\n",
		    "bad.inc:3: syntax error here or just before; write  name = value;  with text in quotes, commas between the elements of ( ) and [ ]" },
		{ "open.inc", "a = {\n", "@include \"open.inc\"\n}", "open.inc:1: this bracket is never closed; \"}\" is missing" },
		{ "good.inc", "policy_dir = \"p\";\n", "@include \"good.inc\"\nworkers = = 2;\n",
		    "sallyport.conf:2: syntax error here or just before; write  name = value;  with text in quotes, commas between the elements of ( ) and [ ]" },
		{ NULL, NULL, "x = 1; @include \"good.inc\"\n", "sallyport.conf:1: \"@\" begins only a line  @include \"file\"" },
		{ NULL, NULL, "@include good.inc\n", "sallyport.conf:1: \"@\" begins only a line  @include \"file\"" },
		{ NULL, NULL, "@include \"good.inc\n\"\n", "sallyport.conf:1: \"@\" begins only a line  @include \"file\"" },
		{ NULL, NULL, "@include \"\"\n", "sallyport.conf:1: \"@\" begins only a line  @include \"file\"" },
		{ NULL, NULL, "@includes \"x\"\n", "sallyport.conf:1: \"@\" begins only a line  @include \"file\"" },
	};
	char *link = fixture_path("link.inc");

	(void)state;
	assert_int_equal(symlink("/etc/passwd", link), 0);
	mem_free(link);
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct errs errs;

		if (cases[i].name)
			fixture_write_text(cases[i].name, cases[i].text);
		errs_init(&errs);
		assert_null(fixture_load(cases[i].conf, &errs));
		assert_int_equal(errs.n, 1);
		assert_string_equal(fixture_plain(errs.items[0].text), cases[i].expect);
		errs_fini(&errs);
	}
}

/* Every prefix of a good text gets an answer. */
static void
prefixes(void **state)
{
	size_t len = strlen(fixture_issue_conf);
	char *part;

	(void)state;
	for (size_t n = 0; n < len; n++) {
		struct errs errs;

		errs_init(&errs);
		part = mem_strndup(fixture_issue_conf, n);
		config_free(fixture_load(part, &errs));
		mem_free(part);
		errs_fini(&errs);
	}
}

/* libconfig 1.5 forgets the text it was reading when the grammar fails. */
const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libconfig\nleak:strbuf_append\n";
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table), cmocka_unit_test(files), cmocka_unit_test(includes), cmocka_unit_test(prefixes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
