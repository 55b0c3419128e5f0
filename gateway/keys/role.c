/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One poll loop. Objects and lifetimes:
 *
 *   held      the keys (held.c); a key goes when four newer ones of its number came
 *   channel   one worker, or control; ends with its descriptor. It is read only while it may ask and while its other side takes our answers,
 *             so what waits for us waits in its socket, whose size is the bound
 *   hsm       keys that are elsewhere (hsm.c); what is asked of them is answered later, to the channel that asked, if it is still there
 *   job       the one new key that is being made; ends with its answer. Looking for an RSA key takes long, so the loop turns meanwhile
 */
#include "gateway/keys/role.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "gateway/base/buf.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/csr.h"
#include "gateway/keys/held.h"
#include "gateway/keys/hsm.h"
#include "gateway/keys/proto.h"
#include "gateway/process/child.h"
#include "gateway/process/ipc.h"
#include "gateway/process/memfd.h"

#define KEY_FILE_MAX 65536
#define CERT_FILE_MAX (1024 * 1024)
#define SECURE_HEAP (256 * 1024)
#define RATE_DEFAULT 2000      /* signatures a second for one worker; a core makes about 30,000 of P-256 */
#define ALARM_MS 60000
#define CSR_EVERY_MS 10000     /* for one key and worker */
#define TURN 16                /* requests of one channel before the next has its turn */
#define CHANNELS_MAX 1024
#define HSM_START_MS 20000     /* at the first start its keys must be there by then */

struct bucket {
	uint32_t tokens;         /* in thousandths */
	uint64_t refilled_ms;
};

struct channel {
	int fd;                  /* -1: gone, removed at the end of the turn */
	uint64_t serial;         /* names it for good */
	uint16_t role, index;
	struct bucket asks, refusals; /* beyond the first it is refused, beyond the second it waits */
	bool waits;
	bool held;               /* "out" waits for room */
	uint16_t out_type;
	uint8_t *out;            /* the one answer that did not go */
	size_t out_len;
	uint64_t signatures, refused, rate_limited, csrs;
	uint64_t alarmed_ms;     /* master was told; 0: never */
	uint64_t csr_ms[KEYS_NUMBERS]; /* the last one was answered; 0: none */
};

struct job {
	bool active;
	uint64_t channel;        /* serial */
	uint64_t id;
	uint16_t number;
};

struct state {
	int master;
	bool stop;
	struct keys_held held;
	struct keys_hsm *hsm;    /* NULL: none is configured */
	int pin_fd[KEYS_NUMBERS]; /* came before their keys; -1: none */
	struct job job;
	struct channel *channels; /* CHANNELS_MAX of them, so that each stays where it is for a turn */
	size_t nchannels;
	struct pollfd *pfds;
	uint32_t rate;
	bool locked;
	uint64_t last_serial, started_ms, signatures, no_key, bad_scheme, failed, abuse, rate_limited, csrs;
	uint8_t buf[IPC_MAX_DATA + 16], master_buf[IPC_MAX_DATA + 16]; /* master is heard while a request is in the other */
};

/* ---- files ---------------------------------------------------------------------------------------- */

/* The whole of a file that master opened, or NULL with *why. */
static ssize_t
read_file(int fd, char *text, size_t max, const char **why)
{
	size_t len = 0;
	ssize_t n = 1;

	while (len < max && (n = pread(fd, text + len, max - len, (off_t)len)) > 0)
		len += (size_t)n;
	if (n < 0)
		*why = strerror(errno);
	else if (n > 0)
		*why = "too large";
	return n == 0 ? (ssize_t)len : -1;
}

/* Instead of a key master gives the URI of one (RFC 7512), and before it the file with its PIN. */
static int
want_hsm(struct state *st, uint16_t number, const char *text, size_t len)
{
	char *uri = mem_strndup(text, len);
	int pin = -1, r = -1;

	if (number < KEYS_NUMBERS) {
		pin = st->pin_fd[number];
		st->pin_fd[number] = -1;
	}
	if (st->hsm)
		r = keys_hsm_want(st->hsm, number, uri, pin);
	else if (pin >= 0)
		close(pin);
	if (r < 0)
		log_error("key=%s cannot be used: there is no HSM, or its URI is too long", keys_held_option(number));
	mem_free(uri);
	return r;
}

