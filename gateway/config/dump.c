/* SPDX-License-Identifier: Apache-2.0 */
/* Every option with its value, for people in libconfig's syntax, for programs in JSON: the same tree in other brackets. */
#include <inttypes.h>
#include <string.h>

#include "gateway/config/config.h"
#include "gateway/config/options.h"
#include "gateway/config/value.h"

struct dump {
	struct buf *out;
	bool json;
};

static void dump_group(const struct dump *d, const struct option_group *g, const void *base, unsigned depth);

static void
indent(unsigned depth, struct buf *out)
{
	while (depth-- > 0)
		buf_puts(out, "\t");
}

/* Before an option: its name. *first is cleared. */
static void
begin_option(const struct dump *d, const char *name, unsigned depth, bool *first)
{
	if (d->json)
		buf_puts(d->out, *first ? "\n" : ",\n");
	*first = false;
	indent(depth, d->out);
	buf_printf(d->out, d->json ? "\"%s\": " : "%s = ", name);
}

static void
end_option(const struct dump *d)
{
	if (!d->json)
		buf_puts(d->out, ";\n");
}

/* In both syntaxes: texts hold no control characters, and are UTF-8. */
static void
put_quoted(const char *s, struct buf *out)
{
	buf_puts(out, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			buf_puts(out, "\\");
		buf_append(out, s, 1);
	}
	buf_puts(out, "\"");
}

static void
put_set(const struct option_name *names, unsigned set, struct buf *out)
{
	const char *sep = "";

	buf_puts(out, "[");
	for (; names->name; names++) {
		if (!(set & names->value))
			continue;
		buf_printf(out, "%s \"%s\"", sep, names->name);
		sep = ",";
	}
	buf_puts(out, " ]");
}

/* Lists whose elements are text: of char *, or of structs that start with one. */
static void
put_texts(const char *array, size_t n, size_t size, struct buf *out)
{
	const char *text;

	buf_puts(out, "[");
	for (size_t i = 0; i < n; i++) {
		memcpy(&text, array + i * size, sizeof(text));
		buf_puts(out, i ? ", " : " ");
		put_quoted(text, out);
	}
	buf_puts(out, " ]");
}

static void
put_group(const struct dump *d, const struct option_group *g, const void *base, unsigned depth)
{
	buf_puts(d->out, d->json ? "{" : "{\n");
	dump_group(d, g, base, depth + 1);
	if (d->json)
		buf_puts(d->out, "\n");
	indent(depth, d->out);
	buf_puts(d->out, "}");
}

static void
put_groups(const struct dump *d, const struct option *o, const char *array, size_t n, unsigned depth)
{
	buf_puts(d->out, d->json ? "[" : "(");
	for (size_t i = 0; i < n; i++) {
		buf_puts(d->out, i ? ",\n" : "\n");
		indent(depth + 1, d->out);
		put_group(d, o->group, array + i * o->group->size, depth + 1);
	}
	buf_puts(d->out, d->json ? " ]" : " )");
}

static void
put_choice(const struct option *o, const void *base, struct buf *out)
{
	for (const struct option_name *n = o->names; n->name; n++)
		if ((int)n->value == *(const int *)option_at(o, base))
			put_quoted(n->name, out);
}

