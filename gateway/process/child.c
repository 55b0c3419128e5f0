/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/process/privs.h"
#include "gateway/process/sandbox.h"
#include "gateway/process/spawn.h"

#define SETUP_MS 60000 /* master answers at once; workers wait for keys and journal to be ready */

int
child_fds(struct ipc_msg *m, struct role_env_fd out[IPC_MAX_FDS])
{
	struct role_fd_msg what;
	unsigned n = m->nfds;

	if (n == 0 || m->len != n * sizeof(what))
		goto damaged;
	for (unsigned i = 0; i < n; i++) {
		memcpy(&what, m->data + i * sizeof(what), sizeof(what));
		if (what.kind == 0 || what.kind >= ROLE_FD_MAX)
			goto damaged;
		out[i] = (struct role_env_fd){ .kind = what.kind, .arg = what.arg, .number = what.number, .fd = m->fds[i] };
	}
	m->nfds = 0;
	return (int)n;
damaged:
	ipc_msg_close(m);
	return -1;
}

const struct role_env_fd *
child_find(const struct role_env *env, enum role_fd kind, unsigned arg)
{
	for (unsigned i = 0; i < env->nfds; i++)
		if (env->fds[i].kind == kind && env->fds[i].arg == arg)
			return &env->fds[i];
	return NULL;
}

int
child_ready(const struct role_env *env)
{
	return ipc_send(env->master, ROLE_MSG_READY, 0, &env->sandbox, sizeof(env->sandbox), NULL, 0) == 0 ? 0 : -1;
}

/* The single descriptors have a place of their own in env; the rest are a list. A ring is the role's own but for journal. */
static int
env_add(struct role_env *env, struct role_env_fd *f)
{
	int *place = NULL;

	switch (f->kind) {
	case ROLE_FD_CONFIG: place = &env->config_fd; break;
	case ROLE_FD_POLICY: place = &env->policy_fd; break;
	case ROLE_FD_RING: place = env->role == ROLE_JOURNAL ? NULL : &env->ring_fd; break;
	case ROLE_FD_RING_WAKE: place = &env->ring_wake_fd; break;
	case ROLE_FD_JOURNAL_DIR: place = &env->journal_dir_fd; break;
	case ROLE_FD_CONTROL: place = &env->control_fd; break;
	default: break;
	}
	if (place) {
		if (*place >= 0)
			return -1;
		*place = f->fd;
		return 0;
	}
	if (env->nfds == ROLE_MAX_FDS)
		return -1;
	if ((env->nfds & (env->nfds - 1)) == 0) /* powers of two; it may also have shrunk, which costs nothing */
		env->fds = mem_realloc(env->fds, (env->nfds ? env->nfds * 2 : 1) * sizeof(*env->fds));
	env->fds[env->nfds++] = *f;
	return 0;
}

/* A counterpart died while we were set up: its channel is of no use, and another may follow. */
static void
env_drop_channel(struct role_env *env, const struct ipc_msg *m)
{
	uint32_t instance;

	if (m->len != sizeof(instance))
		return;
	memcpy(&instance, m->data, sizeof(instance));
	for (unsigned i = 0; i < env->nfds; i++)
		if (env->fds[i].kind == ROLE_FD_CHANNEL && env->fds[i].arg == m->arg && env->fds[i].number == instance) {
			close(env->fds[i].fd);
			env->fds[i] = env->fds[--env->nfds];
			return;
		}
}

