/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scanner follows libconfig's tokens closely enough to know what is a string, a comment, a bracket, a number
 * and a directive. It refuses, with the place, what libconfig would misread silently (an integer beyond 32 bits, an
 * escaped NUL) or report without a hint (an open string, a bracket too many). Grammar is left to libconfig.
 */
#include "gateway/config/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/mem.h"

#define NESTING_MAX 32
#define INCLUDE_MAX 8     /* levels */
#define INCLUDED_MAX 1000 /* files */
#define LISTED_MAX 256    /* files of a list that is a directory */

/* ---- reading ---- */

static char *
read_all(int fd, size_t size, size_t max, size_t *len, const char **why)
{
	/* The size is a hint: the file may change while we read. One byte more tells that it did. */
	char *text = mem_alloc(size + 2);
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, text + n, size + 1 - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			*why = strerror(errno);
			goto fail;
		}
		n += (size_t)got;
		if (n > size) {
			*why = n > max ? "it is too large" : "it changed while it was read";
			goto fail;
		}
	}
	if (memchr(text, 0, n)) {
		*why = "it contains a NUL byte, so it is no text file";
		goto fail;
	}
	text[n] = '\0';
	*len = n;
	return text;
fail:
	mem_wipe(text, n);
	mem_free(text);
	return NULL;
}

char *
source_slurp(const char *path, size_t max, size_t *len, const char **why)
{
	/* O_NONBLOCK: opening a FIFO or a device must not hang; the type is checked next. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	char *text = NULL;

	if (fd < 0) {
		*why = strerror(errno);
		return NULL;
	}
	if (fstat(fd, &st) != 0)
		*why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
		*why = "it is not a regular file";
	else if ((uint64_t)st.st_size > max)
		*why = max == SOURCE_CONFIG_MAX ? "it is larger than 16 MiB"
		     : max == SOURCE_POLICY_MAX ? "it is larger than 64 MiB"
						: "it is larger than 1 MiB";
	else
		text = read_all(fd, (size_t)st.st_size, max, len, why);
	close(fd);
	return text;
}

char *
source_beside(const char *file, const char *name)
{
	const char *slash = strrchr(file, '/');

	if (name[0] == '/' || !slash || !strncmp(name, "pkcs11:", 7)) /* RFC 7512: no file at all */
		return mem_strdup(name);
	return mem_printf("%.*s/%s", (int)(slash - file), file, name);
}

/* ---- scanning ---- */

struct scan {              /* one file */
	struct source *source;
	const char *name;  /* for messages; lives in source->files */
	const char *path;  /* NULL: from memory */
	const char *root;  /* the directory that includes may not leave; NULL: no includes */
	size_t max;        /* bytes that all files together may have */
	unsigned depth;
	struct errs *errs;

	const char *p, *end;
	const char *copied; /* up to here it is in source->text */
	unsigned line;
	size_t nesting;
	struct {
		char closer;
		unsigned line;
	} open[NESTING_MAX];
};

static int scan_file(struct scan *outer, const char *path, const char *name);

static void
flush(struct scan *sc, const char *upto)
{
	buf_append(&sc->source->text, sc->copied, (size_t)(upto - sc->copied));
	sc->copied = upto;
}

/* What is appended from here on comes from line "line" of the file. text_line: the line of the text that it starts on. */
static void
begin_part(struct source *s, size_t text_line, const char *file, unsigned line)
{
	mem_grow(&s->parts, &s->parts_cap, s->nparts + 1, sizeof(*s->parts));
	s->parts[s->nparts].line = text_line;
	s->parts[s->nparts].file_line = line;
	s->parts[s->nparts].file = file;
	s->nparts++;
}

/* The line of the text that the next byte appended goes to; the text up to here ends with a line. */
static size_t
next_line(struct source *s)
{
	const uint8_t *p, *end;

	if (!s->text.data)
		return 1;
	p = s->text.data + s->counted;
	end = s->text.data + s->text.len;
	while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		s->lines++;
		p++;
	}
	s->counted = s->text.len;
	return s->lines + 1;
}

static int
scan_comment(struct scan *sc)
{
	unsigned start = sc->line;

	for (sc->p += 2; sc->p < sc->end; sc->p++) {
		if (*sc->p == '\n')
			sc->line++;
		if (sc->p[0] == '*' && sc->end - sc->p > 1 && sc->p[1] == '/') {
			sc->p += 2;
			return 0;
		}
	}
	errs_add(sc->errs, sc->name, start, "this comment has no end; close it with */");
	return -1;
}