/* Takes the descriptor; the text goes by way of the secure heap. */
static int
add_key(struct state *st, uint16_t number, int fd)
{
	char *text = OPENSSL_secure_malloc(KEY_FILE_MAX);
	const char *why = "no memory for it";
	ssize_t n = text ? read_file(fd, text, KEY_FILE_MAX, &why) : -1;
	int r = -1;

	close(fd);
	if (n < 0)
		log_error("key=%s cannot be used: %s", keys_held_option(number), why);
	else if (n > 7 && !memcmp(text, "pkcs11:", 7))
		r = want_hsm(st, number, text, (size_t)n);
	else
		r = keys_held_add(&st->held, number, text, (size_t)n);
	OPENSSL_secure_clear_free(text, KEY_FILE_MAX);
	return r;
}

/* Takes the descriptor. One that cannot be used is no loss: another is made. */
static void
add_pending(struct state *st, uint16_t number, int fd)
{
	char *text = OPENSSL_secure_malloc(KEY_FILE_MAX);
	const char *why;
	ssize_t n = text ? read_file(fd, text, KEY_FILE_MAX, &why) : -1;

	close(fd);
	if (n >= 0)
		keys_held_add_pending(&st->held, number, text, (size_t)n);
	OPENSSL_secure_clear_free(text, KEY_FILE_MAX);
}

static int
add_certificate(struct state *st, uint16_t number, int fd)
{
	char *text = mem_alloc(CERT_FILE_MAX);
	const char *why = "?";
	ssize_t n = read_file(fd, text, CERT_FILE_MAX, &why);
	int r = -1;

	close(fd);
	if (n < 0)
		log_error("key=%s has a certificate that cannot be read: %s", keys_held_option(number), why);
	else
		r = keys_held_set_certificate(&st->held, number, text, (size_t)n);
	mem_free(text);
	return r;
}

/* ---- channels ------------------------------------------------------------------------------------ */

static void
channel_close(struct channel *ch)
{
	if (ch->fd >= 0)
		close(ch->fd);
	ch->fd = -1;
}

static void
channel_add(struct state *st, const struct role_env_fd *f)
{
	struct channel *ch;
	enum role role = (enum role)(f->arg >> 8);

	if ((role != ROLE_WORKER && role != ROLE_CONTROL) || st->nchannels >= CHANNELS_MAX) {
		log_error("channel=%u refused: not one of ours", f->arg);
		close(f->fd);
		return;
	}
	ch = &st->channels[st->nchannels++];
	memset(ch, 0, sizeof(*ch));
	ch->fd = f->fd;
	ch->role = (uint16_t)role;
	ch->index = f->arg & 0xff;
	ch->serial = ++st->last_serial;
	ch->asks = ch->refusals = (struct bucket){ st->rate * 1000u, clock_mono_ms() };
}

static void
channels_sweep(struct state *st)
{
	size_t keep = 0;

	for (size_t i = 0; i < st->nchannels; i++) {
		if (st->channels[i].fd < 0)
			mem_free(st->channels[i].out);
		else
			st->channels[keep++] = st->channels[i];
	}
	st->nchannels = keep;
}

/* Sends, or keeps it until there is room; nothing more is read before that. */
static void
channel_send(struct channel *ch, uint16_t type, const void *p, size_t len)
{
	int r = ipc_send(ch->fd, type, 0, p, len, NULL, 0);

	if (r == -2)
		channel_close(ch);
	if (r != -1)
		return;
	mem_free(ch->out);
	ch->out = mem_alloc(len);
	memcpy(ch->out, p, len);
	ch->out_len = len;
	ch->out_type = type;
	ch->held = true;
}

