/* SPDX-License-Identifier: Apache-2.0 */
/* Pairing files: each refusal has its own reason and changes nothing; an accepted one installs the peer. */
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

#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "pki/pairing.h"
#include "pki/pkey.h"
#include "pki/pkifile.h"
#include "tests/unit/pki/zoo.h"

static char root_dir[] = "/tmp/sallyport-test-pairing-XXXXXX"; /* check: allow, mkdtemp(3) */
static struct zoo_cert irs;
static struct evp_pkey_st *key, *other_key;
static unsigned dirs;
static char *by_hand; /* of the last update: what the operator is told */

static int
setup(void **state)
{
	(void)state;
	irs = zoo_ca("irs.example", NULL);
	key = pkey_new(PKEY_ED25519);
	other_key = pkey_new(PKEY_ED25519);
	return mkdtemp(root_dir) ? 0 : -1;
}

static int
teardown(void **state)
{
	char *cmd = mem_printf("rm -rf '%s'", root_dir);
	int rc = system(cmd);

	(void)state;
	mem_free(cmd);
	mem_free(by_hand);
	zoo_free(&irs);
	pkey_free(key);
	pkey_free(other_key);
	return rc;
}

static struct pairfile
content(int64_t created)
{
	struct pairfile p = { .domain = mem_strdup("irs.example"), .bundle_pem = zoo_pem(&irs.x, 1), .created = created,
		.expires = created + PAIRFILE_LIFETIME_S };

	p.gateways = mem_array(1, sizeof(char *));
	p.gateways[p.ngateways++] = mem_strdup("spiffe://irs.example/gateway/dmz1");
	p.addresses = mem_array(2, sizeof(char *));
	p.addresses[p.naddresses++] = mem_strdup("203.0.113.20:443");
	p.addresses[p.naddresses++] = mem_strdup("[2001:db8::1]:443");
	return p;
}

/* A whole file and its code. */
static char *
file_of(int64_t created, struct evp_pkey_st *by, char code[PAIRFILE_CODE_LEN + 1])
{
	struct pairfile p = content(created);
	char *text;

	assert_null(pairfile_fault(&p));
	text = pairfile_write(&p, by);
	assert_non_null(text);
	if (code)
		memcpy(code, p.code, sizeof(p.code));
	pairfile_fini(&p);
	return text;
}

static enum pairing_result
accept_file(const char *dir, const char *text, const char *code, int64_t now, const char *own)
{
	struct pairing_request r = { .text = text, .len = strlen(text), .code = code, .own_domain = own, .peers_dir = dir, .bundle_dir = "peers", .now = now };
	struct pairing_change change;
	struct pairfile p = { 0 };
	struct errs e;
	enum pairing_result res;

	errs_init(&e);
	res = pairing_accept(&r, &p, &change, &e);
	pairing_change_fini(&change);
	assert_int_equal(e.errors, res == PAIRING_OK ? 0 : 1);
	/* The reason's token is in the text, for who reads either. */
	if (res != PAIRING_OK && res != PAIRING_IO)
		assert_non_null(strstr(e.items[0].text, pairing_token(res)));
	errs_fini(&e);
	pairfile_fini(&p);
	return res;
}

static enum pairing_result
update_file(const char *dir, const char *text, int64_t now)
{
	struct pairing_request r = { .text = text, .len = strlen(text), .own_domain = "hud.example", .peers_dir = dir, .bundle_dir = "peers", .now = now };
	struct pairing_change change;
	struct pairfile p = { 0 };
	struct errs e;
	enum pairing_result res;

	errs_init(&e);
	res = pairing_update(&r, &p, &change, &e);
	assert_int_equal(e.errors, res == PAIRING_OK ? 0 : 1);
	if (res != PAIRING_OK && res != PAIRING_IO)
		assert_non_null(strstr(e.items[0].text, pairing_token(res)));
	mem_free(by_hand);
	by_hand = change.by_hand ? mem_strdup(change.by_hand) : NULL;
	pairing_change_fini(&change);
	errs_fini(&e);
	pairfile_fini(&p);
	return res;
}

static enum pairing_result
remove_domain(const char *dir, const char *domain)
{
	enum pairing_result res;
	struct errs e;

	errs_init(&e);
	res = pairing_remove(dir, domain, &e);
	assert_int_equal(e.errors, res == PAIRING_OK ? 0 : 1);
	errs_fini(&e);
	return res;
}

