/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the ca role: each question ends, with its own answer or with a reason, whatever the other side does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/ca/client.h"
#include "gateway/io/loop.h"
#include "gateway/process/ipc.h"

static struct loop *loop;
static struct ca_client *client;
static int sv[2];
static uint8_t buf[IPC_MAX_DATA + 16], out[CA_MESSAGE_MAX];

static struct told {
	unsigned calls;
	char text[64];      /* "ok one" or "unavailable ca-gone" */
	struct ca_call *to_cancel;
	bool ask_again;
} told[CA_CLIENT_PENDING_MAX + 2];

static void done(void *ctx, const struct ca_answer *a);

static struct ca_call *
ask_for(struct told *t, enum ca_client_error *why)
{
	const struct ca_ask m = { .op = CA_CACERTS, .id = 99 };

	return ca_client_ask(client, &m, done, t, why);
}

static void
done(void *ctx, const struct ca_answer *a)
{
	struct told *t = ctx;
	const struct ca_der *d = a->status == CA_OK ? &a->items[0] : &a->reason;
	enum ca_client_error why;

	t->calls++;
	snprintf(t->text, sizeof(t->text), "%s %.*s", ca_status_text(a->status), (int)d->len, (const char *)d->p);
	ca_client_cancel(t->to_cancel);
	t->to_cancel = NULL;
	if (t->ask_again) {
		t->ask_again = false;
		ask_for(t, &why);
	}
}

static int
begin(void **state)
{
	(void)state;
	memset(told, 0, sizeof(told));
	loop = loop_new();
	assert_int_equal(ipc_pair(sv), 0);
	client = ca_client_new(loop, sv[0]);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	ca_client_free(client);
	loop_free(loop);
	close(sv[0]);
	close(sv[1]);
	return 0;
}

/* The next question that the ca role gets. */
static uint64_t
next_id(void)
{
	struct ca_ask m;
	struct ipc_msg msg;

	assert_int_equal(ipc_recv(sv[1], buf, &msg), 1);
	assert_int_equal(msg.type, CA_MSG_ASK);
	assert_int_equal(ca_proto_get_ask(&m, msg.data, msg.len), 0);
	return m.id;
}

static void
answer(uint64_t id, const char *text)
{
	struct ca_answer a = { .id = id, .nitems = 1, .items = { { (const uint8_t *)text, strlen(text) } } };
	size_t len = ca_proto_put_answer(out, &a);

	assert_int_equal(ipc_send(sv[1], CA_MSG_ANSWER, 0, out, len, NULL, 0), 0);
}

static void
test_answers(void **state)
{
	enum ca_client_error why;
	uint64_t one, two;

	(void)state;
	assert_true(ca_client_up(client));
	assert_non_null(ask_for(&told[0], &why));
	assert_non_null(ask_for(&told[1], &why));
	assert_int_equal(ca_client_pending(client), 2);
	one = next_id();
	two = next_id();
	assert_true(one != two);
	/* In any order, and nobody's. */
	answer(two, "two");
	answer(two, "again");
	answer(12345, "nobody's");
	answer(one, "one");
	assert_int_equal(ca_client_on_readable(client), 0);
	assert_string_equal(told[0].text, "ok one");
	assert_string_equal(told[1].text, "ok two");
	assert_int_equal(told[0].calls + told[1].calls, 2);
	assert_int_equal(ca_client_pending(client), 0);
}

static void
test_cancel(void **state)
{
	enum ca_client_error why;
	struct ca_call *call = ask_for(&told[0], &why);

	(void)state;
	told[1].to_cancel = ask_for(&told[2], &why);
	ask_for(&told[1], &why);
	ca_client_cancel(call);
	ca_client_cancel(NULL);
	answer(next_id(), "zero");
	answer(next_id() + 1, "one"); /* the third question's */
	next_id();
	assert_int_equal(ca_client_on_readable(client), 0);
	assert_int_equal(told[0].calls, 0);
	assert_int_equal(told[1].calls, 1);
	assert_int_equal(told[2].calls, 0); /* cancelled by the other's done() */
	assert_int_equal(ca_client_pending(client), 0);
}

