/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own renewals against an enrolment service of this test, without TLS and without a keys role, which are replaced below: when it asks, what it
 * asks, whom it asks next, and what it takes for an answer.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/enrol/renew.h"
#include "gateway/io/conn.h"
#include "gateway/keys/client.h"
#include "gateway/tls/layer.h"
#include "pki/estreq.h"
#include "pki/pkcs7.h"
#include "pki/pkey.h"
#include "tests/unit/pki/zoo.h"

#define ID "spiffe://hud.example/gateway/dmz1"

/* ---- what stands for the keys role and TLS ---- */

static struct zoo_cert root, old;
static struct evp_pkey_st *new_key;
static unsigned csrs;
static const char *csr_refusal;
static keys_csr_fn *csr_done;
static void *csr_ctx;
static struct loop *loop;
static struct loop_timer csr_timer;

static void
answer_csr(void *ctx)
{
	const char *why, *names[1] = { NULL };
	struct estreq r = { .key = new_key, .id = ID, .dns = names, .old = old.key };
	keys_csr_fn *done = csr_done;
	uint8_t *der;
	size_t len;

	(void)ctx;
	csr_done = NULL;
	if (csr_refusal) {
		done(csr_ctx, NULL, 0, csr_refusal);
		return;
	}
	der = estreq_make(&r, &len, &why);
	assert_non_null(der);
	done(csr_ctx, der, len, NULL);
	mem_free(der);
}

int
keys_client_csr(uint16_t key, bool fresh, keys_csr_fn *done, void *ctx)
{
	assert_int_equal(key, KEYS_IDENTITY);
	assert_true(fresh);
	csrs++;
	csr_done = done;
	csr_ctx = ctx;
	timer_set(loop, &csr_timer, 1, answer_csr, NULL);
	return 0;
}

void
keys_client_csr_cancel(keys_csr_fn *done, const void *ctx)
{
	(void)done, (void)ctx;
	timer_cancel(&csr_timer);
}

const char *
keys_status_text(unsigned status)
{
	return status == KEYS_BUSY ? "busy" : status == KEYS_FIXED ? "fixed" : "?";
}

struct tls_conn *
tls_est_client_new(struct tls_env *e, int fd, unsigned key, const char *host, tls_wake_fn *on_wake, void *ctx)
{
	(void)e, (void)fd, (void)on_wake, (void)ctx;
	assert_int_equal(key, KEYS_IDENTITY);
	assert_string_equal(host, "enrol.hud.example");
	return NULL;
}

void
tls_layer_set(struct conn *c, struct tls_conn *t)
{
	(void)c, (void)t; /* a plain connection */
}

void
tls_layer_wake(void *ctx)
{
	(void)ctx;
}

const char *
tls_failure(const struct tls_conn *t, const char **detail)
{
	(void)t;
	*detail = "";
	return "tls";
}

/* ---- the service ---- */

enum how { OK, OK_LEAF, OTHER_KEY, OTHER_ID, SHORT, NOT_OURS, GARBAGE, NO_TYPE, CUT, REFUSE, AWAY };

static struct io listen_io;
static int listen_fd;
static enum how hows[16];
static unsigned nhows, asked;
static char requests[16][8192];
static char *taken;

