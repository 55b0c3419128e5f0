/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gwctl policy: what the policy on disk says. It reads the files as a reload would, and asks the same image that
 * workers decide by; it does not ask the daemon, so that a policy can be tried before it is loaded.
 */
#include "tools/gwctl/cmd_policy.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "gateway/config/config.h"
#include "gateway/http1/head.h"
#include "policy/explain.h"
#include "tools/gwctl/jsonout.h"

#define NEAR_MAX 20000 /* ids that a mistyped one is compared with */

struct loaded {
	struct errs errs;
	struct buf image;
	struct policy policy;
	uint64_t compile_us; /* reading and compiling the policy's files */
};

static void
unload(struct loaded *l)
{
	errs_fini(&l->errs);
	buf_fini(&l->image);
}

/* 0 with l->policy open, or -1; l->errs has what was found either way. unload() is due. */
static int
load(struct gwctl *g, struct loaded *l)
{
	struct config *c;
	const char *why;
	uint64_t start;
	int rc = -1;

	memset(l, 0, sizeof(*l));
	errs_init(&l->errs);
	buf_init(&l->image, 0);
	if ((c = config_load(g->config_path, &l->errs)) == NULL)
		return -1;
	start = clock_mono_us();
	if (config_policy_compile(c, 0, &l->image, &l->errs) == 0) {
		l->compile_us = clock_mono_us() - start;
		rc = policy_open(&l->policy, l->image.data, l->image.len, &why);
		if (rc < 0)
			errs_add(&l->errs, NULL, 0, "the compiled policy does not open: %s", why);
	}
	config_free(c);
	return rc;
}

static int
bad_option(const char *command, char **argv)
{
	return gwctl_usage(command, "%s is no option here, or wants a value", argv[optind - 1]);
}

/* ---- check ---- */

static json_t *
check_json(const struct loaded *l, bool good)
{
	json_t *j = jsonout_checked(good, &l->errs);

	if (good)
		json_object_update_new(j, json_pack("{s:i, s:i, s:o, s:I, s:I}", "rules", (int)l->policy.nrules, "services",
			(int)l->policy.nservices, "digest", jsonout_text(policy_digest(&l->policy)), "image_bytes",
			(json_int_t)l->image.len, "compile_us", (json_int_t)l->compile_us));
	return j;
}

static int
run_check(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	struct loaded l;
	char size[32];
	int rc, c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c != 'j')
			return bad_option("policy check", argv);
		g->json = true;
	}
	if (optind != argc)
		return gwctl_usage("policy check", "\"%s\" is too much", argv[optind]);
	rc = load(g, &l) == 0 ? GWCTL_OK : GWCTL_FAILED;
	if (g->json) {
		jsonout_print(check_json(&l, rc == GWCTL_OK), rc);
	} else {
		gwctl_print_errs(&l.errs);
		if (rc == GWCTL_OK)
			printf("The policy is good: %u rules over %u services, read and compiled in %.1f ms to %s.\n"
			       "Its digest is %s.\n", l.policy.nrules, l.policy.nservices, (double)l.compile_us / 1000,
				gwctl_bytes(size, (double)l.image.len), policy_digest(&l.policy));
	}
	unload(&l);
	return rc;
}

/* ---- test ---- */

struct test {
	const char *principal, *service, *method, *path; /* as given; NULL when not */
	int assurance;                                   /* -1 when not given */
	char *normal;                                    /* path as policy sees it */
	uint32_t normal_len;
	struct policy_query query;
	struct policy_verdict verdict;
	struct policy_explained near[POLICY_EXPLAIN_MAX];
	size_t nnear;
};

