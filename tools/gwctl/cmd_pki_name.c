/* SPDX-License-Identifier: Apache-2.0 */
/* Whom an operator means by a name or a serial number. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/cmd_pki.h"

static const char *
path_of(const char *id)
{
	const char *slash = strncmp(id, "spiffe://", 9) == 0 ? strchr(id + 9, '/') : NULL;

	return slash ? slash + 1 : "";
}

bool
cmd_pki_is_named(const char *id, const char *name)
{
	const char *path = path_of(id);

	return strcmp(id, name) == 0 || strcmp(path, name) == 0 || (strncmp(path, "gateway/", 8) == 0 && strcmp(path + 8, name) == 0);
}

bool
cmd_pki_is_serial(const char *text)
{
	size_t n = 0;

	for (const char *c = text; *c; c++) {
		if (*c != ':' && !isxdigit((unsigned char)*c))
			return false;
		n += *c != ':';
	}
	return n == CA_SERIAL_MAX;
}

static bool
is_leaf(const struct ca_entry *e)
{
	return strcmp(e->kind, "gateway") == 0 || strcmp(e->kind, "workload") == 0;
}

static void
take(void *ctx, const struct ca_entry *e)
{
	struct cmd_pki_match *m = ctx;

	if (!is_leaf(e))
		return;
	mem_grow(&m->entries, &m->cap, m->n + 1, sizeof(*m->entries));
	m->entries[m->n++] = *e;
}

/* All that a name may stand for. */
static void
match_name(const struct ca *ca, const char *name, int64_t now, struct cmd_pki_match *m)
{
	char *id;

	if (strncmp(name, "spiffe://", 9) == 0) {
		ca_each(ca, name, now, take, m);
		return;
	}
	id = mem_printf("spiffe://%s/%s", ca_domain(ca), name);
	ca_each(ca, id, now, take, m);
	mem_free(id);
	id = mem_printf("spiffe://%s/gateway/%s", ca_domain(ca), name);
	ca_each(ca, id, now, take, m);
	mem_free(id);
}

struct near {
	const char **names;
	size_t n, cap;
	bool full;    /* compare whole ids */
};

static void
collect(void *ctx, const struct ca_entry *e)
{
	struct near *near = ctx;

	if (!is_leaf(e))
		return;
	mem_grow(&near->names, &near->cap, near->n + 2, sizeof(*near->names));
	near->names[near->n++] = near->full ? e->id : path_of(e->id);
	if (!near->full && strncmp(path_of(e->id), "gateway/", 8) == 0)
		near->names[near->n++] = path_of(e->id) + 8;
}

static void
say_unknown(const struct ca *ca, const char *what, int64_t now, struct errs *errs)
{
	struct near near = { .full = strncmp(what, "spiffe://", 9) == 0 };
	const char *name;

	if (cmd_pki_is_serial(what)) {
		errs_add(errs, NULL, 0, "the CA of %s never issued a certificate with the serial number %s; \"gwctl pki list\" shows what it did", ca_domain(ca), what);
		return;
	}
	ca_each(ca, NULL, now, collect, &near);
	name = errs_nearest(what, near.names, near.n);
	if (name)
		errs_add(errs, NULL, 0, "the CA of %s never issued anything to \"%s\"; did you mean \"%s\"?", ca_domain(ca), what, name);
	else
		errs_add(errs, NULL, 0, "the CA of %s never issued anything to \"%s\"; \"gwctl pki list\" shows to whom it did", ca_domain(ca), what);
	mem_free(near.names);
}

int
cmd_pki_match(const struct ca *ca, const char *what, int64_t now, struct cmd_pki_match *out, struct errs *errs)
{
	struct ca_entry e;

	memset(out, 0, sizeof(*out));
	if (cmd_pki_is_serial(what)) {
		if (ca_find(ca, what, now, &e) == 0) {
			mem_grow(&out->entries, &out->cap, 1, sizeof(*out->entries));
			out->entries[out->n++] = e;
		}
	} else {
		match_name(ca, what, now, out);
	}
	if (out->n == 0) {
		say_unknown(ca, what, now, errs);
		return -1;
	}
	for (size_t i = 1; i < out->n; i++) {
		if (strcmp(out->entries[i].id, out->entries[0].id) == 0)
			continue;
		errs_add(errs, NULL, 0, "\"%s\" may be %s or %s; give the whole id", what, out->entries[0].id, out->entries[i].id);
		cmd_pki_match_fini(out);
		return -1;
	}
	return 0;
}

void
cmd_pki_match_fini(struct cmd_pki_match *m)
{
	mem_free(m->entries);
	memset(m, 0, sizeof(*m));
}
