/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl: what its subcommands share. One function per subcommand; main.c has the table that names them. */
#ifndef TOOLS_GWCTL_GWCTL_H
#define TOOLS_GWCTL_GWCTL_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/errs.h"

/* Exit codes that scripts can trust. */
enum {
	GWCTL_OK = 0,
	GWCTL_FAILED = 1,      /* or denied, not sound, not balanced */
	GWCTL_USAGE = 2,
	GWCTL_UNREACHABLE = 3,
	GWCTL_NO_ANSWER = 4,   /* of commands that answer yes or no: neither, because something that they need cannot be read */
};

struct gwctl {
	const char *config_path; /* -c; never NULL */
	const char *socket_path; /* -s, or NULL: the one that the config names */
	bool json;               /* --json */
	bool color;              /* standard output is a terminal and NO_COLOR is not set */
};

/* Subcommands: argv[0] is the subcommand's own name; getopt is reset before. They return an exit code. */
int cmd_status(struct gwctl *g, int argc, char **argv);
int cmd_peers(struct gwctl *g, int argc, char **argv);
int cmd_services(struct gwctl *g, int argc, char **argv);
int cmd_reload(struct gwctl *g, int argc, char **argv);
int cmd_drain(struct gwctl *g, int argc, char **argv);
int cmd_sever(struct gwctl *g, int argc, char **argv);
int cmd_restore(struct gwctl *g, int argc, char **argv);
int cmd_log_level(struct gwctl *g, int argc, char **argv);
int cmd_config(struct gwctl *g, int argc, char **argv);
int cmd_check(struct gwctl *g, int argc, char **argv);
int cmd_policy(struct gwctl *g, int argc, char **argv);
int cmd_audit(struct gwctl *g, int argc, char **argv);
int cmd_pki(struct gwctl *g, int argc, char **argv);
int cmd_pair(struct gwctl *g, int argc, char **argv);
int cmd_version(struct gwctl *g, int argc, char **argv);
int cmd_help(struct gwctl *g, int argc, char **argv);

/* "gwctl: what; what to do" on standard error. Returns GWCTL_FAILED, so that "return gwctl_error(...)" reads well. */
int gwctl_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with a pointer to the help of "command" ("policy test"). Returns GWCTL_USAGE. */
int gwctl_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Every fault and warning, one per line, on standard error. Returns GWCTL_FAILED when there was an error, else GWCTL_OK. */
int gwctl_print_errs(const struct errs *e);

/*
 * The second word of "policy test", "config check", …: finds argv[1] in a table that ends with a NULL name and calls it
 * with argv + 1; an unknown or missing word gets a did-you-mean and the list. Returns an exit code.
 */
struct gwctl_sub {
	const char *name;
	int (*run)(struct gwctl *g, int argc, char **argv);
	const char *summary;
};
int gwctl_dispatch(struct gwctl *g, const char *command, const struct gwctl_sub *subs, int argc, char **argv);

/*
 * Tables: columns aligned on standard output, separated by two spaces; control bytes escaped, so that
 * nothing from a peer reaches the terminal raw. Cells are copied.
 */
struct table;
enum {
	TABLE_RIGHT = 1,         /* align a column to the right */
	TABLE_OURS = 2,          /* its cells are our own UTF-8, printed as they are */
};
struct table *table_new(const char *const *headings, const unsigned *flags, size_t columns); /* flags may be NULL; borrowed until printed */
void table_row(struct table *t, const char *const *cells);  /* NULL cell: "-" */
/* One cell after the other; a row is complete when each column has one. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *t, bool color);
void table_free(struct table *t);

/* Text from a peer, a file or the daemon, made safe for a terminal: a copy that the caller frees with mem_free(). */
char *gwctl_safe(const char *s);
/* "3 d 4 h", "12 min", "8 s"; "1.2 GiB". out holds 32 bytes. */
char *gwctl_age(char out[32], double seconds);
char *gwctl_bytes(char out[32], double bytes);

#endif
