/* SPDX-License-Identifier: Apache-2.0 */
/* A CA is built whole in a directory of its own and moved into place. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "pki/ca_int.h"
#include "pki/cert.h"
#include "pki/svid_int.h"

static int
put(const struct ca_birth *b, const char *name, mode_t mode, const char *text)
{
	char *path = mem_printf("%s/%s", b->dir, name);
	int rc = store_write_new(b->store, path, mode, text, b->errs);

	mem_free(path);
	return rc;
}

static int
put_cert(const struct ca_birth *b, const char *name, X509 *x)
{
	char *pem = x ? cert_to_pem(x) : NULL;
	int rc = -1;

	if (pem == NULL)
		errs_add(b->errs, NULL, 0, "cannot make \"%s\" for the CA of \"%s\"", name, b->domain);
	else
		rc = put(b, name, 0644, pem);
	mem_free(pem);
	return rc;
}

static int
put_key(const struct ca_birth *b, const char *name, EVP_PKEY *k)
{
	char *pem = pkey_to_pem_encrypted(k, b->passphrase);
	int rc = put(b, name, 0600, pem);

	pkey_free_pem(pem);
	return rc;
}

/* One after the other has a name of its own: CRLs are told apart by their issuer's. */
static char *
common_name(const struct ca_birth *b, const char *kind)
{
	return b->n == 1 ? mem_printf("%s %s CA", b->domain, kind) : mem_printf("%s %s CA %u", b->domain, kind, b->n);
}

static X509 *
certify(const struct ca_birth *b, const char *kind, int64_t until, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	bool issuing = strcmp(kind, "issuing") == 0;
	char *cn = common_name(b, kind), *id = mem_printf("spiffe://%s", b->domain);
	struct cert_spec s = { .ca = true, .path_len = issuing ? 0 : 1, .organization = b->domain, .common_name = cn, .id = id,
		.constraint = b->domain, .not_before = b->now - CA_BACKDATE_CA_S, .not_after = until };
	X509 *x;

	cert_serial(s.serial);
	x = cert_make(&s, key, issuer, issuer_key);
	mem_free(cn);
	mem_free(id);
	return x;
}

/* RFC 4210 4.4: the new root's key, certified by the old root, for no longer than that one lasts. */
static X509 *
cross_certify(const struct ca_birth *b, EVP_PKEY *root_key)
{
	int64_t until;

	if (svid_cert_time(X509_get0_notAfter(b->old_root), &until) != 0)
		return NULL;
	if (until > b->now + CA_ROOT_S)
		until = b->now + CA_ROOT_S;
	return certify(b, "root", until, root_key, b->old_root, b->old_root_key);
}

int
ca_make(const struct ca_birth *b)
{
	EVP_PKEY *root_key = pkey_new(b->alg), *issuing_key = pkey_new(b->alg);
	X509 *root, *issuing, *cross = NULL;
	int rc = -1;

	ERR_set_mark();
	root = certify(b, "root", b->now + CA_ROOT_S, root_key, NULL, root_key);
	issuing = root ? certify(b, "issuing", b->now + CA_ISSUING_S, issuing_key, root, root_key) : NULL;
	if (put_cert(b, "root.crt", root) == 0 && put_cert(b, "issuing.crt", issuing) == 0 && put_key(b, "root.key", root_key) == 0 &&
	    put_key(b, "issuing.key", issuing_key) == 0)
		rc = 0;
	if (rc == 0 && b->old_root) {
		cross = cross_certify(b, root_key);
		rc = put_cert(b, "cross.crt", cross);
	}
	X509_free(root);
	X509_free(issuing);
	X509_free(cross);
	EVP_PKEY_free(root_key);
	EVP_PKEY_free(issuing_key);
	ERR_pop_to_mark();
	return rc;
}

int
ca_put_ca(struct buf *lines, const char *kind, X509 *x, const char *issuer, struct errs *errs)
{
	char serial[CA_SERIAL_MAX + 1], *domain = ca_domain_of(x), *id = NULL;
	struct ledger_entry e = { .serial = serial, .kind = kind, .issuer = issuer ? issuer : serial };
	int rc = -1;

	svid_cert_serial(x, serial, sizeof(serial));
	if (domain == NULL || strlen(serial) != LEDGER_SERIAL_LEN || svid_cert_time(X509_get0_notBefore(x), &e.not_before) != 0 ||
	    svid_cert_time(X509_get0_notAfter(x), &e.not_after) != 0) {
		errs_add(errs, NULL, 0, "a CA certificate that was not made here");
	} else {
		e.id = id = mem_printf("spiffe://%s", domain);
		ledger_put_issued(lines, &e);
		rc = 0;
	}
	mem_free(domain);
	mem_free(id);
	return rc;
}

/* -- settling ---------------------------------------------------------------------------------------- */