static void
put_value(const struct dump *d, const struct option *o, const void *base, unsigned depth)
{
	const void *at = option_at(o, base);
	struct buf *out = d->out;
	char text[VALUE_TEXT_MAX];

	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE: put_quoted(*(char *const *)at, out); break;
	case OPTION_BOOL: buf_puts(out, *(const bool *)at ? "true" : "false"); break;
	case OPTION_COUNT: buf_printf(out, "%u", *(const unsigned *)at); break;
	case OPTION_COUNT64: buf_printf(out, "%" PRIu64, *(const uint64_t *)at); break;
	case OPTION_SIZE: put_quoted(value_size_text(text, *(const uint64_t *)at), out); break;
	case OPTION_DURATION: put_quoted(value_duration_text(text, *(const uint64_t *)at), out); break;
	case OPTION_MODE: buf_printf(out, "\"%04o\"", *(const unsigned *)at); break;
	case OPTION_CHOICE: put_choice(o, base, out); break;
	case OPTION_SET: put_set(o->names, *(const unsigned *)at, out); break;
	case OPTION_SET8: put_set(o->names, *(const uint8_t *)at, out); break;
	case OPTION_TEXTS: put_texts(option_array(o, base), *option_count(o, base), sizeof(char *), out); break;
	case OPTION_LIST:
		if (o->group->scalar)
			put_texts(option_array(o, base), *option_count(o, base), o->group->size, out);
		else
			put_groups(d, o, option_array(o, base), *option_count(o, base), depth);
		break;
	case OPTION_GROUP: put_group(d, o->group, at, depth); break;
	default: break;
	}
}

/* An option without a value and without a default: nothing to print. */
static bool
is_unset(const struct option *o, const void *base)
{
	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE: return *(char *const *)option_at(o, base) == NULL;
	case OPTION_MODE:
	case OPTION_SET: return *(const unsigned *)option_at(o, base) == 0;
	case OPTION_TEXTS:
	case OPTION_LIST: return *option_count(o, base) == 0;
	case OPTION_GROUP:
		for (size_t i = 0; i < o->group->nrows; i++)
			if (!(o->group->rows[i].flags & OPTION_DERIVED) && !is_unset(&o->group->rows[i], option_at(o, base)))
				return false;
		return true;
	default: return false;
	}
}

static void
dump_option(const struct dump *d, const struct option *o, const void *base, unsigned depth, bool *first)
{
	if (is_unset(o, base))
		return;
	begin_option(d, o->name, depth, first);
	put_value(d, o, base, depth);
	end_option(d);
}

static void
dump_group(const struct dump *d, const struct option_group *g, const void *base, unsigned depth)
{
	bool first = true;

	for (size_t i = 0; i < g->nrows; i++)
		if (!(g->rows[i].flags & OPTION_DERIVED))
			dump_option(d, &g->rows[i], base, depth, &first);
}

static void
dump_all(const struct dump *d, const struct config *c, unsigned depth)
{
	bool uplink = c->npeers > 0 && c->peers[0].uplink, first = true;

	for (size_t i = 0; i < options_config.nrows; i++) {
		const struct option *o = &options_config.rows[i];

		if (o->type == OPTION_FIRST) {
			if (!uplink)
				continue;
			begin_option(d, o->name, depth, &first);
			put_group(d, o->group, c->peers, depth);
			end_option(d);
		} else if (uplink && o->off == offsetof(struct config, peers)) {
			if (c->npeers == 1)
				continue;
			begin_option(d, o->name, depth, &first);
			put_groups(d, o, (const char *)(c->peers + 1), c->npeers - 1, depth);
			end_option(d);
		} else if (!d->json && o->off == offsetof(struct config, peers_dir) && o->type == OPTION_FILE) {
			/* Its entries are dumped with the others; read again, they would be there twice. */
			if (c->peers_dir)
				buf_printf(d->out, "# peers_dir = \"%s\": its entries stand below\n", c->peers_dir);
		} else if (!(o->flags & OPTION_DERIVED)) {
			dump_option(d, o, c, depth, &first);
		}
	}
}

void
config_dump(const struct config *c, struct buf *out)
{
	if (c->identity.id)
		buf_printf(out, "# %s, from %s\n", c->identity.id, c->file);
	dump_all(&(struct dump){ out, false }, c, 0);
}

void
config_dump_json(const struct config *c, struct buf *out)
{
	buf_puts(out, "{");
	dump_all(&(struct dump){ out, true }, c, 1);
	buf_puts(out, "\n}\n");
}
