/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callers and links judged again, in a time of our own: bundles that change, lists, peers that are severed, and certificates that end with and without
 * a successor. Chains and bundles are real; links, their dialling and TLS are played here.
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

#include "gateway/base/mem.h"
#include "gateway/link/internal.h"
#include "tests/unit/pki/zoo.h"

#define APP "spiffe://hud.example/app"
#define FAR "spiffe://irs.example/gateway/dmz1"
#define HUD 0 /* bundles */
#define IRS 1

/* ---- what is played ---- */

static uint64_t now_ms = 5000000;
static loop_fn *timer_fn;
static void *timer_ctx;
static unsigned cuts, wants, dials;
static char closed[256], wanted[64];

uint64_t loop_now(const struct loop *l)
{
	(void)l;
	return now_ms;
}

uint64_t loop_wall_us(const struct loop *l)
{
	(void)l;
	return (uint64_t)zoo_now * 1000000 + (now_ms - 5000000) * 1000;
}

void timer_set(struct loop *l, struct loop_timer *t, uint64_t ms, loop_fn *fn, void *ctx)
{
	(void)l, (void)t, (void)ms;
	timer_fn = fn;
	timer_ctx = ctx;
}

void timer_cancel(struct loop_timer *t)
{
	(void)t;
	timer_fn = NULL;
}

void link_close(struct link *l, const char *why, const char *detail)
{
	(void)detail;
	snprintf(closed + strlen(closed), sizeof(closed) - strlen(closed), "%u %s;", l->number, why);
	l->state = L_GONE;
	TAILQ_REMOVE(&l->peer->links, l, entry);
	standing_forget_far(l);
}

void dial_check(struct link_peer *p)
{
	(void)p;
	dials++;
}

void tls_env_changed(struct tls_env *e, bool replaced)
{
	(void)e, (void)replaced;
}

const struct svid_info *tls_peer(const struct tls_conn *t)
{
	return (const struct svid_info *)(const void *)t;
}

bool tls_no_crl(const struct tls_conn *t)
{
	(void)t;
	return false;
}

static bool current = true;

bool tls_current(const struct tls_conn *t)
{
	(void)t;
	return current;
}

static struct zoo_cert ca, other_ca, irs_ca;
static struct zoo_cert shown; /* the far end's certificate of the next link */

static size_t der_of(X509 *x, struct svid_der *out)
{
	uint8_t *p = NULL;
	int n = i2d_X509(x, &p);

	*out = (struct svid_der){ p, (size_t)n };
	return 1;
}

size_t tls_peer_chain(const struct tls_conn *t, struct svid_der *out, size_t max)
{
	static struct svid_der last;

	(void)t, (void)max;
	OPENSSL_free((void *)(uintptr_t)last.p);
	der_of(shown.x, &last);
	*out = last;
	return 1;
}

/* ---- a worker of hud.example with a peer ---- */

static struct config config;
static struct config_peer peer;
static char *gateways[] = { (char *)(uintptr_t)FAR };
static struct svid_bundle *bundles[2];
static struct link_set set;
static struct link_peer peer_links;
static struct link links[12];
static unsigned nlinks;

static struct svid_bundle *bundle_of(const char *domain, X509 *const *cas, size_t n)
{
	char *pem = zoo_pem(cas, n);
	const char *why;
	struct svid_bundle *b = svid_bundle_new(domain, pem, &why);

	assert_non_null(b);
	mem_free(pem);
	return b;
}

static void on_cut(void *ctx)
{
	(void)ctx;
	cuts++;
}

static void on_want(void *ctx, const char *id)
{
	(void)ctx;
	wants++;
	snprintf(wanted, sizeof(wanted), "%s", id);
}

