/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   ask     u64 id | u16 op | u16 client | u16 user | u16 password | u16 certificates | u16 0 | u32 csr   (lengths, and a count)
 *           client | user | password | { u32 length | certificate } … | csr
 *   answer  u64 id | u16 status | u16 reason | u16 text | u16 items
 *           reason | text | { u32 length | item } …
 */
#include "gateway/ca/proto.h"

#include <stdbool.h>
#include <string.h>

#include "gateway/base/le.h"

#define ASK_HEAD 24
#define ANSWER_HEAD 16

const char *
ca_op_text(unsigned op)
{
	static const char *const text[CA_OPS] = { "cacerts", "csrattrs", "simpleenroll", "simplereenroll" };

	return op < CA_OPS ? text[op] : "unknown";
}

const char *
ca_status_text(unsigned status)
{
	static const char *const text[CA_STATUSES] = {
		"ok", "bad-request", "unauthorized", "forbidden", "conflict", "unavailable", "too-many"
	};

	return status < CA_STATUSES ? text[status] : "unknown";
}

/* ---- writing --------------------------------------------------------------------------------------- */

struct out {
	uint8_t *p;
	size_t len;
	bool full;
};

static void
put(struct out *o, const void *p, size_t len)
{
	if (o->full || len > CA_MESSAGE_MAX - o->len) {
		o->full = true;
		return;
	}
	if (len)
		memcpy(o->p + o->len, p, len);
	o->len += len;
}

static void
put_items(struct out *o, const struct ca_der *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t len[4];

		if (!items[i].len || items[i].len > CA_MESSAGE_MAX)
			o->full = true;
		le_put32(len, (uint32_t)items[i].len);
		put(o, len, sizeof(len));
		put(o, items[i].p, items[i].len);
	}
}

size_t
ca_proto_put_ask(uint8_t out[CA_MESSAGE_MAX], const struct ca_ask *m)
{
	struct out o = { .p = out, .len = ASK_HEAD };

	if (m->op >= CA_OPS || m->client.len > CA_CLIENT_MAX || m->user.len > CA_USER_MAX || m->password.len > CA_PASSWORD_MAX ||
	    m->nchain > CA_CHAIN_MAX || m->csr.len > CA_CSR_MAX || (m->csr.len > 0) != (m->op >= CA_ENROLL))
		return 0;
	le_put64(out, m->id);
	le_put16(out + 8, (uint16_t)m->op);
	le_put16(out + 10, (uint16_t)m->client.len);
	le_put16(out + 12, (uint16_t)m->user.len);
	le_put16(out + 14, (uint16_t)m->password.len);
	le_put16(out + 16, (uint16_t)m->nchain);
	le_put16(out + 18, 0);
	le_put32(out + 20, (uint32_t)m->csr.len);
	put(&o, m->client.p, m->client.len);
	put(&o, m->user.p, m->user.len);
	put(&o, m->password.p, m->password.len);
	put_items(&o, m->chain, m->nchain);
	put(&o, m->csr.p, m->csr.len);
	return o.full ? 0 : o.len;
}

/* What was asked for comes with success and with nothing else; a reason with everything but success. */
static bool
consistent(const struct ca_answer *m)
{
	bool ok = m->status == CA_OK;

	return m->status < CA_STATUSES && (m->nitems > 0) == ok && (m->reason.len == 0) == ok && (!ok || !m->text.len);
}

size_t
ca_proto_put_answer(uint8_t out[CA_MESSAGE_MAX], const struct ca_answer *m)
{
	struct out o = { .p = out, .len = ANSWER_HEAD };

	if (m->reason.len > CA_REASON_MAX || m->text.len > CA_TEXT_MAX || m->nitems > CA_ITEMS_MAX || !consistent(m))
		return 0;
	le_put64(out, m->id);
	le_put16(out + 8, (uint16_t)m->status);
	le_put16(out + 10, (uint16_t)m->reason.len);
	le_put16(out + 12, (uint16_t)m->text.len);
	le_put16(out + 14, (uint16_t)m->nitems);
	put(&o, m->reason.p, m->reason.len);
	put(&o, m->text.p, m->text.len);
	put_items(&o, m->items, m->nitems);
	return o.full ? 0 : o.len;
}

/* ---- reading --------------------------------------------------------------------------------------- */

struct in {
	const uint8_t *p;
	size_t left;
	bool bad;
};

static struct ca_der
take(struct in *in, size_t len)
{
	struct ca_der d = { in->p, len };

	if (in->bad || len > in->left) {
		in->bad = true;
		return (struct ca_der){ 0 };
	}
	in->p += len;
	in->left -= len;
	return d;
}

static void
take_items(struct in *in, struct ca_der *items, size_t n)
{
	for (size_t i = 0; i < n && !in->bad; i++) {
		struct ca_der len = take(in, 4);

		if (in->bad)
			return;
		items[i] = take(in, le_get32(len.p));
		in->bad = in->bad || !items[i].len;
	}
}

int
ca_proto_get_ask(struct ca_ask *m, const uint8_t *p, size_t len)
{
	struct in in;
	size_t csr;

	memset(m, 0, sizeof(*m));
	if (len < ASK_HEAD || len > CA_MESSAGE_MAX || le_get16(p + 18))
		return -1;
	in = (struct in){ p + ASK_HEAD, len - ASK_HEAD, false };
	m->id = le_get64(p);
	m->op = le_get16(p + 8);
	m->nchain = le_get16(p + 16);
	csr = le_get32(p + 20);
	if (m->op >= CA_OPS || le_get16(p + 10) > CA_CLIENT_MAX || le_get16(p + 12) > CA_USER_MAX || le_get16(p + 14) > CA_PASSWORD_MAX ||
	    m->nchain > CA_CHAIN_MAX || csr > CA_CSR_MAX || (csr > 0) != (m->op >= CA_ENROLL))
		return -1;
	m->client = take(&in, le_get16(p + 10));
	m->user = take(&in, le_get16(p + 12));
	m->password = take(&in, le_get16(p + 14));
	take_items(&in, m->chain, m->nchain);
	m->csr = take(&in, csr);
	return in.bad || in.left ? -1 : 0;
}

static bool
is_printable(struct ca_der d)
{
	for (size_t i = 0; i < d.len; i++)
		if (d.p[i] < 0x20 || d.p[i] > 0x7e)
			return false;
	return true;
}

int
ca_proto_get_answer(struct ca_answer *m, const uint8_t *p, size_t len)
{
	struct in in;

	memset(m, 0, sizeof(*m));
	if (len < ANSWER_HEAD || len > CA_MESSAGE_MAX)
		return -1;
	in = (struct in){ p + ANSWER_HEAD, len - ANSWER_HEAD, false };
	m->id = le_get64(p);
	m->status = le_get16(p + 8);
	m->nitems = le_get16(p + 14);
	if (le_get16(p + 10) > CA_REASON_MAX || le_get16(p + 12) > CA_TEXT_MAX || m->nitems > CA_ITEMS_MAX)
		return -1;
	m->reason = take(&in, le_get16(p + 10));
	m->text = take(&in, le_get16(p + 12));
	take_items(&in, m->items, m->nitems);
	/* The text goes into an HTTP answer: octets that do not belong there are nobody's mistake. */
	return in.bad || in.left || !consistent(m) || !is_printable(m->reason) || !is_printable(m->text) ? -1 : 0;
}