static void
channel_flush(struct channel *ch)
{
	int r = ipc_send(ch->fd, ch->out_type, 0, ch->out, ch->out_len, NULL, 0);

	if (r == -2)
		channel_close(ch);
	if (r == 0)
		ch->held = false;
}

static void
refill(struct bucket *b, uint32_t rate, uint64_t now)
{
	uint64_t add = (now - b->refilled_ms) * rate;

	b->tokens = add >= rate * 1000u - b->tokens ? rate * 1000u : b->tokens + (uint32_t)add;
	b->refilled_ms = now;
}

static bool
take(struct bucket *b)
{
	if (b->tokens < 1000)
		return false;
	b->tokens -= 1000;
	return true;
}

static struct channel *
channel_find(struct state *st, uint64_t serial)
{
	for (size_t i = 0; i < st->nchannels; i++)
		if (st->channels[i].serial == serial && st->channels[i].fd >= 0)
			return &st->channels[i];
	return NULL;
}

/* May another request of it be read? One that asks on and on while it is refused waits. */
static bool
channel_may_ask(struct state *st, struct channel *ch)
{
	uint64_t now = clock_mono_ms();

	refill(&ch->asks, st->rate, now);
	refill(&ch->refusals, st->rate, now);
	ch->waits = ch->asks.tokens < 1000 && ch->refusals.tokens < 1000;
	return !ch->waits;
}

/* False: it is to be refused. Master, and through it the journal, hears of it once a minute. */
static bool
channel_within_rate(struct state *st, struct channel *ch)
{
	uint64_t now = clock_mono_ms();

	if (take(&ch->asks))
		return true;
	take(&ch->refusals);
	st->rate_limited++;
	ch->rate_limited++;
	if (ch->alarmed_ms && now - ch->alarmed_ms < ALARM_MS)
		return false;
	ch->alarmed_ms = now;
	log_warn("worker=%u asks for more than limits.signatures_per_second = %u: the rest is refused", ch->index, st->rate);
	if (ipc_send(st->master, ROLE_MSG_KEYS_RATE, ch->index, NULL, 0, NULL, 0) < 0)
		log_error("worker=%u could not be reported to master", ch->index);
	return false;
}

/* Case 61. */
static void
channel_abuse(struct state *st, struct channel *ch, const char *what)
{
	st->abuse++;
	log_error("worker=%u asked for what is no TLS handshake: %s; its channel is closed and master told", ch->index, what);
	if (ipc_send(st->master, ROLE_MSG_KEYS_ABUSE, ch->index, NULL, 0, NULL, 0) < 0)
		log_error("worker=%u could not be reported to master", ch->index);
	channel_close(ch);
}

static void on_master(struct state *st);

static void
answer_sign(struct state *st, struct channel *ch, const struct keys_signed *answer)
{
	uint8_t out[KEYS_SIGNED_MAX];

	if (answer->status == KEYS_OK) {
		st->signatures++;
		ch->signatures++;
	} else {
		ch->refused++;
	}
	channel_send(ch, KEYS_MSG_SIGNED, out, keys_proto_put_signed(out, answer));
}

