/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gwctl pair: two domains come to know each other, by a file and a phone call. The work is in pki/pairfile.c and pki/pairing.c. Here: export and
 * show; cmd_pair_peers.c: accept and update; cmd_pair_remove.c; cmd_pair_list.c.
 */
#include "tools/gwctl/cmd_pair.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/addr.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/value.h"
#include "pki/ca.h"
#include "pki/pairing.h"
#include "pki/pkey.h"
#include "pki/pkifile.h"
#include "pki/svid.h"
#include "tools/gwctl/cmd_pki.h"

int
cmd_pair_exit(enum pairing_result r)
{
	/* Refusals alone, in the order of pairing.h; a script tells them apart by these. */
	if (r == PAIRING_OK)
		return GWCTL_OK;
	if (r < PAIRING_IO)
		return CMD_PAIR_REFUSED + (int)r - 1;
	return r == PAIRING_NOT_PAIRED || r == PAIRING_NOT_VOUCHED ? CMD_PAIR_REFUSED + (int)r - 2 : GWCTL_FAILED;
}

json_t *
cmd_pair_json_list(char *const *list, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_string(list[i]));
	return a;
}

static void
ca_json(void *ctx, const struct svid_cert *c)
{
	char hex[65] = "", until[32], *subject = gwctl_safe(c->subject);

	esc_hex(hex, c->sha256, 32);
	cmd_pki_time(until, c->not_after);
	json_array_append_new(ctx, json_pack("{s:s, s:s, s:s}", "subject", subject, "not_after", until, "sha256", hex));
	mem_free(subject);
}

/* What both "show" and "accept" say of a file. */
json_t *
cmd_pair_json(const struct pairfile *p)
{
	char created[32], expires[32], key[65] = "";
	json_t *cas = json_array(), *o;
	const char *why;

	cmd_pki_time(created, p->created);
	cmd_pki_time(expires, p->expires);
	esc_hex(key, p->key, sizeof(p->key));
	svid_pem_each(p->bundle_pem, ca_json, cas, &why);
	o = json_pack("{s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:b}", "domain", p->domain, "gateways", cmd_pair_json_list(p->gateways, p->ngateways),
	    "addresses", cmd_pair_json_list(p->addresses, p->naddresses), "created", created, "expires", expires, "key", key, "code", p->code,
	    "expired", cmd_pki_now() >= p->expires);
	json_object_set_new(o, "cas", cas);
	return o;
}

void
cmd_pair_print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
}

static void
describe_ca(void *ctx, const struct svid_cert *c)
{
	char hex[65] = "", until[32], *subject = gwctl_safe(c->subject);

	(void)ctx;
	esc_hex(hex, c->sha256, 32);
	cmd_pki_time(until, c->not_after);
	printf("  CA          %s, until %s%s\n              sha256 %s\n", subject, until, c->not_after <= cmd_pki_now() ? ": EXPIRED" : "", hex);
	mem_free(subject);
}

void
cmd_pair_describe(const struct pairfile *p)
{
	char created[32], expires[32];
	const char *why;

	cmd_pki_time(created, p->created);
	cmd_pki_time(expires, p->expires);
	printf("  domain      %s\n", p->domain);
	for (size_t i = 0; i < p->ngateways; i++)
		printf("  gateway     %s\n", p->gateways[i]);
	for (size_t i = 0; i < p->naddresses; i++)
		printf("  address     %s\n", p->addresses[i]);
	if (p->naddresses == 0)
		printf("  address     none: it is the one who dials\n");
	svid_pem_each(p->bundle_pem, describe_ca, NULL, &why);
	if (p->cross_pem)
		printf("  cross       the CA is being replaced: who is paired may \"gwctl pair update\" with this file\n");
	printf("  made        %s, to be accepted until %s\n", created, expires);
}

/* -- export ------------------------------------------------------------------------------------------- */

struct export {
	const char *dir, *out, *bundle;
	char *gateways[PAIRFILE_LIST_MAX], *addresses[PAIRFILE_LIST_MAX]; /* borrowed from argv */
	size_t ngateways, naddresses;
	int64_t ttl_s;
};

