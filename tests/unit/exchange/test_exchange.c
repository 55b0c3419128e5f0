/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges from beginning to end: what each leg is told and in which order, and what stands in the book. Every leg ends exactly once,
 * every beginning in the book has one end, whatever comes first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/exchange/bed.h"

#define SAID(text) assert_string_equal(bed_said(), (text))
#define BOOK(text) assert_string_equal(bed_book(), (text))

static int setup(void **state)
{
	(void)state;
	bed_setup();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bed_teardown();
	return 0;
}

/* ---- the usual ---- */

static void test_get(void **state)
{
	(void)state;
	bed_get("GET", "web", "/a", false);
	SAID(">link GET 1 end;");
	BOOK("open1;");
	bed_head(&bed.out[0], 200, false);
	bed_data(&bed.out[0], "body");
	bed_end(&bed.out[0], "x-t");
	SAID("<200;<:body;<end x-t=t;>release;<release;");
	BOOK("end1 complete 200;");
}

static void test_post_and_pauses(void **state)
{
	struct stub *in;

	(void)state;
	in = bed_get("POST", "web", "/a", true);
	bed_data(in, "one");
	bed.out[0].full = true;
	bed_data(in, "two");
	SAID(">link POST 1;>:one;>:two;<pause;");
	bed.out[0].full = false;
	bed_drained(&bed.out[0]);
	bed_end(in, "x-t");
	SAID("<resume;>end x-t=t;");
	in->full = true;
	bed_head(&bed.out[0], 200, false);
	bed_data(&bed.out[0], "body");
	SAID("<200;<:body;>pause;");
	bed_drained(in);
	bed_end(&bed.out[0], NULL);
	SAID(">resume;<end;>release;<release;");
	BOOK("open1;end1 complete 200;");
}

/* What an application says about itself is dropped, on every way (cases 38, 66); its Host is what the authority says. */
static void test_identity(void **state)
{
	struct h1_field f[] = { bed_field("host", "web:80"), bed_field("x-forwarded-for", "forged"), bed_field("client_cert", "forged"),
		bed_field("sallyport-principal", "forged"), bed_field("a", "b"), bed_field("connection", "x") };
	struct stub *in;

	(void)state;
	f[5].hop = true;
	in = bed_ask(&(struct bed_ask){ .method = "POST", .host = "web", .path = "/a", .fields = f, .nfields = 6, .body = true });
	SAID(">link POST 1 a=b;");
	bed_head_with(&bed.out[0], 103, false, f + 3, 2);
	SAID("<103 a=b;");
	bed_end(in, "x-forwarded-for");
	SAID(">end;");
	BOOK("open1;alert identity-in-trailers 0;");
	bed_head_with(&bed.out[0], 200, false, f + 2, 3);
	bed_end(&bed.out[0], "sallyport-error");
	SAID("<200 a=b;<end;>release;<release;");
	BOOK("alert identity-in-trailers 0;end1 complete 200;");
}

static void test_local(void **state)
{
	struct h1_field f[] = { bed_field("host", "local"), bed_field("forwarded", "forged"), bed_field("a", "b") };

	(void)state;
	bed_ask(&(struct bed_ask){ .method = "GET", .host = "local", .path = "/a", .fields = f, .nfields = 3 });
	SAID(">local GET a=b sallyport-principal=spiffe://hud.example/app forwarded=for=unknown;proto=http via=1.1 dmz1.hud.example end;");
	bed_head(&bed.out[0], 204, true);
	SAID("<204 end;>release;<release;");
	BOOK("open1;end1 complete 204;");
	bed_context("env=prod; tier=1");
	f[1] = bed_field("sallyport-policy_context", "forged");
	bed_ask(&(struct bed_ask){ .method = "GET", .host = "local", .path = "/a", .fields = f, .nfields = 3 });
	SAID(">local GET a=b sallyport-principal=spiffe://hud.example/app forwarded=for=unknown;proto=http via=1.1 dmz1.hud.example "
	    "sallyport-policy-context=env=prod; tier=1 end;");
	bed_head(&bed.out[1], 204, true);
	(void)bed_said();
	BOOK("open1;end1 complete 204;");
	bed.local_fails = true;
	bed_get("GET", "local", "/a", false);
	SAID("<503 retry-after=1;<:own;<end;<release;");
	BOOK("open1;end1 connect-failed 503;");
}

