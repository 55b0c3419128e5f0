/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections between two of ours, and between one of ours and a stranger on plain OpenSSL, whose private keys of our side
 * are always with a real keys role in another process.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/keys/client.h"
#include "gateway/tls/tls_int.h"
#include "tests/unit/tls/bed.h"

#define ID_A "spiffe://hud.example/gateway/dmz1"
#define ID_B "spiffe://irs.example/gateway/dmz1"

/* Two domains; A holds key 0 of hud, B key 0 of irs: the keys role knows them apart by fingerprint. */
static struct bed_domain hud, irs, fbi;
static struct zoo_cert leaf_a, leaf_b;
static struct bed_keys keys;
static struct tls_env *env_a, *env_b;

static struct bed_keys
start_keys(void)
{
	const struct bed_key list[] = { { 0, leaf_a.key }, { 0, leaf_b.key } };

	return bed_keys_start(list, 2);
}

static int
setup(void **state)
{
	const char *why = NULL;

	(void)state;
	hud = bed_domain("hud.example");
	irs = bed_domain("irs.example");
	fbi = bed_domain("fbi.example");
	leaf_a = bed_leaf(&hud, ID_A, ZOO_P256, NULL);
	leaf_b = bed_leaf(&irs, ID_B, ZOO_P256, NULL);
	keys = start_keys();
	assert_int_equal(keys_client_init(keys.worker, &why), 0);
	assert_int_equal(keys_client_init(keys.worker, &why), -1);
	env_a = bed_env(&hud, &leaf_a, (struct svid_bundle *[]){ hud.bundle, irs.bundle }, 2);
	env_b = bed_env(&irs, &leaf_b, (struct svid_bundle *[]){ irs.bundle, hud.bundle }, 2);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	tls_env_unref(env_a);
	tls_env_unref(env_b);
	assert_int_equal(bed_keys_stop(&keys), 0);
	zoo_free(&leaf_a);
	zoo_free(&leaf_b);
	bed_domain_free(&hud);
	bed_domain_free(&irs);
	bed_domain_free(&fbi);
	return 0;
}

/* A dials B. */
static void
make_ends(struct bed_end *a, struct bed_end *b, enum tls_kind kind, unsigned accept, const char *sni)
{
	int fds[2];

	bed_pair(fds);
	memset(a, 0, sizeof(*a));
	memset(b, 0, sizeof(*b));
	a->fd = fds[0];
	b->fd = fds[1];
	a->t = tls_client_new(env_a, fds[0], kind, sni, bed_wake, a);
	b->t = tls_server_new(env_b, fds[1], accept, bed_wake, b);
}

static void
run2(struct bed_end *a, struct bed_end *b)
{
	bed_run((struct bed_end *[]){ a, b }, 2, keys.worker);
}

static void
open_link(struct bed_end *a, struct bed_end *b)
{
	make_ends(a, b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, "irs.example");
	run2(a, b);
	assert_int_equal(a->st, TLS_DONE);
	assert_int_equal(b->st, TLS_DONE);
}

static void
free2(struct bed_end *a, struct bed_end *b)
{
	bed_end_free(a);
	bed_end_free(b);
}

static void
assert_failed(const struct bed_end *e, const char *token)
{
	const char *detail;

	assert_int_equal(e->st, TLS_FAILED);
	assert_string_equal(tls_failure(e->t, &detail), token);
	if (getenv("BED_VERBOSE"))
		fprintf(stderr, "  failure %s: %s\n", token, detail);
}

/* Everything that was written at one end arrives at the other, in whatever pieces. */
static void
carry(struct tls_conn *from, struct tls_conn *to, size_t total, size_t write_size, size_t read_size)
{
	uint8_t *out = mem_alloc(total), *in = mem_alloc(total + 1), *piece = mem_alloc(read_size);
	size_t put = 0, got = 0;

	for (size_t i = 0; i < total; i++)
		out[i] = (uint8_t)(i * 2654435761u >> 13);
	while (got < total) {
		size_t n = total - put < write_size ? total - put : write_size;
		ssize_t w = n ? tls_write_more(from, out + put, n, put + n < total) : 0, r;

		assert_true(w >= -1);
		if (w == -1)
			assert_true(tls_wants_write(from));
		if (w > 0)
			put += (size_t)w;
		do {
			r = tls_read(to, piece, read_size);
			assert_true(r >= -1 && r != 0);
			if (r > 0) {
				assert_true(got + (size_t)r <= total);
				memcpy(in + got, piece, (size_t)r);
				got += (size_t)r;
			}
			if (r == -1)
				assert_false(tls_pending(to));
		} while (r > 0 && (tls_pending(to) || (size_t)r == read_size));
	}
	assert_memory_equal(in, out, total);
	mem_free(out);
	mem_free(in);
	mem_free(piece);
}

/* ---- what works ---- */

static void
test_link(void **state)
{
	struct bed_end a, b;
	struct svid_der chain[SVID_MAX_CHAIN];
	int len;

	(void)state;
	open_link(&a, &b);
	assert_true(a.parked > 0 && b.parked > 0);
	assert_int_equal(tls_alpn(a.t), TLS_ALPN_H2);
	assert_int_equal(tls_alpn(b.t), TLS_ALPN_H2);
	assert_string_equal(tls_peer(a.t)->id, ID_B);
	assert_string_equal(tls_peer(b.t)->id, ID_A);
	assert_string_equal(tls_sni(b.t), "irs.example");
	assert_true(strlen(tls_group(a.t)) > 0 && !strcmp(tls_group(a.t), tls_group(b.t)));
	assert_non_null(strstr(tls_cipher(a.t), "TLS_"));
	/* Either side gives the leaf first, as DER. */
	assert_int_equal(tls_peer_chain(b.t, chain, SVID_MAX_CHAIN), 1);
	len = i2d_X509(leaf_a.x, NULL);
	assert_int_equal(chain[0].len, len);
	assert_int_equal(tls_peer_chain(a.t, chain, SVID_MAX_CHAIN), 1);
	assert_int_equal(tls_peer_chain(a.t, chain, 0), 0);
	carry(a.t, b.t, 1, 1, 1);
	carry(b.t, a.t, 300000, 65536, 65536);
	carry(a.t, b.t, 300000, 17, 100);
	carry(b.t, a.t, 300000, 300000, 1000);
	carry(a.t, b.t, 100000, 20000, 16384);
	/* A clean close is 0, twice; the other direction still works. */
	tls_shutdown(a.t);
	assert_int_equal(tls_read(b.t, (uint8_t[8]){ 0 }, 8), 0);
	assert_int_equal(tls_read(b.t, (uint8_t[8]){ 0 }, 8), 0);
	assert_int_equal(tls_write(b.t, "tail", 4), 4);
	{
		uint8_t buf[8];

		assert_int_equal(tls_read(a.t, buf, 8), 4);
	}
	free2(&a, &b);
}

