/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets a certificate by EST, and who does not: tokens, proofs, successors, and what a crash or a rival leaves. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "gateway/base/buf.h"
#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "pki/est.h"
#include "pki/pkcs7.h"
#include "pki/pkifile.h"
#include "pki/token.h"
#include "tests/unit/pki/estbed.h"
#include "tests/unit/pki/zoo.h"

#define PERMIT "spiffe://hud.example/permit-svc"
#define TAX "spiffe://hud.example/tax-svc"

static char *dir;
static struct est *est;
static int64_t now;
static EVP_PKEY *a, *b;     /* two keys of P-256 */
static struct est_answer out;

/* As if the process had died between issuing and writing down for what. */
static bool die_before_use;
int __real_token_use(const struct store *s, struct token *t, const uint8_t spki[DIGEST_SHA256_LEN], const char *serial, const char *chain_pem, struct errs *errs);
int __wrap_token_use(const struct store *s, struct token *t, const uint8_t spki[DIGEST_SHA256_LEN], const char *serial, const char *chain_pem, struct errs *errs);
int
__wrap_token_use(const struct store *s, struct token *t, const uint8_t spki[DIGEST_SHA256_LEN], const char *serial, const char *chain_pem, struct errs *errs)
{
	if (die_before_use)
		_exit(9);
	return __real_token_use(s, t, spki, serial, chain_pem, errs);
}

static struct est *
open_est(const char *store, const char *passphrase)
{
	struct est_options o = { .keys.passphrase = passphrase, .workload_s = 3600, .gateway_s = 7200 };
	struct errs errs;
	struct est *e;

	errs_init(&errs);
	e = est_open(store, &o, &errs);
	for (size_t i = 0; !e && i < errs.n; i++)
		print_error("%s\n", errs.items[i].text);
	errs_fini(&errs);
	return e;
}

static int
begin(void **state)
{
	(void)state;
	now = (int64_t)(clock_wall_us() / 1000000);
	dir = mem_strdup(estbed_store());
	est = open_est(dir, NULL);
	a = estbed_key("P-256");
	b = estbed_key("P-256");
	return est ? 0 : -1;
}

static int
end(void **state)
{
	(void)state;
	est_answer_fini(&out);
	memset(&out, 0, sizeof(out));
	est_close(est);
	EVP_PKEY_free(a);
	EVP_PKEY_free(b);
	mem_free(dir);
	return 0;
}

static int
clean(void **state)
{
	(void)state;
	estbed_clean();
	return 0;
}

/* The last answer is "status reason". */
static void
assert_answer_at(enum est_status status, const char *reason, int line)
{
	if (out.status != status || strcmp(out.reason, reason))
		print_error("line %d: %d %s (%s; %s)\n", line, out.status, out.reason, out.text, out.detail);
	assert_int_equal(out.status, status);
	assert_string_equal(out.reason, reason);
	assert_true((out.status == EST_OK) == (out.certs.n > 0));
	assert_true(out.status == EST_OK || out.text[0]);
}
#define assert_answer(status, reason) assert_answer_at(status, reason, __LINE__)

static void
enroll(const struct estbed_csr *c, const char *password)
{
	struct estbed_der csr = estbed_csr(c);
	struct est_request r = { .now = now, .password = password, .password_len = password ? strlen(password) : 0, .csr = csr.p, .csr_len = csr.len };

	est_answer_fini(&out);
	est_enroll(est, &r, &out);
}

/* What a client holds after an answer. */
struct held {
	uint8_t p[2][4096];
	struct svid_der chain[2];
	char serial[CA_SERIAL_MAX + 1];
};

static struct held *
hold(void)
{
	struct held *h = mem_zalloc(sizeof(*h));

	assert_int_equal(out.status, EST_OK);
	assert_int_equal(out.certs.n, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_true(out.certs.certs[i].len <= sizeof(h->p[i]));
		memcpy(h->p[i], out.certs.certs[i].p, out.certs.certs[i].len);
		h->chain[i] = (struct svid_der){ h->p[i], out.certs.certs[i].len };
	}
	memcpy(h->serial, out.serial, sizeof(h->serial));
	return h;
}

static void
renew(const struct estbed_csr *c, const struct held *h)
{
	struct estbed_der csr = estbed_csr(c);
	struct est_request r = { .renewal = true, .now = now, .chain = h ? h->chain : NULL, .nchain = h ? 2 : 0, .csr = csr.p, .csr_len = csr.len };

	est_answer_fini(&out);
	est_enroll(est, &r, &out);
}

/* A first certificate for a name, with key. */
static struct held *
enrolled(const char *name, const char *dns, EVP_PKEY *key)
{
	char *token = estbed_token(dir, name, dns, now, 600);

	enroll(&(struct estbed_csr){ .key = key }, token);
	assert_answer(EST_OK, "issued");
	mem_free(token);
	return hold();
}

