/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table: each option's name, type, place in its struct, default and range, once. It drives
 * parsing (parse.c), the image (image.c), the dump (dump.c), freeing (config.c) and the check of the man pages.
 * Derived members are rows too, so that the image needs no list of its own; they are not options.
 */
#ifndef GATEWAY_CONFIG_OPTIONS_H
#define GATEWAY_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gateway/base/buf.h"

enum option_type {          /* the member's C type, and what is written in the file */
	OPTION_TEXT,        /* char *: text */
	OPTION_FILE,        /* char *: a file name, relative to the config file's directory */
	OPTION_TEXTS,       /* char ** and size_t: [ "a", "b" ] */
	OPTION_BOOL,        /* bool: true or false */
	OPTION_COUNT,       /* unsigned: 5 */
	OPTION_COUNT64,     /* uint64_t: 5 */
	OPTION_SIZE,        /* uint64_t bytes: "64KiB", or 65536L */
	OPTION_DURATION,    /* uint64_t ms: "30s", or 30000L */
	OPTION_MODE,        /* unsigned: "0660" */
	OPTION_CHOICE,      /* int: one name of names[] */
	OPTION_SET,         /* unsigned, a bit each: [ "name", … ] of names[] */
	OPTION_SET8,        /* the same in a uint8_t */
	OPTION_GROUP,       /* a struct: { … } */
	OPTION_LIST,        /* an array of structs and size_t: ( { … }, … ), or of text where the group is scalar */
	OPTION_FIRST,       /* { … } that becomes the first element of the list which the next row reads */
	/* derived only */
	OPTION_LINE,        /* unsigned: the line of the group's "{" */
	OPTION_INT,         /* int */
	OPTION_U16,
	OPTION_U32,
	OPTION_ADDR,        /* struct addr */
	OPTION_CIDR,        /* struct addr_cidr */
};

#define OPTION_REQUIRED 1u  /* must be written; text is then never NULL */
#define OPTION_DERIVED 2u   /* no option: set by the loader */
#define OPTION_NUMBER_OK 4u /* a text that may also be written as an integer */
#define OPTION_TRUST 16u    /* trust material: exchanged in running processes, see config_take_trust() */
#define OPTION_MORE 32u     /* a list: the elements of the list "NAME" OPTION_MORE_SUFFIX are its, too; config.c makes that one of a directory's files */
#define OPTION_MORE_SUFFIX "*"
#define OPTION_LATE 8u      /* its default depends on others: the checker sets it where the member is 0; def is the commonest */

struct option_name {
	const char *name;
	unsigned value;     /* of an OPTION_CHOICE; the bit of a set */
};

struct option {
	const char *name;
	enum option_type type;
	unsigned flags;
	size_t off, off_n;  /* offsetof the member, and of its count */
	const char *def;    /* default as written in a file; NULL: none (text: NULL, number: 0) */
	uint64_t min, max;  /* of a number; of a list: how many elements; of a text: bytes in a FILE or TEXT (0: OPTION_TEXT_MAX) */
	const struct option_name *names; /* ends with a NULL name */
	const struct option_group *group;
};
#define OPTION_TEXT_MAX 4096

struct option_group {
	const char *name;   /* as messages name it: "a listener" */
	size_t size;        /* of the struct */
	bool scalar;        /* elements are written as text: the first row alone is an option */
	const struct option *rows;
	size_t nrows;
};

extern const struct option_group options_config; /* struct config */
extern const struct option_group options_rule;   /* struct policy_rule, of policy files: texts are borrowed there */

static inline void *
option_at(const struct option *o, const void *base)
{
	return (char *)base + o->off;
}

static inline size_t *
option_count(const struct option *o, const void *base)
{
	return (size_t *)(void *)((char *)base + o->off_n);
}

/* The array of an OPTION_LIST or OPTION_TEXTS; memcpy, because its type is not known here. */
static inline void *
option_array(const struct option *o, const void *base)
{
	void *p;

	memcpy(&p, option_at(o, base), sizeof(p));
	return p;
}

static inline void
option_set_array(const struct option *o, void *base, const void *array)
{
	memcpy(option_at(o, base), &array, sizeof(array));
}

/* Free all that the rows of g own in the struct at base, not the struct. borrowed: its texts are not its own. */
void options_free(const struct option_group *g, void *base, bool borrowed);
/* What a value of the option looks like, for messages and the man page check: "a duration, from 1s to 10m". */
void options_expect(const struct option *o, char *out, size_t size);
/* A hash of all rows reachable from g: two programs with the same one agree on the image. */
uint64_t options_fingerprint(const struct option_group *g);
/* "limits.parked<TAB>integer<TAB>1000<TAB>0 to 1000000" per option (path, type, default or "-", what is expected), for the man page check. */
void options_print(const struct option_group *g, const char *prefix, struct buf *out);

#endif
