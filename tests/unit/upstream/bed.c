/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/upstream/bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/mem.h"

/* ---- the origin's side ---- */

int bed_accept(int listener, struct bed_seen *seen)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		_exit(1);
	seen->connections++;
	return fd;
}

long bed_read(int fd, struct bed_seen *seen)
{
	long n = read(fd, seen->text + seen->bytes, sizeof(seen->text) - seen->bytes - 1);

	if (n > 0)
		seen->bytes += (size_t)n;
	else
		seen->ended += n == 0;
	return n;
}

bool bed_request(int fd, struct bed_seen *seen)
{
	size_t from = seen->bytes;

	while (!strstr(seen->text + from, "\r\n\r\n"))
		if (bed_read(fd, seen) <= 0)
			return false;
	seen->requests++;
	return true;
}

void bed_say(int fd, const char *text)
{
	size_t n = strlen(text);

	while (n) {
		ssize_t k = send(fd, text, n, MSG_NOSIGNAL);

		if (k <= 0)
			return;
		text += k;
		n -= (size_t)k;
	}
}

void bed_reset(int fd)
{
	struct linger lg = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg));
	close(fd);
}

/* ---- ours ---- */

static int listen_here(struct config_endpoint *e, bool live)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	if (live)
		assert_int_equal(listen(fd, 64), 0);
	memcpy(&e->addr.ss, &in, sizeof(in));
	e->addr.len = sizeof(in);
	e->text = mem_printf("127.0.0.1:%u", ntohs(in.sin_port));
	return fd;
}