/* SETUP: descriptors until GO. Anything else, or master's death, ends this process. */
static void
receive_setup(struct role_env *env)
{
	uint8_t *buf = mem_alloc(IPC_MAX_DATA + 16);
	uint64_t deadline = clock_mono_ms() + SETUP_MS;
	bool go = false;

	while (!go) {
		struct pollfd p = { .fd = env->master, .events = POLLIN };
		struct role_env_fd fds[IPC_MAX_FDS];
		struct ipc_msg m;
		uint64_t now = clock_mono_ms();
		int n, r;

		if (now >= deadline)
			log_fatal("master sent no set-up within %d s; restart sallyportd", SETUP_MS / 1000);
		if (poll(&p, 1, (int)(deadline - now)) < 0 && errno != EINTR)
			log_fatal("poll: %m");
		r = ipc_recv(env->master, buf, &m);
		if (r == 0)
			continue;
		if (r < 0)
			exit(0); /* master is gone and said why */
		switch (m.type) {
		case ROLE_MSG_FD:
			n = child_fds(&m, fds);
			for (int i = 0; i < n; i++)
				if (env_add(env, &fds[i]) < 0)
					n = -1;
			if (n < 0)
				log_fatal("a set-up message from master is damaged");
			break;
		case ROLE_MSG_GO:
			if (m.len != sizeof(env->go) || m.nfds > 0)
				log_fatal("the last set-up message from master is damaged");
			memcpy(&env->go, m.data, sizeof(env->go));
			go = true;
			break;
		case ROLE_MSG_LOG_LEVEL:
			if (m.arg <= LOG_LV_DEBUG)
				log_set_level((enum log_level)m.arg);
			break;
		case ROLE_MSG_STOP:
			exit(0);
		case ROLE_MSG_CHANNEL_GONE:
			env_drop_channel(env, &m);
			break;
		case ROLE_MSG_POLICY: /* newer than the one that it was given */
			if (m.nfds != 1)
				log_fatal("a policy from master has no descriptor");
			if (env->policy_fd >= 0)
				close(env->policy_fd);
			env->policy_fd = m.fds[0];
			m.nfds = 0;
			break;
		default:
			log_fatal("message %u from master is not for the set-up", m.type);
		}
		ipc_msg_close(&m);
	}
	mem_free(buf);
}

static void
own_user(const struct spawn *s, uint32_t *bits)
{
	const char *why = "?";

	if (!s->drop)
		return;
	if (privs_drop(s->uid, s->gid, false, &why) < 0)
		log_fatal("cannot become uid %u gid %u: %s (%m)", (unsigned)s->uid, (unsigned)s->gid, why);
	*bits |= SANDBOX_UID;
}

/* (A change of ids clears the death signal, hence after it.) */
static void
die_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		log_fatal("the parent's death signal cannot be set: %m");
	if (getppid() != parent)
		exit(0);
}

/* Everything that can be taken away is, before a byte is read that this program did not write. */
static void
confine(const struct spawn *s, pid_t master, uint32_t *bits)
{
	const char *why = "?";

	if (sandbox_limits(s->role, bits, &why) < 0)
		log_fatal("cannot confine this role: %s (%m)", why);
	own_user(s, bits);
	/* Nobody outlives master, but for the journal, which reads the end of its channel, writes what the rings still hold and leaves. */
	if (s->role != ROLE_JOURNAL)
		die_with(master);
	else if (getppid() != master)
		exit(0);
	if (sandbox_enter(s->role, s->dir_fd, bits, &why) < 0)
		log_fatal("cannot confine this role: %s (%m)", why);
}

/* ---- helpers: the role, a process that starts the helper again and again, the helper ---- */

#define HELPER_PATHS 64
#define HELPER_LOAD_S 30
#define HELPER_STEADY_MS 10000 /* one that lived this long is started again at once */
#define HELPER_BACKOFF_MIN_MS 250
#define HELPER_BACKOFF_MAX_MS 30000

