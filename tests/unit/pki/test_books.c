/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of certificates: successors, revocation and CRLs, one CA in the place of another; keys that are encrypted, files of another user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/ca.h"
#include "pki/crl.h"
#include "pki/ledger.h"
#include "pki/pkifile.h"
#include "pki/store.h"
#include "pki/svid.h"
#include "tests/unit/pki/zoo.h"

static char root_dir[] = "/tmp/test_books.XXXXXX";
static unsigned dirs;

static int
setup(void **state)
{
	(void)state;
	return mkdtemp(root_dir) ? 0 : -1;
}

static int
teardown(void **state)
{
	char *cmd = mem_printf("rm -rf %s", root_dir);
	int rc = system(cmd);

	(void)state;
	mem_free(cmd);
	return rc;
}

static void
must(struct errs *e, bool ok)
{
	for (size_t i = 0; !ok && i < e->n; i++)
		print_error("%s\n", e->items[i].text);
	assert_true(ok);
}

/* A fault contains this, and is forgotten with the others. */
static void
fault_is(struct errs *e, const char *text)
{
	bool found = false;

	for (size_t i = 0; i < e->n; i++)
		found = found || strstr(e->items[i].text, text);
	for (size_t i = 0; !found && i < e->n; i++)
		print_error("\"%s\" without \"%s\"\n", e->items[i].text, text);
	assert_true(found);
	errs_fini(e);
	errs_init(e);
}

static char *
new_ca(enum pkey_alg alg, const struct ca_keys *keys)
{
	char *dir = mem_printf("%s/ca%u", root_dir, dirs++);
	struct errs e;

	errs_init(&e);
	must(&e, ca_init(dir, "hud.example", alg, keys, zoo_now, &e) == 0);
	errs_fini(&e);
	return dir;
}

static struct ca *
opened(const char *dir, const struct ca_keys *keys)
{
	struct errs e;
	struct ca *ca;

	errs_init(&e);
	ca = ca_open(dir, keys, &e);
	must(&e, ca != NULL);
	errs_fini(&e);
	return ca;
}

static struct ca_issued
issue(struct ca *ca, const char *name, const char *predecessor)
{
	char *id = mem_printf("spiffe://hud.example/%s", name);
	struct ca_request r = { .kind = strncmp(name, "gateway/", 8) ? "workload" : "gateway", .id = id, .now = zoo_now, .predecessor = predecessor,
		.how = predecessor ? "renewal" : NULL };
	struct ca_issued out;
	struct errs e;

	errs_init(&e);
	must(&e, ca_issue(ca, &r, &out, &e) == 0);
	errs_fini(&e);
	mem_free(id);
	return out;
}

static char *
file_of(const char *dir, const char *name)
{
	char *path = mem_printf("%s/%s", dir, name), *text = pkifile_read(path, 1 << 24);

	mem_free(path);
	return text;
}

/* As a gateway that has this bundle and this CRL file (NULL: none) sees it. */
static enum svid_reason
seen(const char *bundle_pem, const char *crl, enum svid_revocation mode, const char *chain, int64_t now)
{
	struct svid_info *info = mem_zalloc(sizeof(*info));
	const char *why = NULL, *detail;
	struct svid_bundle *b = svid_bundle_new("hud.example", bundle_pem, &why);
	enum svid_reason r;

	assert_non_null(b);
	svid_bundle_set_revocation(b, mode);
	if (crl && svid_bundle_add_crls(b, crl, strlen(crl), now, &why) < 0) {
		print_error("%s\n", why);
		assert_true(false);
	}
	r = svid_verify_pem(chain, b, now, info, &detail);
	svid_bundle_unref(b);
	mem_free(info);
	return r;
}

/* -- successors --------------------------------------------------------------------------------- */

