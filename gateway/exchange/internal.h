/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an exchange is, and what the files that make it share: exchange.c begins it, route.c sends it on, relay.c carries it from leg to
 * leg and ends it, books.c records it. Private to this folder.
 */
#ifndef GATEWAY_EXCHANGE_INTERNAL_H
#define GATEWAY_EXCHANGE_INTERNAL_H

#include "gateway/exchange/exchange.h"

/* Tries of one exchange on a link in all. */
#define EXCHANGE_MAX_ATTEMPTS 3

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
	bool rebound;                  /* the caller's certificate is another than at its start */
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

static inline struct h1_field exchange_field(const char *name, size_t name_len, const char *value, size_t len)
{
	return (struct h1_field){ .name = name, .name_len = (uint32_t)name_len, .value = value, .value_len = (uint32_t)len };
}

/* ---- relay.c ---- */

extern const struct leg_events relay_in_events, relay_out_events;
/* Every exchange ends here; its legs are gone already, and so is x afterwards. */
void relay_finish(struct exchange *x, const char *reason);
void relay_drop_out(struct exchange *x, enum leg_why why);  /* no-op without the leg */
void relay_drop_in(struct exchange *x, enum leg_why why);
/* Cut both legs: "why" goes out on the wire, "reason" into the books. Ends x. */
void relay_cut(struct exchange *x, enum leg_why why, const char *reason);
/* Our own answer to the caller, whose leg is released; x goes on to relay_finish(). token: for another gateway. */
void relay_answer(struct exchange *x, unsigned status, const char *token);
/* The egress failed before an answer came: say so, or cut where an answer has begun. Ends x. */
void relay_fail(struct exchange *x, unsigned status, const char *token);

/* ---- verify.c ---- */

/* A leg ended early: the far gateway may have noticed before us that the caller is not good any more. That reason, or the one given. */
const char *verify_reason(struct exchange *x, const char *reason);

/* ---- route.c ---- */

/* By a link, now or when there is one. May end x. */
void route_link(struct exchange *x);
/* To an endpoint of a local service. h is borrowed. May end x. */
void route_local(struct exchange *x, const struct leg_head *h);
deadline_fn route_on_response_limit, route_on_park_limit;

#endif
