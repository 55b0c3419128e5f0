/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two operations for three kinds of keys. Key management knows a key's public part, by import, and perhaps its number in
 * the keys role; it exports the public part of public keys only, so that OpenSSL never mistakes a handle for something that
 * another provider could sign with. The signature is one-shot (digest_sign), all that TLS 1.3 needs, and made elsewhere.
 */
#include "gateway/keys/provider.h"

#include <string.h>
#include <strings.h>

#include <openssl/bn.h>
#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

#include "gateway/base/mem.h"
#include "gateway/keys/client.h"
#include "gateway/keys/ident.h"

#define NAME "sallyport-keys"
#define PARAM_NUMBER "sallyport-number"
#define PARAM_ID "sallyport-id"

enum family { FAMILY_EC, FAMILY_ED25519, FAMILY_RSA };

struct key {
	enum family family;
	char group[32];          /* EC */
	uint8_t *pub;            /* EC point as it was given, Ed25519 key */
	size_t pub_len;
	BIGNUM *n, *e;           /* RSA */
	int bits, security_bits, max_size;
	uint16_t ecdsa;          /* the one scheme of an EC group */
	bool is_handle;          /* it has a number: it can sign */
	uint16_t number;
	uint8_t id[KEYS_ID_LEN];
};

/* ---- key management ------------------------------------------------------------------------------ */

static struct key *
key_new(enum family f)
{
	struct key *k = mem_zalloc(sizeof(*k));

	k->family = f;
	return k;
}

static void *
ec_new(void *provctx)
{
	(void)provctx;
	return key_new(FAMILY_EC);
}

static void *
ed25519_new(void *provctx)
{
	(void)provctx;
	return key_new(FAMILY_ED25519);
}

static void *
rsa_new(void *provctx)
{
	(void)provctx;
	return key_new(FAMILY_RSA);
}

static void
key_free(void *vkey)
{
	struct key *k = vkey;

	if (!k)
		return;
	mem_free(k->pub);
	BN_free(k->n);
	BN_free(k->e);
	mem_free(k);
}

static bool
has_public(const struct key *k)
{
	return k->family == FAMILY_RSA ? k->n && k->e : k->pub != NULL;
}

static int
key_has(const void *vkey, int selection)
{
	const struct key *k = vkey;

	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && !k->is_handle)
		return 0;
	if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) && !has_public(k))
		return 0;
	if ((selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) && k->family == FAMILY_EC && !k->group[0])
		return 0;
	return 1;
}

static int
key_match(const void *va, const void *vb, int selection)
{
	const struct key *a = va, *b = vb;

	if (a->family != b->family)
		return 0;
	if ((selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) && strcmp(a->group, b->group))
		return 0;
	if (!(selection & OSSL_KEYMGMT_SELECT_KEYPAIR))
		return 1;
	if (!has_public(a) || !has_public(b))
		return 0;
	if (a->family == FAMILY_RSA)
		return !BN_cmp(a->n, b->n) && !BN_cmp(a->e, b->e);
	return a->pub_len == b->pub_len && !memcmp(a->pub, b->pub, a->pub_len);
}

static const struct {
	const char *name, *alias;
	int bits, security_bits, max_size; /* of a DER ECDSA-Sig-Value */
	uint16_t scheme;
} groups[] = {
	{ "prime256v1", "P-256", 256, 128, 72, KEYS_ECDSA_P256_SHA256 },
	{ "secp384r1", "P-384", 384, 192, 104, KEYS_ECDSA_P384_SHA384 },
	{ "secp521r1", "P-521", 521, 256, 139, KEYS_ECDSA_P521_SHA512 },
};

static int
import_group(struct key *k, const OSSL_PARAM params[])
{
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME);
	const char *name;

	if (!p || !OSSL_PARAM_get_utf8_string_ptr(p, &name))
		return 0;
	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
		if (strcasecmp(name, groups[i].name) && strcasecmp(name, groups[i].alias))
			continue;
		strcpy(k->group, groups[i].name);
		k->bits = groups[i].bits;
		k->security_bits = groups[i].security_bits;
		k->max_size = groups[i].max_size;
		k->ecdsa = groups[i].scheme;
		return 1;
	}
	return 0;
}