static char *
installed(const char *dir, const char *suffix)
{
	char *path = mem_printf("%s/irs.example.%s", dir, suffix), *text = pkifile_read(path, 1 << 20);

	mem_free(path);
	return text;
}

static void
put_installed(const char *dir, const char *suffix, const char *text)
{
	char *path = mem_printf("%s/irs.example.%s", dir, suffix);

	assert_int_equal(pkifile_replace(path, 0644, text, strlen(text)), 0);
	mem_free(path);
}

static unsigned
count_files(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	if (d == NULL)
		return 0;
	for (struct dirent *f; (f = readdir(d)) != NULL;)
		n += f->d_name[0] != '.';
	closedir(d);
	return n;
}

static char *
fresh(void)
{
	return mem_printf("%s/%u", root_dir, dirs++);
}

static void
round_trip(void **state)
{
	struct pairfile p = content(zoo_now), q;
	char *text = pairfile_write(&p, key);
	const char *why;
	(void)state;

	assert_int_equal(pairfile_read(&q, text, strlen(text), &why), PAIRFILE_OK);
	assert_string_equal(q.domain, p.domain);
	assert_int_equal(q.ngateways, 1);
	assert_string_equal(q.gateways[0], p.gateways[0]);
	assert_int_equal(q.naddresses, 2);
	assert_string_equal(q.addresses[1], p.addresses[1]);
	assert_string_equal(q.bundle_pem, p.bundle_pem);
	assert_int_equal(q.created, zoo_now);
	assert_int_equal(q.expires, zoo_now + PAIRFILE_LIFETIME_S);
	assert_memory_equal(q.key, p.key, 32);
	assert_string_equal(q.code, p.code);
	assert_int_equal(strlen(q.code), PAIRFILE_CODE_LEN);
	pairfile_fini(&p);
	pairfile_fini(&q);
	mem_free(text);
}

static void
codes(void **state)
{
	struct pairfile p = { .code = "01234-56789-01234-56789-01234-56789" };
	static const struct {
		const char *typed;
		bool ok;
	} rows[] = {
		{ "01234-56789-01234-56789-01234-56789", true },
		{ "01234 56789 01234 56789 01234 56789\n", true },
		{ "012345678901234567890123456789", true },
		{ "", false },
		{ "01234-56789-01234-56789-01234-5678", false },
		{ "01234-56789-01234-56789-01234-567890", false },
		{ "11234-56789-01234-56789-01234-56789", false },
		{ "01234-56789-01234-56789-01234-56788", false },
		{ "01234_56789_01234_56789_01234_56789", false },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(pairfile_code_matches(&p, rows[i].typed), rows[i].ok);
}

/* Any octet of a file changed or cut off: refused, and never with the same code. */
static void
altered(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], *text = file_of(zoo_now, key, code);
	size_t n = strlen(text);
	unsigned altered_ones = 0;
	(void)state;

	for (size_t i = 0; i < n; i++) {
		struct pairfile p;
		const char *why = NULL;
		enum pairfile_status st;
		char saved = text[i];

		text[i] = saved == 'A' ? 'B' : 'A';
		st = pairfile_read(&p, text, n, &why);
		/* White space between members is not content. */
		if (saved != ' ' && saved != '\n') {
			assert_int_not_equal(st, PAIRFILE_OK);
			assert_non_null(why);
		}
		altered_ones += st == PAIRFILE_ALTERED;
		pairfile_fini(&p);
		text[i] = saved;
		assert_int_equal(pairfile_read(&p, text, i, &why), i + 1 >= n ? PAIRFILE_OK : PAIRFILE_MALFORMED);
		pairfile_fini(&p);
	}
	assert_true(altered_ones > 800);
	mem_free(text);
}

static void
malformed(void **state)
{
	static const char *const rows[] = { "", "{}", "[]", "null", "{\"protected\":1,\"payload\":2,\"signature\":3}",
		"{\"protected\":\"\",\"payload\":\"\",\"signature\":\"\"}", "{\"protected\":\"e30\",\"payload\":\"e30\",\"signature\":\"AAAA\"}",
		"{\"protected\":\"e30=\",\"payload\":\"e30\",\"signature\":\"AAAA\"}", "{\"payload\":\"e30\",\"payload\":\"e30\",\"signature\":\"AAAA\"}" };
	struct pairfile p;
	const char *why;
	char *big;
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(pairfile_read(&p, rows[i], strlen(rows[i]), &why), PAIRFILE_MALFORMED);
	big = mem_alloc(PAIRFILE_MAX + 1);
	memset(big, ' ', PAIRFILE_MAX + 1);
	assert_int_equal(pairfile_read(&p, big, PAIRFILE_MAX + 1, &why), PAIRFILE_MALFORMED);
	assert_string_equal(why, "larger than 256 KiB");
	mem_free(big);
}

