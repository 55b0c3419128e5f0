/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decision: the class gives selectors (an exact id, a few patterns, anybody); each selector has an
 * entry for the service and one for every service. What the entries say is tallied: the first deny rule
 * that matches, the first allow rule that matches, and the nearest allow rule that does not.
 */
#include <stdbool.h>

#include "policy/image.h"
#include "policy/method.h"
#include "policy/policy.h"
#include "policy/sets.h"
#include "policy/trie.h"

/* How near an allow rule came, nearest first: each got past the checks that stand behind it here. */
enum near { NEAR_ASSURANCE, NEAR_METHOD, NEAR_PATH, NEAR_KIND, NEAR_NOTHING };

static const enum policy_why near_why[] = {
	[NEAR_ASSURANCE] = POLICY_ASSURANCE, [NEAR_METHOD] = POLICY_METHOD, [NEAR_PATH] = POLICY_PATH,
	[NEAR_KIND] = POLICY_KIND, [NEAR_NOTHING] = POLICY_NO_RULE,
};

struct tally {
	const struct policy *p;
	const struct policy_query *q;
	uint32_t assurance_bit, method_bit;
	bool tcp;
	enum near near;
	uint32_t deny, allow, near_rule;       /* the lowest rule number of each, or POLICY_NO_ID */
	const uint32_t *starts;                /* of the ACL that is being looked at */
};

static uint32_t
min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void
miss(struct tally *t, enum near near, uint32_t rule)
{
	if (near < t->near || (near == t->near && rule < t->near_rule)) {
		t->near = near;
		t->near_rule = rule;
	}
}

/* Rare: a method that is none of the known ones, against a rule that lists such. */
static bool
other_method(const struct tally *t, uint32_t rule)
{
	const struct image_rule *r = (const struct image_rule *)t->p->priv[PRIV_RULES] + rule;
	const char *strings = t->p->priv[PRIV_STRINGS];
	const uint32_t *list;

	if (r->methods == IMAGE_NONE)
		return false;
	list = (const uint32_t *)image_section(t->p, IMAGE_LISTS) + r->methods;
	for (uint32_t i = 0; i < min(list[0], METHODS_MAX); i++) {
		const char *s = strings + list[i + 1];

		if (strlen(s) == t->q->method_len && memcmp(s, t->q->method, t->q->method_len) == 0)
			return true;
	}
	return false;
}

/* All but the path. */
static inline enum near
test(const struct tally *t, uint32_t cond, uint32_t rule)
{
	if (t->tcp) {
		if (!(cond & COND_ANY_METHOD) || cond & COND_PATHS)
			return NEAR_KIND;
	} else if (!(cond & (COND_ANY_METHOD | t->method_bit))) {
		if (t->method_bit || !(cond & COND_OTHER_METHODS) || !t->q->method || !other_method(t, rule))
			return NEAR_METHOD;
	}
	return cond & t->assurance_bit ? NEAR_NOTHING : NEAR_ASSURANCE;
}

/* True when later tests of the group cannot change the verdict. */
static inline bool
apply(struct tally *t, uint32_t cond, uint32_t rule)
{
	enum near missed = test(t, cond, rule);

	if (missed == NEAR_NOTHING) {
		if (cond & COND_DENY)
			t->deny = min(t->deny, rule);
		else
			t->allow = min(t->allow, rule);
		return true;
	}
	if (!(cond & COND_DENY))
		miss(t, missed, rule);
	return false;
}

static void
apply_group(struct tally *t, const uint32_t *starts, uint32_t npaths, uint32_t group)
{
	const uint32_t *tests = starts + npaths + 2;

	for (uint32_t i = starts[group]; i < starts[group + 1]; i++)
		if (apply(t, tests[i * 2], tests[i * 2 + 1]))
			return;
}

static void
on_path(void *arg, uint32_t pattern)
{
	struct tally *t = arg;

	/* The number of paths stands right before the starts. */
	apply_group(t, t->starts, t->starts[-1], pattern + 1);
}

