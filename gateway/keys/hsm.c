/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/keys/hsm.h"

#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/keys/held.h"
#include "gateway/process/ipc.h"
#include "gateway/process/sandbox.h"

#define WHY_MAX 256
#define TRIES 2              /* helpers that may end over one request */

struct ticket {
	uint64_t id;             /* place in the low 8 bits, counter above; 0: free */
	uint64_t who, theirs;    /* the asker, and its id */
	uint64_t deadline;
	uint16_t number, type;   /* KEYS_MSG_SIGN or KEYS_HSM_CSR */
	bool sent;
	unsigned tries;
	uint8_t *msg;
	size_t len;
};

struct wanted {
	char *uri;               /* NULL: not wanted */
	int pin_fd;
	enum { ASKED, READY, LACKING } state;
	bool hopeless;           /* the PIN is wrong: not tried again before there is another */
	char why[WHY_MAX];
};

struct keys_hsm {
	int fd;
	const char *given;
	const struct keys_hsm_ops *ops;
	void *ctx;
	bool here;               /* a helper said hello */
	unsigned starts;
	uint32_t bits, pid;
	char via[16], fault[WHY_MAX];
	uint64_t last;
	struct wanted keys[KEYS_NUMBERS];
	struct ticket tickets[KEYS_HSM_TICKETS];
	uint8_t buf[IPC_MAX_DATA + 16];
};

struct keys_hsm *
keys_hsm_new(int fd, const char *given, const struct keys_hsm_ops *ops, void *ctx)
{
	struct keys_hsm *h = mem_zalloc(sizeof(*h));

	h->fd = fd;
	h->given = given;
	h->ops = ops;
	h->ctx = ctx;
	for (size_t i = 0; i < KEYS_NUMBERS; i++)
		h->keys[i].pin_fd = -1;
	return h;
}

static void
ticket_free(struct ticket *t)
{
	mem_free(t->msg);
	memset(t, 0, sizeof(*t));
}

void
keys_hsm_free(struct keys_hsm *h)
{
	if (!h)
		return;
	if (h->fd >= 0)
		close(h->fd);
	for (size_t i = 0; i < KEYS_HSM_TICKETS; i++)
		ticket_free(&h->tickets[i]);
	for (size_t i = 0; i < KEYS_NUMBERS; i++) {
		mem_free(h->keys[i].uri);
		if (h->keys[i].pin_fd >= 0)
			close(h->keys[i].pin_fd);
	}
	mem_free(h);
}

int
keys_hsm_fd(const struct keys_hsm *h)
{
	return h ? h->fd : -1;
}

/* ---- keys ---- */

static void
send_key(struct keys_hsm *h, uint16_t number)
{
	struct wanted *w = &h->keys[number];

	if (!h->here || !w->uri || w->hopeless)
		return;
	w->state = ASKED;
	if (ipc_send(h->fd, KEYS_HSM_KEY, number, w->uri, strlen(w->uri), &w->pin_fd, w->pin_fd >= 0 ? 1 : 0) != 0)
		log_error("key=%s could not be asked for: the HSM's process does not read", keys_held_option(number));
}

int
keys_hsm_want(struct keys_hsm *h, uint16_t number, const char *uri, int pin_fd)
{
	struct wanted *w = number < KEYS_NUMBERS ? &h->keys[number] : NULL;

	if (!w || strlen(uri) > KEYS_HSM_URI_MAX) {
		if (pin_fd >= 0)
			close(pin_fd);
		return -1;
	}
	if (w->pin_fd >= 0)
		close(w->pin_fd);
	w->pin_fd = pin_fd;
	if (w->state == READY && w->uri && !strcmp(w->uri, uri))
		return 0;
	mem_free(w->uri);
	w->uri = mem_strdup(uri);
	w->state = ASKED;
	w->hopeless = false;
	w->why[0] = '\0';
	send_key(h, number);
	return 0;
}

bool
keys_hsm_wanted(const struct keys_hsm *h, uint16_t number)
{
	return h && number < KEYS_NUMBERS && h->keys[number].uri;
}

