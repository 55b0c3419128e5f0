/* SPDX-License-Identifier: Apache-2.0 */
/* The enrolment service within TLS: chosen by its name alone, with its own certificate; and our own client of such a service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/base/mem.h"
#include "gateway/keys/client.h"
#include "tests/unit/tls/bed.h"

#define HOST "enrol.hud.example"
#define ID "spiffe://hud.example/gateway/dmz1"
#define APP "spiffe://hud.example/app"
#define ALL (TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS | TLS_ACCEPT_ENROL)
#define H2 "\2h2"
#define HTTP1 "\10http/1.1"

static struct bed_domain hud, irs;
static struct zoo_cert gateway, service, app, foreign, other_host;
static struct bed_keys keys;
static struct tls_env *env, *forwarding;

static struct tls_env *
make_env(const struct zoo_cert *enrol, const struct zoo_cert *inside)
{
	char *identity = zoo_pem(&gateway.x, 1), *pem = enrol ? zoo_pem(&enrol->x, 1) : NULL, *in = inside ? zoo_pem(&inside->x, 1) : NULL;
	struct svid_bundle *bundles[] = { hud.bundle, irs.bundle };
	struct tls_env_config cfg = { .domain = "hud.example", .identity_pem = identity, .inside_pem = in, .enrol_host = HOST, .enrol_pem = pem,
		.bundles = bundles, .nbundles = 2 };
	const char *why = NULL;
	struct tls_env *e = tls_env_new(&cfg, &why);

	if (!e)
		fail_msg("%s", why);
	mem_free(identity);
	mem_free(pem);
	mem_free(in);
	return e;
}

static int
setup(void **state)
{
	const char *why = NULL;

	(void)state;
	hud = bed_domain("hud.example");
	irs = bed_domain("irs.example");
	gateway = bed_leaf(&hud, ID, ZOO_P256, NULL);
	service = bed_leaf(&hud, ID, ZOO_P256, &(struct zoo){ .san = { { GEN_URI, ID, 0 }, { GEN_DNS, HOST, 0 } } });
	other_host = bed_leaf(&hud, ID, ZOO_P256, &(struct zoo){ .san = { { GEN_URI, ID, 0 }, { GEN_DNS, "other.hud.example", 0 } } });
	app = bed_leaf(&hud, APP, ZOO_P256, NULL);
	foreign = bed_leaf(&irs, "spiffe://irs.example/app", ZOO_P256, NULL);
	{
		const struct bed_key list[] = { { KEYS_IDENTITY, gateway.key }, { KEYS_INSIDE, app.key }, { KEYS_ENROL, service.key }, { 3, other_host.key } };

		keys = bed_keys_start(list, 3);
	}
	assert_int_equal(keys_client_init(keys.worker, &why), 0);
	env = make_env(&service, &app);
	forwarding = make_env(NULL, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	tls_env_unref(env);
	tls_env_unref(forwarding);
	assert_int_equal(bed_keys_stop(&keys), 0);
	zoo_free(&gateway);
	zoo_free(&service);
	zoo_free(&other_host);
	zoo_free(&app);
	zoo_free(&foreign);
	bed_domain_free(&hud);
	bed_domain_free(&irs);
	return 0;
}

static void
dial(struct tls_env *e, unsigned accept, const struct zoo_cert *leaf, const char *sni, const char *alpn, struct bed_end *raw, struct bed_end *ours)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int fds[2];

	if (leaf) {
		assert_int_equal(SSL_CTX_use_certificate(ctx, leaf->x), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(ctx, leaf->key), 1);
	}
	bed_pair(fds);
	memset(raw, 0, sizeof(*raw));
	memset(ours, 0, sizeof(*ours));
	raw->fd = fds[0];
	ours->fd = fds[1];
	raw->raw = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_fd(raw->raw, fds[0]);
	SSL_set_connect_state(raw->raw);
	if (sni)
		SSL_set_tlsext_host_name(raw->raw, sni);
	if (alpn)
		SSL_set_alpn_protos(raw->raw, (const uint8_t *)alpn, (unsigned)strlen(alpn));
	ours->t = tls_server_new(e, fds[1], accept, bed_wake, ours);
	bed_run((struct bed_end *[]){ raw, ours }, 2, keys.worker);
}

static void
by_name(void **state)
{
	const struct {
		bool forwards;
		unsigned accept;
		const struct zoo_cert *leaf;
		const char *sni, *alpn;
		const char *token;            /* NULL: the handshake succeeds */
		const struct zoo_cert *shown; /* by us */
		bool enrol;
	} table[] = {
		/* without a certificate, and with one of ours */
		{ false, ALL, NULL, HOST, NULL, NULL, &service, true },
		{ false, ALL, NULL, HOST, HTTP1, NULL, &service, true },
		{ false, ALL, NULL, HOST, H2 HTTP1, NULL, &service, true },
		{ false, ALL, &app, "Enrol.HUD.example", NULL, NULL, &service, true },
		{ false, TLS_ACCEPT_ENROL, &app, HOST, HTTP1, NULL, &service, true },
		/* what it speaks */
		{ false, ALL, NULL, HOST, H2, "alpn", NULL, false },
		/* others' certificates */
		{ false, ALL, &foreign, HOST, NULL, "unknown-domain", NULL, false },
		/* another name is another service, and needs a certificate as before */
		{ false, ALL, NULL, "tax.hud.example", HTTP1, "no-certificate", NULL, false },
		{ false, ALL, &app, "tax.hud.example", HTTP1, NULL, &gateway, false },
		{ false, ALL, &app, NULL, H2, NULL, &gateway, false },
		{ false, TLS_ACCEPT_PEERS | TLS_ACCEPT_ENROL, &app, NULL, NULL, "alpn", NULL, false },
		{ false, TLS_ACCEPT_PEERS | TLS_ACCEPT_ENROL, &app, NULL, HTTP1, "alpn", NULL, false },
		{ false, TLS_ACCEPT_WORKLOADS | TLS_ACCEPT_ENROL, &app, NULL, HTTP1, NULL, &app, false }, /* inside's */
		{ false, TLS_ACCEPT_ENROL, &app, "tax.hud.example", HTTP1, "server-name", NULL, false },
		{ false, TLS_ACCEPT_ENROL, &app, NULL, NULL, "server-name", NULL, false },
		/* not served here */
		{ false, TLS_ACCEPT_WORKLOADS, &app, HOST, HTTP1, "server-name", NULL, false },
		{ false, TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS, &app, HOST, H2, "server-name", NULL, false },
		/* it is elsewhere, and should not have come here */
		{ true, ALL, &app, HOST, HTTP1, "server-name", NULL, false },
		{ true, ALL, &app, "tax.hud.example", HTTP1, NULL, &gateway, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct bed_end raw, ours;
		const char *detail;

		dial(table[i].forwards ? forwarding : env, table[i].accept, table[i].leaf, table[i].sni, table[i].alpn, &raw, &ours);
		if (table[i].token) {
			assert_int_equal(ours.st, TLS_FAILED);
			if (strcmp(tls_failure(ours.t, &detail), table[i].token) != 0)
				fail_msg("row %zu: %s (%s)", i, tls_failure(ours.t, &detail), detail);
		} else {
			if (ours.st != TLS_DONE)
				fail_msg("row %zu: %s", i, tls_failure(ours.t, &detail));
			assert_int_equal(tls_enrol(ours.t), table[i].enrol);
			assert_int_equal(X509_cmp(SSL_get0_peer_certificate(raw.raw), table[i].shown->x), 0);
			assert_string_equal(tls_peer(ours.t)->id, table[i].leaf ? APP : "");
			if (table[i].enrol) {
				struct svid_der chain[SVID_MAX_CHAIN];

				assert_int_equal(tls_alpn(ours.t), TLS_ALPN_HTTP1);
				assert_int_equal(tls_peer_chain(ours.t, chain, SVID_MAX_CHAIN), table[i].leaf ? 1 : 0);
			}
		}
		bed_end_free(&raw);
		bed_end_free(&ours);
	}
}

