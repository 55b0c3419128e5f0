/* SPDX-License-Identifier: Apache-2.0 */
/* Check the request, get the public key, sign, verify what was signed against our own bundle, write it into the books, hand out. */
#include <errno.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/ca_int.h"
#include "pki/cert.h"
#include "pki/svid_int.h"

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
const char *
ca_dns_fault(const char *s)
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

static void
check_predecessor(const struct ca *ca, const struct ca_request *r, struct errs *errs)
{
	struct ca_entry e;

	if (r->predecessor == NULL)
		return;
	if (ca_find(ca, r->predecessor, r->now, &e) != 0)
		errs_add(errs, NULL, 0, "cannot replace certificate %s: this CA never issued it", r->predecessor);
	else if (strcmp(e.id, r->id) != 0 || strcmp(e.kind, r->kind) != 0)
		errs_add(errs, NULL, 0, "cannot replace certificate %s: it is of \"%s\", not of \"%s\"", r->predecessor, e.id, r->id);
	else if (e.state == CA_REVOKED)
		errs_add(errs, NULL, 0, "cannot replace certificate %s: it was revoked (%s); issue a new one instead", r->predecessor, e.reason);
}

static int
check_request(const struct ca *ca, const struct ca_request *r, struct errs *errs)
{
	struct ca_entry issuing;
	size_t before = errs->errors;
	const char *why;
	char *id;

	if (strcmp(r->kind, "gateway") && strcmp(r->kind, "workload")) {
		errs_add(errs, NULL, 0, "cannot issue a \"%s\"; gateway or workload", r->kind);
		return -1;
	}
	id = ca_id_of_name(ca->domain, r->kind, r->id, &why);
	if (id == NULL || strcmp(id, r->id) != 0)
		errs_add(errs, NULL, 0, "cannot issue \"%s\": %s", r->id, id ? "not a SPIFFE ID" : why);
	mem_free(id);
	if (r->ndns > CA_DNS_MAX)
		errs_add(errs, NULL, 0, "%zu DNS names; at most %d fit one certificate", r->ndns, CA_DNS_MAX);
	for (size_t i = 0; i < r->ndns; i++)
		if ((why = ca_dns_fault(r->dns[i])) != NULL)
			errs_add(errs, NULL, 0, "\"%s\" is no DNS name: %s", r->dns[i], why);
	if (r->lifetime_s < 0 || (r->lifetime_s > 0 && r->lifetime_s < 60))
		errs_add(errs, NULL, 0, "a lifetime below one minute");
	check_predecessor(ca, r, errs);
	if (ca_find(ca, ca->gen[0].issuing_serial, r->now, &issuing) == 0 && issuing.reason)
		errs_add(errs, ca->store.ca, 0, "the issuing CA was revoked (%s); \"gwctl pki rotate-ca\" makes a new one", issuing.reason);
	return errs->errors == before ? 0 : -1;
}

/* What a CSR asks for is not taken over; but one that names somebody else was not made for this. */
static EVP_PKEY *
key_of_csr(const struct csr *c, const char *id, const char **fault)
{
	if (c->id && strcmp(c->id, id) != 0) {
		*fault = "it asks for another id than the one given; leave the id out of the request, or issue that one";
		return NULL;
	}
	EVP_PKEY_up_ref(c->key);
	return c->key;
}

static EVP_PKEY *
key_for(const struct ca_request *r, struct errs *errs)
{
	const char *fault = NULL;
	EVP_PKEY *key = NULL;
	struct csr *c = NULL;

	if (r->csr) {
		key = key_of_csr(r->csr, r->id, &fault);
	} else if (r->csr_pem) {
		c = csr_read(r->csr_pem, strlen(r->csr_pem), &fault);
		key = c ? key_of_csr(c, r->id, &fault) : NULL;
		csr_free(c);
	} else if (r->key) {
		if ((fault = svid_cert_key_fault(r->key)) == NULL) {
			EVP_PKEY_up_ref(r->key);
			key = r->key;
		}
	} else {
		return pkey_new(r->alg);
	}
	if (key == NULL)
		errs_add(errs, NULL, 0, "%s refused: %s", r->key && !r->csr && !r->csr_pem ? "key" : "certificate request", fault);
	return key;
}