/* ---- refusals ---- */

static void test_refusals(void **state)
{
	static const struct {
		struct bed_ask ask;
		const char *said, *book;
	} cases[] = {
		{ { .method = "GET", .host = "web", .path = "/denied" }, "<403;<:own;<end;<release;", "deny rule 403;" },
		/* A refused HEAD has no content: it would be the beginning of the next answer. */
		{ { .method = "HEAD", .host = "web", .path = "/denied" }, "<403 end;<release;", "deny rule 403;" },
		{ { .method = "GET", .host = "nobody", .path = "/" }, "<403;<:own;<end;<release;", "deny unknown-service 403;" },
		{ { .method = "GET", .host = "control.sallyport.invalid", .path = "/hello" }, "<403;<:own;<end;<release;",
		  "alert control-authority 403;" }, /* case 86 */
		{ { .method = "CONNECT", .host = "web:80" }, "<403;<:own;<end;<release;", "deny connect-to-http-service 403;" },
		{ { .method = "GET", .host = "db", .path = "/" }, "<403;<:own;<end;<release;", "deny http-to-tcp-service 403;" },
		{ { .method = "GET /x", .host = "web", .path = "/" }, "<400;<:own;<end;<release;", "deny malformed-method 400;" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *said, *book;

		bed.nin = 0;
		bed_ask(&cases[i].ask);
		said = bed_said();
		book = bed_book();
		if (strcmp(said, cases[i].said) != 0)
			fail_msg("case %zu: %s", i, said);
		/* Why a rule denies is policy's to say. */
		if (strncmp(cases[i].book, "deny rule", 9) == 0 ? strncmp(book, "deny ", 5) != 0 : strcmp(book, cases[i].book) != 0)
			fail_msg("case %zu: %s", i, book);
		assert_int_equal(bed.nout, 0);
	}
}

/* No transit, no circles (case 65), and what the link says against it. */
static void test_from_a_link(void **state)
{
	struct h1_field via = bed_field("via", "1.1 x, 1.1 dmz1.hud.example");

	(void)state;
	bed_ask(&(struct bed_ask){ .method = "GET", .host = "web", .path = "/a", .from_link = true });
	BOOK("deny loop 508;");
	bed_ask(&(struct bed_ask){ .method = "GET", .host = "local", .path = "/a", .from_link = true, .fields = &via, .nfields = 1 });
	BOOK("deny loop 508;");
	(void)bed_said();
	bed_ask(&(struct bed_ask){ .method = "HEAD", .host = "local", .path = "/a", .from_link = true, .refusal = "unknown-slot",
	    .refusal_status = 421 });
	SAID("<421 sallyport-error=unknown-slot end;<release;");
	BOOK("deny unknown-slot 421;");
	assert_int_equal(bed.nout, 0);
}

/* Nothing passes unaudited: without room in the ring nobody is dialled. */
static void test_no_room_in_the_book(void **state)
{
	(void)state;
	bed_fill_ring();
	bed_get("GET", "web", "/a", false);
	SAID("<503 retry-after=1;<:own;<end;<release;");
	assert_int_equal(bed.nout, 0);
	(void)bed_book();
}

/* ---- other links ---- */

static void test_unsent_goes_again(void **state)
{
	(void)state;
	bed_get("GET", "web", "/a", false);
	bed_abort(&bed.out[0], LEG_REFUSED, true, "refused-stream");
	SAID(">link GET 1 end;>link GET 2 end;");
	BOOK("open1;open2;end1 refused-stream 503;");
	bed_abort(&bed.out[1], LEG_CANCEL, true, "link-lost");
	BOOK("open3;end2 link-lost 503;");
	bed_abort(&bed.out[2], LEG_CANCEL, true, "link-lost"); /* enough */
	BOOK("end3 link-lost 503;");
	SAID(">link GET 3 end;<503 retry-after=1;<:own;<end;<release;");
}

static void test_sent_never_goes_again(void **state)
{
	struct stub *in;

	(void)state;
	bed_get("GET", "web", "/a", false);
	bed_abort(&bed.out[0], LEG_CANCEL, false, "link-lost");
	SAID(">link GET 1 end;<503 retry-after=1;<:own;<end;<release;");
	BOOK("open1;end1 link-lost 503;");
	in = bed_get("POST", "web", "/a", true);
	bed_data(in, "part");
	bed_abort(&bed.out[1], LEG_REFUSED, true, "refused-stream");
	SAID(">link POST 1;>:part;<503 retry-after=1;<:own;<end;<release;");
	BOOK("open1;end1 refused-stream 503;");
	bed_get("GET", "web", "/a", false);
	bed_head(&bed.out[2], 200, false);
	bed_abort(&bed.out[2], LEG_CANCEL, true, "link-lost");
	SAID(">link GET 1 end;<200;<abort cancel;");
	BOOK("open1;end1 link-lost 200;");
}

/* Content that the link still had goes again, too, and what comes meanwhile behind it. */
static void test_kept_goes_again(void **state)
{
	struct stub *in;

	(void)state;
	in = bed_get("POST", "web", "/a", true);
	bed_data(in, "part");
	bed.kept = "part";
	bed.links = 1;
	bed_abort(&bed.out[0], LEG_REFUSED, true, "refused-stream");
	SAID(">link POST 1;>:part;<pause;");
	bed_data(in, " two");
	bed_end(in, NULL);
	bed.links = 2;
	gate_unpark(&bed.gate, 0);
	SAID(">link POST 2;>:part two;>end;<resume;");
	bed.kept = NULL;
	bed_head(&bed.out[1], 200, true);
	SAID("<200 end;>release;<release;");
	BOOK("open1;open2;end1 refused-stream 503;end2 complete 200;");
}

static void test_unknown_slot(void **state)
{
	struct h1_field f = bed_field("sallyport-error", "unknown-slot");

	(void)state;
	bed.links = 1; /* it did nothing wrong */
	bed_get("GET", "web", "/a", false);
	bed_head_with(&bed.out[0], 421, false, &f, 1);
	SAID(">link GET 1 end;forget;>abort cancel;>link GET 2 end;");
	BOOK("open1;open2;end1 unknown-slot 421;");
	bed_head_with(&bed.out[1], 421, true, NULL, 0); /* the service's own */
	SAID("<421 end;>release;<release;");
	BOOK("end2 complete 421;");
}

/* ---- parked ---- */

static void test_parked(void **state)
{
	struct stub *in, *get;

	(void)state;
	bed.links = 0;
	in = bed_get("POST", "web", "/a", true);
	get = bed_get("GET", "web", "/b", false);
	SAID("<pause;<pause;");
	bed_get("GET", "web", "/c", false); /* one too many */
	SAID("<503 retry-after=1;<:own;<end;<release;");
	BOOK("open1;open1;open1;end1 no-link 503;");
	/* A window's worth may still come; it goes first, and in order. */
	bed_data(in, "early");
	bed_data(in, ", too");
	bed_end(in, "x-t");
	bed_abort(get, LEG_CANCEL, false, "cancelled");
	BOOK("end1 client-cancelled 0;");
	bed.links = 1;
	gate_unpark(&bed.gate, 0);
	SAID(">link POST 1;>:early, too;>end x-t=t;<resume;");
	bed_abort(&bed.out[0], LEG_REFUSED, true, "refused-stream"); /* its content went with it */
	SAID("<503 retry-after=1;<:own;<end;<release;");
	BOOK("end1 refused-stream 503;");
}

static void test_parked_too_long(void **state)
{
	(void)state;
	bed.links = 0;
	bed_get("HEAD", "web", "/a", false);
	bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .raw = true, .body = true });
	bed_wait(400);
	SAID("<pause;<pause;<503 retry-after=1 end;<release;<abort reset;");
	BOOK("open1;open1;end1 no-link 503;end1 no-link 503;");
}

