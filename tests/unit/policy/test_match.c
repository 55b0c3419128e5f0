/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key test: random policies and queries, decided by the compiled image and by a reference matcher
 * that reads the rules as they were written, and must agree on verdict, reason and rule. Then a few of the
 * promises of policy.h as examples.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/http1/head.h"
#include "policy/explain.h"
#include "policy/policy.h"

static uint64_t seed;

static uint32_t
rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 20) % n);
}

/* ---- the reference ---- */

struct asked {
	const char *principal; /* "" for nobody */
	const char *service, *method, *path;
	enum policy_assurance assurance;
};

static bool
ref_segments(const char *pattern, const char *text)
{
	size_t pn = strcspn(pattern, "/"), tn;

	if (strcmp(pattern, "**") == 0)
		return true;
	if (!text)
		return false;
	tn = strcspn(text, "/");
	if (pn == 1 && pattern[0] == '*') {
		if (tn == 0)
			return false;
	} else if (pn > 0 && pattern[pn - 1] == '*') {
		if (tn < pn - 1 || strncmp(pattern, text, pn - 1) != 0)
			return false;
	} else if (pn != tn || strncmp(pattern, text, pn) != 0) {
		return false;
	}
	text = text[tn] ? text + tn + 1 : NULL;
	if (pattern[pn] == '\0')
		return text == NULL;
	return ref_segments(pattern + pn + 1, text);
}

static bool
ref_principal(const struct policy_rule *r, const char *id)
{
	for (size_t i = 0; i < r->nprincipals; i++)
		if (strcmp(r->principals[i], "*") == 0 || (id[0] && ref_segments(r->principals[i] + 9, id + 9)))
			return true;
	return false;
}

static bool
ref_service(const struct policy_rule *r, const char *name)
{
	for (size_t i = 0; i < r->nservices; i++)
		if (strcmp(r->services[i], "*") == 0 || strcmp(r->services[i], name) == 0)
			return true;
	return false;
}

static bool
ref_method(const struct policy_rule *r, const char *method)
{
	for (size_t i = 0; i < r->nmethods; i++)
		if (strcmp(r->methods[i], method) == 0)
			return true;
	return !r->methods;
}

static bool
ref_path(const struct policy_rule *r, const char *path)
{
	for (size_t i = 0; i < r->npaths; i++)
		if (ref_segments(r->paths[i] + 1, path + 1))
			return true;
	return !r->paths;
}

/* POLICY_OK, the first thing that fails, or POLICY_NO_RULE when the rule is about something else. */
static enum policy_why
ref_rule(const struct policy_rule *r, const struct asked *a, bool tcp)
{
	uint8_t assurance = r->assurance ? r->assurance : r->deny ? 0xf : 1 << POLICY_MTLS;

	if (!ref_principal(r, a->principal) || !ref_service(r, a->service))
		return POLICY_NO_RULE;
	if (tcp) {
		if (r->methods || r->paths)
			return POLICY_KIND;
	} else if (!ref_path(r, a->path)) {
		return POLICY_PATH;
	} else if (!ref_method(r, a->method)) {
		return POLICY_METHOD;
	}
	return assurance & 1 << a->assurance ? POLICY_OK : POLICY_ASSURANCE;
}

static struct policy_verdict
ref_decide(const struct policy_input *in, const struct asked *a, bool tcp)
{
	static const enum policy_why nearest[] = { POLICY_ASSURANCE, POLICY_METHOD, POLICY_PATH, POLICY_KIND };

	for (uint32_t i = 0; i < in->nrules; i++)
		if (in->rules[i].deny && ref_rule(&in->rules[i], a, tcp) == POLICY_OK)
			return (struct policy_verdict){ false, POLICY_DENIED, i };
	for (uint32_t i = 0; i < in->nrules; i++)
		if (!in->rules[i].deny && ref_rule(&in->rules[i], a, tcp) == POLICY_OK)
			return (struct policy_verdict){ true, POLICY_OK, i };
	for (size_t n = 0; n < 4; n++)
		for (uint32_t i = 0; i < in->nrules; i++)
			if (!in->rules[i].deny && ref_rule(&in->rules[i], a, tcp) == nearest[n])
				return (struct policy_verdict){ false, nearest[n], i };
	return (struct policy_verdict){ false, POLICY_NO_RULE, POLICY_NO_ID };
}

