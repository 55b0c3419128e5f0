/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/parse.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/config/value.h"

static void
note(struct parse *ps, const void *member, unsigned line)
{
	if (ps->origins)
		origin_note(ps->origins, member, line);
}

/* ---- the tree ---- */

#if LIBCONFIG_VER_MAJOR > 1 || (LIBCONFIG_VER_MAJOR == 1 && LIBCONFIG_VER_MINOR >= 7)
static const char **
refuse_include(config_t *tree, const char *include_dir, const char *path, const char **error)
{
	(void)tree;
	(void)include_dir;
	(void)path;
	*error = "@include is not possible here";
	return NULL;
}
#endif

int
parse_tree(config_t *tree, const struct source *s, struct errs *errs)
{
	const char *file, *what;
	unsigned line;

	config_init(tree);
	/* source.c has read every include already. Should libconfig see one that it did not, it opens nothing. */
	config_set_include_dir(tree, "/dev/null");
#if LIBCONFIG_VER_MAJOR > 1 || (LIBCONFIG_VER_MAJOR == 1 && LIBCONFIG_VER_MINOR >= 7)
	config_set_include_func(tree, refuse_include);
#endif
	if (config_read_string(tree, (const char *)s->text.data) == CONFIG_TRUE)
		return 0;
	what = config_error_text(tree);
	source_place(s, (size_t)(config_error_line(tree) > 0 ? config_error_line(tree) : 1), &file, &line);
	if (what && !strcmp(what, "duplicate setting name"))
		errs_add(errs, file, line, "this option was set before in the same group; keep one of them");
	else if (what && !strcmp(what, "mismatched element type in array"))
		errs_add(errs, file, line, "the elements of [ ] are of different types; write all of them in quotes");
	else
		errs_add(errs, file, line,
		    "syntax error here or just before; write  name = value;  with text in quotes, commas between the elements of ( ) and [ ]");
	config_destroy(tree);
	return -1;
}

void
parse_fault(struct parse *ps, const config_setting_t *at, const char *fmt, ...)
{
	const char *file;
	unsigned line;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	source_place(ps->source, config_setting_source_line(at), &file, &line);
	errs_add(ps->errs, file, line, "%s", text);
}

static const char *
type_name(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_GROUP: return "a group";
	case CONFIG_TYPE_INT: return "an integer";
	case CONFIG_TYPE_INT64: return "an integer with L";
	case CONFIG_TYPE_FLOAT: return "a fraction";
	case CONFIG_TYPE_STRING: return "text";
	case CONFIG_TYPE_BOOL: return "true or false";
	case CONFIG_TYPE_ARRAY: return "an array";
	case CONFIG_TYPE_LIST: return "a list";
	default: return "nothing";
	}
}

static void
wrong_type(struct parse *ps, const config_setting_t *s, const struct option *o)
{
	char expect[512];

	options_expect(o, expect, sizeof(expect));
	if (o->flags & OPTION_NUMBER_OK && config_setting_type(s) == CONFIG_TYPE_INT)
		parse_fault(ps, s, "\"%s\" is %d; write %s", o->name, config_setting_get_int(s), expect);
	else
		parse_fault(ps, s, "\"%s\" is %s; write %s", o->name, type_name(s), expect);
}

/* ---- texts ---- */

/* Length of the UTF-8 sequence at p (RFC 3629), 0 when there is none. */
static size_t
utf8_len(const uint8_t *p)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* Texts end up in messages, journals and tables: nothing that moves a cursor. */
static const char *
text_fault(const char *text, size_t max)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t n;

	if (!*text)
		return "is empty";
	if (strlen(text) > max)
		return "is too long";
	for (; *p; p += n) {
		n = utf8_len(p);
		if (n == 0 || *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
			return "has a control character or is not UTF-8";
	}
	return NULL;
}

/* The text of a setting, or NULL and a fault. */
static const char *
get_text(struct parse *ps, config_setting_t *s, const struct option *o)
{
	const char *text, *fault;

	if (config_setting_type(s) != CONFIG_TYPE_STRING) {
		wrong_type(ps, s, o);
		return NULL;
	}
	text = config_setting_get_string(s);
	/* A list's "max" is the number of its members. */
	fault = text ? text_fault(text, o->max && o->type != OPTION_TEXTS && o->type != OPTION_LIST ? o->max : OPTION_TEXT_MAX) : "is empty";
	if (fault) {
		parse_fault(ps, s, "\"%s\" %s", o->name, fault);
		return NULL;
	}
	return text;
}

/* ---- scalars ---- */

static const struct option_name *
find_name(const struct option_name *names, const char *text)
{
	for (; names->name; names++)
		if (!strcmp(names->name, text))
			return names;
	return NULL;
}

