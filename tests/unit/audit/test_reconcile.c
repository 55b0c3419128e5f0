/* SPDX-License-Identifier: Apache-2.0 */
/* Two books: what balances, what does not, and which side says what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/audit/reconcile.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "tests/unit/audit/sample.h"

#define A_ID "spiffe://hud.example/gateway/dmz1"
#define B_ID "spiffe://irs.example/gateway/dmz1"

struct side {
	char path[PATH_MAX];
	struct journal_env env;
	struct journal *j;
	int fd;
	struct ring *w;
};
static struct side a, b;

static void open_side(struct side *s, const char *origin)
{
	struct journal_ring r;
	const char *text;
	char why[512];

	sample_env(&s->env, sample_dir(s->path, sizeof(s->path)));
	s->env.origin = origin;
	s->j = journal_new(&s->env, why, sizeof(why));
	s->fd = ring_create(1u << 20);
	r = (struct journal_ring){s->fd, "worker/0", 5};
	s->w = ring_map_writer(s->fd, -1, &text);
	assert_int_equal(journal_add_ring(s->j, r.fd, r.name, r.instance, &text), 0);
}

static void close_side(struct side *s)
{
	sample_stop(s->j);
	ring_unmap(s->w);
	close(s->fd);
	sample_remove(s->env.dir_fd, s->path);
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_LV_ERROR);
	log_set_fd(-1);
	open_side(&a, &A_ID[9]);
	open_side(&b, &B_ID[9]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close_side(&a);
	close_side(&b);
	return 0;
}

static const struct sample_side from = {"out", B_ID, SAMPLE_PRINCIPAL, "tax-svc.irs.svc", "complete", 200, 10, 1000, 3000, NULL};
static const struct sample_side to = {"in", A_ID, SAMPLE_PRINCIPAL, "tax-svc.irs.svc:443", "complete", 200, 10, 1000, 1000, NULL};

static void both(const struct sample_side *x, const struct sample_side *y)
{
	uint64_t wall = clock_wall_us();
	struct uuid id;

	uuid_make(&id, wall);
	if (x)
		assert_int_equal(sample_exchange(a.w, &id, 1, wall, x), 0);
	if (y)
		assert_int_equal(sample_exchange(b.w, &id, 1, wall - 1000, y), 0);
}

static void refuse(struct side *s, enum audit_type type, const struct uuid *id, const char *direction, const char *gateway)
{
	struct audit_event e;

	audit_event_init(&e, ring_reserve_end(s->w, 1024, 0), 1024, type, id, 1, clock_wall_us());
	audit_event_str(&e, AUDIT_F_VERDICT, "deny");
	audit_event_str(&e, AUDIT_F_REASON, "no-rule");
	audit_event_str(&e, AUDIT_F_DIRECTION, direction);
	audit_event_str(&e, AUDIT_F_GATEWAY, gateway);
	audit_event_u64(&e, AUDIT_F_STATUS, 403);
	audit_event_done(&e);
	ring_commit(s->w, e.len);
}

static void deny(struct side *s, const struct uuid *id, const char *direction, const char *gateway)
{
	refuse(s, AUDIT_DENY, id, direction, gateway);
}

static void run(struct reconcile_result *r)
{
	int which;

	sample_run(a.j);
	sample_run(b.j);
	journal_turn(a.j, clock_mono_ms() + 5000); /* checkpoints: whose books these are */
	journal_turn(b.j, clock_mono_ms() + 5000);
	assert_int_equal(reconcile_dirs(a.env.dir_fd, b.env.dir_fd, r, &which), 0);
}

static void balanced(void **state)
{
	struct reconcile_result r;
	struct uuid id;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		both(&from, &to);
	/* The other way, denied by A itself, denied by B with A's 403, unreachable, with a third gateway, local, unfinished. */
	struct sample_side x = to, y = from;
	x.gateway = B_ID;
	y.gateway = A_ID;
	both(&x, &y);
	uuid_make(&id, clock_wall_us());
	deny(&a, &id, "out", NULL);
	uuid_make(&id, clock_wall_us());
	x = from;
	x.status = 403;
	sample_exchange(a.w, &id, 1, clock_wall_us(), &x);
	deny(&b, &id, "in", A_ID);
	uuid_make(&id, clock_wall_us());
	sample_exchange(a.w, &id, 1, clock_wall_us(), &x);
	refuse(&b, AUDIT_ALERT, &id, "in", A_ID);
	x = from;
	x.status = 503;
	x.reason = "no-link";
	both(&x, NULL);
	x.status = x.bytes_out = 0;
	x.reason = "link-lost";
	both(&x, NULL);
	x = from;
	x.gateway = "spiffe://other.example/gateway/dmz1";
	both(&x, NULL);
	x = from;
	x.direction = "local";
	both(&x, NULL);
	x = from;
	x.reason = NULL;
	both(&x, NULL);
	both(&x, &to);
	/* Cut by the client: the sides counted different octets by right. */
	x = from;
	x.reason = "client-reset";
	x.bytes_out = 5;
	both(&x, &to);
	run(&r);
	assert_int_equal(r.imbalances, 0);
	assert_int_equal(r.both, 104);
	assert_int_equal(r.denied, 1);
	assert_int_equal(r.unreached, 2);
	assert_int_equal(r.elsewhere, 1);
	assert_int_equal(r.unfinished, 2);
	assert_true(r.have_offset);
	assert_true(r.offset_us > -2000 && r.offset_us < 2000);
	reconcile_free(&r);
}

