/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/pairfile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "gateway/base/addr.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "pki/digest.h"
#include "pki/pkey.h"
#include "pki/pkifile.h"
#include "pki/store.h"
#include "pki/svid.h"
#include "pki/svid_vouch.h"

#define HEADER_TYPE "sallyport-pairing"
#define CODE_GROUPS 6
#define CODE_DIGITS (CODE_GROUPS * 5)
#define KEY_FILE_MAX 16384

static void
free_list(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mem_free(list[i]);
	mem_free(list);
}

void
pairfile_fini(struct pairfile *p)
{
	mem_free(p->domain);
	free_list(p->gateways, p->ngateways);
	free_list(p->addresses, p->naddresses);
	mem_free(p->bundle_pem);
	mem_free(p->cross_pem);
	memset(p, 0, sizeof(*p));
}

/* -- content ------------------------------------------------------------------------------------- */

static const char *
address_fault(const char *text)
{
	const char *why = NULL;
	struct addr a;

	if (addr_parse(&a, text, &why) != 0)
		return "an address that is not IP:PORT";
	if (text[0] == '*' || addr_port(&a) == 0)
		return "an address that cannot be dialled";
	return NULL;
}

static const char *
list_fault(char *const *list, size_t n, const char *(*fault)(const struct pairfile *, const char *), const struct pairfile *p)
{
	for (size_t i = 0; i < n; i++) {
		const char *f = fault(p, list[i]);

		if (f)
			return f;
		for (size_t k = 0; k < i; k++)
			if (strcmp(list[i], list[k]) == 0)
				return "the same gateway or address twice";
	}
	return NULL;
}

static const char *
gateway_fault(const struct pairfile *p, const char *text)
{
	struct spiffe_id id;
	const char *why;

	if (spiffe_parse(&id, text, strlen(text), &why) != 0 || !spiffe_is_gateway(&id))
		return "a gateway whose id is not spiffe://DOMAIN/gateway/NAME";
	if (id.domain_len != strlen(p->domain) || memcmp(id.domain, p->domain, id.domain_len) != 0)
		return "a gateway of another domain";
	return NULL;
}

static const char *
dial_fault(const struct pairfile *p, const char *text)
{
	(void)p;
	return address_fault(text);
}

const char *
pairfile_fault(const struct pairfile *p)
{
	struct svid_bundle *b;
	const char *fault;

	if (p->domain == NULL || !spiffe_domain_valid(p->domain, strlen(p->domain)))
		return "a malformed trust domain";
	if (p->ngateways == 0 || p->ngateways > PAIRFILE_LIST_MAX || p->naddresses > PAIRFILE_LIST_MAX)
		return "between 1 and 64 gateways, and at most 64 addresses, are what it may have";
	if ((fault = list_fault(p->gateways, p->ngateways, gateway_fault, p)) != NULL ||
	    (fault = list_fault(p->addresses, p->naddresses, dial_fault, p)) != NULL)
		return fault;
	if (p->created < 0 || p->expires <= p->created)
		return "it expires before it was made";
	b = svid_bundle_new(p->domain, p->bundle_pem, &fault);
	svid_bundle_unref(b);
	if (b && p->cross_pem)
		return svid_vouch_cross_fault(p->domain, p->cross_pem);
	return b ? NULL : fault;
}

/* -- base64url (RFC 4648 5, no padding: RFC 7515 2) --------------------------------------------------- */

static char *
to_base64url(const void *p, size_t n)
{
	char *s = mem_alloc(esc_base64_size(n) + 1);
	size_t len = esc_base64(s, p, n);

	while (len > 0 && s[len - 1] == '=')
		len--;
	s[len] = 0;
	for (size_t i = 0; i < len; i++)
		s[i] = s[i] == '+' ? '-' : s[i] == '/' ? '_' : s[i];
	return s;
}

