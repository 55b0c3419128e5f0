/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/gwctl/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "tools/gwctl/socket_scan.h"

#define DEFAULT_SOCKET "/run/sallyport/control.sock"
#define CONFIG_MAX (16U << 20)
#define ANSWER_MAX (64U << 20)
#define ANSWER_S 130       /* a reload waits for its workers */

static char *
read_file(const char *path, size_t *len)
{
	struct buf b;
	uint8_t *to;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	buf_init(&b, CONFIG_MAX);
	while ((to = buf_reserve(&b, 65536)) && (n = read(fd, to, 65536)) > 0)
		b.len += (size_t)n;
	close(fd);
	*len = b.len;
	return buf_steal(&b);
}

/* A relative path is relative to the config's directory. */
static char *
beside(const char *config_path, char *path)
{
	const char *slash = strrchr(config_path, '/');
	char *full;

	if (path[0] == '/' || !slash)
		return path;
	full = mem_printf("%.*s/%s", (int)(slash - config_path), config_path, path);
	mem_free(path);
	return full;
}

/*
 * -s, else what the config says, else the default. A config that is broken, or that names files which the caller may not
 * read, still says where the socket is.
 */
static char *
socket_path(const struct gwctl *g)
{
	char *text, *path = NULL;
	struct errs errs;
	struct config *c;
	size_t len;

	if (g->socket_path)
		return mem_strdup(g->socket_path);
	errs_init(&errs);
	c = config_load(g->config_path, &errs);
	if (c) {
		path = mem_strdup(c->control.socket);
	} else if ((text = read_file(g->config_path, &len))) {
		path = socket_scan(text, len);
		mem_free(text);
		if (path)
			path = beside(g->config_path, path);
	}
	config_free(c);
	errs_fini(&errs);
	return path ? path : mem_strdup(DEFAULT_SOCKET);
}

static int
unreachable(const char *path)
{
	const char *next = "is sallyportd running? -s SOCKET names another socket";

	if (errno == EACCES || errno == EPERM)
		next = "run it as root or as a member of the socket's group";
	else if (errno == ENOENT)
		next = "is sallyportd running, and is this its config (-c) or socket (-s)?";
	gwctl_error("cannot reach sallyportd at %s: %s; %s", path, strerror(errno), next);
	return GWCTL_UNREACHABLE;
}

static int
dial(const char *path)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(un.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

bool
request_reachable(const struct gwctl *g)
{
	char *path = socket_path(g);
	int fd = dial(path);

	if (fd >= 0)
		close(fd);
	mem_free(path);
	return fd >= 0;
}

static char *
compose(const char *command, const char *about, const char *value)
{
	const char *sudo_uid = getenv("SUDO_UID");
	json_t *o = json_object();
	char *s, *line;

	json_object_set_new(o, "command", json_string(command));
	if (value)
		json_object_set_new(o, about, json_string(value));
	if (sudo_uid && json_object_set_new(o, "sudo_uid", json_string(sudo_uid)) < 0)
		json_object_del(o, "sudo_uid");
	s = json_dumps(o, JSON_COMPACT);
	line = mem_printf("%s\n", s ? s : "{}");
	free(s);
	json_decref(o);
	return line;
}

/* 0 with a line in *in, or -1 with errno. */
static int
exchange(int fd, const char *line, struct buf *in)
{
	size_t sent = 0, n = strlen(line);
	ssize_t r;

	while (sent < n) {
		r = send(fd, line + sent, n - sent, MSG_NOSIGNAL);
		if (r <= 0)
			return -1;
		sent += (size_t)r;
	}
	for (;;) {
		uint8_t *to = buf_reserve(in, 65536);

		if (!to) {
			errno = EMSGSIZE;
			return -1;
		}
		r = recv(fd, to, 65536, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			errno = ECONNRESET;
		if (r <= 0)
			return -1;
		in->len += (size_t)r;
		if (in->data[in->len - 1] == '\n')
			return 0;
	}
}

static int
ask(struct gwctl *g, const char *command, const char *about, const char *value, bool quiet, json_t **answer)
{
	char *path = socket_path(g), *line = compose(command, about, value);
	struct buf in;
	int fd = dial(path), result = GWCTL_OK;

	*answer = NULL;
	buf_init(&in, ANSWER_MAX);
	if (fd < 0 || exchange(fd, line, &in) < 0) {
		result = quiet ? GWCTL_UNREACHABLE : unreachable(path);
	} else {
		*answer = json_loadb((const char *)in.data, in.len, 0, NULL);
		if (!json_is_object(*answer)) {
			json_decref(*answer);
			*answer = NULL;
			result = quiet ? GWCTL_FAILED : gwctl_error("the daemon at %s answers what is no JSON object; is it of this version?", path);
		}
	}
	if (fd >= 0)
		close(fd);
	buf_fini(&in);
	mem_free(line);
	mem_free(path);
	return result;
}

int
request_send(struct gwctl *g, const char *command, const char *level, json_t **answer)
{
	return ask(g, command, "level", level, false, answer);
}

int
request_send_peer(struct gwctl *g, const char *command, const char *peer, json_t **answer)
{
	return ask(g, command, "peer", peer, false, answer);
}

int
request_if_running(struct gwctl *g, const char *command, json_t **answer)
{
	return ask(g, command, "level", NULL, true, answer);
}

int
request_failed(const json_t *answer)
{
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (json_is_true(json_object_get(answer, "ok")))
		return GWCTL_OK;
	if (error)
		gwctl_error("%s", error);
	return GWCTL_FAILED;
}

void
request_print_json(const json_t *answer)
{
	json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
}
