/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/config/p11uri.h"
#include "gateway/keys/proto.h"
#include "gateway/main/listen.h"
#include "gateway/main/note.h"
#include "gateway/main/renew.h"
#include "gateway/main/roles.h"
#include "gateway/main/trust.h"
#include "gateway/process/child.h"
#include "gateway/process/memfd.h"
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

/* Descriptors gathered into as few messages as they fit. */
struct parcel {
	struct master *m;
	struct child *to;
	unsigned n;
	struct role_fd_msg what[IPC_MAX_FDS];
	int fds[IPC_MAX_FDS];
};

static void
parcel_flush(struct parcel *p)
{
	if (p->n)
		children_send(p->m, p->to, ROLE_MSG_FD, 0, p->what, p->n * sizeof(p->what[0]), p->fds, p->n);
	p->n = 0;
}

static void
parcel_add(struct parcel *p, enum role_fd kind, unsigned arg, uint32_t number, int fd)
{
	if (fd < 0)
		return;
	p->what[p->n] = (struct role_fd_msg){ .kind = (uint16_t)kind, .arg = (uint16_t)arg, .number = number };
	p->fds[p->n++] = fd;
	if (p->n == IPC_MAX_FDS)
		parcel_flush(p);
}

/* ---- set-up ---- */

static bool
has_edge(const struct child *x, const struct child *y)
{
	for (unsigned i = 0; i < roles_nedges; i++) {
		const struct roles_edge *e = &roles_edges[i];

		if (((e->a == x->role && e->b == y->role) || (e->b == x->role && e->a == y->role)) &&
		    (!e->same_generation || x->gen == y->gen))
			return true;
	}
	return false;
}

static void
send_one_fd(struct master *m, struct child *to, enum role_fd kind, unsigned arg, uint32_t number, int fd)
{
	struct parcel p = { .m = m, .to = to };

	parcel_add(&p, kind, arg, number, fd);
	parcel_flush(&p);
}

void
children_new_config(struct master *m, struct child *c, int config_fd)
{
	send_one_fd(m, c, ROLE_FD_CONFIG, 0, 0, config_fd);
}

static unsigned
channel_arg(const struct child *c)
{
	return (unsigned)c->role << 8 | (c->index & 0xff);
}

/* A new process gets a channel to everybody that it may talk to, and they to it. */
static void
introduce(struct master *m, struct child *c)
{
	struct child *o;
	int sv[2];

	TAILQ_FOREACH(o, &m->children, next) {
		if (o == c || !children_running(o) || o->state == CHILD_STOPPING || !has_edge(c, o))
			continue;
		if (ipc_pair(sv) < 0) {
			log_error("no channel between %s and %s: %m", role_name(c->role), role_name(o->role));
			continue;
		}
		send_one_fd(m, c, ROLE_FD_CHANNEL, channel_arg(o), o->instance, sv[0]);
		send_one_fd(m, o, ROLE_FD_CHANNEL, channel_arg(c), c->instance, sv[1]);
		close(sv[0]);
		close(sv[1]);
	}
}

static const struct generation *
config_of(const struct master *m, const struct child *c)
{
	if (c->gen)
		return c->gen;
	return m->current ? m->current : TAILQ_FIRST(&m->generations);
}

/* The PIN of an HSM's key, likewise: whoever could change or read it besides root and the role's user could as well have the key. */
static int
open_pin(const struct child *c, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0) {
		log_error("%s: cannot open the PIN's file: %m", path);
		return -1;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !(st.st_mode & 077) && (st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == c->uid))
		return fd;
	log_error("%s: the PIN's file has to be a regular one of root, with mode 0600", path);
	close(fd);
	return -1;
}

/* Of a key in an HSM the keys role gets the URI, as a text, and the file with the PIN. */
static int
hsm_key(const struct child *c, const char *text, int *pin)
{
	char *uri, *pin_file;
	const char *why;
	int fd = -1;

	*pin = -1;
	if (p11uri_split(text, &uri, &pin_file, &why) < 0) {
		log_error("a pkcs11: URI cannot be used: %s", why);
		return -1;
	}
	if (pin_file)
		*pin = open_pin(c, pin_file);
	if (!pin_file || *pin >= 0) {
		fd = memfd_sealed("sallyport-uri", uri, strlen(uri));
		if (fd < 0)
			log_error("no memory for a key's URI: %m");
	}
	mem_free(uri);
	mem_free(pin_file);
	return fd;
}

/* A private key is opened for the keys role and never read here. Its certificate goes along: it says what a renewal may ask for. */
static void
send_key(struct parcel *p, enum keys_number number, const char *path, const char *certificate_pem)
{
	int key = -1, certificate = -1, pin = -1;

	if (!path)
		return;
	if (p11uri_is(path)) {
		key = hsm_key(p->to, path, &pin);
	} else {
		key = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (key < 0)
			log_error("%s: cannot open the private key: %m", path);
	}
	if (certificate_pem) {
		certificate = memfd_sealed("sallyport-certificate", certificate_pem, strlen(certificate_pem));
		if (certificate < 0)
			log_error("no memory for a certificate: %m");
	}
	parcel_add(p, ROLE_FD_PIN, number, number, pin);
	parcel_add(p, ROLE_FD_KEY, number, number, key);
	parcel_add(p, ROLE_FD_KEY_CERT, number, number, certificate);
	parcel_flush(p);
	if (pin >= 0)
		close(pin);
	if (key >= 0)
		close(key);
	if (certificate >= 0)
		close(certificate);
}

