/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gwctl: one table drives dispatch and help. Entries of two words are subcommands of the first; their
 * function is the first word's, which has a table of its own (tests/check-man-commands.sh compares them).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/gwctl.h"

static const struct command {
	const char *name;
	int (*run)(struct gwctl *g, int argc, char **argv); /* NULL: "name" has two words */
	const char *arguments;
	const char *summary;
	const char *example;
} commands[] = {
	{ "status", cmd_status, "", "the daemon on one screen: roles, listeners, traffic, journal", "gwctl status" },
	{ "peers", cmd_peers, "", "the links to each peer", "gwctl --json peers" },
	{ "services", cmd_services, "", "the services, what runs and what was decided", "gwctl services" },
	{ "reload", cmd_reload, "", "read config and policy again; all or nothing", "gwctl reload" },
	{ "drain", cmd_drain, "", "finish what runs, then stop", "gwctl drain" },
	{ "sever", cmd_sever, "PEER", "the kill switch: cut all links and exchanges with a peer, until it is restored", "gwctl sever irs" },
	{ "restore", cmd_restore, "PEER", "links to a severed peer again", "gwctl restore irs" },
	{ "log-level", cmd_log_level, "error|warn|info|debug", "how much the operator log says", "gwctl log-level debug" },
	{ "check", cmd_check, "[--fail-on warning|error] [--store DIR] [--prometheus]", "every certificate, CA and CRL: how long it lasts",
	    "gwctl check --fail-on warning" },
	{ "config", cmd_config, "check|dump", "the configuration on disk", NULL },
	{ "config check", NULL, "", "check sallyport.conf and the policy; every fault as file:line", "gwctl -c new.conf config check" },
	{ "config dump", NULL, "", "every option with the value in effect", "gwctl config dump" },
	{ "policy", cmd_policy, "check|test|list", "the policy on disk", NULL },
	{ "policy check", NULL, "", "read the policy as a reload would, and say every fault", "gwctl policy check" },
	{ "policy test", NULL, "--principal ID --service NAME [--method M] [--path P] [--assurance A]",
	    "what would be decided, by which rule, and why not",
	    "gwctl policy test --principal spiffe://hud.example/permit-svc --service tax-svc --method GET --path /v1/taxes/7" },
	{ "policy list", NULL, "[--principal ID] [--service NAME]", "the rules in the order in which they are asked",
	    "gwctl policy list --service tax-svc" },
	{ "audit", cmd_audit, "verify|tail|show|reconcile", "the journal", NULL },
	{ "audit verify", NULL, "[DIR]", "check a journal's chain, leaf hashes and checkpoints", "gwctl audit verify" },
	{ "audit tail", NULL, "[-n N] [-f] [DIR]", "the last records", "gwctl audit tail -f" },
	{ "audit show", NULL, "ID [DIR]", "all records of one exchange", "gwctl audit show 0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b" },
	{ "audit reconcile", NULL, "DIR_A DIR_B", "join the journals of two gateways", "gwctl audit reconcile ours/ theirs/" },
	{ "pki", cmd_pki, "init|issue|renew|revoke|crl|bundle|list|show|token|enrol|rotate-ca", "the domain's certificate authority", NULL },
	{ "pki init", NULL, "DOMAIN [--dir DIR] [--alg p256|p384|ed25519] [--encrypt] [--passphrase-file FILE]", "make a root and an issuing CA",
	    "gwctl pki init hud.example" },
	{ "pki issue", NULL, "gateway|workload NAME --out PREFIX [--dns NAME]... [--days N|--lifetime T] [--csr FILE] [--alg A] [--dir DIR]",
	    "issue a certificate", "gwctl pki issue gateway dmz1 --out pki/gateway" },
	{ "pki renew", NULL, "FILE|NAME|SERIAL [--out PREFIX] [--csr FILE|--key FILE|--alg A] [--days N|--lifetime T] [--dir DIR]",
	    "the same certificate again, for longer", "gwctl pki renew pki/gateway.crt" },
	{ "pki revoke", NULL, "SERIAL|NAME... [--reason R] [--root-key FILE] [--dir DIR]", "withdraw certificates, and write a new CRL",
	    "gwctl pki revoke permit-svc --reason keyCompromise" },
	{ "pki crl", NULL, "[--lifetime T] [--root] [--root-key FILE] [--dir DIR]", "write what is revoked, for gateways and peers", "gwctl pki crl" },
	{ "pki bundle", NULL, "[--format pem|jwks] [--dir DIR]", "what others need to trust this domain", "gwctl pki bundle > hud.example.pem" },
	{ "pki list", NULL, "[NAME] [--state STATE] [--issuer old|new|SERIAL] [--dir DIR]", "what was issued, to whom, until when, and what became of it",
	    "gwctl pki list --state valid" },
	{ "pki show", NULL, "FILE|NAME|SERIAL", "certificates and CRLs of a file, and what is wrong with them; or what was issued", "gwctl pki show pki/gateway.crt" },
	{ "pki token", NULL, "NAME [--ttl T] [--dns NAME]... [--dir DIR]", "what lets a workload get its first certificate, once",
	    "gwctl pki token permit-svc --ttl 10m" },
	{ "pki enrol", NULL, "--url URL --name NAME --token-file FILE --bundle FILE|--fingerprint SHA256 --out DIR | --url URL --renew CRT --key KEY --bundle FILE",
	  "a certificate from an enrolment service, for a key made here", "gwctl pki enrol --url https://enrol.hud.example --name permit-svc --token-file token --bundle hud.example.pem --out ." },
	{ "pki rotate-ca", NULL, "[--status|--begin|--switch|--retire] [--alg A] [--root-key FILE] [--force] [--dir DIR]", "replace the CA, step by step",
	    "gwctl pki rotate-ca --begin" },
	{ "pair", cmd_pair, "export|show|accept|update|list|remove", "pair two domains", NULL },
	{ "pair export", NULL, "[--address IP:PORT]... [--gateway ID]... [--bundle FILE] [--ttl T] [--out FILE] [--dir DIR]",
	    "write our pairing file, and say its code", "gwctl pair export --out hud.pair" },
	{ "pair show", NULL, "FILE", "what a pairing file says, and its code", "gwctl pair show irs.pair" },
	{ "pair accept", NULL, "FILE --code CODE [--name PEER] [--no-dial|--reverse] [--domain OURS] [--peers DIR]", "install the peer",
	    "gwctl pair accept irs.pair --code \"12345 12345 12345 12345 12345 12345\"" },
	{ "pair update", NULL, "FILE [--domain OURS] [--peers DIR]", "take a newer file of a peer, without a code", "gwctl pair update irs.pair" },
	{ "pair list", NULL, "[--peers DIR]", "who we are paired with, until when, and how it does", "gwctl pair list" },
	{ "pair remove", NULL, "PEER [--peers DIR]", "end a pairing, and cut its links", "gwctl pair remove irs" },
	{ "version", cmd_version, "", "the version of gwctl", NULL },
	{ "help", cmd_help, "[COMMAND]", "this, or more about one command", "gwctl help policy test" },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
print_usage(FILE *to)
{
	fputs("usage: gwctl [-c FILE] [-s SOCKET] [--json] COMMAND [ARGUMENT...]\n\n", to);
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].run)
			fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fputs("\n"
	      "  -c, --config FILE    the configuration (" SALLYPORT_SYSCONFDIR "/sallyport.conf)\n"
	      "  -s, --socket SOCKET  the daemon's admin socket (the one that the configuration names)\n"
	      "      --json           answer in JSON, for programs\n\n"
	      "Exit codes: 0 done, 1 failed or denied, 2 wrong usage, 3 the daemon cannot be reached,\n"
	      "4 the question has no answer, because a file that it needs cannot be used.\n"
	      "\"gwctl help COMMAND\" says more, as does --help after a command; see gwctl(1).\n", to);
}