static void
on_sign(struct state *st, struct channel *ch, const struct ipc_msg *msg)
{
	struct keys_signed answer = { 0 };
	struct keys_held_key *k;
	uint8_t sig[KEYS_SIG_MAX];
	struct keys_sign m;

	if (keys_proto_get_sign(&m, msg->data, msg->len) < 0) {
		channel_abuse(st, ch, "a malformed request");
		return;
	}
	answer.id = m.id;
	if (!keys_proto_is_certificate_verify(m.tbs, m.tbs_len)) {
		answer.status = KEYS_REFUSED;
		answer_sign(st, ch, &answer);
		channel_abuse(st, ch, "not the input of a CertificateVerify");
		return;
	}
	k = keys_held_find(&st->held, m.key, m.key_id);
	if (!k) { /* master may have sent it before it told the worker of the certificate */
		on_master(st);
		k = keys_held_find(&st->held, m.key, m.key_id);
	}
	if (!channel_within_rate(st, ch)) {
		answer.status = KEYS_BUSY;
	} else if (!k) {
		/* Not yet: whether it is the one that is asked for is not known before it was there once. */
		answer.status = keys_hsm_wanted(st->hsm, m.key) ? KEYS_AWAY : KEYS_NO_KEY;
		st->no_key++;
	} else if (!keys_ident_fits(k->type, m.scheme)) {
		answer.status = KEYS_BAD_SCHEME;
		st->bad_scheme++;
	} else if (k->hsm) {
		answer.status = (uint16_t)keys_hsm_sign(st->hsm, ch->serial, &m);
		if (answer.status == KEYS_OK) {
			k->signatures++;
			return;
		}
		st->failed++;
	} else {
		answer.status = (uint16_t)keys_held_sign(k, m.scheme, m.tbs, m.tbs_len, sig, &answer.sig_len);
		if (answer.status == KEYS_OK) {
			answer.sig = sig;
			k->signatures++;
		} else {
			answer.sig_len = 0;
			st->failed++;
		}
	}
	answer_sign(st, ch, &answer);
}

/* ---- certificate requests ------------------------------------------------------------------------- */

static void
answer_csr(struct state *st, struct channel *ch, uint64_t id, enum keys_status status, const uint8_t *der, size_t len)
{
	struct keys_csr_done answer = { .id = id, .status = (uint16_t)status, .der = der, .der_len = len };
	uint8_t *out = mem_alloc(KEYS_CSR_DONE_MAX);

	if (status == KEYS_OK) {
		st->csrs++;
		ch->csrs++;
	} else {
		ch->refused++;
	}
	channel_send(ch, KEYS_MSG_CSR_DONE, out, keys_proto_put_csr_done(out, &answer));
	mem_free(out);
}

/* With key, which is the number's own or one that takes its place. */
static void
make_csr(struct state *st, struct channel *ch, uint64_t id, uint16_t number, EVP_PKEY *key, EVP_PKEY *old)
{
	const char *why;
	uint8_t *der;
	size_t len;

	if (keys_csr_make(key, old, st->held.certs[number].x, &der, &len, &why) < 0) {
		log_error("key=%s no certificate request: %s", keys_held_option(number), why);
		answer_csr(st, ch, id, KEYS_FAILED, NULL, 0);
		return;
	}
	log_info("key=%s worker=%u certificate request made%s", keys_held_option(number), ch->index, old ? " for a new key" : "");
	answer_csr(st, ch, id, KEYS_OK, der, len);
	OPENSSL_free(der);
}

/* Master keeps a new key until its certificate comes. */
static int
hand_over(struct state *st, uint16_t number, EVP_PKEY *key)
{
	BIO *out = BIO_new(BIO_s_secmem());
	char *text;
	long len;
	int fd = -1, r = -1;

	if (out && PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1 && (len = BIO_get_mem_data(out, &text)) > 0)
		fd = memfd_sealed("sallyport-new-key", text, (size_t)len);
	BIO_free(out);
	if (fd >= 0) {
		r = ipc_send(st->master, ROLE_MSG_NEW_KEY, number, NULL, 0, &fd, 1);
		close(fd);
	}
	ERR_clear_error();
	return r;
}

/* For the key that is there; a new one is the HSM's operator's to make. */
static void
hsm_csr(struct state *st, struct channel *ch, const struct keys_csr *m)
{
	enum keys_status status = KEYS_FIXED;
	uint8_t *der = NULL;
	int len = 0;

	if (!(m->flags & KEYS_CSR_NEW_KEY)) {
		len = i2d_X509(st->held.certs[m->key].x, &der);
		status = len > 0 ? keys_hsm_csr(st->hsm, ch->serial, m, der, (size_t)len) : KEYS_FAILED;
		ch->csr_ms[m->key] = clock_mono_ms();
	}
	OPENSSL_free(der);
	if (status != KEYS_OK)
		answer_csr(st, ch, m->id, status, NULL, 0);
}