static void
replace(char **field, const char *text)
{
	mem_free(*field);
	*field = mem_strdup(text);
}

/* Content that no one may sign: neither written by export nor accepted from a peer who signs it all the same. */
static void
bad_content(void **state)
{
	struct zoo_cert hud = zoo_ca("hud.example", NULL);
	char *hud_pem = zoo_pem(&hud.x, 1);
	(void)state;

	for (int i = 0; i < 9; i++) {
		struct pairfile p = content(zoo_now), q;
		const char *why = NULL;
		char *text;

		switch (i) {
		case 0: replace(&p.domain, "IRS.example"); break;
		case 1: replace(&p.domain, "doe.example"); break;
		case 2: replace(&p.gateways[0], "spiffe://irs.example/permit"); break;
		case 3: replace(&p.gateways[0], "spiffe://hud.example/gateway/dmz1"); break;
		case 4: replace(&p.addresses[0], "gw.irs.example:443"); break;
		case 5: replace(&p.addresses[0], "*:443"); break;
		case 6: replace(&p.addresses[0], "[2001:db8::1]:443"); break;
		case 7: replace(&p.bundle_pem, hud_pem); break;
		case 8: p.expires = p.created; break;
		}
		assert_non_null(pairfile_fault(&p));
		text = pairfile_write(&p, key);
		assert_int_equal(pairfile_read(&q, text, strlen(text), &why), PAIRFILE_MALFORMED);
		assert_string_equal(why, pairfile_fault(&p));
		mem_free(text);
		pairfile_fini(&p);
	}
	mem_free(hud_pem);
	zoo_free(&hud);
}

static void
refusals(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], *text = file_of(zoo_now, key, code), *dir = fresh(), *changed = mem_strdup(text);
	(void)state;

	assert_int_equal(accept_file(dir, "{}", code, zoo_now, "hud.example"), PAIRING_MALFORMED);
	assert_non_null(strstr(changed, "203.0.113.20")); /* people can read it */
	strstr(changed, "203.0.113.20")[0] = '1';
	assert_int_equal(accept_file(dir, changed, code, zoo_now, "hud.example"), PAIRING_ALTERED);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "irs.example"), PAIRING_OWN_DOMAIN);
	assert_int_equal(accept_file(dir, text, code, zoo_now + PAIRFILE_LIFETIME_S, "hud.example"), PAIRING_EXPIRED);
	assert_int_equal(accept_file(dir, text, code, zoo_now - PAIRFILE_SKEW_S - 1, "hud.example"), PAIRING_FROM_FUTURE);
	assert_int_equal(accept_file(dir, text, "00000-00000-00000-00000-00000-00000", zoo_now, "hud.example"), PAIRING_WRONG_CODE);
	assert_int_equal(count_files(dir), 0);
	mem_free(text);
	mem_free(changed);
	mem_free(dir);
}

static void
accepted(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], code2[PAIRFILE_CODE_LEN + 1], *dir = fresh(), *path = mem_printf("%s/irs.example.pem", dir);
	char *conf = mem_printf("%s/irs.example.conf", dir), *text = file_of(zoo_now, key, code), *newer = file_of(zoo_now + 1, key, code2);
	char *pem = zoo_pem(&irs.x, 1), *there, *older, *by_other;
	(void)state;

	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(count_files(dir), 3);
	there = pkifile_read(path, 65536);
	assert_string_equal(there, pem);
	mem_free(there);
	there = pkifile_read(conf, 65536);
	assert_string_equal(there, "{\n  name = \"irs\";\n  domain = \"irs.example\";\n  bundle = \"peers/irs.example.pem\";\n"
				   "  gateways = [ \"spiffe://irs.example/gateway/dmz1\" ];\n"
				   "  dial = [ \"203.0.113.20:443\", \"[2001:db8::1]:443\" ];\n}\n");
	mem_free(there);

	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_REPLAYED);
	by_other = file_of(zoo_now + 10, other_key, code2);
	assert_int_equal(accept_file(dir, by_other, code2, zoo_now + 10, "hud.example"), PAIRING_OTHER_KEY);
	mem_free(newer);
	newer = file_of(zoo_now + 1, key, code2);
	assert_int_equal(accept_file(dir, newer, code2, zoo_now + 1, "hud.example"), PAIRING_OK);
	assert_int_equal(accept_file(dir, text, code, zoo_now + 1, "hud.example"), PAIRING_REPLAYED);
	older = file_of(zoo_now - 5, key, code2);
	assert_int_equal(accept_file(dir, older, code2, zoo_now + 1, "hud.example"), PAIRING_REPLAYED);
	assert_int_equal(count_files(dir), 3);
	mem_free(older);
	mem_free(newer);
	mem_free(by_other);
	mem_free(text);
	mem_free(pem);
	mem_free(path);
	mem_free(conf);
	mem_free(dir);
}

