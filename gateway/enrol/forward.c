/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EST connections that go on to enrol.forward with their TLS unopened: octets both ways, half-close and reset as they come. What is said in them
 * is between the client and the CA; here is who it was, how much, and how long.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/enrol/enrol_int.h"

enum { CLIENT, SERVER };

struct forward {
	struct enrol *e;
	struct conn *end[2];       /* heap: they outlive us by a turn, or while last words are written */
	bool eof[2];               /* that end will send no more */
	bool open;                 /* the server is connected */
	struct enrol_client client;
	struct deadline limit, life; /* connecting, then silence of both; all in all */
	uint64_t bytes[2];         /* that came from that end */
	uint64_t since_us;
};

static void
finish(struct forward *f, const char *reason, bool reset)
{
	struct enrol *e = f->e;
	const char *bad = f->open ? NULL : "503"; /* what a proxy would say; nobody can be told inside their TLS */

	deadline_cancel(&f->limit);
	deadline_cancel(&f->life);
	for (int i = 0; i < 2; i++) {
		if (!f->end[i])
			continue;
		conn_fini(f->end[i], reset);
		loop_dispose(e->env.loop, f->end[i]);
		f->end[i] = NULL;
	}
	if (bad)
		e->refused++;
	enrol_note(e->env.ring, e->env.loop, &(struct enrol_note){
		.type = bad ? AUDIT_REFUSED : AUDIT_ENROLMENT, .verdict = bad ? "deny" : "allow", .reason = reason, .detail = "enrol.forward",
		.listener = f->client.listener, .client = &f->client.from, .endpoint = e->env.config->enrol.forward[0].text,
		.bytes_in = f->bytes[CLIENT], .bytes_out = f->bytes[SERVER], .duration_us = loop_now_us(e->env.loop) - f->since_us,
	});
	enrol_gone(e, &f->client);
	loop_dispose(e->env.loop, f);
}

static int
side_of(const struct forward *f, const struct conn *c)
{
	return f->end[SERVER] == c ? SERVER : CLIENT;
}

static void
finish_if_done(struct forward *f)
{
	if (f->eof[CLIENT] && f->eof[SERVER] && f->end[CLIENT]->out.bytes == 0 && f->end[SERVER]->out.bytes == 0)
		finish(f, "complete", false);
}

static void
on_open(struct conn *c)
{
	struct forward *f = c->owner;

	if (side_of(f, c) == CLIENT)
		return;
	f->open = true;
	deadline_set(f->e->q_silent, &f->limit);
	conn_resume(f->end[CLIENT]);
}

static void
on_input(struct conn *c)
{
	struct forward *f = c->owner;
	struct enrol_env *env = &f->e->env;
	int from = side_of(f, c);
	struct conn *to = f->end[!from];
	ssize_t n;

	if (f->eof[from])
		return;
	n = conn_read(c, env->scratch, env->scratch_size);
	if (n < 0)
		return;
	deadline_set(f->e->q_silent, &f->limit);
	if (n == 0) {
		f->eof[from] = true;
		conn_shutdown(to);
		conn_tell_empty(to);
		return;
	}
	f->bytes[from] += (uint64_t)n;
	conn_write(to, env->scratch, (size_t)n);
	if (conn_full(to))
		conn_pause(c);
	else if (c->readable)
		conn_again(c);
	else
		conn_check(c);
}

static void
on_drained(struct conn *c)
{
	struct forward *f = c->owner;

	deadline_set(f->e->q_silent, &f->limit);
	if (f->open)
		conn_resume(f->end[!side_of(f, c)]);
	finish_if_done(f);
}

static void
on_close(struct conn *c, const char *why)
{
	struct forward *f = c->owner;
	bool reset = c->error == ECONNRESET || c->error == EPIPE;

	if (!f->open)
		why = side_of(f, c) == SERVER ? "connect-failed" : "client-reset";
	else if (reset)
		why = side_of(f, c) == SERVER ? "service-reset" : "client-reset";
	finish(f, why, reset || !f->open);
}

static const struct conn_ops ops = { .on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close };

void
forward_on_limit(struct deadline *d)
{
	struct forward *f = (struct forward *)((char *)d - offsetof(struct forward, limit));

	finish(f, f->open ? "idle-timeout" : "connect-timeout", true);
}

void
forward_on_life(struct deadline *d)
{
	finish((struct forward *)((char *)d - offsetof(struct forward, life)), "too-long", true);
}

void
enrol_forward(struct enrol *e, int fd, const struct enrol_client *client)
{
	struct forward *f = mem_zalloc(sizeof(*f));
	int to;

	f->e = e;
	f->client = *client;
	f->since_us = loop_now_us(e->env.loop);
	e->connections++;
	e->forwarded++;
	/* On record before the first octet goes on: whoever's worker dies then was there all the same. */
	if (!enrol_note(e->env.ring, e->env.loop, &(struct enrol_note){
		.type = AUDIT_ENROLMENT, .verdict = "allow", .reason = "forwarded", .detail = "enrol.forward", .listener = client->listener,
		.client = &client->from, .endpoint = e->env.config->enrol.forward[0].text, .before = true,
	})) {
		close(fd);
		finish(f, "journal", true);
		return;
	}
	to = conn_dial(&e->env.config->enrol.forward[0].addr);
	if (to < 0) {
		close(fd);
		finish(f, "connect-failed", true);
		return;
	}
	for (int i = 0; i < 2; i++) {
		f->end[i] = mem_alloc(sizeof(*f->end[i]));
		conn_init(f->end[i], e->env.loop, i == CLIENT ? fd : to, i == SERVER, &ops, f);
		f->end[i]->hear_out = true;
		conn_write_timeout(f->end[i], e->env.config->limits.write_ms);
	}
	conn_pause(f->end[CLIENT]);
	deadline_set(e->q_connect, &f->limit);
	deadline_set(e->q_life, &f->life);
}
