/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ca role as a process, in its sandbox and as a user of its own when the test runs as root: a store that its user could not reach by
 * path, workers that lie, a journal that does not listen, an operator who works in the store meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/ca/proto.h"
#include "gateway/ca/role.h"
#include "gateway/config/config.h"
#include "gateway/process/asan.h"
#include "gateway/process/child.h"
#include "gateway/process/ipc.h"
#include "gateway/process/memfd.h"
#include "gateway/process/sandbox.h"
#include "pki/ca.h"
#include "tests/unit/pki/estbed.h"

#define NOBODY 65534
#define ID "spiffe://hud.example/permit-svc"

static struct bed {
	pid_t pid;
	int master, worker, control, ring_fd;
	struct ring *ring;
	uint64_t last_id;
} bed;
static char *store;
static EVP_PKEY *a, *b;
static uint8_t buf[IPC_MAX_DATA + 16];
static int64_t now;

/* The image that master sends is not what is tested here. */
struct config *__wrap_config_decode(const void *image, size_t len, const char **why);
struct config *
__wrap_config_decode(const void *image, size_t len, const char **why)
{
	struct config *c = mem_zalloc(sizeof(*c));

	(void)image, (void)len, (void)why;
	c->log_level = mem_strdup(getenv("BED_VERBOSE") ? "debug" : "error");
	c->ca.store = mem_strdup("/etc/sallyport/\"pki\"");
	c->ca.workload_ms = 3600000;
	c->ca.gateway_ms = 7200000;
	return c;
}

static void
give_away(void)
{
	char *cmd = mem_printf("chown -R %d:%d %s", NOBODY, NOBODY, store);

	if (geteuid() == 0)
		assert_int_equal(system(cmd), 0);
	mem_free(cmd);
}

static void __attribute__((noreturn))
be_role(struct role_env *env)
{
	const char *why = "?";

	log_init("ca");
	if (!getenv("BED_VERBOSE"))
		log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC)); /* what it complains of is meant */
	env->role = ROLE_CA;
	if (sandbox_limits(ROLE_CA, &env->sandbox, &why) < 0 ||
	    (geteuid() == 0 && (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)) ||
	    (!WITH_ASAN && sandbox_enter(ROLE_CA, env->journal_dir_fd, &env->sandbox, &why) < 0)) {
		fprintf(stderr, "the role could not be confined: %s\n", why);
		_exit(99);
	}
	_exit(ca_main(env)); /* what the test itself holds is no leak of the role */
}

struct start {
	bool no_dir;
	const char *passphrase;
};

static void
start(const struct start *s)
{
	int master[2], worker[2], control[2], wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), nfds = 2;
	struct role_env_fd fds[3];
	const char *why = NULL;
	struct ipc_msg m;

	assert_true(ipc_pair(master) == 0 && ipc_pair(worker) == 0 && ipc_pair(control) == 0);
	bed.ring_fd = ring_create(1 << 20);
	bed.ring = ring_map_reader(bed.ring_fd, &why);
	assert_non_null(bed.ring);
	ring_heartbeat(bed.ring, clock_mono_ms());
	fds[0] = (struct role_env_fd){ .kind = ROLE_FD_CHANNEL, .arg = ROLE_WORKER << 8, .fd = worker[1] };
	fds[1] = (struct role_env_fd){ .kind = ROLE_FD_CHANNEL, .arg = ROLE_CONTROL << 8, .fd = control[1] };
	if (s->passphrase)
		fds[nfds++] = (struct role_env_fd){ .kind = ROLE_FD_PASSPHRASE, .fd = memfd_sealed("passphrase", s->passphrase, strlen(s->passphrase)) };
	fflush(NULL);
	bed.pid = fork();
	assert_true(bed.pid >= 0);
	if (bed.pid == 0) {
		struct role_env env = { .master = master[1], .config_fd = memfd_sealed("config", "x", 1), .policy_fd = -1, .ring_fd = bed.ring_fd,
			.ring_wake_fd = wake, .control_fd = -1, .fds = fds, .nfds = (unsigned)nfds, .journal_dir_fd = -1 };

		if (!s->no_dir)
			env.journal_dir_fd = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(master[0]);
		close(worker[0]);
		close(control[0]);
		be_role(&env);
	}
	close(master[1]);
	close(worker[1]);
	close(control[1]);
	close(wake);
	if (s->passphrase)
		close(fds[2].fd);
	bed.master = master[0];
	bed.worker = worker[0];
	bed.control = control[0];
	assert_int_equal(poll(&(struct pollfd){ .fd = bed.master, .events = POLLIN }, 1, 20000), 1);
	assert_int_equal(ipc_recv(bed.master, buf, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_READY);
}

