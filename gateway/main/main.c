/* SPDX-License-Identifier: Apache-2.0 */
/* sallyportd: options; then the master process, or, re-executed by it, a role. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/main/master.h"
#include "gateway/main/reload.h"
#include "gateway/main/roles.h"
#include "gateway/main/setup.h"
#include "gateway/process/child.h"
#include "gateway/process/privs.h"

static const char usage_text[] =
    "usage: sallyportd [-c FILE] [-f] [-l FILE] [-p FILE]\n"
    "       sallyportd -t [-c FILE]\n"
    "       sallyportd -h | -v\n"
    "  -c FILE  the configuration (" SALLYPORT_SYSCONFDIR "/sallyport.conf)\n"
    "  -f       stay in the foreground\n"
    "  -l FILE  append the operator log to FILE, not to standard error\n"
    "  -p FILE  write master's process id to FILE once everything runs\n"
    "  -t       check the configuration and the policy, print every fault, and exit 0 or 1\n"
    "  -v       print the version\n"
    "  -h       print this\n"
    "See sallyportd(8) and sallyport.conf(5).\n";

static int
check_users(const struct config *c, struct errs *errs)
{
	static const unsigned roles[] = { ROLE_KEYS, ROLE_JOURNAL, ROLE_CONTROL, ROLE_WORKER, ROLE_CA, PRIVS_POLICY };
	char why[512];
	uid_t uid;
	gid_t gid;

	for (size_t i = 0; geteuid() == 0 && i < sizeof(roles) / sizeof(roles[0]); i++)
		if ((roles[i] != ROLE_CA || c->ca.store) && privs_lookup(c->user_prefix, roles[i], &uid, &gid, why, sizeof(why)) < 0) {
			errs_add(errs, c->file, 0, "%s", why);
			return -1;
		}
	return 0;
}

/* -t: every fault, as one would want to see it before a reload. */
static int
check(const char *path)
{
	struct errs errs;
	struct buf image;
	struct config *c;
	bool failed;

	errs_init(&errs);
	buf_init(&image, 0);
	c = config_load(path, &errs);
	if (c) {
		check_users(c, &errs);
		reload_check_keys(c, &errs);
		setup_check_store(c, &errs);
		config_policy_compile(c, 1, &image, &errs);
	}
	for (size_t i = 0; i < errs.n; i++)
		fprintf(stderr, "%s%s\n", errs.items[i].warning ? "warning: " : "", errs.items[i].text);
	if (errs.dropped)
		fprintf(stderr, "%zu more\n", errs.dropped);
	failed = !c || errs.errors > 0;
	if (failed)
		fprintf(stderr, "%s: not usable: %zu fault%s\n", path, errs.errors + errs.dropped, errs.errors + errs.dropped == 1 ? "" : "s");
	else
		printf("%s: ok\n", path);
	config_free(c);
	buf_fini(&image);
	errs_fini(&errs);
	return failed ? 1 : 0;
}

/*
 * Into the background. The caller's process waits until the daemon is ready, so that a start-up script knows whether it runs, and
 * returns its outcome. Returns the descriptor to tell it by.
 */
static int
detach(void)
{
	int fds[2], status, null;
	char ok;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		fprintf(stderr, "sallyportd: cannot go into the background: %s; use -f\n", strerror(errno));
		exit(1);
	}
	if (pid > 0) {
		close(fds[1]);
		if (read(fds[0], &ok, 1) == 1)
			_exit(0);
		/* It ended before it was ready, and said why. */
		if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) > 0)
			_exit(WEXITSTATUS(status));
		_exit(1);
	}
	close(fds[0]);
	setsid();
	if (chdir("/") < 0)
		exit(1);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		close(null);
	}
	return fds[1];
}

static void
open_log(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (fd < 0 || dup2(fd, 2) < 0) {
		fprintf(stderr, "sallyportd: %s: cannot open the log: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
}

static char *
absolute(const char *path)
{
	char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *full = cwd ? mem_printf("%s/%s", cwd, path) : mem_strdup(path);

	free(cwd);
	return full;
}

/* Descriptors 0 to 2 always exist, so that nothing else gets their numbers. */
static void
open_standard_fds(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
		;
	if (fd > 2)
		close(fd);
}

int
main(int argc, char **argv)
{
	struct master_options o = { .config_path = SALLYPORT_SYSCONFDIR "/sallyport.conf", .ready_fd = -1 };
	static const struct option long_options[] = { { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'v' }, { NULL, 0, NULL, 0 } };
	bool foreground = false, test = false;
	const char *log_path = NULL;
	char *config_path, *pid_path;
	int ch, rc;

	child_run(roles_table); /* a role never comes back */
	open_standard_fds();
	while ((ch = getopt_long(argc, argv, "c:fhl:p:tv", long_options, NULL)) != -1) {
		switch (ch) {
		case 'c': o.config_path = optarg; break;
		case 'f': foreground = true; break;
		case 'l': log_path = optarg; break;
		case 'p': o.pid_file = optarg; break;
		case 't': test = true; break;
		case 'h':
			fputs(usage_text, stdout);
			return 0;
		case 'v':
			puts("sallyportd " SALLYPORT_VERSION);
			return 0;
		default: /* getopt said what is wrong */
			fputs("\"sallyportd -h\" lists the options.\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "sallyportd: unexpected argument \"%s\"; \"sallyportd -h\" lists the options\n", argv[optind]);
		return 2;
	}
	if (test)
		return check(o.config_path);

	/* A reload reads the same files whatever the working directory is by then. */
	o.config_path = config_path = absolute(o.config_path);
	o.pid_file = pid_path = o.pid_file ? absolute(o.pid_file) : NULL;
	umask(022);
	if (log_path)
		open_log(log_path);
	if (!foreground)
		o.ready_fd = detach();
	rc = master_run(&o);
	mem_free(pid_path);
	mem_free(config_path);
	return rc;
}
