/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls, from sender to receiver: slots, chains and the peer's word; what is malformed or claimed beyond what is due; and that
 * no caller is ever taken for another, whatever is lost, refused or answered late.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"
#include "tests/unit/pki/zoo.h"

/* ---- two domains ---- */

#define CALLERS 12
static struct zoo_cert ca, stranger_ca;
static struct zoo_cert leaf[CALLERS]; /* the last two: not to be trusted, expired */
static struct svid_bundle *bundles[2];

static int make_world(void **state)
{
	char *pem;
	const char *why;

	(void)state;
	ca = zoo_ca("hud.example", NULL);
	stranger_ca = zoo_ca("hud.example", NULL);
	pem = zoo_pem(&ca.x, 1);
	bundles[1] = svid_bundle_new("hud.example", pem, &why);
	assert_non_null(bundles[1]);
	mem_free(pem);
	for (int i = 0; i < CALLERS; i++) {
		char id[64];
		struct zoo z = { .serial = 100 + (unsigned)i, .key = ZOO_P256 };

		snprintf(id, sizeof(id), "spiffe://hud.example/app/%d", i);
		z.san[0] = (struct zoo_name){ .type = GEN_URI, .p = id };
		if (i == CALLERS - 1)
			z.from = zoo_now - 7200, z.until = zoo_now - 3600;
		leaf[i] = zoo_make(&z, i == CALLERS - 2 ? &stranger_ca : &ca);
	}
	return 0;
}

static int free_world(void **state)
{
	(void)state;
	for (int i = 0; i < CALLERS; i++)
		zoo_free(&leaf[i]);
	zoo_free(&ca);
	zoo_free(&stranger_ca);
	svid_bundle_unref(bundles[1]);
	return 0;
}

/* A link's end, of its own gateway. */
struct side {
	struct config config;
	struct config_peer peer_cfg;
	struct link_set set;
	struct link_peer peer;
	struct link link;
	struct caller_table *callers;
};

static struct loop *loop; /* never looked at */

uint64_t loop_wall_us(const struct loop *l)
{
	(void)l;
	return (uint64_t)zoo_now * 1000000;
}

static void on_caller_free(void *ctx, struct caller *c)
{
	identity_forget_caller(ctx, c);
}

static struct side *side_new(unsigned slots)
{
	struct side *s = mem_zalloc(sizeof(*s));

	s->callers = caller_table_new();
	s->config.limits.slots = slots;
	s->peer_cfg = (struct config_peer){ .name = (char *)"hud", .domain = (char *)"hud.example", .assert_mask = 1u << POLICY_UID };
	s->set.env = (struct link_env){ .loop = loop, .config = &s->config, .callers = s->callers, .bundles = bundles };
	s->peer = (struct link_peer){ .set = &s->set, .cfg = &s->peer_cfg };
	s->link.peer = &s->peer;
	caller_table_on_free(s->callers, on_caller_free, &s->link);
	return s;
}

static void side_free(struct side *s)
{
	identity_fini(&s->link);
	caller_table_on_free(s->callers, NULL, NULL);
	caller_table_free(s->callers);
	mem_free(s);
}

static struct caller *sender_caller(struct side *s, int i)
{
	struct svid_info info = { .not_after = INT64_MAX };
	uint8_t *der = NULL;
	int n = i2d_X509(leaf[i].x, &der);
	struct svid_der d = { der, (size_t)n };
	struct caller *c;

	snprintf(info.id, sizeof(info.id), "spiffe://hud.example/app/%d", i);
	c = caller_get_mtls(s->callers, &info, &d, 1, -1);
	OPENSSL_free(der);
	return c;
}

/* ---- a request on its way ---- */

struct wire {
	char exchange[80], cert[4096], who[64];
	uint32_t lease;
	bool has_cert, has_who;
};

static struct uuid next_id;