/* Files put there by hand are not overwritten; an acceptance that a crash interrupted can be repeated. */
static void
in_the_way(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], *dir = fresh(), *path = mem_printf("%s/irs.example.pem", dir), *text = file_of(zoo_now, key, code);
	char *pem = zoo_pem(&irs.x, 1), *pair = mem_printf("%s/irs.example.pair", dir), *there;
	(void)state;

	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(pkifile_write_new(path, 0644, "mine", 4), 0);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_IN_THE_WAY);
	there = pkifile_read(path, 65536);
	assert_string_equal(there, "mine");
	mem_free(there);
	assert_int_equal(pkifile_replace(path, 0644, pem, strlen(pem)), 0);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(pkifile_replace(pair, 0644, "rubbish", 7), 0);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_IN_THE_WAY);
	assert_int_equal(accept_file("/proc/nowhere", text, code, zoo_now, "hud.example"), PAIRING_IO);
	mem_free(text);
	mem_free(pem);
	mem_free(path);
	mem_free(pair);
	mem_free(dir);
}

static void
entries(void **state)
{
	struct pairfile p = content(zoo_now);
	struct pairing_request r = { .bundle_dir = "/x", .name = "tax", .no_dial = true };
	char *text = pairing_entry(&r, &p);
	(void)state;

	assert_string_equal(text, "{\n  name = \"tax\";\n  domain = \"irs.example\";\n  bundle = \"/x/irs.example.pem\";\n"
				  "  gateways = [ \"spiffe://irs.example/gateway/dmz1\" ];\n}\n");
	mem_free(text);
	r.no_dial = false;
	r.reverse = true;
	text = pairing_entry(&r, &p);
	assert_non_null(strstr(text, "  dial_reverse = [ \"203.0.113.20:443\", \"[2001:db8::1]:443\" ];\n"));
	mem_free(text);
	pairfile_fini(&p);
}

static void
pairing_keys(void **state)
{
	char *dir = fresh(), *path = mem_printf("%s/pairing.key", dir);
	struct evp_pkey_st *a, *b;
	uint8_t pa[32], pb[32];
	struct errs e;
	struct stat st;
	(void)state;

	errs_init(&e);
	a = pairfile_key(dir, &e);
	b = pairfile_key(dir, &e);
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(pkey_public(a, pa), 0);
	assert_int_equal(pkey_public(b, pb), 0);
	assert_memory_equal(pa, pb, 32);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	pkey_free(a);
	pkey_free(b);
	assert_int_equal(chmod(path, 0644), 0);
	assert_null(pairfile_key(dir, &e));
	assert_non_null(strstr(e.items[0].text, "others may read this key"));
	assert_int_equal(pkifile_replace(path, 0600, "x", 1), 0);
	assert_null(pairfile_key(dir, &e));
	assert_non_null(strstr(e.items[1].text, "move it away to make a new one"));
	errs_fini(&e);
	mem_free(path);
	mem_free(dir);
}

/* -- updating ------------------------------------------------------------------------------------------ */

/* A CA whose key is "of"'s, certified by issuer (NULL: by itself). */
static struct zoo_cert
certify(const struct zoo_cert *of, const struct zoo_cert *issuer, int64_t until)
{
	struct zoo_cert c = zoo_make(&(struct zoo){ .cn = "irs.example", .san = { { GEN_URI, "spiffe://irs.example", 0 } }, .ca = true,
		.nc = "critical,permitted;URI:irs.example", .until = until, .serial = 77 }, issuer);

	/* zoo_make() makes a key of its own: the certificate is signed anew for the other one. */
	assert_int_equal(X509_set_subject_name(c.x, X509_get_subject_name(of->x)), 1);
	assert_int_equal(X509_set_pubkey(c.x, of->key), 1);
	for (int i = X509_get_ext_count(c.x) - 1; i >= 0; i--) {
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object(X509_get_ext(c.x, i)));

		if (nid == NID_subject_key_identifier)
			X509_EXTENSION_free(X509_delete_ext(c.x, i));
	}
	if (X509_get_ext_by_NID(of->x, NID_subject_key_identifier, -1) >= 0)
		X509_add_ext(c.x, X509_get_ext(of->x, X509_get_ext_by_NID(of->x, NID_subject_key_identifier, -1)), -1);
	assert_true(X509_sign(c.x, issuer ? issuer->key : c.key, EVP_sha256()) > 0);
	return c;
}

