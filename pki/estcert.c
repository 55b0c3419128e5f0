/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/estcert.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"

#define POOL_MAX 32

struct pool {
	X509 *certs[POOL_MAX];
	size_t n;
};

/* The caller's reference becomes the pool's. */
static void
add(struct pool *p, X509 *x)
{
	if (x && p->n < POOL_MAX)
		p->certs[p->n++] = x;
	else
		X509_free(x);
}

static void
add_pem(struct pool *p, const char *pem)
{
	BIO *in = pem ? BIO_new_mem_buf(pem, -1) : NULL;
	X509 *x;

	while (in && p->n < POOL_MAX && (x = PEM_read_bio_X509(in, NULL, NULL, NULL)))
		add(p, x);
	BIO_free(in);
}

static X509 *
with_key(const struct pool *p, size_t n, const EVP_PKEY *key)
{
	for (size_t i = 0; i < n; i++) {
		const EVP_PKEY *k = X509_get0_pubkey(p->certs[i]);

		if (k && EVP_PKEY_eq(k, key) == 1)
			return p->certs[i];
	}
	return NULL;
}

/* The CA above the last one; roots are known to whoever verifies, and not sent (RFC 8446 4.4.2). */
static X509 *
above(const struct pool *p, X509 *const *chain, size_t n)
{
	for (size_t i = 0; i < p->n; i++) {
		X509 *x = p->certs[i];
		bool known = false;

		if (X509_check_issued(x, chain[n - 1]) != X509_V_OK || X509_check_issued(x, x) == X509_V_OK)
			continue;
		for (size_t k = 0; k < n; k++)
			known |= X509_cmp(chain[k], x) == 0;
		if (!known)
			return x;
	}
	return NULL;
}

static char *
write_pem(X509 *const *chain, size_t n)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *p, *pem = NULL;
	long len;
	bool ok = out != NULL;

	for (size_t i = 0; i < n && ok; i++)
		ok = PEM_write_bio_X509(out, chain[i]) == 1;
	len = ok ? BIO_get_mem_data(out, &p) : 0;
	if (len > 0)
		pem = mem_strndup(p, (size_t)len);
	BIO_free(out);
	return pem;
}

char *
estcert_take(const struct estcert_want *w, const struct svid_der *certs, size_t n, int64_t *not_after, const char **why)
{
	static char text[256];
	const unsigned char *p = w->csr;
	X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)w->csr_len);
	EVP_PKEY *key = req ? X509_REQ_get0_pubkey(req) : NULL;
	X509 *chain[SVID_MAX_CHAIN];
	struct svid_info info;
	const char *detail = NULL;
	struct pool pool = { .n = 0 };
	enum svid_reason r;
	char *pem = NULL;
	size_t answered, len = 0;

	for (size_t i = 0; i < n; i++) {
		const unsigned char *q = certs[i].p;

		add(&pool, d2i_X509(NULL, &q, (long)certs[i].len));
	}
	answered = pool.n;
	add_pem(&pool, w->chain_pem);
	*why = "the answer has no certificate for the key of the request";
	chain[0] = key ? with_key(&pool, answered, key) : NULL;
	if (!chain[0])
		goto out;
	for (len = 1; len < SVID_MAX_CHAIN && (chain[len] = above(&pool, chain, len)); len++)
		;
	r = svid_verify(chain, len, &w->bundle, 1, SVID_ANY, w->now, &info, &detail);
	if (r != SVID_OK) {
		snprintf(text, sizeof(text), "the new certificate is not to be believed: %s%s%s", svid_reason_text(r), detail && *detail ? ", " : "",
		    detail ? detail : "");
		*why = text;
		goto out;
	}
	*why = "the new certificate is for somebody else";
	if (w->id && strcmp(info.id, w->id) != 0)
		goto out;
	*not_after = info.not_after;
	*why = "no memory";
	pem = write_pem(chain, len);
out:
	for (size_t i = 0; i < pool.n; i++)
		X509_free(pool.certs[i]);
	X509_REQ_free(req);
	ERR_clear_error();
	return pem;
}