bool
keys_hsm_settled(const struct keys_hsm *h, uint16_t *missing, const char **why)
{
	*why = NULL;
	for (uint16_t i = 0; i < KEYS_NUMBERS; i++) {
		const struct wanted *w = &h->keys[i];

		if (!w->uri || w->state == READY)
			continue;
		*missing = i;
		*why = h->fault[0] ? h->fault : w->why;
		if (w->state == ASKED && !h->fault[0])
			return false;
	}
	return true;
}

/* ---- tickets ---- */

static void
ticket_answer(struct keys_hsm *h, struct ticket *t, enum keys_status status)
{
	struct keys_signed sig = { .id = t->theirs, .status = (uint16_t)status };
	struct keys_csr_done csr = { .id = t->theirs, .status = (uint16_t)status };
	uint64_t who = t->who;
	bool sign = t->type == KEYS_MSG_SIGN;

	ticket_free(t);
	if (sign)
		h->ops->on_signed(h->ctx, who, &sig);
	else
		h->ops->on_csr(h->ctx, who, &csr);
}

static void
ticket_send(struct keys_hsm *h, struct ticket *t)
{
	if (h->here && h->keys[t->number].state == READY && !t->sent)
		t->sent = ipc_send(h->fd, t->type, 0, t->msg, t->len, NULL, 0) == 0;
}

/* Those of a number: sent, or answered. */
static void
tickets_of(struct keys_hsm *h, uint16_t number, bool lacking)
{
	for (size_t i = 0; i < KEYS_HSM_TICKETS; i++) {
		struct ticket *t = &h->tickets[i];

		if (!t->id || t->number != number)
			continue;
		if (lacking)
			ticket_answer(h, t, KEYS_AWAY);
		else
			ticket_send(h, t);
	}
}

static struct ticket *
ticket_new(struct keys_hsm *h, uint64_t who, uint64_t theirs, uint16_t number, uint16_t type, size_t max)
{
	for (size_t i = 0; i < KEYS_HSM_TICKETS; i++) {
		struct ticket *t = &h->tickets[i];

		if (t->id)
			continue;
		*t = (struct ticket){
			.id = ++h->last << 8 | i, .who = who, .theirs = theirs, .number = number, .type = type,
			.deadline = clock_mono_ms() + KEYS_HSM_WAIT_MS, .msg = mem_alloc(max),
		};
		return t;
	}
	return NULL;
}

static enum keys_status
can(const struct keys_hsm *h, uint16_t number)
{
	return h->fd < 0 || !keys_hsm_wanted(h, number) || h->keys[number].state == LACKING ? KEYS_AWAY : KEYS_OK;
}

enum keys_status
keys_hsm_sign(struct keys_hsm *h, uint64_t who, const struct keys_sign *m)
{
	struct keys_sign copy = *m;
	struct ticket *t;

	if (can(h, m->key) != KEYS_OK)
		return KEYS_AWAY;
	t = ticket_new(h, who, m->id, m->key, KEYS_MSG_SIGN, KEYS_SIGN_MAX);
	if (!t)
		return KEYS_BUSY;
	copy.id = t->id;
	t->len = keys_proto_put_sign(t->msg, &copy);
	ticket_send(h, t);
	return KEYS_OK;
}

enum keys_status
keys_hsm_csr(struct keys_hsm *h, uint64_t who, const struct keys_csr *m, const uint8_t *cert, size_t len)
{
	struct keys_csr copy = *m;
	struct ticket *t;

	if (can(h, m->key) != KEYS_OK)
		return KEYS_AWAY;
	if (len > IPC_MAX_DATA - KEYS_CSR_LEN)
		return KEYS_FAILED;
	t = ticket_new(h, who, m->id, m->key, KEYS_HSM_CSR, KEYS_CSR_LEN + len);
	if (!t)
		return KEYS_BUSY;
	copy.id = t->id;
	t->len = keys_proto_put_csr(t->msg, &copy);
	memcpy(t->msg + t->len, cert, len);
	t->len += len;
	ticket_send(h, t);
	return KEYS_OK;
}

