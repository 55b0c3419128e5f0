/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/pkifile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"

static char *
read_all(int fd, size_t max)
{
	size_t cap = 4096, len = 0;
	char *p = mem_alloc(cap + 1);
	int err = 0;

	for (;;) {
		ssize_t n = read(fd, p + len, cap - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err = n < 0 ? errno : 0;
			break;
		}
		len += (size_t)n;
		if (len > max) {
			err = EFBIG;
			break;
		}
		if (len == cap) {
			/* Not realloc: a secret must not stay behind in a freed block. */
			char *bigger = mem_alloc(2 * cap + 1);

			memcpy(bigger, p, len);
			mem_wipe(p, len);
			mem_free(p);
			p = bigger;
			cap *= 2;
		}
	}
	if (err == 0 && memchr(p, 0, len))
		err = EINVAL;
	if (err) {
		mem_wipe(p, len);
		mem_free(p);
		errno = err;
		return NULL;
	}
	p[len] = 0;
	return p;
}

static char *
read_file(const char *path, size_t max, bool secret)
{
	/* Not blocked by a FIFO that somebody put there. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text = NULL;
	struct stat st;
	int err = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) != 0)
		err = errno;
	else if (S_ISDIR(st.st_mode))
		err = EISDIR;
	else if (secret && (!S_ISREG(st.st_mode) || (st.st_mode & 077)))
		err = EPERM;
	else if ((text = read_all(fd, max)) == NULL)
		err = errno;
	close(fd);
	if (err)
		errno = err;
	return text;
}

char *
pkifile_read(const char *path, size_t max)
{
	return read_file(path, max, false);
}

char *
pkifile_read_secret(const char *path, size_t max)
{
	return read_file(path, max, true);
}

char *
pkifile_dirname(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return mem_strdup(".");
	return mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

int
pkifile_sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc, err;

	if (fd < 0)
		return -1;
	rc = fsync(fd);
	err = errno;
	close(fd);
	errno = err;
	/* Some file systems cannot sync a directory and need not. */
	return rc != 0 && err == EINVAL ? 0 : rc;
}

int
pkifile_write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -1;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

/* A name that nobody else uses, in the same directory. */
static char *
temporary(const char *path)
{
	uint8_t random[8];
	char hex[17] = "";

	hash_random(random, sizeof(random));
	esc_hex(hex, random, sizeof(random));
	return mem_printf("%s.%s.tmp", path, hex);
}

static int
move_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without it: a second link fails as well where the name is taken. */
	if (link(from, to) != 0)
		return -1;
	return unlink(from);
}

/* A synced file under a temporary name (mem_free()), or NULL with errno. Born with no more rights than it ends with, whatever the umask says. */
static char *
write_temporary(const char *path, mode_t mode, const void *p, size_t n, const struct pkifile_owner *owner)
{
	char *tmp = temporary(path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode & 0600), err = 0;

	if (fd < 0) {
		err = errno;
	} else {
		if (pkifile_write_all(fd, p, n) != 0 || (owner && geteuid() == 0 && fchown(fd, owner->uid, owner->gid) != 0) ||
		    fchmod(fd, mode) != 0 || fsync(fd) != 0)
			err = errno;
		if (close(fd) != 0 && err == 0)
			err = errno;
		if (err)
			unlink(tmp);
	}
	if (err == 0)
		return tmp;
	mem_free(tmp);
	errno = err;
	return NULL;
}

static int
write_file(const char *path, mode_t mode, const void *p, size_t n, const struct pkifile_owner *owner, int (*move)(const char *, const char *))
{
	char *tmp = write_temporary(path, mode, p, n, owner), *dir;
	int err = 0;

	if (tmp == NULL)
		return -1;
	dir = pkifile_dirname(path);
	if (move(tmp, path) != 0) {
		err = errno;
		unlink(tmp);
	} else if (pkifile_sync_dir(dir) != 0) {
		err = errno;
	}
	mem_free(tmp);
	mem_free(dir);
	if (err == 0)
		return 0;
	errno = err;
	return -1;
}

int
pkifile_write_new(const char *path, mode_t mode, const void *p, size_t n)
{
	return write_file(path, mode, p, n, NULL, move_new);
}

int
pkifile_replace(const char *path, mode_t mode, const void *p, size_t n)
{
	return write_file(path, mode, p, n, NULL, rename);
}

int
pkifile_write_new_as(const char *path, mode_t mode, const void *p, size_t n, const struct pkifile_owner *owner)
{
	return write_file(path, mode, p, n, owner, move_new);
}

int
pkifile_replace_as(const char *path, mode_t mode, const void *p, size_t n, const struct pkifile_owner *owner)
{
	return write_file(path, mode, p, n, owner, rename);
}

static char *
write_like_before(const char *path, mode_t mode, const char *text)
{
	struct pkifile_owner owner;
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? write_temporary(path, mode, text, strlen(text), NULL) : NULL;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL; /* a link stands for a choice that we do not know */
		return NULL;
	}
	owner = (struct pkifile_owner){ .uid = st.st_uid, .gid = st.st_gid };
	return write_temporary(path, st.st_mode & 0777, text, strlen(text), &owner);
}

int
pkifile_replace_pair(const char *first, mode_t first_mode, const char *first_text, const char *second, mode_t second_mode, const char *second_text)
{
	char *a = write_like_before(first, first_mode, first_text), *b = a && second ? write_like_before(second, second_mode, second_text) : NULL;
	char *dir = pkifile_dirname(first), *dir2 = second ? pkifile_dirname(second) : NULL;
	int err = a && (b || second == NULL) ? 0 : errno;

	if (err == 0 && (rename(a, first) != 0 || (b && rename(b, second) != 0) || pkifile_sync_dir(dir) != 0 || (b && pkifile_sync_dir(dir2) != 0)))
		err = errno;
	if (err && a)
		unlink(a);
	if (err && b)
		unlink(b);
	mem_free(a);
	mem_free(b);
	mem_free(dir);
	mem_free(dir2);
	if (err == 0)
		return 0;
	errno = err;
	return -1;
}
