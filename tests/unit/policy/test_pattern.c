/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: what is one, what it matches, by pattern_match() and by the trie, and which covers which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "policy/pattern.h"
#include "policy/trie.h"

static const struct {
	const char *pattern, *path;
	bool matches;
} paths[] = {
	{ "/", "/", true }, { "/", "/a", false }, { "/", "//", false },
	{ "/v1", "/v1", true }, { "/v1", "/v1/", false }, { "/v1", "/v", false }, { "/v1", "/v11", false }, { "/v1", "/V1", false },
	{ "/v1/", "/v1/", true }, { "/v1/", "/v1", false }, { "/v1/", "/v1/a", false }, { "/v1/", "/v1//", false },
	{ "/v1/*", "/v1/a", true }, { "/v1/*", "/v1/", false }, { "/v1/*", "/v1", false }, { "/v1/*", "/v1/a/", false },
	{ "/v1/*", "/v1/a/b", false }, { "/v1/*", "/v1/%2A", true }, { "/v1/*", "/v1/...", true },
	{ "/*", "/a", true }, { "/*", "/", false }, { "/*/b", "/a/b", true }, { "/*/b", "//b", false }, { "/*/*", "/a/b", true },
	{ "/v1/*/", "/v1/a/", true }, { "/v1/*/", "/v1/a", false }, { "/v1/*/x", "/v1/a/x", true }, { "/v1/*/x", "/v1/a/y", false },
	{ "/v1/tax-*", "/v1/tax-1", true }, { "/v1/tax-*", "/v1/tax-", true }, { "/v1/tax-*", "/v1/tax", false },
	{ "/v1/tax-*", "/v1/tax-1/a", false }, { "/v1/tax-*", "/v1/tax-1/", false }, { "/v1/tax-*/a", "/v1/tax-1/a", true },
	{ "/v1/**", "/v1", true }, { "/v1/**", "/v1/", true }, { "/v1/**", "/v1/a", true }, { "/v1/**", "/v1/a/b", true },
	{ "/v1/**", "/v1//", true }, { "/v1/**", "/v11", false }, { "/v1/**", "/", false }, { "/**", "/", true }, { "/**", "/a/b/", true },
	{ "/v1/*/**", "/v1/a", true }, { "/v1/*/**", "/v1/a/b", true }, { "/v1/*/**", "/v1/", false }, { "/v1/*/**", "/v1", false },
	{ "/v1/tax-*/**", "/v1/tax-9/b/c", true }, { "/v1/tax-*/**", "/v1/tax-", true }, { "/v1/tax-*/**", "/v1/tex/b", false },
	{ "/...", "/...", true }, { "/.a", "/.a", true }, { "/a..", "/a..", true },
	{ "/%3F", "/%3F", true }, { "/%3F", "/%3f", false }, { "/a;b=c", "/a;b=c", true }, { "/a:b@c", "/a:b@c", true },
};

static const struct {
	const char *pattern, *id;
	bool matches;
} principals[] = {
	{ "spiffe://hud.example/a", "spiffe://hud.example/a", true }, { "spiffe://hud.example/a", "spiffe://hud.example/b", false },
	{ "spiffe://hud.example", "spiffe://hud.example", true }, { "spiffe://hud.example/*", "spiffe://hud.example", false },
	{ "spiffe://hud.example/**", "spiffe://hud.example", true }, { "spiffe://hud.example/**", "spiffe://hud.example/a/b", true },
	{ "spiffe://hud.example/**", "spiffe://hud.example.org/a", false }, { "spiffe://hud.example/**", "spiffe://irs.example/a", false },
	{ "spiffe://hud.example/ns/*/sa/x", "spiffe://hud.example/ns/prod/sa/x", true },
	{ "spiffe://hud.example/ns/*/sa/x", "spiffe://hud.example/ns/prod/sa/y", false },
	{ "spiffe://hud.example/ns/*/sa/x", "spiffe://hud.example/ns/a/b/sa/x", false },
	{ "spiffe://hud.example/ns/prod-*/**", "spiffe://hud.example/ns/prod-1/sa/x", true },
	{ "spiffe://hud.example/ns/prod-*/**", "spiffe://hud.example/ns/prod", false },
};

static void
set(void *arg, uint32_t accept)
{
	assert_int_equal(accept, 0);
	assert_false(*(bool *)arg); /* told once */
	*(bool *)arg = true;
}

