/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revocation lists between two gateways, in a time of our own: A (hud.example) is the HTTP/2 client of its links to B (irs.example). Streams, the clock
 * and the journal are played here; bundles, lists and certificates are real.
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

#define DAY INT64_C(86400)

/* ---- time and the journal ---- */

static uint64_t now_ms;
static struct loop_timer *timers[16];
static uint64_t timer_at[16];

uint64_t loop_now(const struct loop *l)
{
	(void)l;
	return now_ms;
}

uint64_t loop_wall_us(const struct loop *l)
{
	(void)l;
	return (uint64_t)zoo_now * 1000000 + now_ms * 1000;
}

void timer_cancel(struct loop_timer *t)
{
	for (int i = 0; i < 16; i++)
		if (timers[i] == t)
			timers[i] = NULL;
}

void timer_set(struct loop *l, struct loop_timer *t, uint64_t ms, loop_fn *fn, void *ctx)
{
	int i = 0;

	timer_cancel(t);
	while (timers[i])
		assert_true(++i < 16);
	t->loop = l;
	t->fn = fn;
	t->ctx = ctx;
	timers[i] = t;
	timer_at[i] = now_ms + ms;
}

static _Alignas(8) uint8_t record[4096];
static char journal[4096];      /* "reason detail\n" of each record, A's with a leading '<', B's with '>' */
static char ring_of[2];

void *ring_reserve_end(struct ring *r, size_t n, uint64_t now)
{
	(void)r, (void)now;
	assert_true(n <= sizeof(record));
	return record;
}

void ring_commit(struct ring *r, size_t n)
{
	const enum audit_field of[] = { AUDIT_F_REASON, AUDIT_F_DETAIL };
	struct audit_fields f;
	const char *why;

	assert_int_equal(audit_event_parse(&f, record, n, &why), 0);
	assert_int_equal(f.head.type, AUDIT_ALERT);
	strcat(journal, (void *)r == (void *)&ring_of[0] ? "<" : ">");
	for (int i = 0; i < 2; i++) {
		size_t at = strlen(journal);

		if (!(f.present >> of[i] & 1))
			continue;
		assert_true(at + f.f[of[i]].n + 4 < sizeof(journal));
		sprintf(journal + at, "%s%.*s", i ? " " : "", (int)f.f[of[i]].n, (const char *)f.f[of[i]].p);
	}
	strcat(journal, "\n");
}

/* ---- streams ---- */

struct end {                    /* of a stream */
	struct h2_stream s;     /* first: a leg is cast to it */
	struct end *other;
	struct link *link;
	size_t queued;          /* what it sent and the other end did not read */
	bool was_full, over;    /* over: released or aborted */
};
enum what { REQUEST, HEAD, DATA, END, ABORT };
struct event {
	struct end *to;
	enum what what;
	unsigned status;
	bool end;
	char field[80];
	uint8_t *p;
	size_t n;
};
static struct event events[4096];
static size_t nevents, next_event;
static struct end *ends[256];
static size_t nends;
static unsigned requests, statuses[1000];
static size_t content[2];       /* octets by receiver: A, B */
static bool lost;               /* the network swallows everything */
static bool stuck;              /* nobody reads */

static struct event *put(struct end *to, enum what what)
{
	assert_true(nevents < sizeof(events) / sizeof(events[0]));
	events[nevents] = (struct event){ .to = to, .what = what };
	return &events[nevents++];
}

static void op_head(struct leg *l, const struct leg_head *h)
{
	struct end *e = (struct end *)l;
	struct event *v = put(e->other, HEAD);

	assert_false(e->over);
	v->status = h->status;
	v->end = h->end;
	assert_int_equal(h->nfields, 1);
	assert_true(link_field_is(&h->fields[0], "sallyport-crl") && h->fields[0].value_len < sizeof(v->field));
	memcpy(v->field, h->fields[0].value, h->fields[0].value_len);
	statuses[h->status]++;
}

static void op_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct end *e = (struct end *)l;
	struct event *v = put(e->other, DATA);

	assert_false(e->over || e->was_full);
	v->p = mem_alloc(n);
	memcpy(v->p, p, n);
	v->n = n;
	e->queued += n;
}