static int
import_rsa(struct key *k, const OSSL_PARAM params[])
{
	const OSSL_PARAM *n = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_N);
	const OSSL_PARAM *e = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_E);

	if (!n || !e || !OSSL_PARAM_get_BN(n, &k->n) || !OSSL_PARAM_get_BN(e, &k->e))
		return 0;
	k->bits = BN_num_bits(k->n);
	k->security_bits = BN_security_bits(k->bits, -1);
	k->max_size = BN_num_bytes(k->n);
	return k->max_size <= KEYS_SIG_MAX;
}

static int
import_pub(struct key *k, const OSSL_PARAM params[])
{
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
	const void *data;
	size_t len;

	if (!p || !OSSL_PARAM_get_octet_string_ptr(p, &data, &len) || len == 0 || len > 256)
		return 0;
	mem_free(k->pub);
	k->pub = mem_alloc(len);
	memcpy(k->pub, data, len);
	k->pub_len = len;
	return 1;
}

static int
key_import(void *vkey, int selection, const OSSL_PARAM params[])
{
	struct key *k = vkey;
	const OSSL_PARAM *number, *id;
	size_t id_len;
	void *idp = k->id;
	unsigned v;

	if (k->family == FAMILY_EC && !import_group(k, params))
		return 0;
	if (k->family == FAMILY_ED25519)
		k->bits = 256, k->security_bits = 128, k->max_size = 64;
	if (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) {
		if (!(k->family == FAMILY_RSA ? import_rsa(k, params) : import_pub(k, params)))
			return 0;
	}
	number = OSSL_PARAM_locate_const(params, PARAM_NUMBER);
	id = OSSL_PARAM_locate_const(params, PARAM_ID);
	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && number && id) {
		if (!OSSL_PARAM_get_uint(number, &v) || v > UINT16_MAX ||
		    !OSSL_PARAM_get_octet_string(id, &idp, sizeof(k->id), &id_len) || id_len != sizeof(k->id))
			return 0;
		k->number = (uint16_t)v;
		k->is_handle = true;
	}
	return 1;
}

static int
push_public(const struct key *k, OSSL_PARAM_BLD *b)
{
	if (k->family == FAMILY_RSA)
		return OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, k->n) && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, k->e);
	return OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, k->pub, k->pub_len);
}

static int
key_export(void *vkey, int selection, OSSL_CALLBACK *cb, void *arg)
{
	const struct key *k = vkey;
	OSSL_PARAM_BLD *b;
	OSSL_PARAM *params = NULL;
	int ok = 0;

	/* Otherwise OpenSSL would take the copy in the default provider for the whole key, and fail to sign with it. */
	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && k->is_handle)
		return 0;
	b = OSSL_PARAM_BLD_new();
	if (!b)
		return 0;
	if (k->family == FAMILY_EC && !OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, k->group, 0))
		goto out;
	if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) && (!has_public(k) || !push_public(k, b)))
		goto out;
	params = OSSL_PARAM_BLD_to_param(b);
	ok = params && cb(params, arg);
out:
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(b);
	return ok;
}

static const OSSL_PARAM ec_types[] = {
	OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
	OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
	OSSL_PARAM_uint(PARAM_NUMBER, NULL),
	OSSL_PARAM_octet_string(PARAM_ID, NULL, 0),
	OSSL_PARAM_END,
};
static const OSSL_PARAM rsa_types[] = {
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
	OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
	OSSL_PARAM_uint(PARAM_NUMBER, NULL),
	OSSL_PARAM_octet_string(PARAM_ID, NULL, 0),
	OSSL_PARAM_END,
};

static const OSSL_PARAM *
point_io_types(int selection)
{
	return selection & OSSL_KEYMGMT_SELECT_KEYPAIR ? ec_types : NULL;
}

