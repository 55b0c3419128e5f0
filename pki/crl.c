/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/crl.h"

#include <stdbool.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/cert.h"

const char *const crl_reasons[CRL_REASONS] = { [0] = "unspecified", [1] = "keyCompromise", [2] = "cACompromise", [3] = "affiliationChanged",
	[4] = "superseded", [5] = "cessationOfOperation", [6] = "certificateHold", [9] = "privilegeWithdrawn", [10] = "aACompromise" };

static bool
set_serial(X509_REVOKED *r, const char *hex)
{
	uint8_t octets[64];
	size_t n = strlen(hex);
	ASN1_INTEGER *serial;
	BIGNUM *v;
	bool ok;

	if (n > 2 * sizeof(octets) || esc_unhex(octets, hex, n) != 0)
		return false;
	v = BN_bin2bn(octets, (int)(n / 2), NULL);
	serial = v ? BN_to_ASN1_INTEGER(v, NULL) : NULL;
	ok = serial && X509_REVOKED_set_serialNumber(r, serial) == 1;
	ASN1_INTEGER_free(serial);
	BN_free(v);
	return ok;
}

/* RFC 5280 5.3.1: unspecified is said by saying nothing. */
static bool
set_reason(X509_REVOKED *r, const char *reason)
{
	ASN1_ENUMERATED *code;
	bool ok = true;

	for (int i = 1; i < CRL_REASONS; i++) {
		if (crl_reasons[i] == NULL || strcmp(crl_reasons[i], reason) != 0)
			continue;
		code = ASN1_ENUMERATED_new();
		ok = code && ASN1_ENUMERATED_set(code, i) == 1 && X509_REVOKED_add1_ext_i2d(r, NID_crl_reason, code, 0, X509V3_ADD_DEFAULT) == 1;
		ASN1_ENUMERATED_free(code);
	}
	return ok;
}

static bool
add_entry(X509_CRL *crl, const struct crl_entry *e)
{
	X509_REVOKED *r = X509_REVOKED_new();
	ASN1_TIME *at = ASN1_TIME_set(NULL, (time_t)e->at);
	bool ok = r && at && set_serial(r, e->serial) && X509_REVOKED_set_revocationDate(r, at) == 1 && set_reason(r, e->reason) &&
	    X509_CRL_add0_revoked(crl, r) == 1;

	ASN1_TIME_free(at);
	if (!ok)
		X509_REVOKED_free(r);
	return ok;
}

static bool
add_extensions(X509_CRL *crl, const struct crl_spec *s)
{
	const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(s->issuer);
	AUTHORITY_KEYID *akid = AUTHORITY_KEYID_new();
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	bool ok = akid && number && key_id && (akid->keyid = ASN1_OCTET_STRING_dup(key_id)) != NULL &&
	    ASN1_INTEGER_set_uint64(number, s->number) == 1 &&
	    X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, akid, 0, X509V3_ADD_DEFAULT) == 1 &&
	    X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_DEFAULT) == 1;

	AUTHORITY_KEYID_free(akid);
	ASN1_INTEGER_free(number);
	return ok;
}

X509_CRL *
crl_make(const struct crl_spec *s)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)s->this_update), *until = ASN1_TIME_set(NULL, (time_t)s->next_update);
	bool ok = crl && from && until && X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1 &&
	    X509_CRL_set_issuer_name(crl, X509_get_subject_name(s->issuer)) == 1 && X509_CRL_set1_lastUpdate(crl, from) == 1 &&
	    X509_CRL_set1_nextUpdate(crl, until) == 1 && add_extensions(crl, s);

	for (size_t i = 0; ok && i < s->n; i++)
		ok = add_entry(crl, &s->entries[i]);
	ok = ok && X509_CRL_sort(crl) == 1 && X509_CRL_sign(crl, s->key, cert_digest(s->key)) > 0;
	ASN1_TIME_free(from);
	ASN1_TIME_free(until);
	if (ok)
		return crl;
	X509_CRL_free(crl);
	return NULL;
}

char *
crl_to_pem(X509_CRL *crl)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *p, *pem = NULL;
	long n;

	if (out && PEM_write_bio_X509_CRL(out, crl) == 1) {
		n = BIO_get_mem_data(out, &p);
		pem = mem_strndup(p, (size_t)n);
	}
	BIO_free(out);
	return pem;
}

X509_CRL *
crl_from_pem(const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509_CRL *crl = in ? PEM_read_bio_X509_CRL(in, NULL, NULL, NULL) : NULL;

	BIO_free(in);
	return crl;
}
