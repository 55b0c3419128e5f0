/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects and lifetimes:
 *
 *   slot    one signature that was asked for; lives from keys_client_sign()'s start to its end, in the call itself, which is
 *           suspended in between. As many as there are ASYNC jobs, and one for a caller outside a job.
 *   park    one handshake; its owner's. It points to its slot while it is suspended in a signature, or stands in the queue "waiting"
 *           while OpenSSL has no job for it.
 *   csr     one certificate request that was asked for; ends with its done(), or at once when cancelled
 *
 * An answer names its slot by number and generation, so one that comes too late meets nothing. Callbacks run from the loop only;
 * any of them may free any park, so that nothing is remembered across one.
 */
#include "gateway/keys/client.h"

#include <poll.h>
#include <string.h>

#include <openssl/async.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/keys/provider.h"
#include "gateway/process/ipc.h"

#define SLOTS (KEYS_JOBS_MAX + 1)
#define WAKES_PER_CALL 8       /* each may cost half a millisecond of handshake */
#define WAITING_US 4000
#define BLOCK_MS 5000

enum slot_state {
	SLOT_FREE,
	SLOT_QUEUED,    /* the channel was full; sent after the next answer */
	SLOT_SENT,
	SLOT_ANSWERED,  /* or failed; ends when the suspended call goes on */
};

struct keys_slot {
	enum slot_state state;
	uint64_t id;             /* number in the low 16 bits, generation above */
	struct keys_park *park;  /* NULL: a blocking caller */
	bool wake;               /* answered, its owner not yet told */
	int status;              /* of the answer: enum keys_status, or -1 when the channel died */
	uint8_t *sig;            /* the caller's */
	size_t sig_cap, sig_len;
	uint8_t msg[KEYS_SIGN_MAX];
	size_t msg_len;
	TAILQ_ENTRY(keys_slot) entry; /* in "unsent" or "unused" */
};
TAILQ_HEAD(slot_list, keys_slot);

struct csr {
	keys_csr_fn *done;       /* NULL: free */
	void *ctx;
	uint64_t id;
	bool answered;           /* done() is due */
	const char *why;
	uint8_t *der;
	size_t der_len;
};

static struct {
	bool ready;
	int fd;
	unsigned used;                      /* slots not free */
	unsigned nwaiting;
	bool deferred;                      /* a blocking caller read answers of others */
	struct keys_park *current;
	struct slot_list unused, unsent;
	TAILQ_HEAD(, keys_park) waiting;
	struct keys_slot slots[SLOTS];
	struct csr csrs[KEYS_CSR_PENDING_MAX];
	uint64_t last_csr;
	uint8_t buf[IPC_MAX_DATA + 16];
} c = { .fd = -1 };

int
keys_client_init(int fd, const char **why)
{
	if (c.ready) {
		*why = "the keys client was started twice";
		return -1;
	}
	if (keys_provider_load(why) < 0)
		return -1;
	if (!ASYNC_is_capable() || !ASYNC_init_thread(KEYS_JOBS_MAX, 0)) {
		*why = "OpenSSL has no ASYNC jobs on this system";
		return -1;
	}
	TAILQ_INIT(&c.unused);
	TAILQ_INIT(&c.unsent);
	TAILQ_INIT(&c.waiting);
	for (size_t i = 0; i < SLOTS; i++) {
		c.slots[i].id = i;
		TAILQ_INSERT_TAIL(&c.unused, &c.slots[i], entry);
	}
	c.fd = fd;
	c.ready = true;
	return 0;
}

unsigned
keys_client_pending(void)
{
	return c.used;
}

/* ---- parks ------------------------------------------------------------------------------------- */

void
keys_park_init(struct keys_park *p, void (*on_wake)(void *ctx), void *ctx)
{
	memset(p, 0, sizeof(*p));
	p->on_wake = on_wake;
	p->ctx = ctx;
}

void
keys_park_enter(struct keys_park *p)
{
	c.current = p;
	p->entries++;
}

void
keys_park_leave(struct keys_park *p)
{
	(void)p;
	c.current = NULL;
}

bool
keys_park_waiting(const struct keys_park *p)
{
	return p->queued || (p->slot && p->slot->state != SLOT_ANSWERED);
}

