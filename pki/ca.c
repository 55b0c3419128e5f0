/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA in memory: opened from its store, closed, and its books looked up.
 *
 *     ca_init.c     makes one; root, issuing CA and cross certificate
 *     ca_issue.c    certificates for gateways and workloads
 *     ca_revoke.c   revocations and the CRL file
 *     ca_rotate.c   one CA replaces the other
 *     ca_bundle.c   what others need to trust it
 *     ledger.c      the books; store.c the directory
 *
 * What counts is on disk first: a certificate's line before the certificate leaves, a revocation's before anybody is told, the state before
 * the new CA's bundle. ca_settle() does again, on each open, what a crash may have left undone after that.
 */
#include "pki/ca_int.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/cert.h"
#include "pki/pkifile.h"
#include "pki/svid_int.h"

/* -- files ----------------------------------------------------------------------------------------- */

char *
ca_read_text(const char *path, bool secret, struct errs *errs)
{
	char *text = secret ? pkifile_read_secret(path, CA_PEM_MAX) : pkifile_read(path, CA_PEM_MAX);

	if (text)
		return text;
	if (secret && errno == EPERM)
		errs_add(errs, path, 0, "others may read this key; \"chmod 600\" it, and ask yourself who did");
	else
		errs_add(errs, path, 0, "%s%s", strerror(errno), errno == ENOENT ? "; is there a CA here? \"gwctl pki init\" makes one" : "");
	return NULL;
}

X509 *
ca_read_cert(const char *path, char **pem_out, struct errs *errs)
{
	char *pem = ca_read_text(path, false, errs);
	const char *why = NULL, *why2 = NULL;
	X509 *x = NULL, *second = NULL;
	BIO *in;

	if (pem == NULL)
		return NULL;
	in = BIO_new_mem_buf(pem, -1);
	x = in ? svid_cert_read(in, &why) : NULL;
	if (x)
		second = svid_cert_read(in, &why2);
	if (x == NULL || second || why2) {
		errs_add(errs, path, 0, "%s", x == NULL ? (why ? why : "no certificate") : "more than one certificate");
		X509_free(x);
		x = NULL;
	}
	X509_free(second);
	BIO_free(in);
	mem_free(pem);
	/* The certificate alone, whatever text stands around it. */
	if (x && pem_out)
		*pem_out = cert_to_pem(x);
	return x;
}

EVP_PKEY *
ca_read_key(const char *path, const char *passphrase, X509 *x, struct errs *errs)
{
	char *pem = ca_read_text(path, true, errs);
	const char *why = NULL;
	EVP_PKEY *k;

	if (pem == NULL)
		return NULL;
	k = pkey_from_pem_encrypted(pem, passphrase, &why);
	pkey_free_pem(pem);
	if (k && X509_check_private_key(x, k) != 1) {
		pkey_free(k);
		k = NULL;
		why = "not the key of the certificate beside it";
	}
	if (k == NULL)
		errs_add(errs, path, 0, "%s%s", why, strcmp(why, "the key is encrypted") ? "" : "; give its passphrase (--passphrase-file)");
	return k;
}

int
ca_need_key(struct ca *ca, struct ca_gen *g, struct errs *errs)
{
	char *path;

	if (g->key)
		return 0;
	path = store_gen_path(&ca->store, g->number, "issuing.key");
	g->key = ca_read_key(path, ca->passphrase, g->issuing, errs);
	mem_free(path);
	return g->key ? 0 : -1;
}

EVP_PKEY *
ca_root_key(struct ca *ca, const struct ca_gen *g, const struct ca_keys *keys, struct errs *errs)
{
	char *path = keys && keys->root_key ? mem_strdup(keys->root_key) : store_gen_path(&ca->store, g->number, "root.key");
	EVP_PKEY *k = NULL;

	if (access(path, F_OK) != 0 && errno == ENOENT)
		errs_add(errs, path, 0, "the root's key is not here; bring it back for this one command, or say where it is (--root-key FILE)");
	else
		k = ca_read_key(path, keys && keys->passphrase ? keys->passphrase : ca->passphrase, g->root, errs);
	mem_free(path);
	return k;
}

void
ca_gen_fini(struct ca_gen *g)
{
	X509_free(g->root);
	X509_free(g->issuing);
	EVP_PKEY_free(g->key);
	mem_free(g->root_pem);
	mem_free(g->issuing_pem);
	memset(g, 0, sizeof(*g));
}

