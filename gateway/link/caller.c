/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/link/caller.h"

#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "pki/digest.h"

#define BUCKETS 4096

LIST_HEAD(caller_list, caller);

struct caller_table {
	struct caller_list bucket[BUCKETS];
	struct caller_list ids[BUCKETS]; /* mtls callers by id */
	unsigned count;
	uint32_t trust;
	int64_t skew_s;
	uint32_t *free_numbers;
	size_t nfree, free_cap;
	uint32_t next_number;
	void (*on_free)(void *ctx, struct caller *c);
	void *ctx;
};

struct caller_table *caller_table_new(void)
{
	struct caller_table *t = mem_zalloc(sizeof(*t));

	for (int i = 0; i < BUCKETS; i++) {
		LIST_INIT(&t->bucket[i]);
		LIST_INIT(&t->ids[i]);
	}
	t->trust = 1;
	return t;
}

void caller_table_skew(struct caller_table *t, int64_t seconds)
{
	t->skew_s = seconds;
}

static void destroy(struct caller_table *t, struct caller *c)
{
	LIST_REMOVE(c, entry);
	if (c->assurance == POLICY_MTLS)
		LIST_REMOVE(c, same_id);
	t->count--;
	if (t->on_free)
		t->on_free(t->ctx, c);
	mem_grow(&t->free_numbers, &t->free_cap, t->nfree + 1, sizeof(*t->free_numbers));
	t->free_numbers[t->nfree++] = c->number;
	mem_free(c->id);
	mem_free(c->cert_text);
	mem_free(c->client_cert);
	mem_free(c->client_cert_chain);
	caller_unref(t, c->newer);
	mem_free(c);
}

void caller_table_free(struct caller_table *t)
{
	struct caller *c;

	if (!t)
		return;
	t->on_free = NULL;
	for (int i = 0; i < BUCKETS; i++)
		LIST_FOREACH(c, &t->bucket[i], entry)
			c->newer = NULL;
	for (int i = 0; i < BUCKETS; i++)
		while ((c = LIST_FIRST(&t->bucket[i])))
			destroy(t, c);
	mem_free(t->free_numbers);
	mem_free(t);
}

void caller_table_on_free(struct caller_table *t, void (*fn)(void *ctx, struct caller *c), void *ctx)
{
	t->on_free = fn;
	t->ctx = ctx;
}

unsigned caller_table_count(const struct caller_table *t)
{
	return t->count;
}

/* By id alone: this is asked for each exchange whose caller a peer only names. */
static struct caller *find_id(struct caller_table *t, const char *id, size_t len, enum policy_assurance a, int peer)
{
	struct caller *c;

	LIST_FOREACH(c, &t->bucket[hash_bytes(id, len) % BUCKETS], entry)
		if (c->assurance == a && c->peer == peer && c->id_len == len && memcmp(c->id, id, len) == 0)
			return c;
	return NULL;
}

static struct caller *find_chain(struct caller_table *t, const uint8_t key[32])
{
	struct caller *c;

	LIST_FOREACH(c, &t->bucket[hash_bytes(key, 32) % BUCKETS], entry)
		if (c->assurance == POLICY_MTLS && memcmp(c->key, key, 32) == 0)
			return c;
	return NULL;
}

static struct caller *add(struct caller_table *t, uint64_t bucket, const char *id, size_t len,
    enum policy_assurance a, int peer)
{
	struct caller *c = mem_zalloc(sizeof(*c));

	c->refs = 1;
	c->number = t->nfree ? t->free_numbers[--t->nfree] : t->next_number++;
	c->assurance = a;
	c->id = mem_strndup(id, len);
	c->id_len = len;
	c->peer = peer;
	c->not_after = c->good_until = INT64_MAX;
	LIST_INIT(&c->connections);
	c->policy_generation = UINT64_MAX;
	LIST_INSERT_HEAD(&t->bucket[bucket % BUCKETS], c, entry);
	t->count++;
	return c;
}

struct caller *caller_get(struct caller_table *t, const char *id, size_t len, enum policy_assurance a, int peer)
{
	struct caller *c = find_id(t, id, len, a, peer);

	return c ? caller_ref(c) : add(t, hash_bytes(id, len), id, len, a, peer);
}

