/* SPDX-License-Identifier: Apache-2.0 */
/* The admin socket: requests good and bad, who may do what, bounds, and how statuses become answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/base/mem.h"
#include "gateway/control/control.h"

#define NOW 1000000

struct bed {
	struct control c;
	struct role_env env;
	int master[2];    /* [0] is ours, [1] the role's */
	int far;          /* the caller's end of client 0 */
	struct config_service services[2];
	struct config_endpoint endpoint;
	struct config_peer peer;
	struct config config;
	struct ring *reader;
	int ring_fd, wake_fd;
};

static uint8_t buf[IPC_MAX_DATA + 16];

static int
setup(void **state)
{
	struct bed *b = mem_zalloc(sizeof(*b));
	const char *why = NULL;
	int sv[2];

	assert_int_equal(ipc_pair(b->master), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	b->env.master = b->master[1];
	b->c.env = &b->env;
	b->c.own_user = true;
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_init(&b->c.clients[i]);
	client_start(&b->c.clients[0], sv[1], 0, NOW);
	b->far = sv[0];
	b->endpoint.text = (char *)(uintptr_t)"10.1.0.20:8080";
	b->services[0] = (struct config_service){ .name = (char *)(uintptr_t)"permit", .host = (char *)(uintptr_t)"permit.hud",
		.endpoints = &b->endpoint, .nendpoints = 1 };
	b->services[1] = (struct config_service){ .name = (char *)(uintptr_t)"tax", .host = (char *)(uintptr_t)"tax.irs",
		.via = (char *)(uintptr_t)"irs" };
	b->peer = (struct config_peer){ .name = (char *)(uintptr_t)"irs", .domain = (char *)(uintptr_t)"irs.example" };
	b->config.services = b->services;
	b->config.nservices = 2;
	b->config.peers = &b->peer;
	b->config.npeers = 1;
	b->c.config = &b->config;
	b->wake_fd = eventfd(0, EFD_NONBLOCK);
	b->ring_fd = ring_create(65536);
	b->c.ring = ring_map_writer(b->ring_fd, b->wake_fd, &why);
	b->reader = ring_map_reader(b->ring_fd, &why);
	assert_non_null(b->c.ring);
	assert_non_null(b->reader);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		client_close(&b->c.clients[i]);
	for (size_t i = 0; i < b->c.nchannels; i++)
		json_decref(b->c.channels[i].status);
	mem_free(b->c.channels);
	json_decref(b->c.gather.master);
	ring_unmap(b->c.ring);
	ring_unmap(b->reader);
	close(b->ring_fd);
	close(b->wake_fd);
	close(b->master[0]);
	close(b->master[1]);
	close(b->far);
	mem_free(b);
	return 0;
}

static json_t *
response(struct bed *b)
{
	static char text[1 << 20];
	ssize_t n = recv(b->far, text, sizeof(text), MSG_DONTWAIT);

	if (n <= 0)
		return NULL;
	assert_int_equal(text[n - 1], '\n');
	return json_loadb(text, (size_t)n, 0, NULL);
}

static void
request(struct bed *b, const char *s)
{
	control_command_run(&b->c, &b->c.clients[0], s, strlen(s), NOW);
}

static char asked_about[128]; /* what followed the number */

/* The type of what master was sent, and the request's number; 0: nothing. */
static unsigned
asked(struct bed *b, uint32_t *id, unsigned *arg)
{
	struct ipc_msg m;

	if (ipc_recv(b->master[0], buf, &m) != 1)
		return 0;
	assert_true(m.len >= sizeof(*id));
	memcpy(id, m.data, sizeof(*id));
	snprintf(asked_about, sizeof(asked_about), "%.*s", (int)(m.len - sizeof(*id)), (const char *)m.data + sizeof(*id));
	*arg = m.arg;
	return m.type;
}

/* Text of one field of the next event; NULL: no event. */
static const char *
recorded(struct bed *b, enum audit_field f, unsigned *type)
{
	static uint8_t event[AUDIT_EVENT_MAX];
	static char text[128];
	struct audit_head head;
	const char *why;
	uint64_t pos;
	long n = ring_read(b->reader, event, &pos, &why);

	if (n <= 0)
		return NULL;
	memcpy(&head, event, sizeof(head));
	*type = head.type;
	for (uint8_t *p = event + sizeof(head); p + 4 <= event + n;) {
		uint16_t id, len;

		memcpy(&id, p, 2);
		memcpy(&len, p + 2, 2);
		if (id == f) {
			snprintf(text, sizeof(text), "%.*s", len, (const char *)p + 4);
			return text;
		}
		if (id == 0)
			break;
		p += 4 + len;
	}
	return "";
}

static void
test_bad_requests(void **state)
{
	static const char *const bad[] = {
		"", " ", "{", "}", "[]", "null", "7", "\"status\"", "{}", "{\"command\":7}", "{\"command\":null}",
		"{\"command\":\"stauts\"}", "{\"command\":\"status\",\"more\":\"x\"}", "{\"command\":\"status\",\"command\":\"drain\"}",
		"{\"command\":\"log-level\"}", "{\"command\":\"log-level\",\"level\":\"loud\"}", "{\"command\":\"log-level\",\"level\":7}",
		"{\"command\":\"status\"} trailing", "{\"command\":\"status\\u0000\"}", "{\"command\":\"\xff\"}",
		"{\"command\":\"reload\",\"sudo_uid\":[]}", "{\"command\":\"sever\"}", "{\"command\":\"sever\",\"peer\":\"\"}",
		"{\"command\":\"sever\",\"peer\":\"a b\"}", "{\"command\":\"sever\",\"peer\":\"../x\"}", "{\"command\":\"sever\",\"peer\":7}",
		"{\"command\":\"restore\",\"peer\":\"irs\\u0000\"}", "{\"command\":\"restore\",\"level\":\"irs\"}",
		"{\"command\":\"sever\",\"peer\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
		"{\"command\":\"sever\",\"peer\":\"isr\"}",
	};
	struct bed *b = *state;
	uint32_t id;
	unsigned arg;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *o;

		request(b, bad[i]);
		o = response(b);
		assert_non_null(o);
		assert_true(json_is_false(json_object_get(o, "ok")));
		assert_non_null(json_string_value(json_object_get(o, "error")));
		json_decref(o);
		assert_int_equal(asked(b, &id, &arg), 0);
	}
}

