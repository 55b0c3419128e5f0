/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca_init builds a whole CA in a directory of its own and moves it into place. ca_issue: check the request, get the public
 * key, sign, verify what was signed against our own bundle, append to the index, hand out.
 */
#include "pki/ca.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "pki/cert.h"
#include "pki/pkifile.h"
#include "pki/store.h"
#include "pki/svid_int.h"

#define PEM_MAX (1 << 20)
#define BACKDATE_CA_S 86400    /* a peer's clock may be behind ours */
#define BACKDATE_LEAF_S 300

struct ca {
	struct store store;
	char *domain;
	X509 *root, *issuing;
	EVP_PKEY *key;
	char *issuing_pem;
	struct svid_bundle *bundle;
};

/* -- making one -------------------------------------------------------------------------------- */

/* A CA under construction. */
struct birth {
	const char *dir, *domain;
	int64_t now;
	enum pkey_alg alg;
	struct errs *errs;
};

static int
put(const struct birth *b, const char *name, mode_t mode, const char *text)
{
	char *path = mem_printf("%s/%s", b->dir, name);
	int rc = pkifile_write_new(path, mode, text, strlen(text));

	if (rc != 0)
		errs_add(b->errs, path, 0, "cannot write: %s", strerror(errno));
	mem_free(path);
	return rc;
}

static int
record(const struct birth *b, const char *kind, const char *id, const struct cert_spec *s)
{
	char serial[41] = "";
	struct store_entry e = { .serial = serial, .kind = kind, .id = id, .not_before = s->not_before, .not_after = s->not_after };

	esc_hex(serial, s->serial, sizeof(s->serial));
	return store_append(b->dir, &e, b->errs);
}

/* One CA with its key, on disk and in the index. kind: "root" (issuer NULL) or "issuing". */
static int
make_ca(const struct birth *b, const char *kind, X509 *issuer, EVP_PKEY *issuer_key, X509 **out, EVP_PKEY **out_key)
{
	bool root = issuer == NULL;
	char *cn = mem_printf("%s %s CA", b->domain, kind), *id = mem_printf("spiffe://%s", b->domain);
	char *crt = mem_printf("%s.crt", kind), *key = mem_printf("%s.key", kind), *pem = NULL, *key_pem = NULL;
	struct cert_spec s = { .ca = true, .path_len = root ? 1 : 0, .organization = b->domain, .common_name = cn, .id = id,
		.constraint = b->domain, .not_before = b->now - BACKDATE_CA_S,
		.not_after = b->now + (root ? CA_ROOT_S : CA_ISSUING_S) };
	int rc = -1;

	cert_serial(s.serial);
	*out_key = pkey_new(b->alg);
	*out = cert_make(&s, *out_key, issuer, root ? *out_key : issuer_key);
	if (*out == NULL || (pem = cert_to_pem(*out)) == NULL) {
		errs_add(b->errs, NULL, 0, "cannot make the %s CA's certificate for \"%s\"", kind, b->domain);
		goto out;
	}
	key_pem = pkey_to_pem(*out_key);
	if (put(b, key, 0600, key_pem) == 0 && put(b, crt, 0644, pem) == 0 && record(b, kind, id, &s) == 0)
		rc = 0;
out:
	pkey_free_pem(key_pem);
	mem_free(pem);
	mem_free(key);
	mem_free(crt);
	mem_free(id);
	mem_free(cn);
	return rc;
}

static int
fill(const struct birth *b)
{
	X509 *root = NULL, *issuing = NULL;
	EVP_PKEY *root_key = NULL, *issuing_key = NULL;
	int rc = -1;

	if (make_ca(b, "root", NULL, NULL, &root, &root_key) == 0)
		rc = make_ca(b, "issuing", root, root_key, &issuing, &issuing_key);
	X509_free(root);
	X509_free(issuing);
	EVP_PKEY_free(root_key);
	EVP_PKEY_free(issuing_key);
	return rc;
}

static void
remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)) != NULL)
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

