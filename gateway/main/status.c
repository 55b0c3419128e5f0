/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/status.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/main/children.h"
#include "gateway/main/expiry.h"
#include "gateway/process/sandbox.h"
#include "pki/svid.h"

#define REPLY_MAX (IPC_MAX_DATA - 16)
#define FAULTS_BYTES 48000
#define ROLES_SHOWN 160

static const char *
state_name(enum child_state s)
{
	switch (s) {
	case CHILD_NONE: return "dead";
	case CHILD_SETUP:
	case CHILD_STARTING: return "starting";
	case CHILD_READY: return "ready";
	case CHILD_DRAINING: return "draining";
	case CHILD_STOPPING: return "stopping";
	}
	return "unknown";
}

/* Text of any bytes: jansson takes only UTF-8. */
static json_t *
text(const char *s)
{
	json_t *j = json_string(s ? s : "");

	return j ? j : json_string("(not UTF-8)");
}

static json_t *
sandbox_list(uint32_t bits, bool missing)
{
	json_t *a = json_array();

	for (unsigned i = 0; sandbox_bit_name(i); i++)
		if ((bits >> i & 1) != missing)
			json_array_append_new(a, json_string(sandbox_bit_name(i)));
	return a;
}

static json_t *
role_json(const struct child *c, uint64_t now)
{
	json_t *o = json_object();

	json_object_set_new(o, "role", text(role_name(c->role)));
	json_object_set_new(o, "index", json_integer(c->index));
	json_object_set_new(o, "instance", json_integer(c->instance));
	json_object_set_new(o, "state", text(state_name(c->state)));
	json_object_set_new(o, "restarts", json_integer(c->restarts));
	if (c->gen)
		json_object_set_new(o, "generation", json_integer(c->gen->number));
	if (!children_running(c))
		return o;
	json_object_set_new(o, "pid", json_integer(c->pid));
	json_object_set_new(o, "uid", json_integer(c->uid));
	json_object_set_new(o, "uptime_s", json_integer((json_int_t)((now - c->started_ms) / 1000)));
	if (c->was_ready) {
		json_object_set_new(o, "sandbox", sandbox_list(c->sandbox, false));
		json_object_set_new(o, "sandbox_missing", sandbox_list(c->sandbox, true));
	}
	return o;
}

static json_t *
roles_json(const struct master *m, uint64_t now)
{
	json_t *a = json_array(), *o = json_object();
	const struct child *c;
	unsigned shown = 0;

	json_object_set_new(o, "role", text("master"));
	json_object_set_new(o, "index", json_integer(0));
	json_object_set_new(o, "instance", json_integer(0));
	json_object_set_new(o, "state", text(m->state == MASTER_RUNNING ? "ready" : m->state == MASTER_STARTING ? "starting" : "stopping"));
	json_object_set_new(o, "restarts", json_integer(0));
	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "uid", json_integer(geteuid()));
	json_object_set_new(o, "uptime_s", json_integer((json_int_t)((now - m->started_ms) / 1000)));
	json_array_append_new(a, o);
	TAILQ_FOREACH(c, &m->children, next)
		if (shown++ < ROLES_SHOWN && (children_running(c) || c->wanted))
			json_array_append_new(a, role_json(c, now));
	return a;
}

static json_t *
listeners_json(const struct config *c)
{
	static const struct { unsigned bit; const char *name; } accepts[] = {
		{ CONFIG_PEERS, "peers" }, { CONFIG_WORKLOADS, "workloads" }, { CONFIG_PLAINTEXT, "plaintext" }, { CONFIG_TCP, "tcp" },
		{ CONFIG_ENROL, "enrol" },
	};
	json_t *a = json_array();

	for (size_t i = 0; i < c->nlisteners && i < 64; i++) {
		const struct config_listener *l = &c->listeners[i];
		json_t *o = json_object(), *w = json_array();

		json_object_set_new(o, "name", text(l->name));
		json_object_set_new(o, "address", text(l->path ? l->path : l->address));
		for (size_t k = 0; k < sizeof(accepts) / sizeof(accepts[0]); k++)
			if (l->accept & accepts[k].bit)
				json_array_append_new(w, json_string(accepts[k].name));
		json_object_set_new(o, "accept", w);
		json_array_append_new(a, o);
	}
	return a;
}

static void
on_own(void *ctx, const struct svid_cert *c)
{
	json_t *o = ctx;
	char sha256[65];

	if (json_object_get(o, "serial")) /* the first is the leaf */
		return;
	for (int i = 0; i < 32; i++)
		snprintf(sha256 + 2 * i, 3, "%02x", c->sha256[i]);
	json_object_set_new(o, "serial", text(c->serial));
	json_object_set_new(o, "sha256", text(sha256));
	json_object_set_new(o, "not_before", json_integer((json_int_t)c->not_before));
	json_object_set_new(o, "not_after", json_integer((json_int_t)c->not_after));
}