static void
on_csr(struct state *st, struct channel *ch, const struct ipc_msg *msg)
{
	uint64_t now = clock_mono_ms();
	struct keys_held_key *k;
	struct keys_csr m;

	if (keys_proto_get_csr(&m, msg->data, msg->len) < 0) {
		channel_abuse(st, ch, "a malformed request for a certificate request");
		return;
	}
	k = keys_held_current(&st->held, m.key);
	if (!k) { /* as above */
		on_master(st);
		k = keys_held_current(&st->held, m.key);
	}
	if (!channel_within_rate(st, ch) || (m.key < KEYS_NUMBERS && ch->csr_ms[m.key] && now - ch->csr_ms[m.key] < CSR_EVERY_MS)) {
		answer_csr(st, ch, m.id, KEYS_BUSY, NULL, 0);
	} else if (!k) {
		answer_csr(st, ch, m.id, KEYS_NO_KEY, NULL, 0);
	} else if (k->hsm) {
		hsm_csr(st, ch, &m);
	} else if (!(m.flags & KEYS_CSR_NEW_KEY)) {
		ch->csr_ms[m.key] = now;
		make_csr(st, ch, m.id, m.key, k->pkey, NULL);
	} else if (st->held.certs[m.key].pending) {
		ch->csr_ms[m.key] = now;
		/* Again: what master keeps is always the key of the last request. */
		if (hand_over(st, m.key, st->held.certs[m.key].pending) < 0)
			answer_csr(st, ch, m.id, KEYS_FAILED, NULL, 0);
		else
			make_csr(st, ch, m.id, m.key, st->held.certs[m.key].pending, k->pkey);
	} else if (st->job.active) {
		answer_csr(st, ch, m.id, KEYS_BUSY, NULL, 0);
	} else {
		ch->csr_ms[m.key] = now;
		st->job = (struct job){ true, ch->serial, m.id, m.key };
	}
}

static bool turn(struct state *st, int timeout_ms);

static bool
on_progress(void *ctx)
{
	return turn(ctx, 0);
}

static void
do_job(struct state *st)
{
	struct job job = st->job;
	struct keys_held_key *k = keys_held_current(&st->held, job.number);
	X509 *cert = st->held.certs[job.number].x;
	EVP_PKEY *key = NULL, *like = k ? k->pkey : NULL;
	struct channel *ch;

	if (like) {
		/* Both may be replaced while the loop turns. */
		EVP_PKEY_up_ref(like);
		X509_up_ref(cert);
		key = keys_csr_new_key(like, on_progress, st);
	}
	k = keys_held_current(&st->held, job.number);
	st->job.active = false;
	if (!k || k->pkey != like || st->held.certs[job.number].x != cert || (key && hand_over(st, job.number, key) < 0)) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	st->held.certs[job.number].pending = key;
	ch = channel_find(st, job.channel);
	if (ch && key)
		make_csr(st, ch, job.id, job.number, key, like);
	else if (ch)
		answer_csr(st, ch, job.id, KEYS_FAILED, NULL, 0);
	if (like) {
		EVP_PKEY_free(like);
		X509_free(cert);
	}
}

/* ---- the HSM ---------------------------------------------------------------------------------------- */

static void
on_hsm_key(void *ctx, uint16_t number, EVP_PKEY *public)
{
	struct state *st = ctx;

	if (keys_held_add_hsm(&st->held, number, public) == 0 && st->held.certs[number].x && !keys_held_current(&st->held, number))
		log_error("key=%s in the HSM is not the key of its certificate: one of the two belongs to another pair", keys_held_option(number));
}

static void
on_hsm_signed(void *ctx, uint64_t who, const struct keys_signed *m)
{
	struct state *st = ctx;
	struct channel *ch = channel_find(st, who);

	if (m->status != KEYS_OK)
		st->failed++;
	if (ch)
		answer_sign(st, ch, m);
}