int
keys_park_want_job(struct keys_park *p)
{
	if (p->queued)
		return 0;
	if (c.nwaiting >= KEYS_WAIT_MAX)
		return -1;
	TAILQ_INSERT_TAIL(&c.waiting, p, entry);
	c.nwaiting++;
	p->queued = true;
	return 0;
}

static void
unqueue(struct keys_park *p)
{
	TAILQ_REMOVE(&c.waiting, p, entry);
	c.nwaiting--;
	p->queued = false;
}

const char *
keys_park_failure(const struct keys_park *p)
{
	return p->why;
}

void
keys_park_cancel(struct keys_park *p)
{
	if (p->queued)
		unqueue(p);
	p->cancelled = true;
	if (p->slot)
		p->slot->wake = false;
	if (c.current == p)
		c.current = NULL;
}

/* ---- slots ------------------------------------------------------------------------------------- */

static struct keys_slot *
slot_take(struct keys_park *park)
{
	struct keys_slot *s = TAILQ_FIRST(&c.unused);

	if (!s)
		return NULL;
	TAILQ_REMOVE(&c.unused, s, entry);
	c.used++;
	s->id += 1 << 16;
	s->park = park;
	s->wake = false;
	s->sig_len = 0;
	if (park)
		park->slot = s;
	return s;
}

static void
slot_release(struct keys_slot *s)
{
	if (s->state == SLOT_QUEUED)
		TAILQ_REMOVE(&c.unsent, s, entry);
	if (s->park)
		s->park->slot = NULL;
	s->state = SLOT_FREE;
	s->park = NULL;
	s->sig = NULL;
	c.used--;
	/* At the end, so that generations spread. */
	TAILQ_INSERT_TAIL(&c.unused, s, entry);
}

static void
slot_answer(struct keys_slot *s, int status)
{
	if (s->state == SLOT_QUEUED)
		TAILQ_REMOVE(&c.unsent, s, entry);
	s->state = SLOT_ANSWERED;
	s->status = status;
	s->wake = s->park && !s->park->cancelled;
}

/* 0 sent or queued, -1 the channel is dead. */
static int
slot_send(struct keys_slot *s)
{
	int r = -1;

	if (TAILQ_EMPTY(&c.unsent))
		r = ipc_send(c.fd, KEYS_MSG_SIGN, 0, s->msg, s->msg_len, NULL, 0);
	if (r == -2)
		return -1;
	if (r == 0) {
		s->state = SLOT_SENT;
	} else {
		s->state = SLOT_QUEUED;
		TAILQ_INSERT_TAIL(&c.unsent, s, entry);
	}
	return 0;
}

/* What the channel did not take earlier. It was full of our requests, so their answers bring us here. */
static void
send_queued(void)
{
	struct keys_slot *s;

	while ((s = TAILQ_FIRST(&c.unsent))) {
		if (ipc_send(c.fd, KEYS_MSG_SIGN, 0, s->msg, s->msg_len, NULL, 0) != 0)
			return; /* a dead channel shows when it is read */
		TAILQ_REMOVE(&c.unsent, s, entry);
		s->state = SLOT_SENT;
	}
}

/* ---- answers ----------------------------------------------------------------------------------- */

static void
csr_answer(struct csr *r, const uint8_t *der, size_t len, const char *why)
{
	if (der) {
		r->der = mem_alloc(len);
		memcpy(r->der, der, len);
		r->der_len = len;
	}
	r->why = why;
	r->answered = true;
}

static int
csr_received(const struct ipc_msg *msg)
{
	struct keys_csr_done m;

	if (keys_proto_get_csr_done(&m, msg->data, msg->len) < 0)
		return -1;
	for (size_t i = 0; i < KEYS_CSR_PENDING_MAX; i++) {
		struct csr *r = &c.csrs[i];

		if (r->done && r->id == m.id && !r->answered)
			csr_answer(r, m.status == KEYS_OK ? m.der : NULL, m.der_len,
			    m.status == KEYS_BUSY ? "too many certificate requests" : keys_status_text(m.status));
	}
	return 0;
}