/* NULL unless it is exactly that. NUL-terminated for convenience. */
static uint8_t *
from_base64url(const char *s, size_t *out_len)
{
	size_t n = strlen(s), padded = (n + 3) / 4 * 4;
	uint8_t *out = NULL;
	char *copy;
	long len = -1;

	if (n % 4 == 1)
		return NULL;
	copy = mem_alloc(padded + 1);
	memset(copy, '=', padded);
	for (size_t i = 0; i < n; i++)
		copy[i] = s[i] == '-' ? '+' : s[i] == '_' ? '/' : strchr("+/=", s[i]) ? '!' : s[i];
	out = mem_alloc(padded / 4 * 3 + 1);
	len = esc_unbase64(out, copy, padded);
	mem_free(copy);
	if (len < 0) {
		mem_free(out);
		return NULL;
	}
	out[len] = 0;
	*out_len = (size_t)len;
	return out;
}

/* -- the code -------------------------------------------------------------------------------------- */

static void
make_code(char out[PAIRFILE_CODE_LEN + 1], const char *signing_input)
{
	static const char label[] = "sallyport pairing code 1"; /* with its NUL */
	uint8_t hash[DIGEST_SHA256_LEN];
	struct digest_run *d = digest_begin();

	digest_update(d, label, sizeof(label));
	digest_update(d, signing_input, strlen(signing_input));
	digest_final(d, hash);
	/* 40 bits per five digits: the remainder's bias is below 2^-23. */
	for (size_t g = 0; g < CODE_GROUPS; g++) {
		uint64_t v = 0;

		for (size_t i = 0; i < 5; i++)
			v = v << 8 | hash[5 * g + i];
		snprintf(out + 6 * g, 7, "%05u%s", (unsigned)(v % 100000), g + 1 < CODE_GROUPS ? "-" : "");
	}
}

bool
pairfile_code_matches(const struct pairfile *p, const char *typed)
{
	char digits[CODE_DIGITS] = { 0 };
	unsigned diff = 0;
	size_t n = 0, k = 0;

	for (; *typed; typed++) {
		if (*typed == ' ' || *typed == '-' || *typed == '\t' || *typed == '\n')
			continue;
		if (n < CODE_DIGITS)
			digits[n] = *typed;
		n++;
	}
	/* Every digit is compared whatever the ones before were. */
	for (size_t i = 0; i < CODE_DIGITS; i++, k++) {
		if (p->code[k] == '-')
			k++;
		diff |= (unsigned)(unsigned char)digits[i] ^ (unsigned)(unsigned char)p->code[k];
	}
	return diff == 0 && n == CODE_DIGITS;
}

/* -- writing ---------------------------------------------------------------------------------------- */

static json_t *
json_list(char *const *list, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_string(list[i]));
	return a;
}

static char *
dump(json_t *j, size_t flags)
{
	char *text = json_dumps(j, flags | JSON_PRESERVE_ORDER), *copy = mem_strdup(text);

	free(text);
	json_decref(j);
	return copy;
}

char *
pairfile_write(struct pairfile *p, struct evp_pkey_st *key)
{
	char *x, *plain, *header, *payload, *input, *sig, *text, *out = NULL;
	uint8_t signature[64];
	json_t *content;

	if (pkey_public(key, p->key) != 0)
		return NULL;
	x = to_base64url(p->key, sizeof(p->key));
	plain = dump(json_pack("{s:s, s:s, s:b, s:[s], s:{s:s, s:s, s:s}}", "alg", "EdDSA", "typ", HEADER_TYPE, "b64", 0, "crit", "b64",
	    "jwk", "kty", "OKP", "crv", "Ed25519", "x", x), JSON_COMPACT);
	header = to_base64url(plain, strlen(plain));
	content = json_pack("{s:i, s:s, s:o, s:o, s:s, s:I, s:I}", "version", 1, "domain", p->domain, "gateways",
	    json_list(p->gateways, p->ngateways), "addresses", json_list(p->addresses, p->naddresses), "bundle", p->bundle_pem, "created",
	    (json_int_t)p->created, "expires", (json_int_t)p->expires);
	if (p->cross_pem)
		json_object_set_new(content, "cross", json_string(p->cross_pem));
	payload = dump(content, JSON_COMPACT);
	input = mem_printf("%s.%s", header, payload);
	if (pkey_sign(key, input, strlen(input), signature) == 0) {
		make_code(p->code, input);
		sig = to_base64url(signature, sizeof(signature));
		text = dump(json_pack("{s:s, s:s, s:s}", "payload", payload, "protected", header, "signature", sig), JSON_INDENT(1));
		out = mem_printf("%s\n", text);
		mem_free(text);
		mem_free(sig);
	}
	mem_free(x);
	mem_free(plain);
	mem_free(header);
	mem_free(payload);
	mem_free(input);
	return out;
}

