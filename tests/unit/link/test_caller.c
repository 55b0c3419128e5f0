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

/* ---- certificates of one principal ---- */

static struct caller *of_cert(struct caller_table *t, const char *id, int64_t until, uint8_t content, bool server)
{
	struct svid_info info = { .not_after = until };
	struct svid_der der = { &content, 1 };

	snprintf(info.id, sizeof(info.id), "%s", id);
	return caller_get_far(t, &info, &der, 1, -1, server);
}

static void test_newer(void **state)
{
	struct caller_table *t = caller_table_new();
	struct caller *idle = of_cert(t, ID, 100, 1, false), *used = of_cert(t, ID, 100, 2, false), *n;

	(void)state;
	/* The same chain of a server is another. */
	n = of_cert(t, ID, 100, 1, true);
	assert_ptr_not_equal(n, idle);
	caller_unref(t, n);
	used->active = 1;
	caller_unref(t, of_cert(t, ID "x", 900, 3, false)); /* another's */
	caller_unref(t, of_cert(t, ID, 90, 4, false));      /* older */
	caller_unref(t, of_cert(t, ID, 900, 5, true));      /* no caller */
	assert_null(used->newer);
	assert_int_equal(caller_table_count(t), 2);
	n = of_cert(t, ID, 200, 6, false);
	caller_unref(t, n);
	assert_ptr_equal(used->newer, n);
	assert_null(idle->newer);
	assert_int_equal(caller_table_count(t), 3);
	/* A later one takes its place, an earlier one does not. */
	caller_unref(t, of_cert(t, ID, 300, 7, false));
	caller_unref(t, of_cert(t, ID, 250, 8, false));
	assert_int_equal(used->newer->not_after, 300);
	assert_int_equal(caller_table_count(t), 3);
	for (unsigned seen = 0, k = 0; k < 1; k++) {
		struct caller *c = NULL;

		while ((c = caller_of_id(t, ID, strlen(ID), c)))
			seen++;
		assert_int_equal(seen, 3);
	}
	assert_null(caller_of_id(t, ID "x", strlen(ID) + 1, NULL));
	caller_table_distrust(t); /* nobody is good, until judged */
	assert_true(used->good_until < 0 && used->newer->good_until < 0);
	caller_judged(t, used->newer, NULL, 300);
	assert_int_equal(used->newer->good_until, 300);
	used->active = 0;
	caller_unfollow(t, used);
	assert_int_equal(caller_table_count(t), 2);
	caller_unref(t, idle);
	caller_unref(t, used);
	assert_int_equal(caller_table_count(t), 0);
	caller_table_free(t);
}

struct visit {
	struct caller_table *t;
	struct caller *kill; /* lets the others go when it is seen */
	struct caller **all;
	unsigned n, seen;
};

static void on_visit(void *ctx, struct caller *c)
{
	struct visit *v = ctx;

	v->seen++;
	if (c == v->kill)
		for (unsigned i = 0; i < v->n; i++) {
			caller_unref(v->t, v->all[i]);
			v->all[i] = NULL;
		}
}

/* Whatever the visitor does to those that are still to come. */
static void test_visit(void **state)
{
	struct caller *all[300];

	(void)state;
	for (unsigned kill = 0; kill <= 300; kill += 50) {
		struct visit v = { .t = caller_table_new(), .all = all, .n = 300 };
		unsigned cursor = 0, calls = 0;

		for (unsigned i = 0; i < 300; i++) {
			uint8_t content[2] = { (uint8_t)i, (uint8_t)(i / 256) };
			struct svid_info info = { .id = ID, .not_after = 5 }; /* a third of them in one bucket */
			struct svid_der der = { content, 2 };

			if (i % 3)
				snprintf(info.id, sizeof(info.id), ID "%u", i);
			all[i] = caller_get_mtls(v.t, &info, &der, 1, -1);
		}
		v.kill = kill < 300 ? all[kill] : NULL;
		do {
			caller_table_visit(v.t, &cursor, 10, on_visit, &v);
			calls++;
		} while (cursor);
		if (v.kill) {
			assert_true(v.seen <= 300);
			assert_int_equal(caller_table_count(v.t), 0);
		} else {
			assert_int_equal(v.seen, 300);
			assert_true(calls > 10);
		}
		caller_table_free(v.t);
	}
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
		cmocka_unit_test(test_interned), cmocka_unit_test(test_numbers), cmocka_unit_test(test_mtls), cmocka_unit_test(test_cancels), cmocka_unit_test(test_newer),
		cmocka_unit_test(test_visit),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_fields), cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