/* From the loop; done() may ask again. */
static void
csr_tell(void)
{
	for (size_t i = 0; i < KEYS_CSR_PENDING_MAX; i++) {
		struct csr r = c.csrs[i];

		if (!r.done || !r.answered)
			continue;
		memset(&c.csrs[i], 0, sizeof(c.csrs[i]));
		r.done(r.ctx, r.der, r.der_len, r.der ? NULL : r.why);
		mem_free(r.der);
	}
}

/* One message: 1 it answered a slot, 0 nothing there, -1 the channel is dead or speaks nonsense. */
static int
receive(struct keys_slot **out)
{
	struct keys_signed m;
	struct keys_slot *s;
	struct ipc_msg msg;
	int r;

	for (;;) {
		if (c.fd < 0)
			return -1;
		r = ipc_recv(c.fd, c.buf, &msg);
		if (r <= 0)
			return r < 0 ? -1 : 0;
		if (msg.nfds) {
			ipc_msg_close(&msg);
			return -1;
		}
		if (msg.type == KEYS_MSG_CSR_DONE) {
			if (csr_received(&msg) < 0)
				return -1;
			continue;
		}
		if (msg.type != KEYS_MSG_SIGNED || keys_proto_get_signed(&m, msg.data, msg.len) < 0)
			return -1;
		s = &c.slots[(m.id & 0xffff) % SLOTS];
		if (s->id != m.id || s->state != SLOT_SENT)
			continue; /* it was cancelled meanwhile */
		if (m.sig_len > s->sig_cap) {
			slot_answer(s, KEYS_FAILED);
		} else {
			if (m.sig_len)
				memcpy(s->sig, m.sig, m.sig_len);
			s->sig_len = m.sig_len;
			slot_answer(s, m.status);
		}
		*out = s;
		return 1;
	}
}

static void
wake_slot(struct keys_slot *s)
{
	if (!s->wake)
		return;
	s->wake = false;
	s->park->on_wake(s->park->ctx);
}

/* Those that wait for a job go on: all that can, but not for long at a time while an answer is still to come and bring us back here. */
static void
wake_waiting(unsigned at_least)
{
	uint64_t start = clock_mono_us();
	struct keys_park *p;

	while ((p = TAILQ_FIRST(&c.waiting)) && (c.used < KEYS_JOBS_MAX || at_least)) {
		unqueue(p);
		p->on_wake(p->ctx);
		if (at_least)
			at_least--;
		if (c.used && !at_least && clock_mono_us() - start > WAITING_US)
			break;
	}
}

/* What is outstanding fails, and its handshakes are told; their number. Those that wait for a job wait for the next keys role. */
static unsigned
channel_dead(void)
{
	unsigned told = 0;

	c.fd = -1;
	for (size_t i = 0; i < SLOTS; i++)
		if (c.slots[i].state == SLOT_QUEUED || c.slots[i].state == SLOT_SENT)
			slot_answer(&c.slots[i], -1);
	for (size_t i = 0; i < KEYS_CSR_PENDING_MAX; i++)
		if (c.csrs[i].done && !c.csrs[i].answered)
			csr_answer(&c.csrs[i], NULL, 0, "the keys role is gone");
	csr_tell();
	for (size_t i = 0; i < SLOTS; i++) {
		told += c.slots[i].wake;
		wake_slot(&c.slots[i]);
	}
	return told;
}

int
keys_client_on_readable(void)
{
	struct keys_slot *s;
	unsigned woken = 0;
	int r = 0;

	for (size_t i = 0; c.deferred && i < SLOTS; i++)
		wake_slot(&c.slots[i]);
	c.deferred = false;
	while (woken < WAKES_PER_CALL && (r = receive(&s)) > 0) {
		woken++;
		wake_slot(s);
	}
	if (r < 0) {
		channel_dead();
		return -1;
	}
	csr_tell();
	send_queued();
	/* An owner that goes on later than in on_wake still counts as using its job: one for each answer then. */
	wake_waiting(woken);
	return 0;
}

void
keys_client_set_fd(int fd)
{
	unsigned told;

	if (!c.ready) {
		c.fd = fd;
		return;
	}
	told = channel_dead();
	c.fd = fd;
	wake_waiting(told);
}

/* ---- certificate requests ------------------------------------------------------------------------ */

