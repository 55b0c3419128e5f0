/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki: init, issue, bundle, list, show. The work is pki/ca.c's; here are options, files and words. */
#include "tools/gwctl/cmd_pki.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/config/value.h"
#include "pki/ca.h"
#include "pki/pkifile.h"
#include "pki/svid.h"

#define FILE_MAX_BYTES (1 << 20)

char *
cmd_pki_dir(const struct gwctl *g, const char *option)
{
	char *beside, *dir;

	if (option)
		return mem_strdup(option);
	beside = pkifile_dirname(g->config_path);
	dir = mem_printf("%s/pki", beside);
	mem_free(beside);
	return dir;
}

void
cmd_pki_time(char out[32], int64_t t)
{
	time_t v = (time_t)t;
	struct tm tm;

	gmtime_r(&v, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

int64_t
cmd_pki_now(void)
{
	return (int64_t)(clock_wall_us() / 1000000);
}

/* The faults, printed; GWCTL_FAILED. */
static int
failed(struct errs *errs)
{
	gwctl_print_errs(errs);
	errs_fini(errs);
	return GWCTL_FAILED;
}

static int
print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
	return GWCTL_OK;
}

/* -- init ------------------------------------------------------------------------------------------ */

static int
run_init(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "alg", required_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	enum pkey_alg alg = PKEY_P256;
	const char *dir_option = NULL;
	struct errs errs;
	char *dir;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': dir_option = optarg; break;
		case 'j': g->json = true; break;
		case 'a':
			if (pkey_alg_parse(&alg, optarg) != 0)
				return gwctl_usage("pki init", "--alg %s is unknown; p256, p384 or ed25519", optarg);
			break;
		default:
			return gwctl_usage("pki init", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pki init", "which trust domain? For example: gwctl pki init hud.example");
	errs_init(&errs);
	dir = cmd_pki_dir(g, dir_option);
	if (ca_init(dir, argv[optind], alg, NULL, cmd_pki_now(), &errs) != 0) {
		mem_free(dir);
		return failed(&errs);
	}
	if (g->json) {
		print_json(json_pack("{s:s, s:s, s:o}", "domain", argv[optind], "directory", dir, "bundle",
		    json_sprintf("%s/%s.pem", dir, argv[optind])));
	} else {
		printf("CA of %s made in %s.\n", argv[optind], dir);
		printf("  bundle      %s/%s.pem\n", dir, argv[optind]);
		printf("  root key    %s/ca/root.key   (move it to a safe place offline: issuing does not need it)\n", dir);
		printf("Next: gwctl pki issue gateway NAME --dir %s --out %s/gateway\n", dir, dir);
	}
	mem_free(dir);
	errs_fini(&errs);
	return GWCTL_OK;
}

/* -- issue ----------------------------------------------------------------------------------------- */

struct issue {
	struct ca_request r;
	const char *dns[CA_DNS_MAX];
	const char *dir, *out, *csr;
	bool key_made;     /* PREFIX.key is ours to remove */
};

static int
parse_days(int64_t *out, const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 1 || n > 3650)
		return -1;
	*out = n * INT64_C(86400);
	return 0;
}

/* GWCTL_OK, or what to exit with. */
static int
parse_issue(struct gwctl *g, struct issue *o, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "dns", required_argument, NULL, 'n' },
		{ "days", required_argument, NULL, 'D' }, { "ttl", required_argument, NULL, 't' }, { "csr", required_argument, NULL, 'c' },
		{ "alg", required_argument, NULL, 'a' }, { "out", required_argument, NULL, 'o' }, { "json", no_argument, NULL, 'j' },
		{ 0 } };
	const char *why;
	uint64_t ms;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'c': o->csr = optarg; break;
		case 'o': o->out = optarg; break;
		case 'j': g->json = true; break;
		case 'n':
			if (o->r.ndns == CA_DNS_MAX)
				return gwctl_usage("pki issue", "more than %d times --dns", CA_DNS_MAX);
			o->dns[o->r.ndns++] = optarg;
			break;
		case 'D':
			if (parse_days(&o->r.lifetime_s, optarg) != 0)
				return gwctl_usage("pki issue", "--days %s: a number from 1 to 3650", optarg);
			break;
		case 't':
			if (value_duration(&ms, optarg, &why) != 0)
				return gwctl_usage("pki issue", "--ttl %s: %s; for example 24h or 30m", optarg, why);
			if (ms < 60000 || ms > UINT64_C(3650) * 86400000)
				return gwctl_usage("pki issue", "--ttl %s: from one minute to 3650 days", optarg);
			o->r.lifetime_s = (int64_t)(ms / 1000);
			break;
		case 'a':
			if (pkey_alg_parse(&o->r.alg, optarg) != 0)
				return gwctl_usage("pki issue", "--alg %s is unknown; p256, p384 or ed25519", optarg);
			break;
		default:
			return gwctl_usage("pki issue", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 2 || (strcmp(argv[optind], "gateway") && strcmp(argv[optind], "workload")))
		return gwctl_usage("pki issue", "what for? \"gateway NAME\" or \"workload NAME\"");
	if (o->out == NULL || o->out[0] == 0)
		return gwctl_usage("pki issue", "where to? --out PREFIX writes PREFIX.crt and PREFIX.key");
	o->r.kind = argv[optind];
	o->r.id = argv[optind + 1];
	o->r.dns = o->dns;
	return GWCTL_OK;
}