static void chain_key(uint8_t key[32], const struct svid_der *chain, size_t n, int peer, bool server)
{
	uint8_t tag[8] = { 'c', server, (uint8_t)peer, (uint8_t)((unsigned)peer >> 8) };
	struct digest_run *d = digest_begin();

	digest_update(d, tag, sizeof(tag));
	for (size_t i = 0; i < n; i++) {
		uint32_t len = (uint32_t)chain[i].len;

		digest_update(d, &len, sizeof(len));
		digest_update(d, chain[i].p, chain[i].len);
	}
	digest_final(d, key);
}

struct caller *caller_find_chain(struct caller_table *t, const struct svid_der *chain, size_t n, int peer)
{
	uint8_t key[32];
	struct caller *c;

	chain_key(key, chain, n, peer, false);
	c = find_chain(t, key);
	return c ? caller_ref(c) : NULL;
}

/* RFC 8941 3.3.5: a Byte Sequence is base64 between colons. */
static size_t put_bytes(char *out, const struct svid_der *d)
{
	size_t n;

	out[0] = ':';
	n = esc_base64(out + 1, d->p, d->len);
	out[n + 1] = ':';
	return n + 2;
}

/* It is there before it is needed: whoever has something running under an older certificate keeps it. */
static void announce(struct caller_table *t, struct caller *c)
{
	struct caller *o = NULL;

	while ((o = caller_of_id(t, c->id, c->id_len, o)))
		if (o->not_after < c->not_after && caller_used(o) && (!c->server || !o->active))
			caller_follow(t, o, c);
}

struct caller *caller_get_mtls(struct caller_table *t, const struct svid_info *info, const struct svid_der *chain, size_t n, int peer)
{
	return caller_get_far(t, info, chain, n, peer, false);
}

struct caller *caller_get_far(struct caller_table *t, const struct svid_info *info, const struct svid_der *chain, size_t n, int peer, bool server)
{
	uint8_t key[32];
	struct caller *c;
	char hex[64];
	size_t need = 1, at = 0;

	chain_key(key, chain, n, peer, server);
	c = find_chain(t, key);
	if (c)
		return caller_ref(c);
	c = add(t, hash_bytes(key, 32), info->id, strlen(info->id), POLICY_MTLS, peer);
	memcpy(c->key, key, 32);
	c->server = server;
	c->not_before = info->not_before;
	caller_judged(t, c, NULL, info->not_after);
	LIST_INSERT_HEAD(&t->ids[hash_bytes(c->id, c->id_len) % BUCKETS], c, same_id);
	esc_hex(hex, info->sha256, 32);
	c->cert_text = mem_printf("serial=%s sha256=%.64s", info->serial, hex);
	c->client_cert = mem_alloc(esc_base64_size(chain[0].len) + 3);
	c->client_cert_len = put_bytes(c->client_cert, &chain[0]);
	for (size_t i = 1; i < n; i++)
		need += esc_base64_size(chain[i].len) + 4;
	c->client_cert_chain = mem_alloc(need);
	for (size_t i = 1; i < n; i++) {
		if (i > 1) {
			memcpy(c->client_cert_chain + at, ", ", 2);
			at += 2;
		}
		at += put_bytes(c->client_cert_chain + at, &chain[i]);
	}
	c->client_cert_chain_len = at;
	announce(t, c);
	return c;
}

/* ---- judged again ---- */

void caller_table_distrust(struct caller_table *t)
{
	struct caller *c;

	t->trust++;
	for (int i = 0; i < BUCKETS; i++)
		LIST_FOREACH(c, &t->ids[i], same_id)
			c->good_until = INT64_MIN;
}

uint32_t caller_table_trust(const struct caller_table *t)
{
	return t->trust;
}

void caller_doubt(struct caller *c)
{
	c->trust = 0;
	c->good_until = INT64_MIN;
}

void caller_judged(struct caller_table *t, struct caller *c, const char *refusal, int64_t until)
{
	c->trust = t->trust;
	c->refusal = refusal;
	c->not_after = until;
	c->good_until = refusal ? INT64_MIN : until > INT64_MAX - t->skew_s ? INT64_MAX : until + t->skew_s;
}

bool caller_used(const struct caller *c)
{
	return c->active || c->links || !LIST_EMPTY(&c->connections);
}

struct caller *caller_of_id(struct caller_table *t, const char *id, size_t len, const struct caller *after)
{
	struct caller *c = after ? LIST_NEXT(after, same_id) : LIST_FIRST(&t->ids[hash_bytes(id, len) % BUCKETS]);

