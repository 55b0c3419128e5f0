/* SPDX-License-Identifier: Apache-2.0 */
/* Callers: interned, counted, numbered; and their certificates as RFC 9440 has them, there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/link/caller.h"

/* ---- the table ---- */

#define ID "spiffe://hud.example/app"

static void test_interned(void **state)
{
	struct caller_table *t = caller_table_new();
	struct caller *a = caller_get(t, ID, strlen(ID), POLICY_UID, -1), *b, *c, *d, *e;

	(void)state;
	assert_string_equal(a->id, ID);
	assert_int_equal(a->id_len, strlen(ID));
	assert_true(a->not_after == INT64_MAX);
	b = caller_get(t, ID, strlen(ID), POLICY_UID, -1);
	assert_ptr_equal(a, b);
	assert_int_equal(a->refs, 2);
	/* Another assurance, another domain, another id, a prefix of it: others. */
	c = caller_get(t, ID, strlen(ID), POLICY_ADDRESS, -1);
	d = caller_get(t, ID, strlen(ID), POLICY_UID, 0);
	e = caller_get(t, ID "x", strlen(ID), POLICY_UID, 1);
	assert_ptr_not_equal(a, c);
	assert_ptr_not_equal(a, d);
	assert_ptr_not_equal(a, e);
	assert_string_equal(e->id, ID);
	assert_int_equal(caller_table_count(t), 4);
	caller_unref(t, a);
	assert_int_equal(caller_table_count(t), 4);
	caller_unref(t, b);
	assert_int_equal(caller_table_count(t), 3);
	caller_unref(t, NULL);
	/* Nobody is a caller, too. */
	a = caller_get(t, "", 0, POLICY_NONE, -1);
	assert_string_equal(a->id, "");
	caller_unref(t, a);
	caller_table_free(t); /* with c, d and e */
	caller_table_free(NULL);
}

static unsigned freed[8], nfreed;

static void on_free(void *ctx, struct caller *c)
{
	assert_ptr_equal(ctx, freed);
	freed[nfreed++] = c->number;
}

/* Numbers are small, unique among the living, and told of before they are used again. */
static void test_numbers(void **state)
{
	struct caller_table *t = caller_table_new();
	struct caller *c[100];
	char id[40];

	(void)state;
	nfreed = 0;
	caller_table_on_free(t, on_free, freed);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof(id), ID "/%d", i);
		c[i] = caller_get(t, id, strlen(id), POLICY_UID, -1);
		assert_int_equal(c[i]->number, i);
	}
	caller_unref(t, c[17]);
	caller_unref(t, c[5]);
	assert_int_equal(nfreed, 2);
	assert_int_equal(freed[0], 17);
	c[17] = caller_get(t, ID, strlen(ID), POLICY_UID, -1);
	c[5] = caller_get(t, ID, strlen(ID), POLICY_ADDRESS, -1);
	assert_true(c[17]->number == 5 || c[17]->number == 17);
	assert_int_equal(c[17]->number + c[5]->number, 22);
	caller_table_free(t);
}

static void test_mtls(void **state)
{
	struct caller_table *t = caller_table_new();
	static const uint8_t leaf[] = "leaf", ca[] = "the issuer", other[] = "another";
	struct svid_der chain[2] = { { leaf, 4 }, { ca, 10 } }, moved[2] = { { (const uint8_t *)"leaft", 5 }, { ca + 1, 9 } };
	struct svid_info info = { .id = ID, .not_after = 12345, .serial = "abc", .sha256 = { 1, 2 } };
	struct caller *a = caller_get_mtls(t, &info, chain, 2, 3), *b;

	(void)state;
	assert_int_equal(a->assurance, POLICY_MTLS);
	assert_int_equal(a->not_after, 12345);
	assert_int_equal(a->peer, 3);
	assert_string_equal(a->cert_text, "serial=abc sha256=0102000000000000000000000000000000000000000000000000000000000000");
	assert_int_equal(a->client_cert_len, 10);
	assert_memory_equal(a->client_cert, ":bGVhZg==:", 10);
	assert_int_equal(a->client_cert_chain_len, 18);
	assert_memory_equal(a->client_cert_chain, ":dGhlIGlzc3Vlcg==:", 18);
	assert_ptr_equal(caller_find_chain(t, chain, 2, 3), a);
	assert_ptr_equal(caller_get_mtls(t, &info, chain, 2, 3), a);
	assert_int_equal(a->refs, 3);
	/* Part of the chain, more of it, the same octets cut elsewhere, another domain: not the same. */
	assert_null(caller_find_chain(t, chain, 1, 3));
	assert_null(caller_find_chain(t, moved, 2, 3));
	assert_null(caller_find_chain(t, chain, 2, 2));
	/* The same id by certificate and by word are two. */
	b = caller_get(t, ID, strlen(ID), POLICY_UID, 3);
	assert_ptr_not_equal(a, b);
	chain[1] = (struct svid_der){ other, 7 };
	assert_null(caller_find_chain(t, chain, 2, 3));
	b = caller_get_mtls(t, &info, chain, 1, 3);
	assert_int_equal(b->client_cert_chain_len, 0);
	caller_table_free(t);
}