static void
apply_acl(struct tally *t, const uint32_t *acl)
{
	const struct image_trie *tries = t->p->priv[PRIV_TRIES];
	struct trie trie = { t->p->priv[PRIV_NODES], t->p->priv[PRIV_STRINGS] };
	const struct policy_query *q = t->q;
	uint32_t npaths = acl[ACL_NPATHS], first = acl[ACL_FIRST_ALLOW];

	t->starts = acl + ACL_STARTS;
	apply_group(t, t->starts, npaths, 0);
	if (npaths == 0)
		return;
	if (!t->tcp && q->path && q->path_len && q->path[0] == '/') {
		trie.nodes += tries[acl[ACL_TRIE]].first;
		trie_walk(&trie, q->path + 1, q->path_len - 1, on_path, t);
	}
	/* Allow rules that take the path are nearer already; without one, the first is as near as the others. */
	if (first != IMAGE_NONE)
		miss(t, t->tcp ? NEAR_KIND : NEAR_PATH, first);
}

static inline void
apply_entry(struct tally *t, const struct image_entry *e)
{
	if (e->a & ENTRY_ACL)
		apply_acl(t, (const uint32_t *)t->p->priv[PRIV_ACLS] + e->b);
	else if (e->a)
		apply(t, e->a, e->b);
}

static void
apply_sel(struct tally *t, uint32_t sel, uint32_t slots)
{
	const struct image_sel *s = (const struct image_sel *)t->p->priv[PRIV_SELS] + sel;
	const struct image_slot *table = t->p->priv[PRIV_SLOTS];
	uint32_t at = image_slot_hash(sel, t->q->service);

	__builtin_prefetch(&table[at & (slots - 1)]);
	apply_entry(t, &s->any);
	if (s->nservices == 0)
		return;
	for (uint32_t i = 0; i < slots; i++, at++) {
		const struct image_slot *slot = &table[at & (slots - 1)];

		if (slot->sel == IMAGE_NONE)
			return;
		if (slot->sel == sel && slot->service == t->q->service) {
			apply_entry(t, &slot->entry);
			return;
		}
	}
}

void
policy_decide(const struct policy *p, const struct policy_query *q, struct policy_verdict *v)
{
	const struct image_header *h = image_header(p);
	const struct image_sel *sels = p->priv[PRIV_SELS];
	const uint32_t *set_start = image_section(p, IMAGE_SET_START), *set_items = image_section(p, IMAGE_SET_ITEMS);
	uint32_t slots = h->section[IMAGE_SLOTS].n, set = 0;
	struct tally t = {
		.p = p, .q = q, .near = NEAR_NOTHING, .deny = POLICY_NO_ID, .allow = POLICY_NO_ID, .near_rule = POLICY_NO_ID,
	};

	*v = (struct policy_verdict){ false, POLICY_NO_RULE, POLICY_NO_ID };
	if (q->service >= p->nservices || (unsigned)q->assurance >= POLICY_ASSURANCES)
		return;
	t.tcp = ((const struct image_service *)p->priv[PRIV_SERVICES])[q->service].tcp;
	t.assurance_bit = 1u << q->assurance << COND_ASSURANCE_SHIFT;
	t.method_bit = q->method ? method_bit(q->method, q->method_len) : 0;

	if (q->principal < h->nexact) {
		set = sels[q->principal].set;
		apply_sel(&t, q->principal, slots);
	} else {
		set = q->principal - h->nexact;
		if (set >= h->section[IMAGE_SET_START].n - 1)
			return; /* no class of this image */
	}
	for (uint32_t i = set_start[set]; i < set_start[set + 1]; i++)
		apply_sel(&t, h->nexact + set_items[i], slots);
	apply_sel(&t, h->nexact + h->npatterns, slots);

	if (t.deny != POLICY_NO_ID)
		*v = (struct policy_verdict){ false, POLICY_DENIED, t.deny };
	else if (t.allow != POLICY_NO_ID)
		*v = (struct policy_verdict){ true, POLICY_OK, t.allow };
	else
		*v = (struct policy_verdict){ false, near_why[t.near], t.near_rule };
}

/* ---- looking up ---- */

