/* SPDX-License-Identifier: Apache-2.0 */
/* A CA on disk: made whole or not at all, never overwritten, locked, and issuing only what a gateway would accept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "pki/ca.h"
#include "pki/pkifile.h"
#include "pki/store.h"
#include "pki/svid.h"
#include "tests/unit/pki/zoo.h"

static char root_dir[] = "/tmp/sallyport-test-ca-XXXXXX"; /* check: allow, mkdtemp(3) */
static unsigned dirs;

static char *
fresh_dir(void)
{
	return mem_printf("%s/%u", root_dir, dirs++);
}

static int
setup(void **state)
{
	(void)state;
	return mkdtemp(root_dir) ? 0 : -1;
}

static int
teardown(void **state)
{
	char *cmd = mem_printf("rm -rf '%s'", root_dir);
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

/* The one fault contains this; and it is forgotten. */
static void
fault_is(struct errs *e, const char *text)
{
	assert_int_equal(e->errors, 1);
	if (strstr(e->items[0].text, text) == NULL)
		print_error("\"%s\" without \"%s\"\n", e->items[0].text, text);
	assert_non_null(strstr(e->items[0].text, text));
	errs_fini(e);
	errs_init(e);
}

static char *
new_ca(const char *domain, enum pkey_alg alg)
{
	char *dir = fresh_dir();
	struct errs e;

	errs_init(&e);
	must(&e, ca_init(dir, domain, alg, NULL, zoo_now, &e) == 0);
	errs_fini(&e);
	return dir;
}

static struct ca_issued
issue(const char *dir, const struct ca_request *r)
{
	struct ca_issued out;
	struct errs e;
	struct ca *ca;

	errs_init(&e);
	ca = ca_open(dir, NULL, &e);
	must(&e, ca != NULL);
	must(&e, ca_issue(ca, r, &out, &e) == 0);
	ca_close(ca);
	errs_fini(&e);
	return out;
}

static X509 *
nth(const char *pem, int n)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x = NULL;

	do {
		X509_free(x);
		x = PEM_read_bio_X509(in, NULL, NULL, NULL);
	} while (n-- > 0);
	BIO_free(in);
	return x;
}

/* What each algorithm issues is taken by svid_verify against what "pki bundle" prints, in both directions. */
static void
issued_verifies(void **state)
{
	(void)state;
	for (enum pkey_alg alg = PKEY_P256; alg <= PKEY_ED25519; alg++) {
		char *dir = new_ca("hud.example", alg), *pem, *names = mem_alloc(1024);
		const char *dns[] = { "tax.hud.svc", "*.hud.svc" }, *why = NULL, *detail = NULL;
		struct ca_request r = { .kind = "gateway", .id = "spiffe://hud.example/gateway/dmz1", .dns = dns, .ndns = 2, .now = zoo_now, .alg = alg };
		struct ca_issued out = issue(dir, &r);
		struct svid_info *info = mem_zalloc(sizeof(*info));
		struct svid_bundle *b;
		X509 *chain[2] = { nth(out.chain_pem, 0), nth(out.chain_pem, 1) };
		struct evp_pkey_st *key = pkey_from_pem(out.key_pem, &why);
		struct errs e;

		errs_init(&e);
		pem = ca_bundle(dir, &e);
		must(&e, pem != NULL);
		b = svid_bundle_new("hud.example", pem, &why);
		assert_non_null(b);
		for (enum svid_purpose p = SVID_CLIENT; p <= SVID_ANY; p++)
			assert_int_equal(svid_verify(chain, 2, &b, 1, p, zoo_now, info, &detail), SVID_OK);
		assert_string_equal(info->id, r.id);
		assert_string_equal(info->serial, out.serial);
		assert_int_equal(info->not_after, zoo_now + CA_GATEWAY_S);
		assert_int_equal(X509_check_private_key(chain[0], key), 1);
		assert_int_equal(svid_dns_names_of_pem(out.chain_pem, names, 1024), 2);
		assert_string_equal(names, "tax.hud.svc *.hud.svc");
		/* Our own domain alone, by the CA's name constraints: the same bundle under another name is refused. */
		assert_null(svid_bundle_new("irs.example", pem, &why));
		svid_bundle_unref(b);
		pkey_free(key);
		X509_free(chain[0]);
		X509_free(chain[1]);
		ca_issued_fini(&out);
		mem_free(info);
		mem_free(pem);
		mem_free(names);
		mem_free(dir);
		errs_fini(&e);
	}
}