static const char *
nearest_name(const struct option_name *names, const char *text)
{
	const char *candidates[16];
	size_t n = 0;

	for (; names->name && n < 16; names++)
		candidates[n++] = names->name;
	return errs_nearest(text, candidates, n);
}

static int
put_number(const struct option *o, void *base, uint64_t v)
{
	if (v < o->min || v > o->max)
		return -1;
	if (o->type == OPTION_COUNT)
		*(unsigned *)option_at(o, base) = (unsigned)v;
	else
		*(uint64_t *)option_at(o, base) = v;
	return 0;
}

static int
parse_mode(const char *text, unsigned *out)
{
	unsigned v = 0;

	if (text[0] != '0' || strlen(text) != 4)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '7')
			return -1;
		v = v * 8 + (unsigned)(*text - '0');
	}
	if (v == 0) /* for nobody at all */
		return -1;
	*out = v;
	return 0;
}

static void
put_text(struct parse *ps, const struct option *o, void *base, const char *text)
{
	char **member = option_at(o, base);

	if (ps->borrow)
		memcpy(member, &text, sizeof(text));
	else
		*member = o->type == OPTION_FILE ? source_beside(ps->file, text) : mem_strdup(text);
}

/* A value written as text. 0, or -1 with *why. */
static int
put_value(struct parse *ps, const struct option *o, void *base, const char *text, const char **why)
{
	const struct option_name *name;
	uint64_t v = 0;

	*why = NULL;
	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE:
		put_text(ps, o, base, text);
		return 0;
	case OPTION_SIZE:
		return value_size(&v, text, why) == 0 ? put_number(o, base, v) : -1;
	case OPTION_DURATION:
		return value_duration(&v, text, why) == 0 ? put_number(o, base, v) : -1;
	case OPTION_MODE:
		return parse_mode(text, option_at(o, base));
	case OPTION_CHOICE:
		name = find_name(o->names, text);
		if (!name)
			return -1;
		*(int *)option_at(o, base) = (int)name->value;
		return 0;
	default:
		return -1;
	}
}

static void
put_default(struct parse *ps, const struct option *o, void *base)
{
	const char *why;
	uint64_t v = 0;
	int rc = 0;

	if (!o->def || o->flags & OPTION_LATE)
		return;
	if (o->type == OPTION_BOOL)
		*(bool *)option_at(o, base) = !strcmp(o->def, "true");
	else if (o->type == OPTION_COUNT || o->type == OPTION_COUNT64)
		rc = value_size(&v, o->def, &why) == 0 ? put_number(o, base, v) : -1;
	else
		rc = put_value(ps, o, base, o->def, &why);
	if (rc != 0) /* our table, our bug; a test reads every default */
		parse_fault(ps, &(config_setting_t){ .line = 0 }, "the default of \"%s\" is out of its own range", o->name);
}

static void
read_integer(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	bool wide = config_setting_type(s) == CONFIG_TYPE_INT64;
	bool unit = o->type == OPTION_SIZE || o->type == OPTION_DURATION;
	char expect[512];
	long long v;

	/* Without a unit nobody can tell 30 s from 30 ms; "L" says that the base unit is meant. */
	if (unit && !wide) {
		wrong_type(ps, s, o);
		put_default(ps, o, base);
		return;
	}
	v = wide ? config_setting_get_int64(s) : config_setting_get_int(s);
	if (v >= 0 && put_number(o, base, (uint64_t)v) == 0)
		return;
	options_expect(o, expect, sizeof(expect));
	parse_fault(ps, s, "\"%s\" is %lld; write %s", o->name, v, expect);
	put_default(ps, o, base);
}

static void
read_value(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	const char *text = get_text(ps, s, o), *why, *near = NULL;
	char expect[512];

	if (text && put_value(ps, o, base, text, &why) == 0)
		return;
	if (text) {
		options_expect(o, expect, sizeof(expect));
		if (o->type == OPTION_CHOICE)
			near = nearest_name(o->names, text);
		if (near)
			parse_fault(ps, s, "\"%s\" is \"%s\"; did you mean \"%s\"?", o->name, text, near);
		else
			parse_fault(ps, s, "\"%s\" is \"%s\"%s%s; write %s", o->name, text, why ? ": " : "", why ? why : "",
			    expect);
	}
	put_default(ps, o, base);
}

static void
read_bool(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	if (config_setting_type(s) == CONFIG_TYPE_BOOL) {
		*(bool *)option_at(o, base) = config_setting_get_bool(s) != 0;
		return;
	}
	wrong_type(ps, s, o);
	put_default(ps, o, base);
}

/* ---- lists ---- */