static void
test_close_without_notify(void **state)
{
	struct bed_end a, b;
	const char *detail;

	(void)state;
	open_link(&a, &b);
	tls_write(a.t, "x", 1);
	shutdown(a.fd, SHUT_WR);
	assert_int_equal(tls_read(b.t, (uint8_t[8]){ 0 }, 8), 1);
	assert_int_equal(tls_read(b.t, (uint8_t[8]){ 0 }, 8), -2);
	assert_string_equal(tls_failure(b.t, &detail), "eof");
	assert_int_equal(tls_write(b.t, "x", 1), -2);
	free2(&a, &b);
}

/*
 * A record that waited in OpenSSL's buffer ends a read, while what came since is in the socket and its edge is spent: that
 * must not be called empty.
 */
static void
test_pending_after_leftover(void **state)
{
	struct bed_end a, b;
	uint8_t block[100] = { 0 };

	(void)state;
	open_link(&a, &b);
	assert_int_equal(tls_write(a.t, block, sizeof(block)), sizeof(block));
	assert_int_equal(tls_write(a.t, block, sizeof(block)), sizeof(block));
	assert_int_equal(tls_read(b.t, block, sizeof(block)), sizeof(block));
	assert_true(tls_pending(b.t));
	assert_int_equal(tls_write(a.t, block, sizeof(block)), sizeof(block));
	assert_int_equal(tls_read(b.t, block, sizeof(block)), sizeof(block));
	assert_true(tls_pending(b.t));
	assert_int_equal(tls_read(b.t, block, sizeof(block)), sizeof(block));
	assert_int_equal(tls_read(b.t, block, sizeof(block)), -1);
	assert_false(tls_pending(b.t));
	free2(&a, &b);
}

/* The write side blocks, and goes on where it stopped. */
static void
test_backpressure(void **state)
{
	struct bed_end a, b;
	static uint8_t block[65536];
	size_t put = 0, got = 0;
	ssize_t n;

	(void)state;
	open_link(&a, &b);
	while ((n = tls_write(a.t, block, sizeof(block))) > 0)
		put += (size_t)n;
	assert_int_equal(n, -1);
	assert_true(tls_wants_write(a.t));
	while (put < 4000000 || got < put) {
		if (put < 4000000 && (n = tls_write(a.t, block, sizeof(block))) > 0)
			put += (size_t)n;
		while ((n = tls_read(b.t, block, 7000)) > 0)
			got += (size_t)n;
		assert_int_equal(n, -1);
	}
	assert_int_equal(got, put);
	free2(&a, &b);
}

static void
test_alpn(void **state)
{
	static const struct {
		enum tls_kind kind;
		unsigned accept;
		enum tls_alpn alpn; /* TLS_ALPN_NONE: fails */
	} t[] = {
		{ TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, TLS_ALPN_H2 },
		{ TLS_LINK_REVERSE, TLS_ACCEPT_PEERS, TLS_ALPN_H2_REVERSE },
		{ TLS_LINK_CLIENT, TLS_ACCEPT_WORKLOADS, TLS_ALPN_H2 },
		{ TLS_LINK_REVERSE, TLS_ACCEPT_WORKLOADS, TLS_ALPN_NONE },
		{ TLS_LINK_CLIENT, TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS, TLS_ALPN_H2 },
		{ TLS_LINK_REVERSE, TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS, TLS_ALPN_H2_REVERSE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct bed_end a, b;

		make_ends(&a, &b, t[i].kind, t[i].accept, NULL);
		run2(&a, &b);
		if (t[i].alpn == TLS_ALPN_NONE) {
			assert_failed(&b, "alpn");
			assert_failed(&a, "alert");
		} else {
			assert_int_equal(a.st, TLS_DONE);
			assert_int_equal(b.st, TLS_DONE);
			assert_int_equal(tls_alpn(a.t), t[i].alpn);
			assert_int_equal(tls_alpn(b.t), t[i].alpn);
			assert_null(tls_sni(b.t));
		}
		free2(&a, &b);
	}
}

/* Many at once: more than there are jobs, so that some wait for one; every handshake ends well with both ends parked. */
static void
test_many(void **state)
{
	enum { N = 400 };
	struct bed_end *ends = mem_array(2 * N, sizeof(*ends)), **list = mem_array(2 * N, sizeof(*list));
	unsigned most = 0;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		make_ends(&ends[2 * i], &ends[2 * i + 1], TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, "irs.example");
		list[2 * i] = &ends[2 * i];
		list[2 * i + 1] = &ends[2 * i + 1];
	}
	bed_run(list, 2 * N, keys.worker);
	for (size_t i = 0; i < 2 * N; i++) {
		assert_int_equal(ends[i].st, TLS_DONE);
		assert_true(ends[i].parked > 0);
		if (ends[i].parked > most)
			most = ends[i].parked;
	}
	assert_true(most > 1); /* somebody had to wait for a job, too */
	assert_int_equal(keys_client_pending(), 0);
	for (size_t i = 0; i < N; i++)
		free2(&ends[2 * i], &ends[2 * i + 1]);
	mem_free(ends);
	mem_free(list);
}

