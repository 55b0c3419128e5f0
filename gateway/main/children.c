/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/main/note.h"
#include "gateway/main/renew.h"
#include "gateway/main/roles.h"
#include "gateway/main/setup.h"
#include "gateway/main/trust.h"
#include "gateway/process/child.h"
#include "gateway/process/privs.h"
#include "gateway/process/sandbox.h"
#include "gateway/process/spawn.h"

#define QUEUE_MAX 4096        /* messages for one child that does not read */
#define STEADY_MS 10000       /* a process that lived this long is restarted at once */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 1000

struct queued {
	STAILQ_ENTRY(queued) next;
	uint16_t type, arg;
	unsigned nfds;
	int fds[IPC_MAX_FDS];
	size_t len;
	uint8_t data[];
};

static void on_channel(struct source *s, uint32_t events);

bool
children_running(const struct child *c)
{
	return c->state != CHILD_NONE;
}

const char *
children_ident(const struct child *c, char out[32])
{
	if (c->role == ROLE_WORKER)
		snprintf(out, 32, "%s/%u", role_name(c->role), c->index);
	else
		snprintf(out, 32, "%s", role_name(c->role));
	return out;
}

unsigned
children_count(const struct master *m, enum role role)
{
	const struct child *c;
	unsigned n = 0;

	TAILQ_FOREACH(c, &m->children, next)
		if (children_running(c) && (role == ROLE_MASTER || c->role == role))
			n++;
	return n;
}

/* ---- messages ---- */

static void
queue_free(struct child *c)
{
	struct queued *q;

	while ((q = STAILQ_FIRST(&c->queue))) {
		STAILQ_REMOVE_HEAD(&c->queue, next);
		for (unsigned i = 0; i < q->nfds; i++)
			close(q->fds[i]);
		mem_free(q);
	}
	c->queued = 0;
}

static void
queue_flush(struct master *m, struct child *c)
{
	struct queued *q;

	while ((q = STAILQ_FIRST(&c->queue))) {
		int r = ipc_send(c->source.fd, q->type, q->arg, q->data, q->len, q->fds, q->nfds);

		if (r == -1)
			return;
		if (r < 0) { /* its exit is reported by SIGCHLD */
			queue_free(c);
			break;
		}
		STAILQ_REMOVE_HEAD(&c->queue, next);
		c->queued--;
		for (unsigned i = 0; i < q->nfds; i++)
			close(q->fds[i]);
		mem_free(q);
	}
	master_rewatch(m, &c->source, EPOLLIN);
}

void
children_send(struct master *m, struct child *c, uint16_t type, uint16_t arg, const void *data, size_t len, const int *fds,
    unsigned nfds)
{
	struct queued *q;

	if (!children_running(c) || c->source.fd < 0)
		return;
	if (STAILQ_EMPTY(&c->queue) && ipc_send(c->source.fd, type, arg, data, len, fds, nfds) != -1)
		return;
	if (c->queued == QUEUE_MAX) {
		children_kill(m, c, "does-not-read");
		return;
	}
	q = mem_zalloc(sizeof(*q) + len);
	q->type = type;
	q->arg = arg;
	q->len = len;
	if (len)
		memcpy(q->data, data, len);
	for (unsigned i = 0; i < nfds; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			log_error("out of descriptors while starting %s: raise LimitNOFILE", role_name(c->role));
			while (q->nfds)
				close(q->fds[--q->nfds]);
			mem_free(q);
			children_kill(m, c, "no-descriptors");
			return;
		}
		q->fds[q->nfds++] = fd;
	}
	STAILQ_INSERT_TAIL(&c->queue, q, next);
	c->queued++;
	master_rewatch(m, &c->source, EPOLLIN | EPOLLOUT);
}

void
children_broadcast(struct master *m, enum role role, uint16_t type, uint16_t arg, const void *data, size_t len, const int *fds,
    unsigned nfds)
{
	struct child *c;

	TAILQ_FOREACH(c, &m->children, next)
		if (children_running(c) && (role == ROLE_MASTER || c->role == role))
			children_send(m, c, type, arg, data, len, fds, nfds);
}

/* Its writer is gone: once the journal has all of it on record, it says RING_DONE. */
static void
tell_dead(struct master *m, const struct dead_ring *d)
{
	children_send(m, m->journal, ROLE_MSG_PRODUCER_DIED, (uint16_t)d->arg, &d->instance, sizeof(d->instance), NULL, 0);
}

