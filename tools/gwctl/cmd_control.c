/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl reload, drain, log-level, sever, restore: what changes a running daemon. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "tools/gwctl/request.h"

static void
print_list(const json_t *answer, const char *key, const char *prefix)
{
	json_t *e;
	size_t i;

	json_array_foreach(json_object_get(answer, key), i, e) {
		char *safe = gwctl_safe(json_string_value(e) ? json_string_value(e) : "?");

		fprintf(stderr, "%s%s\n", prefix, safe);
		mem_free(safe);
	}
}

static void
print_unrecorded(const json_t *answer)
{
	const char *why = json_string_value(json_object_get(answer, "unrecorded"));

	if (why)
		gwctl_error("warning: this command may not be on record: %s; see the journal in \"gwctl status\"", why);
}

int
cmd_reload(struct gwctl *g, int argc, char **argv)
{
	json_int_t dropped;
	json_t *answer;
	int r;

	if (argc > 1)
		return gwctl_usage(argv[0], "reload takes no argument");
	r = request_send(g, "reload", NULL, &answer);
	if (r)
		return r;
	r = request_failed(answer);
	if (g->json) {
		request_print_json(answer);
		json_decref(answer);
		return r;
	}
	print_list(answer, "faults", "");
	print_list(answer, "warnings", "warning: ");
	dropped = json_integer_value(json_object_get(answer, "dropped"));
	if (dropped > 0)
		fprintf(stderr, "%lld more\n", (long long)dropped);
	print_unrecorded(answer);
	if (r == GWCTL_OK)
		printf("reloaded: config generation %lld, policy %lld with %lld rule%s\n",
		    (long long)json_integer_value(json_object_get(answer, "generation")),
		    (long long)json_integer_value(json_object_get(answer, "policy_generation")),
		    (long long)json_integer_value(json_object_get(answer, "policy_rules")),
		    json_integer_value(json_object_get(answer, "policy_rules")) == 1 ? "" : "s");
	else if (!json_object_get(answer, "error"))
		gwctl_error("refused as a whole; generation %lld goes on",
		    (long long)json_integer_value(json_object_get(answer, "generation")));
	json_decref(answer);
	return r;
}

int
cmd_drain(struct gwctl *g, int argc, char **argv)
{
	json_t *answer;
	int r;

	if (argc > 1)
		return gwctl_usage(argv[0], "drain takes no argument");
	r = request_send(g, "drain", NULL, &answer);
	if (r)
		return r;
	r = request_failed(answer);
	if (g->json)
		request_print_json(answer);
	else if (r == GWCTL_OK)
		puts("draining: nothing new is accepted; sallyportd stops when what runs has ended, or at limits.drain_timeout");
	print_unrecorded(answer);
	json_decref(answer);
	return r;
}

int
cmd_log_level(struct gwctl *g, int argc, char **argv)
{
	json_t *answer;
	int r;

	if (argc != 2 || log_level_parse(argv[1]) < 0)
		return gwctl_usage(argv[0], "log-level takes error, warn, info or debug");
	r = request_send(g, "log-level", argv[1], &answer);
	if (r)
		return r;
	r = request_failed(answer);
	if (g->json)
		request_print_json(answer);
	print_unrecorded(answer);
	json_decref(answer);
	return r;
}

/* ---- the kill switch ---- */

#define CUT_WAIT_MS 3000   /* a severed peer's links are gone within two seconds */

/* One peer as "gwctl peers" has it. */
struct standing {
	char *name;                /* mem_free() */
	char *domain;
	bool severed;
	size_t links;
	long long streams;
	char *not_kept;            /* mem_free(); NULL: it survives a restart */
};

static void
standing_fini(struct standing *s)
{
	mem_free(s->name);
	mem_free(s->domain);
	mem_free(s->not_kept);
	memset(s, 0, sizeof(*s));
}

static const char *
text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void
take_standing(struct standing *s, const json_t *peer)
{
	const json_t *link;
	size_t i;

	s->name = mem_strdup(text_of(peer, "name"));
	s->domain = mem_strdup(text_of(peer, "domain"));
	s->severed = json_is_true(json_object_get(peer, "severed"));
	s->links = json_array_size(json_object_get(peer, "links"));
	json_array_foreach(json_object_get(peer, "links"), i, link)
		s->streams += (long long)json_integer_value(json_object_get(link, "streams"));
}

