/* SPDX-License-Identifier: Apache-2.0 */
/* Good configurations: what they mean, and that image and dump carry all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "tests/unit/config/fixture.h"

static int
setup(void **state)
{
	(void)state;
	fixture_setup();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_teardown();
	return 0;
}

static void
no_faults(struct errs *errs)
{
	for (size_t i = 0; i < errs->n; i++)
		if (!errs->items[i].warning)
			fail_msg("%s", fixture_plain(errs->items[i].text));
}

static struct config *
load(const char *text)
{
	struct errs errs;
	struct config *c;

	errs_init(&errs);
	c = fixture_load(text, &errs);
	no_faults(&errs);
	assert_non_null(c);
	errs_fini(&errs);
	return c;
}

/* config_load of the issue's text, verbatim. */
static void
issue(void **state)
{
	char *inside, text[ADDR_TEXT_MAX];
	struct config *c = load(fixture_issue_conf);

	(void)state;
	assert_string_equal(c->domain, "hud.example");
	inside = fixture_path("pki/gateway.key");
	assert_string_equal(c->identity.key, inside);
	mem_free(inside);
	assert_string_equal(c->identity.id, "spiffe://hud.example/gateway/dmz1");
	assert_non_null(strstr(c->identity.certificate_pem, "BEGIN CERTIFICATE"));
	assert_non_null(strstr(c->identity.bundle_pem, "BEGIN CERTIFICATE"));
	assert_null(c->inside.certificate);
	assert_string_equal(c->log_level, "info");
	assert_string_equal(c->user_prefix, "sallyport-");
	assert_null(c->policy_context);
	assert_true(c->workers >= 1);

	assert_int_equal(c->nlisteners, 5);
	assert_int_equal(c->listeners[0].accept, CONFIG_PEERS | CONFIG_WORKLOADS);
	assert_int_equal(c->listeners[0].line, 4);
	addr_format(&c->listeners[0].addr, text);
	assert_string_equal(text, "192.0.2.10:443");
	assert_int_equal(c->listeners[0].service_index, -1);
	assert_int_equal(c->listeners[2].nclients, 1);
	assert_string_equal(c->listeners[2].clients[0].principal, "spiffe://hud.example/cobol");
	assert_int_equal(c->listeners[2].clients[0].cidr.bits, 32);
	assert_string_equal(c->listeners[3].path, "/run/sallyport/apps.sock");
	assert_int_equal(c->listeners[3].mode, 0660);
	assert_int_equal(c->listeners[3].addr.len, 0);
	assert_int_equal(c->listeners[3].clients[0].uid, 1234);
	assert_int_equal(c->listeners[4].accept, CONFIG_TCP);
	assert_int_equal(c->listeners[4].service_index, 1);

	assert_int_equal(c->npeers, 1);
	assert_false(c->peers[0].uplink);
	assert_int_equal(c->peers[0].revocation, CONFIG_REV_OFF);
	assert_int_equal(c->peers[0].assert_mask, 1u << POLICY_UID);
	assert_int_equal(c->peers[0].ngateways, 1);
	assert_int_equal(c->peers[0].ndial, 1);
	assert_int_equal(addr_port(&c->peers[0].dial[0].addr), 443);
	assert_int_equal(c->peers[0].links, 2);

	assert_int_equal(c->nservices, 3);
	assert_int_equal(c->services[0].peer_index, 0);
	assert_int_equal(c->services[0].port, 0);
	assert_int_equal(c->services[1].kind, CONFIG_KIND_TCP);
	assert_int_equal(c->services[1].port, 5432);
	assert_string_equal(c->services[1].hostname, "db.irs.svc.cluster.local");
	assert_int_equal(c->services[0].idle_ms, 300000);
	assert_int_equal(c->services[1].idle_ms, 3600000);
	assert_int_equal(c->services[2].peer_index, -1);
	assert_int_equal(addr_port(&c->services[2].endpoints[0].addr), 8080);

	assert_int_equal(c->limits.connections, 50000);
	assert_int_equal(c->limits.link_window, 16 << 20);
	assert_int_equal(c->limits.ping_ms, 3000);
	assert_int_equal(c->journal.ring_bytes, 4 << 20);
	assert_int_equal(c->control.mode, 0660);
	config_free(c);
}