static void encode(struct side *s, struct caller *c, struct wire *w)
{
	struct slot *slot = identity_slot(&s->link, c);

	memset(w, 0, sizeof(*w));
	uuid_make(&next_id, loop_wall_us(loop));
	uuid_format(&next_id, w->exchange);
	snprintf(w->exchange + UUID_TEXT_LEN, sizeof(w->exchange) - UUID_TEXT_LEN, ";1;%c;%u", c->assurance == POLICY_MTLS ? 'm' : 'u',
	    slot->number);
	w->lease = slot->lease;
	if (slot->confirmed)
		return;
	if (c->assurance == POLICY_MTLS) {
		w->has_cert = true;
		memcpy(w->cert, c->client_cert, c->client_cert_len);
		w->cert[c->client_cert_len] = '\0';
	} else {
		w->has_who = true;
		memcpy(w->who, c->id, c->id_len);
		w->who[c->id_len] = '\0';
	}
}

static struct h1_field identity(const char *name, const char *value)
{
	struct h1_field f = link_field(name, value, strlen(value));

	f.id = H1_F_IDENTITY;
	return f;
}

static struct caller *receive_fields(struct side *r, const struct h1_field *f, unsigned n, struct link_call *call)
{
	struct leg_head h = { .fields = f, .nfields = n };

	*call = (struct link_call){ .attempt = 1, .refusal_id = "" };
	return identity_of(&r->link, &h, call);
}

static struct caller *receive(struct side *r, const struct wire *w, struct link_call *call)
{
	struct h1_field f[4];
	unsigned n = 0;

	f[n++] = identity("sallyport-exchange", w->exchange);
	if (w->has_cert)
		f[n++] = identity("client-cert", w->cert);
	if (w->has_who)
		f[n++] = identity("sallyport-principal", w->who);
	return receive_fields(r, f, n, call);
}

/* ---- tests ---- */

static void test_chain_once(void **state)
{
	struct side *s = side_new(10), *r = side_new(10);
	struct caller *c = sender_caller(s, 0), *got;
	struct link_call call;
	struct wire w;

	(void)state;
	for (int i = 0; i < 3; i++) { /* until one is answered, the chain goes along */
		encode(s, c, &w);
		assert_true(w.has_cert);
		got = receive(r, &w, &call);
		assert_non_null(got);
		assert_string_equal(got->id, "spiffe://hud.example/app/0");
		assert_int_equal(got->assurance, POLICY_MTLS);
		assert_memory_equal(&call.id, &next_id, sizeof(next_id));
		caller_unref(r->callers, got);
	}
	identity_answered(&s->link, c, w.lease, true);
	encode(s, c, &w);
	assert_false(w.has_cert);
	got = receive(r, &w, &call);
	assert_string_equal(got->id, "spiffe://hud.example/app/0");
	caller_unref(r->callers, got);
	/* The receiver forgot: a defined answer, on which the chain is sent again. */
	identity_fini(&r->link);
	assert_null(receive(r, &w, &call));
	assert_string_equal(call.refusal, "unknown-slot");
	assert_int_equal(call.refusal_status, LINK_STATUS_SLOT);
	identity_answered(&s->link, c, w.lease, false);
	encode(s, c, &w);
	assert_true(w.has_cert);
	caller_unref(s->callers, c);
	side_free(s);
	side_free(r);
}

static void test_refused_chains(void **state)
{
	static const struct {
		int caller;
		const char *why;
	} rows[] = { { CALLERS - 2, "untrusted" }, { CALLERS - 1, "expired" } };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct side *s = side_new(10), *r = side_new(10);
		struct caller *c = sender_caller(s, rows[i].caller);
		struct link_call call;
		struct wire w;

		encode(s, c, &w);
		assert_null(receive(r, &w, &call));
		assert_string_equal(call.refusal, rows[i].why);
		assert_int_equal(call.refusal_status, 403);
		assert_int_equal(caller_table_count(r->callers), 0);
		caller_unref(s->callers, c);
		side_free(s);
		side_free(r);
	}
}

