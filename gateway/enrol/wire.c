/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/enrol/wire.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"

#define LINE 64 /* octets of base64 in a line: what every decoder takes */

static const struct {
	const char *path, *method;
	size_t len;
} ops[WIRE_OPS] = {
#define OP(name, method) { "/.well-known/est/" name, method, sizeof("/.well-known/est/" name) - 1 }
	[WIRE_CACERTS] = OP("cacerts", "GET"),
	[WIRE_CSRATTRS] = OP("csrattrs", "GET"),
	[WIRE_ENROLL] = OP("simpleenroll", "POST"),
	[WIRE_REENROLL] = OP("simplereenroll", "POST"),
#undef OP
};

static bool
is_post(enum wire_op op)
{
	return op >= WIRE_ENROLL;
}

const char *
wire_allow(enum wire_op op)
{
	return ops[op].method;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A field's value up to its parameters (RFC 9110 8.3.1). */
static bool
is_type(const struct h1_field *f, const char *type)
{
	size_t n = strlen(type);

	if (f->value_len < n || strncasecmp(f->value, type, n) != 0)
		return false;
	while (n < f->value_len && is_space(f->value[n]))
		n++;
	return n == f->value_len || f->value[n] == ';';
}

/* The only field of this name. 1, 0 there is none, -1 there are more. */
static int
find(const struct h1_head *h, const char *name, const struct h1_field **out)
{
	size_t n = strlen(name);
	int found = 0;

	for (uint32_t i = 0; i < h->nfields; i++) {
		if (h->fields[i].name_len != n || memcmp(h->fields[i].name, name, n) != 0)
			continue;
		*out = &h->fields[i];
		found++;
	}
	return found > 1 ? -1 : found;
}

long
wire_unbase64(uint8_t *out, const char *s, size_t n)
{
	char *text = mem_alloc(n);
	size_t len = 0;
	long got;

	for (size_t i = 0; i < n; i++)
		if (!is_space(s[i]))
			text[len++] = s[i];
	got = esc_unbase64(out, text, len);
	mem_wipe(text, len);
	mem_free(text);
	return got;
}

/* RFC 7617 2: base64 of name ":" password. False when it is something else. */
static bool
read_basic(struct wire_request *r, const struct h1_field *f)
{
	uint8_t both[(2 * WIRE_CREDENTIAL_MAX + 3) / 3 * 3 + 3], *colon;
	const char *p = f->value;
	size_t n = f->value_len;
	long len;
	bool ok = false;

	if (n < 6 || strncasecmp(p, "Basic ", 6) != 0)
		return false;
	for (p += 6, n -= 6; n && *p == ' '; p++, n--)
		;
	if (n / 4 * 3 > sizeof(both) || (len = esc_unbase64(both, p, n)) < 0)
		return false;
	colon = memchr(both, ':', (size_t)len);
	if (colon) {
		r->user_len = (size_t)(colon - both);
		r->password_len = (size_t)len - r->user_len - 1;
		ok = r->user_len <= WIRE_CREDENTIAL_MAX && r->password_len <= WIRE_CREDENTIAL_MAX;
	}
	if (ok) {
		memcpy(r->user, both, r->user_len);
		memcpy(r->password, colon + 1, r->password_len);
	} else {
		r->user_len = r->password_len = 0;
	}
	mem_wipe(both, sizeof(both));
	return ok;
}

/* Host names us, with or without a port. */
static bool
is_host(const struct h1_head *h, const char *host)
{
	size_t n = strlen(host);

	return h->authority_len >= n && strncasecmp(h->authority, host, n) == 0 && (h->authority_len == n || h->authority[n] == ':');
}

unsigned
wire_read_head(struct wire_request *r, const struct h1_head *h, const char *host, const char **reason, const char **why)
{
	const struct h1_field *f = NULL;
	int op = 0, n;

	memset(r, 0, sizeof(*r));
	if (!is_host(h, host)) {
		/* RFC 9110 7.4: another service's request is not for this connection (case 50). */
		*reason = "sni-differs";
		*why = "this host is not served here";
		return 421;
	}
	while (op < WIRE_OPS && (h->path_len != ops[op].len || memcmp(h->path, ops[op].path, ops[op].len) != 0))
		op++;
	if (op == WIRE_OPS) {
		*reason = "no-such-path";
		*why = "there is nothing here but /.well-known/est/cacerts, csrattrs, simpleenroll and simplereenroll";
		return 404;
	}
	r->op = (enum wire_op)op;
	if (h->method_len != strlen(ops[op].method) || memcmp(h->method, ops[op].method, h->method_len) != 0) {
		*reason = "method";
		*why = is_post(r->op) ? "only POST is allowed here" : "only GET is allowed here";
		return 405;
	}
	n = find(h, "authorization", &f);
	if (n < 0 || (n > 0 && !read_basic(r, f))) {
		*reason = "bad-credentials";
		*why = "one Authorization field is read, with the scheme Basic: a user name and a token";
		return 400;
	}
	r->credentials = n > 0;
	if (h->framing == H1_LENGTH && h->content_length > WIRE_BODY_MAX) {
		*reason = "too-large";
		*why = "a certificate request has at most 65536 octets";
		return 413;
	}
	if (!is_post(r->op))
		return 0;
	n = find(h, "content-type", &f);
	if (n != 1 || !is_type(f, "application/pkcs10")) {
		*reason = "content-type";
		*why = "send the certificate request as application/pkcs10, in base64";
		return 415;
	}
	return 0;
}

/* ---- writing ---- */

static void
put_base64(struct buf *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += LINE / 4 * 3) {
		char line[LINE + 1];
		size_t part = n - i < LINE / 4 * 3 ? n - i : LINE / 4 * 3, len = esc_base64(line, p + i, part);

		line[len++] = '\n';
		buf_append(out, line, len);
	}
}