int
cmd_help(struct gwctl *g, int argc, char **argv)
{
	char *name;
	size_t n, found = 0;

	(void)g;
	if (argc == 2 && !strcmp(argv[1], "--names")) { /* for completion and for the check of man pages */
		for (size_t i = 0; i < COMMANDS; i++)
			puts(commands[i].name);
		return GWCTL_OK;
	}
	if (argc < 2) {
		print_usage(stdout);
		return GWCTL_OK;
	}
	/* More than two words are a command with its arguments. */
	name = argc > 2 ? mem_printf("%s %s", argv[1], argv[2]) : mem_strdup(argv[1]);
	n = strlen(name);
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];

		if (strncmp(c->name, name, n) || (c->name[n] != '\0' && c->name[n] != ' '))
			continue;
		printf("%sgwctl %s%s%s\n    %s\n", found++ ? "\n" : "", c->name, c->arguments[0] ? " " : "", c->arguments, c->summary);
		if (c->example)
			printf("    example: %s\n", c->example);
	}
	if (!found)
		gwctl_error("there is no command \"%s\"; \"gwctl help\" lists them", name);
	mem_free(name);
	return found ? GWCTL_OK : GWCTL_USAGE;
}

int
cmd_version(struct gwctl *g, int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return gwctl_usage("version", "version takes no argument");
	if (g->json)
		puts("{\"version\": \"" SALLYPORT_VERSION "\"}");
	else
		puts("gwctl " SALLYPORT_VERSION);
	return GWCTL_OK;
}