/* A file of these CAs, with a cross certificate or without. */
static char *
file_with(int64_t created, X509 *const *cas, size_t ncas, X509 *cross, char code[PAIRFILE_CODE_LEN + 1])
{
	struct pairfile p = content(created);
	char *text;

	mem_free(p.bundle_pem);
	p.bundle_pem = zoo_pem(cas, ncas);
	p.cross_pem = cross ? zoo_pem(&cross, 1) : NULL;
	if (pairfile_fault(&p))
		fail_msg("%s", pairfile_fault(&p));
	text = pairfile_write(&p, key);
	if (code)
		memcpy(code, p.code, sizeof(p.code));
	pairfile_fini(&p);
	return text;
}

static void
new_ca(void **state)
{
	struct zoo_cert next = zoo_ca("irs.example", NULL), other = zoo_ca("irs.example", NULL), cross = certify(&next, &irs, 0);
	struct zoo_cert late = certify(&next, &irs, zoo_now - 60), foreign = certify(&next, &other, 0), third = zoo_ca("irs.example", NULL);
	X509 *both[] = { irs.x, next.x }, *three[] = { irs.x, next.x, third.x };
	char code[PAIRFILE_CODE_LEN + 1], *text = file_of(zoo_now, key, code), *dir = fresh(), *newer, *pem, *there;
	static const struct {
		int cross;         /* 0 none, 1 good, 2 ended, 3 of another CA */
		bool third;
		enum pairing_result want;
	} rows[] = {
		{ 0, false, PAIRING_NOT_VOUCHED }, { 2, false, PAIRING_NOT_VOUCHED }, { 3, false, PAIRING_NOT_VOUCHED },
		{ 1, true, PAIRING_NOT_VOUCHED }, /* one of two new ones */
		{ 1, false, PAIRING_OK },
	};
	(void)state;

	assert_int_equal(update_file(dir, text, zoo_now), PAIRING_NOT_PAIRED);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(update_file(dir, text, zoo_now), PAIRING_REPLAYED);
	there = installed(dir, "pem");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		X509 *c[] = { NULL, cross.x, late.x, foreign.x };

		newer = file_with(zoo_now + 1 + (int64_t)i, rows[i].third ? three : both, rows[i].third ? 3 : 2, c[rows[i].cross], code);
		assert_int_equal(update_file(dir, newer, zoo_now + 10), rows[i].want);
		pem = installed(dir, "pem");
		assert_int_equal(strcmp(pem, there) == 0, rows[i].want != PAIRING_OK);
		mem_free(pem);
		mem_free(newer);
	}
	mem_free(there);
	/* Now that both are trusted, the old one can go, and without a cross certificate. */
	newer = file_with(zoo_now + 20, &next.x, 1, NULL, code);
	assert_int_equal(update_file(dir, newer, zoo_now + 20), PAIRING_OK);
	mem_free(newer);
	/* And the other way round it is new again. */
	newer = file_with(zoo_now + 30, &irs.x, 1, NULL, code);
	assert_int_equal(update_file(dir, newer, zoo_now + 30), PAIRING_NOT_VOUCHED);
	/* With the code it can be had. */
	assert_int_equal(accept_file(dir, newer, code, zoo_now + 30, "hud.example"), PAIRING_OK);
	mem_free(newer);
	mem_free(text);
	mem_free(dir);
	zoo_free(&next);
	zoo_free(&other);
	zoo_free(&third);
	zoo_free(&cross);
	zoo_free(&late);
	zoo_free(&foreign);
}

