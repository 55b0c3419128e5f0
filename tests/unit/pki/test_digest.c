/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 against the examples of FIPS 180-4, whole and in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/esc.h"
#include "pki/digest.h"

static const struct {
	const char *text, *hex;
} vectors[] = {
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};
#define COUNT (sizeof(vectors) / sizeof(vectors[0]))

static void
whole(void **state)
{
	char hex[2 * DIGEST_SHA256_LEN + 1];

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		digest_sha256_hex(hex, vectors[i].text, strlen(vectors[i].text));
		assert_string_equal(hex, vectors[i].hex);
	}
}

static void
pieces(void **state)
{
	uint8_t out[DIGEST_SHA256_LEN], expect[DIGEST_SHA256_LEN];

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		size_t len = strlen(vectors[i].text);

		assert_int_equal(esc_unhex(expect, vectors[i].hex, 2 * sizeof(expect)), 0);
		for (size_t step = 1; step <= len + 1; step++) {
			struct digest_run *d = digest_begin();

			for (size_t at = 0; at < len; at += step)
				digest_update(d, vectors[i].text + at, len - at < step ? len - at : step);
			digest_update(d, NULL, 0);
			digest_final(d, out);
			assert_memory_equal(out, expect, sizeof(out));
		}
	}
	digest_cancel(digest_begin());
	digest_cancel(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(whole), cmocka_unit_test(pieces) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
