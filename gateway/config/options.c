/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/le.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/value.h"
#include "pki/svid.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define GROUP(title, type, table) { .name = title, .size = sizeof(type), .rows = table, .nrows = COUNT(table) }

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define SEC UINT64_C(1000)
#define MINUTE (60 * SEC)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static const struct option_name accept_names[] = {
	{ "peers", CONFIG_PEERS },
	{ "workloads", CONFIG_WORKLOADS },
	{ "plaintext", CONFIG_PLAINTEXT },
	{ "tcp", CONFIG_TCP },
	{ "enrol", CONFIG_ENROL },
	{ NULL, 0 },
};
static const struct option_name revocation_names[] = {
	{ "off", CONFIG_REV_OFF },
	{ "if-present", CONFIG_REV_IF_PRESENT },
	{ "required", CONFIG_REV_REQUIRED },
	{ NULL, 0 },
};
static const struct option_name kind_names[] = {
	{ "http", CONFIG_HTTP },
	{ "tcp", CONFIG_KIND_TCP },
	{ NULL, 0 },
};
static const struct option_name assert_names[] = { /* "mtls" is proven by a certificate, never claimed */
	{ "uid", 1u << POLICY_UID },
	{ "address", 1u << POLICY_ADDRESS },
	{ "none", 1u << POLICY_NONE },
	{ NULL, 0 },
};
static const struct option_name assurance_names[] = {
	{ "mtls", 1u << POLICY_MTLS },
	{ "uid", 1u << POLICY_UID },
	{ "address", 1u << POLICY_ADDRESS },
	{ "none", 1u << POLICY_NONE },
	{ NULL, 0 },
};

/* ---- client ---- */

#define AT(member) offsetof(struct config_client, member)
static const struct option client_rows[] = {
	{ "address", OPTION_TEXT, .off = AT(address) },
	{ "uid", OPTION_TEXT, OPTION_NUMBER_OK, .off = AT(user) },
	{ "principal", OPTION_TEXT, OPTION_REQUIRED, .off = AT(principal) },
	{ "allow_local", OPTION_BOOL, .off = AT(trusted_loopback), .def = "false" },
	{ "(line)", OPTION_LINE, OPTION_DERIVED, .off = AT(line) },
	{ "(cidr)", OPTION_CIDR, OPTION_DERIVED, .off = AT(cidr) },
	{ "(uid number)", OPTION_U32, OPTION_DERIVED, .off = AT(uid) },
};
#undef AT
static const struct option_group client = GROUP("a client", struct config_client, client_rows);

/* ---- listener ---- */

#define AT(member) offsetof(struct config_listener, member)
static const struct option listener_rows[] = {
	{ "name", OPTION_TEXT, OPTION_REQUIRED, .off = AT(name) },
	{ "address", OPTION_TEXT, .off = AT(address) },
	{ "path", OPTION_FILE, .off = AT(path) },
	{ "mode", OPTION_MODE, OPTION_LATE, .off = AT(mode), .def = "0660" },
	{ "group", OPTION_TEXT, .off = AT(group) },
	{ "accept", OPTION_SET, OPTION_REQUIRED, .off = AT(accept), .min = 1, .names = accept_names },
	{ "service", OPTION_TEXT, .off = AT(service) },
	{ "clients", OPTION_LIST, .off = AT(clients), .off_n = AT(nclients), .max = 4096, .group = &client },
	{ "(line)", OPTION_LINE, OPTION_DERIVED, .off = AT(line) },
	{ "(addr)", OPTION_ADDR, OPTION_DERIVED, .off = AT(addr) },
	{ "(service index)", OPTION_INT, OPTION_DERIVED, .off = AT(service_index) },
};
#undef AT
static const struct option_group listener = GROUP("a listener", struct config_listener, listener_rows);

/* ---- peer, uplink ---- */

static const struct option dial_rows[] = {
	{ "address", OPTION_TEXT, OPTION_REQUIRED, .off = offsetof(struct config_dial, text) },
	{ "(addr)", OPTION_ADDR, OPTION_DERIVED, .off = offsetof(struct config_dial, addr) },
};
static const struct option_group dial = {
	"address to dial", sizeof(struct config_dial), true, dial_rows, COUNT(dial_rows)
};

