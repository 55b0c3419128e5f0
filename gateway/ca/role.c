/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ca role: one poll loop, one request at a time. Its CA is a directory that gwctl works in, too; between two requests it is anybody's.
 *
 *   channel   a worker's or control's; ends with its other side, or when that says what it may not
 *   est       the opened CA; NULL while it cannot be used, and then every request is answered so and it is tried again now and then
 *
 * What is decided stands in pki/est.c. Here is who may ask how often, and what goes on record: nothing is handed out without room for it in the ring.
 */
#include "gateway/ca/role.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/buf.h"
#include "gateway/base/clock.h"
#include "gateway/base/errs.h"
#include "gateway/base/esc.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/ca/proto.h"
#include "gateway/config/config.h"
#include "gateway/process/child.h"
#include "gateway/process/ipc.h"
#include "gateway/process/memfd.h"
#include "pki/est.h"
#include "pki/pkey.h"

#define CONFIG_IMAGE_MAX (256UL * 1024 * 1024)
#define SECRET_MEMORY (256 * 1024)
#define PASSPHRASE_MAX 1024
#define CHANNELS_MAX 512
#define TURN 8                 /* requests of one channel before the next has its turn */
#define REQUESTS_PER_S 50      /* of one worker; renewals, which strangers cannot ask for, have as many for themselves */
#define REFUSALS_PER_S 10      /* that are told why, and recorded each; as many alerts */
#define RETRY_MS 2000          /* a CA that cannot be used is tried again */
#define SWEEP_MS 60000
#define EVENT_ROOM 6144
#define WAIT_MS 2000           /* for the other side to read */

_Static_assert((int)EST_OK == (int)CA_OK && (int)EST_BAD_REQUEST == (int)CA_BAD_REQUEST && (int)EST_UNAUTHORIZED == (int)CA_UNAUTHORIZED &&
    (int)EST_FORBIDDEN == (int)CA_FORBIDDEN && (int)EST_CONFLICT == (int)CA_CONFLICT && (int)EST_UNAVAILABLE == (int)CA_UNAVAILABLE,
    "what the library decides is what the worker is told");

struct allowance {
	unsigned per_s;
	uint64_t left;           /* in thousandths */
	uint64_t at_ms;
};

struct channel {
	int fd;                  /* -1: gone, removed at the end of the turn */
	enum role role;
	unsigned index;
	struct allowance requests, renewals, refusals, alerts;
	uint32_t unrecorded;     /* refusals since the last that was recorded */
};

struct state {
	int master;
	bool stop;
	struct config *config;
	bool in_store;           /* it is our working directory */
	struct est *est;
	char why[512];           /* it is NULL */
	uint64_t retry_ms, sweep_ms, started_ms;
	char *passphrase;        /* locked; or NULL */
	bool locked;
	struct ring *ring;
	struct channel *channels;
	size_t nchannels, cap;
	struct est_status_info info;
	uint64_t issued, renewed, repeated, refused, alerts, throttled, unavailable;
	struct log_limit refused_log, failed_log;
	uint8_t in[IPC_MAX_DATA + 16], out[CA_MESSAGE_MAX];
};

/* ---- the CA ------------------------------------------------------------------------------------------- */

/* Its first line. Takes the descriptor. */
static void
read_passphrase(struct state *st, int fd)
{
	size_t len = 0;
	ssize_t n = 1;

	pkey_free_secret(st->passphrase);
	st->passphrase = pkey_secret_new(PASSPHRASE_MAX);
	while (len < PASSPHRASE_MAX - 1 && (n = pread(fd, st->passphrase + len, PASSPHRASE_MAX - 1 - len, (off_t)len)) > 0)
		len += (size_t)n;
	if (n < 0)
		log_error("the passphrase of the CA's key cannot be read: %m");
	else if (n > 0)
		log_error("the passphrase of the CA's key is longer than %d octets", PASSPHRASE_MAX - 1);
	for (size_t i = n == 0 ? strcspn(st->passphrase, "\r\n") : 0; i < len; i++)
		st->passphrase[i] = 0;
	close(fd);
}

