/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of revocation lists, and one list by itself: RFC 5280 5.1 and 5.2, of which only whole lists of one CA about its own
 * certificates are taken. What narrows or widens a list (delta, distribution points, indirect) changes what its silence means.
 */
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/svid_int.h"

#define NUMBER_MAX_OCTETS 20 /* RFC 5280 5.2.3 */

/* ---- one list ---- */

static const char *
extensions_fault(const X509_CRL *crl)
{
	for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
		X509_EXTENSION *e = X509_CRL_get_ext(crl, i);

		switch (OBJ_obj2nid(X509_EXTENSION_get_object(e))) {
		case NID_crl_number:
		case NID_authority_key_identifier:
			break;
		case NID_delta_crl:
			return "a delta CRL";
		case NID_issuing_distribution_point:
			return "a CRL with an issuing distribution point: it may be about some certificates only";
		default:
			if (X509_EXTENSION_get_critical(e))
				return "a CRL with a critical extension that is not known";
		}
	}
	return NULL;
}

static const char *
entries_fault(X509_CRL *crl)
{
	const STACK_OF(X509_REVOKED) *all = X509_CRL_get_REVOKED(crl);

	for (int i = 0; i < sk_X509_REVOKED_num(all); i++) {
		const X509_REVOKED *r = sk_X509_REVOKED_value(all, i);

		for (int k = 0; k < X509_REVOKED_get_ext_count(r); k++) {
			X509_EXTENSION *e = X509_REVOKED_get_ext(r, k);

			/* RFC 5280 5.3.3: from there on entries are another CA's. */
			if (OBJ_obj2nid(X509_EXTENSION_get_object(e)) == NID_certificate_issuer)
				return "an indirect CRL";
			if (X509_EXTENSION_get_critical(e))
				return "a CRL with an entry whose critical extension is not known";
		}
	}
	return NULL;
}

static int
pss_digest(const X509_ALGOR *alg)
{
	const void *value;
	int type, nid = NID_sha1; /* RFC 4055 3.1: the default */
	RSA_PSS_PARAMS *pss;
	const ASN1_OBJECT *oid;

	X509_ALGOR_get0(NULL, &type, &value, alg);
	pss = type == V_ASN1_SEQUENCE ? ASN1_item_unpack(value, ASN1_ITEM_rptr(RSA_PSS_PARAMS)) : NULL;
	if (pss && pss->hashAlgorithm) {
		X509_ALGOR_get0(&oid, NULL, NULL, pss->hashAlgorithm);
		nid = OBJ_obj2nid(oid);
	}
	RSA_PSS_PARAMS_free(pss);
	return nid;
}

static const char *
digest_fault(const X509_CRL *crl)
{
	const X509_ALGOR *alg;
	const EVP_MD *md;
	int nid = X509_CRL_get_signature_nid(crl), digest, key;

	X509_CRL_get0_signature(crl, NULL, &alg);
	if (nid == NID_ED25519)
		return NULL;
	if (nid == NID_rsassaPss)
		digest = pss_digest(alg);
	else if (OBJ_find_sigid_algs(nid, &digest, &key) != 1)
		digest = NID_undef;
	md = EVP_get_digestbynid(digest);
	if (md == NULL)
		return "a CRL whose signature algorithm is not known";
	return EVP_MD_get_size(md) < 28 ? "a CRL signed by MD5 or SHA-1" : NULL;
}

static const char *
number_of(struct svid_list *l)
{
	int crit;

	l->number = X509_CRL_get_ext_d2i(l->crl, NID_crl_number, &crit, NULL);
	if (l->number == NULL)
		return crit == -1 ? NULL : "a CRL whose number cannot be decoded or is given twice";
	if (ASN1_STRING_type(l->number) == V_ASN1_NEG_INTEGER || ASN1_STRING_length(l->number) > NUMBER_MAX_OCTETS)
		return "a CRL whose number is negative or longer than 20 octets";
	return NULL;
}

static const char *
key_id_of(struct svid_list *l)
{
	AUTHORITY_KEYID *a;
	int crit;

	a = X509_CRL_get_ext_d2i(l->crl, NID_authority_key_identifier, &crit, NULL);
	if (a == NULL)
		return crit == -1 ? NULL : "a CRL whose authority key identifier cannot be decoded or is given twice";
	l->key_id = a->keyid;
	a->keyid = NULL;
	AUTHORITY_KEYID_free(a);
	return NULL;
}

static const char *
look_at(struct svid_list *l)
{
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(l->crl);
	const char *fault;
	unsigned n;

	if (X509_CRL_get_version(l->crl) > X509_CRL_VERSION_2)
		return "a CRL of a version that is not known";
	if (next == NULL) /* RFC 5280 5.1.2.5 */
		return "a CRL without nextUpdate";
	if (svid_cert_time(X509_CRL_get0_lastUpdate(l->crl), &l->this_update) || svid_cert_time(next, &l->next_update))
		return "a CRL with a date that is none";
	if (l->next_update < l->this_update)
		return "a CRL whose nextUpdate is before its thisUpdate";
	if (X509_CRL_digest(l->crl, EVP_sha256(), l->sha256, &n) != 1 || n != sizeof(l->sha256))
		return "out of memory";
	fault = extensions_fault(l->crl);
	if (fault == NULL)
		fault = number_of(l);
	if (fault == NULL)
		fault = key_id_of(l);
	if (fault == NULL)
		fault = digest_fault(l->crl);
	return fault ? fault : entries_fault(l->crl);
}