static int
parse_export(struct gwctl *g, struct export *o, int argc, char **argv)
{
	static const struct option options[] = { { "address", required_argument, NULL, 'a' }, { "gateway", required_argument, NULL, 'g' },
		{ "bundle", required_argument, NULL, 'b' }, { "ttl", required_argument, NULL, 't' }, { "out", required_argument, NULL, 'o' },
		{ "dir", required_argument, NULL, 'd' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	const char *why;
	uint64_t ms;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': o->dir = optarg; break;
		case 'o': o->out = optarg; break;
		case 'b': o->bundle = optarg; break;
		case 'j': g->json = true; break;
		case 'a':
			if (o->naddresses == PAIRFILE_LIST_MAX)
				return gwctl_usage("pair export", "more than %d addresses", PAIRFILE_LIST_MAX);
			o->addresses[o->naddresses++] = optarg;
			break;
		case 'g':
			if (o->ngateways == PAIRFILE_LIST_MAX)
				return gwctl_usage("pair export", "more than %d gateways", PAIRFILE_LIST_MAX);
			o->gateways[o->ngateways++] = optarg;
			break;
		case 't':
			if (value_duration(&ms, optarg, &why) != 0)
				return gwctl_usage("pair export", "--ttl %s: %s; for example 7d or 12h", optarg, why);
			if (ms < 60000 || ms > UINT64_C(365) * 86400000)
				return gwctl_usage("pair export", "--ttl %s: from one minute to 365 days", optarg);
			o->ttl_s = (int64_t)(ms / 1000);
			break;
		default:
			return gwctl_usage("pair export", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (optind != argc)
		return gwctl_usage("pair export", "\"%s\" is too much", argv[optind]);
	return GWCTL_OK;
}

static void
add_text(char ***list, size_t *n, const char *text)
{
	char **bigger = mem_array(*n + 1, sizeof(char *));

	for (size_t i = 0; i < *n; i++) {
		if (strcmp((*list)[i], text) == 0) {
			mem_free(bigger);
			return;
		}
		bigger[i] = (*list)[i];
	}
	bigger[(*n)++] = mem_strdup(text);
	mem_free(*list);
	*list = bigger;
}

/* What the options leave open comes from the configuration: our gateway, its bundle, where peers reach it. */
static int
fill_from_config(struct pairfile *p, const struct export *o, const char *config_path, struct errs *errs)
{
	struct config *c = config_load(config_path, errs);

	if (c == NULL) {
		errs_add(errs, NULL, 0, "correct the configuration, or say what would be taken from it: --gateway ID --bundle FILE --address IP:PORT");
		return -1;
	}
	if (o->ngateways == 0)
		add_text(&p->gateways, &p->ngateways, c->identity.id);
	if (p->bundle_pem == NULL)
		p->bundle_pem = mem_strdup(c->identity.bundle_pem);
	for (size_t i = 0; o->naddresses == 0 && i < c->nlisteners && p->naddresses < PAIRFILE_LIST_MAX; i++)
		if ((c->listeners[i].accept & CONFIG_PEERS) && c->listeners[i].address && c->listeners[i].address[0] != '*')
			add_text(&p->addresses, &p->naddresses, c->listeners[i].address);
	config_free(c);
	return 0;
}

static int
fill(struct pairfile *p, const struct export *o, const char *dir, const char *config_path, struct errs *errs)
{
	struct spiffe_id id;
	const char *why;

	for (size_t i = 0; i < o->ngateways; i++)
		add_text(&p->gateways, &p->ngateways, o->gateways[i]);
	for (size_t i = 0; i < o->naddresses; i++)
		add_text(&p->addresses, &p->naddresses, o->addresses[i]);
	if (o->bundle && (p->bundle_pem = pkifile_read(o->bundle, PAIRFILE_MAX / 2)) == NULL) {
		errs_add(errs, o->bundle, 0, "%s", strerror(errno));
		return -1;
	}
	if ((o->ngateways == 0 || o->bundle == NULL) && fill_from_config(p, o, config_path, errs) != 0)
		return -1;
	if (spiffe_parse(&id, p->gateways[0], strlen(p->gateways[0]), &why) != 0) {
		errs_add(errs, NULL, 0, "\"%s\" is no gateway's id: %s", p->gateways[0], why);
		return -1;
	}
	p->domain = mem_strndup(id.domain, id.domain_len);
	p->created = cmd_pki_now();
	/* In the middle of the CA's replacement: by this a peer that trusts the old one takes the new one without a phone call. */
	if ((p->cross_pem = ca_cross_pem(dir, errs)) == NULL && errs->errors)
		return -1;
	p->expires = p->created + (o->ttl_s ? o->ttl_s : PAIRFILE_LIFETIME_S);
	if ((why = pairfile_fault(p)) != NULL) {
		errs_add(errs, NULL, 0, "no peer could accept this: %s", why);
		return -1;
	}
	return 0;
}

/* To --out, which is never overwritten, or standard output. */
static int
deliver(const struct export *o, const char *text, struct errs *errs)
{
	if (o->out == NULL)
		return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? -1 : 0;
	if (pkifile_write_new(o->out, 0644, text, strlen(text)) == 0)
		return 0;
	errs_add(errs, o->out, 0, "%s", errno == EEXIST ? "exists, and is never overwritten; give another --out" : strerror(errno));
	return -1;
}

static void
report_export(const struct gwctl *g, const struct export *o, const struct pairfile *p)
{
	/* With the file on standard output, words go beside it. */
	FILE *f = o->out ? stdout : stderr;

	if (g->json && o->out) {
		cmd_pair_print_json(cmd_pair_json(p));
		return;
	}
	fprintf(f, "Pairing file of %s%s%s.\n", p->domain, o->out ? " written to " : "", o->out ? o->out : "");
	if (p->naddresses == 0)
		fprintf(f, "  note: without --address, only we can dial\n");
	fprintf(f, "  code        %s\n", p->code);
	fprintf(f, "Next: send the file to the peer's operator, and tell the code by phone, not with the file.\n");
}

static int
run_export(struct gwctl *g, int argc, char **argv)
{
	struct export o = { 0 };
	struct pairfile p = { 0 };
	struct evp_pkey_st *key = NULL;
	char *dir, *text = NULL;
	struct errs errs;
	int rc = parse_export(g, &o, argc, argv);

	if (rc != GWCTL_OK)
		return rc;
	errs_init(&errs);
	dir = cmd_pki_dir(g, o.dir);
	rc = GWCTL_FAILED;
	if (fill(&p, &o, dir, g->config_path, &errs) == 0 && (key = pairfile_key(dir, &errs)) != NULL &&
	    (text = pairfile_write(&p, key)) != NULL && deliver(&o, text, &errs) == 0) {
		report_export(g, &o, &p);
		rc = GWCTL_OK;
	}
	pkey_free(key);
	pairfile_fini(&p);
	mem_free(text);
	mem_free(dir);
	gwctl_print_errs(&errs);
	errs_fini(&errs);
	return rc;
}

/* -- show --------------------------------------------------------------------------------------------- */

static int
run_show(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	struct pairfile p;
	const char *why, *file;
	char *text;
	bool expired;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c != 'j')
			return gwctl_usage("pair show", "%s is no option here", argv[optind - 1]);
		g->json = true;
	}
	if (argc - optind != 1)
		return gwctl_usage("pair show", "which file?");
	file = argv[optind];
	text = pkifile_read(file, PAIRFILE_MAX);
	if (text == NULL)
		return gwctl_error("%s: %s", file, strerror(errno));
	c = pairfile_read(&p, text, strlen(text), &why);
	mem_free(text);
	if (c != PAIRFILE_OK) {
		gwctl_error("%s: %s; ask the peer for it again", file, why);
		return cmd_pair_exit(c == PAIRFILE_ALTERED ? PAIRING_ALTERED : PAIRING_MALFORMED);
	}
	expired = cmd_pki_now() >= p.expires;
	if (g->json) {
		cmd_pair_print_json(cmd_pair_json(&p));
	} else {
		printf("Pairing file, signature good.\n");
		cmd_pair_describe(&p);
		printf("  code        %s\n", p.code);
		if (expired)
			printf("It has expired: ask the peer to export a new one.\n");
		else
			printf("Next: compare the code with the peer's operator by phone, then: gwctl pair accept %s --code CODE\n", file);
	}
	pairfile_fini(&p);
	return expired ? cmd_pair_exit(PAIRING_EXPIRED) : GWCTL_OK;
}

int
cmd_pair(struct gwctl *g, int argc, char **argv)
{
	static const struct gwctl_sub subs[] = {
		{ "export", run_export, "write our pairing file, and say its code" },
		{ "show", run_show, "what a pairing file says, and its code" },
		{ "accept", cmd_pair_accept, "install the peer whose file this is, by its code" },
		{ "update", cmd_pair_update, "take a newer file of a peer, without a code" },
		{ "list", cmd_pair_list, "who we are paired with" },
		{ "remove", cmd_pair_remove, "end a pairing" },
		{ NULL, NULL, NULL },
	};

	return gwctl_dispatch(g, "pair", subs, argc, argv);
}