#define AT(member) offsetof(struct config_peer, member)
#define PEER_GATEWAYS \
	{ "gateways", OPTION_TEXTS, OPTION_REQUIRED | OPTION_TRUST, .off = AT(gateways), .off_n = AT(ngateways), .min = 1, .max = 64 }
#define PEER_DIAL { "dial", OPTION_LIST, .off = AT(dial), .off_n = AT(ndial), .max = 64, .group = &dial }
#define PEER_LINKS { "links", OPTION_COUNT, .off = AT(links), .def = "2", .min = 1, .max = 64 }
#define PEER_REVOCATION { "revocation", OPTION_CHOICE, OPTION_TRUST, .off = AT(revocation), .def = "off", .names = revocation_names }
static const struct option peer_rows[] = {
	{ "name", OPTION_TEXT, OPTION_REQUIRED, .off = AT(name) },
	{ "domain", OPTION_TEXT, OPTION_REQUIRED, .off = AT(domain) },
	{ "bundle", OPTION_FILE, OPTION_REQUIRED, .off = AT(bundle) },
	{ "crl", OPTION_FILE, .off = AT(crl) },
	PEER_REVOCATION,
	{ "assert", OPTION_SET, OPTION_TRUST, .off = AT(assert_mask), .names = assert_names },
	PEER_GATEWAYS,
	PEER_DIAL,
	{ "dial_reverse", OPTION_LIST, .off = AT(dial_reverse), .off_n = AT(ndial_reverse), .max = 64, .group = &dial },
	PEER_LINKS,
	{ "(line)", OPTION_LINE, OPTION_DERIVED, .off = AT(line) },
	{ "(bundle pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_REQUIRED | OPTION_TRUST, .off = AT(bundle_pem), .max = 1 * MIB },
	{ "(crl pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_TRUST, .off = AT(crl_pem), .max = SVID_CRL_MAX },
	{ "(severed)", OPTION_BOOL, OPTION_DERIVED | OPTION_TRUST, .off = AT(severed) },
	{ "(uplink)", OPTION_BOOL, OPTION_DERIVED, .off = AT(uplink) },
};
static const struct option uplink_rows[] = {
	PEER_GATEWAYS,
	PEER_DIAL,
	PEER_LINKS,
	PEER_REVOCATION,
	{ "(line)", OPTION_LINE, OPTION_DERIVED, .off = AT(line) },
};
#undef AT
static const struct option_group peer = GROUP("a peer", struct config_peer, peer_rows);
static const struct option_group uplink = GROUP("the uplink", struct config_peer, uplink_rows);

/* ---- service ---- */

static const struct option endpoint_rows[] = {
	{ "address", OPTION_TEXT, OPTION_REQUIRED, .off = offsetof(struct config_endpoint, text) },
	{ "(addr)", OPTION_ADDR, OPTION_DERIVED, .off = offsetof(struct config_endpoint, addr) },
};
static const struct option_group endpoint = {
	"endpoint", sizeof(struct config_endpoint), true, endpoint_rows, COUNT(endpoint_rows)
};

#define AT(member) offsetof(struct config_service, member)
static const struct option service_rows[] = {
	{ "name", OPTION_TEXT, OPTION_REQUIRED, .off = AT(name) },
	{ "host", OPTION_TEXT, OPTION_REQUIRED, .off = AT(host) },
	{ "kind", OPTION_CHOICE, .off = AT(kind), .def = "http", .names = kind_names },
	{ "via", OPTION_TEXT, .off = AT(via) },
	{ "endpoints", OPTION_LIST, .off = AT(endpoints), .off_n = AT(nendpoints), .min = 1, .max = 256, .group = &endpoint },
	{ "connect_timeout", OPTION_DURATION, .off = AT(connect_ms), .def = "5s", .min = 10, .max = 5 * MINUTE },
	{ "response_timeout", OPTION_DURATION, .off = AT(response_ms), .def = "60s", .min = 10, .max = 1 * DAY },
	{ "idle_timeout", OPTION_DURATION, OPTION_LATE, .off = AT(idle_ms), .def = "300s", .min = 1 * SEC, .max = 7 * DAY },
	{ "max_connections", OPTION_COUNT, .off = AT(max_connections), .def = "1024", .min = 1, .max = 65535 },
	{ "(line)", OPTION_LINE, OPTION_DERIVED, .off = AT(line) },
	{ "(hostname)", OPTION_TEXT, OPTION_DERIVED | OPTION_REQUIRED, .off = AT(hostname) },
	{ "(port)", OPTION_U16, OPTION_DERIVED, .off = AT(port) },
	{ "(peer index)", OPTION_INT, OPTION_DERIVED, .off = AT(peer_index) },
};
#undef AT
static const struct option_group service = GROUP("a service", struct config_service, service_rows);

/* ---- limits, journal, control ---- */

#define AT(member) offsetof(struct config_limits, member)
static const struct option limits_rows[] = {
	{ "connections", OPTION_COUNT, .off = AT(connections), .def = "50000", .min = 1, .max = 1000000 },
	{ "connections_per_source", OPTION_COUNT, .off = AT(connections_per_source), .def = "1000", .min = 1, .max = 1000000 },
	{ "handshakes_per_source", OPTION_COUNT, .off = AT(handshakes_per_source), .def = "50", .min = 1, .max = 1000000 },
	{ "handshakes", OPTION_COUNT, .off = AT(handshakes), .def = "256", .min = 1, .max = 65536 },
	{ "streams_per_link", OPTION_COUNT, .off = AT(streams_per_link), .def = "1000", .min = 1, .max = 100000 },
	{ "stream_window", OPTION_SIZE, .off = AT(stream_window), .def = "1MiB", .min = 64 * KIB, .max = 64 * MIB },
	{ "link_window", OPTION_SIZE, .off = AT(link_window), .def = "16MiB", .min = 64 * KIB, .max = 1 * GIB },
	{ "handshake_timeout", OPTION_DURATION, .off = AT(handshake_ms), .def = "5s", .min = 100, .max = 60 * SEC },
	{ "head_timeout", OPTION_DURATION, .off = AT(head_ms), .def = "10s", .min = 100, .max = 5 * MINUTE },
	{ "keepalive_timeout", OPTION_DURATION, .off = AT(keepalive_ms), .def = "300s", .min = 100, .max = 1 * DAY },
	{ "body_idle_timeout", OPTION_DURATION, .off = AT(body_idle_ms), .def = "60s", .min = 100, .max = 1 * DAY },
	{ "write_timeout", OPTION_DURATION, .off = AT(write_ms), .def = "60s", .min = 100, .max = 1 * DAY },
	{ "park_timeout", OPTION_DURATION, .off = AT(park_ms), .def = "2s", .min = 1, .max = 30 * SEC },
	{ "parked", OPTION_COUNT, .off = AT(parked), .def = "1000", .min = 0, .max = 1000000 },
	{ "ping_interval", OPTION_DURATION, .off = AT(ping_ms), .def = "3s", .min = 100, .max = 3300 },
	{ "link_age", OPTION_DURATION, .off = AT(link_age_ms), .def = "1h", .min = 10 * SEC, .max = 7 * DAY },
	{ "drain_timeout", OPTION_DURATION, .off = AT(drain_ms), .def = "30s", .min = 1, .max = 1 * DAY },
	{ "resets_per_second", OPTION_COUNT, .off = AT(resets_per_second), .def = "100", .min = 1, .max = 100000 },
	{ "signatures_per_second", OPTION_COUNT, .off = AT(signatures_per_second), .def = "2000", .min = 1, .max = 1000000 },
	{ "slots", OPTION_COUNT64, .off = AT(slots), .def = "1024", .min = 1, .max = 65536 },
	{ "tcp_buffer", OPTION_SIZE, .off = AT(tcp_buffer), .def = "256KiB", .min = 16 * KIB, .max = 16 * MIB },
	{ "clock_skew", OPTION_DURATION, .off = AT(clock_skew_ms), .def = "0s", .min = 0, .max = 5 * MINUTE },
};
#undef AT
static const struct option_group limits = GROUP("\"limits\"", struct config_limits, limits_rows);

#define AT(member) offsetof(struct config_journal, member)
static const struct option journal_rows[] = {
	{ "directory", OPTION_FILE, .off = AT(directory), .def = "/var/lib/sallyport/journal" },
	{ "segment_size", OPTION_SIZE, .off = AT(segment_bytes), .def = "256MiB", .min = 1 * MIB, .max = 64 * GIB },
	{ "segment_age", OPTION_DURATION, .off = AT(segment_ms), .def = "24h", .min = 1 * MINUTE, .max = 366 * DAY },
	{ "group_interval", OPTION_DURATION, .off = AT(group_ms), .def = "10ms", .min = 1, .max = 1 * SEC },
	{ "min_free", OPTION_SIZE, .off = AT(min_free), .def = "64MiB", .min = 1 * MIB, .max = 1 * TIB },
	{ "ring_size", OPTION_SIZE, .off = AT(ring_bytes), .def = "4MiB", .min = 64 * KIB, .max = 256 * MIB },
};
#undef AT
static const struct option_group journal = GROUP("\"journal\"", struct config_journal, journal_rows);

#define AT(member) offsetof(struct config_control, member)
static const struct option control_rows[] = {
	{ "socket", OPTION_FILE, .off = AT(socket), .def = "/run/sallyport/control.sock" },
	{ "mode", OPTION_MODE, .off = AT(mode), .def = "0660" },
	{ "group", OPTION_TEXT, .off = AT(group) },
};
#undef AT
static const struct option_group control = GROUP("\"control\"", struct config_control, control_rows);

/* ---- the file ---- */

#define AT(member) (offsetof(struct config, member) - offsetof(struct config, identity))
static const struct option identity_rows[] = {
	{ "certificate", OPTION_FILE, OPTION_REQUIRED, .off = AT(identity.certificate) },
	{ "key", OPTION_FILE, OPTION_REQUIRED, .off = AT(identity.key) },
	{ "bundle", OPTION_FILE, OPTION_REQUIRED, .off = AT(identity.bundle) },
	{ "crl", OPTION_FILE, .off = AT(identity.crl) },
	{ "revocation", OPTION_CHOICE, OPTION_TRUST, .off = AT(identity.revocation), .def = "off", .names = revocation_names },
	{ "(certificate pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_REQUIRED | OPTION_TRUST, .off = AT(identity.certificate_pem), .max = 1 * MIB },
	{ "(crl pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_TRUST, .off = AT(identity.crl_pem), .max = SVID_CRL_MAX },
	{ "(bundle pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_REQUIRED | OPTION_TRUST, .off = AT(identity.bundle_pem), .max = 1 * MIB },
	{ "(id)", OPTION_TEXT, OPTION_DERIVED | OPTION_REQUIRED, .off = AT(identity.id) },
};
#undef AT
static const struct option_group identity = {
	"\"identity\"", sizeof(((struct config *)0)->identity), false, identity_rows, COUNT(identity_rows)
};

#define AT(member) (offsetof(struct config, member) - offsetof(struct config, inside))
static const struct option inside_rows[] = {
	{ "certificate", OPTION_FILE, .off = AT(inside.certificate) },
	{ "key", OPTION_FILE, .off = AT(inside.key) },
	{ "(certificate pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_TRUST, .off = AT(inside.certificate_pem), .max = 1 * MIB },
};
#undef AT
static const struct option_group inside = {
	"\"inside\"", sizeof(((struct config *)0)->inside), false, inside_rows, COUNT(inside_rows)
};

#define AT(member) (offsetof(struct config, member) - offsetof(struct config, enrol))
static const struct option enrol_rows[] = {
	{ "host", OPTION_TEXT, .off = AT(enrol.host), .max = 253 },
	{ "certificate", OPTION_FILE, .off = AT(enrol.certificate) },
	{ "key", OPTION_FILE, .off = AT(enrol.key) },
	{ "forward", OPTION_LIST, .off = AT(enrol.forward), .off_n = AT(enrol.nforward), .max = 1, .group = &dial },
	{ "(certificate pem)", OPTION_TEXT, OPTION_DERIVED | OPTION_TRUST, .off = AT(enrol.certificate_pem), .max = 1 * MIB },
};
#undef AT
static const struct option_group enrol = {
	"\"enrol\"", sizeof(((struct config *)0)->enrol), false, enrol_rows, COUNT(enrol_rows)
};

#define AT(member) (offsetof(struct config, member) - offsetof(struct config, ca))
static const struct option ca_rows[] = {
	{ "store", OPTION_FILE, .off = AT(ca.store) },
	{ "passphrase_file", OPTION_FILE, .off = AT(ca.passphrase_file) },
	{ "workload_lifetime", OPTION_DURATION, .off = AT(ca.workload_ms), .def = "24h", .min = 1 * MINUTE, .max = 400 * DAY },
	{ "gateway_lifetime", OPTION_DURATION, .off = AT(ca.gateway_ms), .def = "90d", .min = 1 * MINUTE, .max = 400 * DAY },
};
#undef AT
static const struct option_group ca = {
	"\"ca\"", sizeof(((struct config *)0)->ca), false, ca_rows, COUNT(ca_rows)
};

#define AT(member) (offsetof(struct config, member) - offsetof(struct config, renewal))
static const struct option renewal_rows[] = {
	{ "host", OPTION_TEXT, .off = AT(renewal.host), .max = 253 },
	{ "dial", OPTION_LIST, .off = AT(renewal.dial), .off_n = AT(renewal.ndial), .max = 16, .group = &dial },
	{ "at", OPTION_COUNT, .off = AT(renewal.at), .def = "50", .min = 10, .max = 90 },
	{ "new_key", OPTION_BOOL, .off = AT(renewal.new_key), .def = "true" },
};
#undef AT
static const struct option_group renewal = {
	"\"renewal\"", sizeof(((struct config *)0)->renewal), false, renewal_rows, COUNT(renewal_rows)
};

#define AT(member) (offsetof(struct config, member) - offsetof(struct config, hsm))
static const struct option hsm_rows[] = {
	{ "module", OPTION_FILE, .off = AT(hsm.module) },
	{ "paths", OPTION_TEXTS, .off = AT(hsm.paths), .off_n = AT(hsm.npaths), .max = 32 },
	{ "environment", OPTION_TEXTS, .off = AT(hsm.environment), .off_n = AT(hsm.nenvironment), .max = 32 },
};
#undef AT
static const struct option_group hsm = {
	"\"hsm\"", sizeof(((struct config *)0)->hsm), false, hsm_rows, COUNT(hsm_rows)
};

#define AT(member) offsetof(struct config, member)
static const struct option config_rows[] = {
	{ "domain", OPTION_TEXT, OPTION_REQUIRED, .off = AT(domain) },
	{ "identity", OPTION_GROUP, OPTION_REQUIRED, .off = AT(identity), .group = &identity },
	{ "inside", OPTION_GROUP, .off = AT(inside), .group = &inside },
	{ "enrol", OPTION_GROUP, .off = AT(enrol), .group = &enrol },
	{ "ca", OPTION_GROUP, .off = AT(ca), .group = &ca },
	{ "renewal", OPTION_GROUP, .off = AT(renewal), .group = &renewal },
	{ "hsm", OPTION_GROUP, .off = AT(hsm), .group = &hsm },
	{ "state_dir", OPTION_FILE, OPTION_LATE, .off = AT(state_dir), .def = "/var/lib/sallyport/state" },
	{ "policy_dir", OPTION_FILE, .off = AT(policy_dir), .def = "policy.d" },
	{ "peers_dir", OPTION_FILE, .off = AT(peers_dir) },
	{ "workers", OPTION_COUNT, .off = AT(workers), .def = "0", .max = 256 },
	{ "log_level", OPTION_TEXT, .off = AT(log_level), .def = "info" },
	{ "user_prefix", OPTION_TEXT, .off = AT(user_prefix), .def = "sallyport-", .max = 24 },
	{ "policy_context", OPTION_TEXT, .off = AT(policy_context), .max = 256 },
	{ "listeners", OPTION_LIST, .off = AT(listeners), .off_n = AT(nlisteners), .max = 256, .group = &listener },
	{ "uplink", OPTION_FIRST, .off = AT(peers), .off_n = AT(npeers), .group = &uplink },
	{ "peers", OPTION_LIST, OPTION_MORE, .off = AT(peers), .off_n = AT(npeers), .max = 256, .group = &peer },
	{ "services", OPTION_LIST, .off = AT(services), .off_n = AT(nservices), .max = 65536, .group = &service },
	{ "limits", OPTION_GROUP, .off = AT(limits), .group = &limits },
	{ "journal", OPTION_GROUP, .off = AT(journal), .group = &journal },
	{ "control", OPTION_GROUP, .off = AT(control), .group = &control },
	{ "(file)", OPTION_TEXT, OPTION_DERIVED | OPTION_REQUIRED, .off = AT(file) },
};
#undef AT
const struct option_group options_config = GROUP("the configuration", struct config, config_rows);

/* ---- policy files ---- */

#define AT(member) offsetof(struct policy_rule, member)
static const struct option rule_rows[] = {
	{ "name", OPTION_TEXT, OPTION_REQUIRED, .off = AT(name) },
	{ "principals", OPTION_TEXTS, OPTION_REQUIRED, .off = AT(principals), .off_n = AT(nprincipals), .min = 1, .max = 65536 },
	{ "services", OPTION_TEXTS, OPTION_REQUIRED, .off = AT(services), .off_n = AT(nservices), .min = 1, .max = 65536 },
	{ "methods", OPTION_TEXTS, .off = AT(methods), .off_n = AT(nmethods), .min = 1, .max = 256 },
	{ "paths", OPTION_TEXTS, .off = AT(paths), .off_n = AT(npaths), .min = 1, .max = 65536 },
	{ "assurance", OPTION_SET8, .off = AT(assurance), .min = 1, .names = assurance_names },
	{ "(line)", OPTION_LINE, OPTION_DERIVED, .off = AT(line) },
};
#undef AT
const struct option_group options_rule = GROUP("a rule", struct policy_rule, rule_rows);

/* ---- freeing ---- */

static void
free_array(const struct option *o, void *base, bool borrowed)
{
	char *array = option_array(o, base);
	size_t n = *option_count(o, base);

	for (size_t i = 0; i < n; i++) {
		if (o->type == OPTION_LIST)
			options_free(o->group, array + i * o->group->size, borrowed);
		else if (!borrowed)
			mem_free(((char **)(void *)array)[i]);
	}
	mem_free(array);
	option_set_array(o, base, NULL);
	*option_count(o, base) = 0;
}

void
options_free(const struct option_group *g, void *base, bool borrowed)
{
	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];

		if (o->type == OPTION_LIST || o->type == OPTION_TEXTS) {
			free_array(o, base, borrowed);
		} else if (o->type == OPTION_GROUP) {
			options_free(o->group, option_at(o, base), borrowed);
		} else if ((o->type == OPTION_TEXT || o->type == OPTION_FILE) && !borrowed) {
			mem_free(*(char **)option_at(o, base));
			*(char **)option_at(o, base) = NULL;
		}
	}
}

/* ---- describing ---- */

static void
join_names(const struct option_name *names, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (; names->name && used < size; names++)
		used += (size_t)snprintf(out + used, size - used, "%s\"%s\"", used ? ", " : "", names->name);
}

void
options_expect(const struct option *o, char *out, size_t size)
{
	char lo[VALUE_TEXT_MAX], hi[VALUE_TEXT_MAX], names[256];

	switch (o->type) {
	case OPTION_TEXT:
		snprintf(out, size, o->flags & OPTION_NUMBER_OK ? "text in quotes or an integer from 0" : "text in quotes");
		break;
	case OPTION_FILE: snprintf(out, size, "a file name in quotes"); break;
	case OPTION_TEXTS: snprintf(out, size, "a list of texts: [ \"…\", \"…\" ]"); break;
	case OPTION_BOOL: snprintf(out, size, "true or false"); break;
	case OPTION_COUNT:
	case OPTION_COUNT64:
		snprintf(out, size, "an integer from %" PRIu64 " to %" PRIu64, o->min, o->max);
		break;
	case OPTION_SIZE:
		snprintf(out, size, "a size from \"%s\" to \"%s\"", value_size_text(lo, o->min), value_size_text(hi, o->max));
		break;
	case OPTION_DURATION:
		snprintf(out, size, "a duration from \"%s\" to \"%s\"", value_duration_text(lo, o->min),
		    value_duration_text(hi, o->max));
		break;
	case OPTION_MODE: snprintf(out, size, "an octal mode in quotes, such as \"0660\""); break;
	case OPTION_CHOICE:
		join_names(o->names, names, sizeof(names));
		snprintf(out, size, "one of %s", names);
		break;
	case OPTION_SET:
	case OPTION_SET8:
		join_names(o->names, names, sizeof(names));
		snprintf(out, size, "a list of any of %s", names);
		break;
	case OPTION_LIST:
		if (o->group->scalar)
			snprintf(out, size, "a list of texts: [ \"…\", \"…\" ]");
		else
			snprintf(out, size, "a list of groups: ( { … }, { … } )");
		break;
	case OPTION_GROUP:
	case OPTION_FIRST: snprintf(out, size, "a group: { … }"); break;
	default: snprintf(out, size, "nothing"); break;
	}
}

static uint64_t
mix(uint64_t h, const void *p, size_t n)
{
	static const uint8_t key[16] = "sallyport image";
	uint8_t both[16];

	le_put64(both, h);
	le_put64(both + 8, hash_keyed(key, p, n));
	return hash_keyed(key, both, sizeof(both));
}

uint64_t
options_fingerprint(const struct option_group *g)
{
	uint64_t h = mix(g->scalar, g->name, strlen(g->name));

	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];
		const uint64_t facts[] = { (uint64_t)o->type, o->flags, o->min, o->max };

		h = mix(h, o->name, strlen(o->name));
		h = mix(h, facts, sizeof(facts));
		for (const struct option_name *n = o->names; n && n->name; n++)
			h = mix(h ^ n->value, n->name, strlen(n->name));
		if (o->group)
			h ^= options_fingerprint(o->group);
	}
	return h;
}

static const char *
type_name(const struct option *o)
{
	static const char *const names[] = {
		[OPTION_TEXT] = "text", [OPTION_FILE] = "file", [OPTION_TEXTS] = "texts", [OPTION_BOOL] = "boolean",
		[OPTION_COUNT] = "integer", [OPTION_COUNT64] = "integer", [OPTION_SIZE] = "size",
		[OPTION_DURATION] = "duration", [OPTION_MODE] = "mode", [OPTION_CHOICE] = "choice", [OPTION_SET] = "set",
		[OPTION_SET8] = "set", [OPTION_GROUP] = "group", [OPTION_LIST] = "groups", [OPTION_FIRST] = "group",
	};

	return o->type == OPTION_LIST && o->group->scalar ? "texts" : names[o->type];
}

void
options_print(const struct option_group *g, const char *prefix, struct buf *out)
{
	char expect[512], path[256];

	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];

		if (o->flags & OPTION_DERIVED)
			continue;
		snprintf(path, sizeof(path), "%s%s", prefix, o->name);
		options_expect(o, expect, sizeof(expect));
		buf_printf(out, "%s\t%s\t%s\t%s\n", path, type_name(o),
		    o->flags & OPTION_REQUIRED ? "required" : o->def ? o->def : "-", expect);
		if (o->group && !o->group->scalar) {
			snprintf(path, sizeof(path), "%s%s.", prefix, o->name);
			options_print(o->group, path, out);
		}
	}
}
