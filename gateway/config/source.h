/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a configuration file: read whole, bounded, looked over for what libconfig would take wrongly, its
 * @include directives replaced by the files they name. libconfig never opens a file itself.
 */
#ifndef GATEWAY_CONFIG_SOURCE_H
#define GATEWAY_CONFIG_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/buf.h"
#include "gateway/base/errs.h"

#define SOURCE_CONFIG_MAX (16u << 20)
#define SOURCE_POLICY_MAX (64u << 20)
#define SOURCE_PEM_MAX (1u << 20)

struct source {
	struct buf text;       /* what libconfig gets; ends with a NUL when the source is read */
	size_t counted, lines; /* so many line ends in so many bytes of it */
	struct source_part {   /* where its lines come from */
		size_t line;   /* first line in text, from 1 */
		unsigned file_line;
		const char *file; /* lives in files */
	} *parts;
	size_t nparts, parts_cap;
	char **files;
	size_t nfiles, files_cap;
};

/* A regular file of at most max bytes without NUL, as text that the caller frees; NULL with *why ("No such file or directory", …). */
char *source_slurp(const char *path, size_t max, size_t *len, const char **why);

/*
 * Read "path"; faults name it as "name". Included files must lie in its directory or below. 0, or -1 with the
 * first fault of the file added. source_fini() in both cases.
 */
int source_read(struct source *s, const char *path, const char *name, size_t max, struct errs *errs);
/*
 * Add a list called "list", one element for each file *.conf of the directory "dir" (faults name it as "dir_name"), in bytewise order of their names, but the
 * one called "skip" (NULL: none). A directory that does not exist has no files. How many there are, or -1 with the first fault added.
 */
int source_add_list(struct source *s, const char *list, const char *dir, const char *dir_name, const char *skip, size_t max, struct errs *errs);
/* As source_read() for text in memory, in which @include is refused. */
int source_text(struct source *s, const char *name, const char *text, size_t len, struct errs *errs);
void source_fini(struct source *s);

/* The file and line that line "line" of the text came from. */
void source_place(const struct source *s, size_t line, const char **file, unsigned *file_line);

/* "name" as seen from the directory of "file": absolute names stay. Caller frees. */
char *source_beside(const char *file, const char *name);

#endif