static int setup(void **state)
{
	(void)state;
	now_ms = 5000000;
	cuts = wants = dials = nlinks = 0;
	closed[0] = '\0';
	current = true;
	ca = zoo_ca("hud.example", NULL);
	other_ca = zoo_ca("hud.example", NULL);
	irs_ca = zoo_ca("irs.example", NULL);
	bundles[HUD] = bundle_of("hud.example", &ca.x, 1);
	bundles[IRS] = bundle_of("irs.example", &irs_ca.x, 1);
	peer = (struct config_peer){ .name = (char *)(uintptr_t)"irs", .domain = (char *)(uintptr_t)"irs.example", .gateways = gateways, .ngateways = 1 };
	config = (struct config){ .domain = (char *)(uintptr_t)"hud.example", .peers = &peer, .npeers = 1 };
	set = (struct link_set){ .peers = &peer_links, .npeers = 1,
		.env = { .config = &config, .bundles = bundles, .nbundles = 2, .callers = caller_table_new(), .on_cut = on_cut, .on_want = on_want } };
	peer_links = (struct link_peer){ .set = &set, .cfg = &peer };
	TAILQ_INIT(&peer_links.links);
	standing_init(&set);
	return 0;
}

static int teardown(void **state)
{
	struct link *l;

	(void)state;
	while ((l = TAILQ_FIRST(&peer_links.links)))
		link_close(l, "stopped", NULL);
	standing_fini(&set);
	assert_int_equal(caller_table_count(set.env.callers), 0);
	caller_table_free(set.env.callers);
	for (int i = 0; i < 2; i++)
		svid_bundle_unref(bundles[i]);
	zoo_free(&ca);
	zoo_free(&other_ca);
	zoo_free(&irs_ca);
	return 0;
}

/* For "seconds" from zoo_now on, as old as that again. */
static struct zoo_cert leaf(const char *id, const struct zoo_cert *issuer, int64_t seconds, unsigned serial, const char *eku)
{
	struct zoo z = { .serial = serial, .key = ZOO_P256, .from = zoo_now - seconds, .until = zoo_now + seconds, .eku = eku };

	z.san[0] = (struct zoo_name){ .type = GEN_URI, .p = id };
	return zoo_make(&z, issuer);
}

static struct caller *seen(struct zoo_cert *c, int who)
{
	static struct svid_info info;
	struct svid_der d;
	const char *detail;
	struct caller *out;

	der_of(c->x, &d);
	assert_int_equal(link_verify(&set, who, &d, 1, false, &info, &detail), SVID_OK);
	out = caller_get_mtls(set.env.callers, &info, &d, 1, who);
	OPENSSL_free((void *)(uintptr_t)d.p);
	return out;
}

/* The caller's; freed. */
static struct caller *seen_once(const char *id, const struct zoo_cert *issuer, int64_t seconds, unsigned serial, int who)
{
	struct zoo_cert c = leaf(id, issuer, seconds, serial, NULL);
	struct caller *out = seen(&c, who);

	zoo_free(&c);
	return out;
}

static void wait_s(int64_t seconds)
{
	now_ms += (uint64_t)seconds * 1000;
}

static void trust(bool hud, bool irs)
{
	const bool new_cas[] = { hud, irs };

	link_set_trust(&set, NULL, new_cas, false);
}

static void replace(int i, const char *domain, X509 *const *cas, size_t n)
{
	svid_bundle_unref(bundles[i]);
	bundles[i] = bundle_of(domain, cas, n);
}

static void drop(struct caller *c)
{
	caller_unref(set.env.callers, c);
}

/* A ready link whose far end showed this certificate. */
static struct link *link_up(struct zoo_cert c, bool dialled)
{
	static struct dialler dialler;
	static struct svid_info info;
	struct link *l = &links[nlinks];
	struct svid_der d;
	const char *detail, *why;