int
ca_gen_read(const struct store *s, unsigned n, struct ca_gen *g, struct errs *errs)
{
	char *root = store_gen_path(s, n, "root.crt"), *issuing = store_gen_path(s, n, "issuing.crt");
	int rc = -1;

	memset(g, 0, sizeof(*g));
	g->number = n;
	if ((g->root = ca_read_cert(root, &g->root_pem, errs)) != NULL && (g->issuing = ca_read_cert(issuing, &g->issuing_pem, errs)) != NULL) {
		svid_cert_serial(g->root, g->root_serial, sizeof(g->root_serial));
		svid_cert_serial(g->issuing, g->issuing_serial, sizeof(g->issuing_serial));
		rc = 0;
	}
	mem_free(root);
	mem_free(issuing);
	return rc;
}

/* -- opening and closing ----------------------------------------------------------------------------- */

char *
ca_domain_of(X509 *x)
{
	static const char scheme[] = "spiffe://";
	const size_t n = sizeof(scheme) - 1;
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	char *domain = NULL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && domain == NULL; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		const char *p;
		size_t len;

		if (g->type != GEN_URI)
			continue;
		p = (const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
		len = (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier);
		if (len > n && memcmp(p, scheme, n) == 0 && spiffe_domain_valid(p + n, len - n))
			domain = mem_strndup(p + n, len - n);
	}
	GENERAL_NAMES_free(names);
	return domain;
}

static void
unload(struct ca *ca)
{
	svid_bundle_unref(ca->bundle);
	ca->bundle = NULL;
	ca_gen_fini(&ca->gen[0]);
	ca_gen_fini(&ca->gen[1]);
	mem_free(ca->domain);
	ca->domain = NULL;
}

static int
load_gens(struct ca *ca, struct errs *errs)
{
	unsigned other = ca->state.next ? ca->state.next : ca->state.old;
	const char *why = NULL;

	if (ca_gen_read(&ca->store, ca->state.current, &ca->gen[0], errs) != 0 || ca_need_key(ca, &ca->gen[0], errs) != 0 ||
	    (other && ca_gen_read(&ca->store, other, &ca->gen[1], errs) != 0))
		return -1;
	ca->domain = ca_domain_of(ca->gen[0].issuing);
	if (ca->domain == NULL) {
		errs_add(errs, ca->store.ca, 0, "a CA without the SPIFFE ID of a trust domain");
		return -1;
	}
	ca->bundle = svid_bundle_new(ca->domain, ca->gen[0].root_pem, &why);
	if (ca->bundle == NULL)
		errs_add(errs, ca->store.ca, 0, "the root's certificate is of no use: %s", why);
	return ca->bundle ? 0 : -1;
}

static int
load_ledger(struct ca *ca, struct errs *errs)
{
	size_t before = errs->errors;
	char *path;

	if (ca->ledger) {
		if (ledger_refresh(ca->ledger, errs) == 0)
			return 0;
	} else {
		path = store_ca_path(&ca->store, "index");
		ca->ledger = ledger_open(path, errs);
		mem_free(path);
		if (ca->ledger && errs->errors == before)
			return 0;
	}
	/* A damaged line may be a revocation: going on would let it be forgotten. */
	errs_add(errs, ca->store.ca, 0, "nothing is issued or revoked while the index is damaged; restore it from a backup, or repair these lines");
	ledger_close(ca->ledger);
	ca->ledger = NULL;
	return -1;
}

int
ca_load(struct ca *ca, struct errs *errs)
{
	struct store_state st;
	int rc = -1;

	ERR_set_mark();
	if (store_state_read(&ca->store, &st, errs) != 0)
		goto out;
	if (memcmp(&st, &ca->state, sizeof(st)) != 0) {
		unload(ca);
		ca->state = st;
		if (load_gens(ca, errs) != 0) {
			memset(&ca->state, 0, sizeof(ca->state));
			goto out;
		}
	}
	if (load_ledger(ca, errs) == 0)
		rc = ca_settle(ca, errs);
out:
	ERR_pop_to_mark();
	return rc;
}

