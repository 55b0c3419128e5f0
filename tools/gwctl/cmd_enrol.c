/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A first certificate: the key is written before anything is asked, beside its place, so that an answer that was lost can be asked for again with the
 * same key and token. A renewal replaces certificate and key together.
 */
#include "tools/gwctl/cmd_enrol.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/x509.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/digest.h"
#include "pki/estcert.h"
#include "pki/estreq.h"
#include "pki/keyfit.h"
#include "pki/pkcs7.h"
#include "pki/pkey.h"
#include "pki/pkifile.h"
#include "tools/gwctl/cmd_enrol_tls.h"
#include "tools/gwctl/cmd_pki.h"
#include "tools/gwctl/jsonout.h"

#define COMMAND "pki enrol"

struct enrol {
	/* as asked */
	const char *url, *name, *token, *token_file, *bundle, *fingerprint, *out, *renew, *key_file;
	const char *dns[CA_DNS_MAX];
	size_t ndns;
	enum pkey_alg alg;
	bool force, same_key;
	/* as found */
	struct cmd_enrol_server server;
	char *token_text, *bundle_pem, *domain, *id;
	char *crt, *key, *pending, *bundle_path; /* files */
	char *old_pem;                           /* chain that is renewed */
	struct evp_pkey_st *old, *pkey;
	int64_t not_after;
};

static void
fini(struct enrol *e)
{
	mem_free(e->server.host);
	mem_free(e->server.port);
	if (e->token_text)
		mem_wipe(e->token_text, strlen(e->token_text));
	mem_free(e->token_text);
	mem_free(e->bundle_pem);
	mem_free(e->domain);
	mem_free(e->id);
	mem_free(e->crt);
	mem_free(e->key);
	mem_free(e->pending);
	mem_free(e->bundle_path);
	mem_free(e->old_pem);
	pkey_free(e->old);
	pkey_free(e->pkey);
}

/* -- options --------------------------------------------------------------------------------------- */