static char *
certificates(enum how how)
{
	struct zoo other_ca = { .ca = true, .cn = "other", .san = { { GEN_URI, "spiffe://hud.example", 0 } }, .from = time(NULL) - 86400,
		.until = time(NULL) + 86400 };
	struct zoo leaf = { .san = { { GEN_URI, how == OTHER_ID ? "spiffe://hud.example/gateway/evil" : ID, 0 } }, .from = time(NULL) - 10,
		.until = time(NULL) + (how == SHORT ? 1 : 7200) };
	struct zoo_cert stranger = how == NOT_OURS ? zoo_make(&other_ca, NULL) : (struct zoo_cert){ NULL, NULL };
	struct zoo_cert c = zoo_make(&leaf, how == NOT_OURS ? &stranger : &root);
	uint8_t *der = NULL, *message;
	struct svid_der item;
	const char *why;
	size_t len;
	char *text;
	int n;

	/* Made for a key of its own: sign it again for the one of the request. */
	if (how != OTHER_KEY) {
		X509_set_pubkey(c.x, new_key);
		X509_sign(c.x, how == NOT_OURS ? stranger.key : root.key, EVP_sha256());
	}
	n = i2d_X509(c.x, &der);
	item = (struct svid_der){ der, (size_t)n };
	message = pkcs7_encode(&item, 1, &len, &why);
	assert_non_null(message);
	text = mem_zalloc(esc_base64_size(len) + 1);
	esc_base64(text, message, len);
	mem_free(message);
	OPENSSL_free(der);
	zoo_free(&c);
	if (stranger.x)
		zoo_free(&stranger);
	return text;
}

static void
answer(int fd, enum how how)
{
	char *body = NULL, *text;

	switch (how) {
	case REFUSE: text = mem_strdup("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot \"you\""); break;
	case AWAY: text = mem_strdup("HTTP/1.1 503 No\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"); break;
	case GARBAGE: text = mem_strdup("HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime\r\nContent-Length: 4\r\n\r\nAAAA"); break;
	case CUT: text = mem_strdup("HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime\r\nContent-Length: 400\r\n\r\nAAAA"); break;
	default:
		body = certificates(how);
		text = mem_printf("HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n%s", how == NO_TYPE ? "" : "Content-Type: application/pkcs7-mime\r\n",
		    strlen(body), body);
	}
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	mem_free(text);
	mem_free(body);
}

static struct io conn_io;
static int conn_fd = -1;

static void
on_request(void *ctx, unsigned what)
{
	char *r = requests[asked], *end;
	size_t have = strlen(r);
	ssize_t n = recv(conn_fd, r + have, sizeof(requests[0]) - have - 1, 0);

	(void)ctx, (void)what;
	assert_true(n > 0);
	r[have + (size_t)n] = '\0';
	end = strstr(r, "\r\n\r\n");
	if (!end || strlen(end + 4) < strtoul(strstr(r, "content-length: ") + 16, NULL, 10))
		return;
	answer(conn_fd, hows[asked]);
	asked++;
	io_del(&conn_io);
	close(conn_fd);
	conn_fd = -1;
}

static void
on_connection(void *ctx, unsigned what)
{
	int fd = accept(listen_fd, NULL, NULL);

	(void)ctx, (void)what;
	if (fd < 0)
		return;
	assert_true(asked < nhows && conn_fd < 0);
	conn_fd = fd;
	io_add_level(loop, &conn_io, fd, on_request, NULL);
}

/* ---- the bed ---- */

static struct config config;
static struct config_dial dial[2];
static struct renew *renew;

static void
on_renewed(void *ctx, unsigned key, const char *pem, size_t len)
{
	(void)ctx;
	assert_int_equal(key, KEYS_IDENTITY);
	taken = mem_strndup(pem, len);
	loop_stop(loop);
}

