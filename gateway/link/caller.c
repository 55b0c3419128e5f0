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
	unsigned count;
	uint32_t *free_numbers;
	size_t nfree, free_cap;
	uint32_t next_number;
	void (*on_free)(void *ctx, struct caller *c);
	void *ctx;
};

struct caller_table *caller_table_new(void)
{
	struct caller_table *t = mem_zalloc(sizeof(*t));

	for (int i = 0; i < BUCKETS; i++)
		LIST_INIT(&t->bucket[i]);
	return t;
}

static void destroy(struct caller_table *t, struct caller *c)
{
	LIST_REMOVE(c, entry);
	t->count--;
	if (t->on_free)
		t->on_free(t->ctx, c);
	mem_grow(&t->free_numbers, &t->free_cap, t->nfree + 1, sizeof(*t->free_numbers));
	t->free_numbers[t->nfree++] = c->number;
	mem_free(c->id);
	mem_free(c->cert_text);
	mem_free(c->client_cert);
	mem_free(c->client_cert_chain);
	mem_free(c);
}

void caller_table_free(struct caller_table *t)
{
	struct caller *c;

	if (!t)
		return;
	t->on_free = NULL;
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
	c->not_after = INT64_MAX;
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

static void chain_key(uint8_t key[32], const struct svid_der *chain, size_t n, int peer)
{
	uint8_t tag[8] = { 'c', 0, (uint8_t)peer, (uint8_t)((unsigned)peer >> 8) };
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

	chain_key(key, chain, n, peer);
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

struct caller *caller_get_mtls(struct caller_table *t, const struct svid_info *info, const struct svid_der *chain, size_t n, int peer)
{
	uint8_t key[32];
	struct caller *c;
	char hex[64];
	size_t need = 1, at = 0;

	chain_key(key, chain, n, peer);
	c = find_chain(t, key);
	if (c)
		return caller_ref(c);
	c = add(t, hash_bytes(key, 32), info->id, strlen(info->id), POLICY_MTLS, peer);
	memcpy(c->key, key, 32);
	c->not_after = info->not_after;
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
	return c;
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