static const OSSL_PARAM *
rsa_io_types(int selection)
{
	return selection & OSSL_KEYMGMT_SELECT_KEYPAIR ? rsa_types : NULL;
}

static const OSSL_PARAM *
key_gettable(void *provctx)
{
	static const OSSL_PARAM list[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
		OSSL_PARAM_END,
	};

	(void)provctx;
	return list;
}

static int
set_int(OSSL_PARAM params[], const char *name, int v)
{
	OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

	return !p || OSSL_PARAM_set_int(p, v);
}

static int
set_text(OSSL_PARAM params[], const char *name, const char *v)
{
	OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

	return !p || OSSL_PARAM_set_utf8_string(p, v);
}

static int
key_get_params(void *vkey, OSSL_PARAM params[])
{
	const struct key *k = vkey;
	OSSL_PARAM *p;

	if (!set_int(params, OSSL_PKEY_PARAM_BITS, k->bits) || !set_int(params, OSSL_PKEY_PARAM_SECURITY_BITS, k->security_bits) ||
	    !set_int(params, OSSL_PKEY_PARAM_MAX_SIZE, k->max_size))
		return 0;
	if (k->family == FAMILY_EC && !set_text(params, OSSL_PKEY_PARAM_GROUP_NAME, k->group))
		return 0;
	/* Ed25519 hashes by itself: an empty name says that no digest may be given. */
	if (k->family == FAMILY_ED25519 ? !set_text(params, OSSL_PKEY_PARAM_MANDATORY_DIGEST, "") :
					  !set_text(params, OSSL_PKEY_PARAM_DEFAULT_DIGEST, "SHA256"))
		return 0;
	if (k->pub && (p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_PUB_KEY)) &&
	    !OSSL_PARAM_set_octet_string(p, k->pub, k->pub_len))
		return 0;
	return 1;
}

static const char *
ec_operation(int op)
{
	return op == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *
rsa_operation(int op)
{
	return op == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

static const char *
ed25519_operation(int op)
{
	return op == OSSL_OP_SIGNATURE ? "ED25519" : NULL;
}

/* OpenSSL's tables hold functions of every type as one. */
#define FN(f) ((void (*)(void))(f))
#define KEYMGMT(name, types)                                                                       \
	static const OSSL_DISPATCH name##_keymgmt[] = {                                            \
		{ OSSL_FUNC_KEYMGMT_NEW, FN(name##_new) },                                         \
		{ OSSL_FUNC_KEYMGMT_FREE, FN(key_free) },                                          \
		{ OSSL_FUNC_KEYMGMT_HAS, FN(key_has) },                                            \
		{ OSSL_FUNC_KEYMGMT_MATCH, FN(key_match) },                                        \
		{ OSSL_FUNC_KEYMGMT_IMPORT, FN(key_import) },                                      \
		{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, FN(types) },                                     \
		{ OSSL_FUNC_KEYMGMT_EXPORT, FN(key_export) },                                      \
		{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, FN(types) },                                     \
		{ OSSL_FUNC_KEYMGMT_GET_PARAMS, FN(key_get_params) },                              \
		{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, FN(key_gettable) },                           \
		{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, FN(name##_operation) },                  \
		{ 0, NULL },                                                                       \
	}
KEYMGMT(ec, point_io_types);
KEYMGMT(ed25519, point_io_types);
KEYMGMT(rsa, rsa_io_types);

/* ---- signature ----------------------------------------------------------------------------------- */

struct signature {
	const struct key *key;   /* held by the EVP_PKEY of the same operation */
	char digest[32];
	bool pss;                /* RSA: padding was set */
	bool salt;               /* and a salt as long as the digest */
};

static void *
sig_new(void *provctx, const char *propq)
{
	(void)provctx;
	(void)propq;
	return mem_zalloc(sizeof(struct signature));
}

static void
sig_free(void *vsig)
{
	mem_free(vsig);
}

static void *
sig_dup(void *vsig)
{
	struct signature *d = mem_alloc(sizeof(*d));

	memcpy(d, vsig, sizeof(*d));
	return d;
}

static int
sig_set_params(void *vsig, const OSSL_PARAM params[])
{
	struct signature *s = vsig;
	const OSSL_PARAM *p;
	int v;

	if (!params)
		return 1;
	if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE))) {
		if (p->data_type == OSSL_PARAM_UTF8_STRING)
			s->pss = p->data && !strcasecmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS);
		else
			s->pss = OSSL_PARAM_get_int(p, &v) && v == RSA_PKCS1_PSS_PADDING;
	}
	/* RFC 8446 4.2.3: the salt is as long as the digest. */
	if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN))) {
		if (p->data_type == OSSL_PARAM_UTF8_STRING)
			s->salt = p->data && !strcasecmp(p->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST);
		else
			s->salt = OSSL_PARAM_get_int(p, &v) && v == RSA_PSS_SALTLEN_DIGEST;
	}
	return 1;
}