/* A link that fails while nobody else is there: parked, and by the next link whichever it is. */
static void test_parked_again(void **state)
{
	(void)state;
	bed.links = 1;
	bed_get("GET", "web", "/a", false);
	bed_abort(&bed.out[0], LEG_REFUSED, true, "refused-stream");
	SAID(">link GET 1 end;<pause;");
	gate_unpark(&bed.gate, 0);
	SAID(">link GET 2 end;<resume;");
	bed_head(&bed.out[1], 200, true);
	SAID("<200 end;>release;<release;");
	BOOK("open1;open2;end1 refused-stream 503;end2 complete 200;");
}

/* ---- ends ---- */

static void test_caller_goes(void **state)
{
	struct stub *in;

	(void)state;
	in = bed_get("GET", "web", "/a", false);
	bed_abort(in, LEG_RESET, false, "reset");
	SAID(">link GET 1 end;>abort reset;");
	in = bed_get("GET", "web", "/a", false);
	bed_head(&bed.out[1], 200, false);
	bed_abort(in, LEG_TIMEOUT, false, "write-timeout");
	SAID(">link GET 1 end;<200;>abort cancel;");
	BOOK("open1;end1 client-reset 0;open1;end1 client-too-slow 200;");
}

static void test_service_goes(void **state)
{
	(void)state;
	bed_get("GET", "local", "/a", false);
	bed_abort(&bed.out[0], LEG_TIMEOUT, false, "response-timeout");
	bed_get("GET", "local", "/a", false);
	bed_abort(&bed.out[1], LEG_PROTOCOL, false, "malformed-response");
	bed_get("GET", "local", "/a", false);
	bed_head(&bed.out[2], 200, false);
	(void)bed_said();
	bed_abort(&bed.out[2], LEG_RESET, false, "reset");
	SAID("<abort reset;");
	BOOK("open1;end1 response-timeout 504;open1;end1 malformed-response 502;open1;end1 service-reset 200;");
}

