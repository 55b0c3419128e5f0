/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki list and show. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/pkifile.h"
#include "pki/svid.h"
#include "tools/gwctl/cmd_pki.h"

#define CRL_FILE_MAX (32 << 20)

/* -- list ------------------------------------------------------------------------------------------ */

struct list {
	struct table *table;
	json_t *array;      /* one of the two */
	const char *dir, *state, *name, *issuer;
	struct ca_rotation_status rotation;
	size_t shown;
};

/* "old" and "new" while a CA is replaced. */
static const char *
side_of(const struct list *l, const struct ca_entry *e)
{
	if (l->rotation.state == CA_ROTATION_NONE)
		return NULL;
	return strcmp(e->issuer, l->rotation.old_issuing) == 0 ? "old" : strcmp(e->issuer, l->rotation.new_issuing) == 0 ? "new" : NULL;
}

static bool
wanted(const struct list *l, const struct ca_entry *e)
{
	const char *side = side_of(l, e);

	if (l->state && strcmp(l->state, ca_state_text(e->state)) != 0)
		return false;
	if (l->name && !cmd_pki_is_named(e->id, l->name) && strcmp(e->serial, l->name) != 0)
		return false;
	return l->issuer == NULL || strcmp(l->issuer, e->issuer) == 0 || (side && strcmp(l->issuer, side) == 0);
}

static json_t *
entry_json(const struct list *l, const struct ca_entry *e)
{
	char until[32], from[32], at[32];

	cmd_pki_time(from, e->not_before);
	cmd_pki_time(until, e->not_after);
	cmd_pki_time(at, e->revoked_at);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:s?, s:s, s:s?, s:s}", "serial", e->serial, "kind", e->kind, "id", e->id,
	    "not_before", from, "not_after", until, "state", ca_state_text(e->state), "reason", e->reason, "revoked_at", e->reason ? at : NULL,
	    "issuer", e->issuer, "ca", side_of(l, e), "how", e->how, "predecessor", e->predecessor, "dns", e->dns);
}

/* All are of one domain: what "gwctl pki" takes as a name says who it is. */
static const char *
name_of(const char *id)
{
	const char *path = strncmp(id, "spiffe://", 9) == 0 ? strchr(id + 9, '/') : NULL;

	return path ? path + 1 : strncmp(id, "spiffe://", 9) == 0 ? id + 9 : id;
}

static void
list_entry(void *ctx, const struct ca_entry *e)
{
	struct list *l = ctx;
	char until[32], at[32], *more = NULL;

	if (!wanted(l, e))
		return;
	l->shown++;
	if (l->array) {
		json_array_append_new(l->array, entry_json(l, e));
		return;
	}
	cmd_pki_time(until, e->not_after);
	cmd_pki_time(at, e->revoked_at);
	if (e->reason)
		more = mem_printf("%s %s", at, e->reason);
	table_cell(l->table, "%s", name_of(e->id));
	table_cell(l->table, "%s", e->kind);
	table_cell(l->table, "%s", ca_state_text(e->state));
	table_cell(l->table, "%s", until);
	table_cell(l->table, "%s", e->serial);
	if (l->rotation.state)
		table_cell(l->table, "%s", side_of(l, e) ? side_of(l, e) : "-");
	table_cell(l->table, "%s", more ? more : e->dns);
	mem_free(more);
}