static const OSSL_PARAM *
sig_settable(void *vsig, void *provctx)
{
	static const OSSL_PARAM list[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
		OSSL_PARAM_END,
	};

	(void)vsig;
	(void)provctx;
	return list;
}

static int
sig_init(void *vsig, const char *digest, void *vkey, const OSSL_PARAM params[])
{
	struct signature *s = vsig;

	if (vkey)
		s->key = vkey;
	if (!s->key || !s->key->is_handle)
		return 0;
	s->digest[0] = '\0';
	if (digest && strlen(digest) < sizeof(s->digest))
		strcpy(s->digest, digest);
	return sig_set_params(s, params);
}

/* The TLS signature scheme that these settings mean; 0 for none that we make. */
static uint16_t
scheme_of(const struct signature *s)
{
	static const struct {
		const char *name;
		uint16_t rsa, ecdsa;
	} digests[] = {
		{ "SHA256", KEYS_RSA_PSS_SHA256, KEYS_ECDSA_P256_SHA256 },
		{ "SHA2-256", KEYS_RSA_PSS_SHA256, KEYS_ECDSA_P256_SHA256 },
		{ "SHA384", KEYS_RSA_PSS_SHA384, KEYS_ECDSA_P384_SHA384 },
		{ "SHA2-384", KEYS_RSA_PSS_SHA384, KEYS_ECDSA_P384_SHA384 },
		{ "SHA512", KEYS_RSA_PSS_SHA512, KEYS_ECDSA_P521_SHA512 },
		{ "SHA2-512", KEYS_RSA_PSS_SHA512, KEYS_ECDSA_P521_SHA512 },
	};

	if (s->key->family == FAMILY_ED25519)
		return s->digest[0] ? 0 : KEYS_ED25519;
	for (size_t i = 0; i < sizeof(digests) / sizeof(*digests); i++) {
		if (strcasecmp(s->digest, digests[i].name))
			continue;
		if (s->key->family == FAMILY_RSA)
			return s->pss && s->salt ? digests[i].rsa : 0;
		return digests[i].ecdsa == s->key->ecdsa ? s->key->ecdsa : 0;
	}
	return 0;
}

static int
sig_sign(void *vsig, unsigned char *out, size_t *len, size_t size, const unsigned char *tbs, size_t tbs_len)
{
	struct signature *s = vsig;
	uint16_t scheme;

	if (!s->key)
		return 0;
	if (!out) {
		*len = (size_t)s->key->max_size;
		return 1;
	}
	scheme = scheme_of(s);
	if (!scheme)
		return 0;
	return keys_client_sign(s->key->number, s->key->id, scheme, tbs, tbs_len, out, size, len) == 0;
}

static const OSSL_DISPATCH signature_functions[] = {
	{ OSSL_FUNC_SIGNATURE_NEWCTX, FN(sig_new) },
	{ OSSL_FUNC_SIGNATURE_FREECTX, FN(sig_free) },
	{ OSSL_FUNC_SIGNATURE_DUPCTX, FN(sig_dup) },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, FN(sig_init) },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN, FN(sig_sign) },
	{ OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, FN(sig_set_params) },
	{ OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, FN(sig_settable) },
	{ 0, NULL },
};

