/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request after the other, blocking, with an alarm: one that takes too long ends the process, and another one is started. So does a key that was
 * there and does not sign any more, since what a process knows of its tokens is known for good (token.h).
 */
#include "gateway/keys/helper.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/csr.h"
#include "gateway/keys/held.h"
#include "gateway/keys/hsm.h"
#include "gateway/keys/token.h"
#include "gateway/process/ipc.h"

#define KEYS_HERE 16
#define LOAD_S 20            /* one key, logging in included */
#define SIGN_S 10
#define RETRY_MS 30000       /* another process looks for what is missing, though something is here */
#define SECURE_HEAP (64 * 1024)

static struct {
	int fd;
	const char *via;
	struct keys_held_key keys[KEYS_HERE];
	size_t n;
	uint64_t retry_ms;   /* 0: nothing is missing that trying again may find */
	uint8_t buf[IPC_MAX_DATA + 16];
} s;

static void
say(uint16_t type, uint16_t arg, const void *p, size_t len)
{
	struct pollfd full = { .events = POLLOUT };
	int r;

	while ((r = ipc_send(s.fd, type, arg, p, len, NULL, 0)) == -1) {
		full.fd = s.fd;
		poll(&full, 1, -1);
	}
	if (r < 0)
		exit(0); /* the role is gone */
}

/* ---- start ---- */

static void
set_environment(const char *given)
{
	char *copy = mem_strdup(given), *rest = NULL;

	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *value = strncmp(line, "env ", 4) ? NULL : strchr(line, '=');

		if (value) {
			*value = '\0';
			setenv(line + 4, value + 1, 1);
		}
	}
	mem_free(copy);
}

static char *
module_of(const char *given)
{
	const char *at = strncmp(given, "module ", 7) ? strstr(given, "\nmodule ") : given;

	if (!at)
		return NULL;
	at = strchr(at, ' ') + 1;
	return mem_strndup(at, strcspn(at, "\n"));
}

static int
load(int channel, const char *given)
{
	char why[KEYS_TOKEN_WHY] = "no module was named", *module = module_of(given);
	int r = -1;

	s.fd = channel;
	set_environment(given);
	CRYPTO_secure_malloc_init(SECURE_HEAP, 32);
	if (module)
		r = keys_token_load(module, &s.via, why);
	if (r < 0)
		say(KEYS_HSM_FAULT, 0, why, strlen(why));
	mem_free(module);
	return r;
}

/* ---- keys ---- */

static uint16_t
scheme_of(enum keys_type t)
{
	static const uint16_t schemes[KEYS_TYPES] = {
		[KEYS_P256] = KEYS_ECDSA_P256_SHA256, [KEYS_P384] = KEYS_ECDSA_P384_SHA384, [KEYS_P521] = KEYS_ECDSA_P521_SHA512,
		[KEYS_ED25519_KEY] = KEYS_ED25519, [KEYS_RSA] = KEYS_RSA_PSS_SHA256,
	};

	return schemes[t];
}

static struct keys_held_key *
find(uint16_t number)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.keys[i].number == number)
			return &s.keys[i];
	return NULL;
}

/* Does it sign at all? */
static bool
works(struct keys_held_key *k)
{
	static const uint8_t nothing[] = "sallyport: is this key there?";
	uint8_t sig[KEYS_SIG_MAX];
	size_t len;

	return keys_held_sign(k, scheme_of(k->type), nothing, sizeof(nothing), sig, &len) == KEYS_OK;
}

static void
lacks(uint16_t number, bool hopeless, const char *why)
{
	uint8_t msg[1 + KEYS_TOKEN_WHY];

	msg[0] = hopeless;
	snprintf((char *)msg + 1, KEYS_TOKEN_WHY, "%s", why);
	say(KEYS_HSM_LACKS, number, msg, 1 + strlen((char *)msg + 1));
	if (!hopeless && !s.retry_ms)
		s.retry_ms = clock_mono_ms() + RETRY_MS;
}

/* A text file's first line, into memory that is wiped. NULL with *why. */
static char *
read_pin(int fd, const char **why)
{
	char *pin = OPENSSL_secure_zalloc(KEYS_HSM_PIN_MAX + 1);
	ssize_t n = pin ? pread(fd, pin, KEYS_HSM_PIN_MAX, 0) : -1;

	if (n >= 0) {
		pin[n] = '\0';
		pin[strcspn(pin, "\r\n")] = '\0';
	}
	if (n >= 0 && pin[0])
		return pin;
	*why = n < 0 ? "the PIN's file cannot be read" : "the PIN's file is empty";
	OPENSSL_secure_clear_free(pin, KEYS_HSM_PIN_MAX + 1);
	return NULL;
}

static void
key_drop(struct keys_held_key *k)
{
	EVP_MD_CTX_free(k->md);
	EVP_PKEY_free(k->pkey);
	*k = s.keys[--s.n];
}