static void
go(struct master *m, struct child *c)
{
	const struct generation *g = setup_generation(m, c);
	struct dead_ring *d;
	struct role_go data = {
		.index = c->index, .count = g->nworkers, .instance = c->instance, .generation = g->number, .run = m->run,
		.signatures_per_s = g->config->limits.signatures_per_second, .restarts = c->restarts,
	};

	c->state = CHILD_STARTING;
	children_send(m, c, ROLE_MSG_GO, 0, &data, sizeof(data), NULL, 0);
	if (m->log_level >= 0)
		children_send(m, c, ROLE_MSG_LOG_LEVEL, (uint16_t)m->log_level, NULL, 0, NULL, 0);
	if (c->role == ROLE_JOURNAL)
		TAILQ_FOREACH(d, &m->dead_rings, next)
			tell_dead(m, d);
	if (c->role == ROLE_WORKER)
		trust_greet(m, c);
}

/* Workers accept nothing before it can be signed for and recorded. */
static bool
may_go(const struct master *m, const struct child *c)
{
	return c->role != ROLE_WORKER || (m->journal->state == CHILD_READY && c->gen->keys->state == CHILD_READY);
}

void
children_release(struct master *m)
{
	struct child *c;

	TAILQ_FOREACH(c, &m->children, next)
		if (c->state == CHILD_SETUP && may_go(m, c))
			go(m, c);
}

struct child *
children_add(struct master *m, enum role role, unsigned index, struct generation *gen)
{
	struct child *c = mem_zalloc(sizeof(*c));

	c->role = role;
	c->index = index;
	c->gen = gen;
	c->wanted = true;
	c->ring_fd = c->source.fd = -1;
	c->source.master = m;
	STAILQ_INIT(&c->queue);
	TAILQ_INSERT_TAIL(&m->children, c, next);
	return c;
}

void
children_remove(struct master *m, struct child *c)
{
	TAILQ_REMOVE(&m->children, c, next);
	mem_free(c);
}

static void
schedule_restart(struct child *c, uint64_t now)
{
	if (c->was_ready && now - c->started_ms >= STEADY_MS)
		c->backoff_ms = 0;
	c->restart_ms = now + c->backoff_ms;
	c->backoff_ms = c->backoff_ms ? c->backoff_ms * 2 : BACKOFF_MIN_MS;
	if (c->backoff_ms > BACKOFF_MAX_MS)
		c->backoff_ms = BACKOFF_MAX_MS;
}

void
children_start(struct master *m, struct child *c)
{
	struct spawn s = {
		.role = c->role, .index = c->index, .dir_fd = c->role == ROLE_JOURNAL ? m->journal_dir_fd : -1,
	};
	int store = -1;
	const struct generation *g = setup_generation(m, c);
	char why[512], ident[32], *helper = NULL;
	int channel;

	c->restart_ms = c->kill_ms = 0;
	c->killed_for = NULL;
	c->was_ready = false;
	c->sandbox = 0;
	c->started_ms = clock_mono_ms();
	c->instance = ++m->last_instance;
	c->uid = geteuid();
	if (m->root) {
		if (privs_lookup(g->config->user_prefix, c->role, &s.uid, &s.gid, why, sizeof(why)) < 0) {
			log_error("%s", why);
			goto failed;
		}
		s.drop = true;
		c->uid = s.uid;
	}
	if (c->role == ROLE_CA)
		s.dir_fd = store = setup_open_store(g->config);
	if (c->role == ROLE_WORKER || c->role == ROLE_CONTROL || c->role == ROLE_CA) {
		c->ring_fd = ring_create((size_t)g->config->journal.ring_bytes);
		if (c->ring_fd < 0) {
			log_error("no memory for the ring of %s: %m", children_ident(c, ident));
			goto failed;
		}
	}
	if (c->role == ROLE_KEYS)
		s.helper = helper = setup_hsm(g->config);
	c->pid = spawn_role(&s, m->self_fd, &channel);
	mem_free(helper);
	if (store >= 0)
		close(store);
	if (c->pid < 0) {
		log_error("cannot start %s: %m", children_ident(c, ident));
		goto failed;
	}
	c->state = CHILD_SETUP;
	master_watch(m, &c->source, channel, EPOLLIN, on_channel);
	setup_child(m, c);
	setup_introduce(m, c);
	note_role(m, c, "started", NULL);
	log_debug("role=%s instance=%u pid=%d started", children_ident(c, ident), c->instance, (int)c->pid);
	if (may_go(m, c))
		go(m, c);
	return;
failed:
	if (c->ring_fd >= 0)
		close(c->ring_fd);
	c->ring_fd = -1;
	c->pid = 0;
	c->restarts++;
	if (!c->backoff_ms)
		c->backoff_ms = BACKOFF_MIN_MS;
	schedule_restart(c, c->started_ms);
}

