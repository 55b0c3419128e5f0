/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File names say all that is needed to find a token and to sweep it, so that only the ones that matter are read. A directory is made when the first
 * file is written to it.
 */
#include "pki/token.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "gateway/base/buf.h"
#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "pki/ca.h"
#include "pki/pkifile.h"

/* With their zero octets. */
#define KEY_CONTEXT "sallyport enrolment token 1"
#define NAME_CONTEXT "sallyport enrolment token name 1"
#define PROOF_CONTEXT "sallyport enrolment 1"

#define PREFIX "spt-"
#define TOKEN_OCTETS 20
#define ID_DIGITS 16
#define NAME_DIGITS 32
#define HEX_DIGEST (2 * DIGEST_SHA256_LEN)
#define HEAD "sallyport-token 1"

_Static_assert(sizeof(PREFIX) + TOKEN_OCTETS * 8 / 5 <= TOKEN_SIZE, "a token's text fits");

/* ---- hashes ------------------------------------------------------------------------------------------ */

static void
derive(uint8_t out[DIGEST_SHA256_LEN], const char *context, size_t context_size, const void *token, size_t len)
{
	struct digest_run *d = digest_begin();

	digest_update(d, context, context_size);
	digest_update(d, token, len);
	digest_final(d, out);
}

static void
proof_of(char out[TOKEN_PROOF_SIZE], const uint8_t key[DIGEST_SHA256_LEN], const uint8_t *spki, size_t spki_len)
{
	uint8_t mac[DIGEST_SHA256_LEN], *tbs = mem_alloc(sizeof(PROOF_CONTEXT) + spki_len);
	char text[TOKEN_PROOF_SIZE + 4];
	unsigned n = sizeof(mac);

	memcpy(tbs, PROOF_CONTEXT, sizeof(PROOF_CONTEXT));
	memcpy(tbs + sizeof(PROOF_CONTEXT), spki, spki_len);
	if (!HMAC(EVP_sha256(), key, DIGEST_SHA256_LEN, tbs, sizeof(PROOF_CONTEXT) + spki_len, mac, &n))
		abort();
	mem_free(tbs);
	esc_base64(text, mac, sizeof(mac)); /* 43 digits and "=" */
	for (size_t i = 0; i < TOKEN_PROOF_SIZE - 1; i++)
		out[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
	out[TOKEN_PROOF_SIZE - 1] = 0;
}

void
token_proof(char out[TOKEN_PROOF_SIZE], const char *token, const uint8_t *spki, size_t spki_len)
{
	uint8_t key[DIGEST_SHA256_LEN];

	derive(key, KEY_CONTEXT, sizeof(KEY_CONTEXT), token, strlen(token));
	proof_of(out, key, spki, spki_len);
	mem_wipe(key, sizeof(key));
}

/* ---- the text ---------------------------------------------------------------------------------------- */

void
token_format(const struct token *t, struct buf *out)
{
	char hex[HEX_DIGEST + 1] = "";

	esc_hex(hex, t->key, sizeof(t->key));
	buf_printf(out, HEAD "\nkey %s\nid %s\nexpires %" PRId64 "\n", hex, t->id, t->expires);
	for (size_t i = 0; i < t->ndns; i++)
		buf_printf(out, "dns %s\n", t->dns[i]);
	if (t->used) {
		esc_hex(hex, t->spki, sizeof(t->spki));
		buf_printf(out, "used %s\nserial %s\n\n%s", hex, t->serial, t->chain_pem);
	}
	mem_wipe(hex, sizeof(hex));
}

static bool
is_text(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (*s <= 0x20 || *s > 0x7e)
			return false;
	return true;
}

static int
parse_number(int64_t *out, const char *s)
{
	int64_t v = 0;

	if (!*s || strlen(s) > 15)
		return -1;
	for (; *s; s++) {
		if (!isdigit((unsigned char)*s))
			return -1;
		v = v * 10 + (*s - '0');
	}
	*out = v;
	return 0;
}

static int
parse_hex(uint8_t out[DIGEST_SHA256_LEN], const char *s)
{
	return strlen(s) == HEX_DIGEST ? esc_unhex(out, s, HEX_DIGEST) : -1;
}

/* One line, "word value". 0, or -1. Each may come once, but for dns. */
static int
parse_line(struct token *t, unsigned *seen, const char *word, const char *value)
{
	static const char *const words[] = { "key", "id", "expires", "used", "serial", "dns" };
	unsigned n = 0;

	while (n < 6 && strcmp(word, words[n]))
		n++;
	if (n == 6 || !is_text(value) || (n < 5 && *seen & 1U << n))
		return -1;
	*seen |= 1U << n;
	switch (n) {
	case 0:
		return parse_hex(t->key, value);
	case 1:
		t->id = mem_strdup(value);
		return strlen(value) <= SPIFFE_ID_MAX ? 0 : -1;
	case 2:
		return parse_number(&t->expires, value);
	case 3:
		t->used = true;
		return parse_hex(t->spki, value);
	case 4:
		t->serial = mem_strdup(value);
		return strlen(value) <= CA_SERIAL_MAX ? 0 : -1;
	default:
		if (t->ndns == TOKEN_DNS_MAX)
			return -1;
		if (!t->dns)
			t->dns = mem_array(TOKEN_DNS_MAX, sizeof(*t->dns));
		t->dns[t->ndns++] = mem_strdup(value);
		return 0;
	}
}

struct token *
token_parse(const char *text, size_t len, const char **why)
{
	struct token *t = mem_zalloc(sizeof(*t));
	char *copy = mem_strndup(text, len), *rest = copy, *line;
	unsigned seen = 0;
	bool first = true;

	*why = NULL;
	if (len > TOKEN_FILE_MAX || strlen(copy) != len)
		*why = "too long, or a NUL in it";
	while (!*why && rest && *rest && *rest != '\n') {
		char *space;

		line = strsep(&rest, "\n");
		if (first && strcmp(line, HEAD))
			*why = "not a token's file";
		if (!first) {
			if ((space = strchr(line, ' ')))
				*space++ = 0;
			if (!space || parse_line(t, &seen, line, space) < 0)
				*why = "a line that is not understood";
		}
		first = false;
	}
	if (!*why && (seen & 7) != 7)
		*why = "key, id or expiry is missing";
	/* Behind an empty line: the certificates, of one that was used, and only then. */
	if (!*why && (t->used != (t->serial != NULL) || t->used != (rest && *rest == '\n' && rest[1])))
		*why = "it was used, or not: both are said";
	if (!*why && t->used)
		t->chain_pem = mem_strdup(rest + 1);
	mem_wipe(copy, strlen(copy));
	mem_free(copy);
	if (!*why)
		return t;
	token_free(t);
	return NULL;
}

void
token_free(struct token *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->ndns; i++)
		mem_free(t->dns[i]);
	mem_free(t->dns);
	mem_free(t->id);
	mem_free(t->serial);
	mem_free(t->chain_pem);
	mem_free(t->path);
	mem_wipe(t, sizeof(*t));
	mem_free(t);
}

