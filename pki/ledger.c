/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is mapped, lines stay where they are: an entry is where its line begins, and who comes before and after it. A hash table has their
 * numbers by serial, with a piece of the hash beside, so that looking one up reads one line. Serials are ours and random: pieces of them are the hash.
 */
#include "pki/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "pki/pkifile.h"

#define LINE_MAX_OCTETS 32768
#define INDEX_MAX (INT64_C(1) << 31)
#define SERIAL_AT 7                /* behind "issued\t" */
#define KIND_AT (SERIAL_AT + LEDGER_SERIAL_LEN + 1)
#define TIME_LEN 20
#define USUAL_MIN 128              /* more than the fields before the id have, or those behind it but the last */
#define USUAL_TEXT 4096

struct note {
	uint32_t at;               /* where its line begins */
	uint32_t revoked;          /* the same of its revocation; LEDGER_NONE: not revoked */
	uint32_t predecessor, successor;
};

struct slot {
	uint32_t tag;
	uint32_t entry;            /* number + 1; 0: free */
};

struct arena {
	struct arena *next;
	size_t used, size;
	char text[];
};

struct ledger {
	char *path;
	const char *map;           /* of "mapped" octets */
	size_t mapped;
	struct note *notes;
	size_t n, cap;
	struct slot *slots;
	size_t nslots;             /* a power of two, at least twice n */
	struct arena *arena;       /* what ledger_get() gave out */
	uint64_t crl_number;
	/* What was found good last: most lines have the same issuer, and a date that another one has. */
	char good_issuer[LEDGER_SERIAL_LEN], good_date[2][10];
	unsigned lines;
	off_t read;                /* octets, whole lines */
	dev_t dev;
	ino_t ino;
};

/* -- the table ------------------------------------------------------------------------------------ */

static uint64_t
hash_of(const char *serial)
{
	uint64_t a, b;

	memcpy(&a, serial + 8, 8);
	memcpy(&b, serial + 24, 8);
	a = a * UINT64_C(0x9e3779b97f4a7c15) ^ b * UINT64_C(0xc2b2ae3d27d4eb4f);
	return a ^ a >> 32;
}

static const char *
serial_of(const struct ledger *l, uint32_t i)
{
	return l->map + l->notes[i].at + SERIAL_AT;
}

/* The slot where it is, or where it belongs. */
static struct slot *
slot_for(const struct ledger *l, const char *serial)
{
	uint64_t hash = hash_of(serial);
	uint32_t tag = (uint32_t)(hash >> 32);
	size_t i = (size_t)hash & (l->nslots - 1);

	while (l->slots[i].entry && (l->slots[i].tag != tag || memcmp(serial_of(l, l->slots[i].entry - 1), serial, LEDGER_SERIAL_LEN) != 0))
		i = (i + 1) & (l->nslots - 1);
	return &l->slots[i];
}

static void
take_slot(struct slot *s, const char *serial, uint32_t entry)
{
	s->tag = (uint32_t)(hash_of(serial) >> 32);
	s->entry = entry + 1;
}

