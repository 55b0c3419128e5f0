/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/config/p11uri.h"

static void
test_split(void **state)
{
	static const struct {
		const char *text, *key, *pin, *why; /* why: part of it */
	} t[] = {
		{ "pkcs11:token=a;object=b", "pkcs11:token=a;object=b;type=private", NULL, NULL },
		{ "pkcs11:object=b;type=private", "pkcs11:object=b;type=private", NULL, NULL },
		{ "pkcs11:id=%01%9f", NULL, NULL, "two digits" },
		{ "pkcs11:id=%a1%9f", "pkcs11:id=%a1%9f;type=private", NULL, NULL },
		{ "pkcs11:token=a%20b;serial=1;object=gateway%2f1", "pkcs11:token=a%20b;serial=1;object=gateway%2f1;type=private", NULL, NULL },
		{ "pkcs11:token=t;object=b?pin-source=file:/etc/pin", "pkcs11:token=t;object=b;type=private", "/etc/pin", NULL },
		{ "pkcs11:token=t;object=b?pin-source=file:///etc/pin", "pkcs11:token=t;object=b;type=private", "/etc/pin", NULL },
		{ "pkcs11:token=t;object=b?pin-source=/etc/pin", "pkcs11:token=t;object=b;type=private", "/etc/pin", NULL },
		{ "pkcs11:token=t;object=b?pin-source=file:/etc/my%20pin", "pkcs11:token=t;object=b;type=private", "/etc/my pin", NULL },
		{ "pkcs11:token=t;object=b?pin-source=file:pin", NULL, NULL, "absolute" },
		{ "pkcs11:token=t;object=b?pin-source=|/bin/sh", NULL, NULL, "absolute" },
		{ "pkcs11:token=t;object=b?pin-source=file://host/etc/pin", NULL, "//host/etc/pin", NULL },
		{ "pkcs11:token=t;object=b?pin-source=", NULL, NULL, "absolute" },
		{ "pkcs11:token=t;object=b?pin-value=1234", NULL, NULL, "does not belong here" },
		{ "pkcs11:token=t;object=b?pin-source=file:/p&pin-value=1234", NULL, NULL, "does not belong here" },
		{ "pkcs11:token=t;object=b?pin-source=file:/p&pin-source=file:/q", NULL, NULL, "only one" },
		{ "pkcs11:token=t;object=b?module-path=/x.so", NULL, NULL, "hsm.module" },
		{ "pkcs11:token=t;object=b?module-name=x", NULL, NULL, "hsm.module" },
		{ "pkcs11:token=t;object=b?x-foo=1", NULL, NULL, "only one" },
		{ "pkcs11:token=t;object=b?", NULL, NULL, "NAME=VALUE" },
		{ "pkcs11:object=b;", NULL, NULL, "NAME=VALUE" },
		{ "pkcs11:object=b?pin-source=file:/p", NULL, NULL, "one token" },
		{ "pkcs11:token=;object=b?pin-source=file:/p", NULL, NULL, "one token" },
		{ "pkcs11:", NULL, NULL, "NAME=VALUE" },
		{ "pkcs11:token=a", NULL, NULL, "names no key" },
		{ "pkcs11:object=", NULL, NULL, "names no key" },
		{ "pkcs11:object=b;type=cert", NULL, NULL, "\"private\"" },
		{ "pkcs11:object=b;type=private;type=public", NULL, NULL, "\"private\"" },
		{ "pkcs11:object=a b", NULL, NULL, "written as %XX" },
		{ "pkcs11:object=a\nb", NULL, NULL, "written as %XX" },
		{ "pkcs11:object=a\"b", NULL, NULL, "written as %XX" },
		{ "pkcs11:object=\xc3\xa4", NULL, NULL, "written as %XX" },
		{ "pkcs11:object=%", NULL, NULL, "two digits" },
		{ "pkcs11:object=%4", NULL, NULL, "two digits" },
		{ "pkcs11:object=%zz", NULL, NULL, "two digits" },
		{ "pkcs11:object=%00", NULL, NULL, "two digits" },
		{ "pkcs11:token=t;object=b?pin-source=file:/a%0ab", NULL, NULL, "two digits" },
		{ "pkcs11:=b", NULL, NULL, "NAME=VALUE" },
		{ "/etc/key.pem", NULL, NULL, "not a pkcs11: URI" },
		{ "PKCS11:object=b", NULL, NULL, "not a pkcs11: URI" },
	};

	(void)state;
	assert_false(p11uri_is(NULL));
	assert_false(p11uri_is("/etc/pkcs11:"));
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		char *key, *pin;
		const char *why = "";
		int r = p11uri_split(t[i].text, &key, &pin, &why);

		if (t[i].why) {
			assert_int_equal(r, -1);
			if (!strstr(why, t[i].why))
				fail_msg("%s: %s", t[i].text, why);
			assert_null(key);
			assert_null(pin);
			continue;
		}
		if (r != 0)
			fail_msg("%s: %s", t[i].text, why);
		if (t[i].key)
			assert_string_equal(key, t[i].key);
		if (t[i].pin)
			assert_string_equal(pin, t[i].pin);
		else
			assert_null(pin);
		mem_free(key);
		mem_free(pin);
	}
}

static void
test_long(void **state)
{
	char text[P11URI_MAX + 2], *key, *pin;
	const char *why;

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	memcpy(text, "pkcs11:object=", 14);
	text[P11URI_MAX] = '\0';
	assert_int_equal(p11uri_split(text, &key, &pin, &why), 0);
	mem_free(key);
	text[P11URI_MAX] = 'a';
	text[P11URI_MAX + 1] = '\0';
	assert_int_equal(p11uri_split(text, &key, &pin, &why), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_split), cmocka_unit_test(test_long) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