/* The bundle beside, where the configuration of this domain's gateways looks for it. */
static int
publish(const struct store *s, const char *domain, struct errs *errs)
{
	char *pem = ca_bundle(s->dir, errs), *path = mem_printf("%s/%s.pem", s->dir, domain);
	int rc = pem ? pkifile_replace(path, 0644, pem, strlen(pem)) : -1;

	if (pem && rc != 0)
		errs_add(errs, path, 0, "cannot write the bundle: %s; \"gwctl pki bundle\" prints it", strerror(errno));
	mem_free(path);
	mem_free(pem);
	return rc;
}

static int
build_and_move(const struct store *s, struct birth *b)
{
	uint8_t random[8];
	char hex[17] = "", *tmp;
	int rc = -1;

	hash_random(random, sizeof(random));
	esc_hex(hex, random, sizeof(random));
	tmp = mem_printf("%s.%s.tmp", s->ca, hex);
	b->dir = tmp;
	if (mkdir(tmp, 0700) != 0) {
		errs_add(b->errs, tmp, 0, "cannot make the directory: %s", strerror(errno));
		mem_free(tmp);
		return -1;
	}
	if (fill(b) == 0) {
		/* Also refused where somebody made it without our lock: never over another CA. */
		if (renameat2(AT_FDCWD, tmp, AT_FDCWD, s->ca, RENAME_NOREPLACE) == 0 && pkifile_sync_dir(s->dir) == 0)
			rc = 0;
		else
			errs_add(b->errs, s->ca, 0, "cannot put the new CA in its place: %s", strerror(errno));
	}
	if (rc != 0)
		remove_dir(tmp);
	mem_free(tmp);
	return rc;
}

int
ca_init(const char *dir, const char *domain, enum pkey_alg alg, const struct ca_keys *keys, int64_t now, struct errs *errs)
{
	struct birth b = { .domain = domain, .now = now, .alg = alg, .errs = errs };
	struct store s;
	int rc = -1;

	(void)keys;
	if (!spiffe_domain_valid(domain, strlen(domain))) {
		errs_add(errs, NULL, 0, "\"%s\" is no trust domain: lower-case letters, digits, \"-\", \"_\" and single dots, as in hud.example", domain);
		return -1;
	}
	store_init(&s, dir);
	if (store_lock(&s, CA_LOCK_MS, errs) != 0)
		goto out;
	if (access(s.ca, F_OK) == 0) {
		errs_add(errs, s.ca, 0, "there is a CA already, and it stays; give another --dir, or use it with \"gwctl pki issue\"");
		goto out;
	}
	if (build_and_move(&s, &b) == 0)
		rc = publish(&s, domain, errs);
out:
	store_fini(&s);
	return rc;
}

/* -- opening ------------------------------------------------------------------------------------- */

static char *
read_text(const char *path, bool secret, struct errs *errs)
{
	char *text = secret ? pkifile_read_secret(path, PEM_MAX) : pkifile_read(path, PEM_MAX);

	if (text)
		return text;
	if (secret && errno == EPERM)
		errs_add(errs, path, 0, "others may read this key; \"chmod 600\" it, and ask yourself who did");
	else
		errs_add(errs, path, 0, "%s%s", strerror(errno), errno == ENOENT ? "; is there a CA here? \"gwctl pki init\" makes one" : "");
	return NULL;
}

/* Exactly one certificate. */
static X509 *
read_cert(const char *path, char **pem_out, struct errs *errs)
{
	char *pem = read_text(path, false, errs);
	const char *why = NULL, *why2 = NULL;
	X509 *x = NULL, *second = NULL;
	BIO *in;

	if (pem == NULL)
		return NULL;
	in = BIO_new_mem_buf(pem, -1);
	x = in ? svid_cert_read(in, &why) : NULL;
	if (x)
		second = svid_cert_read(in, &why2);
	if (x == NULL || second || why2) {
		errs_add(errs, path, 0, "%s", x == NULL ? (why ? why : "no certificate") : "more than one certificate");
		X509_free(x);
		x = NULL;
	}
	X509_free(second);
	BIO_free(in);
	if (x && pem_out)
		*pem_out = pem;
	else
		mem_free(pem);
	return x;
}