/* Those in use, which may be others than those on disk. */
static json_t *
certificates_json(const struct config *c)
{
	const struct { const char *name, *file, *pem; } own[] = {
		{ "identity", c->identity.certificate, c->identity.certificate_pem },
		{ "inside", c->inside.certificate, c->inside.certificate_pem },
		{ "enrol", c->enrol.certificate, c->enrol.certificate_pem },
	};
	json_t *a = json_array();
	const char *why;

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		json_t *o;

		if (!own[i].pem)
			continue;
		o = json_object();
		json_object_set_new(o, "name", text(own[i].name));
		json_object_set_new(o, "file", text(own[i].file));
		svid_pem_each(own[i].pem, on_own, o, &why);
		json_array_append_new(a, o);
	}
	return a;
}

static void
write_json(json_t *o, struct buf *out)
{
	char *s = json_dumps(o, JSON_COMPACT);

	if (!s || buf_puts(out, s) < 0) {
		buf_reset(out);
		buf_puts(out, "{\"ok\":false,\"faults\":[\"the answer is too long\"]}");
	}
	free(s);
	json_decref(o);
}

void
status_master(const struct master *m, struct buf *json)
{
	uint64_t now = clock_mono_ms();
	json_t *o = json_object();
	const struct generation *g;
	unsigned draining = 0;

	TAILQ_FOREACH(g, &m->generations, next)
		draining += g->draining;
	json_object_set_new(o, "version", text(SALLYPORT_VERSION));
	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "uptime_s", json_integer((json_int_t)((now - m->started_ms) / 1000)));
	json_object_set_new(o, "root", json_boolean(m->root));
	json_object_set_new(o, "config", text(m->config_path));
	json_object_set_new(o, "generation", json_integer(m->current ? m->current->number : 0));
	json_object_set_new(o, "generations_draining", json_integer(draining));
	json_object_set_new(o, "policy_generation", json_integer((json_int_t)m->policy_generation));
	json_object_set_new(o, "policy_rules", json_integer(m->policy_rules));
	json_object_set_new(o, "policy_digest", text(m->policy_digest));
	if (m->current) {
		json_object_set_new(o, "domain", text(m->current->config->domain));
		json_object_set_new(o, "id", text(m->current->config->identity.id));
		json_object_set_new(o, "certificate_not_after", json_integer((json_int_t)expiry_of(m->current->config->identity.certificate_pem)));
		json_object_set_new(o, "certificates", certificates_json(m->current->config));
		json_object_set_new(o, "trust_since_s", json_integer((json_int_t)((now - m->trust_ms) / 1000)));
		if (m->current->config->inside.certificate_pem)
			json_object_set_new(o, "inside_not_after", json_integer((json_int_t)expiry_of(m->current->config->inside.certificate_pem)));
		json_object_set_new(o, "listeners", listeners_json(m->current->config));
	}
	json_object_set_new(o, "roles", roles_json(m, now));
	write_json(o, json);
}

void
status_reload(const struct master *m, bool ok, const struct errs *errs, struct buf *json)
{
	json_t *o = json_object(), *faults = json_array(), *warnings = json_array();
	size_t room = FAULTS_BYTES, dropped = errs->dropped;

	for (size_t i = 0; i < errs->n; i++) {
		size_t n = strlen(errs->items[i].text) + 8;

		if (n > room || json_array_size(faults) + json_array_size(warnings) > 500) {
			dropped++;
			continue;
		}
		room -= n;
		json_array_append_new(errs->items[i].warning ? warnings : faults, text(errs->items[i].text));
	}
	json_object_set_new(o, "ok", json_boolean(ok));
	json_object_set_new(o, "generation", json_integer(m->current ? m->current->number : 0));
	json_object_set_new(o, "policy_generation", json_integer((json_int_t)m->policy_generation));
	json_object_set_new(o, "policy_rules", json_integer(m->policy_rules));
	json_object_set_new(o, "faults", faults);
	json_object_set_new(o, "warnings", warnings);
	json_object_set_new(o, "dropped", json_integer((json_int_t)dropped));
	write_json(o, json);
}

void
status_reply(struct master *m, uint32_t id, unsigned error, const struct buf *json)
{
	static uint8_t data[IPC_MAX_DATA];
	size_t n = json->len < REPLY_MAX ? json->len : REPLY_MAX;

	memcpy(data, &id, sizeof(id));
	memcpy(data + sizeof(id), json->data, n);
	children_send(m, m->control, ROLE_MSG_REPLY, (uint16_t)error, data, sizeof(id) + n, NULL, 0);
}
