/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys in an HSM (SoftHSM 2): the role and its helper as master starts them, with their sandboxes; what is signed, what happens when the token
 * goes away, comes back, or the helper ends; wrong PINs are tried once. Skipped where there is no SoftHSM.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/helper.h"
#include "gateway/keys/ident.h"
#include "gateway/keys/proto.h"
#include "gateway/keys/role.h"
#include "gateway/process/asan.h"
#include "gateway/process/child.h"
#include "gateway/process/memfd.h"
#include "gateway/process/spawn.h"
#include "tests/unit/pki/zoo.h"

#define WAIT_MS 40000

static const char *const modules[] = {
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
};
static const char *module;
static char dir[] = "/tmp/sallyport-hsm-XXXXXX";
static EVP_PKEY *ec, *rsa, *soft;
static struct zoo_cert cert;
static uint8_t tbs[130], buf[IPC_MAX_DATA + 16];

static const struct role_desc table[ROLES] = {
	[ROLE_KEYS] = { ROLE_KEYS, "keys", "", false, 1, keys_main, &keys_helper },
};

static void
sh(const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (system(text) != 0)
		fail_msg("failed: %s", text);
}

static EVP_PKEY *
public_of(const char *label)
{
	EVP_PKEY *k;
	char name[256];
	FILE *f;

	sh("pkcs11-tool --module %s --token-label t1 --read-object --type pubkey --label %s -o %s/%s.der >/dev/null 2>&1", module, label, dir, label);
	snprintf(name, sizeof(name), "%s/%s.der", dir, label);
	f = fopen(name, "rb");
	assert_non_null(f);
	k = d2i_PUBKEY_fp(f, NULL);
	fclose(f);
	assert_non_null(k);
	return k;
}

static int
setup(void **state)
{
	char conf[256];
	FILE *f;

	(void)state;
	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules) && !module; i++)
		if (access(modules[i], R_OK) == 0)
			module = modules[i];
	if (!module || system("command -v softhsm2-util pkcs11-tool >/dev/null") != 0) {
		module = NULL;
		return 0;
	}
	assert_non_null(mkdtemp(dir));
	snprintf(conf, sizeof(conf), "%s/softhsm2.conf", dir);
	f = fopen(conf, "w");
	fprintf(f, "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", dir);
	fclose(f);
	setenv("SOFTHSM2_CONF", conf, 1);
	sh("mkdir %s/tokens", dir);
	sh("softhsm2-util --init-token --free --label t1 --pin 1234 --so-pin 5678 >/dev/null");
	sh("pkcs11-tool --module %s -l -p 1234 --token-label t1 --keypairgen --key-type EC:prime256v1 --label ec --id 01 >/dev/null 2>&1", module);
	sh("pkcs11-tool --module %s -l -p 1234 --token-label t1 --keypairgen --key-type rsa:2048 --label rsa --id 02 >/dev/null 2>&1", module);
	ec = public_of("ec");
	rsa = public_of("rsa");
	soft = EVP_EC_gen("P-256");
	cert = zoo_make(&(struct zoo){ .cn = "gateway", .san = { { GEN_URI, "spiffe://hud.example/gateway/dmz1", 0 } } }, NULL);
	assert_int_equal(X509_set_pubkey(cert.x, ec), 1);
	memset(tbs, ' ', 64);
	memcpy(tbs + 64, "TLS 1.3, client CertificateVerify", 34);
	memset(tbs + 98, 0x77, 32);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	if (!module)
		return 0;
	EVP_PKEY_free(ec);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(soft);
	zoo_free(&cert);
	sh("rm -rf %s", dir);
	return 0;
}

/* ---- the role, as master starts it ---- */

struct hsm_bed {
	pid_t pid;
	int master, worker, control;
};

static void
give(const struct hsm_bed *b, enum role_fd kind, unsigned arg, int fd)
{
	struct role_fd_msg what = { .kind = (uint16_t)kind, .arg = (uint16_t)arg };

	assert_true(fd >= 0);
	assert_int_equal(ipc_send(b->master, ROLE_MSG_FD, 0, &what, sizeof(what), &fd, 1), 0);
	close(fd);
}

