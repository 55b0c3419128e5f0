/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revocations go into the books, in one step with the number of the CRL that will tell of them; then the CRL file is written. After a crash in between
 * the books have them, and the next CRL, under a higher number, too.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <openssl/err.h>

#include "gateway/base/mem.h"
#include "pki/ca_int.h"
#include "pki/crl.h"
#include "pki/pkifile.h"

#define ROOT_CRL_S (INT64_C(365) * 86400)  /* the root is offline */
#define CRL_PEM_MAX (32 << 20)

const char *const ca_reasons[] = { "unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
	"certificateHold", "privilegeWithdrawn", "aACompromise", NULL };

const char *
ca_reason(const char *text)
{
	for (size_t i = 0; ca_reasons[i]; i++)
		if (strcasecmp(ca_reasons[i], text) == 0)
			return ca_reasons[i];
	return NULL;
}

/* -- CRLs --------------------------------------------------------------------------------------------- */

/* What one CA revoked and has not ended. mem_free(). */
static struct crl_entry *
revoked_by(const struct ca *ca, const char *issuer, int64_t now, size_t *n)
{
	struct crl_entry *list = NULL;
	size_t cap = 0;

	*n = 0;
	for (uint32_t i = 0, all = ledger_n(ca->ledger); i < all; i++) {
		struct ledger_entry e;

		if (!ledger_is_revoked(ca->ledger, i))
			continue;
		ledger_get(ca->ledger, i, &e);
		if (e.not_after < now || strcmp(e.issuer, issuer) != 0)
			continue;
		mem_grow(&list, &cap, *n + 1, sizeof(*list));
		list[(*n)++] = (struct crl_entry){ .serial = e.serial, .at = e.revoked_at, .reason = e.reason };
	}
	return list;
}

struct making {
	struct ca *ca;
	int64_t now, lifetime_s;
	uint64_t number;
	size_t revoked;
	struct errs *errs;
};

static char *
make_crl(struct making *m, const char *serial, X509 *issuer, EVP_PKEY *key, int64_t lifetime_s)
{
	struct crl_spec s = { .issuer = issuer, .key = key, .number = m->number, .this_update = m->now - CA_BACKDATE_S,
		.next_update = m->now + lifetime_s };
	struct crl_entry *entries = revoked_by(m->ca, serial, m->now, &s.n);
	char *pem;

	s.entries = entries;
	pem = crl_make(&s);
	if (pem == NULL)
		errs_add(m->errs, m->ca->store.ca, 0, "cannot make a CRL");
	m->revoked += s.n;
	mem_free(entries);
	return pem;
}

/* A new CRL of a root, beside its certificate. */
static int
write_root_crl(struct making *m, const struct ca_gen *g, const struct ca_keys *keys)
{
	char *path = store_gen_path(&m->ca->store, g->number, "root.crl"), *pem = NULL;
	EVP_PKEY *key = ca_root_key(m->ca, g, keys, m->errs);
	size_t revoked = m->revoked;
	int rc = -1;

	if (key && (pem = make_crl(m, g->root_serial, g->root, key, m->lifetime_s ? m->lifetime_s : ROOT_CRL_S)) != NULL)
		rc = store_replace(&m->ca->store, path, 0644, pem, m->errs);
	m->revoked = revoked; /* counted where it is read */
	EVP_PKEY_free(key);
	mem_free(pem);
	mem_free(path);
	return rc;
}

/* The root's CRL as it is on disk; NULL when there is none. Says so when the books know more. */
static char *
root_crl(struct making *m, const struct ca_gen *g)
{
	char *path = store_gen_path(&m->ca->store, g->number, "root.crl"), *pem = pkifile_read(path, CRL_PEM_MAX);
	X509_CRL *crl = pem ? crl_from_pem(pem) : NULL;
	struct crl_entry *entries;
	size_t n, there = 0;

	if (pem == NULL && errno != ENOENT)
		errs_warn(m->errs, path, 0, "%s; the root's CRL is left out", strerror(errno));
	else if (pem && crl == NULL)
		errs_warn(m->errs, path, 0, "damaged, and left out; \"gwctl pki crl --root\" makes a new one");
	entries = revoked_by(m->ca, g->root_serial, m->now, &n);
	if (crl)
		there = (size_t)(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)) > 0 ? sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)) : 0);
	if (there < n)
		errs_warn(m->errs, path, 0, "the root's CRL does not name the issuing CA that was revoked; \"gwctl pki crl --root\" makes one that does");
	m->revoked += there;
	mem_free(entries);
	mem_free(path);
	if (crl == NULL) {
		mem_free(pem);
		return NULL;
	}
	X509_CRL_free(crl);
	return pem;
}

