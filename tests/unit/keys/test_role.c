/* SPDX-License-Identifier: Apache-2.0 */
/* The keys role as a process: what it signs, what it refuses, what it does to those who ask for it. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/keys/ident.h"
#include "gateway/keys/proto.h"
#include "gateway/process/ipc.h"
#include "gateway/process/role.h"
#include "tests/unit/keys/bed.h"
#include "tests/unit/pki/zoo.h"

static struct zoo_cert p256, p384, ed25519, rsa, other;
static struct bed_keys keys;
static uint8_t tbs[130], buf[IPC_MAX_DATA + 16];

static int
setup(void **state)
{
	const struct zoo z = { .ca = true };
	const struct zoo with_p384 = { .ca = true, .key = ZOO_P384 }, with_ed = { .ca = true, .key = ZOO_ED25519 },
			 with_rsa = { .ca = true, .key = ZOO_RSA2048 };

	(void)state;
	p256 = zoo_make(&z, NULL);
	other = zoo_make(&z, NULL);
	p384 = zoo_make(&with_p384, NULL);
	ed25519 = zoo_make(&with_ed, NULL);
	rsa = zoo_make(&with_rsa, NULL);
	memset(tbs, ' ', 64);
	memcpy(tbs + 64, "TLS 1.3, client CertificateVerify", 34);
	memset(tbs + 98, 0x77, 32);
	keys = bed_keys_start((struct bed_key[]){ { 0, p256.key }, { 1, p384.key }, { 2, ed25519.key }, { 3, rsa.key } }, 4);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(bed_keys_stop(&keys), 0);
	zoo_free(&p256);
	zoo_free(&p384);
	zoo_free(&ed25519);
	zoo_free(&rsa);
	zoo_free(&other);
	return 0;
}

/* A message from fd within 5 s: 1, or -1 when it was closed. */
static int
next(int fd, struct ipc_msg *m)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 5000), 1);
	return ipc_recv(fd, buf, m);
}

static void
send_sign(int fd, uint64_t id, uint16_t key, EVP_PKEY *pkey, uint16_t scheme, const void *what, size_t len)
{
	struct keys_sign s = { .id = id, .key = key, .scheme = scheme, .tbs = what, .tbs_len = len };
	uint8_t msg[KEYS_SIGN_MAX];

	assert_int_equal(keys_ident_id(pkey, s.key_id), 0);
	len = keys_proto_put_sign(msg, &s);
	assert_true(len > 0);
	assert_int_equal(ipc_send(fd, KEYS_MSG_SIGN, 0, msg, len, NULL, 0), 0);
}

static struct keys_signed
ask(int fd, uint64_t id, uint16_t key, EVP_PKEY *pkey, uint16_t scheme)
{
	struct keys_signed r;
	struct ipc_msg m;

	send_sign(fd, id, key, pkey, scheme, tbs, sizeof(tbs));
	assert_int_equal(next(fd, &m), 1);
	assert_int_equal(m.type, KEYS_MSG_SIGNED);
	assert_int_equal(keys_proto_get_signed(&r, m.data, m.len), 0);
	assert_true(r.id == id);
	return r;
}

static void
test_signs(void **state)
{
	const struct {
		uint16_t key;
		EVP_PKEY *pkey;
		uint16_t scheme;
		const char *digest;
	} t[] = {
		{ 0, p256.key, KEYS_ECDSA_P256_SHA256, "SHA256" },
		{ 1, p384.key, KEYS_ECDSA_P384_SHA384, "SHA384" },
		{ 2, ed25519.key, KEYS_ED25519, NULL },
		{ 3, rsa.key, KEYS_RSA_PSS_SHA256, "SHA256" },
		{ 3, rsa.key, KEYS_RSA_PSS_SHA384, "SHA384" },
		{ 3, rsa.key, KEYS_RSA_PSS_SHA512, "SHA512" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		struct keys_signed r = ask(keys.worker, i, t[i].key, t[i].pkey, t[i].scheme);
		EVP_MD_CTX *md = EVP_MD_CTX_new();
		EVP_PKEY_CTX *ctx;

		assert_int_equal(r.status, KEYS_OK);
		assert_int_equal(EVP_DigestVerifyInit_ex(md, &ctx, t[i].digest, NULL, NULL, t[i].pkey, NULL), 1);
		if (t[i].key == 3) {
			EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING);
			EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST);
		}
		assert_int_equal(EVP_DigestVerify(md, r.sig, r.sig_len, tbs, sizeof(tbs)), 1);
		EVP_MD_CTX_free(md);
	}
}