void bed_init(struct bed *b, void (*script)(int listener, struct bed_seen *seen))
{
	struct config_service *s = &b->service;
	int fd;

	memset(b, 0, sizeof(*b));
	b->seen = mmap(NULL, sizeof(*b->seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(b->seen, MAP_FAILED);
	b->loop = loop_new();
	s->name = mem_strdup("svc");
	s->host = mem_strdup("svc.example");
	s->endpoints = b->endpoints;
	s->nendpoints = 1;
	s->connect_ms = 2000;
	s->response_ms = 2000;
	s->idle_ms = 2000;
	s->max_connections = 4;
	s->peer_index = -1;
	b->config.services = s;
	b->config.nservices = 1;
	b->config.limits.write_ms = 2000;
	fd = listen_here(&b->endpoints[0], true);
	b->pid = fork();
	if (b->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(20);
		script(fd, b->seen);
		for (;;)
			pause(); /* what is open stays open */
	}
	close(fd);
}

void bed_dead_endpoint(struct bed *b)
{
	b->endpoints[b->service.nendpoints] = b->endpoints[0];
	close(listen_here(&b->endpoints[0], false));
	b->service.nendpoints++;
}

void bed_ready(struct bed *b)
{
	struct upstream_env env = { .loop = b->loop, .config = &b->config, .scratch = b->scratch, .scratch_size = sizeof(b->scratch) };

	b->set = upstream_set_new(&env);
}

void bed_fini(struct bed *b)
{
	struct up_service *sv = &b->set->services[0];
	unsigned active = 0, idle = 0;

	/* Whatever happened: what is counted is what is there. */
	for (size_t i = 0; i < sv->n; i++) {
		active += sv->endpoints[i].active;
		idle += sv->endpoints[i].nidle;
	}
	assert_int_equal(active, 0);
	assert_int_equal(sv->connections, idle);
	assert_int_equal(b->set->open, idle);
	upstream_set_free(b->set);
	loop_free(b->loop);
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	munmap(b->seen, sizeof(*b->seen));
	for (size_t i = 0; i < b->service.nendpoints; i++)
		mem_free(b->endpoints[i].text);
	mem_free(b->service.name);
	mem_free(b->service.host);
}

static void on_limit(void *ctx)
{
	(void)ctx;
	fail_msg("no end after 10 s");
}

void bed_run(struct bed *b)
{
	timer_set(b->loop, &b->limit, 10000, on_limit, b);
	loop_run(b->loop);
	timer_cancel(&b->limit);
	timer_cancel(&b->timer);
}

void bed_stop(struct bed *b)
{
	loop_stop(b->loop);
}

void bed_later(struct bed *b, unsigned ms, loop_fn *fn)
{
	timer_set(b->loop, &b->timer, ms, fn, b);
}

/* ---- exchanges ---- */

static struct bed *current; /* one bed at a time */

static void tell_over(void *ctx)
{
	struct bed *b = ctx;

	for (unsigned i = 0; i < b->ncalls; i++)
		if ((b->call[i].ended || b->call[i].aborted) && !b->call[i].over) {
			b->call[i].over = true;
			if (b->on_over)
				b->on_over(b, &b->call[i]);
			else
				bed_stop(b);
		}
}

static void over(struct bed_call *c)
{
	(void)c;
	bed_later(current, 1, tell_over);
}

static void on_head(void *x, const struct leg_head *h)
{
	struct bed_call *c = x;

	if (h->status < 200) {
		c->interim++;
		return;
	}
	c->heads++;
	c->status = h->status;
	for (unsigned i = 0; i < h->nfields; i++)
		if (h->fields[i].name_len == 6 && memcmp(h->fields[i].name, "x-test", 6) == 0)
			snprintf(c->field, sizeof(c->field), "%.*s", (int)h->fields[i].value_len, h->fields[i].value);
	c->head_end = h->end;
	if (h->end) {
		c->ended = true;
		c->leg->ev = NULL;
		c->leg->ops->release(c->leg);
		c->leg = NULL;
		over(c);
	}
}

static void on_data(void *x, const uint8_t *p, size_t n)
{
	struct bed_call *c = x;

	assert_false(c->ended || c->aborted);
	assert_true(n > 0 && c->body_len + n < sizeof(c->body));
	memcpy(c->body + c->body_len, p, n);
	c->body_len += n;
	if (c->pause_at_data) {
		c->leg->ops->pause(c->leg);
		if (current->on_pause)
			current->on_pause(current, c);
	}
}

static void on_end(void *x, const struct h1_field *t, unsigned n)
{
	struct bed_call *c = x;
	size_t at = 0;

	assert_false(c->ended || c->aborted);
	for (unsigned i = 0; i < n; i++)
		at += (size_t)snprintf(c->trailers + at, sizeof(c->trailers) - at, "%.*s=%.*s;", (int)t[i].name_len, t[i].name,
		    (int)t[i].value_len, t[i].value);
	c->ended = true;
	if (c->leg->ops == &up_http_ops) {
		c->leg->ev = NULL;
		c->leg->ops->release(c->leg);
		c->leg = NULL;
	}
	over(c);
}

static void on_drained(void *x)
{
	((struct bed_call *)x)->drained++;
}

static void on_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct bed_call *c = x;

	assert_false(c->aborted);
	c->leg = NULL;
	c->aborted = true;
	c->why = why;
	c->unsent = unsent;
	snprintf(c->detail, sizeof(c->detail), "%s", detail);
	over(c);
}

static const struct leg_events events = {
	.on_head = on_head, .on_data = on_data, .on_end = on_end, .on_drained = on_drained, .on_abort = on_abort,
};

static struct bed_call *new_call(struct bed *b)
{
	struct bed_call *c = &b->call[b->ncalls++];

	assert_true(b->ncalls <= sizeof(b->call) / sizeof(b->call[0]));
	current = b;
	return c;
}

struct bed_call *bed_http(struct bed *b, const char *method, const char *path, const char *field, uint64_t length)
{
	struct h1_field f = { .name = "x-test", .name_len = 6, .value = field ? field : "", .value_len = field ? (uint32_t)strlen(field) : 0 };
	struct leg_head h = {
		.method = method, .method_len = (uint32_t)strlen(method), .method_id = h1_method_id(method, strlen(method)),
		.authority = "svc.example", .authority_len = 11, .path = path, .path_len = (uint32_t)strlen(path),
		.fields = &f, .nfields = 1, .length = length ? length : LEG_NO_LENGTH, .end = length == 0,
	};
	struct bed_call *c = new_call(b);
	const char *why = "";

	c->leg = upstream_http(b->set, 0, &h, &events, c, &why);
	snprintf(c->detail, sizeof(c->detail), "%s", why);
	return c;
}

struct bed_call *bed_tcp(struct bed *b)
{
	struct bed_call *c = new_call(b);
	const char *why = "";

	c->leg = upstream_tcp(b->set, 0, &events, c, &why);
	snprintf(c->detail, sizeof(c->detail), "%s", why);
	return c;
}

void bed_send(struct bed_call *c, const char *text)
{
	c->leg->ops->data(c->leg, (const uint8_t *)text, strlen(text));
}

void bed_end(struct bed_call *c)
{
	c->leg->ops->end(c->leg, NULL, 0);
}
