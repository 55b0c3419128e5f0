/* SPDX-License-Identifier: Apache-2.0 */
/* Faults and warnings with their places, and the bounds on what a policy may grow to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "policy/policy.h"

#define LIST(...) (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)
#define ALICE "spiffe://hud.example/alice"
#define ANY NULL, 0
#define NO_ITEMS (const char *const[]){ NULL }, 0
#define NONE (1 << POLICY_NONE)

static const struct policy_service services[] = { { "tax-svc", false }, { "ledger-db", true }, { "permit", false } };

static int
compile(const struct policy_rule *rules, size_t n, struct buf *image, struct errs *errs)
{
	struct policy_input in = { rules, n, services, 3, 1, NULL };

	errs_init(errs);
	buf_init(image, 0);
	return policy_compile(&in, image, errs);
}

static void
test_faults(void **state)
{
	const struct {
		struct policy_rule rule;
		const char *text; /* the only message must be this, behind "20-tax.conf:14: rule "r": " */
	} cases[] = {
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("tax-svx"), ANY, ANY, 0 }, "unknown service \"tax-svx\"; did you mean \"tax-svc\"?" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("quite-other"), ANY, ANY, 0 }, "unknown service \"quite-other\"; services are named in sallyport.conf" },
		{ { "r", NULL, 0, false, LIST("alice"), LIST("permit"), ANY, ANY, 0 }, "principal \"alice\": " },
		{ { "r", NULL, 0, false, LIST("spiffe://*/x"), LIST("permit"), ANY, ANY, 0 }, "principal \"spiffe://*/x\": " },
		{ { "r", NULL, 0, false, LIST("spiffe://a.example/**/x"), LIST("permit"), ANY, ANY, 0 },
		  "principal \"spiffe://a.example/**/x\": \"**\" is allowed at the end only" },
		{ { "r", NULL, 0, false, LIST("*", ALICE), LIST("permit"), ANY, ANY, 0 }, "principals: \"*\" means all of them and must stand alone" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit", "*"), ANY, ANY, 0 }, "services: \"*\" means all of them and must stand alone" },
		{ { "r", NULL, 0, false, ANY, LIST("permit"), ANY, ANY, 0 }, "no principals; name some, or [ \"*\" ] for anybody" },
		{ { "r", NULL, 0, false, LIST(ALICE), NO_ITEMS, ANY, ANY, 0 }, "no services; name some, or [ \"*\" ] for every service" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), NO_ITEMS, ANY, 0 }, "methods is empty, so it can never match" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, NO_ITEMS, 0 }, "paths is empty, so it can never match" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), LIST("GE T"), ANY, 0 }, "\"GE T\" is not a method" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), LIST(""), ANY, 0 }, "\"\" is not a method" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), LIST("*"), ANY, 0 }, "methods: \"*\" is a method of that name" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, LIST("v1"), 0 }, "path \"v1\": must start with \"/\"" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, LIST("/a?b"), 0 }, "path \"/a?b\": a path is matched without its query" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, LIST("/%61dmin"), 0 }, "path \"/%61dmin\": never matches" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, LIST("/a*b"), 0 }, "path \"/a*b\": \"*\" must be a whole segment or the end of one" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("ledger-db"), LIST("GET"), ANY, 0 }, "can never match: all its services are of kind \"tcp\"" },
		{ { "r", NULL, 0, true, LIST("*"), LIST("ledger-db"), ANY, LIST("/**"), 0 }, "can never match: all its services are of kind \"tcp\"" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, ANY, NONE }, "assurance \"none\" means a caller without a principal" },
		{ { "r", NULL, 0, true, LIST("spiffe://hud.example/**"), LIST("permit"), ANY, ANY, 0xf }, "assurance \"none\" means a caller without a principal" },
		{ { "r", NULL, 0, false, LIST(ALICE), LIST("permit"), ANY, ANY, 0x10 }, "unknown assurance bits 0x10" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct policy_rule r = cases[i].rule;
		struct buf image;
		struct errs errs;
		char want[256];

		r.file = "20-tax.conf";
		r.line = 14;
		snprintf(want, sizeof(want), "20-tax.conf:14: rule \"r\": %s", cases[i].text);
		if (compile(&r, 1, &image, &errs) == 0)
			fail_msg("accepted: %s", want);
		assert_int_equal(errs.errors, 1);
		if (strncmp(errs.items[0].text, want, strlen(want)) != 0)
			fail_msg("got \"%s\", want \"%s\"", errs.items[0].text, want);
		assert_int_equal(image.len, 0);
		errs_fini(&errs);
		buf_fini(&image);
	}
}