static void
test_deep_json(void **state)
{
	static char deep[CONTROL_REQUEST_MAX];
	struct bed *b = *state;
	json_t *o;

	memset(deep, '[', sizeof(deep) - 1);
	request(b, deep);
	o = response(b);
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);
}

static void
test_who_may_change(void **state)
{
	static const struct {
		uid_t uid;
		bool own_user, allowed;
	} cases[] = {
		{ 0, true, true }, { 0, false, true }, { 1000, true, false }, { 12345678, false, false },
	};
	struct bed *b = *state;
	uint32_t id;
	unsigned arg, type;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *o;

		b->c.clients[0].uid = cases[i].uid;
		b->c.own_user = cases[i].own_user;
		request(b, "{\"command\":\"drain\",\"sudo_uid\":\"1000\"}");
		assert_int_equal(asked(b, &id, &arg), cases[i].allowed ? ROLE_MSG_DRAIN_ALL : 0);
		assert_string_equal(recorded(b, AUDIT_F_VERDICT, &type), cases[i].allowed ? "allow" : "deny");
		assert_int_equal(type, AUDIT_COMMAND);
		o = response(b);
		if (cases[i].allowed)
			assert_null(o);
		else
			assert_true(json_is_false(json_object_get(o, "ok")));
		json_decref(o);
		b->c.clients[0].state = CLIENT_READING;
	}
	/* Whoever started it, when roles have no users of their own. */
	b->c.clients[0].uid = geteuid();
	b->c.own_user = false;
	request(b, "{\"command\":\"reload\"}");
	assert_int_equal(asked(b, &id, &arg), ROLE_MSG_RELOAD);
}

static void
test_what_is_recorded(void **state)
{
	struct bed *b = *state;
	unsigned type, arg;
	uint32_t id;

	request(b, "{\"command\":\"log-level\",\"level\":\"debug\",\"sudo_uid\":\"1000\"}");
	assert_int_equal(asked(b, &id, &arg), ROLE_MSG_SET_LOG_LEVEL);
	assert_int_equal(arg, 3);
	assert_string_equal(recorded(b, AUDIT_F_COMMAND, &type), "log-level debug");
	b->c.clients[0].state = CLIENT_READING;
	request(b, "{\"command\":\"reload\",\"sudo_uid\":\"1000\"}");
	assert_string_equal(recorded(b, AUDIT_F_SUDO_UID, &type), "1000");
	b->c.clients[0].state = CLIENT_READING;
	request(b, "{\"command\":\"reload\",\"sudo_uid\":\"1 root=\\\"yes\\\"\"}"); /* a claim that is no uid is none */
	assert_string_equal(recorded(b, AUDIT_F_SUDO_UID, &type), "");
	/* Asking changes nothing and is not on record. */
	b->c.clients[0].state = CLIENT_READING;
	request(b, "{\"command\":\"status\"}");
	assert_null(recorded(b, AUDIT_F_COMMAND, &type));
}