static void
on_key(const struct ipc_msg *m)
{
	struct keys_held_key k = { .number = m->arg }, *old = find(m->arg);
	char why[KEYS_TOKEN_WHY], *uri = mem_strndup((const char *)m->data, m->len), *pin = NULL;
	const char *fault = NULL;
	EVP_PKEY *public = NULL;
	const uint8_t *p;
	uint8_t *spki = NULL;
	bool bad_pin = false;
	int type = -1, n = 0;

	if (old)
		key_drop(old);
	if (s.n == KEYS_HERE)
		fault = "too many keys";
	else if (m->nfds)
		pin = read_pin(m->fds[0], &fault);
	if (!fault) {
		alarm(LOAD_S);
		k.pkey = keys_token_key(uri, pin, &bad_pin, why);
		if (!k.pkey)
			fault = why;
		/* Its public part as OpenSSL itself has it, whoever holds the private one. */
		n = k.pkey ? i2d_PUBKEY(k.pkey, &spki) : 0;
		p = spki;
		public = n > 0 ? d2i_PUBKEY(NULL, &p, n) : NULL;
		if (k.pkey && !public)
			fault = "its public key is not found: the token has to have that, too, under the same id (CKA_ID)";
		type = public ? keys_ident_type(public, &fault) : -1;
		if (type >= 0) {
			k.type = (enum keys_type)type;
			k.md = EVP_MD_CTX_new();
			if (!k.md || !works(&k))
				fault = "it does not sign as TLS 1.3 wants it";
		}
		alarm(0);
	}
	if (fault) {
		EVP_MD_CTX_free(k.md);
		EVP_PKEY_free(k.pkey);
		lacks(m->arg, bad_pin, fault);
	} else {
		s.keys[s.n++] = k;
		say(KEYS_HSM_HAS, m->arg, spki, (size_t)n);
	}
	EVP_PKEY_free(public);
	OPENSSL_free(spki);
	OPENSSL_secure_clear_free(pin, KEYS_HSM_PIN_MAX + 1);
	mem_free(uri);
	ERR_clear_error();
}

/* ---- requests ---- */

/* It did not do what was asked. If it does nothing at all any more, the next process looks for it, and does this request, too. */
static void
doubt(struct keys_held_key *k)
{
	if (works(k))
		return;
	log_error("key=%s does not sign any more; looking for it anew", keys_held_option(k->number));
	exit(1);
}

static void
on_sign(const struct ipc_msg *m)
{
	uint8_t sig[KEYS_SIG_MAX], out[KEYS_SIGNED_MAX];
	struct keys_signed answer = { .status = KEYS_AWAY };
	struct keys_held_key *k;
	struct keys_sign q;

	if (keys_proto_get_sign(&q, m->data, m->len) < 0 || !keys_proto_is_certificate_verify(q.tbs, q.tbs_len))
		log_fatal("a damaged request");
	answer.id = q.id;
	k = find(q.key);
	if (k && !keys_ident_fits(k->type, q.scheme)) {
		answer.status = KEYS_BAD_SCHEME;
	} else if (k) {
		alarm(SIGN_S);
		answer.status = (uint16_t)keys_held_sign(k, q.scheme, q.tbs, q.tbs_len, sig, &answer.sig_len);
		if (answer.status != KEYS_OK) {
			answer.sig_len = 0;
			doubt(k);
		}
		alarm(0);
		answer.sig = sig;
	}
	say(KEYS_MSG_SIGNED, 0, out, keys_proto_put_signed(out, &answer));
}

static void
on_csr(const struct ipc_msg *m)
{
	struct keys_csr_done answer = { .status = KEYS_AWAY };
	struct keys_held_key *k;
	uint8_t *out, *der = NULL;
	const char *why;
	struct keys_csr q;
	const uint8_t *p;
	X509 *cert;

	if (m->len < KEYS_CSR_LEN || keys_proto_get_csr(&q, m->data, KEYS_CSR_LEN) < 0 || q.flags)
		log_fatal("a damaged request");
	p = m->data + KEYS_CSR_LEN;
	cert = d2i_X509(NULL, &p, (long)(m->len - KEYS_CSR_LEN));
	answer.id = q.id;
	k = find(q.key);
	if (k && cert) {
		alarm(SIGN_S);
		if (keys_csr_make(k->pkey, NULL, cert, &der, &answer.der_len, &why) == 0) {
			answer.der = der;
			answer.status = KEYS_OK;
		} else {
			answer.status = KEYS_FAILED;
			log_error("key=%s no certificate request: %s", keys_held_option(k->number), why);
			doubt(k);
		}
		alarm(0);
	}
	out = mem_alloc(KEYS_CSR_DONE_MAX);
	say(KEYS_MSG_CSR_DONE, 0, out, keys_proto_put_csr_done(out, &answer));
	mem_free(out);
	OPENSSL_free(der);
	X509_free(cert);
	ERR_clear_error();
}

static int
serve(int channel, const char *given, uint32_t sandbox)
{
	uint8_t hello[8 + 16];
	bool started = false;
	struct ipc_msg m;

	(void)channel, (void)given;
	le_put32(hello, sandbox);
	le_put32(hello + 4, (uint32_t)getpid());
	memcpy(hello + 8, s.via, strlen(s.via));
	say(KEYS_HSM_HELLO, 0, hello, 8 + strlen(s.via));
	for (;;) {
		uint64_t now = clock_mono_ms();
		int r, timeout = !s.retry_ms ? -1 : s.retry_ms > now ? (int)(s.retry_ms - now) : 0;

		/* What is missing is looked for by another process: at once, as it were, when nothing is here. */
		if (s.retry_ms && (now >= s.retry_ms || (!s.n && started)))
			timeout = 0;
		r = poll(&(struct pollfd){ .fd = s.fd, .events = POLLIN }, 1, timeout);
		if (r == 0 && timeout == 0)
			return 1;
		r = ipc_recv(s.fd, s.buf, &m);
		if (r < 0)
			return 0;
		if (r == 0)
			continue;
		if (m.type == KEYS_HSM_START)
			started = true;
		else if (started && m.type == KEYS_HSM_KEY)
			on_key(&m);
		else if (started && m.type == KEYS_MSG_SIGN)
			on_sign(&m);
		else if (started && m.type == KEYS_HSM_CSR)
			on_csr(&m);
		ipc_msg_close(&m);
	}
}

const struct role_helper keys_helper = { .name = "keys/hsm", .load = load, .main = serve };
