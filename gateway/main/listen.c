/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/listen.h"

#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/addr.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/base/queue.h"

#define BACKLOG 4096

struct bound {
	TAILQ_ENTRY(bound) next;
	char *key;          /* "tcp 192.0.2.10:443", "tcp any 443", or a path */
	bool is_path;
	int *fds;           /* owned */
	size_t n, cap;
	size_t kept;        /* those before the prepare under way */
	dev_t dev;          /* a path's, to know whether it is still ours */
	ino_t ino;
};

struct listen_store {
	TAILQ_HEAD(, bound) bounds;
};

struct listen_store *
listen_new(void)
{
	struct listen_store *s = mem_zalloc(sizeof(*s));

	TAILQ_INIT(&s->bounds);
	return s;
}

static void
cut(struct listen_store *s, struct bound *b, size_t keep)
{
	struct stat st;

	while (b->n > keep)
		close(b->fds[--b->n]);
	if (keep > 0)
		return;
	if (b->is_path && lstat(b->key, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino)
		unlink(b->key);
	TAILQ_REMOVE(&s->bounds, b, next);
	mem_free(b->key);
	mem_free(b->fds);
	mem_free(b);
}

void
listen_free(struct listen_store *s)
{
	struct bound *b, *next;

	if (!s)
		return;
	TAILQ_FOREACH_SAFE(b, &s->bounds, next, next)
		cut(s, b, 0);
	mem_free(s);
}

/* "*" is every address of both families; "[::]" and "0.0.0.0" are of one. */
static bool
is_any(const struct config_listener *l)
{
	return l->address && l->address[0] == '*';
}

static char *
key_of(const struct config_listener *l)
{
	char text[ADDR_TEXT_MAX];

	if (l->path)
		return mem_strdup(l->path);
	if (is_any(l))
		return mem_printf("tcp any %u", addr_port(&l->addr));
	addr_format(&l->addr, text);
	return mem_printf("tcp %s", text);
}

static struct bound *
find(const struct listen_store *s, const char *key)
{
	struct bound *b;

	TAILQ_FOREACH(b, &s->bounds, next)
		if (!strcmp(b->key, key))
			return b;
	return NULL;
}

size_t
listen_fds(const struct listen_store *s, const struct config_listener *l, const int **fds)
{
	char *key = key_of(l);
	struct bound *b = find(s, key);

	mem_free(key);
	*fds = b ? b->fds : NULL;
	return b ? b->n : 0;
}

/* ---- TCP ---- */

static int
bind_tcp(const struct addr *a, bool any, bool share, bool listening)
{
	const int on = 1, v6only = any ? 0 : 1;
	int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), saved;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		goto fail;
	if (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		goto fail;
	if (a->ss.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0)
		goto fail;
	/* Accepted sockets inherit it: one system call less for each. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&a->ss, a->len) < 0 || (listening && listen(fd, BACKLOG) < 0))
		goto fail;
	return fd;
fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static void
tcp_fault(const struct config_listener *l, const struct config *c, struct errs *errs)
{
	unsigned port = addr_port(&l->addr);

	switch (errno) {
	case EADDRINUSE:
		errs_add(errs, c->file, l->line, "listener \"%s\": %s is in use by another program; find it with \"ss -ltnp sport = :%u\" "
		    "and stop it, or choose another address", l->name, l->address, port);
		break;
	case EACCES:
		errs_add(errs, c->file, l->line, "listener \"%s\": port %u needs root (or CAP_NET_BIND_SERVICE, or a lower "
		    "net.ipv4.ip_unprivileged_port_start); start as root, or choose a port above 1023", l->name, port);
		break;
	case EADDRNOTAVAIL:
		errs_add(errs, c->file, l->line, "listener \"%s\": this host has no address %s; see \"ip address\", or choose another",
		    l->name, l->address);
		break;
	default:
		errs_add(errs, c->file, l->line, "listener \"%s\": cannot listen on %s: %s", l->name, l->address, strerror(errno));
	}
}

static void
push(struct bound *b, int fd)
{
	mem_grow(&b->fds, &b->cap, b->n + 1, sizeof(*b->fds));
	b->fds[b->n++] = fd;
}

static int
prepare_tcp(struct bound *b, const struct config_listener *l, unsigned workers, const struct config *c, struct errs *errs)
{
	struct addr a = l->addr;
	int fd;

	if (b->n == 0) {
		/*
		 * SO_REUSEPORT would let us join another sallyportd of the same user without a word, and share
		 * its callers. So the first bind asks alone.
		 */
		fd = bind_tcp(&a, is_any(l), false, false);
		if (fd < 0 && errno == EAFNOSUPPORT && is_any(l)) { /* no IPv6 here: all of IPv4 then */
			struct sockaddr_in *in = (struct sockaddr_in *)&a.ss;
			in_port_t port = ((const struct sockaddr_in6 *)&l->addr.ss)->sin6_port;

			memset(&a.ss, 0, sizeof(a.ss));
			in->sin_family = AF_INET;
			in->sin_port = port;
			a.len = sizeof(*in);
			fd = bind_tcp(&a, false, false, false);
		}
		if (fd < 0) {
			tcp_fault(l, c, errs);
			return -1;
		}
		close(fd);
	} else {
		socklen_t len = sizeof(a.ss);

		if (getsockname(b->fds[0], (struct sockaddr *)&a.ss, &len) == 0)
			a.len = len;
	}
	while (b->n < workers) {
		fd = bind_tcp(&a, is_any(l) && a.ss.ss_family == AF_INET6, true, true);
		if (fd < 0) {
			tcp_fault(l, c, errs);
			return -1;
		}
		push(b, fd);
	}
	return 0;
}