static int
settle_books(struct ca *ca, struct errs *errs)
{
	struct ca_gen *newer = ca->state.next ? &ca->gen[1] : &ca->gen[0], *older = ca->state.next ? &ca->gen[0] : &ca->gen[1];
	char serial[CA_SERIAL_MAX + 1];
	struct buf lines;
	int rc = 0;

	buf_init(&lines, 0);
	for (int i = 0; i < 2 && rc == 0; i++) {
		struct ca_gen *g = &ca->gen[i];

		if (g->number == 0)
			continue;
		if (ledger_find(ca->ledger, g->root_serial) == LEDGER_NONE)
			rc = ca_put_ca(&lines, "root", g->root, NULL, errs);
		if (rc == 0 && ledger_find(ca->ledger, g->issuing_serial) == LEDGER_NONE)
			rc = ca_put_ca(&lines, "issuing", g->issuing, g->root_serial, errs);
	}
	if (rc == 0 && older->number) {
		char *path = store_gen_path(&ca->store, newer->number, "cross.crt");
		X509 *cross = ca_read_cert(path, NULL, errs);

		if (cross)
			svid_cert_serial(cross, serial, sizeof(serial));
		if (cross == NULL || (ledger_find(ca->ledger, serial) == LEDGER_NONE && ca_put_ca(&lines, "cross", cross, older->root_serial, errs) != 0))
			rc = -1;
		X509_free(cross);
		mem_free(path);
	}
	if (rc == 0 && lines.len)
		rc = ledger_append(ca->ledger, &lines, errs);
	buf_fini(&lines);
	return rc;
}

static int
settle_bundle(struct ca *ca, struct errs *errs)
{
	char *name = mem_printf("%s.pem", ca->domain), *path = store_path(&ca->store, name), *want, *is;
	int rc = -1;

	want = ca_roots_pem(&ca->store, &ca->state, errs);
	is = want ? pkifile_read(path, CA_PEM_MAX) : NULL;
	if (want && is && strcmp(is, want) == 0)
		rc = 0;
	else if (want)
		rc = store_replace(&ca->store, path, 0644, want, errs);
	mem_free(is);
	mem_free(want);
	mem_free(path);
	mem_free(name);
	return rc;
}

int
ca_settle(struct ca *ca, struct errs *errs)
{
	return settle_books(ca, errs) == 0 && settle_bundle(ca, errs) == 0 ? 0 : -1;
}

/* -- the first ---------------------------------------------------------------------------------------- */

/* The books of a new CA, and the bundle beside, where the configuration of this domain's gateways looks for it. */
static int
first_books(const struct ca_birth *b)
{
	char *path = mem_printf("%s/root.crt", b->dir), *path2 = mem_printf("%s/issuing.crt", b->dir), serial[CA_SERIAL_MAX + 1];
	X509 *root = ca_read_cert(path, NULL, b->errs), *issuing = ca_read_cert(path2, NULL, b->errs);
	struct buf lines;
	int rc = -1;

	buf_init(&lines, 0);
	if (root && issuing) {
		svid_cert_serial(root, serial, sizeof(serial));
		if (ca_put_ca(&lines, "root", root, NULL, b->errs) == 0 && ca_put_ca(&lines, "issuing", issuing, serial, b->errs) == 0)
			rc = put(b, "index", 0600, buf_cstr(&lines));
	}
	buf_fini(&lines);
	X509_free(root);
	X509_free(issuing);
	mem_free(path);
	mem_free(path2);
	return rc;
}

static int
build_and_move(struct ca_birth *b)
{
	const struct store *s = b->store;
	uint8_t random[8];
	char hex[17] = "", *tmp;
	int rc = -1;

	hash_random(random, sizeof(random));
	esc_hex(hex, random, sizeof(random));
	tmp = mem_printf("%s.%s.tmp", s->ca, hex);
	b->dir = tmp;
	if (store_make_dir(s, tmp, b->errs) != 0) {
		mem_free(tmp);
		return -1;
	}
	if (ca_make(b) == 0 && first_books(b) == 0) {
		/* Also refused where somebody made it without our lock: never over another CA. */
		if (renameat2(AT_FDCWD, tmp, AT_FDCWD, s->ca, RENAME_NOREPLACE) == 0 && pkifile_sync_dir(s->dir) == 0)
			rc = 0;
		else
			errs_add(b->errs, s->ca, 0, "cannot put the new CA in its place: %s", strerror(errno));
	}
	if (rc != 0)
		store_remove_dir(tmp);
	mem_free(tmp);
	return rc;
}

static int
publish_first(const struct store *s, const char *domain, struct errs *errs)
{
	char *pem = ca_bundle(s->dir, errs), *path = mem_printf("%s/%s.pem", s->dir, domain);
	int rc = pem ? store_replace(s, path, 0644, pem, errs) : -1;

	mem_free(path);
	mem_free(pem);
	return rc;
}

int
ca_init(const char *dir, const char *domain, enum pkey_alg alg, const struct ca_keys *keys, int64_t now, struct errs *errs)
{
	struct store s;
	struct ca_birth b = { .store = &s, .domain = domain, .passphrase = keys ? keys->passphrase : NULL, .n = 1, .now = now, .alg = alg,
		.errs = errs };
	int rc = -1;

	if (!spiffe_domain_valid(domain, strlen(domain))) {
		errs_add(errs, NULL, 0, "\"%s\" is no trust domain: lower-case letters, digits, \"-\", \"_\" and single dots, as in hud.example", domain);
		return -1;
	}
	store_init(&s, dir);
	if (store_lock(&s, CA_LOCK_MS, errs) != 0)
		goto out;
	if (access(s.ca, F_OK) == 0) {
		errs_add(errs, s.ca, 0, "there is a CA already, and it stays; give another --dir, or use it with \"gwctl pki issue\"");
		goto out;
	}
	if (build_and_move(&b) == 0)
		rc = publish_first(&s, domain, errs);
out:
	store_fini(&s);
	return rc;
}