static int
scan_string(struct scan *sc)
{
	unsigned start = sc->line;

	for (sc->p++; sc->p < sc->end; sc->p++) {
		size_t left = (size_t)(sc->end - sc->p);

		if (*sc->p == '"') {
			sc->p++;
			return 0;
		}
		if (*sc->p == '\n')
			sc->line++;
		if (*sc->p != '\\' || left < 2)
			continue;
		/* libconfig turns it into a byte that ends the string there. */
		if (left >= 4 && (sc->p[1] | 0x20) == 'x' && sc->p[2] == '0' && sc->p[3] == '0') {
			errs_add(sc->errs, sc->name, sc->line, "\\x00 in a text would cut it short; remove it");
			return -1;
		}
		if (sc->p[1] == '"' || sc->p[1] == '\\')
			sc->p++;
	}
	errs_add(sc->errs, sc->name, start, "this text has no end; close it with a quote");
	return -1;
}

/* libconfig 1.5 keeps the low 32 bits of an integer, and of one with "L" what strtoll() made of it. */
static int
scan_number(struct scan *sc)
{
	const char *start = sc->p;
	char *after;
	bool hex, wide;
	int64_t v;

	if (*sc->p == '-' || *sc->p == '+')
		sc->p++;
	hex = sc->end - sc->p > 2 && sc->p[0] == '0' && (sc->p[1] | 0x20) == 'x';
	errno = 0;
	v = hex ? (int64_t)strtoull(start, &after, 16) : strtoll(start, &after, 10);
	sc->p = after;
	if (!hex && (*sc->p == '.' || (*sc->p | 0x20) == 'e')) {
		/* A float: no option takes one, and the parser will say so. */
		sc->p += strspn(sc->p, ".eE+-0123456789");
		return 0;
	}
	wide = *sc->p == 'L';
	while (*sc->p == 'L')
		sc->p++;
	if (errno == ERANGE || (hex && v < 0) || (!wide && (v > INT_MAX || v < INT_MIN))) {
		errs_add(sc->errs, sc->name, sc->line,
		    "%.*s is too large for an integer; write a size as text, such as \"10GiB\", or append L",
		    (int)(sc->p - start > 40 ? 40 : sc->p - start), start);
		return -1;
	}
	return 0;
}

static int
scan_bracket(struct scan *sc)
{
	static const char openers[] = "{[(", closers[] = "}])";
	const char *opener = strchr(openers, *sc->p);

	if (opener) {
		if (sc->nesting == NESTING_MAX) {
			errs_add(sc->errs, sc->name, sc->line, "brackets are nested deeper than %d", NESTING_MAX);
			return -1;
		}
		sc->open[sc->nesting].closer = closers[opener - openers];
		sc->open[sc->nesting++].line = sc->line;
	} else if (sc->nesting == 0) {
		errs_add(sc->errs, sc->name, sc->line, "\"%c\" closes nothing; remove it", *sc->p);
		return -1;
	} else if (sc->open[sc->nesting - 1].closer != *sc->p) {
		errs_add(sc->errs, sc->name, sc->line, "\"%c\" where \"%c\" is due, for the bracket opened in line %u", *sc->p,
		    sc->open[sc->nesting - 1].closer, sc->open[sc->nesting - 1].line);
		return -1;
	} else {
		sc->nesting--;
	}
	sc->p++;
	return 0;
}

/* Links are followed: what counts is where the file is. */
static bool
lies_below(const char *root, const char *path)
{
	char *dir = realpath(root, NULL), *real = realpath(path, NULL);
	size_t n = dir ? strlen(dir) : 0;
	bool ok = dir && real && !strncmp(real, dir, n) && (real[n] == '/' || n == 1);

	free(dir);
	free(real);
	return ok;
}

static int
include(struct scan *sc, const char *word)
{
	char *name = source_beside(sc->name, word);
	char *path = source_beside(sc->path, word);
	const char *why = NULL;
	int rc = -1;

	if (word[0] == '/' || !strcmp(word, "..") || !strncmp(word, "../", 3) || strstr(word, "/../"))
		why = "name a file in or below the directory of the configuration";
	else if (sc->depth == INCLUDE_MAX)
		why = "files include each other too deeply";
	else if (sc->source->nfiles > INCLUDED_MAX)
		why = "too many files are included";
	else if (access(path, F_OK) != 0)
		why = strerror(errno);
	else if (!lies_below(sc->root, path))
		why = "it lies outside the directory of the configuration";
	if (why)
		errs_add(sc->errs, sc->name, sc->line, "cannot include \"%s\": %s", word, why);
	else
		rc = scan_file(sc, path, name);
	mem_free(path);
	mem_free(name);
	return rc;
}

