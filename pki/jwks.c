/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/jwks.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/core_names.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"

static json_t *
base64(const uint8_t *p, size_t n)
{
	char *text = mem_alloc(esc_base64_size(n) + 1);
	size_t len = esc_base64(text, p, n);
	json_t *j = json_stringn(text, len);

	mem_free(text);
	return j;
}

/* RFC 7515 2: the URL's alphabet, without padding. */
static json_t *
base64url(const uint8_t *p, size_t n)
{
	char *text = mem_alloc(esc_base64_size(n) + 1);
	size_t len = esc_base64(text, p, n);
	json_t *j;

	while (len > 0 && text[len - 1] == '=')
		len--;
	for (size_t i = 0; i < len; i++)
		text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
	j = json_stringn(text, len);
	mem_free(text);
	return j;
}

/* width 0: as short as it is (RFC 7518 6.3.1), else that many octets (6.2.1). */
static json_t *
number(EVP_PKEY *key, const char *name, int width)
{
	BIGNUM *v = NULL;
	json_t *j = NULL;

	if (EVP_PKEY_get_bn_param(key, name, &v) == 1) {
		int n = width ? width : BN_num_bytes(v);
		uint8_t *p = mem_alloc((size_t)n);

		if (BN_bn2binpad(v, p, n) == n)
			j = base64url(p, (size_t)n);
		mem_free(p);
	}
	BN_free(v);
	return j;
}

static int
add_ec(json_t *k, EVP_PKEY *key)
{
	static const struct {
		const char *group, *crv;
		int width;
	} curves[] = { { "prime256v1", "P-256", 32 }, { "secp384r1", "P-384", 48 }, { "secp521r1", "P-521", 66 } };
	char group[64];
	size_t n;

	if (EVP_PKEY_get_group_name(key, group, sizeof(group), &n) != 1)
		return -1;
	for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
		if (strcmp(group, curves[i].group) != 0)
			continue;
		json_object_set_new(k, "kty", json_string("EC"));
		json_object_set_new(k, "crv", json_string(curves[i].crv));
		return json_object_set_new(k, "x", number(key, OSSL_PKEY_PARAM_EC_PUB_X, curves[i].width)) |
		    json_object_set_new(k, "y", number(key, OSSL_PKEY_PARAM_EC_PUB_Y, curves[i].width));
	}
	return -1;
}

static int
add_key(json_t *k, EVP_PKEY *key)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);

	switch (EVP_PKEY_get_base_id(key)) {
	case EVP_PKEY_EC:
		return add_ec(k, key);
	case EVP_PKEY_ED25519:
		if (EVP_PKEY_get_raw_public_key(key, raw, &n) != 1)
			return -1;
		json_object_set_new(k, "kty", json_string("OKP"));
		json_object_set_new(k, "crv", json_string("Ed25519"));
		return json_object_set_new(k, "x", base64url(raw, n));
	case EVP_PKEY_RSA:
		json_object_set_new(k, "kty", json_string("RSA"));
		return json_object_set_new(k, "n", number(key, OSSL_PKEY_PARAM_RSA_N, 0)) | json_object_set_new(k, "e", number(key, OSSL_PKEY_PARAM_RSA_E, 0));
	default:
		return -1;
	}
}

char *
jwks_of(X509 *const *cas, size_t n, unsigned sequence, int64_t refresh_hint_s)
{
	json_t *keys = json_array(), *set;
	char *text = NULL, *out;
	size_t i;

	for (i = 0; i < n; i++) {
		json_t *k = json_object();
		unsigned char *der = NULL;
		int len = i2d_X509(cas[i], &der);

		json_array_append_new(keys, k);
		json_object_set_new(k, "use", json_string("x509-svid"));
		if (len > 0 && add_key(k, X509_get0_pubkey(cas[i])) == 0)
			json_object_set_new(k, "x5c", json_pack("[o]", base64(der, (size_t)len)));
		OPENSSL_free(der);
		if (json_object_get(k, "x5c") == NULL)
			break;
	}
	set = json_pack("{s:o, s:i, s:I}", "keys", keys, "spiffe_sequence", (int)sequence, "spiffe_refresh_hint", (json_int_t)refresh_hint_s);
	if (i == n)
		text = json_dumps(set, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	json_decref(set);
	if (text == NULL)
		return NULL;
	out = mem_printf("%s\n", text);
	free(text);
	return out;
}
