/* SPDX-License-Identifier: Apache-2.0 */
/* Who is dialled when, in a time of our own: the far ends, their workers and the network are played here. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/link/internal.h"
#include "gateway/tls/layer.h"

#define MAX_WORKERS 16
#define MAX_GATEWAYS 3
#define RTT_MS 3

/* ---- the world ---- */

static uint64_t now_ms;
static uint32_t seed;
static unsigned dials, connected;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

struct far {
	unsigned workers;  /* 0: nobody listens */
	bool flaps;        /* takes links and ends them at once */
	bool goaway;       /* says GOAWAY when it does */
	char id[32];
};
static struct far far[MAX_GATEWAYS];

static struct config_dial targets[MAX_GATEWAYS];
static struct config_peer cfg;
static struct config config;
static struct link_set sets[MAX_WORKERS];
static struct link_peer peers[MAX_WORKERS];
static unsigned workers;

struct event {
	uint64_t at;
	struct link *l;      /* a link that gets through, or not */
	struct loop_timer *t;
};
static struct event events[4096];
static size_t nevents;

static void put(uint64_t at, struct link *l, struct loop_timer *t)
{
	assert_true(nevents < sizeof(events) / sizeof(events[0]));
	events[nevents++] = (struct event){ at, l, t };
}

static void forget(const struct link *l, const struct loop_timer *t)
{
	for (size_t i = 0; i < nevents;)
		if ((l && events[i].l == l) || (t && events[i].t == t))
			events[i] = events[--nevents];
		else
			i++;
}

/* ---- what dial.c stands on ---- */

uint64_t loop_now(const struct loop *l)
{
	(void)l;
	return now_ms;
}

void timer_set(struct loop *l, struct loop_timer *t, uint64_t ms, loop_fn *fn, void *ctx)
{
	t->loop = l;
	t->fn = fn;
	t->ctx = ctx;
	forget(NULL, t);
	put(now_ms + ms, NULL, t);
}

void timer_cancel(struct loop_timer *t)
{
	forget(NULL, t);
}

void deadline_set(struct deadline_queue *q, struct deadline *d)
{
	(void)q, (void)d;
}

static bool refuse_socket;

int conn_dial(const struct addr *a)
{
	dials++;
	if (refuse_socket) {
		errno = ENETUNREACH;
		return -1;
	}
	return (int)a->len; /* the number of the target */
}

void conn_init(struct conn *c, struct loop *l, int fd, bool connecting, const struct conn_ops *ops, void *owner)
{
	struct link *link = owner;

	(void)l, (void)connecting, (void)ops;
	memset(c, 0, sizeof(*c));
	c->fd = fd;
	put(now_ms + RTT_MS, link, NULL);
}

void conn_write_timeout(struct conn *c, uint64_t ms)
{
	(void)c, (void)ms;
}

struct tls_conn *tls_client_new(struct tls_env *e, int fd, enum tls_kind kind, const char *name, tls_wake_fn *on_wake, void *ctx)
{
	(void)e, (void)fd, (void)kind, (void)name, (void)on_wake, (void)ctx;
	return NULL;
}

void tls_layer_set(struct conn *c, struct tls_conn *t)
{
	(void)c, (void)t;
}

void tls_layer_wake(void *ctx)
{
	(void)ctx;
}

const struct conn_ops link_conn_ops;

struct link *link_new(struct link_peer *p, struct dialler *d, bool client)
{
	struct link *l = mem_zalloc(sizeof(*l));

	l->peer = p;
	l->dialler = d;
	l->client = client;
	TAILQ_INSERT_TAIL(&p->links, l, entry);
	return l;
}

void link_close(struct link *l, const char *why, const char *detail)
{
	struct link_peer *p = l->peer;

	(void)why, (void)detail;
	dial_down(l, false);
	forget(l, NULL);
	TAILQ_REMOVE(&p->links, l, entry);
	mem_free(l->conn);
	mem_free(l->gateway);
	mem_free(l);
	dial_check(p);
}

static void drain(struct link *l)
{
	dial_down(l, true);
	l->state = L_DRAINING;
	link_close(l, "drained", NULL);
}

/* As link_ready_now() does. */
static void get_through(struct link *l)
{
	struct far *f = &far[l->conn->fd];
	struct link *o;

	if (!f->workers) {
		link_close(l, "connect-failed", NULL);
		return;
	}
	connected++;
	l->gateway = mem_strdup(f->id);
	l->far_known = true;
	l->far_workers = f->workers;
	l->far_worker = rnd(f->workers); /* as the kernel likes */
	l->state = L_READY;
	l->ready_ms = now_ms;
	dial_up(l);
	if (!dial_landed(l)) {
		l->counted = true;
		drain(l);
		return;
	}
	TAILQ_FOREACH(o, &l->peer->links, entry)
		if (o->dialler == l->dialler && o->aged && o->state == L_READY &&
		    (l->client || (o->far_worker == l->far_worker && strcmp(o->gateway, l->gateway) == 0))) {
			drain(o);
			break;
		}
	if (f->flaps) {
		if (f->goaway)
			drain(l);
		else
			link_close(l, "closed", NULL);
		return;
	}
	dial_check(l->peer);
}