static void
test_key_types(void **state)
{
	static const enum zoo_key types[] = { ZOO_P256, ZOO_P384, ZOO_ED25519, ZOO_RSA2048 };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		struct zoo_cert a = bed_leaf(&hud, ID_A, types[i], NULL), b = bed_leaf(&irs, ID_B, types[i], NULL);
		struct bed_keys mine = bed_keys_start((struct bed_key[]){ { 0, a.key }, { 0, b.key } }, 2);
		struct tls_env *ea = bed_env(&hud, &a, (struct svid_bundle *[]){ hud.bundle, irs.bundle }, 2);
		struct tls_env *eb = bed_env(&irs, &b, (struct svid_bundle *[]){ irs.bundle, hud.bundle }, 2);
		struct bed_end x = { 0 }, y = { 0 };
		int fds[2];

		keys_client_set_fd(mine.worker);
		bed_pair(fds);
		x.fd = fds[0];
		y.fd = fds[1];
		x.t = tls_client_new(ea, fds[0], TLS_LINK_CLIENT, NULL, bed_wake, &x);
		y.t = tls_server_new(eb, fds[1], TLS_ACCEPT_PEERS, bed_wake, &y);
		tls_env_unref(ea); /* the connections hold them */
		tls_env_unref(eb);
		bed_run((struct bed_end *[]){ &x, &y }, 2, mine.worker);
		assert_int_equal(x.st, TLS_DONE);
		assert_int_equal(y.st, TLS_DONE);
		assert_true(x.parked && y.parked);
		free2(&x, &y);
		assert_int_equal(bed_keys_stop(&mine), 0);
		zoo_free(&a);
		zoo_free(&b);
	}
	keys_client_set_fd(keys.worker);
}

/* Listeners for workloads show their own certificate, whose key is number 1. */
static void
test_inside(void **state)
{
	struct zoo_cert inside = bed_leaf(&irs, ID_B, ZOO_P256, &(struct zoo){ .san = { { GEN_URI, ID_B, 0 }, { GEN_DNS, "tax.irs.example", 0 } } });
	char *pem = zoo_pem(&inside.x, 1), *id_pem = zoo_pem(&leaf_b.x, 1);
	struct tls_env_config cfg = { .domain = "irs.example", .identity_pem = id_pem, .inside_pem = pem,
		.bundles = (struct svid_bundle *[]){ irs.bundle, hud.bundle }, .nbundles = 2 };
	struct svid_der chain[1];
	const char *why = NULL;
	struct tls_env *e;
	int inside_len = i2d_X509(inside.x, NULL), id_len = i2d_X509(leaf_b.x, NULL);

	(void)state;
	bed_keys_add(&keys, 1, inside.key);
	e = tls_env_new(&cfg, &why);
	assert_non_null(e);
	assert_int_not_equal(inside_len, id_len);
	for (unsigned accept = 1; accept <= 3; accept++) {
		struct bed_end a, b;

		make_ends(&a, &b, TLS_LINK_CLIENT, accept, "tax.irs.example");
		tls_free(b.t);
		b.t = tls_server_new(e, b.fd, accept, bed_wake, &b);
		run2(&a, &b);
		assert_int_equal(a.st, TLS_DONE);
		assert_int_equal(b.st, TLS_DONE);
		assert_int_equal(tls_peer_chain(a.t, chain, 1), 1);
		assert_int_equal(chain[0].len, accept == TLS_ACCEPT_WORKLOADS ? inside_len : id_len);
		free2(&a, &b);
	}
	tls_env_unref(e);
	mem_free(pem);
	mem_free(id_pem);
	zoo_free(&inside);
}

static void
test_bad_env(void **state)
{
	static const char *const bad[] = { "", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" };
	struct zoo_cert weak = bed_leaf(&hud, ID_A, ZOO_SECP256K1, NULL);
	char *pem = zoo_pem(&weak.x, 1), *good = zoo_pem(&leaf_a.x, 1), *cut;
	struct tls_env_config cfg = { .domain = "hud.example", .bundles = &hud.bundle, .nbundles = 1 };
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cfg.identity_pem = bad[i];
		why = NULL;
		assert_null(tls_env_new(&cfg, &why));
		assert_non_null(strstr(why, "identity certificate: "));
	}
	cfg.identity_pem = pem;
	assert_null(tls_env_new(&cfg, &why));
	assert_non_null(strstr(why, "unsupported kind of key"));
	cfg.identity_pem = good;
	cfg.inside_pem = "";
	assert_null(tls_env_new(&cfg, &why));
	assert_non_null(strstr(why, "inside certificate: "));
	cfg.inside_pem = NULL;
	cfg.identity_pem = cut = mem_printf("%s%s", good, bad[2]);
	assert_null(tls_env_new(&cfg, &why));
	assert_non_null(strstr(why, "malformed"));
	tls_env_unref(NULL);
	tls_free(NULL);
	mem_free(cut);
	mem_free(good);
	mem_free(pem);
	zoo_free(&weak);
}

/* ---- the keys role dies, or is slow ---- */