static const char sidecar_conf[] =
    "domain = \"hud.example\";\n"
    "identity = { certificate = \"pki/workload.crt\"; key = \"pki/workload.key\"; bundle = \"pki/hud.example.pem\"; };\n"
    "uplink = { dial = [ \"10.1.0.1:443\", \"[2001:db8::1]:443\" ]; gateways = [ \"spiffe://hud.example/gateway/dmz1\",\n"
    "                                                        \"spiffe://hud.example/gateway/dmz2\" ]; links = 1;\n"
    "           revocation = \"off\"; };\n"
    "listeners = ( { name = \"local\"; address = \"127.0.0.1:8080\"; accept = [ \"plaintext\" ];\n"
    "                clients = ( { uid = 1000; principal = \"spiffe://hud.example/permit-svc\"; },\n"
    "                            { uid = \"1001\"; principal = \"spiffe://hud.example/permit-svc\"; } ); } );\n"
    "services = ( { name = \"tax-svc\"; host = \"tax-svc.irs.svc\"; via = \"uplink\"; } );\n";

static void
sidecar(void **state)
{
	struct config *c = load(sidecar_conf);

	(void)state;
	assert_int_equal(c->npeers, 1);
	assert_true(c->peers[0].uplink);
	assert_string_equal(c->peers[0].name, "uplink");
	assert_string_equal(c->peers[0].domain, "hud.example");
	assert_string_equal(c->peers[0].bundle, c->identity.bundle);
	assert_string_equal(c->peers[0].bundle_pem, c->identity.bundle_pem);
	assert_int_equal(c->peers[0].ngateways, 2);
	assert_int_equal(c->peers[0].ndial, 2);
	assert_int_equal(c->peers[0].links, 1);
	assert_int_equal(c->peers[0].revocation, CONFIG_REV_OFF);
	assert_int_equal(c->services[0].peer_index, 0);
	assert_int_equal(c->listeners[0].clients[0].uid, 1000);
	assert_int_equal(c->listeners[0].clients[1].uid, 1001);
	config_free(c);
}