/* The number of elements, or -1 and a fault. */
static int
list_length(struct parse *ps, config_setting_t *s, const struct option *o, bool of_groups)
{
	int type = config_setting_type(s), n;

	if (type != CONFIG_TYPE_LIST && (of_groups || type != CONFIG_TYPE_ARRAY)) {
		wrong_type(ps, s, o);
		return -1;
	}
	n = config_setting_length(s);
	if ((uint64_t)n < o->min) {
		parse_fault(ps, s, "\"%s\" is empty; name at least one", o->name);
		return -1;
	}
	if (o->max && (uint64_t)n > o->max) {
		parse_fault(ps, s, "\"%s\" has %d elements; at most %" PRIu64 " are possible", o->name, n, o->max);
		return -1;
	}
	return n;
}

static void
read_texts(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	int n = list_length(ps, s, o, false);
	size_t *count = option_count(o, base);
	char **texts;

	if (n <= 0)
		return;
	texts = mem_array((size_t)n, sizeof(*texts));
	option_set_array(o, base, texts);
	for (int i = 0; i < n; i++) {
		config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
		const char *text = get_text(ps, e, o);

		if (!text)
			continue;
		if (ps->borrow)
			memcpy(&texts[*count], &text, sizeof(text));
		else
			texts[*count] = mem_strdup(text);
		note(ps, &texts[*count], config_setting_source_line(e));
		++*count;
	}
}

static void
read_set(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	int n = list_length(ps, s, o, false);
	unsigned set = 0;

	for (int i = 0; i < n; i++) {
		config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
		const char *text = get_text(ps, e, o), *near;
		const struct option_name *name = text ? find_name(o->names, text) : NULL;
		char expect[512];

		if (name) {
			set |= name->value;
		} else if (text) {
			near = nearest_name(o->names, text);
			options_expect(o, expect, sizeof(expect));
			if (near)
				parse_fault(ps, e, "\"%s\" has \"%s\"; did you mean \"%s\"?", o->name, text, near);
			else
				parse_fault(ps, e, "\"%s\" has \"%s\"; write %s", o->name, text, expect);
		}
	}
	if (o->type == OPTION_SET8)
		*(uint8_t *)option_at(o, base) = (uint8_t)set;
	else
		*(unsigned *)option_at(o, base) = set;
}

/* False when there is nothing to keep. */
static bool
read_element(struct parse *ps, config_setting_t *e, const struct option *o, void *element)
{
	const struct option_group *g = o->group;
	const char *text;

	if (g->scalar) {
		text = get_text(ps, e, o);
		if (!text)
			return false;
		put_text(ps, &g->rows[0], element, text);
		note(ps, element, config_setting_source_line(e));
		return true;
	}
	if (config_setting_type(e) != CONFIG_TYPE_GROUP) {
		parse_fault(ps, e, "an element of \"%s\" is %s; write { … }", o->name, type_name(e));
		return false;
	}
	parse_group(ps, e, g, element);
	return true;
}

/* The list that a directory's files make, or NULL. */
static config_setting_t *
more_of(config_setting_t *group, const struct option *o)
{
	char name[64];

	if (!(o->flags & OPTION_MORE))
		return NULL;
	snprintf(name, sizeof(name), "%s" OPTION_MORE_SUFFIX, o->name);
	return config_setting_get_member(group, name);
}

/* s, more: either may be NULL. */
static void
read_list(struct parse *ps, config_setting_t *s, config_setting_t *more, const struct option *o, void *base)
{
	int n = s ? list_length(ps, s, o, !o->group->scalar) : 0, m = more ? list_length(ps, more, o, true) : 0;
	size_t *count = option_count(o, base);
	char *array = option_array(o, base);

	n = n < 0 ? 0 : n;
	m = m < 0 ? 0 : m;
	if (o->max && (uint64_t)n + (uint64_t)m > o->max) {
		parse_fault(ps, more, "\"%s\" has %d elements with those in files; at most %" PRIu64 " are possible", o->name, n + m, o->max);
		return;
	}
	if (n + m == 0)
		return;
	/* An OPTION_FIRST row before this one has left room. */
	if (!array) {
		array = mem_array((size_t)n + (size_t)m, o->group->size);
		option_set_array(o, base, array);
	}
	for (int i = 0; i < n + m; i++) {
		config_setting_t *e = i < n ? config_setting_get_elem(s, (unsigned)i) : config_setting_get_elem(more, (unsigned)(i - n));

		if (read_element(ps, e, o, array + *count * o->group->size))
			++*count;
	}
}

/* o[1] is the row of the list. */
static void
read_first(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	config_setting_t *rest = config_setting_get_member(config_setting_parent(s), o[1].name), *more = more_of(config_setting_parent(s), &o[1]);
	int n = rest && config_setting_is_list(rest) ? config_setting_length(rest) : 0;
	void *array;

	n += more && config_setting_is_list(more) ? config_setting_length(more) : 0;

	if (config_setting_type(s) != CONFIG_TYPE_GROUP) {
		wrong_type(ps, s, o);
		return;
	}
	array = mem_array((size_t)n + 1, o[1].group->size);
	option_set_array(o, base, array);
	*option_count(o, base) = 1;
	parse_group(ps, s, o->group, array);
}

