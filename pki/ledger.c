/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was read stays where it was read to, in chunks that never move; lines are cut into fields in place. Entries are an array, beside it a
 * hash table of their numbers by serial. Serials are ours and random: a piece of one is its hash.
 */
#include "pki/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/mem.h"

#define LINE_MAX_OCTETS 32768
#define INDEX_MAX (INT64_C(1) << 31)
#define FIELDS 10

struct chunk {
	struct chunk *next;
	char text[];
};

struct ledger {
	char *path;
	struct chunk *chunks;
	struct ledger_entry *entries;
	size_t n, cap;
	uint32_t *slots;         /* entry number + 1; 0: free */
	size_t nslots;           /* a power of two, at least twice n */
	uint64_t crl_number;
	unsigned lines;
	off_t read;              /* octets, whole lines */
	dev_t dev;
	ino_t ino;
};

/* -- the table ------------------------------------------------------------------------------------ */

static size_t
slot_of(const struct ledger *l, const char *serial)
{
	uint64_t a, b;

	memcpy(&a, serial + 8, 8);
	memcpy(&b, serial + 24, 8);
	return (size_t)(((a * UINT64_C(0x9e3779b97f4a7c15)) ^ (b * UINT64_C(0xc2b2ae3d27d4eb4f))) >> 32) & (l->nslots - 1);
}

static uint32_t *
slot_for(const struct ledger *l, const char *serial)
{
	size_t i = slot_of(l, serial);

	while (l->slots[i] && memcmp(l->entries[l->slots[i] - 1].serial, serial, LEDGER_SERIAL_LEN) != 0)
		i = (i + 1) & (l->nslots - 1);
	return &l->slots[i];
}

static void
make_room(struct ledger *l, size_t entries)
{
	size_t want = l->nslots ? l->nslots : 256;

	while (want < 2 * entries)
		want *= 2;
	if (want == l->nslots)
		return;
	mem_free(l->slots);
	l->nslots = want;
	l->slots = mem_array(want, sizeof(*l->slots));
	for (size_t i = 0; i < l->n; i++)
		*slot_for(l, l->entries[i].serial) = (uint32_t)i + 1;
}

/* -- a line --------------------------------------------------------------------------------------- */

static int
number_of(const char *p, size_t digits)
{
	int v = 0;

	for (size_t i = 0; i < digits; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		v = 10 * v + (p[i] - '0');
	}
	return v;
}