static size_t
base64_lines(size_t n)
{
	size_t len = esc_base64_size(n);

	return len + (len + LINE - 1) / LINE;
}

void
wire_write_answer(struct buf *out, const struct wire_answer *a)
{
	static const char *const types[] = {
		[WIRE_TEXT] = "text/plain", [WIRE_CERTS] = "application/pkcs7-mime",
		[WIRE_ENROLLED] = "application/pkcs7-mime; smime-type=certs-only", [WIRE_ATTRS] = "application/csrattrs",
	};
	bool der = a->content != WIRE_TEXT;

	buf_printf(out, "HTTP/1.1 %u %s\r\n", a->status, h1_reason(a->status));
	if (a->realm)
		buf_printf(out, "www-authenticate: Basic realm=\"%s\"\r\n", a->realm);
	if (a->allow)
		buf_printf(out, "allow: %s\r\n", a->allow);
	if (a->retry_after_s)
		buf_printf(out, "retry-after: %u\r\n", a->retry_after_s);
	if (a->close)
		buf_puts(out, "connection: close\r\n");
	buf_puts(out, "cache-control: no-store\r\n");
	if (a->status == 204) {
		buf_puts(out, "\r\n");
		return;
	}
	/* RFC 8951 2.1: clients do not look at the encoding's field any more; those of RFC 7030 may. */
	buf_printf(out, "content-type: %s\r\n%scontent-length: %zu\r\n\r\n", types[a->content], der ? "content-transfer-encoding: base64\r\n" : "",
	    der ? base64_lines(a->len) : a->len);
	if (der)
		put_base64(out, a->body, a->len);
	else
		buf_append(out, a->body, a->len);
}

void
wire_write_request(struct buf *out, const struct wire_ask *a)
{
	buf_printf(out, "%s %s HTTP/1.1\r\nhost: %s\r\naccept: */*\r\nconnection: close\r\n", ops[a->op].method, ops[a->op].path, a->host);
	if (a->user) {
		char *both = mem_printf("%s:%s", a->user, a->password), *text;
		size_t n = strlen(both), len;

		text = mem_alloc(esc_base64_size(n) + 1);
		len = esc_base64(text, (const uint8_t *)both, n);
		text[len] = '\0';
		buf_printf(out, "authorization: Basic %s\r\n", text);
		mem_wipe(both, n);
		mem_wipe(text, len);
		mem_free(both);
		mem_free(text);
	}
	if (is_post(a->op)) {
		buf_printf(out, "content-type: application/pkcs10\r\ncontent-transfer-encoding: base64\r\ncontent-length: %zu\r\n\r\n",
		    base64_lines(a->csr_len));
		put_base64(out, a->csr, a->csr_len);
	} else {
		buf_puts(out, "\r\n");
	}
}

/* ---- reading answers ---- */

