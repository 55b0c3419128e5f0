/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/process/asan.h"
#include "gateway/process/ipc.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

int
spawn_self(void)
{
	return open("/proc/self/exe", O_PATH | O_CLOEXEC);
}

/* In the child, between fork and exec: descriptors 0 to 4 as the role expects them, all others close. Returns only on failure. */
static void
become(const struct spawn *s, int self_fd, int channel, char *const argv[], char *const envp[])
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), dir = -1;

	/* Out of the way first: any of these may sit on 3 or 4. */
	channel = fcntl(channel, F_DUPFD_CLOEXEC, 10);
	self_fd = fcntl(self_fd, F_DUPFD_CLOEXEC, 10);
	if (s->dir_fd >= 0)
		dir = fcntl(s->dir_fd, F_DUPFD_CLOEXEC, 10);
	if (null < 0 || channel < 0 || self_fd < 0 || (s->dir_fd >= 0 && dir < 0))
		return;
	if (dup2(null, 0) < 0 || dup2(2, 1) < 0 || dup2(channel, SPAWN_MASTER_FD) < 0)
		return;
	if (dir >= 0 && dup2(dir, SPAWN_DIR_FD) < 0)
		return;
	/* All of ours are close-on-exec already; this is for what our parent gave us without asking. */
	syscall(SYS_close_range, dir >= 0 ? 5U : 4U, ~0U, CLOSE_RANGE_CLOEXEC);

	/* A terminal's or service manager's signals are master's business. */
	setsid();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGUSR1, SIG_IGN); /* what scripts send to every process of a name */
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	syscall(SYS_execveat, self_fd, "", argv, envp, AT_EMPTY_PATH);
}

pid_t
spawn_role(const struct spawn *s, int self_fd, int *channel)
{
	char title[64], what[128];
	char *argv[] = { title, NULL }, *envp[6], *helper = NULL;
	unsigned n = 0;
	int sv[2];
	pid_t pid;

	*channel = -1;
	if (s->role == ROLE_WORKER || s->index > 0)
		snprintf(title, sizeof(title), "sallyportd: %s %u", role_name(s->role), s->index);
	else
		snprintf(title, sizeof(title), "sallyportd: %s", role_name(s->role));
	snprintf(what, sizeof(what), SPAWN_ENV "=%u:%u:%d:%u:%u:%d:%d", (unsigned)s->role, s->index, s->drop ? 1 : 0,
	    (unsigned)s->uid, (unsigned)s->gid, s->dir_fd >= 0 ? 1 : 0, (int)getpid());
	envp[n++] = what;
	if (s->helper)
		envp[n++] = helper = mem_printf(SPAWN_HELPER_ENV "=%s", s->helper);
#if WITH_ASAN
	/* Test builds: the sandbox allows no leak checker (it would have to trace itself). */
	static char asan[512], ubsan[512];
	const char *v = getenv("ASAN_OPTIONS"), *u = getenv("UBSAN_OPTIONS");

	snprintf(asan, sizeof(asan), "ASAN_OPTIONS=%s%sdetect_leaks=0", v ? v : "", v ? ":" : "");
	envp[n++] = asan;
	if (u) {
		snprintf(ubsan, sizeof(ubsan), "UBSAN_OPTIONS=%s", u);
		envp[n++] = ubsan;
	}
#endif
	envp[n] = NULL;

	if (ipc_pair(sv) < 0) {
		mem_free(helper);
		return -1;
	}
	pid = fork();
	if (pid == 0) {
		become(s, self_fd, sv[1], argv, envp);
		dprintf(2, "sallyportd: cannot start the role %s: %s; is /proc mounted?\n", role_name(s->role), strerror(errno));
		_exit(127);
	}
	mem_free(helper);
	close(sv[1]);
	if (pid < 0) {
		int saved = errno;

		close(sv[0]);
		errno = saved;
		return -1;
	}
	*channel = sv[0];
	return pid;
}

int
spawn_describe(struct spawn *s, pid_t *master)
{
	const char *what = getenv(SPAWN_ENV);
	unsigned role, index, drop, uid, gid, dir;
	int parent, end = 0;

	if (!what)
		return 0;
	if (sscanf(what, "%u:%u:%u:%u:%u:%u:%d%n", &role, &index, &drop, &uid, &gid, &dir, &parent, &end) != 7 || what[end] ||
	    role == ROLE_MASTER || role >= ROLES || drop > 1 || dir > 1)
		return -1;
	*s = (struct spawn){
		.role = (enum role)role, .index = index, .drop = drop, .uid = uid, .gid = gid, .dir_fd = dir ? SPAWN_DIR_FD : -1,
	};
	*master = parent;
	s->helper = mem_strdup(getenv(SPAWN_HELPER_ENV));
	clearenv();
	return 1;
}
