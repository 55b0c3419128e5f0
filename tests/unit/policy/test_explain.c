/* SPDX-License-Identifier: Apache-2.0 */
/* Reading rules back and saying why they did not match. That explaining and deciding agree is shown by test_match.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/explain.h"

#define LIST(...) (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)
#define ALICE "spiffe://hud.example/alice"

static const struct policy_service services[] = { { "web", false }, { "db", true } };

static void
test_lists(void **state)
{
	const struct policy_rule rules[] = {
		{ "full", "f", 1, false, LIST(ALICE, "spiffe://hud.example/b/*"), LIST("web", "db"), LIST("GET", "BREW"), LIST("/v1/**"), 6 },
		{ "any", "f", 2, true, LIST("*"), LIST("*"), NULL, 0, NULL, 0, 0 },
	};
	struct policy_input in = { rules, 2, services, 2, 1, NULL };
	struct buf image;
	struct errs errs;
	struct policy p;
	const char *why;

	(void)state;
	errs_init(&errs);
	buf_init(&image, 0);
	assert_int_equal(policy_compile(&in, &image, &errs), 0);
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	assert_int_equal(policy_list_count(&p, 0, POLICY_PRINCIPALS), 2);
	assert_string_equal(policy_list_item(&p, 0, POLICY_PRINCIPALS, 1), "spiffe://hud.example/b/*");
	assert_string_equal(policy_list_item(&p, 0, POLICY_SERVICES, 1), "db");
	assert_string_equal(policy_list_item(&p, 0, POLICY_METHODS, 1), "BREW");
	assert_string_equal(policy_list_item(&p, 0, POLICY_PATHS, 0), "/v1/**");
	assert_int_equal(policy_rule_assurance(&p, 0), 6);
	assert_string_equal(policy_list_item(&p, 1, POLICY_PRINCIPALS, 0), "*");
	assert_int_equal(policy_list_count(&p, 1, POLICY_SERVICES), 0);
	assert_int_equal(policy_list_count(&p, 1, POLICY_METHODS), 0);
	assert_int_equal(policy_list_count(&p, 1, POLICY_PATHS), 0);
	assert_int_equal(policy_rule_assurance(&p, 1), 15);
	assert_string_equal(policy_service_name(&p, 1), "db");
	assert_true(policy_service_is_tcp(&p, 1));
	errs_fini(&errs);
	buf_fini(&image);
}

static void
test_nearest(void **state)
{
	const struct policy_rule rules[] = {
		{ "bob", "f", 1, false, LIST("spiffe://hud.example/bob", "spiffe://hud.example/2", "spiffe://hud.example/3", "spiffe://hud.example/4",
			"spiffe://hud.example/5", "spiffe://hud.example/6"), LIST("web"), NULL, 0, NULL, 0, 0 },
		{ "path", "f", 2, false, LIST(ALICE), LIST("web"), NULL, 0, LIST("/v2/*"), 0 },
		{ "method", "f", 3, false, LIST(ALICE), LIST("web"), LIST("PUT", "POST"), NULL, 0, 1 << POLICY_UID },
		{ "assured", "f", 4, false, LIST(ALICE), LIST("web"), NULL, 0, NULL, 0, 1 << POLICY_UID | 1 << POLICY_ADDRESS },
		{ "service", "f", 5, false, LIST(ALICE), LIST("db"), NULL, 0, NULL, 0, 0 },
		{ "neither", "f", 6, false, LIST("spiffe://hud.example/bob"), LIST("db"), NULL, 0, NULL, 0, 0 },
		{ "no", "f", 7, true, LIST(ALICE), LIST("web"), LIST("BREW"), NULL, 0, 0 },
	};
	static const struct {
		uint32_t rule;
		const char *text;
	} want[] = {
		{ 3, "other assurance: address, uid" },
		{ 2, "other methods: PUT, POST; other assurance: uid" },
		{ 1, "other paths: /v2/*" },
		{ 4, "other services: db" },
		{ 0, "other principals: spiffe://hud.example/bob, spiffe://hud.example/2, spiffe://hud.example/3, spiffe://hud.example/4 and 2 more" },
	};
	struct policy_input in = { rules, 7, services, 2, 1, NULL };
	struct policy_explained e[POLICY_EXPLAIN_MAX];
	struct policy_query q = { .method = "GET", .method_len = 3, .path = "/v1", .path_len = 3, .assurance = POLICY_MTLS };
	struct buf image, text;
	struct errs errs;
	struct policy p;
	const char *why;

	(void)state;
	errs_init(&errs);
	buf_init(&image, 0);
	buf_init(&text, 0);
	assert_int_equal(policy_compile(&in, &image, &errs), 0);
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	q.service = policy_service_id(&p, "web");
	assert_int_equal(policy_explain(&p, &q, ALICE, e), 5);
	for (size_t i = 0; i < 5; i++) {
		buf_reset(&text);
		policy_explain_text(&p, &e[i], &text);
		assert_int_equal(e[i].rule, want[i].rule);
		assert_string_equal(buf_cstr(&text), want[i].text);
	}
	/* A deny rule that matches is told first, and needs no excuse. */
	q.method = "BREW";
	q.method_len = 4;
	assert_true(policy_explain(&p, &q, ALICE, e) > 0);
	assert_int_equal(e[0].rule, 6);
	buf_reset(&text);
	policy_explain_text(&p, &e[0], &text);
	assert_int_equal(text.len, 0);
	errs_fini(&errs);
	buf_fini(&image);
	buf_fini(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_lists), cmocka_unit_test(test_nearest) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
