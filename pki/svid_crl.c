/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bundle knows of revocation (RFC 5280 6.3). A list is believed once, when it is taken: its issuer is a CA of the bundle, or one that chains to it,
 * may sign lists, and did. From then on it is a table to look into. There is one of each issuer; a newer one takes its place.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/svid_int.h"

#define SKEW_S 300

void
svid_bundle_set_revocation(struct svid_bundle *b, enum svid_revocation r)
{
	b->revocation = r;
}

void
svid_crl_forget_all(struct svid_bundle *b)
{
	while (b->nlists > 0)
		svid_crlfile_list_free(b->lists[--b->nlists]);
	mem_free(b->lists);
	b->lists = NULL;
}

/* ---- looking up ---- */

/* One CA may have several certificates (cross-signed, renewed): name and key make it. */
static bool
same_ca(const X509 *a, const X509 *b)
{
	return a == b || (X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b)) == 0 &&
			  EVP_PKEY_eq(X509_get0_pubkey(a), X509_get0_pubkey(b)) == 1);
}

static struct svid_list **
list_of(struct svid_list **lists, size_t n, const X509 *issuer)
{
	for (size_t i = 0; i < n; i++)
		if (same_ca(lists[i]->issuer, issuer))
			return &lists[i];
	return NULL;
}

/* Whatever its reason: a list that is no delta has nothing to take back (removeFromCRL). */
bool
svid_crl_names(const struct svid_list *l, const ASN1_INTEGER *serial)
{
	X509_REVOKED *r;

	return X509_CRL_get0_by_serial(l->crl, &r, serial) != 0;
}

enum svid_reason
svid_crl_judge(const struct svid_bundle *b, STACK_OF(X509) *path, int64_t now, const char **detail)
{
	int n = sk_X509_num(path);
	bool in_force = false;

	if (b->revocation == SVID_REV_OFF)
		return SVID_OK;
	for (int i = 0; i + 1 < n; i++) {
		struct svid_list **l = list_of(b->lists, b->nlists, sk_X509_value(path, i + 1));

		if (l && svid_crl_names(*l, X509_get0_serialNumber(sk_X509_value(path, i)))) {
			*detail = i == 0 ? "revoked" : "a CA above it was revoked";
			return SVID_REVOKED;
		}
		in_force = in_force || (i == 0 && l && now < (*l)->next_update);
	}
	if (b->revocation == SVID_REV_REQUIRED && !in_force) {
		*detail = "no CRL of its issuer is in force";
		return SVID_NO_CRL;
	}
	return SVID_OK;
}

/* ---- taking ---- */

struct intake {
	struct svid_bundle *b;
	struct svid_crlfile file;
	X509 *cas[SVID_BUNDLE_MAX_CAS + SVID_CRLFILE_MAX]; /* who may have signed: borrowed */
	size_t ncas;
	struct svid_list *taken[SVID_CRLFILE_MAX]; /* of the file; nothing is the bundle's until all are known to be good */
	size_t ntaken;
	size_t known; /* how many were ours, if not new */
	int64_t now;
};

/* The bundle's CAs, and those of the file that chain to them. */
static void
gather_cas(struct intake *k)
{
	STACK_OF(X509) *untrusted = sk_X509_new_null();

	for (size_t i = 0; i < k->b->ncas; i++)
		k->cas[k->ncas++] = k->b->cas[i];
	for (size_t i = 0; untrusted && i < k->file.ncerts; i++)
		if (sk_X509_push(untrusted, k->file.certs[i]) == 0)
			break;
	for (size_t i = 0; untrusted && i < k->file.ncerts; i++) {
		X509 *x = k->file.certs[i];
		bool had = false;

		for (size_t j = 0; j < k->ncas && !had; j++)
			had = same_ca(k->cas[j], x);
		if (!had && svid_path_of_ca(k->b, x, untrusted, k->now))
			k->cas[k->ncas++] = x;
	}
	sk_X509_free(untrusted);
}

