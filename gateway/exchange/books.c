/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/exchange/books.h"

#include <stdio.h>
#include <string.h>

#include "gateway/base/decimal.h"
#include "gateway/base/log.h"

/* Room that an event may need: its fields are cut to AUDIT_TEXT_MAX each, most are short. */
#define EVENT_ROOM AUDIT_EVENT_MAX

static void client_text(const struct exchange_from *f, char out[ADDR_TEXT_MAX])
{
	if (f->client && f->client->len && f->client->ss.ss_family != AF_UNIX)
		addr_format(f->client, out);
	else
		snprintf(out, ADDR_TEXT_MAX, "uid:%u", f->uid);
}

static void put_request(struct audit_event *e, const struct exchange *x, const struct leg_head *h)
{
	const struct gate *g = x->g;
	char client[ADDR_TEXT_MAX];

	audit_event_text(e, AUDIT_F_PRINCIPAL, x->caller->id, x->caller->id_len);
	audit_event_str(e, AUDIT_F_ASSURANCE, policy_assurance_name(x->caller->assurance));
	if (x->service >= 0)
		audit_event_str(e, AUDIT_F_SERVICE, g->config->services[x->service].name);
	audit_event_text(e, AUDIT_F_HOST, h->authority, h->authority_len);
	audit_event_text(e, AUDIT_F_METHOD, h->method, h->method_len);
	audit_event_text(e, AUDIT_F_PATH, h->path, h->path_only_len);
	audit_event_str(e, AUDIT_F_PROTOCOL, x->from.protocol);
	audit_event_str(e, AUDIT_F_DIRECTION, x->from_peer >= 0 ? "in" : x->peer >= 0 ? "out" : "local");
	if (x->from_peer >= 0 || x->peer >= 0)
		audit_event_str(e, AUDIT_F_PEER, g->config->peers[x->from_peer >= 0 ? x->from_peer : x->peer].name);
	if (x->from.link) {
		audit_event_str(e, AUDIT_F_GATEWAY, link_gateway(x->from.link));
		audit_event_u64(e, AUDIT_F_LINK, link_number(x->from.link));
	} else {
		audit_event_str(e, AUDIT_F_LISTENER, x->from.listener);
		client_text(&x->from, client);
		audit_event_str(e, AUDIT_F_CLIENT, client);
	}
	audit_event_str(e, AUDIT_F_CERT, x->caller->cert_text);
	audit_event_u64(e, AUDIT_F_GENERATION, g->policy.generation);
}

static void put_rule(struct audit_event *e, const struct gate *g, uint32_t rule)
{
	struct policy_rule_info info;
	char at[256], *p = at;
	size_t n;

	if (rule == POLICY_NO_ID)
		return;
	policy_rule_info(&g->policy, rule, &info);
	audit_event_str(e, AUDIT_F_RULE, info.name);
	n = strlen(info.file);
	if (n > sizeof(at) - 16)
		n = sizeof(at) - 16;
	memcpy(p, info.file, n);
	p += n;
	*p++ = ':';
	p = decimal_put(p, info.line);
	audit_event_text(e, AUDIT_F_RULE_AT, at, (size_t)(p - at));
}

bool books_open(struct exchange *x, const struct leg_head *h)
{
	struct gate *g = x->g;
	void *mem = ring_reserve(g->ring, EVENT_ROOM, loop_now(g->loop));
	struct audit_event e;

	if (!mem)
		return false;
	audit_event_init(&e, mem, EVENT_ROOM, AUDIT_OPEN, &x->id, x->attempt, loop_wall_us(g->loop));
	audit_event_str(&e, AUDIT_F_VERDICT, "allow");
	put_request(&e, x, h);
	put_rule(&e, g, x->rule);
	audit_event_done(&e);
	ring_commit(g->ring, e.len);
	return true;
}

static void put_end(struct exchange *x, unsigned attempt, unsigned status, const char *reason)
{
	struct gate *g = x->g;
	void *mem = ring_reserve_end(g->ring, 1024, loop_now(g->loop));
	struct audit_event e;

	if (!mem) {
		books_unaudited(g, "ring-full-at-end");
		return;
	}
	audit_event_init(&e, mem, 1024, AUDIT_END, &x->id, attempt, loop_wall_us(g->loop));
	audit_event_str(&e, AUDIT_F_REASON, reason);
	if (status)
		audit_event_u64(&e, AUDIT_F_STATUS, status);
	audit_event_u64(&e, AUDIT_F_BYTES_IN, x->bytes_in);
	audit_event_u64(&e, AUDIT_F_BYTES_OUT, x->bytes_out);
	audit_event_u64(&e, AUDIT_F_DURATION_US, loop_now_us(g->loop) - x->start_us);
	if (x->peer >= 0)
		audit_event_u64(&e, AUDIT_F_LINK, x->link_number);
	if (x->endpoint)
		audit_event_str(&e, AUDIT_F_ENDPOINT, x->endpoint);
	if (x->far_id_known) {
		char id[UUID_TEXT_LEN];

		uuid_format(&x->far_id, id);
		audit_event_text(&e, AUDIT_F_UPLINK_EXCHANGE, id, UUID_TEXT_LEN);
	}
	if (x->far_error_len) {
		audit_event_text(&e, AUDIT_F_DETAIL, x->far_error, x->far_error_len);
	} else if (x->rebound) {
		char detail[192]; /* the certificate that it began with is in the decision */

		snprintf(detail, sizeof(detail), "rebound %s", x->caller->cert_text);
		audit_event_str(&e, AUDIT_F_DETAIL, detail);
	}
	audit_event_done(&e);
	ring_commit(g->ring, e.len);
}