/* ---- random policies ---- */

#define SERVICES 6
static const struct policy_service services[SERVICES] = {
	{ "web", false }, { "tax-svc", false }, { "db", true }, { "permit", false }, { "queue", true }, { "mail", false },
};
static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "FOO", "BAR", "get", "LOCK" };

struct shape {                 /* of one random policy */
	uint32_t rules, words; /* how many different words a segment is made of */
	uint32_t stars;        /* percent of segments that are patterns */
	uint32_t depth;
};

static char *pool[200000];     /* everything that a policy needs, freed with it */
static size_t npool;

static void *
keep(void *p)
{
	assert_true(npool < sizeof(pool) / sizeof(*pool));
	return pool[npool++] = p;
}

static void
drop_all(void)
{
	while (npool)
		mem_free(pool[--npool]);
}

static const char *
word(const struct shape *s, bool pattern)
{
	static const char *const some[] = { "a", "b", "tax-", "tax-1", "tax-2", "t", "ns" };
	uint32_t n = rnd(s->words);

	if (pattern && rnd(100) < s->stars) {
		switch (rnd(4)) {
		case 0:
			return "tax-*";
		case 1:
			return keep(mem_printf("w%u*", rnd(10)));
		default:
			return "*";
		}
	}
	return n < 7 ? some[n] : keep(mem_printf("w%u", n));
}

static const char *
text(const struct shape *s, bool pattern, bool path)
{
	char out[2048];
	size_t n = rnd(s->depth) + (path ? 1 : 0);

	snprintf(out, sizeof(out), "%s", path ? "" : rnd(3) ? "spiffe://hud.example" : "spiffe://irs.example");
	for (size_t i = 0; i < n; i++)
		snprintf(out + strlen(out), sizeof(out) - strlen(out), "/%s", word(s, pattern));
	if (pattern && rnd(100) < s->stars / 2)
		strcat(out, "/**");
	else if (path && rnd(6) == 0)
		strcat(out, "/");
	return keep(mem_strdup(out));
}

static const char **
list(size_t n)
{
	return keep(mem_array(n, sizeof(char *)));
}

static void
random_rule(struct policy_rule *r, uint32_t number, const struct shape *s)
{
	const char **l;
	bool http = false;

	memset(r, 0, sizeof(*r));
	r->name = keep(mem_printf("rule-%u", number));
	r->file = "policy.d/10-random.conf";
	r->line = number + 1;
	r->deny = rnd(4) == 0;
	r->nprincipals = rnd(5) ? 1 : rnd(4) + 1;
	r->principals = l = list(r->nprincipals);
	for (size_t i = 0; i < r->nprincipals; i++)
		l[i] = text(s, true, false);
	if (r->nprincipals == 1 && rnd(6) == 0)
		l[0] = "*";
	r->nservices = rnd(3) ? 1 : rnd(3) + 1;
	r->services = l = list(r->nservices);
	for (size_t i = 0; i < r->nservices; i++) {
		uint32_t k = rnd(SERVICES);

		l[i] = services[k].name;
		http |= !services[k].tcp;
	}
	if (r->nservices == 1 && rnd(6) == 0) {
		l[0] = "*";
		http = true;
	}
	if (http && rnd(2)) {
		r->nmethods = rnd(3) + 1;
		r->methods = l = list(r->nmethods);
		for (size_t i = 0; i < r->nmethods; i++)
			l[i] = methods[rnd(10)];
	}
	if (http && rnd(3)) {
		r->npaths = rnd(5) ? 1 : rnd(6) + 1;
		r->paths = l = list(r->npaths);
		for (size_t i = 0; i < r->npaths; i++)
			l[i] = text(s, true, true);
	}
	if (rnd(3))
		r->assurance = (uint8_t)(rnd(15) + 1);
	if (strcmp(r->principals[0], "*") != 0)
		r->assurance &= (uint8_t)~(1u << POLICY_NONE);
}