static void op_end(struct leg *l, const struct h1_field *t, unsigned n)
{
	(void)t, (void)n;
	assert_false(((struct end *)l)->over);
	put(((struct end *)l)->other, END);
}

static bool op_full(struct leg *l)
{
	struct end *e = (struct end *)l;

	return e->was_full = e->queued >= 256 * 1024;
}

static void op_over(struct end *e)
{
	assert_false(e->over);
	assert_null(e->s.leg.ev);
	e->over = true;
}

static void op_abort(struct leg *l, enum leg_why why)
{
	(void)why;
	op_over((struct end *)l);
	put(((struct end *)l)->other, ABORT);
}

static void op_release(struct leg *l)
{
	op_over((struct end *)l);
}

static const struct leg_ops ops = { .head = op_head, .data = op_data, .end = op_end, .full = op_full, .abort = op_abort, .release = op_release };

static struct end *end_new(struct link *l)
{
	struct end *e = mem_zalloc(sizeof(*e));

	e->s.leg.ops = &ops;
	e->link = l;
	assert_true(nends < 256);
	return ends[nends++] = e;
}

bool h2_open_ok(struct h2 *h)
{
	(void)h;
	return true;
}

static struct link *far_end_of(struct h2 *h);
static struct link *near_end_of(struct h2 *h);

struct h2_stream *h2_request(struct h2 *h, const struct h2_request *r)
{
	struct end *e = end_new(near_end_of(h)), *o = end_new(far_end_of(h));
	struct event *v = put(o, REQUEST);

	e->other = o;
	o->other = e;
	assert_int_equal(r->nfields, 1);
	assert_true(r->path_len == 4 && memcmp(r->path, "/crl", 4) == 0);
	memcpy(v->field, r->fields[0].value, r->fields[0].value_len);
	v->end = r->end;
	requests++;
	return &e->s;
}

/* ---- two gateways ---- */

enum { A, B };
static struct zoo_cert root[2], ca[2], gw[2];
static struct link_set sets[2];
static struct link_peer peers[2];
static struct config_peer cfg[2] = { { .name = (char *)"irs" }, { .name = (char *)"hud" } };
static struct svid_bundle *bundles[2][2];      /* [whose][0] its own, [1] the other's */
static struct link links[2][2];                /* [whose]: A's are clients; [.][0] and [.][1] are two connections */
static unsigned readies[2], took[2], ran_out[2];

static struct link *far_end_of(struct h2 *h)
{
	return &links[B][(char *)h - ring_of];
}

static struct link *near_end_of(struct h2 *h)
{
	return &links[A][(char *)h - ring_of];
}

size_t tls_peer_chain(const struct tls_conn *t, struct svid_der *out, size_t max)
{
	static unsigned char *der[2];
	size_t who = (size_t)((const char *)(const void *)t - ring_of); /* whose certificate */

	(void)max;
	for (int i = 0; i < 2; i++) {
		OPENSSL_free(der[i]);
		der[i] = NULL;
		out[i].len = (size_t)i2d_X509(i ? ca[who].x : gw[who].x, &der[i]);
		out[i].p = der[i];
	}
	return 2;
}

static void on_ready(void *ctx, int peer)
{
	assert_int_equal(peer, 0);
	++*(unsigned *)ctx;
}

static void on_crl(void *ctx, int peer, const char *pem, size_t len)
{
	size_t who = (size_t)((unsigned *)ctx - readies);

	assert_int_equal(peer, 0);
	if (!pem) {
		ran_out[who]++;
		return;
	}
	assert_int_equal(strlen(pem), len);
	took[who]++;
}