static void
successors(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL), upper[64];
	struct ca *ca = opened(dir, NULL);
	struct ca_issued a = issue(ca, "w", NULL), b = issue(ca, "w", a.serial), c = issue(ca, "w", a.serial), v = issue(ca, "v", NULL);
	struct ca_request r = { .kind = "workload", .id = "spiffe://hud.example/v", .now = zoo_now };
	const char *serials[] = { c.serial, b.serial };
	struct ca_issued out;
	struct ca_entry e;
	struct errs errs;
	(void)state;

	errs_init(&errs);
	assert_int_equal(ca_find(ca, a.serial, zoo_now, &e), 0);
	assert_int_equal(e.state, CA_SUPERSEDED);
	assert_string_equal(e.how, "operator");
	assert_null(e.predecessor);
	assert_int_equal(ca_find(ca, a.serial, zoo_now + CA_WORKLOAD_S + 1, &e), 0);
	assert_int_equal(e.state, CA_EXPIRED);
	assert_int_equal(ca_find(ca, v.serial, zoo_now - 301, &e), 0);
	assert_int_equal(e.state, CA_NOT_YET_VALID);
	assert_int_equal(ca_successor_of(ca, a.serial, zoo_now, &e), 0);
	assert_string_equal(e.serial, c.serial);
	assert_string_equal(e.predecessor, a.serial);
	assert_string_equal(e.how, "renewal");
	assert_int_equal(ca_successor_of(ca, b.serial, zoo_now, &e), -1);
	/* Its last successor revoked, it has the one before; both, and it has none. */
	for (int i = 0; i < 2; i++) {
		must(&errs, ca_revoke(ca, &serials[i], 1, "superseded", NULL, zoo_now, &errs) == 0);
		assert_true(ca_is_revoked(ca, serials[i]));
		assert_int_equal(ca_successor_of(ca, a.serial, zoo_now, &e), i - 0 ? -1 : 0);
		if (i == 0)
			assert_string_equal(e.serial, b.serial);
	}
	assert_int_equal(ca_find(ca, a.serial, zoo_now, &e), 0);
	assert_int_equal(e.state, CA_VALID);
	assert_false(ca_is_revoked(ca, a.serial));
	/* As openssl prints it. */
	for (size_t i = 0, at = 0; a.serial[i]; i++) {
		if (i && i % 2 == 0)
			upper[at++] = ':';
		upper[at++] = (char)(a.serial[i] >= 'a' ? a.serial[i] - 32 : a.serial[i]);
		upper[at] = 0;
	}
	assert_int_equal(ca_find(ca, upper, zoo_now, &e), 0);
	assert_int_equal(ca_find(ca, "12", zoo_now, &e), -1);
	assert_int_equal(ca_find(ca, "", zoo_now, &e), -1);
	/* A predecessor is somebody's own, and in force or at least not revoked. */
	r.predecessor = a.serial;
	assert_int_equal(ca_issue(ca, &r, &out, &errs), -1);
	fault_is(&errs, "it is of \"spiffe://hud.example/w\"");
	r.predecessor = "0000000000000000000000000000000000000000";
	assert_int_equal(ca_issue(ca, &r, &out, &errs), -1);
	fault_is(&errs, "never issued");
	r.id = "spiffe://hud.example/w";
	r.predecessor = b.serial;
	assert_int_equal(ca_issue(ca, &r, &out, &errs), -1);
	fault_is(&errs, "was revoked (superseded)");
	errs_fini(&errs);
	ca_issued_fini(&a);
	ca_issued_fini(&b);
	ca_issued_fini(&c);
	ca_issued_fini(&v);
	ca_close(ca);
	mem_free(dir);
}

/* One that stays open sees what another did while it had given the lock away. */
static void
unlocked(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL);
	struct ca *a = opened(dir, NULL), *b;
	struct ca_issued one, two, three;
	const char *serial;
	struct ca_entry e;
	struct errs errs;
	(void)state;

	errs_init(&errs);
	one = issue(a, "w", NULL);
	ca_unlock(a);
	b = opened(dir, NULL);
	two = issue(b, "w", one.serial);
	serial = one.serial;
	must(&errs, ca_revoke(b, &serial, 1, "keyCompromise", NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_begin(b, PKEY_P384, NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_switch(b, NULL, zoo_now, &errs) == 0);
	ca_close(b);
	must(&errs, ca_lock(a, &errs) == 0);
	assert_int_equal(ca_find(a, two.serial, zoo_now, &e), 0);
	assert_true(ca_is_revoked(a, one.serial));
	three = issue(a, "w", two.serial);
	assert_int_equal(ca_find(a, three.serial, zoo_now, &e), 0);
	assert_int_equal(ca_find(a, e.issuer, zoo_now, &e), 0);
	assert_true(e.not_after >= zoo_now + CA_ISSUING_S); /* the new CA's */
	ca_close(a);
	errs_fini(&errs);
	ca_issued_fini(&one);
	ca_issued_fini(&two);
	ca_issued_fini(&three);
	mem_free(dir);
}

/* -- revocation ---------------------------------------------------------------------------------- */

static uint64_t
number_in(const char *crl_file)
{
	X509_CRL *crl = crl_from_pem(crl_file);
	ASN1_INTEGER *n = crl ? X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL) : NULL;
	uint64_t v = 0;

	assert_non_null(n);
	assert_int_equal(ASN1_INTEGER_get_uint64(&v, n), 1);
	ASN1_INTEGER_free(n);
	X509_CRL_free(crl);
	return v;
}