static void
stop(void)
{
	int status;

	ipc_send(bed.master, ROLE_MSG_STOP, 0, NULL, 0, NULL, 0);
	assert_int_equal(waitpid(bed.pid, &status, 0), bed.pid);
	if (!WIFEXITED(status))
		print_error("the role died of signal %d\n", WTERMSIG(status));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(bed.master);
	close(bed.worker);
	close(bed.control);
	ring_unmap(bed.ring);
	close(bed.ring_fd);
}

static int
begin(void **state)
{
	(void)state;
	now = (int64_t)(clock_wall_us() / 1000000);
	store = mem_strdup(estbed_store());
	a = estbed_key("P-256");
	b = estbed_key("P-256");
	give_away();
	return 0;
}

static int
end(void **state)
{
	(void)state;
	EVP_PKEY_free(a);
	EVP_PKEY_free(b);
	mem_free(store);
	return 0;
}

static int
clean(void **state)
{
	(void)state;
	estbed_clean();
	return 0;
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

static struct ca_der
der(const char *s)
{
	return (struct ca_der){ (const uint8_t *)s, strlen(s) };
}

static void
send_ask(int fd, struct ca_ask *m)
{
	static uint8_t out[CA_MESSAGE_MAX];
	size_t len;

	m->id = ++bed.last_id;
	m->client = der("192.0.2.7");
	len = ca_proto_put_ask(out, m);
	assert_true(len > 0);
	assert_int_equal(ipc_send(fd, CA_MSG_ASK, 0, out, len, NULL, 0), 0);
}

static struct ca_answer
take_answer(int fd, uint64_t id)
{
	struct ca_answer r;
	struct ipc_msg m;

	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 15000), 1);
	assert_int_equal(ipc_recv(fd, buf, &m), 1);
	assert_int_equal(m.type, CA_MSG_ANSWER);
	assert_int_equal(ca_proto_get_answer(&r, m.data, m.len), 0);
	assert_true(r.id == id);
	return r;
}

/* "status reason" */
static const char *
said(const struct ca_answer *r)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s%s%.*s", ca_status_text(r->status), r->reason.len ? " " : "", (int)r->reason.len, (const char *)r->reason.p);
	return text;
}

static struct ca_answer
ask(struct ca_ask *m)
{
	ring_heartbeat(bed.ring, clock_mono_ms());
	send_ask(bed.worker, m);
	return take_answer(bed.worker, m->id);
}

static struct ca_answer
enroll(const struct estbed_csr *c, const char *password)
{
	struct estbed_der csr = estbed_csr(c);
	struct ca_ask m = { .op = CA_ENROLL, .csr = { csr.p, csr.len } };

	if (password) {
		m.user = der("permit-svc");
		m.password = der(password);
	}
	return ask(&m);
}

struct held {
	uint8_t p[2][4096];
	struct ca_der chain[2];
};

static struct held
hold(const struct ca_answer *r)
{
	struct held h;

	assert_int_equal(r->nitems, 2);
	for (size_t i = 0; i < 2; i++) {
		memcpy(h.p[i], r->items[i].p, r->items[i].len);
		h.chain[i].len = r->items[i].len;
	}
	return h;
}

static struct ca_answer
renew(const struct estbed_csr *c, const struct held *h)
{
	struct estbed_der csr = estbed_csr(c);
	struct ca_ask m = { .op = CA_REENROLL, .csr = { csr.p, csr.len }, .nchain = 2 };

	for (size_t i = 0; i < 2; i++)
		m.chain[i] = (struct ca_der){ h->p[i], h->chain[i].len };
	return ask(&m);
}

