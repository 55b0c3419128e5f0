/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of revocation lists against a bundle. The issuer's key is known (Ed25519, fixed), so that mutations get past the signature: each list
 * that begins with the right octet is a TBSCertList that is signed here.
 *
 *     octet 0      bit 0: the rest is a file as it stands; bits 1-2: what time it is; bit 3: the root comes along
 *     then         octet 1: sign it; 2 octets of length (big-endian) and a list, repeated
 *
 * FUZZ_CRL_SEEDS=dir in the environment writes seeds there and exits.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "pki/svid.h"
#include "tests/unit/pki/zoo.h"

#define FLAG_TEXT 1
#define FLAG_ROOT 8
#define MAX_LISTS 8

static struct zoo_cert root, leaf;
static char *root_pem;
static uint8_t *leaf_der;
static size_t leaf_len;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static FILE *
seed(const char *dir, const char *name, int flags)
{
	char *path = mem_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "wb");

	assert(f);
	fputc(flags, f);
	mem_free(path);
	return f;
}

static void
write_seeds(const char *dir)
{
	static const struct {
		const char *name;
		int flags;
		struct zoo_crl z;
	} lists[] = {
		{ "good", 0, { .number = 1, .revoked = { 1, 2 }, .reason = 1 } },
		{ "empty", FLAG_ROOT, { .number = 300 } },
		{ "no-number", 2, { .revoked = { 7 }, .no_key_id = true } },
		{ "delta", 0, { .number = 1, .nid = NID_delta_crl, .critical = true } },
		{ "idp", 0, { .number = 1, .nid = NID_issuing_distribution_point, .critical = true } },
		{ "indirect", 0, { .number = 1, .revoked = { 1 }, .entry_nid = NID_certificate_issuer, .critical = true } },
		{ "no-next", 4, { .number = 1, .until = -1 } },
	};
	const struct zoo_crl plain = { .number = 2, .revoked = { 1 } };
	X509_CRL *crl = zoo_crl(&plain, &root);
	char *pem = zoo_crl_pem(&crl, 1, &root.x, 1);
	FILE *f;

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		X509_CRL *c = zoo_crl(&lists[i].z, &root);
		unsigned char *p = NULL;
		int len = i2d_re_X509_CRL_tbs(c, &p);

		assert(len > 0);
		f = seed(dir, lists[i].name, lists[i].flags);
		fputc(1, f);
		fputc(len >> 8, f);
		fputc(len & 255, f);
		fwrite(p, 1, (size_t)len, f);
		fclose(f);
		OPENSSL_free(p);
		X509_CRL_free(c);
	}
	f = seed(dir, "file", FLAG_TEXT);
	fputs(pem, f);
	fclose(f);
	mem_free(pem);
	X509_CRL_free(crl);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct zoo root_z = { .cn = "hud root", .ca = true, .key = ZOO_FIXED };
	const struct zoo leaf_z = { .cn = "a", .key = ZOO_FIXED, .san = { { GEN_URI, "spiffe://hud.example/a", 0 } } };
	const char *dir = getenv("FUZZ_CRL_SEEDS");
	unsigned char *p = NULL;

	(void)argc;
	(void)argv;
	root = zoo_make(&root_z, NULL);
	leaf = zoo_make(&leaf_z, &root);
	root_pem = zoo_pem(&root.x, 1);
	leaf_len = (size_t)i2d_X509(leaf.x, &p);
	leaf_der = p;
	if (dir) {
		write_seeds(dir);
		exit(0);
	}
	return 0;
}

/* SEQUENCE { tbs, ed25519, signature by the root's key }. */
static uint8_t *
sign_tbs(const uint8_t *tbs, size_t n, size_t *out_len)
{
	static const uint8_t alg[] = { 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70 }, bits[] = { 0x03, 0x41, 0x00 };
	size_t body = n + sizeof(alg) + sizeof(bits) + 64, sig_len = 64, at = 0;
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
	memcpy(p + at, tbs, n);
	at += n;
	memcpy(p + at, alg, sizeof(alg));
	at += sizeof(alg);
	memcpy(p + at, bits, sizeof(bits));
	at += sizeof(bits);
	assert(EVP_DigestSignInit(ctx, NULL, NULL, NULL, root.key) == 1 && EVP_DigestSign(ctx, p + at, &sig_len, tbs, n) == 1);
	EVP_MD_CTX_free(ctx);
	*out_len = at + 64;
	return p;
}

