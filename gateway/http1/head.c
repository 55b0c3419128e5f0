/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads of HTTP/1 messages. find_end() looks for the empty line and remembers how far it looked, so that a head that comes an
 * octet at a time is looked at once; only then one pass parses it: the start line here, the target in target.c, the field
 * lines in field.c. What the fields mean for this message (who, how long, for how many more) is decided at the end, in
 * request_meaning() and response_framing().
 */
#include "gateway/http1/head.h"

#include <string.h>

#include "gateway/http1/field.h"
#include "gateway/http1/target.h"

#define METHOD_MAX 32          /* octets of a method; RFC 9112 3 asks for 501 beyond what we know */
#define CONNECTION_OPTIONS 32  /* names in all Connection fields together: each is looked up among the fields */

struct meaning { /* of the fields, while a head is parsed */
	struct h1_field *host, *content_length, *transfer_encoding;
	bool connection, upgrade_field, te_field, expect;
	bool close, keep_alive, upgrade_option;
};

/* ---- the end of the head --------------------------------------------------------------------- */

static ssize_t
find_end(struct h1_head *h, const char *buf, size_t start, size_t len)
{
	size_t limit = len < H1_MAX_HEAD ? len : H1_MAX_HEAD;
	size_t i = h->scan > start ? h->scan : start;
	const char *lf;

	while (i < limit && (lf = memchr(buf + i, '\n', limit - i)) != NULL) {
		i = (size_t)(lf - buf) + 1;
		/* RFC 9112 2.2: a line may be ended by a bare LF for some; for us it is refused. Nor is the start line empty. */
		if (i - start < 3 || buf[i - 2] != '\r')
			return -400;
		if (buf[i - 3] == '\n')
			return (ssize_t)i;
	}
	if (limit == H1_MAX_HEAD)
		return memchr(buf + start, '\n', limit - start) ? -431 : -414;
	h->scan = limit;
	return 0;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool
same_nocase(const char *s, size_t n, const char *lower, size_t lower_len)
{
	if (n != lower_len)
		return false;
	for (size_t i = 0; i < n; i++)
		if (h1_field_lower[(uint8_t)s[i]] != (uint8_t)lower[i])
			return false;
	return true;
}

#define SAME(s, n, literal) same_nocase((s), (n), (literal), sizeof(literal) - 1)

static void
lower_case(char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] >= 'A' && s[i] <= 'Z')
			s[i] |= 0x20;
}

/* RFC 9110 7.6.1: one connection option, already lower-cased. */
static int
connection_option(struct h1_head *h, struct meaning *m, const char *s, size_t n)
{
	enum h1_name id = h1_name_id(s, n);

	switch (id) {
	case H1_F_HOST:
	case H1_F_CONTENT_LENGTH:
	case H1_F_TRANSFER_ENCODING:
		return -400; /* dropping one of these would make it another message */
	case H1_F_UPGRADE:
		m->upgrade_option = true;
		return 0;
	case H1_F_KEEP_ALIVE:
		m->keep_alive = true;
		return 0;
	default:
		break;
	}
	if (n == 5 && !memcmp(s, "close", 5)) {
		m->close = true;
		return 0;
	}
	if (h1_field_is_hop(id))
		return 0;
	for (uint32_t i = 0; i < h->nfields; i++)
		if (h->fields[i].name_len == n && !memcmp(h->fields[i].name, s, n))
			h->fields[i].hop = true;
	return 0;
}

/* The value is a list of tokens; empty elements are allowed (RFC 9110 5.6.1.2). It lies in the caller's buffer. */
static int
connection_field(struct h1_head *h, struct meaning *m, struct h1_field *f, unsigned *budget)
{
	char *p = (char *)f->value, *end = p + f->value_len;

	while (p < end) {
		char *token = p;
		uint8_t c;

		while (p < end && (c = h1_field_lower[(uint8_t)*p]) != 0)
			*p++ = (char)c;
		if (p > token) {
			if ((*budget)-- == 0 || connection_option(h, m, token, (size_t)(p - token)) != 0)
				return -400;
		}
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (p == end)
			break;
		if (*p != ',')
			return -400;
		do
			p++;
		while (p < end && (*p == ' ' || *p == '\t'));
	}
	return 0;
}

