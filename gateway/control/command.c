/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control/control.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/base/clock.h"
#include "gateway/base/errs.h"
#include "gateway/base/log.h"
#include "gateway/process/sandbox.h"

#define NAME_MAX_BYTES 32

struct control_command {
	const char *name;
	bool changes;              /* root or the daemon's own user only, and on record */
	enum role_msg ask;         /* master; 0: a gather */
	json_t *(*merge)(const struct control *c);
};

static const struct control_command commands[] = {
	{ "status", false, 0, merge_status },
	{ "peers", false, 0, merge_peers },
	{ "services", false, 0, merge_services },
	{ "reload", true, ROLE_MSG_RELOAD, NULL },
	{ "drain", true, ROLE_MSG_DRAIN_ALL, NULL },
	{ "log-level", true, ROLE_MSG_SET_LOG_LEVEL, NULL },
	{ "sever", true, ROLE_MSG_SEVER, NULL },
	{ "restore", true, ROLE_MSG_RESTORE, NULL },
};

struct request {           /* texts are the JSON's */
	const char *command, *level, *peer, *sudo_uid;
};

static const struct control_command *
find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* A uid in digits, or nothing: it is a claim, but one that is read by people. */
static bool
is_uid(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n > 0 && n <= 10 && s[n] == '\0';
}

static const char *
record(struct control *c, const struct client *cl, const char *what, const char *sudo_uid, bool allowed)
{
	static struct log_limit limit;
	uint64_t now = clock_mono_ms();
	struct audit_event e;
	uint32_t suppressed;
	const char *why;
	void *p;

	/* What is refused costs its sender nothing: it must not fill the journal. */
	if (!allowed && !log_limit_ok(&limit, 10, &suppressed))
		return NULL;
	log_info("command=%s uid=%u%s%s verdict=%s", what, (unsigned)cl->uid, sudo_uid ? " sudo_uid=" : "",
	    sudo_uid ? sudo_uid : "", allowed ? "allow" : "deny");
	if (!c->ring)
		return "no-ring";
	why = ring_refusal(c->ring, now);
	p = ring_reserve_end(c->ring, AUDIT_EVENT_MAX, now);
	if (!p)
		return why ? why : "ring-full";
	audit_event_init(&e, p, AUDIT_EVENT_MAX, AUDIT_COMMAND, NULL, 0, clock_wall_us());
	audit_event_str(&e, AUDIT_F_VERDICT, allowed ? "allow" : "deny");
	audit_event_str(&e, AUDIT_F_COMMAND, what);
	audit_event_u64(&e, AUDIT_F_UID, cl->uid);
	audit_event_str(&e, AUDIT_F_SUDO_UID, sudo_uid);
	audit_event_done(&e);
	ring_commit(c->ring, e.len);
	return NULL;
}