/* A cross certificate that cannot be one makes the file malformed, whoever signed it. */
static void
bad_cross(void **state)
{
	struct zoo_cert hud = zoo_ca("hud.example", NULL), below = zoo_ca("hud.example", &hud), next = zoo_ca("irs.example", NULL);
	struct zoo_cert leaf = zoo_make(&(struct zoo){ .san = { { GEN_URI, "spiffe://irs.example/gateway/a", 0 } } }, &irs), good = certify(&next, &irs, 0);
	X509 *many[] = { good.x, good.x, good.x, good.x, good.x, good.x, good.x, good.x, good.x };
	char *bad[] = { mem_strdup(""), mem_strdup("nonsense"), zoo_pem(&leaf.x, 1), zoo_pem(&irs.x, 1), zoo_pem(&below.x, 1), zoo_pem(many, 9),
		zoo_pem(many, 1) };
	(void)state;

	strstr(bad[6], "-----END")[-3] = '!';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pairfile p = content(zoo_now), q;
		const char *why = NULL;
		char *text;

		p.cross_pem = bad[i];
		assert_non_null(pairfile_fault(&p));
		text = pairfile_write(&p, key);
		assert_int_equal(pairfile_read(&q, text, strlen(text), &why), PAIRFILE_MALFORMED);
		assert_string_equal(why, pairfile_fault(&p));
		mem_free(text);
		pairfile_fini(&p);
	}
	zoo_free(&hud);
	zoo_free(&below);
	zoo_free(&next);
	zoo_free(&leaf);
	zoo_free(&good);
}

static char *
moved(int64_t created, const char *gateway, const char *address, struct evp_pkey_st *by)
{
	struct pairfile p = content(created);
	char *text;

	if (gateway)
		replace(&p.gateways[0], gateway);
	if (address)
		replace(&p.addresses[0], address);
	text = pairfile_write(&p, by);
	pairfile_fini(&p);
	return text;
}

/* The operator's changes of an entry stay; the peer's reach what still says what the peer said. */
static void
entry_after_update(void **state)
{
	static const char *const edited = "{ // ours\n  name = \"tax\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\";\n"
					  "  gateways : (\"spiffe://irs.example/gateway/dmz1\"); /* dial = [ ] */\n"
					  "  dial = [ \"10.9.9.9:443\" ]; dial_reverse = [ \"203.0.113.20:443\",\n \"[2001:db8::1]:443\" ];\n"
					  "  revocation = \"required\"; assert = [ \"uid\" ];\n}\n";
	char code[PAIRFILE_CODE_LEN + 1], *text = file_of(zoo_now, key, code), *dir = fresh(), *newer, *conf;
	(void)state;

	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	newer = moved(zoo_now + 1, NULL, "203.0.113.99:443", key);
	assert_int_equal(update_file(dir, newer, zoo_now + 1), PAIRING_OK);
	assert_null(by_hand);
	conf = installed(dir, "conf");
	assert_non_null(strstr(conf, "  dial = [ \"203.0.113.99:443\", \"[2001:db8::1]:443\" ];\n"));
	mem_free(conf);
	mem_free(newer);

	assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_OK);
	mem_free(text);
	text = file_of(zoo_now + 2, key, code);
	assert_int_equal(accept_file(dir, text, code, zoo_now + 2, "hud.example"), PAIRING_OK);
	put_installed(dir, "conf", edited);
	newer = moved(zoo_now + 3, "spiffe://irs.example/gateway/dmz7", "203.0.113.99:443", key);
	assert_int_equal(update_file(dir, newer, zoo_now + 3), PAIRING_OK);
	conf = installed(dir, "conf");
	assert_string_equal(conf, "{ // ours\n  name = \"tax\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\";\n"
				  "  gateways : [ \"spiffe://irs.example/gateway/dmz7\" ]; /* dial = [ ] */\n"
				  "  dial = [ \"10.9.9.9:443\" ]; dial_reverse = [ \"203.0.113.99:443\", \"[2001:db8::1]:443\" ];\n"
				  "  revocation = \"required\"; assert = [ \"uid\" ];\n}\n");
	assert_string_equal(by_hand, "dial was changed by hand, and is left as it is; the peer now has [ \"203.0.113.99:443\", \"[2001:db8::1]:443\" ]\n");
	mem_free(conf);
	mem_free(newer);
	mem_free(text);
	mem_free(dir);
}

