/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pki/zoo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"

const int64_t zoo_now = 1800000000; /* 2027-01-15T08:00:00Z */

#define must(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "zoo: %s:%d: %s\n", __FILE__, __LINE__, #x); \
			ERR_print_errors_fp(stderr); \
			abort(); \
		} \
	} while (0)

static EVP_PKEY *
make_key(enum zoo_key kind)
{
	static const unsigned char fixed[32] = "a key that anyone may know: test";
	EVP_PKEY *k = NULL;

	switch (kind) {
	case ZOO_P256: k = EVP_EC_gen("P-256"); break;
	case ZOO_P384: k = EVP_EC_gen("P-384"); break;
	case ZOO_SECP256K1: k = EVP_EC_gen("secp256k1"); break;
	case ZOO_ED25519: k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); break;
	case ZOO_ED448: k = EVP_PKEY_Q_keygen(NULL, NULL, "ED448"); break;
	case ZOO_RSA2048: k = EVP_RSA_gen(2048); break;
	case ZOO_RSA1024: k = EVP_RSA_gen(1024); break;
	case ZOO_FIXED: k = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, fixed, sizeof(fixed)); break;
	}
	must(k);
	return k;
}

static void
add_conf(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *e;
	X509V3_CTX ctx;

	if (value == NULL || value[0] == 0)
		return;
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	must(e);
	must(X509_add_ext(x, e, -1));
	X509_EXTENSION_free(e);
}

static void
add_der(X509 *x, const ASN1_OBJECT *oid, const uint8_t *p, size_t n)
{
	ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
	X509_EXTENSION *e;

	must(ASN1_OCTET_STRING_set(s, p, (int)n));
	e = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, s);
	must(X509_add_ext(x, e, -1));
	X509_EXTENSION_free(e);
	ASN1_OCTET_STRING_free(s);
}

static void
add_san(X509 *x, const struct zoo *z)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();

	for (size_t i = 0; i < 4 && z->san[i].p; i++) {
		GENERAL_NAME *g = GENERAL_NAME_new();
		ASN1_IA5STRING *s = ASN1_IA5STRING_new();
		size_t len = z->san[i].len ? z->san[i].len : strlen(z->san[i].p);

		must(ASN1_STRING_set(s, z->san[i].p, (int)len));
		GENERAL_NAME_set0_value(g, z->san[i].type, s);
		must(sk_GENERAL_NAME_push(names, g));
	}
	if (sk_GENERAL_NAME_num(names) > 0)
		must(X509_add1_ext_i2d(x, NID_subject_alt_name, names, z->cn == NULL, X509V3_ADD_APPEND));
	GENERAL_NAMES_free(names);
}

static const char *
or_default(const char *s, const char *d)
{
	return s ? s : d;
}

static void
add_extensions(X509 *x, X509 *issuer, const struct zoo *z)
{
	add_conf(x, issuer, NID_basic_constraints, or_default(z->bc, z->ca ? "critical,CA:TRUE" : "critical,CA:FALSE"));
	add_conf(x, issuer, NID_key_usage, or_default(z->ku, z->ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature"));
	add_conf(x, issuer, NID_ext_key_usage, or_default(z->eku, z->ca ? "" : "serverAuth,clientAuth"));
	add_conf(x, issuer, NID_name_constraints, z->nc);
	add_conf(x, issuer, NID_subject_key_identifier, "hash");
	if (issuer != x)
		add_conf(x, issuer, NID_authority_key_identifier, "keyid:always");
	add_san(x, z);
	for (size_t i = 0; i < 2 && z->more[i].nid; i++) {
		if (z->more[i].value)
			add_conf(x, issuer, z->more[i].nid, z->more[i].value);
		else
			add_der(x, OBJ_nid2obj(z->more[i].nid), z->more[i].der, z->more[i].der_len);
	}
	if (z->padding) {
		ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.4.1.99999.1", 1);
		uint8_t *p = mem_zalloc(z->padding);

		add_der(x, oid, p, z->padding);
		mem_free(p);
		ASN1_OBJECT_free(oid);
	}
}

struct zoo_cert
zoo_make(const struct zoo *z, const struct zoo_cert *issuer)
{
	struct zoo_cert c = { X509_new(), make_key(z->key) };
	X509 *by = issuer ? issuer->x : c.x;
	EVP_PKEY *signer = issuer ? issuer->key : c.key;
	const EVP_MD *md = EVP_get_digestbyname(z->digest ? z->digest : "SHA256");
	int kind = EVP_PKEY_get_base_id(signer);
	int64_t from = z->from ? z->from : zoo_now - 3600;
	int64_t until = z->until ? z->until : zoo_now + (z->ca ? 10 * 365 * INT64_C(86400) : 86400);

	must(X509_set_version(c.x, X509_VERSION_3));
	must(ASN1_INTEGER_set(X509_get_serialNumber(c.x), z->serial ? z->serial : 1));
	if (z->cn)
		must(X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x), "CN", MBSTRING_ASC, (const unsigned char *)z->cn, -1, -1, 0));
	must(X509_set_issuer_name(c.x, X509_get_subject_name(by)));
	must(ASN1_TIME_set(X509_getm_notBefore(c.x), (time_t)from));
	must(ASN1_TIME_set(X509_getm_notAfter(c.x), (time_t)until));
	must(X509_set_pubkey(c.x, c.key));
	add_extensions(c.x, by, z);
	must(X509_sign(c.x, signer, kind == EVP_PKEY_ED25519 || kind == EVP_PKEY_ED448 ? NULL : md) > 0);
	return c;
}