static void
unusable(struct state *st, const char *what)
{
	uint32_t suppressed;

	est_close(st->est);
	st->est = NULL;
	st->retry_ms = clock_mono_ms() + RETRY_MS;
	if (strcmp(st->why, what) || log_limit_ok(&st->failed_log, 1, &suppressed))
		log_error("store=%s the CA cannot be used: %s; requests are answered 503, and it is tried again", st->config->ca.store, what);
	snprintf(st->why, sizeof(st->why), "%s", what);
}

static void
sweep(struct state *st)
{
	struct errs errs;

	st->sweep_ms = clock_mono_ms() + SWEEP_MS;
	if (!st->est)
		return;
	errs_init(&errs);
	if (est_sweep(st->est, (int64_t)(clock_wall_us() / 1000000), &st->info, &errs) < 0)
		unusable(st, errs.n ? errs.items[0].text : "its store cannot be read");
	else if (st->info.crl_made)
		log_info("store=%s event=crl a new revocation list takes the place of one past half of its life", st->config->ca.store);
	errs_fini(&errs);
}

/* Opens it if it is not, and not too soon after it failed. */
static bool
usable(struct state *st)
{
	const struct config *c = st->config;
	struct est_options o = { .keys.passphrase = st->passphrase && st->passphrase[0] ? st->passphrase : NULL,
		.workload_s = (int64_t)(c->ca.workload_ms / 1000), .gateway_s = (int64_t)(c->ca.gateway_ms / 1000) };
	struct errs errs;
	char text[sizeof(st->why)];

	if (st->est || clock_mono_ms() < st->retry_ms)
		return st->est != NULL;
	errs_init(&errs);
	if (!st->in_store)
		errs_add(&errs, NULL, 0, "its directory cannot be entered; it has to belong to the user of this role");
	else
		st->est = est_open(".", &o, &errs);
	if (!st->est) {
		const char *first = errs.n ? errs.items[0].text : "?";

		/* What the library proposes is for gwctl. */
		if (strstr(first, strerror(EACCES)))
			first = "permission denied: the directory and all in it have to belong to the user of this role (sallyportd -t tells how)";

		unusable(st, esc_text(text, sizeof(text), first, strlen(first)));
	} else {
		log_info("store=%s ready", c->ca.store);
		st->why[0] = 0;
		sweep(st);
	}
	errs_fini(&errs);
	return st->est != NULL;
}

/* ---- channels ------------------------------------------------------------------------------------------ */

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
	enum role role = (enum role)(f->arg >> 8);
	uint64_t now = clock_mono_ms();
	struct channel *ch;

	if ((role != ROLE_WORKER && role != ROLE_CONTROL) || st->nchannels >= CHANNELS_MAX) {
		log_error("channel=%u refused: not one of ours", f->arg);
		close(f->fd);
		return;
	}
	mem_grow(&st->channels, &st->cap, st->nchannels + 1, sizeof(*st->channels));
	ch = &st->channels[st->nchannels++];
	*ch = (struct channel){ .fd = f->fd, .role = role, .index = f->arg & 0xff,
		.requests = { REQUESTS_PER_S, REQUESTS_PER_S * 1000, now }, .refusals = { REFUSALS_PER_S, REFUSALS_PER_S * 1000, now } };
	ch->renewals = ch->requests;
	ch->alerts = ch->refusals;
}

static void
channels_sweep(struct state *st)
{
	size_t keep = 0;

	for (size_t i = 0; i < st->nchannels; i++)
		if (st->channels[i].fd >= 0)
			st->channels[keep++] = st->channels[i];
	st->nchannels = keep;
}

