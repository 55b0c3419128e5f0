/* SPDX-License-Identifier: Apache-2.0 */
/* Records as text and back. Whatever is in a field, a record is one line of RFC 5424 that no terminal obeys (case 84). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/parse.h"
#include "gateway/audit/record.h"
#include "gateway/base/clock.h"
#include "gateway/base/le.h"

static const uint8_t prev[DIGEST_LEN] = {0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 0x90, 0xa9, 0xff, 0};

static size_t write_event(uint8_t *out, struct audit_event *e, enum schema_msg msg)
{
	struct record_format rf;
	struct audit_fields f;
	const char *why;
	struct record r = {.msg = msg, .severity = 6, .seq = 42, .wall_us = UINT64_C(1795165200123456), .instance = 0xabc, .pos = 4096,
		.worker = "worker/3"};

	audit_event_done(e);
	assert_int_equal(audit_event_parse(&f, e->p, e->len, &why), 0);
	r.f = &f;
	if (audit_event_has_exchange(&f.head)) {
		r.exchange = &f.head.exchange;
		r.attempt = f.head.attempt;
	}
	record_format_init(&rf, "gate way\n1", 4711);
	size_t n = record_write(&rf, out, &r);
	record_set_prev(out, n, prev);
	return n;
}

static void exact_text(void **state)
{
	static uint8_t out[RECORD_MAX];
	static const char want[] = "<110>1 2026-11-20T09:00:00.123456Z gate-way-1 sallyport 4711 deny [sallyport@32473 seq=\"42\" "
				   "src=\"abc:4096\" worker=\"worker/3\" verdict=\"deny\" reason=\"no-rule\" status=\"403\" path=\"/a\\\"b\\]\" "
				   "prev=\"deadbeef0102030490a9ff000000000000000000000000000000000000000000\"]";
	uint8_t mem[1024];
	struct audit_event e;

	(void)state;
	audit_event_init(&e, mem, sizeof(mem), AUDIT_DENY, NULL, 0, 0);
	audit_event_str(&e, AUDIT_F_PATH, "/a\"b]");
	audit_event_u64(&e, AUDIT_F_STATUS, 403);
	audit_event_str(&e, AUDIT_F_REASON, "no-rule");
	audit_event_str(&e, AUDIT_F_VERDICT, "deny");
	size_t n = write_event(out, &e, SCHEMA_DENY);
	out[n] = 0;
	assert_string_equal((char *)out, want);
}

static void escapes(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{"plain text, 1 + 1 = 2", "plain text, 1 + 1 = 2"},
		{"\"", "\\\""},
		{"]", "\\]"},
		{"\\", "\\\\x5c"},
		{"\\x41", "\\\\x5cx41"}, /* what looks like an escape is none */
		{"a\r\nb", "a\\\\x0d\\\\x0ab"},
		{"\033[31mred", "\\\\x1b[31mred"},
		{"\x7f\x01\t", "\\\\x7f\\\\x01\\\\x09"},
		{"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},        /* é */
		{"\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80"},
		{"\xc0\xaf", "\\\\xc0\\\\xaf"},                    /* overlong */
		{"\xe0\x80\xaf", "\\\\xe0\\\\x80\\\\xaf"},
		{"\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80"},         /* surrogate */
		{"\xf4\x90\x80\x80", "\\\\xf4\\\\x90\\\\x80\\\\x80"}, /* beyond Unicode */
		{"\xc3", "\\\\xc3"},                               /* cut */
		{"\xe2\x82", "\\\\xe2\\\\x82"},
		{"\xc2\x9b" "31m", "\\\\xc2\\\\x9b31m"},           /* C1 control: CSI of 8-bit terminals */
		{"\xe2\x80\xae", "\\\\xe2\\\\x80\\\\xae"},         /* right-to-left override */
		{"\xe2\x80\xa8", "\\\\xe2\\\\x80\\\\xa8"},         /* line separator */
		{"\xef\xbb\xbf", "\\\\xef\\\\xbb\\\\xbf"},
		{"\xff\xfe", "\\\\xff\\\\xfe"},
	};
	uint8_t out[256];

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		/* At every place within the eight octets that are looked at together. */
		for (unsigned shift = 0; shift < 9; shift++) {
			char in[64], want[128];
			snprintf(in, sizeof(in), "%.*s%s%.*s", (int)shift, "aaaaaaaaa", t[i].in, (int)(9 - shift), "bbbbbbbbb");
			snprintf(want, sizeof(want), "%.*s%s%.*s", (int)shift, "aaaaaaaaa", t[i].out, (int)(9 - shift), "bbbbbbbbb");
			if ((uint8_t)t[i].in[strlen(t[i].in) - 1] >= 0x80 && shift == 8)
				continue;
			size_t n = record_escape(out, (const uint8_t *)in, strlen(in));
			out[n] = 0;
			assert_string_equal((char *)out, want);
		}
	}
}