/* ---- groups ---- */

static void
read_option(struct parse *ps, config_setting_t *s, const struct option *o, void *base)
{
	int type = config_setting_type(s);
	char number[24];

	note(ps, option_at(o, base), config_setting_source_line(s));
	switch (o->type) {
	case OPTION_TEXT:
		if (o->flags & OPTION_NUMBER_OK && type == CONFIG_TYPE_INT && config_setting_get_int(s) >= 0) {
			snprintf(number, sizeof(number), "%d", config_setting_get_int(s));
			put_text(ps, o, base, number);
			return;
		}
		/* fallthrough */
	case OPTION_FILE:
	case OPTION_MODE:
	case OPTION_CHOICE:
		read_value(ps, s, o, base);
		return;
	case OPTION_SIZE:
	case OPTION_DURATION:
		if (type == CONFIG_TYPE_STRING) {
			read_value(ps, s, o, base);
			return;
		}
		/* fallthrough */
	case OPTION_COUNT:
	case OPTION_COUNT64:
		if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) {
			read_integer(ps, s, o, base);
			return;
		}
		wrong_type(ps, s, o);
		put_default(ps, o, base);
		return;
	case OPTION_BOOL: read_bool(ps, s, o, base); return;
	case OPTION_TEXTS: read_texts(ps, s, o, base); return;
	case OPTION_SET:
	case OPTION_SET8: read_set(ps, s, o, base); return;
	case OPTION_LIST: read_list(ps, s, more_of(config_setting_parent(s), o), o, base); return;
	case OPTION_FIRST: read_first(ps, s, o, base); return;
	case OPTION_GROUP:
		if (type == CONFIG_TYPE_GROUP) {
			parse_group(ps, s, o->group, option_at(o, base));
		} else {
			wrong_type(ps, s, o);
			parse_defaults(ps, o->group, option_at(o, base));
		}
		return;
	default: return;
	}
}

static void
unknown_option(struct parse *ps, const config_setting_t *s, const struct option_group *g)
{
	const char *candidates[64], *near;
	size_t n = 0;

	for (size_t i = 0; i < g->nrows; i++)
		if (!(g->rows[i].flags & OPTION_DERIVED) && n < 64)
			candidates[n++] = g->rows[i].name;
	near = errs_nearest(config_setting_name(s), candidates, n);
	if (near)
		parse_fault(ps, s, "unknown option \"%s\" of %s; did you mean \"%s\"?", config_setting_name(s), g->name, near);
	else
		parse_fault(ps, s, "unknown option \"%s\" of %s; remove it", config_setting_name(s), g->name);
}

static bool
is_option(const struct option_group *g, const char *name)
{
	for (size_t i = 0; i < g->nrows; i++)
		if (!(g->rows[i].flags & OPTION_DERIVED) && !strncmp(g->rows[i].name, name, strlen(g->rows[i].name)) &&
		    (!strcmp(name + strlen(g->rows[i].name), "") ||
			((g->rows[i].flags & OPTION_MORE) && !strcmp(name + strlen(g->rows[i].name), OPTION_MORE_SUFFIX))))
			return true;
	return false;
}

void
parse_group(struct parse *ps, config_setting_t *group, const struct option_group *g, void *base)
{
	int known = 0, n = config_setting_length(group);
	const char *file;

	note(ps, base, config_setting_source_line(group));
	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];
		config_setting_t *s;

		if (o->type == OPTION_LINE)
			source_place(ps->source, config_setting_source_line(group), &file, option_at(o, base));
		if (o->flags & OPTION_DERIVED)
			continue;
		s = config_setting_get_member(group, o->name);
		if (s) {
			known++;
			read_option(ps, s, o, base);
			continue;
		}
		if (o->flags & OPTION_REQUIRED)
			parse_fault(ps, group, "%s has no \"%s\"; add it", g->name, o->name);
		if (o->type == OPTION_GROUP)
			parse_defaults(ps, o->group, option_at(o, base));
		else if (more_of(group, o))
			read_list(ps, NULL, more_of(group, o), o, base);
		else
			put_default(ps, o, base);
	}
	for (int i = 0; known < n && i < n; i++) {
		config_setting_t *s = config_setting_get_elem(group, (unsigned)i);

		if (!is_option(g, config_setting_name(s)))
			unknown_option(ps, s, g);
	}
}

void
parse_defaults(struct parse *ps, const struct option_group *g, void *base)
{
	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];

		if (o->flags & OPTION_DERIVED)
			continue;
		if (o->type == OPTION_GROUP)
			parse_defaults(ps, o->group, option_at(o, base));
		else
			put_default(ps, o, base);
	}
}
