/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decision costs, and what it takes to compile and open the policy, with 10 to 100,000 rules.
 * Principals are exact ids, 1 rule in 10 has a path pattern; every query goes to a random rule's principal
 * and service, so that large policies run from cold caches. "wide" adds patterns and rules for anybody.
 *
 *   bench_policy [rules …]        default: 10 1000 100000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "gateway/base/mem.h"
#include "policy/policy.h"

#define QUERIES (1u << 20)
#define SERVICES 200

struct bench {
	struct policy_rule *rules;
	size_t nrules;
	char **ids;
	size_t nids;
	struct policy_service services[SERVICES];
	struct policy_query *queries;
	uint32_t *query_ids;
};

static uint64_t seed = 88172645463325252u;

static uint32_t
rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 16) % n);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *const *
one(const char *s)
{
	const char **list = mem_alloc(sizeof(*list));

	*list = s;
	return list;
}

/* Everything lives until the program ends. */
static void
make(struct bench *b, size_t nrules, bool wide)
{
	static const char *const verbs[] = { "GET", "POST", "PUT", "DELETE" };

	memset(b, 0, sizeof(*b));
	b->nids = nrules > 10 ? nrules / 10 : 1;
	b->ids = mem_array(b->nids, sizeof(*b->ids));
	for (size_t i = 0; i < b->nids; i++)
		b->ids[i] = mem_printf("spiffe://hud.example/ns/team-%zu/sa/workload-%zu", i % 300, i);
	for (size_t i = 0; i < SERVICES; i++)
		b->services[i].name = mem_printf("service-%zu", i);
	b->rules = mem_array(nrules, sizeof(*b->rules));
	b->nrules = nrules;
	for (size_t i = 0; i < nrules; i++) {
		struct policy_rule *r = &b->rules[i];

		r->name = mem_printf("rule-%zu", i);
		r->file = "policy.d/10-bench.conf";
		r->line = (unsigned)i + 1;
		r->principals = one(b->ids[rnd((uint32_t)b->nids)]);
		r->services = one(b->services[rnd(SERVICES)].name);
		r->nprincipals = r->nservices = 1;
		if (i % 3 == 0) {
			r->methods = one(verbs[rnd(4)]);
			r->nmethods = 1;
		}
		if (i % 10 == 0) {
			r->paths = one(mem_printf("/v%u/resource-%u/*", rnd(3), rnd(50)));
			r->npaths = 1;
		}
		if (wide && i % 100 == 1) {
			r->deny = i % 200 == 1;
			r->principals = one(mem_printf(i % 300 == 1 ? "spiffe://hud.example/ns/team-%u/**" : "spiffe://hud.example/ns/team-%u/sa/*", rnd(100)));
		}
		if (wide && i % 1000 == 2) {
			r->principals = one("*");
			r->deny = true;
			r->paths = one(mem_printf("/admin-%u/**", rnd(50)));
			r->npaths = 1;
		}
	}
}

static void
make_queries(struct bench *b, const struct policy *p)
{
	b->queries = mem_array(QUERIES, sizeof(*b->queries));
	b->query_ids = mem_array(QUERIES, sizeof(*b->query_ids));
	for (size_t i = 0; i < QUERIES; i++) {
		const struct policy_rule *r = &b->rules[rnd((uint32_t)b->nrules)];
		struct policy_query *q = &b->queries[i];

		static char paths[1024][64];
		char *path = paths[i % 1024];

		if (i < 1024)
			snprintf(path, sizeof(paths[0]), "/v%u/resource-%u/item-%u", rnd(3), rnd(50), rnd(100000));
		b->query_ids[i] = rnd((uint32_t)b->nids);
		q->principal = policy_principal(p, r->principals[0], strlen(r->principals[0]));
		q->service = policy_service_id(p, r->services[0]);
		q->method = i % 4 ? "GET" : "DELETE";
		q->method_len = strlen(q->method);
		q->path = path;
		q->path_len = strlen(path);
		q->assurance = POLICY_MTLS;
	}
}

static void
run(size_t nrules, bool wide)
{
	struct bench b;
	struct errs errs;
	struct buf image;
	struct policy p;
	struct policy_input in;
	struct policy_verdict v;
	const char *why;
	double t, compile = 1e9, open = 1e9, decide = 1e9, lookup = 1e9;
	size_t allowed = 0;
	uint32_t sum = 0;

	make(&b, nrules, wide);
	in = (struct policy_input){ b.rules, b.nrules, b.services, SERVICES, 1, "" };
	errs_init(&errs);
	for (int i = 0; i < 5; i++) {
		buf_init(&image, 0);
		t = now();
		if (policy_compile(&in, &image, &errs) < 0) {
			fprintf(stderr, "%s\n", errs.items[0].text);
			exit(1);
		}
		t = now() - t;
		compile = t < compile ? t : compile;
		if (i < 4)
			buf_fini(&image);
	}
	for (int i = 0; i < 5; i++) {
		t = now();
		if (policy_open(&p, image.data, image.len, &why) < 0) {
			fprintf(stderr, "open: %s\n", why);
			exit(1);
		}
		t = now() - t;
		open = t < open ? t : open;
	}
	make_queries(&b, &p);
	for (int round = 0; round < 5; round++) {
		allowed = 0;
		t = now();
		for (size_t i = 0; i < QUERIES; i++) {
			policy_decide(&p, &b.queries[i], &v);
			allowed += v.allow;
		}
		t = now() - t;
		decide = t < decide ? t : decide;
		t = now();
		for (size_t i = 0; i < QUERIES; i++)
			sum += policy_principal(&p, b.ids[b.query_ids[i]], strlen(b.ids[b.query_ids[i]]));
		t = now() - t;
		lookup = t < lookup ? t : lookup;
	}
	printf("%-5s %8zu rules  decide %4.0f ns  principal %4.0f ns  compile %6.1f ms  open %5.2f ms  image %8zu bytes  allowed %.0f%%\n",
	       wide ? "wide" : "exact", nrules, decide / QUERIES * 1e9, lookup / QUERIES * 1e9, compile * 1e3, open * 1e3, image.len,
	       100.0 * (double)allowed / QUERIES);
	if (sum == 1) /* keep the loop */
		printf("\n");
	buf_fini(&image);
	errs_fini(&errs);
}

int
main(int argc, char **argv)
{
	static const size_t sizes[] = { 10, 1000, 100000 };
	struct rusage use;

	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			run((size_t)strtoul(argv[i], NULL, 10), false);
		return 0;
	}
	for (size_t i = 0; i < 3; i++) {
		run(sizes[i], false);
		run(sizes[i], true);
	}
	getrusage(RUSAGE_SELF, &use);
	printf("peak memory %ld MiB\n", use.ru_maxrss / 1024);
	return 0;
}