/* What a peer may be called in the configuration: nothing else gets on record. */
static bool
is_peer_name(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= CONTROL_PEER_MAX && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

/* Severing a peer that is none would leave its operator in the belief that it was cut. */
static bool
known_peer(const struct control *c, struct client *cl, const char *name, uint64_t now)
{
	const char *names[64], *near;
	char text[256];
	size_t n = 0;

	for (size_t i = 0; c->config && i < c->config->npeers; i++) {
		if (c->config->peers[i].uplink)
			continue;
		if (!strcmp(c->config->peers[i].name, name) || !strcmp(c->config->peers[i].domain, name))
			return true;
		if (n < sizeof(names) / sizeof(names[0]))
			names[n++] = c->config->peers[i].name;
	}
	near = errs_nearest(name, names, n);
	if (near)
		snprintf(text, sizeof(text), "there is no peer \"%s\"; did you mean \"%s\"?", name, near);
	else
		snprintf(text, sizeof(text), "there is no peer \"%s\"; \"gwctl peers\" lists them", name);
	client_fail(cl, text, now);
	return false;
}

/* Is it said what the command is about? what: for the record. 0, or -1 and the client has its answer. */
static int
check_about(struct client *cl, const struct control_command *cmd, const struct request *q, char what[128], uint64_t now)
{
	if (cmd->ask == ROLE_MSG_SET_LOG_LEVEL) {
		if (!q->level || log_level_parse(q->level) < 0) {
			client_fail(cl, "\"level\" is error, warn, info or debug", now);
			return -1;
		}
		snprintf(what, 128, "%s %s", cmd->name, q->level);
	} else if (cmd->ask == ROLE_MSG_SEVER || cmd->ask == ROLE_MSG_RESTORE) {
		if (!q->peer || !is_peer_name(q->peer)) {
			client_fail(cl, "\"peer\" is the name of a peer; \"gwctl peers\" lists them", now);
			return -1;
		}
		snprintf(what, 128, "%s %s", cmd->name, q->peer);
	} else {
		snprintf(what, 128, "%s", cmd->name);
	}
	return 0;
}

static bool
may_change(const struct control *c, const struct client *cl)
{
	return cl->uid == 0 || (!c->own_user && cl->uid == geteuid());
}

static void
run(struct control *c, struct client *cl, const struct control_command *cmd, const struct request *q, uint64_t now)
{
	bool about_peer = cmd->ask == ROLE_MSG_SEVER || cmd->ask == ROLE_MSG_RESTORE;
	char what[128];

	if (check_about(cl, cmd, q, what, now) != 0)
		return;
	cl->command = cmd;
	cl->unrecorded = NULL;
	if (!cmd->ask) {
		cl->state = CLIENT_GATHER;
		cl->in_gather = false;
		cl->deadline = now + 10 * CONTROL_GATHER_MS;
		control_gather(c, now);
		return;
	}
	if (!may_change(c, cl)) {
		record(c, cl, what, q->sudo_uid, false);
		client_fail(cl, "only root and the user that sallyportd was started as may do this", now);
		return;
	}
	if (about_peer && !known_peer(c, cl, q->peer, now))
		return;
	cl->unrecorded = record(c, cl, what, q->sudo_uid, true);
	cl->id = control_ask_master(c, cmd->ask, cmd->ask == ROLE_MSG_SET_LOG_LEVEL ? (unsigned)log_level_parse(q->level) : 0,
	    about_peer ? q->peer : NULL);
	if (!cl->id) {
		client_fail(cl, "master cannot be asked; see the operator log", now);
		return;
	}
	cl->state = CLIENT_MASTER;
	cl->deadline = now + CONTROL_MASTER_MS;
}

void
control_command_run(struct control *c, struct client *cl, const char *line, size_t len, uint64_t now)
{
	const struct control_command *cmd;
	struct request q = { 0 };
	json_error_t err;
	json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &err), *v;
	const char *key;

	if (!json_is_object(o)) {
		json_decref(o);
		client_fail(cl, "a request is one line with a JSON object", now);
		return;
	}
	json_object_foreach(o, key, v) {
		const char **to = !strcmp(key, "command") ? &q.command : !strcmp(key, "level") ? &q.level : !strcmp(key, "peer") ? &q.peer :
		    !strcmp(key, "sudo_uid") ? &q.sudo_uid : NULL;

		if (!to || !json_is_string(v)) {
			client_fail(cl, "a request has \"command\", \"level\", \"peer\" and \"sudo_uid\", all text", now);
			goto out;
		}
		*to = json_string_value(v);
	}
	if (q.sudo_uid && !is_uid(q.sudo_uid))
		q.sudo_uid = NULL;
	cmd = q.command && strlen(q.command) < NAME_MAX_BYTES ? find(q.command) : NULL;
	if (cmd)
		run(c, cl, cmd, &q, now);
	else
		client_fail(cl, "there is no such command; there are status, peers, services, reload, drain, log-level, sever and restore", now);
out:
	json_decref(o);
}

json_t *
control_command_gathered(struct control *c, const struct client *cl)
{
	json_t *o = cl->command->merge(c);

	json_object_set_new(o, "ok", json_true());
	return o;
}

json_t *
control_command_answered(const struct client *cl, unsigned error, const char *json, size_t len)
{
	json_t *o = json_loadb(json, len, 0, NULL);

	if (!json_is_object(o)) {
		json_decref(o);
		return json_pack("{s:b, s:s}", "ok", 0, "error", "master's answer is damaged");
	}
	json_object_set_new(o, "ok", json_boolean(error == 0));
	if (cl->unrecorded)
		json_object_set_new(o, "unrecorded", json_string(cl->unrecorded));
	return o;
}