static int
test_options(struct gwctl *g, struct test *t, int argc, char **argv)
{
	static const struct option options[] = { { "principal", required_argument, NULL, 'p' }, { "service", required_argument, NULL, 's' },
		{ "method", required_argument, NULL, 'm' }, { "path", required_argument, NULL, 'P' }, { "assurance", required_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'p': t->principal = optarg; break;
		case 's': t->service = optarg; break;
		case 'm': t->method = optarg; break;
		case 'P': t->path = optarg; break;
		case 'j': g->json = true; break;
		case 'a':
			if ((t->assurance = policy_assurance_parse(optarg, strlen(optarg))) < 0)
				return gwctl_usage("policy test", "--assurance %s: it is mtls, uid, address or none", optarg);
			break;
		default:
			return bad_option("policy test", argv);
		}
	if (optind != argc)
		return gwctl_usage("policy test", "\"%s\" is too much", argv[optind]);
	if (!t->principal || !t->service)
		return gwctl_usage("policy test", "--principal ID (or \"none\") and --service NAME are needed");
	return GWCTL_OK;
}

/* Who calls, and how it was known. */
static int
test_principal(struct test *t)
{
	struct spiffe_id id;
	const char *why;

	if (strcmp(t->principal, "none") == 0) {
		if (t->assurance > POLICY_NONE)
			return gwctl_usage("policy test", "a caller without a principal has no assurance; leave --assurance away");
		t->principal = "";
		t->assurance = POLICY_NONE;
		return GWCTL_OK;
	}
	if (t->assurance == POLICY_NONE)
		return gwctl_usage("policy test", "assurance \"none\" means a caller without a principal: --principal none");
	if (spiffe_parse(&id, t->principal, strlen(t->principal), &why) < 0)
		return gwctl_usage("policy test", "--principal %s: %s", t->principal, why);
	if (t->assurance < 0)
		t->assurance = POLICY_MTLS;
	return GWCTL_OK;
}

static int
unknown_service(const struct policy *p, const char *name)
{
	const char **names = mem_array(p->nservices, sizeof(*names)), *near;
	char *safe = gwctl_safe(name);
	int rc;

	for (uint32_t i = 0; i < p->nservices; i++)
		names[i] = policy_service_name(p, i);
	near = errs_nearest(name, names, p->nservices);
	rc = near ? gwctl_error("unknown service \"%s\"; did you mean \"%s\"?", safe, near)
		  : gwctl_error("unknown service \"%s\"; \"gwctl policy list\" and the configuration name them", safe);
	rc = GWCTL_NO_ANSWER;
	mem_free(names);
	mem_free(safe);
	return rc;
}

/* What is asked of the service: a request, or a connection. */
static int
test_request(struct test *t, const struct policy *p)
{
	struct policy_query *q = &t->query;

	if ((q->service = policy_service_id(p, t->service)) == POLICY_NO_ID)
		return unknown_service(p, t->service);
	q->principal = policy_principal(p, t->principal, strlen(t->principal));
	q->assurance = (enum policy_assurance)t->assurance;
	if (policy_service_is_tcp(p, q->service)) {
		if (t->method || t->path)
			return gwctl_usage("policy test", "service \"%s\" is TCP; leave --method and --path away", t->service);
		return GWCTL_OK;
	}
	if (!t->method)
		t->method = "GET";
	if (!t->path)
		t->path = "/";
	if (!h1_name_valid(t->method, strlen(t->method)))
		return gwctl_usage("policy test", "--method %s: no HTTP method; a gateway answers 400", t->method);
	if (!h1_path_valid(t->path, strlen(t->path)))
		return gwctl_usage("policy test", "--path %s: no path that a gateway takes; it answers 400", t->path);
	t->normal = mem_zalloc(strlen(t->path) + 1);
	h1_path_normalize(t->normal, t->path, strlen(t->path), &t->normal_len);
	t->normal[t->normal_len] = '\0';
	q->method = t->method;
	q->method_len = strlen(t->method);
	q->path = t->normal;
	q->path_len = t->normal_len;
	return GWCTL_OK;
}

/* An id that no rule takes may be mistyped: the nearest of those that rules name. NULL when a rule takes it, or nothing is near. */
static const char *
near_principal(const struct test *t, const struct policy *p)
{
	const char *names[NEAR_MAX];
	size_t n = 0;

	if (t->verdict.allow || !t->principal[0])
		return NULL;
	for (uint32_t r = 0; r < p->nrules; r++) {
		if (policy_rule_names(p, r, POLICY_PRINCIPALS, t->principal, strlen(t->principal)))
			return NULL;
		for (size_t i = 0; i < policy_list_count(p, r, POLICY_PRINCIPALS) && n < NEAR_MAX; i++) {
			names[n] = policy_list_item(p, r, POLICY_PRINCIPALS, i);
			n += strchr(names[n], '*') == NULL;
		}
	}
	return errs_nearest(t->principal, names, n);
}

/* "rule", file:line and why it did not match (empty when it did). The caller frees the text. */
static char *
explain(const struct policy *p, const struct policy_explained *e)
{
	struct buf text;

	buf_init(&text, 0);
	policy_explain_text(p, e, &text);
	return buf_steal(&text);
}

/* By a rule that matched, as against by none. */
static bool
decided_by_rule(const struct test *t)
{
	return t->verdict.why == POLICY_OK || t->verdict.why == POLICY_DENIED;
}

/* Of the explained rules: the others that match, or, when none does, the near ones. */
static bool
worth_showing(const struct test *t, const struct policy_explained *e)
{
	return decided_by_rule(t) ? e->missed == 0 && e->rule != t->verdict.rule : true;
}

static json_t *
rule_json(const struct policy *p, uint32_t rule)
{
	struct policy_rule_info info;

	policy_rule_info(p, rule, &info);
	return json_pack("{s:o, s:o, s:i, s:s}", "rule", jsonout_text(info.name), "file", jsonout_text(info.file), "line", (int)info.line,
		"action", info.deny ? "deny" : "allow");
}

static json_t *
test_json(const struct test *t, const struct policy *p)
{
	json_t *j = json_pack("{s:s, s:s, s:o, s:s, s:s}", "verdict", t->verdict.allow ? "allow" : "deny", "reason",
		policy_why_text(t->verdict.why), "service", jsonout_text(t->service), "principal", t->principal, "assurance",
		policy_assurance_name(t->query.assurance));
	json_t *near = json_array();
	const char *meant = near_principal(t, p);

	if (meant)
		json_object_set_new(j, "did_you_mean", jsonout_text(meant));
	if (t->query.path)
		json_object_update_new(j, json_pack("{s:o, s:o}", "method", jsonout_text(t->method), "path", jsonout_text(t->normal)));
	/* The rule that decided, or the one that came nearest. */
	if (t->verdict.rule == POLICY_NO_ID)
		json_object_set_new(j, "rule", json_null());
	else
		json_object_update_new(j, rule_json(p, t->verdict.rule));
	for (size_t i = 0; i < t->nnear; i++) {
		json_t *r;
		char *text;

		if (!worth_showing(t, &t->near[i]))
			continue;
		r = rule_json(p, t->near[i].rule);
		text = explain(p, &t->near[i]);
		json_object_set_new(r, "why_not", jsonout_text(text));
		json_array_append_new(near, r);
		mem_free(text);
	}
	json_object_set_new(j, "others", near);
	return j;
}

static void
print_near(const struct gwctl *g, const struct test *t, const struct policy *p)
{
	static const char *const headings[] = { "RULE", "ACTION", "WHERE", "WHY NOT" };
	bool decided = decided_by_rule(t);
	struct table *table = table_new(headings, NULL, decided ? 3 : 4);
	size_t rows = 0;

	for (size_t i = 0; i < t->nnear; i++) {
		struct policy_rule_info info;
		char *text;

		if (!worth_showing(t, &t->near[i]))
			continue;
		policy_rule_info(p, t->near[i].rule, &info);
		table_cell(table, "%s", info.name);
		table_cell(table, "%s", info.deny ? "deny" : "allow");
		table_cell(table, "%s:%u", info.file, info.line);
		if (!decided) {
			text = explain(p, &t->near[i]);
			table_cell(table, "%s", text);
			mem_free(text);
		}
		rows++;
	}
	if (rows) {
		printf("\n%s\n", decided ? "Other rules that match:" : "The nearest rules:");
		table_print(table, g->color);
	} else if (!decided) {
		printf("\nNo allow rule names this principal or this service.\n");
	}
	table_free(table);
}

static void
print_test(const struct gwctl *g, const struct test *t, const struct policy *p)
{
	char *method = gwctl_safe(t->method ? t->method : ""), *path = gwctl_safe(t->normal ? t->normal : "");
	const char *meant = near_principal(t, p);
	struct policy_rule_info info;

	if (t->verdict.allow)
		puts("allow");
	else
		printf("deny: %s\n", policy_why_sentence(t->verdict.why));
	printf("  principal   %s\n", t->principal[0] ? t->principal : "none");
	printf("  assurance   %s\n", policy_assurance_name(t->query.assurance));
	printf("  service     %s\n", policy_service_name(p, t->query.service));
	if (t->query.path)
		printf("  request     %s %s\n", method, path);
	if (t->verdict.rule != POLICY_NO_ID) {
		char *name, *file;

		policy_rule_info(p, t->verdict.rule, &info);
		name = gwctl_safe(info.name);
		file = gwctl_safe(info.file);
		printf("  rule        %s, %s:%u%s\n", name, file, info.line, decided_by_rule(t) ? "" : " (the nearest)");
		mem_free(name);
		mem_free(file);
	}
	if (meant) {
		char *safe = gwctl_safe(meant);

		printf("  no rule names this principal; did you mean \"%s\"?\n", safe);
		mem_free(safe);
	}
	mem_free(method);
	mem_free(path);
	print_near(g, t, p);
}

static int
run_test(struct gwctl *g, int argc, char **argv)
{
	struct test t = { .assurance = -1 };
	struct loaded l;
	int rc;

	if ((rc = test_options(g, &t, argc, argv)) != GWCTL_OK || (rc = test_principal(&t)) != GWCTL_OK)
		return rc;
	if (load(g, &l) < 0) {
		gwctl_print_errs(&l.errs);
		unload(&l);
		return GWCTL_NO_ANSWER;
	}
	if ((rc = test_request(&t, &l.policy)) == GWCTL_OK) {
		policy_decide(&l.policy, &t.query, &t.verdict);
		t.nnear = policy_explain(&l.policy, &t.query, t.principal, t.near);
		rc = t.verdict.allow ? GWCTL_OK : GWCTL_FAILED;
		if (g->json)
			jsonout_print(test_json(&t, &l.policy), rc);
		else
			print_test(g, &t, &l.policy);
	}
	mem_free(t.normal);
	unload(&l);
	return rc;
}

/* ---- list ---- */

static json_t *
list_json(const struct policy *p, uint32_t rule, enum policy_list which)
{
	size_t n = policy_list_count(p, rule, which);
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, jsonout_text(policy_list_item(p, rule, which, i)));
	if (n == 0)
		json_array_append_new(a, json_string("*"));
	return a;
}