static void deliver(const struct event *v)
{
	struct end *e = v->to;
	struct h1_field f = link_field("sallyport-crl", v->field, strlen(v->field));
	struct leg_head h = { .status = v->status, .fields = &f, .nfields = 1, .end = v->end };
	const struct leg_events *ev = e->s.leg.ev;

	if (v->what == REQUEST)
		crl_answer(e->link, &e->s, &h);
	else if (ev && v->what == HEAD)
		ev->on_head(e->s.leg.x, &h);
	else if (ev && v->what == END)
		ev->on_end(e->s.leg.x, NULL, 0);
	else if (ev && v->what == ABORT) {
		e->s.leg.ev = NULL;
		e->over = true;
		ev->on_abort(e->s.leg.x, LEG_CANCEL, false, "cancelled");
	} else if (v->what == DATA) {
		struct end *o = e->other;

		content[e->link->client ? A : B] += v->n;
		if (ev)
			ev->on_data(e->s.leg.x, v->p, v->n);
		o->queued -= v->n;
		if (o->was_full && o->queued < 64 * 1024) {
			o->was_full = false;
			if (o->s.leg.ev)
				o->s.leg.ev->on_drained(o->s.leg.x);
		}
	}
	mem_free(v->p);
}

static void settle(void)
{
	while (!stuck && next_event < nevents) {
		struct event v = events[next_event++];

		if (lost)
			mem_free(v.p);
		else
			deliver(&v);
	}
	if (!stuck)
		nevents = next_event = 0;
}

/* Let so much time pass. */
static void run(uint64_t ms)
{
	uint64_t end = now_ms + ms;

	settle();
	for (;;) {
		int best = -1;

		for (int i = 0; i < 16; i++)
			if (timers[i] && timer_at[i] <= end && (best < 0 || timer_at[i] < timer_at[best]))
				best = i;
		if (best < 0)
			break;
		now_ms = timer_at[best] > now_ms ? timer_at[best] : now_ms;
		struct loop_timer *t = timers[best];
		timers[best] = NULL;
		t->fn(t->ctx);
		settle();
	}
	now_ms = end;
}

static char *crl_pem(int who, unsigned number, unsigned revoked, int64_t until)
{
	const struct zoo_crl z = { .number = number, .revoked = { revoked }, .until = until };
	X509_CRL *crl = zoo_crl(&z, &ca[who]);
	char *pem = zoo_crl_pem(&crl, 1, &ca[who].x, 1);

	X509_CRL_free(crl);
	return pem;
}

/* A domain's new list, as if its operator had put it there. */
static void publish_until(int who, unsigned number, unsigned revoked, int64_t until)
{
	char *pem = crl_pem(who, number, revoked, until);
	const char *why;

	assert_int_equal(svid_bundle_add_crls(bundles[who][0], pem, strlen(pem), zoo_now + (int64_t)(now_ms / 1000), &why), 1);
	mem_free(pem);
}

static void publish(int who, unsigned number, unsigned revoked)
{
	publish_until(who, number, revoked, 0);
}

static bool knows(int who)
{
	uint8_t a[32], b[32];

	return svid_bundle_crls_digest(bundles[!who][0], a) && svid_bundle_crls_digest(bundles[who][1], b) && memcmp(a, b, 32) == 0;
}

static struct svid_bundle *bundle_of(int who)
{
	static const char *const domain[2] = { "hud.example", "irs.example" };
	char *pem = zoo_pem(&root[who].x, 1);
	const char *why;
	struct svid_bundle *b = svid_bundle_new(domain[who], pem, &why);

	assert_non_null(b);
	mem_free(pem);
	return b;
}

