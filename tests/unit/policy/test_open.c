/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images that are no images: cut, changed and forged ones are refused, or at least decide within their bounds.
 * The fuzz target goes deeper; this shows that each check of open.c has something to refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "policy/explain.h"
#include "policy/image.h"

#define LIST(...) (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)
#define ALICE "spiffe://hud.example/alice"

static const struct policy_service services[] = { { "web", false }, { "db", true } };
static const struct policy_rule rules[] = {
	{ "one", "f", 1, false, LIST(ALICE, "spiffe://hud.example/b/*"), LIST("web", "db"), LIST("GET", "BREW"), LIST("/v1/**", "/v1/x*", "/v2/*/y"), 0 },
	{ "two", "f", 2, true, LIST("*"), LIST("*"), NULL, 0, LIST("/admin/**"), 0 },
	{ "three", "f", 3, false, LIST("spiffe://hud.example/**"), LIST("web"), NULL, 0, NULL, 0, 0 },
	{ "four", "f", 4, false, LIST(ALICE), LIST("web"), LIST("FOO"), NULL, 0, 0 },
};

static void
make(struct buf *image)
{
	struct policy_input in = { rules, 4, services, 2, 9, "abc" };
	struct errs errs;

	errs_init(&errs);
	buf_init(image, 0);
	assert_int_equal(policy_compile(&in, image, &errs), 0);
	errs_fini(&errs);
}

/* Everything that reads an opened image. */
static void
use(const struct policy *p)
{
	static const char *const ids[] = { "", ALICE, "spiffe://hud.example/b/c", "spiffe://hud.example/z", "spiffe://irs.example/a/b/c" };
	static const char *const paths[] = { "/", "/v1/xy", "/v2/a/y", "/admin/1", "" };
	static const char *const verbs[] = { "GET", "BREW", "FOO", "", "PUT" };
	struct policy_explained e[POLICY_EXPLAIN_MAX];
	struct policy_rule_info info;
	struct policy_verdict v;
	struct buf text;

	buf_init(&text, 10000);
	for (uint32_t i = 0; i < p->nrules; i++)
		policy_rule_info(p, i, &info);
	(void)strlen(policy_digest(p));
	for (int i = 0; i < 5 * 5 * 3; i++) {
		const char *id = ids[i % 5], *path = paths[i / 5 % 5], *verb = verbs[(i + i / 5) % 5];
		struct policy_query q = { policy_principal(p, id, strlen(id)), i / 25 < 2 ? (uint32_t)i / 25 : policy_service_id(p, "web"), verb, strlen(verb), path, strlen(path),
			(enum policy_assurance)(i % POLICY_ASSURANCES) };

		policy_decide(p, &q, &v);
		if (v.rule != POLICY_NO_ID)
			policy_rule_info(p, v.rule, &info);
		for (size_t n = policy_explain(p, &q, id, e); n > 0; n--)
			policy_explain_text(p, &e[n - 1], &text);
	}
	buf_fini(&text);
}

static void
test_cut(void **state)
{
	struct buf image;
	struct policy p;
	const char *why;

	(void)state;
	make(&image);
	for (size_t n = 0; n < image.len; n++) {
		uint8_t *copy = mem_alloc(n); /* of exact size, for the sanitizer */

		memcpy(copy, image.data, n);
		why = NULL;
		assert_int_equal(policy_open(&p, copy, n, &why), -1);
		assert_non_null(why);
		mem_free(copy);
	}
	assert_int_equal(policy_open(&p, image.data + 1, image.len - 1, &why), -1); /* and not aligned */
	buf_fini(&image);
}

