/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/schema.h"

#include <string.h>

const struct schema_msg_desc schema_msgs[SCHEMA_MSGS] = {
	[SCHEMA_EXCHANGE] = {"exchange", 6},
	[SCHEMA_OPEN] = {"exchange-open", 6},
	[SCHEMA_END] = {"exchange-end", 6},
	[SCHEMA_DENY] = {"deny", 5},
	[SCHEMA_LINK_UP] = {"link-up", 6},
	[SCHEMA_LINK_DOWN] = {"link-down", 5},
	[SCHEMA_REFUSED] = {"refused", 4},
	[SCHEMA_ALERT] = {"alert", 1},
	[SCHEMA_GENERATION] = {"generation", 5},
	[SCHEMA_COMMAND] = {"command", 5},
	[SCHEMA_ROLE] = {"role", 5},
	[SCHEMA_CERTIFICATE] = {"certificate", 5},
	[SCHEMA_ENROLMENT] = {"enrolment", 5},
	[SCHEMA_JOURNAL] = {"journal", 6},
};

#define F(n, num, rep) {.name = n, .name_len = sizeof(n) - 1, .lead = " " n "=\"", .lead_len = sizeof(n) + 2, .number = num, .repeat = rep}
const struct schema_field schema_fields[SCHEMA_FIELDS] = {
	[AUDIT_F_VERDICT] = F("verdict", false, true),
	[AUDIT_F_REASON] = F("reason", false, false),
	[AUDIT_F_PRINCIPAL] = F("principal", false, true),
	[AUDIT_F_ASSURANCE] = F("assurance", false, true),
	[AUDIT_F_SERVICE] = F("service", false, true),
	[AUDIT_F_HOST] = F("host", false, true),
	[AUDIT_F_METHOD] = F("method", false, true),
	[AUDIT_F_PATH] = F("path", false, false),
	[AUDIT_F_STATUS] = F("status", true, false),
	[AUDIT_F_RULE] = F("rule", false, true),
	[AUDIT_F_RULE_AT] = F("rule_at", false, false),
	[AUDIT_F_GENERATION] = F("generation", true, false),
	[AUDIT_F_DIRECTION] = F("direction", false, true),
	[AUDIT_F_PEER] = F("peer", false, true),
	[AUDIT_F_GATEWAY] = F("gateway", false, true),
	[AUDIT_F_LINK] = F("link", true, false),
	[AUDIT_F_CLIENT] = F("client", false, true),
	[AUDIT_F_LISTENER] = F("listener", false, false),
	[AUDIT_F_ENDPOINT] = F("endpoint", false, false),
	[AUDIT_F_BYTES_IN] = F("bytes_in", true, false),
	[AUDIT_F_BYTES_OUT] = F("bytes_out", true, false),
	[AUDIT_F_DURATION_US] = F("duration_us", true, false),
	[AUDIT_F_CERT] = F("cert", false, false),
	[AUDIT_F_DETAIL] = F("detail", false, false),
	[AUDIT_F_ROLE] = F("role", false, false),
	[AUDIT_F_DIGEST] = F("digest", false, false),
	[AUDIT_F_UID] = F("uid", true, false),
	[AUDIT_F_SUDO_UID] = F("sudo_uid", false, false),
	[AUDIT_F_COMMAND] = F("command", false, false),
	[AUDIT_F_COUNT] = F("count", true, false),
	[AUDIT_F_PROTOCOL] = F("protocol", false, true),
	[AUDIT_F_UPLINK_EXCHANGE] = F("uplink_exchange", false, false),
	[SCHEMA_SEQ] = F("seq", true, false),
	[SCHEMA_SRC] = F("src", false, false),
	[SCHEMA_WORKER] = F("worker", false, false),
	[SCHEMA_SYNC] = F("sync", true, false),
	[SCHEMA_AT] = F("at", false, false),
	[SCHEMA_OPEN_SEQ] = F("open", true, false),
	[SCHEMA_EXCHANGE_ID] = F("exchange", false, false),
	[SCHEMA_ATTEMPT] = F("attempt", true, false),
	[SCHEMA_PREV] = F("prev", false, false),
};

/* What, who, to what, with which outcome, why; then where, and how much. */
const uint8_t schema_order[AUDIT_FIELDS - 1] = {
	AUDIT_F_VERDICT, AUDIT_F_REASON, AUDIT_F_STATUS, AUDIT_F_COUNT, AUDIT_F_PRINCIPAL, AUDIT_F_ASSURANCE, AUDIT_F_SERVICE,
	AUDIT_F_HOST, AUDIT_F_METHOD, AUDIT_F_PATH, AUDIT_F_PROTOCOL, AUDIT_F_RULE, AUDIT_F_RULE_AT, AUDIT_F_GENERATION,
	AUDIT_F_DIRECTION, AUDIT_F_PEER, AUDIT_F_GATEWAY, AUDIT_F_LINK, AUDIT_F_CLIENT, AUDIT_F_LISTENER, AUDIT_F_ENDPOINT,
	AUDIT_F_BYTES_IN, AUDIT_F_BYTES_OUT, AUDIT_F_DURATION_US, AUDIT_F_CERT, AUDIT_F_UPLINK_EXCHANGE, AUDIT_F_ROLE,
	AUDIT_F_COMMAND, AUDIT_F_UID, AUDIT_F_SUDO_UID, AUDIT_F_DIGEST, AUDIT_F_DETAIL,
};

enum schema_msg schema_msg_of(enum audit_type t)
{
	static const uint8_t map[AUDIT_TYPES] = {
		[AUDIT_OPEN] = SCHEMA_OPEN,
		[AUDIT_END] = SCHEMA_END,
		[AUDIT_DENY] = SCHEMA_DENY,
		[AUDIT_LINK_UP] = SCHEMA_LINK_UP,
		[AUDIT_LINK_DOWN] = SCHEMA_LINK_DOWN,
		[AUDIT_REFUSED] = SCHEMA_REFUSED,
		[AUDIT_ALERT] = SCHEMA_ALERT,
		[AUDIT_GENERATION] = SCHEMA_GENERATION,
		[AUDIT_COMMAND] = SCHEMA_COMMAND,
		[AUDIT_ROLE] = SCHEMA_ROLE,
		[AUDIT_CERTIFICATE] = SCHEMA_CERTIFICATE,
		[AUDIT_ENROLMENT] = SCHEMA_ENROLMENT,
	};

	return (enum schema_msg)map[t];
}

int schema_msg_by_name(const char *s, size_t n)
{
	for (int i = 0; i < SCHEMA_MSGS; i++)
		if (strlen(schema_msgs[i].msgid) == n && memcmp(schema_msgs[i].msgid, s, n) == 0)
			return i;
	return -1;
}

int schema_field_by_name(const char *s, size_t n)
{
	for (int i = 1; i < SCHEMA_FIELDS; i++)
		if (schema_fields[i].name_len == n && memcmp(schema_fields[i].name, s, n) == 0)
			return i;
	return -1;
}