static void
set_up(size_t addresses)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct zoo ca = { .ca = true, .cn = "hud.example CA", .nc = "critical,permitted;URI:hud.example", .san = { { GEN_URI, "spiffe://hud.example", 0 } },
		.from = time(NULL) - 86400, .until = time(NULL) + 86400 };
	struct zoo leaf = { .san = { { GEN_URI, ID, 0 } }, .from = time(NULL) - 60, .until = time(NULL) + 60 };
	socklen_t len = sizeof(a);
	static struct tls_env *none;
	const char *why;
	int closed;

	loop = loop_new();
	root = zoo_make(&ca, NULL);
	old = zoo_make(&leaf, &root);
	new_key = pkey_new(PKEY_P256);
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listen_fd, 16), 0);
	getsockname(listen_fd, (struct sockaddr *)&a, &len);
	io_add_level(loop, &listen_io, listen_fd, on_connection, NULL);
	/* The last address is the service; nobody is at the one before. */
	for (size_t i = 0; i < addresses; i++) {
		unsigned port = ntohs(a.sin_port);

		if (i + 1 < addresses) {
			struct sockaddr_in b = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

			closed = socket(AF_INET, SOCK_STREAM, 0);
			bind(closed, (struct sockaddr *)&b, sizeof(b));
			getsockname(closed, (struct sockaddr *)&b, &len);
			close(closed);
			port = ntohs(b.sin_port);
		}
		dial[i].text = mem_printf("127.0.0.1:%u", port);
		assert_int_equal(addr_parse(&dial[i].addr, dial[i].text, &why), 0);
	}
	memset(&config, 0, sizeof(config));
	config.domain = mem_strdup("hud.example");
	config.identity.certificate_pem = zoo_pem(&old.x, 1);
	config.identity.bundle_pem = zoo_pem(&root.x, 1);
	config.renewal.host = mem_strdup("enrol.hud.example");
	config.renewal.dial = dial;
	config.renewal.ndial = addresses;
	config.renewal.at = 10;
	config.renewal.new_key = true;
	asked = nhows = csrs = 0;
	memset(&csr_timer, 0, sizeof(csr_timer)); /* of the loop before */
	csr_refusal = NULL;
	memset(requests, 0, sizeof(requests));
	renew = renew_new(&(struct renew_env){ .loop = loop, .config = &config, .tls = &none, .on_renewed = on_renewed });
	assert_non_null(renew);
}

static char *
status(void)
{
	static char text[2048];
	struct buf b;

	buf_init(&b, 0);
	renew_status(renew, &b);
	snprintf(text, sizeof(text), "%s", buf_cstr(&b));
	buf_fini(&b);
	return text;
}

/* A loop runs once: until the status says this (NULL: never), something was taken, or so many times 20 ms are over. */
static struct loop_timer tick;
static const char *awaited;
static unsigned ticks;

static void
on_tick(void *ctx)
{
	(void)ctx;
	if (ticks-- == 0 || (awaited && strstr(status(), awaited)))
		loop_stop(loop);
	else
		timer_set(loop, &tick, 20, on_tick, NULL);
}

static void
run(const char *until, unsigned ms)
{
	memset(&tick, 0, sizeof(tick));
	awaited = until;
	ticks = ms / 20;
	on_tick(NULL);
	loop_run(loop);
	timer_cancel(&tick);
}

static void
tear_down(size_t addresses)
{
	renew_free(renew);
	io_del(&listen_io);
	io_del(&conn_io);
	if (conn_fd >= 0)
		close(conn_fd);
	conn_fd = -1;
	timer_cancel(&csr_timer);
	close(listen_fd);
	loop_free(loop);
	for (size_t i = 0; i < addresses; i++)
		mem_free(dial[i].text);
	mem_free(config.domain);
	mem_free(config.identity.certificate_pem);
	mem_free(config.identity.bundle_pem);
	mem_free(config.renewal.host);
	mem_free(taken);
	taken = NULL;
	pkey_free(new_key);
	zoo_free(&old);
	zoo_free(&root);
}

static void
renews(void **state)
{
	struct svid_bundle *bundle;
	struct svid_info info;
	const char *why;

	(void)state;
	set_up(2);
	hows[nhows++] = OK;
	run(NULL, 20000);
	assert_non_null(taken);
	assert_int_equal(csrs, 1);
	assert_ptr_equal(strstr(requests[0], "POST /.well-known/est/simplereenroll HTTP/1.1\r\nhost: enrol.hud.example:"), requests[0]);
	bundle = svid_bundle_new("hud.example", config.identity.bundle_pem, &why);
	assert_int_equal(svid_verify_pem(taken, bundle, time(NULL), &info, &why), SVID_OK);
	assert_string_equal(info.id, ID);
	assert_non_null(strstr(status(), "\"state\":\"handed-over\""));
	/* Taken over: the next one is due in its own time. */
	mem_free(config.identity.certificate_pem);
	config.identity.certificate_pem = mem_strdup(taken);
	renew_trust(renew);
	assert_non_null(strstr(status(), "\"state\":\"waiting\""));
	assert_non_null(strstr(status(), "\"failures\":0,\"error\":\"\""));
	svid_bundle_unref(bundle);
	tear_down(2);
}