static int setup(void **state)
{
	static const char *const domain[2] = { "hud.example", "irs.example" };

	(void)state;
	now_ms = 1000;
	journal[0] = 0;
	requests = 0;
	memset(statuses, 0, sizeof(statuses));
	memset(content, 0, sizeof(content));
	memset(readies, 0, sizeof(readies));
	memset(took, 0, sizeof(took));
	memset(ran_out, 0, sizeof(ran_out));
	for (int i = 0; i < 2; i++) {
		char id[64];
		struct zoo z = { .serial = 77, .until = zoo_now + 40 * DAY };

		snprintf(id, sizeof(id), "spiffe://%s/gateway/dmz1", domain[i]);
		z.san[0] = (struct zoo_name){ .type = GEN_URI, .p = id };
		root[i] = zoo_ca(domain[i], NULL);
		ca[i] = zoo_ca(domain[i], &root[i]);
		gw[i] = zoo_make(&z, &ca[i]);
	}
	for (int i = 0; i < 2; i++) {
		bundles[i][0] = bundle_of(i);
		bundles[i][1] = bundle_of(!i);
		memset(&sets[i], 0, sizeof(sets[i]));
		memset(&peers[i], 0, sizeof(peers[i]));
		sets[i].env = (struct link_env){ .bundles = bundles[i], .nbundles = 2, .ring = (void *)&ring_of[i], .on_ready = on_ready, .on_crl = on_crl, .ctx = &readies[i] };
		sets[i].peers = &peers[i];
		sets[i].npeers = 1;
		peers[i].set = &sets[i];
		peers[i].cfg = &cfg[i];
		TAILQ_INIT(&peers[i].links);
		for (int k = 0; k < 2; k++) {
			links[i][k] = (struct link){ .peer = &peers[i], .h2 = (void *)&ring_of[k], .tls = (void *)&ring_of[!i], .client = i == A,
				.state = L_HELLO, .gateway = (char *)(i == A ? "spiffe://irs.example/gateway/dmz1" : "spiffe://hud.example/gateway/dmz1") };
		}
		crl_start(&sets[i]);
	}
	return 0;
}

static void link_up(int k)
{
	int64_t now = zoo_now + (int64_t)(now_ms / 1000);

	for (int i = B; i >= A; i--) {
		struct svid_der chain[SVID_MAX_CHAIN];

		links[i][k].no_crl = svid_recheck_der(chain, tls_peer_chain(links[i][k].tls, chain, SVID_MAX_CHAIN), bundles[i][1], now) == SVID_NO_CRL;
		TAILQ_INSERT_TAIL(&peers[i].links, &links[i][k], entry);
		links[i][k].state = L_READY;
		crl_link_up(&links[i][k]);
	}
	settle();
}

/* The connection goes, and each stream with it. */
static void link_down(int k)
{
	for (int i = 0; i < 2; i++) {
		links[i][k].state = L_GONE;
		TAILQ_REMOVE(&peers[i].links, &links[i][k], entry);
		for (size_t n = 0; n < nends; n++) {
			const struct leg_events *ev = ends[n]->s.leg.ev;

			if (ends[n]->link != &links[i][k] || !ev)
				continue;
			ends[n]->s.leg.ev = NULL;
			ev->on_abort(ends[n]->s.leg.x, LEG_CANCEL, false, "closed");
		}
	}
}

static int teardown(void **state)
{
	(void)state;
	lost = stuck = false;
	settle();
	for (int i = 0; i < 2; i++) {
		struct link *l;

		while ((l = TAILQ_FIRST(&peers[i].links)))
			link_down((int)(l - links[i]));
	}
	for (int i = 0; i < 2; i++) {
		assert_null(peers[i].crl_ask);
		assert_null(peers[i].crl_answer);
		assert_int_equal(sets[i].crl_answers, 0);
		crl_fini(&sets[i]);
		svid_bundle_unref(bundles[i][0]);
		svid_bundle_unref(bundles[i][1]);
		zoo_free(&root[i]);
		zoo_free(&ca[i]);
		zoo_free(&gw[i]);
	}
	for (int i = 0; i < 16; i++)
		assert_null(timers[i]); /* nothing is left that would ring */
	while (nends)
		mem_free(ends[--nends]);
	nevents = next_event = 0;
	return 0;
}

static void mode(int who, enum svid_revocation r)
{
	svid_bundle_set_revocation(bundles[who][1], r);
}

/* ---- tests ---- */