static void
random_query(struct asked *a, const struct policy_input *in, const struct shape *s)
{
	const struct policy_rule *r = &in->rules[rnd((uint32_t)in->nrules)];

	a->principal = rnd(12) == 0 ? "" : text(s, false, false);
	/* Half of the queries start from a rule, or nothing would ever match in the larger policies. */
	if (rnd(2) && !strchr(r->principals[0], '*'))
		a->principal = r->principals[0];
	a->service = services[rnd(SERVICES)].name;
	if (rnd(2) && strcmp(r->services[0], "*") != 0)
		a->service = r->services[0];
	a->method = r->nmethods && rnd(2) ? r->methods[0] : methods[rnd(10)];
	a->path = text(s, false, true);
	if (rnd(2) && r->npaths && !strchr(r->paths[0], '*'))
		a->path = r->paths[0];
	a->assurance = (enum policy_assurance)rnd(POLICY_ASSURANCES);
}

/* What "gwctl policy test" shows first must be what decided. */
static void
compare_explained(const struct policy *p, const struct policy_query *q, const struct asked *a, const struct policy_verdict *v)
{
	struct policy_explained e[POLICY_EXPLAIN_MAX];
	size_t n = policy_explain(p, q, a->principal, e);

	if (v->rule == POLICY_NO_ID) {
		assert_true(n == 0 || e[0].missed & (POLICY_MISS_PRINCIPAL | POLICY_MISS_SERVICE));
		return;
	}
	assert_true(n > 0);
	assert_int_equal(e[0].rule, v->rule);
	assert_int_equal(e[0].missed == 0, v->why == POLICY_OK || v->why == POLICY_DENIED);
}

static void
compare(const struct policy *p, const struct policy_input *in, const struct asked *a)
{
	struct policy_query q = { .assurance = a->assurance };
	struct policy_verdict got, want;
	bool tcp;

	q.principal = policy_principal(p, a->principal, strlen(a->principal));
	q.service = policy_service_id(p, a->service);
	assert_int_not_equal(q.principal, POLICY_NO_ID);
	assert_int_not_equal(q.service, POLICY_NO_ID);
	tcp = in->services[q.service].tcp;
	if (!tcp) {
		q.method = a->method;
		q.method_len = strlen(a->method);
		q.path = a->path;
		q.path_len = strlen(a->path);
	}
	policy_decide(p, &q, &got);
	want = ref_decide(in, a, tcp);
	if (got.allow != want.allow || got.why != want.why || got.rule != want.rule)
		fail_msg("%s %s %s %s %s: got %d %s rule %u, want %d %s rule %u", a->principal, a->service, a->method, a->path,
			 policy_assurance_name(a->assurance), got.allow, policy_why_text(got.why), got.rule, want.allow, policy_why_text(want.why), want.rule);
	compare_explained(p, &q, a, &got);
}

static void
one_policy(const struct shape *s, unsigned queries, unsigned reached[8])
{
	struct policy_rule *rules = mem_array(s->rules, sizeof(*rules));
	struct policy_input in = { rules, s->rules, services, SERVICES, seed, "00ff" };
	struct errs errs;
	struct buf image;
	struct policy p;
	const char *why = "";

	for (uint32_t i = 0; i < s->rules; i++)
		random_rule(&rules[i], i, s);
	errs_init(&errs);
	buf_init(&image, 0);
	if (policy_compile(&in, &image, &errs) < 0)
		fail_msg("compile: %s", errs.items[0].text);
	if (policy_open(&p, image.data, image.len, &why) < 0)
		fail_msg("open: %s", why);
	assert_int_equal(p.generation, in.generation);
	assert_int_equal(p.nrules, s->rules);
	assert_string_equal(policy_digest(&p), "00ff");
	for (unsigned i = 0; i < queries; i++) {
		struct asked a;
		bool tcp;
		size_t mark = npool;

		random_query(&a, &in, s);
		compare(&p, &in, &a);
		tcp = strcmp(a.service, "db") == 0 || strcmp(a.service, "queue") == 0;
		reached[ref_decide(&in, &a, tcp).why]++;
		while (npool > mark)
			mem_free(pool[--npool]);
	}
	buf_fini(&image);
	errs_fini(&errs);
	drop_all();
	mem_free(rules);
}

