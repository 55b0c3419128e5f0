/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that are files of a directory: read with the configuration's own, each fault by file:line, and found without a sound configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "tests/unit/config/fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define HEAD "domain = \"hud.example\";\nidentity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };\n" \
	"peers_dir = \"pairs\";\n"
#define IRS "{ name = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\";\n" \
	"  gateways = [ \"spiffe://irs.example/gateway/dmz1\" ]; dial = [ \"203.0.113.20:443\" ]; }\n"
#define GOV "{ name = \"gov\"; domain = \"gov.example\"; bundle = \"peers/gov.example.pem\";\n" \
	"  gateways = [ \"spiffe://gov.example/gateway/a\" ]; dial = [ \"203.0.113.30:443\" ]; }\n"

static int
setup(void **state)
{
	char *dir;

	(void)state;
	fixture_setup();
	dir = fixture_path("pairs");
	assert_int_equal(mkdir(dir, 0755), 0);
	mem_free(dir);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_teardown();
	return 0;
}

static void
read_with_the_others(void **state)
{
	struct config_service *s;
	struct errs errs;
	struct config *c, *again;
	struct buf text;

	(void)state;
	errs_init(&errs);
	fixture_write_text("pairs/irs.example.conf", "# by hand\n" IRS);
	fixture_write_text("pairs/irs.example.pem", "not read");
	fixture_write_text("pairs/.hidden.conf", "not read");
	c = fixture_load(HEAD, &errs);
	assert_non_null(c);
	assert_int_equal(c->npeers, 1);
	assert_string_equal(c->peers[0].name, "irs");
	config_free(c);

	/* After what is written, in whichever order that stands. */
	c = fixture_load("peers = (" GOV ");\n" HEAD "services = ( { name = \"tax\"; host = \"tax.irs\"; via = \"irs\"; } );\n", &errs);
	assert_non_null(c);
	assert_int_equal(c->npeers, 2);
	assert_string_equal(c->peers[0].name, "gov");
	assert_string_equal(c->peers[1].name, "irs");
	assert_non_null(c->peers[1].bundle_pem);
	s = &c->services[0];
	assert_int_equal(s->peer_index, 1);

	/* A dump can be read again. */
	buf_init(&text, 0);
	config_dump(c, &text);
	again = fixture_load(buf_cstr(&text), &errs);
	assert_non_null(again);
	assert_int_equal(again->npeers, 2);
	config_free(again);
	config_free(c);
	buf_fini(&text);

	/* What would be without a file of it. */
	{
		char *path = fixture_path("sallyport.conf");

		c = fixture_load(HEAD, &errs);
		config_free(c);
		c = config_load_without(path, "irs.example.conf", &errs);
		assert_non_null(c);
		assert_int_equal(c->npeers, 0);
		config_free(c);
		mem_free(path);
	}
	assert_int_equal(errs.errors, 0);
	errs_fini(&errs);
	fixture_remove("pairs/irs.example.conf");
}

static void
faults(void **state)
{
	static const struct {
		const char *file, *more, *expect;
	} cases[] = {
		{ "", "", "pairs/x.conf: a file of this directory holds one entry: { … }" },
		{ "# nothing /* yet */\n/* {} */ // {}\n", "", "pairs/x.conf: a file of this directory holds one entry: { … }" },
		{ "name = \"x\";\n", "", "pairs/x.conf: a file of this directory holds one entry: { … }" },
		{ "peers = (" IRS ");", "", "pairs/x.conf: a file of this directory holds one entry: { … }" },
		{ "\n{ name = \"irs\" \n", "", "pairs/x.conf:2: this bracket is never closed; \"}\" is missing" },
		{ IRS "); domain = (\n", "", "pairs/x.conf:3: \")\" closes nothing; remove it" },
		{ IRS "\n" GOV, "",
		    "pairs/x.conf:4: syntax error here or just before; write  name = value;  with text in quotes, commas between the elements of ( ) and [ ]" },
		{ "\n\n{ nmae = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\"; gateways = [ \"spiffe://irs.example/gateway/dmz1\" ];"
		  " dial = [ \"203.0.113.20:443\" ]; }",
		    "", "pairs/x.conf:3: a peer has no \"name\"; add it" },
		{ IRS, "peers = (" GOV ",\n" IRS ");\n", "pairs/x.conf:1: " },
		{ IRS, "services = ( { name = \"a\"; host = \"a\"; via = \"isr\"; } );\n", "sallyport.conf:4: " },
	};
	struct errs errs;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *conf = mem_printf("%s%s", HEAD, cases[i].more);

		fixture_write_text("pairs/x.conf", cases[i].file);
		errs_init(&errs);
		assert_null(fixture_load(conf, &errs));
		assert_true(errs.errors >= 1);
		assert_int_equal(strncmp(fixture_plain(errs.items[0].text), cases[i].expect, strlen(cases[i].expect)), 0);
		errs_fini(&errs);
		mem_free(conf);
	}
	fixture_write("pairs/x.conf", "{\0}", 3);
	errs_init(&errs);
	assert_null(fixture_load(HEAD, &errs));
	assert_string_equal(fixture_plain(errs.items[0].text), "pairs/x.conf: cannot read it: it contains a NUL byte, so it is no text file");
	errs_fini(&errs);
	fixture_remove("pairs/x.conf");
}

