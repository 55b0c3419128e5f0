/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/config/p11uri.h"
#include "gateway/keys/proto.h"
#include "gateway/main/children.h"
#include "gateway/main/listen.h"
#include "gateway/main/roles.h"
#include "gateway/process/memfd.h"
#include "gateway/process/privs.h"

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

bool
setup_edge(const struct child *x, const struct child *y)
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
setup_new_config(struct master *m, struct child *c, int config_fd)
{
	send_one_fd(m, c, ROLE_FD_CONFIG, 0, 0, config_fd);
}

unsigned
setup_channel(const struct child *c)
{
	return (unsigned)c->role << 8 | (c->index & 0xff);
}

/* A new process gets a channel to everybody that it may talk to, and they to it. */
void
setup_introduce(struct master *m, struct child *c)
{
	struct child *o;
	int sv[2];

	TAILQ_FOREACH(o, &m->children, next) {
		if (o == c || !children_running(o) || o->state == CHILD_STOPPING || !setup_edge(c, o))
			continue;
		if (ipc_pair(sv) < 0) {
			log_error("no channel between %s and %s: %m", role_name(c->role), role_name(o->role));
			continue;
		}
		send_one_fd(m, c, ROLE_FD_CHANNEL, setup_channel(o), o->instance, sv[0]);
		send_one_fd(m, o, ROLE_FD_CHANNEL, setup_channel(c), c->instance, sv[1]);
		close(sv[0]);
		close(sv[1]);
	}
}

const struct generation *
setup_generation(const struct master *m, const struct child *c)
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

void
setup_send_new_key(struct master *m, struct child *c, unsigned number)
{
	if (m->new_key[number] >= 0)
		send_one_fd(m, c, ROLE_FD_NEW_KEY, number, number, m->new_key[number]);
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
setup_send_keys(struct master *m, struct child *c, const struct config *config)
{
	struct parcel p = { .m = m, .to = c };

	send_key(&p, KEYS_IDENTITY, config->identity.key, config->identity.certificate_pem);
	send_key(&p, KEYS_INSIDE, config->inside.key, config->inside.certificate_pem);
	send_key(&p, KEYS_ENROL, config->enrol.key, config->enrol.certificate_pem);
	for (unsigned i = 0; i < MASTER_KEYS; i++)
		setup_send_new_key(m, c, i);
}

char *
setup_hsm(const struct config *c)
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

void
setup_send_passphrase(struct master *m, struct child *c, const struct config *config)
{
	struct parcel p = { .m = m, .to = c };

	send_passphrase(&p, config->ca.passphrase_file);
}

void
setup_child(struct master *m, struct child *c)
{
	const struct generation *g = setup_generation(m, c);
	struct parcel p = { .m = m, .to = c };
	struct dead_ring *d;
	struct child *o;

	parcel_add(&p, ROLE_FD_CONFIG, 0, 0, g->config_fd);
	if (c->role != ROLE_KEYS)
		parcel_add(&p, ROLE_FD_RING_WAKE, 0, 0, m->wake_fd);
	parcel_add(&p, ROLE_FD_RING, setup_channel(c), c->instance, c->ring_fd);
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
		setup_send_keys(m, c, g->config);
		break;
	case ROLE_JOURNAL:
		parcel_add(&p, ROLE_FD_RING, ROLE_MASTER << 8, 0, m->ring_fd);
		TAILQ_FOREACH(o, &m->children, next)
			if (children_running(o) && o->ring_fd >= 0)
				parcel_add(&p, ROLE_FD_RING, setup_channel(o), o->instance, o->ring_fd);
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
		send_one_fd(m, m->journal, ROLE_FD_RING, setup_channel(c), c->instance, c->ring_fd);
}

/* The ca role has its CA's directory and nothing else. Without it, it says so to whoever asks. */
int
setup_open_store(const struct config *c)
{
	int fd = open(c->ca.store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		log_error("%s: cannot open the CA's directory: %m", c->ca.store);
	return fd;
}

/* What the role has to write: itself, or in it. */
static const char *
not_owned(const char *store, uid_t uid, struct stat *st, char path[PATH_MAX])
{
	static const char *const parts[] = { "", "/lock", "/ca", "/ca/index", "/ca/issuing.key", "/enrol" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(path, PATH_MAX, "%s%s", store, parts[i]);
		if (stat(path, st) == 0 && st->st_uid != uid)
			return path;
	}
	return NULL;
}

void
setup_check_store(const struct config *c, struct errs *errs)
{
	char path[PATH_MAX], why[512];
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (!c->ca.store)
		return;
	if (geteuid() == 0 && privs_lookup(c->user_prefix, ROLE_CA, &uid, &gid, why, sizeof(why)) == 0 && not_owned(c->ca.store, uid, &st, path))
		errs_warn(errs, c->file, 0, "\"%s\" belongs to uid %u, and the ca role (uid %u) can issue nothing; give it all:  chown -R %u %s", path,
		    (unsigned)st.st_uid, (unsigned)uid, (unsigned)uid, c->ca.store);
	if (c->ca.passphrase_file && stat(c->ca.passphrase_file, &st) == 0 && st.st_mode & (S_IRWXG | S_IRWXO))
		errs_warn(errs, c->file, 0, "\"%s\": others may read this passphrase; \"chmod 600\" it", c->ca.passphrase_file);
	snprintf(path, sizeof(path), "%s/ca/root.key", c->ca.store);
	if (access(path, F_OK) == 0)
		errs_warn(errs, c->file, 0, "\"%s\": the root's key is where the ca role is, which needs it for nothing; move it to a safe place", path);
}