static void
on_hsm_csr(void *ctx, uint64_t who, const struct keys_csr_done *m)
{
	struct state *st = ctx;
	struct channel *ch = channel_find(st, who);

	if (ch)
		answer_csr(st, ch, m->id, m->status, m->der, m->der_len);
}

static const struct keys_hsm_ops hsm_ops = { on_hsm_key, on_hsm_signed, on_hsm_csr };

/* At the first start of a generation its keys must work, as others must; later we go on without, and so do links. */
static int
hsm_wait(struct state *st)
{
	uint64_t now = clock_mono_ms(), end = now + HSM_START_MS;
	const char *why = NULL;
	uint16_t missing = 0;

	while (now < end && keys_hsm_fd(st->hsm) >= 0 && !keys_hsm_settled(st->hsm, &missing, &why)) {
		poll(&(struct pollfd){ .fd = keys_hsm_fd(st->hsm), .events = POLLIN }, 1, (int)(end - now));
		keys_hsm_on_readable(st->hsm);
		now = clock_mono_ms();
	}
	keys_hsm_settled(st->hsm, &missing, &why);
	if (!why)
		return 0;
	log_error("key=%s cannot be used: %s", keys_held_option(missing), *why ? why : "the HSM does not answer");
	return -1;
}

/* ---- status ---------------------------------------------------------------------------------------- */

static void
on_status(struct state *st, struct channel *ch)
{
	struct buf b;
	bool first = true;

	buf_init(&b, IPC_MAX_DATA);
	buf_printf(&b, "{\"role\":\"keys\",\"uptime_ms\":%llu,\"memory_locked\":%s,\"key_memory\":%zu,\"signatures\":%llu,\"no_key\":%llu,\"bad_scheme\":%llu,"
	               "\"failed\":%llu,\"abuse\":%llu,\"rate_limited\":%llu,\"rate_limit\":%u,\"csrs\":%llu,\"channels\":%zu,\"keys\":[",
	    (unsigned long long)(clock_mono_ms() - st->started_ms), st->locked ? "true" : "false", CRYPTO_secure_used(),
	    (unsigned long long)st->signatures,
	    (unsigned long long)st->no_key, (unsigned long long)st->bad_scheme, (unsigned long long)st->failed,
	    (unsigned long long)st->abuse, (unsigned long long)st->rate_limited, st->rate, (unsigned long long)st->csrs, st->nchannels);
	for (size_t i = 0; i < st->held.n; i++) {
		const struct keys_held_key *k = &st->held.keys[i];

		buf_printf(&b, "%s{\"number\":%u,\"option\":\"%s\",\"type\":\"%s\",\"in\":\"%s\",\"signatures\":%llu,\"public_id\":\"", i ? "," : "",
		    k->number, keys_held_option(k->number), keys_ident_text(k->type), k->hsm ? "hsm" : "memory", (unsigned long long)k->signatures);
		for (size_t j = 0; j < KEYS_ID_LEN; j++)
			buf_printf(&b, "%02x", k->id[j]);
		buf_puts(&b, "\"}");
	}
	buf_puts(&b, "],\"workers\":[");
	for (size_t i = 0; i < st->nchannels; i++) {
		const struct channel *w = &st->channels[i];

		if (w->role != ROLE_WORKER || w->fd < 0)
			continue;
		buf_printf(&b, "%s{\"worker\":%u,\"signatures\":%llu,\"refused\":%llu,\"rate_limited\":%llu,\"csrs\":%llu}", first ? "" : ",", w->index,
		    (unsigned long long)w->signatures, (unsigned long long)w->refused, (unsigned long long)w->rate_limited,
		    (unsigned long long)w->csrs);
		first = false;
	}
	buf_puts(&b, "]");
	if (st->hsm) {
		buf_puts(&b, ",\"hsm\":");
		keys_hsm_status(st->hsm, &b);
	}
	buf_puts(&b, "}");
	channel_send(ch, ROLE_MSG_STATUS_REPLY, b.data, b.len);
	buf_fini(&b);
}