/* The domain is the CA's own SPIFFE ID, so that no file beside it can say otherwise. */
static char *
domain_of(X509 *ca)
{
	static const char scheme[] = "spiffe://";
	const size_t n = sizeof(scheme) - 1;
	GENERAL_NAMES *names = X509_get_ext_d2i(ca, NID_subject_alt_name, NULL, NULL);
	char *domain = NULL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && domain == NULL; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		const char *p;
		size_t len;

		if (g->type != GEN_URI)
			continue;
		p = (const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier);
		len = (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier);
		if (len > n && memcmp(p, scheme, n) == 0 && spiffe_domain_valid(p + n, len - n))
			domain = mem_strndup(p + n, len - n);
	}
	GENERAL_NAMES_free(names);
	return domain;
}

static EVP_PKEY *
read_key(const char *path, X509 *x, struct errs *errs)
{
	char *pem = read_text(path, true, errs);
	const char *why = NULL;
	EVP_PKEY *k;

	if (pem == NULL)
		return NULL;
	k = pkey_from_pem(pem, &why);
	pkey_free_pem(pem);
	if (k && X509_check_private_key(x, k) != 1) {
		pkey_free(k);
		k = NULL;
		why = "not the key of the certificate beside it";
	}
	if (k == NULL)
		errs_add(errs, path, 0, "%s", why);
	return k;
}

static int
load(struct ca *ca, struct errs *errs)
{
	char *root = store_ca_path(&ca->store, "root.crt"), *issuing = store_ca_path(&ca->store, "issuing.crt");
	char *key = store_ca_path(&ca->store, "issuing.key"), *root_pem = NULL;
	const char *why = NULL;
	int rc = -1;

	ERR_set_mark();
	if ((ca->root = read_cert(root, &root_pem, errs)) == NULL || (ca->issuing = read_cert(issuing, &ca->issuing_pem, errs)) == NULL ||
	    (ca->key = read_key(key, ca->issuing, errs)) == NULL)
		goto out;
	ca->domain = domain_of(ca->issuing);
	if (ca->domain == NULL) {
		errs_add(errs, issuing, 0, "a CA without the SPIFFE ID of a trust domain");
		goto out;
	}
	ca->bundle = svid_bundle_new(ca->domain, root_pem, &why);
	if (ca->bundle == NULL)
		errs_add(errs, root, 0, "%s", why);
	else
		rc = 0;
out:
	ERR_pop_to_mark();
	mem_free(root);
	mem_free(issuing);
	mem_free(key);
	mem_free(root_pem);
	return rc;
}

struct ca *
ca_open(const char *dir, const struct ca_keys *keys, struct errs *errs)
{
	struct ca *ca = mem_zalloc(sizeof(*ca));

	(void)keys;
	store_init(&ca->store, dir);
	/* A mistyped --dir must not leave a directory behind. */
	if (access(ca->store.ca, F_OK) != 0)
		errs_add(errs, ca->store.ca, 0, "%s; is there a CA in %s? \"gwctl pki init\" makes one", strerror(errno), dir);
	else if (store_lock(&ca->store, CA_LOCK_MS, errs) == 0 && load(ca, errs) == 0)
		return ca;
	ca_close(ca);
	return NULL;
}

void
ca_close(struct ca *ca)
{
	if (ca == NULL)
		return;
	svid_bundle_unref(ca->bundle);
	X509_free(ca->root);
	X509_free(ca->issuing);
	EVP_PKEY_free(ca->key);
	mem_free(ca->issuing_pem);
	mem_free(ca->domain);
	store_fini(&ca->store);
	mem_free(ca);
}

const char *
ca_domain(const struct ca *ca)
{
	return ca->domain;
}

char *
ca_bundle(const char *dir, struct errs *errs)
{
	struct store s;
	char *path, *pem = NULL;
	X509 *root;

	store_init(&s, dir);
	path = store_ca_path(&s, "root.crt");
	root = read_cert(path, NULL, errs);
	if (root)
		pem = cert_to_pem(root); /* the certificate alone, whatever text stands around it */
	X509_free(root);
	mem_free(path);
	store_fini(&s);
	return pem;
}

/* -- issuing --------------------------------------------------------------------------------------- */