static void
updates_refused(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], *text = file_of(zoo_now, key, code), *dir = fresh(), *by_other = file_of(zoo_now + 1, other_key, NULL);
	char *newer = file_of(zoo_now + 1, key, NULL);
	(void)state;

	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(update_file(dir, by_other, zoo_now + 1), PAIRING_OTHER_KEY);
	assert_int_equal(update_file(dir, "{}", zoo_now + 1), PAIRING_MALFORMED);
	assert_int_equal(update_file(dir, newer, zoo_now + 1 + PAIRFILE_LIFETIME_S), PAIRING_EXPIRED);
	put_installed(dir, "pem", "no bundle");
	assert_int_equal(update_file(dir, newer, zoo_now + 1), PAIRING_IN_THE_WAY);
	put_installed(dir, "pair", "{}");
	assert_int_equal(update_file(dir, newer, zoo_now + 1), PAIRING_IN_THE_WAY);
	mem_free(text);
	mem_free(newer);
	mem_free(by_other);
	mem_free(dir);
}

/* Every CA in it has ended: nobody could ever come in by it. */
static void
ended_bundle(void **state)
{
	struct zoo_cert old = zoo_make(&(struct zoo){ .cn = "old", .san = { { GEN_URI, "spiffe://irs.example", 0 } }, .ca = true,
		.nc = "critical,permitted;URI:irs.example", .from = zoo_now - 86400, .until = zoo_now - 60 }, NULL);
	char code[PAIRFILE_CODE_LEN + 1], *text = file_with(zoo_now, &old.x, 1, NULL, code), *dir = fresh();
	(void)state;

	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_EXPIRED);
	assert_int_equal(count_files(dir), 0);
	mem_free(text);
	mem_free(dir);
	zoo_free(&old);
}

/* -- removing and listing -------------------------------------------------------------------------------- */

static void
removed(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], code2[PAIRFILE_CODE_LEN + 1], *dir = fresh(), *text = file_of(zoo_now, key, code), *there;
	char *older = file_of(zoo_now - 9, key, code2), *newer, *by_other;
	(void)state;

	assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_NOT_PAIRED);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(remove_domain(dir, "hud.example"), PAIRING_NOT_PAIRED);
	assert_int_equal(remove_domain(dir, "../irs.example"), PAIRING_NOT_PAIRED);
	assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_OK);
	assert_int_equal(count_files(dir), 1);
	assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_NOT_PAIRED);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_REPLAYED);
	assert_int_equal(accept_file(dir, older, code2, zoo_now, "hud.example"), PAIRING_REPLAYED);
	assert_int_equal(update_file(dir, text, zoo_now), PAIRING_REPLAYED);
	/* A newer one is a new beginning, also by another key; and what was removed first is still known then. */
	by_other = file_of(zoo_now, other_key, code2);
	assert_int_equal(accept_file(dir, by_other, code2, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_OK);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_REPLAYED);
	assert_int_equal(accept_file(dir, by_other, code2, zoo_now, "hud.example"), PAIRING_REPLAYED);
	newer = file_of(zoo_now + 1, key, code2);
	put_installed(dir, "removed", "what is this\n");
	assert_int_equal(accept_file(dir, newer, code2, zoo_now + 1, "hud.example"), PAIRING_IN_THE_WAY);
	put_installed(dir, "removed", "");
	assert_int_equal(accept_file(dir, newer, code2, zoo_now + 1, "hud.example"), PAIRING_OK);

	/* Often: it stays bounded, and knows the newest. */
	for (int i = 0; i < 300; i++) {
		mem_free(newer);
		newer = file_of(zoo_now + 2 + i, key, code2);
		assert_int_equal(accept_file(dir, newer, code2, zoo_now + 2 + i, "hud.example"), PAIRING_OK);
		assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_OK);
	}
	assert_int_equal(accept_file(dir, newer, code2, zoo_now + 400, "hud.example"), PAIRING_REPLAYED);
	there = installed(dir, "removed");
	assert_true(strlen(there) < 16384);
	mem_free(there);
	mem_free(text);
	mem_free(older);
	mem_free(newer);
	mem_free(by_other);
	mem_free(dir);
}

