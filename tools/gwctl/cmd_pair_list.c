/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pair list: what is installed, whether the configuration has it, and how it does. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "pki/pkifile.h"
#include "pki/svid.h"
#include "tools/gwctl/cmd_pair.h"
#include "tools/gwctl/cmd_pki.h"
#include "tools/gwctl/request.h"

#define DAY INT64_C(86400)

/* -- what the configuration and the daemon say ---------------------------------------------------------- */

struct finding {
	const char *domain;
	struct cmd_pair_entry *e;
};

static void
on_written(void *ctx, const struct config_written_peer *p)
{
	struct finding *f = ctx;

	if (f->e->found || !p->domain || strcmp(p->domain, f->domain) != 0)
		return;
	f->e->found = true;
	f->e->listed = p->listed;
	f->e->name = p->name ? mem_strdup(p->name) : NULL;
	f->e->file = mem_strdup(p->file);
	f->e->line = p->line;
}

void
cmd_pair_find(const struct gwctl *g, const char *domain, struct cmd_pair_entry *e)
{
	struct finding f = { domain, e };
	struct errs errs;

	memset(e, 0, sizeof(*e));
	errs_init(&errs);
	e->readable = config_peek_peers(g->config_path, on_written, &f, &errs) == 0;
	errs_fini(&errs);
}

void
cmd_pair_entry_fini(struct cmd_pair_entry *e)
{
	mem_free(e->name);
	mem_free(e->file);
	memset(e, 0, sizeof(*e));
}

char *
cmd_pair_dir(const struct gwctl *g, const char *option)
{
	char *beside, *dir;

	if (option)
		return mem_strdup(option);
	dir = config_peek_peers_dir(g->config_path);
	if (dir)
		return dir;
	beside = pkifile_dirname(g->config_path);
	dir = mem_printf("%s/peers", beside);
	mem_free(beside);
	return dir;
}

json_t *
cmd_pair_running(struct gwctl *g)
{
	json_t *answer = NULL;

	if (!request_reachable(g) || request_send(g, "peers", NULL, &answer) != GWCTL_OK)
		return NULL;
	if (json_is_true(json_object_get(answer, "ok")))
		return answer;
	json_decref(answer);
	return NULL;
}

static bool
says(const json_t *o, const char *key, const char *want)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && want && strcmp(s, want) == 0;
}

const json_t *
cmd_pair_running_peer(const json_t *running, const char *domain, const char *name)
{
	const json_t *peers = json_object_get(running, "peers"), *p;
	size_t i;

	json_array_foreach(peers, i, p)
		if (says(p, "domain", domain))
			return p;
	json_array_foreach(peers, i, p)
		if (says(p, "name", name))
			return p;
	return NULL;
}

/* "2 links", "severed", … */
static const char *
state_of(const json_t *running, const char *domain, const char *name)
{
	const json_t *p = cmd_pair_running_peer(running, domain, name);

	if (!running)
		return "unknown";
	if (!p)
		return "not-loaded";
	if (json_is_true(json_object_get(p, "severed")))
		return "severed";
	return json_array_size(json_object_get(p, "links")) ? "linked" : "no-link";
}

/* -- one pairing ------------------------------------------------------------------------------------------ */

struct listing {
	struct gwctl *g;
	json_t *running;           /* NULL: no daemon answers */
	json_t *json;              /* NULL: for people */
	bool any;
};

static void
add_ca(void *ctx, const struct svid_cert *c)
{
	char until[32], hex[65] = "";
	json_t *subject = json_string(c->subject);

	cmd_pki_time(until, c->not_after);
	esc_hex(hex, c->sha256, 32);
	json_array_append_new(ctx, json_pack("{s:o, s:s, s:s, s:I}", "subject", subject ? subject : json_string("(not UTF-8)"), "until", until, "sha256", hex,
	    "days_left", (json_int_t)((c->not_after - cmd_pki_now()) / DAY)));
}

static void
print_ca(void *ctx, const struct svid_cert *c)
{
	int64_t left = c->not_after - cmd_pki_now();
	char until[32], hex[65] = "", *subject = gwctl_safe(c->subject);

	(void)ctx;
	cmd_pki_time(until, c->not_after);
	esc_hex(hex, c->sha256, 32);
	if (left > 0)
		printf("  CA          %s, %lld day%s left (%s)\n", subject, (long long)(left / DAY), left / DAY == 1 ? "" : "s", until);
	else
		printf("  CA          %s, EXPIRED at %s\n", subject, until);
	printf("              sha256 %s\n", hex);
	mem_free(subject);
}

