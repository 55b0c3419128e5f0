/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tls/bed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/client.h"
#include "gateway/keys/role.h"
#include "gateway/process/ipc.h"

#define must(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "bed: %s:%d: %s (%s)\n", __FILE__, __LINE__, #x, strerror(errno)); \
			ERR_print_errors_fp(stderr); \
			abort(); \
		} \
	} while (0)

/* ---- the keys role ---- */

/* argv: --keys, then kind:arg:fd for each descriptor; master is kind 0. */
void
bed_child(int argc, char **argv)
{
	struct role_env env = { .role = ROLE_KEYS, .master = -1 };
	struct role_env_fd fds[64];

	if (argc < 2 || strcmp(argv[1], "--keys"))
		return;
	log_init("keys");
	if (!getenv("BED_VERBOSE"))
		log_set_level(LOG_LV_ERROR);
	env.fds = fds;
	for (int i = 2; i < argc; i++) {
		unsigned kind, arg;
		int fd;

		must(sscanf(argv[i], "%u:%u:%d", &kind, &arg, &fd) == 3);
		if (kind == 0)
			env.master = fd;
		else
			fds[env.nfds++] = (struct role_env_fd){ .kind = (uint16_t)kind, .arg = (uint16_t)arg, .fd = fd };
	}
	exit(keys_main(&env));
}

static int
key_file(EVP_PKEY *key)
{
	int fd = memfd_create("key", MFD_CLOEXEC);
	BIO *out = BIO_new(BIO_s_mem());
	char *p;
	long n;

	must(fd >= 0 && PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL));
	n = BIO_get_mem_data(out, &p);
	must(write(fd, p, (size_t)n) == n);
	BIO_free(out);
	return fd;
}

struct bed_keys
bed_keys_start(const struct bed_key *keys, size_t n)
{
	int master[2], worker[2], control[2];
	char *argv[64], exe[] = "/proc/self/exe", mode[] = "--keys";
	struct bed_keys k;
	int files[32], argc = 0;
	struct ipc_msg m;
	static uint8_t buf[IPC_MAX_DATA + 16];

	must(ipc_pair(master) == 0 && ipc_pair(worker) == 0 && ipc_pair(control) == 0 && n <= 32);
	argv[argc++] = exe;
	argv[argc++] = mode;
	argv[argc++] = mem_printf("0:0:%d", master[1]);
	argv[argc++] = mem_printf("%d:%d:%d", ROLE_FD_CHANNEL, ROLE_WORKER << 8, worker[1]);
	argv[argc++] = mem_printf("%d:%d:%d", ROLE_FD_CHANNEL, ROLE_CONTROL << 8, control[1]);
	for (size_t i = 0; i < n; i++) {
		files[i] = key_file(keys[i].key);
		argv[argc++] = mem_printf("%d:%u:%d", ROLE_FD_KEY, keys[i].number, files[i]);
	}
	argv[argc] = NULL;
	k.pid = fork();
	must(k.pid >= 0);
	if (k.pid == 0) {
		fcntl(master[1], F_SETFD, 0);
		fcntl(worker[1], F_SETFD, 0);
		fcntl(control[1], F_SETFD, 0);
		for (size_t i = 0; i < n; i++)
			fcntl(files[i], F_SETFD, 0);
		execv(argv[0], argv);
		_exit(127);
	}
	close(master[1]);
	close(worker[1]);
	close(control[1]);
	for (size_t i = 0; i < n; i++)
		close(files[i]);
	for (int i = 2; i < argc; i++)
		mem_free(argv[i]);
	k.master = master[0];
	k.worker = worker[0];
	k.control = control[0];
	/* Ready once it has its keys. */
	must(poll(&(struct pollfd){ .fd = k.master, .events = POLLIN }, 1, 20000) == 1);
	must(ipc_recv(k.master, buf, &m) == 1 && m.type == ROLE_MSG_READY);
	return k;
}

static void
give(struct bed_keys *k, enum role_fd kind, unsigned arg, int fd)
{
	struct role_fd_msg what = { .kind = (uint16_t)kind, .arg = (uint16_t)arg };

	must(ipc_send(k->master, ROLE_MSG_FD, 0, &what, sizeof(what), &fd, 1) == 0);
	close(fd);
}

int
bed_keys_channel(struct bed_keys *k, unsigned index)
{
	int sv[2];

	must(ipc_pair(sv) == 0);
	give(k, ROLE_FD_CHANNEL, (ROLE_WORKER << 8) | index, sv[1]);
	return sv[0];
}

void
bed_keys_add(struct bed_keys *k, unsigned number, EVP_PKEY *key)
{
	give(k, ROLE_FD_KEY, number, key_file(key));
}