static void
test_keys_killed(void **state) /* case 60 */
{
	struct bed_end a, b, c, d;

	(void)state;
	open_link(&a, &b);
	/* One handshake is parked when it happens. */
	make_ends(&c, &d, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	assert_int_equal(tls_handshake(c.t), TLS_WANT_READ);
	assert_int_equal(tls_handshake(d.t), TLS_PARKED);
	assert_int_equal(keys_client_pending(), 1);
	bed_keys_kill(&keys);
	/* An answer may have been sent before; what is left fails. */
	run2(&c, &d);
	assert_failed(&c, strcmp(tls_failure(d.t, NULL), "keys") ? "keys" : "alert");
	free2(&c, &d);
	/* New ones fail at once, cleanly. */
	make_ends(&c, &d, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	run2(&c, &d);
	assert_failed(&d, "keys");
	assert_failed(&c, "alert");
	free2(&c, &d);
	/* Established connections live. */
	carry(a.t, b.t, 50000, 5000, 5000);
	carry(b.t, a.t, 50000, 5000, 5000);
	/* Restarted: all is well again, for old and new. */
	close(keys.worker);
	keys = start_keys();
	keys_client_set_fd(keys.worker);
	open_link(&c, &d);
	carry(a.t, b.t, 5000, 500, 500);
	free2(&c, &d);
	free2(&a, &b);
}

/* A restart while handshakes are parked and others wait for a job: all fail, all are woken. */
static void
test_keys_replaced(void **state)
{
	enum { N = 300 };
	struct bed_end *ends = mem_array(2 * N, sizeof(*ends));
	struct bed_keys old = keys;
	unsigned failed = 0;
	int nobody[2];

	(void)state;
	/* A keys role that never answers. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, nobody), 0);
	keys_client_set_fd(nobody[0]);
	for (size_t i = 0; i < N; i++) {
		make_ends(&ends[2 * i], &ends[2 * i + 1], TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
		assert_int_equal(tls_handshake(ends[2 * i].t), TLS_WANT_READ);
	}
	for (size_t i = 0; i < N; i++) {
		ends[2 * i + 1].st = tls_handshake(ends[2 * i + 1].t);
		assert_int_equal(ends[2 * i + 1].st, TLS_PARKED);
		assert_int_equal(tls_handshake(ends[2 * i + 1].t), TLS_PARKED); /* no use, no harm */
	}
	assert_int_equal(keys_client_pending(), KEYS_JOBS_MAX);
	keys_client_set_fd(old.worker);
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(ends[2 * i + 1].woken, 1);
		failed += tls_handshake(ends[2 * i + 1].t) == TLS_FAILED;
	}
	/* Those that had asked have failed; those that had waited for a job ask the new one. */
	assert_int_equal(failed, KEYS_JOBS_MAX);
	assert_int_equal(keys_client_pending(), N - KEYS_JOBS_MAX);
	for (size_t i = 0; i < N; i++)
		free2(&ends[2 * i], &ends[2 * i + 1]);
	assert_int_equal(keys_client_pending(), 0);
	close(nobody[0]);
	close(nobody[1]);
	mem_free(ends);
}