/* By errno. */
static void
no_ca(const char *path, const char *dir, struct errs *errs)
{
	if (errno == EACCES)
		errs_add(errs, path, 0, "%s; run gwctl as root or as the user who owns %s", strerror(errno), dir);
	else
		errs_add(errs, path, 0, "%s; is there a CA in %s? \"gwctl pki init\" makes one", strerror(errno), dir);
}

struct ca *
ca_open(const char *dir, const struct ca_keys *keys, struct errs *errs)
{
	struct ca *ca = mem_zalloc(sizeof(*ca));

	store_init(&ca->store, dir);
	ca->passphrase = keys && keys->passphrase ? pkey_secret(keys->passphrase) : NULL;
	/* A mistyped --dir must not leave a directory behind. */
	if (access(ca->store.ca, F_OK) != 0)
		no_ca(ca->store.ca, dir, errs);
	else if (store_lock(&ca->store, CA_LOCK_MS, errs) == 0 && ca_load(ca, errs) == 0)
		return ca;
	ca_close(ca);
	return NULL;
}

void
ca_close(struct ca *ca)
{
	if (ca == NULL)
		return;
	unload(ca);
	ledger_close(ca->ledger);
	pkey_free_secret(ca->passphrase);
	store_fini(&ca->store);
	mem_free(ca);
}

void
ca_unlock(struct ca *ca)
{
	store_unlock(&ca->store);
}

int
ca_lock(struct ca *ca, struct errs *errs)
{
	if (store_lock(&ca->store, CA_LOCK_MS, errs) != 0)
		return -1;
	if (ca_load(ca, errs) == 0)
		return 0;
	store_unlock(&ca->store);
	return -1;
}

const char *
ca_domain(const struct ca *ca)
{
	return ca->domain;
}

const char *
ca_issuing_pem(const struct ca *ca)
{
	return ca->gen[0].issuing_pem;
}

int64_t
ca_issuing_end(const struct ca *ca)
{
	int64_t end;

	return svid_cert_time(X509_get0_notAfter(ca->gen[0].issuing), &end) == 0 ? end : 0;
}

static bool
file_encrypted(const char *path)
{
	char *pem = pkifile_read_secret(path, CA_PEM_MAX);
	bool yes = pem && pkey_pem_is_encrypted(pem);

	pkey_free_pem(pem);
	return yes;
}

bool
ca_encrypted(const char *dir, const struct ca_keys *keys)
{
	static const char *const names[] = { "issuing.key", "root.key" };
	bool yes = keys && keys->root_key && file_encrypted(keys->root_key);
	struct store_state st;
	struct store s;
	struct errs errs;

	errs_init(&errs);
	store_init(&s, dir);
	if (store_state_read(&s, &st, &errs) == 0) {
		const unsigned gens[] = { st.current, st.next, st.old };

		for (size_t i = 0; i < 6 && !yes; i++) {
			char *path = gens[i / 2] ? store_gen_path(&s, gens[i / 2], names[i % 2]) : NULL;

			yes = path && file_encrypted(path);
			mem_free(path);
		}
	}
	store_fini(&s);
	errs_fini(&errs);
	return yes;
}

/* -- the books --------------------------------------------------------------------------------------- */

const char *
ca_state_text(enum ca_state s)
{
	static const char *const texts[] = { [CA_VALID] = "valid", [CA_NOT_YET_VALID] = "not-yet-valid", [CA_EXPIRED] = "expired",
		[CA_REVOKED] = "revoked", [CA_SUPERSEDED] = "superseded", [CA_RETIRED] = "retired" };

	return texts[s];
}

/* Whose root is in no bundle any more. */
static bool
is_retired(const struct ca_gen gens[2], const struct ledger_entry *e)
{
	bool leaf = strcmp(e->kind, "gateway") == 0 || strcmp(e->kind, "workload") == 0;

	for (int i = 0; i < 2; i++)
		if (gens[i].number && strcmp(e->issuer, leaf ? gens[i].issuing_serial : gens[i].root_serial) == 0)
			return false;
	return true;
}

