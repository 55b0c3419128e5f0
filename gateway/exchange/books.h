/* SPDX-License-Identifier: Apache-2.0 */
/* What an exchange is, and what of it goes into the journal. Private to this folder. */
#ifndef GATEWAY_EXCHANGE_BOOKS_H
#define GATEWAY_EXCHANGE_BOOKS_H

#include "gateway/exchange/exchange.h"

struct exchange {
	LIST_ENTRY(exchange) entry;    /* in gate.exchanges, once opened */
	TAILQ_ENTRY(exchange) park;
	struct gate *g;
	struct leg *in, *out;          /* NULL: done with */
	struct caller *caller;
	struct exchange_from from;     /* "call" is valid during exchange_start() only, the rest as long as "in" */
	struct uuid id;
	unsigned attempt;
	int service;                   /* in config.services; -1: none */
	int peer;                      /* that it goes to; -1: a local endpoint */
	int from_peer;                 /* that it came from; -1: our own side */
	struct link *link;             /* last tried; compared only */
	uint32_t link_number;
	const char *endpoint;          /* its text, once known */
	uint32_t rule;
	unsigned status, interim;
	uint64_t start_us, bytes_in, bytes_out;
	struct deadline limit;         /* parked, or waiting for the answer */
	bool tcp, tcp_raw, is_head, from_link, opened, parked;
	bool in_ended, out_ended, head_sent, body_sent, in_paused, out_paused;
	bool far_id_known;
	struct uuid far_id;            /* a sidecar's: the id that its gateway gave the exchange */
	char far_error[32];            /* what the far gateway said of its refusal */
	uint32_t far_error_len;
	struct outq early;             /* content that came while parked */
	struct h1_field *trailers;     /* and trailers: owned, text behind them */
	unsigned ntrailers;
	/* the request, as long as it may be needed; behind the struct or in "large" */
	struct leg_head head;
	struct h1_field *fields;
	char *text, *large;
	uint32_t text_used;
	char mem[LINK_CALL_MEM];
};

bool books_open(struct exchange *x, const struct leg_head *h);
void books_end(struct exchange *x, const char *reason);
/* The attempt under way ended with this status and reason, and the next begins: x->attempt is one more. False: it could not be recorded. */
bool books_again(struct exchange *x, unsigned status, const char *reason);
void books_deny(struct exchange *x, const struct leg_head *h, unsigned status, const char *reason, uint32_t rule);
/* Something in a running exchange that should never happen. */
void books_alert(struct exchange *x, const char *reason);
/* An exchange was refused because it could not be recorded: the operator log says so, at most once a second. */
void books_unaudited(struct gate *g, const char *why);
/* Which side ended it early: "client-…" and "service-…" for a leg's detail. Static text. */
const char *books_client_reason(const char *detail);
const char *books_service_reason(const char *detail);

#endif