/* CRL and certificate of an issuing CA, and its root's CRL. */
static int
put_gen(struct making *m, struct ca_gen *g, struct buf *file)
{
	char *pem, *root;

	if (ca_need_key(m->ca, g, m->errs) != 0 ||
	    (pem = make_crl(m, g->issuing_serial, g->issuing, g->key, m->lifetime_s ? m->lifetime_s : CA_CRL_S)) == NULL)
		return -1;
	root = root_crl(m, g);
	buf_puts(file, g->issuing_pem);
	buf_puts(file, pem);
	if (root)
		buf_puts(file, root);
	mem_free(root);
	mem_free(pem);
	return 0;
}

/* A store that was restored from a backup goes on above the numbers that were published since: they follow the clock. */
static uint64_t
next_number(const struct ca *ca, int64_t now)
{
	uint64_t next = ledger_crl_number(ca->ledger) + 1;

	return now > 0 && (uint64_t)now > next ? (uint64_t)now : next;
}

int
ca_publish(struct ca *ca, struct buf *lines, bool other, const struct ca_crl_request *r, struct ca_crl_done *out, struct errs *errs)
{
	struct making m = { .ca = ca, .now = r->now, .lifetime_s = r->lifetime_s, .number = next_number(ca, r->now), .errs = errs };
	char *name = mem_printf("%s.crl", ca->domain), *path = store_path(&ca->store, name);
	struct buf file;
	int rc = -1;

	buf_init(&file, 0);
	ERR_set_mark();
	ledger_put_crl(lines, m.number, r->now);
	if (ledger_append(ca->ledger, lines, errs) == 0 && (!r->with_root || write_root_crl(&m, &ca->gen[0], r->keys) == 0) &&
	    put_gen(&m, &ca->gen[0], &file) == 0 && (!other || put_gen(&m, &ca->gen[1], &file) == 0))
		rc = store_replace(&ca->store, path, 0644, buf_cstr(&file), errs);
	if (rc == 0 && out) {
		out->path = path;
		path = NULL;
		out->revoked = m.revoked;
		out->next_update = r->now + (r->lifetime_s ? r->lifetime_s : CA_CRL_S);
		snprintf(out->number, sizeof(out->number), "%llx", (unsigned long long)m.number);
	}
	ERR_pop_to_mark();
	buf_fini(&file);
	mem_free(path);
	mem_free(name);
	return rc;
}

int
ca_crl(struct ca *ca, const struct ca_crl_request *r, struct ca_crl_done *out, struct errs *errs)
{
	struct buf lines;
	int rc;

	memset(out, 0, sizeof(*out));
	buf_init(&lines, 0);
	/* A next CA has issued nothing, and who does not know its root yet would refuse the file. */
	rc = ca_publish(ca, &lines, ca->state.old != 0, r, out, errs);
	buf_fini(&lines);
	return rc;
}

struct span {
	int64_t from, until; /* of the one that runs out first; until 0: none seen */
};

static void
on_crl(void *ctx, const struct svid_crl *c)
{
	struct span *s = ctx;

	if (!c->root && (!s->until || c->next_update < s->until))
		*s = (struct span){ c->this_update, c->next_update };
}