static void
on_channel(struct state *st, struct channel *ch)
{
	struct ipc_msg msg;

	for (int i = 0; i < TURN && ch->fd >= 0 && !ch->held; i++) {
		int r;

		if (ch->role == ROLE_WORKER && !channel_may_ask(st, ch))
			return;
		r = ipc_recv(ch->fd, st->buf, &msg);
		if (r == 0)
			return;
		if (r == -1) {
			channel_close(ch);
			return;
		}
		if (r == -2 || msg.nfds) {
			ipc_msg_close(&msg);
			if (ch->role == ROLE_WORKER)
				channel_abuse(st, ch, "a malformed message");
			else
				channel_close(ch);
		} else if (ch->role == ROLE_WORKER && msg.type == KEYS_MSG_SIGN) {
			on_sign(st, ch, &msg);
		} else if (ch->role == ROLE_WORKER && msg.type == KEYS_MSG_CSR) {
			on_csr(st, ch, &msg);
		} else if (ch->role == ROLE_CONTROL && msg.type == ROLE_MSG_STATUS) {
			on_status(st, ch);
		} else if (ch->role == ROLE_WORKER) {
			channel_abuse(st, ch, "a message that is not allowed");
		} else {
			log_error("role=%s index=%u sent a message that is not allowed; its channel is closed", role_name(ch->role), ch->index);
			channel_close(ch);
		}
	}
}

/* ---- master -------------------------------------------------------------------------------------- */

static int
take_fd(struct state *st, const struct role_env_fd *f)
{
	if (f->kind == ROLE_FD_KEY)
		return add_key(st, f->arg, f->fd);
	if (f->kind == ROLE_FD_KEY_CERT)
		return add_certificate(st, f->arg, f->fd);
	if (f->kind == ROLE_FD_PIN && f->arg < KEYS_NUMBERS) {
		if (st->pin_fd[f->arg] >= 0)
			close(st->pin_fd[f->arg]);
		st->pin_fd[f->arg] = f->fd;
		return 0;
	}
	if (f->kind == ROLE_FD_CHANNEL)
		channel_add(st, f);
	else if (f->kind == ROLE_FD_NEW_KEY)
		add_pending(st, f->arg, f->fd);
	else
		close(f->fd);
	return 0;
}

static void
on_master(struct state *st)
{
	struct role_env_fd fds[IPC_MAX_FDS];
	struct ipc_msg msg;
	int r, n;

	while (!st->stop && (r = ipc_recv(st->master, st->master_buf, &msg)) != 0) {
		if (r < 0) {
			st->stop = true; /* without master there is nothing to do here */
			return;
		}
		switch (msg.type) {
		case ROLE_MSG_FD:
			n = child_fds(&msg, fds);
			for (int i = 0; i < n; i++)
				take_fd(st, &fds[i]); /* a bad key was logged; those that work go on working */
			break;
		case ROLE_MSG_CHANNEL_GONE:
			/* A worker's successor may have a channel of the same name already: only a dead one goes. */
			break;
		case ROLE_MSG_LOG_LEVEL:
			log_set_level((enum log_level)msg.arg);
			break;
		case ROLE_MSG_STOP:
			st->stop = true;
			break;
		default:
			break;
		}
		ipc_msg_close(&msg);
	}
}

