/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pair remove: never so that the configuration would be faulty without the peer, and its links are gone when it ends. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "tools/gwctl/cmd_pair.h"
#include "tools/gwctl/request.h"

#define CUT_WAIT_MS 3000 /* a removed peer's links are gone within two seconds */

#define KNOWN_MAX 128

struct known {
	const char *which;
	char *domain;              /* found; mem_free() */
	char *names[KNOWN_MAX];    /* of all, for "did you mean" */
	size_t n;
};

static void
on_known(void *ctx, const struct pairing_installed *i)
{
	struct known *k = ctx;
	char *name = i->entry ? pairing_entry_name(i->entry) : NULL;

	if (strcmp(i->domain, k->which) == 0 || (!k->domain && name && strcmp(name, k->which) == 0)) {
		mem_free(k->domain);
		k->domain = mem_strdup(i->domain);
	}
	if (k->n + 2 <= KNOWN_MAX) {
		k->names[k->n++] = mem_strdup(i->domain);
		if (name)
			k->names[k->n++] = mem_strdup(name);
	}
	mem_free(name);
}

/* The domain of what was typed. mem_free(); NULL with a fault. */
static char *
which_domain(const char *dir, const char *which, struct errs *errs)
{
	struct known k = { .which = which };
	const char *near;

	if (pairing_each(dir, on_known, &k, errs) >= 0 && !k.domain) {
		near = errs_nearest(which, (const char *const *)k.names, k.n);
		if (near)
			errs_add(errs, NULL, 0, "refused (%s): there is no pairing \"%s\"; did you mean \"%s\"?", pairing_token(PAIRING_NOT_PAIRED), which, near);
		else
			errs_add(errs, NULL, 0, "refused (%s): there is no pairing \"%s\"; \"gwctl pair list\" shows those that there are",
			    pairing_token(PAIRING_NOT_PAIRED), which);
	}
	for (size_t i = 0; i < k.n; i++)
		mem_free(k.names[i]);
	return k.domain;
}

static void
say_how_to_cut(struct errs *errs, const char *name)
{
	errs_add(errs, NULL, 0, "nothing was removed; to cut its links at once all the same: gwctl sever %s", name);
}

/* Would the configuration be sound without it? One that is not could not be loaded, and nothing would be cut. */
static int
check_config_without(const struct gwctl *g, const char *domain, const struct cmd_pair_entry *e, struct errs *errs)
{
	const char *name = e->name ? e->name : domain;
	struct config *c;
	char *file;

	if (!e->readable) {
		if (access(g->config_path, F_OK) != 0 && errno == ENOENT)
			return 0; /* no gateway here: files alone */
		config_free(config_load(g->config_path, errs));
		say_how_to_cut(errs, name);
		return -1;
	}
	if (!e->found)
		return 0;
	if (!e->listed) {
		errs_add(errs, e->file, e->line, "%s has this entry of it, or includes it; take that out of the configuration, then do this again", g->config_path);
		say_how_to_cut(errs, name);
		return -1;
	}
	file = mem_printf("%s.conf", domain);
	c = config_load_without(g->config_path, file, errs);
	mem_free(file);
	if (!c) {
		errs_add(errs, NULL, 0, "these are the faults of the configuration without it; correct them first");
		say_how_to_cut(errs, name);
		return -1;
	}
	config_free(c);
	return 0;
}

/* After the reload: until no link is left. */
static void
wait_for_cut(struct gwctl *g, const char *domain, const char *name)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	uint64_t until = clock_mono_ms() + CUT_WAIT_MS;

	for (;;) {
		json_t *running = cmd_pair_running(g);
		size_t links = json_array_size(json_object_get(cmd_pair_running_peer(running, domain, name), "links"));

		json_decref(running);
		if (links == 0) {
			if (!g->json)
				puts("The daemon has reloaded; no link to it is left.");
			return;
		}
		if (clock_mono_ms() >= until) {
			gwctl_error("warning: %zu link%s to it still there; see \"gwctl peers\" and the operator log", links, links == 1 ? " is" : "s are");
			return;
		}
		nanosleep(&pause, NULL);
	}
}

/* 0, or an exit code. */
static int
reload(struct gwctl *g, const char *domain, const char *name)
{
	json_t *answer, *fault;
	size_t i;
	int rc;

	if (!request_reachable(g)) {
		if (!g->json)
			puts("No daemon answers; one that is started will not know it.");
		return GWCTL_OK;
	}
	rc = request_send(g, "reload", NULL, &answer);
	if (rc == GWCTL_OK)
		rc = request_failed(answer);
	json_array_foreach(json_object_get(answer, "faults"), i, fault) {
		char *safe = gwctl_safe(json_string_value(fault) ? json_string_value(fault) : "?");

		fprintf(stderr, "%s\n", safe);
		mem_free(safe);
	}
	json_decref(answer);
	if (rc != GWCTL_OK)
		gwctl_error("the pairing is removed, but the daemon did not reload, and its links are still there: \"gwctl reload\" when that is corrected, "
			    "or at once \"gwctl sever %s\"", name);
	else
		wait_for_cut(g, domain, name);
	return rc;
}

static int
remove_it(struct gwctl *g, const char *dir, const char *domain, struct errs *errs)
{
	struct cmd_pair_entry e;
	enum pairing_result res;
	int rc = GWCTL_FAILED;

	cmd_pair_find(g, domain, &e);
	if (check_config_without(g, domain, &e, errs) == 0) {
		res = pairing_remove(dir, domain, errs);
		rc = cmd_pair_exit(res);
		if (res == PAIRING_OK) {
			if (g->json)
				cmd_pair_print_json(json_pack("{s:b, s:s}", "removed", 1, "domain", domain));
			else
				printf("Removed the pairing with %s; its pairing files so far will not be accepted again.\n", domain);
			if (e.found)
				rc = reload(g, domain, e.name ? e.name : domain);
		}
	}
	cmd_pair_entry_fini(&e);
	return rc;
}

int
cmd_pair_remove(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "peers", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	const char *option = NULL;
	char *dir, *domain;
	struct errs errs;
	int c, rc;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'p': option = optarg; break;
		case 'j': g->json = true; break;
		default: return gwctl_usage("pair remove", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc - optind != 1)
		return gwctl_usage("pair remove", "which peer?");
	errs_init(&errs);
	dir = cmd_pair_dir(g, option);
	domain = which_domain(dir, argv[optind], &errs);
	rc = domain ? remove_it(g, dir, domain, &errs) : cmd_pair_exit(PAIRING_NOT_PAIRED);
	gwctl_print_errs(&errs);
	errs_fini(&errs);
	mem_free(domain);
	mem_free(dir);
	return rc;
}
