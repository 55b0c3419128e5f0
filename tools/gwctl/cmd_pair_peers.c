/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pair accept, update: what a pairing file does to the peers directory. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "pki/pkifile.h"
#include "pki/svid.h"
#include "tools/gwctl/cmd_pair.h"
#include "tools/gwctl/cmd_pki.h"

struct install {
	struct pairing_request r;
	const char *file, *domain, *peers;
	char *text, *own, *dir, *bundle_dir; /* mem_free() */
};

static bool
is_peer_name(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= 64 && s[0] != '-' && s[0] != '.' &&
	    strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

/* As an entry names it: relative to the configuration where it is below its directory. */
static char *
as_configured(const struct gwctl *g, const char *dir)
{
	char *beside = pkifile_dirname(g->config_path);
	size_t n = strlen(beside);
	char *out = mem_strdup(strncmp(dir, beside, n) == 0 && dir[n] == '/' && n > 0 && dir[n + 1] ? dir + n + 1 : dir);

	mem_free(beside);
	return out;
}

/* Reads the file, and our own domain, which no peer may be. 0, or an exit code with faults in *errs. */
static int
prepare(const struct gwctl *g, struct install *o, struct errs *errs)
{
	o->dir = cmd_pair_dir(g, o->peers);
	o->bundle_dir = as_configured(g, o->dir);
	o->text = pkifile_read(o->file, PAIRFILE_MAX);
	if (!o->text && (errno == EFBIG || errno == EINVAL)) {
		errs_add(errs, o->file, 0, "refused (%s): %s; ask the peer for the file that \"gwctl pair export\" wrote", pairing_token(PAIRING_MALFORMED),
		    errno == EFBIG ? "larger than 256 KiB" : "it has a NUL in it, so it is no text");
		return cmd_pair_exit(PAIRING_MALFORMED);
	}
	if (!o->text) {
		errs_add(errs, o->file, 0, "%s", strerror(errno));
		return GWCTL_FAILED;
	}
	/* The rest of the configuration may well be faulty: a peer's bundle that it names is what we are about to install. */
	o->own = o->domain ? mem_strdup(o->domain) : config_peek_domain(g->config_path);
	if (!o->own) {
		errs_add(errs, NULL, 0, "our own domain is not known: %s says none; give --domain", g->config_path);
		return GWCTL_FAILED;
	}
	o->r.text = o->text;
	o->r.len = strlen(o->text);
	o->r.own_domain = o->own;
	o->r.peers_dir = o->dir;
	o->r.bundle_dir = o->bundle_dir;
	o->r.now = cmd_pki_now();
	return GWCTL_OK;
}

static void
install_fini(struct install *o)
{
	mem_free(o->text);
	mem_free(o->own);
	mem_free(o->dir);
	mem_free(o->bundle_dir);
}

static void
print_lines(const char *before, const char *lines)
{
	char *copy = mem_strdup(lines), *rest = copy, *line;

	while ((line = strsep(&rest, "\n")) != NULL)
		if (*line)
			fprintf(stderr, "%s%s\n", before, line);
	mem_free(copy);
}

/* -- what is different ------------------------------------------------------------------------------------ */

static bool
has(char *const *list, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

struct ca_search {
	const uint8_t *sha256;
	bool found;
};

static void
search_ca(void *ctx, const struct svid_cert *c)
{
	struct ca_search *s = ctx;

	s->found = s->found || memcmp(s->sha256, c->sha256, 32) == 0;
}

struct ca_diff {
	const char *other_pem;
	const char *sign;
	json_t *json;
	unsigned n;
};

static void
diff_ca(void *ctx, const struct svid_cert *c)
{
	struct ca_diff *d = ctx;
	struct ca_search s = { .sha256 = c->sha256 };
	char hex[65] = "", until[32], *subject;
	const char *why;

	if (d->other_pem)
		svid_pem_each(d->other_pem, search_ca, &s, &why);
	if (s.found)
		return;
	d->n++;
	esc_hex(hex, c->sha256, 32);
	if (d->json) {
		json_array_append_new(d->json, json_string(hex));
		return;
	}
	subject = gwctl_safe(c->subject);
	cmd_pki_time(until, c->not_after);
	printf("  CA        %s %s, until %s\n              sha256 %s\n", d->sign, subject, until, hex);
	mem_free(subject);
}

static unsigned
diff_list(const char *what, const char *sign, char *const *a, size_t na, char *const *b, size_t nb, json_t *json)
{
	unsigned n = 0;

	for (size_t i = 0; i < na; i++) {
		if (has(b, nb, a[i]))
			continue;
		n++;
		if (json)
			json_array_append_new(json, json_string(a[i]));
		else
			printf("  %-10s%s %s\n", what, sign, a[i]);
	}
	return n;
}

/* What a has and b does not: on standard output, or as an object. */
static unsigned
diff(const char *sign, const struct pairfile *a, const char *a_pem, const struct pairfile *b, const char *b_pem, json_t *json)
{
	struct ca_diff d = { .other_pem = b_pem, .sign = sign, .json = json ? json_array() : NULL };
	json_t *gateways = json ? json_array() : NULL, *addresses = json ? json_array() : NULL;
	const char *why;
	unsigned n;

	n = diff_list("gateway", sign, a->gateways, a->ngateways, b->gateways, b->ngateways, gateways);
	n += diff_list("address", sign, a->addresses, a->naddresses, b->addresses, b->naddresses, addresses);
	if (a_pem)
		svid_pem_each(a_pem, diff_ca, &d, &why);
	if (json) {
		json_object_set_new(json, "gateways", gateways);
		json_object_set_new(json, "addresses", addresses);
		json_object_set_new(json, "bundle", d.json);
	}
	return n + d.n;
}

/* -- accept ------------------------------------------------------------------------------------------------ */

static int
parse_accept(struct gwctl *g, struct install *o, int argc, char **argv)
{
	static const struct option options[] = { { "code", required_argument, NULL, 'c' }, { "name", required_argument, NULL, 'n' },
		{ "domain", required_argument, NULL, 'm' }, { "peers", required_argument, NULL, 'p' }, { "no-dial", no_argument, NULL, 'N' },
		{ "reverse", no_argument, NULL, 'r' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'c': o->r.code = optarg; break;
		case 'm': o->domain = optarg; break;
		case 'p': o->peers = optarg; break;
		case 'N': o->r.no_dial = true; break;
		case 'r': o->r.reverse = true; break;
		case 'j': g->json = true; break;
		case 'n':
			if (!is_peer_name(optarg))
				return gwctl_usage("pair accept", "--name %s: at most 64 letters, digits, \"-\", \"_\" and \".\", and none of \"-.\" first", optarg);
			o->r.name = optarg;
			break;
		default:
			return gwctl_usage("pair accept", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pair accept", "which file?");
	if (o->r.code == NULL)
		return gwctl_usage("pair accept", "--code CODE is missing: the peer's operator reads it to you from \"gwctl pair show\"");
	if (o->r.no_dial && o->r.reverse)
		return gwctl_usage("pair accept", "--no-dial and --reverse exclude each other");
	o->file = argv[optind];
	return GWCTL_OK;
}

struct name_clash {
	const char *name, *domain;
	struct errs *errs;
	bool found;
};

static void
find_clash(void *ctx, const struct config_written_peer *p)
{
	struct name_clash *c = ctx;

	if (c->found || !p->name || strcmp(p->name, c->name) != 0 || (p->domain && strcmp(p->domain, c->domain) == 0))
		return;
	c->found = true;
	errs_add(c->errs, p->file, p->line, "\"%s\" is the name of another peer already; choose one with --name", c->name);
}

/* Two peers of one name would make the whole configuration faulty. What cannot be read cannot be compared: then a reload will say it. */
static bool
name_is_free(const struct gwctl *g, const struct install *o, struct errs *errs)
{
	struct name_clash clash = { .errs = errs };
	struct pairfile p;
	struct errs ignored;
	const char *why;
	char *label = NULL, *path, *entry, *kept = NULL;

	if (pairfile_read(&p, o->r.text, o->r.len, &why) != PAIRFILE_OK)
		return true; /* pairing_accept() says so */
	path = mem_printf("%s/%s.conf", o->dir, p.domain);
	entry = o->r.name || o->r.no_dial || o->r.reverse ? NULL : pkifile_read(path, PAIRFILE_MAX);
	kept = entry ? pairing_entry_name(entry) : NULL;
	label = mem_strndup(p.domain, strcspn(p.domain, "."));
	clash.domain = p.domain;
	clash.name = o->r.name ? o->r.name : kept ? kept : label;
	errs_init(&ignored);
	config_peek_peers(g->config_path, find_clash, &clash, &ignored);
	errs_fini(&ignored);
	mem_free(path);
	mem_free(entry);
	mem_free(kept);
	mem_free(label);
	pairfile_fini(&p);
	return !clash.found;
}

static void
print_next(const struct gwctl *g, const struct install *o, const struct pairfile *p)
{
	struct cmd_pair_entry e;

	cmd_pair_find(g, p->domain, &e);
	if (e.found && e.listed)
		printf("Next: services that are there and rules for them, then: gwctl reload\n");
	else if (e.found)
		printf("Next: its entry stands at %s:%u; compare it with %s/%s.conf, then: gwctl reload\n", e.file, e.line, o->dir, p->domain);
	else
		printf("Next: name the directory in %s, once for all peers, then: gwctl reload\n\npeers_dir = \"%s\";\n", g->config_path, o->bundle_dir);
	cmd_pair_entry_fini(&e);
}

static void
report_accept(const struct gwctl *g, const struct install *o, const struct pairfile *p, const struct pairing_change *c)
{
	json_t *j;

	if (g->json) {
		j = cmd_pair_json(p);
		json_object_set_new(j, "bundle", json_sprintf("%s/%s.pem", o->dir, p->domain));
		json_object_set_new(j, "include", json_sprintf("%s/%s.conf", o->bundle_dir, p->domain));
		json_object_set_new(j, "entry", json_string(c->entry));
		cmd_pair_print_json(j);
	} else {
		printf("Accepted:\n");
		cmd_pair_describe(p);
		printf("Installed %s/%s.pem, and as %s.conf its entry%s:\n\n%s\n", o->dir, p->domain, p->domain, c->entry_kept ? ", as it was but for what changed" : "",
		    c->entry);
		print_next(g, o, p);
	}
	if (c->by_hand)
		print_lines("warning: ", c->by_hand);
}

int
cmd_pair_accept(struct gwctl *g, int argc, char **argv)
{
	struct install o = { 0 };
	struct pairing_change change = { 0 };
	struct pairfile p = { 0 };
	enum pairing_result res;
	struct errs errs;
	int rc = parse_accept(g, &o, argc, argv);

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	rc = prepare(g, &o, &errs);
	if (rc == GWCTL_OK && !name_is_free(g, &o, &errs))
		rc = GWCTL_FAILED;
	if (rc == GWCTL_OK) {
		res = pairing_accept(&o.r, &p, &change, &errs);
		rc = cmd_pair_exit(res);
		if (res == PAIRING_OK)
			report_accept(g, &o, &p, &change);
	}
	gwctl_print_errs(&errs);
	errs_fini(&errs);
	pairfile_fini(&p);
	pairing_change_fini(&change);
	install_fini(&o);
	return rc;
}

/* -- update ------------------------------------------------------------------------------------------------ */

static void
report_update(const struct gwctl *g, const struct pairfile *p, const struct pairing_change *c)
{
	json_t *added, *removed, *j;
	unsigned n;

	if (g->json) {
		added = json_object();
		removed = json_object();
		diff("+", p, p->bundle_pem, &c->before, c->before_pem, added);
		diff("-", &c->before, c->before_pem, p, p->bundle_pem, removed);
		j = cmd_pair_json(p);
		json_object_set_new(j, "added", added);
		json_object_set_new(j, "removed", removed);
		json_object_set_new(j, "entry", json_string(c->entry));
		cmd_pair_print_json(j);
	} else {
		printf("Updated %s; signed by the pairing key that is known of it.\n", p->domain);
		n = diff("-", &c->before, c->before_pem, p, p->bundle_pem, NULL);
		n += diff("+", p, p->bundle_pem, &c->before, c->before_pem, NULL);
		if (n == 0)
			puts("  no gateway, address or CA is new or gone");
		printf("Next: gwctl reload%s\n", n ? "" : " (nothing is to be done for running traffic)");
	}
	if (c->by_hand)
		print_lines("warning: ", c->by_hand);
}

int
cmd_pair_update(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "domain", required_argument, NULL, 'm' }, { "peers", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	struct pairing_change change = { 0 };
	struct pairfile p = { 0 };
	struct install o = { 0 };
	struct errs errs;
	int c, rc;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'm': o.domain = optarg; break;
		case 'p': o.peers = optarg; break;
		case 'j': g->json = true; break;
		default: return gwctl_usage("pair update", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pair update", "which file?");
	o.file = argv[optind];
	errs_init(&errs);
	rc = prepare(g, &o, &errs);
	if (rc == GWCTL_OK) {
		enum pairing_result res = pairing_update(&o.r, &p, &change, &errs);

		rc = cmd_pair_exit(res);
		if (res == PAIRING_OK)
			report_update(g, &p, &change);
	}
	gwctl_print_errs(&errs);
	errs_fini(&errs);
	pairfile_fini(&p);
	pairing_change_fini(&change);
	install_fini(&o);
	return rc;
}
