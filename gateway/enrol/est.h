/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enrollment over Secure Transport (RFC 7030, RFC 8951) over HTTP/1.1, both ends, without I/O: what a request asks, how an answer is written, and the other way
 * round. For the service (enrol.h), for our own renewals (renew.h) and for gwctl.
 */
#ifndef GATEWAY_ENROL_EST_H
#define GATEWAY_ENROL_EST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/http1/body.h"
#include "gateway/http1/head.h"

enum est_op { EST_CACERTS, EST_CSRATTRS, EST_ENROLL, EST_REENROLL, EST_OPS };

#define EST_BODY_MAX 65536     /* octets of a request's content */
#define EST_CSR_MAX 32768      /* of DER in it */
#define EST_CREDENTIAL_MAX 255 /* of a user name and of a password */

/* ---- requests, as the service reads them ---- */

struct est_request {
	enum est_op op;
	bool credentials;      /* HTTP Basic was sent */
	uint8_t user[EST_CREDENTIAL_MAX], password[EST_CREDENTIAL_MAX];
	size_t user_len, password_len;
};
/*
 * A head that h1_parse_request() took; host: the service's name. 0, or the status to answer with *why (one static line for the client) and *reason (a token for the
 * books). The request's content is still to come, at most EST_BODY_MAX octets.
 */
unsigned est_read_head(struct est_request *r, const struct h1_head *h, const char *host, const char **reason, const char **why);
/* The methods of an operation, for Allow. */
const char *est_allow(enum est_op op);
/* Base64 with or without line ends and spaces (RFC 8951 2.1); out holds n / 4 * 3 octets. The decoded length, or -1. */
long est_unbase64(uint8_t *out, const char *s, size_t n);

/* ---- answers, as the service writes them ---- */

enum est_content { EST_TEXT, EST_CERTS, EST_ENROLLED, EST_ATTRS };
struct est_answer {
	unsigned status;
	enum est_content content;
	const void *body;      /* text, or DER, which is written as base64 */
	size_t len;
	const char *realm;     /* 401 */
	const char *allow;     /* 405 */
	unsigned retry_after_s; /* 0: no such field */
	bool close;            /* the connection ends with it */
};
void est_write_answer(struct buf *out, const struct est_answer *a);

/* ---- requests, as clients write them ---- */

struct est_ask {
	enum est_op op;
	const char *host;      /* with ":port" where that is not 443 */
	const char *user, *password; /* NULL: none */
	const uint8_t *csr;    /* DER; with EST_ENROLL and EST_REENROLL */
	size_t csr_len;
};
void est_write_request(struct buf *out, const struct est_ask *a);

/* ---- answers, as clients read them ---- */

#define EST_ANSWER_MAX 131072  /* octets of an answer's content */
struct est_reader {
	struct buf in, content;
	struct h1_body body;
	size_t scan;
	unsigned status;       /* 0: the head is not here yet */
	unsigned retry_after_s; /* 0: it did not say */
	bool certs;            /* its type is application/pkcs7-mime */
	bool done;
};
void est_reader_init(struct est_reader *r);
void est_reader_fini(struct est_reader *r);
/* Octets as they come; eof: there are no more. 1 when the answer is whole, 0 for more, or -1 with *why (static). */
int est_read_answer(struct est_reader *r, const void *p, size_t n, bool eof, const char **why);
/* Of a whole answer: DER of a 200 (mem_free()), or NULL with *why (static) where it is not what was asked for. */
uint8_t *est_answer_der(const struct est_reader *r, size_t *len, const char **why);
/* What the service says of a refusal: the first line of a text, printable ASCII, cut to fit. */
void est_answer_text(const struct est_reader *r, char *out, size_t size);

#endif