/* Every fault in one run, and names that are taken. */
static void
test_all_faults(void **state)
{
	const struct policy_rule rules[] = {
		{ "a", "10.conf", 1, false, LIST("x", "y"), LIST("nothing"), LIST("G ET"), LIST("v1", "/ok", "v2"), NONE },
		{ "b", "10.conf", 9, false, LIST(ALICE), LIST("permit"), ANY, ANY, 0 },
		{ "a", "20.conf", 2, true, LIST(ALICE), LIST("permit"), ANY, ANY, 0 },
		{ "", "20.conf", 5, true, LIST(ALICE), LIST("permit"), ANY, ANY, 0 },
	};
	struct buf image;
	struct errs errs;
	bool taken = false, unnamed = false;

	(void)state;
	assert_int_equal(compile(rules, 4, &image, &errs), -1);
	assert_int_equal(errs.errors, 9);
	for (size_t i = 0; i < errs.n; i++) {
		taken |= strcmp(errs.items[i].text, "20.conf:2: rule \"a\": the name is taken by 10.conf:1; names are unique over all files") == 0;
		unnamed |= strcmp(errs.items[i].text, "20.conf:5: a rule without a name; the journal needs one") == 0;
	}
	assert_true(taken && unnamed);
	errs_fini(&errs);
	buf_fini(&image);
}

/* What a rule may well say. */
static void
test_good(void **state)
{
	const struct policy_rule rules[] = {
		{ "none", "f", 1, false, LIST("*"), LIST("*"), ANY, ANY, NONE },
		{ "mixed", "f", 2, false, LIST(ALICE), LIST("ledger-db", "permit"), LIST("GET"), ANY, 0 },
		{ "twice", "f", 3, false, LIST(ALICE, ALICE, "spiffe://hud.example/*"), LIST("permit", "permit"), LIST("GET", "GET"), LIST("/", "/"), 0 },
		{ "every", "f", 4, true, LIST("spiffe://hud.example/x"), LIST("*"), LIST("GET"), ANY, 0 },
	};
	struct buf image;
	struct errs errs;
	struct policy p;
	const char *why;

	(void)state;
	assert_int_equal(compile(rules, 4, &image, &errs), 0);
	assert_int_equal(errs.n, 0);
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	errs_fini(&errs);
	buf_fini(&image);
}

