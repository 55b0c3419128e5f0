/* SPDX-License-Identifier: Apache-2.0 */
/* Socket addresses as administrators write them, matched and classified. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/addr.h"

static struct addr
must(const char *s)
{
	struct addr a;
	const char *why = NULL;

	if (addr_parse(&a, s, &why) != 0)
		fail_msg("%s: %s", s, why);
	return a;
}

static void
test_parse(void **state)
{
	static const struct {
		const char *in, *out;
	} good[] = {
		{ "192.0.2.1:443", "192.0.2.1:443" }, { "[2001:DB8::1]:1", "[2001:db8::1]:1" }, { "*:65535", "[::]:65535" },
		{ "0.0.0.0:80", "0.0.0.0:80" }, { "[::]:80", "[::]:80" }, { "[::ffff:192.0.2.1]:80", "192.0.2.1:80" },
		{ "255.255.255.255:9", "255.255.255.255:9" },
		{ "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "[2001:db8:1111:2222:3333:4444:5555:6666]:65535" },
	};
	static const char *const bad[] = {
		"", ":", "*", ":443", "443", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:00", "192.0.2.1:0443", "192.0.2.1:65536",
		"192.0.2.1:123456", "192.0.2.1:4x", "192.0.2.1:+4", "192.0.2.1: 4", "192.0.2.1:-1", "192.0.2:443", "192.0.2.256:443",
		"192.0.02.1:443", "0x7f.0.0.1:443", "2130706433:443", "127.1:443", "::1:443", "2001:db8::1:443", "[::1]", "[::1]:", "[::1:443",
		"::1]:443", "[]:443", "[", "]", "[]", "[:443", "[192.0.2.1]:443", "[::1%lo]:443", "[::g]:443", "[::1]x:443", "a:443",
		"localhost:443", " 192.0.2.1:443", "192.0.2.1 :443", "**:443", "*x:443",
		"[1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111]:443",
	};
	char text[ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct addr a = must(good[i].in);

		addr_format(&a, text);
		assert_string_equal(text, good[i].out);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *why = NULL;
		struct addr a;

		if (addr_parse(&a, bad[i], &why) == 0)
			fail_msg("\"%s\": accepted", bad[i]);
		assert_non_null(why);
	}
}

static void
test_cidr(void **state)
{
	static const struct {
		const char *net, *in, *out; /* an address inside, one outside */
	} good[] = {
		{ "10.0.0.0/8", "10.255.0.1:1", "11.0.0.1:1" }, { "10.1.0.7", "10.1.0.7:1", "10.1.0.6:1" }, { "0.0.0.0/0", "1.2.3.4:1", "[::1]:1" },
		{ "10.1.0.6/31", "[::ffff:10.1.0.7]:1", "10.1.0.8:1" }, { "2001:db8::/33", "[2001:db8:7fff::]:1", "[2001:db8:8000::]:1" },
		{ "::1", "[::1]:1", "127.0.0.1:1" }, { "::/0", "[2001:db8::1]:1", "[::ffff:1.2.3.4]:1" }, { "::1/128", "[::1]:1", "[::2]:1" },
	};
	static const char *const bad[] = {
		"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10/8",
		"10.0.0/8", "::/129", "::1/64", "::ffff:10.0.0.0/104", "[::1]/128", "fe80::1%lo/128", "a/8", "10.0.0.0 /8", "010.0.0.0/8",
	};
	struct addr_cidr c, d;
	const char *why;
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(addr_parse_cidr(&c, good[i].net, &why), 0);
		a = must(good[i].in);
		assert_true(addr_in_cidr(&a, &c));
		a = must(good[i].out);
		assert_false(addr_in_cidr(&a, &c));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		if (addr_parse_cidr(&c, bad[i], &why) == 0)
			fail_msg("\"%s\": accepted", bad[i]);
		assert_non_null(why);
	}
	assert_int_equal(addr_parse_cidr(&c, "10.0.0.0/8", NULL), 0);
	assert_int_equal(addr_parse_cidr(&d, "10.1.0.0/16", NULL), 0);
	assert_true(addr_cidr_overlap(&c, &d) && addr_cidr_overlap(&d, &c) && addr_cidr_overlap(&c, &c));
	assert_int_equal(addr_parse_cidr(&d, "11.0.0.0/8", NULL), 0);
	assert_false(addr_cidr_overlap(&c, &d));
	assert_int_equal(addr_parse_cidr(&d, "::/0", NULL), 0);
	assert_false(addr_cidr_overlap(&c, &d));
	memset(&a, 0, sizeof(a));
	a.ss.ss_family = AF_UNIX;
	assert_false(addr_in_cidr(&a, &c));
}