/* Every option once, none at its default. */
static const char full_conf[] =
    "domain = \"hud.example\"; policy_dir = \"policy.d\"; workers = 3; log_level = \"debug\"; user_prefix = \"sp_\";\n"
    "policy_context = \"env=prod; tier=1\";\n"
    "identity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };\n"
    "inside = { certificate = \"pki/inside.crt\"; key = \"pki/inside.key\"; };\n"
    "peers = ( { name = \"irs\"; domain = \"irs.example\"; bundle = \"peers/irs.example.pem\"; revocation = \"if-present\"; links = 64;\n"
    "            assert = [ \"uid\", \"address\", \"none\" ]; gateways = ( \"spiffe://irs.example/gateway/a\", \"spiffe://irs.example/gateway/b\" );\n"
    "            dial = [ \"203.0.113.20:443\" ]; dial_reverse = [ \"203.0.113.20:443\", \"203.0.113.21:8443\" ]; },\n"
    "          { name = \"gov\"; domain = \"gov.example\"; bundle = \"peers/gov.example.pem\"; gateways = [ \"spiffe://gov.example/gateway/a\" ]; } );\n"
    "listeners = ( { name = \"t\"; address = \"*:443\"; accept = [ \"peers\" ]; },\n"
    "  { name = \"s\"; path = \"run/s.sock\"; mode = \"0600\"; group = \"ops\"; accept = [ \"tcp\" ]; service = \"db\";\n"
    "    clients = ( { uid = \"batch\"; principal = \"spiffe://hud.example/batch\"; } ); },\n"
    "  { name = \"l\"; address = \"127.0.0.2:80\"; accept = [ \"plaintext\" ];\n"
    "    clients = ( { address = \"127.0.0.1\"; principal = \"spiffe://hud.example/a\"; allow_local = true; },\n"
    "                { address = \"10.9.0.0/16\"; principal = \"spiffe://hud.example/b\"; },\n"
    "                { address = \"2001:db8:1::/48\"; principal = \"spiffe://hud.example/c\"; } ); } );\n"
    "services = ( { name = \"db\"; host = \"DB.irs.example:5432\"; kind = \"tcp\"; via = \"irs\"; idle_timeout = \"2h\"; },\n"
    "  { name = \"up\"; host = \"up.example\"; via = \"gov\"; },\n"
    "  { name = \"here\"; host = \"[2001:db8::5]:8080\"; kind = \"http\"; endpoints = [ \"10.1.0.20:8080\", \"[::1]:80\", \"unix:/run/x.sock\" ];\n"
    "    connect_timeout = \"1s\"; response_timeout = \"2m\"; idle_timeout = 90000L; max_connections = 7; } );\n"
    "limits = { connections = 1; connections_per_source = 2; handshakes_per_source = 3; handshakes = 4; streams_per_link = 5;\n"
    "  stream_window = \"128KiB\"; link_window = 1048576L; handshake_timeout = \"1s\"; head_timeout = \"2s\"; keepalive_timeout = \"3s\";\n"
    "  body_idle_timeout = \"4s\"; write_timeout = \"5s\"; park_timeout = \"6s\"; parked = 0; ping_interval = \"1s\"; link_age = \"8m\";\n"
    "  drain_timeout = \"9s\"; resets_per_second = 10; slots = 11L; tcp_buffer = \"64KiB\"; };\n"
    "journal = { directory = \"journal\"; segment_size = \"1GiB\"; segment_age = \"2d\"; group_interval = \"5ms\"; min_free = \"1GiB\"; ring_size = \"8MiB\"; };\n"
    "control = { socket = \"run/control.sock\"; mode = \"0600\"; group = \"ops\"; };\n";

static void
full(void **state)
{
	struct config *c = load(full_conf);
	const struct sockaddr_un *sun = (const struct sockaddr_un *)&c->services[2].endpoints[2].addr.ss;

	(void)state;
	assert_int_equal(c->workers, 3);
	assert_string_equal(c->policy_context, "env=prod; tier=1");
	assert_non_null(c->inside.certificate_pem);
	assert_int_equal(c->npeers, 2);
	assert_int_equal(c->peers[0].revocation, CONFIG_REV_IF_PRESENT);
	assert_int_equal(c->peers[0].assert_mask, 1u << POLICY_UID | 1u << POLICY_ADDRESS | 1u << POLICY_NONE);
	assert_int_equal(c->peers[0].ndial_reverse, 2);
	assert_int_equal(c->peers[1].ndial, 0);
	assert_int_equal(c->services[0].peer_index, 0);
	assert_int_equal(c->services[1].peer_index, 1);
	assert_string_equal(c->services[0].host, "db.irs.example:5432");
	assert_string_equal(c->services[2].hostname, "[2001:db8::5]");
	assert_int_equal(sun->sun_family, AF_UNIX);
	assert_string_equal(sun->sun_path, "/run/x.sock");
	assert_int_equal(c->services[2].idle_ms, 90000);
	assert_int_equal(c->listeners[1].mode, 0600);
	assert_int_equal(c->listeners[1].service_index, 0);
	assert_int_equal(c->limits.link_window, 1 << 20);
	assert_int_equal(c->limits.slots, 11);
	config_free(c);
}