static void
with_ca(void (*fn)(struct ca *ca, void *ctx), void *ctx)
{
	struct errs errs;
	struct ca *ca;

	errs_init(&errs);
	ca = ca_open(dir, NULL, &errs);
	assert_non_null(ca);
	fn(ca, ctx);
	ca_close(ca);
	errs_fini(&errs);
}

static void
do_revoke(struct ca *ca, void *ctx)
{
	const char *serial = ctx;
	struct errs errs;

	errs_init(&errs);
	assert_int_equal(ca_revoke(ca, &serial, 1, ca_reason("keyCompromise"), NULL, now, &errs), 0);
	errs_fini(&errs);
}

static void
revoke_serial(const char *serial)
{
	char copy[CA_SERIAL_MAX + 1];

	snprintf(copy, sizeof(copy), "%s", serial);
	with_ca(do_revoke, copy);
}

/* ---- tokens --------------------------------------------------------------------------------------------- */

static void
check_names(const char *id, const char *dns)
{
	const uint8_t *p = out.certs.certs[0].p;
	X509 *x = d2i_X509(NULL, &p, (long)out.certs.certs[0].len);
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	struct buf all;

	buf_init(&all, 0);
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_URI)
			assert_string_equal((const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier), id);
		else
			buf_printf(&all, "%s%s", all.len ? "," : "", ASN1_STRING_get0_data(g->d.dNSName));
	}
	assert_string_equal(buf_cstr(&all), dns);
	buf_fini(&all);
	GENERAL_NAMES_free(names);
	X509_free(x);
}

static void
test_token(void **state)
{
	char *token = estbed_token(dir, "permit-svc", "permit.hud.example", now, 600);
	struct held *h;

	(void)state;
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT }, token);
	assert_answer(EST_OK, "issued");
	assert_string_equal(out.id, PERMIT);
	assert_true(estbed_has_key(out.certs.certs[0].p, out.certs.certs[0].len, a));
	check_names(PERMIT, "permit.hud.example");
	h = hold();
	/* The answer was lost: the same again. */
	now += 100;
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT }, token);
	assert_answer(EST_OK, "repeated");
	assert_memory_equal(out.certs.certs[0].p, h->p[0], h->chain[0].len);
	assert_string_equal(out.serial, h->serial);
	/* Somebody else got hold of it. */
	enroll(&(struct estbed_csr){ .key = b, .uri = PERMIT }, token);
	assert_answer(EST_FORBIDDEN, "token-used");
	assert_string_equal(out.id, PERMIT);
	revoke_serial(h->serial);
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT }, token);
	assert_answer(EST_FORBIDDEN, "revoked");
	now += 501;
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT }, token);
	assert_answer(EST_UNAUTHORIZED, "token-expired");
	mem_free(h);
	mem_free(token);
}

static void
test_proof(void **state)
{
	char *token = estbed_token(dir, "permit-svc", NULL, now, 600), *other = estbed_token(dir, "tax-svc", NULL, now, 600);

	(void)state;
	/* What a worker has seen is of no use with its own key. */
	enroll(&(struct estbed_csr){ .key = b, .uri = PERMIT, .token = token, .instead = a }, NULL);
	assert_answer(EST_UNAUTHORIZED, "token-unknown");
	/* Another's token. */
	enroll(&(struct estbed_csr){ .key = b, .uri = PERMIT, .token = other }, NULL);
	assert_answer(EST_UNAUTHORIZED, "token-unknown");
	enroll(&(struct estbed_csr){ .key = a, .token = token }, NULL);
	assert_answer(EST_UNAUTHORIZED, "no-token");
	/* The token itself is not its proof. */
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT, .challenge = token }, NULL);
	assert_answer(EST_UNAUTHORIZED, "token-unknown");
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT, .token = token }, NULL);
	assert_answer(EST_OK, "issued");
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT, .token = token }, NULL);
	assert_answer(EST_OK, "repeated");
	enroll(&(struct estbed_csr){ .key = b, .uri = PERMIT, .token = token }, NULL);
	assert_answer(EST_FORBIDDEN, "token-used");
	/* It counts as used in its other form, too. */
	enroll(&(struct estbed_csr){ .key = b, .uri = PERMIT }, token);
	assert_answer(EST_FORBIDDEN, "token-used");
	mem_free(token);
	mem_free(other);
}

