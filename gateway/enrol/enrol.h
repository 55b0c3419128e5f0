/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The enrolment service of a worker: EST (RFC 7030) on connections whose TLS handshake asked for its name, answered by the ca role; or, with
 * enrol.forward, such connections carried on to where the CA is, their TLS unopened.
 *
 * Objects: one enrol per worker; a connection belongs to it from enrol_serve() or enrol_forward() until gone() was called.
 */
#ifndef GATEWAY_ENROL_ENROL_H
#define GATEWAY_ENROL_ENROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/ring.h"
#include "gateway/base/addr.h"
#include "gateway/base/buf.h"
#include "gateway/ca/client.h"
#include "gateway/config/config.h"
#include "gateway/io/conn.h"
#include "gateway/tls/tls.h"

#define ENROL_CONNECTIONS_MAX 256 /* of a worker */

struct enrol;
struct enrol_env {
	struct loop *loop;
	const struct config *config; /* borrowed, as everything here */
	struct ring *ring;
	struct ca_client *ca;        /* NULL with forward */
	uint8_t *scratch;            /* the worker's reading buffer */
	size_t scratch_size;
};
/* NULL when the config has no enrolment service. */
struct enrol *enrol_new(const struct enrol_env *env);
/* Every connection must be gone. NULL is a no-op. */
void enrol_free(struct enrol *e);

/* Whether one more connection is taken. */
bool enrol_room(const struct enrol *e);
/* From whom a connection comes. gone: once, when it is over; perhaps before the call that gave it returns. */
struct enrol_client {
	struct addr from;
	const char *listener;
	void (*gone)(void *ctx);
	void *ctx;
};
/* EST on a connection whose handshake is done, with tls_enrol(). Takes c (heap; its layer is tls). */
void enrol_serve(struct enrol *e, struct conn *c, struct tls_conn *tls, const struct enrol_client *client);
/* A socket goes on to enrol.forward, from its first octet. Takes fd. */
void enrol_forward(struct enrol *e, int fd, const struct enrol_client *client);
/* Stop when what is asked was answered: idle connections now, the others after their answer. Those that go on unopened end by themselves. */
void enrol_drain(struct enrol *e);

/* JSON object: connections, requests, refused, forwarded. */
void enrol_status(const struct enrol *e, struct buf *out);

#endif
