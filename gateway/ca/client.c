/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call lives from ca_client_ask() until its done() returned or it was cancelled. An answer names its call by a number that is never used again,
 * so one that comes too late meets nothing. done() may do anything to other calls: nothing is remembered across one.
 */
#include "gateway/ca/client.h"

#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/base/queue.h"
#include "gateway/io/loop.h"

#define ANSWERS_PER_CALL 16

struct ca_call {
	struct ca_client *c;
	uint64_t id;
	ca_client_fn *done;
	void *ctx;
	struct deadline deadline;
	uint8_t *unsent;         /* the channel was full; sent after the next answer */
	size_t unsent_len;
	bool failing;            /* the channel went while it was under way */
	TAILQ_ENTRY(ca_call) entry;
};

TAILQ_HEAD(call_list, ca_call);

struct ca_client {
	struct loop *loop;
	int fd;
	uint64_t last_id;
	unsigned pending;
	struct call_list calls; /* in the order in which they were asked */
	uint8_t buf[IPC_MAX_DATA + 16];
	uint8_t out[CA_MESSAGE_MAX];
};

struct ca_client *
ca_client_new(struct loop *loop, int fd)
{
	struct ca_client *c = mem_zalloc(sizeof(*c));

	c->loop = loop;
	c->fd = fd;
	TAILQ_INIT(&c->calls);
	return c;
}

void
ca_client_free(struct ca_client *c)
{
	struct ca_call *call;

	if (!c)
		return;
	while ((call = TAILQ_FIRST(&c->calls)))
		ca_client_cancel(call);
	mem_wipe(c, sizeof(*c)); /* passwords */
	mem_free(c);
}

bool
ca_client_up(const struct ca_client *c)
{
	return c->fd >= 0;
}

unsigned
ca_client_pending(const struct ca_client *c)
{
	return c->pending;
}

void
ca_client_cancel(struct ca_call *call)
{
	if (!call)
		return;
	TAILQ_REMOVE(&call->c->calls, call, entry);
	call->c->pending--;
	deadline_cancel(&call->deadline);
	if (call->unsent)
		mem_wipe(call->unsent, call->unsent_len);
	mem_free(call->unsent);
	mem_free(call);
}

static void
finish(struct ca_call *call, const struct ca_answer *a)
{
	ca_client_fn *done = call->done;
	void *ctx = call->ctx;

	ca_client_cancel(call);
	done(ctx, a);
}

static void
fail(struct ca_call *call, const char *reason, const char *text)
{
	struct ca_answer a = { .id = call->id, .status = CA_UNAVAILABLE };

	a.reason = (struct ca_der){ (const uint8_t *)reason, strlen(reason) };
	a.text = (struct ca_der){ (const uint8_t *)text, strlen(text) };
	finish(call, &a);
}

static void
on_deadline(struct deadline *d)
{
	fail((struct ca_call *)((char *)d - offsetof(struct ca_call, deadline)), "ca-timeout", "the CA does not answer");
}

/* What comes of it may ask again, on the new channel: only those that were there at first. */
static void
channel_dead(struct ca_client *c)
{
	struct ca_call *call;

	c->fd = -1;
	TAILQ_FOREACH(call, &c->calls, entry)
		call->failing = true;
	while ((call = TAILQ_FIRST(&c->calls)) && call->failing)
		fail(call, "ca-gone", "the CA is not there at the moment");
}

void
ca_client_set_fd(struct ca_client *c, int fd)
{
	channel_dead(c);
	c->fd = fd;
}

struct ca_call *
ca_client_ask(struct ca_client *c, const struct ca_ask *m, ca_client_fn *done, void *ctx, enum ca_client_error *why)
{
	struct ca_call *call, *last = TAILQ_LAST(&c->calls, call_list);
	struct ca_ask copy = *m;
	size_t len;
	int r = -1;

	*why = c->fd < 0 ? CA_CLIENT_GONE : CA_CLIENT_BUSY;
	if (c->fd < 0 || c->pending >= CA_CLIENT_PENDING_MAX)
		return NULL;
	copy.id = ++c->last_id;
	len = ca_proto_put_ask(c->out, &copy);
	*why = CA_CLIENT_TOO_LARGE;
	if (!len)
		return NULL;
	/* Not past one that waits. */
	if (!last || !last->unsent)
		r = ipc_send(c->fd, CA_MSG_ASK, 0, c->out, len, NULL, 0);
	*why = CA_CLIENT_GONE;
	if (r == -2)
		return NULL; /* it shows when the channel is read, too */
	call = mem_zalloc(sizeof(*call));
	call->c = c;
	call->id = copy.id;
	call->done = done;
	call->ctx = ctx;
	if (r < 0) {
		call->unsent = mem_alloc(len);
		call->unsent_len = len;
		memcpy(call->unsent, c->out, len);
	}
	mem_wipe(c->out, len);
	TAILQ_INSERT_TAIL(&c->calls, call, entry);
	c->pending++;
	deadline_set(deadline_queue(c->loop, CA_CLIENT_DEADLINE_MS, on_deadline), &call->deadline);
	return call;
}

static void
send_unsent(struct ca_client *c)
{
	struct ca_call *call;

	TAILQ_FOREACH(call, &c->calls, entry) {
		if (!call->unsent)
			continue;
		if (ipc_send(c->fd, CA_MSG_ASK, 0, call->unsent, call->unsent_len, NULL, 0) != 0)
			return; /* a dead channel shows when it is read */
		mem_wipe(call->unsent, call->unsent_len);
		mem_free(call->unsent);
		call->unsent = NULL;
	}
}

/* 1 an answer, 0 nothing there, -1 the channel is dead or speaks nonsense. */
static int
receive(struct ca_client *c)
{
	struct ca_answer a;
	struct ca_call *call;
	struct ipc_msg msg;
	int r;

	if (c->fd < 0)
		return -1;
	r = ipc_recv(c->fd, c->buf, &msg);
	if (r <= 0)
		return r < 0 ? -1 : 0;
	if (msg.nfds || msg.type != CA_MSG_ANSWER || ca_proto_get_answer(&a, msg.data, msg.len) < 0) {
		ipc_msg_close(&msg);
		return -1;
	}
	TAILQ_FOREACH(call, &c->calls, entry)
		if (call->id == a.id) {
			finish(call, &a);
			break;
		}
	return 1;
}

int
ca_client_on_readable(struct ca_client *c)
{
	int fd = c->fd, r = 0;

	for (int i = 0; i < ANSWERS_PER_CALL && (r = receive(c)) > 0; i++)
		if (c->fd != fd)
			return 0; /* done() gave us another channel */
	if (r < 0) {
		channel_dead(c);
		return -1;
	}
	send_unsent(c);
	return 0;
}
