/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificate requests against csr_read. With flag 1 in the first octet the rest is a CertificationRequestInfo, which is signed here with the key of
 * ZOO_FIXED, so that mutations get past the signature; otherwise the rest is the request, PEM or DER.
 *
 * FUZZ_CSR_SEEDS=dir in the environment writes seeds there and exits.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/csr.h"
#include "tests/unit/pki/zoo.h"

#define FLAG_SIGN 1

static struct zoo_cert self;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
write_seed(const char *dir, const char *name, uint8_t flags, const void *p, size_t n)
{
	char *path = mem_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "wb");

	assert(f);
	fputc(flags, f);
	fwrite(p, 1, n, f);
	fclose(f);
	mem_free(path);
}

static void
write_request(const char *dir, const char *name, const char *san, const char *challenge)
{
	X509_REQ *req = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
	unsigned char *der = NULL;
	char *text, *file;
	BIO *out = BIO_new(BIO_s_mem());
	int n;

	X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC, (const unsigned char *)"permit", -1, -1, 0);
	X509_REQ_set_pubkey(req, self.key);
	if (san) {
		sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
		X509_REQ_add_extensions(req, exts);
	}
	if (challenge)
		X509_REQ_add1_attr_by_NID(req, NID_pkcs9_challengePassword, MBSTRING_ASC, (const unsigned char *)challenge, -1);
	n = X509_REQ_sign(req, self.key, NULL);
	assert(n > 0);
	n = i2d_re_X509_REQ_tbs(req, &der);
	write_seed(dir, name, FLAG_SIGN, der, (size_t)n);
	OPENSSL_free(der);
	PEM_write_bio_X509_REQ(out, req);
	n = (int)BIO_get_mem_data(out, &text);
	file = mem_printf("%s.pem", name);
	write_seed(dir, file, 0, text, (size_t)n);
	mem_free(file);
	BIO_free(out);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	X509_REQ_free(req);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct zoo z = { .cn = "a", .key = ZOO_FIXED };
	const char *dir = getenv("FUZZ_CSR_SEEDS");

	(void)argc;
	(void)argv;
	self = zoo_make(&z, NULL);
	if (dir) {
		write_request(dir, "plain", NULL, NULL);
		write_request(dir, "id", "URI:spiffe://hud.example/permit,DNS:tax.hud.svc", NULL);
		write_request(dir, "two-ids", "URI:spiffe://hud.example/permit,URI:spiffe://hud.example/tax", NULL);
		write_request(dir, "challenge", "email:a@b.example,IP:192.0.2.1", "0123-4567");
		exit(0);
	}
	return 0;
}

/* SEQUENCE { info, ed25519, signature }. */
static uint8_t *
sign_info(const uint8_t *info, size_t n, size_t *out_len)
{
	static const uint8_t tail[] = { 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x41, 0x00 };
	size_t body = n + sizeof(tail) + 64, sig_len = 64, at = 0;
	uint8_t *p = mem_alloc(body + 4);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	p[at++] = 0x30;
	if (body >= 256) {
		p[at++] = 0x82;
		p[at++] = (uint8_t)(body >> 8);
	} else if (body >= 128) {
		p[at++] = 0x81;
	}
	p[at++] = (uint8_t)body;
	memcpy(p + at, info, n);
	at += n;
	memcpy(p + at, tail, sizeof(tail));
	at += sizeof(tail);
	assert(EVP_DigestSignInit(ctx, NULL, NULL, NULL, self.key) == 1 && EVP_DigestSign(ctx, p + at, &sig_len, info, n) == 1);
	EVP_MD_CTX_free(ctx);
	*out_len = at + 64;
	return p;
}

static void
printable(const char *s, size_t max)
{
	size_t n = strlen(s);

	assert(n > 0 && n <= max);
	for (size_t i = 0; i < n; i++)
		assert(s[i] >= 0x20 && s[i] <= 0x7e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *p;
	const char *why;
	uint8_t *made = NULL;
	struct csr *c;
	size_t n;

	if (size < 1 || size > 60000)
		return 0;
	p = data + 1;
	n = size - 1;
	if (data[0] & FLAG_SIGN)
		p = made = sign_info(p, n, &n);
	c = csr_read(p, n, &why);
	assert((c == NULL) == (why != NULL));
	if (c) {
		assert(c->key && c->spki && c->spki_len > 0 && c->ndns <= CSR_DNS_MAX);
		if (c->id)
			printable(c->id, 2048);
		if (c->challenge)
			printable(c->challenge, CSR_CHALLENGE_MAX);
		for (size_t i = 0; i < c->ndns; i++)
			printable(c->dns[i], 255);
	}
	csr_free(c);
	assert(ERR_peek_error() == 0);
	mem_free(made);
	return 0;
}