static void
odd_directories(void **state)
{
	char *conf = mem_strdup(HEAD), *name;
	struct errs errs;
	struct config *c;

	(void)state;
	/* Not there: no peers yet, and a word about it. */
	memcpy(strstr(conf, "\"pairs\""), "\"nairs\"", 7);
	errs_init(&errs);
	c = fixture_load(conf, &errs);
	assert_non_null(c);
	assert_int_equal(c->npeers, 0);
	assert_int_equal(errs.errors, 0);
	assert_int_equal(errs.n, 1);
	assert_non_null(strstr(errs.items[0].text, "\"gwctl pair accept\" makes it"));
	config_free(c);
	errs_fini(&errs);
	mem_free(conf);
	/* No directory. */
	conf = mem_printf("%s", HEAD);
	memcpy(strstr(conf, "\"pairs\""), "\"p.txt\"", 7);
	fixture_write_text("p.txt", "");
	errs_init(&errs);
	assert_null(fixture_load(conf, &errs));
	assert_string_equal(fixture_plain(errs.items[0].text), "p.txt: cannot read this directory: Not a directory");
	errs_fini(&errs);
	mem_free(conf);
	/* Too many. */
	for (int i = 0; i < 258; i++) {
		name = mem_printf("pairs/%d.conf", i);
		fixture_write_text(name, "{}");
		mem_free(name);
	}
	errs_init(&errs);
	assert_null(fixture_load(HEAD, &errs));
	assert_string_equal(fixture_plain(errs.items[0].text), "pairs: more than 256 files");
	errs_fini(&errs);
	for (int i = 0; i < 258; i++) {
		name = mem_printf("pairs/%d.conf", i);
		fixture_remove(name);
		mem_free(name);
	}
}

static void
note_peer(void *ctx, const struct config_written_peer *p)
{
	buf_printf(ctx, "%s %s %s:%u %s; ", p->name ? p->name : "-", p->domain ? p->domain : "-", fixture_plain(p->file), p->line, p->listed ? "listed" : "written");
}

static void
peeking(void **state)
{
	char *path = fixture_path("sallyport.conf"), *dir;
	struct buf got;
	struct errs errs;

	(void)state;
	errs_init(&errs);
	fixture_write_text("pairs/irs.example.conf", IRS);
	/* Everything else about it is wrong. */
	fixture_write_text("sallyport.conf", "peers_dir = \"pairs\"; domain = 7;\npeers = (\n{ name = 7; domain = \"gov.example\"; }, \"x\" );\n");
	buf_init(&got, 0);
	assert_int_equal(config_peek_peers(path, note_peer, &got, &errs), 0);
	assert_string_equal(buf_cstr(&got), "- gov.example sallyport.conf:3 written; irs irs.example pairs/irs.example.conf:1 listed; ");
	buf_fini(&got);
	dir = config_peek_peers_dir(path);
	assert_string_equal(fixture_plain(dir), "pairs");
	mem_free(dir);
	fixture_write_text("sallyport.conf", "peers = (");
	assert_int_equal(config_peek_peers(path, note_peer, NULL, &errs), -1);
	assert_null(config_peek_peers_dir(path));
	assert_null(config_peek_domain(path));
	errs_fini(&errs);
	mem_free(path);
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
		cmocka_unit_test(read_with_the_others), cmocka_unit_test(faults), cmocka_unit_test(odd_directories), cmocka_unit_test(peeking),
	};

	return cmocka_run_group_tests_name("config/peers_dir", tests, setup, teardown);
}