/* What went on record since the last call: "type verdict reason principal role count;" each. */
static const char *
records(void)
{
	static char out[8192];
	static _Alignas(8) uint8_t event[AUDIT_EVENT_MAX];
	static const enum audit_field fields[] = { AUDIT_F_VERDICT, AUDIT_F_REASON, AUDIT_F_PRINCIPAL, AUDIT_F_ROLE, AUDIT_F_CLIENT };
	const char *why;
	size_t at = 0;
	uint64_t pos;
	long n;

	out[0] = 0;
	while ((n = ring_read(bed.ring, event, &pos, &why)) > 0) {
		struct audit_fields f;

		assert_int_equal(audit_event_parse(&f, event, (size_t)n, &why), 0);
		at += (size_t)snprintf(out + at, sizeof(out) - at, "%s", f.head.type == AUDIT_ALERT ? "alert" : f.head.type == AUDIT_CERTIFICATE ? "cert" : "?");
		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			if (f.present >> fields[i] & 1)
				at += (size_t)snprintf(out + at, sizeof(out) - at, " %.*s", f.f[fields[i]].n, (const char *)f.f[fields[i]].p);
		if (f.present >> AUDIT_F_COUNT & 1)
			at += (size_t)snprintf(out + at, sizeof(out) - at, " x%llu", (unsigned long long)le_get64(f.f[AUDIT_F_COUNT].p));
		at += (size_t)snprintf(out + at, sizeof(out) - at, ";");
		assert_true(at < sizeof(out) - 512);
	}
	assert_int_equal(n, 0);
	ring_release(bed.ring);
	return out;
}

static const char *
status(void)
{
	static char text[4096];
	struct ipc_msg m;

	assert_int_equal(ipc_send(bed.control, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(poll(&(struct pollfd){ .fd = bed.control, .events = POLLIN }, 1, 15000), 1);
	assert_int_equal(ipc_recv(bed.control, buf, &m), 1);
	assert_int_equal(m.type, ROLE_MSG_STATUS_REPLY);
	assert_true(m.len < sizeof(text));
	memcpy(text, m.data, m.len);
	text[m.len] = 0;
	return text;
}

static void
assert_has(const char *text, const char *what)
{
	if (!strstr(text, what))
		print_error("%s\nhas no %s\n", text, what);
	assert_non_null(strstr(text, what));
}

/* ---- tests -------------------------------------------------------------------------------------------------- */

static void
test_life_of_a_certificate(void **state) /* case 94 */
{
	char *token = estbed_token(store, "permit-svc", NULL, now, 600), *proof = estbed_token(store, "tax-svc", NULL, now, 600);
	struct ca_ask other = { .op = CA_CACERTS };
	struct ca_answer r;
	struct held h;

	(void)state;
	start(&(struct start){ 0 });
	r = ask(&other);
	assert_string_equal(said(&r), "ok");
	assert_int_equal(r.nitems, 2);
	other.op = CA_CSRATTRS;
	r = ask(&other);
	assert_int_equal(r.nitems, 1);
	assert_int_equal(r.items[0].p[0], 0x30);
	assert_string_equal(records(), "");

	assert_has(status(), "\"tokens\":2");
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "ok");
	assert_true(estbed_has_key(r.items[0].p, r.items[0].len, a));
	h = hold(&r);
	assert_string_equal(records(), "cert allow issued " ID " worker/0 192.0.2.7;");
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "ok");
	r = enroll(&(struct estbed_csr){ .key = b }, token);
	assert_string_equal(said(&r), "forbidden token-used");
	r = enroll(&(struct estbed_csr){ .key = b, .uri = "spiffe://hud.example/tax-svc", .token = proof }, NULL);
	assert_string_equal(said(&r), "ok");
	assert_string_equal(records(), "cert allow repeated " ID " worker/0 192.0.2.7;cert deny token-used " ID " worker/0 192.0.2.7;"
	    "cert allow issued spiffe://hud.example/tax-svc worker/0 192.0.2.7;");

	/* The worker has seen the certificate, and has no key. */
	r = renew(&(struct estbed_csr){ .key = b, .uri = ID }, &h);
	assert_string_equal(said(&r), "forbidden no-proof");
	assert_string_equal(records(), "alert deny no-proof " ID " worker/0 192.0.2.7;");
	r = renew(&(struct estbed_csr){ .key = b, .uri = ID, .old = a }, &h);
	assert_string_equal(said(&r), "ok");
	assert_true(estbed_has_key(r.items[0].p, r.items[0].len, b));
	assert_string_equal(records(), "cert allow renewed " ID " worker/0 192.0.2.7;");
	r = renew(&(struct estbed_csr){ .key = a, .uri = ID }, &h);
	assert_string_equal(said(&r), "conflict already-renewed");

	assert_has(status(), "\"available\":true");
	assert_has(status(), "\"issued\":2,\"renewed\":1,\"repeated\":1,\"refused\":3,\"alerts\":1,");
	assert_has(status(), "\"store\":\"/etc/sallyport/\\\"pki\\\"\"");
	assert_has(status(), "Z\"}");
	stop();
	mem_free(token);
	mem_free(proof);
}