static void
test_channel_lost(void **state)
{
	enum ca_client_error why;
	int other[2];

	(void)state;
	ask_for(&told[0], &why);
	told[0].ask_again = true; /* on a dead channel: there is none */
	ask_for(&told[1], &why);
	close(sv[1]);
	assert_int_equal(ca_client_on_readable(client), -1);
	assert_string_equal(told[0].text, "unavailable ca-gone");
	assert_string_equal(told[1].text, "unavailable ca-gone");
	assert_int_equal(told[0].calls, 1);
	assert_false(ca_client_up(client));
	assert_null(ask_for(&told[2], &why));
	assert_int_equal(why, CA_CLIENT_GONE);
	/* The role was started again. */
	assert_int_equal(ipc_pair(other), 0);
	close(sv[0]);
	sv[0] = other[0];
	sv[1] = other[1];
	ca_client_set_fd(client, sv[0]);
	assert_non_null(ask_for(&told[3], &why));
	answer(next_id(), "three");
	assert_int_equal(ca_client_on_readable(client), 0);
	assert_string_equal(told[3].text, "ok three");
	/* Taken away under way. */
	ask_for(&told[4], &why);
	ca_client_set_fd(client, -1);
	assert_string_equal(told[4].text, "unavailable ca-gone");
}

static void
test_nonsense(void **state)
{
	enum ca_client_error why;

	(void)state;
	ask_for(&told[0], &why);
	assert_int_equal(ipc_send(sv[1], CA_MSG_ANSWER, 0, "junk", 4, NULL, 0), 0);
	assert_int_equal(ca_client_on_readable(client), -1);
	assert_string_equal(told[0].text, "unavailable ca-gone");
}

static void
test_bounds(void **state)
{
	struct ca_ask large = { .op = CA_ENROLL, .csr = { out, CA_CSR_MAX + 1 } };
	enum ca_client_error why;

	(void)state;
	assert_null(ca_client_ask(client, &large, done, &told[0], &why));
	assert_int_equal(why, CA_CLIENT_TOO_LARGE);
	for (unsigned i = 0; i < CA_CLIENT_PENDING_MAX; i++)
		assert_non_null(ask_for(&told[i], &why));
	assert_null(ask_for(&told[0], &why));
	assert_int_equal(why, CA_CLIENT_BUSY);
	for (unsigned i = 0; i < CA_CLIENT_PENDING_MAX; i++)
		answer(next_id(), "x");
	while (ca_client_pending(client))
		assert_int_equal(ca_client_on_readable(client), 0);
	for (unsigned i = 0; i < CA_CLIENT_PENDING_MAX; i++)
		assert_int_equal(told[i].calls, 1);
}

/* The channel is full: what does not fit goes later, in order. */
static void
test_full(void **state)
{
	struct ca_ask large = { .op = CA_ENROLL, .csr = { out, CA_CSR_MAX } };
	enum ca_client_error why;
	unsigned seen = 0;
	struct ipc_msg msg;

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		assert_non_null(ca_client_ask(client, &large, done, &told[i], &why));
	while (ca_client_pending(client)) {
		struct ca_ask m;

		assert_int_equal(ipc_recv(sv[1], buf, &msg), 1);
		assert_int_equal(ca_proto_get_ask(&m, msg.data, msg.len), 0);
		assert_int_equal(m.id, ++seen);
		answer(m.id, "x");
		assert_int_equal(ca_client_on_readable(client), 0);
	}
	assert_int_equal(seen, 40);
}

int
main(void)
{
#define WITH(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
	const struct CMUnitTest tests[] = {
		WITH(test_answers), WITH(test_cancel), WITH(test_channel_lost), WITH(test_nonsense), WITH(test_bounds), WITH(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