static int
must_be_free(const char *path, struct errs *errs)
{
	if (access(path, F_OK) != 0)
		return 0;
	errs_add(errs, path, 0, "exists, and is never overwritten; give another --out, or move it away first");
	return -1;
}

static int
write_new(const char *path, mode_t mode, const char *text, struct errs *errs)
{
	if (pkifile_write_new(path, mode, text, strlen(text)) == 0)
		return 0;
	errs_add(errs, path, 0, "cannot write: %s", strerror(errno));
	return -1;
}

/* Key before certificate: who sees the certificate finds its key. */
static int
write_issued(struct issue *o, const struct ca_issued *issued, const char *crt, const char *key, struct errs *errs)
{
	if (issued->key_pem && write_new(key, 0600, issued->key_pem, errs) != 0)
		return -1;
	o->key_made = issued->key_pem != NULL;
	return write_new(crt, 0644, issued->chain_pem, errs);
}

static void
report_issued(const struct gwctl *g, const struct issue *o, const struct ca_issued *issued, const char *crt, const char *key)
{
	char until[32];

	cmd_pki_time(until, issued->not_after);
	if (g->json) {
		print_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?}", "id", o->r.id, "kind", o->r.kind, "serial", issued->serial,
		    "not_after", until, "certificate", crt, "key", issued->key_pem ? key : NULL));
		return;
	}
	printf("Issued %s, valid until %s, serial %s.\n", o->r.id, until, issued->serial);
	printf("  certificate %s   (with the issuing CA)\n", crt);
	if (issued->key_pem)
		printf("  key         %s\n", key);
	if (issued->shortened)
		printf("  note: cut to the issuing CA's own end\n");
}

static int
issue_with(const struct gwctl *g, struct issue *o, struct ca *ca, struct errs *errs)
{
	char *crt = mem_printf("%s.crt", o->out), *key = mem_printf("%s.key", o->out), *id = NULL, *csr = NULL;
	struct ca_issued issued = { 0 };
	const char *why;
	int rc = -1;

	if (must_be_free(crt, errs) != 0 || (o->csr == NULL && must_be_free(key, errs) != 0))
		goto out;
	if (o->csr && (csr = pkifile_read(o->csr, FILE_MAX_BYTES)) == NULL) {
		errs_add(errs, o->csr, 0, "%s", strerror(errno));
		goto out;
	}
	id = ca_id_of_name(ca_domain(ca), o->r.kind, o->r.id, &why);
	if (id == NULL) {
		errs_add(errs, NULL, 0, "\"%s\" cannot be the name of a %s in %s: %s", o->r.id, o->r.kind, ca_domain(ca), why);
		goto out;
	}
	o->r.id = id;
	o->r.csr_pem = csr;
	o->r.now = cmd_pki_now();
	if (ca_issue(ca, &o->r, &issued, errs) != 0)
		goto out;
	rc = write_issued(o, &issued, crt, key, errs);
	if (rc == 0)
		report_issued(g, o, &issued, crt, key);
	else if (o->key_made)
		unlink(key);
out:
	ca_issued_fini(&issued);
	mem_free(id);
	mem_free(csr);
	mem_free(crt);
	mem_free(key);
	return rc;
}

static int
run_issue(struct gwctl *g, int argc, char **argv)
{
	struct issue o = { .r = { .alg = PKEY_P256 } };
	int rc = parse_issue(g, &o, argc, argv);
	struct errs errs;
	struct ca *ca;
	char *dir;

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	dir = cmd_pki_dir(g, o.dir);
	ca = ca_open(dir, NULL, &errs);
	rc = ca ? issue_with(g, &o, ca, &errs) : -1;
	ca_close(ca);
	mem_free(dir);
	if (rc != 0)
		return failed(&errs);
	errs_fini(&errs);
	return GWCTL_OK;
}