static void
image_and_dump(void **state)
{
	static const char *const texts[] = { fixture_issue_conf, sidecar_conf, full_conf };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct config *c = load(texts[i]), *d, *again;
		struct buf image, dump, dump2, image2;
		const char *why;

		buf_init(&image, 0);
		buf_init(&image2, 0);
		buf_init(&dump, 0);
		buf_init(&dump2, 0);
		config_encode(c, &image);
		config_dump(c, &dump);
		d = config_decode(image.data, image.len, &why);
		assert_non_null(d);
		config_dump(d, &dump2);
		assert_string_equal(buf_cstr(&dump), buf_cstr(&dump2));
		config_encode(d, &image2);
		assert_int_equal(image.len, image2.len);
		assert_memory_equal(image.data, image2.data, image.len);
		/* A dump is a configuration, and means the same (but for the lines it is written in). */
		again = load(buf_cstr(&dump));
		buf_reset(&dump2);
		config_dump(again, &dump2);
		assert_string_equal(buf_cstr(&dump), buf_cstr(&dump2));
		config_free(again);
		config_free(d);
		config_free(c);
		buf_fini(&image);
		buf_fini(&image2);
		buf_fini(&dump);
		buf_fini(&dump2);
	}
}

static void
includes(void **state)
{
	struct config *c;

	(void)state;
	fixture_write_text("services.inc", "{ name = \"a\"; host = \"a.example\";\n  endpoints = [ \"10.0.0.1:80\" ]; },\n");
	fixture_write_text("more.inc", "# nothing here\n@include \"services.inc\"\n{ name = \"b\"; host = \"b.example\"; endpoints = [ \"10.0.0.2:80\" ]; }");
	c = load("domain = \"hud.example\"; /* @include \"none\" */ # @include \"none\"\n"
		 "identity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };\n"
		 "services = (\n  @include \"more.inc\"\n);\n");
	assert_int_equal(c->nservices, 2);
	assert_string_equal(c->services[1].name, "b");
	assert_int_equal(c->services[0].line, 1);
	assert_int_equal(c->services[1].line, 3);
	config_free(c);
}

static void
by_host(void **state)
{
	static const struct {
		const char *authority;
		uint16_t default_port;
		const char *service; /* NULL: none */
	} cases[] = {
		{ "plain.example", 80, "plain" }, { "plain.example", 443, "plain" }, { "PLAIN.Example", 80, "plain" }, { "plain.example:80", 80, "plain" },
		{ "plain.example:443", 443, "plain" }, { "plain.example:443", 80, NULL }, { "plain.example:80", 443, NULL }, { "plain.example:8080", 80, NULL },
		{ "plain.example", 0, "plain" }, { "plain.example:80", 0, NULL },
		{ "odd.example:8080", 80, "odd" }, { "odd.example", 80, NULL }, { "odd.example", 8080, "odd" }, { "odd.example:80", 80, NULL },
		{ "db.example:5432", 80, "db" }, { "db.example:5433", 80, "db2" }, { "db.example", 80, NULL }, { "db.example:5432", 0, "db" },
		{ "[2001:db8::5]:8080", 80, "six" }, { "[2001:DB8::5]:8080", 80, "six" }, { "[2001:db8::5]", 80, NULL }, { "[2001:db8::5", 80, NULL },
		{ "192.0.2.80", 80, "four" }, { "", 80, NULL }, { ":80", 80, NULL }, { "plain.example:", 80, NULL }, { "plain.example:080", 80, NULL },
		{ "plain.example:65616", 80, NULL }, { "plain.example.", 80, NULL }, { "plain.example:80x", 80, NULL }, { "plain", 80, NULL },
		{ "xplain.example", 80, NULL }, { "tls.example", 443, "tls" }, { "tls.example", 80, NULL }, { "tls.example:443", 80, "tls" },
	};
	struct config *c = load("domain = \"hud.example\";\n"
	    "identity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };\n"
	    "services = ( { name = \"plain\"; host = \"plain.example\"; endpoints = [ \"10.0.0.1:80\" ]; },\n"
	    "  { name = \"odd\"; host = \"odd.example:8080\"; endpoints = [ \"10.0.0.1:80\" ]; },\n"
	    "  { name = \"db\"; host = \"db.example:5432\"; kind = \"tcp\"; endpoints = [ \"10.0.0.1:80\" ]; },\n"
	    "  { name = \"db2\"; host = \"db.example:5433\"; kind = \"tcp\"; endpoints = [ \"10.0.0.1:80\" ]; },\n"
	    "  { name = \"six\"; host = \"[2001:db8::5]:8080\"; endpoints = [ \"10.0.0.1:80\" ]; },\n"
	    "  { name = \"tls\"; host = \"tls.example:443\"; endpoints = [ \"10.0.0.1:80\" ]; },\n"
	    "  { name = \"four\"; host = \"192.0.2.80\"; endpoints = [ \"10.0.0.1:80\" ]; } );\n");
	char longest[600];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int n = config_service_by_host(c, cases[i].authority, strlen(cases[i].authority), cases[i].default_port);

		if ((n < 0) != !cases[i].service || (n >= 0 && strcmp(c->services[n].name, cases[i].service) != 0))
			fail_msg("%s with %u: %d", cases[i].authority, cases[i].default_port, n);
	}
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(config_service_by_host(c, longest, sizeof(longest), 80), -1);
	config_free(c);
}