/* At "@": libconfig knows the directive only at the start of a line, and no other use of the character. */
static int
scan_directive(struct scan *sc, const char *line_start)
{
	static const char keyword[] = "@include";
	const char *directive = sc->p, *quote;
	char word[256];
	size_t n = 0;

	while (line_start < directive && (*line_start == ' ' || *line_start == '\t'))
		line_start++;
	if (line_start != directive || strncmp(directive, keyword, sizeof(keyword) - 1) != 0)
		goto bad;
	quote = directive + sizeof(keyword) - 1;
	quote += strspn(quote, " \t");
	if (*quote != '"' || quote == directive + sizeof(keyword) - 1)
		goto bad;
	for (quote++; *quote != '"'; quote++) {
		if ((uint8_t)*quote < 0x20 || *quote == '\\' || n + 1 == sizeof(word))
			goto bad;
		word[n++] = *quote;
	}
	word[n] = '\0';
	if (n == 0)
		goto bad;
	if (!sc->root) {
		errs_add(sc->errs, sc->name, sc->line, "@include is not possible here");
		return -1;
	}
	flush(sc, directive);
	buf_puts(&sc->source->text, "\n");
	if (include(sc, word) != 0)
		return -1;
	sc->p = sc->copied = quote + 1;
	begin_part(sc->source, next_line(sc->source), sc->name, sc->line);
	return 0;
bad:
	errs_add(sc->errs, sc->name, sc->line, "\"@\" begins only a line  @include \"file\"");
	return -1;
}

static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '*';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* One token from sc->p on. *line_start: where its line begins. The text ends with a NUL, so that looking one byte ahead is safe. */
static int
scan_token(struct scan *sc, const char **line_start)
{
	char c = *sc->p;

	switch (c) {
	case '\n':
		sc->line++;
		*line_start = ++sc->p;
		return 0;
	case '"':
		return scan_string(sc);
	case '{': case '[': case '(': case '}': case ']': case ')':
		return scan_bracket(sc);
	case '@':
		return scan_directive(sc, *line_start);
	case '/':
		if (sc->p[1] == '*')
			return scan_comment(sc);
		if (sc->p[1] != '/')
			break;
		/* fallthrough */
	case '#':
		while (sc->p < sc->end && *sc->p != '\n')
			sc->p++;
		return 0;
	default:
		break;
	}
	if (is_digit(c) || ((c == '-' || c == '+') && is_digit(sc->p[1])))
		return scan_number(sc);
	if (is_name_char(c))
		while (is_name_char(*sc->p))
			sc->p++;
	else
		sc->p++;
	return 0;
}

static int
scan(struct scan *sc, const char *text, size_t len)
{
	const char *line_start = text;

	if (len > sc->max || sc->source->text.len > sc->max - len) {
		errs_add(sc->errs, sc->name, 0, "this file and what it includes are larger than %zu MiB", sc->max >> 20);
		return -1;
	}
	sc->p = sc->copied = text;
	sc->end = text + len;
	sc->line = 1;
	begin_part(sc->source, next_line(sc->source), sc->name, 1);
	while (sc->p < sc->end) {
		const char *before = sc->p;

		if (scan_token(sc, &line_start) != 0)
			return -1;
		/* Strings and comments may have crossed lines. */
		for (const char *q = sc->p; q > before; q--)
			if (q[-1] == '\n') {
				line_start = q;
				break;
			}
	}
	if (sc->nesting > 0) {
		errs_add(sc->errs, sc->name, sc->open[sc->nesting - 1].line, "this bracket is never closed; \"%c\" is missing",
		    sc->open[sc->nesting - 1].closer);
		return -1;
	}
	flush(sc, sc->end);
	buf_puts(&sc->source->text, "\n"); /* libconfig wants a line end after a comment */
	buf_cstr(&sc->source->text);
	return 0;
}

static const char *
keep_name(struct source *s, const char *name)
{
	mem_grow(&s->files, &s->files_cap, s->nfiles + 1, sizeof(*s->files));
	s->files[s->nfiles] = mem_strdup(name);
	return s->files[s->nfiles++];
}

static int
scan_file(struct scan *outer, const char *path, const char *name)
{
	struct scan sc = {
		.source = outer->source, .path = path, .root = outer->root, .max = outer->max,
		.depth = outer->depth + 1, .errs = outer->errs,
	};
	const char *why;
	size_t len;
	char *text;
	int rc;

	sc.name = keep_name(sc.source, name);
	text = source_slurp(path, sc.max, &len, &why);
	if (!text) {
		errs_add(sc.errs, sc.name, 0, "cannot read it: %s", why);
		return -1;
	}
	rc = scan(&sc, text, len);
	mem_free(text);
	return rc;
}

