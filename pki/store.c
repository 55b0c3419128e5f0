/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "pki/pkifile.h"

#define STATE_MAX 4096
#define NUMBER_MAX 999999

void
store_init(struct store *s, const char *dir)
{
	s->dir = mem_strdup(dir);
	s->ca = mem_printf("%s/ca", dir);
	s->lock = -1;
}

void
store_fini(struct store *s)
{
	store_unlock(s);
	mem_free(s->dir);
	mem_free(s->ca);
	s->dir = s->ca = NULL;
}

char *
store_path(const struct store *s, const char *name)
{
	return mem_printf("%s/%s", s->dir, name);
}

char *
store_ca_path(const struct store *s, const char *name)
{
	return mem_printf("%s/%s", s->ca, name);
}

char *
store_gen_path(const struct store *s, unsigned n, const char *name)
{
	return n == 1 ? store_ca_path(s, name) : mem_printf("%s/%u/%s", s->ca, n, name);
}

/* -- the lock -------------------------------------------------------------------------------- */

static int
make_dirs(const char *dir)
{
	char *p = mem_strdup(dir);
	int rc = 0;

	for (char *slash = p + 1; rc == 0; slash++) {
		char c = *slash;

		if (c != '/' && c != 0)
			continue;
		*slash = 0;
		if (mkdir(p, 0755) != 0 && errno != EEXIST)
			rc = -1;
		*slash = c;
		if (c == 0)
			break;
	}
	mem_free(p);
	return rc;
}

static bool
ends_with(const char *s, size_t n, const char *end)
{
	size_t len = strlen(end);

	return n >= len && memcmp(s + n - len, end, len) == 0;
}

/* Of what is written under the lock: certificates and keys are put into DIR by others, too. */
static bool
is_of_store(const char *name, size_t n)
{
	return (n == 2 && memcmp(name, "ca", 2) == 0) || ends_with(name, n, ".pem") || ends_with(name, n, ".crl") ||
	    (n == 11 && memcmp(name, "pairing.key", 11) == 0);
}

/* What a crash left half made: nobody else makes files like these while we have the lock. all: whatever was to become of it. */
static void
sweep(const char *dir, bool all)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);
		char *path;

		if (n < 22 || strcmp(e->d_name + n - 4, ".tmp") != 0 || e->d_name[n - 21] != '.' || !(all || is_of_store(e->d_name, n - 21)))
			continue;
		path = mem_printf("%s/%s", dir, e->d_name);
		if (unlink(path) != 0 && errno == EISDIR)
			store_remove_dir(path);
		mem_free(path);
	}
	if (d)
		closedir(d);
}

int
store_lock(struct store *s, unsigned wait_ms, struct errs *errs)
{
	uint64_t deadline = clock_mono_ms() + wait_ms;
	char *path = store_path(s, "lock");
	struct stat st;
	int fd, rc = -1;

	if (s->dir[0] == 0 || make_dirs(s->dir) != 0) {
		errs_add(errs, s->dir, 0, "cannot make the directory: %s", s->dir[0] ? strerror(errno) : "it has no name");
		goto out;
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		if (errno == EACCES || errno == EPERM)
			errs_add(errs, path, 0, "%s; run gwctl as root or as the user who owns %s", strerror(errno), s->dir);
		else
			errs_add(errs, path, 0, "%s", strerror(errno));
		goto out;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		struct timespec pause = { 0, 20 * 1000000 };

		if (errno != EWOULDBLOCK && errno != EINTR) {
			errs_add(errs, path, 0, "cannot lock: %s", strerror(errno));
			close(fd);
			goto out;
		}
		if (clock_mono_ms() >= deadline) {
			errs_add(errs, path, 0, "another gwctl has been working here for %u s; try again when it is done", wait_ms / 1000);
			close(fd);
			goto out;
		}
		nanosleep(&pause, NULL);
	}
	/* Root in somebody's directory: what it makes is theirs. A "ca" that leads elsewhere would make root write there. */
	if (stat(s->dir, &st) != 0 || (s->owner.uid = st.st_uid, s->owner.gid = st.st_gid, geteuid() == 0 && fchown(fd, st.st_uid, st.st_gid) != 0)) {
		errs_add(errs, s->dir, 0, "%s", strerror(errno));
		close(fd);
	} else if (lstat(s->ca, &st) == 0 && !S_ISDIR(st.st_mode)) {
		errs_add(errs, s->ca, 0, "not a directory; a CA is not kept behind a link");
		close(fd);
	} else {
		s->lock = fd;
		sweep(s->dir, false);
		sweep(s->ca, true);
		rc = 0;
	}
out:
	mem_free(path);
	return rc;
}

