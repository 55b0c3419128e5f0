/* SPDX-License-Identifier: Apache-2.0 */
/* Authorities and paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/http1/head.h"
#include "gateway/http1/target.h"

/* In a buffer of exactly its size, so that ASan sees any octet read beyond it. */
static int
path(const char *s, uint32_t *path_only_len)
{
	size_t n = strlen(s);
	char *copy = malloc(n ? n : 1);
	int rc;

	memcpy(copy, s, n);
	rc = h1_target_path(copy, n, path_only_len);
	free(copy);
	return rc;
}

/* case 34 */
static void
test_paths(void **state)
{
	static const struct {
		const char *path;
		unsigned path_only;
	} good[] = {
		{ "/", 1 }, { "/a", 2 }, { "/a/", 3 }, { "/a/b.c", 6 }, { "/a?b", 2 }, { "/?", 1 }, { "/a/?x", 3 }, { "/...", 4 }, { "/..a", 4 },
		{ "/.a", 3 }, { "/a..", 4 }, { "/a.", 3 }, { "/.well-known/x", 14 }, { "/a;b=c/d", 8 }, { "/;a", 3 }, { "/a..;b", 6 },
		{ "/%20", 4 }, { "/%41%7e", 7 }, { "/%25", 4 }, { "/%252f", 6 }, { "/%2Ea", 5 }, { "/-_.~!$&'()*+,;=:@", 18 },
		{ "/?-_.~!$&'()*+,;=:@/?%2f%5c%00%2e%2e/..//.", 1 }, { "/?a[]=1", 1 }, { "/a?..", 2 }, { "/a?//", 2 },
		{ "/..%41", 6 }, { "/%2e%2e%2e", 10 }, { "/%c3%a9", 7 },
	};
	static const char *const bad[] = {
		"", "a", "*", "?", "//", "/a//b", "/a//", "//a", "/.", "/..", "/./", "/../", "/a/.", "/a/..", "/a/./b", "/a/../b", "/.?x",
		"/..?x", "/%2e", "/%2E%2e", "/.%2e", "/%2e./a", "/a/%2e%2e/b", "/..;", "/..;x/a", "/.;x", "/%2e%2e;x", "/..%3b/", "/..%3B",
		"/.;/a", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", "/a%00", "/a\\b", "/a#b", "/a?b#c", "/a b", "/a\"b", "/a<b", "/a>b", "/a[b",
		"/a]b", "/a^b", "/a`b", "/a{b", "/a|b", "/a}b", "/\x7f", "/\x80", "/\xc3\xa9", "/%", "/%2", "/%2g", "/%g2", "/%%", "/a%", "/?%",
		"/?%2", "/?%zz", "/? ", "/?\"", "/?<", "/?\\", "/?^", "/?|", "/?{", "/?\xff", "/\t", "/a\n", "/?\r",
	};
	uint32_t path_only;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (path(good[i].path, &path_only) != 0 || path_only != good[i].path_only)
			fail_msg("%s: refused, or its path is %u", good[i].path, path_only);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (path(bad[i], &path_only) == 0)
			fail_msg("%s: accepted", bad[i]);
	assert_false(h1_path_valid("/a\0b", 4));
	assert_false(h1_path_valid("/?\0", 3));
	assert_true(h1_path_valid("/a/b", 4));
}

static void
test_authorities(void **state)
{
	static const struct {
		const char *text;
		size_t host_len;
		unsigned port;
	} good[] = {
		{ "a", 1, 0 }, { "A.example", 9, 0 }, { "a.example.", 10, 0 }, { "a:1", 1, 1 }, { "a:65535", 1, 65535 }, { "a_b-c:80", 5, 80 },
		{ "192.0.2.1:443", 9, 443 }, { "[::1]", 5, 0 }, { "[::1]:80", 5, 80 }, { "[::ffff:192.0.2.1]:80", 18, 80 },
	};
	static const char *const bad[] = {
		"", ":", ":80", "a:", "a:0", "a:00", "a:01", "a:65536", "a:99999", "a:123456", "a:8a", "a:+8", "a: 8", "a b", "u@a", "u:p@a", "a/b",
		"a?b", "a#b", "a%41", ".", ".a", "a..b", "..", "a,b", "a;b", "a*", "a~", "a!b", "[", "[]", "[:", "[::1", "::1", "[::1]a", "[::1]:",
		"[::1]]", "[::1%lo]", "[v1.a]", "[1.2.3.4]", "[::g]", "\xc3\xa9", "a\t", " a", "a ", "a\\b",
	};
	char longest[257];
	size_t host_len;
	uint32_t port;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(h1_target_authority(good[i].text, strlen(good[i].text), &host_len, &port), 0);
		assert_int_equal(host_len, good[i].host_len);
		assert_int_equal(port, good[i].port);
		assert_true(h1_authority_valid(good[i].text, strlen(good[i].text)));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (h1_authority_valid(bad[i], strlen(bad[i])))
			fail_msg("%s: accepted", bad[i]);
	assert_false(h1_authority_valid("a\0b", 3));
	assert_false(h1_authority_valid("[::1\0]", 6));
	memset(longest, 'a', sizeof(longest));
	assert_true(h1_authority_valid(longest, 255));
	assert_false(h1_authority_valid(longest, 256));
}

/* case 88: an encoded letter is that letter to the policy */
static void
test_normalize(void **state)
{
	static const struct {
		const char *in, *out;
		unsigned path_only;
	} table[] = {
		{ "/admin", "/admin", 6 }, { "/%61dmin", "/admin", 6 }, { "/%61%64%6D%69%6e", "/admin", 6 }, { "/a%2Db%2e%5F%7E", "/a-b._~", 7 },
		{ "/a%20b", "/a%20b", 6 }, { "/%25%36%31", "/%2561", 6 }, { "/%2561", "/%2561", 6 }, { "/a?%61", "/a?%61", 2 },
		{ "/%3f?x", "/%3f?x", 4 }, { "/%2C%3b%21%40", "/%2C%3b%21%40", 13 }, { "/%C3%A9", "/%C3%A9", 7 }, { "*", "*", 1 }, { "/", "/", 1 }, { "/%41?", "/A?", 2 },
		{ "/%", "/%", 2 }, { "/%4", "/%4", 3 }, { "/%zz", "/%zz", 4 },
	};
	char out[64];
	uint32_t path_only;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = h1_path_normalize(out, table[i].in, strlen(table[i].in), &path_only);

		assert_int_equal(n, strlen(table[i].out));
		assert_memory_equal(out, table[i].out, n);
		assert_int_equal(path_only, table[i].path_only);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths), cmocka_unit_test(test_authorities), cmocka_unit_test(test_normalize),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