/* ---- files ------------------------------------------------------------------------------------------- */

static char *
tokens_dir(const struct store *s)
{
	return store_path(s, "enrol/tokens");
}

static char *
renewed_dir(const struct store *s)
{
	return store_path(s, "enrol/renewed");
}

static int
make_dirs(const struct store *s, const char *dir, struct errs *errs)
{
	char *enrol = store_path(s, "enrol");
	int rc = 0;

	if (access(enrol, F_OK) != 0)
		rc = store_make_dir(s, enrol, errs);
	if (rc == 0 && access(dir, F_OK) != 0)
		rc = store_make_dir(s, dir, errs);
	mem_free(enrol);
	return rc;
}

/* Takes path. NULL when it is not there or not what it should be. */
static struct token *
read_file(char *path)
{
	char *text = pkifile_read_secret(path, TOKEN_FILE_MAX);
	struct token *t = NULL;
	const char *why;

	if (text) {
		t = token_parse(text, strlen(text), &why);
		mem_wipe(text, strlen(text));
		mem_free(text);
	}
	if (t)
		t->path = path;
	else
		mem_free(path);
	return t;
}

static void
id_digits(char out[ID_DIGITS + 1], const char *id)
{
	char hex[HEX_DIGEST + 1];

	digest_sha256_hex(hex, id, strlen(id));
	memcpy(out, hex, ID_DIGITS);
	out[ID_DIGITS] = 0;
}