/* Every word of the image set to values that offsets and counts go wrong with. */
static void
test_changed(void **state)
{
	static const uint32_t values[] = { 0, 1, 2, 3, 7, 0x7f, 0xff, 0x100, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
	struct buf image;
	struct policy p;
	const char *why;
	unsigned refused = 0, opened = 0;

	(void)state;
	make(&image);
	for (size_t at = 0; at + 4 <= image.len; at += 4) {
		uint32_t was;

		memcpy(&was, image.data + at, 4);
		for (size_t i = 0; i < sizeof(values) / sizeof(*values) + 3; i++) {
			uint32_t value = i < sizeof(values) / sizeof(*values) ? values[i] : was + (uint32_t)(i % 3) - 1;

			memcpy(image.data + at, &value, 4);
			if (policy_open(&p, image.data, image.len, &why) == 0) {
				use(&p);
				opened++;
			} else {
				refused++;
			}
		}
		memcpy(image.data + at, &was, 4);
	}
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	assert_true(refused > 2000 && opened > 100);
	buf_fini(&image);
}

struct forge {
	const char *why;       /* open.c's reason */
	enum image_section section;
	uint32_t word, value;  /* in the section */
};

static void
test_forged(void **state)
{
	/* The trie of principals is hud.example { b { * }, ** }: nodes 0 (root), 1 (domain), 2 (b), 3 (*). */
	enum { NODE = sizeof(struct image_node) / 4, CHILD = offsetof(struct image_node, child) / 4, NLIT = offsetof(struct image_node, nliteral) / 4,
		STAR = offsetof(struct image_node, star) / 4, REST = offsetof(struct image_node, rest) / 4, LEN = offsetof(struct image_node, label_len) / 4 };
	static const struct forge cases[] = {
		{ "a list is outside its section", IMAGE_LISTS, 0, 1000 },
		{ "a list names no string", IMAGE_LISTS, 1, 100000 },
		{ "bad rule", IMAGE_RULES, 3, 0x80000000 },
		{ "a rule has a bad list", IMAGE_RULES, 4, 1 },
		{ "bad service", IMAGE_SERVICES, 1, 2 },
		{ "bad table of services", IMAGE_SERVICE_HASH, 0, 2 },
		{ "a trie is no tree", IMAGE_NODES, CHILD, 0 },
		{ "a trie is no tree", IMAGE_NODES, NODE + CHILD, 1 },
		{ "a trie is no tree", IMAGE_NODES, NODE + NLIT, 2 },
		{ "a trie is no tree", IMAGE_NODES, NODE + STAR, 2 },
		{ "a trie is no tree", IMAGE_NODES, 2 * NODE + NLIT, 0xffffffff },
		{ "a trie accepts no pattern", IMAGE_NODES, REST, 2 },
		{ "a trie has a bad label", IMAGE_NODES, NODE + LEN, 100000 },
		{ "no trie of principals", IMAGE_TRIES, 2, 3 },
		{ "a trie is outside its section", IMAGE_TRIES, 1, 0 },
		{ "bad sets", IMAGE_SET_START, 0, 1 },
		{ "bad sets", IMAGE_SET_START, 1, 1 },
		{ "bad sets", IMAGE_SET_START, 2, 100 },
		{ "a set has a bad pattern", IMAGE_SET_ITEMS, 0, 2 },
		{ "bad table of sets", IMAGE_SET_HASH, 0, 99 },
		{ "bad ACL", IMAGE_ACLS, ACL_FIRST_ALLOW, 4 },
		{ "bad ACL", IMAGE_ACLS, ACL_TRIE, 77 },
		{ "bad ACL", IMAGE_ACLS, ACL_NPATHS, 100 },
		{ "bad ACL", IMAGE_ACLS, ACL_STARTS, 1 },
		{ "bad ACL", IMAGE_ACLS, ACL_STARTS + 1, 50 },
		{ "bad selector", IMAGE_SELS, 0, 1000000 },
		{ "bad selector", IMAGE_SELS, 2, 40 },
		{ "bad selector", IMAGE_SELS, 4, 0x80000001 },
		{ "bad table of ids", IMAGE_ID_HASH, 1, 5 },
	};
	struct buf image;
	struct policy p;
	const char *why;

	(void)state;
	make(&image);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct image_header *h = (const struct image_header *)(const void *)image.data;
		size_t at = h->section[cases[i].section].off + 4 * (size_t)cases[i].word;
		uint32_t was;

		memcpy(&was, image.data + at, 4);
		memcpy(image.data + at, &cases[i].value, 4);
		if (policy_open(&p, image.data, image.len, &why) == 0)
			fail_msg("case %zu was accepted, want \"%s\"", i, cases[i].why);
		if (strcmp(why, cases[i].why) != 0)
			fail_msg("case %zu: \"%s\", want \"%s\"", i, why, cases[i].why);
		memcpy(image.data + at, &was, 4);
	}
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	buf_fini(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_cut), cmocka_unit_test(test_changed), cmocka_unit_test(test_forged) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