/*
 * The slot's former holder is trusted, the new one is not: what the new one sends by the slot alone is nobody's, even if the sender
 * thought it known.
 */
static void test_slot_of_a_refused_caller(void **state)
{
	struct side *s = side_new(1), *r = side_new(1);
	struct caller *good = sender_caller(s, 0), *bad = sender_caller(s, CALLERS - 2), *got;
	struct link_call call;
	struct wire w, first;

	(void)state;
	encode(s, good, &first);
	got = receive(r, &first, &call);
	assert_non_null(got);
	caller_unref(r->callers, got);
	encode(s, bad, &w); /* the only slot */
	assert_null(receive(r, &w, &call));
	identity_answered(&s->link, bad, w.lease, true);
	encode(s, bad, &w);
	assert_false(w.has_cert);
	assert_null(receive(r, &w, &call));
	assert_string_equal(call.refusal, "unknown-slot");
	/* An answer to the former holder's exchange says nothing of the slot that it is given next. */
	encode(s, good, &w);
	identity_answered(&s->link, good, first.lease, true);
	encode(s, good, &w);
	assert_true(w.has_cert);
	caller_unref(s->callers, good);
	caller_unref(s->callers, bad);
	side_free(s);
	side_free(r);
}

static uint32_t seed = 5;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/* Requests are lost or refused, answers come late or never, callers come and go, links know different numbers of slots. */
static void test_never_another(void **state)
{
	enum { FLYING = 40 };

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct side *s = side_new(2 + round % 5), *r = side_new(2 + round % 3);
		struct caller *held[CALLERS] = { 0 };
		struct {
			struct caller *c;
			struct wire w;
			bool known;
		} flying[FLYING];
		unsigned nflying = 0, by_slot = 0;

		if (round % 2)
			s->link.far_slots = (uint32_t)r->config.limits.slots; /* else it finds out */
		for (unsigned step = 0; step < 1500; step++) {
			int i = (int)(rnd(20) ? (step / 60 + rnd(2)) % CALLERS : rnd(CALLERS)); /* few at a time */
			struct link_call call;
			struct caller *got;
			unsigned k;

			if (!held[i])
				held[i] = sender_caller(s, i);
			switch (rnd(8)) {
			case 0: /* gone; its exchanges hold it still */
				caller_unref(s->callers, held[i]);
				held[i] = NULL;
				break;
			case 1: case 2: case 3: /* an answer, of any that is under way */
				if (!nflying)
					break;
				k = rnd(nflying);
				if (rnd(5))
					identity_answered(&s->link, flying[k].c, flying[k].w.lease, flying[k].known);
				caller_unref(s->callers, flying[k].c);
				flying[k] = flying[--nflying];
				break;
			default:
				if (nflying == FLYING)
					break;
				encode(s, held[i], &flying[nflying].w);
				if (rnd(6) == 0)
					break; /* cut before it left */
				flying[nflying].c = caller_ref(held[i]);
				got = receive(r, &flying[nflying].w, &call);
				flying[nflying].known = got != NULL;
				if (got && strcmp(got->id, held[i]->id) != 0)
					fail_msg("round %u, step %u: %s was taken for %s", round, step, held[i]->id, got->id);
				if (got && i >= CALLERS - 2)
					fail_msg("%s came in", held[i]->id);
				if (!got && i < CALLERS - 2)
					assert_string_equal(call.refusal, "unknown-slot");
				/* Any answer but "unknown slot" was taken as proof before. */
				if (!got && call.refusal_status != LINK_STATUS_SLOT && rnd(2))
					flying[nflying].known = true;
				by_slot += got && !flying[nflying].w.has_cert;
				nflying++;
				caller_unref(r->callers, got);
			}
		}
		assert_true(by_slot > 20);
		while (nflying)
			caller_unref(s->callers, flying[--nflying].c);
		for (int i = 0; i < CALLERS; i++)
			caller_unref(s->callers, held[i]);
		side_free(s);
		side_free(r);
	}
}