	shown = c;
	der_of(c.x, &d);
	svid_verify_der(&d, 1, &bundles[IRS], 1, SVID_ANY, zoo_now, &info, &detail);
	OPENSSL_free((void *)(uintptr_t)d.p);
	*l = (struct link){ .peer = &peer_links, .number = ++nlinks, .state = L_READY, .gateway = (char *)(uintptr_t)FAR, .ready_ms = now_ms,
		.tls = (struct tls_conn *)(void *)&info, .dialler = dialled ? &dialler : NULL, .client = dialled, .identity = set.identity };
	TAILQ_INSERT_TAIL(&peer_links.links, l, entry);
	why = standing_far_end(l);
	zoo_free(&shown);
	if (why)
		link_close(l, why, NULL);
	return l;
}

/* ---- callers ---- */

static void test_bundle_changes(void **state)
{
	struct caller *c = seen_once(APP, &ca, 1000, 7, -1);
	X509 *both[] = { ca.x, other_ca.x };

	(void)state;
	assert_null(link_caller_refusal(&set, c));
	assert_int_equal(c->good_until, zoo_now + 1000);
	/* Grown, and the same again: still good; and nothing is good before it was judged. */
	replace(HUD, "hud.example", both, 2);
	trust(true, false);
	assert_true(c->good_until < zoo_now);
	assert_null(link_caller_refusal(&set, c));
	assert_int_equal(c->good_until, zoo_now + 1000);
	trust(false, false);
	assert_null(link_caller_refusal(&set, c));
	/* Its CA goes, and comes back. */
	replace(HUD, "hud.example", &other_ca.x, 1);
	trust(true, false);
	assert_string_equal(link_caller_refusal(&set, c), "untrusted");
	trust(false, false);
	assert_string_equal(link_caller_refusal(&set, c), "untrusted");
	replace(HUD, "hud.example", both, 2);
	trust(true, false);
	assert_null(link_caller_refusal(&set, c));
	/* Verified before a change that came before it was interned. */
	caller_doubt(c);
	assert_null(link_caller_refusal(&set, c));
	drop(c);
}

static void test_revoked(void **state)
{
	struct caller *c = seen_once(APP, &ca, 1000, 7, -1), *d = seen_once(APP, &ca, 1000, 8, -1);
	struct zoo_crl z = { .number = 1, .revoked = { 7 } };
	X509_CRL *crl = zoo_crl(&z, &ca);
	char *pem = zoo_crl_pem(&crl, 1, NULL, 0);
	const char *why;

	(void)state;
	svid_bundle_set_revocation(bundles[HUD], SVID_REV_REQUIRED);
	trust(false, false);
	assert_string_equal(link_caller_refusal(&set, c), "no-crl");
	assert_int_equal(svid_bundle_add_crls(bundles[HUD], pem, strlen(pem), zoo_now, &why), 1);
	trust(false, false);
	assert_string_equal(link_caller_refusal(&set, c), "revoked");
	assert_null(link_caller_refusal(&set, d));
	/* The list runs out by itself. */
	assert_false(link_set_tick(&set));
	wait_s(86401);
	assert_true(link_set_tick(&set));
	X509_CRL_free(crl);
	mem_free(pem);
	drop(c);
	drop(d);
}

static void test_expiry(void **state)
{
	struct caller *c;

	(void)state;
	config.limits.clock_skew_ms = 5000;
	caller_table_skew(set.env.callers, 5);
	c = seen_once(APP, &ca, 100, 7, -1);
	wait_s(104);
	assert_null(link_caller_refusal(&set, c));
	trust(false, false);
	assert_null(link_caller_refusal(&set, c));
	trust(true, false);
	assert_null(link_caller_refusal(&set, c));
	wait_s(2);
	assert_string_equal(link_caller_refusal(&set, c), "expired");
	trust(false, false);
	assert_string_equal(link_caller_refusal(&set, c), "expired");
	trust(true, false);
	assert_string_equal(link_caller_refusal(&set, c), "expired");
	drop(c);
}

