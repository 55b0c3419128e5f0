/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/mem.h"

void
client_init(struct client *cl)
{
	memset(cl, 0, sizeof(*cl));
	cl->fd = -1;
}

void
client_start(struct client *cl, int fd, uid_t uid, uint64_t now)
{
	cl->fd = fd;
	cl->uid = uid;
	cl->state = CLIENT_READING;
	cl->deadline = now + CONTROL_IDLE_MS;
	buf_init(&cl->in, CONTROL_REQUEST_MAX);
	buf_init(&cl->out, CONTROL_RESPONSE_MAX);
}

void
client_close(struct client *cl)
{
	if (cl->fd < 0)
		return;
	close(cl->fd);
	buf_fini(&cl->in);
	buf_fini(&cl->out);
	client_init(cl);
}

static void
write_some(struct client *cl, uint64_t now)
{
	while (cl->sent < cl->out.len) {
		ssize_t n = send(cl->fd, cl->out.data + cl->sent, cl->out.len - cl->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			client_close(cl);
			return;
		}
		cl->sent += (size_t)n;
	}
	buf_fini(&cl->out);
	buf_init(&cl->out, CONTROL_RESPONSE_MAX);
	cl->sent = 0;
	cl->state = CLIENT_READING;
	cl->deadline = now + CONTROL_IDLE_MS;
}

void
client_respond(struct client *cl, json_t *response, uint64_t now)
{
	char *s = json_dumps(response, JSON_COMPACT);

	json_decref(response);
	cl->in_gather = false;
	cl->state = CLIENT_WRITING;
	cl->deadline = now + CONTROL_IDLE_MS;
	if (!s || buf_puts(&cl->out, s) < 0 || buf_puts(&cl->out, "\n") < 0) {
		buf_reset(&cl->out);
		cl->out.overflow = false;
		buf_puts(&cl->out, "{\"ok\":false,\"error\":\"the answer is too long\"}\n");
	}
	free(s);
	write_some(cl, now);
}

void
client_fail(struct client *cl, const char *error, uint64_t now)
{
	client_respond(cl, json_pack("{s:b, s:s}", "ok", 0, "error", error), now);
}

bool
client_has_request(const struct client *cl)
{
	return cl->fd >= 0 && cl->state == CLIENT_READING && cl->in.len && memchr(cl->in.data, '\n', cl->in.len);
}

void
client_next_request(struct control *c, struct client *cl, uint64_t now)
{
	size_t n = (size_t)((const uint8_t *)memchr(cl->in.data, '\n', cl->in.len) - cl->in.data);
	char *line = mem_strndup((const char *)cl->in.data, n);

	buf_consume(&cl->in, n + 1);
	control_command_run(c, cl, line, n, now);
	mem_free(line);
}

void
client_on_ready(struct client *cl, uint64_t now)
{
	uint8_t part[4096];
	size_t room = CONTROL_REQUEST_MAX - cl->in.len;
	ssize_t n;

	if (cl->state == CLIENT_WRITING) {
		write_some(cl, now);
		return;
	}
	if (cl->state != CLIENT_READING) { /* it hung up while it waited */
		client_close(cl);
		return;
	}
	if (room == 0)
		return; /* the loop has requests to run first */
	n = recv(cl->fd, part, room < sizeof(part) ? room : sizeof(part), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buf_append(&cl->in, part, (size_t)n) < 0 ||
	    (cl->in.len == CONTROL_REQUEST_MAX && !client_has_request(cl)))
		client_close(cl);
}

void
client_on_deadline(struct client *cl, uint64_t now)
{
	if (cl->state == CLIENT_MASTER || cl->state == CLIENT_GATHER)
		client_fail(cl, "master does not answer; see the operator log", now);
	else
		client_close(cl);
}