/* Both lists travel over a link on which only A can ask; later ones go at once, in either direction as far as that goes. */
static void both_ways(void **state)
{
	(void)state;
	publish(A, 1, 0);
	publish(B, 1, 0);
	link_crls_changed(&sets[A]);
	link_crls_changed(&sets[B]);
	link_up(0);
	link_up(1);
	run(0);
	assert_true(knows(A) && knows(B));
	assert_int_equal(took[A], 1);
	assert_int_equal(took[B], 1);
	assert_true(requests <= 4);

	/* Nothing new: asked now and then, and nothing is sent. */
	requests = 0;
	memset(content, 0, sizeof(content));
	run(600000);
	assert_in_range(requests, 40, 90);
	assert_int_equal(content[A] + content[B], 0);

	publish(A, 2, 12); /* pushed at once */
	link_crls_changed(&sets[A]);
	run(0);
	assert_true(knows(B));
	publish(A, 3, 13); /* without a word: within a second or so */
	run(2000);
	assert_true(knows(B));
	publish(B, 2, 12); /* the far end's: when it is asked */
	run(15000);
	assert_true(knows(A));
	assert_string_equal(journal, "");
}

static void none_at_all(void **state)
{
	(void)state;
	link_up(0);
	run(200000);
	assert_in_range(requests, 14, 30);
	assert_int_equal(statuses[204], requests);
	assert_int_equal(content[A] + content[B], 0);
	assert_string_equal(journal, "");
}

/* Case 53. Required, and missing: quarantined; fetched; in force; run out; renewed. */
static void quarantine(void **state)
{
	(void)state;
	mode(A, SVID_REV_REQUIRED);
	mode(B, SVID_REV_REQUIRED);
	link_crls_changed(&sets[A]);
	link_crls_changed(&sets[B]);
	link_up(0);
	run(3000);
	assert_true(quarantine_of(&links[A][0]) && quarantine_of(&links[B][0]));
	assert_string_equal(journal, "<quarantined there is no CRL of it\n>quarantined there is no CRL of it\n");
	assert_int_equal(readies[A], 0);

	/* Asked often while it is missing. */
	requests = 0;
	run(60000);
	assert_in_range(requests, 8, 20);
	journal[0] = 0;
	publish_until(A, 1, 0, zoo_now + 10000);
	publish_until(B, 1, 0, zoo_now + 5000);
	run(8000);
	assert_true(knows(A) && knows(B));
	assert_false(quarantine_of(&links[A][0]) || quarantine_of(&links[B][0]));
	assert_int_equal(readies[A], 1);
	assert_int_equal(readies[B], 0); /* a server's link takes no exchanges of ours */
	assert_non_null(strstr(journal, "<crl-in-force\n"));
	assert_non_null(strstr(journal, ">crl-in-force\n"));

	/* The irs's runs out: A notices within a second, B goes on. */
	journal[0] = 0;
	memset(ran_out, 0, sizeof(ran_out));
	now_ms = 4998000;
	for (int i = 0; i < 16; i++)
		timer_at[i] = now_ms;
	run(1000);
	assert_false(quarantine_of(&links[A][0]));
	run(2100);
	assert_true(quarantine_of(&links[A][0]));
	assert_false(quarantine_of(&links[B][0]));
	assert_string_equal(journal, "<quarantined its CRL is past nextUpdate\n");
	assert_int_equal(ran_out[A], 1);
	assert_int_equal(ran_out[B], 0);
	publish(B, 2, 0);
	run(10000);
	assert_false(quarantine_of(&links[A][0]));
	assert_int_equal(readies[A], 2);
}

/* A link whose handshake was judged before the list came, and that came up after it. */
static void late_link(void **state)
{
	(void)state;
	mode(A, SVID_REV_REQUIRED);
	publish(B, 1, 0);
	link_up(0);
	run(2000);
	assert_false(quarantine_of(&links[A][0]));
	link_up(1);
	links[A][1].no_crl = true;
	run(2000);
	assert_false(quarantine_of(&links[A][1]));
}