/* Wrong, but no abuse: the answer says so and the channel lives. */
static void
test_mistakes(void **state)
{
	(void)state;
	assert_int_equal(ask(keys.worker, 1, 0, other.key, KEYS_ECDSA_P256_SHA256).status, KEYS_NO_KEY);
	assert_int_equal(ask(keys.worker, 2, 1, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_NO_KEY);
	assert_int_equal(ask(keys.worker, 3, 9, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_NO_KEY);
	assert_int_equal(ask(keys.worker, 4, 0, p256.key, KEYS_ECDSA_P384_SHA384).status, KEYS_BAD_SCHEME);
	assert_int_equal(ask(keys.worker, 5, 0, p256.key, 0x0203 /* ecdsa_sha1 */).status, KEYS_BAD_SCHEME);
	assert_int_equal(ask(keys.worker, 6, 3, rsa.key, 0x0401 /* rsa_pkcs1_sha256 */).status, KEYS_BAD_SCHEME);
	assert_int_equal(ask(keys.worker, 7, 2, ed25519.key, KEYS_RSA_PSS_SHA256).status, KEYS_BAD_SCHEME);
	assert_int_equal(ask(keys.worker, 8, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
}

static void
expect_abuse(int fd, unsigned index)
{
	struct ipc_msg m;

	/* Whatever was answered, the channel ends, and master is told which worker it was. */
	while (next(fd, &m) == 1) {
		struct keys_signed r;

		assert_int_equal(keys_proto_get_signed(&r, m.data, m.len), 0);
		assert_int_equal(r.status, KEYS_REFUSED);
	}
	close(fd);
	assert_int_equal(next(keys.master, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_KEYS_ABUSE);
	assert_int_equal(m.arg, index);
}

static void
test_abuse(void **state) /* case 61 */
{
	static const uint8_t digest[32] = "a digest, for a forged statement";
	uint8_t bad[sizeof(tbs)], junk[KEYS_SIGN_MAX + 1] = { 0 };
	int fd, fds[2];

	(void)state;
	/* A digest of something else. */
	fd = bed_keys_channel(&keys, 1);
	send_sign(fd, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256, digest, sizeof(digest));
	expect_abuse(fd, 1);
	/* Nothing at all. */
	fd = bed_keys_channel(&keys, 2);
	send_sign(fd, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256, NULL, 0);
	expect_abuse(fd, 2);
	/* Nearly a handshake. */
	memcpy(bad, tbs, sizeof(bad));
	bad[63] = 0;
	fd = bed_keys_channel(&keys, 3);
	send_sign(fd, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256, bad, sizeof(bad));
	expect_abuse(fd, 3);
	/* Also with a key that is not there. */
	fd = bed_keys_channel(&keys, 4);
	send_sign(fd, 1, 77, other.key, KEYS_ECDSA_P256_SHA256, bad, sizeof(bad));
	expect_abuse(fd, 4);
	/* Malformed requests, other messages, descriptors. */
	fd = bed_keys_channel(&keys, 5);
	assert_int_equal(ipc_send(fd, KEYS_MSG_SIGN, 0, junk, sizeof(junk), NULL, 0), 0);
	expect_abuse(fd, 5);
	fd = bed_keys_channel(&keys, 6);
	assert_int_equal(ipc_send(fd, KEYS_MSG_SIGN, 0, NULL, 0, NULL, 0), 0);
	expect_abuse(fd, 6);
	fd = bed_keys_channel(&keys, 7);
	assert_int_equal(ipc_send(fd, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0), 0);
	expect_abuse(fd, 7);
	fd = bed_keys_channel(&keys, 8);
	assert_int_equal(ipc_send(fd, ROLE_MSG_STOP, 0, NULL, 0, NULL, 0), 0);
	expect_abuse(fd, 8);
	fd = bed_keys_channel(&keys, 9);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(ipc_send(fd, KEYS_MSG_SIGN, 0, NULL, 0, fds, 2), 0);
	close(fds[0]);
	close(fds[1]);
	expect_abuse(fd, 9);
	/* Nobody else is harmed. */
	assert_int_equal(ask(keys.worker, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
}

static void
test_status(void **state)
{
	struct ipc_msg m;
	char *text;

	(void)state;
	assert_int_equal(ipc_send(keys.control, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(next(keys.control, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_STATUS_REPLY);
	text = mem_strndup((char *)m.data, m.len);
	assert_non_null(strstr(text, "\"role\":\"keys\""));
	assert_non_null(strstr(text, "\"number\":3,\"type\":\"RSA\""));
	assert_non_null(strstr(text, "\"abuse\":"));
	/* The private numbers are in OpenSSL's secure heap: RSA's alone have more than 1000 octets. */
	assert_non_null(strstr(text, "\"key_memory\":"));
	assert_true(atoi(strstr(text, "\"key_memory\":") + strlen("\"key_memory\":")) > 1000);
	if (getenv("BED_VERBOSE"))
		fprintf(stderr, "  %s\n", text);
	mem_free(text);
}

/* New keys beside old ones, by number the newest four. */
static void
test_replace(void **state)
{
	const struct zoo z = { .ca = true };
	struct zoo_cert k[5];
	int fd;

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		k[i] = zoo_make(&z, NULL);
		bed_keys_add(&keys, 20, k[i].key);
	}
	bed_keys_add(&keys, 20, k[4].key); /* the same again is no fifth */
	fd = bed_keys_channel(&keys, 30);
	assert_int_equal(ask(fd, 1, 20, k[0].key, KEYS_ECDSA_P256_SHA256).status, KEYS_NO_KEY);
	for (size_t i = 1; i < 5; i++)
		assert_int_equal(ask(fd, 1, 20, k[i].key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	assert_int_equal(ask(fd, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	for (size_t i = 0; i < 5; i++)
		zoo_free(&k[i]);
	close(fd);
}

/* More than 5000 a second from one worker wait; another worker does not. */
static void
test_rate(void **state)
{
	enum { N = 7000 };
	int greedy = bed_keys_channel(&keys, 40), modest = bed_keys_channel(&keys, 41);
	unsigned sent = 0, got = 0;
	uint64_t start = clock_mono_ms(), modest_ms = 0;
	struct ipc_msg m;

	(void)state;
	while (got < N) {
		struct keys_sign s = { .id = sent, .key = 0, .scheme = 0, .tbs = tbs, .tbs_len = sizeof(tbs) };
		uint8_t msg[KEYS_SIGN_MAX];
		size_t len;

		/* A scheme that nobody has: refused at once, but counted. */
		len = keys_proto_put_sign(msg, &s);
		while (sent < N && ipc_send(greedy, KEYS_MSG_SIGN, 0, msg, len, NULL, 0) == 0)
			sent++;
		poll(&(struct pollfd){ .fd = greedy, .events = POLLIN }, 1, 100);
		while (ipc_recv(greedy, buf, &m) == 1)
			got++;
		if (got > 5200 && !modest_ms) {
			uint64_t t = clock_mono_ms();

			assert_int_equal(ask(modest, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
			modest_ms = clock_mono_ms() - t + 1;
		}
	}
	assert_true(clock_mono_ms() - start >= 300); /* 2000 more than the bucket holds: 400 ms */
	assert_true(modest_ms < 300);
	close(greedy);
	close(modest);
}

/* A worker that asks but does not read: it is held up, nobody else. */
static void
test_deaf(void **state)
{
	int deaf = bed_keys_channel(&keys, 50);
	unsigned sent = 0, got = 0;
	struct ipc_msg m;

	(void)state;
	for (int rest = 0; rest < 20; rest++) {
		struct keys_sign s = { .id = sent, .key = 0, .scheme = 0, .tbs = tbs, .tbs_len = sizeof(tbs) };
		uint8_t msg[KEYS_SIGN_MAX];
		size_t len = keys_proto_put_sign(msg, &s);

		while (ipc_send(deaf, KEYS_MSG_SIGN, 0, msg, len, NULL, 0) == 0) {
			sent++;
			rest = 0;
		}
		usleep(2000);
	}
	assert_int_equal(ask(keys.worker, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	/* Once it reads, it gets every answer. */
	while (got < sent && next(deaf, &m) == 1)
		got++;
	assert_int_equal(got, sent);
	close(deaf);
}

/* A key that cannot be read: no start. Keys alone are not enough to start either: master going away ends it. */
static void
test_life(void **state)
{
	struct bed_keys k = bed_keys_start((struct bed_key[]){ { 0, p256.key } }, 1);
	struct ipc_msg m;

	(void)state;
	close(k.master);
	assert_int_equal(next(k.worker, &m), -1);
	close(k.worker);
	close(k.control);
	k = bed_keys_start(NULL, 0);
	assert_int_equal(ask(k.worker, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_NO_KEY);
	assert_int_equal(bed_keys_stop(&k), 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signs),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_abuse),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_deaf),
		cmocka_unit_test(test_life),
	};

	bed_child(argc, argv);
	return cmocka_run_group_tests(tests, setup, teardown);
}
