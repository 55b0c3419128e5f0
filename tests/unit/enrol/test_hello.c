/* SPDX-License-Identifier: Apache-2.0 */
/* ClientHellos of every kind: whole, in records of any size, octet by octet, cut and bent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/enrol/hello.h"

#define HOST "enrol.hud.example"

struct octets {
	uint8_t p[HELLO_OCTETS_MAX + 1024];
	size_t n;
};

static void
put(struct octets *o, const void *p, size_t n)
{
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static void
put_number(struct octets *o, unsigned size, size_t v)
{
	for (unsigned i = size; i-- > 0;)
		o->p[o->n++] = (uint8_t)(v >> 8 * i);
}

/* RFC 6066 3: extension 0. */
static void
put_name(struct octets *o, unsigned type, const char *name)
{
	size_t n = strlen(name);

	put_number(o, 2, 0);
	put_number(o, 2, n + 5);
	put_number(o, 2, n + 3);
	put_number(o, 1, type);
	put_number(o, 2, n);
	put(o, name, n);
}

/* Handshake message: everything up to the extensions, which are given. */
static void
message(struct octets *o, const struct octets *exts)
{
	static const uint8_t zeros[64];
	struct octets b = { .n = 0 };

	put_number(&b, 2, 0x303);
	put(&b, zeros, 32);
	put_number(&b, 1, 32);
	put(&b, zeros, 32);
	put_number(&b, 2, 2);
	put_number(&b, 2, 0x1301);
	put_number(&b, 1, 1);
	put_number(&b, 1, 0);
	put_number(&b, 2, exts->n);
	put(&b, exts->p, exts->n);
	put_number(o, 1, 1);
	put_number(o, 3, b.n);
	put(o, b.p, b.n);
}

/* In records of at most "size" octets. */
static void
records(struct octets *o, const struct octets *m, size_t size)
{
	for (size_t i = 0; i < m->n; i += size) {
		size_t n = m->n - i < size ? m->n - i : size;

		put_number(o, 1, 22);
		put_number(o, 2, 0x301);
		put_number(o, 2, n);
		put(o, m->p + i, n);
	}
}

static void
hello(struct octets *o, const char *name)
{
	struct octets exts = { .n = 0 }, m = { .n = 0 };

	put_number(&exts, 2, 43);
	put_number(&exts, 2, 3);
	put(&exts, "\2\3\4", 3);
	if (name)
		put_name(&exts, 0, name);
	put_number(&exts, 2, 16);
	put_number(&exts, 2, 0);
	message(&m, &exts);
	o->n = 0;
	records(o, &m, 16384);
}

static void
names(void **state)
{
	static const struct {
		const char *name;
		enum hello want;
	} table[] = {
		{ HOST, HELLO_YES }, { "ENROL.hud.Example", HELLO_YES }, { "enrol.hud.exampl", HELLO_NO }, { "enrol.hud.example.", HELLO_NO },
		{ "xenrol.hud.example", HELLO_NO }, { "tax.irs.example", HELLO_NO }, { NULL, HELLO_NO },
	};
	struct octets o;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		hello(&o, table[i].name);
		assert_int_equal(hello_asks(o.p, o.n, HOST), table[i].want);
	}
}

static void
octet_by_octet(void **state)
{
	struct octets o;

	(void)state;
	hello(&o, HOST);
	for (size_t n = 0; n < o.n; n++)
		assert_int_equal(hello_asks(o.p, n, HOST), HELLO_MORE);
	assert_int_equal(hello_asks(o.p, o.n, HOST), HELLO_YES);
	/* What comes behind it is not its matter. */
	memset(o.p + o.n, 'x', 100);
	assert_int_equal(hello_asks(o.p, o.n + 100, HOST), HELLO_YES);
}

static void
fragments(void **state)
{
	struct octets exts = { .n = 0 }, m = { .n = 0 }, o;

	(void)state;
	put_name(&exts, 0, HOST);
	message(&m, &exts);
	for (size_t size = 1; size <= m.n; size++) {
		o.n = 0;
		records(&o, &m, size);
		assert_int_equal(hello_asks(o.p, o.n, HOST), HELLO_YES);
		assert_int_equal(hello_asks(o.p, o.n - 1, HOST), HELLO_MORE);
	}
}