static void
revocation(void **state)
{
	static const enum pkey_alg algs[] = { PKEY_P256, PKEY_P384, PKEY_ED25519 };
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		char *dir = new_ca(algs[i], NULL), *bundle, *crl, *crl2;
		struct ca *ca = opened(dir, NULL);
		struct ca_issued w = issue(ca, "w", NULL), v = issue(ca, "v", NULL);
		const char *serial = w.serial, *unknown = "00000000000000000000000000000000000000aa";
		struct ca_crl_request r = { .now = zoo_now + 1 };
		struct ca_crl_done done;
		struct errs errs;

		errs_init(&errs);
		bundle = ca_bundle(dir, &errs);
		assert_int_equal(ca_revoke(ca, &unknown, 1, "keyCompromise", NULL, zoo_now, &errs), -1);
		fault_is(&errs, "never issued");
		assert_int_equal(ca_revoke(ca, &serial, 1, "boredom", NULL, zoo_now, &errs), -1);
		fault_is(&errs, "no reason");
		assert_false(ca_is_revoked(ca, w.serial));
		must(&errs, ca_revoke(ca, &serial, 1, "KEYcompromise", NULL, zoo_now, &errs) == 0);
		crl = file_of(dir, "hud.example.crl");
		assert_int_equal(seen(bundle, crl, SVID_REV_REQUIRED, w.chain_pem, zoo_now), SVID_REVOKED);
		assert_int_equal(seen(bundle, crl, SVID_REV_REQUIRED, v.chain_pem, zoo_now), SVID_OK);
		assert_int_equal(seen(bundle, NULL, SVID_REV_REQUIRED, v.chain_pem, zoo_now), SVID_NO_CRL);
		/* The number grows with each, also where the clock goes back. */
		for (int k = 0; k < 3; k++) {
			uint64_t before = number_in(strstr(crl, "-----BEGIN X509 CRL"));

			r.now = zoo_now - 1000 * k;
			must(&errs, ca_crl(ca, &r, &done, &errs) == 0);
			assert_int_equal(done.revoked, 1);
			crl2 = file_of(dir, "hud.example.crl");
			assert_true(number_in(strstr(crl2, "-----BEGIN X509 CRL")) > before);
			mem_free(done.path);
			mem_free(crl);
			crl = crl2;
		}
		/* What has ended is not listed, and cannot be revoked. */
		r.now = zoo_now + CA_WORKLOAD_S + 1;
		must(&errs, ca_crl(ca, &r, &done, &errs) == 0);
		assert_int_equal(done.revoked, 0);
		mem_free(done.path);
		serial = v.serial;
		assert_int_equal(ca_revoke(ca, &serial, 1, "unspecified", NULL, r.now, &errs), -1);
		fault_is(&errs, "it has ended");
		errs_fini(&errs);
		ca_close(ca);
		ca_issued_fini(&w);
		ca_issued_fini(&v);
		mem_free(bundle);
		mem_free(crl);
		mem_free(dir);
	}
}

/* A published CRL is made anew before it runs out, for as long as it was made for; where none was published, none is. */
static void
crl_is_kept(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL), *name, *crl, *crl2;
	const int64_t day = 86400;
	struct ca_crl_request r = { .now = zoo_now, .lifetime_s = 10 * day };
	struct ca_crl_done done;
	struct errs errs;
	struct ca *ca;
	int64_t until = 7;

	(void)state;
	errs_init(&errs);
	ca = ca_open(dir, NULL, &errs);
	must(&errs, ca != NULL);
	assert_int_equal(ca_crl_keep(ca, zoo_now, &until, &errs), 0);
	assert_int_equal(until, 0);
	must(&errs, ca_crl(ca, &r, &done, &errs) == 0);
	mem_free(done.path);
	crl = file_of(dir, "hud.example.crl");
	assert_int_equal(ca_crl_keep(ca, zoo_now + 4 * day, &until, &errs), 0);
	assert_int_equal(until, zoo_now + 10 * day);
	crl2 = file_of(dir, "hud.example.crl");
	assert_string_equal(crl, crl2);
	mem_free(crl2);
	assert_int_equal(ca_crl_keep(ca, zoo_now + 6 * day, &until, &errs), 1);
	assert_int_equal(until, zoo_now + 16 * day);
	crl2 = file_of(dir, "hud.example.crl");
	assert_true(number_in(strstr(crl2, "-----BEGIN X509 CRL")) > number_in(strstr(crl, "-----BEGIN X509 CRL")));
	assert_int_equal(ca_crl_keep(ca, zoo_now + 10 * day, &until, &errs), 0);
	assert_int_equal(ca_crl_keep(ca, zoo_now + 100 * day, &until, &errs), 1); /* it had run out long ago */
	assert_int_equal(until, zoo_now + 110 * day);
	/* What somebody made of it does not matter: it is ours. */
	name = mem_printf("%s/hud.example.crl", dir);
	assert_int_equal(truncate(name, 100), 0);
	assert_int_equal(ca_crl_keep(ca, zoo_now + 100 * day, &until, &errs), 1);
	assert_int_equal(until, zoo_now + 100 * day + CA_CRL_S);
	assert_int_equal(errs.errors, 0);
	ca_close(ca);
	errs_fini(&errs);
	mem_free(name);
	mem_free(crl);
	mem_free(crl2);
	mem_free(dir);
}