/* Our client with each of our certificates, against a server that is the service or is not. */
static void
client(void **state)
{
	const struct {
		const struct zoo_cert *server;
		const char *host;
		unsigned key;
		const char *token; /* of the client; NULL: both ends are content */
		const struct zoo_cert *shown;
	} table[] = {
		{ &service, HOST, KEYS_IDENTITY, NULL, &gateway }, { &service, HOST, KEYS_INSIDE, NULL, &app }, { &service, HOST, KEYS_ENROL, NULL, &service },
		{ &service, HOST, 3, "no-certificate", NULL }, { &other_host, HOST, KEYS_IDENTITY, "other", NULL }, { &app, HOST, KEYS_IDENTITY, "other", NULL },
		{ &foreign, HOST, KEYS_IDENTITY, "unknown-domain", NULL }, { &service, "other.hud.example", KEYS_IDENTITY, "other", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
		struct bed_end raw = { .raw = NULL }, ours = { .raw = NULL };
		const char *detail;
		int fds[2];

		bed_pair(fds);
		SSL_CTX_use_certificate(ctx, table[i].server->x);
		SSL_CTX_use_PrivateKey(ctx, table[i].server->key);
		X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), hud.ca.x);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		raw.fd = fds[0];
		ours.fd = fds[1];
		raw.raw = SSL_new(ctx);
		SSL_CTX_free(ctx);
		SSL_set_fd(raw.raw, fds[0]);
		SSL_set_accept_state(raw.raw);
		ours.t = tls_est_client_new(env, fds[1], table[i].key, table[i].host, bed_wake, &ours);
		bed_run((struct bed_end *[]){ &raw, &ours }, 2, keys.worker);
		if (table[i].token) {
			assert_int_equal(ours.st, TLS_FAILED);
			if (strcmp(tls_failure(ours.t, &detail), table[i].token) != 0)
				fail_msg("row %zu: %s (%s)", i, tls_failure(ours.t, &detail), detail);
		} else {
			if (ours.st != TLS_DONE || raw.st != TLS_DONE)
				fail_msg("row %zu: %s", i, tls_failure(ours.t, &detail));
			assert_string_equal(SSL_get_servername(raw.raw, TLSEXT_NAMETYPE_host_name), table[i].host);
			assert_int_equal(X509_cmp(SSL_get0_peer_certificate(raw.raw), table[i].shown->x), 0);
			assert_int_equal(tls_alpn(ours.t), TLS_ALPN_HTTP1);
		}
		bed_end_free(&raw);
		bed_end_free(&ours);
	}
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_name), cmocka_unit_test(client) };

	bed_child(argc, argv);
	return cmocka_run_group_tests(tests, setup, teardown);
}