static int
unknown(const char *word)
{
	const char *names[COMMANDS], *near;
	size_t n = 0;

	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].run)
			names[n++] = commands[i].name;
	near = errs_nearest(word, names, n);
	if (near)
		return gwctl_usage(NULL, "there is no command \"%s\"; did you mean \"%s\"?", word, near);
	return gwctl_usage(NULL, "there is no command \"%s\"", word);
}

/* "gwctl pki init x --help": the help of the longest command that these words begin with. */
static bool
wants_help(struct gwctl *g, int argc, char **argv, int *rc)
{
	char first[] = "help", *words[] = { first, argv[0], argc > 1 ? argv[1] : NULL, NULL };
	bool found = false, known = false;

	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		found = found || !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h");
	if (!found)
		return false;
	for (size_t i = 0; argc > 1 && i < COMMANDS; i++) {
		size_t n = strlen(argv[0]);

		known = known || (!strncmp(commands[i].name, argv[0], n) && commands[i].name[n] == ' ' && !strcmp(commands[i].name + n + 1, argv[1]));
	}
	*rc = cmd_help(g, known ? 3 : 2, words);
	return true;
}

/* --json may stand anywhere before "--". */
static int
take_json(struct gwctl *g, int argc, char **argv)
{
	int keep = 1;
	bool over = false;

	for (int i = 1; i < argc; i++) {
		over = over || !strcmp(argv[i], "--");
		if (!over && !strcmp(argv[i], "--json"))
			g->json = true;
		else
			argv[keep++] = argv[i];
	}
	argv[keep] = NULL;
	return keep;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'v' }, { NULL, 0, NULL, 0 },
	};
	struct gwctl g = { .config_path = SALLYPORT_SYSCONFDIR "/sallyport.conf" };
	int ch;

	g.color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	argc = take_json(&g, argc, argv);
	opterr = 0;
	while ((ch = getopt_long(argc, argv, "+:c:s:hv", options, NULL)) != -1) {
		switch (ch) {
		case 'c': g.config_path = optarg; break;
		case 's': g.socket_path = optarg; break;
		case 'h':
			print_usage(stdout);
			return GWCTL_OK;
		case 'v': return cmd_version(&g, 1, argv);
		case ':': return gwctl_usage(NULL, "%s needs a value", argv[optind - 1]);
		default: return gwctl_usage(NULL, "there is no option %s", argv[optind - 1]);
		}
	}
	if (optind == argc) {
		print_usage(stderr);
		return GWCTL_USAGE;
	}
	argc -= optind;
	argv += optind;
	optind = 0; /* glibc: begin anew */
	if (wants_help(&g, argc, argv, &ch))
		return ch;
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].run && !strcmp(commands[i].name, argv[0]))
			return commands[i].run(&g, argc, argv);
	return unknown(argv[0]);
}