/* The channel takes a few requests only: the rest wait, and go as answers come. */
static void
test_full_channel(void **state)
{
	enum { N = 60 };
	struct bed_end *ends = mem_array(2 * N, sizeof(*ends)), **list = mem_array(2 * N, sizeof(*list));
	int small = 1;

	(void)state;
	assert_int_equal(setsockopt(keys.worker, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (size_t i = 0; i < N; i++) {
		make_ends(&ends[2 * i], &ends[2 * i + 1], TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
		list[2 * i] = &ends[2 * i];
		list[2 * i + 1] = &ends[2 * i + 1];
	}
	for (size_t i = 0; i < N; i++)
		tls_handshake(ends[2 * i].t);
	for (size_t i = 0; i < N; i++)
		assert_int_equal(tls_handshake(ends[2 * i + 1].t), TLS_PARKED);
	/* One whose request was not sent yet goes away. */
	bed_end_free(&ends[2 * N - 1]);
	bed_end_free(&ends[2 * N - 2]);
	bed_run(list, 2 * N - 2, keys.worker);
	for (size_t i = 0; i < 2 * N - 2; i++)
		assert_int_equal(ends[i].st, TLS_DONE);
	for (size_t i = 0; i < 2 * N - 2; i++)
		bed_end_free(&ends[i]);
	small = 212992;
	setsockopt(keys.worker, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	mem_free(ends);
	mem_free(list);
}

/* Ends that are freed while they wait for a job, and too many that wait. */
static void
test_waiting(void **state)
{
	enum { N = KEYS_JOBS_MAX + KEYS_WAIT_MAX + 1 };
	struct bed_end *ends = mem_array(2 * N, sizeof(*ends));
	const char *detail;
	struct rlimit files;
	int nobody[2];

	(void)state;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max != RLIM_INFINITY && files.rlim_max < 2 * N + 100) {
		mem_free(ends);
		skip();
	}
	if (files.rlim_cur < 2 * N + 100) {
		files.rlim_cur = 2 * N + 100;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, nobody), 0);
	keys_client_set_fd(nobody[0]);
	for (size_t i = 0; i < N; i++) {
		make_ends(&ends[2 * i], &ends[2 * i + 1], TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
		assert_int_equal(tls_handshake(ends[2 * i].t), TLS_WANT_READ);
	}
	for (size_t i = 0; i < N; i++)
		ends[2 * i + 1].st = tls_handshake(ends[2 * i + 1].t);
	for (size_t i = 0; i < N - 1; i++)
		assert_int_equal(ends[2 * i + 1].st, TLS_PARKED);
	assert_int_equal(ends[2 * N - 1].st, TLS_FAILED);
	assert_string_equal(tls_failure(ends[2 * N - 1].t, &detail), "busy");
	/* Every third goes: some that are parked, some that wait. */
	for (size_t i = 0; i < N; i += 3)
		free2(&ends[2 * i], &ends[2 * i + 1]);
	/* The next keys role serves those that waited. */
	keys_client_set_fd(keys.worker);
	for (int left = N; left > 0;) {
		struct pollfd p = { .fd = keys.worker, .events = POLLIN };

		left = 0;
		for (size_t i = 1; i < 2 * N; i += 2)
			if (ends[i].t && ends[i].woken) {
				ends[i].woken = 0;
				ends[i].st = tls_handshake(ends[i].t);
			}
		for (size_t i = 1; i < 2 * N; i += 2)
			left += ends[i].t && ends[i].st == TLS_PARKED;
		if (left) {
			assert_int_equal(poll(&p, 1, 5000), 1);
			assert_int_equal(keys_client_on_readable(), 0);
		}
	}
	for (size_t i = 0; i < N; i++)
		free2(&ends[2 * i], &ends[2 * i + 1]);
	assert_int_equal(keys_client_pending(), 0);
	close(nobody[0]);
	close(nobody[1]);
	mem_free(ends);
}

/* Owners that go on at once when woken, and free whatever they like meanwhile, themselves included. */
#define CHAOS 120
static struct bed_end chaos[2 * CHAOS];
static unsigned chaos_seed = 1;

static void
chaos_wake(void *ctx)
{
	struct bed_end *e = ctx;

	chaos_seed = chaos_seed * 1103515245 + 12345;
	if ((chaos_seed >> 16) % 4 == 0) {
		struct bed_end *victim = &chaos[(chaos_seed >> 18) % (2 * CHAOS)];

		bed_end_free(victim);
		if (victim == e)
			return;
	}
	e->st = tls_handshake(e->t);
	if (e->st == TLS_FAILED)
		bed_end_free(e);
}

static void
test_chaos(void **state)
{
	unsigned done = 0;

	(void)state;
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < CHAOS; i++) {
			struct bed_end *a = &chaos[2 * i], *b = a + 1;
			int fds[2];

			bed_pair(fds);
			*a = (struct bed_end){ .fd = fds[0], .st = TLS_WANT_READ };
			*b = (struct bed_end){ .fd = fds[1], .st = TLS_WANT_READ };
			a->t = tls_client_new(env_a, fds[0], TLS_LINK_CLIENT, NULL, chaos_wake, a);
			b->t = tls_server_new(env_b, fds[1], TLS_ACCEPT_PEERS, chaos_wake, b);
		}
		for (int idle = 0; idle < 3;) {
			struct pollfd p = { .fd = keys.worker, .events = POLLIN };

			for (size_t i = 0; i < 2 * CHAOS; i++) {
				struct bed_end *e = &chaos[i];

				if (e->t && e->st != TLS_PARKED && e->st != TLS_DONE)
					e->st = tls_handshake(e->t);
				if (e->t && e->st == TLS_FAILED)
					bed_end_free(e);
			}
			idle = poll(&p, 1, 20) > 0 ? 0 : idle + 1;
			if (!idle)
				assert_int_equal(keys_client_on_readable(), 0);
		}
		for (size_t i = 0; i < 2 * CHAOS; i++) {
			done += chaos[i].t && chaos[i].st == TLS_DONE;
			bed_end_free(&chaos[i]);
		}
		assert_int_equal(keys_client_pending(), 0);
	}
	assert_true(done > 100);
}

static void
test_free_while_parked(void **state)
{
	struct bed_end a, b, c, d;
	struct pollfd p = { .fd = keys.worker, .events = POLLIN };

	(void)state;
	/* The server's end, before the answer came; its descriptor may be somebody else's by then. */
	make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	tls_handshake(a.t);
	assert_int_equal(tls_handshake(b.t), TLS_PARKED);
	close(b.fd);
	b.fd = -1;
	bed_end_free(&b);
	assert_int_equal(keys_client_pending(), 0);
	bed_end_free(&a);
	/* After the answer came, before the handshake went on. */
	make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	tls_handshake(a.t);
	assert_int_equal(tls_handshake(b.t), TLS_PARKED);
	while (!b.woken) {
		poll(&p, 1, 1000);
		assert_int_equal(keys_client_on_readable(), 0);
	}
	free2(&a, &b);
	/* The late answer of the first meets nobody, and others are not disturbed. */
	open_link(&c, &d);
	free2(&c, &d);
	assert_int_equal(keys_client_pending(), 0);
	/* The client's end. */
	make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	while (a.st != TLS_PARKED) {
		a.st = tls_handshake(a.t);
		if (tls_handshake(b.t) == TLS_PARKED) {
			poll(&p, 1, 1000);
			assert_int_equal(keys_client_on_readable(), 0);
		}
	}
	free2(&a, &b);
	assert_int_equal(keys_client_pending(), 0);
}

/* A certificate whose key the keys role does not have. */
static void
test_no_such_key(void **state)
{
	struct zoo_cert other = bed_leaf(&irs, ID_B, ZOO_P256, NULL);
	struct tls_env *e = bed_env(&irs, &other, (struct svid_bundle *[]){ irs.bundle, hud.bundle }, 2);
	struct bed_end a, b;
	const char *detail;

	(void)state;
	make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	tls_free(b.t);
	b.t = tls_server_new(e, b.fd, TLS_ACCEPT_PEERS, bed_wake, &b);
	run2(&a, &b);
	assert_failed(&b, "keys");
	tls_failure(b.t, &detail);
	assert_string_equal(detail, "no such key");
	free2(&a, &b);
	/* Given the key while it runs, the role goes on with both. */
	bed_keys_add(&keys, 0, other.key);
	make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	tls_free(b.t);
	b.t = tls_server_new(e, b.fd, TLS_ACCEPT_PEERS, bed_wake, &b);
	run2(&a, &b);
	assert_int_equal(b.st, TLS_DONE);
	free2(&a, &b);
	open_link(&a, &b);
	free2(&a, &b);
	tls_env_unref(e);
	zoo_free(&other);
}

/* ---- strangers: a plain OpenSSL client against our server ---- */

static SSL_CTX *
stranger(const struct zoo_cert *leaf)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_security_level(ctx, 0);
	if (leaf) {
		assert_int_equal(SSL_CTX_use_certificate(ctx, leaf->x), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(ctx, leaf->key), 1);
	}
	return ctx;
}

/* Runs it against our server; takes ctx. */
static void
against_server(SSL_CTX *ctx, const char *alpn, unsigned accept, struct bed_end *raw, struct bed_end *ours)
{
	int fds[2];

	bed_pair(fds);
	memset(raw, 0, sizeof(*raw));
	memset(ours, 0, sizeof(*ours));
	raw->fd = fds[0];
	ours->fd = fds[1];
	raw->raw = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_fd(raw->raw, fds[0]);
	SSL_set_connect_state(raw->raw);
	if (alpn)
		SSL_set_alpn_protos(raw->raw, (const uint8_t *)alpn, (unsigned)strlen(alpn));
	ours->t = tls_server_new(env_b, fds[1], accept, bed_wake, ours);
	run2(raw, ours);
}

#define H2 "\2h2"