/* The issuing CA itself: in its root's CRL, which needs the root's key. */
static void
issuing_revoked(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL), *key = mem_printf("%s/ca/root.key", dir), *away = mem_printf("%s/root.key", dir), *crl, *bundle;
	struct ca *ca = opened(dir, NULL);
	struct ca_issued w = issue(ca, "w", NULL);
	struct ca_keys keys = { .root_key = away };
	struct ca_request r = { .kind = "workload", .id = "spiffe://hud.example/v", .now = zoo_now };
	char issuer[64], root[64];
	const char *serials[2] = { w.serial, issuer }, *root_serial = root;
	struct ca_issued out;
	struct ca_entry e;
	struct errs errs;
	(void)state;

	errs_init(&errs);
	assert_int_equal(ca_find(ca, w.serial, zoo_now, &e), 0);
	snprintf(issuer, sizeof(issuer), "%s", e.issuer);
	assert_int_equal(ca_find(ca, issuer, zoo_now, &e), 0);
	snprintf(root, sizeof(root), "%s", e.issuer);
	assert_int_equal(rename(key, away), 0);
	assert_int_equal(ca_revoke(ca, serials, 2, "cACompromise", NULL, zoo_now, &errs), -1);
	fault_is(&errs, "--root-key");
	assert_false(ca_is_revoked(ca, w.serial)); /* all or none */
	assert_false(ca_is_revoked(ca, issuer));
	assert_int_equal(ca_revoke(ca, &root_serial, 1, "cACompromise", &keys, zoo_now, &errs), -1);
	fault_is(&errs, "root's word against itself");
	must(&errs, ca_revoke(ca, serials, 2, "cACompromise", &keys, zoo_now, &errs) == 0);
	assert_int_equal(ca_issue(ca, &r, &out, &errs), -1);
	fault_is(&errs, "the issuing CA was revoked (cACompromise)");
	crl = file_of(dir, "hud.example.crl");
	bundle = ca_bundle(dir, &errs);
	assert_int_equal(seen(bundle, crl, SVID_REV_IF_PRESENT, w.chain_pem, zoo_now), SVID_REVOKED);
	ca_close(ca);
	errs_fini(&errs);
	ca_issued_fini(&w);
	mem_free(crl);
	mem_free(bundle);
	mem_free(key);
	mem_free(away);
	mem_free(dir);
}

/* Our own DER against OpenSSL's reading of it, over the sizes where lengths take another octet. */
static void
crl_encoding(void **state)
{
	static const size_t sizes[] = { 0, 1, 2, 3, 4, 5, 6, 900, 1100, 1500, 2000 };
	struct zoo_cert ca = zoo_ca("hud.example", NULL);
	struct crl_entry *entries = mem_array(2000, sizeof(*entries));
	char (*serials)[41] = mem_array(2000, sizeof(*serials));
	(void)state;

	for (size_t i = 0; i < 2000; i++) {
		static const char *const odd[] = { "00", "7f", "80", "0080", "00ff00", "ff" };

		if (i < 6)
			snprintf(serials[i], 41, "%s", odd[i]);
		else
			snprintf(serials[i], 41, "%02zx%038zx", i % 120 + 1, i);
		entries[i] = (struct crl_entry){ .serial = serials[i], .at = i % 7 ? zoo_now : INT64_C(2524608000) + (int64_t)i, .reason = "unspecified" };
		if (crl_reasons[i % CRL_REASONS])
			entries[i].reason = crl_reasons[i % CRL_REASONS];
	}
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct crl_spec s = { .issuer = ca.x, .key = ca.key, .number = UINT64_C(0xfedcba98765), .this_update = zoo_now, .next_update = INT64_C(2524608000),
			.entries = entries, .n = sizes[k] };
		char *pem = crl_make(&s);
		X509_CRL *crl = crl_from_pem(pem);
		unsigned char *der = NULL;
		int n;

		assert_non_null(crl);
		assert_int_equal(X509_CRL_verify(crl, ca.key), 1);
		assert_int_equal(X509_CRL_get_version(crl), X509_CRL_VERSION_2);
		/* Again by OpenSSL, from the objects: the same octets. */
		assert_int_equal(i2d_re_X509_CRL_tbs(crl, &der) > 0, 1);
		OPENSSL_free(der);
		der = NULL;
		n = i2d_X509_CRL(crl, &der);
		assert_true(n > 0);
		assert_int_equal(X509_CRL_verify(crl, ca.key), 1);
		OPENSSL_free(der);
		if (s.n == 0)
			assert_null(X509_CRL_get_REVOKED(crl));
		else
			assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), s.n);
		for (size_t i = 0; i < s.n; i += i < 6 ? 1 : 97) {
			X509_REVOKED *r = sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), (int)i);
			ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(r, NID_crl_reason, NULL, NULL);
			BIGNUM *want = NULL, *is = ASN1_INTEGER_to_BN(X509_REVOKED_get0_serialNumber(r), NULL);
			struct tm tm;

			BN_hex2bn(&want, serials[i]);
			assert_int_equal(BN_cmp(want, is), 0);
			BN_free(want);
			BN_free(is);
			assert_int_equal(ASN1_TIME_to_tm(X509_REVOKED_get0_revocationDate(r), &tm), 1);
			assert_int_equal(timegm(&tm), entries[i].at);
			if (strcmp(entries[i].reason, "unspecified") == 0)
				assert_null(reason);
			else
				assert_string_equal(crl_reasons[ASN1_ENUMERATED_get(reason)], entries[i].reason);
			ASN1_ENUMERATED_free(reason);
		}
		X509_CRL_free(crl);
		mem_free(pem);
	}
	mem_free(entries);
	mem_free(serials);
	zoo_free(&ca);
	ERR_clear_error();
}

/* -- replacing ------------------------------------------------------------------------------------ */

