/* SPDX-License-Identifier: Apache-2.0 */
/* The admin socket is found in a configuration that nothing else can be done with. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/socket_scan.h"

static const struct {
	const char *text, *socket;
} cases[] = {
	{ "control = { socket = \"/run/x.sock\"; };", "/run/x.sock" },
	{ "control : { mode = \"0660\"; socket : \"c.sock\" };\n", "c.sock" },
	{ "control={socket=\"a\\\"b\";}", "a\"b" },
	{ "domain = \"x\";\ncontrol = {\n  socket = \"s\";\n};\nlisteners = ( {;\n", "s" },
	{ "listeners = ( {;\ncontrol = { socket = \"s\"; };", "s" },
	{ "# control = { socket = \"no\"; };\n// control = { socket = \"no\"; }\n/* control = { socket = \"no\"; } */ control = { socket = \"s\"; };", "s" },
	{ "name = \"control = { socket = \\\"no\\\"; }\"; control = { socket = \"s\"; }", "s" },
	{ "control = { # socket = \"no\"\n socket = /* \"no\" */ \"s\"; };", "s" },
	{ "control = { mode = \"0660\"; }; other = { socket = \"no\"; };", NULL },
	{ "socket = \"no\";", NULL },
	{ "control = \"x\"; socket = \"no\";", NULL },
	{ "control = { socket = 7; };", NULL },
	{ "control = { socket", NULL },
	{ "control = { socket = ", NULL },
	{ "control", NULL },
	{ "control = { socket = \"cut", "cut" },
	{ "control = { socket = \"cut\\", "cut\\" },
	{ "/* control = { socket = \"no\"; };", NULL },
	{ "my-control = { socket = \"no\"; };", NULL },
	{ "control_x = { socket = \"no\"; };", NULL },
	{ "", NULL },
};

static void
test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *s = socket_scan(cases[i].text, strlen(cases[i].text));

		if (cases[i].socket)
			assert_string_equal(s ? s : "(none)", cases[i].socket);
		else
			assert_null(s);
		mem_free(s);
	}
}

/* Every beginning of every text, in memory of exactly its size. */
static void
test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t n = 0; n <= strlen(cases[i].text); n++) {
			char *copy = mem_alloc(n);

			memcpy(copy, cases[i].text, n);
			mem_free(socket_scan(copy, n));
			mem_free(copy);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