static void
give_text(const struct hsm_bed *b, enum role_fd kind, unsigned arg, const char *text)
{
	give(b, kind, arg, memfd_sealed("text", text, strlen(text)));
}

static int
channel(const struct hsm_bed *b, enum role role)
{
	int sv[2];

	assert_int_equal(ipc_pair(sv), 0);
	give(b, ROLE_FD_CHANNEL, (unsigned)role << 8, sv[1]);
	return sv[0];
}

static struct hsm_bed
start(unsigned restarts, const char *uri, const char *pin, const char *more_given)
{
	char *given = mem_printf("module %s\npath %s\nenv SOFTHSM2_CONF=%s/softhsm2.conf\n%s", module, dir, dir, more_given);
	struct spawn s = { .role = ROLE_KEYS, .dir_fd = -1, .helper = given };
	struct role_go go = { .count = 1, .instance = 1, .generation = 1, .restarts = restarts };
	int self = spawn_self();
	struct hsm_bed b;
	char *pem;
	BIO *out = BIO_new(BIO_s_mem());

	b.pid = spawn_role(&s, self, &b.master);
	assert_true(b.pid > 0);
	close(self);
	mem_free(given);
	if (pin)
		give_text(&b, ROLE_FD_PIN, 0, pin);
	give_text(&b, ROLE_FD_KEY, 0, uri);
	pem = zoo_pem(&cert.x, 1);
	if (strstr(uri, "=ec"))
		give_text(&b, ROLE_FD_KEY_CERT, 0, pem);
	mem_free(pem);
	PEM_write_bio_PrivateKey(out, soft, NULL, NULL, 0, NULL, NULL);
	give(&b, ROLE_FD_KEY, 1, memfd_sealed("key", BIO_get_mem_data(out, &pem) > 0 ? pem : "", BIO_get_mem_data(out, &pem)));
	BIO_free(out);
	b.worker = channel(&b, ROLE_WORKER);
	b.control = channel(&b, ROLE_CONTROL);
	assert_int_equal(ipc_send(b.master, ROLE_MSG_GO, 0, &go, sizeof(go), NULL, 0), 0);
	return b;
}

static int
next(int fd, struct ipc_msg *m)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (poll(&p, 1, WAIT_MS) != 1)
		fail_msg("no answer");
	return ipc_recv(fd, buf, m);
}

static void
expect_ready(const struct hsm_bed *b)
{
	struct ipc_msg m;

	assert_int_equal(next(b->master, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_READY);
}

static int
end(struct hsm_bed *b)
{
	int status;

	ipc_send(b->master, ROLE_MSG_STOP, 0, NULL, 0, NULL, 0);
	assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
	close(b->master);
	close(b->worker);
	close(b->control);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
ask_only(const struct hsm_bed *b, uint64_t id, uint16_t key, EVP_PKEY *pkey, uint16_t scheme)
{
	struct keys_sign q = { .id = id, .key = key, .scheme = scheme, .tbs = tbs, .tbs_len = sizeof(tbs) };
	uint8_t msg[KEYS_SIGN_MAX];
	size_t len;

	assert_int_equal(keys_ident_id(pkey, q.key_id), 0);
	len = keys_proto_put_sign(msg, &q);
	assert_int_equal(ipc_send(b->worker, KEYS_MSG_SIGN, 0, msg, len, NULL, 0), 0);
}

static struct keys_signed
answer(const struct hsm_bed *b)
{
	struct keys_signed r;
	struct ipc_msg m;

	assert_int_equal(next(b->worker, &m), 1);
	assert_int_equal(m.type, KEYS_MSG_SIGNED);
	assert_int_equal(keys_proto_get_signed(&r, m.data, m.len), 0);
	return r;
}

static struct keys_signed
ask(const struct hsm_bed *b, uint16_t key, EVP_PKEY *pkey, uint16_t scheme)
{
	struct keys_signed r;

	ask_only(b, 42, key, pkey, scheme);
	r = answer(b);
	assert_true(r.id == 42);
	return r;
}

static void
check_signature(const struct keys_signed *r, EVP_PKEY *pkey, const char *digest)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	EVP_PKEY_CTX *ctx;

	assert_int_equal(r->status, KEYS_OK);
	assert_int_equal(EVP_DigestVerifyInit_ex(md, &ctx, digest, NULL, NULL, pkey, NULL), 1);
	if (EVP_PKEY_is_a(pkey, "RSA")) {
		EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING);
		EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST);
	}
	assert_int_equal(EVP_DigestVerify(md, r->sig, r->sig_len, tbs, sizeof(tbs)), 1);
	EVP_MD_CTX_free(md);
}