static void
test_versions(void **state) /* case 41 */
{
	static const int versions[] = { TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION };
	struct bed_end raw, ours;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		SSL_CTX *ctx = stranger(&leaf_a);

		SSL_CTX_set_max_proto_version(ctx, versions[i % 3]);
		SSL_CTX_clear_options(ctx, SSL_OP_NO_COMPRESSION);
		against_server(ctx, i < 3 ? H2 : NULL, TLS_ACCEPT_PEERS, &raw, &ours);
		assert_failed(&ours, "tls-version");
		free2(&raw, &ours);
	}
	/* From the other side: a server that has no more than 1.2. */
	{
		SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
		struct bed_end a, b;

		make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
		tls_free(b.t);
		b.t = NULL;
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
		SSL_CTX_use_certificate(ctx, leaf_b.x);
		SSL_CTX_use_PrivateKey(ctx, leaf_b.key);
		b.raw = SSL_new(ctx);
		SSL_CTX_free(ctx);
		SSL_set_fd(b.raw, b.fd);
		SSL_set_accept_state(b.raw);
		run2(&a, &b);
		assert_failed(&a, "alert");
		free2(&a, &b);
	}
	/* Renegotiation is no part of TLS 1.3; compression none of what we accept. */
	against_server(stranger(&leaf_a), H2, TLS_ACCEPT_PEERS, &raw, &ours);
	assert_int_equal(ours.st, TLS_DONE);
	assert_int_equal(SSL_renegotiate(raw.raw), 0);
	assert_null(SSL_get_current_compression(raw.raw));
	free2(&raw, &ours);
}

/* What is an alert rather than a refusal: case 48, and case 52, whose text names all three times. */
static void
assert_alarm(const struct bed_end *e, const char *token)
{
	bool time = !strcmp(token, "expired") || !strcmp(token, "not-yet-valid");
	const char *detail;

	assert_int_equal(tls_alarming(e->t), time || !strcmp(token, "untrusted"));
	(void)tls_failure(e->t, &detail);
	assert_int_equal(strstr(detail, "clock is wrong") != NULL, time);
}

static void
test_no_certificate(void **state) /* case 42 */
{
	struct bed_end raw, ours;

	(void)state;
	for (unsigned accept = 1; accept <= 3; accept++) {
		against_server(stranger(NULL), H2, accept, &raw, &ours);
		assert_failed(&ours, "no-certificate");
		assert_string_equal(tls_peer(ours.t)->id, "");
		free2(&raw, &ours);
	}
}

static void
test_refused_certificates(void **state)
{
	const int64_t now = time(NULL);
	const struct {
		const char *token;
		const struct bed_domain *ca;
		const char *id;
		struct zoo z;
		bool id_known;
	} t[] = {
		{ "eku", &hud, ID_A, { .eku = "serverAuth" }, true }, /* case 43 */
		{ "two-uri-sans", &hud, ID_A, { .san = { { GEN_URI, ID_A, 0 }, { GEN_URI, "spiffe://hud.example/b", 0 } } }, false }, /* case 44 */
		{ "bad-id", &hud, "spiffe://hud.example/a/", { 0 }, false },
		{ "no-uri-san", &hud, NULL, { .cn = "hud", .san = { { GEN_DNS, "hud.example", 0 } } }, false }, /* case 47 */
		{ "untrusted", &fbi, ID_A, { 0 }, true }, /* case 48 */
		{ "unknown-domain", &fbi, "spiffe://fbi.example/x", { 0 }, true },
		{ "expired", &hud, ID_A, { .from = now - 7200, .until = now - 10 }, true }, /* case 52 */
		{ "not-yet-valid", &hud, ID_A, { .from = now + 3000, .until = now + 7200 }, true },
		{ "chain-too-long", &hud, ID_A, { .padding = 70000 }, false }, /* case 59: too many octets */
	};
	struct bed_end raw, ours;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct zoo_cert leaf = bed_leaf(t[i].ca, t[i].id, ZOO_P256, &t[i].z);

		against_server(stranger(&leaf), H2, TLS_ACCEPT_PEERS, &raw, &ours);
		assert_failed(&ours, t[i].token);
		assert_alarm(&ours, t[i].token);
		if (t[i].id_known)
			assert_string_equal(tls_peer(ours.t)->id, t[i].id);
		free2(&raw, &ours);
		zoo_free(&leaf);
	}
	/* case 59: too many certificates */
	{
		SSL_CTX *ctx = stranger(&leaf_a);

		for (int i = 0; i < SVID_MAX_CHAIN; i++)
			SSL_CTX_add1_chain_cert(ctx, hud.ca.x);
		against_server(ctx, H2, TLS_ACCEPT_PEERS, &raw, &ours);
		assert_failed(&ours, "chain-too-long");
		free2(&raw, &ours);
	}
}

/* The same judgement where we dial: a server whose certificate is none for servers, or of nobody we know. */
static void
test_refused_servers(void **state)
{
	const struct {
		const char *token;
		const struct bed_domain *ca;
		const char *id;
		struct zoo z;
	} t[] = {
		{ "eku", &irs, ID_B, { .eku = "clientAuth" } },
		{ "untrusted", &fbi, ID_B, { 0 } },
		{ "expired", &irs, ID_B, { .until = time(NULL) - 10 } },
		{ "no-uri-san", &irs, NULL, { .cn = "irs", .san = { { GEN_DNS, "irs.example", 0 } } } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct zoo_cert leaf = bed_leaf(t[i].ca, t[i].id, ZOO_P256, &t[i].z);
		SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
		struct bed_end a, b;

		make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
		tls_free(b.t);
		b.t = NULL;
		SSL_CTX_use_certificate(ctx, leaf.x);
		SSL_CTX_use_PrivateKey(ctx, leaf.key);
		b.raw = SSL_new(ctx);
		SSL_CTX_free(ctx);
		SSL_set_fd(b.raw, b.fd);
		SSL_set_accept_state(b.raw);
		run2(&a, &b);
		assert_failed(&a, t[i].token);
		assert_alarm(&a, t[i].token);
		free2(&a, &b);
		zoo_free(&leaf);
	}
	/* A good one that speaks no protocol of ours. */
	{
		SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
		struct bed_end a, b;

		make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
		tls_free(b.t);
		b.t = NULL;
		SSL_CTX_use_certificate(ctx, leaf_b.x);
		SSL_CTX_use_PrivateKey(ctx, leaf_b.key);
		b.raw = SSL_new(ctx);
		SSL_CTX_free(ctx);
		SSL_set_fd(b.raw, b.fd);
		SSL_set_accept_state(b.raw);
		run2(&a, &b);
		assert_failed(&a, "alpn");
		free2(&a, &b);
	}
}

static void
test_stranger_alpn(void **state)
{
	static const struct {
		const char *offer;
		unsigned accept;
		int alpn; /* -1: refused */
	} t[] = {
		{ H2, TLS_ACCEPT_PEERS, TLS_ALPN_H2 },
		{ "\12h2-reverse\2h2", TLS_ACCEPT_PEERS, TLS_ALPN_H2_REVERSE },
		{ "\12h2-reverse\2h2", TLS_ACCEPT_WORKLOADS, TLS_ALPN_H2 },
		{ "\10http/1.1", TLS_ACCEPT_WORKLOADS, TLS_ALPN_HTTP1 },
		{ "\10http/1.1", TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS, TLS_ALPN_HTTP1 },
		{ "\2h2\10http/1.1", TLS_ACCEPT_WORKLOADS, TLS_ALPN_H2 },
		{ "\10http/1.1", TLS_ACCEPT_PEERS, -1 },
		{ "\2h3", TLS_ACCEPT_WORKLOADS, -1 },
		{ NULL, TLS_ACCEPT_WORKLOADS, TLS_ALPN_HTTP1 },
		{ NULL, TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS, TLS_ALPN_HTTP1 },
		{ NULL, TLS_ACCEPT_PEERS, -1 },
	};
	struct bed_end raw, ours;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		against_server(stranger(&leaf_a), t[i].offer, t[i].accept, &raw, &ours);
		if (t[i].alpn < 0) {
			assert_failed(&ours, "alpn");
		} else {
			assert_int_equal(ours.st, TLS_DONE);
			assert_int_equal(tls_alpn(ours.t), t[i].alpn);
		}
		free2(&raw, &ours);
	}
}