static void
modes_and_layout(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
	} want[] = { { "ca", S_IFDIR | 0700 }, { "ca/root.key", S_IFREG | 0600 }, { "ca/issuing.key", S_IFREG | 0600 },
		{ "ca/root.crt", S_IFREG | 0644 }, { "ca/issuing.crt", S_IFREG | 0644 }, { "ca/index", S_IFREG | 0600 },
		{ "hud.example.pem", S_IFREG | 0644 }, { "lock", S_IFREG | 0600 } };
	mode_t old = umask(0); /* the modes are ours, not the umask's */
	char *dir = new_ca("hud.example", PKEY_P256), *bundle, *printed, *path;
	struct errs e;
	(void)state;

	umask(old);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		struct stat st;

		path = mem_printf("%s/%s", dir, want[i].name);
		assert_int_equal(stat(path, &st), 0);
		if (st.st_mode != want[i].mode)
			print_error("%s: %o\n", path, st.st_mode);
		assert_int_equal(st.st_mode, want[i].mode);
		mem_free(path);
	}
	errs_init(&e);
	path = mem_printf("%s/hud.example.pem", dir);
	bundle = pkifile_read(path, 65536);
	printed = ca_bundle(dir, &e);
	assert_string_equal(bundle, printed);
	errs_fini(&e);
	mem_free(path);
	mem_free(bundle);
	mem_free(printed);
	mem_free(dir);
}

static void
init_refusals(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256), *path = mem_printf("%s/ca/root.key", dir), *before, *after, *none = fresh_dir();
	struct errs e;
	(void)state;

	errs_init(&e);
	before = pkifile_read_secret(path, 65536);
	assert_int_equal(ca_init(dir, "hud.example", PKEY_P256, NULL, zoo_now, &e), -1);
	fault_is(&e, "there is a CA already, and it stays");
	assert_int_equal(ca_init(dir, "irs.example", PKEY_P256, NULL, zoo_now, &e), -1);
	fault_is(&e, "there is a CA already, and it stays");
	after = pkifile_read_secret(path, 65536);
	assert_string_equal(before, after);
	for (size_t i = 0; i < 6; i++) {
		static const char *const bad[] = { "HUD.example", "", "a..b", "a/b", "a,URI:spiffe://b", "spiffe://a" };

		assert_int_equal(ca_init(none, bad[i], PKEY_P256, NULL, zoo_now, &e), -1);
		fault_is(&e, "is no trust domain");
		assert_int_equal(access(none, F_OK), -1);
	}
	assert_null(ca_open(none, NULL, &e));
	fault_is(&e, "gwctl pki init");
	assert_int_equal(access(none, F_OK), -1); /* a mistyped --dir leaves nothing behind */
	assert_null(ca_bundle(none, &e));
	fault_is(&e, "gwctl pki init");
	errs_fini(&e);
	mem_free(before);
	mem_free(after);
	mem_free(path);
	mem_free(dir);
	mem_free(none);
}

static void
damaged_store(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256), *other = new_ca("hud.example", PKEY_P256);
	char *key = mem_printf("%s/ca/issuing.key", dir), *crt = mem_printf("%s/ca/issuing.crt", dir), *text, *other_key;
	struct errs e;
	(void)state;

	errs_init(&e);
	assert_int_equal(chmod(key, 0640), 0);
	assert_null(ca_open(dir, NULL, &e));
	fault_is(&e, "others may read this key");
	assert_int_equal(chmod(key, 0600), 0);
	other_key = mem_printf("%s/ca/issuing.key", other);
	text = pkifile_read_secret(other_key, 65536);
	assert_int_equal(pkifile_replace(key, 0600, text, strlen(text)), 0);
	assert_null(ca_open(dir, NULL, &e));
	fault_is(&e, "not the key of the certificate");
	assert_int_equal(pkifile_replace(key, 0600, "x", 1), 0);
	assert_null(ca_open(dir, NULL, &e));
	fault_is(&e, "no private key in PEM form");
	assert_int_equal(truncate(crt, 100), 0);
	assert_null(ca_open(dir, NULL, &e));
	fault_is(&e, "damaged PEM");
	assert_int_equal(unlink(crt), 0);
	assert_null(ca_open(dir, NULL, &e));
	fault_is(&e, "No such file");
	errs_fini(&e);
	mem_free(text);
	mem_free(other_key);
	mem_free(other);
	mem_free(key);
	mem_free(crt);
	mem_free(dir);
}