/* Its issuer, by name, key id and signature. NULL with *fault; NULL without: no CA that we know. */
static X509 *
signer_of(X509 *const *cas, size_t n, const struct svid_list *l, const char **fault)
{
	*fault = NULL;
	for (size_t i = 0; i < n; i++) {
		const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(cas[i]);

		if (X509_NAME_cmp(X509_get_subject_name(cas[i]), X509_CRL_get_issuer(l->crl)) != 0 ||
		    (id && l->key_id && ASN1_OCTET_STRING_cmp(id, l->key_id) != 0))
			continue;
		if (X509_CRL_verify(l->crl, X509_get0_pubkey(cas[i])) != 1) {
			*fault = "a CRL whose signature is not its issuer's";
			continue;
		}
		/* RFC 5280 6.3.3 (f); without keyUsage it would be allowed to, but our CAs have one (svid_cert_check_ca). */
		if (!(X509_get_key_usage(cas[i]) & KU_CRL_SIGN)) {
			*fault = "a CRL whose issuer may not sign CRLs (keyUsage cRLSign)";
			continue;
		}
		*fault = NULL;
		return cas[i];
	}
	return NULL;
}

/* <0 older, 0 the same, >0 newer. RFC 5280 5.2.3: numbers only grow; a list of a CA that gives none goes by its date. */
static int
age_of(const struct svid_list *l, const struct svid_list *old, const char **fault)
{
	int d;

	*fault = NULL;
	if (memcmp(l->sha256, old->sha256, sizeof(l->sha256)) == 0)
		return 0;
	if (l->number && old->number) {
		d = ASN1_INTEGER_cmp(l->number, old->number);
		if (d == 0)
			*fault = "another CRL with the number of the one that is known";
		return d;
	}
	if (old->number)
		*fault = "a CRL without a number, after one that had one";
	return l->this_update > old->this_update ? 1 : -1;
}

/* One list of the file: *l is taken out of it when it is new. */
static const char *
consider(struct intake *k, struct svid_list **l)
{
	struct svid_list **old;
	const char *fault;
	X509 *ca = signer_of(k->cas, k->ncas, *l, &fault);

	if (ca == NULL)
		return fault; /* Of a CA that we do not know: see svid_bundle_add_crls() */
	if ((*l)->this_update > k->now + SKEW_S)
		return "a CRL from the future; is the clock right?";
	k->known++;
	old = list_of(k->taken, k->ntaken, ca);
	if (old == NULL)
		old = list_of(k->b->lists, k->b->nlists, ca);
	if (old && age_of(*l, *old, &fault) <= 0)
		return fault;
	if (fault)
		return fault;
	X509_up_ref(ca);
	(*l)->issuer = ca;
	(*l)->root = X509_self_signed(ca, 0) == 1;
	k->taken[k->ntaken++] = *l;
	*l = NULL;
	return NULL;
}

/* As PEM, with its issuer where that must come along. */
static size_t
file_size(const struct svid_list *l)
{
	int cert = l->root ? 0 : i2d_X509(l->issuer, NULL);
	size_t n = l->bytes + (cert > 0 ? (size_t)cert : 0);

	return n / 3 * 4 + n / 48 + 256;
}

/* All that is kept must fit a file again: the bundle is read anew from it. */
static const char *
room_for(const struct intake *k)
{
	const struct svid_bundle *b = k->b;
	size_t bytes = 0, n = k->ntaken;

	for (size_t i = 0; i < k->ntaken; i++)
		bytes += file_size(k->taken[i]);
	for (size_t i = 0; i < b->nlists; i++)
		if (list_of((struct svid_list **)k->taken, k->ntaken, b->lists[i]->issuer) == NULL) {
			bytes += file_size(b->lists[i]);
			n++;
		}
	if (n > SVID_CRLFILE_MAX)
		return "CRLs of more than 64 CAs";
	return bytes > SVID_CRL_MAX ? "more than 4 MiB with the CRLs that are known" : NULL;
}

static void
put(struct svid_bundle *b, struct svid_list *l)
{
	struct svid_list **old = list_of(b->lists, b->nlists, l->issuer);

	if (old) {
		svid_crlfile_list_free(*old);
		*old = l;
		return;
	}
	b->lists = mem_realloc(b->lists, (b->nlists + 1) * sizeof(struct svid_list *));
	b->lists[b->nlists++] = l;
}

static const char *
take_all(struct intake *k)
{
	const char *fault = NULL;

	gather_cas(k);
	for (size_t i = 0; i < k->file.nlists && fault == NULL; i++)
		fault = consider(k, &k->file.lists[i]);
	if (fault == NULL && k->known == 0)
		fault = "a CRL of a CA that is not in the bundle";
	return fault ? fault : room_for(k);
}