/* -- reading ---------------------------------------------------------------------------------------- */

/* An object with so many members (more are as bad as less); text is bounded by the file. NULL when it is none. */
static json_t *
object_of(const uint8_t *text, size_t len, size_t members)
{
	json_t *j = json_loadb((const char *)text, len, JSON_REJECT_DUPLICATES, NULL);

	if (j && (!json_is_object(j) || json_object_size(j) != members)) {
		json_decref(j);
		j = NULL;
	}
	return j;
}

static bool
is_text(const json_t *object, const char *name, const char *want)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s && strcmp(s, want) == 0;
}

/* The one header that we write: nothing in it chooses what is checked. */
static const char *
read_header(const char *encoded, uint8_t key[32])
{
	const char *fault = "a header that is not a pairing file's", *x;
	size_t n, key_len;
	uint8_t *text = from_base64url(encoded, &n), *raw = NULL;
	json_t *j = text ? object_of(text, n, 5) : NULL, *jwk = json_object_get(j, "jwk"), *crit = json_object_get(j, "crit");
	const char *critical = json_string_value(json_array_get(crit, 0));

	if (j == NULL || !is_text(j, "alg", "EdDSA") || !is_text(j, "typ", HEADER_TYPE) || !json_is_false(json_object_get(j, "b64")))
		goto out;
	/* RFC 7797 6: who does not know b64 must refuse. */
	if (json_array_size(crit) != 1 || critical == NULL || strcmp(critical, "b64") != 0)
		goto out;
	if (!json_is_object(jwk) || json_object_size(jwk) != 3 || !is_text(jwk, "kty", "OKP") || !is_text(jwk, "crv", "Ed25519"))
		goto out;
	x = json_string_value(json_object_get(jwk, "x"));
	raw = x ? from_base64url(x, &key_len) : NULL;
	if (raw && key_len == 32) {
		memcpy(key, raw, 32);
		fault = NULL;
	}
out:
	mem_free(raw);
	json_decref(j);
	mem_free(text);
	return fault;
}

static const char *
read_list(const json_t *a, char ***list, size_t *n)
{
	if (!json_is_array(a))
		return "gateways or addresses that are no list";
	if (json_array_size(a) > PAIRFILE_LIST_MAX)
		return "more than 64 gateways or addresses";
	*list = mem_array(json_array_size(a), sizeof(char *));
	for (size_t i = 0; i < json_array_size(a); i++) {
		const char *s = json_string_value(json_array_get(a, i));

		if (s == NULL)
			return "a gateway or address that is no text";
		(*list)[(*n)++] = mem_strdup(s);
	}
	return NULL;
}

static const char *
read_payload(struct pairfile *out, const char *text)
{
	const char *fault = "content that is not a pairing file's";
	json_t *j = json_loadb(text, strlen(text), JSON_REJECT_DUPLICATES, NULL), *version = json_object_get(j, "version"), *cross = json_object_get(j, "cross");
	json_t *created = json_object_get(j, "created"), *expires = json_object_get(j, "expires");

	if (j && json_is_integer(version) && json_integer_value(version) != 1) {
		fault = "a version that this gwctl does not know";
		goto out;
	}
	/* What we do not know we cannot heed: it is refused, and not passed over. */
	if (json_object_size(j) != (cross ? 8 : 7) || (cross && !json_is_string(cross)))
		goto out;
	if (!json_is_integer(version) || !json_is_integer(created) || !json_is_integer(expires) || !json_is_string(json_object_get(j, "domain")) ||
	    !json_is_string(json_object_get(j, "bundle")))
		goto out;
	out->domain = mem_strdup(json_string_value(json_object_get(j, "domain")));
	out->bundle_pem = mem_strdup(json_string_value(json_object_get(j, "bundle")));
	out->cross_pem = cross ? mem_strdup(json_string_value(cross)) : NULL;
	out->created = json_integer_value(created);
	out->expires = json_integer_value(expires);
	if ((fault = read_list(json_object_get(j, "gateways"), &out->gateways, &out->ngateways)) != NULL ||
	    (fault = read_list(json_object_get(j, "addresses"), &out->addresses, &out->naddresses)) != NULL)
		goto out;
	fault = pairfile_fault(out);
out:
	json_decref(j);
	return fault;
}

