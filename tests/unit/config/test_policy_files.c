/* SPDX-License-Identifier: Apache-2.0 */
/* policy.d: which files, in which order, what is refused, and that 100,000 rules take time in proportion. */
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

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "tests/unit/config/fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct config *conf;

static int
setup(void **state)
{
	struct errs errs;

	(void)state;
	fixture_setup();
	errs_init(&errs);
	conf = fixture_load(fixture_issue_conf, &errs);
	errs_fini(&errs);
	return conf ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	config_free(conf);
	fixture_teardown();
	return 0;
}

/* libconfig 1.5 forgets the text it was reading when the grammar fails. */
const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libconfig\nleak:strbuf_append\n";
}

static int
compile(struct buf *image, struct errs *errs)
{
	errs_init(errs);
	buf_init(image, 0);
	return config_policy_compile(conf, 7, image, errs);
}

static bool
allows(const struct policy *p, const char *principal, const char *service, const char *method, const char *path, enum policy_assurance as)
{
	struct policy_query q = {
		.principal = policy_principal(p, principal, strlen(principal)), .service = policy_service_id(p, service),
		.method = method, .method_len = strlen(method), .path = path, .path_len = strlen(path), .assurance = as,
	};
	struct policy_verdict v;

	policy_decide(p, &q, &v);
	return v.allow;
}

/* The issue's rule, and a deny rule in a later file. Hidden files, other names and directories of files do not count. */
static void
good(void **state)
{
	static const char rule[] =
	    "allow = ( { name = \"hud-calls-irs\"; principals = [ \"spiffe://hud.example/permit-svc\" ];\n"
	    "            services = [ \"tax-svc\" ]; methods = [ \"GET\" ]; paths = [ \"/v1/taxes/*\" ]; assurance = [ \"mtls\", \"uid\" ]; } );\n";
	const char *id = "spiffe://hud.example/permit-svc", *why;
	struct policy_rule_info info;
	char digest[65];
	struct policy p;
	struct buf image, again;
	struct errs errs;

	(void)state;
	fixture_write_text("policy.d/10-tax.conf", rule);
	fixture_write_text("policy.d/20-deny.conf", "deny = ( { name = \"not-seven\"; principals = ( \"*\" ); services = [ \"*\" ];\n paths = [ \"/v1/taxes/7\" ]; } );\n");
	fixture_write_text("policy.d/.hidden.conf", "syntax error");
	fixture_write_text("policy.d/10-tax.conf.bak", "syntax error");
	fixture_write_text("policy.d/.conf", "syntax error");
	assert_int_equal(compile(&image, &errs), 0);
	assert_int_equal(errs.n, 0);
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	assert_int_equal(p.generation, 7);
	assert_int_equal(p.nrules, 2);
	assert_true(allows(&p, id, "tax-svc", "GET", "/v1/taxes/1", POLICY_MTLS));
	assert_true(allows(&p, id, "tax-svc", "GET", "/v1/taxes/1", POLICY_UID));
	assert_false(allows(&p, id, "tax-svc", "GET", "/v1/taxes/1", POLICY_ADDRESS));
	assert_false(allows(&p, id, "tax-svc", "GET", "/v1/taxes/7", POLICY_MTLS));
	assert_false(allows(&p, id, "tax-svc", "POST", "/v1/taxes/1", POLICY_MTLS));
	assert_false(allows(&p, id, "permit-svc", "GET", "/v1/taxes/1", POLICY_MTLS));
	for (uint32_t i = 0; i < p.nrules; i++) {
		policy_rule_info(&p, i, &info);
		assert_string_equal(info.file, info.deny ? "policy.d/20-deny.conf" : "policy.d/10-tax.conf");
		assert_string_equal(info.name, info.deny ? "not-seven" : "hud-calls-irs");
		assert_int_equal(info.line, 1);
	}
	snprintf(digest, sizeof(digest), "%s", policy_digest(&p));
	assert_int_equal(strlen(digest), 64);
	/* The same files: the same digest. Another name or byte: another one. */
	assert_int_equal(compile(&again, &errs), 0);
	assert_int_equal(policy_open(&p, again.data, again.len, &why), 0);
	assert_string_equal(policy_digest(&p), digest);
	buf_fini(&again);
	fixture_write_text("policy.d/20-deny.conf", "deny = ( { name = \"not-seven\"; principals = ( \"*\" ); services = [ \"*\" ];\n paths = [ \"/v1/taxes/8\" ]; } );\n");
	assert_int_equal(compile(&again, &errs), 0);
	assert_int_equal(policy_open(&p, again.data, again.len, &why), 0);
	assert_string_not_equal(policy_digest(&p), digest);
	buf_fini(&again);
	buf_fini(&image);
	fixture_remove("policy.d/10-tax.conf");
	fixture_remove("policy.d/20-deny.conf");
	fixture_remove("policy.d/10-tax.conf.bak");
}