static void
test_refused(void **state)
{
	char *token = estbed_token(dir, "permit-svc", "permit.hud.example", now, 600);
	EVP_PKEY *weak = estbed_key("RSA1024");
	struct est_request r = { .now = now, .csr = "nonsense", .csr_len = 8 };
	struct estbed_der csr;

	(void)state;
	enroll(&(struct estbed_csr){ .key = a }, NULL);
	assert_answer(EST_UNAUTHORIZED, "no-token");
	enroll(&(struct estbed_csr){ .key = a, .uri = PERMIT }, "spt-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	assert_answer(EST_UNAUTHORIZED, "token-unknown");
	assert_string_equal(out.id, "");
	enroll(&(struct estbed_csr){ .key = a, .uri = TAX }, token);
	assert_answer(EST_FORBIDDEN, "other-id");
	assert_non_null(strstr(out.detail, TAX));
	enroll(&(struct estbed_csr){ .key = a, .dns = { "permit.hud.example", "tax.hud.example" } }, token);
	assert_answer(EST_FORBIDDEN, "other-dns");
	enroll(&(struct estbed_csr){ .key = weak }, token);
	assert_answer(EST_BAD_REQUEST, "bad-request");
	est_enroll(est, &r, &out);
	assert_answer(EST_BAD_REQUEST, "bad-request");
	csr = estbed_csr(&(struct estbed_csr){ .key = a });
	csr.p[csr.len - 1] ^= 1; /* not signed by its key */
	r = (struct est_request){ .now = now, .password = token, .password_len = strlen(token), .csr = csr.p, .csr_len = csr.len };
	est_enroll(est, &r, &out);
	assert_answer(EST_BAD_REQUEST, "bad-request");
	/* After all that it is as good as before. */
	enroll(&(struct estbed_csr){ .key = a, .dns = { "permit.hud.example" } }, token);
	assert_answer(EST_OK, "issued");
	check_names(PERMIT, "permit.hud.example");
	EVP_PKEY_free(weak);
	mem_free(token);
}

/* DESIGN: nobody gets a gateway/… id by token. */
static void
test_no_gateway(void **state)
{
	static const char *const names[] = { "gateway/dmz1", "spiffe://hud.example/gateway/dmz1", "spiffe://irs.example/x", "", "a b", "../x", "spiffe://hud.example" };
	char *token, *cmd;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_null(estbed_token(dir, names[i], NULL, now, 600));
	assert_null(estbed_token(dir, "x", "Upper.Case", now, 600));
	assert_null(estbed_token(dir, "x", NULL, now, 0));
	assert_null(estbed_token(dir, "x", NULL, now, TOKEN_TTL_MAX_S + 1));
	/* Not even when its file says so. */
	token = estbed_token(dir, "permit-svc", NULL, now, 600);
	cmd = mem_printf("sed -i 's,^id .*,id spiffe://hud.example/gateway/dmz1,' %s/enrol/tokens/*", dir);
	assert_int_equal(system(cmd), 0);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_FORBIDDEN, "other-id");
	assert_true(out.alert);
	mem_free(cmd);
	mem_free(token);
}

static void
test_bounds(void **state)
{
	struct token_wish w = { .domain = "hud.example", .name = "x", .now = now, .ttl_s = 60 };
	struct est_status_info info;
	char token[TOKEN_SIZE], *id, *cmd;
	struct store s;
	struct errs errs;

	(void)state;
	errs_init(&errs);
	store_init(&s, dir);
	assert_int_equal(store_lock(&s, 10000, &errs), 0);
	assert_int_equal(token_make(&s, &w, token, &id, &errs), 0);
	mem_free(id);
	/* And copies of it, under other names: one by one they would all be synced. */
	cmd = mem_printf("cd %s/enrol/tokens && f=$(echo *) && for i in $(seq 10001 %d); do "
	                 "cp $f ${f%%%%-*}-000000000000000000000000000$i-${f##*-}; done", dir, 10000 + TOKEN_LIVE_MAX - 1);
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	assert_int_equal(token_make(&s, &w, token, &id, &errs), -1);
	assert_int_equal(errs.errors, 1);
	/* One more when one was used. */
	store_fini(&s);
	errs_fini(&errs);
	errs_init(&errs);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_OK, "issued");
	store_init(&s, dir);
	assert_int_equal(store_lock(&s, 10000, &errs), 0);
	assert_int_equal(token_make(&s, &w, token, &id, &errs), 0);
	mem_free(id);
	store_fini(&s);
	assert_int_equal(est_sweep(est, now, &info, &errs), 0);
	assert_int_equal(info.tokens, TOKEN_LIVE_MAX);
	assert_true(info.not_after > now);
	assert_int_equal(est_sweep(est, now + 61, &info, &errs), 0);
	assert_int_equal(info.tokens, 0);
	store_init(&s, dir);
	assert_int_equal(store_lock(&s, 10000, &errs), 0);
	w.now += 61;
	assert_int_equal(token_make(&s, &w, token, &id, &errs), 0);
	mem_free(id);
	store_fini(&s);
	errs_fini(&errs);
}

/* ---- renewals --------------------------------------------------------------------------------------------- */