/* "ID-NAME-EXPIRY" */
static bool
parse_name(const char *file, const char **name, int64_t *expires)
{
	const size_t head = ID_DIGITS + 1 + NAME_DIGITS + 1;

	if (strlen(file) <= head || file[ID_DIGITS] != '-' || file[head - 1] != '-' || parse_number(expires, file + head) < 0)
		return false;
	*name = file + ID_DIGITS + 1;
	return true;
}

/* The first file of a directory that accept() likes; NULL ends. One DIR per walk. */
typedef bool accept_fn(void *ctx, const char *file);
static char *
find_file(const char *dir, accept_fn *accept, void *ctx)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char *path = NULL;

	while (d && !path && (e = readdir(d)))
		if (e->d_name[0] != '.' && accept(ctx, e->d_name))
			path = mem_printf("%s/%s", dir, e->d_name);
	if (d)
		closedir(d);
	return path;
}

/* ---- making -------------------------------------------------------------------------------------------- */

/* RFC 4648 6 in lower case: nothing that a shell or a person stumbles over. */
static void
random_text(char out[TOKEN_SIZE])
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint8_t random[TOKEN_OCTETS];
	size_t n = sizeof(PREFIX) - 1;
	uint32_t bits = 0;
	unsigned have = 0;

	hash_random(random, sizeof(random));
	memcpy(out, PREFIX, n);
	for (size_t i = 0; i < sizeof(random); i++) {
		bits = bits << 8 | random[i];
		for (have += 8; have >= 5; have -= 5)
			out[n++] = digits[bits >> (have - 5) & 31];
	}
	out[n] = 0;
	mem_wipe(random, sizeof(random));
}

struct counting {
	const char *dir;
	int64_t now;
	size_t files, live;
	bool sweep, read;
};

static bool
count_file(void *ctx, const char *file)
{
	struct counting *c = ctx;
	struct token *t;
	const char *name;
	int64_t expires;
	char *path;

	if (!parse_name(file, &name, &expires))
		return false;
	path = mem_printf("%s/%s", c->dir, file);
	if (expires <= c->now) {
		if (c->sweep)
			unlink(path);
		mem_free(path);
		return false;
	}
	c->files++;
	if (!c->read) {
		mem_free(path);
		return false;
	}
	t = read_file(path);
	c->live += t && !t->used;
	token_free(t);
	return false;
}

static bool
room_for_another(const char *dir, int64_t now, struct errs *errs)
{
	struct counting c = { .dir = dir, .now = now, .sweep = true };

	find_file(dir, count_file, &c);
	if (c.files < TOKEN_LIVE_MAX)
		return true;
	c.files = 0;
	c.read = true;
	find_file(dir, count_file, &c);
	if (c.live < TOKEN_LIVE_MAX && c.files < TOKEN_FILES_MAX)
		return true;
	errs_add(errs, dir, 0, "%zu tokens wait to be used, and at most %d may; make fewer at a time, or with a shorter --ttl", c.live, TOKEN_LIVE_MAX);
	return false;
}