static char *
status(const struct hsm_bed *b)
{
	struct ipc_msg m;

	assert_int_equal(ipc_send(b->control, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(next(b->control, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_STATUS_REPLY);
	return mem_strndup((char *)m.data, m.len);
}

static unsigned
number_in(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return (unsigned)strtoul(at + strlen(name), NULL, 10);
}

static void
until(const struct hsm_bed *b, const char *what)
{
	uint64_t until_ms = clock_mono_ms() + WAIT_MS;

	for (;;) {
		char *text = status(b);
		bool there = strstr(text, what) != NULL;

		if (there || clock_mono_ms() > until_ms) {
			if (!there)
				fail_msg("no %s in %s", what, text);
			mem_free(text);
			return;
		}
		mem_free(text);
		usleep(20000);
	}
}

/* ---- tests ---- */

#define URI(label) "pkcs11:token=t1;object=" label ";type=private"
#define needs_softhsm() \
	do { \
		if (!module) \
			skip(); \
	} while (0)

static void
test_signs(void **state)
{
	struct keys_signed r;
	struct hsm_bed b;
	char *text;

	(void)state;
	needs_softhsm();
	b = start(0, URI("ec"), "1234\n", "");
	expect_ready(&b);
	r = ask(&b, 0, ec, KEYS_ECDSA_P256_SHA256);
	check_signature(&r, ec, "SHA256");
	/* A key of ours beside it, and none of another number. */
	r = ask(&b, 1, soft, KEYS_ECDSA_P256_SHA256);
	check_signature(&r, soft, "SHA256");
	assert_int_equal(ask(&b, 0, soft, KEYS_ECDSA_P256_SHA256).status, KEYS_AWAY);
	assert_int_equal(ask(&b, 1, ec, KEYS_ECDSA_P256_SHA256).status, KEYS_NO_KEY);
	assert_int_equal(ask(&b, 0, ec, KEYS_ECDSA_P384_SHA384).status, KEYS_BAD_SCHEME);
	text = status(&b);
	assert_non_null(strstr(text, "\"in\":\"hsm\""));
	assert_non_null(strstr(text, "\"running\":true"));
	assert_non_null(strstr(text, module));
	assert_non_null(strstr(text, dir));
	assert_non_null(strstr(text, "\"seccomp\""));
	mem_free(text);
	assert_int_equal(end(&b), 0);
	b = start(0, URI("rsa"), "1234", "");
	expect_ready(&b);
	r = ask(&b, 0, rsa, KEYS_RSA_PSS_SHA256);
	check_signature(&r, rsa, "SHA256");
	r = ask(&b, 0, rsa, KEYS_RSA_PSS_SHA384);
	check_signature(&r, rsa, "SHA384");
	r = ask(&b, 0, rsa, KEYS_RSA_PSS_SHA512);
	check_signature(&r, rsa, "SHA512");
	assert_int_equal(end(&b), 0);
}

static void
test_csr(void **state)
{
	struct keys_csr q = { .id = 5 };
	uint8_t msg[KEYS_CSR_LEN];
	struct keys_csr_done r;
	struct hsm_bed b;
	struct ipc_msg m;
	const uint8_t *p;
	X509_REQ *req;

	(void)state;
	needs_softhsm();
	b = start(0, URI("ec"), "1234", "");
	expect_ready(&b);
	/* Another key is for the HSM's operator to make. */
	q.flags = KEYS_CSR_NEW_KEY;
	assert_int_equal(ipc_send(b.worker, KEYS_MSG_CSR, 0, msg, keys_proto_put_csr(msg, &q), NULL, 0), 0);
	assert_int_equal(next(b.worker, &m), 1);
	assert_int_equal(keys_proto_get_csr_done(&r, m.data, m.len), 0);
	assert_int_equal(r.status, KEYS_FIXED);
	q.flags = 0;
	assert_int_equal(ipc_send(b.worker, KEYS_MSG_CSR, 0, msg, keys_proto_put_csr(msg, &q), NULL, 0), 0);
	assert_int_equal(next(b.worker, &m), 1);
	assert_int_equal(keys_proto_get_csr_done(&r, m.data, m.len), 0);
	assert_int_equal(r.status, KEYS_OK);
	assert_true(r.id == 5);
	p = r.der;
	req = d2i_X509_REQ(NULL, &p, (long)r.der_len);
	assert_non_null(req);
	assert_int_equal(X509_REQ_verify(req, ec), 1);
	assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(req), ec), 1);
	X509_REQ_free(req);
	assert_int_equal(end(&b), 0);
}

/* The helper is killed, with requests under way: they are answered by its successor. */
static void
test_helper_dies(void **state)
{
	struct keys_signed r;
	struct hsm_bed b;
	char *text;

	(void)state;
	needs_softhsm();
	b = start(0, URI("ec"), "1234", "");
	expect_ready(&b);
	for (unsigned round = 1; round <= 2; round++) {
		unsigned pid;

		text = status(&b);
		pid = number_in(text, "\"pid\":");
		assert_int_equal(number_in(text, "\"starts\":"), round);
		mem_free(text);
		kill((pid_t)pid, SIGSTOP);
		for (unsigned i = 0; i < 10; i++)
			ask_only(&b, i, 0, ec, KEYS_ECDSA_P256_SHA256);
		/* Ours is not held up. */
		r = ask(&b, 1, soft, KEYS_ECDSA_P256_SHA256);
		check_signature(&r, soft, "SHA256");
		kill((pid_t)pid, SIGKILL);
		for (unsigned i = 0; i < 10; i++) {
			r = answer(&b);
			check_signature(&r, ec, "SHA256");
		}
	}
	assert_int_equal(end(&b), 0);
}

/* The token is gone: what it had cannot be had, the rest can; then it is back. */
static void
test_token_away(void **state)
{
	struct keys_signed r;
	struct hsm_bed b;
	char *text;

	(void)state;
	needs_softhsm();
	b = start(0, URI("ec"), "1234", "");
	expect_ready(&b);
	sh("mv %s/tokens %s/away && mkdir %s/tokens", dir, dir, dir);
	text = status(&b);
	if (strstr(text, "\"via\":\"provider\"")) /* it would not notice: the software token is still in its memory */
		kill((pid_t)number_in(text, "\"pid\":"), SIGKILL);
	mem_free(text);
	assert_int_equal(ask(&b, 0, ec, KEYS_ECDSA_P256_SHA256).status, KEYS_AWAY);
	until(&b, "\"state\":\"away\"");
	assert_int_equal(ask(&b, 0, ec, KEYS_ECDSA_P256_SHA256).status, KEYS_AWAY);
	r = ask(&b, 1, soft, KEYS_ECDSA_P256_SHA256);
	check_signature(&r, soft, "SHA256");
	sh("rmdir %s/tokens && mv %s/away %s/tokens", dir, dir, dir);
	until(&b, "\"state\":\"ready\"");
	r = ask(&b, 0, ec, KEYS_ECDSA_P256_SHA256);
	check_signature(&r, ec, "SHA256");
	assert_int_equal(end(&b), 0);
}

/* What is wrong at the first start keeps the generation from starting; later the role goes on without. */
static void
test_faults(void **state)
{
	static const struct {
		const char *uri, *pin, *why;
	} t[] = {
		{ URI("none"), "1234", "no such private key" },
		{ "pkcs11:token=t9;object=ec;type=private", "1234", "no such private key" },
		{ URI("ec"), "9999", "PIN" },
		{ URI("ec"), "\n", "the PIN's file is empty" },
	};
	struct hsm_bed b;
	struct ipc_msg m;
	char *text;

	(void)state;
	needs_softhsm();
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		b = start(0, t[i].uri, t[i].pin, "");
		assert_int_equal(next(b.master, &m), -1); /* never ready */
		assert_int_equal(end(&b), 1);
		if (!strcmp(t[i].pin, "9999"))
			continue; /* once more would be one try too many, with others' */
		b = start(1, t[i].uri, t[i].pin, "");
		expect_ready(&b);
		until(&b, "\"state\":\"away\"");
		text = status(&b);
		assert_non_null(strstr(text, t[i].why));
		mem_free(text);
		if (i == 0)
			until(&b, "\"starts\":2"); /* a key that may yet be made is looked for again */
		assert_int_equal(end(&b), 0);
	}
	/* A wrong PIN is tried once by a process, however long that goes on; the token counts them. */
	b = start(1, URI("ec"), "9999", "");
	expect_ready(&b);
	until(&b, "\"state\":\"away\"");
	usleep(500000);
	text = status(&b);
	assert_non_null(strstr(text, "it does not take the PIN (wrong or locked)"));
	assert_int_equal(number_in(text, "\"starts\":"), 1);
	mem_free(text);
	/* Master brings a better one. */
	give_text(&b, ROLE_FD_PIN, 0, "1234");
	give_text(&b, ROLE_FD_KEY, 0, URI("ec"));
	until(&b, "\"state\":\"ready\"");
	assert_int_equal(ask(&b, 0, ec, KEYS_ECDSA_P256_SHA256).status, KEYS_OK);
	assert_int_equal(end(&b), 0);
	/* A certificate of another key. */
	X509_set_pubkey(cert.x, soft);
	b = start(0, URI("ec"), "1234", "");
	assert_int_equal(next(b.master, &m), -1);
	assert_int_equal(end(&b), 1);
	X509_set_pubkey(cert.x, ec);
	/* A module that is none. */
	text = (char *)(uintptr_t)module;
	module = "/usr/lib/os-release";
	b = start(0, URI("ec"), "1234", "");
	assert_int_equal(next(b.master, &m), -1);
	assert_int_equal(end(&b), 1);
	module = text;
}