static void
test_renew_same_key(void **state)
{
	struct held *h = enrolled("permit-svc", "permit.hud.example", a), *h2;
	EVP_PKEY *c = estbed_key("P-256");
	char serial[CA_SERIAL_MAX + 1];

	(void)state;
	now += 1800;
	renew(&(struct estbed_csr){ .key = a, .uri = PERMIT }, h);
	assert_answer(EST_OK, "renewed");
	assert_string_equal(out.id, PERMIT);
	check_names(PERMIT, "permit.hud.example");
	h2 = hold();
	assert_string_not_equal(h->serial, h2->serial);
	/* A lost answer. */
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_OK, "repeated");
	assert_string_equal(out.serial, h2->serial);
	/*
	 * Whoever saw a request for the same key can send it again: its holder, who knows nothing of what that gave, is not shut out. One live
	 * successor it remains: of h that is h2, of h2 what comes now.
	 */
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "renewed");
	assert_string_equal(out.id, PERMIT);
	strcpy(serial, out.serial);
	renew(&(struct estbed_csr){ .key = b, .old = a }, h2);
	assert_answer(EST_OK, "repeated");
	assert_string_equal(out.serial, serial);
	renew(&(struct estbed_csr){ .key = c, .old = a }, h);
	assert_answer(EST_CONFLICT, "already-renewed");
	renew(&(struct estbed_csr){ .key = c, .old = a }, h2);
	assert_answer(EST_CONFLICT, "already-renewed");
	EVP_PKEY_free(c);
	mem_free(h);
	mem_free(h2);
}

static void
test_renew_new_key(void **state)
{
	static const char *const kinds[] = { "P-256", "P-384", "ED25519", "RSA" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		EVP_PKEY *old = estbed_key(kinds[i]);
		char *name = mem_printf("svc-%zu", i), *id = mem_printf("spiffe://hud.example/%s", name);
		struct held *h = enrolled(name, NULL, old);

		renew(&(struct estbed_csr){ .key = b, .uri = id, .old = old, .instead = a }, h);
		assert_answer(EST_FORBIDDEN, "no-proof");
		renew(&(struct estbed_csr){ .key = b, .uri = id, .old = old }, h);
		assert_answer(EST_OK, "renewed");
		assert_true(estbed_has_key(out.certs.certs[0].p, out.certs.certs[0].len, b));
		renew(&(struct estbed_csr){ .key = b, .old = old }, h);
		assert_answer(EST_OK, "repeated");
		renew(&(struct estbed_csr){ .key = a, .old = old }, h);
		assert_answer(EST_CONFLICT, "already-renewed");
		mem_free(h);
		mem_free(name);
		mem_free(id);
		EVP_PKEY_free(old);
	}
}

/* Case 94: a compromised worker presents another's certificate, which is public. */
static void
test_no_proof(void **state)
{
	struct held *h = enrolled("permit-svc", "permit.hud.example", a), *own = enrolled("tax-svc", NULL, b);
	EVP_PKEY *c = estbed_key("P-256");
	char *token = estbed_token(dir, "other-svc", NULL, now, 600);

	(void)state;
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	assert_true(out.alert);
	assert_string_equal(out.id, PERMIT);
	assert_string_equal(out.serial, h->serial);
	/* Its own key's word, the right form by the wrong key, junk, a token's proof, a self-made proof for its own certificate. */
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT, .old = c }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT, .old = b }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT, .challenge = "AAAA" }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT, .challenge = "not base64!" }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT, .token = token }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	assert_true(out.alert);
	/* Its own identity, and its proof; but asking for the other's. */
	renew(&(struct estbed_csr){ .key = b, .uri = PERMIT }, own);
	assert_answer(EST_FORBIDDEN, "other-id");
	assert_true(out.alert);
	/* A word that was given for one key, seen on the way, is none for another. */
	renew(&(struct estbed_csr){ .key = c, .uri = PERMIT, .old = a, .instead = b }, h);
	assert_answer(EST_FORBIDDEN, "no-proof");
	/* Nothing of it spoiled the real owner's right. */
	renew(&(struct estbed_csr){ .key = a, .uri = PERMIT }, h);
	assert_answer(EST_OK, "renewed");
	assert_false(out.alert);
	EVP_PKEY_free(c);
	mem_free(token);
	mem_free(h);
	mem_free(own);
}

static void
test_renew_refused(void **state)
{
	struct zoo_cert ca = zoo_ca("hud.example", NULL);
	const struct zoo leaf = { .san = { { GEN_URI, PERMIT, 0 } }, .from = now - 60, .until = now + 3600 };
	struct zoo_cert forged = zoo_make(&leaf, &ca);
	struct held *h = enrolled("permit-svc", "permit.hud.example", a), f = { 0 };
	uint8_t *p = f.p[0], *p1 = f.p[1];

	(void)state;
	renew(&(struct estbed_csr){ .key = a }, NULL);
	assert_answer(EST_FORBIDDEN, "no-certificate");
	renew(&(struct estbed_csr){ .key = a, .dns = { "tax.hud.example" } }, h);
	assert_answer(EST_FORBIDDEN, "other-dns");
	/* Another CA of the same name. */
	f.chain[0] = (struct svid_der){ f.p[0], (size_t)i2d_X509(forged.x, &p) };
	f.chain[1] = (struct svid_der){ f.p[1], (size_t)i2d_X509(ca.x, &p1) };
	renew(&(struct estbed_csr){ .key = forged.key }, &f);
	assert_answer(EST_FORBIDDEN, "untrusted");
	assert_string_equal(out.serial, "");
	/* The CA's own certificate. */
	memcpy(f.p[0], h->p[1], h->chain[1].len);
	f.chain[0].len = h->chain[1].len;
	renew(&(struct estbed_csr){ .key = a }, &f);
	assert_int_equal(out.status, EST_FORBIDDEN);
	f.chain[0] = (struct svid_der){ f.p[0], 40 };
	renew(&(struct estbed_csr){ .key = a }, &f);
	assert_answer(EST_FORBIDDEN, "malformed");
	/* Too late. */
	now += 3601;
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_FORBIDDEN, "expired");
	now -= 3601;
	revoke_serial(h->serial);
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_FORBIDDEN, "revoked");
	mem_free(h);
	zoo_free(&ca);
	zoo_free(&forged);
}