char *
ca_id_of_name(const char *domain, const char *kind, const char *name, const char **why)
{
	bool gateway = strcmp(kind, "gateway") == 0;
	struct spiffe_id id;
	char *text;

	if (strncmp(name, "spiffe://", 9) == 0)
		text = mem_strdup(name);
	else
		text = mem_printf("spiffe://%s/%s%s", domain, gateway ? "gateway/" : "", name);
	*why = NULL;
	if (spiffe_parse(&id, text, strlen(text), why) != 0)
		;
	else if (id.domain_len != strlen(domain) || memcmp(id.domain, domain, id.domain_len) != 0)
		*why = "an id of another trust domain";
	else if (id.path_len == 0)
		*why = "an id without a path";
	else if (gateway && !spiffe_is_gateway(&id))
		*why = "a gateway's name is one path segment";
	else if (!gateway && (strncmp(id.path, "/gateway/", 9) == 0 || strcmp(id.path, "/gateway") == 0))
		*why = "ids under gateway/ are for gateways: \"gwctl pki issue gateway\"";
	if (*why == NULL)
		return text;
	mem_free(text);
	return NULL;
}

/* RFC 1123 2.1, with a whole label as wildcard at most (RFC 9525 6.3). */
static const char *
dns_fault(const char *s)
{
	size_t label = 0, n = strlen(s);

	if (n == 0 || n > 253)
		return "not 1 to 253 octets";
	if (strncmp(s, "*.", 2) == 0)
		s += 2;
	for (;; s++) {
		if (*s == '.' || *s == 0) {
			if (label == 0 || label > 63 || s[-1] == '-')
				return "a label that is empty, too long or ends with \"-\"";
			if (*s == 0)
				return NULL;
			label = 0;
			continue;
		}
		if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_' || (*s == '-' && label > 0)))
			return "lower-case letters, digits, \"-\" and \"_\" are what it may have";
		label++;
	}
}

static int
check_request(const struct ca *ca, const struct ca_request *r, struct errs *errs)
{
	size_t before = errs->errors;
	const char *why;
	char *id = ca_id_of_name(ca->domain, r->kind, r->id, &why);

	if (id == NULL || strcmp(id, r->id) != 0)
		errs_add(errs, NULL, 0, "cannot issue \"%s\": %s", r->id, id ? "not a SPIFFE ID" : why);
	mem_free(id);
	if (r->ndns > CA_DNS_MAX)
		errs_add(errs, NULL, 0, "%zu DNS names; at most %d fit one certificate", r->ndns, CA_DNS_MAX);
	for (size_t i = 0; i < r->ndns; i++)
		if ((why = dns_fault(r->dns[i])) != NULL)
			errs_add(errs, NULL, 0, "\"%s\" is no DNS name: %s", r->dns[i], why);
	if (r->lifetime_s < 0 || (r->lifetime_s > 0 && r->lifetime_s < 60))
		errs_add(errs, NULL, 0, "a lifetime below one minute");
	return errs->errors == before ? 0 : -1;
}

/* What a CSR asks for is not taken over; but one that names somebody else was not made for this. */
static const char *
csr_names_fault(X509_REQ *req, const char *id)
{
	STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
	GENERAL_NAMES *names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
	const char *fault = NULL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_URI && ((size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier) != strlen(id) ||
		    memcmp(ASN1_STRING_get0_data(g->d.uniformResourceIdentifier), id, strlen(id)) != 0))
			fault = "it asks for another id than the one given; leave the id out of the request, or issue that one";
	}
	GENERAL_NAMES_free(names);
	sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
	return fault;
}

static EVP_PKEY *
key_of_csr(const struct ca_request *r, struct errs *errs)
{
	BIO *in = BIO_new_mem_buf(r->csr_pem, -1);
	X509_REQ *req = in ? PEM_read_bio_X509_REQ(in, NULL, NULL, NULL) : NULL;
	EVP_PKEY *key = req ? X509_REQ_get_pubkey(req) : NULL;
	const char *fault = NULL;

	if (req == NULL)
		fault = "not a certificate request in PEM form (\"openssl req -new\" makes one)";
	else if (key == NULL)
		fault = "a public key of an unknown kind";
	else if (X509_REQ_verify(req, key) != 1) /* RFC 2986 4.2: proof that the requester has the key */
		fault = "its signature is not by its own key";
	else if ((fault = svid_cert_key_fault(key)) == NULL)
		fault = csr_names_fault(req, r->id);
	if (fault) {
		errs_add(errs, NULL, 0, "certificate request refused: %s", fault);
		EVP_PKEY_free(key);
		key = NULL;
	}
	X509_REQ_free(req);
	BIO_free(in);
	return key;
}

