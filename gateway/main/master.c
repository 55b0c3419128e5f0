/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/master.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/main/children.h"
#include "gateway/main/expiry.h"
#include "gateway/main/listen.h"
#include "gateway/main/note.h"
#include "gateway/main/notify.h"
#include "gateway/main/reload.h"
#include "gateway/main/state.h"
#include "gateway/main/status.h"
#include "gateway/main/trust.h"
#include "gateway/process/privs.h"
#include "gateway/process/spawn.h"

#define STOP_GRACE_MS 2000     /* keys, control: they have nothing to finish */
#define JOURNAL_GRACE_MS 15000 /* it writes what is left */

/* ---- the loop's sources ---- */

uint64_t
master_tick_min(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a ? a : b;
	return a < b ? a : b;
}

int
master_watch(struct master *m, struct source *s, int fd, uint32_t events, void (*on_event)(struct source *, uint32_t))
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	s->on_event = on_event;
	s->master = m;
	s->fd = fd;
	return epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &ev);
}

void
master_rewatch(struct master *m, struct source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	epoll_ctl(m->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

void
master_unwatch(struct master *m, struct source *s)
{
	epoll_ctl(m->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	s->fd = -1;
}

/* ---- stopping ---- */

void
master_stop(struct master *m, bool now)
{
	uint64_t drain_ms = m->current ? m->current->config->limits.drain_ms : 0;
	struct child *c;

	if (m->state == MASTER_STARTING)
		now = true;
	if (m->state >= MASTER_STOPPING || (m->state == MASTER_DRAINING && !now))
		return;
	log_info("%s", now ? "stopping" : "draining, then stopping");
	notify_stopping();
	m->state = now ? MASTER_STOPPING : MASTER_DRAINING;
	TAILQ_FOREACH(c, &m->children, next) {
		if (c->role == ROLE_JOURNAL)
			continue;
		c->wanted = false;
		if (c->role != ROLE_WORKER)
			continue;
		if (now)
			children_stop(m, c, STOP_GRACE_MS);
		else
			children_drain(m, c, drain_ms);
	}
	/* Nobody else accepts either: callers are refused at once and go elsewhere, instead of waiting in a queue. */
	listen_free(m->listen);
	m->listen = NULL;
}

void
master_fail(struct master *m, int code)
{
	m->exit_code = code;
	if (!children_running(m->journal))
		m->journal->wanted = false;
	master_stop(m, true);
}

/* After the workers, the rest; after the rest, the journal, which has their last words to write. */
static void
go_on_stopping(struct master *m)
{
	struct child *c;

	if (m->state <= MASTER_RUNNING || children_count(m, ROLE_WORKER) > 0)
		return;
	if (m->state < MASTER_STOPPING)
		m->state = MASTER_STOPPING;
	TAILQ_FOREACH(c, &m->children, next)
		if (c->role != ROLE_JOURNAL) {
			c->wanted = false;
			children_stop(m, c, STOP_GRACE_MS);
		}
	if (children_count(m, ROLE_MASTER) > children_count(m, ROLE_JOURNAL))
		return;
	if (m->state != MASTER_LAST) {
		m->state = MASTER_LAST;
		m->journal->wanted = false;
		children_stop(m, m->journal, JOURNAL_GRACE_MS);
	}
	if (children_count(m, ROLE_MASTER) == 0)
		m->quit = true;
}

/* ---- signals ---- */

static void
reap(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!children_reaped(m, pid, status))
			reload_reaped(m, pid, status);
}

static void
on_signal(struct source *s, uint32_t events)
{
	struct master *m = s->master;
	struct signalfd_siginfo si;

	(void)events;
	while (read(s->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGCHLD:
			reap(m);
			break;
		case SIGHUP:
			if (m->state <= MASTER_RUNNING)
				reload_request(m, false, 0);
			break;
		case SIGTERM:
			master_stop(m, m->state == MASTER_DRAINING);
			break;
		case SIGINT:
			master_stop(m, true);
			break;
		}
	}
}

/* ---- control ---- */

void
master_on_control(struct master *m, struct child *c, struct ipc_msg *msg)
{
	struct buf json;
	uint32_t id;

	if (msg->len != sizeof(id) || (msg->type == ROLE_MSG_SET_LOG_LEVEL && msg->arg > LOG_LV_DEBUG)) {
		children_kill(m, c, "bad-message");
		return;
	}
	memcpy(&id, msg->data, sizeof(id));
	buf_init(&json, IPC_MAX_DATA - 16);
	switch (msg->type) {
	case ROLE_MSG_RELOAD:
		if (m->state == MASTER_RUNNING) {
			reload_request(m, true, id);
			goto out; /* answered when it is over */
		}
		buf_puts(&json, "{\"ok\":false,\"faults\":[\"sallyportd is starting or stopping\"]}");
		status_reply(m, id, 1, &json);
		goto out;
	case ROLE_MSG_MASTER_STATUS:
		status_master(m, &json);
		break;
	case ROLE_MSG_DRAIN_ALL:
		buf_puts(&json, "{\"ok\":true}");
		status_reply(m, id, 0, &json);
		master_stop(m, false);
		goto out;
	case ROLE_MSG_SET_LOG_LEVEL:
		m->log_level = msg->arg;
		reload_log_level(m, (enum log_level)msg->arg);
		buf_puts(&json, "{\"ok\":true}");
		break;
	default:
		break;
	}
	status_reply(m, id, 0, &json);
out:
	buf_fini(&json);
}

/* ---- starting ---- */

/* Two daemons of one user could share TCP addresses without noticing (SO_REUSEPORT): one lock per control socket. */
static int
lock(struct master *m, const struct config *c)
{
	char *path = mem_printf("%s.lock", c->control.socket), pid[32];
	int n, result = -1;

	m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (m->lock_fd < 0)
		log_error("%s: cannot open the lock: %m; %s", path, errno == ENOENT ?
		    "create its directory, for example with \"systemd-tmpfiles --create sallyport.conf\"" : "choose another control.socket, or start as root");
	else if (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0)
		log_error("%s: another sallyportd runs with this control socket; stop it first, or give this one another control.socket",
		    path);
	else
		result = 0;
	if (result == 0) {
		n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
		if (ftruncate(m->lock_fd, 0) < 0 || write(m->lock_fd, pid, (size_t)n) < 0)
			log_warn("%s: cannot write: %m", path);
	}
	mem_free(path);
	return result;
}

/* The last component of a directory is made where it is missing; everything above it is the operator's. */
static void
make_dir(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST && errno != ENOENT) /* the latter: whoever opens it says so */
		log_warn("%s: cannot create the directory: %m", path);
}

static int
count_entries(int fd)
{
	char buf[1024];
	int n = 0;
	long r;

	while ((r = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < r; n++)
			at += *(unsigned short *)(void *)(buf + at + 16); /* d_reclen */
	lseek(fd, 0, SEEK_SET);
	return n - 2; /* "." and ".." */
}

static int
open_journal_dir(struct master *m, const struct config *c)
{
	const char *path = c->journal.directory;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	struct stat st;
	char why[512];

	make_dir(path, 0750);
	m->journal_dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->journal_dir_fd < 0 || fstat(m->journal_dir_fd, &st) < 0) {
		log_error("%s: cannot open the journal's directory: %m; %s", path, errno == ENOENT ?
		    "create the directories above it, for example with \"systemd-tmpfiles --create sallyport.conf\"" :
		    "it belongs to the user that the journal role runs as");
		return -1;
	}
	if (!m->root)
		return 0;
	if (privs_lookup(c->user_prefix, ROLE_JOURNAL, &uid, &gid, why, sizeof(why)) < 0) {
		log_error("%s", why);
		return -1;
	}
	if (st.st_uid == uid)
		return 0;
	if (count_entries(m->journal_dir_fd) > 0) {
		log_error("%s: the journal's directory belongs to uid %u and is not empty; give it to the journal role with \"chown -R %u:%u %s\"",
		    path, (unsigned)st.st_uid, (unsigned)uid, (unsigned)gid, path);
		return -1;
	}
	if (fchown(m->journal_dir_fd, uid, gid) < 0) {
		log_error("%s: cannot give the journal's directory to uid %u: %m", path, (unsigned)uid);
		return -1;
	}
	return 0;
}

static int
open_control(struct master *m, const struct config *c)
{
	struct errs errs;

	errs_init(&errs);
	m->control_fd = listen_unix(c->control.socket, c->control.mode, c->control.group, "control socket", c->file, 0, &errs);
	for (size_t i = 0; i < errs.n; i++)
		log_error("%s", errs.items[i].text);
	errs_fini(&errs);
	if (m->control_fd >= 0)
		m->control_path = mem_strdup(c->control.socket);
	return m->control_fd < 0 ? -1 : 0;
}

static int
check_users(const struct master *m, const struct config *c)
{
	static const unsigned roles[] = { ROLE_KEYS, ROLE_JOURNAL, ROLE_CONTROL, ROLE_WORKER, ROLE_CA, PRIVS_POLICY };
	char why[512];
	uid_t uid;
	gid_t gid;

	for (size_t i = 0; m->root && i < sizeof(roles) / sizeof(roles[0]); i++)
		if ((roles[i] != ROLE_CA || c->ca.store) && privs_lookup(c->user_prefix, roles[i], &uid, &gid, why, sizeof(why)) < 0) {
			log_error("%s", why);
			return -1;
		}
	if (!m->root)
		log_warn("not started as root: all roles run as uid %u; files of one are open to the others", (unsigned)geteuid());
	return 0;
}

static void
raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* Root without the powers that it has no use for: neither modules, nor raw sockets, nor other people's processes. */
static void
shed_capabilities(const struct master *m)
{
	static const uint32_t keep = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH | 1U << CAP_FOWNER |
	    1U << CAP_KILL | 1U << CAP_SETGID | 1U << CAP_SETUID | 1U << CAP_NET_BIND_SERVICE | 1U << CAP_SYS_RESOURCE;
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2], have[2];

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		log_warn("no_new_privs cannot be set: %m");
	if (!m->root || syscall(SYS_capget, &head, have) < 0)
		return;
	for (unsigned cap = 0; cap < 64; cap++)
		if ((cap >= 32 || !(keep >> cap & 1)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			break;
	memset(data, 0, sizeof(data));
	data[0].permitted = data[0].effective = have[0].permitted & keep;
	if (syscall(SYS_capset, &head, data) < 0)
		log_warn("capabilities cannot be shed: %m");
}

static int
open_state(struct master *m, const struct config *c)
{
	m->keep = state_open(c->state_dir);
	if (!m->keep)
		log_error("%s: cannot use the directory for what survives a restart (state_dir): %m", c->state_dir);
	return m->keep ? 0 : -1;
}

static int
make_ring(struct master *m, const struct config *c)
{
	const char *why = NULL;

	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->ring_fd = ring_create((size_t)c->journal.ring_bytes);
	if (m->wake_fd < 0 || m->ring_fd < 0) {
		log_error("no memory for the journal's rings: %m");
		return -1;
	}
	m->ring = ring_map_writer(m->ring_fd, m->wake_fd, &why);
	if (!m->ring)
		log_error("master's ring: %s", why);
	return m->ring ? 0 : -1;
}

static int
watch_signals(struct master *m)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN); /* meant for other daemons: no reason to die */
	signal(SIGUSR2, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -1 : master_watch(m, &m->signals, fd, EPOLLIN, on_signal);
}

static int
start(struct master *m)
{
	const struct config *c;
	char *dir, *slash;

	m->root = geteuid() == 0;
	raise_limits();
	m->epoll = epoll_create1(EPOLL_CLOEXEC);
	m->self_fd = spawn_self();
	if (m->epoll < 0 || m->self_fd < 0 || watch_signals(m) < 0) {
		log_error("cannot start: %m; is /proc mounted?");
		return -1;
	}
	m->listen = listen_new();
	m->reload = reload_new(m);
	m->journal = children_add(m, ROLE_JOURNAL, 0, NULL);
	m->control = children_add(m, ROLE_CONTROL, 0, NULL);
	c = reload_first(m);
	if (!c) {
		log_error("sallyportd does not start: correct the faults above; \"sallyportd -t -c %s\" checks", m->config_path);
		return -1;
	}
	if (log_level_parse(c->log_level) >= 0)
		log_set_level((enum log_level)log_level_parse(c->log_level));
	dir = mem_strdup(c->control.socket);
	slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		make_dir(dir, 0755);
	}
	mem_free(dir);
	if (check_users(m, c) < 0 || lock(m, c) < 0 || open_journal_dir(m, c) < 0 || open_state(m, c) < 0 || open_control(m, c) < 0 || make_ring(m, c) < 0)
		return -1;
	shed_capabilities(m);
	return 0;
}