/* The successor was revoked: who has the old one does not come back by it. */
static void
test_successor_revoked(void **state)
{
	struct held *h = enrolled("permit-svc", NULL, a);

	(void)state;
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "renewed");
	revoke_serial(out.serial);
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_FORBIDDEN, "superseded");
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_FORBIDDEN, "superseded");
	mem_free(h);
}

/* What a renewal gave cannot be read: nothing is issued, and what was is not revoked. */
static void
test_renewal_damaged(void **state)
{
	struct held *h = enrolled("permit-svc", NULL, a), *h2;
	char *cmd = mem_printf("for f in %s/enrol/renewed/*; do cp $f %s/kept && echo > $f; done", dir, dir);
	EVP_PKEY *own = estbed_key("P-256");

	(void)state;
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "renewed");
	h2 = hold();
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	renew(&(struct estbed_csr){ .key = own, .old = a }, h);
	assert_answer(EST_UNAVAILABLE, "ca-unavailable");
	EVP_PKEY_free(own);
	cmd = mem_printf("for f in %s/enrol/renewed/*; do cat %s/kept > $f; done", dir, dir);
	assert_int_equal(system(cmd), 0);
	mem_free(cmd);
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "repeated");
	assert_string_equal(out.serial, h2->serial);
	mem_free(h);
	mem_free(h2);
}

/* Signed by the CA, and not in its books: from a store that was set back. */
static void
test_unknown(void **state)
{
	char *books = mem_printf("%s/ca/index", dir), *old = pkifile_read(books, 1 << 20);
	struct held *h = enrolled("permit-svc", NULL, a);

	(void)state;
	assert_non_null(old);
	est_close(est);
	assert_int_equal(pkifile_replace(books, 0600, old, strlen(old)), 0);
	est = open_est(dir, NULL);
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_FORBIDDEN, "unknown-certificate");
	assert_true(out.alert);
	mem_free(h);
	mem_free(books);
	mem_free(old);
}

struct by_operator {
	const char *kind, *id, *predecessor;
	EVP_PKEY *key;
	struct held *h;
};

static void
do_issue(struct ca *ca, void *ctx)
{
	struct by_operator *o = ctx;
	struct ca_request r = { .kind = o->kind, .id = o->id, .now = now, .key = o->key, .predecessor = o->predecessor, .lifetime_s = 3600 };
	struct ca_issued issued;
	struct errs errs;
	X509 *x;
	BIO *in;

	errs_init(&errs);
	assert_int_equal(ca_issue(ca, &r, &issued, &errs), 0);
	o->h = mem_zalloc(sizeof(*o->h));
	in = BIO_new_mem_buf(issued.chain_pem, -1);
	for (size_t i = 0; i < 2; i++) {
		uint8_t *p = o->h->p[i];

		x = PEM_read_bio_X509(in, NULL, NULL, NULL);
		o->h->chain[i] = (struct svid_der){ p, (size_t)i2d_X509(x, &p) };
		X509_free(x);
	}
	BIO_free(in);
	memcpy(o->h->serial, issued.serial, sizeof(o->h->serial));
	ca_issued_fini(&issued);
	errs_fini(&errs);
}

/* A gateway's certificate is first issued by an operator, and then renews itself like the others. */
static void
test_gateway(void **state)
{
	struct by_operator o = { .kind = "gateway", .id = "spiffe://hud.example/gateway/dmz1", .key = a };
	struct svid_info info;
	const char *detail;
	struct errs errs;
	struct svid_bundle *bundle;
	char *pem;

	(void)state;
	with_ca(do_issue, &o);
	renew(&(struct estbed_csr){ .key = b, .uri = o.id, .old = a }, o.h);
	assert_answer(EST_OK, "renewed");
	assert_string_equal(out.id, o.id);
	errs_init(&errs);
	pem = ca_bundle(dir, &errs);
	bundle = svid_bundle_new("hud.example", pem, &detail);
	assert_non_null(bundle);
	assert_int_equal(svid_verify_der(out.certs.certs, out.certs.n, &bundle, 1, SVID_SERVER, now, &info, &detail), SVID_OK);
	assert_int_equal(info.not_after, now + 7200);
	assert_string_equal(info.id, o.id);
	svid_bundle_unref(bundle);
	mem_free(pem);
	errs_fini(&errs);
	mem_free(o.h);
}

