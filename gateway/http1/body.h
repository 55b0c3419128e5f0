/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 bodies (RFC 9112 6 and 7): lengths, chunks and trailers, without I/O or copying.
 */
#ifndef GATEWAY_HTTP1_BODY_H
#define GATEWAY_HTTP1_BODY_H

#include "gateway/http1/head.h"

struct h1_body {
	uint64_t left;       /* of the content or the chunk */
	uint8_t framing;     /* enum h1_framing */
	uint8_t state;       /* private to body.c */
	uint16_t line;       /* octets of the current chunk line, bounded */
	uint32_t extensions; /* octets of chunk extensions so far, bounded over the body */
	char *trailers;      /* owned; allocated only when a trailer section has a field, at most H1_MAX_HEAD */
	uint32_t trailers_len, trailers_cap;
};

enum h1_event {
	H1_EV_MORE,     /* all input used; feed more */
	H1_EV_DATA,     /* *data, *data_len: content, pointing into the input */
	H1_EV_TRAILERS, /* h1_body_trailers() has them; followed by H1_EV_END */
	H1_EV_END,      /* the message is over; the input after it is not touched */
	H1_EV_ERROR,    /* malformed: close */
};

void h1_body_init(struct h1_body *b, enum h1_framing framing, uint64_t content_length);
void h1_body_fini(struct h1_body *b);
/*
 * Returns how many octets of in were used (data included) and sets *ev, one event a call. Never uses octets past an END. Call
 * again until MORE, END or ERROR, also with n 0: the END after the last data, or of a body of length 0, takes no octet.
 */
size_t h1_body_feed(struct h1_body *b, const char *in, size_t n, enum h1_event *ev, const char **data, size_t *data_len);
/* After H1_EV_TRAILERS: fields, names lower-cased, valid until h1_body_fini. Framing and routing fields are refused as H1_EV_ERROR (RFC 9110 6.5.1). */
unsigned h1_body_trailers(struct h1_body *b, struct h1_field *out, unsigned max);
/* True when the peer may close now without the message being cut short (H1_UNTIL_CLOSE). */
bool h1_body_eof_ok(const struct h1_body *b);

/* A chunk's head: hex size and CRLF into out (H1_CHUNK_HEAD_MAX bytes); returns its length. */
#define H1_CHUNK_HEAD_MAX 18
size_t h1_chunk_head(char out[H1_CHUNK_HEAD_MAX], uint64_t size);

#endif