static void test_interim_flood(void **state)
{
	(void)state;
	bed_get("GET", "local", "/a", false);
	for (int i = 0; i < 16; i++)
		bed_head(&bed.out[0], 102, false);
	(void)bed_said();
	bed_head(&bed.out[0], 102, false); /* case 40 */
	SAID(">abort cancel;<502;<:own;<end;<release;");
	BOOK("open1;end1 interim-flood 502;");
}

/* An answer before the end of the request: how much went through may differ from book to book. */
static void test_answered_early(void **state)
{
	struct stub *in;

	(void)state;
	in = bed_get("POST", "local", "/a", true);
	bed_data(in, "part");
	bed_head(&bed.out[0], 413, true);
	(void)bed_said();
	BOOK("open1;end1 answered-early 413;");
}

static void test_response_time(void **state)
{
	(void)state;
	bed_get("GET", "web", "/a", false);
	bed_wait(500);
	SAID(">link GET 1 end;>abort cancel;<504;<:own;<end;<release;");
	BOOK("open1;end1 response-timeout 504;");
}

static struct stub *uploader;
static unsigned pieces;

static void upload(void *ctx)
{
	(void)ctx;
	assert_non_null(uploader->leg.ev);
	bed_data(uploader, "piece");
	if (++pieces < 8)
		timer_set(bed.gate.loop, &bed.timer, 60, upload, NULL);
	else
		bed_abort(uploader, LEG_CANCEL, false, "closed");
}

/* The time for the answer does not run while the request is still coming. */
static void test_long_upload(void **state)
{
	(void)state;
	pieces = 0;
	uploader = bed_get("POST", "web", "/a", true);
	timer_set(bed.gate.loop, &bed.timer, 60, upload, NULL);
	bed_wait(700);
	assert_int_equal(pieces, 8); /* 480 ms, of 200 */
	BOOK("open1;end1 client-closed 0;");
}

/* ---- tunnels ---- */