static void
rotation(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL), *key = mem_printf("%s/ca/root.key", dir), *away = mem_printf("%s/away.key", dir);
	char *before, *both, *after, *crl, *cross;
	struct ca *ca = opened(dir, NULL);
	struct ca_issued old = issue(ca, "gateway/dmz1", NULL), new, fresh;
	struct ca_entry e;
	struct ca_keys keys = { .root_key = away };
	struct ca_rotation_status st;
	const char *serial = old.serial;
	struct errs errs;
	X509 *x;
	BIO *in;
	(void)state;

	errs_init(&errs);
	before = ca_bundle(dir, &errs);
	assert_null(ca_cross_pem(dir, &errs));
	assert_int_equal(errs.n, 0);
	assert_int_equal(ca_rotate_switch(ca, NULL, zoo_now, &errs), -1);
	fault_is(&errs, "first \"gwctl pki rotate-ca --begin\"");
	assert_int_equal(ca_rotate_retire(ca, true, zoo_now, &errs), -1);
	fault_is(&errs, "no old CA");
	assert_int_equal(rename(key, away), 0);
	assert_int_equal(ca_rotate_begin(ca, PKEY_P384, NULL, zoo_now, &errs), -1);
	fault_is(&errs, "--root-key FILE");
	must(&errs, ca_rotate_begin(ca, PKEY_P384, &keys, zoo_now, &errs) == 0);
	assert_int_equal(ca_rotate_begin(ca, PKEY_P384, &keys, zoo_now, &errs), -1);
	fault_is(&errs, "has begun already");
	assert_int_equal(ca_rotate_retire(ca, true, zoo_now, &errs), -1);
	fault_is(&errs, "still issues");

	/* Begun: the bundle has grown and nothing else has changed. */
	both = file_of(dir, "hud.example.pem");
	assert_int_equal(strncmp(both, before, strlen(before)), 0);
	assert_true(strlen(both) > strlen(before));
	new = issue(ca, "gateway/dmz2", NULL);
	assert_int_equal(seen(before, NULL, SVID_REV_OFF, new.chain_pem, zoo_now), SVID_OK);
	ca_issued_fini(&new);
	must(&errs, ca_rotation_status(dir, zoo_now, &st, &errs) == 0);
	assert_int_equal(st.state, CA_ROTATION_BEGUN);
	assert_int_equal(st.live, 2);
	/* Who trusts the old root can check the new one: its key, signed by the old one. */
	cross = ca_cross_pem(dir, &errs);
	assert_non_null(cross);
	in = BIO_new_mem_buf(cross, -1);
	x = PEM_read_bio_X509(in, NULL, NULL, NULL);
	BIO_free(in);
	in = BIO_new_mem_buf(before, -1);
	{
		X509 *old_root = PEM_read_bio_X509(in, NULL, NULL, NULL), *new_root;

		BIO_free(in);
		in = BIO_new_mem_buf(both + strlen(before), -1);
		new_root = PEM_read_bio_X509(in, NULL, NULL, NULL);
		assert_int_equal(X509_verify(x, X509_get0_pubkey(old_root)), 1);
		assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(x), X509_get0_pubkey(new_root)), 1);
		X509_free(old_root);
		X509_free(new_root);
	}
	BIO_free(in);
	X509_free(x);

	/* Switched: the new one issues, and who has both bundles takes both; its CRL is there before anything it issued. */
	must(&errs, ca_rotate_switch(ca, NULL, zoo_now, &errs) == 0);
	assert_int_equal(ca_rotate_switch(ca, NULL, zoo_now, &errs), -1);
	fault_is(&errs, "issues already");
	crl = file_of(dir, "hud.example.crl");
	new = issue(ca, "gateway/dmz1", old.serial);
	assert_int_equal(seen(both, crl, SVID_REV_REQUIRED, new.chain_pem, zoo_now), SVID_OK);
	assert_int_equal(seen(both, crl, SVID_REV_REQUIRED, old.chain_pem, zoo_now), SVID_OK);
	mem_free(crl);
	/* The old one still revokes what it issued. */
	must(&errs, ca_rotation_status(dir, zoo_now, &st, &errs) == 0);
	assert_int_equal(st.state, CA_ROTATION_SWITCHED);
	assert_int_equal(st.live, 2);
	assert_int_equal(st.live_superseded, 1);
	must(&errs, ca_revoke(ca, &serial, 1, "superseded", NULL, zoo_now, &errs) == 0);
	crl = file_of(dir, "hud.example.crl");
	assert_int_equal(seen(both, crl, SVID_REV_REQUIRED, old.chain_pem, zoo_now), SVID_REVOKED);
	assert_int_equal(seen(both, crl, SVID_REV_REQUIRED, new.chain_pem, zoo_now), SVID_OK);
	mem_free(crl);

	/* Retired: not while somebody depends on it. */
	assert_int_equal(ca_rotate_retire(ca, false, zoo_now, &errs), -1);
	fault_is(&errs, "1 certificate of the old CA is still in force, 0 of them");
	must(&errs, ca_rotate_retire(ca, false, zoo_now + CA_GATEWAY_S + 1, &errs) == 0);
	after = file_of(dir, "hud.example.pem");
	assert_string_equal(after, both + strlen(before));
	crl = file_of(dir, "hud.example.crl");
	assert_int_equal(seen(after, crl, SVID_REV_REQUIRED, new.chain_pem, zoo_now + CA_GATEWAY_S - 10), SVID_OK);
	assert_int_equal(seen(after, NULL, SVID_REV_OFF, old.chain_pem, zoo_now), SVID_UNTRUSTED);
	assert_null(ca_cross_pem(dir, &errs));
	must(&errs, ca_rotation_status(dir, zoo_now, &st, &errs) == 0);
	assert_int_equal(st.state, CA_ROTATION_NONE);
	/* What the retired one issued is good for nobody, and there is nothing to revoke. */
	fresh = issue(ca, "gateway/dmz4", NULL);
	must(&errs, ca_rotate_begin(ca, PKEY_P256, NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_switch(ca, NULL, zoo_now, &errs) == 0);
	assert_int_equal(ca_find(ca, fresh.serial, zoo_now, &e), 0);
	assert_int_equal(e.state, CA_VALID);
	must(&errs, ca_rotate_retire(ca, true, zoo_now, &errs) == 0);
	assert_int_equal(ca_find(ca, fresh.serial, zoo_now, &e), 0);
	assert_int_equal(e.state, CA_RETIRED);
	serial = fresh.serial;
	assert_int_equal(ca_revoke(ca, &serial, 1, "superseded", NULL, zoo_now, &errs), -1);
	fault_is(&errs, "out of the bundle");
	ca_issued_fini(&fresh);
	/* And once more, from the third to the fourth. */
	must(&errs, ca_rotate_begin(ca, PKEY_ED25519, NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_switch(ca, NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_retire(ca, true, zoo_now, &errs) == 0);
	ca_close(ca);
	ca = opened(dir, NULL);
	ca_issued_fini(&new);
	new = issue(ca, "gateway/dmz3", NULL);
	ca_close(ca);
	errs_fini(&errs);
	ca_issued_fini(&new);
	ca_issued_fini(&old);
	mem_free(before);
	mem_free(both);
	mem_free(after);
	mem_free(cross);
	mem_free(crl);
	mem_free(key);
	mem_free(away);
	mem_free(dir);
}

static void
copy(const char *from, const char *name, const char *to)
{
	char *cmd = mem_printf("cp -a %s/%s %s/%s", from, name, to, name);

	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
}

/* What each step writes, as far as a crash let it: the next command finishes or takes back. */
static void
interrupted(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL), *saved = mem_printf("%s/saved", root_dir), *cmd = mem_printf("cp -a %s %s", dir, saved), *tmp;
	char *want, *is;
	struct ca_rotation_status st;
	struct ca_entry e;
	struct ca_issued w;
	struct errs errs;
	struct ca *ca;
	(void)state;

	errs_init(&errs);
	assert_int_equal(system(cmd), 0);
	ca = opened(saved, NULL);
	must(&errs, ca_rotate_begin(ca, PKEY_P256, NULL, zoo_now, &errs) == 0);
	want = file_of(saved, "hud.example.pem");
	ca_close(ca);
	/* The new CA is there, but nobody was told. */
	copy(saved, "ca/2", dir);
	tmp = mem_printf("%s/ca/2.0123456789abcdef.tmp", dir);
	assert_int_equal(mkdir(tmp, 0700), 0);
	ca = opened(dir, NULL);
	assert_int_equal(access(tmp, F_OK), -1); /* what was half made is gone */
	must(&errs, ca_rotation_status(dir, zoo_now, &st, &errs) == 0);
	assert_int_equal(st.state, CA_ROTATION_NONE);
	ca_close(ca);
	/* The state says so; bundle and books do not yet. */
	copy(saved, "ca/state", dir);
	ca = opened(dir, NULL);
	is = file_of(dir, "hud.example.pem");
	assert_string_equal(is, want);
	must(&errs, ca_rotation_status(dir, zoo_now, &st, &errs) == 0);
	assert_int_equal(st.state, CA_ROTATION_BEGUN);
	assert_int_equal(ca_find(ca, st.new_issuing, zoo_now, &e), 0);
	w = issue(ca, "w", NULL);
	ca_issued_fini(&w);
	ca_close(ca);
	/* Orphans of an earlier try are replaced, not used. */
	mem_free(cmd);
	cmd = mem_printf("rm %s/ca/state", dir);
	assert_int_equal(system(cmd), 0);
	ca = opened(dir, NULL);
	must(&errs, ca_rotate_begin(ca, PKEY_P256, NULL, zoo_now, &errs) == 0);
	mem_free(is);
	is = file_of(dir, "hud.example.pem");
	assert_string_not_equal(is, want);
	ca_close(ca);
	/* A state that says nothing sound stops everything. */
	for (size_t i = 0; i < 6; i++) {
		static const char *const bad[] = { "", "current 0\nsequence 1\n", "current 1\nnext 1\nsequence 1\n", "current 1\nold 2\nnext 3\nsequence 1\n",
			"current 1x\nsequence 1\n", "current 1\ncurrent 2\nsequence 1\n" };
		char *path = mem_printf("%s/ca/state", dir);

		assert_int_equal(pkifile_replace(path, 0600, bad[i], strlen(bad[i])), 0);
		assert_null(ca_open(dir, NULL, &errs));
		fault_is(&errs, "restore it from a backup");
		mem_free(path);
	}
	errs_fini(&errs);
	mem_free(want);
	mem_free(is);
	mem_free(tmp);
	mem_free(cmd);
	mem_free(saved);
	mem_free(dir);
}

/* -- keys, owners, bundles --------------------------------------------------------------------------- */

static void
encrypted(void **state)
{
	const struct ca_keys keys = { .passphrase = "correct horse" }, wrong = { .passphrase = "wrong horse" };
	char *dir = new_ca(PKEY_P256, &keys), *plain = new_ca(PKEY_P256, NULL), *path = mem_printf("%s/ca/root.key", dir), *text, *begin;
	struct ca_issued w;
	struct errs errs;
	struct ca *ca;
	(void)state;

	errs_init(&errs);
	text = pkifile_read_secret(path, 65536);
	assert_non_null(strstr(text, "ENCRYPTED PRIVATE KEY"));
	assert_true(ca_encrypted(dir, NULL));
	assert_false(ca_encrypted(plain, NULL));
	assert_false(ca_encrypted("/nonexistent", NULL));
	assert_null(ca_open(dir, NULL, &errs));
	fault_is(&errs, "--passphrase-file");
	assert_null(ca_open(dir, &wrong, &errs));
	fault_is(&errs, "wrong passphrase");
	ca = opened(dir, &keys);
	w = issue(ca, "w", NULL);
	must(&errs, ca_rotate_begin(ca, PKEY_P256, NULL, zoo_now, &errs) == 0); /* the root's as well, and the new ones */
	must(&errs, ca_rotate_switch(ca, NULL, zoo_now, &errs) == 0);
	ca_close(ca);
	assert_null(ca_open(dir, NULL, &errs));
	fault_is(&errs, "--passphrase-file");
	/* Cut short anywhere: a reason, never a key. */
	begin = mem_printf("%s/ca/2/issuing.key", dir);
	pkey_free_pem(text);
	text = pkifile_read_secret(begin, 65536);
	for (size_t n = 0; n < strlen(text); n += 40) {
		assert_int_equal(pkifile_replace(begin, 0600, text, n), 0);
		assert_null(ca_open(dir, &keys, &errs));
		assert_int_equal(errs.errors, 1);
		errs_fini(&errs);
		errs_init(&errs);
	}
	/* A passphrase where none is needed does no harm. */
	ca = opened(plain, &keys);
	ca_close(ca);
	errs_fini(&errs);
	ca_issued_fini(&w);
	pkey_free_pem(text);
	mem_free(begin);
	mem_free(path);
	mem_free(dir);
	mem_free(plain);
}

static void
all_owned_by(const char *dir, uid_t uid)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char *path = mem_printf("%s/%s", dir, e->d_name);
		struct stat st;

		if (strcmp(e->d_name, "..") != 0) {
			assert_int_equal(lstat(path, &st), 0);
			if (st.st_uid != uid)
				print_error("%s belongs to %u\n", path, (unsigned)st.st_uid);
			assert_int_equal(st.st_uid, uid);
			if (S_ISDIR(st.st_mode) && strcmp(e->d_name, ".") != 0)
				all_owned_by(path, uid);
		}
		mem_free(path);
	}
	closedir(d);
}