/* Case 92. */
static void test_cancels(void **state)
{
	struct caller_table *t = caller_table_new();
	struct caller *c = caller_get(t, ID, strlen(ID), POLICY_UID, -1);

	(void)state;
	assert_false(caller_over(c, 5000, 3));
	for (int i = 0; i < 3; i++)
		caller_cancelled(c, 5000);
	assert_true(caller_over(c, 5999, 3));
	assert_false(caller_over(c, 5999, 4));
	assert_false(caller_over(c, 6000, 3));
	caller_cancelled(c, 6000);
	assert_false(caller_over(c, 6000, 3));
	caller_table_free(t);
}

/* ---- RFC 9440 ---- */

static void test_round_trip(void **state)
{
	static uint8_t content[SVID_MAX_BYTES], mem[SVID_MAX_BYTES];
	struct svid_info info = { .id = ID };

	(void)state;
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i * 7 + i / 256);
	for (size_t n = 1; n <= SVID_MAX_CHAIN; n++)
		for (size_t len = 1; len < 200; len++) {
			struct caller_table *t = caller_table_new();
			struct svid_der chain[SVID_MAX_CHAIN], out[SVID_MAX_CHAIN];
			struct caller *c;

			for (size_t i = 0; i < n; i++)
				chain[i] = (struct svid_der){ content + 13 * i, len + i };
			c = caller_get_mtls(t, &info, chain, n, 0);
			assert_int_equal(caller_parse_cert(c->client_cert, c->client_cert_len, c->client_cert_chain,
			    c->client_cert_chain_len, mem, sizeof(mem), out, SVID_MAX_CHAIN), n);
			for (size_t i = 0; i < n; i++) {
				assert_int_equal(out[i].len, chain[i].len);
				assert_memory_equal(out[i].p, chain[i].p, chain[i].len);
			}
			caller_table_free(t);
		}
}

static const struct {
	const char *cert, *chain;
	int n; /* -1: malformed */
} fields[] = {
	{ ":YWJj:", "", 1 },
	{ ":YWI=:", "", 1 },
	{ ":YQ==:", ":YWJj:", 2 },
	{ ":YQ==:", ":YWJj:, :YWJj:", 3 },
	{ ":YQ==:", ":YWJj:,:YWJj:", 3 },
	{ ":YQ==:", ":YWJj: \t,\t  :YWJj:", 3 },
	{ "", "", -1 },
	{ ":", "", -1 },
	{ "::", "", -1 },
	{ ":YWJj", "", -1 },
	{ "YWJj:", "", -1 },
	{ "YWJj", "", -1 },
	{ ":YWJj: ", "", -1 },
	{ " :YWJj:", "", -1 },
	{ ":YWJj::", "", -1 },
	{ ":YWJj:;a=1", "", -1 },
	{ ":YWJj:, :YWJj:", "", -1 },
	{ ":YWJ:", "", -1 },
	{ ":YWJjYW:", "", -1 },
	{ ":YWJjY===:", "", -1 },
	{ ":YW=j:", "", -1 },
	{ ":=AAA:", "", -1 },
	{ ":====:", "", -1 },
	{ ":YR==:", "", -1 }, /* left-over bits */
	{ ":YW J:", "", -1 },
	{ ":YWJ\n:", "", -1 },
	{ ":YW-_:", "", -1 },
	{ ":YWJj:", ",", -1 },
	{ ":YWJj:", ", :YWJj:", -1 },
	{ ":YWJj:", ":YWJj:,", -1 },
	{ ":YWJj:", ":YWJj:, ", -1 },
	{ ":YWJj:", ":YWJj: ", -1 },
	{ ":YWJj:", ":YWJj:,,:YWJj:", -1 },
	{ ":YWJj:", ":YWJj::YWJj:", -1 },
	{ ":YWJj:", ":YWJj:;p, :YWJj:", -1 },
	{ ":YWJj:", " :YWJj:", -1 },
	{ ":YWJj:", "x", -1 },
};

static void test_fields(void **state)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		/* Copies of their exact size, so that reading beyond them shows. */
		size_t a = strlen(fields[i].cert), b = strlen(fields[i].chain);
		char *cert = mem_alloc(a), *chain = mem_alloc(b);
		struct svid_der out[4];
		uint8_t mem[64];
		int n;

		(void)state;
		memcpy(cert, fields[i].cert, a);
		memcpy(chain, fields[i].chain, b);
		n = caller_parse_cert(cert, a, chain, b, mem, sizeof(mem), out, 4);
		if (n != fields[i].n)
			fail_msg("\"%s\" \"%s\": %d", fields[i].cert, fields[i].chain, n);
		mem_free(cert);
		mem_free(chain);
	}
}

/* More certificates, or more octets, than there is room for. */
static void test_bounds(void **state)
{
	static const char chain[] = ":YWJj:, :YWJj:, :YWJj:";
	struct svid_der out[4];

	(void)state;
	for (size_t max = 0; max <= 4; max++)
		for (size_t cap = 0; cap <= 14; cap++) {
			uint8_t *mem = mem_alloc(cap);
			int n = caller_parse_cert(":YWJj:", 6, chain, sizeof(chain) - 1, mem, cap, out, max);

			assert_int_equal(n, max >= 4 && cap >= 12 ? 4 : -1);
			mem_free(mem);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interned), cmocka_unit_test(test_numbers), cmocka_unit_test(test_mtls), cmocka_unit_test(test_cancels),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_fields), cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
