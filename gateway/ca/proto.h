/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between a worker and the ca role (gateway/process/ipc.h): what EST (RFC 7030) asks for, one datagram each way. The ca role believes nothing
 * of a request but the address it came from, and that only for its books. No I/O here.
 */
#ifndef GATEWAY_CA_PROTO_H
#define GATEWAY_CA_PROTO_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/process/ipc.h"

enum ca_msg {
	CA_MSG_ASK = 176,     /* worker -> ca */
	CA_MSG_ANSWER,        /* ca -> worker */
};

enum ca_op {
	CA_CACERTS,           /* RFC 7030 4.1 */
	CA_CSRATTRS,          /* 4.5 */
	CA_ENROLL,            /* 4.2.1 */
	CA_REENROLL,          /* 4.2.2 */
	CA_OPS,
};

/* What the HTTP answer is made of; 200, 400, 401, 403, 409, 503, 429 in this order. */
enum ca_status {
	CA_OK,
	CA_BAD_REQUEST,
	CA_UNAUTHORIZED,      /* a token is missing or wrong */
	CA_FORBIDDEN,
	CA_CONFLICT,
	CA_UNAVAILABLE,
	CA_TOO_MANY,
	CA_STATUSES,
};
const char *ca_op_text(unsigned op);          /* "cacerts", "csrattrs", "simpleenroll", "simplereenroll" */
const char *ca_status_text(unsigned status);  /* "ok", "bad-request", … */

#define CA_CLIENT_MAX 64      /* octets of an address as text */
#define CA_USER_MAX 255
#define CA_PASSWORD_MAX 255
#define CA_CHAIN_MAX 8        /* certificates of a client */
#define CA_CSR_MAX 32768
#define CA_ITEMS_MAX 16       /* certificates of an answer */
#define CA_REASON_MAX 64
#define CA_TEXT_MAX 1024
#define CA_MESSAGE_MAX IPC_MAX_DATA

struct ca_der {
	const uint8_t *p;
	size_t len;           /* never 0 */
};

/* Texts are not NUL-terminated and may hold any octet: user and password are a peer's. */
struct ca_ask {
	uint64_t id;          /* chosen by the worker, returned as it is */
	unsigned op;
	struct ca_der client; /* the peer's address as text; len 0: not known */
	struct ca_der user, password; /* HTTP Basic (RFC 7617); both len 0: none was sent */
	struct ca_der chain[CA_CHAIN_MAX]; /* what the peer authenticated with in TLS, leaf first */
	size_t nchain;
	struct ca_der csr;    /* PKCS#10 DER; with CA_ENROLL and CA_REENROLL, len 0 else */
};

struct ca_answer {
	uint64_t id;
	unsigned status;
	struct ca_der reason; /* a token for books and scripts: "token-used"; "" with CA_OK */
	struct ca_der text;   /* one line for the peer; printable ASCII; "" with CA_OK */
	/* With CA_OK and nothing else: CA_ENROLL, CA_REENROLL: the certificate, then the issuing CA; CA_CACERTS: the issuing CA, then roots; CA_CSRATTRS: one CsrAttrs */
	struct ca_der items[CA_ITEMS_MAX];
	size_t nitems;
};

/* Write a message; its length, or 0 when something in it is longer than it may be. */
size_t ca_proto_put_ask(uint8_t out[CA_MESSAGE_MAX], const struct ca_ask *m);
size_t ca_proto_put_answer(uint8_t out[CA_MESSAGE_MAX], const struct ca_answer *m);
/* 0 with pointers into p, or -1 when malformed. */
int ca_proto_get_ask(struct ca_ask *m, const uint8_t *p, size_t len);
int ca_proto_get_answer(struct ca_answer *m, const uint8_t *p, size_t len);

#endif