void books_end(struct exchange *x, const char *reason)
{
	put_end(x, x->attempt, x->status, reason);
}

bool books_again(struct exchange *x, unsigned status, const char *reason)
{
	x->attempt++;
	if (!books_open(x, &x->head)) {
		x->attempt--;
		return false;
	}
	put_end(x, x->attempt - 1, status, reason);
	return true;
}

void books_deny(struct exchange *x, const struct leg_head *h, unsigned status, const char *reason, uint32_t rule)
{
	struct gate *g = x->g;
	bool alert = strcmp(reason, "control-authority") == 0 || strcmp(reason, "foreign-domain") == 0;
	void *mem = ring_reserve_end(g->ring, EVENT_ROOM, loop_now(g->loop));
	struct audit_event e;

	if (!mem)
		return;
	audit_event_init(&e, mem, EVENT_ROOM, alert ? AUDIT_ALERT : AUDIT_DENY, &x->id, x->attempt, loop_wall_us(g->loop));
	audit_event_str(&e, AUDIT_F_VERDICT, "deny");
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_u64(&e, AUDIT_F_STATUS, status);
	put_request(&e, x, h);
	if (x->from.call && x->from.call->refusal_id[0])
		audit_event_str(&e, AUDIT_F_DETAIL, x->from.call->refusal_id);
	put_rule(&e, g, rule);
	audit_event_done(&e);
	ring_commit(g->ring, e.len);
}

void books_alert(struct exchange *x, const char *reason)
{
	struct gate *g = x->g;
	void *mem = ring_reserve_end(g->ring, 6144, loop_now(g->loop));
	struct audit_event e;

	if (!mem)
		return;
	audit_event_init(&e, mem, 6144, AUDIT_ALERT, &x->id, x->attempt, loop_wall_us(g->loop));
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_text(&e, AUDIT_F_PRINCIPAL, x->caller->id, x->caller->id_len);
	audit_event_str(&e, AUDIT_F_SERVICE, g->config->services[x->service].name);
	audit_event_done(&e);
	ring_commit(g->ring, e.len);
}

void books_unaudited(struct gate *g, const char *why)
{
	static struct log_limit limit;
	uint32_t suppressed;

	(void)g;
	if (log_limit_ok(&limit, 1, &suppressed))
		log_error("event=not-audited reason=%s suppressed=%u exchanges are refused until the journal takes records again; see sallyportd(8)", why, suppressed);
}

void gate_note(struct gate *g, enum audit_type type, const char *listener, const struct addr *client, const char *principal,
    const char *reason, const char *detail)
{
	void *mem = ring_reserve_end(g->ring, 6144, loop_now(g->loop));
	struct audit_event e;
	char text[ADDR_TEXT_MAX];

	if (!mem)
		return;
	audit_event_init(&e, mem, 6144, type, NULL, 0, loop_wall_us(g->loop));
	audit_event_str(&e, AUDIT_F_VERDICT, "deny");
	audit_event_str(&e, AUDIT_F_REASON, reason);
	audit_event_str(&e, AUDIT_F_DETAIL, detail);
	audit_event_str(&e, AUDIT_F_PRINCIPAL, principal);
	audit_event_str(&e, AUDIT_F_LISTENER, listener);
	if (client && client->len && client->ss.ss_family != AF_UNIX) {
		addr_format(client, text);
		audit_event_str(&e, AUDIT_F_CLIENT, text);
	}
	audit_event_done(&e);
	ring_commit(g->ring, e.len);
}

/* A leg's details are few and static; each side's are told apart by a table, not by formatting. */
static const struct {
	const char *detail, *client, *service;
} reasons[] = {
	{ "cancelled", "client-cancelled", "service-cancelled" },
	{ "reset", "client-reset", "service-reset" },
	{ "closed", "client-closed", "service-closed" },
	{ "closed-early", "client-closed", "service-closed" },
	{ "protocol", "client-protocol", "service-protocol" },
	{ "link-lost", "link-lost", "link-lost" },
	{ "write-timeout", "client-too-slow", "service-too-slow" },
	{ "idle-timeout", "client-idle", "service-idle" },
	{ "body-timeout", "client-body-timeout", "service-idle" },
	{ "malformed-body", "client-malformed-body", "service-malformed" },
	{ "malformed-response", "client-malformed", "malformed-response" },
};

const char *books_client_reason(const char *detail)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (strcmp(reasons[i].detail, detail) == 0)
			return reasons[i].client;
	return "client-gone";
}

const char *books_service_reason(const char *detail)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (strcmp(reasons[i].detail, detail) == 0)
			return reasons[i].service;
	return "service-gone";
}