static void
names(void **state)
{
	static const struct {
		const char *kind, *name, *want; /* NULL: refused */
	} rows[] = {
		{ "gateway", "dmz1", "spiffe://hud.example/gateway/dmz1" },
		{ "gateway", "spiffe://hud.example/gateway/dmz1", "spiffe://hud.example/gateway/dmz1" },
		{ "workload", "permit-svc", "spiffe://hud.example/permit-svc" },
		{ "workload", "ns/a/sa/b", "spiffe://hud.example/ns/a/sa/b" },
		{ "workload", "gateways/x", "spiffe://hud.example/gateways/x" },
		{ "gateway", "a/b", NULL },
		{ "gateway", "", NULL },
		{ "gateway", "spiffe://hud.example/dmz1", NULL },
		{ "gateway", "spiffe://irs.example/gateway/dmz1", NULL },
		{ "workload", "", NULL },
		{ "workload", "/a", NULL },
		{ "workload", "a/", NULL },
		{ "workload", "..", NULL },
		{ "workload", "a b", NULL },
		{ "workload", "a,URI:spiffe://irs.example/x", NULL },
		{ "workload", "gateway/dmz1", NULL },
		{ "workload", "gateway", NULL },
		{ "workload", "spiffe://hud.example/gateway/dmz1", NULL },
		{ "workload", "spiffe://hud.example", NULL },
		{ "workload", "spiffe://hud.example.evil/x", NULL },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *why;
		char *id = ca_id_of_name("hud.example", rows[i].kind, rows[i].name, &why);

		if ((id == NULL) != (rows[i].want == NULL))
			print_error("%s %s: %s\n", rows[i].kind, rows[i].name, id ? id : why);
		if (rows[i].want)
			assert_string_equal(id, rows[i].want);
		else
			assert_null(id);
		assert_true((id == NULL) == (why != NULL));
		mem_free(id);
	}
}

static char *
csr_of(EVP_PKEY *key, EVP_PKEY *signer, const char *san)
{
	X509_REQ *req = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
	BIO *out = BIO_new(BIO_s_mem());
	char *p, *pem;
	long n;

	X509_REQ_set_pubkey(req, key);
	if (san) {
		sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
		X509_REQ_add_extensions(req, exts);
	}
	X509_REQ_sign(req, signer, EVP_sha256());
	PEM_write_bio_X509_REQ(out, req);
	n = BIO_get_mem_data(out, &p);
	pem = mem_strndup(p, (size_t)n);
	BIO_free(out);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	X509_REQ_free(req);
	return pem;
}

