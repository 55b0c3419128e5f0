/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate requests, good and bad; each refused for its own reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/csr.h"
#include "tests/unit/pki/zoo.h"

struct spec {
	enum zoo_key key;
	bool other_signer;
	const EVP_MD *digest;   /* NULL: SHA-256, or none for Ed25519 */
	const char *san, *cn, *challenge;
	int cn_type, challenge_type; /* 0: MBSTRING_ASC */
	int challenges;         /* how often; 0: once */
};

static X509_REQ *
make(const struct spec *s)
{
	struct zoo z = { .cn = "x", .key = s->key };
	struct zoo_cert a = zoo_make(&z, NULL), b = zoo_make(&z, NULL);
	X509_REQ *req = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
	bool plain = s->key == ZOO_ED25519 || s->key == ZOO_FIXED || s->key == ZOO_ED448;

	X509_REQ_set_pubkey(req, a.key);
	if (s->cn)
		X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", s->cn_type ? s->cn_type : MBSTRING_ASC, (const unsigned char *)s->cn, -1, -1, 0);
	if (s->san) {
		sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, s->san));
		X509_REQ_add_extensions(req, exts);
	}
	if (s->challenge) {
		int type = s->challenge_type ? s->challenge_type : MBSTRING_ASC;
		X509_ATTRIBUTE *attribute = X509_ATTRIBUTE_create_by_NID(NULL, NID_pkcs9_challengePassword, type, s->challenge, (int)strlen(s->challenge));

		for (int i = 1; i < s->challenges; i++)
			assert_int_equal(X509_ATTRIBUTE_set1_data(attribute, V_ASN1_UTF8STRING, s->challenge, (int)strlen(s->challenge)), 1);
		assert_int_equal(X509_REQ_add1_attr(req, attribute), 1);
		X509_ATTRIBUTE_free(attribute);
	}
	assert_true(X509_REQ_sign(req, s->other_signer ? b.key : a.key, plain ? NULL : s->digest ? s->digest : EVP_sha256()) > 0);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	zoo_free(&a);
	zoo_free(&b);
	return req;
}

static char *
pem_of(X509_REQ *req)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *p, *pem;
	long n;

	PEM_write_bio_X509_REQ(out, req);
	n = BIO_get_mem_data(out, &p);
	pem = mem_strndup(p, (size_t)n);
	BIO_free(out);
	return pem;
}

static void
refused(const void *p, size_t n, const char *want)
{
	const char *why = NULL;
	struct csr *c = csr_read(p, n, &why);

	if (c || strstr(why, want) == NULL)
		print_error("\"%s\" without \"%s\"\n", c ? "(taken)" : why, want);
	assert_null(c);
	assert_non_null(strstr(why, want));
	assert_int_equal(ERR_peek_error(), 0);
}