static int
check_wish(const struct token_wish *w, char **id, struct errs *errs)
{
	const char *why;
	size_t before = errs->errors;

	*id = ca_id_of_name(w->domain, "workload", w->name, &why);
	/* DESIGN: nobody gets a gateway's id by token. */
	if (!*id && (!strncmp(w->name, "gateway/", 8) || strstr(w->name, "/gateway/")))
		errs_add(errs, NULL, 0, "no token for \"%s\": a gateway's certificate is issued by an operator (\"gwctl pki issue gateway\"), and then renews itself", w->name);
	else if (!*id)
		errs_add(errs, NULL, 0, "no token for \"%s\": %s", w->name, why);
	if (w->ndns > TOKEN_DNS_MAX)
		errs_add(errs, NULL, 0, "%zu DNS names; at most %d fit one certificate", w->ndns, TOKEN_DNS_MAX);
	for (size_t i = 0; i < w->ndns && i < TOKEN_DNS_MAX; i++)
		if ((why = ca_dns_fault(w->dns[i])))
			errs_add(errs, NULL, 0, "\"%s\" is no DNS name: %s", w->dns[i], why);
	if (w->ttl_s < TOKEN_TTL_MIN_S || w->ttl_s > TOKEN_TTL_MAX_S)
		errs_add(errs, NULL, 0, "a token lives from one second to 30 days");
	if (errs->errors == before)
		return 0;
	mem_free(*id);
	*id = NULL;
	return -1;
}

static char *
token_path(const char *dir, const char *id, const char *token, int64_t expires)
{
	uint8_t name[DIGEST_SHA256_LEN];
	char who[ID_DIGITS + 1], hex[NAME_DIGITS + 1] = "";

	id_digits(who, id);
	derive(name, NAME_CONTEXT, sizeof(NAME_CONTEXT), token, strlen(token));
	esc_hex(hex, name, NAME_DIGITS / 2);
	return mem_printf("%s/%s-%s-%" PRId64, dir, who, hex, expires);
}

int
token_make(const struct store *s, const struct token_wish *w, char out[TOKEN_SIZE], char **id, struct errs *errs)
{
	char *dir = tokens_dir(s), *path = NULL;
	struct token t = { .dns = (char **)(uintptr_t)w->dns, .ndns = w->ndns, .expires = w->now + w->ttl_s };
	struct buf text;
	int rc = -1;

	buf_init(&text, TOKEN_FILE_MAX);
	if (check_wish(w, id, errs) < 0)
		goto out;
	if (make_dirs(s, dir, errs) < 0 || !room_for_another(dir, w->now, errs))
		goto out;
	random_text(out);
	derive(t.key, KEY_CONTEXT, sizeof(KEY_CONTEXT), out, strlen(out));
	t.id = *id;
	token_format(&t, &text);
	path = token_path(dir, *id, out, t.expires);
	rc = store_write_new(s, path, 0600, buf_cstr(&text), errs);
out:
	if (rc < 0) {
		mem_free(*id);
		*id = NULL;
	}
	if (text.data)
		mem_wipe(text.data, text.len);
	mem_wipe(t.key, sizeof(t.key));
	buf_fini(&text);
	mem_free(path);
	mem_free(dir);
	return rc;
}

/* ---- finding ------------------------------------------------------------------------------------------- */

static bool
has_name(void *ctx, const char *file)
{
	const char *name;
	int64_t expires;

	return parse_name(file, &name, &expires) && !memcmp(name, ctx, NAME_DIGITS);
}

struct token *
token_by_password(const struct store *s, const void *password, size_t len)
{
	uint8_t hash[DIGEST_SHA256_LEN], key[DIGEST_SHA256_LEN];
	char name[NAME_DIGITS + 1] = "", *dir = tokens_dir(s), *path;
	struct token *t;

	derive(hash, NAME_CONTEXT, sizeof(NAME_CONTEXT), password, len);
	derive(key, KEY_CONTEXT, sizeof(KEY_CONTEXT), password, len);
	esc_hex(name, hash, NAME_DIGITS / 2);
	path = find_file(dir, has_name, name);
	t = path ? read_file(path) : NULL;
	if (t && CRYPTO_memcmp(t->key, key, sizeof(key)) != 0) {
		token_free(t);
		t = NULL;
	}
	mem_wipe(key, sizeof(key));
	mem_free(dir);
	return t;
}

struct proving {
	const char *dir, *who, *id, *proof;
	const uint8_t *spki;
	size_t spki_len;
	struct token *found;
};

