/* SPDX-License-Identifier: Apache-2.0 */
/*
 * est_enroll: read the request, find out what entitles to it (a token, or a certificate with its key's proof), look whether that was used, issue, write down
 * what was issued for it, hand out. A crash in between leaves a certificate in the books that nobody got, and the right to ask again.
 */
#include "pki/est.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "gateway/base/buf.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/csr.h"
#include "pki/digest.h"
#include "pki/store.h"
#include "pki/token.h"

#define YOUNG 20       /* a certificate is so before that part of its life is over */
#define LIVE_MAX 100 /* certificates of one id: who renews and renews fills the books with them */
#define RENEWAL_CONTEXT "sallyport renewal 1" /* with its zero octet */

struct est {
	struct ca *ca;
	struct store store;          /* for tokens: the lock is the CA's */
	char *dir;
	dev_t dev;                   /* of DIR/ca: another one is another CA */
	ino_t ino;
	struct est_options o;
};

/* One request under way. */
struct job {
	struct est *e;
	const struct est_request *r;
	struct est_answer *out;
	struct csr *csr;
	uint8_t spki[DIGEST_SHA256_LEN], old_spki[DIGEST_SHA256_LEN]; /* of the request; of the certificate that is renewed */
	struct token *token;         /* what entitles to it */
	/* what is to be issued */
	char *id, *kind;
	char **dns;                  /* texts are somebody else's, or in "names" */
	size_t ndns;
	char *names;
	char predecessor[CA_SERIAL_MAX + 1];
	char before[CA_SERIAL_MAX + 1];     /* what the certificate was a renewal of, if that was a moment ago */
};

/* ---- opening ------------------------------------------------------------------------------------------ */

/* What "gwctl pki init" made anew is not what was opened. */
static bool
is_same_ca(const struct est *e)
{
	struct stat st;

	return stat(e->store.ca, &st) == 0 && st.st_dev == e->dev && st.st_ino == e->ino;
}

static int
lock(struct est *e, struct errs *errs)
{
	if (!is_same_ca(e)) {
		errs_add(errs, e->store.ca, 0, "it is not there any more, or another CA is in its place");
		return -1;
	}
	return ca_lock(e->ca, errs);
}

struct est *
est_open(const char *dir, const struct est_options *o, struct errs *errs)
{
	struct est *e = mem_zalloc(sizeof(*e));
	struct stat st;

	e->o = *o;
	memset(&e->o.keys, 0, sizeof(e->o.keys));
	e->dir = mem_strdup(dir);
	store_init(&e->store, dir);
	e->ca = ca_open(dir, &o->keys, errs);
	if (!e->ca) {
		est_close(e);
		return NULL;
	}
	if (stat(dir, &st) == 0)
		e->store.owner = (struct pkifile_owner){ st.st_uid, st.st_gid };
	if (stat(e->store.ca, &st) == 0) {
		e->dev = st.st_dev;
		e->ino = st.st_ino;
	}
	ca_unlock(e->ca);
	return e;
}

void
est_close(struct est *e)
{
	if (!e)
		return;
	ca_close(e->ca);
	store_fini(&e->store);
	mem_free(e->dir);
	mem_free(e);
}

/* ---- answers ------------------------------------------------------------------------------------------- */

void
est_certs_fini(struct est_certs *c)
{
	mem_free(c->data);
	memset(c, 0, sizeof(*c));
}

void
est_answer_fini(struct est_answer *a)
{
	est_certs_fini(&a->certs);
}

