/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl reload, drain, log-level: what changes a running daemon. */
#include <stdio.h>
#include <string.h>

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
		printf("reloaded: config generation %lld, policy %lld with %lld rules\n",
		    (long long)json_integer_value(json_object_get(answer, "generation")),
		    (long long)json_integer_value(json_object_get(answer, "policy_generation")),
		    (long long)json_integer_value(json_object_get(answer, "policy_rules")));
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
