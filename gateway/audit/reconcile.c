/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/reconcile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/audit/verify.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"

#define SAMPLES 100000

enum direction { NOT_KNOWN, OUT, IN };

/* Texts are interned: equal text, equal pointer. NULL: absent. Still escaped. */
struct side {
	bool present, opened, ended, denied;
	uint8_t direction;
	uint64_t seq, start_us, end_us;
	const char *principal, *host, *method, *reason, *gateway;
	uint64_t status, bytes_in, bytes_out;
};

struct pair {
	struct uuid exchange;
	uint32_t attempt;
	struct side side[2];
};

struct table {
	struct pair *pair;
	size_t n, cap;
	uint32_t *slot;            /* index + 1; 0: free */
	size_t mask;
	char **text;               /* intern set, open addressing */
	size_t texts, text_mask;
	int at;                    /* the side being read */
	int sidecar;               /* whose book has its gateway's ids in uplink_exchange; -1: neither */
};

static uint64_t pair_hash(const struct uuid *id, uint32_t attempt)
{
	uint8_t key[20];

	memcpy(key, id->b, 16);
	memcpy(key + 16, &attempt, 4);
	return hash_bytes(key, sizeof(key));
}

static void rehash(struct table *t)
{
	t->mask = t->mask ? t->mask * 2 + 1 : 4095;
	mem_free(t->slot);
	t->slot = mem_array(t->mask + 1, sizeof(*t->slot));
	for (size_t i = 0; i < t->n; i++) {
		size_t h = pair_hash(&t->pair[i].exchange, t->pair[i].attempt) & t->mask;
		while (t->slot[h])
			h = (h + 1) & t->mask;
		t->slot[h] = (uint32_t)i + 1;
	}
}

static struct pair *lookup(struct table *t, const struct uuid *id, uint32_t attempt)
{
	if (t->n * 2 >= t->mask)
		rehash(t);
	size_t h = pair_hash(id, attempt) & t->mask;
	for (; t->slot[h]; h = (h + 1) & t->mask) {
		struct pair *p = &t->pair[t->slot[h] - 1];
		if (p->attempt == attempt && memcmp(&p->exchange, id, sizeof(*id)) == 0)
			return p;
	}
	mem_grow(&t->pair, &t->cap, t->n + 1, sizeof(*t->pair));
	struct pair *p = &t->pair[t->n++];
	memset(p, 0, sizeof(*p));
	p->exchange = *id;
	p->attempt = attempt;
	t->slot[h] = (uint32_t)t->n;
	return p;
}

static const char *intern(struct table *t, const char *s, size_t n)
{
	if (t->texts * 2 >= t->text_mask) {
		size_t mask = t->text_mask ? t->text_mask * 2 + 1 : 1023;
		char **text = mem_array(mask + 1, sizeof(*text));
		for (size_t i = 0; t->text && i <= t->text_mask; i++) {
			if (!t->text[i])
				continue;
			size_t h = hash_bytes(t->text[i], strlen(t->text[i])) & mask;
			while (text[h])
				h = (h + 1) & mask;
			text[h] = t->text[i];
		}
		mem_free(t->text);
		t->text = text;
		t->text_mask = mask;
	}
	size_t h = hash_bytes(s, n) & t->text_mask;
	while (t->text[h] && (strlen(t->text[h]) != n || memcmp(t->text[h], s, n) != 0))
		h = (h + 1) & t->text_mask;
	if (!t->text[h]) {
		t->text[h] = mem_strndup(s, n);
		t->texts++;
	}
	return t->text[h];
}

static void take(struct table *t, const char **to, const struct parse_record *r, enum audit_field f)
{
	if (r->present >> f & 1)
		*to = intern(t, r->f[f].p, r->f[f].n);
}

static bool is(const struct parse_record *r, enum audit_field f, const char *s)
{
	return r->present >> f & 1 && r->f[f].n == strlen(s) && memcmp(r->f[f].p, s, r->f[f].n) == 0;
}

/* The port that its scheme implies says nothing. */
static void take_host(struct table *t, const char **to, const struct parse_record *r)
{
	struct parse_text x = r->f[AUDIT_F_HOST];

	if (!(r->present >> AUDIT_F_HOST & 1))
		return;
	if (x.n > 3 && memcmp(x.p + x.n - 3, ":80", 3) == 0)
		x.n -= 3;
	else if (x.n > 4 && memcmp(x.p + x.n - 4, ":443", 4) == 0)
		x.n -= 4;
	*to = intern(t, x.p, x.n);
}