static void test_barred(void **state)
{
	struct caller *c = seen_once("spiffe://irs.example/app", &irs_ca, 1000, 7, 0);

	(void)state;
	peer.severed = true;
	trust(false, false);
	assert_string_equal(link_caller_refusal(&set, c), "severed");
	assert_string_equal(link_peer_refusal(&set, 0), "severed");
	peer.severed = false;
	trust(false, false);
	assert_null(link_caller_refusal(&set, c));
	peer.removed = true;
	trust(false, false);
	assert_string_equal(link_caller_refusal(&set, c), "peer-removed");
	drop(c);
}

/* ---- successors ---- */

static void test_successor(void **state)
{
	struct caller *old = seen_once(APP, &ca, 100, 7, -1), *n, *n2;
	bool wait;

	(void)state;
	/* Young: nobody is asked. */
	assert_null(link_successor(&set, old, false, &wait));
	assert_true(wait);
	old->active = 1;
	n = seen_once(APP, &ca, 500, 8, -1);
	assert_ptr_equal(old->newer, n); /* kept from when it was seen */
	drop(n);
	assert_ptr_equal(link_successor(&set, old, false, &wait), n);
	n2 = seen_once(APP, &ca, 900, 9, -1);
	assert_ptr_equal(link_successor(&set, old, false, &wait), n2);
	/* The best may be revoked meanwhile. */
	caller_judged(set.env.callers, n2, "revoked", n2->not_after);
	assert_null(link_successor(&set, old, false, &wait));
	drop(n2);
	old->active = 0;
	drop(old);
}

static void test_siblings_are_asked(void **state)
{
	struct caller *old = seen_once(APP, &ca, 1000, 7, -1); /* 2000 s in all, half of it gone */
	bool wait;

	(void)state;
	wait_s(1);
	link_successor(&set, old, false, &wait);
	assert_int_equal(wants, 1);
	assert_string_equal(wanted, APP);
	/* Now and then, and each second before its end. */
	for (int i = 0; i < 900; i++) {
		wait_s(1);
		link_successor(&set, old, false, &wait);
	}
	assert_int_equal(wants, 1 + 900 / 31);
	wait_s(70);
	wants = 0;
	for (int i = 0; i < 20; i++) {
		wait_s(1);
		link_successor(&set, old, false, &wait);
	}
	assert_int_equal(wants, 20);
	wait_s(9);
	link_successor(&set, old, false, &wait);
	assert_true(wait); /* not ended yet, or just now */
	now_ms += 1300;
	link_successor(&set, old, false, &wait);
	assert_true(wait);
	now_ms += 300;
	link_successor(&set, old, false, &wait);
	assert_false(wait);
	drop(old);
}

/* However many end at once. */
static void test_asking_is_bounded(void **state)
{
	struct caller *c[100];
	bool wait;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		char id[64];

		snprintf(id, sizeof(id), APP "/%u", i);
		c[i] = seen_once(id, &ca, 100, 10 + i, -1);
	}
	wait_s(95);
	for (unsigned i = 0; i < 100; i++)
		link_successor(&set, c[i], false, &wait);
	assert_int_equal(wants, 64);
	wait_s(1);
	for (unsigned i = 0; i < 100; i++)
		link_successor(&set, c[i], false, &wait);
	assert_int_equal(wants, 128);
	for (unsigned i = 0; i < 100; i++)
		drop(c[i]);
}