void
master_started(struct master *m)
{
	m->state = MASTER_RUNNING;
	if (m->pid_file) {
		FILE *f = fopen(m->pid_file, "we");

		if (!f || fprintf(f, "%d\n", (int)getpid()) < 0)
			log_error("%s: cannot write the process id: %m", m->pid_file);
		if (f)
			fclose(f);
		m->pid_written = f != NULL;
	}
	if (m->ready_fd >= 0) {
		(void)!write(m->ready_fd, "", 1);
		close(m->ready_fd);
		m->ready_fd = -1;
	}
	log_info("sallyportd " SALLYPORT_VERSION " runs: workers=%u generation=%u", m->current->nworkers, m->current->number);
	notify_ready();
}

static void
loop(struct master *m)
{
	while (!m->quit) {
		uint64_t now = clock_mono_ms(), next;
		struct epoll_event ev;
		int wait, n;

		next = reload_tick(m, now);
		next = master_tick_min(next, children_tick(m, now));
		next = master_tick_min(next, expiry_tick(m, now));
		next = master_tick_min(next, trust_tick(m, now));
		go_on_stopping(m);
		if (m->quit)
			break;
		now = clock_mono_ms();
		wait = next == 0 ? -1 : next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
		n = epoll_wait(m->epoll, &ev, 1, wait);
		if (n < 0 && errno != EINTR)
			log_fatal("epoll_wait: %m");
		if (n == 1) {
			struct source *s = ev.data.ptr;

			s->on_event(s, ev.events);
		}
	}
}