static int
parse_list(struct gwctl *g, struct list *l, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "state", required_argument, NULL, 's' },
		{ "id", required_argument, NULL, 'i' }, { "issuer", required_argument, NULL, 'I' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	const char *states[CA_STATES], *near;
	bool known = true;
	int c;

	for (int i = 0; i < CA_STATES; i++)
		states[i] = ca_state_text((enum ca_state)i);
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': l->dir = optarg; break;
		case 'i': l->name = optarg; break;
		case 'I': l->issuer = optarg; break;
		case 'j': g->json = true; break;
		case 's':
			l->state = optarg;
			known = false;
			for (int i = 0; i < CA_STATES; i++)
				known = known || strcmp(states[i], optarg) == 0;
			break;
		default:
			return gwctl_usage("pki list", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (!known) {
		near = errs_nearest(l->state, states, CA_STATES);
		return gwctl_usage("pki list", "--state %s is unknown%s%s%s", l->state, near ? "; did you mean " : "; valid, not-yet-valid, expired, revoked, superseded or retired",
		    near ? near : "", near ? "?" : "");
	}
	if (argc - optind > 1)
		return gwctl_usage("pki list", "\"%s\" is too much", argv[optind + 1]);
	if (argc > optind)
		l->name = argv[optind];
	return GWCTL_OK;
}

int
cmd_pki_list(struct gwctl *g, int argc, char **argv)
{
	static const char *const headings[] = { "NAME", "KIND", "STATE", "NOT AFTER", "SERIAL", "" };
	static const char *const headings_two[] = { "NAME", "KIND", "STATE", "NOT AFTER", "SERIAL", "CA", "" };
	struct list l = { 0 };
	int rc = parse_list(g, &l, argc, argv);
	int64_t now = cmd_pki_now();
	struct errs errs;
	char *dir;

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	dir = cmd_pki_dir(g, l.dir);
	if (access(dir, F_OK) == 0) {
		struct errs quiet; /* what is wrong with the store, ca_list() says */

		errs_init(&quiet);
		ca_rotation_status(dir, now, &l.rotation, &quiet);
		errs_fini(&quiet);
	}
	if (g->json)
		l.array = json_array();
	else
		l.table = l.rotation.state ? table_new(headings_two, NULL, 7) : table_new(headings, NULL, 6);
	if (ca_list(dir, now, list_entry, &l, &errs) == 0) {
		if (g->json)
			cmd_pki_json(json_incref(l.array));
		else if (l.shown)
			table_print(l.table, g->color);
		else
			puts("Nothing of that kind was issued.");
		if (!g->json && l.rotation.state)
			printf("\nThe CA is being replaced (%s): %zu certificate%s of the old one in force, %zu of them with a successor.\n",
			    l.rotation.state == CA_ROTATION_BEGUN ? "begun" : "switched", l.rotation.live, l.rotation.live == 1 ? "" : "s", l.rotation.live_superseded);
	}
	json_decref(l.array);
	if (l.table)
		table_free(l.table);
	mem_free(dir);
	return cmd_pki_done(&errs);
}

/* -- show ------------------------------------------------------------------------------------------ */

struct show {
	json_t *array;      /* NULL: text */
	int n;
	int64_t now;
};

static void
show_cert(void *ctx, const struct svid_cert *c)
{
	struct show *s = ctx;
	const char *state = c->not_after < s->now ? "expired" : c->not_before > s->now ? "not yet valid" : "valid";
	const char *fault = c->ca || c->reason == SVID_OK ? NULL : svid_reason_text(c->reason);
	char from[32], until[32], fingerprint[65] = "", *subject = gwctl_safe(c->subject), *id = gwctl_safe(c->id);

	cmd_pki_time(from, c->not_before);
	cmd_pki_time(until, c->not_after);
	esc_hex(fingerprint, c->sha256, 32);
	if (s->array) {
		json_array_append_new(s->array, json_pack("{s:s, s:s, s:b, s:s, s:s, s:s, s:s, s:s, s:s?}", "subject", subject, "id", id, "ca", c->ca,
		    "serial", c->serial, "not_before", from, "not_after", until, "state", state, "sha256", fingerprint, "fault", fault));
	} else {
		printf("%s%s\n", s->n ? "\n" : "", c->ca ? "CA certificate" : "certificate");
		if (c->id[0])
			printf("  id          %s\n", id);
		printf("  subject     %s\n  serial      %s\n", subject, c->serial);
		printf("  valid       %s to %s (%s)\n", from, until, state);
		printf("  sha256      %s\n", fingerprint);
		if (fault)
			printf("  not an SVID %s: %s\n", fault, c->detail);
	}
	s->n++;
	mem_free(subject);
	mem_free(id);
}

static void
show_crl(void *ctx, const struct svid_crl *c)
{
	struct show *s = ctx;
	const char *state = c->next_update && c->next_update < s->now ? "stale" : c->this_update > s->now ? "not yet in force" : "in force";
	char from[32], until[32] = "-", *issuer = gwctl_safe(c->issuer);

	cmd_pki_time(from, c->this_update);
	if (c->next_update)
		cmd_pki_time(until, c->next_update);
	if (s->array) {
		json_array_append_new(s->array, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:b}", "issuer", issuer, "number", c->number, "this_update", from,
		    "next_update", until, "state", state, "revoked", (json_int_t)c->revoked, "root", c->root));
	} else {
		printf("%sCRL%s\n", s->n ? "\n" : "", c->root ? " of a root" : "");
		printf("  issuer      %s\n  number      %s\n", issuer, c->number);
		printf("  valid       %s to %s (%s)\n", from, until, state);
		printf("  revoked     %zu\n", c->revoked);
	}
	s->n++;
	mem_free(issuer);
}