static void
test_warnings(void **state)
{
	const struct {
		struct policy_rule deny, allow;
		bool shadowed;
	} cases[] = {
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), ANY, ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), ANY, ANY, 0 }, true },
		{ { "d", "d.conf", 3, true, LIST("*"), LIST("*"), ANY, ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), LIST("GET"), LIST("/x"), 0 }, true },
		{ { "d", "d.conf", 3, true, LIST("spiffe://hud.example/**"), LIST("permit", "tax-svc"), LIST("GET", "PUT"), LIST("/v1/**", "/v2"), 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE, "spiffe://hud.example/x/*"), LIST("tax-svc"), LIST("GET"), LIST("/v1/a", "/v1/b/*"), 0 }, true },
		{ { "d", "d.conf", 3, true, LIST("spiffe://hud.example/b", ALICE), LIST("permit"), LIST("FOO", "BAR"), ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), LIST("BAR"), ANY, 0 }, true },
		/* narrower in one respect each */
		{ { "d", "d.conf", 3, true, LIST("spiffe://hud.example/*"), LIST("permit"), ANY, ANY, 0 },
		  { "a", "a.conf", 7, false, LIST("spiffe://hud.example/**"), LIST("permit"), ANY, ANY, 0 }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), ANY, ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("*"), ANY, ANY, 0 }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), LIST("GET"), ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), ANY, ANY, 0 }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), LIST("FOO"), ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), LIST("FOO", "BAR"), ANY, 0 }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), ANY, LIST("/v1/*"), 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), ANY, LIST("/v1/**"), 0 }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), ANY, LIST("/v1/*"), 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), ANY, ANY, 0 }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), ANY, ANY, 1 << POLICY_MTLS },
		  { "a", "a.conf", 7, false, LIST(ALICE), LIST("permit"), ANY, ANY, 1 << POLICY_MTLS | 1 << POLICY_UID }, false },
		{ { "d", "d.conf", 3, true, LIST(ALICE), LIST("permit"), ANY, ANY, 0 },
		  { "a", "a.conf", 7, false, LIST(ALICE, "spiffe://hud.example/b"), LIST("permit"), ANY, ANY, 0 }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct policy_rule rules[] = { cases[i].allow, cases[i].deny };
		struct buf image;
		struct errs errs;

		assert_int_equal(compile(rules, 2, &image, &errs), 0);
		assert_int_equal(errs.n, cases[i].shadowed);
		if (errs.n) {
			assert_true(errs.items[0].warning);
			assert_string_equal(errs.items[0].text, "a.conf:7: rule \"a\" allows nothing: the deny rule \"d\" (d.conf:3) covers it");
		}
		errs_fini(&errs);
		buf_fini(&image);
	}
}

static void
test_method_warnings(void **state)
{
	const struct policy_rule r = { "r", "f", 1, false, LIST(ALICE), LIST("permit"), LIST("get", "CONNECT", "GET"), ANY, 0 };
	struct buf image;
	struct errs errs;

	(void)state;
	assert_int_equal(compile(&r, 1, &image, &errs), 0);
	assert_int_equal(errs.n, 2);
	assert_string_equal(errs.items[0].text, "f:1: rule \"r\": method \"get\" is not \"GET\": methods are case-sensitive");
	errs_fini(&errs);
	buf_fini(&image);
}

/* What a client can write in several ways cannot be denied by writing it in one. */
static void
test_path_warnings(void **state)
{
	struct policy_rule r = { "r", "f", 1, true, LIST("*"), LIST("permit"), ANY, LIST("/a-b/*", "/a;b"), 0 };
	struct buf image;
	struct errs errs;

	(void)state;
	assert_int_equal(compile(&r, 1, &image, &errs), 0);
	assert_int_equal(errs.n, 1);
	assert_string_equal(errs.items[0].text, "f:1: rule \"r\": path \"/a;b\" can be written in other ways (\"%21\" for \"!\") that it does not match; "
			    "deny a wider pattern, or allow only what is wanted");
	errs_fini(&errs);
	buf_fini(&image);
	r.deny = false;
	assert_int_equal(compile(&r, 1, &image, &errs), 0);
	assert_int_equal(errs.n, 0);
	errs_fini(&errs);
	buf_fini(&image);
}

/* ---- growth ---- */

struct grow {
	char **texts;
	struct policy_rule *rules;
	size_t n;
};

static void
grow_fini(struct grow *g)
{
	for (size_t i = 0; i < g->n; i++) {
		mem_free(g->texts[i * 2]);
		mem_free(g->texts[i * 2 + 1]);
	}
	mem_free(g->texts);
	mem_free(g->rules);
}

/* n rules with one principal each, made of "format" and the rule's number. */
static void
grow_init(struct grow *g, size_t n, char *(*text)(size_t i))
{
	static const char *const everywhere[] = { "*" };

	g->n = n;
	g->texts = mem_array(2 * n, sizeof(*g->texts));
	g->rules = mem_array(n, sizeof(*g->rules));
	for (size_t i = 0; i < n; i++) {
		g->texts[i * 2] = mem_printf("r%zu", i);
		g->texts[i * 2 + 1] = text(i);
		g->rules[i] = (struct policy_rule){ .name = g->texts[i * 2], .file = "f", .line = (unsigned)i + 1, .nprincipals = 1,
			.principals = (const char *const *)&g->texts[i * 2 + 1], .services = everywhere, .nservices = 1 };
	}
}