/* False: it is to stop. */
static bool
turn(struct state *st, int timeout_ms)
{
	size_t n = st->nchannels;
	struct pollfd *pfds = st->pfds + 2;
	int hsm_ms = st->hsm ? keys_hsm_tick(st->hsm, clock_mono_ms()) : -1;

	if (hsm_ms >= 0 && (timeout_ms < 0 || hsm_ms < timeout_ms))
		timeout_ms = hsm_ms;
	st->pfds[0] = (struct pollfd){ .fd = st->master, .events = POLLIN };
	st->pfds[1] = (struct pollfd){ .fd = keys_hsm_fd(st->hsm), .events = POLLIN };
	for (size_t i = 0; i < n; i++) {
		struct channel *ch = &st->channels[i];

		pfds[i] = (struct pollfd){ .fd = ch->fd, .events = ch->held ? POLLOUT : POLLIN };
		if (!ch->held && ch->waits) {
			pfds[i].events = 0;
			if (timeout_ms < 0)
				timeout_ms = 2;
		}
	}
	if (poll(st->pfds, n + 2, timeout_ms) < 0)
		return true; /* EINTR */
	if (st->pfds[0].revents)
		on_master(st);
	if (st->pfds[1].revents)
		keys_hsm_on_readable(st->hsm);
	for (size_t i = 0; i < n; i++) {
		struct channel *ch = &st->channels[i];

		if (ch->held && (pfds[i].revents & (POLLOUT | POLLERR | POLLHUP)))
			channel_flush(ch);
		else if (ch->fd >= 0 && !ch->held && ((pfds[i].revents & (POLLIN | POLLERR | POLLHUP)) || !pfds[i].events))
			on_channel(st, ch);
	}
	channels_sweep(st);
	return !st->stop;
}

/* Each certificate is of a key that is here; one of an HSM may be missing later. */
static bool
certificates_fit(struct state *st, bool first)
{
	for (uint16_t i = 0; i < KEYS_NUMBERS; i++)
		if (st->held.certs[i].x && !keys_held_current(&st->held, i) && (first || !keys_hsm_wanted(st->hsm, i))) {
			log_error("key=%s is not the key of its certificate: one of the two belongs to another pair", keys_held_option(i));
			return false;
		}
	return true;
}

int
keys_main(struct role_env *env)
{
	struct state *st = mem_zalloc(sizeof(*st));
	bool first;
	int rc = 1;

	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	st->channels = mem_array(CHANNELS_MAX, sizeof(*st->channels));
	st->pfds = mem_array(CHANNELS_MAX + 2, sizeof(*st->pfds));
	st->master = env->master;
	st->rate = env->go.signatures_per_s ? env->go.signatures_per_s : RATE_DEFAULT;
	st->started_ms = clock_mono_ms();
	for (size_t i = 0; i < KEYS_NUMBERS; i++)
		st->pin_fd[i] = -1;
	if (env->helper)
		st->hsm = keys_hsm_new(env->helper_fd, env->helper, &hsm_ops, st);
	/* Locked, guarded and kept out of core files (1); or all but locked, where RLIMIT_MEMLOCK is too small (2). */
	st->locked = CRYPTO_secure_malloc_init(SECURE_HEAP, 32) == 1;
	if (!st->locked)
		log_warn("key memory could not be locked: raise LimitMEMLOCK to at least 512K");
	for (unsigned i = 0; i < env->nfds; i++) {
		struct role_env_fd *f = &env->fds[i];

		if (f->kind != ROLE_FD_KEY && f->kind != ROLE_FD_KEY_CERT && f->kind != ROLE_FD_PIN && f->kind != ROLE_FD_NEW_KEY &&
		    f->kind != ROLE_FD_CHANNEL)
			continue;
		if (take_fd(st, f) < 0)
			goto out; /* at start every key must work */
		f->fd = -1;
	}
	first = env->go.restarts == 0;
	if ((first && st->hsm && hsm_wait(st) < 0) || !certificates_fit(st, first) || child_ready(env) < 0)
		goto out;
	while (!st->stop && turn(st, -1))
		if (st->job.active)
			do_job(st);
	rc = 0;
out:
	keys_held_fini(&st->held);
	keys_hsm_free(st->hsm);
	for (size_t i = 0; i < KEYS_NUMBERS; i++)
		if (st->pin_fd[i] >= 0)
			close(st->pin_fd[i]);
	for (size_t i = 0; i < st->nchannels; i++)
		channel_close(&st->channels[i]);
	channels_sweep(st);
	mem_free(st->channels);
	mem_free(st->pfds);
	mem_wipe(st, sizeof(*st));
	mem_free(st);
	return rc;
}