/* Random octets in every text field: one line, parsed back to the same octets. */
static void any_octets_round_trip(void **state)
{
	static uint8_t out[RECORD_MAX], text[AUDIT_FIELDS][300], back[AUDIT_TEXT_MAX * 5];
	static const char spice[] = "\"\\]\r\n\033\x7f\0 =[x";

	(void)state;
	srand(84);
	for (unsigned round = 0; round < 3000; round++) {
		size_t len[AUDIT_FIELDS] = {0};
		uint64_t number[AUDIT_FIELDS] = {0};
		uint8_t mem[AUDIT_EVENT_MAX];
		struct parse_record r;
		struct audit_event e;
		struct uuid id;
		const char *why;

		uuid_make(&id, clock_wall_us());
		audit_event_init(&e, mem, sizeof(mem), AUDIT_END, &id, 1 + round % 65535, 0);
		for (unsigned f = 1; f < AUDIT_FIELDS; f++) {
			if (rand() % 4 == 0)
				continue;
			if (audit_event_is_u64((enum audit_field)f)) {
				number[f] = (uint64_t)rand() << (rand() % 34);
				audit_event_u64(&e, (enum audit_field)f, number[f]);
				continue;
			}
			len[f] = (size_t)rand() % 200 + 1;
			for (size_t i = 0; i < len[f]; i++)
				text[f][i] = (uint8_t)(rand() % 3 ? 'a' + rand() % 26 : rand() % 2 ? rand() : spice[(size_t)rand() % (sizeof(spice) - 1)]);
			audit_event_text(&e, (enum audit_field)f, text[f], len[f]);
		}
		size_t n = write_event(out, &e, SCHEMA_END);
		for (size_t i = 0; i < n; i++)
			assert_true(out[i] >= 0x20 && out[i] != 0x7f);
		assert_int_equal(parse_record(&r, (char *)out, n, &why), 0);
		assert_int_equal(r.msg, SCHEMA_END);
		assert_int_equal(r.seq, 42);
		assert_int_equal(r.instance, 0xabc);
		assert_int_equal(r.pos, 4096);
		assert_int_equal(r.wall_us, UINT64_C(1795165200123456));
		assert_memory_equal(r.prev, prev, DIGEST_LEN);
		assert_true(r.has_exchange && memcmp(&r.exchange, &id, sizeof(id)) == 0);
		assert_int_equal(r.attempt, 1 + round % 65535);
		for (unsigned f = 1; f < AUDIT_FIELDS; f++) {
			if (audit_event_is_u64((enum audit_field)f)) {
				assert_int_equal(parse_u64(&r, (enum audit_field)f), number[f]);
				continue;
			}
			assert_int_equal(r.present >> f & 1, len[f] > 0);
			if (len[f]) {
				assert_int_equal(parse_unescape(back, r.f[f]), len[f]);
				assert_memory_equal(back, text[f], len[f]);
			}
		}
		/* And back into an event. */
		struct audit_event again;
		uint8_t mem2[AUDIT_EVENT_MAX];
		struct audit_fields x, y;
		parse_event(&r, &again, mem2, AUDIT_END, UINT64_MAX);
		assert_int_equal(audit_event_parse(&x, again.p, again.len, &why), 0);
		assert_int_equal(audit_event_parse(&y, e.p, e.len, &why), 0);
		assert_true(x.present == y.present);
	}
}

#define HEAD "<110>1 2026-11-20T09:00:00.123456Z h sallyport 1 deny [sallyport@32473"
#define FIRST HEAD " seq=\"1\" src=\"0:-\" worker=\"w\""
#define PREV " prev=\"0000000000000000000000000000000000000000000000000000000000000000\"]"

