/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enrollment over Secure Transport (RFC 7030, RFC 8951) over HTTP/1.1, both ends, without I/O: what a request asks, how an answer is written, and the other way
 * round. For the service (enrol.h), for our own renewals (renew.h) and for gwctl.
 */
#ifndef GATEWAY_ENROL_WIRE_H
#define GATEWAY_ENROL_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/http1/body.h"
#include "gateway/http1/head.h"

enum wire_op { WIRE_CACERTS, WIRE_CSRATTRS, WIRE_ENROLL, WIRE_REENROLL, WIRE_OPS };

#define WIRE_BODY_MAX 65536     /* octets of a request's content */
#define WIRE_CSR_MAX 32768      /* of DER in it */
#define WIRE_CREDENTIAL_MAX 255 /* of a user name and of a password */

/* ---- requests, as the service reads them ---- */

struct wire_request {
	enum wire_op op;
	bool credentials;      /* HTTP Basic was sent */
	uint8_t user[WIRE_CREDENTIAL_MAX], password[WIRE_CREDENTIAL_MAX];
	size_t user_len, password_len;
};
/*
 * A head that h1_parse_request() took; host: the service's name. 0, or the status to answer with *why (one static line for the client) and *reason (a token for the
 * books). The request's content is still to come, at most WIRE_BODY_MAX octets.
 */
unsigned wire_read_head(struct wire_request *r, const struct h1_head *h, const char *host, const char **reason, const char **why);
/* The methods of an operation, for Allow. */
const char *wire_allow(enum wire_op op);
/* Base64 with or without line ends and spaces (RFC 8951 2.1); out holds n / 4 * 3 octets. The decoded length, or -1. */
long wire_unbase64(uint8_t *out, const char *s, size_t n);

/* ---- answers, as the service writes them ---- */

enum wire_content { WIRE_TEXT, WIRE_CERTS, WIRE_ENROLLED, WIRE_ATTRS };
struct wire_answer {
	unsigned status;
	enum wire_content content;
	const void *body;      /* text, or DER, which is written as base64 */
	size_t len;
	const char *realm;     /* 401 */
	const char *allow;     /* 405 */
	unsigned retry_after_s; /* 0: no such field */
	bool close;            /* the connection ends with it */
};
void wire_write_answer(struct buf *out, const struct wire_answer *a);

/* ---- requests, as clients write them ---- */

struct wire_ask {
	enum wire_op op;
	const char *host;      /* with ":port" where that is not 443 */
	const char *user, *password; /* NULL: none */
	const uint8_t *csr;    /* DER; with WIRE_ENROLL and WIRE_REENROLL */
	size_t csr_len;
};
void wire_write_request(struct buf *out, const struct wire_ask *a);

/* ---- answers, as clients read them ---- */

#define WIRE_ANSWER_MAX 131072  /* octets of an answer's content */
struct wire_reader {
	struct buf in, content;
	struct h1_body body;
	size_t scan;
	unsigned status;       /* 0: the head is not here yet */
	unsigned retry_after_s; /* 0: it did not say */
	bool certs;            /* its type is application/pkcs7-mime */
	bool done;
};
void wire_reader_init(struct wire_reader *r);
void wire_reader_fini(struct wire_reader *r);
/* Octets as they come; eof: there are no more. 1 when the answer is whole, 0 for more, or -1 with *why (static). */
int wire_read_answer(struct wire_reader *r, const void *p, size_t n, bool eof, const char **why);
/* Of a whole answer: DER of a 200 (mem_free()), or NULL with *why (static) where it is not what was asked for. */
uint8_t *wire_answer_der(const struct wire_reader *r, size_t *len, const char **why);
/* What the service says of a refusal: the first line of a text, printable ASCII, cut to fit. */
void wire_answer_text(const struct wire_reader *r, char *out, size_t size);

#endif