/* RFC 9110 10.1.4: whether "trailers" is an element of the list. */
static bool
te_has_trailers(const struct h1_field *f)
{
	const char *p = f->value, *end = p + f->value_len;

	while (p < end) {
		const char *stop = memchr(p, ',', (size_t)(end - p)), *word;

		if (!stop)
			stop = end;
		while (p < stop && (*p == ' ' || *p == '\t'))
			p++;
		for (word = p; word < stop && h1_field_lower[(uint8_t)*word]; word++)
			;
		if (SAME(p, (size_t)(word - p), "trailers"))
			return true;
		p = stop + 1;
	}
	return false;
}

/* RFC 9112 6.3: 1*18DIGIT; no sign, no list, no white space inside, and never twice (not even twice the same). */
static int
content_length(struct h1_head *h, const struct h1_field *f)
{
	uint64_t v = 0;

	if (f->value_len == 0 || f->value_len > 18)
		return -400;
	for (uint32_t i = 0; i < f->value_len; i++) {
		unsigned digit = (unsigned)(uint8_t)f->value[i] - '0';

		if (digit > 9)
			return -400;
		v = v * 10 + digit;
	}
	h->content_length = v;
	return 0;
}

/* RFC 9112 6.1: "chunked", alone. One other token is a coding that we do not have; anything else is malformed. */
static int
transfer_encoding(const struct h1_head *h, const struct h1_field *f)
{
	if (h->minor == 0)
		return -400; /* RFC 9112 6.1: the framing of such a message is faulty */
	if (SAME(f->value, f->value_len, "chunked"))
		return 0;
	return h1_name_valid(f->value, f->value_len) ? -501 : -400;
}

static int
parse_fields(struct h1_head *h, struct meaning *m, char *p, const char *end)
{
	unsigned budget = CONNECTION_OPTIONS;
	int n = h1_field_parse(h->fields, H1_MAX_FIELDS, p, end);
	int rc = 0;

	if (n < 0)
		return n;
	h->nfields = (uint32_t)n;
	for (struct h1_field *f = h->fields; f < h->fields + n; f++) {
		switch (f->id) {
		case H1_F_HOST:
			if (m->host)
				return -400; /* RFC 9112 3.2 */
			m->host = f;
			break;
		case H1_F_CONTENT_LENGTH:
			if (m->content_length)
				return -400;
			m->content_length = f;
			rc = content_length(h, f);
			break;
		case H1_F_TRANSFER_ENCODING:
			if (m->transfer_encoding)
				return -400;
			m->transfer_encoding = f;
			rc = transfer_encoding(h, f);
			break;
		case H1_F_CONNECTION:
			m->connection = true;
			break;
		case H1_F_UPGRADE:
			m->upgrade_field = true;
			break;
		case H1_F_TE:
			h->te_trailers = h->te_trailers || te_has_trailers(f);
			break;
		case H1_F_EXPECT:
			m->expect = m->expect || SAME(f->value, f->value_len, "100-continue");
			break;
		default:
			break;
		}
		if (rc != 0)
			return rc;
	}
	if (m->content_length && m->transfer_encoding)
		return -400; /* RFC 9112 6.3: two lengths are how requests are smuggled */
	for (struct h1_field *f = h->fields; m->connection && f < h->fields + n; f++)
		if (f->id == H1_F_CONNECTION && connection_field(h, m, f, &budget) != 0)
			return -400;
	h->upgrade = h->minor == 1 && m->upgrade_field && m->upgrade_option; /* RFC 9110 7.8: not in HTTP/1.0 */
	h->keep_alive = h->minor == 1 ? !m->close : m->keep_alive && !m->close; /* RFC 9112 9.3 */
	return 0;
}