/* By name, or by domain where no peer has that name. An exit code; s->name is NULL when there is no such peer. */
static int
look(struct gwctl *g, const char *which, struct standing *s)
{
	const json_t *p, *found = NULL;
	json_t *answer;
	size_t i;
	int r = request_send(g, "peers", NULL, &answer);

	memset(s, 0, sizeof(*s));
	if (r)
		return r;
	r = request_failed(answer);
	json_array_foreach(json_object_get(answer, "peers"), i, p) {
		if (!strcmp(text_of(p, "name"), which)) {
			found = p;
			break;
		}
		if (!found && !strcmp(text_of(p, "domain"), which))
			found = p;
	}
	if (found)
		take_standing(s, found);
	json_decref(answer);
	return r;
}

/* The command itself; its answer is printed where it is a refusal, and with --json. */
static int
throw_switch(struct gwctl *g, const char *command, struct standing *before, const char *peer)
{
	json_t *answer;
	int r = request_send_peer(g, command, peer, &answer);

	if (r)
		return r;
	r = request_failed(answer);
	if (r == GWCTL_OK) {
		/* Of what was there before. */
		json_object_set_new(answer, "links", json_integer((json_int_t)before->links));
		json_object_set_new(answer, "running", json_integer(before->streams));
		if (text_of(answer, "not_kept")[0])
			before->not_kept = gwctl_safe(text_of(answer, "not_kept"));
	}
	if (g->json)
		request_print_json(answer);
	else
		print_list(answer, "faults", "gwctl: ");
	print_unrecorded(answer);
	json_decref(answer);
	return r;
}

/* Not what was asked for but what is: the links of the peer are counted until there is none. */
static void
report_cut(struct gwctl *g, const struct standing *before)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	uint64_t until = clock_mono_ms() + CUT_WAIT_MS;
	struct standing now;

	for (;;) {
		int r = look(g, before->name, &now);
		size_t links = now.links;

		standing_fini(&now);
		if (r)
			return;
		if (links == 0 || clock_mono_ms() >= until) {
			if (links)
				gwctl_error("warning: %zu link%s to it still there; see \"gwctl peers\" and the operator log", links, links == 1 ? " is" : "s are");
			else
				printf("No link to it is left, and none comes up%s.\n", before->not_kept ? " while sallyportd runs" : ", also after a restart or a reboot");
			return;
		}
		nanosleep(&pause, NULL);
	}
}

static void
say_severed(struct gwctl *g, const struct standing *before)
{
	if (before->severed)
		printf("%s was severed already.\n", before->name);
	else
		printf("SEVERED %s%s%s%s: %zu link%s and %lld running exchange%s are cut.\n", before->name, before->domain[0] ? " (" : "",
		    before->domain, before->domain[0] ? ")" : "", before->links, before->links == 1 ? "" : "s", before->streams,
		    before->streams == 1 ? "" : "s");
	report_cut(g, before);
	printf("Until: gwctl restore %s\n", before->name);
}

static void
say_restored(struct gwctl *g, const struct standing *before)
{
	(void)g;
	if (before->severed)
		printf("Restored %s: links to it come up as configured; see \"gwctl peers\".\n", before->name);
	else
		printf("%s was not severed.\n", before->name);
}

static int
switch_peer(struct gwctl *g, int argc, char **argv, void (*say)(struct gwctl *g, const struct standing *before))
{
	struct standing before;
	int r;

	if (argc != 2)
		return gwctl_usage(argv[0], "%s takes the name of a peer", argv[0]);
	r = look(g, argv[1], &before);
	if (r == GWCTL_OK)
		r = throw_switch(g, argv[0], &before, before.name ? before.name : argv[1]);
	if (r == GWCTL_OK && !g->json && before.name)
		say(g, &before);
	if (r == GWCTL_OK && before.not_kept)
		r = gwctl_error("NOT KEPT: it cannot be recorded in state_dir (%s), and would be over with a restart; repair that, then: gwctl %s %s",
		    before.not_kept, argv[0], argv[1]);
	standing_fini(&before);
	return r;
}

int
cmd_sever(struct gwctl *g, int argc, char **argv)
{
	return switch_peer(g, argc, argv, say_severed);
}

int
cmd_restore(struct gwctl *g, int argc, char **argv)
{
	return switch_peer(g, argc, argv, say_restored);
}
