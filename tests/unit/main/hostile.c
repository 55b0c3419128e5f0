/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker that has been taken over, in place of the real one: it does its set-up well, and the first caller on its listener
 * sets it off. What it then does is the name of the config's first service.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <signal.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/config/config.h"
#include "gateway/keys/proto.h"
#include "gateway/main/roles.h"
#include "gateway/process/child.h"
#include "gateway/process/memfd.h"

static uint8_t buf[IPC_MAX_DATA + 16];
static uint64_t policy_generation;
static int control = -1;

static void
take_policy(int fd)
{
	const char *why = "?";
	struct policy p;
	size_t len;
	const void *image = memfd_map(fd, 1 << 30, &len, &why);

	if (!image || policy_open(&p, image, len, &why) < 0)
		log_fatal("policy: %s", why);
	policy_generation = p.generation;
	memfd_unmap(image, len);
}

/* Over all of it: positions, flags and records. */
static void
scribble(int ring_fd)
{
	struct stat st;
	void *p;

	if (fstat(ring_fd, &st) < 0)
		log_fatal("fstat: %m");
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
	if (p == MAP_FAILED)
		log_fatal("mmap: %m");
	if (ftruncate(ring_fd, 4096) == 0) /* sealed; and no call of a worker's anyhow */
		log_fatal("the ring shrank");
	memset(p, 0xff, (size_t)st.st_size);
}

static void
misbehave(const struct role_env *env, const char *how)
{
	if (!strcmp(how, "shrink")) {
		scribble(env->ring_fd);
	} else if (!strcmp(how, "scribble")) {
		struct stat st;
		void *p;

		if (fstat(env->ring_fd, &st) == 0 && (p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    env->ring_fd, 0)) != MAP_FAILED)
			memset(p, 0xff, (size_t)st.st_size);
	} else if (!strcmp(how, "abuse")) {
		static const uint8_t tbs[130] = "sign this transfer of a million";
		const struct role_env_fd *keys = child_find(env, ROLE_FD_CHANNEL, ROLE_KEYS << 8);
		struct keys_sign m = { .id = 1, .scheme = KEYS_ECDSA_P256_SHA256, .tbs = tbs, .tbs_len = sizeof(tbs) };
		uint8_t out[KEYS_SIGN_MAX];

		ipc_send(keys->fd, KEYS_MSG_SIGN, 0, out, keys_proto_put_sign(out, &m), NULL, 0);
	} else if (!strcmp(how, "garbage")) {
		ipc_send(env->master, 7777, 1, "x", 1, NULL, 0);
	} else if (!strcmp(how, "usurp")) { /* control's to ask for */
		ipc_send(env->master, ROLE_MSG_DRAIN_ALL, 0, "\1\0\0", 4, NULL, 0);
	} else if (!strcmp(how, "accuse")) { /* the journal's to say */
		ipc_send(env->master, ROLE_MSG_RING_BROKEN, 0, "\1\0\0", 4, NULL, 0);
	} else if (!strcmp(how, "present")) { /* nobody gives master a descriptor */
		ipc_send(env->master, ROLE_MSG_DRAINED, 0, NULL, 0, &env->ring_fd, 1);
	} else if (!strcmp(how, "renew")) { /* a certificate that it could exchange between the look and the storing */
		int fd = memfd_create("renewed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

		(void)!write(fd, "-----BEGIN CERTIFICATE-----\n", 28);
		ipc_send(env->master, ROLE_MSG_RENEWED, KEYS_IDENTITY, NULL, 0, &fd, 1);
	} else if (!strcmp(how, "insist")) { /* a hundred certificates that are none */
		int fd = memfd_sealed("renewed", "-----BEGIN CERTIFICATE-----\n", 28);

		for (int i = 0; i < 100; i++)
			ipc_send(env->master, ROLE_MSG_RENEWED, KEYS_IDENTITY, NULL, 0, &fd, 1);
		close(fd);
	} else if (!strcmp(how, "ask")) { /* its siblings for callers, without end */
		for (int i = 0; i < 5000; i++)
			while (ipc_send(env->master, ROLE_MSG_WANT_CALLER, 0, "spiffe://hud.example/x", 22, NULL, 0) == -1)
				usleep(100);
	} else if (!strcmp(how, "fork")) {
		syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	} else if (!strcmp(how, "crash")) {
		raise(SIGSEGV);
		abort();
	}
}

static int
on_master(struct role_env *env, const char *how)
{
	struct role_env_fd fds[IPC_MAX_FDS];
	struct ipc_msg m;
	int r;

	while ((r = ipc_recv(env->master, buf, &m)) > 0) {
		if (m.type == ROLE_MSG_STOP)
			return 1;
		if (m.type == ROLE_MSG_DRAIN && strcmp(how, "stuck")) {
			ipc_send(env->master, ROLE_MSG_DRAINED, 0, NULL, 0, NULL, 0);
			return 1;
		}
		if (m.type == ROLE_MSG_POLICY && m.nfds == 1)
			take_policy(m.fds[0]);
		if (m.type == ROLE_MSG_FD) {
			int n = child_fds(&m, fds);

			for (int i = 0; i < n; i++) {
				if (fds[i].arg == ROLE_CONTROL << 8)
					control = fds[i].fd;
				else
					close(fds[i].fd);
			}
		}
		ipc_msg_close(&m);
	}
	return r < 0;
}

static void
on_control(void)
{
	struct ipc_msg m;
	int r = ipc_recv(control, buf, &m);

	if (r > 0)
		ipc_send(control, ROLE_MSG_STATUS_REPLY, 0, "{}", 2, NULL, 0);
	if (r < 0) {
		close(control);
		control = -1;
	}
}

/* The answer to a caller: which process it met. */
static void
greet(const struct role_env *env, int fd)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "%u %u %lu", env->go.instance, env->go.generation, (unsigned long)policy_generation);

	(void)!send(fd, text, (size_t)n, MSG_NOSIGNAL);
	close(fd);
}

int
worker_main(struct role_env *env)
{
	const struct role_env_fd *listener = child_find(env, ROLE_FD_LISTENER, 0);
	const struct role_env_fd *to_control = child_find(env, ROLE_FD_CHANNEL, ROLE_CONTROL << 8);
	const char *why = "?", *how;
	size_t len;
	const void *image = memfd_map(env->config_fd, 1 << 30, &len, &why);
	struct config *c = image ? config_decode(image, len, &why) : NULL;

	if (!c || !listener)
		log_fatal("config: %s", why);
	how = c->services[0].name;
	take_policy(env->policy_fd);
	if (!strcmp(how, "early"))
		return 3;
	control = to_control ? to_control->fd : -1;
	child_ready(env);
	for (;;) {
		struct pollfd p[3] = { { .fd = env->master, .events = POLLIN }, { .fd = listener->fd, .events = POLLIN },
			{ .fd = control, .events = POLLIN } };

		if (poll(p, 3, -1) < 0)
			continue;
		if (p[2].revents)
			on_control();
		if (p[0].revents && on_master(env, how))
			return 0;
		if (p[1].revents) {
			int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0) {
				misbehave(env, how);
				greet(env, fd);
			}
		}
	}
}