int
keys_client_csr(uint16_t key, bool new_key, keys_csr_fn *done, void *ctx)
{
	struct keys_csr m = { .key = key, .flags = new_key ? KEYS_CSR_NEW_KEY : 0 };
	uint8_t msg[KEYS_CSR_LEN];
	size_t len, i = 0;

	while (i < KEYS_CSR_PENDING_MAX && c.csrs[i].done)
		i++;
	if (c.fd < 0 || i == KEYS_CSR_PENDING_MAX)
		return -1;
	m.id = c.last_csr + 1;
	len = keys_proto_put_csr(msg, &m);
	if (ipc_send(c.fd, KEYS_MSG_CSR, 0, msg, len, NULL, 0) != 0)
		return -1;
	c.last_csr++;
	c.csrs[i] = (struct csr){ .done = done, .ctx = ctx, .id = m.id };
	return 0;
}

void
keys_client_csr_cancel(keys_csr_fn *done, const void *ctx)
{
	for (size_t i = 0; i < KEYS_CSR_PENDING_MAX; i++) {
		struct csr *r = &c.csrs[i];

		if (r->done != done || r->ctx != ctx)
			continue;
		mem_free(r->der);
		memset(r, 0, sizeof(*r));
	}
}

/* ---- signing ----------------------------------------------------------------------------------- */

/* Outside a job there is nobody to go on with: poll. Answers for others are kept for the next keys_client_on_readable(). */
static void
wait_blocking(struct keys_slot *s)
{
	uint64_t now = clock_mono_ms(), end = now + BLOCK_MS;
	struct keys_slot *other;

	while (s->state != SLOT_ANSWERED && now < end) {
		struct pollfd pfd = { .fd = c.fd, .events = POLLIN };

		poll(&pfd, 1, (int)(end - now));
		for (int r = 1; r > 0 && s->state != SLOT_ANSWERED;) {
			r = receive(&other);
			if (r < 0) {
				slot_answer(s, -1);
				return;
			}
			if (r > 0 && other != s)
				c.deferred = true;
		}
		send_queued();
		now = clock_mono_ms();
	}
	if (s->state != SLOT_ANSWERED)
		slot_answer(s, -1);
}

static void
wait_parked(struct keys_slot *s)
{
	while (s->state != SLOT_ANSWERED && !s->park->cancelled) {
		unsigned before = s->park->entries;

		/* It returns at once where OpenSSL forbids pausing (ASYNC_block_pause). */
		if (!ASYNC_pause_job() || (s->park->entries == before && !s->park->cancelled)) {
			wait_blocking(s);
			return;
		}
	}
}

int
keys_client_sign(uint16_t key, const uint8_t key_id[KEYS_ID_LEN], uint16_t scheme, const uint8_t *tbs, size_t tbs_len,
    uint8_t *sig, size_t sig_cap, size_t *sig_len)
{
	struct keys_park *park = ASYNC_get_current_job() ? c.current : NULL;
	struct keys_sign m = { .key = key, .scheme = scheme, .tbs = tbs, .tbs_len = tbs_len };
	struct keys_slot *s = NULL;
	const char *why = NULL;

	if (c.fd < 0)
		why = "the keys role is gone";
	else if (!(s = slot_take(park)))
		why = "too many signatures in progress";
	if (!s)
		goto out;
	memcpy(m.key_id, key_id, KEYS_ID_LEN);
	m.id = s->id;
	s->sig = sig;
	s->sig_cap = sig_cap;
	s->msg_len = keys_proto_put_sign(s->msg, &m);
	if (!s->msg_len) {
		why = "not a TLS handshake";
		goto out;
	}
	if (slot_send(s) < 0) {
		why = "the keys role is gone";
		goto out;
	}
	if (park)
		wait_parked(s);
	else
		wait_blocking(s);
	if (park && park->cancelled)
		why = "cancelled";
	else if (s->status < 0)
		why = "the keys role is gone";
	else if (s->status != KEYS_OK)
		why = keys_status_text((unsigned)s->status);
	*sig_len = s->sig_len;
out:
	if (s)
		slot_release(s);
	if (park)
		park->why = why;
	return why ? -1 : 0;
}
