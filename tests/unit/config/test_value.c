/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/config/host.h"
#include "gateway/config/value.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {
		{ "0", 0 }, { "0B", 0 }, { "0GiB", 0 }, { "1", 1 }, { "512", 512 }, { "512B", 512 }, { "64KiB", 65536 },
		{ "10GiB", UINT64_C(10737418240) }, { "1TiB", UINT64_C(1) << 40 }, { "1kB", 1000 }, { "5MB", 5000000 },
		{ "2GB", UINT64_C(2000000000) }, { "1TB", UINT64_C(1000000000000) }, { "3MiB", 3 << 20 },
		{ "18446744073709551615", UINT64_MAX }, { "16777215TiB", UINT64_C(16777215) << 40 },
	};
	static const char *const bad[] = {
		"", " ", "B", "KiB", "-1", "+1", " 1", "1 ", "1 KiB", "1.5GiB", "1e3", "0x10", "010", "00", "1K", "1k", "1kb", "1KB",
		"1kib", "1Kib", "1KiBs", "1KiB ", "1gib", "1GIB", "1PiB", "18446744073709551616", "99999999999999999999999",
		"16777216TiB", "1,000", "1_000", "ten", "1s", ("\xc2\xa0" "1"),
	};
	uint64_t v;
	const char *why;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		why = NULL;
		if (value_size(&v, good[i].text, &why) != 0 || v != good[i].value)
			fail_msg("%s: %s", good[i].text, why ? why : "wrong value");
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		why = NULL;
		if (value_size(&v, bad[i], &why) == 0 || !why)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static void
durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {
		{ "0", 0 }, { "0s", 0 }, { "500ms", 500 }, { "30s", 30000 }, { "5m", 300000 }, { "24h", 86400000 }, { "90d", UINT64_C(7776000000) },
		{ "18446744073709551615ms", UINT64_MAX }, { "213503982334d", UINT64_C(213503982334) * 86400000 },
	};
	static const char *const bad[] = {
		"", "s", "1", "30", "-1s", "+1s", " 1s", "1s ", "1 s", "1.5s", "01s", "1S", "1M", "1H", "1D", "1sec", "1min", "1hour", "1w",
		"1y", "1us", "1h30m", "18446744073709551616ms", "18446744073709551615s", "213503982335d", "1KiB", "0x1s", "1e3s",
	};
	uint64_t v;
	const char *why;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		why = NULL;
		if (value_duration(&v, good[i].text, &why) != 0 || v != good[i].value)
			fail_msg("%s: %s", good[i].text, why ? why : "wrong value");
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		why = NULL;
		if (value_duration(&v, bad[i], &why) == 0 || !why)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

/* Each prefix of a value is a value, or refused; nothing is read beyond its end (ASan sees to that). */
static void
prefixes(void **state)
{
	static const char *const texts[] = { "18446744073709551615TiB", "213503982334ms", "10GiB", "90d" };
	const char *why;
	char part[64];
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++)
		for (size_t n = 0; n <= strlen(texts[i]); n++) {
			snprintf(part, sizeof(part), "%.*s", (int)n, texts[i]);
			value_size(&v, part, &why);
			value_duration(&v, part, &why);
		}
}

static void
round_trips(void **state)
{
	static const uint64_t values[] = {
		0, 1, 999, 1000, 1023, 1024, 1025, 60000, 65536, 300000, 3600000, 86400000, 1 << 20, 1000000, 10737418240, 90 * UINT64_C(86400000),
		UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63,
	};
	char text[VALUE_TEXT_MAX];
	const char *why;
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < COUNT(values); i++) {
		assert_int_equal(value_size(&v, value_size_text(text, values[i]), &why), 0);
		assert_true(v == values[i]);
		assert_int_equal(value_duration(&v, value_duration_text(text, values[i]), &why), 0);
		assert_true(v == values[i]);
	}
	assert_string_equal(value_size_text(text, 16 << 20), "16MiB");
	assert_string_equal(value_size_text(text, 1500), "1500B");
	assert_string_equal(value_duration_text(text, 90000), "90s");
	assert_string_equal(value_duration_text(text, 3600000), "1h");
}

static void
hosts(void **state)
{
	static const struct {
		const char *text, *name;
		unsigned port;
	} good[] = {
		{ "a", "a", 0 }, { "tax-svc.irs.svc.cluster.local", "tax-svc.irs.svc.cluster.local", 0 }, { "DB.IRS.Example:5432", "db.irs.example", 5432 },
		{ "a:1", "a", 1 }, { "a:65535", "a", 65535 }, { "192.0.2.1", "192.0.2.1", 0 }, { "192.0.2.1:80", "192.0.2.1", 80 },
		{ "[2001:db8::1]", "[2001:db8::1]", 0 }, { "[2001:DB8::1]:443", "[2001:db8::1]", 443 }, { "[::1]:1", "[::1]", 1 },
		{ "_svc.x", "_svc.x", 0 }, { "1.example", "1.example", 0 },
	};
	static const char *const bad[] = {
		"", ".", "a.", ".a", "a..b", "-a", "a-", "a-.b", "a.-b", "*.example", "*", "http://a", "https://a:1/", "a/b", "a?b", "a#b", "u@a", "a:",
		"a:0", "a:065", "a:65536", "a:99999999999", "a:b", "a:1:2", ":80", "a b", " a", "a ", "a\tb", "a,b", "a%41", "\xc3\xa4.example",
		"2001:db8::1", "[2001:db8::1", "[2001:db8::1]x", "[2001:db8::1]:", "[2001:0db8::1]", "[::FFFF:1.2.3.4", "[]", "[::1%eth0]",
		"127.1", "0x7f000001", "2130706433", "192.0.2.1.", "192.0.2.256", "192.0.2", "0300.0.0.1",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b",
	};
	char text[300];
	struct host h;
	const char *why;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		why = NULL;
		if (host_parse(&h, good[i].text, &why) != 0 || strcmp(h.name, good[i].name) != 0 || h.port != good[i].port)
			fail_msg("%s: %s", good[i].text, why ? why : "wrong value");
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		why = NULL;
		if (host_parse(&h, bad[i], &why) == 0 || !why)
			fail_msg("\"%s\" was taken", bad[i]);
	}
	for (size_t n = 0; n < sizeof(text) - 1; n++)
		text[n] = n % 2 ? '.' : 'a';
	text[253] = '\0';
	assert_int_equal(host_parse(&h, text, &why), 0);
	text[253] = '.';
	text[254] = 'a';
	text[255] = '\0';
	assert_int_equal(host_parse(&h, text, &why), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes), cmocka_unit_test(durations), cmocka_unit_test(prefixes), cmocka_unit_test(round_trips), cmocka_unit_test(hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
