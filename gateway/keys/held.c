/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/keys/held.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/csr.h"

const char *
keys_held_option(uint16_t number)
{
	static const char *const names[] = { [KEYS_IDENTITY] = "identity.key", [KEYS_INSIDE] = "inside.key", [KEYS_ENROL] = "enrol.key" };

	return number < sizeof(names) / sizeof(*names) ? names[number] : "?";
}

static void
key_fini(struct keys_held_key *k)
{
	EVP_MD_CTX_free(k->md);
	EVP_PKEY_free(k->pkey);
	mem_wipe(k, sizeof(*k));
}

static void
cert_fini(struct keys_held_cert *c)
{
	X509_free(c->x);
	EVP_PKEY_free(c->pending);
	memset(c, 0, sizeof(*c));
}

void
keys_held_fini(struct keys_held *h)
{
	for (size_t i = 0; i < h->n; i++)
		key_fini(&h->keys[i]);
	h->n = 0;
	for (size_t i = 0; i < KEYS_NUMBERS; i++)
		cert_fini(&h->certs[i]);
}

/* Keeps the newest of each number. */
static void
make_room(struct keys_held *h, uint16_t number)
{
	size_t same = 0, oldest = h->n;

	for (size_t i = 0; i < h->n; i++)
		if (h->keys[i].number == number && !same++)
			oldest = i;
	if (same < KEYS_HELD_PER_NUMBER)
		return;
	key_fini(&h->keys[oldest]);
	h->n--;
	memmove(&h->keys[oldest], &h->keys[oldest + 1], (h->n - oldest) * sizeof(*h->keys));
}

/* Takes k's parts. */
static int
add(struct keys_held *h, struct keys_held_key *k, const char *why)
{
	int type = k->pkey ? keys_ident_type(k->pkey, &why) : -1;

	if (type >= 0 && k->number >= KEYS_NUMBERS) {
		type = -1;
		why = "not one of ours";
	}
	if (type < 0 || keys_ident_id(k->pkey, k->id) < 0 || !(k->md = EVP_MD_CTX_new())) {
		log_error("key=%s cannot be used: %s", keys_held_option(k->number), why);
		key_fini(k);
		return -1;
	}
	k->type = (enum keys_type)type;
	if (keys_held_find(h, k->number, k->id)) {
		key_fini(k);
		return 0;
	}
	make_room(h, k->number);
	if (h->n == KEYS_HELD_MAX) {
		log_error("key=%s cannot be used: more than %d keys", keys_held_option(k->number), KEYS_HELD_MAX);
		key_fini(k);
		return -1;
	}
	h->keys[h->n++] = *k;
	log_info("key=%s type=\"%s\" loaded%s", keys_held_option(k->number), keys_ident_text(k->type), k->hsm ? " from the HSM" : "");
	return 0;
}

static int
no_password(char *out, int size, int writing, void *arg)
{
	(void)out, (void)size, (void)writing, (void)arg;
	return -1; /* never ask on a terminal */
}

int
keys_held_add(struct keys_held *h, uint16_t number, const char *text, size_t len)
{
	struct keys_held_key k = { .number = number };
	BIO *in = BIO_new_mem_buf(text, (int)len);

	k.pkey = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
	BIO_free(in);
	ERR_clear_error();
	return add(h, &k, "no PEM private key in it, or one that is encrypted");
}

int
keys_held_add_hsm(struct keys_held *h, uint16_t number, struct evp_pkey_st *public)
{
	struct keys_held_key k = { .number = number, .hsm = true, .pkey = public };

	return add(h, &k, "?");
}

int
keys_held_set_certificate(struct keys_held *h, uint16_t number, const char *pem, size_t len)
{
	const char *why = "not one of ours";
	struct keys_held_cert c = { 0 };

	if (number < KEYS_NUMBERS)
		c.x = keys_csr_certificate(pem, len, &why);
	if (c.x && keys_ident_id(X509_get0_pubkey(c.x), c.id) < 0) {
		why = "its key is of no kind that we use";
		cert_fini(&c);
	}
	if (!c.x) {
		log_error("key=%s has a certificate that cannot be used: %s", keys_held_option(number), why);
		return -1;
	}
	if (h->certs[number].x && !X509_cmp(h->certs[number].x, c.x)) {
		cert_fini(&c);
		return 0;
	}
	cert_fini(&h->certs[number]);
	h->certs[number] = c;
	return 0;
}

int
keys_held_add_pending(struct keys_held *h, uint16_t number, const char *text, size_t len)
{
	struct keys_held_key *k = keys_held_current(h, number);
	BIO *in = BIO_new_mem_buf(text, (int)len);
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
	const char *why;

	BIO_free(in);
	ERR_clear_error();
	if (!key) {
		log_warn("key=%s the new key that waited for its certificate cannot be read; another one is made", keys_held_option(number));
	} else if (k && !k->hsm && !h->certs[number].pending && EVP_PKEY_eq(k->pkey, key) != 1 && keys_ident_type(key, &why) == (int)k->type &&
	    EVP_PKEY_get_bits(key) == EVP_PKEY_get_bits(k->pkey)) {
		h->certs[number].pending = key;
		log_info("key=%s a new key goes on waiting for its certificate", keys_held_option(number));
		return 0;
	}
	EVP_PKEY_free(key);
	return -1;
}

struct keys_held_key *
keys_held_find(struct keys_held *h, uint16_t number, const uint8_t id[KEYS_ID_LEN])
{
	for (size_t i = h->n; i-- > 0;)
		if (h->keys[i].number == number && !memcmp(h->keys[i].id, id, KEYS_ID_LEN))
			return &h->keys[i];
	return NULL;
}

struct keys_held_key *
keys_held_current(struct keys_held *h, uint16_t number)
{
	return number < KEYS_NUMBERS && h->certs[number].x ? keys_held_find(h, number, h->certs[number].id) : NULL;
}

enum keys_status
keys_held_sign(struct keys_held_key *k, uint16_t scheme, const uint8_t *tbs, size_t tbs_len, uint8_t *sig, size_t *len)
{
	EVP_PKEY_CTX *pctx = NULL; /* the digest context's */
	bool ok;

	*len = KEYS_SIG_MAX;
	EVP_MD_CTX_reset(k->md);
	ok = EVP_DigestSignInit_ex(k->md, &pctx, keys_ident_digest(scheme), NULL, NULL, k->pkey, NULL) == 1;
	if (ok && k->type == KEYS_RSA) /* RFC 8446 4.2.3: the salt is as long as the digest */
		ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) > 0 &&
		    EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) > 0;
	ok = ok && EVP_DigestSign(k->md, sig, len, tbs, tbs_len) == 1;
	if (ok)
		return KEYS_OK;
	ERR_clear_error();
	return KEYS_FAILED;
}