static void
requests(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256);
	struct zoo z = { .cn = "x" }, weak_z = { .cn = "x", .key = ZOO_RSA1024 };
	struct zoo_cert a = zoo_make(&z, NULL), b = zoo_make(&z, NULL), weak = zoo_make(&weak_z, NULL);
	const char *bad_dns[] = { "a b" }, *good_dns[] = { "x.svc" };
	char *good = csr_of(a.key, a.key, NULL), *same = csr_of(a.key, a.key, "URI:spiffe://hud.example/w, DNS:evil.example");
	char *other = csr_of(a.key, a.key, "URI:spiffe://hud.example/v"), *stolen = csr_of(a.key, b.key, NULL), *short_key = csr_of(weak.key, weak.key, NULL);
	const struct {
		struct ca_request r;
		const char *fault; /* NULL: issued */
	} rows[] = {
		{ { .kind = "workload", .id = "spiffe://hud.example/w" }, NULL },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .csr_pem = good }, NULL },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .csr_pem = same }, NULL },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .dns = good_dns, .ndns = 1, .lifetime_s = 60 }, NULL },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .csr_pem = other }, "asks for another id" },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .csr_pem = stolen }, "not by its own key" },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .csr_pem = short_key }, "shorter than 2048" },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .csr_pem = "hello" }, "not a certificate request" },
		{ { .kind = "workload", .id = "spiffe://hud.example/gateway/x" }, "are for gateways" },
		{ { .kind = "gateway", .id = "spiffe://hud.example/x" }, "one path segment" },
		{ { .kind = "workload", .id = "spiffe://irs.example/x" }, "another trust domain" },
		{ { .kind = "workload", .id = "x" }, "not a SPIFFE ID" },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .dns = bad_dns, .ndns = 1 }, "is no DNS name" },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .lifetime_s = 59 }, "below one minute" },
		{ { .kind = "workload", .id = "spiffe://hud.example/w", .now = zoo_now + CA_ISSUING_S }, "has expired" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ca_request r = rows[i].r;
		struct ca_issued out;
		struct errs e;
		struct ca *ca;

		errs_init(&e);
		ca = ca_open(dir, NULL, &e);
		must(&e, ca != NULL);
		r.now = r.now ? r.now : zoo_now;
		if (rows[i].fault) {
			assert_int_equal(ca_issue(ca, &r, &out, &e), -1);
			assert_null(out.chain_pem);
			assert_null(out.key_pem);
			fault_is(&e, rows[i].fault);
		} else {
			char dns[64];

			must(&e, ca_issue(ca, &r, &out, &e) == 0);
			assert_true((out.key_pem == NULL) == (r.csr_pem != NULL));
			assert_int_equal(out.not_after, zoo_now + (r.lifetime_s ? r.lifetime_s : CA_WORKLOAD_S));
			/* A CSR's own DNS names are not taken over. */
			assert_int_equal(svid_dns_names_of_pem(out.chain_pem, dns, sizeof(dns)), (int)r.ndns);
		}
		ca_issued_fini(&out);
		ca_close(ca);
		errs_fini(&e);
	}
	mem_free(good);
	mem_free(same);
	mem_free(other);
	mem_free(stolen);
	mem_free(short_key);
	zoo_free(&a);
	zoo_free(&b);
	zoo_free(&weak);
	mem_free(dir);
}

static void
shortened(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256);
	struct ca_request r = { .kind = "gateway", .id = "spiffe://hud.example/gateway/x", .now = zoo_now + CA_ISSUING_S - 3600 };
	struct ca_issued out = issue(dir, &r);
	(void)state;

	assert_true(out.shortened);
	assert_int_equal(out.not_after, zoo_now + CA_ISSUING_S);
	ca_issued_fini(&out);
	mem_free(dir);
}

struct count {
	unsigned n;
	char serials[192][41];
	bool twice;
};

static void
count_entry(void *ctx, const struct ca_entry *e)
{
	struct count *c = ctx;

	for (unsigned i = 0; i < c->n; i++)
		c->twice = c->twice || strcmp(c->serials[i], e->serial) == 0;
	assert_true(c->n < 192);
	assert_int_equal(strlen(e->serial), 40);
	memcpy(c->serials[c->n++], e->serial, 41);
}

static unsigned
entries(const char *dir, struct errs *e)
{
	struct count *c = mem_zalloc(sizeof(*c));
	unsigned n;

	assert_int_equal(ca_list(dir, zoo_now, count_entry, c, e), 0);
	assert_false(c->twice);
	n = c->n;
	mem_free(c);
	return n;
}

/* Two processes issue at once: each entry is whole, none is lost, no serial is given out twice. */
static void
two_processes(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256);
	struct ca_request r = { .kind = "workload", .id = "spiffe://hud.example/w", .now = zoo_now };
	struct errs e;
	pid_t pid[2];
	(void)state;

	for (int i = 0; i < 2; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0) {
			for (int k = 0; k < 50; k++) {
				struct ca_issued out = issue(dir, &r);

				ca_issued_fini(&out);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 2; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	errs_init(&e);
	assert_int_equal(entries(dir, &e), 2 + 100);
	assert_int_equal(e.n, 0);
	errs_fini(&e);
	mem_free(dir);
}

/* While one holds the lock, another waits, and gives up with advice. */
static void
lock_held(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256);
	struct errs e;
	struct store s;
	struct ca *ca;
	uint64_t t;
	(void)state;

	errs_init(&e);
	ca = ca_open(dir, NULL, &e);
	must(&e, ca != NULL);
	store_init(&s, dir);
	t = clock_mono_ms();
	assert_int_equal(store_lock(&s, 100, &e), -1);
	assert_true(clock_mono_ms() - t >= 100);
	fault_is(&e, "another gwctl");
	ca_close(ca);
	must(&e, store_lock(&s, 0, &e) == 0);
	store_fini(&s);
	errs_fini(&e);
	mem_free(dir);
}