static void test_tunnel(void **state)
{
	struct stub *in;

	(void)state;
	in = bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .body = true });
	bed_head(&bed.out[0], 200, false);
	bed_data(in, "ping");
	bed_end(in, NULL);
	bed_data(&bed.out[0], "pong");
	bed_end(&bed.out[0], NULL);
	SAID(">link CONNECT 1;<200;>:ping;>end;<:pong;<end;>release;<release;");
	BOOK("open1;end1 complete 200;");
	/* The other way round. */
	in = bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "ldb", .body = true });
	bed_head(&bed.out[1], 200, false);
	bed_end(&bed.out[1], NULL);
	bed_data(in, "still");
	bed_end(in, NULL);
	SAID(">tcp;<200;<end;>:still;>end;>release;<release;");
	BOOK("open1;end1 complete 200;");
}

static void test_tunnel_ends(void **state)
{
	struct stub *in;

	(void)state;
	/* Case 36: data before the answer. */
	in = bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .body = true });
	bed_data(in, "early");
	SAID(">link CONNECT 1;>abort protocol;<abort protocol;");
	BOOK("open1;end1 client-protocol 0;");
	/* The far gateway refuses it. */
	bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .body = true });
	bed_head(&bed.out[1], 403, false);
	SAID(">link CONNECT 1;>abort cancel;<403;<:own;<end;<release;");
	BOOK("open1;end1 refused 403;");
	bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .raw = true, .body = true });
	bed_head(&bed.out[2], 403, false);
	SAID(">link CONNECT 1;>abort cancel;<abort reset;");
	BOOK("open1;end1 refused 403;");
	/* The far end has nothing to say; the caller has. */
	in = bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .body = true });
	bed_head(&bed.out[3], 200, true);
	bed_data(in, "log");
	bed_end(in, NULL);
	SAID(">link CONNECT 1;<200;<end;>:log;>end;>release;<release;");
	BOOK("open1;end1 complete 200;");
	/* The caller has nothing to say. */
	bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "ldb" });
	bed_head(&bed.out[4], 200, false);
	bed_data(&bed.out[4], "log");
	bed_end(&bed.out[4], NULL);
	SAID(">tcp;>end;<200;<:log;<end;>release;<release;");
	BOOK("open1;end1 complete 200;");
}

static void test_tunnel_parked(void **state)
{
	struct stub *in;

	(void)state;
	bed.links = 0;
	in = bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db", .body = true });
	bed.links = 1;
	gate_unpark(&bed.gate, 0);
	SAID("<pause;>link CONNECT 1;<resume;"); /* the leg itself waits for the answer */
	bed_head(&bed.out[0], 200, false);
	bed_abort(in, LEG_RESET, false, "reset");
	SAID("<200;>abort reset;");
	BOOK("open1;end1 client-reset 200;");
}

/* ---- judged again, and the end of all ---- */

static void test_policy_changes(void **state)
{
	(void)state;
	bed_get("GET", "web", "/waits", false);
	bed_get("HEAD", "local", "/waits", false);
	bed_get("GET", "web", "/runs", false);
	bed_head(&bed.out[2], 200, false);
	(void)bed_said();
	bed_policy(true);
	SAID("");
	bed.links = 0;
	bed_get("GET", "web", "/parked", false);
	bed_policy(false);
	SAID("<pause;<403;<:own;<end;<release;>abort revoked;<abort revoked;>abort revoked;<403 end;<release;>abort revoked;<403;<:own;<end;<release;");
	BOOK("open1;open1;open1;open1;end1 policy-revoked 403;end1 policy-revoked 200;end1 policy-revoked 403;end1 policy-revoked 403;");
}

/* ---- certificates that end, and trust that changes ---- */

static struct stub *ask_as(struct caller *c, const char *host, bool tunnel)
{
	return bed_ask(&(struct bed_ask){ .method = tunnel ? "CONNECT" : "GET", .host = host, .path = tunnel ? NULL : "/", .caller = c });
}

