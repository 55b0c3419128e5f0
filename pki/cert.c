/* SPDX-License-Identifier: Apache-2.0 */
/* Names are put together field by field, never through OpenSSL's configuration syntax: no value can add another. */
#include "pki/cert.h"

#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/hash.h"
#include "gateway/base/mem.h"

void
cert_serial(uint8_t out[20])
{
	hash_random(out, 20);
	out[0] &= 0x7f;
	if (out[0] == 0)
		out[0] = 1;
}

static bool
set_name(X509_NAME *name, const char *field, const char *value)
{
	size_t n = strlen(value);

	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)value, n > 64 ? 64 : (int)n, -1, 0) == 1;
}

static GENERAL_NAME *
name_of(int type, const char *text)
{
	GENERAL_NAME *g = GENERAL_NAME_new();
	ASN1_IA5STRING *s = ASN1_IA5STRING_new();

	if (g == NULL || s == NULL || ASN1_STRING_set(s, text, (int)strlen(text)) != 1) {
		GENERAL_NAME_free(g);
		ASN1_IA5STRING_free(s);
		return NULL;
	}
	GENERAL_NAME_set0_value(g, type, s);
	return g;
}

static bool
push_name(GENERAL_NAMES *names, int type, const char *text)
{
	GENERAL_NAME *g = name_of(type, text);

	if (g && sk_GENERAL_NAME_push(names, g) > 0)
		return true;
	GENERAL_NAME_free(g);
	return false;
}

static bool
add_san(X509 *x, const struct cert_spec *s)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	bool ok = names && push_name(names, GEN_URI, s->id);

	for (size_t i = 0; ok && i < s->ndns; i++)
		ok = push_name(names, GEN_DNS, s->dns[i]);
	ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
	GENERAL_NAMES_free(names);
	return ok;
}

/* RFC 5280 4.2.1.10: permitted URIs have this very host. */
static bool
add_constraint(X509 *x, const char *host)
{
	NAME_CONSTRAINTS *nc = NAME_CONSTRAINTS_new();
	GENERAL_SUBTREE *tree = GENERAL_SUBTREE_new();
	bool ok = false;

	if (nc == NULL || tree == NULL)
		goto out;
	GENERAL_NAME_free(tree->base);
	tree->base = name_of(GEN_URI, host);
	nc->permittedSubtrees = sk_GENERAL_SUBTREE_new_null();
	if (tree->base == NULL || nc->permittedSubtrees == NULL || sk_GENERAL_SUBTREE_push(nc->permittedSubtrees, tree) == 0)
		goto out;
	tree = NULL;
	ok = X509_add1_ext_i2d(x, NID_name_constraints, nc, 1, X509V3_ADD_DEFAULT) == 1;
out:
	GENERAL_SUBTREE_free(tree);
	NAME_CONSTRAINTS_free(nc);
	return ok;
}

static bool
add_conf(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *e;
	X509V3_CTX ctx;
	bool ok;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

static bool
add_extensions(X509 *x, X509 *issuer, const struct cert_spec *s)
{
	char *bc = !s->ca ? mem_strdup("critical,CA:FALSE") :
		   s->path_len < 0 ? mem_strdup("critical,CA:TRUE") : mem_printf("critical,CA:TRUE,pathlen:%d", s->path_len);
	bool ok = add_conf(x, issuer, NID_basic_constraints, bc);

	mem_free(bc);
	/* X509-SVID 4.3 and 4.4. */
	ok = ok && add_conf(x, issuer, NID_key_usage, s->ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
	if (!s->ca)
		ok = ok && add_conf(x, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
	ok = ok && add_san(x, s);
	if (s->constraint)
		ok = ok && add_constraint(x, s->constraint);
	ok = ok && add_conf(x, issuer, NID_subject_key_identifier, "hash");
	if (issuer != x)
		ok = ok && add_conf(x, issuer, NID_authority_key_identifier, "keyid:always");
	return ok;
}

static bool
set_serial(X509 *x, const uint8_t serial[20])
{
	BIGNUM *n = BN_bin2bn(serial, 20, NULL);
	bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;

	BN_free(n);
	return ok;
}

const EVP_MD *
cert_digest(EVP_PKEY *signer)
{
	if (EVP_PKEY_get_base_id(signer) == EVP_PKEY_ED25519)
		return NULL;
	return EVP_PKEY_get_security_bits(signer) >= 192 ? EVP_sha384() : EVP_sha256();
}

X509 *
cert_make(const struct cert_spec *s, EVP_PKEY *public_key, X509 *issuer, EVP_PKEY *signer)
{
	X509 *x = X509_new();
	X509_NAME *subject;

	if (x == NULL)
		return NULL;
	subject = X509_get_subject_name(x);
	if (X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x, s->serial) || !set_name(subject, "O", s->organization) ||
	    !set_name(subject, "CN", s->common_name) || X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject) != 1 ||
	    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)s->not_before) == NULL ||
	    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)s->not_after) == NULL || X509_set_pubkey(x, public_key) != 1 ||
	    !add_extensions(x, issuer ? issuer : x, s) || X509_sign(x, signer, cert_digest(signer)) <= 0) {
		X509_free(x);
		return NULL;
	}
	return x;
}

char *
cert_to_pem(X509 *x)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *p, *pem = NULL;
	long n;

	if (out && PEM_write_bio_X509(out, x) == 1) {
		n = BIO_get_mem_data(out, &p);
		pem = mem_strndup(p, (size_t)n);
	}
	BIO_free(out);
	return pem;
}