/* "10-" comes before "9-", and upper case before lower: as strcmp(3) has it, in every locale. */
static void
order(void **state)
{
	static const char *const names[] = { "10-a.conf", "9-a.conf", "B.conf", "a.conf" };
	struct policy_rule_info info;
	char text[256], path[64];
	struct policy p;
	struct buf image;
	struct errs errs;
	const char *why;

	(void)state;
	for (size_t i = COUNT(names); i-- > 0;) {
		snprintf(path, sizeof(path), "policy.d/%s", names[i]);
		snprintf(text, sizeof(text), "allow = ( { name = \"%zu\"; principals = [ \"spiffe://hud.example/%zu\" ]; services = [ \"tax-svc\" ]; } );", i, i);
		fixture_write_text(path, text);
	}
	assert_int_equal(compile(&image, &errs), 0);
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	for (uint32_t i = 0; i < COUNT(names); i++) {
		policy_rule_info(&p, i, &info);
		snprintf(path, sizeof(path), "policy.d/%s", names[i]);
		assert_string_equal(info.file, path);
		fixture_remove(path);
	}
	buf_fini(&image);
}

static void
expect(const char *const *texts)
{
	struct errs errs;
	struct buf image;
	size_t n = 0;

	assert_int_equal(compile(&image, &errs), -1);
	assert_int_equal(image.len, 0);
	for (; texts[n]; n++) {
		if (n >= errs.n)
			fail_msg("missing: %s", texts[n]);
		assert_string_equal(fixture_plain(errs.items[n].text), texts[n]);
	}
	if (errs.n > n)
		fail_msg("too many: %s", fixture_plain(errs.items[n].text));
	errs_fini(&errs);
	buf_fini(&image);
}

#define P "principals = [ \"spiffe://hud.example/a\" ]; "
#define S "services = [ \"tax-svc\" ]; "

static void
faults(void **state)
{
	static const struct {
		const char *text;
		const char *expect[8];
	} cases[] = {
		{ "alow = ( );", { "policy.d/a.conf:1: unknown option \"alow\"; did you mean \"allow\"?" } },
		{ "\nrules = ( );", { "policy.d/a.conf:2: unknown option \"rules\"; a policy file has \"allow\" and \"deny\"" } },
		{ "allow = { name = \"x\"; };", { "policy.d/a.conf:1: \"allow\" is a list of rules: allow = ( { … }, { … } )" } },
		{ "allow = [ \"x\" ];", { "policy.d/a.conf:1: \"allow\" is a list of rules: allow = ( { … }, { … } )" } },
		{ "deny = ( \"x\", 5 );", { "policy.d/a.conf:1: a rule is a group: { … }", "policy.d/a.conf:1: a rule is a group: { … }" } },
		{ "allow = (\n{ },\n{ name = \"x\"; principal = [ ]; } );",
		    { "policy.d/a.conf:2: a rule has no \"name\"; add it", "policy.d/a.conf:2: a rule has no \"principals\"; add it",
			"policy.d/a.conf:2: a rule has no \"services\"; add it", "policy.d/a.conf:3: a rule has no \"principals\"; add it",
			"policy.d/a.conf:3: a rule has no \"services\"; add it",
			"policy.d/a.conf:3: unknown option \"principal\" of a rule; did you mean \"principals\"?" } },
		{ "allow = ( { name = \"x\"; " P S "assurance = [ \"mTLS\", \"trust\" ]; },\n{ name = 5; " P S "methods = \"GET\"; paths = [ 1 ]; } );",
		    { "policy.d/a.conf:1: \"assurance\" has \"mTLS\"; write a list of any of \"mtls\", \"uid\", \"address\", \"none\"",
			"policy.d/a.conf:1: \"assurance\" has \"trust\"; write a list of any of \"mtls\", \"uid\", \"address\", \"none\"",
			"policy.d/a.conf:2: \"name\" is an integer; write text in quotes",
			"policy.d/a.conf:2: \"methods\" is text; write a list of texts: [ \"…\", \"…\" ]",
			"policy.d/a.conf:2: \"paths\" is an integer; write a list of texts: [ \"…\", \"…\" ]" } },
		{ "allow = ( { name = \"x\"; principals = [ ]; services = [ ]; methods = [ ]; paths = [ ]; assurance = [ ]; } );",
		    { "policy.d/a.conf:1: \"principals\" is empty; name at least one", "policy.d/a.conf:1: \"services\" is empty; name at least one",
			"policy.d/a.conf:1: \"methods\" is empty; name at least one", "policy.d/a.conf:1: \"paths\" is empty; name at least one",
			"policy.d/a.conf:1: \"assurance\" is empty; name at least one" } },
		{ "allow = ( { name = \"x\"; " P S "}", { "policy.d/a.conf:1: this bracket is never closed; \")\" is missing" } },
		{ "@include \"../sallyport.conf\"\n",
		    { "policy.d/a.conf:1: cannot include \"../sallyport.conf\": name a file in or below the directory of the configuration" } },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		fixture_write_text("policy.d/a.conf", cases[i].text);
		expect(cases[i].expect);
	}
	fixture_remove("policy.d/a.conf");
}