/* The largest number of slots that a config allows, and all of it used. */
static void test_all_slots(void **state)
{
	struct side *s = side_new(65536);
	static struct caller *c[70000];
	static bool seen[65537];
	char id[64];

	(void)state;
	for (int i = 0; i < 70000; i++) {
		struct slot *slot;

		snprintf(id, sizeof(id), "spiffe://hud.example/%d", i);
		c[i] = caller_get(s->callers, id, strlen(id), POLICY_UID, -1);
		slot = identity_slot(&s->link, c[i]);
		assert_in_range(slot->number, 1, 65535);
		assert_int_equal(seen[slot->number], i >= 65535);
		seen[slot->number] = true;
		assert_ptr_equal(identity_slot(&s->link, c[i]), slot);
	}
	for (int i = 0; i < 70000; i++)
		caller_unref(s->callers, c[i]);
	side_free(s);
}

/* ---- what is malformed, or more than is due ---- */

#define X "01890a5d-ac96-774b-bcce-b302099a8057"
#define CERT "\1" /* stands for a good certificate */

static const struct {
	const char *what;
	const char *x, *cert, *chain, *who;
	const char *refusal;     /* NULL: good */
	unsigned status;
} rows[] = {
	{ "certificate", X ";1;m", CERT, NULL, NULL, NULL, 0 },
	{ "certificate and slot", X ";1;m;5", CERT, NULL, NULL, NULL, 0 },
	{ "certificate and slot 0", X ";1;m;0", CERT, NULL, NULL, NULL, 0 },
	{ "a slot beyond ours", X ";1;m;11", CERT, NULL, NULL, NULL, 0 },
	{ "attempt 999", X ";999;m", CERT, NULL, NULL, NULL, 0 },
	{ "word", X ";1;u", NULL, NULL, "spiffe://hud.example/x", NULL, 0 },
	{ "word and slot", X ";1;u;3", NULL, NULL, "spiffe://hud.example/x", NULL, 0 },
	{ "no exchange", NULL, CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "empty", "", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "no attempt", X ";;m", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "attempt 0", X ";0;m", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "attempt 1000", X ";1000;m", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "attempt -1", X ";-1;m", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "no letter", X ";1;", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "no slot", X ";1;m;", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "a slot that is none", X ";1;m;x", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "a slot of seven digits", X ";1;m;1234567", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "something behind", X ";1;m;5;6", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "upper-case id", "01890A5D-AC96-774B-BCCE-B302099A8057;1;m", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "an id of version 4", "01890a5d-ac96-474b-bcce-b302099a8057;1;m", CERT, NULL, NULL, "malformed-exchange", 400 },
	{ "another letter", X ";1;x", NULL, NULL, NULL, "malformed-exchange", 403 },
	{ "nothing but mtls", X ";1;m", NULL, NULL, NULL, "unknown-slot", LINK_STATUS_SLOT },
	{ "a slot that is not known", X ";1;m;7", NULL, NULL, NULL, "unknown-slot", LINK_STATUS_SLOT },
	{ "a slot beyond ours alone", X ";1;m;999999", NULL, NULL, NULL, "unknown-slot", LINK_STATUS_SLOT },
	{ "mtls by word", X ";1;m", NULL, NULL, "spiffe://hud.example/x", "malformed-exchange", 403 },
	{ "both", X ";1;m", CERT, NULL, "spiffe://hud.example/x", "malformed-exchange", 403 },
	{ "a chain without a leaf", X ";1;m;5", NULL, ":AAAA:", NULL, "malformed-exchange", 403 },
	{ "uid with a certificate", X ";1;u", CERT, NULL, "spiffe://hud.example/x", "malformed-exchange", 403 },
	{ "no base64", X ";1;m", "AAAA", NULL, NULL, "malformed-certificate", 403 },
	{ "no certificate", X ";1;m", ":AAAA:", NULL, NULL, "malformed", 403 },
	{ "a word that is not taken", X ";1;a", NULL, NULL, "spiffe://hud.example/x", "assurance-not-accepted", 403 },
	{ "nobody, who is not taken", X ";1;n", NULL, NULL, NULL, "assurance-not-accepted", 403 },
	{ "nobody with a name", X ";1;n", NULL, NULL, "spiffe://hud.example/x", "malformed-exchange", 403 },
	{ "no id", X ";1;u", NULL, NULL, "x", "bad-id", 403 },
	{ "empty id", X ";1;u", NULL, NULL, "", "bad-id", 403 },
	{ "case 89: our domain", X ";1;u", NULL, NULL, "spiffe://irs.example/x", "foreign-domain", 403 },
	{ "case 89: a longer domain", X ";1;u", NULL, NULL, "spiffe://hud.example.com/x", "foreign-domain", 403 },
	{ "case 89: a shorter one", X ";1;u", NULL, NULL, "spiffe://hud.exampl/x", "foreign-domain", 403 },
};