static void
test_kill_switch(void **state)
{
	struct bed *b = *state;
	struct client *cl = &b->c.clients[0];
	unsigned type, arg;
	uint32_t id;
	json_t *o;

	request(b, "{\"command\":\"sever\",\"peer\":\"irs\",\"sudo_uid\":\"1000\"}");
	assert_int_equal(asked(b, &id, &arg), ROLE_MSG_SEVER);
	assert_string_equal(asked_about, "irs");
	assert_string_equal(recorded(b, AUDIT_F_COMMAND, &type), "sever irs");
	assert_int_equal(type, AUDIT_COMMAND);
	cl->state = CLIENT_READING;

	/* A name that is none is not cut, and says which was meant. */
	request(b, "{\"command\":\"sever\",\"peer\":\"iirs\"}");
	assert_int_equal(asked(b, &id, &arg), 0);
	o = response(b);
	assert_non_null(strstr(json_string_value(json_object_get(o, "error")), "did you mean \"irs\""));
	json_decref(o);

	request(b, "{\"command\":\"restore\",\"peer\":\"irs.example\"}");
	assert_int_equal(asked(b, &id, &arg), ROLE_MSG_RESTORE);
	assert_string_equal(asked_about, "irs.example");
	assert_string_equal(recorded(b, AUDIT_F_COMMAND, &type), "restore irs.example");
	cl->state = CLIENT_READING;

	cl->uid = 1000;
	request(b, "{\"command\":\"sever\",\"peer\":\"irs\"}");
	assert_int_equal(asked(b, &id, &arg), 0);
	assert_string_equal(recorded(b, AUDIT_F_VERDICT, &type), "deny");
	o = response(b);
	assert_non_null(strstr(json_string_value(json_object_get(o, "error")), "only root"));
	json_decref(o);

	b->peer.severed = true;
	o = merge_peers(&b->c);
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(o, "peers"), 0), "severed")));
	json_decref(o);
	o = merge_status(&b->c);
	assert_string_equal(json_string_value(json_array_get(json_object_get(o, "severed"), 0)), "irs");
	json_decref(o);
}

static void
test_lines(void **state)
{
	static const char two[] = "{\"command\":\"x\"}\n{\"command\":\"y\"}\n";
	struct bed *b = *state;
	struct client *cl = &b->c.clients[0];
	char text[1024];

	/* Byte by byte: nothing happens before the line feed. */
	for (size_t i = 0; i + 1 < sizeof(two); i++) {
		assert_int_equal(send(b->far, two + i, 1, 0), 1);
		client_on_ready(cl, NOW);
		assert_int_equal(client_has_request(cl), two[i] == '\n');
		if (client_has_request(cl)) {
			client_next_request(&b->c, cl, NOW);
			assert_true(recv(b->far, text, sizeof(text), MSG_DONTWAIT) > 0);
		}
	}
	/* Both at once: one after the other. */
	assert_int_equal(send(b->far, two, sizeof(two) - 1, 0), (int)sizeof(two) - 1);
	client_on_ready(cl, NOW);
	assert_true(client_has_request(cl));
	client_next_request(&b->c, cl, NOW);
	assert_true(client_has_request(cl));
	client_next_request(&b->c, cl, NOW);
	assert_false(client_has_request(cl));
}

