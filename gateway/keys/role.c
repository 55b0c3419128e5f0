/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One poll loop. A channel is read only while it has tokens left and no answer that its other side does not take, so what waits for
 * us waits in its socket, whose size is the bound. Each key may be there several times over, the newest few by number: old
 * and new certificates are in use side by side while a key is replaced, and a request says which it means.
 */
#include "gateway/keys/role.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "gateway/base/buf.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/ident.h"
#include "gateway/keys/proto.h"
#include "gateway/process/child.h"
#include "gateway/process/ipc.h"

#define KEY_FILE_MAX 65536
#define KEYS_PER_NUMBER 4
#define KEYS_MAX 64
#define SECURE_HEAP (256 * 1024)
#define RATE_PER_S 5000        /* signatures for one worker; a core makes about 30,000 of P-256 */
#define TURN 16                /* requests of one channel before the next has its turn */
#define CHANNELS_MAX 1024

struct private_key {
	uint16_t number;
	enum keys_type type;
	uint8_t id[KEYS_ID_LEN];
	EVP_PKEY *pkey;
	EVP_MD_CTX *md;          /* reused */
	uint64_t signatures;
};

struct channel {
	int fd;                  /* -1: gone, removed at the end of the turn */
	uint16_t role, index;
	uint32_t tokens;         /* in thousandths of a request */
	uint64_t refilled_ms;
	bool held;               /* "out" waits for room */
	uint16_t out_type;
	uint8_t *out;            /* the one answer that did not go */
	size_t out_len;
	struct log_limit throttled_log;
};

struct state {
	int master;
	bool stop;
	struct private_key keys[KEYS_MAX];
	size_t nkeys;
	struct channel *channels;
	size_t nchannels, cap;
	bool locked;
	uint64_t started_ms, signatures, no_key, bad_scheme, failed, abuse, throttled;
	uint8_t buf[IPC_MAX_DATA + 16];
};

/* ---- keys ---------------------------------------------------------------------------------------- */

static int
no_password(char *out, int size, int writing, void *arg)
{
	(void)out, (void)size, (void)writing, (void)arg;
	return -1; /* never ask on a terminal */
}

static void
private_key_fini(struct private_key *k)
{
	EVP_MD_CTX_free(k->md);
	EVP_PKEY_free(k->pkey);
	mem_wipe(k, sizeof(*k));
}

/* The whole file into memory of the secure heap. */
static EVP_PKEY *
read_key(int fd, const char **why)
{
	char *text = OPENSSL_secure_malloc(KEY_FILE_MAX);
	EVP_PKEY *key = NULL;
	size_t len = 0;
	ssize_t n = 1;
	BIO *in = NULL;

	*why = "no memory for it";
	if (!text)
		return NULL;
	while (len < KEY_FILE_MAX && (n = pread(fd, text + len, KEY_FILE_MAX - len, (off_t)len)) > 0)
		len += (size_t)n;
	if (n < 0)
		*why = strerror(errno);
	else if (n > 0)
		*why = "larger than 64 KiB";
	else if ((in = BIO_new_mem_buf(text, (int)len))) {
		*why = "no PEM private key in it, or one that is encrypted";
		key = PEM_read_bio_PrivateKey(in, NULL, no_password, NULL);
	}
	BIO_free(in);
	OPENSSL_secure_clear_free(text, KEY_FILE_MAX);
	ERR_clear_error();
	return key;
}

/* Keeps the newest KEYS_PER_NUMBER of each number. */
static void
make_room(struct state *st, uint16_t number)
{
	size_t same = 0, oldest = st->nkeys;

	for (size_t i = 0; i < st->nkeys; i++)
		if (st->keys[i].number == number && !same++)
			oldest = i;
	if (same < KEYS_PER_NUMBER)
		return;
	private_key_fini(&st->keys[oldest]);
	st->nkeys--;
	memmove(&st->keys[oldest], &st->keys[oldest + 1], (st->nkeys - oldest) * sizeof(*st->keys));
}

/* What the configuration calls it. */
static const char *
key_option(uint16_t number)
{
	return number == 0 ? "identity.key" : number == 1 ? "inside.key" : "?";
}