/* An entry that was made with other options keeps a copy of what it replaces. */
static void
accepted_again(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], *dir = fresh(), *text = file_of(zoo_now, key, code), *conf, *old;
	struct pairing_request r = { .own_domain = "hud.example", .peers_dir = dir, .bundle_dir = "peers", .now = zoo_now + 5 };
	struct pairing_change change;
	struct pairfile p = { 0 };
	struct errs e;
	(void)state;

	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	put_installed(dir, "conf", "{ name = \"mine\"; gateways = [ \"spiffe://irs.example/gateway/dmz1\" ]; revocation = \"required\"; }\n");
	mem_free(text);
	text = file_of(zoo_now + 1, key, code);
	assert_int_equal(accept_file(dir, text, code, zoo_now + 1, "hud.example"), PAIRING_OK);
	conf = installed(dir, "conf");
	assert_non_null(strstr(conf, "revocation = \"required\""));
	mem_free(conf);
	mem_free(text);

	text = file_of(zoo_now + 2, key, code);
	r.text = text;
	r.len = strlen(text);
	r.code = code;
	r.name = "theirs";
	errs_init(&e);
	assert_int_equal(pairing_accept(&r, &p, &change, &e), PAIRING_OK);
	conf = installed(dir, "conf");
	old = installed(dir, "conf.old");
	assert_non_null(strstr(conf, "name = \"theirs\""));
	assert_non_null(strstr(old, "revocation = \"required\""));
	mem_free(conf);
	mem_free(old);
	pairing_change_fini(&change);
	pairfile_fini(&p);
	errs_fini(&e);
	assert_int_equal(remove_domain(dir, "irs.example"), PAIRING_OK);
	assert_int_equal(count_files(dir), 1);
	mem_free(text);
	mem_free(dir);
}

static void
note_installed(void *ctx, const struct pairing_installed *i)
{
	char *name = i->entry ? pairing_entry_name(i->entry) : NULL, **out = ctx, *more;

	more = mem_printf("%s%s: %s, %s, %s; ", *out, i->domain, i->pair ? i->pair->gateways[0] : i->fault, i->bundle_pem ? "bundle" : "-", name ? name : "-");
	mem_free(*out);
	*out = more;
	mem_free(name);
}

static void
listed(void **state)
{
	char code[PAIRFILE_CODE_LEN + 1], *dir = fresh(), *text = file_of(zoo_now, key, code), *got = mem_strdup(""), *path = mem_printf("%s/a.example.pair", dir);
	struct errs e;
	(void)state;

	errs_init(&e);
	assert_int_equal(pairing_each(dir, note_installed, &got, &e), 0);
	assert_int_equal(accept_file(dir, text, code, zoo_now, "hud.example"), PAIRING_OK);
	assert_int_equal(pkifile_write_new(path, 0644, "{}", 2), 0);
	assert_int_equal(pairing_each(dir, note_installed, &got, &e), 2);
	assert_string_equal(got, "a.example: not a pairing file, -, -; irs.example: spiffe://irs.example/gateway/dmz1, bundle, irs; ");
	assert_int_equal(e.errors, 0);
	assert_int_equal(pairing_each("/proc/self/maps", note_installed, &got, &e), -1);
	assert_int_equal(e.errors, 1);
	errs_fini(&e);
	mem_free(path);
	mem_free(got);
	mem_free(text);
	mem_free(dir);
}

/* Content that we do not know, or too much of it. */
static void
odd_members(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct pairfile p = content(zoo_now), q;
		const char *why = NULL;
		char *text;

		if (i == 0) { /* 65 gateways */
			mem_free(p.gateways[0]);
			mem_free(p.gateways);
			p.gateways = mem_array(65, sizeof(char *));
			for (p.ngateways = 0; p.ngateways < 65; p.ngateways++)
				p.gateways[p.ngateways] = mem_printf("spiffe://irs.example/gateway/g%zu", p.ngateways);
		} else {
			replace(&p.bundle_pem, "");
		}
		text = pairfile_write(&p, key);
		assert_int_equal(pairfile_read(&q, text, strlen(text), &why), PAIRFILE_MALFORMED);
		assert_string_equal(why, i == 0 ? "more than 64 gateways or addresses" : "no certificate");
		mem_free(text);
		pairfile_fini(&p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(codes),
		cmocka_unit_test(altered),
		cmocka_unit_test(malformed),
		cmocka_unit_test(bad_content),
		cmocka_unit_test(refusals),
		cmocka_unit_test(accepted),
		cmocka_unit_test(in_the_way),
		cmocka_unit_test(entries),
		cmocka_unit_test(pairing_keys),
		cmocka_unit_test(new_ca),
		cmocka_unit_test(bad_cross),
		cmocka_unit_test(entry_after_update),
		cmocka_unit_test(updates_refused),
		cmocka_unit_test(ended_bundle),
		cmocka_unit_test(removed),
		cmocka_unit_test(accepted_again),
		cmocka_unit_test(listed),
		cmocka_unit_test(odd_members),
	};

	return cmocka_run_group_tests_name("pki/pairing", tests, setup, teardown);
}