/* 20,000 services load, and each is found. */
static void
many_services(void **state)
{
	struct buf b;
	struct config *c;
	char host[64];

	(void)state;
	buf_init(&b, 0);
	buf_puts(&b, "domain = \"hud.example\";\n"
		     "identity = { certificate = \"pki/gateway.crt\"; key = \"pki/gateway.key\"; bundle = \"pki/hud.example.pem\"; };\n"
		     "services = (\n");
	for (int i = 0; i < 20000; i++)
		buf_printf(&b, "%s{ name = \"s%d\"; host = \"s%d.example:%d\"; endpoints = [ \"10.0.0.1:80\" ]; }\n", i ? "," : "", i, i / 10, 1000 + i);
	buf_puts(&b, ");\n");
	c = load(buf_cstr(&b));
	buf_fini(&b);
	for (int i = 0; i < 20000; i++) {
		int n = snprintf(host, sizeof(host), "s%d.example:%d", i / 10, 1000 + i);

		assert_int_equal(config_service_by_host(c, host, (size_t)n, 80), i);
	}
	config_free(c);
}

/* Any byte changed, any cut: refused, never a crash. */
static void
damaged_images(void **state)
{
	struct config *c = load(full_conf), *d;
	struct buf image;
	const char *why;
	uint8_t *copy;

	(void)state;
	buf_init(&image, 0);
	config_encode(c, &image);
	config_free(c);
	copy = mem_alloc(image.len + 1);
	for (size_t n = 0; n < image.len; n++) {
		/* A block of its own for each length, so that ASan sees a byte too many. */
		uint8_t *part = mem_alloc(n);

		memcpy(part, image.data, n);
		why = NULL;
		d = config_decode(part, n, &why);
		assert_null(d);
		assert_non_null(why);
		mem_free(part);
	}
	memcpy(copy, image.data, image.len);
	for (size_t i = 0; i < image.len; i++) {
		copy[i] ^= (uint8_t)(1u << (i % 8));
		why = NULL;
		d = config_decode(copy, image.len, &why);
		assert_null(d);
		assert_non_null(why);
		copy[i] = image.data[i];
	}
	copy[image.len] = 0;
	assert_null(config_decode(copy, image.len + 1, &why));
	d = config_decode(copy, image.len, &why);
	assert_non_null(d);
	config_free(d);
	mem_free(copy);
	buf_fini(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(issue), cmocka_unit_test(sidecar), cmocka_unit_test(full), cmocka_unit_test(image_and_dump),
		cmocka_unit_test(includes), cmocka_unit_test(by_host), cmocka_unit_test(many_services), cmocka_unit_test(damaged_images),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