static void imbalances(void **state)
{
	struct reconcile_result r;
	struct uuid id;

	(void)state;
	both(&from, NULL);
	both(NULL, &to);
	struct sample_side x = to;
	x.principal = "spiffe://hud.example/another";
	both(&from, &x);
	x = to;
	x.host = "payroll.irs.svc";
	both(&from, &x);
	x = to;
	x.status = 500;
	both(&from, &x);
	x = to;
	x.bytes_out = 1001;
	both(&from, &x);
	/* A denied it, and yet B has it. */
	uuid_make(&id, clock_wall_us());
	deny(&a, &id, "out", NULL);
	sample_exchange(b.w, &id, 1, clock_wall_us(), &to);
	/* B denied it, and yet A has an answer. */
	uuid_make(&id, clock_wall_us());
	sample_exchange(a.w, &id, 1, clock_wall_us(), &from);
	deny(&b, &id, "in", A_ID);
	/* B denied what A knows nothing of. */
	uuid_make(&id, clock_wall_us());
	deny(&b, &id, "in", A_ID);
	run(&r);
	assert_int_equal(r.by_kind[RECONCILE_ONLY_A], 1);
	assert_int_equal(r.by_kind[RECONCILE_ONLY_B], 2);
	assert_int_equal(r.by_kind[RECONCILE_PRINCIPAL], 1);
	assert_int_equal(r.by_kind[RECONCILE_SERVICE], 1);
	assert_int_equal(r.by_kind[RECONCILE_STATUS], 1);
	assert_int_equal(r.by_kind[RECONCILE_BYTES], 1);
	assert_int_equal(r.by_kind[RECONCILE_DENIED], 2);
	assert_int_equal(r.imbalances, 9);
	assert_int_equal(r.nfindings, 9);
	assert_int_equal(r.both, 0);
	for (size_t i = 0; i < r.nfindings; i++) {
		assert_non_null(r.findings[i].text);
		assert_true(r.findings[i].seq_a || r.findings[i].seq_b);
	}
	reconcile_free(&r);
}

/* Each try is a line of its own: the first never arrived, the second did. */
static void attempts(void **state)
{
	struct reconcile_result r;
	struct sample_side x = from;
	struct uuid id;

	(void)state;
	uuid_make(&id, clock_wall_us());
	x.status = 502;
	x.reason = "link-lost";
	sample_exchange(a.w, &id, 1, clock_wall_us(), &x);
	sample_exchange(a.w, &id, 2, clock_wall_us(), &from);
	sample_exchange(b.w, &id, 2, clock_wall_us(), &to);
	run(&r);
	assert_int_equal(r.imbalances, 0);
	assert_int_equal(r.both, 1);
	assert_int_equal(r.unreached, 1);
	reconcile_free(&r);
}

static void clock_offsets(void **state)
{
	struct reconcile_result r;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		uint64_t wall = clock_wall_us();
		struct uuid id;
		uuid_make(&id, wall);
		sample_exchange(a.w, &id, 1, wall, &from);
		sample_exchange(b.w, &id, 1, wall - 1000 - 700000, &to); /* within what the journal believes */
	}
	run(&r);
	assert_true(r.offset_us > -701000 && r.offset_us < -699000);
	reconcile_free(&r);
}

/* A sidecar's ids are its own: its uplink_exchange joins. What else its gateway did is not missing from the sidecar's book. */
static void sidecars(void **state)
{
	struct sample_side side = from, gateway = from;
	struct reconcile_result r;
	struct uuid id, far;

	(void)state;
	close_side(&a);
	open_side(&a, "hud.example/permit-svc");
	close_side(&b);
	open_side(&b, &A_ID[9]);
	gateway.gateway = B_ID;
	side.gateway = NULL;
	side.uplink = &far;
	for (unsigned i = 0; i < 4; i++) {
		uuid_make(&id, clock_wall_us());
		uuid_make(&far, clock_wall_us());
		side.bytes_out = i == 3 ? 999 : 1000;
		assert_int_equal(sample_exchange(a.w, &id, 1, clock_wall_us(), &side), 0);
		if (i > 0)
			assert_int_equal(sample_exchange(b.w, &far, 1, clock_wall_us(), &gateway), 0);
	}
	both(NULL, &gateway); /* another caller's */
	uuid_make(&id, clock_wall_us());
	deny(&a, &id, "out", NULL);
	run(&r);
	assert_int_equal(r.both, 2);
	assert_int_equal(r.elsewhere, 1);
	assert_int_equal(r.denied, 1);
	assert_int_equal(r.by_kind[RECONCILE_ONLY_A], 1);
	assert_int_equal(r.by_kind[RECONCILE_BYTES], 1);
	assert_int_equal(r.imbalances, 2);
	reconcile_free(&r);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(balanced), T(imbalances), T(attempts), T(clock_offsets), T(sidecars)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