static void
test_renewed_by_operator(void **state)
{
	struct held *h = enrolled("permit-svc", NULL, a);
	struct by_operator o = { .kind = "workload", .id = PERMIT, .key = b, .predecessor = h->serial };

	(void)state;
	with_ca(do_issue, &o);
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_CONFLICT, "already-renewed");
	mem_free(h);
	mem_free(o.h);
}

static void
do_rotate(struct ca *ca, void *ctx)
{
	const int *step = ctx;
	struct errs errs;

	errs_init(&errs);
	assert_int_equal(*step ? ca_rotate_switch(ca, NULL, now, &errs) : ca_rotate_begin(ca, PKEY_P384, NULL, now, &errs), 0);
	errs_fini(&errs);
}

/* While the CA is replaced, certificates of the old one are renewed by the new one. */
static void
test_rotation(void **state)
{
	struct held *h = enrolled("permit-svc", NULL, a);
	struct est_certs certs;
	struct errs errs;
	int step = 0;

	(void)state;
	errs_init(&errs);
	with_ca(do_rotate, &step);
	assert_int_equal(est_cacerts(est, &certs, &errs), 0);
	assert_int_equal(certs.n, 4); /* the issuing CA, two roots, the new one certified by the old one */
	est_certs_fini(&certs);
	step = 1;
	with_ca(do_rotate, &step);
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_OK, "renewed");
	assert_true(out.certs.certs[1].len != h->chain[1].len || memcmp(out.certs.certs[1].p, h->chain[1].p, h->chain[1].len) != 0);
	mem_free(h);
	h = hold();
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "renewed");
	assert_int_equal(est_cacerts(est, &certs, &errs), 0);
	assert_int_equal(certs.n, 4);
	est_certs_fini(&certs);
	errs_fini(&errs);
	mem_free(h);
}

/* Who renews and renews does not fill the books. */
static void
test_renew_without_end(void **state)
{
	struct held *h = enrolled("permit-svc", NULL, a), *next;
	EVP_PKEY *old = estbed_key("P-256"), *new;
	int n = 2;

	(void)state;
	renew(&(struct estbed_csr){ .key = old, .old = a }, h);
	assert_answer(EST_OK, "renewed");
	for (;; n++) {
		next = hold();
		mem_free(h);
		h = next;
		new = estbed_key("P-256");
		renew(&(struct estbed_csr){ .key = new, .old = old }, h);
		EVP_PKEY_free(old);
		old = new;
		if (out.status != EST_OK)
			break;
	}
	assert_answer(EST_FORBIDDEN, "too-many");
	assert_int_equal(n, 100);
	EVP_PKEY_free(old);
	mem_free(h);
}

/* A request for the same key that somebody saw, sent with each certificate that comes of it: one comes of it, until its life has begun to go. */
static void
test_same_key_over_and_over(void **state)
{
	struct held *h = enrolled("permit-svc", NULL, a), *h2, *h3;

	(void)state;
	renew(&(struct estbed_csr){ .key = a }, h);
	assert_answer(EST_OK, "renewed");
	h2 = hold();
	for (int i = 0; i < 3; i++) {
		renew(&(struct estbed_csr){ .key = a }, h2);
		assert_answer(EST_OK, "repeated");
		assert_string_equal(out.serial, h2->serial);
	}
	/* For another key it is renewed at once, and so it is later for the same. */
	now += 600;
	renew(&(struct estbed_csr){ .key = a }, h2);
	assert_answer(EST_OK, "renewed");
	h3 = hold();
	assert_string_not_equal(h2->serial, h3->serial);
	renew(&(struct estbed_csr){ .key = b, .old = a }, h3);
	assert_answer(EST_OK, "renewed");
	mem_free(h);
	mem_free(h2);
	mem_free(h3);
}

/* ---- crashes and rivals ------------------------------------------------------------------------------------ */

static size_t valid;
static void
count_valid(void *ctx, const struct ca_entry *e)
{
	valid += !strcmp(e->id, ctx) && (e->state == CA_VALID || e->state == CA_SUPERSEDED) && strcmp(e->kind, "root") && strcmp(e->kind, "issuing");
}

static void
do_count(struct ca *ca, void *ctx)
{
	valid = 0;
	ca_each(ca, ctx, now, count_valid, ctx);
}

/* Runs fn in a process of its own with an est of its own; its exit code. */
static int
apart(void (*fn)(void *ctx), void *ctx)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		est = open_est(dir, NULL);
		fn(ctx);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
die_enrolling(void *ctx)
{
	die_before_use = true;
	enroll(&(struct estbed_csr){ .key = a }, ctx);
}

static void
die_renewing(void *ctx)
{
	die_before_use = true;
	renew(&(struct estbed_csr){ .key = b, .old = a }, ctx);
}