/* As a gateway would: against our own bundle, by both directions' rules. */
static const char *
refusal(const struct ca *ca, X509 *leaf, int64_t now)
{
	struct svid_info *info = mem_zalloc(sizeof(*info));
	struct svid_bundle *bundles[1] = { ca->bundle };
	X509 *chain[2] = { leaf, ca->issuing };
	const char *detail = NULL;
	enum svid_reason r = svid_verify(chain, 2, bundles, 1, SVID_CLIENT, now, info, &detail);

	if (r == SVID_OK)
		r = svid_verify(chain, 2, bundles, 1, SVID_SERVER, now, info, &detail);
	mem_free(info);
	return r == SVID_OK ? NULL : detail ? detail : svid_reason_text(r);
}

static int
sign(struct ca *ca, const struct ca_request *r, EVP_PKEY *key, struct ca_issued *out, struct errs *errs)
{
	int64_t life = r->lifetime_s ? r->lifetime_s : strcmp(r->kind, "gateway") ? CA_WORKLOAD_S : CA_GATEWAY_S, limit;
	struct cert_spec s = { .organization = ca->domain, .common_name = strrchr(r->id, '/') + 1, .id = r->id, .dns = r->dns,
		.ndns = r->ndns, .not_before = r->now - BACKDATE_LEAF_S, .not_after = r->now + life };
	struct store_entry e = { .serial = out->serial, .kind = r->kind, .id = r->id };
	X509 *leaf = NULL;
	const char *fault;
	char *pem;
	int rc = -1;

	if (svid_cert_time(X509_get0_notAfter(ca->issuing), &limit) != 0 || limit <= r->now) {
		errs_add(errs, ca->store.ca, 0, "the issuing CA has expired; it needs a successor before it can issue");
		return -1;
	}
	out->shortened = s.not_after > limit;
	if (out->shortened)
		s.not_after = limit;
	cert_serial(s.serial);
	esc_hex(out->serial, s.serial, sizeof(s.serial));
	out->serial[40] = 0;
	out->not_after = s.not_after;
	leaf = cert_make(&s, key, ca->issuing, ca->key);
	if (leaf == NULL) {
		errs_add(errs, NULL, 0, "cannot make a certificate for \"%s\"", r->id);
		return -1;
	}
	fault = refusal(ca, leaf, r->now);
	e.not_before = s.not_before;
	e.not_after = s.not_after;
	if (fault) {
		errs_add(errs, ca->store.ca, 0, "a gateway would refuse what this CA signs: %s", fault);
	} else if (store_append(ca->store.ca, &e, errs) == 0) {
		pem = cert_to_pem(leaf);
		out->chain_pem = mem_printf("%s%s", pem, ca->issuing_pem);
		mem_free(pem);
		rc = 0;
	}
	X509_free(leaf);
	return rc;
}

int
ca_issue(struct ca *ca, const struct ca_request *r, struct ca_issued *out, struct errs *errs)
{
	EVP_PKEY *key;
	int rc;

	memset(out, 0, sizeof(*out));
	if (check_request(ca, r, errs) != 0)
		return -1;
	ERR_set_mark();
	key = r->csr_pem ? key_of_csr(r, errs) : pkey_new(r->alg);
	rc = key ? sign(ca, r, key, out, errs) : -1;
	if (rc == 0 && r->csr_pem == NULL)
		out->key_pem = pkey_to_pem(key);
	EVP_PKEY_free(key);
	ERR_pop_to_mark();
	return rc;
}

void
ca_issued_fini(struct ca_issued *out)
{
	mem_free(out->chain_pem);
	pkey_free_pem(out->key_pem);
	memset(out, 0, sizeof(*out));
}