static void
append_text(const char *path, const char *text, size_t n)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), (ssize_t)n);
	close(fd);
}

/* A crash in the middle of a line: it was never issued; the next entry takes its place. Lines that were edited are named, and nothing is done until they are repaired. */
static void
torn_index(void **state)
{
#define A40 "0123456789012345678901234567890123456789"
#define B40 "1123456789012345678901234567890123456789"
#define GOOD "issued\t" B40 "\tworkload\t2027-01-15T08:00:00Z\t2027-01-16T08:00:00Z\tspiffe://hud.example/x\t" A40 "\toperator\t-\t-\n"
	static const char torn[] = "issued\t0102\tworkload\t2027-01-15T0";
	static const struct {
		const char *line, *fault;
	} bad[] = {
		{ "issued\tzz\tworkload\t2027-01-15T08:00:00Z\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t-\t-\n", "forty hexadecimal" },
		{ "issued\t" A40 "\tworkload\tyesterday\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t-\t-\n", "a date that is none" },
		{ "issued\t" A40 "\tworkload\t2027-13-15T08:00:00Z\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t-\t-\n", "a date that is none" },
		{ "issued\t" A40 "\tworkload\n", "not ten fields" },
		{ "issued\t" A40 "\tworkload\t2027-01-15T08:00:00Z\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t-\t-\tmore\n", "too many fields" },
		{ "issued\t" A40 "\tworkload\t2027-01-15T08:00:00Z\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t" A40 "\t-\n", "never issued" },
		{ "issued\t" A40 "\tworkload\t2027-01-15T08:00:00Z\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t12\t-\n", "forty hexadecimal" },
		{ "issued\t" A40 "\t\t2027-01-15T08:00:00Z\t2027-01-16T08:00:00Z\tx\t" A40 "\toperator\t-\t-\n", "an empty field" },
		{ GOOD GOOD, "given before" },
		{ "borrowed\t" A40 "\n", "neither" },
		{ "revoked\t" A40 "\t2027-01-15T08:00:00Z\tkeyCompromise\n", "what was never issued" },
		{ "revoked\t" A40 "\t2027-01-15T08:00:00Z\n", "not four fields" },
		{ GOOD "revoked\t" B40 "\tsoon\tkeyCompromise\n", "a date that is none" },
		{ GOOD "revoked\t" B40 "\t2027-01-15T08:00:00Z\t\n", "an empty field" },
		{ "crl\t0x3\t2027-01-15T08:00:00Z\n", "a CRL number that is none" },
		{ "crl\t3\t2027-01-15\n", "a date that is none" },
		{ "\n", "neither" },
	};
	char *dir = new_ca("hud.example", PKEY_P256), *path = mem_printf("%s/ca/index", dir), *sound;
	struct ca_request r = { .kind = "workload", .id = "spiffe://hud.example/w", .now = zoo_now };
	struct ca_issued out;
	struct errs e;
	(void)state;

	errs_init(&e);
	append_text(path, torn, sizeof(torn) - 1);
	assert_int_equal(entries(dir, &e), 2);
	assert_int_equal(e.n, 0);
	out = issue(dir, &r);
	ca_issued_fini(&out);
	assert_int_equal(entries(dir, &e), 3);
	assert_int_equal(e.n, 0);
	sound = pkifile_read(path, 65536);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		append_text(path, bad[i].line, strlen(bad[i].line));
		append_text(path, torn, sizeof(torn) - 1);
		assert_int_equal(entries(dir, &e), strstr(bad[i].line, GOOD) ? 4 : 3);
		assert_int_equal(e.errors, 1);
		if (strstr(e.items[0].text, bad[i].fault) == NULL)
			print_error("row %zu: %s\n", i, e.items[0].text);
		assert_non_null(strstr(e.items[0].text, bad[i].fault));
		assert_non_null(strstr(e.items[0].text, strstr(bad[i].line, GOOD) ? "index:5: " : "index:4: "));
		errs_fini(&e);
		errs_init(&e);
		assert_null(ca_open(dir, NULL, &e));
		assert_non_null(strstr(e.items[e.n - 1].text, "nothing is issued or revoked while the index is damaged"));
		errs_fini(&e);
		errs_init(&e);
		assert_int_equal(pkifile_replace(path, 0600, sound, strlen(sound)), 0);
	}
	append_text(path, "crl\0001\tx\n", 9);
	assert_int_equal(entries(dir, &e), 3);
	fault_is(&e, "a NUL");
	assert_int_equal(unlink(path), 0);
	assert_null(ca_open(dir, NULL, &e));
	assert_non_null(strstr(e.items[0].text, "restore it from a backup"));
	errs_fini(&e);
	mem_free(sound);
	mem_free(path);
	mem_free(dir);
}