/* https://HOST[:PORT][/] */
static bool
parse_url(struct enrol *e)
{
	static const char scheme[] = "https://";
	const char *p = e->url + sizeof(scheme) - 1, *end, *colon;

	if (strncasecmp(e->url, scheme, sizeof(scheme) - 1) != 0)
		return false;
	end = p + strcspn(p, "/?#");
	colon = memchr(p, ':', (size_t)(end - p));
	if (*end && strcmp(end, "/") != 0)
		return false;
	e->server.host = mem_strndup(p, (size_t)((colon ? colon : end) - p));
	e->server.port = colon ? mem_strndup(colon + 1, (size_t)(end - colon - 1)) : mem_strdup("443");
	return e->server.host[0] && strspn(e->server.host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == strlen(e->server.host) &&
	    e->server.port[0] && strlen(e->server.port) <= 5 && strspn(e->server.port, "0123456789") == strlen(e->server.port);
}

/* GWCTL_OK, or what to exit with. */
static int
check_options(struct enrol *e)
{
	if (!e->url || !parse_url(e))
		return gwctl_usage(COMMAND, "where is the service? For example: --url https://enrol.hud.example");
	if (!e->bundle == !e->fingerprint)
		return gwctl_usage(COMMAND, "how is the server known? --bundle FILE with the domain's CAs, or --fingerprint SHA256 of its root");
	if (e->fingerprint && (strlen(e->fingerprint) != 64 || strspn(e->fingerprint, "0123456789abcdefABCDEF") != 64))
		return gwctl_usage(COMMAND, "--fingerprint: 64 hexadecimal digits, as \"gwctl pki show\" prints them");
	if (e->renew) {
		if (!e->key_file)
			return gwctl_usage(COMMAND, "the key of %s is needed, too: --key FILE", e->renew);
		if (e->name || e->token || e->token_file || e->out || e->ndns)
			return gwctl_usage(COMMAND, "a renewal is for what the certificate is for, in its place: no --name, --token, --out or --dns");
		return GWCTL_OK;
	}
	if (e->key_file || e->same_key)
		return gwctl_usage(COMMAND, "--key and --same-key go with --renew; a first certificate gets a key that is made here");
	if (!e->name || !e->out)
		return gwctl_usage(COMMAND, "for which workload, and where to? For example: --name permit-svc --out /etc/sallyport/pki");
	if (!e->token == !e->token_file)
		return gwctl_usage(COMMAND, "a token of \"gwctl pki token %s\" is needed: --token-file FILE (\"-\": standard input), or --token TOKEN", e->name);
	return GWCTL_OK;
}

static int
parse(struct gwctl *g, struct enrol *e, int argc, char **argv)
{
	static const struct option options[] = { { "url", required_argument, NULL, 'u' }, { "connect", required_argument, NULL, 'c' },
		{ "name", required_argument, NULL, 'n' }, { "token", required_argument, NULL, 't' }, { "token-file", required_argument, NULL, 'T' },
		{ "bundle", required_argument, NULL, 'b' }, { "fingerprint", required_argument, NULL, 'f' }, { "out", required_argument, NULL, 'o' },
		{ "dns", required_argument, NULL, 'd' }, { "alg", required_argument, NULL, 'a' }, { "force", no_argument, NULL, 'F' },
		{ "renew", required_argument, NULL, 'r' }, { "key", required_argument, NULL, 'k' }, { "same-key", no_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'u': e->url = optarg; break;
		case 'c': e->server.connect = optarg; break;
		case 'n': e->name = optarg; break;
		case 't': e->token = optarg; break;
		case 'T': e->token_file = optarg; break;
		case 'b': e->bundle = optarg; break;
		case 'f': e->fingerprint = optarg; break;
		case 'o': e->out = optarg; break;
		case 'F': e->force = true; break;
		case 'r': e->renew = optarg; break;
		case 'k': e->key_file = optarg; break;
		case 's': e->same_key = true; break;
		case 'j': g->json = true; break;
		case 'd':
			if (e->ndns == CA_DNS_MAX)
				return gwctl_usage(COMMAND, "more than %d times --dns", CA_DNS_MAX);
			e->dns[e->ndns++] = optarg;
			break;
		case 'a':
			if (pkey_alg_parse(&e->alg, optarg) != 0)
				return gwctl_usage(COMMAND, "--alg %s is unknown; p256, p384 or ed25519", optarg);
			break;
		default:
			return gwctl_usage(COMMAND, "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (optind != argc)
		return gwctl_usage(COMMAND, "%s is too much", argv[optind]);
	return check_options(e);
}

/* -- the CA ------------------------------------------------------------------------------------------ */

static void
take_domain(void *ctx, const struct svid_cert *c)
{
	static const char scheme[] = "spiffe://";
	char **domain = ctx;

	if (c->ca && !*domain && !strncmp(c->id, scheme, sizeof(scheme) - 1) && !strchr(c->id + sizeof(scheme) - 1, '/'))
		*domain = mem_strdup(c->id + sizeof(scheme) - 1);
}

static bool
take_bundle(struct enrol *e, struct errs *errs)
{
	const char *why = NULL, *from = e->bundle ? e->bundle : "the root";

	if (e->bundle && !(e->bundle_pem = pkifile_read(e->bundle, CMD_PKI_FILE_MAX))) {
		errs_add(errs, e->bundle, 0, "cannot read: %s", strerror(errno));
		return false;
	}
	if (svid_pem_each(e->bundle_pem, take_domain, &e->domain, &why) < 0)
		errs_add(errs, from, 0, "%s; the bundle is the file DOMAIN.pem of \"gwctl pki bundle\"", why);
	else if (!e->domain)
		errs_add(errs, from, 0, "no CA certificate in it names a trust domain");
	e->server.bundle_pem = e->bundle_pem;
	return e->domain != NULL;
}

/*
 * RFC 7030 4.1.1: the service is asked for its CAs without being believed, and of the answer only the root with the fingerprint is kept. What
 * comes next is asked on a connection that this root vouches for.
 */
static bool
fetch_root(struct enrol *e, struct errs *errs)
{
	struct wire_ask ask = { .op = WIRE_CACERTS };
	struct pkcs7_certs got = { .n = 0 };
	struct wire_reader r;
	const char *why = NULL;
	uint8_t *der = NULL;
	size_t len;

	if (cmd_enrol_ask(&e->server, &ask, &r, errs) != 0)
		goto out;
	der = wire_answer_der(&r, &len, &why);
	if (!der || pkcs7_decode(&got, der, len, &why) != 0) {
		errs_add(errs, NULL, 0, "%s does not tell its CAs: %s", e->server.host, why);
		goto out;
	}
	for (size_t i = 0; i < got.n && !e->bundle_pem; i++) {
		char hex[2 * DIGEST_SHA256_LEN + 1];
		const unsigned char *p = got.certs[i].p;
		X509 *x;

		digest_sha256_hex(hex, got.certs[i].p, got.certs[i].len);
		if (strcasecmp(hex, e->fingerprint) != 0 || !(x = d2i_X509(NULL, &p, (long)got.certs[i].len)))
			continue;
		if (X509_self_signed(x, 1) == 1)
			e->bundle_pem = cert_to_pem(x);
		X509_free(x);
	}
	pkcs7_certs_fini(&got);
	if (!e->bundle_pem)
		errs_add(errs, NULL, 0, "%s has no root with this fingerprint; compare it with \"gwctl pki show\" where the CA is: it may be another server's, or not the root's",
		    e->server.host);
out:
	mem_free(der);
	wire_reader_fini(&r);
	return e->bundle_pem != NULL;
}

/* -- what is there already ------------------------------------------------------------------------------ */

static bool
read_token(struct enrol *e, struct errs *errs)
{
	char text[256] = "";
	size_t n;

	if (e->token)
		e->token_text = mem_strdup(e->token);
	else if (strcmp(e->token_file, "-") == 0)
		e->token_text = fgets(text, sizeof(text), stdin) ? mem_strdup(text) : NULL;
	else
		e->token_text = pkifile_read(e->token_file, 4096);
	mem_wipe(text, sizeof(text));
	n = e->token_text ? strcspn(e->token_text, "\r\n \t") : 0;
	if (!n) {
		errs_add(errs, e->token_file, 0, "no token in it%s%s", e->token_text ? "" : ": ", e->token_text ? "" : strerror(errno));
		return false;
	}
	e->token_text[n] = '\0';
	return true;
}

static bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* Of a first certificate: names of files, nothing in the way. */
static bool
plan(struct enrol *e, struct errs *errs)
{
	const char *why = NULL, *base;
	char *other;

	e->id = ca_id_of_name(e->domain, "workload", e->name, &why);
	if (!e->id) {
		errs_add(errs, NULL, 0, "--name %s: %s", e->name, why);
		return false;
	}
	base = strrchr(e->id, '/') + 1;
	e->crt = mem_printf("%s/%s.crt", e->out, base);
	e->key = mem_printf("%s/%s.key", e->out, base);
	e->pending = mem_printf("%s/%s.key.new", e->out, base);
	e->bundle_path = mem_printf("%s/%s.pem", e->out, e->domain);
	if (!e->force && (exists(e->crt) || exists(e->key))) {
		errs_add(errs, exists(e->crt) ? e->crt : e->key, 0, "is there already; renew it with --renew, choose another --out, or replace it with --force");
		return false;
	}
	other = pkifile_read(e->bundle_path, CMD_PKI_FILE_MAX);
	if (!e->force && exists(e->bundle_path) && (!other || strcmp(other, e->bundle_pem) != 0)) {
		errs_add(errs, e->bundle_path, 0, "is there already and says something else; is it the same domain's? --force replaces it");
		mem_free(other);
		return false;
	}
	mem_free(other);
	return true;
}

static bool
make_key(struct enrol *e, struct errs *errs)
{
	char *pem = pkifile_read_secret(e->pending, CMD_PKI_FILE_MAX);
	const char *why;

	if (pem) { /* of an earlier try */
		e->pkey = pkey_from_pem(pem, &why);
		pkey_free_pem(pem);
		if (e->pkey)
			return true;
	}
	e->pkey = pkey_new(e->alg);
	pem = pkey_to_pem(e->pkey);
	if (pkifile_replace(e->pending, 0600, pem, strlen(pem)) != 0) {
		errs_add(errs, e->pending, 0, "cannot write: %s; --out DIR is a directory that exists", strerror(errno));
		pkey_free(e->pkey);
		e->pkey = NULL;
	}
	pkey_free_pem(pem);
	return e->pkey != NULL;
}

static void
add_dns(struct enrol *e, char *names)
{
	char *save = NULL;

	for (char *n = strtok_r(names, " ", &save); n && e->ndns < CA_DNS_MAX; n = strtok_r(NULL, " ", &save))
		e->dns[e->ndns++] = n;
}

/*
 * A renewal that was cut in two, between certificate and key, is brought to its end: the certificate's key still waits beside its place, and in it is the one
 * before. NULL: there is nothing of the kind.
 */
static char *
finish_renewal(const struct enrol *e, const char *key_pem)
{
	char *new = mem_printf("%s.new", e->key_file), *pem = pkifile_read_secret(new, CMD_PKI_FILE_MAX), *dir = pkifile_dirname(e->key_file);

	if (pem && (keyfit_pem(e->old_pem, key_pem) != KEYFIT_OTHER || keyfit_pem(e->old_pem, pem) != KEYFIT_OK || rename(new, e->key_file) != 0 ||
	    pkifile_sync_dir(dir) != 0)) {
		pkey_free_pem(pem);
		pem = NULL;
	}
	mem_free(dir);
	mem_free(new);
	return pem;
}

/* Of a renewal: who it is, by its certificate. */
static bool
read_old(struct enrol *e, char *names, size_t size, struct errs *errs)
{
	char id[SPIFFE_ID_MAX + 1], *pem, *finished;
	const char *why = NULL;

	e->old_pem = pkifile_read(e->renew, CMD_PKI_FILE_MAX);
	if (!e->old_pem || svid_id_of_pem(e->old_pem, id, &why) != 0 || svid_dns_names_of_pem(e->old_pem, names, size) < 0) {
		errs_add(errs, e->renew, 0, "%s", !e->old_pem ? strerror(errno) : why ? why : "no certificate that can be renewed");
		return false;
	}
	pem = pkifile_read(e->key_file, CMD_PKI_FILE_MAX);
	finished = pem ? finish_renewal(e, pem) : NULL;
	if (finished) {
		pkey_free_pem(pem);
		pem = finished;
	}
	e->old = pem ? pkey_from_pem(pem, &why) : NULL;
	if (!e->old)
		errs_add(errs, e->key_file, 0, "%s", pem ? why : strerror(errno));
	pkey_free_pem(pem);
	if (!e->old)
		return false;
	e->id = mem_strdup(id);
	add_dns(e, names);
	e->server.certificate = e->renew;
	e->server.key = e->key_file;
	e->crt = mem_strdup(e->renew);
	e->key = mem_strdup(e->key_file);
	if (e->same_key)
		return true;
	e->pending = mem_printf("%s.new", e->key_file);
	e->alg = pkey_alg_of(e->old);
	return make_key(e, errs);
}

/* -- asking ------------------------------------------------------------------------------------------------ */

/* PEM, or NULL with a fault. */
static char *
ask_for_it(struct enrol *e, struct errs *errs)
{
	struct estreq req = { .key = e->pkey ? e->pkey : e->old, .id = e->id, .dns = e->dns, .ndns = e->ndns, .token = e->token_text, .old = e->pkey ? e->old : NULL };
	struct wire_ask ask = { .op = e->renew ? WIRE_REENROLL : WIRE_ENROLL };
	struct pkcs7_certs got = { .n = 0 };
	struct estcert_want want = { .id = e->id, .chain_pem = e->old_pem, .now = cmd_pki_now() };
	struct wire_reader r;
	char text[256], *pem = NULL;
	const char *why = NULL;
	uint8_t *csr, *der = NULL;
	size_t len = 0;

	csr = estreq_make(&req, &len, &why);
	want.csr = ask.csr = csr;
	want.csr_len = ask.csr_len = len;
	want.bundle = csr ? svid_bundle_new(e->domain, e->bundle_pem, &why) : NULL;
	if (!want.bundle) {
		errs_add(errs, NULL, 0, "%s", why);
		mem_free(csr);
		return NULL;
	}
	if (cmd_enrol_ask(&e->server, &ask, &r, errs) != 0)
		goto out;
	if (r.status != 200) {
		wire_answer_text(&r, text, sizeof(text));
		errs_add(errs, NULL, 0, "%s refuses (%u): %s%s", e->server.host, r.status, text[0] ? text : "it does not say why",
		    r.status == 503 || r.status == 429 ? "; try again" : r.status == 401 || r.status == 403 ? "; the journal where the CA is tells more" : "");
		goto out;
	}
	der = wire_answer_der(&r, &len, &why);
	if (der && pkcs7_decode(&got, der, len, &why) == 0) {
		pem = estcert_take(&want, got.certs, got.n, &e->not_after, &why);
		pkcs7_certs_fini(&got);
	}
	if (!pem)
		errs_add(errs, NULL, 0, "the certificate that %s sent is not taken: %s", e->server.host, why);
out:
	mem_free(der);
	wire_reader_fini(&r);
	svid_bundle_unref(want.bundle);
	mem_free(csr);
	return pem;
}

static bool
install(struct enrol *e, const char *pem, struct errs *errs)
{
	char *key_pem = e->pkey ? pkey_to_pem(e->pkey) : NULL;
	int r;

	if (key_pem && e->renew) /* until the key is in its place, too, it is in KEY.new: finish_renewal() */
		r = pkifile_replace_pair(e->crt, 0644, pem, e->key, 0600, key_pem);
	else if (key_pem)
		r = pkifile_replace_pair(e->key, 0600, key_pem, e->crt, 0644, pem);
	else
		r = pkifile_replace(e->crt, 0644, pem, strlen(pem));
	if (r == 0 && e->bundle_path)
		r = pkifile_replace(e->bundle_path, 0644, e->bundle_pem, strlen(e->bundle_pem));
	if (r != 0)
		errs_add(errs, e->crt, 0, "the certificate came but cannot be written: %s; put that right and ask again: the same is handed out once more", strerror(errno));
	else if (e->pending)
		unlink(e->pending);
	pkey_free_pem(key_pem);
	return r == 0;
}

static void
report(struct gwctl *g, const struct enrol *e)
{
	char until[32];

	cmd_pki_time(until, e->not_after);
	if (g->json) {
		json_t *j = json_pack("{s:o, s:s, s:o, s:o}", "id", jsonout_text(e->id), "expires", until, "certificate", jsonout_text(e->crt), "key", jsonout_text(e->key));

		if (e->bundle_path)
			json_object_set_new(j, "bundle", jsonout_text(e->bundle_path));
		jsonout_print(j, GWCTL_OK);
		return;
	}
	printf("%s until %s\n  certificate %s\n  key         %s\n", e->id, until, e->crt, e->key);
	if (e->bundle_path)
		printf("  bundle      %s\n", e->bundle_path);
}

int
cmd_pki_enrol(struct gwctl *g, int argc, char **argv)
{
	struct enrol e = { .alg = PKEY_P256 };
	int rc = parse(g, &e, argc, argv);
	char names[4096] = "", *pem = NULL;
	struct errs errs;

	if (rc != GWCTL_OK) {
		fini(&e);
		return rc;
	}
	signal(SIGPIPE, SIG_IGN);
	errs_init(&errs);
	if ((e.fingerprint ? fetch_root(&e, &errs) : true) && take_bundle(&e, &errs) &&
	    (e.renew ? read_old(&e, names, sizeof(names), &errs) : read_token(&e, &errs) && plan(&e, &errs) && make_key(&e, &errs)))
		pem = ask_for_it(&e, &errs);
	if (pem && install(&e, pem, &errs))
		report(g, &e);
	mem_free(pem);
	fini(&e);
	rc = gwctl_print_errs(&errs);
	errs_fini(&errs);
	return rc;
}