/* gwctl, as root, works in the store of the role's user meanwhile, and the other way round. */
static void
test_operator_beside(void **state)
{
	struct ca_request q = { .kind = "workload", .id = ID, .now = now, .key = a };
	char *token = estbed_token(store, "tax-svc", NULL, now, 600), *path;
	struct ca_issued issued;
	struct ca_entry entry;
	struct ca_answer r;
	struct errs errs;
	struct ca *ca;
	struct stat st;

	(void)state;
	errs_init(&errs);
	start(&(struct start){ 0 });
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "ok");
	ca = ca_open(store, NULL, &errs);
	assert_non_null(ca);
	assert_int_equal(ca_issue(ca, &q, &issued, &errs), 0);
	ca_close(ca);
	/* Both are in the books, which are the role's still. */
	mem_free(token);
	token = estbed_token(store, "other-svc", NULL, now, 600);
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "ok");
	ca = ca_open(store, NULL, &errs);
	assert_int_equal(ca_find(ca, issued.serial, now, &entry), 0);
	ca_close(ca);
	path = mem_printf("%s/ca/index", store);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, geteuid() == 0 ? NOBODY : geteuid());
	stop();
	ca_issued_fini(&issued);
	errs_fini(&errs);
	mem_free(path);
	mem_free(token);
}

static void
expect_closed(int fd)
{
	struct ipc_msg m;

	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
	assert_int_equal(ipc_recv(fd, buf, &m), -1);
	close(fd);
}

static int
another(unsigned role, unsigned index)
{
	struct role_fd_msg what = { .kind = ROLE_FD_CHANNEL, .arg = (uint16_t)(role << 8 | index) };
	int sv[2];

	assert_int_equal(ipc_pair(sv), 0);
	assert_int_equal(ipc_send(bed.master, ROLE_MSG_FD, 0, &what, sizeof(what), &sv[1], 1), 0);
	close(sv[1]);
	return sv[0];
}

static void
test_malformed(void **state)
{
	struct ca_ask m = { .op = CA_CSRATTRS };
	struct ca_answer r;
	uint8_t junk[64] = { 0xff };
	int fd;

	(void)state;
	start(&(struct start){ 0 });
	fd = another(ROLE_WORKER, 1);
	assert_int_equal(ipc_send(fd, CA_MSG_ASK, 0, junk, sizeof(junk), NULL, 0), 0);
	expect_closed(fd);
	fd = another(ROLE_WORKER, 2);
	assert_int_equal(ipc_send(fd, CA_MSG_ANSWER, 0, NULL, 0, NULL, 0), 0);
	expect_closed(fd);
	fd = another(ROLE_WORKER, 3); /* control's alone */
	assert_int_equal(ipc_send(fd, ROLE_MSG_STATUS, 0, NULL, 0, NULL, 0), 0);
	expect_closed(fd);
	fd = another(ROLE_WORKER, 4);
	send_ask(fd, &m);
	r = take_answer(fd, m.id);
	assert_string_equal(said(&r), "ok");
	assert_int_equal(ipc_send(fd, CA_MSG_ASK, 0, junk, 1, &bed.master, 1), 0);
	expect_closed(fd);
	fd = another(ROLE_CONTROL, 0);
	assert_int_equal(ipc_send(fd, CA_MSG_ASK, 0, junk, 1, NULL, 0), 0);
	expect_closed(fd);
	expect_closed(another(ROLE_KEYS, 0)); /* nobody whom it talks to */
	r = ask(&m);
	assert_string_equal(said(&r), "ok");
	stop();
}

