/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gate whose legs, links and local services are stubs that write down what they are told, in the order in which they are told:
 * "<" towards the caller, ">" towards the service. Policy, ring and callers are the real ones; what the ring got is read back as text.
 */
#ifndef TESTS_UNIT_EXCHANGE_BED_H
#define TESTS_UNIT_EXCHANGE_BED_H

#include "gateway/exchange/exchange.h"

struct stub {                  /* a leg; first member: what the exchange holds */
	struct leg leg;
	char side;             /* '<' or '>' */
	bool full, gone;       /* gone: released or aborted */
};

struct bed {
	struct gate gate;
	struct stub in[8], out[8];
	unsigned nin, nout;
	int links;             /* how many links are ready */
	bool local_fails;      /* upstream_*() return NULL */
	bool wait;             /* siblings may know a successor */
	const char *barred;    /* why nothing goes to the peer; NULL */
	const char *cut;       /* why its links are being cut; NULL */
	const char *kept;      /* content that a link never sent, and gives back; NULL: it is gone */
	int ring_fd, wake_fd;
	struct ring *reader;
	struct loop_timer timer, limit;
	char said[8192];
};
extern struct bed bed;
#define BED_APP "spiffe://hud.example/app" /* the usual caller */

void bed_setup(void);
void bed_teardown(void);       /* checks that nothing is counted any more */
/* A request: service "web" (by the peer), "local", "db" (CONNECT, by the peer), "ldb" (CONNECT, local) or any host. */
struct bed_ask {
	const char *method, *host, *path;
	const struct h1_field *fields;
	unsigned nfields;
	bool body;             /* content follows */
	bool raw;              /* from a raw TCP listener */
	bool from_link;
	struct caller *caller; /* NULL: the usual one */
	const char *refusal;   /* of the link's call */
	unsigned refusal_status;
};
struct stub *bed_ask(const struct bed_ask *a);
struct stub *bed_get(const char *method, const char *host, const char *path, bool body);
/* What legs say to the exchange. */
void bed_data(struct stub *s, const char *text);
void bed_end(struct stub *s, const char *trailer); /* NULL: none; else the name of one, whose value is "t" */
void bed_head(struct stub *s, unsigned status, bool end);
void bed_head_with(struct stub *s, unsigned status, bool end, const struct h1_field *f, unsigned n);
void bed_abort(struct stub *s, enum leg_why why, bool unsent, const char *detail);
void bed_drained(struct stub *s);
struct h1_field bed_field(const char *name, const char *value);
/* What was said since the last time, and what is in the book since the last time. */
const char *bed_said(void);
const char *bed_book(void);
void bed_wait(unsigned ms);    /* once in a test: time passes */
/* Rules: may the usual caller call everything but /denied? */
void bed_policy(bool allow);
void bed_context(const char *text); /* option policy_context */
void bed_fill_ring(void);
/* A caller known by certificate, good for "seconds" more; a reference. */
struct caller *bed_caller(const char *id, int seconds);
/* One round through all callers. */
void bed_round(void);
/* The peer is severed, or is back. */
void bed_sever(bool severed);

#endif