static void
test_reference(void **state)
{
	unsigned reached[8] = { 0 };

	(void)state;
	for (unsigned i = 0; i < 600; i++) {
		struct shape s;

		seed = 0x9e3779b97f4a7c15u * (i + 1);
		s.rules = i % 10 == 0 ? 200 : rnd(20) + 1;
		s.words = i % 7 == 0 ? 60 : rnd(6) + 2;
		s.stars = rnd(60);
		s.depth = rnd(4) + 1;
		one_policy(&s, 150, reached);
	}
	for (unsigned w = POLICY_OK; w <= POLICY_KIND; w++) /* or the test would prove little */
		assert_true(reached[w] > 1000);
}

/* Many rules for one principal and service: their tries have long lists of children. */
static void
test_popular(void **state)
{
	enum { N = 1000 };
	static const char *who[] = { "spiffe://hud.example/a" }, *where[] = { "web" };
	struct policy_rule *rules = mem_array(N, sizeof(*rules));
	struct policy_input in = { rules, N, services, SERVICES, 1, NULL };
	struct errs errs;
	struct buf image;
	struct policy p;
	const char *why;

	(void)state;
	for (uint32_t i = 0; i < N; i++) {
		const char **path = list(1);

		path[0] = keep(mem_printf(i % 3 == 0 ? "/v1/item-%u/*" : i % 3 == 1 ? "/v1/item-%u" : "/v1/it%u*", i));
		rules[i] = (struct policy_rule){ .name = keep(mem_printf("r%u", i)), .file = "f", .line = i + 1, .deny = i % 7 == 0,
			.principals = who, .nprincipals = 1, .services = where, .nservices = 1, .paths = path, .npaths = 1 };
	}
	errs_init(&errs);
	buf_init(&image, 0);
	assert_int_equal(policy_compile(&in, &image, &errs), 0);
	assert_int_equal(policy_open(&p, image.data, image.len, &why), 0);
	for (uint32_t i = 0; i < N + 10; i += 3) {
		for (int k = 0; k < 4; k++) {
			static const char *const forms[] = { "/v1/item-%u/x", "/v1/item-%u", "/v1/it%u", "/v1/it%u9/x" };
			char path[64];
			struct asked a = { who[0], "web", "GET", path, POLICY_MTLS };

			snprintf(path, sizeof(path), forms[k], i);
			compare(&p, &in, &a);
		}
	}
	buf_fini(&image);
	errs_fini(&errs);
	drop_all();
	mem_free(rules);
}

/* ---- examples ---- */

struct fixture {
	struct buf image;
	struct errs errs;
	struct policy p;
};

static void
build(struct fixture *f, const struct policy_rule *rules, size_t n)
{
	struct policy_input in = { rules, n, services, SERVICES, 42, "abc" };
	const char *why = "";

	errs_init(&f->errs);
	buf_init(&f->image, 0);
	if (policy_compile(&in, &f->image, &f->errs) < 0)
		fail_msg("compile: %s", f->errs.items[0].text);
	if (policy_open(&f->p, f->image.data, f->image.len, &why) < 0)
		fail_msg("open: %s", why);
}

static struct policy_verdict
ask(const struct fixture *f, const char *id, const char *service, const char *method, const char *path, enum policy_assurance a)
{
	struct policy_query q = { policy_principal(&f->p, id, strlen(id)), policy_service_id(&f->p, service), method,
		method ? strlen(method) : 0, path, path ? strlen(path) : 0, a };
	struct policy_verdict v;

	policy_decide(&f->p, &q, &v);
	return v;
}

static void
done(struct fixture *f)
{
	buf_fini(&f->image);
	errs_fini(&f->errs);
}

#define LIST(...) (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)
#define ALICE "spiffe://hud.example/alice"