	while (c && (c->id_len != len || memcmp(c->id, id, len) != 0))
		c = LIST_NEXT(c, same_id);
	return c;
}

void caller_follow(struct caller_table *t, struct caller *c, struct caller *newer)
{
	if (newer == c || newer->newer == c || newer->not_after <= c->not_after || (c->newer && c->newer->not_after >= newer->not_after))
		return;
	caller_unref(t, c->newer);
	c->newer = caller_ref(newer);
}

void caller_unfollow(struct caller_table *t, struct caller *c)
{
	struct caller *newer = c->newer;

	c->newer = NULL;
	caller_unref(t, newer);
}

void caller_table_visit(struct caller_table *t, unsigned *cursor, unsigned max, void (*fn)(void *ctx, struct caller *c), void *ctx)
{
	unsigned seen = 0;

	for (; *cursor < BUCKETS && seen < max; (*cursor)++) {
		struct caller *c = LIST_FIRST(&t->ids[*cursor]), *next;

		if (c)
			caller_ref(c);
		for (; c; c = next, seen++) {
			fn(ctx, c);
			next = LIST_NEXT(c, same_id); /* now, as c is still in the list */
			if (next)
				caller_ref(next);
			caller_unref(t, c);
		}
	}
	if (*cursor == BUCKETS)
		*cursor = 0;
}

size_t caller_chain(const struct caller *c, uint8_t *mem, struct svid_der out[SVID_MAX_CHAIN])
{
	int n = caller_parse_cert(c->client_cert, c->client_cert_len, c->client_cert_chain, c->client_cert_chain_len, mem, SVID_MAX_BYTES, out,
	    SVID_MAX_CHAIN);

	return n > 0 ? (size_t)n : 0;
}

struct caller *caller_ref(struct caller *c)
{
	c->refs++;
	return c;
}

void caller_unref(struct caller_table *t, struct caller *c)
{
	if (c && --c->refs == 0)
		destroy(t, c);
}

uint32_t caller_class(struct caller *c, const struct policy *p)
{
	if (c->policy_generation != p->generation) {
		c->policy_class = policy_principal(p, c->id, c->id_len);
		c->policy_generation = p->generation;
	}
	return c->policy_class;
}

void caller_cancelled(struct caller *c, uint64_t now_ms)
{
	if (c->cancel_second != now_ms / 1000) {
		c->cancel_second = now_ms / 1000;
		c->cancels = 0;
	}
	c->cancels++;
}

bool caller_over(const struct caller *c, uint64_t now_ms, uint32_t max)
{
	return c->cancel_second == now_ms / 1000 && c->cancels >= max;
}

static int parse_bytes(const char **s, const char *end, uint8_t **mem, size_t *cap, struct svid_der *out)
{
	const char *p = *s, *q;
	long n;

	if (p == end || *p != ':')
		return -1;
	q = memchr(p + 1, ':', (size_t)(end - p - 1));
	if (!q || (size_t)(q - p - 1) / 4 * 3 > *cap)
		return -1;
	n = esc_unbase64(*mem, p + 1, (size_t)(q - p - 1));
	if (n <= 0)
		return -1;
	out->p = *mem;
	out->len = (size_t)n;
	*mem += n;
	*cap -= (size_t)n;
	*s = q + 1;
	return 0;
}

int caller_parse_cert(const char *cert, size_t cert_len, const char *chain, size_t chain_len, uint8_t *mem, size_t cap,
    struct svid_der *out, size_t max)
{
	const char *p = cert, *end = cert + cert_len;
	int n = 1;

	if (max == 0 || parse_bytes(&p, end, &mem, &cap, &out[0]) != 0 || p != end)
		return -1;
	p = chain;
	end = chain + chain_len;
	while (p != end) {
		if ((size_t)n == max || parse_bytes(&p, end, &mem, &cap, &out[n]) != 0)
			return -1;
		n++;
		/* RFC 8941 3.1: members are separated by a comma with optional white space; none may follow the last. */
		if (p == end)
			break;
		while (p != end && (*p == ' ' || *p == '\t'))
			p++;
		if (p == end || *p++ != ',')
			return -1;
		while (p != end && (*p == ' ' || *p == '\t'))
			p++;
		if (p == end)
			return -1;
	}
	return n;
}