static json_t *
listed_json(const struct policy *p, uint32_t rule)
{
	json_t *j = rule_json(p, rule), *assurance = json_array();

	for (int a = 0; a < POLICY_ASSURANCES; a++)
		if (policy_rule_assurance(p, rule) & 1u << a)
			json_array_append_new(assurance, json_string(policy_assurance_name((enum policy_assurance)a)));
	json_object_set_new(j, "principals", list_json(p, rule, POLICY_PRINCIPALS));
	json_object_set_new(j, "services", list_json(p, rule, POLICY_SERVICES));
	/* Null means any: "*" could be taken for a method. */
	json_object_set_new(j, "methods", policy_list_count(p, rule, POLICY_METHODS) ? list_json(p, rule, POLICY_METHODS) : json_null());
	json_object_set_new(j, "paths", policy_list_count(p, rule, POLICY_PATHS) ? list_json(p, rule, POLICY_PATHS) : json_null());
	json_object_set_new(j, "assurance", assurance);
	return j;
}

static void
cell_list(struct table *t, const struct policy *p, uint32_t rule, enum policy_list which)
{
	size_t n = policy_list_count(p, rule, which);

	if (n == 0)
		table_cell(t, "any");
	else if (n == 1)
		table_cell(t, "%s", policy_list_item(p, rule, which, 0));
	else
		table_cell(t, "%s +%zu", policy_list_item(p, rule, which, 0), n - 1);
}