static bool
trie_matches(const struct pattern *p, const char *text)
{
	struct trie_patterns patterns = { 0 };
	struct trie_nodes nodes = { 0 };
	struct intern strings;
	struct trie trie;
	uint32_t which = 0;
	bool got = false;
	char *copy = mem_strndup(text, strlen(text)); /* of exact size, for the sanitizer */

	intern_init(&strings, false);
	trie_patterns_add(&patterns, &strings, p);
	trie_build(&nodes, &patterns, &which, 1);
	trie = (struct trie){ nodes.nodes, (const char *)strings.bytes };
	trie_walk(&trie, copy, strlen(copy), set, &got);
	intern_fini(&strings);
	trie_patterns_fini(&patterns);
	mem_free(nodes.nodes);
	mem_free(copy);
	return got;
}

static void
test_match(void **state)
{
	struct pattern p;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		const char *path = paths[i].path + 1;

		if (pattern_parse_path(&p, paths[i].pattern, strlen(paths[i].pattern), &why) < 0)
			fail_msg("%s: %s", paths[i].pattern, why);
		if (pattern_match(&p, path, strlen(path)) != paths[i].matches || trie_matches(&p, path) != paths[i].matches)
			fail_msg("%s against %s", paths[i].pattern, paths[i].path);
	}
	for (size_t i = 0; i < sizeof(principals) / sizeof(*principals); i++) {
		const char *id = principals[i].id + PATTERN_SCHEME_LEN;

		if (pattern_parse_principal(&p, principals[i].pattern, strlen(principals[i].pattern), &why) < 0)
			fail_msg("%s: %s", principals[i].pattern, why);
		if (pattern_match(&p, id, strlen(id)) != principals[i].matches || trie_matches(&p, id) != principals[i].matches)
			fail_msg("%s against %s", principals[i].pattern, principals[i].id);
	}
}

struct word {
	uint32_t hash, number;
};

static int
cmp_word(const void *a, const void *b)
{
	uint32_t x = ((const struct word *)a)->hash, y = ((const struct word *)b)->hash;

	return x < y ? -1 : x > y;
}

static void
last_match(void *arg, uint32_t accept)
{
	*(uint32_t *)arg = accept;
}

/* Siblings of equal hash, among others: each is found. */
static void
test_collisions(void **state)
{
	enum { WORDS = 400000, MAX = 64 };
	struct word *words = mem_array(WORDS, sizeof(*words));
	struct trie_patterns patterns = { 0 };
	struct trie_nodes nodes = { 0 };
	struct intern strings;
	struct trie trie;
	struct pattern p;
	uint32_t which[MAX], n = 0, pairs = 0;
	char text[MAX][16];
	const char *why;

	(void)state;
	for (uint32_t i = 0; i < WORDS; i++) {
		snprintf(text[0], sizeof(text[0]), "w%u", i);
		words[i] = (struct word){ image_hash(text[0], strlen(text[0])), i };
	}
	qsort(words, WORDS, sizeof(*words), cmp_word);
	intern_init(&strings, false);
	for (uint32_t i = 1; i < WORDS && n + 4 < MAX; i++) {
		if (words[i].hash != words[i - 1].hash)
			continue;
		pairs++;
		for (uint32_t k = i - 1; k <= i + 1 && k < WORDS; k++) /* and one more */
			snprintf(text[n++], sizeof(text[0]), "/w%u", words[k].number);
	}
	assert_true(pairs >= 4);
	for (uint32_t i = 0; i < n; i++) {
		which[i] = i;
		assert_int_equal(pattern_parse_path(&p, text[i], strlen(text[i]), &why), 0);
		trie_patterns_add(&patterns, &strings, &p);
	}
	trie_build(&nodes, &patterns, which, n);
	trie = (struct trie){ nodes.nodes, (const char *)strings.bytes };
	for (uint32_t i = 0; i < n; i++) {
		uint32_t got = MAX;

		trie_walk(&trie, text[i] + 1, strlen(text[i]) - 1, last_match, &got);
		assert_int_equal(got, i);
	}
	intern_fini(&strings);
	trie_patterns_fini(&patterns);
	mem_free(nodes.nodes);
	mem_free(words);
}

static void
test_bad_paths(void **state)
{
	static const char *const bad[] = {
		"", "a", "*", "**", "v1/*", "/v1/**/x", "/**/", "/a*b", "/*a", "/a**", "/***", "/v1/*x*", "/a?b", "/a#b", "/a b", "/a\tb", "/\x7f",
		"/\xc3\xa9", "/%", "/%2", "/%2g", "/%zz", "/%41", "/a%2Db", "/%7e", "//", "/a//b", "//**", "//*", "/.", "/..", "/../a", "/a/./b", "/a/../**", "/%2F", "/a%5cb", "/%00",
	};
	struct pattern p;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		why = NULL;
		if (pattern_parse_path(&p, bad[i], strlen(bad[i]), &why) == 0)
			fail_msg("%s was accepted", bad[i]);
		assert_non_null(why);
	}
	assert_int_equal(pattern_parse_path(&p, "/a\0b", 4, &why), -1);
}