static void
test_algorithms(void **state)
{
	static const struct {
		const char *suites, *groups, *sigalgs, *token; /* NULL: works */
	} t[] = {
		{ "TLS_CHACHA20_POLY1305_SHA256", NULL, NULL, NULL },
		{ "TLS_AES_256_GCM_SHA384", NULL, NULL, NULL },
		{ "TLS_AES_128_CCM_SHA256", NULL, NULL, "no-shared-cipher" },
		{ NULL, "P-384", NULL, NULL },
		{ NULL, "P-521", NULL, "no-shared-group" },
		{ NULL, NULL, "rsa_pss_rsae_sha256", "no-shared-signature" },
	};
	struct bed_end raw, ours;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		SSL_CTX *ctx = stranger(&leaf_a);

		if (t[i].suites)
			SSL_CTX_set_ciphersuites(ctx, t[i].suites);
		if (t[i].groups)
			SSL_CTX_set1_groups_list(ctx, t[i].groups);
		if (t[i].sigalgs)
			SSL_CTX_set1_sigalgs_list(ctx, t[i].sigalgs);
		against_server(ctx, H2, TLS_ACCEPT_PEERS, &raw, &ours);
		if (t[i].token)
			assert_failed(&ours, t[i].token);
		else
			assert_int_equal(ours.st, TLS_DONE);
		free2(&raw, &ours);
	}
}

static SSL_SESSION *kept;

static int
keep_session(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	SSL_SESSION_free(kept);
	kept = s;
	return 1;
}

static int
use_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out)
{
	static const unsigned char secret[32] = { 1 }, aes128[] = { 0x13, 0x01 };
	SSL_SESSION *s = SSL_SESSION_new();

	(void)md;
	SSL_SESSION_set1_master_key(s, secret, sizeof(secret));
	SSL_SESSION_set_cipher(s, SSL_CIPHER_find(ssl, aes128));
	SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION);
	SSL_SESSION_set_max_early_data(s, 1000);
	*id = (const unsigned char *)"guess";
	*len = 5;
	*out = s;
	return 1;
}

static void
test_resumption(void **state) /* case 51 */
{
	struct bed_end raw, ours;
	SSL_CTX *ctx = stranger(&leaf_a);
	uint8_t buf[16];
	size_t n;
	int fds[2];

	(void)state;
	/* No ticket is ever sent. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	against_server(ctx, H2, TLS_ACCEPT_PEERS, &raw, &ours);
	assert_int_equal(ours.st, TLS_DONE);
	assert_int_equal(tls_write(ours.t, "hello", 5), 5);
	assert_int_equal(SSL_read(raw.raw, buf, sizeof(buf)), 5);
	assert_null(kept);
	free2(&raw, &ours);
	/* An invented PSK with early data: a full handshake, and the early data is never seen. */
	ctx = stranger(&leaf_a);
	SSL_CTX_set_psk_use_session_callback(ctx, use_psk);
	bed_pair(fds);
	memset(&raw, 0, sizeof(raw));
	memset(&ours, 0, sizeof(ours));
	raw.fd = fds[0];
	ours.fd = fds[1];
	raw.raw = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_fd(raw.raw, fds[0]);
	SSL_set_connect_state(raw.raw);
	SSL_set_alpn_protos(raw.raw, (const uint8_t *)H2, 3);
	assert_int_equal(SSL_write_early_data(raw.raw, "early", 5, &n), 1);
	ours.t = tls_server_new(env_b, fds[1], TLS_ACCEPT_PEERS, bed_wake, &ours);
	run2(&raw, &ours);
	if (ours.st == TLS_DONE) {
		assert_int_equal(SSL_session_reused(raw.raw), 0);
		assert_int_equal(SSL_get_early_data_status(raw.raw), SSL_EARLY_DATA_REJECTED);
		assert_int_equal(SSL_write(raw.raw, "late", 4), 4);
		assert_int_equal(tls_read(ours.t, buf, sizeof(buf)), 4);
		assert_memory_equal(buf, "late", 4);
	}
	assert_string_equal(tls_peer(ours.t)->id, ID_A);
	free2(&raw, &ours);
}

