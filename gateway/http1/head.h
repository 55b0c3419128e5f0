/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 message heads (RFC 9112), strict and without I/O or allocation: bytes in, offsets out.
 * What two parsers could read in two ways is refused, never repaired.
 */
#ifndef GATEWAY_HTTP1_HEAD_H
#define GATEWAY_HTTP1_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define H1_MAX_FIELDS 100
#define H1_MAX_HEAD 32768 /* octets of a whole head, and of a trailer section */
#define H1_MAX_TARGET 16384 /* octets of a request target */

/* Names we act upon; everything else is H1_F_OTHER. Found by length and first bytes, not by strcmp chains. */
enum h1_name {
	H1_F_OTHER,
	H1_F_CONNECTION, H1_F_CONTENT_LENGTH, H1_F_TRANSFER_ENCODING, H1_F_HOST, H1_F_EXPECT,
	H1_F_TE, H1_F_TRAILER, H1_F_UPGRADE, H1_F_KEEP_ALIVE, H1_F_PROXY_CONNECTION,
	H1_F_PROXY_AUTHENTICATE, H1_F_PROXY_AUTHORIZATION, H1_F_HTTP2_SETTINGS,
	H1_F_VIA, H1_F_TRACEPARENT, H1_F_TRACESTATE, H1_F_DATE, H1_F_SERVER, H1_F_RETRY_AFTER,
	/*
	 * What an application may not say about itself: forwarded, x-forwarded-* (all), client-cert,
	 * client-cert-chain, x-forwarded-client-cert, sallyport-* (all), x-real-ip; "_" for "-" too.
	 */
	H1_F_IDENTITY,
};

struct h1_field {
	const char *name;  /* lower-cased in place */
	const char *value; /* without surrounding white space */
	uint32_t name_len, value_len;
	uint8_t id;        /* enum h1_name */
	bool hop;          /* hop-by-hop: RFC 9110 7.6.1, or named by Connection */
};

enum h1_method { H1_M_OTHER, H1_M_GET, H1_M_HEAD, H1_M_POST, H1_M_PUT, H1_M_DELETE, H1_M_CONNECT, H1_M_OPTIONS, H1_M_TRACE, H1_M_PATCH };
enum h1_form { H1_ORIGIN, H1_ABSOLUTE, H1_AUTHORITY, H1_ASTERISK }; /* RFC 9112 3.2 */
enum h1_framing { H1_NONE, H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE }; /* RFC 9112 6.3 */

struct h1_head {
	size_t scan;             /* resume hint: zero it for each new message */
	/* request */
	enum h1_method method_id;
	enum h1_form form;
	const char *method, *authority, *path; /* path: with its query; "*" for asterisk; authority: Host's or the target's, lower-cased */
	uint32_t method_len, authority_len, path_len;
	uint32_t path_only_len;  /* without the query */
	bool absolute_https;     /* absolute form with https: */
	bool expect_continue;
	/* response */
	uint16_t status;
	/* both */
	uint8_t minor;           /* HTTP/1.minor */
	enum h1_framing framing;
	uint64_t content_length; /* for H1_LENGTH */
	bool keep_alive;         /* this message allows another one after it */
	bool upgrade;            /* an Upgrade field that Connection names */
	bool te_trailers;        /* TE: trailers */
	uint32_t nfields;
	struct h1_field fields[H1_MAX_FIELDS];
};

/*
 * Parse a head that starts at buf. The pointers of *h point into buf, which is modified (names
 * and authority lower-cased, nothing moved). Returns the octets of the head when it is whole, 0 when
 * more bytes are needed, or minus the status to answer: -400, -414 (target), -431, -501 (unknown
 * coding), -505. Refused, among others: bare CR, LF or NUL; obs-fold; space before the colon; empty or invalid
 * names; control bytes in values; Content-Length with Transfer-Encoding; any Content-Length that is not one run
 * of 1*18DIGIT once; a Transfer-Encoding that is not exactly "chunked" once (and none in HTTP/1.0); no, two or
 * malformed Hosts; an absolute target's authority that differs from Host; userinfo; "#" , bytes outside of RFC 3986's
 * set, "%2f", "%5c", "%00", "..", "." segments, ";" before a segment's end with dots ("..;"), "//" and "\" in a path.
 * One empty line before a request line is skipped and counted. "http://host" has the path "/" (OPTIONS: "*"), written into buf.
 * A method over 32 octets gives -501. What cannot become a head any more (first octet, bare LF) is refused before it is whole.
 */
ssize_t h1_parse_request(struct h1_head *h, char *buf, size_t len);
/* The same for a response to a request with this method. A 1xx is a head of its own. Errors are all -502. */
ssize_t h1_parse_response(struct h1_head *h, char *buf, size_t len, enum h1_method request_method);

/* The same checks for fields that came by HTTP/2 or go out as HTTP/1 (in field.c and target.c): */
bool h1_name_valid(const char *s, size_t n);      /* token, RFC 9110 5.6.2 */
bool h1_value_valid(const char *s, size_t n);     /* no CR, LF, NUL or other controls but HTAB */
bool h1_authority_valid(const char *s, size_t n); /* host [":" port], no userinfo; lower case not required */
bool h1_path_valid(const char *s, size_t n);      /* what h1_parse_request demands of an origin-form target */
enum h1_name h1_name_id(const char *lower, size_t n);
enum h1_method h1_method_id(const char *s, size_t n);
/*
 * The path for policy: percent-encoded unreserved characters decoded, nothing else (DESIGN: those bytes are forwarded).
 * out holds n bytes; the query is kept as it is. Returns the length; sets *path_only_len.
 */
size_t h1_path_normalize(char *out, const char *path, size_t n, uint32_t *path_only_len);
const char *h1_reason(unsigned status);           /* "Not Found"; "" when unknown */

#endif
