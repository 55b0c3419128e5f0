/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "pki/ca_int.h"
#include "pki/jwks.h"
#include "pki/pkifile.h"

#define REFRESH_HINT_S 86400

/* The roots that others have to know: of the CA that issues first. Their number, or -1. */
static int
read_roots(const struct store *s, const struct store_state *st, X509 *roots[2], char *pems[2], struct errs *errs)
{
	const unsigned gens[2] = { st->current, st->next ? st->next : st->old };
	int n = 0;

	for (int i = 0; i < 2 && gens[i]; i++) {
		char *path = store_gen_path(s, gens[i], "root.crt");

		roots[n] = ca_read_cert(path, &pems[n], errs);
		mem_free(path);
		if (roots[n++] == NULL)
			return -1;
	}
	return n;
}

static void
free_roots(X509 *roots[2], char *pems[2])
{
	for (int i = 0; i < 2; i++) {
		X509_free(roots[i]);
		mem_free(pems[i]);
	}
}

char *
ca_roots_pem(const struct store *s, const struct store_state *st, struct errs *errs)
{
	X509 *roots[2] = { NULL, NULL };
	char *pems[2] = { NULL, NULL }, *out = NULL;

	if (read_roots(s, st, roots, pems, errs) > 0)
		out = mem_printf("%s%s", pems[0], pems[1] ? pems[1] : "");
	free_roots(roots, pems);
	return out;
}

char *
ca_bundle(const char *dir, struct errs *errs)
{
	struct store_state st;
	struct store s;
	char *pem = NULL;

	store_init(&s, dir);
	if (store_state_read(&s, &st, errs) == 0)
		pem = ca_roots_pem(&s, &st, errs);
	store_fini(&s);
	return pem;
}

char *
ca_bundle_jwks(const char *dir, int64_t refresh_hint_s, struct errs *errs)
{
	X509 *roots[2] = { NULL, NULL };
	char *pems[2] = { NULL, NULL }, *out = NULL;
	struct store_state st;
	struct store s;
	int n;

	store_init(&s, dir);
	if (store_state_read(&s, &st, errs) == 0 && (n = read_roots(&s, &st, roots, pems, errs)) > 0) {
		out = jwks_of(roots, (size_t)n, st.sequence, refresh_hint_s ? refresh_hint_s : REFRESH_HINT_S);
		if (out == NULL)
			errs_add(errs, s.ca, 0, "a root whose key has no form as a JWK");
	}
	free_roots(roots, pems);
	store_fini(&s);
	return out;
}

char *
ca_cross_pem(const char *dir, struct errs *errs)
{
	struct store_state st;
	struct store s;
	char *path, *pem = NULL;
	X509 *x;
	unsigned n;

	store_init(&s, dir);
	if (store_state_read(&s, &st, errs) == 0 && (st.next || st.old)) {
		n = st.next ? st.next : st.current; /* it is kept with the newer one */
		path = store_gen_path(&s, n, "cross.crt");
		x = ca_read_cert(path, &pem, errs);
		X509_free(x);
		mem_free(path);
	}
	store_fini(&s);
	return pem;
}