static void
list_row(struct table *t, const struct policy *p, uint32_t rule)
{
	struct policy_rule_info info;
	char assurance[64] = "";

	policy_rule_info(p, rule, &info);
	for (int a = POLICY_ASSURANCES - 1; a >= 0; a--)
		if (policy_rule_assurance(p, rule) & 1u << a)
			snprintf(assurance + strlen(assurance), sizeof(assurance) - strlen(assurance), "%s%s", assurance[0] ? "," : "",
				policy_assurance_name((enum policy_assurance)a));
	table_cell(t, "%s", info.name);
	table_cell(t, "%s", info.deny ? "deny" : "allow");
	cell_list(t, p, rule, POLICY_PRINCIPALS);
	cell_list(t, p, rule, POLICY_SERVICES);
	cell_list(t, p, rule, POLICY_METHODS);
	cell_list(t, p, rule, POLICY_PATHS);
	table_cell(t, "%s", assurance);
	table_cell(t, "%s:%u", info.file, info.line);
}

/* In the order in which they are asked: deny rules first. */
static void
list_rules(const struct gwctl *g, const struct policy *p, const char *principal, const char *service)
{
	static const char *const headings[] = { "RULE", "ACTION", "PRINCIPALS", "SERVICES", "METHODS", "PATHS", "ASSURANCE", "WHERE" };
	struct table *table = table_new(headings, NULL, 8);
	json_t *all = json_array();

	for (int pass = 0; pass < 2; pass++)
		for (uint32_t rule = 0; rule < p->nrules; rule++) {
			struct policy_rule_info info;

			policy_rule_info(p, rule, &info);
			if (info.deny != (pass == 0))
				continue;
			if (principal && !policy_rule_names(p, rule, POLICY_PRINCIPALS, principal, strlen(principal)))
				continue;
			if (service && !policy_rule_names(p, rule, POLICY_SERVICES, service, strlen(service)))
				continue;
			if (g->json)
				json_array_append_new(all, listed_json(p, rule));
			else
				list_row(table, p, rule);
		}
	if (g->json)
		jsonout_print(json_incref(all), GWCTL_OK);
	else
		table_print(table, g->color);
	json_decref(all);
	table_free(table);
}

