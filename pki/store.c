/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/store.h"

#include <ctype.h>
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

#define INDEX_LINE_MAX 4096

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
	if (s->lock >= 0)
		close(s->lock);
	s->lock = -1;
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

int
store_lock(struct store *s, unsigned wait_ms, struct errs *errs)
{
	uint64_t deadline = clock_mono_ms() + wait_ms;
	char *path = store_path(s, "lock");
	int fd, rc = -1;

	if (s->dir[0] == 0 || make_dirs(s->dir) != 0) {
		errs_add(errs, s->dir, 0, "cannot make the directory: %s", s->dir[0] ? strerror(errno) : "it has no name");
		goto out;
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		errs_add(errs, path, 0, "%s; run gwctl as the user who owns %s", strerror(errno), s->dir);
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
	s->lock = fd;
	rc = 0;
out:
	mem_free(path);
	return rc;
}

/* -- the index ------------------------------------------------------------------------------- */

static void
format_time(char out[32], int64_t t)
{
	time_t v = (time_t)t;
	struct tm tm;

	gmtime_r(&v, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int
parse_time(int64_t *out, const char *s)
{
	struct tm tm = { 0 };
	const char *end = strptime(s, "%Y-%m-%dT%H:%M:%SZ", &tm);

	if (end == NULL || *end != 0)
		return -1;
	*out = (int64_t)timegm(&tm);
	return 0;
}

/* Cut the file behind its last newline. */
static int
drop_torn_line(int fd)
{
	off_t end = lseek(fd, 0, SEEK_END), start, keep = 0;
	char tail[INDEX_LINE_MAX];
	ssize_t n;

	if (end <= 0)
		return end < 0 ? -1 : 0;
	start = end > (off_t)sizeof(tail) ? end - (off_t)sizeof(tail) : 0;
	n = pread(fd, tail, (size_t)(end - start), start);
	if (n != end - start)
		return -1;
	if (tail[n - 1] == '\n')
		return 0;
	for (ssize_t i = n; i > 0 && keep == 0; i--)
		if (tail[i - 1] == '\n')
			keep = start + i;
	/* No newline in so long a tail: not one of our lines, so not ours to cut. */
	if (keep == 0 && start > 0) {
		errno = EINVAL;
		return -1;
	}
	return ftruncate(fd, keep);
}

int
store_append(const char *ca_dir, const struct store_entry *e, struct errs *errs)
{
	char *path = mem_printf("%s/index", ca_dir), from[32], until[32], *line = NULL;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), rc = -1;
	size_t n;

	format_time(from, e->not_before);
	format_time(until, e->not_after);
	line = mem_printf("%s\t%s\t%s\t%s\tissued\t%s\n", e->serial, e->kind, from, until, e->id);
	n = strlen(line);
	/* One write: a reader never sees a line without its end unless we died in between. */
	if (fd < 0 || drop_torn_line(fd) != 0 || lseek(fd, 0, SEEK_END) < 0 || n > INDEX_LINE_MAX || write(fd, line, n) != (ssize_t)n ||
	    fsync(fd) != 0)
		errs_add(errs, path, 0, "cannot record what was issued, so nothing is issued: %s", strerror(errno));
	else
		rc = 0;
	if (fd >= 0)
		close(fd);
	mem_free(line);
	mem_free(path);
	return rc;
}

/* Six fields between tabs. */
static const char *
parse_line(char *line, struct store_entry *e)
{
	char *field[6], *save = line;
	size_t n = 0;

	while (n < 6 && (field[n] = strsep(&save, "\t")) != NULL)
		n++;
	if (n != 6 || save != NULL)
		return "not six fields";
	for (const char *c = field[0]; *c; c++)
		if (!isxdigit((unsigned char)*c))
			return "a serial number that is not hexadecimal";
	if (field[0][0] == 0)
		return "no serial number";
	if (parse_time(&e->not_before, field[2]) != 0 || parse_time(&e->not_after, field[3]) != 0)
		return "a date that is none";
	if (strcmp(field[4], "issued") != 0)
		return "an unknown state";
	e->serial = field[0];
	e->kind = field[1];
	e->id = field[5];
	return NULL;
}

int
store_each(const struct store *s, store_fn *on_entry, void *ctx, struct errs *errs)
{
	char *path = store_ca_path(s, "index"), *line = NULL;
	FILE *f = fopen(path, "re");
	unsigned number = 0;
	size_t cap = 0;
	ssize_t n;

	if (f == NULL) {
		errs_add(errs, path, 0, "%s; is there a CA in %s? \"gwctl pki init\" makes one", strerror(errno), s->dir);
		mem_free(path);
		return -1;
	}
	while ((n = getline(&line, &cap, f)) > 0) {
		struct store_entry e = { 0 };
		const char *fault;

		number++;
		if (line[n - 1] != '\n')
			break; /* being written at this moment, or cut short by a crash: nothing was issued */
		line[n - 1] = 0;
		fault = (size_t)n != strlen(line) + 1 ? "a NUL" : parse_line(line, &e);
		if (fault)
			errs_add(errs, path, number, "%s", fault);
		else
			on_entry(ctx, &e);
	}
	free(line);
	fclose(f);
	mem_free(path);
	return 0;
}