static bool
has_proof(void *ctx, const char *file)
{
	struct proving *p = ctx;
	char expected[TOKEN_PROOF_SIZE];
	const char *name;
	int64_t expires;
	struct token *t;

	if (p->found || !parse_name(file, &name, &expires) || memcmp(file, p->who, ID_DIGITS) != 0)
		return false;
	t = read_file(mem_printf("%s/%s", p->dir, file));
	if (!t)
		return false;
	proof_of(expected, t->key, p->spki, p->spki_len);
	if (!strcmp(t->id, p->id) && CRYPTO_memcmp(expected, p->proof, TOKEN_PROOF_SIZE - 1) == 0)
		p->found = t;
	else
		token_free(t);
	mem_wipe(expected, sizeof(expected));
	return false;
}

struct token *
token_by_proof(const struct store *s, const char *id, const char *proof, const uint8_t *spki, size_t spki_len)
{
	char who[ID_DIGITS + 1], *dir = tokens_dir(s);
	struct proving p = { .dir = dir, .who = who, .id = id, .proof = proof, .spki = spki, .spki_len = spki_len };

	id_digits(who, id);
	if (strlen(proof) == TOKEN_PROOF_SIZE - 1)
		find_file(dir, has_proof, &p);
	mem_free(dir);
	return p.found;
}

static char *
renewed_path(const struct store *s, const char *serial, int64_t not_after)
{
	char *dir = renewed_dir(s), *path = mem_printf("%s/%" PRId64 "-%s", dir, not_after, serial);

	mem_free(dir);
	return path;
}

struct token *
token_by_renewal(const struct store *s, const char *serial, int64_t not_after, bool *damaged)
{
	char *path = renewed_path(s, serial, not_after);
	struct token *t = read_file(mem_strdup(path));

	*damaged = !t && (access(path, F_OK) == 0 || errno != ENOENT);
	mem_free(path);
	return t;
}

struct token *
token_for_renewal(const struct store *s, const char *serial, const char *id, int64_t not_after)
{
	struct token *t = mem_zalloc(sizeof(*t));

	t->id = mem_strdup(id);
	t->expires = not_after;
	t->path = renewed_path(s, serial, not_after);
	return t;
}

/* ---- using and sweeping --------------------------------------------------------------------------------- */

int
token_use(const struct store *s, struct token *t, const uint8_t spki[DIGEST_SHA256_LEN], const char *serial, const char *chain_pem, struct errs *errs)
{
	char *dir = pkifile_dirname(t->path);
	struct buf text;
	int rc = make_dirs(s, dir, errs);

	mem_free(dir);
	if (rc < 0)
		return -1;
	mem_free(t->serial);
	mem_free(t->chain_pem);
	t->used = true;
	memcpy(t->spki, spki, DIGEST_SHA256_LEN);
	t->serial = mem_strdup(serial);
	t->chain_pem = mem_strdup(chain_pem);
	buf_init(&text, TOKEN_FILE_MAX);
	token_format(t, &text);
	if (text.overflow) {
		errs_add(errs, t->path, 0, "what was issued is too large to be kept");
		rc = -1;
	} else {
		rc = store_replace(s, t->path, 0600, buf_cstr(&text), errs);
	}
	mem_wipe(text.data, text.len);
	buf_fini(&text);
	return rc;
}

struct sweeping {
	const char *dir;
	int64_t now;
};

static bool
sweep_renewed(void *ctx, const char *file)
{
	const struct sweeping *w = ctx;
	char *number = mem_strdup(file), *dash = strchr(number, '-'), *path;
	int64_t expires;

	if (dash)
		*dash = 0;
	if (dash && parse_number(&expires, number) == 0 && expires <= w->now) {
		path = mem_printf("%s/%s", w->dir, file);
		unlink(path);
		mem_free(path);
	}
	mem_free(number);
	return false;
}

size_t
token_sweep(const struct store *s, int64_t now)
{
	char *tokens = tokens_dir(s), *renewed = renewed_dir(s);
	struct counting c = { .dir = tokens, .now = now, .sweep = true, .read = true };
	struct sweeping w = { renewed, now };

	find_file(tokens, count_file, &c);
	find_file(renewed, sweep_renewed, &w);
	mem_free(tokens);
	mem_free(renewed);
	return c.live;
}