static void
test_plain(void **state)
{
	static const char *const plain[] = { "/", "/a-b._~/**", "/v1/tax-*" }, *const not[] = { "/a!b", "/a;b", "/a:b", "/%C3%A9", "/a@b", "/a,b" };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_true(pattern_path_is_plain(plain[i], strlen(plain[i])));
	for (size_t i = 0; i < 6; i++)
		assert_false(pattern_path_is_plain(not[i], strlen(not[i])));
}

static void
test_bad_principals(void **state)
{
	static const char *const bad[] = {
		"", "*", "**", "spiffe://", "spiffe:///a", "spiffe://*/a", "spiffe://**", "spiffe://hud.*/a", "http://hud.example/a", "hud.example/a",
		"spiffe://hud.example/", "spiffe://hud.example/a/", "spiffe://hud.example//a", "spiffe://hud.example/**/a", "spiffe://hud.example/a*b",
		"spiffe://hud.example/..", "spiffe://HUD.example/a", "spiffe://hud.example/a?b", "spiffe://hud.example/a%20", "spiffe://hud.example:1/a",
		"spiffe://u@hud.example/a", "spiffe://hud.example/a b", "spiffe://hud.example/***", "SPIFFE://hud.example/a",
	};
	char longest[3000];
	struct pattern p;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		why = NULL;
		if (pattern_parse_principal(&p, bad[i], strlen(bad[i]), &why) == 0)
			fail_msg("%s was accepted", bad[i]);
		assert_non_null(why);
	}
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "spiffe://hud.example/", 21);
	assert_int_equal(pattern_parse_principal(&p, longest, sizeof(longest), &why), -1);
	assert_int_equal(pattern_parse_principal(&p, longest, 2048, &why), 0);
}

static void
test_depth(void **state)
{
	char text[4 * PATTERN_SEGMENTS_MAX];
	struct pattern p;
	const char *why;

	(void)state;
	for (size_t i = 0; i <= PATTERN_SEGMENTS_MAX; i++)
		memcpy(text + 2 * i, "/a", 2);
	assert_int_equal(pattern_parse_path(&p, text, 2 * PATTERN_SEGMENTS_MAX, &why), 0);
	assert_int_equal(p.n, PATTERN_SEGMENTS_MAX);
	text[2 * PATTERN_SEGMENTS_MAX] = '\0';
	assert_true(trie_matches(&p, text + 1));
	text[2 * PATTERN_SEGMENTS_MAX] = '/';
	assert_int_equal(pattern_parse_path(&p, text, 2 * PATTERN_SEGMENTS_MAX + 2, &why), -1);
	/* Deeper text than any pattern: only "**" follows. */
	memcpy(text + 2 * PATTERN_SEGMENTS_MAX, "/**", 4);
	assert_int_equal(pattern_parse_path(&p, text, strlen(text), &why), 0);
	memcpy(text + 2 * PATTERN_SEGMENTS_MAX, "/a/a/a", 7);
	assert_true(trie_matches(&p, text + 1));
}

static void
test_covers(void **state)
{
	static const struct {
		const char *wide, *narrow;
		bool covers;
	} cases[] = {
		{ "/a", "/a", true }, { "/a", "/b", false }, { "/*", "/a", true }, { "/*", "/", false }, { "/*", "/*", true }, { "/a", "/*", false },
		{ "/*", "/a*", true }, { "/a*", "/*", false }, { "/a*", "/ab*", true }, { "/ab*", "/a*", false }, { "/a*", "/a", true },
		{ "/**", "/**", true }, { "/**", "/", true }, { "/**", "/a/*/**", true }, { "/a/**", "/a", true }, { "/a/**", "/**", false },
		{ "/a/*", "/a/**", false }, { "/a/b", "/a", false }, { "/a", "/a/b", false }, { "/*/**", "/a/**", true }, { "/*/**", "/**", false },
		{ "/a/**", "/a/", true }, { "/a/*", "/a/", false },
	};
	struct pattern w, n;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(pattern_parse_path(&w, cases[i].wide, strlen(cases[i].wide), &why), 0);
		assert_int_equal(pattern_parse_path(&n, cases[i].narrow, strlen(cases[i].narrow), &why), 0);
		if (pattern_covers(&w, &n) != cases[i].covers)
			fail_msg("%s covers %s", cases[i].wide, cases[i].narrow);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match), cmocka_unit_test(test_collisions), cmocka_unit_test(test_bad_paths), cmocka_unit_test(test_bad_principals), cmocka_unit_test(test_depth),
		cmocka_unit_test(test_covers), cmocka_unit_test(test_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