int
svid_bundle_add_crls(struct svid_bundle *b, const char *pem, size_t len, int64_t now, const char **why)
{
	struct intake *k = mem_zalloc(sizeof(*k));
	int rc;

	k->b = b;
	k->now = now;
	ERR_set_mark();
	*why = svid_crlfile_read(&k->file, pem, len);
	if (*why == NULL)
		*why = take_all(k);
	rc = *why ? -1 : k->ntaken > 0;
	for (size_t i = 0; i < k->ntaken; i++) {
		if (*why)
			svid_crlfile_list_free(k->taken[i]);
		else
			put(b, k->taken[i]);
	}
	svid_crlfile_free(&k->file);
	ERR_pop_to_mark();
	mem_free(k);
	return rc;
}

char *
svid_bundle_crls_pem(const struct svid_bundle *b, size_t *len)
{
	BIO *out = b->nlists > 0 ? BIO_new(BIO_s_mem()) : NULL;
	char *text, *copy = NULL;
	bool ok = out != NULL;

	*len = 0;
	ERR_set_mark();
	for (size_t i = 0; ok && i < b->nlists; i++) {
		const struct svid_list *l = b->lists[i];

		/* Another's bundle may have the root alone. */
		ok = (l->root || PEM_write_bio_X509(out, l->issuer) == 1) && PEM_write_bio_X509_CRL(out, l->crl) == 1;
	}
	if (ok) {
		*len = (size_t)BIO_get_mem_data(out, &text);
		copy = mem_strndup(text, *len);
	}
	BIO_free(out);
	ERR_pop_to_mark();
	return copy;
}

void
svid_bundle_inherit_crls(struct svid_bundle *to, const struct svid_bundle *from, int64_t now)
{
	size_t len;
	char *pem = svid_bundle_crls_pem(from, &len);
	const char *why;

	/* As from a stranger: each is verified against the new CAs. What is of none of them is passed over. */
	if (pem)
		svid_bundle_add_crls(to, pem, len, now, &why);
	mem_free(pem);
}

/* ---- telling ---- */

static int
by_digest(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

bool
svid_bundle_crls_digest(const struct svid_bundle *b, uint8_t out[32])
{
	uint8_t all[SVID_CRLFILE_MAX][32];
	unsigned n;

	for (size_t i = 0; i < b->nlists; i++)
		memcpy(all[i], b->lists[i]->sha256, 32);
	qsort(all, b->nlists, 32, by_digest);
	return b->nlists > 0 && EVP_Digest(all, b->nlists * 32, out, &n, EVP_sha256(), NULL) == 1;
}

void
svid_bundle_crl_each(const struct svid_bundle *b, svid_crl_fn *on_crl, void *ctx)
{
	for (size_t i = 0; i < b->nlists; i++)
		svid_crlfile_describe(b->lists[i], on_crl, ctx);
}

/* Whose lists are required: issuing CAs', and a root's only where it has none below it. */
static bool
flat(const struct svid_bundle *b)
{
	for (size_t i = 0; i < b->ncas; i++)
		if (X509_self_signed(b->cas[i], 0) != 1)
			return false;
	for (size_t i = 0; i < b->nlists; i++)
		if (!b->lists[i]->root)
			return false;
	return true;
}

int64_t
svid_bundle_crl_until(const struct svid_bundle *b)
{
	bool roots = flat(b);
	int64_t until = INT64_MAX;

	if (b->revocation != SVID_REV_REQUIRED)
		return until;
	for (size_t i = 0; i < b->nlists; i++)
		if ((roots || !b->lists[i]->root) && b->lists[i]->next_update < until)
			until = b->lists[i]->next_update;
	return until == INT64_MAX ? 0 : until;
}

bool
svid_bundle_crl_in_force(const struct svid_bundle *b, int64_t now)
{
	bool roots = flat(b);

	if (b->revocation != SVID_REV_REQUIRED)
		return true;
	for (size_t i = 0; i < b->nlists; i++)
		if ((roots || !b->lists[i]->root) && now < b->lists[i]->next_update)
			return true;
	return false;
}