/* One file does not parse: its first fault, and every fault of the other files, the compiler's included. */
static void
several_files(void **state)
{
	char *dir = fixture_path("policy.d/c.conf");
	struct errs errs;
	struct buf image;

	(void)state;
	fixture_write_text("policy.d/a.conf", "allow = = ( );\nallow = = ( );\n");
	fixture_write_text("policy.d/b.conf", "allow = ( { name = \"b\"; " P "services = [ \"tax-svx\" ]; } );\nalow = 1;");
	assert_int_equal(mkdir(dir, 0700), 0);
	mem_free(dir);
	assert_int_equal(compile(&image, &errs), -1);
	assert_int_equal(errs.n, 4);
	assert_non_null(strstr(errs.items[0].text, "policy.d/a.conf:1: syntax error"));
	assert_non_null(strstr(errs.items[1].text, "policy.d/b.conf:2: unknown option \"alow\""));
	assert_non_null(strstr(errs.items[2].text, "policy.d/c.conf: cannot read it: it is not a regular file"));
	assert_string_equal(errs.items[3].text, "policy.d/b.conf:1: rule \"b\": unknown service \"tax-svx\"; did you mean \"tax-svc\"?");
	errs_fini(&errs);
	buf_fini(&image);
	fixture_remove("policy.d/a.conf");
	fixture_remove("policy.d/b.conf");
	fixture_remove("policy.d/c.conf");
}

static void
empty_and_missing(void **state)
{
	struct policy p;
	struct errs errs;
	struct buf image;
	const char *why;
	char *dir = fixture_path("policy.d");

	(void)state;
	assert_int_equal(compile(&image, &errs), 0);
	assert_int_equal(errs.n, 1);
	assert_true(errs.items[0].warning);
	assert_string_equal(errs.items[0].text, "policy.d: there are no rules, so nothing is allowed");
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	assert_int_equal(p.nrules, 0);
	errs_fini(&errs);
	buf_fini(&image);
	fixture_remove("policy.d/.conf");
	fixture_remove("policy.d/.hidden.conf");
	fixture_remove("policy.d");
	expect((const char *const[]){ "policy.d: cannot read the policy directory: No such file or directory", NULL });
	fixture_write_text("policy.d", "");
	expect((const char *const[]){ "policy.d: cannot read the policy directory: Not a directory", NULL });
	fixture_remove("policy.d");
	assert_int_equal(mkdir(dir, 0700), 0);
	mem_free(dir);
}

static uint64_t
time_rules(int n)
{
	struct buf b, image;
	struct errs errs;
	uint64_t start;

	buf_init(&b, 0);
	buf_puts(&b, "allow = (\n");
	for (int i = 0; i < n; i++)
		buf_printf(&b, "%s{ name = \"rule-%d\"; principals = [ \"spiffe://hud.example/svc-%d\" ]; services = [ \"tax-svc\" ]; methods = [ \"GET\" ]; paths = [ \"/v1/%d/*\" ]; }\n",
		    i ? "," : "", i, i, i);
	buf_puts(&b, ");\n");
	fixture_write("policy.d/many.conf", b.data, b.len);
	buf_fini(&b);
	start = clock_mono_ms();
	assert_int_equal(compile(&image, &errs), 0);
	start = clock_mono_ms() - start;
	errs_fini(&errs);
	buf_fini(&image);
	fixture_remove("policy.d/many.conf");
	return start;
}

/* Ten times the rules: nearer to ten times than to a hundred times the time. */
static void
many_rules(void **state)
{
	uint64_t some = time_rules(10000), many = time_rules(100000);

	(void)state;
	print_message("10,000 rules in %llu ms, 100,000 in %llu ms\n", (unsigned long long)some, (unsigned long long)many);
	assert_true(many < 40 * (some + 10));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good), cmocka_unit_test(order), cmocka_unit_test(faults), cmocka_unit_test(several_files),
		cmocka_unit_test(empty_and_missing), cmocka_unit_test(many_rules),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