static void
test_key_update(void **state) /* case 58 */
{
	struct bed_end raw, ours;
	uint8_t buf[16];
	const char *detail;
	ssize_t r = 0;
	int i;

	(void)state;
	/* A few are fine, between data and without, also such as want an answer. */
	against_server(stranger(&leaf_a), H2, TLS_ACCEPT_PEERS, &raw, &ours);
	for (i = 0; i < 6; i++) {
		assert_int_equal(SSL_key_update(raw.raw, i & 1 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		assert_int_equal(SSL_write(raw.raw, "data", 4), 4);
		assert_int_equal(tls_read(ours.t, buf, sizeof(buf)), 4);
		assert_int_equal(tls_write(ours.t, "back", 4), 4);
		assert_int_equal(SSL_read(raw.raw, buf, sizeof(buf)), 4);
	}
	assert_int_equal(tls_read(ours.t, buf, sizeof(buf)), -1);
	/* A flood is not, whether or not an answer is asked for. */
	free2(&raw, &ours);
	for (int kind = 0; kind < 2; kind++) {
		against_server(stranger(&leaf_a), H2, TLS_ACCEPT_PEERS, &raw, &ours);
		for (i = 0; i < 1000 && r != -2; i++) {
			SSL_key_update(raw.raw, kind ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
			SSL_do_handshake(raw.raw);
			r = tls_read(ours.t, buf, sizeof(buf));
			SSL_read(raw.raw, buf, sizeof(buf));
		}
		assert_int_equal(r, -2);
		if (getenv("BED_VERBOSE"))
			fprintf(stderr, "  flood noticed after %d\n", i);
		assert_true(i > 10 && i < 100);
		assert_string_equal(tls_failure(ours.t, &detail), "key-update-flood");
		free2(&raw, &ours);
		r = 0;
		ERR_clear_error();
	}
	/* In one burst, too: bounded by one buffer. */
	against_server(stranger(&leaf_a), H2, TLS_ACCEPT_PEERS, &raw, &ours);
	for (i = 0; i < 500; i++) {
		SSL_key_update(raw.raw, SSL_KEY_UPDATE_NOT_REQUESTED);
		SSL_do_handshake(raw.raw);
	}
	assert_int_equal(tls_read(ours.t, buf, sizeof(buf)), -2);
	assert_string_equal(tls_failure(ours.t, &detail), "key-update-flood");
	free2(&raw, &ours);
	ERR_clear_error();
}

/* We renew our own key in time; the far end counts that as ordinary. */
static void
test_own_key_update(void **state)
{
	struct bed_end a, b;

	(void)state;
	open_link(&a, &b);
	for (int i = 0; i < 5; i++) {
		a.t->records = (1u << 24) - 3;
		carry(a.t, b.t, 100000, 1000, 4096);
		assert_true(a.t->records < 200);
		carry(b.t, a.t, 100000, 1000, 4096);
	}
	/* Also with a full socket. */
	a.t->records = (1u << 24) - 20;
	carry(a.t, b.t, 4000000, 300000, 5000);
	assert_true(a.t->records < 4000);
	free2(&a, &b);
}

static void
test_not_tls(void **state)
{
	static const struct {
		const char *bytes;
		const char *token;
	} t[] = {
		{ "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "protocol" },
		{ "CONNECT a:443 HTTP/1.1\r\n\r\n", "protocol" },
		{ "SSH-2.0-OpenSSH_9.2\r\n", "protocol" },
		{ "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "protocol" },
		{ "\x15\x03\x03\x00\x02\x02\x28", "protocol" },
		{ "\x16\x03", "eof" },
		{ "", "eof" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct bed_end ours = { 0 };
		size_t len = i == 3 ? 10 : i == 4 ? 7 : strlen(t[i].bytes);
		int fds[2];

		bed_pair(fds);
		ours.fd = fds[1];
		ours.t = tls_server_new(env_b, fds[1], TLS_ACCEPT_PEERS, bed_wake, &ours);
		assert_int_equal(write(fds[0], t[i].bytes, len), len);
		shutdown(fds[0], SHUT_WR);
		bed_run((struct bed_end *[]){ &ours }, 1, -1);
		assert_failed(&ours, t[i].token);
		close(fds[0]);
		bed_end_free(&ours);
	}
}

/* The far end refuses us after our handshake is done: it shows when we read. */
static void
test_refused_later(void **state)
{
	struct bed_end a, b;
	const char *detail;
	struct tls_env *deaf = bed_env(&irs, &leaf_b, (struct svid_bundle *[]){ irs.bundle }, 1);

	(void)state;
	make_ends(&a, &b, TLS_LINK_CLIENT, TLS_ACCEPT_PEERS, NULL);
	tls_free(b.t);
	b.t = tls_server_new(deaf, b.fd, TLS_ACCEPT_PEERS, bed_wake, &b);
	tls_env_unref(deaf);
	run2(&a, &b);
	assert_failed(&b, "unknown-domain");
	assert_int_equal(a.st, TLS_DONE);
	assert_int_equal(tls_read(a.t, (uint8_t[8]){ 0 }, 8), -2);
	assert_string_equal(tls_failure(a.t, &detail), "alert");
	assert_string_equal(detail, "unknown CA");
	free2(&a, &b);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link),
		cmocka_unit_test(test_close_without_notify),
		cmocka_unit_test(test_pending_after_leftover),
		cmocka_unit_test(test_backpressure),
		cmocka_unit_test(test_alpn),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_key_types),
		cmocka_unit_test(test_inside),
		cmocka_unit_test(test_bad_env),
		cmocka_unit_test(test_keys_replaced),
		cmocka_unit_test(test_full_channel),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_chaos),
		cmocka_unit_test(test_free_while_parked),
		cmocka_unit_test(test_no_such_key),
		cmocka_unit_test(test_keys_killed),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_no_certificate),
		cmocka_unit_test(test_refused_certificates),
		cmocka_unit_test(test_refused_servers),
		cmocka_unit_test(test_stranger_alpn),
		cmocka_unit_test(test_algorithms),
		cmocka_unit_test(test_resumption),
		cmocka_unit_test(test_key_update),
		cmocka_unit_test(test_own_key_update),
		cmocka_unit_test(test_not_tls),
		cmocka_unit_test(test_refused_later),
	};

	bed_child(argc, argv);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