/* Root works in the ca role's directory, and the role goes on with it. A link where the CA should be leads root nowhere. */
static void
owners(void **state)
{
	char *dir = mem_printf("%s/role", root_dir), *ca_path = mem_printf("%s/ca", dir), *link_dir = mem_printf("%s/linked", root_dir), *cmd;
	struct ca_issued w;
	const char *serial;
	struct errs errs;
	struct ca *ca;
	(void)state;

	if (geteuid() != 0)
		skip();
	errs_init(&errs);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(chown(dir, 12345, 12345), 0);
	must(&errs, ca_init(dir, "hud.example", PKEY_P256, NULL, zoo_now, &errs) == 0);
	ca = opened(dir, NULL);
	w = issue(ca, "w", NULL);
	serial = w.serial;
	must(&errs, ca_revoke(ca, &serial, 1, "keyCompromise", NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_begin(ca, PKEY_P256, NULL, zoo_now, &errs) == 0);
	must(&errs, ca_rotate_switch(ca, NULL, zoo_now, &errs) == 0);
	ca_close(ca);
	all_owned_by(dir, 12345);
	cmd = mem_printf("mkdir %s && ln -s %s %s/ca", link_dir, ca_path, link_dir);
	assert_int_equal(system(cmd), 0);
	assert_null(ca_open(link_dir, NULL, &errs));
	fault_is(&errs, "not kept behind a link");
	errs_fini(&errs);
	ca_issued_fini(&w);
	mem_free(cmd);
	mem_free(link_dir);
	mem_free(ca_path);
	mem_free(dir);
}

static void
jwks(void **state)
{
	static const struct {
		enum pkey_alg alg;
		const char *kty, *crv;
		size_t x;
	} rows[] = { { PKEY_P256, "EC", "P-256", 43 }, { PKEY_P384, "EC", "P-384", 64 }, { PKEY_ED25519, "OKP", "Ed25519", 43 } };
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		char *dir = new_ca(rows[i].alg, NULL), *text;
		struct ca *ca = opened(dir, NULL);
		struct errs errs;
		json_t *j, *k;

		errs_init(&errs);
		text = ca_bundle_jwks(dir, 0, &errs);
		j = json_loads(text, 0, NULL);
		assert_int_equal(json_array_size(json_object_get(j, "keys")), 1);
		k = json_array_get(json_object_get(j, "keys"), 0);
		assert_string_equal(json_string_value(json_object_get(k, "use")), "x509-svid");
		assert_string_equal(json_string_value(json_object_get(k, "kty")), rows[i].kty);
		assert_string_equal(json_string_value(json_object_get(k, "crv")), rows[i].crv);
		assert_int_equal(strlen(json_string_value(json_object_get(k, "x"))), rows[i].x);
		assert_int_equal(json_object_get(k, "y") != NULL, i < 2);
		assert_null(strpbrk(json_string_value(json_object_get(k, "x")), "+/="));
		assert_int_equal(json_array_size(json_object_get(k, "x5c")), 1);
		assert_int_equal(json_integer_value(json_object_get(j, "spiffe_sequence")), 1);
		assert_int_equal(json_integer_value(json_object_get(j, "spiffe_refresh_hint")), 86400);
		json_decref(j);
		mem_free(text);
		must(&errs, ca_rotate_begin(ca, PKEY_P256, NULL, zoo_now, &errs) == 0);
		text = ca_bundle_jwks(dir, 60, &errs);
		j = json_loads(text, 0, NULL);
		assert_int_equal(json_array_size(json_object_get(j, "keys")), 2);
		assert_int_equal(json_integer_value(json_object_get(j, "spiffe_sequence")), 2);
		assert_int_equal(json_integer_value(json_object_get(j, "spiffe_refresh_hint")), 60);
		json_decref(j);
		mem_free(text);
		ca_close(ca);
		errs_fini(&errs);
		mem_free(dir);
	}
}