static char *
crossing(size_t i)
{
	return i % 2 ? mem_printf("spiffe://hud.example/ns/n%zu/**", i) : mem_printf("spiffe://hud.example/ns/*/sa/s%zu", i);
}

static char *
binary(size_t i) /* each segment fixed or any: 2^depth patterns match one id */
{
	char *s = mem_printf("spiffe://hud.example"), *t;

	for (unsigned bit = 0; bit < 7; bit++) {
		t = mem_printf("%s/%s", s, i >> bit & 1 ? "*" : "a");
		mem_free(s);
		s = t;
	}
	return s;
}

static void
check_grow(size_t n, char *(*text)(size_t i), const char *fault)
{
	struct grow g;
	struct buf image;
	struct errs errs;
	struct policy p;
	const char *why;

	grow_init(&g, n, text);
	if (compile(g.rules, n, &image, &errs) == 0) {
		assert_null(fault);
		assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	} else {
		assert_int_equal(errs.errors, 1);
		assert_non_null(fault ? strstr(errs.items[0].text, fault) : NULL);
	}
	errs_fini(&errs);
	buf_fini(&image);
	grow_fini(&g);
}

static void
test_patterns_grow(void **state)
{
	(void)state;
	check_grow(600, crossing, NULL); /* 300 × 300 classes */
	check_grow(2000, crossing, "overlap in more than");
	check_grow(1 << 6, binary, NULL);
	check_grow(1 << 7, binary, "more than 64 patterns of principals match one id");
}

static void
test_pairs_grow(void **state)
{
	enum { N = 2000 };
	struct policy_service *many = mem_array(N, sizeof(*many));
	const char **names = mem_array(N, sizeof(*names)), **ids = mem_array(N, sizeof(*ids));
	struct policy_rule r = { "big", "f", 4, false, ids, 1000, names, N, ANY, ANY, 0 };
	struct policy_input in = { &r, 1, many, N, 1, NULL };
	struct buf image;
	struct errs errs;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		many[i].name = names[i] = mem_printf("service-%zu", i);
		ids[i] = mem_printf("spiffe://hud.example/%zu", i);
	}
	for (int big = 0; big < 2; big++) {
		r.nprincipals = big ? N : 1000;
		errs_init(&errs);
		buf_init(&image, 0);
		assert_int_equal(policy_compile(&in, &image, &errs), big ? -1 : 0);
		assert_true(big ? strncmp(errs.items[0].text, "f:4: rule \"big\": 2000 principals × 2000 services", 40) == 0 : errs.n == 0);
		errs_fini(&errs);
		buf_fini(&image);
	}
	for (size_t i = 0; i < N; i++) {
		mem_free((char *)(uintptr_t)names[i]);
		mem_free((char *)(uintptr_t)ids[i]);
	}
	mem_free(many);
	mem_free(names);
	mem_free(ids);
}

/* A buffer with a bound is left as it was. */
static void
test_bounded_image(void **state)
{
	const struct policy_rule r = { "r", "f", 1, false, LIST(ALICE), LIST("permit"), ANY, ANY, 0 };
	struct policy_input in = { &r, 1, services, 3, 1, NULL };
	struct buf image;
	struct errs errs;

	(void)state;
	errs_init(&errs);
	buf_init(&image, 300);
	buf_puts(&image, "before");
	assert_int_equal(policy_compile(&in, &image, &errs), -1);
	assert_int_equal(image.len, 6);
	assert_int_equal(errs.errors, 1);
	errs_fini(&errs);
	buf_fini(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults), cmocka_unit_test(test_all_faults), cmocka_unit_test(test_good), cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_method_warnings), cmocka_unit_test(test_path_warnings), cmocka_unit_test(test_patterns_grow), cmocka_unit_test(test_pairs_grow),
		cmocka_unit_test(test_bounded_image),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