static uint32_t
find_set(const struct policy *p, const struct sets_match *m)
{
	const uint32_t *table = image_section(p, IMAGE_SET_HASH), *start = image_section(p, IMAGE_SET_START);
	const uint32_t *items = image_section(p, IMAGE_SET_ITEMS);
	uint32_t n = image_count(p, IMAGE_SET_HASH), at = image_hash(m->pattern, m->n * sizeof(*m->pattern));

	for (uint32_t i = 0; i < n; i++, at++) {
		uint32_t set = table[at & (n - 1)];

		if (set == IMAGE_NONE)
			break;
		if (start[set + 1] - start[set] == m->n && memcmp(items + start[set], m->pattern, m->n * sizeof(*m->pattern)) == 0)
			return set;
	}
	return IMAGE_NONE;
}

uint32_t
policy_principal(const struct policy *p, const char *id, size_t len)
{
	const struct image_header *h = image_header(p);
	const struct image_id *ids = image_section(p, IMAGE_ID_HASH);
	const struct image_sel *sels = p->priv[PRIV_SELS];
	const char *strings = p->priv[PRIV_STRINGS];
	uint32_t n = image_count(p, IMAGE_ID_HASH), hash, set;
	struct trie trie = { p->priv[PRIV_NODES], strings };
	struct sets_match m;

	if (len <= PATTERN_SCHEME_LEN || memcmp(id, PATTERN_SCHEME, PATTERN_SCHEME_LEN) != 0)
		return h->nexact; /* nobody: set 0 */
	hash = image_hash(id, len);
	for (uint32_t i = 0; i < n; i++) {
		const struct image_id *e = &ids[(hash + i) & (n - 1)];

		if (e->sel == IMAGE_NONE)
			break;
		if (e->hash == hash && sels[e->sel].len == len && memcmp(strings + sels[e->sel].text, id, len) == 0)
			return e->sel;
	}
	if (h->npatterns == 0)
		return h->nexact;
	sets_match(&m, &trie, id + PATTERN_SCHEME_LEN, len - PATTERN_SCHEME_LEN);
	/* policy_compile() found every set; only a forged image has an id without one. */
	set = find_set(p, &m);
	return set == IMAGE_NONE ? POLICY_NO_ID : h->nexact + set;
}

uint32_t
policy_service_id(const struct policy *p, const char *name)
{
	const uint32_t *table = image_section(p, IMAGE_SERVICE_HASH);
	const struct image_service *services = p->priv[PRIV_SERVICES];
	uint32_t n = image_count(p, IMAGE_SERVICE_HASH), at = image_hash(name, strlen(name));

	for (uint32_t i = 0; i < n; i++, at++) {
		uint32_t s = table[at & (n - 1)];

		if (s == IMAGE_NONE)
			break;
		if (strcmp((const char *)p->priv[PRIV_STRINGS] + services[s].name, name) == 0)
			return s;
	}
	return POLICY_NO_ID;
}

const char *
policy_digest(const struct policy *p)
{
	return (const char *)p->priv[PRIV_STRINGS] + image_header(p)->digest;
}

void
policy_rule_info(const struct policy *p, uint32_t rule, struct policy_rule_info *out)
{
	const struct image_rule *r = (const struct image_rule *)p->priv[PRIV_RULES] + rule;
	const char *strings = p->priv[PRIV_STRINGS];

	*out = (struct policy_rule_info){ strings + r->name, strings + r->file, r->line, (r->cond & COND_DENY) != 0 };
}

/* ---- names ---- */

static const char *const assurance_names[POLICY_ASSURANCES] = { "none", "address", "uid", "mtls" };

const char *
policy_assurance_name(enum policy_assurance a)
{
	return (unsigned)a < POLICY_ASSURANCES ? assurance_names[a] : "?";
}

int
policy_assurance_parse(const char *s, size_t n)
{
	for (int i = 0; i < POLICY_ASSURANCES; i++)
		if (strlen(assurance_names[i]) == n && memcmp(assurance_names[i], s, n) == 0)
			return i;
	return -1;
}

const char *
policy_why_text(enum policy_why w)
{
	static const char *const texts[] = {
		[POLICY_OK] = "allowed",
		[POLICY_DENIED] = "denied-by-rule",
		[POLICY_NO_RULE] = "no-rule",
		[POLICY_METHOD] = "method-not-allowed",
		[POLICY_PATH] = "path-not-allowed",
		[POLICY_ASSURANCE] = "assurance-not-allowed",
		[POLICY_KIND] = "rule-is-for-http",
	};

	return (unsigned)w < sizeof(texts) / sizeof(*texts) ? texts[w] : "?";
}