static void
make_room(struct ledger *l, size_t entries)
{
	size_t want = l->nslots ? l->nslots : 256;

	mem_grow(&l->notes, &l->cap, entries, sizeof(*l->notes));
	while (want < 2 * entries)
		want *= 2;
	if (want == l->nslots)
		return;
	mem_free(l->slots);
	l->nslots = want;
	l->slots = mem_array(want, sizeof(*l->slots));
	for (size_t i = 0; i < l->n; i++)
		take_slot(slot_for(l, serial_of(l, (uint32_t)i)), serial_of(l, (uint32_t)i), (uint32_t)i);
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

/* "2026-11-20T09:00:00Z", of TIME_LEN octets; the C library's parser is ten times as slow. */
static int
parse_time(int64_t *out, const char *s)
{
	int y, m, d, h, mi, sec;
	int64_t era, doe;

	if (s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z')
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
is_serial(const char *s)
{
	static const uint8_t hex[256] = { ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1,
		['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1 };
	unsigned good = 1;

	for (size_t i = 0; i < LEDGER_SERIAL_LEN; i++)
		good &= hex[(uint8_t)s[i]];
	return good;
}

/* Is it a date? good: one whose day was. */
static bool
is_time(const char *s, char good[10])
{
	int64_t t;

	if (memcmp(s, good, 10) == 0 && s[10] == 'T' && s[13] == ':' && s[16] == ':' && s[19] == 'Z' && (unsigned)number_of(s + 11, 2) < 24 &&
	    (unsigned)number_of(s + 14, 2) < 60 && (unsigned)number_of(s + 17, 2) <= 60)
		return true;
	if (parse_time(&t, s) != 0)
		return false;
	memcpy(good, s, 10);
	return true;
}

/* A line in fields. */
#define FIELDS 10
struct fields {
	const char *p[FIELDS];
	size_t len[FIELDS], n;
};

static const char *
split(struct fields *f, const char *line, const char *end)
{
	const char *p = line, *tab;

	for (f->n = 0;; p = tab + 1) {
		if (f->n == FIELDS)
			return "too many fields";
		tab = memchr(p, '\t', (size_t)(end - p));
		f->p[f->n] = p;
		f->len[f->n++] = (size_t)((tab ? tab : end) - p);
		if (tab == NULL)
			return NULL;
	}
}

static bool
field_is(const struct fields *f, size_t i, const char *text)
{
	return f->len[i] == strlen(text) && memcmp(f->p[i], text, f->len[i]) == 0;
}

static bool
serial_field(const struct fields *f, size_t i)
{
	return f->len[i] == LEDGER_SERIAL_LEN && is_serial(f->p[i]);
}

/* predecessor NULL: none. */
static const char *
add_entry(struct ledger *l, const char *line, const char *predecessor)
{
	uint32_t before = LEDGER_NONE;
	struct slot *slot;

	make_room(l, l->n + 1);
	if (predecessor && (before = ledger_find(l, predecessor)) == LEDGER_NONE)
		return "the successor of a certificate that was never issued";
	slot = slot_for(l, line + SERIAL_AT);
	if (slot->entry)
		return "a serial number that was given before";
	if (predecessor)
		l->notes[before].successor = (uint32_t)l->n;
	l->notes[l->n] = (struct note){ .at = (uint32_t)(line - l->map), .revoked = LEDGER_NONE, .predecessor = before, .successor = LEDGER_NONE };
	take_slot(slot, line + SERIAL_AT, (uint32_t)l->n);
	l->n++;
	return NULL;
}

static const char *
take_issued(struct ledger *l, const struct fields *f)
{

	if (f->n != 10)
		return "not ten fields";
	if (!serial_field(f, 1) || f->len[6] != LEDGER_SERIAL_LEN ||
	    (memcmp(f->p[6], l->good_issuer, LEDGER_SERIAL_LEN) != 0 && !is_serial(f->p[6])))
		return "a serial number that is not forty hexadecimal digits";
	memcpy(l->good_issuer, f->p[6], LEDGER_SERIAL_LEN);
	if (f->len[3] != TIME_LEN || f->len[4] != TIME_LEN || !is_time(f->p[3], l->good_date[0]) || !is_time(f->p[4], l->good_date[1]))
		return "a date that is none";
	if (f->len[2] == 0 || f->len[5] == 0 || f->len[7] == 0)
		return "an empty field";
	if (field_is(f, 8, "-"))
		return add_entry(l, f->p[0], NULL);
	return serial_field(f, 8) ? add_entry(l, f->p[0], f->p[8]) : "a serial number that is not forty hexadecimal digits";
}

/* Behind "word" and a tab, if that is what p has. */
static const char *
behind(const char *p, const char *word, size_t n)
{
	return memcmp(p, word, n) == 0 && p[n] == '\t' ? p + n + 1 : NULL;
}

/*
 * A line as we write it ourselves, which nearly all are, checked in one pass: most fields have a fixed width or one of few values. The line
 * behind it; NULL: something is unusual, and take_line() has a closer look. Nothing was taken then.
 */
static const char *
take_usual(struct ledger *l, const char *line, const char *end)
{
	const char *p, *id, *predecessor = NULL, *dns, *newline;

	if (end - line < USUAL_MIN || memcmp(line, "issued\t", SERIAL_AT) != 0 || !is_serial(line + SERIAL_AT) || line[KIND_AT - 1] != '\t')
		return NULL;
	p = line + KIND_AT;
	id = behind(p, "workload", 8);
	if (id == NULL && (id = behind(p, "gateway", 7)) == NULL)
		return NULL;
	if (!is_time(id, l->good_date[0]) || id[TIME_LEN] != '\t' || !is_time(id + TIME_LEN + 1, l->good_date[1]) || id[2 * TIME_LEN + 1] != '\t')
		return NULL;
	id += 2 * (TIME_LEN + 1);
	p = memchr(id, '\t', end - id < USUAL_TEXT ? (size_t)(end - id) : USUAL_TEXT);
	if (p == NULL || p == id || end - p < USUAL_MIN || memchr(id, '\n', (size_t)(p - id)) || (p = behind(p + 1, l->good_issuer, LEDGER_SERIAL_LEN)) == NULL)
		return NULL;
	if ((dns = behind(p, "token", 5)) == NULL && (dns = behind(p, "renewal", 7)) == NULL && (dns = behind(p, "operator", 8)) == NULL)
		return NULL;
	if (dns[0] == '-' && dns[1] == '\t') {
		dns += 2;
	} else if (is_serial(dns) && dns[LEDGER_SERIAL_LEN] == '\t') {
		predecessor = dns;
		dns += LEDGER_SERIAL_LEN + 1;
	} else {
		return NULL;
	}
	newline = memchr(dns, '\n', end - dns < USUAL_TEXT ? (size_t)(end - dns) : USUAL_TEXT);
	if (newline == NULL || memchr(dns, '\t', (size_t)(newline - dns)))
		return NULL;
	return add_entry(l, line, predecessor) == NULL ? newline + 1 : NULL;
}

static const char *
take_revoked(struct ledger *l, const struct fields *f)
{
	uint32_t i;
	int64_t at;

	if (f->n != 4)
		return "not four fields";
	if (!serial_field(f, 1))
		return "a serial number that is not forty hexadecimal digits";
	if (f->len[2] != TIME_LEN || parse_time(&at, f->p[2]) != 0)
		return "a date that is none";
	if (f->len[3] == 0)
		return "an empty field";
	i = ledger_find(l, f->p[1]);
	if (i == LEDGER_NONE)
		return "a revocation of what was never issued";
	if (l->notes[i].revoked == LEDGER_NONE)
		l->notes[i].revoked = (uint32_t)(f->p[0] - l->map);
	return NULL;
}

static const char *
take_crl(struct ledger *l, const struct fields *f)
{
	uint64_t n = 0;
	int64_t at;

	if (f->n != 3)
		return "not three fields";
	if (f->len[2] != TIME_LEN || parse_time(&at, f->p[2]) != 0)
		return "a date that is none";
	if (f->len[1] == 0 || f->len[1] > 18)
		return "a CRL number that is none";
	for (size_t i = 0; i < f->len[1]; i++) {
		if (f->p[1][i] < '0' || f->p[1][i] > '9')
			return "a CRL number that is none";
		n = 10 * n + (uint64_t)(f->p[1][i] - '0');
	}
	if (n > l->crl_number)
		l->crl_number = n;
	return NULL;
}

/* line .. end, where the newline is. */
static const char *
take_line(struct ledger *l, const char *line, const char *end)
{
	const char *fault;
	struct fields f;

	if (end - line > LINE_MAX_OCTETS)
		return "a line that is too long";
	fault = split(&f, line, end);
	if (fault)
		return fault;
	return field_is(&f, 0, "issued") ? take_issued(l, &f) : field_is(&f, 0, "revoked") ? take_revoked(l, &f) :
	    field_is(&f, 0, "crl") ? take_crl(l, &f) : "neither \"issued\" nor \"revoked\" nor \"crl\"";
}

/* -- reading -------------------------------------------------------------------------------------- */

static void
forget_texts(struct ledger *l)
{
	while (l->arena) {
		struct arena *next = l->arena->next;

		mem_free(l->arena);
		l->arena = next;
	}
}

static void
forget(struct ledger *l)
{
	forget_texts(l);
	if (l->map)
		munmap((void *)l->map, l->mapped);
	mem_free(l->notes);
	mem_free(l->slots);
	*l = (struct ledger){ .path = l->path };
}

/* What is behind l->read, as far as whole lines go. */
static int
take_rest(struct ledger *l, int fd, size_t size, struct errs *errs)
{
	size_t before = errs->errors;
	const char *p, *end, *newline;
	bool nul;
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED) {
		errs_add(errs, l->path, 0, "%s", strerror(errno));
		return -1;
	}
	if (l->map)
		munmap((void *)l->map, l->mapped);
	l->map = map;
	l->mapped = size;
	make_room(l, l->n + (size - (size_t)l->read) / 160);
	p = l->map + l->read;
	end = l->map + size;
	/* Nobody writes a NUL; where a crash left blocks that were never written, there are many. */
	nul = memchr(p, 0, (size_t)(end - p)) != NULL;
	while (p < end) {
		const char *next = nul ? NULL : take_usual(l, p, end), *fault;

		if (next == NULL) {
			if ((newline = memchr(p, '\n', (size_t)(end - p))) == NULL)
				break;
			fault = nul && memchr(p, 0, (size_t)(newline - p)) ? "a NUL" : take_line(l, p, newline);
			if (fault)
				errs_add(errs, l->path, l->lines + 1, "%s", fault);
			next = newline + 1;
		}
		l->lines++;
		p = next;
		/* The next line's place in the table, which is too large for the nearer caches, and the line after it. */
		if (end - p > 1024) {
			__builtin_prefetch(&l->slots[(size_t)hash_of(p + SERIAL_AT) & (l->nslots - 1)]);
			__builtin_prefetch(p + 512);
		}
	}
	l->read = p - l->map;
	return errs->errors == before ? 0 : -1;
}

int
ledger_refresh(struct ledger *l, struct errs *errs)
{
	int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc = -1;
	struct stat st;

	forget_texts(l);
	if (fd < 0 || fstat(fd, &st) != 0) {
		errs_add(errs, l->path, 0, "%s; without it nobody knows what this CA issued and revoked: restore it from a backup", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size >= INDEX_MAX) {
		errs_add(errs, l->path, 0, "%s", S_ISREG(st.st_mode) ? "too large" : "not a regular file");
		goto out;
	}
	if (st.st_ino != l->ino || st.st_dev != l->dev || st.st_size < l->read) {
		forget(l);
		l->ino = st.st_ino;
		l->dev = st.st_dev;
	}
	rc = st.st_size > l->read ? take_rest(l, fd, (size_t)st.st_size, errs) : 0;
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
	if (ledger_refresh(l, errs) != 0 && l->map == NULL) {
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

/* -- asking --------------------------------------------------------------------------------------- */

uint32_t
ledger_n(const struct ledger *l)
{
	return (uint32_t)l->n;
}

uint32_t
ledger_find(const struct ledger *l, const char *serial)
{
	const struct slot *s = l->nslots ? slot_for(l, serial) : NULL;

	return s && s->entry ? s->entry - 1 : LEDGER_NONE;
}

bool
ledger_is_revoked(const struct ledger *l, uint32_t i)
{
	return l->notes[i].revoked != LEDGER_NONE;
}

bool
ledger_has_id(const struct ledger *l, uint32_t i, const char *id)
{
	/* Only the kind's width varies before it. */
	const char *kind = l->map + l->notes[i].at + KIND_AT, *end = l->map + l->read, *tab = memchr(kind, '\t', (size_t)(end - kind));
	size_t n = strlen(id), skip = 1 + 2 * (TIME_LEN + 1);

	return tab && (size_t)(end - tab) > skip + n && memcmp(tab + skip, id, n) == 0 && tab[skip + n] == '\t';
}

uint32_t
ledger_predecessor(const struct ledger *l, uint32_t i)
{
	return l->notes[i].predecessor;
}

uint32_t
ledger_successor(const struct ledger *l, uint32_t i)
{
	return l->notes[i].successor;
}

uint64_t
ledger_crl_number(const struct ledger *l)
{
	return l->crl_number;
}

static const char *
keep(struct ledger *l, const char *p, size_t n)
{
	struct arena *a = l->arena;
	char *out;

	if (a == NULL || a->size - a->used < n + 1) {
		size_t size = n + 1 > 65536 ? n + 1 : 65536;

		a = mem_alloc(sizeof(*a) + size);
		*a = (struct arena){ .next = l->arena, .size = size };
		l->arena = a;
	}
	out = a->text + a->used;
	memcpy(out, p, n);
	out[n] = 0;
	a->used += n + 1;
	return out;
}

/*
 * A line that was taken has what it must have, unless somebody wrote into the file meanwhile who has no business there: then what is missing is
 * empty, and nothing beyond the file is read.
 */
static void
split_again(const struct ledger *l, uint32_t at, struct fields *f)
{
	const char *line = l->map + at, *end = l->map + l->read, *newline = memchr(line, '\n', (size_t)(end - line));

	split(f, line, newline ? newline : end);
	for (size_t i = f->n; i < FIELDS; i++) {
		f->p[i] = "";
		f->len[i] = 0;
	}
}

static int64_t
time_in(const struct fields *f, size_t i)
{
	int64_t t;

	return f->len[i] == TIME_LEN && parse_time(&t, f->p[i]) == 0 ? t : 0;
}

void
ledger_get(struct ledger *l, uint32_t i, struct ledger_entry *out)
{
	const struct note *note = &l->notes[i];
	struct fields f;

	split_again(l, note->at, &f);
	*out = (struct ledger_entry){ .serial = keep(l, f.p[1], f.len[1]), .kind = keep(l, f.p[2], f.len[2]), .id = keep(l, f.p[5], f.len[5]),
		.issuer = keep(l, f.p[6], f.len[6]), .how = keep(l, f.p[7], f.len[7]), .not_before = time_in(&f, 3), .not_after = time_in(&f, 4) };
	out->predecessor = note->predecessor == LEDGER_NONE ? NULL : keep(l, f.p[8], f.len[8]);
	out->dns = field_is(&f, 9, "-") ? "" : keep(l, f.p[9], f.len[9]);
	if (note->revoked != LEDGER_NONE) {
		split_again(l, note->revoked, &f);
		out->revoked_at = time_in(&f, 2);
		out->reason = keep(l, f.p[3], f.len[3]);
	}
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

int
ledger_append(struct ledger *l, struct buf *lines, struct errs *errs)
{
	int fd = open(l->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), err = 0;
	struct stat st;

	/* l->read is behind the last whole line, for we hold the lock and refreshed under it. Half a batch is taken back, or else said to be there. */
	if (fd < 0 || fstat(fd, &st) != 0 || (st.st_size > l->read && ftruncate(fd, l->read) != 0) || lseek(fd, l->read, SEEK_SET) < 0) {
		err = errno;
	} else if (pkifile_write_all(fd, lines->data, lines->len) != 0 || fsync(fd) != 0) {
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