static void
test_bounds(void **state)
{
	static char blank[CONTROL_REQUEST_MAX + 1];
	struct bed *b = *state;
	struct client *cl = &b->c.clients[0];
	int size = 4 * CONTROL_REQUEST_MAX;
	size_t sent = 0;

	setsockopt(b->far, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	memset(blank, ' ', sizeof(blank));
	for (int i = 0; i < 1000 && cl->fd >= 0; i++) {
		ssize_t n = send(b->far, blank, sizeof(blank) - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		client_on_ready(cl, NOW);
	}
	assert_int_equal(cl->fd, -1); /* a line of 64 KiB without an end */
}

static void
test_deadlines(void **state)
{
	struct bed *b = *state;
	struct client *cl = &b->c.clients[0];
	json_t *o;

	request(b, "{\"command\":\"reload\"}");
	assert_int_equal(cl->state, CLIENT_MASTER);
	assert_int_equal(cl->deadline, NOW + CONTROL_MASTER_MS);
	client_on_deadline(cl, cl->deadline); /* it is told, and may ask again */
	o = response(b);
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);
	assert_int_equal(cl->state, CLIENT_READING);
	client_on_deadline(cl, cl->deadline); /* it asked nothing */
	assert_int_equal(cl->fd, -1);
}

static void
test_slow_reader(void **state)
{
	struct bed *b = *state;
	struct client *cl = &b->c.clients[0];
	char *big = mem_alloc(4 << 20);
	json_t *o;
	size_t got = 0;
	char part[4096];
	ssize_t n;

	memset(big, 'x', 4 << 20);
	o = json_stringn(big, 4 << 20);
	client_respond(cl, json_pack("{s:o}", "x", o), NOW);
	assert_int_equal(cl->state, CLIENT_WRITING);
	while (cl->state == CLIENT_WRITING) {
		while ((n = recv(b->far, part, sizeof(part), MSG_DONTWAIT)) > 0)
			got += (size_t)n;
		client_on_ready(cl, NOW);
	}
	while ((n = recv(b->far, part, sizeof(part), MSG_DONTWAIT)) > 0)
		got += (size_t)n;
	assert_true(got > 4 << 20);
	/* Beyond the bound: an error, not a cut answer. */
	o = json_stringn(big, 4 << 20);
	client_respond(cl, json_pack("{s:o,s:o,s:o}", "x", json_incref(o), "y", json_incref(o), "z", o), NOW);
	o = response(b);
	assert_true(json_is_false(json_object_get(o, "ok")));
	json_decref(o);
	mem_free(big);
}

static void
add_worker(struct bed *b, unsigned index, const char *json)
{
	struct channel *ch;

	mem_grow(&b->c.channels, &b->c.channels_cap, b->c.nchannels + 1, sizeof(*b->c.channels));
	ch = &b->c.channels[b->c.nchannels++];
	memset(ch, 0, sizeof(*ch));
	ch->role = ROLE_WORKER;
	ch->index = index;
	ch->status = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
}

static void
test_merge(void **state)
{
	struct bed *b = *state;
	json_t *o, *s, *p;

	b->c.gather.master = json_loads("{\"version\":\"x\",\"roles\":[]}", 0, NULL);
	add_worker(b, 0, "{\"services\":[{\"name\":\"permit\",\"active\":1,\"allowed\":2,\"denied\":3,\"failed\":4,"
	    "\"endpoints\":[{\"address\":\"10.1.0.20:8080\",\"idle\":5,\"active\":6},{\"address\":\"9.9.9.9:9\",\"idle\":1}]}],"
	    "\"links\":[{\"peer\":\"irs\",\"state\":\"up\"}]}");
	add_worker(b, 1, "{\"services\":[{\"name\":\"permit\",\"active\":10,\"allowed\":20,\"denied\":30,\"failed\":40,"
	    "\"endpoints\":[{\"address\":\"10.1.0.20:8080\",\"idle\":50,\"active\":60}]},{\"name\":\"unknown\",\"active\":1}],"
	    "\"links\":[{\"peer\":\"irs\",\"state\":\"up\"},{\"peer\":\"gone\",\"state\":\"draining\"}]}");
	add_worker(b, 2, NULL);
	/* What a broken worker may say changes nothing. */
	add_worker(b, 3, "{\"services\":7,\"links\":{\"peer\":\"irs\"}}");
	add_worker(b, 4, "{\"services\":[7,null,{\"name\":7,\"active\":\"many\"},{\"endpoints\":[[]]}],\"links\":[7,[],{}]}");

	o = merge_services(&b->c);
	s = json_array_get(json_object_get(o, "services"), 0);
	assert_string_equal(json_string_value(json_object_get(s, "name")), "permit");
	assert_int_equal(json_integer_value(json_object_get(s, "active")), 11);
	assert_int_equal(json_integer_value(json_object_get(s, "failed")), 44);
	p = json_array_get(json_object_get(s, "endpoints"), 0);
	assert_int_equal(json_integer_value(json_object_get(p, "idle")), 55);
	assert_int_equal(json_array_size(json_object_get(s, "endpoints")), 1);
	s = json_array_get(json_object_get(o, "services"), 1);
	assert_string_equal(json_string_value(json_object_get(s, "via")), "irs");
	assert_int_equal(json_integer_value(json_object_get(s, "active")), 0);
	assert_int_equal(json_array_size(json_object_get(o, "services")), 2);
	json_decref(o);

	o = merge_peers(&b->c);
	p = json_array_get(json_object_get(o, "peers"), 0);
	assert_string_equal(json_string_value(json_object_get(p, "domain")), "irs.example");
	assert_int_equal(json_array_size(json_object_get(p, "links")), 2);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(p, "links"), 1), "worker")), 1);
	json_decref(o);

	o = merge_status(&b->c);
	assert_string_equal(json_string_value(json_object_get(o, "version")), "x");
	assert_int_equal(json_array_size(json_object_get(o, "workers")), 4);
	assert_true(json_is_null(json_object_get(o, "journal")));
	assert_int_equal(json_array_size(json_object_get(o, "not_answering")), 1);
	json_decref(o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deep_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_may_change, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_recorded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_switch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