/* "2026-11-20T09:00:00Z"; the C library's parser is ten times as slow. */
static int
parse_time(int64_t *out, const char *s)
{
	int y, m, d, h, mi, sec;
	int64_t era, doe;

	if (strlen(s) != 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z')
		return -1;
	y = number_of(s, 4);
	m = number_of(s + 5, 2);
	d = number_of(s + 8, 2);
	h = number_of(s + 11, 2);
	mi = number_of(s + 14, 2);
	sec = number_of(s + 17, 2);
	if (y < 1 || m < 1 || m > 12 || d < 1 || d > 31 || h < 0 || h > 23 || mi < 0 || mi > 59 || sec < 0 || sec > 60)
		return -1;
	/* Days of the civil calendar, years beginning in March so that leap days come last. */
	y -= m <= 2;
	era = y / 400;
	doe = (int64_t)(y - era * 400) * 365 + (y - era * 400) / 4 - (y - era * 400) / 100 + (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	*out = (era * 146097 + doe - 719468) * 86400 + h * 3600 + mi * 60 + sec;
	return 0;
}

static bool
is_serial(const char *s, size_t n)
{
	if (n != LEDGER_SERIAL_LEN)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return true;
}

static const char *
take_issued(struct ledger *l, char *const *f, const size_t *len)
{
	struct ledger_entry e = { .serial = f[1], .kind = f[2], .id = f[5], .issuer = f[6], .how = f[7], .predecessor = f[8], .dns = f[9],
		.successor = LEDGER_NONE };
	uint32_t *slot, *before;

	if (!is_serial(f[1], len[1]) || !is_serial(f[6], len[6]))
		return "a serial number that is not forty hexadecimal digits";
	if (parse_time(&e.not_before, f[3]) != 0 || parse_time(&e.not_after, f[4]) != 0)
		return "a date that is none";
	if (len[2] == 0 || len[5] == 0 || len[7] == 0)
		return "an empty field";
	if (!strcmp(e.predecessor, "-"))
		e.predecessor = NULL;
	else if (!is_serial(f[8], len[8]))
		return "a serial number that is not forty hexadecimal digits";
	if (!strcmp(e.dns, "-"))
		e.dns = "";
	make_room(l, l->n + 1);
	slot = slot_for(l, e.serial);
	if (*slot)
		return "a serial number that was given before";
	if (e.predecessor) {
		before = slot_for(l, e.predecessor);
		if (*before == 0)
			return "the successor of a certificate that was never issued";
		l->entries[*before - 1].successor = (uint32_t)l->n;
	}
	mem_grow(&l->entries, &l->cap, l->n + 1, sizeof(*l->entries));
	l->entries[l->n++] = e;
	*slot = (uint32_t)l->n;
	return NULL;
}

static const char *
take_revoked(struct ledger *l, char *const *f, const size_t *len)
{
	struct ledger_entry *e;
	uint32_t *slot;
	int64_t at;

	if (!is_serial(f[1], len[1]))
		return "a serial number that is not forty hexadecimal digits";
	if (parse_time(&at, f[2]) != 0)
		return "a date that is none";
	if (len[3] == 0)
		return "an empty field";
	slot = l->nslots ? slot_for(l, f[1]) : NULL;
	if (slot == NULL || *slot == 0)
		return "a revocation of what was never issued";
	e = &l->entries[*slot - 1];
	if (e->reason == NULL) {
		e->revoked_at = at;
		e->reason = f[3];
	}
	return NULL;
}

static const char *
take_crl(struct ledger *l, char *const *f, const size_t *len)
{
	uint64_t n = 0;
	int64_t at;

	if (parse_time(&at, f[2]) != 0)
		return "a date that is none";
	if (len[1] == 0 || len[1] > 19)
		return "a CRL number that is none";
	for (const char *c = f[1]; *c; c++) {
		if (*c < '0' || *c > '9')
			return "a CRL number that is none";
		n = 10 * n + (uint64_t)(*c - '0');
	}
	if (n > l->crl_number)
		l->crl_number = n;
	return NULL;
}

/* line .. end, where the newline is. */
static const char *
take_line(struct ledger *l, char *line, char *end)
{
	char *f[FIELDS];
	size_t len[FIELDS], n = 0;

	if (end - line > LINE_MAX_OCTETS)
		return "a line that is too long";
	for (char *p = line;; n++) {
		char *tab = memchr(p, '\t', (size_t)(end - p)), *stop = tab ? tab : end;

		if (n == FIELDS)
			return "too many fields";
		f[n] = p;
		len[n] = (size_t)(stop - p);
		*stop = 0;
		if (strlen(p) != len[n])
			return "a NUL";
		if (tab == NULL)
			break;
		p = tab + 1;
	}
	n++;
	if (!strcmp(f[0], "issued"))
		return n == 10 ? take_issued(l, f, len) : "not ten fields";
	if (!strcmp(f[0], "revoked"))
		return n == 4 ? take_revoked(l, f, len) : "not four fields";
	if (!strcmp(f[0], "crl"))
		return n == 3 ? take_crl(l, f, len) : "not three fields";
	return "neither \"issued\" nor \"revoked\" nor \"crl\"";
}

/* -- reading -------------------------------------------------------------------------------------- */

static void
forget(struct ledger *l)
{
	while (l->chunks) {
		struct chunk *next = l->chunks->next;

		mem_free(l->chunks);
		l->chunks = next;
	}
	mem_free(l->entries);
	mem_free(l->slots);
	*l = (struct ledger){ .path = l->path };
}

static int
read_from(int fd, char *to, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t got = pread(fd, to, n, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			errno = got < 0 ? errno : EIO;
			return -1;
		}
		to += got;
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

/* What is behind l->read, as far as whole lines go. */
static int
take_rest(struct ledger *l, int fd, off_t size, struct errs *errs)
{
	size_t n = (size_t)(size - l->read), before = errs->errors;
	struct chunk *c = mem_alloc(sizeof(*c) + n);
	char *p = c->text, *end = p + n, *newline;

	c->next = l->chunks;
	l->chunks = c;
	if (read_from(fd, c->text, n, l->read) != 0) {
		errs_add(errs, l->path, 0, "%s", strerror(errno));
		return -1;
	}
	make_room(l, l->n + n / 160);
	for (; p < end && (newline = memchr(p, '\n', (size_t)(end - p))) != NULL; p = newline + 1) {
		const char *fault;

		l->lines++;
		if ((fault = take_line(l, p, newline)) != NULL)
			errs_add(errs, l->path, l->lines, "%s", fault);
	}
	l->read += p - c->text;
	return errs->errors == before ? 0 : -1;
}

int
ledger_refresh(struct ledger *l, struct errs *errs)
{
	int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc = -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		errs_add(errs, l->path, 0, "%s; without it nobody knows what this CA issued and revoked: restore it from a backup", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > INDEX_MAX) {
		errs_add(errs, l->path, 0, "%s", S_ISREG(st.st_mode) ? "too large" : "not a regular file");
		goto out;
	}
	if (st.st_ino != l->ino || st.st_dev != l->dev || st.st_size < l->read) {
		forget(l);
		l->ino = st.st_ino;
		l->dev = st.st_dev;
	}
	rc = st.st_size > l->read ? take_rest(l, fd, st.st_size, errs) : 0;
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

struct ledger *
ledger_open(const char *path, struct errs *errs)
{
	struct ledger *l = mem_zalloc(sizeof(*l));

	l->path = mem_strdup(path);
	/* Damaged lines are the caller's to judge; without a file there is nothing to judge. */
	if (ledger_refresh(l, errs) != 0 && l->chunks == NULL) {
		ledger_close(l);
		return NULL;
	}
	return l;
}

void
ledger_close(struct ledger *l)
{
	if (l == NULL)
		return;
	forget(l);
	mem_free(l->path);
	mem_free(l);
}

size_t
ledger_n(const struct ledger *l)
{
	return l->n;
}

const struct ledger_entry *
ledger_at(const struct ledger *l, size_t i)
{
	return &l->entries[i];
}

const struct ledger_entry *
ledger_find(const struct ledger *l, const char *serial)
{
	uint32_t *slot;

	if (l->nslots == 0 || !is_serial(serial, strlen(serial)))
		return NULL;
	slot = slot_for(l, serial);
	return *slot ? &l->entries[*slot - 1] : NULL;
}

uint64_t
ledger_crl_number(const struct ledger *l)
{
	return l->crl_number;
}

/* -- writing -------------------------------------------------------------------------------------- */

static void
format_time(char out[32], int64_t t)
{
	time_t v = (time_t)t;
	struct tm tm;

	gmtime_r(&v, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void
ledger_put_issued(struct buf *b, const struct ledger_entry *e)
{
	char from[32], until[32];

	format_time(from, e->not_before);
	format_time(until, e->not_after);
	buf_printf(b, "issued\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e->serial, e->kind, from, until, e->id, e->issuer, e->how ? e->how : "operator",
	    e->predecessor ? e->predecessor : "-", e->dns && e->dns[0] ? e->dns : "-");
}

void
ledger_put_revoked(struct buf *b, const char *serial, int64_t at, const char *reason)
{
	char when[32];

	format_time(when, at);
	buf_printf(b, "revoked\t%s\t%s\t%s\n", serial, when, reason);
}

void
ledger_put_crl(struct buf *b, uint64_t number, int64_t at)
{
	char when[32];

	format_time(when, at);
	buf_printf(b, "crl\t%llu\t%s\n", (unsigned long long)number, when);
}

static int
write_all(int fd, const uint8_t *p, size_t n)
{
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

int
ledger_append(struct ledger *l, struct buf *lines, struct errs *errs)
{
	int fd = open(l->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), err = 0;
	struct stat st;

	/* l->read is behind the last whole line, for we hold the lock and refreshed under it. Half a batch is taken back, or else said to be there. */
	if (fd < 0 || fstat(fd, &st) != 0 || (st.st_size > l->read && ftruncate(fd, l->read) != 0) || lseek(fd, l->read, SEEK_SET) < 0) {
		err = errno;
	} else if (write_all(fd, lines->data, lines->len) != 0 || fsync(fd) != 0) {
		err = errno;
		if (ftruncate(fd, l->read) == 0)
			fsync(fd);
	}
	if (fd >= 0)
		close(fd);
	if (err) {
		errs_add(errs, l->path, 0, "cannot record it, so nothing is done: %s", strerror(err));
		return -1;
	}
	return ledger_refresh(l, errs);
}