void
store_unlock(struct store *s)
{
	if (s->lock >= 0)
		close(s->lock);
	s->lock = -1;
}

/* -- files ------------------------------------------------------------------------------------- */

int
store_write_new(const struct store *s, const char *path, mode_t mode, const char *text, struct errs *errs)
{
	if (pkifile_write_new_as(path, mode, text, strlen(text), &s->owner) == 0)
		return 0;
	errs_add(errs, path, 0, "cannot write: %s", strerror(errno));
	return -1;
}

int
store_replace(const struct store *s, const char *path, mode_t mode, const char *text, struct errs *errs)
{
	if (pkifile_replace_as(path, mode, text, strlen(text), &s->owner) == 0)
		return 0;
	errs_add(errs, path, 0, "cannot write: %s", strerror(errno));
	return -1;
}

int
store_make_dir(const struct store *s, const char *path, struct errs *errs)
{
	if (mkdir(path, 0700) == 0 && (geteuid() != 0 || lchown(path, s->owner.uid, s->owner.gid) == 0))
		return 0;
	errs_add(errs, path, 0, "cannot make the directory: %s", strerror(errno));
	return -1;
}

void
store_remove_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(path);
}

/* -- state -------------------------------------------------------------------------------------- */

static int
parse_state(struct store_state *out, char *text)
{
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(line, ' '), *end;
		unsigned long n;
		unsigned *to;

		if (line[0] == '#')
			continue;
		if (space == NULL || space[1] < '0' || space[1] > '9')
			return -1;
		*space = 0;
		n = strtoul(space + 1, &end, 10);
		to = !strcmp(line, "current") ? &out->current : !strcmp(line, "next") ? &out->next : !strcmp(line, "old") ? &out->old :
		    !strcmp(line, "sequence") ? &out->sequence : NULL;
		if (to == NULL || *to || *end || n == 0 || n > NUMBER_MAX)
			return -1;
		*to = (unsigned)n;
	}
	return out->current && out->sequence && !(out->next && out->old) && out->current != out->next && out->current != out->old ? 0 : -1;
}

int
store_state_read(const struct store *s, struct store_state *out, struct errs *errs)
{
	char *path = store_ca_path(s, "state"), *text = pkifile_read(path, STATE_MAX);
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (text == NULL && errno == ENOENT) {
		*out = (struct store_state){ .current = 1, .sequence = 1 };
	} else if (text == NULL) {
		errs_add(errs, path, 0, "%s", strerror(errno));
		rc = -1;
	} else if (parse_state(out, text) != 0) {
		errs_add(errs, path, 0, "damaged: it does not say which CA issues; restore it from a backup");
		rc = -1;
	}
	mem_free(text);
	mem_free(path);
	return rc;
}

int
store_state_write(const struct store *s, const struct store_state *st, struct errs *errs)
{
	char *path = store_ca_path(s, "state"), other[64] = "", *text;
	int rc;

	if (st->next)
		snprintf(other, sizeof(other), "next %u\n", st->next);
	else if (st->old)
		snprintf(other, sizeof(other), "old %u\n", st->old);
	text = mem_printf("# Which CA issues; written by \"gwctl pki rotate-ca\".\ncurrent %u\n%ssequence %u\n", st->current, other, st->sequence);
	rc = store_replace(s, path, 0600, text, errs);
	mem_free(text);
	mem_free(path);
	return rc;
}