static int on_record(void *ctx, const struct parse_record *r, const struct verify_place *at)
{
	struct table *t = ctx;
	struct uuid id;
	struct side *s;

	(void)at;
	/* A denial that should never have been needed is an alert. */
	bool denied = r->msg == SCHEMA_DENY || (r->msg == SCHEMA_ALERT && is(r, AUDIT_F_VERDICT, "deny"));

	if (!r->has_exchange || (r->msg != SCHEMA_EXCHANGE && r->msg != SCHEMA_OPEN && r->msg != SCHEMA_END && !denied))
		return 0;
	if (is(r, AUDIT_F_DIRECTION, "local"))
		return 0;
	/* A sidecar learns its gateway's id from the answer: the end has it, and says again who and what. */
	id = r->exchange;
	if (t->at == t->sidecar) {
		if (r->msg == SCHEMA_OPEN)
			return 0;
		if (r->present >> AUDIT_F_UPLINK_EXCHANGE & 1)
			uuid_parse(&id, r->f[AUDIT_F_UPLINK_EXCHANGE].p, r->f[AUDIT_F_UPLINK_EXCHANGE].n);
	}
	/* A denial before any attempt is of attempt 0 or 1: one place for both. */
	s = &lookup(t, &id, t->sidecar >= 0 || r->attempt == 0 ? 1 : r->attempt)->side[t->at];
	if (!s->present || r->msg == SCHEMA_EXCHANGE || r->msg == SCHEMA_END)
		s->seq = r->seq;
	s->present = true;
	if (is(r, AUDIT_F_DIRECTION, "out"))
		s->direction = OUT;
	else if (is(r, AUDIT_F_DIRECTION, "in"))
		s->direction = IN;
	take(t, &s->principal, r, AUDIT_F_PRINCIPAL);
	take_host(t, &s->host, r);
	take(t, &s->method, r, AUDIT_F_METHOD);
	take(t, &s->reason, r, AUDIT_F_REASON);
	take(t, &s->gateway, r, AUDIT_F_GATEWAY);
	if (denied) {
		s->denied = true;
		s->status = parse_u64(r, AUDIT_F_STATUS);
		return 0;
	}
	s->opened = true;
	if (r->msg == SCHEMA_OPEN) {
		s->start_us = r->wall_us;
		return 0;
	}
	s->ended = true;
	s->status = parse_u64(r, AUDIT_F_STATUS);
	s->bytes_in = parse_u64(r, AUDIT_F_BYTES_IN);
	s->bytes_out = parse_u64(r, AUDIT_F_BYTES_OUT);
	s->end_us = r->wall_us;
	if (r->present >> AUDIT_F_DURATION_US & 1 && parse_u64(r, AUDIT_F_DURATION_US) < r->wall_us)
		s->start_us = r->wall_us - parse_u64(r, AUDIT_F_DURATION_US);
	return 0;
}

static void found(struct reconcile_result *out, enum reconcile_kind kind, const struct pair *p, char *text)
{
	out->imbalances++;
	out->by_kind[kind]++;
	if (out->nfindings >= RECONCILE_MAX) {
		mem_free(text);
		return;
	}
	mem_grow(&out->findings, &out->cap, out->nfindings + 1, sizeof(*out->findings));
	out->findings[out->nfindings++] = (struct reconcile_finding){.kind = kind, .exchange = p->exchange, .attempt = p->attempt,
		.seq_a = p->side[0].seq, .seq_b = p->side[1].seq, .text = text};
}

static const char *or_dash(const char *s)
{
	return s ? s : "-";
}

/* By this record nothing came back: it may never have got there. */
static bool unanswered(const struct side *s)
{
	return s->ended && (s->status == 502 || s->status == 503 || s->status == 504 || (s->status == 0 && s->bytes_out == 0));
}

/* "id": of the other side's gateway, or NULL when its checkpoint does not say. */
static void only_one(struct reconcile_result *out, const struct pair *p, int which, const char *id, int sidecar)
{
	const struct side *s = &p->side[which];

	/* A gateway serves others than this sidecar. */
	if ((s->gateway && id && strcmp(s->gateway, id) != 0) || (sidecar >= 0 && which != sidecar)) {
		out->elsewhere++;
	} else if (s->denied && s->direction != IN) {
		out->denied++;
	} else if (s->direction != IN && unanswered(s)) {
		out->unreached++;
	} else if (!s->denied && !s->ended) {
		out->unfinished++;
	} else {
		found(out, which ? RECONCILE_ONLY_B : RECONCILE_ONLY_A, p,
		    mem_printf("%s, %s to %s, %s", s->direction == IN ? "came in" : "went out", or_dash(s->principal), or_dash(s->host),
			s->denied ? "denied" : or_dash(s->reason)));
	}
}

static bool differ(const char *a, const char *b)
{
	return a && b && a != b;
}

