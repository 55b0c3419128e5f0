/* SPDX-License-Identifier: Apache-2.0 */
/* A local service whose endpoints are scripts in a process of their own, and exchanges that note what their egress leg told them. */
#ifndef TESTS_UNIT_UPSTREAM_BED_H
#define TESTS_UNIT_UPSTREAM_BED_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/upstream/internal.h"

/* What the origin's process tells ours. */
struct bed_seen {
	volatile int connections, requests, ended;
	volatile size_t bytes;
	char text[256 * 1024]; /* all it was sent, one connection after the other */
};

struct bed_call {              /* an exchange, as its egress leg sees it */
	struct leg *leg;
	unsigned heads, status, interim;
	bool head_end, ended, aborted, unsent, pause_at_data, over;
	enum leg_why why;
	char detail[64], body[128 * 1024], trailers[256], field[64]; /* field: the value of x-test */
	size_t body_len, drained;
};

struct bed {
	struct loop *loop;
	struct upstream_set *set;
	struct config config;
	struct config_service service;
	struct config_endpoint endpoints[3];
	struct bed_seen *seen;
	struct bed_call call[4];
	unsigned ncalls;
	uint8_t scratch[64 * 1024];
	void (*on_over)(struct bed *b, struct bed_call *c); /* in a turn of its own after a call was over */
	void (*on_pause)(struct bed *b, struct bed_call *c);
	struct loop_timer timer, limit;
	int pid;
};

/* The origin serves "listener" (blocking) as script() does; it is killed with the bed. */
void bed_init(struct bed *b, void (*script)(int listener, struct bed_seen *seen));
void bed_fini(struct bed *b);
/* An endpoint that refuses connections, before the origin's. */
void bed_dead_endpoint(struct bed *b);
void bed_ready(struct bed *b); /* makes the set; options are as they are now */
/* Until bed_stop(); fails the test after 10 s. */
void bed_run(struct bed *b);
void bed_stop(struct bed *b);
/* In ms from now. */
void bed_later(struct bed *b, unsigned ms, loop_fn *fn);

/* A request; its call's leg is NULL when none was started (why: detail). length: of the content that follows, LEG_NO_LENGTH: chunked; 0: none */
struct bed_call *bed_http(struct bed *b, const char *method, const char *path, const char *field, uint64_t length);
struct bed_call *bed_tcp(struct bed *b);
void bed_send(struct bed_call *c, const char *text);
void bed_end(struct bed_call *c);

/* For scripts, blocking: one head with what is there of the content (0: the connection ended); -1 it was reset. */
int bed_accept(int listener, struct bed_seen *seen);
long bed_read(int fd, struct bed_seen *seen);  /* one read, noted */
bool bed_request(int fd, struct bed_seen *seen); /* up to the end of a head */
void bed_say(int fd, const char *text);
void bed_reset(int fd);

#endif