static int
show_file(struct gwctl *g, const char *file)
{
	struct show s = { .now = cmd_pki_now() };
	char *pem = pkifile_read(file, CRL_FILE_MAX);
	const char *why = NULL;
	int rc;

	if (pem == NULL)
		return gwctl_error("%s: %s", file, strerror(errno));
	s.array = g->json ? json_array() : NULL;
	if (strstr(pem, "-----BEGIN X509 CRL-----"))
		rc = svid_crl_pem_each(pem, strlen(pem), show_crl, &s, &why);
	else
		rc = svid_pem_each(pem, show_cert, &s, &why);
	mem_free(pem);
	if (s.array)
		cmd_pki_json(s.array);
	if (rc < 0)
		return gwctl_error("%s: %s", file, why);
	return rc > 0 ? GWCTL_OK : gwctl_error("%s: neither certificate nor CRL in PEM form", file);
}

static void
show_entry(void *ctx, const struct ca_entry *e)
{
	struct list *l = ctx;
	char from[32], until[32], at[32];

	if (!wanted(l, e))
		return;
	if (l->array) {
		l->shown++;
		json_array_append_new(l->array, entry_json(l, e));
		return;
	}
	cmd_pki_time(from, e->not_before);
	cmd_pki_time(until, e->not_after);
	printf("%s%s\n  id          %s\n  serial      %s\n  valid       %s to %s (%s)\n", l->shown++ ? "\n" : "", e->kind, e->id, e->serial, from, until,
	    ca_state_text(e->state));
	if (e->reason) {
		cmd_pki_time(at, e->revoked_at);
		printf("  revoked     %s (%s)\n", at, e->reason);
	}
	if (e->dns[0])
		printf("  DNS names   %s\n", e->dns);
	printf("  issued by   %s (%s)\n", e->issuer, e->how);
	if (e->predecessor)
		printf("  replaces    %s\n", e->predecessor);
}

/* What the books have of a serial or a name. */
static int
show_books(struct gwctl *g, const char *dir_option, const char *what)
{
	struct list l = { .name = what };
	char *dir = cmd_pki_dir(g, dir_option), plain[64];
	struct errs errs;
	size_t n = 0;

	if (cmd_pki_is_serial(what)) {
		for (const char *c = what; *c; c++)
			if (*c != ':')
				plain[n++] = *c >= 'A' && *c <= 'F' ? (char)(*c - 'A' + 'a') : *c;
		plain[n] = 0;
		l.name = plain;
	}
	errs_init(&errs);
	l.array = g->json ? json_array() : NULL;
	if (ca_list(dir, cmd_pki_now(), show_entry, &l, &errs) == 0 && l.shown == 0)
		errs_add(&errs, what, 0, "neither a file nor the name or serial number of a certificate that was issued in %s", dir);
	if (l.array && l.shown)
		cmd_pki_json(json_incref(l.array));
	json_decref(l.array);
	mem_free(dir);
	return cmd_pki_done(&errs);
}

int
cmd_pki_show(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	const char *dir_option = NULL, *what;
	struct stat st;
	char *dir;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': dir_option = optarg; break;
		case 'j': g->json = true; break;
		default:
			return gwctl_usage("pki show", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pki show", "which file, name or serial number?");
	what = argv[optind];
	dir = cmd_pki_dir(g, dir_option);
	/* A path, or nothing that the books could know. */
	c = (stat(what, &st) == 0 && !S_ISDIR(st.st_mode)) || strchr(what, '.') || access(dir, F_OK) != 0;
	mem_free(dir);
	return c && strncmp(what, "spiffe://", 9) != 0 ? show_file(g, what) : show_books(g, dir_option, what);
}