/* ---- ending ---- */

void
children_drain(struct master *m, struct child *c, uint64_t drain_ms)
{
	c->wanted = false;
	if (!children_running(c) || c->state == CHILD_DRAINING || c->state == CHILD_STOPPING)
		return;
	if (c->state != CHILD_READY && c->state != CHILD_STARTING) {
		children_stop(m, c, MASTER_DRAIN_EXTRA_MS); /* it has nothing yet */
		return;
	}
	children_send(m, c, ROLE_MSG_DRAIN, 0, &drain_ms, sizeof(drain_ms), NULL, 0);
	c->state = CHILD_DRAINING;
	c->kill_ms = clock_mono_ms() + drain_ms + MASTER_DRAIN_EXTRA_MS;
}

void
children_stop(struct master *m, struct child *c, uint64_t grace_ms)
{
	uint64_t kill_ms = clock_mono_ms() + grace_ms;

	if (!children_running(c))
		return;
	if (c->state == CHILD_STOPPING) {
		if (c->kill_ms > kill_ms)
			c->kill_ms = kill_ms;
		return;
	}
	children_send(m, c, ROLE_MSG_STOP, 0, NULL, 0, NULL, 0);
	c->state = CHILD_STOPPING;
	c->kill_ms = kill_ms;
}

void
children_kill(struct master *m, struct child *c, const char *why)
{
	char ident[32];

	(void)m;
	if (!children_running(c))
		return;
	if (!c->killed_for) {
		log_error("role=%s instance=%u pid=%d is killed: %s", children_ident(c, ident), c->instance, (int)c->pid, why);
		c->killed_for = why;
	}
	if (c->pid > 0)
		kill(c->pid, SIGKILL);
	c->state = CHILD_STOPPING;
	c->kill_ms = 0;
}

static void
describe_exit(char *out, size_t size, int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		snprintf(out, size, "sandbox");
	else if (WIFSIGNALED(status))
		snprintf(out, size, "signal-%d", WTERMSIG(status));
	else
		snprintf(out, size, "exit-%d", WEXITSTATUS(status));
}

static void
tell_counterparts(struct master *m, struct child *c)
{
	struct child *o;

	TAILQ_FOREACH(o, &m->children, next)
		if (o != c && children_running(o) && setup_edge(c, o))
			children_send(m, o, ROLE_MSG_CHANNEL_GONE, (uint16_t)setup_channel(c), &c->instance, sizeof(c->instance),
			    NULL, 0);
}

/* What is still in the ring of a dead writer is written; master holds it until the journal had the time. */
static void
retire_ring(struct master *m, struct child *c)
{
	struct dead_ring *d;

	if (c->ring_fd < 0)
		return;
	d = mem_zalloc(sizeof(*d));
	d->arg = setup_channel(c);
	d->instance = c->instance;
	d->fd = c->ring_fd;
	if (children_running(m->journal))
		tell_dead(m, d);
	TAILQ_INSERT_TAIL(&m->dead_rings, d, next);
	c->ring_fd = -1;
}

