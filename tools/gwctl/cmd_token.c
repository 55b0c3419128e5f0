/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki token: what lets a workload get its first certificate. It needs the store, and no key of the CA's. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/config/value.h"
#include "pki/store.h"
#include "pki/svid.h"
#include "pki/token.h"
#include "tools/gwctl/cmd_pki.h"
#include "tools/gwctl/jsonout.h"

struct wish {
	struct token_wish w;
	const char *dns[TOKEN_DNS_MAX];
	const char *dir;
};

/* GWCTL_OK, or what to exit with. */
static int
parse(struct gwctl *g, struct wish *o, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "dns", required_argument, NULL, 'n' },
		{ "ttl", required_argument, NULL, 't' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	const char *why;
	uint64_t ms;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'j': g->json = true; break;
		case 'n':
			if (o->w.ndns == TOKEN_DNS_MAX)
				return gwctl_usage("pki token", "more than %d times --dns", TOKEN_DNS_MAX);
			o->dns[o->w.ndns++] = optarg;
			break;
		case 't':
			if (value_duration(&ms, optarg, &why) != 0)
				return gwctl_usage("pki token", "--ttl %s: %s; for example 10m or 24h", optarg, why);
			if (ms < 1000 || ms / 1000 > (uint64_t)TOKEN_TTL_MAX_S)
				return gwctl_usage("pki token", "--ttl %s: from one second to 30 days", optarg);
			o->w.ttl_s = (int64_t)(ms / 1000);
			break;
		default:
			return gwctl_usage("pki token", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pki token", "for which workload? For example: gwctl pki token permit-svc");
	o->w.name = argv[optind];
	o->w.dns = o->dns;
	return GWCTL_OK;
}

static void
take_domain(void *ctx, const struct svid_cert *c)
{
	static const char scheme[] = "spiffe://";
	char **domain = ctx;

	if (c->ca && !*domain && !strncmp(c->id, scheme, sizeof(scheme) - 1))
		*domain = mem_strdup(c->id + sizeof(scheme) - 1);
}

/* Of the root, so that no key is needed. mem_free(); NULL with a fault. */
static char *
domain_of(const char *dir, struct errs *errs)
{
	char *pem = ca_bundle(dir, errs), *domain = NULL;
	const char *why = NULL;

	if (pem)
		svid_pem_each(pem, take_domain, &domain, &why);
	if (pem && !domain)
		errs_add(errs, dir, 0, "its root certificate names no trust domain");
	mem_free(pem);
	return domain;
}

static void
report(const struct gwctl *g, const struct wish *o, const char *token, const char *id)
{
	char until[32];
	json_t *dns;

	cmd_pki_time(until, o->w.now + o->w.ttl_s);
	if (g->json) {
		dns = json_array();
		for (size_t i = 0; i < o->w.ndns; i++)
			json_array_append_new(dns, jsonout_text(o->dns[i]));
		jsonout_print(json_pack("{s:s, s:s, s:s, s:o}", "token", token, "id", id, "expires", until, "dns", dns), GWCTL_OK);
		return;
	}
	/* The token alone on standard output: for scripts. */
	printf("%s\n", token);
	fflush(stdout);
	fprintf(stderr, "Good for one certificate of %s, until %s.\n", id, until);
	fprintf(stderr, "Whoever has it can use it: give it to that workload alone, and not in an argument of a command.\n");
}

int
cmd_pki_token(struct gwctl *g, int argc, char **argv)
{
	struct wish o = { .w.ttl_s = TOKEN_TTL_S };
	char *dir, *domain = NULL, *id = NULL, token[TOKEN_SIZE];
	int rc = parse(g, &o, argc, argv);
	struct store store;
	struct errs errs;

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	dir = cmd_pki_dir(g, o.dir);
	store_init(&store, dir);
	o.w.now = cmd_pki_now();
	domain = domain_of(dir, &errs);
	o.w.domain = domain;
	if (domain && store_lock(&store, CA_LOCK_MS, &errs) == 0 && token_make(&store, &o.w, token, &id, &errs) == 0)
		report(g, &o, token, id);
	store_fini(&store);
	mem_wipe(token, sizeof(token));
	mem_free(id);
	mem_free(domain);
	mem_free(dir);
	rc = gwctl_print_errs(&errs);
	errs_fini(&errs);
	return rc;
}