/* The index cannot be written: nothing leaves, and what is there stays whole. */
static void
unrecorded_is_unissued(void **state)
{
	char *dir = new_ca("hud.example", PKEY_P256), *path = mem_printf("%s/ca/index", dir);
	struct ca_request r = { .kind = "workload", .id = "spiffe://hud.example/w", .now = zoo_now };
	struct rlimit limit, before;
	struct ca_issued out;
	struct stat st;
	struct errs e;
	struct ca *ca;
	(void)state;

	errs_init(&e);
	ca = ca_open(dir, NULL, &e);
	must(&e, ca != NULL);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = before;
	limit.rlim_cur = (rlim_t)st.st_size + 20; /* half a line fits */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(ca_issue(ca, &r, &out, &e), -1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	fault_is(&e, "so nothing is done");
	assert_null(out.chain_pem);
	assert_null(out.key_pem);
	must(&e, ca_issue(ca, &r, &out, &e) == 0);
	ca_issued_fini(&out);
	ca_close(ca);
	assert_int_equal(entries(dir, &e), 3);
	assert_int_equal(e.n, 0);
	errs_fini(&e);
	mem_free(path);
	mem_free(dir);
}

static void
files(void **state)
{
	char *path = mem_printf("%s/file", root_dir), *link_path = mem_printf("%s/link", root_dir), *text;
	struct stat st;
	(void)state;

	assert_int_equal(pkifile_write_new(path, 0600, "one", 3), 0);
	assert_int_equal(pkifile_write_new(path, 0600, "two", 3), -1);
	assert_int_equal(errno, EEXIST);
	text = pkifile_read_secret(path, 16);
	assert_string_equal(text, "one");
	mem_free(text);
	/* Nor through a link, dangling or not. */
	assert_int_equal(symlink("nowhere", link_path), 0);
	assert_int_equal(pkifile_write_new(link_path, 0600, "two", 3), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(pkifile_replace(path, 0644, "three", 5), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_null(pkifile_read_secret(path, 16));
	assert_int_equal(errno, EPERM);
	assert_null(pkifile_read(path, 4));
	assert_int_equal(errno, EFBIG);
	assert_int_equal(pkifile_replace(path, 0644, "a\0b", 3), 0);
	assert_null(pkifile_read(path, 16));
	assert_int_equal(errno, EINVAL);
	assert_null(pkifile_read(root_dir, 16));
	assert_int_equal(errno, EISDIR);
	mem_free(path);
	mem_free(link_path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(issued_verifies),
		cmocka_unit_test(modes_and_layout),
		cmocka_unit_test(init_refusals),
		cmocka_unit_test(damaged_store),
		cmocka_unit_test(names),
		cmocka_unit_test(requests),
		cmocka_unit_test(shortened),
		cmocka_unit_test(two_processes),
		cmocka_unit_test(lock_held),
		cmocka_unit_test(torn_index),
		cmocka_unit_test(unrecorded_is_unissued),
		cmocka_unit_test(files),
	};

	return cmocka_run_group_tests_name("pki/ca", tests, setup, teardown);
}