bool
children_reaped(struct master *m, pid_t pid, int status)
{
	uint64_t now = clock_mono_ms();
	char ident[32], how[32];
	struct child *c;
	bool expected;

	TAILQ_FOREACH(c, &m->children, next)
		if (children_running(c) && c->pid == pid)
			break;
	if (!c)
		return false;
	describe_exit(how, sizeof(how), status);
	children_ident(c, ident);
	expected = (c->state == CHILD_DRAINING || c->state == CHILD_STOPPING) && !c->killed_for &&
	    WIFEXITED(status) && WEXITSTATUS(status) == 0;
	c->pid = 0; /* gone: never to be signalled again */
	if (c->source.fd >= 0) {
		int fd = c->source.fd;

		if (!expected) /* what it said last: "the journal has a broken ring", for one */
			on_channel(&c->source, EPOLLIN);
		if (c->source.fd >= 0) {
			master_unwatch(m, &c->source);
			close(fd);
		}
	}
	queue_free(c);
	c->state = CHILD_NONE;
	c->kill_ms = 0;
	if (expected) {
		log_info("role=%s instance=%u ended", ident, c->instance);
		note_role(m, c, "ended", how);
	} else {
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
			log_error("role=%s instance=%u pid=%d was killed by its own sandbox (SIGSYS: a system call that its role "
			    "has no use for); see the kernel's audit log for which", ident, c->instance, (int)pid);
		else
			log_error("role=%s instance=%u pid=%d died: %s", ident, c->instance, (int)pid, how);
		note_role(m, c, c->killed_for ? "killed" : "died", c->killed_for ? c->killed_for : how);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
			note_alert(m, c, "sandbox-violation", NULL);
	}
	tell_counterparts(m, c);
	retire_ring(m, c);
	if (c->wanted) {
		c->restarts++;
		schedule_restart(c, now);
	}
	return true;
}

static void
drop_dead_ring(struct master *m, uint32_t instance)
{
	struct dead_ring *d, *next;

	TAILQ_FOREACH_SAFE(d, &m->dead_rings, next, next)
		if (d->instance == instance) {
			TAILQ_REMOVE(&m->dead_rings, d, next);
			close(d->fd);
			mem_free(d);
		}
}

uint64_t
children_tick(struct master *m, uint64_t now)
{
	struct child *c, *after;
	uint64_t next = 0;

	TAILQ_FOREACH_SAFE(c, &m->children, next, after) {
		if (c->kill_ms && now >= c->kill_ms)
			children_kill(m, c, "deadline");
		next = master_tick_min(next, c->kill_ms);
		if (!children_running(c) && c->wanted && c->restart_ms) {
			if (now >= c->restart_ms)
				children_start(m, c);
			next = master_tick_min(next, c->restart_ms);
		}
	}
	return next;
}

/* ---- what children say ---- */

static struct child *
by_instance(struct master *m, uint32_t instance)
{
	struct child *c;

	TAILQ_FOREACH(c, &m->children, next)
		if (children_running(c) && c->instance == instance)
			return c;
	return NULL;
}

static void
on_ready(struct master *m, struct child *c, const struct ipc_msg *msg)
{
	char ident[32];
	uint32_t missing;

	/* It was told to stop or drain before it had said so: the messages crossed. */
	if ((c->state == CHILD_STOPPING || c->state == CHILD_DRAINING) && !c->was_ready && msg->len == sizeof(c->sandbox)) {
		c->was_ready = true;
		return;
	}
	if (c->state != CHILD_STARTING || msg->len != sizeof(c->sandbox)) {
		children_kill(m, c, "bad-message");
		return;
	}
	memcpy(&c->sandbox, msg->data, sizeof(c->sandbox));
	c->state = CHILD_READY;
	c->was_ready = true;
	missing = SANDBOX_ALL & ~c->sandbox & ~(m->root ? 0U : (uint32_t)SANDBOX_UID);
	log_info("role=%s instance=%u pid=%d ready after=%lums", children_ident(c, ident), c->instance, (int)c->pid,
	    (unsigned long)(clock_mono_ms() - c->started_ms));
	for (unsigned i = 0; sandbox_bit_name(i); i++)
		if (missing >> i & 1)
			log_warn("role=%s this kernel lacks %s", ident, sandbox_bit_name(i));
	children_release(m);
}