/* ---- the provider ---------------------------------------------------------------------------------- */

#define PROPS "provider=" NAME
/* The names are OpenSSL's own, all of them, for libssl finds a key's kind by any. */
static const OSSL_ALGORITHM keymgmt_algorithms[] = {
	{ "EC:id-ecPublicKey:1.2.840.10045.2.1", PROPS, ec_keymgmt, "EC keys of the keys role" },
	{ "ED25519:1.3.101.112", PROPS, ed25519_keymgmt, "Ed25519 keys of the keys role" },
	{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPS, rsa_keymgmt, "RSA keys of the keys role" },
	{ NULL, NULL, NULL, NULL },
};
static const OSSL_ALGORITHM signature_algorithms[] = {
	{ "ECDSA", PROPS, signature_functions, "made by the keys role" },
	{ "ED25519:1.3.101.112", PROPS, signature_functions, "made by the keys role" },
	{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPS, signature_functions, "made by the keys role" },
	{ NULL, NULL, NULL, NULL },
};

static const OSSL_ALGORITHM *
query(void *provctx, int operation, int *no_cache)
{
	(void)provctx;
	*no_cache = 0;
	switch (operation) {
	case OSSL_OP_KEYMGMT:
		return keymgmt_algorithms;
	case OSSL_OP_SIGNATURE:
		return signature_algorithms;
	default:
		return NULL;
	}
}

static int
provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provctx)
{
	static const OSSL_DISPATCH functions[] = {
		{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(query) },
		{ 0, NULL },
	};

	(void)in;
	*provctx = (void *)(uintptr_t)handle;
	*out = functions;
	return 1;
}

static OSSL_PROVIDER *standard, *ours; /* for the life of the process */

static void
unload(void)
{
	OSSL_PROVIDER_unload(ours);
	OSSL_PROVIDER_unload(standard);
}

int
keys_provider_load(const char **why)
{

	/* The system's openssl.cnf neither weakens nor breaks us; the sandbox may have hidden it anyway. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	/* Loading any provider by hand ends the automatic loading of the default one. */
	standard = OSSL_PROVIDER_load(NULL, "default");
	if (!standard) {
		*why = "OpenSSL's default provider did not load";
		return -1;
	}
	if (OSSL_PROVIDER_add_builtin(NULL, NAME, provider_init))
		ours = OSSL_PROVIDER_load(NULL, NAME);
	if (!ours || !EVP_set_default_properties(NULL, "?provider!=" NAME)) {
		*why = "OpenSSL did not take the provider " NAME;
		return -1;
	}
	OPENSSL_atexit(unload);
	return 0;
}

struct evp_pkey_st *
keys_provider_key(const struct evp_pkey_st *public, uint16_t number, const char **why)
{
	static const char *const names[KEYS_TYPES] = { "EC", "EC", "EC", "ED25519", "RSA" };
	int type = keys_ident_type(public, why);
	OSSL_PARAM *known = NULL, *all = NULL, more[3];
	unsigned v = number;
	uint8_t id[KEYS_ID_LEN];
	EVP_PKEY_CTX *ctx = NULL;
	EVP_PKEY *key = NULL;

	if (type < 0)
		return NULL;
	*why = "OpenSSL did not take the certificate's public key";
	if (keys_ident_id(public, id) < 0 || !EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &known))
		goto out;
	more[0] = OSSL_PARAM_construct_uint(PARAM_NUMBER, &v);
	more[1] = OSSL_PARAM_construct_octet_string(PARAM_ID, id, sizeof(id));
	more[2] = OSSL_PARAM_construct_end();
	all = OSSL_PARAM_merge(known, more);
	ctx = EVP_PKEY_CTX_new_from_name(NULL, names[type], PROPS);
	if (!all || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, all) != 1)
		key = NULL;
out:
	OSSL_PARAM_free(known);
	OPENSSL_free(all);
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return key;
}
