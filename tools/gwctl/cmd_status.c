/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl status, peers, services: what the daemon says of itself. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "tools/gwctl/request.h"

static const char *
text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

static long long
number(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

static void
title(const struct gwctl *g, const char *s)
{
	printf("\n%s%s%s\n", g->color ? "\033[1m" : "", s, g->color ? "\033[0m" : "");
}

/* Text of the daemon's on a line of its own. */
static void
line(const char *name, const char *value)
{
	char *safe = gwctl_safe(value);

	printf("%-10s %s\n", name, safe);
	mem_free(safe);
}

/* "a b c" of a list of text. */
static char *
joined(const json_t *list)
{
	char *s = mem_strdup(""), *more;
	json_t *e;
	size_t i;

	json_array_foreach(list, i, e) {
		more = mem_printf("%s%s%s", s, i ? " " : "", json_string_value(e) ? json_string_value(e) : "?");
		mem_free(s);
		s = more;
	}
	return s;
}

static void
print_not_answering(const json_t *answer)
{
	json_t *list = json_object_get(answer, "not_answering");
	char *names;

	if (json_array_size(list) == 0)
		return;
	names = joined(list);
	printf("\nnot answering: %s\n", names);
	mem_free(names);
}

static char *
sandbox_text(const json_t *role)
{
	json_t *missing = json_object_get(role, "sandbox_missing");
	char *names, *s;

	if (!json_object_get(role, "sandbox"))
		return mem_strdup("-");
	if (json_array_size(missing) == 0)
		return mem_strdup("full");
	names = joined(missing);
	s = mem_printf("without %s", names);
	mem_free(names);
	return s;
}

static void
print_roles(const struct gwctl *g, const json_t *roles)
{
	static const char *const headings[] = { "ROLE", "STATE", "GEN", "PID", "UID", "UP", "RESTARTS", "SANDBOX" };
	static const unsigned flags[] = { 0, 0, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, 0 };
	struct table *t = table_new(headings, flags, 8);
	json_t *r;
	size_t i;

	json_array_foreach(roles, i, r) {
		char age[32], *sandbox = sandbox_text(r);

		if (!strcmp(text(r, "role"), "worker"))
			table_cell(t, "worker %lld", number(r, "index"));
		else
			table_cell(t, "%s", text(r, "role"));
		table_cell(t, "%s", text(r, "state"));
		if (json_object_get(r, "generation"))
			table_cell(t, "%lld", number(r, "generation"));
		else
			table_cell(t, "-");
		table_cell(t, "%lld", number(r, "pid"));
		table_cell(t, "%lld", number(r, "uid"));
		table_cell(t, "%s", gwctl_age(age, (double)number(r, "uptime_s")));
		table_cell(t, "%lld", number(r, "restarts"));
		table_cell(t, "%s", sandbox);
		mem_free(sandbox);
	}
	table_print(t, g->color);
	table_free(t);
}

static void
print_listeners(const struct gwctl *g, const json_t *listeners)
{
	static const char *const headings[] = { "LISTENER", "ADDRESS", "ACCEPTS" };
	struct table *t = table_new(headings, NULL, 3);
	json_t *l;
	size_t i;

	json_array_foreach(listeners, i, l) {
		char *accepts = joined(json_object_get(l, "accept"));

		table_cell(t, "%s", text(l, "name"));
		table_cell(t, "%s", text(l, "address"));
		table_cell(t, "%s", accepts);
		mem_free(accepts);
	}
	table_print(t, g->color);
	table_free(t);
}

/* Links and exchanges of all workers in a few lines: "peers" and "services" have the rest. */
static void
print_traffic(const struct gwctl *g, const json_t *workers)
{
	long long active = 0, allowed = 0, denied = 0, connections = 0, up = 0, links = 0;
	json_t *w, *l;
	size_t i, k;

	json_array_foreach(workers, i, w) {
		json_t *x = json_object_get(w, "exchanges");

		active += number(x, "active");
		allowed += number(x, "allowed");
		denied += number(x, "denied");
		connections += number(w, "connections");
		json_array_foreach(json_object_get(w, "links"), k, l) {
			links++;
			up += !strcmp(text(l, "state"), "up") || !strcmp(text(l, "state"), "ready");
		}
	}
	title(g, "Traffic");
	printf("%-12s%lld running, %lld allowed, %lld denied since the workers started\n", "exchanges", active, allowed, denied);
	printf("%-12s%lld up of %lld (gwctl peers)\n", "links", up, links);
	printf("%-12s%lld from clients\n", "connections", connections);
}

/* When our certificates are renewed, and what is in the way; the service for those of others, where there is one. */
static void
print_enrolment(const struct gwctl *g, const json_t *answer)
{
	long long connections = 0, requests = 0, refused = 0, forwarded = 0;
	const json_t *ca = json_object_get(answer, "ca");
	bool serves = false, titled = false;
	json_t *w, *k;
	size_t i, j;

	json_array_foreach(json_object_get(answer, "workers"), i, w) {
		json_t *e = json_object_get(w, "enrol");

		serves |= e != NULL;
		connections += number(e, "connections");
		requests += number(e, "requests");
		refused += number(e, "refused");
		forwarded += number(e, "forwarded");
		json_array_foreach(json_object_get(w, "renewal"), j, k) {
			char *error = gwctl_safe(text(k, "error"));

			if (!titled)
				title(g, "Renewal");
			titled = true;
			printf("%-12s%s%s%s%s%s%s\n", text(k, "key"), text(k, "state"), text(k, "next")[0] ? ", next at " : "", text(k, "next"),
			    error[0] ? "; the last try failed: " : "", error, number(k, "failures") > 1 ? " (and those before)" : "");
			mem_free(error);
		}
	}
	if (!serves)
		return;
	title(g, "Enrolment");
	printf("%-12s%lld requests, %lld refused, %lld connections passed on, %lld open\n", "service", requests, refused, forwarded, connections);
	if (json_is_true(json_object_get(ca, "available"))) {
		printf("%-12s%lld issued, %lld renewed, %lld refused; %lld token%s out\n", "CA", number(ca, "issued"), number(ca, "renewed"),
		    number(ca, "refused"), number(ca, "tokens"), number(ca, "tokens") == 1 ? "" : "s");
	} else if (ca) {
		char *why = gwctl_safe(text(ca, "why"));

		printf("%-12sCANNOT BE USED: %s\n", "CA", why);
		mem_free(why);
	}
}

/* What the module of an HSM may use is no secret of the configuration's. */
static void
print_hsm(const json_t *hsm)
{
	char *paths = joined(json_object_get(hsm, "paths")), *module = joined(json_object_get(hsm, "module")), *sandbox = joined(json_object_get(hsm, "sandbox"));
	json_t *k;
	size_t i;
	char *s;

	s = mem_printf("%s, process %lld, started %lld time%s, by way of OpenSSL's %s", module, number(hsm, "pid"), number(hsm, "starts"),
	    number(hsm, "starts") == 1 ? "" : "s", text(hsm, "via"));
	line("hsm", text(hsm, "fault")[0] ? text(hsm, "fault") : s);
	mem_free(s);
	line("  may use", paths[0] ? paths : "no path");
	line("  sandbox", sandbox);
	json_array_foreach(json_object_get(hsm, "keys"), i, k) {
		s = mem_printf("%s %s%s%s", text(k, "option"), text(k, "state"), text(k, "why")[0] ? ": " : "", text(k, "why"));
		line("  key", s);
		mem_free(s);
	}
	mem_free(paths);
	mem_free(module);
	mem_free(sandbox);
}

static void
print_keys(const struct gwctl *g, const json_t *roles)
{
	json_t *r, *k;
	size_t i, j;

	title(g, "Keys");
	json_array_foreach(roles, i, r) {
		if (json_array_size(roles) > 1)
			printf("instance %lld\n", number(r, "instance"));
		json_array_foreach(json_object_get(r, "keys"), j, k) {
			char *option = gwctl_safe(text(k, "option")), *type = gwctl_safe(text(k, "type"));

			printf("%-12s %s, %s, %lld signature%s\n", option, type, !strcmp(text(k, "in"), "hsm") ? "in the HSM" : "in memory",
			    number(k, "signatures"), number(k, "signatures") == 1 ? "" : "s");
			mem_free(option);
			mem_free(type);
		}
		if (number(r, "rate_limited") || number(r, "abuse"))
			printf("%-10s %lld signatures over limits.signatures_per_second = %lld; %lld abuses\n", "REFUSED", number(r, "rate_limited"),
			    number(r, "rate_limit"), number(r, "abuse"));
		if (json_object_get(r, "hsm"))
			print_hsm(json_object_get(r, "hsm"));
	}
}

static void
print_journal(const struct gwctl *g, const json_t *j)
{
	char a[32], b[32];

	title(g, "Journal");
	if (!json_is_object(j)) {
		puts("not answering: nothing new may cross until it does");
		return;
	}
	if (!strcmp(text(j, "state"), "running"))
		line("state", "running");
	else
		printf("%-10s %s: NOTHING CROSSES%s\n", "state", text(j, "state"),
		    !strcmp(text(j, "state"), "no-space") ? " until there is room on its disk" : "; see the operator log");
	printf("%-10s %lld, %lld exchanges open\n", "records", number(j, "records"), number(j, "inflight"));
	line("segment", text(j, "segment"));
	printf("%-10s %s used by it, %s free on its disk\n", "space", gwctl_bytes(a, (double)number(j, "segment_bytes")),
	    gwctl_bytes(b, (double)number(j, "free_bytes")));
}

static int
no_arguments(const char *command, int argc)
{
	return argc > 1 ? gwctl_usage(command, "%s takes no argument", command) : GWCTL_OK;
}

/* Until when, and how long that is. */
static void
print_expiry(const char *which, long long until)
{
	long long left = until - (long long)(clock_wall_us() / 1000000);
	char when[CLOCK_RFC3339_LEN + 1], age[32];

	if (!until)
		return;
	clock_rfc3339(when, (uint64_t)until * 1000000);
	if (left > 0)
		printf("%-10s certificate until %.19sZ, %s left\n", which, when, gwctl_age(age, (double)left));
	else
		printf("%-10s certificate EXPIRED at %.19sZ\n", which, when);
}

/* Nobody should have to wonder why nothing crosses. */
static void
print_severed(const struct gwctl *g, const char *peer)
{
	char *safe = gwctl_safe(peer);

	printf("\n%sSEVERED: %s%s. Nothing crosses to or from it until: gwctl restore %s\n", g->color ? "\033[1;31m" : "", safe,
	    g->color ? "\033[0m" : "", safe);
	mem_free(safe);
}

static void
print_policy(const json_t *answer)
{
	char *digest = gwctl_safe(text(answer, "policy_digest"));
	long long rules = number(answer, "policy_rules");

	printf("\n%-10s generation %lld, ", "policy", number(answer, "policy_generation"));
	if (rules)
		printf("%lld rule%s, SHA-256 %.16s\n\n", rules, rules == 1 ? "" : "s", digest);
	else
		printf("no rules: NOTHING IS ALLOWED (gwctl policy check)\n\n");
	mem_free(digest);
}

int
cmd_status(struct gwctl *g, int argc, char **argv)
{
	json_t *answer, *e;
	char age[32], *s;
	size_t i;
	int r = no_arguments(argv[0], argc);

	if (r || (r = request_send(g, "status", NULL, &answer)))
		return r;
	r = request_failed(answer);
	if (g->json) {
		request_print_json(answer);
	} else if (r == GWCTL_OK) {
		s = mem_printf("sallyportd %s, up %s, config %s", text(answer, "version"), gwctl_age(age, (double)number(answer, "uptime_s")), text(answer, "config"));
		line("daemon", s);
		mem_free(s);
		line(strstr(text(answer, "id"), "/gateway/") ? "gateway" : "sidecar", text(answer, "id"));
		print_expiry("", number(answer, "certificate_not_after"));
		print_expiry("inside", number(answer, "inside_not_after"));
		printf("%-10s generation %lld", "config", number(answer, "generation"));
		if (number(answer, "generations_draining"))
			printf(", %lld older draining", number(answer, "generations_draining"));
		print_policy(answer);
		json_array_foreach(json_object_get(answer, "severed"), i, e)
			print_severed(g, json_string_value(e) ? json_string_value(e) : "?");
		if (json_array_size(json_object_get(answer, "severed")))
			putchar('\n');
		print_roles(g, json_object_get(answer, "roles"));
		putchar('\n');
		print_listeners(g, json_object_get(answer, "listeners"));
		print_traffic(g, json_object_get(answer, "workers"));
		print_enrolment(g, answer);
		print_keys(g, json_object_get(answer, "keys"));
		print_journal(g, json_object_get(answer, "journal"));
		print_not_answering(answer);
	}
	json_decref(answer);
	return r;
}

/* Why there is no link, or fewer than there should be. */
static void
print_failures(const json_t *peers)
{
	bool first = true;
	json_t *p, *f;
	char age[32];
	size_t i;

	json_array_foreach(peers, i, p) {
		char *s, *safe;

		if (!(f = json_object_get(p, "last_failure")))
			continue;
		s = mem_printf("%s  %s  %s%s%s, %s ago", text(p, "name"), text(f, "address"), text(f, "reason"), text(f, "detail")[0] ? ": " : "",
		    text(f, "detail"), gwctl_age(age, (double)number(f, "ago_s")));
		safe = gwctl_safe(s);
		printf("%s%s\n", first ? "\nLast failure of a link\n" : "", safe);
		first = false;
		mem_free(safe);
		mem_free(s);
	}
}

/* Its largest unit alone: "3 min". */
static const char *
short_age(char out[32], double seconds)
{
	char *more = strchr(gwctl_age(out, seconds), ' ');

	more = more ? strchr(more + 1, ' ') : NULL;
	if (more)
		*more = 0;
	return out;
}

/* By what the links are kept: mostly one line. */
static void
print_tls(const json_t *peers)
{
	json_t *seen = json_object(), *p, *l, *n;
	const char *key;
	size_t i, k;

	json_array_foreach(peers, i, p)
		json_array_foreach(json_object_get(p, "links"), k, l) {
			char *s = mem_printf("%s %s", text(l, "cipher"), text(l, "group")), *safe = gwctl_safe(s);

			json_object_set_new(seen, safe, json_integer(json_integer_value(json_object_get(seen, safe)) + 1));
			mem_free(safe);
			mem_free(s);
		}
	if (json_object_size(seen))
		putchar('\n');
	json_object_foreach(seen, key, n)
		printf("%s: %lld link%s\n", key, (long long)json_integer_value(n), json_integer_value(n) == 1 ? "" : "s");
	json_decref(seen);
}

static void
print_quarantined(const json_t *peers)
{
	json_t *p, *l;
	size_t i, k;

	json_array_foreach(peers, i, p)
		json_array_foreach(json_object_get(p, "links"), k, l)
			if (!strcmp(text(l, "state"), "quarantined")) {
				char *name = gwctl_safe(text(p, "name"));

				printf("\nQUARANTINED: %s. Nothing crosses until a revocation list of it is in force; its operator makes one with gwctl pki crl\n", name);
				mem_free(name);
				break;
			}
}

int
cmd_peers(struct gwctl *g, int argc, char **argv)
{
	static const char *const headings[] = { "PEER", "GATEWAY", "ADDRESS", "STATE", "DIALLED", "RUNNING", "WORKER", "UP", "RTT" };
	static const unsigned flags[] = { 0, 0, 0, 0, 0, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT };
	json_t *answer, *p, *l;
	struct table *t;
	char age[32];
	size_t i, k;
	int r = no_arguments(argv[0], argc);

	if (r || (r = request_send(g, "peers", NULL, &answer)))
		return r;
	r = request_failed(answer);
	if (g->json) {
		request_print_json(answer);
	} else if (r == GWCTL_OK) {
		t = table_new(headings, flags, 9);
		json_array_foreach(json_object_get(answer, "peers"), i, p) {
			json_t *links = json_object_get(p, "links");

			if (json_array_size(links) == 0)
				table_row(t, (const char *[]){ text(p, "name"), text(p, "domain"), NULL,
				    json_is_true(json_object_get(p, "severed")) ? "SEVERED" : "no link", NULL, NULL, NULL, NULL, NULL });
			json_array_foreach(links, k, l) {
				table_cell(t, "%s", text(p, "name"));
				table_cell(t, "%s", strncmp(text(l, "gateway"), "spiffe://", 9) ? text(l, "gateway") : text(l, "gateway") + 9);
				table_cell(t, "%s", text(l, "address"));
				table_cell(t, "%s", text(l, "state"));
				table_cell(t, "%s", !strcmp(text(l, "direction"), "dialled") ? "by us" : "by it");
				table_cell(t, "%lld %s", number(l, "streams"), !strcmp(text(l, "role"), "client") ? "ours" : "its");
				table_cell(t, "%lld", number(l, "worker"));
				table_cell(t, "%s", short_age(age, (double)number(l, "age_s")));
				if (number(l, "rtt_ms"))
					table_cell(t, "%lld ms", number(l, "rtt_ms"));
				else
					table_cell(t, "<1 ms");
			}
		}
		if (json_array_size(json_object_get(answer, "peers")))
			table_print(t, g->color);
		else
			puts("No peers.");
		table_free(t);
		print_tls(json_object_get(answer, "peers"));
		json_array_foreach(json_object_get(answer, "peers"), i, p)
			if (json_is_true(json_object_get(p, "severed")))
				print_severed(g, text(p, "name"));
		print_quarantined(json_object_get(answer, "peers"));
		print_failures(json_object_get(answer, "peers"));
		print_not_answering(answer);
	}
	json_decref(answer);
	return r;
}

int
cmd_services(struct gwctl *g, int argc, char **argv)
{
	static const char *const headings[] = { "SERVICE", "HOST", "KIND", "WHERE", "RUNNING", "ALLOWED", "DENIED", "FAILED" };
	static const unsigned flags[] = { 0, 0, 0, 0, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT };
	json_t *answer, *s, *e;
	struct table *t;
	size_t i, k;
	int r = no_arguments(argv[0], argc);

	if (r || (r = request_send(g, "services", NULL, &answer)))
		return r;
	r = request_failed(answer);
	if (g->json) {
		request_print_json(answer);
	} else if (r == GWCTL_OK) {
		t = table_new(headings, flags, 8);
		json_array_foreach(json_object_get(answer, "services"), i, s) {
			size_t n = json_array_size(json_object_get(s, "endpoints"));

			table_cell(t, "%s", text(s, "name"));
			table_cell(t, "%s", text(s, "host"));
			table_cell(t, "%s", text(s, "kind"));
			if (json_is_string(json_object_get(s, "via")))
				table_cell(t, !strcmp(text(s, "via"), "uplink") ? "%s" : "peer %s", text(s, "via"));
			else
				table_cell(t, "%s", n == 1 ? text(json_array_get(json_object_get(s, "endpoints"), 0), "address") : "here:");
			table_cell(t, "%lld", number(s, "active"));
			table_cell(t, "%lld", number(s, "allowed"));
			table_cell(t, "%lld", number(s, "denied"));
			table_cell(t, "%lld", number(s, "failed"));
			json_array_foreach(json_object_get(s, "endpoints"), k, e) {
				if (n == 1)
					break;
				table_row(t, (const char *[]){ "", "", "", text(e, "address"), "", "", "", "" });
			}
		}
		table_print(t, g->color);
		table_free(t);
		print_not_answering(answer);
	}
	json_decref(answer);
	return r;
}