/* What is no answer to the request is not taken, and it goes on trying: with the same request while nobody said no to it. */
static void
goes_on(void **state)
{
	(void)state;
	set_up(1);
	hows[nhows++] = AWAY;
	hows[nhows++] = CUT;
	hows[nhows++] = OK;
	run(NULL, 30000);
	assert_non_null(taken);
	assert_int_equal(asked, 3);
	assert_int_equal(csrs, 1);
	assert_string_equal(strstr(requests[0], "\r\n\r\n"), strstr(requests[2], "\r\n\r\n"));
	tear_down(1);
}

static void
not_taken(void **state)
{
	static const struct {
		enum how how;
		const char *says;
	} table[] = {
		{ OTHER_KEY, "no certificate for the key of the request" }, { OTHER_ID, "for somebody else" }, { SHORT, "no longer than the present one" },
		{ NOT_OURS, "not to be believed: untrusted" }, { GARBAGE, "" }, { NO_TYPE, "no application/pkcs7-mime" },
		{ REFUSE, "answers 403: not 'you'" }, { AWAY, "answers 503" }, { CUT, "cut short" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		set_up(1);
		hows[nhows++] = table[i].how;
		hows[nhows++] = table[i].how;
		hows[nhows++] = table[i].how;
		run("\"failures\":1", 20000);
		if (!strstr(status(), table[i].says))
			fail_msg("row %zu: %s", i, status());
		assert_null(taken);
		tear_down(1);
	}
}

static void
no_request(void **state)
{
	(void)state;
	set_up(1);
	csr_refusal = "no key of that number";
	run("\"failures\":2", 20000);
	assert_non_null(strstr(status(), "no key of that number"));
	assert_int_equal(csrs, 2);
	tear_down(1);
	/* A process that goes away begins nothing. */
	set_up(1);
	renew_drain(renew);
	run(NULL, 2500);
	assert_int_equal(csrs, 0);
	tear_down(1);
}

/* ---- when ---- */

static uint64_t
lowest(uint64_t n)
{
	(void)n;
	return 0;
}

static uint64_t
highest(uint64_t n)
{
	return n - 1;
}

static void
times(void **state)
{
	const uint64_t day = 86400000;

	(void)state;
	assert_int_equal(renew_due(0, 100 * day, 50, lowest), 45 * day);
	assert_int_equal(renew_due(0, 100 * day, 50, highest), 55 * day);
	assert_int_equal(renew_due(1000, 61000, 50, lowest), 1000 + 27000);
	assert_int_equal(renew_due(5, 5, 50, highest), 5);
	/* A fiftieth of what is left, doubled each time, from a second to ten minutes, and never past an eighth of it. */
	for (unsigned failures = 1; failures < 40; failures++) {
		assert_int_equal(renew_pause(failures, 45 * day, lowest), 1000);
		assert_int_equal(renew_pause(failures, 45 * day, highest), 600000);
		assert_in_range(renew_pause(failures, 30000, highest), 1000, 3750);
		assert_in_range(renew_pause(failures, 0, highest), 1000, 600000);
	}
	assert_int_equal(renew_pause(1, 43200000 / 12, highest), 72000);
	assert_int_equal(renew_pause(2, 43200000 / 12, highest), 144000);
	assert_int_equal(renew_pause(1, 0, highest), 1000);
	assert_int_equal(renew_pause(40, 0, highest), 600000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times), cmocka_unit_test(renews), cmocka_unit_test(goes_on), cmocka_unit_test(not_taken), cmocka_unit_test(no_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