/* Takes the descriptor. */
static int
add_key(struct state *st, uint16_t number, int fd)
{
	struct private_key k = { .number = number };
	const char *why;
	int type = -1;

	k.pkey = read_key(fd, &why);
	close(fd);
	if (k.pkey)
		type = keys_ident_type(k.pkey, &why);
	if (type < 0 || keys_ident_id(k.pkey, k.id) < 0 || !(k.md = EVP_MD_CTX_new())) {
		log_error("key=%s cannot be used: %s", key_option(number), why);
		private_key_fini(&k);
		return -1;
	}
	k.type = (enum keys_type)type;
	for (size_t i = 0; i < st->nkeys; i++)
		if (st->keys[i].number == number && !memcmp(st->keys[i].id, k.id, KEYS_ID_LEN)) {
			private_key_fini(&k);
			return 0;
		}
	make_room(st, number);
	if (st->nkeys == KEYS_MAX) {
		log_error("key=%s cannot be used: more than %d keys", key_option(number), KEYS_MAX);
		private_key_fini(&k);
		return -1;
	}
	st->keys[st->nkeys++] = k;
	log_info("key=%s type=\"%s\" loaded", key_option(number), keys_ident_text(k.type));
	return 0;
}

static struct private_key *
find_key(struct state *st, uint16_t number, const uint8_t id[KEYS_ID_LEN])
{
	for (size_t i = st->nkeys; i-- > 0;)
		if (st->keys[i].number == number && !memcmp(st->keys[i].id, id, KEYS_ID_LEN))
			return &st->keys[i];
	return NULL;
}

static enum keys_status
sign(struct private_key *k, const struct keys_sign *m, uint8_t *sig, size_t *len)
{
	EVP_PKEY_CTX *pctx = NULL; /* the digest context's */
	bool ok;

	EVP_MD_CTX_reset(k->md);
	ok = EVP_DigestSignInit_ex(k->md, &pctx, keys_ident_digest(m->scheme), NULL, NULL, k->pkey, NULL) == 1;
	if (ok && k->type == KEYS_RSA) /* RFC 8446 4.2.3: the salt is as long as the digest */
		ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) > 0 &&
		    EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) > 0;
	ok = ok && EVP_DigestSign(k->md, sig, len, m->tbs, m->tbs_len) == 1;
	if (ok)
		return KEYS_OK;
	ERR_clear_error();
	return KEYS_FAILED;
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
	mem_grow(&st->channels, &st->cap, st->nchannels + 1, sizeof(*st->channels));
	ch = &st->channels[st->nchannels++];
	memset(ch, 0, sizeof(*ch));
	ch->fd = f->fd;
	ch->role = (uint16_t)role;
	ch->index = f->arg & 0xff;
	ch->tokens = RATE_PER_S * 1000u;
	ch->refilled_ms = clock_mono_ms();
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