static void run(uint64_t ms)
{
	uint64_t end = now_ms + ms;

	for (;;) {
		size_t first = 0;
		struct event e;

		for (size_t i = 1; i < nevents; i++)
			if (events[i].at < events[first].at)
				first = i;
		if (nevents == 0 || events[first].at > end)
			break;
		e = events[first];
		events[first] = events[--nevents];
		now_ms = e.at;
		if (e.t)
			e.t->fn(e.t->ctx);
		else
			get_through(e.l);
	}
	now_ms = end;
}

static void start(unsigned nworkers, unsigned links, unsigned forward, unsigned reverse)
{
	seed = 1 + nworkers * 1000 + links;
	now_ms = 1000000;
	dials = connected = 0;
	nevents = 0;
	refuse_socket = false;
	workers = nworkers;
	for (unsigned i = 0; i < MAX_GATEWAYS; i++) {
		targets[i].addr.len = i;
		snprintf(far[i].id, sizeof(far[i].id), "spiffe://far/gateway/%u", i);
		far[i].flaps = far[i].goaway = false;
	}
	cfg = (struct config_peer){
		.name = (char *)"far", .domain = (char *)"far", .dial = targets, .ndial = forward, .dial_reverse = targets, .ndial_reverse = reverse,
		.links = links,
	};
	for (unsigned i = 0; i < nworkers; i++) {
		sets[i] = (struct link_set){ .env = { .config = &config, .worker = i, .workers = nworkers }, .started = true };
		peers[i] = (struct link_peer){ .set = &sets[i], .cfg = &cfg };
		TAILQ_INIT(&peers[i].links);
		dial_init(&peers[i]);
		dial_check(&peers[i]);
	}
}

static void end(void)
{
	for (unsigned i = 0; i < workers; i++) {
		struct link *l;

		sets[i].draining = true;
		while ((l = TAILQ_FIRST(&peers[i].links)))
			link_close(l, "stopped", NULL);
		dial_fini(&peers[i]);
	}
	assert_int_equal(nevents, 0); /* no timer is left */
}

/* Ready links of far worker w of gateway g, over all our workers. */
static unsigned links_of(unsigned g, unsigned w)
{
	unsigned n = 0;
	struct link *l;

	for (unsigned i = 0; i < workers; i++)
		TAILQ_FOREACH(l, &peers[i].links, entry)
			n += l->state == L_READY && !l->aged && strcmp(l->gateway, far[g].id) == 0 && l->far_worker == w;
	return n;
}

static unsigned links_from(unsigned i)
{
	unsigned n = 0;
	struct link *l;

	TAILQ_FOREACH(l, &peers[i].links, entry)
		n += l->state == L_READY && !l->aged;
	return n;
}

static unsigned lost(unsigned g, unsigned w)
{
	unsigned n = 0;
	struct link *l, *next;

	for (unsigned i = 0; i < workers; i++)
		TAILQ_FOREACH_SAFE(l, &peers[i].links, entry, next)
			if (l->state == L_READY && strcmp(l->gateway, far[g].id) == 0 && (w == UINT32_MAX || l->far_worker == w)) {
				link_close(l, "reset", NULL);
				n++;
			}
	return n;
}

/* ---- tests ---- */

/* Forward: so many from each of our workers, over the addresses in turn; and then silence. */
static void test_forward(void **state)
{
	(void)state;
	far[0].workers = far[1].workers = 4;
	start(4, 3, 2, 0);
	run(200);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(links_from(i), 3);
	assert_int_equal(dials, 12);
	run(100000);
	assert_int_equal(dials, 12);
	/* One gateway goes: its links are made to the other. */
	far[1].workers = 0;
	assert_true(lost(1, UINT32_MAX) > 0);
	run(20000);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(links_from(i), 3);
	end();
}

