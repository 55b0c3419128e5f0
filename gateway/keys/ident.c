/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/keys/ident.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "gateway/base/mem.h"

static const char *const type_text[KEYS_TYPES] = { "EC P-256", "EC P-384", "EC P-521", "Ed25519", "RSA" };

const char *
keys_ident_text(enum keys_type t)
{
	return type_text[t];
}

int
keys_ident_type(const struct evp_pkey_st *k, const char **why)
{
	char group[32];
	size_t n;

	if (EVP_PKEY_is_a(k, "ED25519"))
		return KEYS_ED25519_KEY;
	if (EVP_PKEY_is_a(k, "RSA")) {
		if (EVP_PKEY_get_bits(k) >= 2048 && EVP_PKEY_get_bits(k) <= KEYS_SIG_MAX * 8)
			return KEYS_RSA;
		*why = "RSA keys need 2048 to 8192 bits";
		return -1;
	}
	if (EVP_PKEY_is_a(k, "EC") && EVP_PKEY_get_group_name(k, group, sizeof(group), &n)) {
		if (!strcmp(group, "prime256v1") || !strcmp(group, "P-256"))
			return KEYS_P256;
		if (!strcmp(group, "secp384r1") || !strcmp(group, "P-384"))
			return KEYS_P384;
		if (!strcmp(group, "secp521r1") || !strcmp(group, "P-521"))
			return KEYS_P521;
	}
	*why = "unsupported kind of key: use EC P-256, P-384 or P-521, Ed25519, or RSA";
	return -1;
}

static int
add_bn(EVP_MD_CTX *md, const EVP_PKEY *k, const char *name)
{
	BIGNUM *bn = NULL;
	uint8_t *raw;
	int n, ok;

	if (!EVP_PKEY_get_bn_param(k, name, &bn))
		return -1;
	n = BN_num_bytes(bn);
	raw = mem_alloc((size_t)n + 4);
	raw[0] = (uint8_t)(n >> 24), raw[1] = (uint8_t)(n >> 16), raw[2] = (uint8_t)(n >> 8), raw[3] = (uint8_t)n;
	BN_bn2bin(bn, raw + 4);
	ok = EVP_DigestUpdate(md, raw, (size_t)n + 4);
	mem_free(raw);
	BN_free(bn);
	return ok ? 0 : -1;
}

int
keys_ident_id(const struct evp_pkey_st *k, uint8_t out[KEYS_ID_LEN])
{
	const char *why;
	int type = keys_ident_type(k, &why), rc = -1;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t tag = (uint8_t)type, raw[32], digest[EVP_MAX_MD_SIZE];
	size_t n = sizeof(raw);

	if (type < 0 || !md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL) || !EVP_DigestUpdate(md, &tag, 1))
		goto out;
	switch (type) {
	case KEYS_ED25519_KEY:
		if (!EVP_PKEY_get_octet_string_param(k, OSSL_PKEY_PARAM_PUB_KEY, raw, sizeof(raw), &n) ||
		    !EVP_DigestUpdate(md, raw, n))
			goto out;
		break;
	case KEYS_RSA:
		if (add_bn(md, k, OSSL_PKEY_PARAM_RSA_N) < 0 || add_bn(md, k, OSSL_PKEY_PARAM_RSA_E) < 0)
			goto out;
		break;
	default:
		if (add_bn(md, k, OSSL_PKEY_PARAM_EC_PUB_X) < 0 || add_bn(md, k, OSSL_PKEY_PARAM_EC_PUB_Y) < 0)
			goto out;
	}
	if (!EVP_DigestFinal_ex(md, digest, NULL))
		goto out;
	memcpy(out, digest, KEYS_ID_LEN);
	rc = 0;
out:
	EVP_MD_CTX_free(md);
	return rc;
}

static const struct {
	uint16_t scheme;
	enum keys_type type;
	const char *digest;
} schemes[] = {
	{ KEYS_ECDSA_P256_SHA256, KEYS_P256, "SHA256" },
	{ KEYS_ECDSA_P384_SHA384, KEYS_P384, "SHA384" },
	{ KEYS_ECDSA_P521_SHA512, KEYS_P521, "SHA512" },
	{ KEYS_RSA_PSS_SHA256, KEYS_RSA, "SHA256" },
	{ KEYS_RSA_PSS_SHA384, KEYS_RSA, "SHA384" },
	{ KEYS_RSA_PSS_SHA512, KEYS_RSA, "SHA512" },
	{ KEYS_ED25519, KEYS_ED25519_KEY, NULL },
};

bool
keys_ident_fits(enum keys_type t, uint16_t scheme)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (schemes[i].scheme == scheme)
			return schemes[i].type == t;
	return false;
}

const char *
keys_ident_digest(uint16_t scheme)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (schemes[i].scheme == scheme)
			return schemes[i].digest;
	return NULL;
}