/* One message against the table of who may say what; anything else kills the child. */
static void
on_message(struct master *m, struct child *c, struct ipc_msg *msg)
{
	uint32_t instance = 0;
	struct child *o;

	if (msg->len >= sizeof(instance))
		memcpy(&instance, msg->data, sizeof(instance));
	switch (msg->type) {
	case ROLE_MSG_READY:
		on_ready(m, c, msg);
		return;
	case ROLE_MSG_RING_BROKEN:
		if (c->role != ROLE_JOURNAL || msg->len != sizeof(instance))
			break;
		o = by_instance(m, instance);
		if (o && o->ring_fd >= 0) { /* case 87; it may also have died since */
			note_alert(m, o, "ring-broken", NULL);
			children_kill(m, o, "ring-broken");
		} else if (instance == 0) {
			log_error("the journal calls master's own ring broken; restart sallyportd");
		}
		return;
	case ROLE_MSG_RING_DONE:
		if (c->role != ROLE_JOURNAL || msg->len != sizeof(instance))
			break;
		drop_dead_ring(m, instance);
		return;
	case ROLE_MSG_KEYS_ABUSE:
		if (c->role != ROLE_KEYS || !c->gen)
			break;
		if (msg->arg < c->gen->nworkers) { /* case 61 */
			o = c->gen->workers[msg->arg];
			note_alert(m, o, "keys-abuse", "asked for a signature over what is no TLS handshake");
			children_kill(m, o, "keys-abuse");
		}
		return;
	case ROLE_MSG_KEYS_RATE:
		if (c->role != ROLE_KEYS || !c->gen)
			break;
		if (msg->arg < c->gen->nworkers)
			note_alert(m, c->gen->workers[msg->arg], "signature-rate", "asks for more than limits.signatures_per_second");
		return;
	case ROLE_MSG_NEW_CRL:
	case ROLE_MSG_WANT_CALLER:
	case ROLE_MSG_FOUND_CALLER:
		if (c->role != ROLE_WORKER || !trust_on_worker(m, c, msg))
			break;
		return;
	case ROLE_MSG_RENEWED:
		if (c->role != ROLE_WORKER || !renew_on_certificate(m, c, msg))
			break;
		return;
	case ROLE_MSG_NEW_KEY:
		if (c->role != ROLE_KEYS || !renew_on_key(m, c, msg))
			break;
		return;
	case ROLE_MSG_DRAINED:
		if (c->role != ROLE_WORKER || (c->state != CHILD_DRAINING && c->state != CHILD_STOPPING))
			break;
		return;
	case ROLE_MSG_RELOAD:
	case ROLE_MSG_DRAIN_ALL:
	case ROLE_MSG_MASTER_STATUS:
	case ROLE_MSG_SET_LOG_LEVEL:
		if (c->role != ROLE_CONTROL)
			break;
		master_on_control(m, c, msg);
		return;
	case ROLE_MSG_SEVER:
	case ROLE_MSG_RESTORE:
		if (c->role != ROLE_CONTROL || msg->len <= sizeof(instance) || msg->len > 512)
			break;
		trust_on_sever(m, instance, (const char *)msg->data + sizeof(instance), msg->len - sizeof(instance), msg->type == ROLE_MSG_SEVER);
		return;
	default:
		break;
	}
	children_kill(m, c, "bad-message");
}

/* Descriptors come from two roles, one each, with these. */
static bool
may_bring(const struct child *c, const struct ipc_msg *msg)
{
	if (msg->nfds != 1)
		return false;
	if (c->role == ROLE_KEYS)
		return msg->type == ROLE_MSG_NEW_KEY;
	return c->role == ROLE_WORKER && (msg->type == ROLE_MSG_NEW_CRL || msg->type == ROLE_MSG_FOUND_CALLER || msg->type == ROLE_MSG_RENEWED);
}

static void
on_channel(struct source *s, uint32_t events)
{
	static uint8_t buf[IPC_MAX_DATA + 16];
	struct child *c = (struct child *)s;
	struct master *m = s->master;
	struct ipc_msg msg;
	int r;

	if (events & EPOLLOUT)
		queue_flush(m, c);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	for (unsigned i = 0; i < 64 && c->source.fd >= 0; i++) {
		r = ipc_recv(c->source.fd, buf, &msg);
		if (r == 0)
			return;
		if (r == -1) { /* closed: SIGCHLD says the rest, unless it goes on without us */
			int fd = c->source.fd;

			master_unwatch(m, &c->source);
			close(fd);
			if (c->state != CHILD_STOPPING && c->state != CHILD_DRAINING && !c->kill_ms)
				c->kill_ms = clock_mono_ms() + 500;
			return;
		}
		if (r < 0 || (msg.nfds > 0 && !may_bring(c, &msg)) || c->killed_for) {
			if (r > 0)
				ipc_msg_close(&msg);
			children_kill(m, c, "bad-message");
			continue;
		}
		on_message(m, c, &msg);
		ipc_msg_close(&msg);
	}
}