/* Each octet changed to each value: never a crash, and never a name that it does not say. */
static void
bent(void **state)
{
	struct octets o, was;

	(void)state;
	hello(&o, "enrol.hud.exbmple");
	was = o;
	for (size_t i = 0; i < o.n; i++)
		for (unsigned v = 0; v < 256; v++) {
			enum hello r;

			o.p[i] = (uint8_t)v;
			r = hello_asks(o.p, o.n, HOST);
			if (r == HELLO_YES)
				assert_true(was.p[i] == 'b' && (v == 'a' || v == 'A'));
			o.p[i] = was.p[i];
		}
	hello(&o, HOST);
	was = o;
	for (size_t i = 0; i < o.n; i++)
		for (unsigned v = 0; v < 256; v++) {
			o.p[i] = (uint8_t)v;
			hello_asks(o.p, o.n, HOST);
			o.p[i] = was.p[i];
		}
}

static void
refused(void **state)
{
	struct octets exts = { .n = 0 }, m = { .n = 0 }, o = { .n = 0 };

	(void)state;
	assert_int_equal(hello_asks((const uint8_t *)"GET /", 5, HOST), HELLO_NO);
	assert_int_equal(hello_asks((const uint8_t *)"\x16\x02", 2, HOST), HELLO_NO);
	assert_int_equal(hello_asks((const uint8_t *)"\x16\x03\x01\x00\x00", 5, HOST), HELLO_NO);       /* an empty record */
	assert_int_equal(hello_asks((const uint8_t *)"\x16\x03\x01\x40\x01", 5, HOST), HELLO_NO);       /* one that is too long */
	assert_int_equal(hello_asks((const uint8_t *)"\x16\x03\x01\x00\x05\x02", 6, HOST), HELLO_NO);   /* a ServerHello */
	assert_int_equal(hello_asks((const uint8_t *)"\x16\x03\x01\x00\x05\x01\x00\x40\x00\x00", 10, HOST), HELLO_NO); /* a message that is too long */
	assert_int_equal(hello_asks((const uint8_t *)"\x15\x03\x01", 3, HOST), HELLO_NO);               /* an alert */
	/* The name twice; another kind of name. */
	put_name(&exts, 0, HOST);
	put_name(&exts, 0, HOST);
	message(&m, &exts);
	records(&o, &m, 16384);
	assert_int_equal(hello_asks(o.p, o.n, HOST), HELLO_NO);
	exts.n = m.n = o.n = 0;
	put_name(&exts, 1, HOST);
	message(&m, &exts);
	records(&o, &m, 16384);
	assert_int_equal(hello_asks(o.p, o.n, HOST), HELLO_NO);
	/* Something behind the message in its record. */
	exts.n = m.n = o.n = 0;
	put_name(&exts, 0, HOST);
	message(&m, &exts);
	put_number(&m, 1, 0);
	records(&o, &m, 16384);
	assert_int_equal(hello_asks(o.p, o.n, HOST), HELLO_NO);
}

/* As long as one may be, and records of one octet beyond what is looked at: an answer comes. */
static void
longest(void **state)
{
	struct octets exts = { .n = 0 }, m = { .n = 0 };
	static struct octets o;

	(void)state;
	put_name(&exts, 0, HOST);
	put_number(&exts, 2, 21);
	put_number(&exts, 2, 16000);
	memset(exts.p + exts.n, 0, 16000);
	exts.n += 16000;
	message(&m, &exts);
	records(&o, &m, 16384);
	assert_int_equal(hello_asks(o.p, o.n, HOST), HELLO_YES);
	o.n = 0;
	for (size_t i = 0; o.n + 6 <= HELLO_OCTETS_MAX; i++) {
		put_number(&o, 1, 22);
		put_number(&o, 2, 0x301);
		put_number(&o, 2, 1);
		put(&o, m.p + i, 1);
	}
	assert_int_not_equal(hello_asks(o.p, HELLO_OCTETS_MAX, HOST), HELLO_MORE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(octet_by_octet), cmocka_unit_test(fragments), cmocka_unit_test(bent), cmocka_unit_test(refused),
		cmocka_unit_test(longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