/* case 62: what is never dialled unless it is written in the config */
static void
test_special(void **state)
{
	static const char *const special[] = {
		"0.0.0.0:1", "0.1.2.3:1", "127.0.0.1:1", "127.255.255.255:1", "169.254.169.254:80", "169.254.0.1:1", "192.0.0.192:1",
		"100.100.100.200:80", "168.63.129.16:80", "224.0.0.1:1", "239.1.1.1:1", "240.0.0.1:1", "255.255.255.255:1", "[::]:1", "[::1]:1",
		"[::ffff:127.0.0.1]:1", "[::ffff:169.254.169.254]:1", "[::127.0.0.1]:1", "[::8.8.8.8]:1", "[64:ff9b::7f00:1]:1",
		"[64:ff9b::169.254.169.254]:1", "[64:ff9b:1::1]:1", "[fe80::1]:1", "[febf::1]:1", "[fec0::1]:1", "[ff02::1]:1", "[fd00:ec2::254]:80",
		"[2002:7f00:1::]:1", "[2002:a9fe:a9fe::1]:1", "[2001:0:1234::1]:1",
	};
	static const char *const ordinary[] = {
		"10.0.0.1:1", "192.168.1.1:1", "172.16.0.1:1", "8.8.8.8:1", "126.255.255.255:1", "128.0.0.1:1", "169.253.1.1:1", "223.255.255.255:1",
		"100.64.0.1:1", "[2001:db8::1]:1", "[fd00::1]:1", "[fc00::1]:1", "[::ffff:10.0.0.1]:1", "[64:ff9b::8.8.8.8]:1", "[2002:808:808::]:1",
	};
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
		a = must(special[i]);
		if (!addr_is_special(&a))
			fail_msg("%s is not special", special[i]);
	}
	for (size_t i = 0; i < sizeof(ordinary) / sizeof(ordinary[0]); i++) {
		a = must(ordinary[i]);
		if (addr_is_special(&a))
			fail_msg("%s is special", ordinary[i]);
	}
	a = must("[::ffff:127.0.0.9]:1");
	assert_true(addr_is_loopback(&a));
	a = must("[::1]:1");
	assert_true(addr_is_loopback(&a));
	a = must("128.0.0.1:1");
	assert_false(addr_is_loopback(&a));
}

/* case 62: decimal addresses and their relatives */
static void
test_looks_numeric(void **state)
{
	static const char *const numeric[] = {
		"127.0.0.1", "127.1", "127", "2130706433", "0x7f000001", "0X7F.1", "017700000001", "0x", "127.0.0.1.", "1.2.3.4.5", "[::1]", "::1",
		"fe80::1%lo", "0", "127.0.0.1 x", "256.256.256.256", "foo.1", "0.0x1",
	};
	static const char *const names[] = { "", ".", "a", "a.example", "1a", "1.a", "0xg", "127.0.0.1.nip.io", "x0", "a.0xg", "1-2" };

	(void)state;
	for (size_t i = 0; i < sizeof(numeric) / sizeof(numeric[0]); i++)
		if (!addr_looks_numeric(numeric[i], (unsigned)strlen(numeric[i])))
			fail_msg("%s", numeric[i]);
	assert_true(addr_looks_numeric("127.1\0x", 7)); /* found by fuzzing: libc stops at a NUL */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (addr_looks_numeric(names[i], (unsigned)strlen(names[i])))
			fail_msg("%s", names[i]);
}

static void
test_equal_and_ports(void **state)
{
	struct addr a = must("192.0.2.1:443"), b = must("[::ffff:192.0.2.1]:443"), c = must("[::1]:443"), u;
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_true(addr_equal(&a, &b));
	assert_false(addr_equal(&a, &c));
	addr_set_port(&b, 80);
	assert_int_equal(addr_port(&b), 80);
	assert_false(addr_equal(&a, &b));
	addr_format_ip(&c, text);
	assert_string_equal(text, "::1");
	memset(&u, 0, sizeof(u));
	u.ss.ss_family = AF_UNIX;
	addr_format(&u, text);
	assert_string_equal(text, "unix");
	assert_false(addr_equal(&u, &u) || addr_is_loopback(&u));
	assert_true(addr_is_special(&u));
	assert_int_equal(addr_port(&u), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_cidr), cmocka_unit_test(test_special),
		cmocka_unit_test(test_looks_numeric), cmocka_unit_test(test_equal_and_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