int
keys_hsm_tick(struct keys_hsm *h, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < KEYS_HSM_TICKETS; i++) {
		struct ticket *t = &h->tickets[i];

		if (t->id && now >= t->deadline)
			ticket_answer(h, t, KEYS_AWAY);
		else if (t->id && t->deadline < next)
			next = t->deadline;
	}
	return next == UINT64_MAX ? -1 : (int)(next - now);
}

/* ---- what the helper says ---- */

/* Text of another process: for one line of the log. */
static void
take_text(char *out, size_t size, const uint8_t *p, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < size; i++)
		out[n++] = p[i] >= ' ' && p[i] < 0x7f ? (char)p[i] : '?';
	out[n] = '\0';
}

static int
on_hello(struct keys_hsm *h, const struct ipc_msg *m)
{
	if (m->len < 8)
		return -1;
	h->bits = le_get32(m->data);
	h->pid = le_get32(m->data + 4);
	take_text(h->via, sizeof(h->via), m->data + 8, m->len - 8);
	h->here = true;
	h->fault[0] = '\0';
	h->starts++;
	for (size_t i = 0; i < KEYS_HSM_TICKETS; i++) {
		struct ticket *t = &h->tickets[i];

		t->tries += t->sent;
		t->sent = false;
		if (t->id && t->tries >= TRIES)
			ticket_answer(h, t, KEYS_AWAY);
	}
	if (ipc_send(h->fd, KEYS_HSM_START, 0, NULL, 0, NULL, 0) != 0)
		return -1;
	for (uint16_t i = 0; i < KEYS_NUMBERS; i++)
		send_key(h, i);
	return 0;
}

static int
on_has(struct keys_hsm *h, const struct ipc_msg *m)
{
	const uint8_t *p = m->data;
	EVP_PKEY *public = NULL;

	if (!keys_hsm_wanted(h, m->arg) || h->keys[m->arg].state == READY)
		return -1;
	public = d2i_PUBKEY(NULL, &p, (long)m->len);
	ERR_clear_error();
	if (!public)
		return -1;
	h->keys[m->arg].state = READY;
	h->keys[m->arg].why[0] = '\0';
	h->ops->on_key(h->ctx, m->arg, public);
	tickets_of(h, m->arg, false);
	return 0;
}

static int
on_lacks(struct keys_hsm *h, const struct ipc_msg *m)
{
	char why[WHY_MAX];
	struct wanted *w;

	if (!keys_hsm_wanted(h, m->arg) || m->len < 1)
		return -1;
	w = &h->keys[m->arg];
	w->state = LACKING;
	w->hopeless = m->data[0] == 1;
	take_text(why, sizeof(why), m->data + 1, m->len - 1);
	if (strcmp(why, w->why))
		log_error("key=%s cannot be had from the HSM: %s; %s", keys_held_option(m->arg), why,
		    w->hopeless ? "it is not tried again before a reload, lest the token locks itself" : "it is tried again and again");
	memcpy(w->why, why, sizeof(why));
	tickets_of(h, m->arg, true);
	return 0;
}

static struct ticket *
ticket_find(struct keys_hsm *h, uint64_t id, uint16_t type)
{
	struct ticket *t = &h->tickets[(id & 0xff) % KEYS_HSM_TICKETS];

	return id && t->id == id && t->type == type && t->sent ? t : NULL; /* it may have waited too long */
}

static int
on_message(struct keys_hsm *h, const struct ipc_msg *m)
{
	struct keys_csr_done csr;
	struct keys_signed sig;
	struct ticket *t;
	uint64_t who;

	switch (m->type) {
	case KEYS_HSM_HELLO:
		return on_hello(h, m);
	case KEYS_HSM_FAULT:
		take_text(h->fault, sizeof(h->fault), m->data, m->len);
		h->here = false;
		log_error("hsm: %s", h->fault);
		return 0;
	case KEYS_HSM_HAS:
		return on_has(h, m);
	case KEYS_HSM_LACKS:
		return on_lacks(h, m);
	case KEYS_MSG_SIGNED:
		if (keys_proto_get_signed(&sig, m->data, m->len) < 0)
			return -1;
		if (!(t = ticket_find(h, sig.id, KEYS_MSG_SIGN)))
			return 0;
		if (sig.status == KEYS_REFUSED || sig.status == KEYS_BUSY)
			sig.status = KEYS_FAILED; /* not its to say */
		sig.id = t->theirs;
		who = t->who;
		ticket_free(t);
		h->ops->on_signed(h->ctx, who, &sig);
		return 0;
	case KEYS_MSG_CSR_DONE:
		if (keys_proto_get_csr_done(&csr, m->data, m->len) < 0)
			return -1;
		if (!(t = ticket_find(h, csr.id, KEYS_HSM_CSR)))
			return 0;
		csr.id = t->theirs;
		who = t->who;
		ticket_free(t);
		h->ops->on_csr(h->ctx, who, &csr);
		return 0;
	default:
		return -1;
	}
}