static bool
channel_may_ask(struct state *st, struct channel *ch)
{
	uint64_t now = clock_mono_ms(), add = (now - ch->refilled_ms) * RATE_PER_S;
	uint32_t suppressed;

	if (add >= RATE_PER_S * 1000u - ch->tokens)
		ch->tokens = RATE_PER_S * 1000u;
	else
		ch->tokens += (uint32_t)add;
	ch->refilled_ms = now;
	if (ch->tokens >= 1000)
		return true;
	st->throttled++;
	if (log_limit_ok(&ch->throttled_log, 1, &suppressed))
		log_warn("worker=%u asks for more than %d signatures a second: it has to wait suppressed=%u", ch->index, RATE_PER_S, suppressed);
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

static void
on_sign(struct state *st, struct channel *ch, const struct ipc_msg *msg)
{
	uint8_t sig[KEYS_SIG_MAX], out[KEYS_SIGNED_MAX];
	struct keys_signed answer = { 0 };
	struct private_key *k;
	struct keys_sign m;
	size_t len = sizeof(sig);

	if (keys_proto_get_sign(&m, msg->data, msg->len) < 0) {
		channel_abuse(st, ch, "a malformed request");
		return;
	}
	ch->tokens -= ch->tokens >= 1000 ? 1000 : ch->tokens;
	answer.id = m.id;
	if (!keys_proto_is_certificate_verify(m.tbs, m.tbs_len)) {
		answer.status = KEYS_REFUSED;
		len = keys_proto_put_signed(out, &answer);
		channel_send(ch, KEYS_MSG_SIGNED, out, len);
		channel_abuse(st, ch, "not the input of a CertificateVerify");
		return;
	}
	k = find_key(st, m.key, m.key_id);
	if (!k) {
		answer.status = KEYS_NO_KEY;
		st->no_key++;
	} else if (!keys_ident_fits(k->type, m.scheme)) {
		answer.status = KEYS_BAD_SCHEME;
		st->bad_scheme++;
	} else {
		answer.status = sign(k, &m, sig, &len);
		if (answer.status == KEYS_OK) {
			answer.sig = sig;
			answer.sig_len = len;
			st->signatures++;
			k->signatures++;
		} else {
			st->failed++;
		}
	}
	len = keys_proto_put_signed(out, &answer);
	channel_send(ch, KEYS_MSG_SIGNED, out, len);
}

static void
on_status(struct state *st, struct channel *ch)
{
	struct buf b;

	buf_init(&b, IPC_MAX_DATA);
	buf_printf(&b, "{\"role\":\"keys\",\"uptime_ms\":%llu,\"memory_locked\":%s,\"key_memory\":%zu,\"signatures\":%llu,\"no_key\":%llu,\"bad_scheme\":%llu,"
	               "\"failed\":%llu,\"abuse\":%llu,\"throttled\":%llu,\"channels\":%zu,\"keys\":[",
	    (unsigned long long)(clock_mono_ms() - st->started_ms), st->locked ? "true" : "false", CRYPTO_secure_used(),
	    (unsigned long long)st->signatures,
	    (unsigned long long)st->no_key, (unsigned long long)st->bad_scheme, (unsigned long long)st->failed,
	    (unsigned long long)st->abuse, (unsigned long long)st->throttled, st->nchannels);
	for (size_t i = 0; i < st->nkeys; i++) {
		const struct private_key *k = &st->keys[i];

		buf_printf(&b, "%s{\"number\":%u,\"type\":\"%s\",\"signatures\":%llu,\"public_id\":\"", i ? "," : "", k->number,
		    keys_ident_text(k->type), (unsigned long long)k->signatures);
		for (size_t j = 0; j < KEYS_ID_LEN; j++)
			buf_printf(&b, "%02x", k->id[j]);
		buf_puts(&b, "\"}");
	}
	buf_puts(&b, "]}");
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
	if (f->kind == ROLE_FD_CHANNEL)
		channel_add(st, f);
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

	while (!st->stop && (r = ipc_recv(st->master, st->buf, &msg)) != 0) {
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

static void
turn(struct state *st, struct pollfd *pfds)
{
	int timeout = -1;
	size_t n = st->nchannels;

	pfds[0] = (struct pollfd){ .fd = st->master, .events = POLLIN };
	for (size_t i = 0; i < n; i++) {
		struct channel *ch = &st->channels[i];

		pfds[i + 1] = (struct pollfd){ .fd = ch->fd, .events = ch->held ? POLLOUT : POLLIN };
		if (!ch->held && ch->tokens < 1000) {
			pfds[i + 1].events = 0;
			timeout = 2;
		}
	}
	if (poll(pfds, n + 1, timeout) < 0)
		return; /* EINTR */
	/* First: a key that master sent before it told a worker of the certificate is there before that worker asks. */
	if (pfds[0].revents)
		on_master(st);
	for (size_t i = 0; i < n; i++) {
		struct channel *ch = &st->channels[i];

		if (ch->held && (pfds[i + 1].revents & (POLLOUT | POLLERR | POLLHUP)))
			channel_flush(ch);
		else if (ch->fd >= 0 && !ch->held && ((pfds[i + 1].revents & (POLLIN | POLLERR | POLLHUP)) || !pfds[i + 1].events))
			on_channel(st, ch);
	}
	channels_sweep(st);
}

int
keys_main(struct role_env *env)
{
	struct state *st = mem_zalloc(sizeof(*st));
	struct pollfd *pfds = mem_array(CHANNELS_MAX + 1, sizeof(*pfds));
	int rc = 1;

	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	st->master = env->master;
	st->started_ms = clock_mono_ms();
	/* Locked, guarded and kept out of core files (1); or all but locked, where RLIMIT_MEMLOCK is too small (2). */
	st->locked = CRYPTO_secure_malloc_init(SECURE_HEAP, 32) == 1;
	if (!st->locked)
		log_warn("key memory could not be locked: raise LimitMEMLOCK to at least 512K");
	for (unsigned i = 0; i < env->nfds; i++) {
		struct role_env_fd *f = &env->fds[i];

		if (f->kind != ROLE_FD_KEY && f->kind != ROLE_FD_CHANNEL)
			continue;
		if (take_fd(st, f) < 0)
			goto out; /* at start every key must work */
		f->fd = -1;
	}
	if (child_ready(env) < 0)
		goto out;
	while (!st->stop)
		turn(st, pfds);
	rc = 0;
out:
	for (size_t i = 0; i < st->nkeys; i++)
		private_key_fini(&st->keys[i]);
	for (size_t i = 0; i < st->nchannels; i++)
		channel_close(&st->channels[i]);
	channels_sweep(st);
	mem_free(st->channels);
	mem_wipe(st, sizeof(*st));
	mem_free(st);
	mem_free(pfds);
	return rc;
}
