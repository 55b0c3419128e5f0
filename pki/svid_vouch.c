/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/svid_vouch.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "pki/svid_int.h"

struct cross {
	X509 *certs[SVID_VOUCH_CROSS_MAX];
	size_t n;
};

static void
cross_free(struct cross *c)
{
	while (c->n > 0)
		X509_free(c->certs[--c->n]);
}

static const char *
cross_read(struct cross *c, const char *pem)
{
	const char *fault = NULL;
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x;

	c->n = 0;
	if (in == NULL)
		return "out of memory";
	while (fault == NULL && (x = svid_cert_read(in, &fault)) != NULL) {
		if (c->n == SVID_VOUCH_CROSS_MAX) {
			X509_free(x);
			fault = "more than 8 cross certificates";
			break;
		}
		c->certs[c->n++] = x;
	}
	if (fault == NULL && c->n == 0)
		fault = "no cross certificate";
	BIO_free(in);
	return fault;
}

const char *
svid_vouch_cross_fault(const char *domain, const char *cross_pem)
{
	const char *fault, *detail = NULL;
	struct cross c = { 0 };

	ERR_set_mark();
	fault = cross_read(&c, cross_pem);
	for (size_t i = 0; i < c.n && fault == NULL; i++) {
		if (X509_check_purpose(c.certs[i], -1, 0) != 1 || !(X509_get_extension_flags(c.certs[i]) & EXFLAG_CA))
			fault = "a cross certificate that is not a CA";
		else if (X509_self_signed(c.certs[i], 0) == 1)
			fault = "a cross certificate that is self-signed";
		else if (svid_cert_check_ca(c.certs[i], domain, false, &detail) != SVID_OK)
			fault = detail && strstr(detail, "another domain") ? "a cross certificate of another domain" : detail;
	}
	cross_free(&c);
	ERR_pop_to_mark();
	return fault;
}

static bool
in_force(X509 *x, int64_t now)
{
	int64_t from, until;

	return svid_cert_time(X509_get0_notBefore(x), &from) == 0 && svid_cert_time(X509_get0_notAfter(x), &until) == 0 && from <= now && now < until;
}

static bool
same_key(X509 *a, X509 *b)
{
	return X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b)) == 0 &&
	    EVP_PKEY_eq(X509_get0_pubkey(a), X509_get0_pubkey(b)) == 1;
}

static const char *
judge(const struct svid_bundle *current, X509 *ca, const struct cross *cross, int64_t now)
{
	const char *why = "no CA that is trusted now has certified it";

	if (!in_force(ca, now))
		return "it is not in force now";
	for (size_t i = 0; i < current->ncas; i++)
		/* The same key with another end is no new trust, as long as the old one has not ended. */
		if (same_key(current->cas[i], ca) && in_force(current->cas[i], now))
			return NULL;
	/* A CA below one that we trust says itself who made it. */
	if (X509_self_signed(ca, 0) != 1 && svid_path_of_ca(current, ca, NULL, now))
		return NULL;
	for (size_t i = 0; i < cross->n; i++) {
		if (!same_key(cross->certs[i], ca))
			continue;
		if (svid_path_of_ca(current, cross->certs[i], NULL, now))
			return NULL;
		why = "its cross certificate is not of a CA that is trusted and in force now";
	}
	return why;
}

int
svid_vouch(const struct svid_bundle *current, const struct svid_bundle *newer, const char *cross_pem, int64_t now, char who[256], const char **why)
{
	struct cross c = { 0 };

	who[0] = '\0';
	*why = NULL;
	ERR_set_mark();
	if (strcmp(current->domain, newer->domain) != 0)
		*why = "the bundles are of two domains";
	else if (cross_pem)
		*why = cross_read(&c, cross_pem);
	for (size_t i = 0; i < newer->ncas && *why == NULL; i++) {
		X509 *ca = newer->cas[i];
		bool known = false;

		/* What is trusted already may have ended, too: keeping it is no new trust. */
		for (size_t k = 0; k < current->ncas; k++)
			known = known || X509_cmp(current->cas[k], ca) == 0;
		*why = known ? NULL : judge(current, ca, &c, now);
		if (*why)
			X509_NAME_oneline(X509_get_subject_name(ca), who, 256);
	}
	cross_free(&c);
	ERR_pop_to_mark();
	return *why ? -1 : 0;
}
