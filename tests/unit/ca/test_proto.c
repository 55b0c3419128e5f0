/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between worker and ca role: there and back, and everything that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/le.h"
#include "gateway/ca/proto.h"

static uint8_t msg[CA_MESSAGE_MAX], big[CA_MESSAGE_MAX];

static struct ca_der
der(const char *s)
{
	return (struct ca_der){ (const uint8_t *)s, strlen(s) };
}

static void
assert_der(struct ca_der d, const char *s)
{
	assert_int_equal(d.len, strlen(s));
	assert_memory_equal(d.p, s, d.len);
}

static void
test_ask(void **state)
{
	struct ca_ask m = { .id = 0x1122334455667788, .op = CA_REENROLL, .client = der("10.0.0.1"), .user = der("u"), .password = der("p:w"),
		.chain = { der("leaf"), der("issuer") }, .nchain = 2, .csr = der("request") };
	struct ca_ask back;
	uint8_t copy[256];
	size_t len = ca_proto_put_ask(msg, &m);

	(void)state;
	assert_true(len > 0 && len < sizeof(copy));
	assert_int_equal(ca_proto_get_ask(&back, msg, len), 0);
	assert_true(back.id == m.id);
	assert_int_equal(back.op, CA_REENROLL);
	assert_der(back.client, "10.0.0.1");
	assert_der(back.user, "u");
	assert_der(back.password, "p:w");
	assert_int_equal(back.nchain, 2);
	assert_der(back.chain[0], "leaf");
	assert_der(back.chain[1], "issuer");
	assert_der(back.csr, "request");
	/* Each cut, and one more octet. */
	for (size_t i = 0; i < len; i++) {
		memcpy(copy, msg, i);
		assert_int_equal(ca_proto_get_ask(&back, copy, i), -1);
	}
	msg[len] = 0;
	assert_int_equal(ca_proto_get_ask(&back, msg, len + 1), -1);
}

static void
test_ask_bounds(void **state)
{
	const struct ca_ask good = { .op = CA_ENROLL, .csr = der("r") };
	struct ca_ask m, back;
	size_t len;

	(void)state;
#define REFUSED(change) \
	do { \
		m = good; \
		change; \
		assert_int_equal(ca_proto_put_ask(msg, &m), 0); \
	} while (0)
	REFUSED(m.op = CA_OPS);
	REFUSED(m.csr.len = 0);
	REFUSED(m.op = CA_CACERTS); /* no request with it */
	REFUSED((m.csr = (struct ca_der){ big, CA_CSR_MAX + 1 }));
	REFUSED((m.client = (struct ca_der){ big, CA_CLIENT_MAX + 1 }));
	REFUSED((m.user = (struct ca_der){ big, CA_USER_MAX + 1 }));
	REFUSED((m.password = (struct ca_der){ big, CA_PASSWORD_MAX + 1 }));
	REFUSED(m.nchain = CA_CHAIN_MAX + 1);
	REFUSED(m.nchain = 1); /* an empty certificate */
	REFUSED((m.chain[0] = (struct ca_der){ big, CA_MESSAGE_MAX }, m.nchain = 1));
	m = good;
	m.chain[0] = (struct ca_der){ big, CA_MESSAGE_MAX - 24 - 4 - 1 };
	m.nchain = 1;
	assert_int_equal(len = ca_proto_put_ask(msg, &m), CA_MESSAGE_MAX);
	assert_int_equal(ca_proto_get_ask(&back, msg, len), 0);
	/* What is not written is not read either. */
	m = good;
	len = ca_proto_put_ask(msg, &m);
	le_put16(msg + 8, CA_OPS);
	assert_int_equal(ca_proto_get_ask(&back, msg, len), -1);
	le_put16(msg + 8, CA_ENROLL);
	le_put16(msg + 18, 1);
	assert_int_equal(ca_proto_get_ask(&back, msg, len), -1);
	le_put16(msg + 18, 0);
	le_put32(msg + 20, UINT32_MAX);
	assert_int_equal(ca_proto_get_ask(&back, msg, len), -1);
	le_put32(msg + 20, 1);
	le_put16(msg + 16, UINT16_MAX);
	assert_int_equal(ca_proto_get_ask(&back, msg, len), -1);
}

static void
test_answer(void **state)
{
	struct ca_answer m = { .id = 7, .status = CA_OK, .items = { der("one"), der("two") }, .nitems = 2 }, back;
	struct ca_answer no = { .id = 8, .status = CA_FORBIDDEN, .reason = der("token-used"), .text = der("a text for the peer") };
	size_t len = ca_proto_put_answer(msg, &m);

	(void)state;
	assert_int_equal(ca_proto_get_answer(&back, msg, len), 0);
	assert_true(back.id == 7);
	assert_int_equal(back.nitems, 2);
	assert_der(back.items[1], "two");
	for (size_t i = 0; i < len; i++)
		assert_int_equal(ca_proto_get_answer(&back, msg, i), -1);
	len = ca_proto_put_answer(msg, &no);
	assert_int_equal(ca_proto_get_answer(&back, msg, len), 0);
	assert_int_equal(back.status, CA_FORBIDDEN);
	assert_der(back.reason, "token-used");
	assert_der(back.text, "a text for the peer");
	msg[len - 1] = '\n'; /* would be a line of the answer's head */
	assert_int_equal(ca_proto_get_answer(&back, msg, len), -1);
	msg[len - 1] = 'r';
	le_put16(msg + 8, CA_STATUSES);
	assert_int_equal(ca_proto_get_answer(&back, msg, len), -1);
	le_put16(msg + 8, CA_OK); /* success with a reason, and without what was asked for */
	assert_int_equal(ca_proto_get_answer(&back, msg, len), -1);
	m.nitems = 0;
	assert_int_equal(ca_proto_put_answer(msg, &m), 0);
	m.nitems = CA_ITEMS_MAX + 1;
	assert_int_equal(ca_proto_put_answer(msg, &m), 0);
	no.reason.len = 0;
	assert_int_equal(ca_proto_put_answer(msg, &no), 0);
	no.reason = (struct ca_der){ big, CA_REASON_MAX + 1 };
	assert_int_equal(ca_proto_put_answer(msg, &no), 0);
	no.reason = der("x");
	no.nitems = 1;
	no.items[0] = der("y");
	assert_int_equal(ca_proto_put_answer(msg, &no), 0);
}

static void
test_texts(void **state)
{
	(void)state;
	assert_string_equal(ca_op_text(CA_REENROLL), "simplereenroll");
	assert_string_equal(ca_op_text(CA_OPS), "unknown");
	assert_string_equal(ca_status_text(CA_TOO_MANY), "too-many");
	assert_string_equal(ca_status_text(CA_STATUSES), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ask), cmocka_unit_test(test_ask_bounds), cmocka_unit_test(test_answer), cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