static void
test_empty(void **state)
{
	struct fixture f;
	struct policy_verdict v;

	(void)state;
	build(&f, NULL, 0);
	v = ask(&f, ALICE, "web", "GET", "/", POLICY_MTLS);
	assert_false(v.allow);
	assert_int_equal(v.why, POLICY_NO_RULE);
	assert_int_equal(v.rule, POLICY_NO_ID);
	assert_int_equal(policy_service_id(&f.p, "nothing"), POLICY_NO_ID);
	done(&f);
}

/* Callers without a principal, and classes and services that are none. */
static void
test_nobody(void **state)
{
	const struct policy_rule rules[] = {
		{ "all", "f", 1, false, LIST("*"), LIST("web"), NULL, 0, NULL, 0, 1 << POLICY_NONE },
		{ "proven", "f", 2, false, LIST("*"), LIST("mail"), NULL, 0, NULL, 0, 0 },
	};
	struct policy_query q = { .principal = POLICY_NO_ID, .method = "GET", .method_len = 3, .path = "/", .path_len = 1 };
	struct policy_verdict v;
	struct fixture f;

	(void)state;
	build(&f, rules, 2);
	assert_true(ask(&f, "", "web", "GET", "/", POLICY_NONE).allow);
	assert_false(ask(&f, ALICE, "web", "GET", "/", POLICY_MTLS).allow);
	assert_int_equal(ask(&f, ALICE, "web", "GET", "/", POLICY_MTLS).why, POLICY_ASSURANCE);
	assert_true(ask(&f, ALICE, "mail", "GET", "/", POLICY_MTLS).allow);
	assert_false(ask(&f, "", "mail", "GET", "/", POLICY_NONE).allow);
	/* What is no class or service of this image is denied. */
	q.service = policy_service_id(&f.p, "web");
	q.assurance = POLICY_NONE;
	policy_decide(&f.p, &q, &v);
	assert_false(v.allow);
	q.principal = policy_principal(&f.p, "", 0);
	policy_decide(&f.p, &q, &v);
	assert_true(v.allow);
	q.service = SERVICES;
	policy_decide(&f.p, &q, &v);
	assert_false(v.allow);
	q.service = POLICY_NO_ID;
	policy_decide(&f.p, &q, &v);
	assert_false(v.allow);
	q.service = 0;
	q.assurance = POLICY_ASSURANCES;
	policy_decide(&f.p, &q, &v);
	assert_false(v.allow);
	done(&f);
}

static void
test_order(void **state)
{
	const struct policy_rule rules[] = {
		{ "read", "10.conf", 1, false, LIST("spiffe://hud.example/**"), LIST("web"), LIST("GET"), NULL, 0, 0 },
		{ "alice", "10.conf", 5, false, LIST(ALICE), LIST("*"), NULL, 0, NULL, 0, 1 << POLICY_UID | 1 << POLICY_MTLS },
		{ "no-admin", "20.conf", 2, true, LIST("*"), LIST("*"), NULL, 0, LIST("/admin/**"), 0 },
		{ "no-mail", "20.conf", 7, true, LIST("spiffe://hud.example/*"), LIST("mail"), NULL, 0, NULL, 0, 1 << POLICY_UID },
	};
	struct policy_rule_info info;
	struct fixture f;

	(void)state;
	build(&f, rules, 4);
	assert_int_equal(ask(&f, ALICE, "web", "GET", "/", POLICY_MTLS).rule, 0);
	assert_int_equal(ask(&f, ALICE, "web", "PUT", "/", POLICY_MTLS).rule, 1);
	assert_int_equal(ask(&f, ALICE, "db", NULL, NULL, POLICY_MTLS).rule, 1);
	assert_int_equal(ask(&f, ALICE, "web", "GET", "/admin", POLICY_MTLS).rule, 2);
	assert_int_equal(ask(&f, ALICE, "web", "GET", "/admin/x", POLICY_MTLS).why, POLICY_DENIED);
	assert_int_equal(ask(&f, ALICE, "web", "GET", "/administrator", POLICY_MTLS).why, POLICY_OK);
	assert_int_equal(ask(&f, ALICE, "mail", "GET", "/", POLICY_UID).rule, 3);
	assert_int_equal(ask(&f, ALICE, "mail", "GET", "/", POLICY_MTLS).rule, 1);
	assert_int_equal(ask(&f, "spiffe://hud.example/bob", "web", "PUT", "/", POLICY_MTLS).why, POLICY_METHOD);
	assert_int_equal(ask(&f, "spiffe://hud.example/bob", "db", NULL, NULL, POLICY_MTLS).why, POLICY_NO_RULE);
	assert_int_equal(ask(&f, "spiffe://irs.example/bob", "web", "GET", "/", POLICY_MTLS).why, POLICY_NO_RULE);
	policy_rule_info(&f.p, 3, &info);
	assert_string_equal(info.name, "no-mail");
	assert_string_equal(info.file, "20.conf");
	assert_int_equal(info.line, 7);
	assert_true(info.deny);
	done(&f);
}