void
ca_entry_of(struct ledger *l, const struct ca_gen gens[2], uint32_t i, int64_t now, struct ca_entry *out)
{
	uint32_t successor = ledger_successor(l, i);
	struct ledger_entry e;

	ledger_get(l, i, &e);
	*out = (struct ca_entry){ .serial = e.serial, .kind = e.kind, .id = e.id, .issuer = e.issuer, .how = e.how, .predecessor = e.predecessor,
		.dns = e.dns, .not_before = e.not_before, .not_after = e.not_after, .revoked_at = e.revoked_at, .reason = e.reason };
	if (e.reason)
		out->state = CA_REVOKED;
	else if (e.not_after < now)
		out->state = CA_EXPIRED;
	else if (is_retired(gens, &e))
		out->state = CA_RETIRED;
	else if (e.not_before > now)
		out->state = CA_NOT_YET_VALID;
	else if (successor != LEDGER_NONE && !ledger_is_revoked(l, successor))
		out->state = CA_SUPERSEDED;
	else
		out->state = CA_VALID;
}

/* What people and other programs write, as the books have it. */
static bool
plain_serial(char out[LEDGER_SERIAL_LEN + 1], const char *serial)
{
	size_t n = 0;

	for (const char *c = serial; *c; c++) {
		if (*c == ':')
			continue;
		if (n == LEDGER_SERIAL_LEN || !isxdigit((unsigned char)*c))
			return false;
		out[n++] = (char)tolower((unsigned char)*c);
	}
	out[n] = 0;
	return n == LEDGER_SERIAL_LEN;
}

static uint32_t
number_of(const struct ca *ca, const char *serial)
{
	char plain[LEDGER_SERIAL_LEN + 1];

	return plain_serial(plain, serial) ? ledger_find(ca->ledger, plain) : LEDGER_NONE;
}

int
ca_find(const struct ca *ca, const char *serial, int64_t now, struct ca_entry *out)
{
	uint32_t i = number_of(ca, serial);

	if (i == LEDGER_NONE)
		return -1;
	ca_entry_of(ca->ledger, ca->gen, i, now, out);
	return 0;
}

int
ca_successor_of(const struct ca *ca, const char *serial, int64_t now, struct ca_entry *out)
{
	uint32_t of = number_of(ca, serial), i = of == LEDGER_NONE ? LEDGER_NONE : ledger_successor(ca->ledger, of);

	/* The last one, unless it was revoked: then there may be one before it. */
	for (; i != LEDGER_NONE && i > of; i--)
		if (ledger_predecessor(ca->ledger, i) == of && !ledger_is_revoked(ca->ledger, i)) {
			ca_entry_of(ca->ledger, ca->gen, i, now, out);
			return 0;
		}
	return -1;
}

bool
ca_is_revoked(const struct ca *ca, const char *serial)
{
	uint32_t i = number_of(ca, serial);

	return i != LEDGER_NONE && ledger_is_revoked(ca->ledger, i);
}

static void
each(struct ledger *l, const struct ca_gen gens[2], const char *id, int64_t now, ca_entry_fn *on_entry, void *ctx)
{
	for (uint32_t i = 0, n = ledger_n(l); i < n; i++) {
		struct ca_entry e;

		if (id && !ledger_has_id(l, i, id))
			continue;
		ca_entry_of(l, gens, i, now, &e);
		on_entry(ctx, &e);
	}
}

void
ca_each(const struct ca *ca, const char *id, int64_t now, ca_entry_fn *on_entry, void *ctx)
{
	each(ca->ledger, ca->gen, id, now, on_entry, ctx);
}

int
ca_list(const char *dir, int64_t now, ca_entry_fn *on_entry, void *ctx, struct errs *errs)
{
	struct ca_gen gens[2] = { { 0 }, { 0 } };
	struct ledger *l = NULL;
	struct store_state st;
	struct store s;
	char *path;

	store_init(&s, dir);
	path = store_ca_path(&s, "index");
	if (access(s.ca, F_OK) != 0)
		no_ca(s.ca, dir, errs);
	else if (store_state_read(&s, &st, errs) == 0 && ca_gen_read(&s, st.current, &gens[0], errs) == 0 &&
	    (st.next + st.old == 0 || ca_gen_read(&s, st.next + st.old, &gens[1], errs) == 0))
		l = ledger_open(path, errs);
	if (l)
		each(l, gens, NULL, now, on_entry, ctx);
	ca_gen_fini(&gens[0]);
	ca_gen_fini(&gens[1]);
	mem_free(path);
	store_fini(&s);
	if (l == NULL)
		return -1;
	ledger_close(l);
	return 0;
}
