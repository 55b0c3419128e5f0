/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "pki/svid.h"

struct state {
	int dir, severed, crl;
	char **unkept;        /* domains that are severed although that could not be written */
	size_t nunkept, cap;
};

static int
open_dir(int at, const char *path)
{
	int fd;

	if (mkdirat(at, path, 0700) < 0 && errno != EEXIST)
		return -1;
	fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(at == AT_FDCWD ? fd : at);
	return fd;
}

struct state *
state_open(const char *path)
{
	struct state *s = mem_zalloc(sizeof(*s));

	s->severed = s->crl = -1;
	s->dir = open_dir(AT_FDCWD, path);
	if (s->dir >= 0)
		s->severed = open_dir(s->dir, "severed");
	if (s->severed >= 0)
		s->crl = open_dir(s->dir, "crl");
	if (s->crl < 0) {
		int e = errno;

		state_close(s);
		errno = e;
		return NULL;
	}
	return s;
}

void
state_close(struct state *s)
{
	if (!s)
		return;
	if (s->dir >= 0)
		close(s->dir);
	if (s->severed >= 0)
		close(s->severed);
	if (s->crl >= 0)
		close(s->crl);
	for (size_t i = 0; i < s->nunkept; i++)
		mem_free(s->unkept[i]);
	mem_free(s->unkept);
	mem_free(s);
}

static size_t
find_unkept(const struct state *s, const char *domain)
{
	size_t i;

	for (i = 0; i < s->nunkept && strcmp(s->unkept[i], domain) != 0; i++)
		;
	return i;
}

static void
forget_unkept(struct state *s, const char *domain)
{
	size_t i = find_unkept(s, domain);

	if (i == s->nunkept)
		return;
	mem_free(s->unkept[i]);
	s->unkept[i] = s->unkept[--s->nunkept];
}

int
state_severed(const struct state *s, const char *domain)
{
	if (find_unkept(s, domain) < s->nunkept || faccessat(s->severed, domain, F_OK, 0) == 0)
		return 1;
	return errno == ENOENT ? 0 : -1;
}

static int
write_severed(struct state *s, const char *domain)
{
	int fd = openat(s->severed, domain, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -1;
	r = fsync(fd);
	close(fd);
	return r < 0 ? -1 : fsync(s->severed);
}

static int
remove_severed(struct state *s, const char *domain)
{
	/* Asked first: a file system that is read-only refuses to remove what is not there, too. */
	if (faccessat(s->severed, domain, F_OK, 0) < 0)
		return errno == ENOENT ? 0 : -1;
	if (unlinkat(s->severed, domain, 0) < 0 && errno != ENOENT)
		return -1;
	return fsync(s->severed);
}

int
state_set_severed(struct state *s, const char *domain, bool severed)
{
	int r;

	if (!spiffe_domain_valid(domain, strlen(domain))) {
		errno = EINVAL;
		return -1;
	}
	r = severed ? write_severed(s, domain) : remove_severed(s, domain);
	if (r == 0) {
		forget_unkept(s, domain);
	} else if (severed && find_unkept(s, domain) == s->nunkept) {
		int e = errno;

		mem_grow(&s->unkept, &s->cap, s->nunkept + 1, sizeof(*s->unkept));
		s->unkept[s->nunkept++] = mem_strdup(domain);
		errno = e;
	}
	return r;
}

/*
 * All of "from" at this name, or what was there before: written beside it, synced, moved. like: whose owner and mode it gets; NULL: ours alone. 0 or -1 with errno.
 */
static int
copy(int at, const char *name, int from, size_t max, const struct stat *like)
{
	char *part = mem_printf("%s.part", name);
	struct stat st;
	off_t off = 0;
	int fd = -1, r = -1, e;

	if (fstat(from, &st) < 0)
		goto out;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (size_t)st.st_size > max) {
		errno = EFBIG;
		goto out;
	}
	if (unlinkat(at, part, 0) < 0 && errno != ENOENT)
		goto out;
	fd = openat(at, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (fd >= 0 && off < st.st_size) {
		ssize_t n = sendfile(fd, from, &off, (size_t)(st.st_size - off));

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			goto out;
	}
	if (fd >= 0 && (!like || (fchown(fd, like->st_uid, like->st_gid) == 0 && fchmod(fd, like->st_mode & 0777) == 0)) && fsync(fd) == 0)
		r = renameat(at, part, at, name);
out:
	e = errno;
	if (fd >= 0) {
		close(fd);
		if (r < 0)
			unlinkat(at, part, 0);
	}
	mem_free(part);
	errno = e;
	return r;
}

int
state_put_crl(struct state *s, const char *domain, int fd)
{
	if (!spiffe_domain_valid(domain, strlen(domain))) {
		errno = EINVAL;
		return -1;
	}
	return copy(s->crl, domain, fd, SVID_CRL_MAX, NULL) < 0 ? -1 : fsync(s->crl);
}

int
state_crl(const struct state *s, const char *domain)
{
	return openat(s->crl, domain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* ---- files of others ---- */

int
state_put_file(const char *path, int fd, size_t max)
{
	char *new = mem_printf("%s.new", path);
	struct stat st;
	int r = stat(path, &st) == 0 ? copy(AT_FDCWD, new, fd, max, &st) : -1;

	mem_free(new);
	return r;
}

int
state_commit_file(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *new = mem_printf("%s.new", path), *dir = slash ? mem_printf("%.*s", (int)(slash - path + 1), path) : mem_strdup(".");
	int r = rename(new, path), fd = r == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	mem_free(dir);
	mem_free(new);
	return r;
}

void
state_drop_file(const char *path)
{
	char *new = mem_printf("%s.new", path);

	unlink(new);
	mem_free(new);
}