static void test_rows(void **state)
{
	struct side *s = side_new(10);
	struct caller *c = sender_caller(s, 0);
	static char cert[4096];

	(void)state;
	memcpy(cert, c->client_cert, c->client_cert_len);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct side *r = side_new(10);
		struct h1_field f[8];
		unsigned n = 0;
		struct link_call call;
		struct caller *got;

		f[n++] = identity("x-forwarded-for", "ignored");
		if (rows[i].x)
			f[n++] = identity("sallyport-exchange", rows[i].x);
		if (rows[i].cert)
			f[n++] = identity("client-cert", strcmp(rows[i].cert, CERT) == 0 ? cert : rows[i].cert);
		if (rows[i].chain)
			f[n++] = identity("client-cert-chain", rows[i].chain);
		if (rows[i].who)
			f[n++] = identity("sallyport-principal", rows[i].who);
		got = receive_fields(r, f, n, &call);
		if (!got != (rows[i].refusal != NULL))
			fail_msg("%s: %s", rows[i].what, got ? "taken" : call.refusal);
		if (!got && (strcmp(call.refusal, rows[i].refusal) != 0 || call.refusal_status != rows[i].status))
			fail_msg("%s: %s, %u", rows[i].what, call.refusal, call.refusal_status);
		assert_non_null(call.refusal_id);
		caller_unref(r->callers, got);
		side_free(r);
	}
	caller_unref(s->callers, c);
	side_free(s);
}

/* Two fields of one name: which is meant? */
static void test_twice(void **state)
{
	static const char *const names[] = { "sallyport-exchange", "client-cert", "client-cert-chain", "sallyport-principal" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct side *r = side_new(10);
		struct h1_field f[3] = { identity("sallyport-exchange", X ";1;u"), identity(names[i], "x"), identity(names[i], "x") };
		struct link_call call;

		assert_null(receive_fields(r, f, 3, &call));
		assert_string_equal(call.refusal, "malformed-exchange");
		assert_int_equal(call.refusal_status, 400);
		side_free(r);
	}
}

/* What an application calls itself is no identity field's business here: names that only look alike are passed over. */
static void test_lookalikes(void **state)
{
	struct side *r = side_new(10);
	struct h1_field f[3] = {
		identity("sallyport-exchange", X ";1;u"), identity("sallyport_principal", "spiffe://hud.example/x"),
		identity("sallyport-principals", "spiffe://hud.example/x"),
	};
	struct link_call call;

	(void)state;
	assert_null(receive_fields(r, f, 3, &call));
	assert_string_equal(call.refusal, "unknown-slot");
	side_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain_once), cmocka_unit_test(test_refused_chains), cmocka_unit_test(test_slot_of_a_refused_caller), cmocka_unit_test(test_never_another),
		cmocka_unit_test(test_all_slots), cmocka_unit_test(test_rows), cmocka_unit_test(test_twice), cmocka_unit_test(test_lookalikes),
	};

	return cmocka_run_group_tests(tests, make_world, free_world);
}