static void test_expired(void **state)
{
	struct caller *c = bed_caller(BED_APP, -1);

	(void)state;
	/* Refused from the start. */
	ask_as(c, "web", false);
	BOOK("deny expired 403;");
	assert_int_equal(c->active, 0);
	caller_unref(bed.gate.callers, c);
}

/* Case 55: nobody renewed it. What waits for an answer gets one, what runs is cut. */
static void test_expires_while_running(void **state)
{
	struct caller *c = bed_caller(BED_APP, 1);
	struct stub *in;

	(void)state;
	in = ask_as(c, "web", false);
	ask_as(c, "db", true);
	bed_head(&bed.out[1], 200, false);
	bed_data(in = &bed.in[1], "12345");
	bed_data(&bed.out[1], "123");
	bed_round();
	assert_int_equal(c->active, 2);
	caller_judged(bed.gate.callers, c, NULL, c->not_after - 10);
	bed.wait = true; /* a sibling may know better */
	bed_round();
	assert_int_equal(c->active, 2);
	bed.wait = false;
	bed_round();
	assert_int_equal(c->active, 0);
	assert_int_equal(bed.gate.active, 0);
	BOOK("open1;open1;end1 certificate-expired 200;end1 certificate-expired 403;");
	caller_unref(bed.gate.callers, c);
}

/* Case 55: renewed. The far gateway is told before the old one ends, and the exchange goes on as the new one's. */
static void test_rebound(void **state)
{
	struct caller *c = bed_caller(BED_APP, 5), *n;

	(void)state;
	ask_as(c, "db", true);
	bed_head(&bed.out[0], 200, false);
	n = bed_caller(BED_APP, 60);
	assert_ptr_equal(c->newer, n); /* something depends on c */
	caller_unref(bed.gate.callers, n);
	bed_said();
	bed_round();
	SAID("vouch;vouch;"); /* once a pass */
	bed_round();
	SAID("vouch;vouch;"); /* the link knows whether that was taken */
	caller_judged(bed.gate.callers, c, NULL, c->not_after - 10);
	bed_round();
	SAID("vouch;");
	assert_int_equal(c->active, 0);
	assert_int_equal(n->active, 1);
	assert_int_equal(bed.gate.active, 1);
	caller_unref(bed.gate.callers, c);
	bed_data(&bed.in[0], "more");
	bed_end(&bed.in[0], NULL);
	bed_end(&bed.out[0], NULL);
	BOOK("open1;end1 complete 200;");
}

/* Case 54. A renewed certificate does not help one that was revoked; no list in force hinders what is new only. */
static void test_revoked(void **state)
{
	struct caller *c = bed_caller(BED_APP, 60), *n = bed_caller(BED_APP, 90);

	(void)state;
	ask_as(c, "db", true);
	bed_head(&bed.out[0], 200, false);
	caller_judged(bed.gate.callers, c, "no-crl", c->not_after);
	bed_round();
	assert_int_equal(c->active, 1);
	ask_as(c, "web", false);
	caller_judged(bed.gate.callers, c, "revoked", c->not_after);
	bed_round();
	assert_int_equal(c->active, 0);
	assert_int_equal(n->active, 0);
	ask_as(c, "web", false);
	BOOK("open1;deny no-crl 403;end1 revoked 200;deny revoked 403;");
	caller_unref(bed.gate.callers, n);
	caller_unref(bed.gate.callers, c);
}

/* Trust that changes in each turn keeps nobody from being found. */
static void test_trust_changes_all_the_time(void **state)
{
	struct caller *idle[200], *c[4];
	struct gate *g = &bed.gate;
	char id[64];
	int n = 0;

	(void)state;
	for (int i = 0; i < 200; i++) {
		snprintf(id, sizeof(id), "spiffe://hud.example/idle/%d", i);
		idle[i] = bed_caller(id, 60);
	}
	for (int i = 0; i < 4; i++) {
		c[i] = bed_caller(BED_APP, 60 + i);
		ask_as(c[i], "web", false);
		caller_judged(g->callers, c[i], "revoked", c[i]->not_after);
	}
	gate_judge_callers(g);
	for (; g->active && n < 200; n++) {
		gate_judge_callers(g);
		g->trust.slice.fn(g->trust.slice.ctx);
	}
	assert_int_equal(g->active, 0);
	while (g->trust.running && n++ < 300)
		g->trust.slice.fn(g->trust.slice.ctx);
	timer_cancel(&g->trust.timer);
	assert_false(g->trust.running);
	for (int i = 0; i < 4; i++)
		caller_unref(g->callers, c[i]);
	for (int i = 0; i < 200; i++)
		caller_unref(g->callers, idle[i]);
	(void)bed_book();
}

