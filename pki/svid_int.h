/* SPDX-License-Identifier: Apache-2.0 */
/* What svid.c, svid_bundle.c and svid_cert.c share; nothing else includes this. */
#ifndef PKI_SVID_INT_H
#define PKI_SVID_INT_H

#include <openssl/x509.h>

#include "pki/svid.h"

#define SVID_BUNDLE_MAX_CAS 64

/* A revocation list that a CA's key has signed. */
struct svid_list {
	X509_CRL *crl;
	X509 *issuer;          /* a reference; NULL until it is known */
	ASN1_OCTET_STRING *key_id; /* as its AKI has it; NULL: it does not say */
	ASN1_INTEGER *number;  /* NULL: it has none */
	int64_t this_update, next_update;
	size_t bytes;          /* in a file */
	uint8_t sha256[32];
	bool root;
};

struct svid_bundle {
	unsigned refs;
	char domain[SPIFFE_DOMAIN_MAX + 1];
	X509_STORE *store;     /* roots, and CAs below them that the bundle brings along */
	X509 *cas[SVID_BUNDLE_MAX_CAS];
	size_t ncas;
	enum svid_revocation revocation;
	struct svid_list **lists; /* one of each issuer, in no order */
	size_t nlists;
};

/* Names, dates, serial and fingerprint of a leaf into *out, and every check of it that needs no CA and no clock. */
enum svid_reason svid_cert_check_leaf(X509 *leaf, enum svid_purpose purpose, struct svid_info *out, const char **detail);
/* A CA of a chain, or (anchor) of a bundle: may it sign for this domain, and are its key and signature strong enough? */
enum svid_reason svid_cert_check_ca(X509 *ca, const char *domain, bool anchor, const char **detail);
/* Public key: RSA 2048–8192, P-256/384/521, Ed25519. NULL, or what is wrong. */
const char *svid_cert_key_fault(EVP_PKEY *key);
/* 0, or -1 for a date that is none. */
int svid_cert_time(const ASN1_TIME *t, int64_t *out);
/* The first or next certificate of a PEM: NULL at the end, or with *why on anything that is not a clean CERTIFICATE block. */
X509 *svid_cert_read(BIO *pem, const char **why);
/* Strict DER: all octets used, and the same octets when written again. */
X509 *svid_cert_from_der(const uint8_t *p, size_t len);
void svid_cert_serial(X509 *x, char *out, size_t out_size);


/* ---- svid.c ---- */

/* Does a CA's certificate chain to this bundle now, by OpenSSL's rules and ours? */
bool svid_path_of_ca(const struct svid_bundle *b, X509 *ca, STACK_OF(X509) *untrusted, int64_t now);

/* ---- svid_crl.c ---- */

/* A path, leaf to root, that is good otherwise. SVID_OK, SVID_REVOKED or SVID_NO_CRL. */
enum svid_reason svid_crl_judge(const struct svid_bundle *b, STACK_OF(X509) *path, int64_t now, const char **detail);
/* A certificate with this serial number, of the list's issuer, is on it. */
bool svid_crl_names(const struct svid_list *l, const ASN1_INTEGER *serial);
void svid_crl_forget_all(struct svid_bundle *b);

/* ---- svid_crlfile.c ---- */

#define SVID_CRLFILE_MAX 64 /* lists, and as many certificates */
struct svid_crlfile {
	struct svid_list *lists[SVID_CRLFILE_MAX];
	X509 *certs[SVID_CRLFILE_MAX];
	size_t nlists, ncerts;
};
/* NULL, or what is wrong. Each list was looked at by itself: its form, extensions, dates; not its signature. */
const char *svid_crlfile_read(struct svid_crlfile *f, const char *pem, size_t len);
void svid_crlfile_free(struct svid_crlfile *f);
void svid_crlfile_list_free(struct svid_list *l);
void svid_crlfile_describe(const struct svid_list *l, svid_crl_fn *on_crl, void *ctx);

#endif