static void
test_crash(void **state)
{
	char *token = estbed_token(dir, "permit-svc", NULL, now, 600);
	struct held *h;

	(void)state;
	/* Nobody got what was issued, so the token is as good as new, for another key, too. */
	assert_int_equal(apart(die_enrolling, token), 9);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_OK, "issued");
	h = hold();
	enroll(&(struct estbed_csr){ .key = b }, token);
	assert_answer(EST_FORBIDDEN, "token-used");
	/* Of renewals there is one live successor: the one that nobody got is revoked. */
	assert_int_equal(apart(die_renewing, h), 9);
	with_ca(do_count, (void *)(uintptr_t)PERMIT);
	assert_int_equal(valid, 3);
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "renewed");
	with_ca(do_count, (void *)(uintptr_t)PERMIT);
	assert_int_equal(valid, 3);
	renew(&(struct estbed_csr){ .key = b, .old = a }, h);
	assert_answer(EST_OK, "repeated");
	mem_free(h);
	mem_free(token);
}

struct rival {
	const char *token;
	const struct held *h;
};

/* Exit codes: 0 got one, 1 refused. */
static void
rival_enrol(void *ctx)
{
	const struct rival *r = ctx;
	EVP_PKEY *own = estbed_key("P-256");

	est = open_est(dir, NULL);
	if (r->h)
		renew(&(struct estbed_csr){ .key = own, .old = a }, r->h);
	else
		enroll(&(struct estbed_csr){ .key = own }, r->token);
	_exit(out.status == EST_OK ? 0 : !strcmp(out.reason, r->h ? "already-renewed" : "token-used") ? 1 : 2);
}

static void
race(struct rival *r)
{
	int status, won = 0;

	for (int i = 0; i < 6; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0)
			rival_enrol(r);
	}
	for (int i = 0; i < 6; i++) {
		assert_true(wait(&status) > 0);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
		won += WEXITSTATUS(status) == 0;
	}
	assert_int_equal(won, 1);
}

/* Six at once, each with its own process and key: one certificate. */
static void
test_rivals(void **state)
{
	char *token = estbed_token(dir, "permit-svc", NULL, now, 600);
	struct rival r = { .token = token };
	struct held *h;

	(void)state;
	race(&r);
	h = enrolled("tax-svc", NULL, a);
	r.h = h;
	race(&r);
	mem_free(h);
	mem_free(token);
}

/* ---- the rest ------------------------------------------------------------------------------------------------ */

static void
test_cacerts(void **state)
{
	struct est_certs certs;
	struct pkcs7_certs back;
	struct errs errs;
	const char *why;
	const uint8_t *attrs;
	uint8_t *p7;
	size_t len;

	(void)state;
	errs_init(&errs);
	assert_int_equal(est_cacerts(est, &certs, &errs), 0);
	assert_int_equal(certs.n, 2);
	p7 = pkcs7_encode(certs.certs, certs.n, &len, &why);
	assert_non_null(p7);
	assert_int_equal(pkcs7_decode(&back, p7, len, &why), 0);
	assert_int_equal(back.n, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(back.certs[i].len, certs.certs[i].len);
		assert_memory_equal(back.certs[i].p, certs.certs[i].p, back.certs[i].len);
	}
	pkcs7_certs_fini(&back);
	mem_free(p7);
	est_certs_fini(&certs);
	errs_fini(&errs);
	attrs = est_csrattrs(&len);
	assert_int_equal(attrs[0], 0x30);
	assert_int_equal(attrs[1], len - 2);
}

static void
test_encrypted(void **state)
{
	char *store = mem_strdup(estbed_encrypted_store("correct horse"));
	struct est *e;
	struct errs errs;

	(void)state;
	errs_init(&errs);
	assert_null(est_open(store, &(struct est_options){ 0 }, &errs));
	assert_null(est_open(store, &(struct est_options){ .keys.passphrase = "wrong" }, &errs));
	e = open_est(store, "correct horse");
	assert_non_null(e);
	est_close(e);
	errs_fini(&errs);
	mem_free(store);
}

/* The CA is gone while the role has it open. */
static void
test_unavailable(void **state)
{
	char *token = estbed_token(dir, "permit-svc", NULL, now, 600), *ca = mem_printf("%s/ca", dir), *away = mem_printf("%s/away", dir);
	struct errs errs;

	(void)state;
	assert_int_equal(rename(ca, away), 0);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_UNAVAILABLE, "ca-unavailable");
	assert_true(out.detail[0]);
	assert_int_equal(rename(away, ca), 0);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_OK, "issued");
	/* Or another was put in its place, whose key we do not have. */
	assert_int_equal(rename(ca, away), 0);
	errs_init(&errs);
	assert_int_equal(ca_init(dir, "hud.example", PKEY_P256, NULL, now, &errs), 0);
	errs_fini(&errs);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_UNAVAILABLE, "ca-unavailable");
	est_close(est);
	est = open_est(dir, NULL);
	enroll(&(struct estbed_csr){ .key = a }, token);
	assert_answer(EST_FORBIDDEN, "revoked"); /* not in these books */
	mem_free(token);
	mem_free(ca);
	mem_free(away);
}