/* Certificates of PEM text, appended. 0, or -1: more than fit, or none that can be read. */
static int
add_pem(struct est_certs *c, struct buf *data, const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *x;
	int rc = 0;

	while (rc == 0 && in && (x = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		uint8_t *der = NULL;
		int n = i2d_X509(x, &der);

		if (n <= 0 || c->n == EST_CERTS_MAX || buf_append(data, der, (size_t)n) < 0)
			rc = -1;
		else
			c->certs[c->n++].len = (size_t)n;
		OPENSSL_free(der);
		X509_free(x);
	}
	BIO_free(in);
	ERR_clear_error();
	return c->n ? rc : -1;
}

/* Gives the octets to c. */
static void
settle(struct est_certs *c, struct buf *data)
{
	size_t at = 0;

	c->data = data->data;
	for (size_t i = 0; i < c->n; at += c->certs[i++].len)
		c->certs[i].p = c->data + at;
	data->data = NULL;
	buf_fini(data);
}

static int
certs_of(struct est_certs *c, const char *pem)
{
	struct buf data;
	int rc;

	buf_init(&data, SVID_MAX_BYTES);
	rc = add_pem(c, &data, pem);
	settle(c, &data);
	return rc;
}

/* -1, so that "return refuse(...)" reads well. */
static int
refuse(struct job *j, enum est_status status, const char *reason, const char *text)
{
	j->out->status = status;
	j->out->reason = reason;
	j->out->text = text;
	return -1;
}

static int
alarm_and_refuse(struct job *j, enum est_status status, const char *reason, const char *text)
{
	j->out->alert = true;
	return refuse(j, status, reason, text);
}

static void __attribute__((format(printf, 2, 3)))
explain(struct job *j, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	esc_text(j->out->detail, sizeof(j->out->detail), text, strlen(text));
}

/* Ours, not the requester's: the books and the log say what. */
static int
unavailable(struct job *j, struct errs *errs)
{
	explain(j, "%s", errs->n ? errs->items[0].text : "the store cannot be used");
	return refuse(j, EST_UNAVAILABLE, "ca-unavailable", "the CA cannot be used at the moment; its operator finds the reason in the log");
}

/* The certificate that was given out before, to the same key; it may have been revoked since. */
static int
repeat(struct job *j)
{
	struct ca_entry entry;

	if (ca_find(j->e->ca, j->token->serial, j->r->now, &entry) < 0 || entry.state == CA_REVOKED)
		return refuse(j, EST_FORBIDDEN, "revoked", "the certificate that was issued for this was revoked");
	if (certs_of(&j->out->certs, j->token->chain_pem) < 0) {
		explain(j, "%s holds no certificates", j->token->path);
		return refuse(j, EST_UNAVAILABLE, "ca-unavailable", "what was issued cannot be read; ask the CA's operator");
	}
	snprintf(j->out->serial, sizeof(j->out->serial), "%s", entry.serial);
	j->out->status = EST_OK;
	j->out->reason = "repeated";
	return 0;
}

static void
count_living(void *ctx, const struct ca_entry *e)
{
	size_t *n = ctx;

	*n += e->state == CA_VALID || e->state == CA_SUPERSEDED;
}

static int
issue(struct job *j, const char *how)
{
	bool gateway = !strcmp(j->kind, "gateway");
	struct ca_request q = { .kind = j->kind, .id = j->id, .dns = (const char *const *)j->dns, .ndns = j->ndns, .now = j->r->now,
		.lifetime_s = gateway ? j->e->o.gateway_s : j->e->o.workload_s, .csr = j->csr, .how = how,
		.predecessor = j->predecessor[0] ? j->predecessor : NULL };
	size_t living = 0;
	struct ca_issued issued = { 0 };
	struct errs errs;
	int rc = -1;

	ca_each(j->e->ca, j->id, j->r->now, count_living, &living);
	if (living >= LIVE_MAX) {
		explain(j, "%zu certificates of this id are in force", living);
		return refuse(j, EST_FORBIDDEN, "too-many", "too many certificates of this id are in force; renew less often");
	}
	errs_init(&errs);
	/* Used, on disk, before it leaves. */
	if (ca_issue(j->e->ca, &q, &issued, &errs) < 0 || token_use(&j->e->store, j->token, j->spki, issued.serial, issued.chain_pem, &errs) < 0) {
		unavailable(j, &errs);
	} else if (certs_of(&j->out->certs, issued.chain_pem) == 0) {
		memcpy(j->out->serial, issued.serial, sizeof(j->out->serial));
		j->out->status = EST_OK;
		rc = 0;
	} else {
		unavailable(j, &errs);
	}
	ca_issued_fini(&issued);
	errs_fini(&errs);
	return rc;
}

/* ---- what is asked for ----------------------------------------------------------------------------------- */

static int
same_id(struct job *j, const char *id)
{
	if (!j->csr->id || !strcmp(j->csr->id, id))
		return 0;
	explain(j, "asks for %s", j->csr->id);
	return refuse(j, EST_FORBIDDEN, "other-id", "the request names another id than the one that it may have");
}

/* Each name that the request has is one of those. */
static int
names_among(struct job *j, char *const *dns, size_t n)
{
	for (size_t i = 0; i < j->csr->ndns; i++) {
		size_t k = 0;

		while (k < n && strcmp(j->csr->dns[i], dns[k]))
			k++;
		if (k == n) {
			explain(j, "asks for the DNS name %s", j->csr->dns[i]);
			return refuse(j, EST_FORBIDDEN, "other-dns", "the request has a DNS name that it may not have");
		}
	}
	return 0;
}

static int
read_request(struct job *j)
{
	const char *why;

	j->csr = csr_read(j->r->csr, j->r->csr_len, &why);
	if (!j->csr) {
		explain(j, "%s", why);
		return refuse(j, EST_BAD_REQUEST, "bad-request", why);
	}
	digest_sha256(j->spki, j->csr->spki, j->csr->spki_len);
	return 0;
}

/* ---- the first certificate: a token ------------------------------------------------------------------------ */

static int
find_token(struct job *j)
{
	const struct est_request *r = j->r;
	struct csr *csr = j->csr;

	if (csr->id)
		explain(j, "asks for %s", csr->id);
	if (r->password_len) {
		j->token = token_by_password(&j->e->store, r->password, r->password_len);
	} else if (csr->challenge) {
		if (!csr->id)
			return refuse(j, EST_UNAUTHORIZED, "no-token", "a request with a proof of its token names its id as a URI (subjectAltName)");
		j->token = token_by_proof(&j->e->store, csr->id, csr->challenge, csr->spki, csr->spki_len);
	} else {
		return refuse(j, EST_UNAUTHORIZED, "no-token", "a token is wanted: as the password, or its proof as the request's challengePassword");
	}
	if (!j->token)
		return refuse(j, EST_UNAUTHORIZED, "token-unknown", "no such token; it may have expired");
	snprintf(j->out->id, sizeof(j->out->id), "%s", j->token->id);
	if (j->token->expires <= r->now)
		return refuse(j, EST_UNAUTHORIZED, "token-expired", "this token has expired");
	return 0;
}

static int
first(struct job *j)
{
	const char *why;
	struct token *t;

	if (find_token(j) < 0)
		return -1;
	j->out->detail[0] = 0;
	t = j->token;
	if (same_id(j, t->id) < 0 || names_among(j, t->dns, t->ndns) < 0)
		return -1;
	if (t->used && !memcmp(t->spki, j->spki, sizeof(j->spki)))
		return repeat(j);
	if (t->used) {
		explain(j, "it was used for certificate %s", t->serial);
		return refuse(j, EST_FORBIDDEN, "token-used", "this token was used already, with another key; tell whoever made it, if that was not you");
	}
	/* A token's file is the CA's own; but whatever is in it, it makes no gateway. */
	j->id = ca_id_of_name(ca_domain(j->e->ca), "workload", t->id, &why);
	if (!j->id) {
		explain(j, "%s", why);
		return alarm_and_refuse(j, EST_FORBIDDEN, "other-id", "a token for an id that is issued by an operator only");
	}
	j->kind = mem_strdup("workload");
	j->dns = j->csr->ndns ? j->csr->dns : t->dns;
	j->ndns = j->csr->ndns ? j->csr->ndns : t->ndns;
	j->out->reason = "issued";
	return issue(j, "token");
}

/* ---- renewal: the old certificate and its key ---------------------------------------------------------------- */

static enum svid_reason
verify_chain(struct job *j, struct svid_info *info, const char **detail)
{
	struct svid_bundle *bundle = NULL;
	enum svid_reason reason = SVID_OTHER;
	struct errs errs;
	char *pem;

	errs_init(&errs);
	pem = ca_bundle(j->e->dir, &errs);
	if (pem)
		bundle = svid_bundle_new(ca_domain(j->e->ca), pem, detail);
	if (bundle)
		reason = svid_verify_der(j->r->chain, j->r->nchain, &bundle, 1, SVID_CLIENT, j->r->now, info, detail);
	else
		*detail = "the CA's own bundle cannot be read";
	svid_bundle_unref(bundle);
	mem_free(pem);
	errs_fini(&errs);
	return reason;
}

/* NULL: the key brings its own. */
static const EVP_MD *
digest_for(const EVP_PKEY *key)
{
	if (EVP_PKEY_is_a(key, "ED25519"))
		return NULL;
	return EVP_PKEY_get_security_bits(key) >= 192 ? EVP_sha384() : EVP_sha256();
}

static bool
signed_by(EVP_PKEY *old, const struct csr *csr)
{
	size_t n = strlen(csr->challenge), len = sizeof(RENEWAL_CONTEXT) + csr->spki_len;
	uint8_t *sig = mem_alloc(n + 4), *tbs = mem_alloc(len);
	long sig_len = esc_unbase64(sig, csr->challenge, n);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok;

	memcpy(tbs, RENEWAL_CONTEXT, sizeof(RENEWAL_CONTEXT));
	memcpy(tbs + sizeof(RENEWAL_CONTEXT), csr->spki, csr->spki_len);
	ok = md && sig_len > 0 && EVP_DigestVerifyInit(md, NULL, digest_for(old), NULL, old) == 1 &&
	    EVP_DigestVerify(md, sig, (size_t)sig_len, tbs, len) == 1;
	EVP_MD_CTX_free(md);
	mem_free(sig);
	mem_free(tbs);
	return ok;
}

/* Case 94: the certificate is public, so whoever shows it proves nothing by it. */
static bool
proved(struct job *j)
{
	const uint8_t *p = j->r->chain[0].p;
	X509 *x = d2i_X509(NULL, &p, (long)j->r->chain[0].len);
	EVP_PKEY *old = x ? X509_get0_pubkey(x) : NULL;
	uint8_t *spki = NULL;
	int n = old ? i2d_PUBKEY(old, &spki) : -1;
	bool ok = false;

	if (n > 0) {
		digest_sha256(j->old_spki, spki, (size_t)n);
		ok = EVP_PKEY_eq(old, j->csr->key) == 1 || (j->csr->challenge && signed_by(old, j->csr));
	}
	OPENSSL_free(spki);
	X509_free(x);
	ERR_clear_error();
	return ok;
}

/* What the books know of the certificate; its texts are copied into j. */
static int
look_up(struct job *j, const struct svid_info *info, int64_t *not_after)
{
	struct ca_entry entry;
	char *save = NULL;

	if (ca_find(j->e->ca, info->serial, j->r->now, &entry) < 0 || strcmp(entry.id, info->id) ||
	    (strcmp(entry.kind, "gateway") && strcmp(entry.kind, "workload")))
		return alarm_and_refuse(j, EST_FORBIDDEN, "unknown-certificate", "the CA's books do not know this certificate");
	if (entry.state == CA_REVOKED) {
		explain(j, "revoked for %s", entry.reason);
		return refuse(j, EST_FORBIDDEN, "revoked", "this certificate was revoked");
	}
	if (entry.state == CA_EXPIRED)
		return refuse(j, EST_FORBIDDEN, "expired", "this certificate has expired; a new one takes a new token, or the CA's operator");
	if (entry.state == CA_NOT_YET_VALID)
		return refuse(j, EST_FORBIDDEN, "not-yet-valid", "this certificate is not valid yet");
	j->id = mem_strdup(entry.id);
	j->kind = mem_strdup(entry.kind);
	j->names = mem_strdup(entry.dns);
	snprintf(j->predecessor, sizeof(j->predecessor), "%s", entry.serial);
	if (entry.predecessor && !strcmp(entry.how ? entry.how : "", "renewal") &&
	    j->r->now - entry.not_before - CA_BACKDATE_S < (entry.not_after - entry.not_before - CA_BACKDATE_S) / YOUNG)
		snprintf(j->before, sizeof(j->before), "%s", entry.predecessor);
	*not_after = entry.not_after;
	j->dns = mem_array(CA_DNS_MAX, sizeof(*j->dns));
	for (char *name = strtok_r(j->names, ",", &save); name && j->ndns < CA_DNS_MAX; name = strtok_r(NULL, ",", &save))
		j->dns[j->ndns++] = name;
	return 0;
}

static bool
is_live(enum ca_state s)
{
	return s == CA_VALID || s == CA_NOT_YET_VALID || s == CA_SUPERSEDED;
}

/* What stands in the store for the predecessor's renewal. 0, or -1: refused. */
static int
find_renewal(struct job *j, int64_t not_after)
{
	bool damaged;

	token_free(j->token);
	j->token = token_by_renewal(&j->e->store, j->predecessor, not_after, &damaged);
	if (!damaged)
		return 0;
	/* Taken for nothing it would cost its successor, which may be in use, its life. */
	explain(j, "what the renewal of %s gave cannot be read, in enrol/renewed", j->predecessor);
	return refuse(j, EST_UNAVAILABLE, "ca-unavailable", "the CA cannot be used at the moment; its operator finds the reason in the log");
}

/* We died before it was handed out, so nobody has it: there is to be one successor. */
static int
withdraw(struct job *j, const struct ca_entry *e)
{
	const char *serial = e->serial;
	struct errs errs;
	int rc;

	errs_init(&errs);
	rc = ca_revoke(j->e->ca, &serial, 1, ca_reason("superseded"), NULL, j->r->now, &errs);
	if (rc < 0)
		unavailable(j, &errs);
	errs_fini(&errs);
	return rc < 0 ? -1 : 0;
}

/* 1: go on and issue; 0: answered; -1: refused. */
static int
successor(struct job *j, int64_t not_after)
{
	static const char already[] = "this certificate was renewed already, with another key; tell the CA's operator, if that was not you";
	struct ca_entry entry;
	unsigned hops = 0;

	if (find_renewal(j, not_after) < 0)
		return -1;
	while (j->token && j->token->used && ca_find(j->e->ca, j->token->serial, j->r->now, &entry) == 0) {
		if (entry.state == CA_REVOKED)
			return refuse(j, EST_FORBIDDEN, "superseded", "the certificate that replaced this one was revoked; a new one takes the CA's operator");
		if (!is_live(entry.state))
			break;
		if (!memcmp(j->token->spki, j->spki, sizeof(j->spki)))
			return repeat(j);
		/*
		 * A request for the same key is good for ever, and whoever saw one (a worker that was taken over, say) can send it again. What that gave is
		 * of the same key still, so its holder has it to renew, and loses nothing.
		 */
		if (memcmp(j->token->spki, j->old_spki, sizeof(j->old_spki)) || ++hops > LIVE_MAX) {
			explain(j, "its successor is %s", entry.serial);
			return refuse(j, EST_CONFLICT, "already-renewed", already);
		}
		snprintf(j->predecessor, sizeof(j->predecessor), "%s", entry.serial);
		not_after = entry.not_after;
		if (find_renewal(j, not_after) < 0)
			return -1;
	}
	if (!j->token && ca_successor_of(j->e->ca, j->predecessor, j->r->now, &entry) == 0 && is_live(entry.state)) {
		if (!entry.how || strcmp(entry.how, "renewal")) {
			explain(j, "its successor is %s", entry.serial);
			return refuse(j, EST_CONFLICT, "already-renewed", "this certificate was renewed already, by the CA's operator");
		}
		if (withdraw(j, &entry) < 0)
			return -1;
	}
	if (!j->token)
		j->token = token_for_renewal(&j->e->store, j->predecessor, j->id, not_after);
	return 1;
}

/*
 * Renewed a moment ago, and for the same key again: it is good still. So whoever saw a request for the same key cannot make a chain of certificates of it, until
 * there are as many as an id may have.
 */
static bool
is_young(struct job *j)
{
	struct ca_entry entry;
	bool damaged;

	if (!j->before[0] || memcmp(j->spki, j->old_spki, sizeof(j->spki)) || ca_find(j->e->ca, j->before, j->r->now, &entry) < 0)
		return false;
	j->token = token_by_renewal(&j->e->store, j->before, entry.not_after, &damaged);
	return j->token && j->token->used && !strcmp(j->token->serial, j->predecessor) && !memcmp(j->token->spki, j->spki, sizeof(j->spki));
}

static int
renew(struct job *j)
{
	struct svid_info info = { 0 };
	const char *detail = NULL;
	enum svid_reason reason;
	int64_t not_after;
	int r;

	if (!j->r->nchain)
		return refuse(j, EST_FORBIDDEN, "no-certificate", "the certificate that is to be renewed has to be shown in TLS");
	reason = verify_chain(j, &info, &detail);
	if (reason != SVID_OK) {
		explain(j, "%s%s%s", info.id, info.id[0] && detail ? ": " : "", detail ? detail : "");
		return refuse(j, EST_FORBIDDEN, svid_reason_text(reason), "the certificate that was shown is not one that this CA renews");
	}
	snprintf(j->out->id, sizeof(j->out->id), "%s", info.id);
	snprintf(j->out->serial, sizeof(j->out->serial), "%.*s", CA_SERIAL_MAX, info.serial);
	if (look_up(j, &info, &not_after) < 0)
		return -1;
	if (!proved(j))
		return alarm_and_refuse(j, EST_FORBIDDEN, "no-proof", "nothing in the request proves that the old certificate's key agrees");
	if (same_id(j, j->id) < 0) {
		j->out->alert = true;
		return -1;
	}
	if (names_among(j, j->dns, j->ndns) < 0)
		return -1;
	if (is_young(j))
		return repeat(j);
	r = successor(j, not_after);
	if (r <= 0)
		return r;
	j->out->reason = "renewed";
	return issue(j, "renewal");
}

/* ---- what others call -------------------------------------------------------------------------------------- */

void
est_enroll(struct est *e, const struct est_request *r, struct est_answer *out)
{
	struct job j = { .e = e, .r = r, .out = out };
	struct errs errs;

	memset(out, 0, sizeof(*out));
	out->reason = out->text = "";
	if (read_request(&j) < 0)
		return;
	errs_init(&errs);
	if (lock(e, &errs) < 0) {
		unavailable(&j, &errs);
	} else {
		if (r->renewal)
			renew(&j);
		else
			first(&j);
		ca_unlock(e->ca);
	}
	errs_fini(&errs);
	csr_free(j.csr);
	token_free(j.token);
	mem_free(j.id);
	mem_free(j.kind);
	if (j.names)
		mem_free(j.dns);
	mem_free(j.names);
}

int
est_cacerts(struct est *e, struct est_certs *out, struct errs *errs)
{
	char *roots = NULL, *cross = NULL;
	struct buf data;
	int rc = -1;

	memset(out, 0, sizeof(*out));
	if (lock(e, errs) < 0)
		return -1;
	buf_init(&data, SVID_MAX_BYTES);
	if ((roots = ca_bundle(e->dir, errs)) && add_pem(out, &data, ca_issuing_pem(e->ca)) == 0 && add_pem(out, &data, roots) == 0)
		rc = (cross = ca_cross_pem(e->dir, errs)) ? add_pem(out, &data, cross) : 0;
	settle(out, &data);
	ca_unlock(e->ca);
	mem_free(roots);
	mem_free(cross);
	if (rc < 0)
		est_certs_fini(out);
	return rc;
}

const uint8_t *
est_csrattrs(size_t *len)
{
	/* SEQUENCE of: OID challengePassword; attribute id-ecPublicKey, SET of prime256v1, secp384r1; OID id-Ed25519; OID ecdsa-with-SHA256. */
	static const uint8_t attrs[] = {
		0x30, 0x38,
		0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07,
		0x30, 0x1c, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
		0x31, 0x11, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
		0x06, 0x03, 0x2b, 0x65, 0x70,
		0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
	};

	*len = sizeof(attrs);
	return attrs;
}

int
est_sweep(struct est *e, int64_t now, struct est_status_info *out, struct errs *errs)
{
	int crl;

	if (lock(e, errs) < 0)
		return -1;
	out->tokens = token_sweep(&e->store, now);
	out->not_after = ca_issuing_end(e->ca);
	crl = ca_crl_keep(e->ca, now, &out->crl_until, errs);
	out->crl_made = crl > 0;
	ca_unlock(e->ca);
	return crl < 0 ? -1 : 0;
}