static bool
signed_by(const uint8_t key[32], const char *input, const char *encoded)
{
	size_t n = 0;
	uint8_t *sig = from_base64url(encoded, &n);
	bool ok = sig && n == 64 && pkey_verify(key, input, strlen(input), sig) == 0;

	mem_free(sig);
	return ok;
}

enum pairfile_status
pairfile_read(struct pairfile *out, const char *text, size_t len, const char **why)
{
	const char *header, *payload, *signature;
	enum pairfile_status st = PAIRFILE_MALFORMED;
	char *input = NULL;
	json_t *j;

	memset(out, 0, sizeof(*out));
	*why = len > PAIRFILE_MAX ? "larger than 256 KiB" : "not a pairing file";
	j = len > PAIRFILE_MAX ? NULL : object_of((const uint8_t *)text, len, 3);
	header = json_string_value(json_object_get(j, "protected"));
	payload = json_string_value(json_object_get(j, "payload"));
	signature = json_string_value(json_object_get(j, "signature"));
	if (header == NULL || payload == NULL || signature == NULL)
		goto out;
	/* The signature before what it signs: content that nobody signed is not even parsed. */
	if ((*why = read_header(header, out->key)) != NULL)
		goto out;
	input = mem_printf("%s.%s", header, payload);
	if (!signed_by(out->key, input, signature)) {
		st = PAIRFILE_ALTERED;
		*why = "altered after it was signed";
		goto out;
	}
	if ((*why = read_payload(out, payload)) != NULL)
		goto out;
	make_code(out->code, input);
	st = PAIRFILE_OK;
out:
	if (st != PAIRFILE_OK)
		pairfile_fini(out);
	json_decref(j);
	mem_free(input);
	return st;
}

/* -- the key ----------------------------------------------------------------------------------------- */

static struct evp_pkey_st *
load_key(const char *path, struct errs *errs)
{
	char *pem = pkifile_read_secret(path, KEY_FILE_MAX);
	const char *why = "not an Ed25519 key";
	struct evp_pkey_st *k;
	uint8_t pub[32];

	if (pem == NULL) {
		errs_add(errs, path, 0, "%s", errno == EPERM ? "others may read this key; \"chmod 600\" it, and ask yourself who did" : strerror(errno));
		return NULL;
	}
	k = pkey_from_pem(pem, &why);
	pkey_free_pem(pem);
	if (k && pkey_public(k, pub) != 0) {
		pkey_free(k);
		k = NULL;
		why = "not an Ed25519 key";
	}
	if (k == NULL)
		errs_add(errs, path, 0, "%s; move it away to make a new one, which peers must then accept by code again", why);
	return k;
}

static int
create_key(const struct store *s, const char *path, struct errs *errs)
{
	struct evp_pkey_st *k = pkey_new(PKEY_ED25519);
	char *pem = pkey_to_pem(k);
	int rc = store_write_new(s, path, 0600, pem, errs);

	pkey_free_pem(pem);
	pkey_free(k);
	return rc;
}

struct evp_pkey_st *
pairfile_key(const char *dir, struct errs *errs)
{
	struct evp_pkey_st *k = NULL;
	struct store s;
	char *path;

	store_init(&s, dir);
	path = store_path(&s, "pairing.key");
	if (store_lock(&s, 10000, errs) == 0) {
		char *there = pkifile_read(path, KEY_FILE_MAX);

		/* Made only where none is: one that cannot be read stays, and is named. */
		if (there || errno != ENOENT || create_key(&s, path, errs) == 0)
			k = load_key(path, errs);
		pkey_free_pem(there);
	}
	mem_free(path);
	store_fini(&s);
	return k;
}