/* Takes one, if there is one. */
static bool
allowed(struct allowance *a)
{
	uint64_t now = clock_mono_ms(), full = a->per_s * UINT64_C(1000), add = now - a->at_ms;

	add = add > 1000 ? full : add * a->per_s;
	a->left = a->left + add > full ? full : a->left + add;
	a->at_ms = now;
	if (a->left < 1000)
		return false;
	a->left -= 1000;
	return true;
}

/* A worker that does not read its answers has no more than a few seconds of ours. */
static void
channel_send(struct channel *ch, uint16_t type, uint16_t arg, const void *p, size_t len)
{
	struct pollfd w = { .fd = ch->fd, .events = POLLOUT };
	int r = ipc_send(ch->fd, type, arg, p, len, NULL, 0);

	if (r == -1 && poll(&w, 1, WAIT_MS) > 0)
		r = ipc_send(ch->fd, type, arg, p, len, NULL, 0);
	if (r < 0) {
		if (r == -1)
			log_error("role=%s index=%u does not read its answers; its channel is closed", role_name(ch->role), ch->index);
		channel_close(ch);
	}
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static struct ca_der
der_of(const char *s)
{
	return (struct ca_der){ (const uint8_t *)s, strlen(s) };
}

static void
send_answer(struct state *st, struct channel *ch, const struct ca_answer *a)
{
	size_t len = ca_proto_put_answer(st->out, a);

	if (len)
		channel_send(ch, CA_MSG_ANSWER, 0, st->out, len);
	else
		channel_close(ch); /* our own fault: the worker's question must not stay without an end */
}

static void
refuse(struct state *st, struct channel *ch, uint64_t id, enum ca_status status, const char *reason, const char *text)
{
	struct ca_answer a = { .id = id, .status = status, .reason = der_of(reason), .text = der_of(text) };

	send_answer(st, ch, &a);
}

static void
answer_items(struct state *st, struct channel *ch, uint64_t id, const struct est_certs *certs)
{
	struct ca_answer a = { .id = id, .status = CA_OK, .nitems = certs->n };

	for (size_t i = 0; i < certs->n; i++)
		a.items[i] = (struct ca_der){ certs->certs[i].p, certs->certs[i].len };
	send_answer(st, ch, &a);
}

#define CA_AWAY "the CA cannot be used at the moment; its operator finds the reason in the log"

static void
answer_cacerts(struct state *st, struct channel *ch, uint64_t id)
{
	struct est_certs certs;
	struct errs errs;

	errs_init(&errs);
	if (est_cacerts(st->est, &certs, &errs) == 0) {
		answer_items(st, ch, id, &certs);
		est_certs_fini(&certs);
	} else {
		unusable(st, errs.n ? errs.items[0].text : "its certificates cannot be read");
		refuse(st, ch, id, CA_UNAVAILABLE, "ca-unavailable", CA_AWAY);
	}
	errs_fini(&errs);
}

/* ---- on record ------------------------------------------------------------------------------------------- */

static void
put_event(struct state *st, void *room, struct channel *ch, const struct ca_ask *ask, const struct est_answer *a)
{
	struct audit_event e;
	char who[32];

	snprintf(who, sizeof(who), "%s/%u", role_name(ch->role), ch->index);
	audit_event_init(&e, room, EVENT_ROOM, a->alert ? AUDIT_ALERT : AUDIT_CERTIFICATE, NULL, 0, clock_wall_us());
	audit_event_str(&e, AUDIT_F_VERDICT, a->status == EST_OK ? "allow" : "deny");
	audit_event_str(&e, AUDIT_F_REASON, a->reason);
	if (ch->unrecorded)
		audit_event_u64(&e, AUDIT_F_COUNT, (uint64_t)ch->unrecorded + 1);
	audit_event_str(&e, AUDIT_F_PRINCIPAL, a->id);
	audit_event_text(&e, AUDIT_F_CLIENT, ask->client.p, ask->client.len);
	audit_event_str(&e, AUDIT_F_CERT, a->serial);
	audit_event_str(&e, AUDIT_F_ROLE, who);
	audit_event_str(&e, AUDIT_F_DETAIL, a->detail);
	audit_event_done(&e);
	ring_commit(st->ring, e.len);
}

static void
put_log(struct state *st, const struct channel *ch, const struct ca_ask *ask, const struct est_answer *a)
{
	char client[CA_CLIENT_MAX * 4 + 1], id[256];
	uint32_t suppressed = 0;

	esc_text(client, sizeof(client), ask->client.p, ask->client.len);
	esc_text(id, sizeof(id), a->id, strlen(a->id));
	if (a->status == EST_OK)
		log_info("client=%s principal=%s serial=%s %s", client, id, a->serial, a->reason);
	else if (log_limit_ok(&st->refused_log, 5, &suppressed))
		log_warn("client=%s principal=%s op=%s worker=%u %s: %s%s%s suppressed=%u", client, id, ca_op_text(ask->op), ch->index,
		    a->alert ? "ALERT refused" : "refused", a->reason, a->detail[0] ? ": " : "", a->detail, suppressed);
}

static void
count(struct state *st, const struct est_answer *a)
{
	st->alerts += a->alert;
	if (a->status == EST_UNAVAILABLE)
		st->unavailable++;
	else if (a->status != EST_OK)
		st->refused++;
	else if (!strcmp(a->reason, "issued"))
		st->issued++;
	else if (!strcmp(a->reason, "renewed"))
		st->renewed++;
	else
		st->repeated++;
}

static void
answer_enroll(struct state *st, struct channel *ch, const struct ca_ask *ask)
{
	struct svid_der chain[CA_CHAIN_MAX];
	struct est_request r = { .renewal = ask->op == CA_REENROLL, .now = (int64_t)(clock_wall_us() / 1000000), .password = ask->password.p,
		.password_len = ask->password.len, .chain = chain, .nchain = ask->nchain, .csr = ask->csr.p, .csr_len = ask->csr.len };
	void *room = st->ring ? ring_reserve(st->ring, EVENT_ROOM, clock_mono_ms()) : NULL;
	struct est_answer *a;
	bool within = true;

	/* Nothing is handed out that is not on record. */
	if (!room) {
		st->unavailable++;
		refuse(st, ch, ask->id, CA_UNAVAILABLE, "journal", "the journal takes no records at the moment");
		return;
	}
	for (size_t i = 0; i < ask->nchain; i++)
		chain[i] = (struct svid_der){ ask->chain[i].p, ask->chain[i].len };
	a = mem_zalloc(sizeof(*a));
	est_enroll(st->est, &r, a);
	count(st, a);
	if (a->status != EST_OK)
		within = allowed(a->alert ? &ch->alerts : &ch->refusals);
	if (within) {
		put_event(st, room, ch, ask, a);
		put_log(st, ch, ask, a);
		ch->unrecorded = 0;
	} else {
		ch->unrecorded++;
	}
	if (a->status == EST_OK)
		answer_items(st, ch, ask->id, &a->certs);
	else if (within)
		refuse(st, ch, ask->id, (enum ca_status)a->status, a->reason, a->text);
	else
		refuse(st, ch, ask->id, CA_TOO_MANY, "too-many", "too many refused requests; try again later");
	if (a->status == EST_UNAVAILABLE)
		unusable(st, a->detail);
	est_answer_fini(a);
	mem_free(a);
}

static void
on_ask(struct state *st, struct channel *ch, const struct ipc_msg *msg)
{
	struct ca_answer attrs = { .status = CA_OK, .nitems = 1 };
	struct ca_ask ask;

	if (ca_proto_get_ask(&ask, msg->data, msg->len) < 0) {
		log_error("worker=%u sent a malformed request; its channel is closed", ch->index);
		channel_close(ch);
		return;
	}
	if (!allowed(ask.op == CA_REENROLL ? &ch->renewals : &ch->requests)) {
		st->throttled++;
		refuse(st, ch, ask.id, CA_TOO_MANY, "too-many", "too many requests; try again later");
	} else if (ask.op == CA_CSRATTRS) {
		attrs.id = ask.id;
		attrs.items[0].p = est_csrattrs(&attrs.items[0].len);
		send_answer(st, ch, &attrs);
	} else if (!usable(st)) {
		st->unavailable++;
		refuse(st, ch, ask.id, CA_UNAVAILABLE, "ca-unavailable", CA_AWAY);
	} else if (ask.op == CA_CACERTS) {
		answer_cacerts(st, ch, ask.id);
	} else {
		answer_enroll(st, ch, &ask);
	}
	mem_wipe(st->in, msg->len); /* a password */
}

/* ---- status ---------------------------------------------------------------------------------------------- */

static void
put_json_text(struct buf *b, const char *s)
{
	for (; *s; s++)
		buf_printf(b, *s == '"' || *s == '\\' ? "\\%c" : (unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e ? "?" : "%c", *s);
}

static void
on_status(struct state *st, struct channel *ch)
{
	struct buf b;
	char until[CLOCK_RFC3339_LEN + 1] = "";

	if (usable(st) && clock_mono_ms() + SWEEP_MS - st->sweep_ms > 2000)
		sweep(st);
	buf_init(&b, IPC_MAX_DATA);
	clock_rfc3339(until, (uint64_t)st->info.not_after * 1000000);
	buf_printf(&b, "{\"role\":\"ca\",\"uptime_ms\":%" PRIu64 ",\"memory_locked\":%s,\"store\":\"", clock_mono_ms() - st->started_ms,
	    st->locked ? "true" : "false");
	put_json_text(&b, st->config->ca.store);
	buf_printf(&b, "\",\"available\":%s,\"why\":\"", st->est ? "true" : "false");
	put_json_text(&b, st->est ? "" : st->why);
	buf_printf(&b, "\",\"issued\":%" PRIu64 ",\"renewed\":%" PRIu64 ",\"repeated\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"alerts\":%" PRIu64
	    ",\"throttled\":%" PRIu64 ",\"unavailable\":%" PRIu64 ",\"tokens\":%zu,\"crl_until\":%" PRId64 ",\"not_after\":\"%s\"}", st->issued, st->renewed, st->repeated,
	    st->refused, st->alerts, st->throttled, st->unavailable, st->info.tokens, st->info.crl_until, st->info.not_after ? until : "");
	channel_send(ch, ROLE_MSG_STATUS_REPLY, 0, b.data, b.len);
	buf_fini(&b);
}

/* ---- the loop ---------------------------------------------------------------------------------------------- */

static void
on_channel(struct state *st, struct channel *ch)
{
	struct ipc_msg msg;

	for (int i = 0; i < TURN && ch->fd >= 0; i++) {
		int r = ipc_recv(ch->fd, st->in, &msg);

		if (r == 0)
			return;
		if (r == -1) {
			channel_close(ch);
		} else if (r > 0 && !msg.nfds && ch->role == ROLE_WORKER && msg.type == CA_MSG_ASK) {
			on_ask(st, ch, &msg);
		} else if (r > 0 && !msg.nfds && ch->role == ROLE_CONTROL && msg.type == ROLE_MSG_STATUS) {
			on_status(st, ch);
		} else {
			if (r > 0)
				ipc_msg_close(&msg);
			log_error("role=%s index=%u sent a message that is not allowed; its channel is closed", role_name(ch->role), ch->index);
			channel_close(ch);
		}
	}
}

static void
take_fd(struct state *st, const struct role_env_fd *f)
{
	if (f->kind == ROLE_FD_CHANNEL)
		channel_add(st, f);
	else if (f->kind == ROLE_FD_PASSPHRASE)
		read_passphrase(st, f->fd);
	else
		close(f->fd);
}

static void
on_master(struct state *st)
{
	struct role_env_fd fds[IPC_MAX_FDS];
	struct ipc_msg msg;
	int r, n;

	while (!st->stop && (r = ipc_recv(st->master, st->in, &msg)) != 0) {
		if (r < 0) {
			st->stop = true; /* without master there is nothing to do here */
			return;
		}
		switch (msg.type) {
		case ROLE_MSG_FD:
			n = child_fds(&msg, fds);
			for (int i = 0; i < n; i++)
				take_fd(st, &fds[i]);
			break;
		case ROLE_MSG_LOG_LEVEL:
			if (msg.arg <= LOG_LV_DEBUG)
				log_set_level((enum log_level)msg.arg);
			break;
		case ROLE_MSG_STOP:
			st->stop = true;
			break;
		default: /* CHANNEL_GONE: the channel itself says so */
			break;
		}
		ipc_msg_close(&msg);
	}
}

static void
turn(struct state *st, struct pollfd *pfds)
{
	uint64_t now = clock_mono_ms(), due = st->est ? st->sweep_ms : st->retry_ms;
	size_t n = st->nchannels;

	pfds[0] = (struct pollfd){ .fd = st->master, .events = POLLIN };
	for (size_t i = 0; i < n; i++)
		pfds[i + 1] = (struct pollfd){ .fd = st->channels[i].fd, .events = POLLIN };
	if (poll(pfds, n + 1, due > now ? (int)(due - now) : 0) < 0)
		return; /* EINTR */
	if (pfds[0].revents)
		on_master(st);
	for (size_t i = 0; i < n && !st->stop; i++)
		if (pfds[i + 1].revents)
			on_channel(st, &st->channels[i]);
	channels_sweep(st);
	if (!st->est)
		usable(st);
	else if (clock_mono_ms() >= st->sweep_ms)
		sweep(st);
}

static struct config *
read_config(int fd)
{
	const char *why = "it gave none";
	struct config *c = NULL;
	const void *image;
	size_t len = 0;

	image = memfd_map(fd, CONFIG_IMAGE_MAX, &len, &why);
	if (image)
		c = config_decode(image, len, &why);
	memfd_unmap(image, len);
	if (!c)
		log_fatal("the config from master is not usable: %s", why);
	if (log_level_parse(c->log_level) >= 0)
		log_set_level((enum log_level)log_level_parse(c->log_level));
	return c;
}

int
ca_main(struct role_env *env)
{
	struct state *st = mem_zalloc(sizeof(*st));
	struct pollfd *pfds = mem_array(CHANNELS_MAX + 1, sizeof(*pfds));
	const char *why = NULL;
	int rc = 1;

	st->master = env->master;
	st->started_ms = clock_mono_ms();
	st->config = read_config(env->config_fd);
	if (!st->config->ca.store)
		log_fatal("the config from master has no CA");
	st->locked = pkey_secret_memory(SECRET_MEMORY) == 0;
	if (!st->locked)
		log_warn("key memory could not be locked: raise LimitMEMLOCK to at least 512K");
	if (env->ring_fd >= 0 && !(st->ring = ring_map_writer(env->ring_fd, env->ring_wake_fd, &why)))
		log_fatal("the ring from master is not usable: %s", why);
	/* By descriptor: the directories above it may be closed to our user. */
	st->in_store = env->journal_dir_fd >= 0 && fchdir(env->journal_dir_fd) == 0;
	for (unsigned i = 0; i < env->nfds; i++)
		take_fd(st, &env->fds[i]);
	usable(st);
	if (child_ready(env) < 0)
		goto out;
	while (!st->stop)
		turn(st, pfds);
	rc = 0;
out:
	est_close(st->est);
	for (size_t i = 0; i < st->nchannels; i++)
		channel_close(&st->channels[i]);
	pkey_free_secret(st->passphrase);
	ring_unmap(st->ring);
	config_free(st->config);
	mem_free(st->channels);
	mem_wipe(st, sizeof(*st));
	mem_free(st);
	mem_free(pfds);
	return rc;
}