/* Nothing but what was named may be used by the module's process, and the role itself is as narrow as ever. */
static void
test_confined(void **state)
{
	struct hsm_bed b;
	char *text, name[128], line[256];
	bool seccomp = false;
	unsigned pid, parent = 0;
	FILE *f;

	(void)state;
	needs_softhsm();
	b = start(0, URI("ec"), "1234", "");
	expect_ready(&b);
	text = status(&b);
	pid = number_in(text, "\"pid\":");
	mem_free(text);
	snprintf(name, sizeof(name), "/proc/%u/status", pid);
	f = fopen(name, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "Seccomp:\t2", 10))
			seccomp = true;
		assert_false(!strncmp(line, "NoNewPrivs:\t0", 13));
		sscanf(line, "PPid:\t%u", &parent);
	}
	fclose(f);
	assert_true(seccomp);
	/* It dies with the role. */
	kill(b.pid, SIGKILL);
	assert_int_equal(waitpid(b.pid, NULL, 0), b.pid);
	for (int i = 0; i < 1000 && (kill((pid_t)pid, 0) == 0 || kill((pid_t)parent, 0) == 0); i++)
		usleep(10000);
	assert_int_equal(kill((pid_t)pid, 0), -1);
	assert_int_equal(kill((pid_t)parent, 0), -1); /* who would start another one */
	close(b.master);
	close(b.worker);
	close(b.control);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signs),
		cmocka_unit_test(test_csr),
		cmocka_unit_test(test_helper_dies),
		cmocka_unit_test(test_token_away),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_confined),
	};

	child_run(table);
	return cmocka_run_group_tests(tests, setup, teardown);
}