int
source_read(struct source *s, const char *path, const char *name, size_t max, struct errs *errs)
{
	char *root = source_beside(path, ".");
	struct scan outer = { .source = s, .root = root, .max = max, .errs = errs };
	int rc;

	memset(s, 0, sizeof(*s));
	rc = scan_file(&outer, path, name);
	mem_free(root);
	return rc;
}

/* ---- lists that are directories ---- */

static int
by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of the *.conf in it, sorted; -1 with errno. */
static int
list_dir(const char *dir, const char *skip, char ***names, size_t *n)
{
	DIR *d = opendir(dir);
	size_t cap = 0;

	if (!d)
		return errno == ENOENT ? 0 : -1;
	for (struct dirent *e; (e = readdir(d)) != NULL && *n <= LISTED_MAX;) {
		size_t len = strlen(e->d_name);

		if (e->d_name[0] == '.' || len < 6 || strcmp(e->d_name + len - 5, ".conf") != 0 || (skip && !strcmp(e->d_name, skip)))
			continue;
		mem_grow(names, &cap, *n + 1, sizeof(**names));
		(*names)[(*n)++] = mem_strdup(e->d_name);
	}
	closedir(d);
	if (*n > 0)
		qsort(*names, *n, sizeof(**names), by_bytes);
	return 0;
}

/* Blanks and comments lead to what? */
static char
first_of(const char *p)
{
	for (;;) {
		p += strspn(p, " \t\r\n\f\v");
		if (*p == '#' || (p[0] == '/' && p[1] == '/'))
			p += strcspn(p, "\n");
		else if (p[0] == '/' && p[1] == '*' && strstr(p + 2, "*/"))
			p = strstr(p + 2, "*/") + 2;
		else
			return *p;
	}
}

static int
add_element(struct scan *outer, const char *dir, const char *dir_name, const char *name)
{
	char *path = mem_printf("%s/%s", dir, name), *shown = mem_printf("%s/%s", dir_name, name);
	size_t from = outer->source->text.len;
	int rc = scan_file(outer, path, shown);

	if (rc == 0 && first_of((const char *)outer->source->text.data + from) != '{') {
		errs_add(outer->errs, shown, 0, "a file of this directory holds one entry: { … }");
		rc = -1;
	}
	mem_free(path);
	mem_free(shown);
	return rc;
}

int
source_add_list(struct source *s, const char *list, const char *dir, const char *dir_name, const char *skip, size_t max, struct errs *errs)
{
	struct scan outer = { .source = s, .root = dir, .max = max, .errs = errs };
	char **names = NULL;
	size_t n = 0;
	int rc = 0;

	if (list_dir(dir, skip, &names, &n) != 0) {
		errs_add(errs, dir_name, 0, "cannot read this directory: %s", strerror(errno));
		return -1;
	}
	if (n > LISTED_MAX) {
		errs_add(errs, dir_name, 0, "more than %d files", LISTED_MAX);
		rc = -1;
	}
	buf_printf(&s->text, "%s = (\n", list);
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (i > 0)
			buf_puts(&s->text, ",\n");
		rc = add_element(&outer, dir, dir_name, names[i]);
	}
	buf_puts(&s->text, ");\n");
	buf_cstr(&s->text);
	for (size_t i = 0; i < n; i++)
		mem_free(names[i]);
	mem_free(names);
	return rc == 0 ? (int)n : -1;
}

int
source_text(struct source *s, const char *name, const char *text, size_t len, struct errs *errs)
{
	struct scan sc = { .source = s, .max = SOURCE_CONFIG_MAX, .errs = errs };
	char *copy;
	int rc;

	memset(s, 0, sizeof(*s));
	sc.name = keep_name(s, name);
	if (memchr(text, 0, len)) {
		errs_add(errs, name, 0, "cannot read it: it contains a NUL byte, so it is no text file");
		return -1;
	}
	copy = mem_strndup(text, len);
	rc = scan(&sc, copy, len);
	mem_free(copy);
	return rc;
}

void
source_fini(struct source *s)
{
	buf_fini(&s->text);
	mem_free(s->parts);
	for (size_t i = 0; i < s->nfiles; i++)
		mem_free(s->files[i]);
	mem_free(s->files);
	memset(s, 0, sizeof(*s));
}

void
source_place(const struct source *s, size_t line, const char **file, unsigned *file_line)
{
	size_t lo = 0, hi = s->nparts;

	/* The last part that starts at or before the line. */
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->parts[mid].line <= line)
			lo = mid;
		else
			hi = mid;
	}
	*file = s->parts[lo].file;
	*file_line = s->parts[lo].file_line + (unsigned)(line > s->parts[lo].line ? line - s->parts[lo].line : 0);
}