/* As a gateway would: against our own bundle, by both directions' rules. */
static const char *
refusal(const struct ca *ca, X509 *leaf, int64_t now)
{
	struct svid_info *info = mem_zalloc(sizeof(*info));
	struct svid_bundle *bundles[1] = { ca->bundle };
	X509 *chain[2] = { leaf, ca->gen[0].issuing };
	const char *detail = NULL;
	enum svid_reason r = svid_verify(chain, 2, bundles, 1, SVID_CLIENT, now, info, &detail);

	if (r == SVID_OK)
		r = svid_verify(chain, 2, bundles, 1, SVID_SERVER, now, info, &detail);
	mem_free(info);
	return r == SVID_OK ? NULL : detail ? detail : svid_reason_text(r);
}

/* Never one that was given before, whatever the random numbers were. */
static void
choose_serial(const struct ca *ca, uint8_t serial[20], char text[CA_SERIAL_MAX + 1])
{
	do {
		cert_serial(serial);
		esc_hex(text, serial, 20);
		text[CA_SERIAL_MAX] = 0;
	} while (ledger_find(ca->ledger, text) != LEDGER_NONE);
}

static int
record(struct ca *ca, const struct ca_request *r, const struct ca_issued *issued, const struct cert_spec *s, struct errs *errs)
{
	char predecessor[CA_SERIAL_MAX + 1] = "";
	struct ca_entry old;
	struct buf dns, line;
	struct ledger_entry e = { .serial = issued->serial, .kind = r->kind, .id = r->id, .issuer = ca->gen[0].issuing_serial, .how = r->how,
		.not_before = s->not_before, .not_after = s->not_after };
	int rc;

	if (r->predecessor && ca_find(ca, r->predecessor, r->now, &old) == 0) {
		memcpy(predecessor, old.serial, CA_SERIAL_MAX); /* as the books spell it */
		e.predecessor = predecessor;
	}
	buf_init(&dns, 0);
	buf_init(&line, 0);
	for (size_t i = 0; i < r->ndns; i++)
		buf_printf(&dns, "%s%s", i ? "," : "", r->dns[i]);
	e.dns = buf_cstr(&dns);
	ledger_put_issued(&line, &e);
	rc = ledger_append(ca->ledger, &line, errs);
	buf_fini(&dns);
	buf_fini(&line);
	return rc;
}

static int
sign(struct ca *ca, const struct ca_request *r, EVP_PKEY *key, struct ca_issued *out, struct errs *errs)
{
	int64_t life = r->lifetime_s ? r->lifetime_s : strcmp(r->kind, "gateway") ? CA_WORKLOAD_S : CA_GATEWAY_S, limit;
	struct cert_spec s = { .organization = ca->domain, .common_name = strrchr(r->id, '/') + 1, .id = r->id, .dns = r->dns,
		.ndns = r->ndns, .not_before = r->now - CA_BACKDATE_S, .not_after = r->now + life };
	X509 *leaf = NULL;
	const char *fault;
	char *pem;
	int rc = -1;

	if (svid_cert_time(X509_get0_notAfter(ca->gen[0].issuing), &limit) != 0 || limit <= r->now) {
		errs_add(errs, ca->store.ca, 0, "the issuing CA has expired; \"gwctl pki rotate-ca\" makes its successor");
		return -1;
	}
	out->shortened = s.not_after > limit;
	if (out->shortened)
		s.not_after = limit;
	choose_serial(ca, s.serial, out->serial);
	out->not_after = s.not_after;
	leaf = cert_make(&s, key, ca->gen[0].issuing, ca->gen[0].key);
	if (leaf == NULL) {
		errs_add(errs, NULL, 0, "cannot make a certificate for \"%s\"", r->id);
		return -1;
	}
	fault = refusal(ca, leaf, r->now);
	if (fault) {
		errs_add(errs, ca->store.ca, 0, "a gateway would refuse what this CA signs: %s", fault);
	} else if (record(ca, r, out, &s, errs) == 0) {
		pem = cert_to_pem(leaf);
		out->chain_pem = mem_printf("%s%s", pem, ca->gen[0].issuing_pem);
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
	key = key_for(r, errs);
	rc = key ? sign(ca, r, key, out, errs) : -1;
	if (rc == 0 && !r->csr && !r->csr_pem && !r->key)
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