int
ca_crl_keep(struct ca *ca, int64_t now, int64_t *until, struct errs *errs)
{
	char *name = mem_printf("%s.crl", ca->domain), *path = store_path(&ca->store, name), *pem = pkifile_read(path, SVID_CRL_MAX);
	struct span s = { 0, 0 };
	const char *why = NULL;
	bool damaged = false;
	int rc = 0;

	*until = 0;
	if (!pem && errno != ENOENT) {
		errs_add(errs, path, 0, "cannot be read: %s", strerror(errno));
		rc = -1;
	} else if (pem && svid_crl_pem_each(pem, strlen(pem), on_crl, &s, &why) < 0) {
		errs_warn(errs, path, 0, "was damaged (%s); a new one is made", why);
		damaged = true;
	}
	*until = s.until;
	if (damaged || (s.until && s.until - now < (s.until - s.from) / 2)) {
		struct ca_crl_request r = { .now = now, .lifetime_s = damaged ? 0 : s.until - s.from - CA_BACKDATE_S };
		struct ca_crl_done done;

		rc = ca_crl(ca, &r, &done, errs) == 0 ? 1 : -1;
		if (rc == 1)
			*until = done.next_update;
		mem_free(done.path);
	}
	mem_free(pem);
	mem_free(path);
	mem_free(name);
	return rc;
}

/* -- revoking ----------------------------------------------------------------------------------------- */

/* The generation whose root signed this, or NULL: then no root's key is needed. */
static struct ca_gen *
signed_by_root(struct ca *ca, const struct ca_entry *e)
{
	for (int i = 0; i < 2; i++)
		if (ca->gen[i].number && strcmp(e->kind, "root") != 0 && strcmp(e->issuer, ca->gen[i].root_serial) == 0)
			return &ca->gen[i];
	return NULL;
}

static int
revocable(struct ca *ca, const char *serial, int64_t now, struct ca_entry *e, struct errs *errs)
{
	if (ca_find(ca, serial, now, e) != 0)
		errs_add(errs, NULL, 0, "cannot revoke %s: this CA never issued it", serial);
	else if (strcmp(e->kind, "root") == 0)
		errs_add(errs, NULL, 0, "cannot revoke %s: no list can take a root's word against itself; \"gwctl pki rotate-ca\" replaces it", serial);
	else if (e->state == CA_EXPIRED)
		errs_add(errs, NULL, 0, "cannot revoke %s: it has ended", serial);
	else if (e->state == CA_RETIRED)
		errs_add(errs, NULL, 0, "cannot revoke %s: its root is out of the bundle, and trusted no more", serial);
	else
		return 0;
	return -1;
}

int
ca_revoke(struct ca *ca, const char *const *serials, size_t n, const char *reason, const struct ca_keys *keys, int64_t now, struct errs *errs)
{
	struct ca_crl_request r = { .now = now, .keys = keys };
	struct ca_gen *roots[2] = { NULL, NULL };
	const char *spelt = ca_reason(reason);
	struct buf lines;
	int rc = -1;

	if (spelt == NULL) {
		errs_add(errs, NULL, 0, "\"%s\" is no reason for revoking", reason);
		return -1;
	}
	buf_init(&lines, 0);
	for (size_t i = 0; i < n; i++) {
		struct ca_entry e;
		struct ca_gen *g;

		if (revocable(ca, serials[i], now, &e, errs) != 0)
			goto out;
		if ((g = signed_by_root(ca, &e)) != NULL)
			roots[g - ca->gen] = g;
		if (e.reason == NULL)
			ledger_put_revoked(&lines, e.serial, now, spelt);
	}
	for (int i = 0; i < 2; i++) {
		/* Before anything is changed. */
		EVP_PKEY *key = roots[i] ? ca_root_key(ca, roots[i], keys, errs) : NULL;

		if (roots[i] && key == NULL)
			goto out;
		EVP_PKEY_free(key);
	}
	if (roots[0] || roots[1]) {
		struct making m = { .ca = ca, .now = now, .number = next_number(ca, now), .errs = errs };

		ledger_put_crl(&lines, m.number, now);
		if (ledger_append(ca->ledger, &lines, errs) != 0)
			goto out;
		buf_reset(&lines);
		for (int i = 0; i < 2; i++)
			if (roots[i] && write_root_crl(&m, roots[i], keys) != 0)
				goto out;
	}
	rc = ca_publish(ca, &lines, ca->state.old != 0, &r, NULL, errs);
out:
	buf_fini(&lines);
	return rc;
}