void
children_send_keys(struct master *m, struct child *c, const struct config *config)
{
	struct parcel p = { .m = m, .to = c };

	send_key(&p, KEYS_IDENTITY, config->identity.key, config->identity.certificate_pem);
	send_key(&p, KEYS_INSIDE, config->inside.key, config->inside.certificate_pem);
	send_key(&p, KEYS_ENROL, config->enrol.key, config->enrol.certificate_pem);
}

/* What the keys role's helper is given: mem_free(). NULL: there is no HSM. */
static char *
hsm_given(const struct config *c)
{
	struct buf b;

	if (!c->hsm.module || (!p11uri_is(c->identity.key) && !p11uri_is(c->inside.key) && !p11uri_is(c->enrol.key)))
		return NULL;
	buf_init(&b, 0);
	buf_printf(&b, "module %s\n", c->hsm.module);
	for (size_t i = 0; i < c->hsm.npaths; i++)
		buf_printf(&b, "path %s\n", c->hsm.paths[i]);
	for (size_t i = 0; i < c->hsm.nenvironment; i++)
		buf_printf(&b, "env %s\n", c->hsm.environment[i]);
	return buf_steal(&b);
}

static void
send_passphrase(struct parcel *p, const char *path)
{
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;

	if (path && fd < 0)
		log_error("%s: cannot open the passphrase of the CA's key: %m", path);
	parcel_add(p, ROLE_FD_PASSPHRASE, 0, 0, fd);
	parcel_flush(p);
	if (fd >= 0)
		close(fd);
}

static void
set_up(struct master *m, struct child *c)
{
	const struct generation *g = config_of(m, c);
	struct parcel p = { .m = m, .to = c };
	struct dead_ring *d;
	struct child *o;

	parcel_add(&p, ROLE_FD_CONFIG, 0, 0, g->config_fd);
	if (c->role != ROLE_KEYS)
		parcel_add(&p, ROLE_FD_RING_WAKE, 0, 0, m->wake_fd);
	parcel_add(&p, ROLE_FD_RING, channel_arg(c), c->instance, c->ring_fd);
	switch (c->role) {
	case ROLE_WORKER:
		parcel_add(&p, ROLE_FD_POLICY, 0, 0, g->policy_fd >= 0 ? g->policy_fd : m->policy_fd);
		for (size_t i = 0; i < g->config->nlisteners; i++) {
			const int *fds;
			size_t n = listen_fds(m->listen, &g->config->listeners[i], &fds);

			/* Sockets that an earlier config with more workers left are shared out, so that no queue is orphaned. */
			for (size_t k = n == 1 ? 0 : c->index; k < n; k += n == 1 ? 1 : g->nworkers)
				parcel_add(&p, ROLE_FD_LISTENER, (unsigned)i, (uint32_t)i, fds[k]);
		}
		break;
	case ROLE_KEYS:
		children_send_keys(m, c, g->config);
		break;
	case ROLE_JOURNAL:
		parcel_add(&p, ROLE_FD_RING, ROLE_MASTER << 8, 0, m->ring_fd);
		TAILQ_FOREACH(o, &m->children, next)
			if (children_running(o) && o->ring_fd >= 0)
				parcel_add(&p, ROLE_FD_RING, channel_arg(o), o->instance, o->ring_fd);
		TAILQ_FOREACH(d, &m->dead_rings, next)
			parcel_add(&p, ROLE_FD_RING, d->arg, d->instance, d->fd);
		break;
	case ROLE_CA:
		send_passphrase(&p, g->config->ca.passphrase_file);
		break;
	case ROLE_CONTROL:
		parcel_add(&p, ROLE_FD_CONTROL, 0, 0, m->control_fd);
		break;
	default:
		break;
	}
	parcel_flush(&p);
	if (c->role != ROLE_JOURNAL && c->ring_fd >= 0 && children_running(m->journal))
		send_one_fd(m, m->journal, ROLE_FD_RING, channel_arg(c), c->instance, c->ring_fd);
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
	const struct generation *g = config_of(m, c);
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

/* The ca role has its CA's directory and nothing else. Without it, it says so to whoever asks. */
static int
open_store(const struct config *c, uid_t uid)
{
	int fd = open(c->ca.store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		log_error("%s: cannot open the CA's directory: %m", c->ca.store);
	else if (fstat(fd, &st) == 0 && st.st_uid != uid)
		log_error("%s: the CA's directory belongs to uid %u; give it to the ca role with \"chown -R %u %s\"", c->ca.store, (unsigned)st.st_uid,
		    (unsigned)uid, c->ca.store);
	return fd;
}

void
children_start(struct master *m, struct child *c)
{
	struct spawn s = {
		.role = c->role, .index = c->index, .dir_fd = c->role == ROLE_JOURNAL ? m->journal_dir_fd : -1,
	};
	int store = -1;
	const struct generation *g = config_of(m, c);
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
		s.dir_fd = store = open_store(g->config, c->uid);
	if (c->role == ROLE_WORKER || c->role == ROLE_CONTROL || c->role == ROLE_CA) {
		c->ring_fd = ring_create((size_t)g->config->journal.ring_bytes);
		if (c->ring_fd < 0) {
			log_error("no memory for the ring of %s: %m", children_ident(c, ident));
			goto failed;
		}
	}
	if (c->role == ROLE_KEYS)
		s.helper = helper = hsm_given(g->config);
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
	set_up(m, c);
	introduce(m, c);
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
		if (o != c && children_running(o) && has_edge(c, o))
			children_send(m, o, ROLE_MSG_CHANNEL_GONE, (uint16_t)channel_arg(c), &c->instance, sizeof(c->instance),
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
	d->arg = channel_arg(c);
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