static void
clear(struct h1_head *h)
{
	h->scan = 0;
	h->method_id = H1_M_OTHER;
	h->form = H1_ORIGIN;
	h->method = h->authority = h->path = NULL;
	h->method_len = h->authority_len = h->path_len = h->path_only_len = 0;
	h->absolute_https = h->expect_continue = h->keep_alive = h->upgrade = h->te_trailers = false;
	h->status = 0;
	h->minor = 0;
	h->framing = H1_NONE;
	h->content_length = 0;
	h->nfields = 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* RFC 9112 3.2.2: scheme "://" authority, then a path or nothing. */
static int
absolute_form(struct h1_head *h, char *s, size_t n)
{
	size_t scheme, host_len;
	uint32_t port;
	char *slash;

	if (n > 7 && SAME(s, 4, "http") && !memcmp(s + 4, "://", 3))
		scheme = 7;
	else if (n > 8 && SAME(s, 5, "https") && !memcmp(s + 5, "://", 3))
		scheme = 8;
	else
		return -400;
	h->absolute_https = scheme == 8;
	h->form = H1_ABSOLUTE;
	h->authority = s + scheme;
	slash = memchr(s + scheme, '/', n - scheme);
	h->authority_len = (uint32_t)(slash ? (size_t)(slash - s) - scheme : n - scheme);
	/* Here "user@" fails, and a query without a path ("http://host?x") as well. */
	if (h1_target_authority(h->authority, h->authority_len, &host_len, &port) != 0)
		return -400;
	lower_case(s + scheme, h->authority_len);
	if (slash) {
		h->path = slash;
		h->path_len = (uint32_t)(n - (size_t)(slash - s));
		return h1_target_path(h->path, h->path_len, &h->path_only_len) == 0 ? 0 : -400;
	}
	/* No path is "/" (RFC 9110 4.2.3), or "*" for OPTIONS (RFC 9112 3.2.4): the last slash of "://" lends its octet. */
	if (h->method_id == H1_M_OPTIONS)
		s[scheme - 1] = '*';
	h->path = s + scheme - 1;
	h->path_len = h->path_only_len = 1;
	return 0;
}

static int
parse_target(struct h1_head *h, char *s, size_t n)
{
	size_t host_len;
	uint32_t port;

	if (n > H1_MAX_TARGET)
		return -414;
	if (h->method_id == H1_M_CONNECT) {
		/* RFC 9112 3.2.3: authority-form, and the port is part of it. */
		h->form = H1_AUTHORITY;
		if (h1_target_authority(s, n, &host_len, &port) != 0 || port == 0)
			return -400;
		lower_case(s, n);
		h->authority = s;
		h->authority_len = (uint32_t)n;
		return 0;
	}
	if (s[0] == '/') {
		h->path = s;
		h->path_len = (uint32_t)n;
		return h1_target_path(s, n, &h->path_only_len) == 0 ? 0 : -400;
	}
	if (n == 1 && s[0] == '*') {
		if (h->method_id != H1_M_OPTIONS)
			return -400; /* RFC 9112 3.2.4 */
		h->form = H1_ASTERISK;
		h->path = s;
		h->path_len = h->path_only_len = 1;
		return 0;
	}
	return absolute_form(h, s, n);
}

/* "HTTP/1.0" or "HTTP/1.1" at p; another version gives "other", what is none gives "bad". */
static int
parse_version(struct h1_head *h, const char *p, int bad, int other)
{
	if (memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' || p[6] != '.' || p[7] < '0' || p[7] > '9')
		return bad; /* RFC 9112 2.3: case-sensitive, one digit each */
	if (p[5] != '1' || p[7] > '1')
		return other;
	h->minor = (uint8_t)(p[7] - '0');
	return 0;
}

/* Returns the request line's length with its CRLF, or <0. */
static ssize_t
request_line(struct h1_head *h, char *s, const char *end)
{
	char *p = s, *space;
	int rc;

	while (h1_field_lower[(uint8_t)*p])
		p++;
	if (p == s || *p != ' ')
		return -400;
	h->method = s;
	h->method_len = (uint32_t)(p - s);
	if (h->method_len > METHOD_MAX)
		return -501;
	h->method_id = h1_method_id(s, h->method_len);
	p++;
	space = memchr(p, ' ', (size_t)(end - p));
	/* RFC 9112 3: single spaces, and nothing but the version after the second. */
	if (!space || space == p || end - space < 11 || space[9] != '\r' || space[10] != '\n')
		return -400;
	rc = parse_version(h, space + 1, -400, -505);
	if (rc == 0)
		rc = parse_target(h, p, (size_t)(space - p));
	return rc != 0 ? rc : space + 11 - s;
}

/* RFC 9112 3.2.2: the target decides; a Host that says something else would decide for others. */
static bool
host_matches_target(const struct h1_head *h, const struct h1_field *host, size_t host_len, uint32_t host_port)
{
	uint32_t port, standard = h->absolute_https ? 443 : 80;
	size_t len;

	if (h1_target_authority(h->authority, h->authority_len, &len, &port) != 0)
		return false;
	if (len != host_len || memcmp(h->authority, host->value, len) != 0)
		return false;
	if (h->form == H1_AUTHORITY) /* some clients leave the port out of a CONNECT's Host */
		return host_port == 0 || host_port == port;
	return (port ? port : standard) == (host_port ? host_port : standard);
}

static int
request_meaning(struct h1_head *h, const struct meaning *m)
{
	if (m->host) {
		size_t host_len;
		uint32_t port;

		if (h1_target_authority(m->host->value, m->host->value_len, &host_len, &port) != 0)
			return -400;
		lower_case((char *)m->host->value, m->host->value_len);
		if (h->authority && !host_matches_target(h, m->host, host_len, port))
			return -400;
		if (!h->authority) {
			h->authority = m->host->value;
			h->authority_len = m->host->value_len;
		}
	} else if (h->minor == 1) {
		return -400; /* RFC 9112 3.2 */
	}
	if (m->transfer_encoding)
		h->framing = H1_CHUNKED;
	else if (m->content_length)
		h->framing = H1_LENGTH;
	/* RFC 9110 9.3.6, 9.3.8: content in these has no meaning, and is read by some as the next request. */
	if ((h->method_id == H1_M_CONNECT || h->method_id == H1_M_TRACE) &&
	    (h->framing == H1_CHUNKED || h->content_length > 0))
		return -400;
	/* RFC 9110 10.1.1: ignored in HTTP/1.0, and nothing to continue with where there is no content. */
	h->expect_continue = m->expect && h->minor == 1 && (h->framing == H1_CHUNKED || h->content_length > 0);
	/* RFC 9112 9.3: a proxy does not keep an HTTP/1.0 client's connection. */
	if (h->minor == 0 && h->form != H1_ORIGIN)
		h->keep_alive = false;
	return 0;
}

ssize_t
h1_parse_request(struct h1_head *h, char *buf, size_t len)
{
	struct meaning m = { 0 };
	size_t start = 0;
	ssize_t end, line;
	int rc;

	/* RFC 9112 2.2: an empty line before the request line is ignored. One, not any number. */
	if (len > 0 && buf[0] == '\r') {
		if (len > 1 && buf[1] != '\n')
			return -400;
		start = 2;
	}
	if (len <= start)
		return 0;
	if (!h1_field_lower[(uint8_t)buf[start]])
		return -400; /* what cannot become a request (TLS on a plaintext port) is not waited for */
	end = find_end(h, buf, start, len);
	if (end <= 0)
		return end;
	clear(h);
	line = request_line(h, buf + start, buf + end);
	if (line < 0)
		return line;
	rc = parse_fields(h, &m, buf + start + line, buf + end - 2);
	if (rc == 0)
		rc = request_meaning(h, &m);
	return rc != 0 ? rc : end;
}

/* ---- responses ------------------------------------------------------------------------------- */

/* Returns the status line's length with its CRLF, or -502. */
static ssize_t
status_line(struct h1_head *h, const char *s, const char *end)
{
	const char *p = s + 12, *lf;

	if (end - s < 16 || parse_version(h, s, -502, -502) != 0 || s[8] != ' ')
		return -502;
	for (int i = 9; i < 12; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -502;
		h->status = (uint16_t)(h->status * 10 + (s[i] - '0'));
	}
	if (h->status < 100 || h->status > 599) /* RFC 9110 15 */
		return -502;
	lf = memchr(p, '\n', (size_t)(end - p));
	/* RFC 9112 4: SP and a phrase that may be empty. Some leave the SP out with it; that can be read in one way only. */
	if (!lf || lf[-1] != '\r' || (lf - 1 > p && *p != ' ') || !h1_value_valid(p, (size_t)(lf - 1 - p)))
		return -502;
	return lf + 1 - s;
}

/* RFC 9112 6.3, in its order. */
static int
response_framing(struct h1_head *h, const struct meaning *m, enum h1_method request_method)
{
	bool no_content = h->status < 200 || h->status == 204;
	bool tunnel = request_method == H1_M_CONNECT && h->status >= 200 && h->status < 300;

	if (no_content || tunnel) {
		/* RFC 9112 6.1, RFC 9110 8.6: must not be sent. Where it says that something follows, somebody will read it. */
		if (no_content && (m->transfer_encoding || h->content_length > 0))
			return -502;
		if (m->content_length)
			m->content_length->hop = true;
		return 0;
	}
	if (request_method == H1_M_HEAD || h->status == 304)
		return 0;
	if (m->transfer_encoding) {
		h->framing = H1_CHUNKED;
	} else if (m->content_length) {
		h->framing = H1_LENGTH;
	} else {
		h->framing = H1_UNTIL_CLOSE;
		h->keep_alive = false;
	}
	return 0;
}

ssize_t
h1_parse_response(struct h1_head *h, char *buf, size_t len, enum h1_method request_method)
{
	static const char prefix[] = "HTTP/1.";
	const size_t prefix_len = sizeof(prefix) - 1;
	struct meaning m = { 0 };
	ssize_t end, line;

	if (len == 0)
		return 0;
	if (memcmp(buf, prefix, len < prefix_len ? len : prefix_len) != 0)
		return -502;
	end = find_end(h, buf, 0, len);
	if (end <= 0)
		return end == 0 ? 0 : -502;
	clear(h);
	line = status_line(h, buf, buf + end);
	if (line < 0 || parse_fields(h, &m, buf + line, buf + end - 2) != 0 ||
	    response_framing(h, &m, request_method) != 0)
		return -502;
	return end;
}

/* ---- names ----------------------------------------------------------------------------------- */

#define IS(s, literal) (memcmp((s), (literal), sizeof(literal) - 1) == 0)

/* RFC 9110 9.1: case-sensitive. */
enum h1_method
h1_method_id(const char *s, size_t n)
{
	switch (n) {
	case 3:
		return IS(s, "GET") ? H1_M_GET : IS(s, "PUT") ? H1_M_PUT : H1_M_OTHER;
	case 4:
		return IS(s, "POST") ? H1_M_POST : IS(s, "HEAD") ? H1_M_HEAD : H1_M_OTHER;
	case 5:
		return IS(s, "PATCH") ? H1_M_PATCH : IS(s, "TRACE") ? H1_M_TRACE : H1_M_OTHER;
	case 6:
		return IS(s, "DELETE") ? H1_M_DELETE : H1_M_OTHER;
	case 7:
		return IS(s, "OPTIONS") ? H1_M_OPTIONS : IS(s, "CONNECT") ? H1_M_CONNECT : H1_M_OTHER;
	default:
		return H1_M_OTHER;
	}
}

/* RFC 9110 15 and the registry, as far as gateways and services send them. */
static const struct {
	uint16_t status;
	const char *reason;
} reasons[] = {
	{ 100, "Continue" }, { 101, "Switching Protocols" }, { 102, "Processing" }, { 103, "Early Hints" },
	{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 203, "Non-Authoritative Information" },
	{ 204, "No Content" }, { 205, "Reset Content" }, { 206, "Partial Content" }, { 207, "Multi-Status" },
	{ 208, "Already Reported" }, { 226, "IM Used" },
	{ 300, "Multiple Choices" }, { 301, "Moved Permanently" }, { 302, "Found" }, { 303, "See Other" },
	{ 304, "Not Modified" }, { 305, "Use Proxy" }, { 307, "Temporary Redirect" }, { 308, "Permanent Redirect" },
	{ 400, "Bad Request" }, { 401, "Unauthorized" }, { 402, "Payment Required" }, { 403, "Forbidden" },
	{ 404, "Not Found" }, { 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
	{ 407, "Proxy Authentication Required" }, { 408, "Request Timeout" }, { 409, "Conflict" }, { 410, "Gone" },
	{ 411, "Length Required" }, { 412, "Precondition Failed" }, { 413, "Content Too Large" }, { 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" }, { 417, "Expectation Failed" },
	{ 421, "Misdirected Request" }, { 422, "Unprocessable Content" }, { 423, "Locked" }, { 424, "Failed Dependency" },
	{ 425, "Too Early" }, { 426, "Upgrade Required" }, { 428, "Precondition Required" }, { 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" }, { 451, "Unavailable For Legal Reasons" },
	{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" }, { 506, "Variant Also Negotiates" },
	{ 507, "Insufficient Storage" }, { 508, "Loop Detected" }, { 511, "Network Authentication Required" },
};

const char *
h1_reason(unsigned status)
{
	size_t lo = 0, hi = sizeof(reasons) / sizeof(reasons[0]);

	if (status == 200)
		return "OK";
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (reasons[mid].status == status)
			return reasons[mid].reason;
		if (reasons[mid].status < status)
			lo = mid + 1;
		else
			hi = mid;
	}
	return "";
}
