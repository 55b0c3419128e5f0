/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges: the decision, the route, the two legs and the books.
 *
 * Objects: one gate per worker owns everything that carries traffic; an exchange belongs to its gate from
 * exchange_start() until both legs are done, and every way out of it goes through finish() in exchange.c.
 *
 *	ingress (h1.c, h2.c, tcp.c, link) ─▶ exchange_start(): service, policy, journal ─▶ egress (link, upstream)
 */
#ifndef GATEWAY_EXCHANGE_EXCHANGE_H
#define GATEWAY_EXCHANGE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/queue.h"
#include "gateway/config/config.h"
#include "gateway/enrol/enrol.h"
#include "gateway/io/leg.h"
#include "gateway/link/link.h"
#include "gateway/upstream/upstream.h"
#include "policy/policy.h"

struct exchange;
LIST_HEAD(exchange_list, exchange);
TAILQ_HEAD(exchange_queue, exchange);

struct gate_service {          /* counters by config.services */
	uint64_t allowed, denied, failed;
	uint32_t active;
	uint32_t policy_id;    /* in the current image */
	struct deadline_queue *q_response;
};

struct gate {
	struct loop *loop;
	const struct config *config;
	struct policy policy;
	struct ring *ring;
	struct caller_table *callers;
	struct link_set *links;
	struct upstream_set *upstreams;
	struct tls_env *tls;
	uint8_t *scratch;
	size_t scratch_size;
	uint32_t worker;
	bool draining;
	struct gate_service *services;
	struct exchange_list exchanges;
	struct exchange_queue *parked; /* by peer */
	unsigned nparked;
	uint64_t allowed, denied, active;
	uint64_t stripped;             /* identity fields that applications sent */
	char *via;                     /* our part of Via */
	struct deadline_queue *q_park;
	struct ingress *ingress;       /* accept.h */
	struct {                       /* verify.c: callers are looked through, a part of them in a turn */
		struct loop_timer timer;
		struct loop_task slice;
		unsigned cursor;
		bool running, again, urgent, vouch; /* again: each is to be judged anew; urgent: those first that have exchanges */
		bool anew, hurried;     /* anew: trust changed since this pass began; hurried: the others had to wait for that once already */
		struct caller **marked; /* references: what depends on them ends or is rebound when the round is over */
		size_t nmarked, cap;
	} trust;
	struct enrol *enrol;           /* the enrolment service; NULL: none */
};

/* Sets up what is derived from config and policy; the caller filled the fields above "draining". */
void gate_init(struct gate *g);
void gate_fini(struct gate *g);
/* A new policy image: swapped in between two exchanges, then every running one is judged again. */
void gate_set_policy(struct gate *g, const struct policy *p);
/* Callers and CRLs that end are looked after from now on. */
void gate_watch(struct gate *g);
/* What is trusted changed, and link_set_trust() was told: whatever depends on callers that are not good any more is cut within two seconds. */
void gate_judge_callers(struct gate *g);
/* Links are being cut (link_env.on_cut). */
void gate_cut_links(struct gate *g);
/* A peer has a ready link: those who waited for one go on. */
void gate_unpark(struct gate *g, int peer);

/* The process ends: what still runs is cut, and its end recorded with this reason. */
void gate_cut(struct gate *g, const char *reason);

/* Where an exchange comes from. */
struct exchange_from {
	const char *listener;          /* name; NULL for links */
	const char *protocol;          /* "http/1.1", "h2", "tcp" */
	const struct addr *client;     /* NULL: a Unix socket */
	uint32_t uid;                  /* then: its user */
	uint16_t default_port;         /* 80, 443 */
	struct link *link;             /* the peer's link it came by; NULL: from a caller of our own */
	const struct link_call *call;  /* with link: id, attempt, refusal */
	bool sidecar;                  /* another gateway of ours, which wants to know the exchange's id */
	bool tcp_service;              /* a raw TCP listener: "service" is meant */
	int service;
	bool over_limit;               /* the ingress refuses it: 429 */
	unsigned refuse_status;        /* the ingress refuses it with this status … */
	const char *refuse_why;        /* … and reason; NULL: no */
};

/*
 * A request head from an ingress leg. Afterwards in->ev and in->x are set, or the exchange was answered and released already
 * (in->ev is NULL). The caller reference is taken by the exchange itself.
 */
void exchange_start(struct gate *g, struct leg *in, struct caller *caller, const struct leg_head *head,
    const struct exchange_from *from);

/* A refusal or alert that is no exchange, for the journal: handshakes, protocol errors. Rate-limited by the journal. */
void gate_note(struct gate *g, enum audit_type type, const char *listener, const struct addr *client,
    const char *principal, const char *reason, const char *detail);

#endif
