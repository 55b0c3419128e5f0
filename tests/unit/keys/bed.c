/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/keys/bed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/role.h"
#include "gateway/process/asan.h"
#include "gateway/process/ipc.h"
#include "gateway/process/memfd.h"
#include "gateway/process/sandbox.h"
#include "tests/unit/pki/zoo.h"

#define must(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "bed: %s:%d: %s (%s)\n", __FILE__, __LINE__, #x, strerror(errno)); \
			ERR_print_errors_fp(stderr); \
			abort(); \
		} \
	} while (0)

unsigned bed_signatures_per_s;

/* argv: --keys, then kind:arg:fd for each descriptor; master is kind 0. */
void
bed_child(int argc, char **argv)
{
	struct role_env env = { .role = ROLE_KEYS, .master = -1 };
	struct role_env_fd fds[64];
	const char *why;

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
		if (kind == 0) {
			env.master = fd;
			env.go.signatures_per_s = arg;
		}
		if (kind != 0)
			fds[env.nfds++] = (struct role_env_fd){ .kind = (uint16_t)kind, .arg = (uint16_t)arg, .fd = fd };
	}
	/* As it will live: what OpenSSL asks of the kernel must be on the list. A test build looks for leaks at its end instead. */
	must(WITH_ASAN || (sandbox_limits(ROLE_KEYS, &env.sandbox, &why) == 0 && sandbox_enter(ROLE_KEYS, -1, &env.sandbox, &why) == 0));
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

static int
certificate_file(X509 *cert)
{
	char *pem = zoo_pem(&cert, 1);
	int fd = memfd_sealed("certificate", pem, strlen(pem));

	must(fd >= 0);
	mem_free(pem);
	return fd;
}

struct bed_keys
bed_keys_start(const struct bed_key *keys, size_t n)
{
	int master[2], worker[2], control[2];
	char *argv[64], exe[] = "/proc/self/exe", mode[] = "--keys";
	struct bed_keys k;
	int files[32], argc = 0, nfiles = 0;
	struct ipc_msg m;
	static uint8_t buf[IPC_MAX_DATA + 16];

	must(ipc_pair(master) == 0 && ipc_pair(worker) == 0 && ipc_pair(control) == 0 && n <= 16);
	argv[argc++] = exe;
	argv[argc++] = mode;
	argv[argc++] = mem_printf("0:%u:%d", bed_signatures_per_s, master[1]);
	argv[argc++] = mem_printf("%d:%d:%d", ROLE_FD_CHANNEL, ROLE_WORKER << 8, worker[1]);
	argv[argc++] = mem_printf("%d:%d:%d", ROLE_FD_CHANNEL, ROLE_CONTROL << 8, control[1]);
	for (size_t i = 0; i < n; i++) {
		files[nfiles] = key_file(keys[i].key);
		argv[argc++] = mem_printf("%d:%u:%d", ROLE_FD_KEY, keys[i].number, files[nfiles++]);
	}
	argv[argc] = NULL;
	k.pid = fork();
	must(k.pid >= 0);
	if (k.pid == 0) {
		fcntl(master[1], F_SETFD, 0);
		fcntl(worker[1], F_SETFD, 0);
		fcntl(control[1], F_SETFD, 0);
		for (int i = 0; i < nfiles; i++)
			fcntl(files[i], F_SETFD, 0);
		execv(argv[0], argv);
		_exit(127);
	}
	close(master[1]);
	close(worker[1]);
	close(control[1]);
	for (int i = 0; i < nfiles; i++)
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

void
bed_keys_certificate(struct bed_keys *k, unsigned number, X509 *cert)
{
	give(k, ROLE_FD_KEY_CERT, number, certificate_file(cert));
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