/* In reverse: every far worker of every gateway has its links, whatever the numbers on both sides. */
static void test_reverse(void **state)
{
	static const unsigned counts[] = { 1, 2, 3, 4, 7, 8, 16 };

	(void)state;
	for (size_t a = 0; a < 7; a++)
		for (size_t b = 0; b < 7; b++)
			for (unsigned gateways = 1; gateways <= 2; gateways++) {
				unsigned before;

				far[0].workers = counts[b];
				far[1].workers = counts[6 - b];
				start(counts[a], 2, 0, gateways);
				run(60000);
				for (unsigned g = 0; g < gateways; g++)
					for (unsigned w = 0; w < far[g].workers; w++)
						if (links_of(g, w) < 2)
							fail_msg("%u workers: worker %u of %u of gateway %u has %u links", counts[a], w,
							    far[g].workers, g, links_of(g, w));
				/* Complete: no more dials. */
				before = dials;
				run(100000);
				assert_int_equal(dials, before);
				/* A far worker dies and comes back. */
				lost(0, 0);
				run(60000);
				assert_true(links_of(0, 0) >= 2);
				end();
			}
}

/* A gateway that is down does not keep the other's workers from being reached. */
static void test_one_of_two_is_down(void **state)
{
	(void)state;
	far[0].workers = 0;
	far[1].workers = 4;
	start(2, 1, 0, 2);
	run(30000);
	for (unsigned w = 0; w < 4; w++)
		assert_int_equal(links_of(1, w), 1);
	far[0].workers = 4;
	run(30000);
	for (unsigned w = 0; w < 4; w++)
		assert_int_equal(links_of(0, w), 1);
	end();
}

/* Nobody there, or no way there: five seconds between tries soon, with jitter; at once again when it comes back. */
static void test_back_off(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		unsigned n;

		far[0].workers = 0;
		start(1, 2, 1, 0);
		refuse_socket = i;
		run(1000);
		assert_in_range(dials, 3, 8);
		run(60000);
		n = dials;
		run(600000);
		assert_in_range(dials - n, 120, 240);
		far[0].workers = 1;
		refuse_socket = false;
		run(5100);
		assert_int_equal(links_from(0), 2);
		end();
	}
}

/* Workers that lose their links together do not come back in step. */
static void test_jitter(void **state)
{
	unsigned most = 0;

	(void)state;
	far[0].workers = 0;
	start(16, 1, 1, 0);
	run(120000);
	for (int i = 0; i < 1000; i++) {
		unsigned n = dials;

		run(10);
		if (dials - n > most)
			most = dials - n;
	}
	assert_true(most < 8);
	end();
}

/* A far end that takes links and ends them at once is not stormed, whether it says GOAWAY or not. */
static void test_flapping(void **state)
{
	(void)state;
	for (int goaway = 0; goaway < 2; goaway++) {
		far[0].workers = 1;
		start(1, 2, 1, 0);
		far[0].flaps = true;
		far[0].goaway = goaway;
		run(60000);
		assert_in_range(dials, 10, goaway ? 1300 : 60);
		/* And is one of the good again. */
		far[0].flaps = false;
		run(10000);
		assert_int_equal(links_from(0), 2);
		end();
	}
}

/* A link that lasted and is lost is dialled again at once. */
static void test_lost_link(void **state)
{
	(void)state;
	far[0].workers = 1;
	start(1, 2, 1, 0);
	run(10000);
	assert_int_equal(lost(0, UINT32_MAX), 2);
	run(2 * RTT_MS);
	assert_int_equal(links_from(0), 2);
	end();
}

/* Made before broken: an aged link is there until another took its place, on the same far worker where that matters. */
static void test_age(void **state)
{
	(void)state;
	for (unsigned reverse = 0; reverse < 2; reverse++) {
		struct link *l;

		far[0].workers = 4;
		start(1, 1, !reverse, reverse);
		run(30000);
		TAILQ_FOREACH(l, &peers[0].links, entry)
			l->aged = true;
		dial_check(&peers[0]);
		assert_int_equal(links_from(0), 0); /* none that is not aged, but those work on */
		run(60000);
		TAILQ_FOREACH(l, &peers[0].links, entry)
			assert_false(l->aged);
		assert_int_equal(links_from(0), reverse ? 4 : 1);
		end();
	}
}

/* More far workers than a link can land on: we slow down, and go on. */
static void test_unreachable_worker(void **state)
{
	unsigned n;

	(void)state;
	far[0].workers = 8;
	start(1, 1, 0, 1);
	run(60000);
	/* The far end says that it has eight, but one of them accepts no more. */
	far[0].workers = 7;
	lost(0, 7);
	run(60000); /* its links say seven from now on; ours of before still say eight */
	n = dials;
	run(60000);
	assert_true(dials - n < 130);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forward), cmocka_unit_test(test_reverse), cmocka_unit_test(test_one_of_two_is_down),
		cmocka_unit_test(test_back_off), cmocka_unit_test(test_jitter), cmocka_unit_test(test_flapping), cmocka_unit_test(test_lost_link),
		cmocka_unit_test(test_age), cmocka_unit_test(test_unreachable_worker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
