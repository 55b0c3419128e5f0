/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE ids: the grammar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/spiffe.h"

static int
parse(struct spiffe_id *id, const char *s, size_t n, const char **why)
{
	static char *kept; /* exactly n octets, so that ASan sees a read beyond */

	free(kept);
	kept = malloc(n ? n : 1);
	memcpy(kept, s, n);
	return spiffe_parse(id, kept, n, why);
}

static void
test_good(void **state)
{
	static const struct {
		const char *text, *domain, *path;
		bool gateway;
	} good[] = {
		{ "spiffe://hud.example/permit-svc", "hud.example", "/permit-svc", false },
		{ "spiffe://hud.example", "hud.example", "", false },
		{ "spiffe://a/b/c/D.e-f_G0", "a", "/b/c/D.e-f_G0", false },
		{ "spiffe://h_u-d.example/...", "h_u-d.example", "/...", false },
		{ "spiffe://hud.example/gateway/dmz1", "hud.example", "/gateway/dmz1", true },
		{ "spiffe://hud.example/gateway", "hud.example", "/gateway", false },
		{ "spiffe://hud.example/gateway/a/b", "hud.example", "/gateway/a/b", false },
		{ "spiffe://hud.example/Gateway/a", "hud.example", "/Gateway/a", false },
		{ "spiffe://hud.example/x/gateway/a", "hud.example", "/x/gateway/a", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct spiffe_id id;
		const char *why = NULL;

		if (parse(&id, good[i].text, strlen(good[i].text), &why) != 0)
			fail_msg("%s: %s", good[i].text, why);
		assert_int_equal(id.domain_len, strlen(good[i].domain));
		assert_memory_equal(id.domain, good[i].domain, id.domain_len);
		assert_int_equal(id.path_len, strlen(good[i].path));
		assert_memory_equal(id.path, good[i].path, id.path_len);
		assert_int_equal(spiffe_is_gateway(&id), good[i].gateway);
	}
}

/* case 46, and case 45: NUL and odd encodings */
static void
test_bad(void **state)
{
	static const char *const bad[] = {
		"", "spiffe:", "spiffe:/", "spiffe://", "spiffe:///a", "SPIFFE://a/b", "Spiffe://a/b", "http://a/b", " spiffe://a/b", "a/b",
		"spiffe://A.example/b", "spiffe://hud.Example/b", "spiffe://a:443/b", "spiffe://a:/b", "spiffe://u@a/b", "spiffe://u:p@a/b",
		"spiffe://a/b%20c", "spiffe://a/%2e%2e", "spiffe://a%2eb/c", "spiffe://a/", "spiffe://a/b/", "spiffe://a//b", "spiffe://a/b//c",
		"spiffe://a/.", "spiffe://a/..", "spiffe://a/./b", "spiffe://a/../b", "spiffe://a/b/..", "spiffe://a/b?c", "spiffe://a/b#c",
		"spiffe://a?b", "spiffe://a#b", "spiffe://a/b c", "spiffe://a/b\tc", "spiffe://a/b\n", "spiffe://a/b~", "spiffe://a/b:c",
		"spiffe://a/b@c", "spiffe://a/b*", "spiffe://a/\xc3\xa9", "spiffe://\xc3\xa9/b", "spiffe://a..b/c", "spiffe://.a/b", "spiffe://a./b",
		"spiffe://[::1]/b", "spiffe://a/b\\c", "spiffe://a,b/c",
	};
	char text[SPIFFE_ID_MAX + 2];
	struct spiffe_id id;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		if (parse(&id, bad[i], strlen(bad[i]), &why) == 0)
			fail_msg("%s: accepted", bad[i]);
		assert_non_null(why);
	}
	assert_int_equal(parse(&id, "spiffe://a/b\0c", 14, &why), -1);
	assert_int_equal(parse(&id, "spiffe://a\0/b", 13, &why), -1);
	assert_int_equal(parse(&id, "spiffe://a/b\0", 13, &why), -1);
	/* 2048 octets, and one more */
	memset(text, 'x', sizeof(text));
	memcpy(text, "spiffe://a/", 11);
	assert_int_equal(parse(&id, text, SPIFFE_ID_MAX, &why), 0);
	assert_int_equal(parse(&id, text, SPIFFE_ID_MAX + 1, &why), -1);
	/* a trust domain of 255 octets, and one more */
	memset(text, 'x', sizeof(text));
	memcpy(text, "spiffe://", 9);
	assert_int_equal(parse(&id, text, 9 + SPIFFE_DOMAIN_MAX, &why), 0);
	assert_int_equal(parse(&id, text, 9 + SPIFFE_DOMAIN_MAX + 1, &why), -1);
	parse(&id, "spiffe://a", 10, &why);
}

static void
test_domain(void **state)
{
	(void)state;
	assert_true(spiffe_domain_valid("hud.example", 11));
	assert_false(spiffe_domain_valid("", 0));
	assert_false(spiffe_domain_valid("hud.example/", 12));
	assert_false(spiffe_domain_valid("Hud", 3));
	assert_false(spiffe_domain_valid("hu\0d", 4));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_domain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