/* ---- Unix ---- */

static int
lookup_group(const char *name, gid_t *gid)
{
	char *end;
	unsigned long n = strtoul(name, &end, 10);
	struct group *g;

	if (*name && !*end && n < UINT32_MAX) {
		*gid = (gid_t)n;
		return 0;
	}
	g = getgrnam(name);
	if (!g)
		return -1;
	*gid = g->gr_gid;
	return 0;
}

/* True when nobody answers at this path, or nothing is there. A file that is no socket is never replaced. */
static bool
is_stale(const char *path, const struct sockaddr_un *un, const char **why)
{
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT;
	if (!S_ISSOCK(st.st_mode)) {
		*why = "something that is no socket is in its place; move it away";
		return false;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	r = connect(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 ? errno : 0;
	close(fd);
	if (r == ECONNREFUSED)
		return true;
	*why = "another process listens there; stop it, or choose another path";
	return false;
}

static int
apply_mode(const char *path, unsigned mode, const char *group, const char **why)
{
	gid_t gid;

	if (group && lookup_group(group, &gid) < 0) {
		*why = "its group does not exist; create it with groupadd";
		return -1;
	}
	if (group && lchown(path, (uid_t)-1, gid) < 0) {
		*why = "its group cannot be set; be root or a member of it";
		return -1;
	}
	if (chmod(path, mode & 0777) < 0) {
		*why = "its mode cannot be set";
		return -1;
	}
	return 0;
}

int
listen_unix(const char *path, unsigned mode, const char *group, const char *what, const char *file, unsigned line,
    struct errs *errs)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX }, temp = { .sun_family = AF_UNIX };
	const char *why = NULL;
	mode_t old;
	int fd, r;

	if (strlen(path) + 2 > sizeof(at.sun_path)) {
		errs_add(errs, file, line, "%s: the path %s is too long for a Unix socket; use at most %zu bytes", what, path,
		    sizeof(at.sun_path) - 2);
		return -1;
	}
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	snprintf(temp.sun_path, sizeof(temp.sun_path), "%s~", path);
	if (!is_stale(path, &at, &why)) {
		errs_add(errs, file, line, "%s: cannot listen on %s: %s", what, path, why ? why : strerror(errno));
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		errs_add(errs, file, line, "%s: no socket: %s", what, strerror(errno));
		return -1;
	}
	/* Bound beside its place, closed to everybody, then moved there complete. */
	unlink(temp.sun_path);
	old = umask(0177);
	r = bind(fd, (const struct sockaddr *)&temp, sizeof(temp));
	umask(old);
	if (r < 0) {
		switch (errno) {
		case ENOENT: why = "its directory does not exist; create it"; break;
		case EACCES: why = "its directory is not ours to write; start as root, or choose another path"; break;
		default: why = strerror(errno);
		}
	} else if (apply_mode(temp.sun_path, mode, group, &why) == 0) {
		if (listen(fd, BACKLOG) == 0 && rename(temp.sun_path, path) == 0)
			return fd;
		why = strerror(errno);
	}
	errs_add(errs, file, line, "%s: cannot listen on %s: %s", what, path, why);
	if (r == 0)
		unlink(temp.sun_path);
	close(fd);
	return -1;
}

static int
prepare_path(struct bound *b, const struct config_listener *l, const struct config *c, struct errs *errs)
{
	char what[160];
	struct stat st;
	int fd;

	if (b->n > 0)
		return 0;
	snprintf(what, sizeof(what), "listener \"%s\"", l->name);
	fd = listen_unix(l->path, l->mode, l->group, what, c->file, l->line, errs);
	if (fd < 0)
		return -1;
	push(b, fd);
	if (lstat(l->path, &st) == 0) {
		b->dev = st.st_dev;
		b->ino = st.st_ino;
	}
	return 0;
}

/* ---- the store ---- */

int
listen_prepare(struct listen_store *s, const struct config *c, unsigned workers, struct errs *errs)
{
	struct bound *b;
	int result = 0;

	TAILQ_FOREACH(b, &s->bounds, next)
		b->kept = b->n;
	for (size_t i = 0; i < c->nlisteners; i++) {
		const struct config_listener *l = &c->listeners[i];
		char *key = key_of(l);

		b = find(s, key);
		if (!b) {
			b = mem_zalloc(sizeof(*b));
			b->key = mem_strdup(key);
			b->is_path = l->path != NULL;
			TAILQ_INSERT_TAIL(&s->bounds, b, next);
		}
		mem_free(key);
		if ((l->path ? prepare_path(b, l, c, errs) : prepare_tcp(b, l, workers, c, errs)) < 0)
			result = -1;
	}
	if (result < 0)
		listen_abort(s);
	return result;
}

void
listen_abort(struct listen_store *s)
{
	struct bound *b, *next;

	if (!s)
		return;
	TAILQ_FOREACH_SAFE(b, &s->bounds, next, next)
		cut(s, b, b->kept);
}

void
listen_commit(struct listen_store *s, const struct config *c)
{
	struct bound *b, *next;

	TAILQ_FOREACH_SAFE(b, &s->bounds, next, next) {
		const struct config_listener *used = NULL;
		const char *why = NULL;

		for (size_t i = 0; i < c->nlisteners && !used; i++) {
			char *key = key_of(&c->listeners[i]);

			if (!strcmp(key, b->key))
				used = &c->listeners[i];
			mem_free(key);
		}
		if (!used)
			cut(s, b, 0);
		else if (b->is_path && b->kept > 0 && apply_mode(b->key, used->mode, used->group, &why) < 0)
			log_warn("%s: %s", b->key, why);
		if (used)
			b->kept = b->n;
	}
}
