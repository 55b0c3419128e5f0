/* SPDX-License-Identifier: Apache-2.0 */
/* The CAs of one trust domain. One X509_STORE each, so that no chain can lead into another domain's. Its CRLs: svid_crl.c. */
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/svid_int.h"

#define BUNDLE_MAX_BYTES (1 << 20)

/* The same public key twice is one CA under two names, or a botched edit (case 57). */
static bool
key_seen(const struct svid_bundle *b, X509 *x)
{
	for (size_t i = 0; i < b->ncas; i++)
		if (EVP_PKEY_eq(X509_get0_pubkey(b->cas[i]), X509_get0_pubkey(x)) == 1)
			return true;
	return false;
}

static const char *
add_ca(struct svid_bundle *b, X509 *x)
{
	const char *fault = NULL;

	if (b->ncas == SVID_BUNDLE_MAX_CAS)
		return "more than 64 certificates";
	if (X509_check_purpose(x, -1, 0) != 1)
		return "a certificate with extensions that cannot be decoded";
	if (!(X509_get_extension_flags(x) & EXFLAG_CA))
		return "a certificate that is not a CA";
	if (svid_cert_check_ca(x, b->domain, X509_self_signed(x, 0) == 1, &fault) != SVID_OK)
		return fault && strstr(fault, "another domain") ? "a CA of another domain" : fault;
	if (key_seen(b, x))
		return "the same CA key twice";
	return X509_STORE_add_cert(b->store, x) == 1 ? NULL : "a certificate that OpenSSL does not take";
}

static const char *
fill(struct svid_bundle *b, const char *pem)
{
	const char *fault = NULL;
	bool root = false;
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x;

	if (in == NULL)
		return "out of memory";
	while ((x = svid_cert_read(in, &fault)) != NULL) {
		fault = add_ca(b, x);
		if (fault) {
			X509_free(x);
			break;
		}
		/* Signature checked: a root that nobody's key made is no anchor. */
		root = root || X509_self_signed(x, 1) == 1;
		b->cas[b->ncas++] = x;
	}
	if (fault == NULL && b->ncas == 0)
		fault = "no certificate";
	/* Chains are followed to a self-signed root (no PARTIAL_CHAIN): without one nothing would ever verify. */
	if (fault == NULL && !root)
		fault = "no self-signed root";
	BIO_free(in);
	return fault;
}

struct svid_bundle *
svid_bundle_new(const char *domain, const char *pem, const char **why)
{
	struct svid_bundle *b;
	const char *fault;

	if (!spiffe_domain_valid(domain, strlen(domain))) {
		*why = "a malformed trust domain";
		return NULL;
	}
	if (pem == NULL || strlen(pem) > BUNDLE_MAX_BYTES) {
		*why = pem ? "larger than 1 MiB" : "no certificate";
		return NULL;
	}
	b = mem_zalloc(sizeof(*b));
	b->refs = 1;
	memcpy(b->domain, domain, strlen(domain) + 1);
	ERR_set_mark();
	b->store = X509_STORE_new();
	if (b->store == NULL) {
		fault = "out of memory";
	} else {
		X509_STORE_set_flags(b->store, X509_V_FLAG_X509_STRICT);
		fault = fill(b, pem);
	}
	ERR_pop_to_mark();
	*why = fault;
	if (fault) {
		svid_bundle_unref(b);
		b = NULL;
	}
	return b;
}

struct svid_bundle *
svid_bundle_ref(struct svid_bundle *b)
{
	b->refs++;
	return b;
}

void
svid_bundle_unref(struct svid_bundle *b)
{
	if (b == NULL || --b->refs > 0)
		return;
	svid_crl_forget_all(b);
	while (b->ncas > 0)
		X509_free(b->cas[--b->ncas]);
	X509_STORE_free(b->store);
	mem_free(b);
}

const char *
svid_bundle_domain(const struct svid_bundle *b)
{
	return b->domain;
}

bool
svid_bundle_same_cas(const struct svid_bundle *a, const struct svid_bundle *b)
{
	size_t found = 0;

	if (a->ncas != b->ncas || strcmp(a->domain, b->domain) != 0)
		return false;
	/* No certificate is there twice: its key would be. */
	for (size_t i = 0; i < a->ncas; i++)
		for (size_t k = 0; k < b->ncas; k++)
			found += X509_cmp(a->cas[i], b->cas[k]) == 0;
	return found == a->ncas;
}
