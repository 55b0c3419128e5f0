/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real master with real keys, journal and control roles, and a worker that misbehaves (hostile.c). Cases 61, 67, 71 and 87:
 * what it does costs it its life and nobody else anything, and is on record.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/main/master.h"
#include "gateway/main/roles.h"
#include "gateway/process/asan.h"
#include "gateway/process/child.h"
#include "tests/unit/pki/zoo.h"

#define SLOW (WITH_ASAN ? 4 : 1)

static char dir[64];

struct bed {
	pid_t pid;       /* of master; 0: none */
	char *log;
};

/* ---- files ---- */

static char *
in_dir(const char *name)
{
	return mem_printf("%s/%s", dir, name);
}

static void
put(const char *name, const char *text)
{
	char *path = in_dir(name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	mem_free(path);
}

static char *
get(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = mem_zalloc(1 << 20);

	if (f) {
		text[fread(text, 1, (1 << 20) - 1, f)] = '\0';
		fclose(f);
	}
	return text;
}

/* how: what the worker does; parked: any number, to make another config of it. */
static void
put_config(const char *how, unsigned parked)
{
	char *text = mem_printf(
	    "domain = \"hud.example\";\n"
	    "user_prefix = \"61000\";\n"
	    "workers = 1;\n"
	    "identity = { certificate = \"gw.crt\"; key = \"gw.key\"; bundle = \"ca.pem\"; };\n"
	    "listeners = ( { name = \"apps\"; path = \"%s/apps.sock\"; accept = [ \"plaintext\" ]; } );\n"
	    "services = ( { name = \"%s\"; host = \"tax.svc\"; endpoints = [ \"127.0.0.1:9\" ]; } );\n"
	    "journal = { directory = \"%s/journal\"; };\n"
	    "control = { socket = \"%s/control.sock\"; };\n"
	    "limits = { drain_timeout = \"1s\"; parked = %u; };\n", dir, how, dir, dir, parked);

	put("sallyport.conf", text);
	mem_free(text);
}

static void
put_pki(void)
{
	struct zoo leaf = {
		.san = { { GEN_URI, "spiffe://hud.example/gateway/dmz1", 0 } }, .from = time(NULL) - 3600, .until = time(NULL) + 86400,
	};
	struct zoo root = { .ca = true, .cn = "root", .san = { { GEN_URI, "spiffe://hud.example", 0 } },
		.from = time(NULL) - 3600, .until = time(NULL) + 86400 };
	struct zoo_cert ca = zoo_make(&root, NULL), gw = zoo_make(&leaf, &ca);
	char *pem = zoo_pem(&gw.x, 1), *path = in_dir("gw.key");
	FILE *f;

	put("gw.crt", pem);
	mem_free(pem);
	pem = zoo_pem(&ca.x, 1);
	put("ca.pem", pem);
	mem_free(pem);
	f = fopen(path, "w");
	assert_non_null(f);
	fchmod(fileno(f), 0600);
	PEM_write_PrivateKey(f, gw.key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	mem_free(path);
	zoo_free(&ca);
	zoo_free(&gw);
}

/* ---- the daemon ---- */

static void
start(struct bed *b)
{
	char ok, *conf = in_dir("sallyport.conf");
	int ready[2], log;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	mem_free(b->log);
	b->log = in_dir("log");
	b->pid = fork();
	if (b->pid == 0) {
		struct master_options o = { .config_path = conf, .ready_fd = ready[1] };

		prctl(PR_SET_PDEATHSIG, SIGINT);
		close(ready[0]);
		log = open(b->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(log, 2);
		_exit(master_run(&o));
	}
	close(ready[1]);
	(void)!read(ready[0], &ok, 1); /* or the end, when it does not start */
	close(ready[0]);
	mem_free(conf);
}

static int
stop(struct bed *b, int sig)
{
	int status;

	kill(b->pid, sig);
	assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
	b->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int
dial(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 10 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/%s", dir, name);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static json_t *
admin(const char *request)
{
	static char text[1 << 20];
	int fd = dial("control.sock");
	size_t n = 0;
	ssize_t r;

	if (fd < 0)
		return NULL;
	(void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
	while ((r = recv(fd, text + n, sizeof(text) - n, 0)) > 0) {
		n += (size_t)r;
		if (text[n - 1] == '\n')
			break;
	}
	close(fd);
	return json_loadb(text, n, 0, NULL);
}

/* Instance of the ready process of a role; 0: there is none. */
static unsigned
instance(const char *role)
{
	json_t *o = admin("{\"command\":\"status\"}\n"), *r;
	unsigned found = 0;
	size_t i;

	json_array_foreach(json_object_get(o, "roles"), i, r)
		if (!strcmp(json_string_value(json_object_get(r, "role")), role) &&
		    !strcmp(json_string_value(json_object_get(r, "state")), "ready"))
			found = (unsigned)json_integer_value(json_object_get(r, "instance"));
	json_decref(o);
	return found;
}

static unsigned
wait_instance(const char *role, unsigned other_than)
{
	uint64_t end = clock_mono_ms() + 5000 * SLOW;
	unsigned n;

	while ((n = instance(role)) == 0 || n == other_than) {
		assert_true(clock_mono_ms() < end);
		usleep(20000);
	}
	return n;
}

/* A record whose text has both; looks for up to 5 s. */
static bool
on_record(const char *one, const char *other)
{
	uint64_t end = clock_mono_ms() + 5000 * SLOW;
	char *path = in_dir("journal/journal-000000000001.log"), *text, *line, *save;
	bool found = false;

	while (!found && clock_mono_ms() < end) {
		text = get(path);
		for (line = strtok_r(text, "\n", &save); line && !found; line = strtok_r(NULL, "\n", &save))
			found = strstr(line, one) && strstr(line, other);
		mem_free(text);
		if (!found)
			usleep(20000);
	}
	mem_free(path);
	return found;
}

/* Calls the worker; its answer, or "". */
static const char *
call(void)
{
	static char text[128];
	int fd = dial("apps.sock");
	ssize_t n = fd >= 0 ? recv(fd, text, sizeof(text) - 1, 0) : -1;

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

static int
setup(void **state)
{
	static struct bed b;
	char *policy;

	memset(&b, 0, sizeof(b));
	snprintf(dir, sizeof(dir), "/tmp/sp-master-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	policy = in_dir("policy.d");
	mkdir(policy, 0700);
	mem_free(policy);
	put_pki();
	*state = &b;
	return 0;
}

static int
remove_tree(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char *inner;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		inner = mem_printf("%s/%s", path, e->d_name);
		if (unlink(inner) < 0)
			remove_tree(inner);
		mem_free(inner);
	}
	if (d)
		closedir(d);
	return rmdir(path);
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	if (b->pid)
		stop(b, SIGINT);
	mem_free(b->log);
	b->log = NULL;
	return remove_tree(dir);
}

/* ---- tests ---- */

/* Whatever a worker does wrong: it dies, the reason is on record, another takes its place, the others are untouched. */
static void
test_hostile_workers(void **state)
{
	static const struct {
		const char *how, *msgid, *reason;
	} cases[] = {
		{ "scribble", " alert ", "ring-broken" },      /* case 87 */
		{ "shrink", " alert ", "sandbox-violation" },  /* case 87: not even a call that could */
		{ "abuse", " alert ", "keys-abuse" },          /* case 61 */
		{ "garbage", " role ", "bad-message" },
		{ "usurp", " role ", "bad-message" },
		{ "accuse", " role ", "bad-message" },
		{ "present", " role ", "bad-message" },
		{ "renew", " role ", "bad-message" },
		{ "fork", " alert ", "sandbox-violation" },
		{ "crash", " role ", "died" },
	};
	struct bed *b = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned worker, journal, keys, control;
		char *journal_dir = in_dir("journal");

		print_message("a worker that does \"%s\"\n", cases[i].how);
		put_config(cases[i].how, 1000);
		start(b);
		worker = wait_instance("worker", 0);
		journal = instance("journal");
		keys = instance("keys");
		control = instance("control");
		call();
		assert_int_not_equal(wait_instance("worker", worker), 0);
		assert_true(on_record(cases[i].msgid, cases[i].reason));
		assert_true(on_record(" role ", "role=\"worker\""));
		assert_int_equal(instance("journal"), journal);
		assert_int_equal(instance("keys"), keys);
		assert_int_equal(instance("control"), control);
		assert_int_equal(stop(b, SIGTERM), 0);
		remove_tree(journal_dir);
		mem_free(journal_dir);
	}
}

/* What a worker calls its renewed certificate is looked at in a process of its own, once a second at most: master has other things to do. */
static void
test_many_renewals(void **state)
{
	struct bed *b = *state;
	char *path = in_dir("journal/journal-000000000001.log"), *text;
	unsigned refused = 0;
	uint64_t end;

	put_config("insist", 1000);
	start(b);
	wait_instance("worker", 0);
	end = clock_mono_ms();
	call();
	assert_true(on_record("renewal-refused", "no chain of certificates"));
	assert_int_equal(stop(b, SIGTERM), 0);
	end = clock_mono_ms() - end;
	text = get(path);
	for (const char *p = text; (p = strstr(p, "renewal-refused")); p++)
		refused++;
	assert_in_range(refused, 1, 2 * (end / 1000 + 2)); /* each may say it twice */
	mem_free(text);
	mem_free(path);
}

/* What a worker tells its siblings through master is bounded: the rest is dropped, on record once, and everybody lives. */
static void
test_flood_of_questions(void **state)
{
	struct bed *b = *state;
	unsigned worker;

	put_config("ask", 1000);
	start(b);
	worker = wait_instance("worker", 0);
	call();
	assert_true(on_record(" alert ", "worker-floods"));
	assert_int_equal(instance("worker"), worker);
	assert_int_equal(stop(b, SIGTERM), 0);
}

/* One that ignores DRAIN is cut 2 s after its deadline. */
static void
test_stuck_worker(void **state)
{
	struct bed *b = *state;
	uint64_t began;

	put_config("stuck", 1000);
	start(b);
	wait_instance("worker", 0);
	began = clock_mono_ms();
	assert_int_equal(stop(b, SIGTERM), 0);
	assert_in_range(clock_mono_ms() - began, 2500, 4500 + 5000 * (SLOW - 1));
	assert_true(on_record(" role ", "deadline"));
	/* SIGINT does not wait for it, nor does a second SIGTERM. */
	start(b);
	wait_instance("worker", 0);
	began = clock_mono_ms();
	kill(b->pid, SIGTERM);
	usleep(100000);
	assert_int_equal(stop(b, SIGTERM), 0);
	assert_in_range(clock_mono_ms() - began, 0, 2500 + 3000 * (SLOW - 1));
}

static json_t *
reload(void)
{
	json_t *o = admin("{\"command\":\"reload\",\"sudo_uid\":\"1234\"}\n");

	assert_non_null(o);
	return o;
}

static void
test_reload(void **state)
{
	struct bed *b = *state;
	unsigned g0, p0, i0, i, g, p;
	json_t *o;

	put_config("good", 1000);
	start(b);
	wait_instance("worker", 0);
	assert_int_equal(sscanf(call(), "%u %u %u", &i0, &g0, &p0), 3);

	/* The same config: only a new policy, in the same process. */
	o = reload();
	assert_true(json_is_true(json_object_get(o, "ok")));
	json_decref(o);
	assert_int_equal(sscanf(call(), "%u %u %u", &i, &g, &p), 3);
	assert_int_equal(i, i0);
	assert_int_equal(g, g0);
	assert_int_equal(p, p0 + 1);
	assert_true(on_record(" command ", "sudo_uid=\"1234\""));

	/* Case 67: faults in the config, in the policy, and a worker that does not start: all stays. */
	put("sallyport.conf", "domain = \"HUD\";\n");
	o = reload();
	assert_true(json_is_false(json_object_get(o, "ok")));
	assert_true(json_array_size(json_object_get(o, "faults")) > 1);
	json_decref(o);
	put_config("good", 1000);
	put("policy.d/10.conf", "allow = ( { name = \"x\"; principals = [ \"*\" ]; services = [ \"goood\" ]; } );\n");
	o = reload();
	assert_true(json_is_false(json_object_get(o, "ok")));
	assert_non_null(strstr(json_string_value(json_array_get(json_object_get(o, "faults"), 0)), "did you mean \"good\""));
	json_decref(o);
	put("policy.d/10.conf", "");
	put_config("early", 1000);
	o = reload();
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);
	assert_int_equal(sscanf(call(), "%u %u %u", &i, &g, &p), 3);
	assert_int_equal(i, i0);
	assert_int_equal(p, p0 + 1);
	assert_true(on_record(" generation ", "verdict=\"deny\""));

	/* What other processes stand on does not change. */
	put_config("good", 1001);
	put("more", "");
	{
		char *conf = in_dir("sallyport.conf"), *text = get(conf), *at = strstr(text, "61000");

		memcpy(at, "62000", 5);
		put("sallyport.conf", text);
		mem_free(text);
		mem_free(conf);
	}
	o = reload();
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);

	/* Another config: other processes, the same listening socket. */
	put_config("good", 1001);
	o = reload();
	assert_true(json_is_true(json_object_get(o, "ok")));
	json_decref(o);
	wait_instance("worker", i0);
	do
		assert_int_equal(sscanf(call(), "%u %u %u", &i, &g, &p), 3);
	while (i == i0); /* the old one may take one more before it hears of draining */
	assert_true(g > g0);
	assert_int_equal(p, p0 + 2);
	assert_true(on_record("instance", "ended"));
	assert_int_equal(stop(b, SIGINT), 0);
}

/* Many in a row, and one asked for while another is under way: each is answered, none is lost. */
static void
test_many_reloads(void **state)
{
	struct bed *b = *state;
	int fds[8];

	put_config("good", 1000);
	start(b);
	wait_instance("worker", 0);
	for (unsigned n = 0; n < 20; n++) {
		json_t *o;

		put_config("good", 1001 + n);
		o = reload();
		assert_true(json_is_true(json_object_get(o, "ok")));
		json_decref(o);
	}
	for (unsigned i = 0; i < 8; i++) {
		fds[i] = dial("control.sock");
		assert_true(fds[i] >= 0);
		assert_true(send(fds[i], "{\"command\":\"reload\"}\n", 21, MSG_NOSIGNAL) == 21);
	}
	for (unsigned i = 0; i < 8; i++) {
		char text[512];
		ssize_t n = recv(fds[i], text, sizeof(text) - 1, 0);

		assert_true(n > 0);
		text[n] = '\0';
		assert_non_null(strstr(text, "\"ok\":true"));
		close(fds[i]);
	}
	assert_int_equal(stop(b, SIGTERM), 0);
}

/* Without a usable policy it starts, and its workers get an image that allows nothing. */
static void
test_bad_policy_at_start(void **state)
{
	struct bed *b = *state;
	json_t *o;

	put_config("good", 1000);
	put("policy.d/10.conf", "allow = ( {\n");
	start(b);
	wait_instance("worker", 0);
	o = admin("{\"command\":\"status\"}\n");
	assert_int_equal(json_integer_value(json_object_get(o, "policy_rules")), 0);
	json_decref(o);
	assert_true(on_record(" generation ", "verdict=\"deny\""));
	put("policy.d/10.conf", "allow = ( { name = \"x\"; principals = [ \"spiffe://hud.example/a\" ]; services = [ \"good\" ]; } );\n");
	o = reload();
	assert_int_equal(json_integer_value(json_object_get(o, "policy_rules")), 1);
	json_decref(o);
	assert_int_equal(stop(b, SIGTERM), 0);
}

static int
run_to_end(struct bed *b)
{
	int status;

	start(b);
	assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
	b->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_start_fails(void **state)
{
	struct bed *b = *state, second = { .pid = 0 };

	put("sallyport.conf", "domain = ;\n");
	assert_int_equal(run_to_end(b), 1);
	put_config("early", 1000); /* a role that does not start */
	assert_int_equal(run_to_end(b), 1);
	/* A second daemon on the same admin socket; the first is not disturbed. */
	put_config("good", 1000);
	start(b);
	assert_int_equal(run_to_end(&second), 1);
	mem_free(second.log);
	assert_int_not_equal(wait_instance("worker", 0), 0);
	assert_int_equal(stop(b, SIGTERM), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hostile_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flood_of_questions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_renewals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stuck_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_reloads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_policy_at_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_fails, setup, teardown),
	};

	child_run(roles_table); /* this program is also each of its roles */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