/* -- bundle ---------------------------------------------------------------------------------------- */

/* For subcommands whose only options are --dir and --json. GWCTL_OK, or what to exit with. */
static int
parse_dir(struct gwctl *g, const char *command, int argc, char **argv, int operands, char **dir)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	const char *option = NULL;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': option = optarg; break;
		case 'j': g->json = true; break;
		default:
			return gwctl_usage(command, "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind < operands)
		return gwctl_usage(command, "which file?");
	if (argc - optind > operands)
		return gwctl_usage(command, "\"%s\" is too much", argv[optind + operands]);
	*dir = cmd_pki_dir(g, option);
	return GWCTL_OK;
}

static int
run_bundle(struct gwctl *g, int argc, char **argv)
{
	struct errs errs;
	char *dir, *pem;
	int rc = parse_dir(g, "pki bundle", argc, argv, 0, &dir);

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	pem = ca_bundle(dir, &errs);
	mem_free(dir);
	if (pem == NULL)
		return failed(&errs);
	fputs(pem, stdout);
	mem_free(pem);
	errs_fini(&errs);
	return GWCTL_OK;
}

/* -- list ------------------------------------------------------------------------------------------ */

struct list {
	struct table *table;
	json_t *array;      /* one of the two */
	int64_t now;
};

static void
list_entry(void *ctx, const struct ca_entry *e)
{
	struct list *l = ctx;
	const char *state = ca_state_text(e->state);
	char until[32], from[32];

	cmd_pki_time(from, e->not_before);
	cmd_pki_time(until, e->not_after);
	if (l->array)
		json_array_append_new(l->array, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "serial", e->serial, "kind", e->kind, "id", e->id,
		    "not_before", from, "not_after", until, "state", state));
	else
		table_row(l->table, (const char *[]){ e->id, e->kind, state, until, e->serial });
}

static int
run_list(struct gwctl *g, int argc, char **argv)
{
	static const char *const headings[] = { "ID", "KIND", "STATE", "NOT AFTER", "SERIAL" };
	struct list l = { .now = cmd_pki_now() };
	struct errs errs;
	char *dir;
	int rc = parse_dir(g, "pki list", argc, argv, 0, &dir);

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	if (g->json)
		l.array = json_array();
	else
		l.table = table_new(headings, NULL, 5);
	if (ca_list(dir, l.now, list_entry, &l, &errs) == 0) {
		if (g->json)
			print_json(json_incref(l.array));
		else
			table_print(l.table, g->color);
	}
	json_decref(l.array);
	if (l.table)
		table_free(l.table);
	mem_free(dir);
	rc = gwctl_print_errs(&errs);
	errs_fini(&errs);
	return rc;
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

static int
run_show(struct gwctl *g, int argc, char **argv)
{
	struct show s = { .now = cmd_pki_now() };
	const char *why = NULL, *file;
	char *pem, *dir;
	int rc = parse_dir(g, "pki show", argc, argv, 1, &dir);

	if (rc != GWCTL_OK)
		return rc;
	mem_free(dir);
	file = argv[optind];
	pem = pkifile_read(file, FILE_MAX_BYTES);
	if (pem == NULL)
		return gwctl_error("%s: %s", file, strerror(errno));
	s.array = g->json ? json_array() : NULL;
	rc = svid_pem_each(pem, show_cert, &s, &why);
	mem_free(pem);
	if (s.array)
		print_json(s.array);
	if (rc < 0)
		return gwctl_error("%s: %s", file, why);
	return rc > 0 ? GWCTL_OK : gwctl_error("%s: no certificate in PEM form", file);
}

int
cmd_pki(struct gwctl *g, int argc, char **argv)
{
	static const struct gwctl_sub subs[] = {
		{ "init", run_init, "make a root and an issuing CA for a domain" },
		{ "issue", run_issue, "a certificate for a gateway or a workload" },
		{ "bundle", run_bundle, "print what others need to trust this domain" },
		{ "list", run_list, "what was issued, to whom, until when" },
		{ "show", run_show, "the certificates of a PEM file, and what is wrong with them" },
		{ NULL, NULL, NULL },
	};

	return gwctl_dispatch(g, "pki", subs, argc, argv);
}