static void strict(void **state)
{
	static const char *const good[] = {
		FIRST PREV,
		FIRST " later=\"of a version to come\"" PREV,
		FIRST " path=\"\xc3\xa9\"" PREV,
		"<105>1 2024-02-29T23:59:59.999999Z h sallyport - new-kind [sallyport@32473 seq=\"18446744073709551615\" "
		"src=\"ffffffffffffffff:18446744073709551614\" worker=\"w\" status=\"0\"" PREV,
	};
	static const char *const bad[] = {
		"", "<", "<110>", "<1>1 ", HEAD, FIRST, FIRST "]", FIRST PREV " ", FIRST PREV "x", " " FIRST PREV,
		"<111>2 2026-11-20T09:00:00.123456Z h sallyport 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<014>1 2026-11-20T09:00:00.123456Z h sallyport 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<110>1 2026-13-20T09:00:00.123456Z h sallyport 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<110>1 2026-02-29T09:00:00.123456Z h sallyport 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<110>1 2026-11-20T24:00:00.123456Z h sallyport 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<110>1 2026-11-20T09:00:00.12345Z h sallyport 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<110>1 2026-11-20T09:00:00.123456Z h other 1 deny [sallyport@32473 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		"<110>1 2026-11-20T09:00:00.123456Z h sallyport 1 deny [other@1 seq=\"1\" src=\"0:-\" worker=\"w\"" PREV,
		HEAD " src=\"0:-\" seq=\"1\" worker=\"w\"" PREV,
		HEAD " seq=\"0\" src=\"0:-\" worker=\"w\"" PREV,
		HEAD " seq=\"01\" src=\"0:-\" worker=\"w\"" PREV,
		HEAD " seq=\"18446744073709551616\" src=\"0:-\" worker=\"w\"" PREV,
		HEAD " seq=\"1\" src=\"0\" worker=\"w\"" PREV,
		HEAD " seq=\"1\" src=\"0:\" worker=\"w\"" PREV,
		HEAD " seq=\"1\" src=\"G:1\" worker=\"w\"" PREV,
		HEAD " seq=\"1\" src=\"11111111111111111:1\" worker=\"w\"" PREV,
		HEAD " seq=\"1\" src=\"0:-\" worker=\"\"" PREV,
		FIRST " status=\"2x\"" PREV, FIRST " status=\"\"" PREV, FIRST " path=\"a\" path=\"b\"" PREV, FIRST " seq=\"2\"" PREV,
		FIRST " path=\"a]b\"" PREV, FIRST " path=\"a\\b\"" PREV, FIRST " path=\"a\\\\b\"" PREV, FIRST " path=\"a\\\\xZZ\"" PREV,
		FIRST " path=\"a\\\\xAB\"" PREV, FIRST " path=\"\033\"" PREV, FIRST " path=\"a" PREV, FIRST " path=a" PREV, FIRST " =\"a\"" PREV,
		FIRST "  path=\"a\"" PREV, FIRST " exchange=\"0\"" PREV, FIRST " attempt=\"0\"" PREV, FIRST " attempt=\"65536\"" PREV,
		FIRST " at=\"yesterday\"" PREV, FIRST " sync=\"0\"" PREV,
		FIRST " prev=\"00\"]",
		FIRST " prev=\"0000000000000000000000000000000000000000000000000000000000000000\" path=\"a\"]",
	};
	struct parse_record r;
	const char *why = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(parse_record(&r, good[i], strlen(good[i]), &why), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse_record(&r, bad[i], strlen(bad[i]), &why) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_non_null(why);
	}
	/* Cut anywhere, in memory that ends there. */
	for (size_t n = 0; n < strlen(good[1]); n++) {
		char *cut = malloc(n ? n : 1);
		memcpy(cut, good[1], n);
		assert_int_equal(parse_record(&r, cut, n, &why), -1);
		free(cut);
	}
}

static void stamps(void **state)
{
	char text[CLOCK_RFC3339_LEN + 1];
	uint64_t back;

	(void)state;
	srand(3);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t us = ((uint64_t)rand() << 31 | (uint64_t)rand()) % UINT64_C(253402300800000000);
		clock_rfc3339(text, us);
		assert_int_equal(parse_stamp(&back, text, CLOCK_RFC3339_LEN), 0);
		assert_true(back == us);
	}
}

static void schema_is_complete(void **state)
{
	uint64_t seen = 0;

	(void)state;
	for (unsigned i = 1; i < SCHEMA_FIELDS; i++) {
		assert_non_null(schema_fields[i].name);
		assert_true(schema_fields[i].lead_len <= sizeof(schema_fields[i].lead));
		assert_int_equal(schema_field_by_name(schema_fields[i].name, strlen(schema_fields[i].name)), (int)i);
		if (i < AUDIT_FIELDS)
			assert_int_equal(schema_fields[i].number, audit_event_is_u64((enum audit_field)i));
	}
	for (unsigned i = 0; i < AUDIT_FIELDS - 1; i++)
		seen |= UINT64_C(1) << schema_order[i];
	assert_true(seen == (UINT64_C(1) << AUDIT_FIELDS) - 2);
	for (int i = 0; i < SCHEMA_MSGS; i++)
		assert_int_equal(schema_msg_by_name(schema_msgs[i].msgid, strlen(schema_msgs[i].msgid)), i);
	assert_int_equal(schema_field_by_name("x", 1), -1);
	assert_int_equal(schema_msg_by_name("x", 1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exact_text),
		cmocka_unit_test(escapes),
		cmocka_unit_test(any_octets_round_trip),
		cmocka_unit_test(strict),
		cmocka_unit_test(stamps),
		cmocka_unit_test(schema_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