/* Whatever a rogue says: what is known stays, and the journal hears of it once a minute. */
static void rogue(void **state)
{
	static const char *const junk[] = { "not a list", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "" };
	char *own[3];
	const char *why;

	(void)state;
	publish(A, 5, 12);
	link_up(0);
	run(1000);
	assert_true(knows(B));
	own[0] = crl_pem(A, 4, 0, 0);          /* older: silently known */
	own[1] = crl_pem(B, 9, 0, 0);          /* of another domain: its own */
	own[2] = crl_pem(A, 5, 13, 0);         /* same number, other content */
	for (size_t i = 0; i < 6; i++) {
		const char *text = i < 3 ? junk[i] : own[i - 3];
		struct end *e = end_new(&links[A][0]), *o = end_new(&links[B][0]);
		struct event *v = put(o, REQUEST);
		size_t before = strlen(journal);

		e->other = o;
		o->other = e;
		v->field[0] = '-';
		if (*text) {
			op_data(&e->s.leg, (const uint8_t *)text, strlen(text));
		}
		op_end(&e->s.leg, NULL, 0);
		run(61000);
		if (i == 2 || i == 3)
			assert_int_equal(strlen(journal), before);
		else
			assert_int_equal(strncmp(journal + before, ">crl-refused ", 13), 0);
	}
	assert_true(knows(B));
	assert_int_equal(took[B], 1);

	/* Twenty in a minute are one record. */
	run(61000);
	journal[0] = 0;
	for (int i = 0; i < 20; i++) {
		struct end *e = end_new(&links[A][0]), *o = end_new(&links[B][0]);

		e->other = o;
		o->other = e;
		put(o, REQUEST)->field[0] = '-';
		op_data(&e->s.leg, (const uint8_t *)"junk", 4);
		op_end(&e->s.leg, NULL, 0);
		run(2500);
	}
	assert_string_equal(journal, ">crl-refused no CRL\n");
	/* And right after one that was of no use no other is read. */
	memset(statuses, 0, sizeof(statuses));
	for (int i = 0; i < 2; i++) {
		struct end *e = end_new(&links[A][0]), *o = end_new(&links[B][0]);

		e->other = o;
		o->other = e;
		put(o, REQUEST)->field[0] = '-';
		op_data(&e->s.leg, (const uint8_t *)own[1], strlen(own[1]));
		op_end(&e->s.leg, NULL, 0);
		settle();
	}
	assert_int_equal(statuses[503], 1);
	assert_int_equal(svid_bundle_add_crls(bundles[B][1], own[0], strlen(own[0]), zoo_now, &why), 0);
	for (int i = 0; i < 3; i++)
		mem_free(own[i]);
}

/* Lists that are newer each time: a few at once, then no faster than a second allows; the last of them arrives all the same. */
static void flood(void **state)
{
	(void)state;
	publish(A, 1, 0);
	link_crls_changed(&sets[A]);
	link_up(0);
	run(5000);
	took[B] = 0;
	for (int i = 0; i < 30; i++) {
		publish(A, 2 + i, 12);
		link_crls_changed(&sets[A]);
		run(100);
	}
	assert_in_range(took[B], 3, 9);
	run(2500);
	assert_true(knows(B));
}

static void malformed_fields(void **state)
{
	static const char *const bad[] = { "", "x", "--", "0123", "zz23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0" };

	(void)state;
	link_up(0);
	run(1000);
	memset(statuses, 0, sizeof(statuses));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct end *e = end_new(&links[A][0]), *o = end_new(&links[B][0]);
		struct event *v = put(o, REQUEST);

		e->other = o;
		o->other = e;
		snprintf(v->field, sizeof(v->field), "%s", bad[i]);
		v->end = true;
		settle();
		assert_int_equal(statuses[400], i + 1);
	}
}

/* More than a file may have is not gathered. */
static void too_large(void **state)
{
	struct end *e, *o;
	static uint8_t block[65536];

	(void)state;
	link_up(0);
	run(1000);
	e = end_new(&links[A][0]);
	o = end_new(&links[B][0]);
	e->other = o;
	o->other = e;
	put(o, REQUEST)->field[0] = '-';
	for (size_t n = 0; n < SVID_CRL_MAX + 65536; n += sizeof(block)) {
		e->was_full = false;
		op_data(&e->s.leg, block, sizeof(block));
		settle();
	}
	assert_true(o->over);
	assert_non_null(strstr(journal, ">crl-refused larger than 4 MiB"));
	assert_null(peers[B].crl_answer);
}