void
zoo_free(struct zoo_cert *c)
{
	X509_free(c->x);
	EVP_PKEY_free(c->key);
	c->x = NULL;
	c->key = NULL;
}

struct zoo_cert
zoo_ca(const char *domain, const struct zoo_cert *issuer)
{
	char *cn = mem_printf("%s %s", domain, issuer ? "issuing CA" : "root CA");
	char *nc = mem_printf("critical,permitted;URI:%s", domain);
	char *id = mem_printf("spiffe://%s", domain);
	struct zoo z = { .ca = true, .cn = cn, .nc = nc, .san = { { GEN_URI, id, 0 } } };
	struct zoo_cert c = zoo_make(&z, issuer);

	mem_free(cn);
	mem_free(nc);
	mem_free(id);
	return c;
}

static X509_EXTENSION *
empty_ext(int nid, bool critical)
{
	static const uint8_t empty[] = { 0x30, 0 };
	ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
	X509_EXTENSION *e;

	must(ASN1_OCTET_STRING_set(s, empty, sizeof(empty)));
	e = X509_EXTENSION_create_by_NID(NULL, nid, critical, s);
	must(e);
	ASN1_OCTET_STRING_free(s);
	return e;
}

static void
crl_entry(X509_CRL *crl, const struct zoo_crl *z, unsigned serial, int nid)
{
	X509_REVOKED *r = X509_REVOKED_new();
	ASN1_INTEGER *n = ASN1_INTEGER_new();
	ASN1_TIME *t = ASN1_TIME_set(NULL, (time_t)(zoo_now - 7200));

	must(ASN1_INTEGER_set(n, serial) && X509_REVOKED_set_serialNumber(r, n) && X509_REVOKED_set_revocationDate(r, t));
	if (z->reason) {
		ASN1_ENUMERATED *why = ASN1_ENUMERATED_new();

		must(ASN1_ENUMERATED_set(why, z->reason) && X509_REVOKED_add1_ext_i2d(r, NID_crl_reason, why, 0, 0));
		ASN1_ENUMERATED_free(why);
	}
	if (nid) {
		X509_EXTENSION *e = empty_ext(nid, z->critical);

		must(X509_REVOKED_add_ext(r, e, -1));
		X509_EXTENSION_free(e);
	}
	must(X509_CRL_add0_revoked(crl, r));
	ASN1_INTEGER_free(n);
	ASN1_TIME_free(t);
}

static void
crl_extensions(X509_CRL *crl, const struct zoo_crl *z, const struct zoo_cert *issuer)
{
	const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(issuer->x);
	X509_EXTENSION *e;

	if (id && !z->no_key_id) {
		AUTHORITY_KEYID *a = AUTHORITY_KEYID_new();

		a->keyid = ASN1_OCTET_STRING_dup(id);
		must(X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, a, 0, 0));
		AUTHORITY_KEYID_free(a);
	}
	if (z->number) {
		ASN1_INTEGER *n = ASN1_INTEGER_new();

		must(ASN1_INTEGER_set(n, z->number) && X509_CRL_add1_ext_i2d(crl, NID_crl_number, n, 0, 0));
		ASN1_INTEGER_free(n);
	}
	if (z->nid) {
		e = empty_ext(z->nid, z->critical);
		must(X509_CRL_add_ext(crl, e, -1));
		X509_EXTENSION_free(e);
	}
}

X509_CRL *
zoo_crl(const struct zoo_crl *z, const struct zoo_cert *issuer)
{
	X509_CRL *crl = X509_CRL_new();
	const EVP_MD *md = EVP_get_digestbyname(z->digest ? z->digest : "SHA256");
	ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)(z->from ? z->from : zoo_now - 3600));
	ASN1_TIME *until = ASN1_TIME_set(NULL, (time_t)(z->until ? z->until : zoo_now + 86400));

	must(X509_CRL_set_version(crl, X509_CRL_VERSION_2) && X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x)));
	must(X509_CRL_set1_lastUpdate(crl, from));
	must(z->until < 0 || X509_CRL_set1_nextUpdate(crl, until));
	for (size_t i = 0; i < 8 && z->revoked[i]; i++)
		crl_entry(crl, z, z->revoked[i], i == 0 ? z->entry_nid : 0);
	for (unsigned i = 0; i < z->many; i++)
		crl_entry(crl, z, 1000000 + i, 0);
	crl_extensions(crl, z, issuer);
	must(X509_CRL_sign(crl, issuer->key, EVP_PKEY_get_base_id(issuer->key) == EVP_PKEY_ED25519 ? NULL : md) > 0);
	ASN1_TIME_free(from);
	ASN1_TIME_free(until);
	return crl;
}

char *
zoo_pem(X509 *const *certs, size_t n)
{
	return zoo_crl_pem(NULL, 0, certs, n);
}

char *
zoo_crl_pem(X509_CRL *const *crls, size_t n, X509 *const *certs, size_t ncerts)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *p, *copy;
	long len;

	for (size_t i = 0; i < n; i++)
		must(PEM_write_bio_X509_CRL(out, crls[i]));
	for (size_t i = 0; i < ncerts; i++)
		must(PEM_write_bio_X509(out, certs[i]));
	len = BIO_get_mem_data(out, &p);
	copy = len > 0 ? mem_strndup(p, (size_t)len) : mem_strdup("");
	BIO_free(out);
	return copy;
}
