/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pki/estbed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/ca.h"
#include "pki/token.h"

#define must(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "bed: %s:%d: %s\n", __FILE__, __LINE__, #x); \
			ERR_print_errors_fp(stderr); \
			abort(); \
		} \
	} while (0)

static char root_dir[] = "/tmp/sallyport-test-est-XXXXXX"; /* check: allow, mkdtemp(3) */
static char path[sizeof(root_dir) + 16];
static unsigned stores;

EVP_PKEY *
estbed_key(const char *kind)
{
	EVP_PKEY *k = !strcmp(kind, "RSA") ? EVP_RSA_gen(2048) : !strcmp(kind, "RSA1024") ? EVP_RSA_gen(1024) :
	    !strcmp(kind, "ED25519") ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen(kind);

	must(k);
	return k;
}

static const EVP_MD *
digest(EVP_PKEY *k)
{
	return EVP_PKEY_is_a(k, "ED25519") ? NULL : EVP_PKEY_get_bits(k) == 384 ? EVP_sha384() : EVP_sha256();
}

static char *
word(EVP_PKEY *old, const uint8_t *spki, size_t n)
{
	static const char context[] = "sallyport renewal 1";
	uint8_t *tbs = mem_alloc(sizeof(context) + n), sig[512];
	char *text = mem_zalloc(1024);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	size_t len = sizeof(sig);

	memcpy(tbs, context, sizeof(context));
	memcpy(tbs + sizeof(context), spki, n);
	must(EVP_DigestSignInit(md, NULL, digest(old), NULL, old) == 1 && EVP_DigestSign(md, sig, &len, tbs, sizeof(context) + n) == 1);
	esc_base64(text, sig, len);
	EVP_MD_CTX_free(md);
	mem_free(tbs);
	return text;
}

static char *
challenge_of(const struct estbed_csr *c)
{
	uint8_t *spki = NULL;
	int n = i2d_PUBKEY(c->instead ? c->instead : c->key, &spki);
	char *text = NULL;

	must(n > 0);
	if (c->challenge) {
		text = mem_strdup(c->challenge);
	} else if (c->token) {
		text = mem_alloc(TOKEN_PROOF_SIZE);
		token_proof(text, c->token, spki, (size_t)n);
	} else if (c->old) {
		text = word(c->old, spki, (size_t)n);
	}
	OPENSSL_free(spki);
	return text;
}

static void
add_name(GENERAL_NAMES *names, int type, const char *text)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	must(g && s && ASN1_STRING_set(s, text, -1));
	GENERAL_NAME_set0_value(g, type, s);
	must(sk_GENERAL_NAME_push(names, g));
}

struct estbed_der
estbed_csr(const struct estbed_csr *c)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	STACK_OF(X509_EXTENSION) *exts = NULL;
	X509_REQ *req = X509_REQ_new();
	char *challenge = challenge_of(c);
	struct estbed_der out;
	uint8_t *p = out.p;

	must(req && X509_REQ_set_version(req, 0) && X509_REQ_set_pubkey(req, c->key));
	if (c->uri)
		add_name(names, GEN_URI, c->uri);
	for (size_t i = 0; i < 4 && c->dns[i]; i++)
		add_name(names, GEN_DNS, c->dns[i]);
	if (sk_GENERAL_NAME_num(names) > 0)
		must(X509V3_add1_i2d(&exts, NID_subject_alt_name, names, 0, 0) == 1 && X509_REQ_add_extensions(req, exts));
	if (challenge)
		must(X509_REQ_add1_attr_by_NID(req, NID_pkcs9_challengePassword, MBSTRING_ASC, (const uint8_t *)challenge, -1));
	must(X509_REQ_sign(req, c->key, digest(c->key)) > 0);
	must(i2d_X509_REQ(req, NULL) < (int)sizeof(out.p));
	out.len = (size_t)i2d_X509_REQ(req, &p);
	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	X509_REQ_free(req);
	mem_free(challenge);
	return out;
}

int
estbed_has_key(const uint8_t *der, size_t len, EVP_PKEY *key)
{
	X509 *x = d2i_X509(NULL, &der, (long)len);
	int same = x && EVP_PKEY_eq(X509_get0_pubkey(x), key) == 1;

	X509_free(x);
	return same;
}

static void
print_errs(struct errs *e)
{
	for (size_t i = 0; i < e->n; i++)
		fprintf(stderr, "%s\n", e->items[i].text);
	errs_fini(e);
}

static const char *
store(const struct ca_keys *keys)
{
	struct errs errs;
	int rc;

	if (!stores)
		must(mkdtemp(root_dir));
	snprintf(path, sizeof(path), "%s/%u", root_dir, stores++);
	errs_init(&errs);
	rc = ca_init(path, "hud.example", PKEY_P256, keys, (int64_t)(clock_wall_us() / 1000000), &errs);
	print_errs(&errs);
	must(rc == 0);
	return path;
}

const char *
estbed_store(void)
{
	return store(NULL);
}

const char *
estbed_encrypted_store(const char *passphrase)
{
	const struct ca_keys keys = { .passphrase = passphrase };

	return store(&keys);
}

void
estbed_clean(void)
{
	char *cmd = mem_printf("rm -rf '%s'", root_dir);

	if (stores && system(cmd) != 0)
		abort();
	mem_free(cmd);
}

char *
estbed_token(const char *dir, const char *name, const char *dns, int64_t now, int64_t ttl_s)
{
	struct token_wish w = { .domain = "hud.example", .name = name, .dns = &dns, .ndns = dns != NULL, .now = now, .ttl_s = ttl_s };
	char *token = mem_alloc(TOKEN_SIZE), *id = NULL;
	struct store s;
	struct errs errs;

	errs_init(&errs);
	store_init(&s, dir);
	if (store_lock(&s, 10000, &errs) != 0 || token_make(&s, &w, token, &id, &errs) != 0) {
		mem_free(token);
		token = NULL;
	}
	store_fini(&s);
	errs_fini(&errs);
	mem_free(id);
	return token;
}
