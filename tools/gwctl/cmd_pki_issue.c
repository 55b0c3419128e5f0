/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki issue and renew. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "pki/pkifile.h"
#include "pki/svid.h"
#include "tools/gwctl/cmd_pki.h"

#define BACKDATE_S 300     /* how much earlier than its issuing a certificate begins */

/* -- issue ----------------------------------------------------------------------------------------- */

struct issue {
	struct ca_request r;
	struct cmd_pki_secret secret;
	const char *dns[CA_DNS_MAX];
	const char *dir, *out, *csr;
	bool key_made;     /* PREFIX.key is ours to remove */
};

/* GWCTL_OK, or what to exit with. */
static int
parse_issue(struct gwctl *g, struct issue *o, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "dns", required_argument, NULL, 'n' },
		{ "days", required_argument, NULL, 'D' }, { "lifetime", required_argument, NULL, 'l' }, { "ttl", required_argument, NULL, 't' },
		{ "csr", required_argument, NULL, 'c' }, { "alg", required_argument, NULL, 'a' }, { "out", required_argument, NULL, 'o' },
		{ "passphrase-file", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	int c, rc = GWCTL_OK;

	while (rc == GWCTL_OK && (c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'c': o->csr = optarg; break;
		case 'o': o->out = optarg; break;
		case 'p': o->secret.file = optarg; break;
		case 'j': g->json = true; break;
		case 'n':
			if (o->r.ndns == CA_DNS_MAX)
				return gwctl_usage("pki issue", "more than %d times --dns", CA_DNS_MAX);
			o->dns[o->r.ndns++] = optarg;
			break;
		case 'D': rc = cmd_pki_days(&o->r.lifetime_s, "pki issue", optarg); break;
		case 'l': rc = cmd_pki_lifetime(&o->r.lifetime_s, "pki issue", "--lifetime", optarg); break;
		case 't': rc = cmd_pki_lifetime(&o->r.lifetime_s, "pki issue", "--ttl", optarg); break;
		case 'a': rc = cmd_pki_alg(&o->r.alg, "pki issue", optarg); break;
		default:
			return gwctl_usage("pki issue", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (rc != GWCTL_OK)
		return rc;
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

/* Asked before something is issued that nobody would get. */
static int
must_be_writable(const char *path, struct errs *errs)
{
	char *dir = pkifile_dirname(path);
	int rc = access(dir, W_OK | X_OK);

	if (rc != 0)
		errs_add(errs, dir, 0, "cannot write there: %s; --out PREFIX says where to", strerror(errno));
	mem_free(dir);
	return rc;
}

static int
write_new(const char *path, mode_t mode, const char *text, struct errs *errs)
{
	if (pkifile_write_new(path, mode, text, strlen(text)) == 0)
		return 0;
	errs_add(errs, path, 0, "cannot write: %s", strerror(errno));
	return -1;
}

static char *
read_file(const char *path, bool secret, struct errs *errs)
{
	char *text = secret ? pkifile_read_secret(path, CMD_PKI_FILE_MAX) : pkifile_read(path, CMD_PKI_FILE_MAX);

	if (text == NULL)
		errs_add(errs, path, 0, "%s", secret && errno == EPERM ? "others may read this key; \"chmod 600\" it, and ask yourself who did" : strerror(errno));
	return text;
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
report(const struct gwctl *g, const char *verb, const struct ca_request *r, const struct ca_issued *issued, const char *crt, const char *key)
{
	char until[32];

	cmd_pki_time(until, issued->not_after);
	if (g->json) {
		cmd_pki_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s?}", "id", r->id, "kind", r->kind, "serial", issued->serial,
		    "not_after", until, "certificate", crt, "key", issued->key_pem ? key : NULL, "predecessor", r->predecessor));
		return;
	}
	printf("%s %s, valid until %s, serial %s.\n", verb, r->id, until, issued->serial);
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

	if (must_be_writable(crt, errs) != 0 || must_be_free(crt, errs) != 0 || (o->csr == NULL && must_be_free(key, errs) != 0))
		goto out;
	if (o->csr && (csr = read_file(o->csr, false, errs)) == NULL)
		goto out;
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
		report(g, "Issued", &o->r, &issued, crt, key);
	else
		errs_add(errs, NULL, 0, "serial %s is on the list all the same, but nobody has it", issued.serial);
	if (rc != 0 && o->key_made)
		unlink(key);
out:
	ca_issued_fini(&issued);
	mem_free(id);
	mem_free(csr);
	mem_free(crt);
	mem_free(key);
	return rc;
}

int
cmd_pki_issue(struct gwctl *g, int argc, char **argv)
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
	ca = cmd_pki_open(&o.secret, dir, &errs);
	if (ca)
		issue_with(g, &o, ca, &errs);
	ca_close(ca);
	cmd_pki_secret_fini(&o.secret);
	mem_free(dir);
	return cmd_pki_done(&errs);
}

/* -- renew ----------------------------------------------------------------------------------------- */

struct renew {
	struct cmd_pki_secret secret;
	const char *dir, *what, *csr, *key, *prefix;
	int64_t lifetime_s;
	enum pkey_alg alg;
	bool alg_given;
	char *crt_path, *key_path;  /* of what is written; the key only when a new one is made */
};

static int
parse_renew(struct gwctl *g, struct renew *o, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "days", required_argument, NULL, 'D' },
		{ "lifetime", required_argument, NULL, 'l' }, { "csr", required_argument, NULL, 'c' }, { "key", required_argument, NULL, 'k' },
		{ "alg", required_argument, NULL, 'a' }, { "out", required_argument, NULL, 'o' }, { "passphrase-file", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	int c, rc = GWCTL_OK;

	while (rc == GWCTL_OK && (c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'c': o->csr = optarg; break;
		case 'k': o->key = optarg; break;
		case 'o': o->prefix = optarg; break;
		case 'p': o->secret.file = optarg; break;
		case 'j': g->json = true; break;
		case 'D': rc = cmd_pki_days(&o->lifetime_s, "pki renew", optarg); break;
		case 'l': rc = cmd_pki_lifetime(&o->lifetime_s, "pki renew", "--lifetime", optarg); break;
		case 'a':
			rc = cmd_pki_alg(&o->alg, "pki renew", optarg);
			o->alg_given = true;
			break;
		default:
			return gwctl_usage("pki renew", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (rc != GWCTL_OK)
		return rc;
	if (argc - optind != 1)
		return gwctl_usage("pki renew", "which one? A certificate's file, a serial number or a name");
	if (!!o->csr + !!o->key + o->alg_given > 1)
		return gwctl_usage("pki renew", "one of --csr, --key and --alg");
	if (o->prefix && o->prefix[0] == 0)
		return gwctl_usage("pki renew", "--out PREFIX writes PREFIX.crt and PREFIX.key");
	o->what = argv[optind];
	return GWCTL_OK;
}

struct first {
	char id[SPIFFE_ID_MAX + 1], serial[64];
	bool seen;
};

static void
on_cert(void *ctx, const struct svid_cert *c)
{
	struct first *f = ctx;

	if (f->seen)
		return;
	f->seen = true;
	snprintf(f->id, sizeof(f->id), "%s", c->id);
	snprintf(f->serial, sizeof(f->serial), "%s", c->serial);
}

/* Id and serial of a file's first certificate. */
static int
read_first(const char *path, struct first *f, struct errs *errs)
{
	char *pem = read_file(path, false, errs);
	const char *why = "no certificate in PEM form";

	memset(f, 0, sizeof(*f));
	if (pem == NULL)
		return -1;
	if (svid_pem_each(pem, on_cert, f, &why) <= 0) {
		errs_add(errs, path, 0, "%s", why);
		f->seen = false;
	}
	mem_free(pem);
	return f->seen ? 0 : -1;
}

static bool
ends_in_crt(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && strcmp(path + n - 4, ".crt") == 0;
}

/* Which certificate is meant: of its file, else of the books, where there must be one only. */
static int
choose(const struct renew *o, const struct ca *ca, int64_t now, struct ca_entry *out, struct errs *errs)
{
	struct cmd_pki_match m;
	struct first f;
	int rc = -1;

	if (!cmd_pki_is_serial(o->what) && access(o->what, F_OK) == 0) {
		if (read_first(o->what, &f, errs) != 0)
			return -1;
		if (ca_find(ca, f.serial, now, out) == 0 && strcmp(out->id, f.id) == 0)
			return 0;
		errs_add(errs, o->what, 0, "its certificate (serial %s) was not issued by the CA of %s", f.serial, ca_domain(ca));
		return -1;
	}
	if (cmd_pki_match(ca, o->what, now, &m, errs) != 0)
		return -1;
	*out = m.entries[m.n - 1];
	/* Of several, the latest that has not been replaced, if they differ in nothing but their time. */
	for (size_t i = m.n; i-- > 0;) {
		const struct ca_entry *e = &m.entries[i];

		if (e->state != CA_VALID && e->state != CA_NOT_YET_VALID)
			continue;
		if (rc == 0 && strcmp(e->dns, out->dns) != 0) {
			errs_add(errs, NULL, 0, "\"%s\" has several certificates in force with different DNS names: %s [%s], %s [%s]; give the file or serial of one",
			    o->what, out->serial, out->dns, e->serial, e->dns);
			rc = -2;
			break;
		}
		if (rc != 0)
			*out = *e;
		rc = 0;
	}
	cmd_pki_match_fini(&m);
	return rc == -2 ? -1 : 0;
}

/* Where the new ones go. What is overwritten must be a certificate of the same id. */
static int
choose_paths(struct renew *o, const char *id, struct errs *errs)
{
	bool file = !cmd_pki_is_serial(o->what) && access(o->what, F_OK) == 0;
	struct first f;

	if (o->prefix) {
		o->crt_path = mem_printf("%s.crt", o->prefix);
		o->key_path = mem_printf("%s.key", o->prefix);
	} else if (!file) {
		errs_add(errs, NULL, 0, "where to? --out PREFIX writes PREFIX.crt and PREFIX.key; or give the certificate's file, which is then replaced");
		return -1;
	} else {
		o->crt_path = mem_strdup(o->what);
		if (ends_in_crt(o->what))
			o->key_path = mem_printf("%.*s.key", (int)strlen(o->what) - 4, o->what);
	}
	if (o->csr || o->key) {
		mem_free(o->key_path);
		o->key_path = NULL;
	} else if (o->key_path == NULL) {
		errs_add(errs, o->what, 0, "does not end in .crt, so where is its key? --out PREFIX, --key FILE or --csr FILE");
		return -1;
	}
	if (access(o->crt_path, F_OK) != 0)
		return 0;
	if (read_first(o->crt_path, &f, errs) != 0)
		return -1;
	if (strcmp(f.id, id) == 0)
		return 0;
	errs_add(errs, o->crt_path, 0, "is the certificate of %s, and stays; give another --out", f.id[0] ? f.id : "somebody else");
	return -1;
}

/* The kind of key that is replaced, where it can be read. */
static enum pkey_alg
alg_before(const struct renew *o)
{
	char *pem = pkifile_read_secret(o->key_path, CMD_PKI_FILE_MAX);
	const char *why;
	struct evp_pkey_st *k = pem ? pkey_from_pem(pem, &why) : NULL;
	enum pkey_alg alg = k ? pkey_alg_of(k) : PKEY_P256;

	pkey_free(k);
	pkey_free_pem(pem);
	return alg;
}

static size_t
split_dns(char *text, const char **out)
{
	size_t n = 0;
	char *save = NULL;

	for (char *p = strtok_r(text, ",", &save); p && n < CA_DNS_MAX; p = strtok_r(NULL, ",", &save))
		out[n++] = p;
	return n;
}

static int
write_renewed(const struct renew *o, const struct ca_issued *issued, struct errs *errs)
{
	int rc;

	/* Key first: a gateway that reads between the two finds a pair that does not fit, and keeps what it has until the second is there. */
	if (issued->key_pem)
		rc = pkifile_replace_pair(o->key_path, 0600, issued->key_pem, o->crt_path, 0644, issued->chain_pem);
	else
		rc = pkifile_replace_pair(o->crt_path, 0644, issued->chain_pem, NULL, 0, NULL);
	if (rc != 0)
		errs_add(errs, o->crt_path, 0, "cannot write: %s; the certificate was issued, and lost: renew again", strerror(errno));
	return rc;
}

static int
renew_with(const struct gwctl *g, struct renew *o, struct ca *ca, struct errs *errs)
{
	struct ca_request r = { .now = cmd_pki_now(), .how = "renewal", .lifetime_s = o->lifetime_s };
	const char *dns[CA_DNS_MAX], *why = NULL;
	char *csr = NULL, *key_pem = NULL, *names = NULL, *id = NULL, *serial = NULL, *kind = NULL;
	struct ca_issued issued = { 0 };
	struct ca_entry e;
	int rc = -1;

	if (choose(o, ca, r.now, &e, errs) != 0 || choose_paths(o, e.id, errs) != 0)
		goto out;
	if (o->csr && (csr = read_file(o->csr, false, errs)) == NULL)
		goto out;
	if (o->key && (key_pem = read_file(o->key, true, errs)) == NULL)
		goto out;
	if (key_pem && (r.key = pkey_from_pem(key_pem, &why)) == NULL) {
		errs_add(errs, o->key, 0, "%s", why);
		goto out;
	}
	/* Copies: the entry's texts are the CA's, who is about to add to them. */
	names = mem_strdup(e.dns);
	r.id = id = mem_strdup(e.id);
	r.kind = kind = mem_strdup(e.kind);
	r.predecessor = serial = mem_strdup(e.serial);
	r.dns = dns;
	r.ndns = split_dns(names, dns);
	r.csr_pem = csr;
	r.alg = o->alg_given || o->key_path == NULL ? o->alg : alg_before(o);
	if (r.lifetime_s == 0)
		r.lifetime_s = e.not_after - e.not_before - BACKDATE_S >= 60 ? e.not_after - e.not_before - BACKDATE_S : 60;
	if (ca_issue(ca, &r, &issued, errs) != 0)
		goto out;
	rc = write_renewed(o, &issued, errs);
	if (rc == 0)
		report(g, "Renewed", &r, &issued, o->crt_path, o->key_path);
out:
	ca_issued_fini(&issued);
	pkey_free(r.key);
	pkey_free_pem(key_pem);
	mem_free(csr);
	mem_free(names);
	mem_free(id);
	mem_free(kind);
	mem_free(serial);
	return rc;
}

int
cmd_pki_renew(struct gwctl *g, int argc, char **argv)
{
	struct renew o = { .alg = PKEY_P256 };
	int rc = parse_renew(g, &o, argc, argv);
	struct errs errs;
	struct ca *ca;
	char *dir;

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	dir = cmd_pki_dir(g, o.dir);
	ca = cmd_pki_open(&o.secret, dir, &errs);
	if (ca)
		renew_with(g, &o, ca, &errs);
	ca_close(ca);
	cmd_pki_secret_fini(&o.secret);
	mem_free(o.crt_path);
	mem_free(o.key_path);
	mem_free(dir);
	return cmd_pki_done(&errs);
}