static void
finish(struct master *m)
{
	struct generation *g;
	struct dead_ring *d;
	struct child *c;

	if (m->control_path)
		unlink(m->control_path);
	mem_free(m->control_path);
	reload_free(m->reload);
	m->reload = NULL;
	while ((c = TAILQ_FIRST(&m->children)))
		children_remove(m, c);
	while ((g = TAILQ_FIRST(&m->generations))) {
		TAILQ_REMOVE(&m->generations, g, next);
		config_free(g->config);
		buf_fini(&g->frame);
		mem_free(g->workers);
		close(g->config_fd);
		mem_free(g);
	}
	while ((d = TAILQ_FIRST(&m->dead_rings))) {
		TAILQ_REMOVE(&m->dead_rings, d, next);
		close(d->fd);
		mem_free(d);
	}
	trust_fini(m->watch);
	state_close(m->keep);
	listen_free(m->listen);
	ring_unmap(m->ring);
	if (m->pid_written)
		unlink(m->pid_file);
}

int
master_run(const struct master_options *o)
{
	struct master m = {
		.config_path = o->config_path, .pid_file = o->pid_file, .ready_fd = o->ready_fd,
		.epoll = -1, .self_fd = -1, .lock_fd = -1, .wake_fd = -1, .journal_dir_fd = -1, .control_fd = -1,
		.policy_fd = -1, .ring_fd = -1, .log_level = -1, .new_key = { -1, -1, -1 },
	};

	TAILQ_INIT(&m.children);
	TAILQ_INIT(&m.generations);
	TAILQ_INIT(&m.dead_rings);
	m.started_ms = clock_mono_ms();
	m.run = clock_wall_us() / 1000;
	log_init("master");
	notify_init();
	if (start(&m) < 0) {
		m.exit_code = 1;
	} else {
		reload_request(&m, false, 0);
		loop(&m);
		log_info("sallyportd stopped");
	}
	finish(&m);
	return m.exit_code;
}