/* Strict DER, as for certificates. */
static X509_CRL *
from_der(const uint8_t *p, size_t len)
{
	const unsigned char *q = p;
	unsigned char *again = NULL;
	X509_CRL *crl = d2i_X509_CRL(NULL, &q, (long)len);
	int n;

	if (crl == NULL)
		return NULL;
	n = i2d_X509_CRL(crl, &again);
	if (q != p + len || n != (int)len || memcmp(again, p, len) != 0) {
		X509_CRL_free(crl);
		crl = NULL;
	}
	OPENSSL_free(again);
	return crl;
}

void
svid_crlfile_list_free(struct svid_list *l)
{
	if (l == NULL)
		return;
	X509_CRL_free(l->crl);
	X509_free(l->issuer);
	ASN1_OCTET_STRING_free(l->key_id);
	ASN1_INTEGER_free(l->number);
	mem_free(l);
}

void
svid_crlfile_describe(const struct svid_list *l, svid_crl_fn *on_crl, void *ctx)
{
	char *issuer = X509_NAME_oneline(X509_CRL_get_issuer(l->crl), NULL, 0), number[2 * NUMBER_MAX_OCTETS + 1] = "";
	int revoked = sk_X509_REVOKED_num(X509_CRL_get_REVOKED(l->crl));
	struct svid_crl c = {
		.issuer = issuer ? issuer : "", .number = number, .this_update = l->this_update, .next_update = l->next_update,
		.revoked = revoked > 0 ? (size_t)revoked : 0, .root = l->root,
	};

	if (l->number) {
		size_t n = (size_t)ASN1_STRING_length(l->number);

		esc_hex(number, ASN1_STRING_get0_data(l->number), n);
		number[2 * n] = 0;
	}
	on_crl(ctx, &c);
	OPENSSL_free(issuer);
}

/* ---- a file ---- */

static const char *
add_list(struct svid_crlfile *f, const uint8_t *der, size_t len)
{
	struct svid_list *l;

	if (f->nlists == SVID_CRLFILE_MAX)
		return "more than 64 CRLs";
	l = mem_zalloc(sizeof(*l));
	f->lists[f->nlists++] = l;
	l->crl = from_der(der, len);
	if (l->crl == NULL)
		return "a CRL that is not valid DER";
	l->bytes = len;
	return look_at(l);
}

static const char *
add_cert(struct svid_crlfile *f, const uint8_t *der, size_t len)
{
	X509 *x;

	if (f->ncerts == SVID_CRLFILE_MAX)
		return "more than 64 certificates";
	x = svid_cert_from_der(der, len);
	if (x == NULL)
		return "a certificate that is not valid DER";
	f->certs[f->ncerts++] = x;
	return NULL;
}

/* 1: a block was read; 0: there is none any more. */
static int
read_block(struct svid_crlfile *f, BIO *in, const char **fault)
{
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	long len;

	*fault = NULL;
	if (PEM_read_bio(in, &name, &header, &data, &len) != 1) {
		unsigned long e = ERR_peek_last_error();

		if (ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
			*fault = "damaged PEM";
		return 0;
	}
	if (strstr(name, "PRIVATE KEY"))
		*fault = "a private key where only CRLs belong";
	else if (header[0] != 0)
		*fault = "a block with PEM headers";
	else if (strcmp(name, PEM_STRING_X509_CRL) == 0)
		*fault = add_list(f, data, (size_t)len);
	else if (strcmp(name, PEM_STRING_X509) == 0)
		*fault = add_cert(f, data, (size_t)len);
	else
		*fault = "a PEM block that is neither an X509 CRL nor a CERTIFICATE";
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_clear_free(data, (size_t)len);
	return 1;
}

const char *
svid_crlfile_read(struct svid_crlfile *f, const char *pem, size_t len)
{
	const char *fault = NULL;
	BIO *in;

	memset(f, 0, sizeof(*f));
	if (len > SVID_CRL_MAX)
		return "larger than 4 MiB";
	in = BIO_new_mem_buf(pem, (int)len);
	if (in == NULL)
		return "out of memory";
	ERR_set_mark();
	while (read_block(f, in, &fault) == 1 && fault == NULL)
		;
	ERR_pop_to_mark();
	BIO_free(in);
	if (fault == NULL && f->nlists == 0)
		fault = "no CRL";
	return fault;
}

void
svid_crlfile_free(struct svid_crlfile *f)
{
	while (f->nlists > 0)
		svid_crlfile_list_free(f->lists[--f->nlists]);
	while (f->ncerts > 0)
		X509_free(f->certs[--f->ncerts]);
}

/* Whose list it seems to be, of the certificates beside it. */
static bool
by_a_root(const struct svid_crlfile *f, const struct svid_list *l)
{
	for (size_t i = 0; i < f->ncerts; i++)
		if (X509_NAME_cmp(X509_get_subject_name(f->certs[i]), X509_CRL_get_issuer(l->crl)) == 0)
			return X509_self_signed(f->certs[i], 0) == 1;
	return false;
}

int
svid_crl_pem_each(const char *pem, size_t len, svid_crl_fn *on_crl, void *ctx, const char **why)
{
	struct svid_crlfile *f = mem_alloc(sizeof(*f));
	int n = -1;

	ERR_set_mark();
	*why = svid_crlfile_read(f, pem, len);
	if (*why == NULL) {
		n = (int)f->nlists;
		for (size_t i = 0; i < f->nlists; i++) {
			f->lists[i]->root = by_a_root(f, f->lists[i]);
			svid_crlfile_describe(f->lists[i], on_crl, ctx);
		}
	}
	svid_crlfile_free(f);
	ERR_pop_to_mark();
	mem_free(f);
	return n;
}