static void compare(struct reconcile_result *out, const struct pair *p, int sidecar)
{
	const struct side *a = &p->side[0], *b = &p->side[1];
	const struct side *from = sidecar >= 0 ? &p->side[sidecar] : a->direction == IN || b->direction == OUT ? b : a;
	const struct side *to = from == a ? b : a;
	uint64_t before = out->imbalances;

	if (from->denied && !from->opened)
		found(out, RECONCILE_DENIED, p, mem_printf("its sender denied it (%s), and yet it arrived", or_dash(from->reason)));
	if (to->denied && from->ended && (from->status ? from->status < 400 : from->bytes_out > 0))
		found(out, RECONCILE_DENIED, p, mem_printf("its receiver denied it (%s), and yet its sender has an answer: status %" PRIu64,
		    or_dash(to->reason), from->status));
	if (differ(a->principal, b->principal))
		found(out, RECONCILE_PRINCIPAL, p, mem_printf("A: %s, B: %s", a->principal, b->principal));
	if (differ(a->host, b->host) || differ(a->method, b->method))
		found(out, RECONCILE_SERVICE, p, mem_printf("A: %s %s, B: %s %s", or_dash(a->method), or_dash(a->host), or_dash(b->method),
		    or_dash(b->host)));
	/* Cut exchanges differ by what was under way. */
	bool whole = a->ended && b->ended && a->reason && a->reason == b->reason && strcmp(a->reason, "complete") == 0;
	if (whole && a->status && b->status && a->status != b->status)
		found(out, RECONCILE_STATUS, p, mem_printf("A: %" PRIu64 ", B: %" PRIu64, a->status, b->status));
	if (whole && (a->bytes_in != b->bytes_in || a->bytes_out != b->bytes_out))
		found(out, RECONCILE_BYTES, p, mem_printf("A: %" PRIu64 " in %" PRIu64 " out, B: %" PRIu64 " in %" PRIu64 " out", a->bytes_in,
		    a->bytes_out, b->bytes_in, b->bytes_out));
	if (out->imbalances != before)
		return;
	if ((a->opened && !a->ended) || (b->opened && !b->ended))
		out->unfinished++;
	else
		out->both++;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* The exchange lies within the other's on one clock, so half of both differences is the offset, to within its latency. */
static void clock_offset(struct reconcile_result *out, const struct table *t)
{
	int64_t *sample = mem_array(SAMPLES, sizeof(*sample));
	size_t n = 0;

	for (size_t i = 0; i < t->n && n < SAMPLES; i++) {
		const struct side *a = &t->pair[i].side[0], *b = &t->pair[i].side[1];
		if (a->ended && b->ended && a->start_us && b->start_us)
			sample[n++] = ((int64_t)(b->start_us - a->start_us) + (int64_t)(b->end_us - a->end_us)) / 2;
	}
	if (n) {
		qsort(sample, n, sizeof(*sample), by_value);
		out->have_offset = true;
		out->offset_us = sample[n / 2];
	}
	mem_free(sample);
}

/* Whose book it is: a checkpoint's origin is the id without its scheme. NULL: it does not say. */
static char *owner_id(int dir_fd)
{
	struct segment_checkpoint cp;
	const char *why;
	char *id = NULL;
	struct buf b;

	buf_init(&b, 0);
	if (segment_read_file(dir_fd, "checkpoint", &b, 65536) == 0 && segment_checkpoint_parse(&cp, (const char *)b.data, b.len, &why) == 0 &&
	    strchr(cp.origin, '/'))
		id = mem_printf("spiffe://%s", cp.origin);
	buf_fini(&b);
	return id;
}

int reconcile_dirs(int dir_a, int dir_b, struct reconcile_result *out, int *which)
{
	const int dir[2] = {dir_a, dir_b};
	struct table t = {0};
	char *id[2];
	int rc = 0, err = 0;

	memset(out, 0, sizeof(*out));
	t.sidecar = -1;
	for (int i = 0; i < 2; i++) {
		id[i] = owner_id(dir[i]);
		if (id[i] && !strstr(id[i], "/gateway/"))
			t.sidecar = i;
	}
	for (t.at = 0; t.at < 2; t.at++) {
		if (rc == 0 && verify_each(dir[t.at], on_record, &t, &out->bad_lines[t.at]) != 0) {
			err = errno;
			*which = t.at;
			rc = -1;
		}
	}
	for (size_t i = 0; i < t.n && rc == 0; i++) {
		const struct pair *p = &t.pair[i];
		if (p->side[0].present && p->side[1].present)
			compare(out, p, t.sidecar);
		else
			only_one(out, p, p->side[1].present, id[!p->side[1].present], t.sidecar);
	}
	if (rc == 0)
		clock_offset(out, &t);
	for (size_t i = 0; t.text && i <= t.text_mask; i++)
		mem_free(t.text[i]);
	mem_free(t.text);
	mem_free(t.slot);
	mem_free(t.pair);
	mem_free(id[0]);
	mem_free(id[1]);
	errno = err;
	return rc;
}

void reconcile_free(struct reconcile_result *r)
{
	for (size_t i = 0; i < r->nfindings; i++)
		mem_free(r->findings[i].text);
	mem_free(r->findings);
	memset(r, 0, sizeof(*r));
}

const char *reconcile_kind_name(enum reconcile_kind k)
{
	static const char *const names[RECONCILE_KINDS] = {
		[RECONCILE_ONLY_A] = "only-in-a",
		[RECONCILE_ONLY_B] = "only-in-b",
		[RECONCILE_DENIED] = "verdict",
		[RECONCILE_PRINCIPAL] = "principal",
		[RECONCILE_SERVICE] = "service",
		[RECONCILE_STATUS] = "status",
		[RECONCILE_BYTES] = "bytes",
	};

	return names[k];
}