static void
test_files(void **state)
{
#define KEY "key 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n"
#define USED "used 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n"
#define GOOD "sallyport-token 1\n" KEY "id spiffe://hud.example/x\nexpires 1800000000\n"
	static const struct {
		const char *text;
		bool good;
	} t[] = {
		{ GOOD, true },
		{ GOOD "dns a.example\ndns b.example\n", true },
		{ GOOD USED "serial 0a\n\n-----BEGIN\n", true },
		{ "", false },
		{ "sallyport-token 2\n" KEY "id x\nexpires 1\n", false },
		{ "sallyport-token 1\n", false },
		{ "sallyport-token 1\n" KEY "id x\n", false },
		{ "sallyport-token 1\n" KEY KEY "id x\nexpires 1\n", false },
		{ "sallyport-token 1\nkey 00\nid x\nexpires 1\n", false },
		{ "sallyport-token 1\n" KEY "id x\nexpires -1\n", false },
		{ "sallyport-token 1\n" KEY "id x\nexpires 1x\n", false },
		{ "sallyport-token 1\n" KEY "id x\nexpires 9999999999999999\n", false },
		{ GOOD "surprise 1\n", false },
		{ GOOD "dns\n", false },
		{ GOOD "dns a b\n", false },
		{ GOOD USED, false },
		{ GOOD USED "serial 0a\n", false },
		{ GOOD "serial 0a\n", false },
		{ GOOD "\n-----BEGIN\n", false },
	};
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct token *tk = token_parse(t[i].text, strlen(t[i].text), &why);
		struct buf again;

		if ((tk != NULL) != t[i].good)
			print_error("%zu: %s\n", i, why ? why : "taken");
		assert_true((tk != NULL) == t[i].good);
		if (!tk)
			continue;
		buf_init(&again, 0);
		token_format(tk, &again);
		assert_string_equal(buf_cstr(&again), t[i].text);
		buf_fini(&again);
		token_free(tk);
	}
	assert_null(token_parse("sallyport-token 1\0", 18, &why));
}

static void
test_pkcs7(void **state)
{
	struct zoo_cert ca = zoo_ca("hud.example", NULL);
	uint8_t der[4096], *p = der, *p7, copy[8192];
	struct svid_der certs[PKCS7_CERTS_MAX + 1];
	struct pkcs7_certs back;
	const char *why;
	size_t len;

	(void)state;
	for (size_t i = 0; i <= PKCS7_CERTS_MAX; i++)
		certs[i] = (struct svid_der){ der, (size_t)i2d_X509(ca.x, NULL) };
	i2d_X509(ca.x, &p);
	assert_null(pkcs7_encode(certs, 0, &len, &why));
	assert_null(pkcs7_encode(certs, PKCS7_CERTS_MAX + 1, &len, &why));
	certs[1].len--;
	assert_null(pkcs7_encode(certs, 2, &len, &why));
	certs[1].len++;
	p7 = pkcs7_encode(certs, 2, &len, &why);
	assert_non_null(p7);
	assert_true(len < sizeof(copy));
	memcpy(copy, p7, len);
	assert_int_equal(pkcs7_decode(&back, copy, len, &why), 0);
	assert_int_equal(back.n, 2);
	pkcs7_certs_fini(&back);
	/* Cut, with something behind, empty, and with each octet damaged: never more than a refusal. */
	for (size_t i = 0; i < len; i++)
		assert_int_equal(pkcs7_decode(&back, copy, i, &why), -1);
	copy[len] = 0;
	assert_int_equal(pkcs7_decode(&back, copy, len + 1, &why), -1);
	for (size_t i = 0; i < len; i++) {
		copy[i] ^= 0x41;
		if (pkcs7_decode(&back, copy, len, &why) == 0)
			pkcs7_certs_fini(&back);
		copy[i] ^= 0x41;
	}
	mem_free(p7);
	zoo_free(&ca);
}

int
main(void)
{
#define WITH(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		WITH(test_token), WITH(test_proof), WITH(test_refused), WITH(test_no_gateway), WITH(test_bounds), WITH(test_renew_same_key),
		WITH(test_renew_new_key), WITH(test_no_proof), WITH(test_renew_refused), WITH(test_successor_revoked), WITH(test_renewal_damaged), WITH(test_unknown),
		WITH(test_gateway), WITH(test_renewed_by_operator), WITH(test_rotation), WITH(test_renew_without_end), WITH(test_same_key_over_and_over), WITH(test_crash), WITH(test_rivals), WITH(test_cacerts), WITH(test_encrypted),
		WITH(test_unavailable), WITH(test_files), WITH(test_pkcs7),
	};

	return cmocka_run_group_tests(tests, NULL, clean);
}