void
wire_reader_init(struct wire_reader *r)
{
	memset(r, 0, sizeof(*r));
	buf_init(&r->in, H1_MAX_HEAD + WIRE_ANSWER_MAX);
	buf_init(&r->content, WIRE_ANSWER_MAX);
	h1_body_init(&r->body, H1_NONE, 0);
}

void
wire_reader_fini(struct wire_reader *r)
{
	buf_fini(&r->in);
	buf_fini(&r->content);
	h1_body_fini(&r->body);
}

/* 1 there was one that counts, 0 more, -1. */
static int
take_head(struct wire_reader *r, const char **why)
{
	static struct h1_head h; /* large, and nobody keeps it */
	const struct h1_field *f;
	size_t used = 0;
	ssize_t n;

	do { /* interim ones (RFC 9110 15.2) are passed over */
		h.scan = used ? 0 : r->scan;
		n = h1_parse_response(&h, (char *)r->in.data + used, r->in.len - used, H1_M_POST);
		used += n > 0 ? (size_t)n : 0;
	} while (n > 0 && h.status / 100 == 1);
	if (n > 0) {
		r->status = h.status;
		r->certs = find(&h, "content-type", &f) == 1 && is_type(f, "application/pkcs7-mime");
		if (find(&h, "retry-after", &f) == 1)
			for (uint32_t i = 0; i < f->value_len && f->value[i] >= '0' && f->value[i] <= '9' && r->retry_after_s < 100000; i++)
				r->retry_after_s = r->retry_after_s * 10 + (unsigned)(f->value[i] - '0');
		h1_body_init(&r->body, h.framing, h.content_length);
	}
	buf_consume(&r->in, used); /* its fields point into it */
	r->scan = n == 0 ? h.scan : 0;
	*why = n < 0 ? "what answered speaks no HTTP/1.1" : "the answer's head is too long";
	return n > 0 ? 1 : n < 0 || r->in.len >= H1_MAX_HEAD ? -1 : 0;
}

static int
take_body(struct wire_reader *r, bool eof, const char **why)
{
	enum h1_event ev = H1_EV_DATA;
	size_t used = 0;

	while (ev == H1_EV_DATA || ev == H1_EV_TRAILERS) {
		const char *data;
		size_t n;

		used += h1_body_feed(&r->body, (const char *)r->in.data + used, r->in.len - used, &ev, &data, &n);
		if (ev == H1_EV_DATA && buf_append(&r->content, data, n) != 0) {
			*why = "the answer is too long";
			return -1;
		}
	}
	buf_consume(&r->in, used);
	*why = ev == H1_EV_MORE ? "the answer was cut short" : "the answer's content is malformed";
	if (ev == H1_EV_END || (ev == H1_EV_MORE && eof && h1_body_eof_ok(&r->body)))
		return 1;
	return ev == H1_EV_MORE && !eof ? 0 : -1;
}

int
wire_read_answer(struct wire_reader *r, const void *p, size_t n, bool eof, const char **why)
{
	int got = 1;

	if (r->done)
		return 1;
	*why = "the answer is too long";
	if (n && buf_append(&r->in, p, n) != 0)
		return -1;
	if (!r->status)
		got = r->in.len ? take_head(r, why) : 0;
	if (got == 1)
		got = take_body(r, eof, why);
	else if (got == 0 && eof) {
		*why = "the connection ended before an answer";
		got = -1;
	}
	r->done = got == 1;
	return got;
}

uint8_t *
wire_answer_der(const struct wire_reader *r, size_t *len, const char **why)
{
	uint8_t *der;
	long n;

	if (r->status != 200 || !r->certs) {
		*why = r->status == 200 ? "the answer is no application/pkcs7-mime" : "the request was refused";
		return NULL;
	}
	der = mem_alloc(r->content.len / 4 * 3 + 1);
	n = wire_unbase64(der, (const char *)r->content.data, r->content.len);
	if (n <= 0) {
		*why = "the answer is not in base64";
		mem_free(der);
		return NULL;
	}
	*len = (size_t)n;
	return der;
}

void
wire_answer_text(const struct wire_reader *r, char *out, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && n < r->content.len && r->content.data[n] >= ' ' && r->content.data[n] < 0x7f) {
		out[n] = (char)r->content.data[n];
		n++;
	}
	out[n] = '\0';
}
