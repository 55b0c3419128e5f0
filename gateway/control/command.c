/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control/control.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/base/clock.h"
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

static bool
may_change(const struct control *c, const struct client *cl)
{
	return cl->uid == 0 || (!c->own_user && cl->uid == geteuid());
}

static void
run(struct control *c, struct client *cl, const struct control_command *cmd, const char *level, const char *sudo_uid, uint64_t now)
{
	char what[64];
	int lv = 0;

	snprintf(what, sizeof(what), "%s", cmd->name);
	if (cmd->ask == ROLE_MSG_SET_LOG_LEVEL) {
		lv = level ? log_level_parse(level) : -1;
		if (lv < 0) {
			client_fail(cl, "\"level\" is error, warn, info or debug", now);
			return;
		}
		snprintf(what, sizeof(what), "%s %s", cmd->name, level);
	}
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
		record(c, cl, what, sudo_uid, false);
		client_fail(cl, "only root and the user that sallyportd was started as may do this", now);
		return;
	}
	cl->unrecorded = record(c, cl, what, sudo_uid, true);
	cl->id = control_ask_master(c, cmd->ask, (unsigned)lv);
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
	const char *name = NULL, *level = NULL, *sudo_uid = NULL;
	const struct control_command *cmd;
	json_error_t err;
	json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &err), *v;
	const char *key;

	if (!json_is_object(o)) {
		json_decref(o);
		client_fail(cl, "a request is one line with a JSON object", now);
		return;
	}
	json_object_foreach(o, key, v) {
		const char **to = !strcmp(key, "command") ? &name : !strcmp(key, "level") ? &level :
		    !strcmp(key, "sudo_uid") ? &sudo_uid : NULL;

		if (!to || !json_is_string(v)) {
			client_fail(cl, "a request has \"command\", \"level\" and \"sudo_uid\", all text", now);
			goto out;
		}
		*to = json_string_value(v);
	}
	if (sudo_uid && !is_uid(sudo_uid))
		sudo_uid = NULL;
	cmd = name && strlen(name) < NAME_MAX_BYTES ? find(name) : NULL;
	if (cmd)
		run(c, cl, cmd, level, sudo_uid, now);
	else
		client_fail(cl, "there is no such command; there are status, peers, services, reload, drain and log-level", now);
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
