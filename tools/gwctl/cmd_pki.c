/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki: what its subcommands share, init and bundle. The work is pki/ca*.c's; here are options, files and words. */
#include "tools/gwctl/cmd_enrol.h"
#include "tools/gwctl/cmd_pki.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/config/value.h"
#include "pki/pkifile.h"

char *
cmd_pki_dir(const struct gwctl *g, const char *option)
{
	char *beside, *dir;

	if (option)
		return mem_strdup(option);
	beside = pkifile_dirname(g->config_path);
	dir = mem_printf("%s/pki", beside);
	mem_free(beside);
	return dir;
}

void
cmd_pki_time(char out[32], int64_t t)
{
	time_t v = (time_t)t;
	struct tm tm;

	gmtime_r(&v, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

int64_t
cmd_pki_now(void)
{
	return (int64_t)(clock_wall_us() / 1000000);
}

int
cmd_pki_done(struct errs *errs)
{
	int rc = gwctl_print_errs(errs);

	errs_fini(errs);
	return rc;
}

int
cmd_pki_json(struct json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
	return GWCTL_OK;
}

int
cmd_pki_days(int64_t *seconds, const char *command, const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 1 || n > 3650)
		return gwctl_usage(command, "--days %s: a number from 1 to 3650", text);
	*seconds = n * INT64_C(86400);
	return GWCTL_OK;
}

int
cmd_pki_lifetime(int64_t *seconds, const char *command, const char *option, const char *text)
{
	const char *why;
	uint64_t ms;

	if (value_duration(&ms, text, &why) != 0)
		return gwctl_usage(command, "%s %s: %s; for example 24h or 30m", option, text, why);
	if (ms < 60000 || ms > UINT64_C(3650) * 86400000)
		return gwctl_usage(command, "%s %s: from one minute to 3650 days", option, text);
	*seconds = (int64_t)(ms / 1000);
	return GWCTL_OK;
}

int
cmd_pki_alg(enum pkey_alg *out, const char *command, const char *text)
{
	if (pkey_alg_parse(out, text) == 0)
		return GWCTL_OK;
	return gwctl_usage(command, "--alg %s is unknown; p256, p384 or ed25519", text);
}

/* -- init ------------------------------------------------------------------------------------------ */

static int
run_init(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "alg", required_argument, NULL, 'a' },
		{ "encrypt", no_argument, NULL, 'e' }, { "passphrase-file", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	struct cmd_pki_secret secret = { 0 };
	enum pkey_alg alg = PKEY_P256;
	const char *dir_option = NULL, *domain;
	bool encrypt = false;
	struct errs errs;
	char *dir;
	int c, rc;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': dir_option = optarg; break;
		case 'j': g->json = true; break;
		case 'e': encrypt = true; break;
		case 'p':
			secret.file = optarg;
			encrypt = true;
			break;
		case 'a':
			if ((rc = cmd_pki_alg(&alg, "pki init", optarg)) != GWCTL_OK)
				return rc;
			break;
		default:
			return gwctl_usage("pki init", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pki init", "which trust domain? For example: gwctl pki init hud.example");
	domain = argv[optind];
	errs_init(&errs);
	dir = cmd_pki_dir(g, dir_option);
	if ((!encrypt || cmd_pki_new_secret(&secret, &errs) == 0) && ca_init(dir, domain, alg, &secret.keys, cmd_pki_now(), &errs) == 0) {
		if (g->json) {
			cmd_pki_json(json_pack("{s:s, s:s, s:o, s:b}", "domain", domain, "directory", dir, "bundle",
			    json_sprintf("%s/%s.pem", dir, domain), "encrypted", encrypt));
		} else {
			printf("CA of %s made in %s%s.\n", domain, dir, encrypt ? ", its keys encrypted" : "");
			printf("  bundle      %s/%s.pem\n", dir, domain);
			printf("  root key    %s/ca/root.key   (move it to a safe place offline: issuing does not need it)\n", dir);
			printf("Next: gwctl pki issue gateway NAME --dir %s --out %s/gateway\n", dir, dir);
		}
	}
	cmd_pki_secret_fini(&secret);
	mem_free(dir);
	return cmd_pki_done(&errs);
}

/* -- bundle ---------------------------------------------------------------------------------------- */

static int
run_bundle(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "format", required_argument, NULL, 'f' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	const char *dir_option = NULL, *format = "pem";
	struct errs errs;
	char *dir, *text;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': dir_option = optarg; break;
		case 'f': format = optarg; break;
		case 'j': g->json = true; break;
		default:
			return gwctl_usage("pki bundle", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc > optind)
		return gwctl_usage("pki bundle", "\"%s\" is too much", argv[optind]);
	if (strcmp(format, "pem") && strcmp(format, "jwks"))
		return gwctl_usage("pki bundle", "--format %s is unknown; pem or jwks", format);
	errs_init(&errs);
	dir = cmd_pki_dir(g, dir_option);
	text = strcmp(format, "jwks") == 0 ? ca_bundle_jwks(dir, 0, &errs) : ca_bundle(dir, &errs);
	if (text)
		fputs(text, stdout);
	mem_free(text);
	mem_free(dir);
	return cmd_pki_done(&errs);
}

int
cmd_pki(struct gwctl *g, int argc, char **argv)
{
	static const struct gwctl_sub subs[] = {
		{ "init", run_init, "make a root and an issuing CA for a domain" },
		{ "issue", cmd_pki_issue, "a certificate for a gateway or a workload" },
		{ "renew", cmd_pki_renew, "the same certificate again, for longer" },
		{ "revoke", cmd_pki_revoke, "withdraw certificates before they end" },
		{ "crl", cmd_pki_crl, "write what is revoked, for gateways and peers" },
		{ "bundle", run_bundle, "print what others need to trust this domain" },
		{ "list", cmd_pki_list, "what was issued, to whom, until when, and what became of it" },
		{ "show", cmd_pki_show, "certificates and CRLs of a file, or one that was issued" },
		{ "token", cmd_pki_token, "what lets a workload enrol, once" },
		{ "enrol", cmd_pki_enrol, "a certificate from an enrolment service, for a key made here" },
		{ "rotate-ca", cmd_pki_rotate, "replace the CA without a failed exchange" },
		{ NULL, NULL, NULL },
	};

	return gwctl_dispatch(g, "pki", subs, argc, argv);
}