static void
list_json(struct listing *l, const struct pairing_installed *i, const struct cmd_pair_entry *e, const char *name)
{
	char accepted[32], key[65] = "";
	json_t *o = json_pack("{s:s, s:s?, s:s}", "domain", i->domain, "name", name, "state", state_of(l->running, i->domain, name)), *cas = json_array();
	const char *why;

	cmd_pki_time(accepted, i->accepted);
	json_object_set_new(o, "configured", e->readable ? json_boolean(e->found) : json_null());
	if (e->found)
		json_object_set_new(o, "entry", json_sprintf("%s:%u", e->file, e->line));
	if (i->pair) {
		esc_hex(key, i->pair->key, 32);
		json_object_set_new(o, "gateways", cmd_pair_json_list(i->pair->gateways, i->pair->ngateways));
		json_object_set_new(o, "addresses", cmd_pair_json_list(i->pair->addresses, i->pair->naddresses));
		json_object_set_new(o, "key", json_string(key));
	} else {
		json_object_set_new(o, "fault", json_string(i->fault));
	}
	json_object_set_new(o, "accepted", json_string(accepted));
	if (i->bundle_pem)
		svid_pem_each(i->bundle_pem, add_ca, cas, &why);
	json_object_set_new(o, "bundle", cas);
	json_array_append_new(l->json, o);
}

static void
print_state(const struct listing *l, const struct pairing_installed *i, const char *name)
{
	const json_t *p = cmd_pair_running_peer(l->running, i->domain, name);
	size_t links = json_array_size(json_object_get(p, "links"));

	if (!l->running)
		puts("  state       no daemon answers");
	else if (!p)
		puts("  state       not loaded by the running daemon: gwctl reload");
	else if (json_is_true(json_object_get(p, "severed")))
		printf("  state       SEVERED, until: gwctl restore %s\n", name ? name : i->domain);
	else if (links)
		printf("  state       %zu link%s\n", links, links == 1 ? "" : "s");
	else
		puts("  state       no link; \"gwctl peers\" says why");
}

static void
print_one(struct listing *l, const struct pairing_installed *i, const struct cmd_pair_entry *e, const char *name)
{
	char accepted[32], key[65] = "";
	const char *why;

	printf("%s%s\n", l->any ? "\n" : "", i->domain);
	printf("  name        %s\n", name ? name : "-");
	if (!e->readable)
		printf("  configured  unknown: %s cannot be read or parsed\n", l->g->config_path);
	else if (e->found)
		printf("  configured  %s:%u\n", e->file, e->line);
	else
		printf("  configured  NO: %s does not have it\n", l->g->config_path);
	print_state(l, i, name);
	if (!i->pair)
		printf("  DAMAGED     its pairing file cannot be read: %s\n", i->fault);
	for (size_t k = 0; i->pair && k < i->pair->ngateways; k++)
		printf("  gateway     %s\n", i->pair->gateways[k]);
	for (size_t k = 0; i->pair && k < i->pair->naddresses; k++)
		printf("  address     %s\n", i->pair->addresses[k]);
	if (!i->bundle_pem)
		puts("  CA          NONE: its bundle is gone; remove the pairing and accept it again");
	else if (svid_pem_each(i->bundle_pem, print_ca, NULL, &why) < 0)
		printf("  CA          its bundle cannot be read: %s\n", why);
	cmd_pki_time(accepted, i->accepted);
	printf("  accepted    %s\n", accepted);
	if (i->pair) {
		esc_hex(key, i->pair->key, 32);
		printf("  pairing key %s\n", key);
	}
}

static void
on_installed(void *ctx, const struct pairing_installed *i)
{
	struct listing *l = ctx;
	struct cmd_pair_entry e;
	char *written = i->entry ? pairing_entry_name(i->entry) : NULL;
	const char *name;

	cmd_pair_find(l->g, i->domain, &e);
	name = e.name ? e.name : written;
	if (l->json)
		list_json(l, i, &e, name);
	else
		print_one(l, i, &e, name);
	l->any = true;
	cmd_pair_entry_fini(&e);
	mem_free(written);
}

int
cmd_pair_list(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "peers", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	struct listing l = { .g = g };
	const char *option = NULL;
	struct errs errs;
	char *dir;
	int c, n;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'p': option = optarg; break;
		case 'j': g->json = true; break;
		default: return gwctl_usage("pair list", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (optind != argc)
		return gwctl_usage("pair list", "\"%s\" is too much", argv[optind]);
	errs_init(&errs);
	dir = cmd_pair_dir(g, option);
	l.running = cmd_pair_running(g);
	l.json = g->json ? json_array() : NULL;
	n = pairing_each(dir, on_installed, &l, &errs);
	if (n == 0 && !g->json)
		printf("No pairing in %s.\n", dir);
	if (n >= 0 && g->json)
		cmd_pair_print_json(json_incref(l.json));
	json_decref(l.json);
	json_decref(l.running);
	gwctl_print_errs(&errs);
	errs_fini(&errs);
	mem_free(dir);
	return n < 0 ? GWCTL_FAILED : GWCTL_OK;
}