/* One request and one answer at a time, whatever the far end tries; and each has its deadline. */
static void one_at_a_time(void **state)
{
	(void)state;
	publish(B, 1, 0);
	link_up(0);
	run(1000);
	memset(statuses, 0, sizeof(statuses));
	for (int i = 0; i < 5; i++) {
		struct end *e = end_new(&links[A][0]), *o = end_new(&links[B][0]);

		e->other = o;
		o->other = e;
		put(o, REQUEST)->field[0] = '-'; /* with content that never comes */
		settle();
	}
	assert_int_equal(statuses[503], 4);
	assert_int_equal(sets[B].crl_answers, 1);
	lost = true;
	run(61000);
	assert_null(peers[B].crl_answer);
	lost = false;
	run(70000);
	assert_null(peers[A].crl_ask);

	/* Ours that is never answered. */
	lost = true;
	crl_ask_again(&peers[A]);
	link_crls_changed(&sets[A]);
	settle();
	assert_non_null(peers[A].crl_ask);
	requests = 0;
	run(59000);
	assert_int_equal(requests, 0);
	lost = false;
	run(10000);
	assert_true(requests > 0);
}

/* The link goes in the middle of it: another is asked. */
static void link_lost(void **state)
{
	const struct zoo_crl big = { .number = 9, .many = 60000 };
	X509_CRL *crl = zoo_crl(&big, &ca[B]);
	char *pem = zoo_crl_pem(&crl, 1, &ca[B].x, 1);
	const char *why;

	(void)state;
	X509_CRL_free(crl);
	publish(B, 1, 0);
	link_up(0);
	link_up(1);
	run(1000);
	assert_true(knows(A));
	assert_int_equal(svid_bundle_add_crls(bundles[B][0], pem, strlen(pem), zoo_now, &why), 1);
	mem_free(pem);
	crl_ask_again(&peers[A]);
	link_crls_changed(&sets[A]);
	deliver(&events[next_event++]); /* the request; its answer is longer than a stream takes */
	assert_non_null(peers[B].crl_answer);
	stuck = true;
	link_down(0);
	assert_null(peers[B].crl_answer);
	assert_null(peers[A].crl_ask);
	stuck = false;
	run(10000);
	assert_true(knows(A));
	assert_true(content[A] > 1000000);
}

/* New CAs of the peer: what was of no use before is asked for again. */
static void new_bundle(void **state)
{
	X509 *certs[2];
	struct zoo_cert new_root = zoo_ca("irs.example", NULL);
	const struct zoo z = { .ca = true, .cn = "irs.example issuing CA 2" };
	struct zoo_cert new_ca = zoo_make(&z, &new_root);
	const struct zoo_crl list = { .number = 1 };
	X509_CRL *crl = zoo_crl(&list, &new_ca);
	char *pem;
	const char *why;

	(void)state;
	publish(B, 1, 0);
	certs[0] = root[B].x;
	certs[1] = new_root.x;
	pem = zoo_pem(certs, 2);
	svid_bundle_unref(bundles[B][0]);
	bundles[B][0] = svid_bundle_new("irs.example", pem, &why);
	assert_non_null(bundles[B][0]);
	publish(B, 1, 0);
	{
		char *file = zoo_crl_pem(&crl, 1, &new_ca.x, 1);

		assert_int_equal(svid_bundle_add_crls(bundles[B][0], file, strlen(file), zoo_now, &why), 1);
		mem_free(file);
	}
	link_up(0);
	run(2000);
	assert_int_equal(took[A], 1); /* the list of the CA that A knows */
	assert_false(knows(A));
	svid_bundle_unref(bundles[A][1]);
	bundles[A][1] = svid_bundle_new("irs.example", pem, &why);
	run(3000);
	assert_int_equal(took[A], 2);
	assert_true(knows(A));
	assert_string_equal(journal, "");
	mem_free(pem);
	X509_CRL_free(crl);
	zoo_free(&new_ca);
	zoo_free(&new_root);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(both_ways), T(none_at_all), T(quarantine), T(late_link), T(rogue), T(flood), T(malformed_fields), T(too_large), T(one_at_a_time), T(link_lost), T(new_bundle),
	};

	return cmocka_run_group_tests_name("link/crl", tests, NULL, NULL);
}