void
keys_hsm_on_readable(struct keys_hsm *h)
{
	struct ipc_msg m;
	int r = 0;

	for (int i = 0; i < KEYS_HSM_TICKETS && (r = ipc_recv(h->fd, h->buf, &m)) > 0; i++) {
		if (m.nfds || on_message(h, &m) < 0) {
			ipc_msg_close(&m);
			r = -1;
			break;
		}
	}
	if (r >= 0)
		return;
	log_error("hsm: its process %s; keys in the HSM are gone until the keys role is restarted", r == -1 ? "ended" : "is not to be trusted");
	close(h->fd);
	h->fd = -1;
	h->here = false;
	for (uint16_t i = 0; i < KEYS_NUMBERS; i++) {
		h->keys[i].state = LACKING;
		tickets_of(h, i, true);
	}
}

/* ---- status ---- */

static void
put_text(struct buf *out, const char *text)
{
	buf_puts(out, "\"");
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			buf_printf(out, "\\%c", *text);
		else if ((unsigned char)*text >= ' ')
			buf_append(out, text, 1);
	buf_puts(out, "\"");
}

/* The lines of "given" that begin so, as a list of texts. */
static void
put_lines(struct buf *out, const char *given, const char *what)
{
	const char *sep = "";

	buf_puts(out, "[");
	for (const char *line = given; line && *line;) {
		const char *end = strchr(line, '\n');
		size_t len = end ? (size_t)(end - line) : strlen(line), skip = strlen(what);

		if (len > skip && !strncmp(line, what, skip)) {
			char *text = mem_strndup(line + skip, len - skip);

			buf_puts(out, sep);
			put_text(out, text);
			mem_free(text);
			sep = ",";
		}
		line = end ? end + 1 : NULL;
	}
	buf_puts(out, "]");
}

void
keys_hsm_status(const struct keys_hsm *h, struct buf *out)
{
	const char *sep = "";

	buf_printf(out, "{\"running\":%s,\"via\":", h->here ? "true" : "false");
	put_text(out, h->via);
	buf_puts(out, ",\"fault\":");
	put_text(out, h->fault);
	buf_printf(out, ",\"pid\":%u,\"starts\":%u,\"module\":", h->pid, h->starts);
	put_lines(out, h->given, "module ");
	buf_puts(out, ",\"paths\":");
	put_lines(out, h->given, "path ");
	buf_puts(out, ",\"sandbox\":[");
	for (unsigned i = 0; sandbox_bit_name(i); i++)
		if (h->bits >> i & 1) {
			buf_printf(out, "%s\"%s\"", sep, sandbox_bit_name(i));
			sep = ",";
		}
	buf_puts(out, "],\"keys\":[");
	sep = "";
	for (uint16_t i = 0; i < KEYS_NUMBERS; i++) {
		const struct wanted *w = &h->keys[i];
		static const char *const states[] = { [ASKED] = "asked", [READY] = "ready", [LACKING] = "away" };

		if (!w->uri)
			continue;
		buf_printf(out, "%s{\"number\":%u,\"option\":\"%s\",\"state\":\"%s\",\"why\":", sep, i, keys_held_option(i), states[w->state]);
		put_text(out, w->why);
		buf_puts(out, "}");
		sep = ",";
	}
	buf_puts(out, "]}");
}