static void
close_all(struct bed_keys *k)
{
	close(k->master);
	close(k->worker);
	close(k->control);
	k->master = k->worker = k->control = -1;
}

int
bed_keys_stop(struct bed_keys *k)
{
	int status;

	must(ipc_send(k->master, ROLE_MSG_STOP, 0, NULL, 0, NULL, 0) == 0);
	must(waitpid(k->pid, &status, 0) == k->pid);
	close_all(k);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void
bed_keys_kill(struct bed_keys *k)
{
	must(kill(k->pid, SIGKILL) == 0 && waitpid(k->pid, NULL, 0) == k->pid);
	/* The worker's channel stays, to be found dead. */
	close(k->master);
	close(k->control);
	k->master = k->control = -1;
}

/* ---- certificates ---- */

struct bed_domain
bed_domain(const char *name)
{
	struct bed_domain d = { .name = name };
	char *nc = mem_printf("critical,permitted;URI:%s", name), *id = mem_printf("spiffe://%s", name), *cn = mem_printf("%s CA", name);
	struct zoo z = { .ca = true, .cn = cn, .nc = nc, .san = { { GEN_URI, id, 0 } } };
	const char *why;
	char *pem;

	z.from = time(NULL) - 86400;
	z.until = time(NULL) + 30 * 86400;
	d.ca = zoo_make(&z, NULL);
	pem = zoo_pem(&d.ca.x, 1);
	d.bundle = svid_bundle_new(name, pem, &why);
	must(d.bundle);
	mem_free(pem);
	mem_free(nc);
	mem_free(id);
	mem_free(cn);
	return d;
}

void
bed_domain_free(struct bed_domain *d)
{
	svid_bundle_unref(d->bundle);
	zoo_free(&d->ca);
}

struct zoo_cert
bed_leaf(const struct bed_domain *d, const char *id, enum zoo_key key, const struct zoo *z)
{
	struct zoo leaf = { 0 };

	if (z)
		leaf = *z;
	if (!leaf.san[0].p)
		leaf.san[0] = (struct zoo_name){ GEN_URI, id, 0 };
	leaf.key = key;
	if (!leaf.from)
		leaf.from = time(NULL) - 3600;
	if (!leaf.until)
		leaf.until = time(NULL) + 3600;
	return zoo_make(&leaf, &d->ca);
}

struct tls_env *
bed_env(const struct bed_domain *d, const struct zoo_cert *leaf, struct svid_bundle *const *bundles, size_t n)
{
	char *pem = zoo_pem(&leaf->x, 1);
	struct tls_env_config cfg = { .domain = d->name, .identity_pem = pem, .bundles = bundles, .nbundles = n };
	const char *why = NULL;
	struct tls_env *e = tls_env_new(&cfg, &why);

	if (!e)
		fprintf(stderr, "bed: %s\n", why);
	must(e);
	mem_free(pem);
	return e;
}

/* ---- connections ---- */

void
bed_pair(int fds[2])
{
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

void
bed_wake(void *end)
{
	((struct bed_end *)end)->woken++;
}

static bool
finished(const struct bed_end *e)
{
	return e->st == TLS_DONE || e->st == TLS_FAILED;
}

static void
step(struct bed_end *e)
{
	if (e->t) {
		if (e->st == TLS_PARKED && !e->woken)
			return;
		e->woken = 0;
		e->st = tls_handshake(e->t);
		if (e->st == TLS_PARKED)
			e->parked++;
	} else {
		int r = SSL_do_handshake(e->raw), err = SSL_get_error(e->raw, r);

		if (r == 1)
			e->st = TLS_DONE;
		else if (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE)
			e->st = TLS_FAILED;
		ERR_clear_error();
	}
	/* As an owner does: the other end must see it. */
	if (e->st == TLS_FAILED)
		shutdown(e->fd, SHUT_WR);
}

void
bed_run(struct bed_end *const *ends, size_t n, int keys_fd)
{
	uint64_t deadline = clock_mono_ms() + 10000;
	bool all = false;

	for (size_t i = 0; i < n; i++)
		ends[i]->st = TLS_WANT_READ;
	while (!all) {
		struct pollfd p = { .fd = keys_fd, .events = POLLIN };

		must(clock_mono_ms() < deadline);
		all = true;
		for (size_t i = 0; i < n; i++) {
			if (!finished(ends[i]))
				step(ends[i]);
			all = all && finished(ends[i]);
		}
		if (!all && keys_fd >= 0 && poll(&p, 1, 1) > 0 && keys_client_on_readable() < 0)
			keys_fd = -1;
	}
}

void
bed_end_free(struct bed_end *e)
{
	tls_free(e->t);
	SSL_free(e->raw);
	if (e->fd > 0)
		close(e->fd);
	memset(e, 0, sizeof(*e));
}