/* What one worker knows, another takes over, if it is good. */
static void test_chains_of_siblings(void **state)
{
	static uint8_t mem[SVID_MAX_BYTES];
	static const struct {
		const char *id, *eku;
		int issuer; /* 0 hud, 1 another, 2 irs */
		int64_t seconds;
		bool taken, server;
	} rows[] = {
		{ APP, NULL, 0, 100, true, false },
		{ FAR, "serverAuth", 2, 100, true, true },
		{ FAR, "clientAuth", 2, 100, true, false },
		{ APP, NULL, 1, 100, false, false },
		{ APP, NULL, 2, 100, false, false },
		{ APP, NULL, 0, -1, false, false },
		{ "spiffe://else.example/app", NULL, 0, 100, false, false },
		{ APP, "codeSigning", 0, 100, false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct zoo z = { .serial = 50 + (unsigned)i, .key = ZOO_P256, .from = zoo_now - 1000, .until = zoo_now + rows[i].seconds, .eku = rows[i].eku };
		struct svid_der d, out[SVID_MAX_CHAIN];
		struct zoo_cert c;

		z.san[0] = (struct zoo_name){ .type = GEN_URI, .p = rows[i].id };
		c = zoo_make(&z, rows[i].issuer == 0 ? &ca : rows[i].issuer == 1 ? &other_ca : &irs_ca);
		der_of(c.x, &d);
		link_take_chain(&set, &d, 1);
		if (link_find_chain(&set, rows[i].id, strlen(rows[i].id), mem, out) != rows[i].taken)
			fail_msg("row %zu", i);
		if (rows[i].taken) {
			struct caller *got = caller_of_id(set.env.callers, rows[i].id, strlen(rows[i].id), NULL);

			assert_int_equal(got->server, rows[i].server);
			assert_int_equal(out[0].len, d.len);
			assert_memory_equal(out[0].p, d.p, d.len);
			assert_int_equal(got->refs, 1); /* remembered */
			standing_fini(&set);
			standing_init(&set);
		}
		assert_int_equal(caller_table_count(set.env.callers), 0);
		for (size_t cut = 0; cut < d.len; cut += 37) {
			struct svid_der part = { d.p, cut };

			link_take_chain(&set, &part, 1);
		}
		assert_int_equal(caller_table_count(set.env.callers), 0);
		OPENSSL_free((void *)(uintptr_t)d.p);
		zoo_free(&c);
	}
}

/* However many of its callers a peer names, ours are remembered. */
static void test_peers_push_out_nobody_of_ours(void **state)
{
	static uint8_t mem[SVID_MAX_BYTES];
	struct svid_der out[SVID_MAX_CHAIN];
	struct caller *c = seen_once(APP, &ca, 500, 9, -1);

	(void)state;
	link_remember(&set, c);
	drop(c);
	for (unsigned i = 0; i < 5000; i++) {
		struct svid_info info = { .serial = "1", .not_after = zoo_now + 100 };
		struct svid_der d = { (const uint8_t *)&i, sizeof(i) };

		snprintf(info.id, sizeof(info.id), "spiffe://irs.example/app/%u", i);
		c = caller_get_mtls(set.env.callers, &info, &d, 1, 0);
		link_remember(&set, c);
		drop(c);
	}
	assert_true(caller_table_count(set.env.callers) <= 1024);
	assert_int_equal(link_find_chain(&set, APP, strlen(APP), mem, out), 1);
}

/* ---- links ---- */

static void test_links_are_cut(void **state)
{
	struct link *l;
	struct zoo_cert second = zoo_ca("irs.example", NULL);
	X509 *both[] = { irs_ca.x, second.x };

	(void)state;
	link_up(leaf(FAR, &irs_ca, 1000, 7, NULL), true);
	link_up(leaf(FAR, &irs_ca, 1000, 8, NULL), false);
	link_set_tick(&set);
	trust(false, false);
	assert_string_equal(closed, "");
	assert_int_equal(cuts, 1); /* a peer may have been barred: parked exchanges end */
	peer.severed = true;
	trust(false, false);
	assert_string_equal(closed, "1 severed;2 severed;");
	assert_int_equal(cuts, 2);
	/* One that was under way when that came about. */
	current = false;
	l = link_up(leaf(FAR, &irs_ca, 1000, 9, NULL), true);
	assert_int_equal(l->state, L_GONE);
	peer.severed = false;
	closed[0] = '\0';
	trust(false, false);
	l = link_up(leaf(FAR, &irs_ca, 1000, 10, NULL), true);
	peer.ngateways = 0;
	trust(false, false);
	assert_string_equal(closed, "4 not-a-gateway;");
	peer.ngateways = 1;
	closed[0] = '\0';
	link_up(leaf(FAR, &irs_ca, 1000, 11, NULL), true);
	replace(IRS, "irs.example", both, 2);
	trust(false, true);
	assert_string_equal(closed, "");
	replace(IRS, "irs.example", &both[1], 1);
	trust(false, true);
	assert_string_equal(closed, "5 untrusted;");
	zoo_free(&second);
}

static void test_link_outlives_its_certificate(void **state)
{
	struct caller *n;
	struct link *l;

	(void)state;
	l = link_up(leaf(FAR, &irs_ca, 100, 7, NULL), true);
	link_up(leaf(FAR, &irs_ca, 100, 7, NULL), false);
	/* Where we dial, a new link is made before the end; once. */
	wait_s(91);
	dials = 0;
	link_set_tick(&set);
	assert_true(l->aged);
	assert_int_equal(dials, 1);
	link_set_tick(&set);
	assert_int_equal(dials, 1);
	/* It shows the renewed one. */
	link_up(leaf(FAR, &irs_ca, 500, 8, NULL), true);
	link_set_tick(&set);
	n = links[2].far;
	assert_ptr_equal(l->far->newer, n);
	wait_s(20);
	link_set_tick(&set);
	assert_string_equal(closed, "");
	assert_ptr_equal(links[0].far, n);
	assert_ptr_equal(links[1].far, n);
	/* And that one is not renewed. */
	wait_s(395);
	link_set_tick(&set);
	assert_string_equal(closed, "1 certificate-expired;2 certificate-expired;3 certificate-expired;");
}

/* The far end renews late: each new link shows the old certificate still, until the last does not. */
static void test_far_end_is_late(void **state)
{
	struct caller *n;

	(void)state;
	link_up(leaf(FAR, &irs_ca, 100, 7, NULL), true); /* of 200 s: from 20 s before its end on */
	wait_s(81);
	for (int left = 19; left > 1; left--) {
		struct link *l = &links[nlinks - 1];

		link_set_tick(&set);
		if (l->aged)
			link_up(leaf(FAR, &irs_ca, 100, 7, NULL), true);
		wait_s(1);
	}
	assert_in_range(nlinks, 4, 6);
	link_up(leaf(FAR, &irs_ca, 500, 8, NULL), true);
	n = links[nlinks - 1].far;
	link_set_tick(&set);
	dials = 0;
	wait_s(5);
	link_set_tick(&set);
	assert_int_equal(dials, 0);
	assert_string_equal(closed, "");
	assert_ptr_equal(links[0].far, n);
}

/* Our own certificate: all links that we dialled are begun anew, a few at a time; those that come up meanwhile have it. */
static void test_made_anew(void **state)
{
	unsigned aged = 0, rounds = 0;

	(void)state;
	for (unsigned i = 0; i < 9; i++)
		link_up(leaf(FAR, &irs_ca, 1000, 20 + i, NULL), i != 4);
	links[8].state = L_HELLO;
	link_set_trust(&set, NULL, NULL, true);
	link_up(leaf(FAR, &irs_ca, 1000, 30, NULL), true);
	for (; timer_fn && rounds < 20; rounds++) {
		unsigned before = aged;

		aged = 0;
		for (unsigned i = 0; i < nlinks; i++)
			aged += links[i].aged;
		assert_true(aged - before <= 2);
		if (rounds == 6)
			links[8].state = L_READY;
		timer_fn(timer_ctx);
		if (aged == 8)
			break;
	}
	assert_int_equal(aged, 8);
	assert_false(links[4].aged); /* the peer's to replace */
	assert_false(links[9].aged);
	assert_true(links[8].aged);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_bundle_changes), T(test_revoked), T(test_expiry), T(test_barred), T(test_successor), T(test_siblings_are_asked), T(test_asking_is_bounded),
		T(test_chains_of_siblings), T(test_peers_push_out_nobody_of_ours), T(test_links_are_cut), T(test_link_outlives_its_certificate), T(test_far_end_is_late), T(test_made_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
