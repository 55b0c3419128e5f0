/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains against svid_verify_der. The root's key is known (Ed25519, fixed), so that mutations get past the signature: with the right
 * flag the first certificate is a TBSCertificate that is signed here before it is verified.
 *
 *     octet 0      bits 0-1 purpose, bit 2: sign the first one, bit 3: the rest is text for the PEM functions, bits 4-5: what time it is
 *     then         2 octets of length (big-endian) and a certificate, repeated
 *
 * FUZZ_SVID_SEEDS=dir in the environment writes seeds there and exits.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/svid.h"
#include "tests/unit/pki/zoo.h"

#define FLAG_SIGN 4
#define FLAG_TEXT 8

static struct zoo_cert root, other;
static struct svid_bundle *bundles[2];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct svid_bundle *
bundle_of(const char *domain, X509 *x)
{
	char *pem = zoo_pem(&x, 1);
	const char *why;
	struct svid_bundle *b = svid_bundle_new(domain, pem, &why);

	assert(b);
	mem_free(pem);
	return b;
}

static void
write_seed(const char *dir, const char *name, uint8_t flags, X509 *const *chain, size_t n)
{
	char *path = mem_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "wb");

	assert(f);
	fputc(flags, f);
	for (size_t i = 0; i < n; i++) {
		unsigned char *p = NULL;
		int len = i == 0 && (flags & FLAG_SIGN) ? i2d_re_X509_tbs(chain[i], &p) : i2d_X509(chain[i], &p);

		assert(len > 0);
		fputc(len >> 8, f);
		fputc(len & 255, f);
		fwrite(p, 1, (size_t)len, f);
		OPENSSL_free(p);
	}
	fclose(f);
	mem_free(path);
}

static void
write_seeds(const char *dir)
{
	static const struct {
		const char *name;
		uint8_t flags;
		struct zoo z;
	} leaves[] = {
		{ "good", FLAG_SIGN, { .cn = "a", .key = ZOO_FIXED, .san = { { GEN_URI, "spiffe://hud.example/permit", 0 } } } },
		{ "gateway", FLAG_SIGN | 1, { .key = ZOO_FIXED, .san = { { GEN_URI, "spiffe://hud.example/gateway/dmz1", 0 }, { GEN_DNS, "*.hud.svc", 0 } } } },
		{ "two-uris", FLAG_SIGN | 2, { .cn = "a", .key = ZOO_FIXED, .san = { { GEN_URI, "spiffe://hud.example/a", 0 }, { GEN_URI, "spiffe://hud.example/b", 0 } } } },
		{ "port", FLAG_SIGN, { .cn = "a", .key = ZOO_FIXED, .san = { { GEN_URI, "spiffe://hud.example:99/a", 0 } } } },
		{ "other-domain", FLAG_SIGN, { .cn = "a", .key = ZOO_FIXED, .san = { { GEN_URI, "spiffe://irs.example/a", 0 } } } },
		{ "constrained", FLAG_SIGN, { .cn = "a", .key = ZOO_FIXED, .ca = true, .nc = "critical,permitted;URI:.hud.example,excluded;URI:x.example", .san = { { GEN_URI, "spiffe://hud.example", 0 } } } },
		{ "unsigned", 0, { .cn = "a", .key = ZOO_FIXED, .eku = "clientAuth", .san = { { GEN_URI, "spiffe://hud.example/a", 0 } } } },
	};
	char *pem, *path;
	FILE *f;

	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		struct zoo_cert c = zoo_make(&leaves[i].z, &root);
		X509 *chain[2] = { c.x, root.x };

		write_seed(dir, leaves[i].name, leaves[i].flags, chain, 2);
		zoo_free(&c);
	}
	path = mem_printf("%s/bundle", dir);
	pem = zoo_pem(&root.x, 1);
	f = fopen(path, "wb");
	assert(f);
	fputc(FLAG_TEXT, f);
	fputs(pem, f);
	fclose(f);
	mem_free(pem);
	mem_free(path);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct zoo root_z = { .cn = "hud root", .ca = true, .key = ZOO_FIXED };
	const char *dir = getenv("FUZZ_SVID_SEEDS");

	(void)argc;
	(void)argv;
	root = zoo_make(&root_z, NULL);
	other = zoo_ca("irs.example", NULL);
	bundles[0] = bundle_of("hud.example", root.x);
	bundles[1] = bundle_of("irs.example", other.x);
	if (dir) {
		write_seeds(dir);
		exit(0);
	}
	return 0;
}

static void
on_cert(void *ctx, const struct svid_cert *c)
{
	(void)ctx;
	assert(strlen(c->id) <= SPIFFE_ID_MAX);
	assert((unsigned)c->reason < SVID_REASONS);
}

static void
fuzz_text(const uint8_t *data, size_t size)
{
	char *pem = mem_strndup((const char *)data, size), *id = mem_alloc(SPIFFE_ID_MAX + 1), names[256];
	const char *why = NULL;
	struct svid_bundle *b = svid_bundle_new("hud.example", pem, &why);

	assert((b == NULL) == (why != NULL));
	svid_bundle_unref(b);
	if (svid_id_of_pem(pem, id, &why) == 0) {
		struct spiffe_id parsed;

		assert(spiffe_parse(&parsed, id, strlen(id), &why) == 0 && parsed.path_len > 0);
	}
	svid_dns_names_of_pem(pem, names, sizeof(names));
	svid_pem_each(pem, on_cert, NULL, &why);
	assert(ERR_peek_error() == 0);
	mem_free(id);
	mem_free(pem);
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t times[4] = { 0, 1, 2000000000, -1 };
	struct svid_der chain[SVID_MAX_CHAIN + 2];
	struct svid_info *info;
	const char *detail;
	enum svid_reason r;
	enum svid_purpose purpose;
	uint8_t flags, *made = NULL;
	int64_t now;
	size_t n = 0;

	if (size < 1 || size > 60000)
		return 0;
	flags = data[0];
	data++;
	size--;
	if (flags & FLAG_TEXT) {
		fuzz_text(data, size);
		return 0;
	}
	purpose = (flags & 3) > SVID_ANY ? SVID_ANY : (flags & 3);
	now = zoo_now + times[flags >> 4 & 3];
	while (size >= 2 && n < SVID_MAX_CHAIN + 2) {
		size_t len = (size_t)data[0] << 8 | data[1];

		data += 2;
		size -= 2;
		len = len > size ? size : len;
		chain[n].p = data;
		chain[n++].len = len;
		data += len;
		size -= len;
	}
	if (n > 0 && (flags & FLAG_SIGN)) {
		made = sign_tbs(chain[0].p, chain[0].len, &chain[0].len);
		chain[0].p = made;
	}
	info = mem_zalloc(sizeof(*info));
	r = svid_verify_der(chain, n, bundles, 2, purpose, now, info, &detail);
	assert((r == SVID_OK) == (detail == NULL));
	svid_recheck_der(chain, n, bundles[0], now);
	if (r == SVID_OK) {
		struct spiffe_id id;
		const char *why;

		/* Whatever verifies is a workload or gateway of the domain whose key signed it, now. */
		assert(spiffe_parse(&id, info->id, strlen(info->id), &why) == 0 && id.path_len > 0);
		assert(strcmp(info->domain, "hud.example") == 0 && id.domain_len == 11 && memcmp(id.domain, "hud.example", 11) == 0);
		assert(info->not_before <= now && now <= info->not_after);
		assert(svid_recheck_der(chain, n, bundles[0], now) == SVID_OK);
	}
	assert(ERR_peek_error() == 0);
	mem_free(info);
	mem_free(made);
	return 0;
}
