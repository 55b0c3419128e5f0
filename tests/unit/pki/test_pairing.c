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
	struct pairfile p = { 0 };
	struct errs e;
	enum pairing_result res;

	errs_init(&e);
	res = pairing_accept(&r, &p, &e);
	assert_int_equal(e.errors, res == PAIRING_OK ? 0 : 1);
	/* The reason's token is in the text, for who reads either. */
	if (res != PAIRING_OK && res != PAIRING_IO)
		assert_non_null(strstr(e.items[0].text, pairing_token(res)));
	errs_fini(&e);
	pairfile_fini(&p);
	return res;
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
	};

	return cmocka_run_group_tests_name("pki/pairing", tests, setup, teardown);
}