/* The far gateway looked first: its reset is taken for what it is. */
static void test_far_end_cuts_first(void **state)
{
	struct caller *c = bed_caller(BED_APP, 60);

	(void)state;
	ask_as(c, "db", true);
	bed_head(&bed.out[0], 200, false);
	caller_judged(bed.gate.callers, c, NULL, c->not_after - 100);
	bed_abort(&bed.out[0], LEG_CANCEL, false, "cancelled");
	BOOK("open1;end1 certificate-expired 200;");
	caller_unref(bed.gate.callers, c);
}

static void test_severed(void **state)
{
	struct stub *parked;

	(void)state;
	bed_get("GET", "web", "/", false);
	bed_ask(&(struct bed_ask){ .method = "CONNECT", .host = "db" });
	bed_head(&bed.out[1], 200, false);
	bed.links = 0;
	parked = bed_get("GET", "web", "/", false);
	bed_sever(true);
	bed.cut = "severed";
	gate_cut_links(&bed.gate);
	assert_true(parked->gone);
	assert_int_equal(bed.gate.active, 0);
	bed_get("GET", "web", "/", false);
	BOOK("open1;open1;open1;end1 severed 503;end1 severed 200;end1 severed 503;deny severed 503;");
}

static void test_cut(void **state)
{
	(void)state;
	bed_get("GET", "web", "/a", false);
	bed_get("GET", "local", "/a", false);
	bed.links = 0;
	bed_get("GET", "web", "/a", false);
	(void)bed_said();
	gate_cut(&bed.gate, "stopped");
	SAID("<abort cancel;>abort cancel;<abort cancel;>abort cancel;<abort cancel;");
	BOOK("open1;open1;open1;end1 stopped 0;end1 stopped 0;end1 stopped 0;");
}

/* Case 92: who cancels too much is told to slow down; what ends on a link counts nobody. */
static void test_cancels(void **state)
{
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct stub *s;

		bed.nin = bed.nout = 0;
		s = bed_ask(&(struct bed_ask){ .method = "GET", .host = "local", .path = "/", .from_link = true });
		assert_int_equal(bed.nout, 1);
		bed_abort(s, LEG_CANCEL, false, "link-lost");
		(void)bed_book();
	}
	for (int i = 0; i < 2000; i++) {
		struct stub *s;

		bed.nin = bed.nout = 0;
		(void)bed_said();
		s = bed_get("GET", "local", "/", false);
		if (bed.nout == 0)
			break;
		bed_abort(s, LEG_CANCEL, false, "cancelled");
		(void)bed_book();
	}
	SAID("<429 retry-after=1;<:own;<end;<release;");
	BOOK("deny cancel-flood 429;");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_get), T(test_post_and_pauses), T(test_identity), T(test_local), T(test_refusals), T(test_from_a_link),
		T(test_no_room_in_the_book), T(test_unsent_goes_again), T(test_sent_never_goes_again), T(test_kept_goes_again), T(test_unknown_slot), T(test_parked),
		T(test_parked_too_long), T(test_parked_again), T(test_caller_goes), T(test_service_goes), T(test_interim_flood),
		T(test_answered_early), T(test_response_time), T(test_long_upload), T(test_tunnel), T(test_tunnel_ends), T(test_tunnel_parked),
		T(test_policy_changes), T(test_expired), T(test_expires_while_running), T(test_rebound), T(test_revoked), T(test_trust_changes_all_the_time), T(test_far_end_cuts_first),
		T(test_severed), T(test_cut), T(test_cancels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