static void
good(void **state)
{
	static const struct spec specs[] = {
		{ .key = ZOO_P256, .cn = "permit", .san = "URI:spiffe://hud.example/permit,DNS:a.example,DNS:b.example,email:x@y.example", .challenge = "hunter2 7" },
		{ .key = ZOO_P384 },
		{ .key = ZOO_ED25519, .cn = "x" },
		{ .key = ZOO_RSA2048, .san = "DNS:a.example" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		X509_REQ *req = make(&specs[i]);
		unsigned char *der = NULL, *spki = NULL;
		int n = i2d_X509_REQ(req, &der), m = i2d_PUBKEY(X509_REQ_get0_pubkey(req), &spki);
		char *pem = pem_of(req), *padded = mem_printf("hello\n%s \r\n\t", pem);
		const struct {
			const void *p;
			size_t n;
		} forms[] = { { der, (size_t)n }, { pem, strlen(pem) }, { padded, strlen(padded) } };

		for (size_t k = 0; k < 3; k++) {
			const char *why = NULL;
			struct csr *c = csr_read(forms[k].p, forms[k].n, &why);

			if (c == NULL)
				print_error("spec %zu form %zu: %s\n", i, k, why);
			assert_non_null(c);
			assert_null(why);
			assert_int_equal(c->spki_len, m);
			assert_memory_equal(c->spki, spki, c->spki_len);
			if (i == 0) {
				assert_string_equal(c->id, "spiffe://hud.example/permit");
				assert_int_equal(c->ndns, 2);
				assert_string_equal(c->dns[1], "b.example");
				assert_string_equal(c->subject_cn, "permit");
				assert_string_equal(c->challenge, "hunter2 7");
			} else {
				assert_null(c->id);
				assert_null(c->challenge);
			}
			csr_free(c);
		}
		OPENSSL_free(der);
		OPENSSL_free(spki);
		mem_free(pem);
		mem_free(padded);
		X509_REQ_free(req);
	}
	csr_free(NULL);
}

static void
bad(void **state)
{
	char *many = mem_strdup("DNS:a.example"), *long_name = mem_zalloc(CSR_CHALLENGE_MAX + 2);
	const struct {
		struct spec s;
		const char *why;
	} rows[] = {
		{ { .other_signer = true }, "not by its own key" },
		{ { .key = ZOO_ED25519, .other_signer = true }, "not by its own key" },
		{ { .key = ZOO_RSA1024 }, "shorter than 2048" },
		{ { .key = ZOO_SECP256K1 }, "elliptic curve other than" },
		{ { .key = ZOO_ED448 }, "not RSA, ECDSA or Ed25519" },
		{ { .digest = EVP_sha1() }, "broken digest" },
		{ { .key = ZOO_RSA2048, .digest = EVP_md5() }, "broken digest" },
		{ { .san = "URI:spiffe://hud.example/a,URI:spiffe://hud.example/b" }, "more than one URI" },
		{ { .san = "URI:spiffe://hud.example/a\tb" }, "not printable" },
		{ { .cn = "a\nb" }, "common name" },
		{ { .cn = "gr\xc3\xbc\xc3\x9f", .cn_type = MBSTRING_UTF8 }, "common name" },
		{ { .challenge = "a\tb" }, "challenge password that is" },
		{ { .challenge = long_name, .challenge_type = V_ASN1_UTF8STRING }, "challenge password that is" },
		{ { .challenge = "x", .challenges = 2 }, "more than one challenge" },
		{ { .san = many }, "more than 64 DNS names" },
	};
	(void)state;

	for (int i = 0; i < 64; i++) {
		char *more = mem_printf("%s,DNS:a%d.example", many, i);

		mem_free(many);
		many = more;
	}
	memset(long_name, 'x', CSR_CHALLENGE_MAX + 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct spec s = rows[i].s;
		X509_REQ *req;
		unsigned char *der = NULL;
		int n;

		if (i == sizeof(rows) / sizeof(rows[0]) - 1)
			s.san = many;
		req = make(&s);
		n = i2d_X509_REQ(req, &der);
		refused(der, (size_t)n, rows[i].why);
		OPENSSL_free(der);
		X509_REQ_free(req);
	}
	ERR_clear_error();
	mem_free(many);
	mem_free(long_name);
}

/* Damage to each octet of a sound request: refused, or still one that its own key signed. And every length that is cut short. */
static void
damaged(void **state)
{
	const struct spec s = { .key = ZOO_FIXED, .cn = "x", .san = "URI:spiffe://hud.example/a" };
	X509_REQ *req = make(&s);
	unsigned char *der = NULL;
	size_t n = (size_t)i2d_X509_REQ(req, &der);
	uint8_t *copy = mem_alloc(n + 1);
	const char *why;
	(void)state;

	memcpy(copy, der, n);
	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			struct csr *c;

			copy[i] ^= (uint8_t)(1 << bit);
			c = csr_read(copy, n, &why);
			if (c)
				print_error("octet %zu bit %d\n", i, bit);
			assert_null(c);
			copy[i] = der[i];
		}
	for (size_t i = 0; i < n; i++)
		assert_null(csr_read(copy, i, &why));
	copy[n] = 0;
	refused(copy, n + 1, "not valid DER");
	mem_free(copy);
	OPENSSL_free(der);
	X509_REQ_free(req);
	assert_int_equal(ERR_peek_error(), 0);
}

static void
text(void **state)
{
	static const char key[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
	static const char no_der[] = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
	const struct spec s = { .key = ZOO_P256 };
	struct zoo z = { .cn = "x" };
	struct zoo_cert cert = zoo_make(&z, NULL);
	X509_REQ *req = make(&s);
	char *pem = pem_of(req), *certificate = zoo_pem(&cert.x, 1), *two = mem_printf("%s%s", pem, pem), *big = mem_zalloc(CSR_MAX + 2);
	(void)state;

	refused("", 0, "an empty");
	refused("hello", 5, "not a certificate request");
	refused(certificate, strlen(certificate), "a certificate, not");
	refused(key, sizeof(key) - 1, "a private key");
	refused(no_der, sizeof(no_der) - 1, "not valid DER");
	refused(two, strlen(two), "something behind");
	refused(pem, strlen(pem) - 40, "not a certificate request");
	memset(big, ' ', CSR_MAX + 1);
	refused(big, CSR_MAX + 1, "64 KiB");
	mem_free(pem);
	mem_free(two);
	mem_free(big);
	mem_free(certificate);
	zoo_free(&cert);
	X509_REQ_free(req);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(bad),
		cmocka_unit_test(damaged),
		cmocka_unit_test(text),
	};

	return cmocka_run_group_tests_name("pki/csr", tests, NULL, NULL);
}