/* Many, so that tables grow while they are read; and read again, from where the last reading ended. */
static void
many(void **state)
{
	char *dir = new_ca(PKEY_P256, NULL), *path = mem_printf("%s/ca/index", dir), serial[48], before[48];
	struct ledger *l, *late;
	struct errs errs;
	struct buf b;
	(void)state;

	errs_init(&errs);
	l = ledger_open(path, &errs);
	late = ledger_open(path, &errs);
	for (unsigned round = 0; round < 5; round++) {
		buf_init(&b, 0);
		for (unsigned i = 0; i < 1000; i++) {
			struct ledger_entry e = { .serial = serial, .kind = "workload", .id = "spiffe://hud.example/w", .issuer = "0000000000000000000000000000000000000001",
				.not_before = zoo_now, .not_after = zoo_now + (int64_t)i * 86400 * 37, .predecessor = i ? before : NULL, .dns = i % 2 ? "a,b" : NULL };

			snprintf(serial, sizeof(serial), "%040x", round * 1000 + i + 100);
			ledger_put_issued(&b, &e);
			if (i % 10 == 0)
				ledger_put_revoked(&b, serial, zoo_now + i, "superseded");
			memcpy(before, serial, sizeof(before));
		}
		ledger_put_crl(&b, round + 7, zoo_now);
		must(&errs, ledger_append(l, &b, &errs) == 0);
		buf_fini(&b);
	}
	must(&errs, ledger_refresh(late, &errs) == 0);
	assert_int_equal(ledger_n(l), 5002);
	assert_int_equal(ledger_n(late), 5002);
	assert_int_equal(ledger_crl_number(late), 11);
	for (unsigned i = 0; i < 5000; i++) {
		struct ledger_entry e;
		uint32_t at;

		snprintf(serial, sizeof(serial), "%040x", i + 100);
		at = ledger_find(late, serial);
		assert_int_equal(at, i + 2);
		ledger_get(late, at, &e);
		assert_string_equal(e.serial, serial);
		assert_int_equal(e.not_after, zoo_now + (int64_t)(i % 1000) * 86400 * 37);
		assert_int_equal(e.reason != NULL, i % 10 == 0);
		assert_string_equal(e.dns, i % 2 ? "a,b" : "");
		assert_int_equal(ledger_predecessor(late, at), i % 1000 ? at - 1 : LEDGER_NONE);
		assert_int_equal(ledger_successor(late, at), i % 1000 < 999 ? at + 1 : LEDGER_NONE);
		assert_true(ledger_has_id(late, at, "spiffe://hud.example/w"));
		assert_false(ledger_has_id(late, at, "spiffe://hud.example/"));
		assert_false(ledger_has_id(late, at, "spiffe://hud.example/ww"));
	}
	assert_int_equal(ledger_find(late, "00000000000000000000000000000000000000ff") == LEDGER_NONE, false);
	assert_int_equal(ledger_find(late, "f0000000000000000000000000000000000000ff"), LEDGER_NONE);
	ledger_close(l);
	ledger_close(late);
	ledger_close(NULL);
	errs_fini(&errs);
	mem_free(path);
	mem_free(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(successors),
		cmocka_unit_test(unlocked),
		cmocka_unit_test(revocation),
		cmocka_unit_test(crl_is_kept),
		cmocka_unit_test(issuing_revoked),
		cmocka_unit_test(crl_encoding),
		cmocka_unit_test(rotation),
		cmocka_unit_test(interrupted),
		cmocka_unit_test(encrypted),
		cmocka_unit_test(owners),
		cmocka_unit_test(jwks),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests_name("pki/books", tests, setup, teardown);
}
