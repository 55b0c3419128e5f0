/* SPDX-License-Identifier: Apache-2.0 */
/* The keys role as a process: what it signs, what it refuses, what it does to those who ask for it. */
#include <fcntl.h>
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
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

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
	assert_non_null(strstr(text, "\"number\":3,\"option\":\"?\",\"type\":\"RSA\",\"in\":\"memory\""));
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

/* Another worker's, or another number's, key is of no use even to who knows its fingerprint. */
static void
test_separate(void **state)
{
	const struct {
		uint16_t number;
		EVP_PKEY *pkey;
		uint16_t scheme;
	} t[] = {
		{ 0, p256.key, KEYS_ECDSA_P256_SHA256 }, { 1, p384.key, KEYS_ECDSA_P384_SHA384 }, { 2, ed25519.key, KEYS_ED25519 },
		{ 3, rsa.key, KEYS_RSA_PSS_SHA256 },
	};

	(void)state;
	for (uint16_t number = 0; number < 6; number++)
		for (size_t i = 0; i < 4; i++)
			assert_int_equal(ask(keys.worker, 1, number, t[i].pkey, t[i].scheme).status,
			    number == t[i].number ? KEYS_OK : KEYS_NO_KEY);
}

/* Beyond its rate a worker is refused, and lives; another one is not; master hears of it once. */
static void
test_rate(void **state)
{
	enum { RATE = 100, N = 150 };
	unsigned count[KEYS_STATUSES] = { 0 };
	struct keys_signed r;
	struct bed_keys k;
	struct ipc_msg m;
	char *text;
	int greedy;

	(void)state;
	bed_signatures_per_s = RATE;
	k = bed_keys_start((struct bed_key[]){ { 0, p256.key } }, 1);
	bed_signatures_per_s = 0;
	greedy = bed_keys_channel(&k, 3);
	for (unsigned i = 0; i < N; i++)
		send_sign(greedy, i, 0, p256.key, KEYS_ECDSA_P256_SHA256, tbs, sizeof(tbs));
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(next(greedy, &m), 1);
		assert_int_equal(keys_proto_get_signed(&r, m.data, m.len), 0);
		assert_true(r.id == i);
		count[r.status]++;
	}
	assert_int_equal(count[KEYS_OK] + count[KEYS_BUSY], N);
	assert_true(count[KEYS_OK] >= RATE && count[KEYS_BUSY] >= 1);
	assert_int_equal(ask(k.worker, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	assert_int_equal(next(k.master, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_KEYS_RATE);
	assert_int_equal(m.arg, 3);
	/* Many more: it is made to wait, still answered, and master is not told again. */
	for (unsigned i = 0, got = 0; got < 4 * RATE;) {
		struct keys_sign s = { .id = i, .scheme = KEYS_ED25519, .tbs = tbs, .tbs_len = sizeof(tbs) };
		uint8_t msg[KEYS_SIGN_MAX];
		size_t len = keys_proto_put_sign(msg, &s);

		while (i < 4 * RATE && ipc_send(greedy, KEYS_MSG_SIGN, 0, msg, len, NULL, 0) == 0)
			i++;
		assert_int_equal(next(greedy, &m), 1);
		got++;
	}
	assert_int_equal(poll(&(struct pollfd){ .fd = k.master, .events = POLLIN }, 1, 0), 0);
	/* Later it may ask again. */
	usleep(100000);
	assert_int_equal(ask(greedy, 1, 0, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	assert_int_equal(ipc_send(k.control, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(next(k.control, &m), 1);
	text = mem_strndup((char *)m.data, m.len);
	assert_non_null(strstr(text, "\"rate_limit\":100"));
	assert_non_null(strstr(text, "{\"worker\":3,"));
	mem_free(text);
	close(greedy);
	assert_int_equal(bed_keys_stop(&k), 0);
}

/* ---- certificate requests ---- */

static struct keys_csr_done
ask_csr(int fd, uint64_t id, uint16_t number, bool new_key)
{
	struct keys_csr q = { .id = id, .key = number, .flags = new_key ? KEYS_CSR_NEW_KEY : 0 };
	uint8_t msg[KEYS_CSR_LEN];
	struct keys_csr_done r;
	struct ipc_msg m;

	assert_int_equal(ipc_send(fd, KEYS_MSG_CSR, 0, msg, keys_proto_put_csr(msg, &q), NULL, 0), 0);
	assert_int_equal(next(fd, &m), 1);
	assert_int_equal(m.type, KEYS_MSG_CSR_DONE);
	assert_int_equal(keys_proto_get_csr_done(&r, m.data, m.len), 0);
	assert_true(r.id == id);
	return r;
}

static X509_REQ *
parse_csr(const struct keys_csr_done *r)
{
	const uint8_t *p = r->der;
	X509_REQ *req;

	assert_int_equal(r->status, KEYS_OK);
	req = d2i_X509_REQ(NULL, &p, (long)r->der_len);
	assert_non_null(req);
	assert_ptr_equal(p, r->der + r->der_len);
	assert_int_equal(X509_REQ_verify(req, X509_REQ_get0_pubkey(req)), 1);
	return req;
}

/* Its names are the certificate's URI and DNS names, in their order, and no others. */
static void
check_names(X509_REQ *req, const char *uri, const char *dns)
{
	STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
	GENERAL_NAMES *names;

	assert_int_equal(sk_X509_EXTENSION_num(exts), 1);
	names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
	assert_int_equal(sk_GENERAL_NAME_num(names), 2);
	assert_int_equal(sk_GENERAL_NAME_value(names, 0)->type, GEN_URI);
	assert_string_equal((const char *)ASN1_STRING_get0_data(sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier), uri);
	assert_int_equal(sk_GENERAL_NAME_value(names, 1)->type, GEN_DNS);
	assert_string_equal((const char *)ASN1_STRING_get0_data(sk_GENERAL_NAME_value(names, 1)->d.dNSName), dns);
	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
}

/* What the CA checks of a renewal to a new key. */
static bool
proof_holds(X509_REQ *req, EVP_PKEY *old)
{
	int at = X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, -1), n;
	const ASN1_TYPE *v;
	uint8_t sig[2048], *tbs_, *spki = NULL;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok;
	size_t len;

	assert_true(at >= 0);
	v = X509_ATTRIBUTE_get0_type(X509_REQ_get_attr(req, at), 0);
	n = EVP_DecodeBlock(sig, ASN1_STRING_get0_data(v->value.asn1_string), ASN1_STRING_length(v->value.asn1_string));
	assert_true(n > 0);
	len = (size_t)n;
	for (int i = ASN1_STRING_length(v->value.asn1_string); ASN1_STRING_get0_data(v->value.asn1_string)[--i] == '=';)
		len--;
	n = i2d_PUBKEY(X509_REQ_get0_pubkey(req), &spki);
	tbs_ = mem_alloc(20 + (size_t)n);
	memcpy(tbs_, "sallyport renewal 1", 20);
	memcpy(tbs_ + 20, spki, (size_t)n);
	ok = EVP_DigestVerifyInit(md, NULL, EVP_PKEY_is_a(old, "ED25519") ? NULL : EVP_PKEY_get_security_bits(old) >= 192 ? EVP_sha384() :
	    EVP_sha256(), NULL, old) == 1 && EVP_DigestVerify(md, sig, len, tbs_, 20 + (size_t)n) == 1;
	mem_free(tbs_);
	OPENSSL_free(spki);
	EVP_MD_CTX_free(md);
	ERR_clear_error();
	return ok;
}

static void
test_csr(void **state)
{
	struct zoo z = {
		.cn = "gateway", .san = { { GEN_URI, "spiffe://hud.example/gateway/dmz1", 0 }, { GEN_EMAIL, "a@b.example", 0 }, { GEN_DNS, "gw.hud.example", 0 } },
	};
	const enum zoo_key kinds[] = { ZOO_P256, ZOO_P384, ZOO_ED25519, ZOO_RSA2048 };
	struct zoo_cert c[4], other_cert;
	struct bed_key bk[4];
	struct keys_csr_done r;
	struct bed_keys k;
	struct ipc_msg m;
	X509_REQ *req;
	int w;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		z.key = kinds[i];
		c[i] = zoo_make(&z, NULL);
		bk[i] = (struct bed_key){ i, c[i].key };
	}
	k = bed_keys_start(bk, 4);
	assert_int_equal(ask_csr(k.worker, 1, 0, false).status, KEYS_NO_KEY);
	for (unsigned i = 0; i < 4; i++)
		bed_keys_certificate(&k, i, c[i].x);
	for (uint16_t i = 0; i < 4; i++) {
		EVP_PKEY *fresh;
		char pem[4096];
		ssize_t n;
		BIO *in;

		/* The same key: proved by its own signature, and no word of it to master. */
		r = ask_csr(k.worker, i, i, false);
		req = parse_csr(&r);
		assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), c[i].key), 1);
		assert_int_equal(X509_NAME_cmp(X509_REQ_get_subject_name(req), X509_get_subject_name(c[i].x)), 0);
		assert_int_equal(X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, -1), -1);
		check_names(req, "spiffe://hud.example/gateway/dmz1", "gw.hud.example");
		X509_REQ_free(req);
		/* Again at once: not before 10 s; another worker may. */
		assert_int_equal(ask_csr(k.worker, 9, i, false).status, KEYS_BUSY);
		assert_int_equal(ask_csr(k.worker, 9, i, true).status, KEYS_BUSY);
		/* A new key of the same kind: its private part goes to master, sealed; the old key vouches for it. */
		w = bed_keys_channel(&k, 10 + i);
		r = ask_csr(w, 5, i, true);
		req = parse_csr(&r);
		check_names(req, "spiffe://hud.example/gateway/dmz1", "gw.hud.example");
		assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), c[i].key), 0);
		assert_int_equal(EVP_PKEY_get_bits(X509_REQ_get0_pubkey(req)), EVP_PKEY_get_bits(c[i].key));
		assert_true(proof_holds(req, c[i].key));
		assert_false(proof_holds(req, p256.key));
		assert_int_equal(next(k.master, &m), 1);
		assert_int_equal(m.type, ROLE_MSG_NEW_KEY);
		assert_int_equal(m.arg, i);
		assert_int_equal(m.nfds, 1);
		assert_int_equal(fcntl(m.fds[0], F_GET_SEALS) & 15, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
		n = pread(m.fds[0], pem, sizeof(pem), 0);
		assert_true(n > 0 && n < (ssize_t)sizeof(pem));
		assert_memory_equal(pem, "-----BEGIN PRIVATE KEY-----\n", 28);
		in = BIO_new_mem_buf(pem, (int)n);
		fresh = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
		assert_non_null(fresh);
		BIO_free(in);
		assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), fresh), 1);
		X509_REQ_free(req);
		/* It waits for its certificate, and signs no handshake meanwhile; another worker's request is for the same. */
		assert_int_equal(ask(k.worker, 1, i, fresh, i == 0 ? KEYS_ECDSA_P256_SHA256 : KEYS_ED25519).status, KEYS_NO_KEY);
		close(w);
		w = bed_keys_channel(&k, 20 + i);
		r = ask_csr(w, 6, i, true);
		req = parse_csr(&r);
		assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), fresh), 1);
		X509_REQ_free(req);
		close(w);
		ipc_msg_close(&m);
		/* And master has it again: what it keeps is the key of the last request. */
		assert_int_equal(next(k.master, &m), 1);
		assert_int_equal(m.type, ROLE_MSG_NEW_KEY);
		assert_int_equal(pread(m.fds[0], pem + n, sizeof(pem) - (size_t)n, 0), n < (ssize_t)sizeof(pem) - n ? n : (ssize_t)sizeof(pem) - n);
		assert_memory_equal(pem, pem + n, n < (ssize_t)sizeof(pem) - n ? (size_t)n : sizeof(pem) - (size_t)n);
		ipc_msg_close(&m);
		/* The certificate has come: both keys are there, requests are for the new one. */
		if (i == 0) {
			struct zoo_cert renewed = zoo_make(&z, NULL);

			EVP_PKEY_free(renewed.key);
			renewed.key = fresh;
			X509_set_pubkey(renewed.x, fresh);
			bed_keys_add(&k, 0, fresh);
			bed_keys_certificate(&k, 0, renewed.x);
			w = bed_keys_channel(&k, 30);
			r = ask_csr(w, 7, 0, false);
			req = parse_csr(&r);
			assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), fresh), 1);
			X509_REQ_free(req);
			assert_int_equal(ask(w, 1, 0, fresh, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
			assert_int_equal(ask(w, 1, 0, c[0].key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
			close(w);
			zoo_free(&renewed);
		} else {
			EVP_PKEY_free(fresh);
		}
	}
	/* No certificate, no such number, a certificate of another key: nothing. */
	z.key = ZOO_P256;
	other_cert = zoo_make(&z, NULL);
	assert_int_equal(ask_csr(k.worker, 9, 4, false).status, KEYS_NO_KEY);
	assert_int_equal(ask_csr(k.worker, 9, 63, true).status, KEYS_NO_KEY);
	assert_int_equal(ask_csr(k.worker, 9, 64, true).status, KEYS_NO_KEY);
	assert_int_equal(ask_csr(k.worker, 9, 65535, true).status, KEYS_NO_KEY);
	w = bed_keys_channel(&k, 40);
	bed_keys_certificate(&k, 1, other_cert.x);
	assert_int_equal(ask(w, 1, 1, c[1].key, KEYS_ECDSA_P384_SHA384).status, KEYS_OK);
	assert_int_equal(ask_csr(w, 9, 1, false).status, KEYS_NO_KEY);
	close(w);
	assert_int_equal(bed_keys_stop(&k), 0);
	zoo_free(&other_cert);
	for (unsigned i = 0; i < 4; i++)
		zoo_free(&c[i]);
}

/* A long search for an RSA key holds nobody up. */
static void
test_csr_slow(void **state)
{
	struct zoo z = { .ca = true, .key = ZOO_RSA2048 };
	struct zoo_cert c = zoo_make(&z, NULL);
	struct bed_keys k;
	struct keys_csr q = { .id = 1, .key = 0, .flags = KEYS_CSR_NEW_KEY };
	uint8_t msg[KEYS_CSR_LEN];
	struct keys_csr_done r;
	unsigned signatures = 0;
	struct ipc_msg m;
	int w;

	(void)state;
	bed_signatures_per_s = 1000000;
	k = bed_keys_start((struct bed_key[]){ { 0, c.key }, { 1, p256.key } }, 2);
	bed_signatures_per_s = 0;
	w = bed_keys_channel(&k, 1);
	bed_keys_certificate(&k, 0, c.x);
	assert_int_equal(ask(w, 1, 1, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	assert_int_equal(ipc_send(k.worker, KEYS_MSG_CSR, 0, msg, keys_proto_put_csr(msg, &q), NULL, 0), 0);
	while (poll(&(struct pollfd){ .fd = k.worker, .events = POLLIN }, 1, 0) == 0) {
		assert_int_equal(ask(w, 1, 1, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
		signatures++;
	}
	assert_true(signatures > 2);
	assert_int_equal(next(k.worker, &m), 1);
	assert_int_equal(keys_proto_get_csr_done(&r, m.data, m.len), 0);
	assert_int_equal(r.status, KEYS_OK);
	close(w);
	/* Told to stop while one is looked for, it stops; a worker that asked and went is missed by nobody. */
	w = bed_keys_channel(&k, 2);
	X509_set_version(c.x, X509_VERSION_1);
	bed_keys_certificate(&k, 0, c.x); /* another one: forgets the new key that waits */
	assert_int_equal(ask(w, 1, 1, p256.key, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	assert_int_equal(ipc_send(w, KEYS_MSG_CSR, 0, msg, keys_proto_put_csr(msg, &q), NULL, 0), 0);
	close(w);
	assert_int_equal(bed_keys_stop(&k), 0);
	zoo_free(&c);
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
		cmocka_unit_test(test_separate),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_csr),
		cmocka_unit_test(test_csr_slow),
		cmocka_unit_test(test_deaf),
		cmocka_unit_test(test_life),
	};

	bed_child(argc, argv);
	return cmocka_run_group_tests(tests, setup, teardown);
}