static int
run_list(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "principal", required_argument, NULL, 'p' }, { "service", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' }, { 0 } };
	const char *principal = NULL, *service = NULL;
	struct loaded l;
	int rc = GWCTL_OK, c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'p': principal = strcmp(optarg, "none") == 0 ? "" : optarg; break;
		case 's': service = optarg; break;
		case 'j': g->json = true; break;
		default: return bad_option("policy list", argv);
		}
	if (optind != argc)
		return gwctl_usage("policy list", "\"%s\" is too much", argv[optind]);
	if (load(g, &l) < 0)
		rc = gwctl_print_errs(&l.errs);
	else if (service && policy_service_id(&l.policy, service) == POLICY_NO_ID)
		rc = unknown_service(&l.policy, service);
	else
		list_rules(g, &l.policy, principal, service);
	unload(&l);
	return rc;
}

int
cmd_policy(struct gwctl *g, int argc, char **argv)
{
	static const struct gwctl_sub subs[] = {
		{ "check", run_check, "read the policy as a reload would, and say every fault" },
		{ "test", run_test, "what would be decided, by which rule, and why not" },
		{ "list", run_list, "the rules in the order in which they are asked" },
		{ 0 },
	};

	return gwctl_dispatch(g, "policy", subs, argc, argv);
}