static void
pem_block(struct buf *out, const uint8_t *der, size_t n)
{
	char *b64 = mem_alloc(n / 3 * 4 + 8);

	EVP_EncodeBlock((unsigned char *)b64, der, (int)n);
	buf_puts(out, "-----BEGIN X509 CRL-----\n");
	for (size_t i = 0, len = strlen(b64); i < len; i += 64)
		buf_printf(out, "%.64s\n", b64 + i);
	buf_puts(out, "-----END X509 CRL-----\n");
	mem_free(b64);
}

static void
on_crl(void *ctx, const struct svid_crl *c)
{
	size_t *n = ctx;

	++*n;
	assert(c->next_update >= c->this_update);
	assert(strlen(c->number) <= 40);
}

/* What was taken is written, read again by another bundle, and means the same. */
static void
check_again(struct svid_bundle *b, int64_t now)
{
	const char *why;
	struct svid_bundle *other = svid_bundle_new("hud.example", root_pem, &why);
	struct svid_der chain = { leaf_der, leaf_len };
	uint8_t d1[32], d2[32];
	size_t len, n = 0, m = 0;
	char *pem = svid_bundle_crls_pem(b, &len);

	assert(pem && len == strlen(pem) && len <= SVID_CRL_MAX);
	assert(svid_crl_pem_each(pem, len, on_crl, &n, &why) >= 1);
	svid_bundle_crl_each(b, on_crl, &m);
	assert(n == m && m == 1); /* one issuer */
	assert(svid_bundle_add_crls(other, pem, len, now, &why) == 1);
	assert(svid_bundle_crls_digest(b, d1) && svid_bundle_crls_digest(other, d2) && memcmp(d1, d2, 32) == 0);
	assert(svid_bundle_add_crls(b, pem, len, now, &why) == 0);
	svid_bundle_set_revocation(other, SVID_REV_REQUIRED);
	svid_bundle_set_revocation(b, SVID_REV_REQUIRED);
	assert(svid_recheck_der(&chain, 1, b, zoo_now) == svid_recheck_der(&chain, 1, other, zoo_now));
	assert(svid_bundle_crl_until(b) == svid_bundle_crl_until(other));
	svid_bundle_unref(other);
	mem_free(pem);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t times[4] = { 0, -7200, 2000000000, 1 };
	struct buf file = { 0 };
	struct svid_bundle *b;
	const char *why = NULL;
	size_t n = 0;
	uint8_t flags;
	int64_t now;
	int rc;

	if (size < 1 || size > 60000)
		return 0;
	flags = data[0];
	now = zoo_now + times[flags >> 1 & 3];
	data++;
	size--;
	if (flags & FLAG_TEXT)
		buf_append(&file, data, size);
	for (size_t i = 0; !(flags & FLAG_TEXT) && size >= 3 && i < MAX_LISTS; i++) {
		size_t len = (size_t)data[1] << 8 | data[2], made_len;
		bool sign = data[0] & 1;
		uint8_t *made;

		data += 3;
		size -= 3;
		len = len > size ? size : len;
		made = sign ? sign_tbs(data, len, &made_len) : NULL;
		pem_block(&file, sign ? made : data, sign ? made_len : len);
		mem_free(made);
		data += len;
		size -= len;
	}
	if (flags & FLAG_ROOT)
		buf_puts(&file, root_pem);
	b = svid_bundle_new("hud.example", root_pem, &why);
	assert(b);
	rc = svid_bundle_add_crls(b, buf_cstr(&file), file.len, now, &why);
	assert((rc < 0) == (why != NULL));
	if (rc == 1)
		check_again(b, now);
	svid_crl_pem_each(buf_cstr(&file), file.len, on_crl, &n, &why);
	assert(ERR_peek_error() == 0);
	svid_bundle_unref(b);
	buf_fini(&file);
	return 0;
}