static void __attribute__((noreturn))
helper_run(const struct role_helper *h, const struct spawn *s, pid_t parent, int channel, uint32_t bits)
{
	char *given = mem_strdup(s->helper), *rest = NULL;
	const char *paths[HELPER_PATHS], *why = "?";
	size_t n = 0;

	for (char *line = strtok_r(given, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (!strncmp(line, "path ", 5)) {
			if (n == HELPER_PATHS)
				log_fatal("more than %d paths", HELPER_PATHS);
			paths[n++] = line + 5;
		}
	signal(SIGCHLD, SIG_DFL);
	if (sandbox_limits(SANDBOX_HSM, &bits, &why) < 0)
		log_fatal("cannot confine this process: %s (%m)", why);
	die_with(parent);
	alarm(HELPER_LOAD_S);
	if (h->load(channel, s->helper) < 0)
		exit(1);
	alarm(0);
	if (sandbox_enter_paths(paths, n, &bits, &why) < 0)
		log_fatal("cannot confine this process: %s (%m)", why);
	exit(h->main(channel, s->helper, bits));
}

/* It holds nothing and reads nothing, so that it need not be confined, which its children would inherit. */
static void __attribute__((noreturn))
helper_supervise(const struct role_helper *h, const struct spawn *s, pid_t role, int channel)
{
	uint64_t backoff = HELPER_BACKOFF_MIN_MS;
	pid_t self = getpid(), pid;
	uint32_t bits = 0;
	char ident[16];
	int status;

	close(SPAWN_MASTER_FD);
	log_init(h->name);
	snprintf(ident, sizeof(ident), "sp-%.12s", h->name);
	prctl(PR_SET_NAME, ident, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	own_user(s, &bits);
	/* No death signal: the role may send none to who is outside its sandbox. Its end of the channel closes. */
	while (getppid() == role) {
		struct pollfd end = { .fd = channel };
		uint64_t started = clock_mono_ms();

		pid = fork();
		if (pid < 0)
			log_fatal("cannot start: %m");
		if (pid == 0)
			helper_run(h, s, self, channel, bits);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status))
			log_error("%s was killed by signal %d%s", h->name, WTERMSIG(status),
			    WTERMSIG(status) == SIGALRM ? ": what it asked took too long" :
			    WTERMSIG(status) == SIGSYS ? ": a system call that it may not make" : "");
		if (clock_mono_ms() - started >= HELPER_STEADY_MS)
			backoff = HELPER_BACKOFF_MIN_MS;
		poll(&end, 1, (int)backoff);
		if (end.revents)
			break;
		backoff = backoff * 2 > HELPER_BACKOFF_MAX_MS ? HELPER_BACKOFF_MAX_MS : backoff * 2;
	}
	exit(0);
}

/* The role goes on when it ends, and hears of its successor by their channel. */
static void
helper_start(const struct role_helper *h, const struct spawn *s, struct role_env *env)
{
	pid_t self = getpid(), pid;
	int sv[2];

	if (!h || !s->helper)
		return;
	signal(SIGCHLD, SIG_IGN);
	if (ipc_pair(sv) < 0 || (pid = fork()) < 0)
		log_fatal("cannot start %s: %m", h->name);
	if (pid == 0) {
		close(sv[0]);
		signal(SIGCHLD, SIG_DFL);
		helper_supervise(h, s, self, sv[1]);
	}
	close(sv[1]);
	env->helper_fd = sv[0];
	env->helper = s->helper;
}

void
child_run(const struct role_desc *table)
{
	struct role_env env = {
		.master = SPAWN_MASTER_FD, .config_fd = -1, .policy_fd = -1, .ring_fd = -1, .ring_wake_fd = -1,
		.journal_dir_fd = -1, .control_fd = -1, .helper_fd = -1,
	};
	struct spawn s;
	pid_t master;
	char ident[32];
	int type, r = spawn_describe(&s, &master);
	socklen_t len = sizeof(type);

	if (r == 0)
		return;
	if (r < 0 || getsockopt(SPAWN_MASTER_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		log_fatal("%s is set by sallyportd for its own roles; unset it", SPAWN_ENV);
	env.role = s.role;
	env.journal_dir_fd = s.dir_fd;
	if (s.role == ROLE_WORKER)
		snprintf(ident, sizeof(ident), "%s/%u", role_name(s.role), s.index);
	else
		snprintf(ident, sizeof(ident), "%s", role_name(s.role));
	log_init(ident);
	snprintf(ident, sizeof(ident), "sp-%.8s-%u", role_name(s.role), s.index);
	prctl(PR_SET_NAME, ident, 0, 0, 0);

	helper_start(table[s.role].helper, &s, &env);
	confine(&s, master, &env.sandbox);
	receive_setup(&env);
	if (!table[s.role].main)
		log_fatal("this build has no role %s", role_name(s.role));
	r = table[s.role].main(&env);
	exit(r);
}