/* case 88: what a service would decode before it routes is decoded before policy; the rule then sees the same bytes. */
static void
test_decoded_path(void **state)
{
	const struct policy_rule rules[] = {
		{ "all", "f", 1, false, LIST(ALICE), LIST("web"), NULL, 0, NULL, 0, 0 },
		{ "no-admin", "f", 2, true, LIST("*"), LIST("web"), NULL, 0, LIST("/admin/*", "/admin"), 0 },
	};
	struct fixture f;

	static const struct {
		const char *path;
		enum policy_why why;
	} cases[] = {
		{ "/admin", POLICY_DENIED }, { "/%61dmin", POLICY_DENIED }, { "/%61%64min/x", POLICY_DENIED }, { "/admin?a=/public", POLICY_DENIED },
		{ "/admin/x", POLICY_DENIED }, { "/admin/%78?y", POLICY_DENIED }, { "/public", POLICY_OK }, { "/public?/admin", POLICY_OK },
	};

	(void)state;
	build(&f, rules, 2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char path[64];
		uint32_t len;

		h1_path_normalize(path, cases[i].path, strlen(cases[i].path), &len);
		path[len] = '\0';
		assert_int_equal(ask(&f, ALICE, "web", "GET", path, POLICY_MTLS).why, cases[i].why);
	}
	done(&f);
}

/* A method with a NUL or of no length never equals a listed one. */
static void
test_odd_methods(void **state)
{
	const struct policy_rule rules[] = {
		{ "foo", "f", 1, false, LIST(ALICE), LIST("web"), LIST("FOO", "BREW"), NULL, 0, 0 },
	};
	struct policy_query q = { .assurance = POLICY_MTLS, .path = "/", .path_len = 1 };
	struct policy_verdict v;
	struct fixture f;

	(void)state;
	build(&f, rules, 1);
	q.principal = policy_principal(&f.p, ALICE, strlen(ALICE));
	q.service = policy_service_id(&f.p, "web");
	q.method = "FOO";
	for (q.method_len = 0; q.method_len <= 4; q.method_len++) {
		policy_decide(&f.p, &q, &v);
		assert_int_equal(v.allow, q.method_len == 3);
	}
	q.method = NULL;
	q.method_len = 0;
	policy_decide(&f.p, &q, &v);
	assert_int_equal(v.why, POLICY_METHOD);
	assert_true(ask(&f, ALICE, "web", "BREW", "/", POLICY_MTLS).allow);
	assert_false(ask(&f, ALICE, "web", "brew", "/", POLICY_MTLS).allow);
	done(&f);
}

static void
test_names(void **state)
{
	(void)state;
	for (int a = 0; a < POLICY_ASSURANCES; a++) {
		const char *name = policy_assurance_name((enum policy_assurance)a);

		assert_int_equal(policy_assurance_parse(name, strlen(name)), a);
	}
	assert_int_equal(policy_assurance_parse("MTLS", 4), -1);
	assert_int_equal(policy_assurance_parse("mtl", 3), -1);
	assert_int_equal(policy_assurance_parse("", 0), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference), cmocka_unit_test(test_popular), cmocka_unit_test(test_empty), cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_order), cmocka_unit_test(test_decoded_path), cmocka_unit_test(test_odd_methods), cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
