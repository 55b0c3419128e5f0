/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions against each other, or against frames made by hand, over a socket pair. One loop per test. */
#ifndef TESTS_UNIT_HTTP2_BED_H
#define TESTS_UNIT_HTTP2_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/mem.h"
#include "gateway/http2/session.h"

struct end;

/* One exchange, seen from the client's or the server's side. */
struct call {
	LIST_ENTRY(call) entry;
	struct end *end;
	struct leg *leg;         /* NULL: over */
	/* the head that came, as text */
	char method[40], authority[128], path[256], field[256]; /* field: of the name x-test, and of trailers x-trailer */
	char trailer[64];
	unsigned status, interim, nfields, ntrailers;
	bool https;
	uint64_t length;
	/* content that came */
	uint64_t got;
	uint32_t sum;            /* of it, in order */
	bool head_end, ended, aborted, unsent;
	enum leg_why why;
	char detail[32];
	/* content to go, from pattern() */
	uint64_t to_send, sent;
	bool sending, end_sent;
	unsigned drained;
	size_t most;             /* the most that waited in the stream */
	bool pause_always;       /* pauses at each piece; bed_resume() */
	bool paused;
};

struct end {
	struct conn *conn;
	struct h2 *h2;
	bool server;
	LIST_HEAD(, call) calls;
	unsigned requests, pings, goaways, settings, idles, rooms;
	int32_t goaway_last;
	uint32_t goaway_code;
	char error[32];
	const struct h2_ops *ops;
	void (*serve)(struct call *c); /* a request's head is here */
	enum leg_why free_why;
	bool leaves;             /* a GOAWAY is answered with one */
};

extern struct loop *bed_loop;
extern struct end bed_client, bed_server;
extern struct h2_config bed_client_config, bed_server_config;

int bed_setup(void **state);
int bed_teardown(void **state);
/* Both ends with the configurations above; or the server alone, whose other end is bed_fd. */
void bed_pair(void);
void bed_raw(void);
void bed_open(struct end *e, int fd, const struct h2_config *cfg);
extern int bed_fd;
void bed_close(struct end *e);

/* Runs the loop until step() is true, which is asked once a turn; fails after 10 s. Once per test. */
void bed_run(bool (*step)(void));

/* ---- exchanges ---- */

/* to_send: octets of content; UINT64_MAX: end with the head. */
struct call *bed_request(const char *method, const char *path, uint64_t to_send);
struct call *bed_request_fields(const char *method, const char *path, uint64_t to_send, const struct h1_field *f, unsigned n);
void bed_answer(struct call *c, unsigned status, uint64_t to_send);
void bed_resume(struct call *c);
void bed_forget(struct call *c);
/* What the server does by default: echoes the head as x-test, and sends /N octets. */
void bed_serve(struct call *c);
struct h1_field bed_field(const char *name, const char *value);
uint32_t bed_sum(uint64_t n);   /* of the first n octets of the pattern */
uint32_t bed_sum_of(const uint8_t *p, size_t n);
uint64_t bed_bytes(void);       /* allocated now, as far as malloc knows */

/* ---- frames by hand ---- */

struct raw {
	uint8_t p[400000];
	size_t n;
};

void raw_reset(struct raw *r);
void raw_preface(struct raw *r);                 /* client magic and empty SETTINGS */
void raw_frame(struct raw *r, unsigned type, unsigned flags, uint32_t id, const void *payload, size_t n);
/* Appends a literal header field, never indexed, no Huffman; to a block of its own. */
void raw_field(struct raw *block, const char *name, size_t nlen, const char *value, size_t vlen);
void raw_request_block(struct raw *block, const char *method, const char *path);
void raw_send(const struct raw *r);              /* into bed_fd, all of it, before the loop runs */
/* What the server wrote so far: counts frames. */
struct seen {
	uint8_t p[1 << 20];
	size_t n;
	unsigned frames[256], resets;
	uint32_t goaway, reset_code; /* the last */
	bool has_goaway, closed;
};
void raw_read(struct seen *s);

#endif
