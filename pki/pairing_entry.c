/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer's entry: written by us, then the operator's to change (what the peer may assert, revocation, how many links), then ours again
 * when the peer says that its gateways or addresses are others. So it is edited where that is plain, and never written over.
 */
#include "pki/pairing.h"

#include <stdio.h>
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"

static void
put_list(struct buf *b, char *const *list, size_t n)
{
	buf_puts(b, "[ ");
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s\"%s\"", i ? ", " : "", list[i]);
	buf_puts(b, n ? " ]" : "]");
}

static void
put_setting(struct buf *b, const char *name, char *const *list, size_t n)
{
	buf_printf(b, "  %s = ", name);
	put_list(b, list, n);
	buf_puts(b, ";\n");
}

/* None of the texts can hold a quote: names, ids and addresses were parsed. */
char *
pairing_entry(const struct pairing_request *r, const struct pairfile *p)
{
	struct buf b;

	buf_init(&b, 0);
	buf_puts(&b, "{\n");
	if (r->name)
		buf_printf(&b, "  name = \"%s\";\n", r->name);
	else
		buf_printf(&b, "  name = \"%.*s\";\n", (int)strcspn(p->domain, "."), p->domain);
	buf_printf(&b, "  domain = \"%s\";\n", p->domain);
	buf_printf(&b, "  bundle = \"%s/%s.pem\";\n", r->bundle_dir, p->domain);
	put_setting(&b, "gateways", p->gateways, p->ngateways);
	if (!r->no_dial && p->naddresses > 0) {
		put_setting(&b, "dial", p->addresses, p->naddresses);
		if (r->reverse)
			put_setting(&b, "dial_reverse", p->addresses, p->naddresses);
	}
	buf_puts(&b, "}\n");
	return buf_steal(&b);
}

/* -- reading an entry ------------------------------------------------------------------------------------ */

/* Past blanks and comments. */
static const char *
skip_blank(const char *p)
{
	for (;;) {
		p += strspn(p, " \t\r\n\f\v");
		if (*p == '#' || (p[0] == '/' && p[1] == '/'))
			p += strcspn(p, "\n");
		else if (p[0] == '/' && p[1] == '*' && strstr(p + 2, "*/"))
			p = strstr(p + 2, "*/") + 2;
		else
			return p;
	}
}

/* At a quote: past the text. */
static const char *
skip_text(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

static bool
is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '*';
}

/* The value of a setting of the entry's own group: where it begins, or NULL. */
static const char *
find_value(const char *entry, const char *name)
{
	size_t n = strlen(name), depth = 0;

	for (const char *p = skip_blank(entry); *p; p = skip_blank(p)) {
		const char *word = p;

		if (*p == '"') {
			p = skip_text(p);
		} else if (is_word(*p)) {
			while (is_word(*p))
				p++;
			if (depth != 1 || (size_t)(p - word) != n || strncmp(word, name, n) != 0)
				continue;
			word = skip_blank(p);
			if (*word == '=' || *word == ':')
				return skip_blank(word + 1);
		} else {
			depth += strchr("{[(", *p) != NULL;
			depth -= depth > 0 && strchr("}])", *p) != NULL;
			p++;
		}
	}
	return NULL;
}

char *
pairing_entry_name(const char *entry)
{
	const char *v = find_value(entry, "name"), *end;

	if (!v || *v != '"')
		return NULL;
	end = strpbrk(v + 1, "\"\\\n");
	return end && *end == '"' ? mem_strndup(v + 1, (size_t)(end - v - 1)) : NULL;
}

/* A list of plain texts and where it ends, if it says just what this one says. */
static const char *
says_the_same(const char *v, char *const *list, size_t n)
{
	size_t i = 0;

	if (*v != '[' && *v != '(')
		return NULL;
	for (v = skip_blank(v + 1); *v == '"'; i++) {
		const char *end = strpbrk(v + 1, "\"\\");

		if (!end || *end != '"' || i == n || strlen(list[i]) != (size_t)(end - v - 1) || strncmp(list[i], v + 1, (size_t)(end - v - 1)) != 0)
			return NULL;
		v = skip_blank(end + 1);
		if (*v == ',')
			v = skip_blank(v + 1);
	}
	return i == n && (*v == ']' || *v == ')') ? v + 1 : NULL;
}

/* -- changing it ----------------------------------------------------------------------------------------- */

struct list {
	const char *name;
	char *const *before, *const *after;
	size_t nbefore, nafter;
};

static bool
same_list(const struct list *l)
{
	if (l->nbefore != l->nafter)
		return false;
	for (size_t i = 0; i < l->nafter; i++)
		if (strcmp(l->before[i], l->after[i]) != 0)
			return false;
	return true;
}

static void
leave(struct buf *notes, const struct list *l, const char *why)
{
	buf_printf(notes, "%s %s; the peer now has ", l->name, why);
	put_list(notes, l->after, l->nafter);
	buf_puts(notes, "\n");
}

/* The entry with one list changed; entry is consumed. */
static char *
change(char *entry, const struct list *l, bool required, struct buf *notes)
{
	const char *v = find_value(entry, l->name), *end;
	struct buf b;

	if (same_list(l))
		return entry;
	if (!v) {
		if (required)
			leave(notes, l, "is not in the entry");
		return entry;
	}
	if ((end = says_the_same(v, l->before, l->nbefore)) == NULL) {
		/* Perhaps it was changed to what the peer has now. */
		if (says_the_same(v, l->after, l->nafter) == NULL)
			leave(notes, l, "was changed by hand, and is left as it is");
		return entry;
	}
	buf_init(&b, 0);
	buf_append(&b, entry, (size_t)(v - entry));
	put_list(&b, l->after, l->nafter);
	buf_puts(&b, end);
	mem_free(entry);
	return buf_steal(&b);
}

char *
pairing_entry_update(const char *entry, const struct pairfile *before, const struct pairfile *after, char **by_hand)
{
	const struct list gateways = { "gateways", before->gateways, after->gateways, before->ngateways, after->ngateways };
	struct list dial = { "dial", before->addresses, after->addresses, before->naddresses, after->naddresses };
	char *text = mem_strdup(entry);
	struct buf notes;

	buf_init(&notes, 0);
	text = change(text, &gateways, true, &notes);
	/* Without addresses before there was nothing to leave out: whether we dial is the operator's to say. */
	text = change(text, &dial, before->naddresses == 0, &notes);
	dial.name = "dial_reverse";
	text = change(text, &dial, false, &notes);
	*by_hand = notes.len ? buf_steal(&notes) : NULL;
	buf_fini(&notes);
	return text;
}