static void
test_rates(void **state)
{
	struct ca_ask m = { .op = CA_CSRATTRS };
	unsigned ok = 0, many = 0, told = 0;
	char *token = estbed_token(store, "permit-svc", NULL, now, 600);
	const char *all;
	struct ca_answer r;
	struct held held;

	(void)state;
	start(&(struct start){ 0 });
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	held = hold(&r);
	records();
	mem_free(token);
	/* Refused for good reason, as one who guesses. */
	for (int i = 0; i < 30; i++) {
		r = enroll(&(struct estbed_csr){ .key = a }, "spt-wrong");
		many += r.status == CA_TOO_MANY;
		told += r.status == CA_UNAUTHORIZED;
	}
	assert_true(told >= 10 && many >= 1);
	all = records();
	for (const char *p = all; (p = strstr(p, "deny token-unknown")); p++)
		ok++;
	assert_int_equal(ok, told);
	/* Those that were not recorded are counted in the next that is. */
	poll(NULL, 0, 300);
	r = enroll(&(struct estbed_csr){ .key = a }, "spt-wrong");
	assert_string_equal(said(&r), "unauthorized token-unknown");
	assert_has(records(), " x");
	/* Too many of any kind. */
	ok = many = 0;
	for (int i = 0; i < 200; i++) {
		r = ask(&m);
		ok += r.status == CA_OK;
		many += r.status == CA_TOO_MANY;
	}
	assert_int_equal(ok + many, 200);
	assert_true(ok >= 1 && many >= 1);
	/* Which is no reason not to renew: anybody can ask for those. */
	r = renew(&(struct estbed_csr){ .key = a }, &held);
	assert_string_equal(said(&r), "ok");
	/* Alerts are as many as refusals, and counted (case 94). */
	held = hold(&r);
	records();
	ok = many = 0;
	for (int i = 0; i < 40; i++) {
		r = renew(&(struct estbed_csr){ .key = b }, &held);
		ok += r.status == CA_FORBIDDEN;
		many += r.status == CA_TOO_MANY;
	}
	assert_int_equal(ok + many, 40);
	all = records();
	told = 0;
	for (const char *p = all; (p = strstr(p, "alert deny no-proof")); p++)
		told++;
	assert_true(told == ok && told >= 10 && many >= 1);
	poll(NULL, 0, 300);
	r = renew(&(struct estbed_csr){ .key = b }, &held);
	assert_string_equal(said(&r), "forbidden no-proof");
	assert_has(records(), " x");
	stop();
}

/* Nothing passes unaudited. */
static void
test_journal(void **state)
{
	char *token = estbed_token(store, "permit-svc", NULL, now, 600);
	struct estbed_der csr = estbed_csr(&(struct estbed_csr){ .key = a });
	struct ca_ask m = { .op = CA_ENROLL, .csr = { csr.p, csr.len }, .password = der(token) };
	struct ca_answer r;

	(void)state;
	start(&(struct start){ 0 });
	ring_set_stopped(bed.ring, RING_STOPPED_SPACE);
	r = ask(&m);
	assert_string_equal(said(&r), "unavailable journal");
	ring_set_stopped(bed.ring, RING_RUNNING);
	r = ask(&m);
	assert_string_equal(said(&r), "ok");
	assert_has(records(), "cert allow issued");
	stop();
	mem_free(token);
}

/* A store that cannot be used is no reason to die, and is looked at again. */
static void
test_bad_store(void **state)
{
	char *ca = mem_printf("%s/ca", store), *away = mem_printf("%s/away", store), *token = estbed_token(store, "permit-svc", NULL, now, 600);
	struct ca_answer r;

	(void)state;
	assert_int_equal(rename(ca, away), 0);
	start(&(struct start){ 0 });
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "unavailable ca-unavailable");
	assert_has(status(), "\"available\":false,\"why\":\"");
	assert_int_equal(rename(away, ca), 0);
	for (int i = 0; i < 100 && !strstr(status(), "\"available\":true"); i++)
		poll(NULL, 0, 100);
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "ok");
	/* And when it goes while it is in use. */
	assert_int_equal(rename(ca, away), 0);
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "unavailable ca-unavailable");
	stop();
	assert_int_equal(rename(away, ca), 0);
	start(&(struct start){ .no_dir = true });
	r = enroll(&(struct estbed_csr){ .key = a }, token);
	assert_string_equal(said(&r), "unavailable ca-unavailable");
	stop();
	mem_free(ca);
	mem_free(away);
	mem_free(token);
}

static void
test_passphrase(void **state)
{
	struct ca_ask m = { .op = CA_CACERTS };
	struct ca_answer r;

	(void)state;
	mem_free(store);
	store = mem_strdup(estbed_encrypted_store("correct horse"));
	give_away();
	start(&(struct start){ .passphrase = "correct horse\nnot this line" });
	r = ask(&m);
	assert_string_equal(said(&r), "ok");
	assert_has(status(), "\"memory_locked\":true");
	stop();
	start(&(struct start){ .passphrase = "wrong" });
	r = ask(&m);
	assert_string_equal(said(&r), "unavailable ca-unavailable");
	stop();
	start(&(struct start){ 0 });
	r = ask(&m);
	assert_string_equal(said(&r), "unavailable ca-unavailable");
	assert_has(status(), "encrypted");
	stop();
}

int
main(void)
{
#define WITH(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		WITH(test_life_of_a_certificate), WITH(test_operator_beside), WITH(test_malformed), WITH(test_rates), WITH(test_journal),
		WITH(test_bad_store), WITH(test_passphrase),
	};

	return cmocka_run_group_tests(tests, NULL, clean);
}
