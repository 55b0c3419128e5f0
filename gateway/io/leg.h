/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exchange has two legs: the ingress leg towards the caller and the egress leg towards the service or
 * the peer. Both speak this one interface, whatever protocol is under it, so that any ingress meets any egress.
 *
 *	caller ─▶ ingress leg ─ on_* ▶ exchange ─ ops ▶ egress leg ─▶ service
 *	caller ◀─ ingress leg ◀ ops ── exchange ◀ on_* ─ egress leg ◀─ service
 *
 * A leg ends in one of three ways: the exchange calls ops->release (both directions ended well) or ops->abort, or
 * the leg calls ev->on_abort. After any of them neither side touches the other again.
 */
#ifndef GATEWAY_IO_LEG_H
#define GATEWAY_IO_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/http1/head.h"

#define LEG_NO_LENGTH UINT64_MAX

/* A message head on its way; every pointer is borrowed for the call. */
struct leg_head {
	/* request */
	const char *method, *authority, *path; /* path: with its query, normalised; TCP: method is CONNECT and path NULL */
	uint32_t method_len, authority_len, path_len, path_only_len;
	enum h1_method method_id;
	bool https;
	/* response */
	unsigned status;               /* 0: a request */
	/* both */
	const struct h1_field *fields; /* end-to-end fields only matter: h1_field.hop is skipped */
	unsigned nfields;
	uint64_t length;               /* of the content; LEG_NO_LENGTH: not known */
	bool end;                      /* no content and no trailers follow: on_end/end is not called */
};

/* Why a leg is cut; what goes out on the wire follows from it. */
enum leg_why {
	LEG_CANCEL,   /* the other side went away */
	LEG_RESET,    /* the other side's TCP was reset: carried as a reset */
	LEG_REFUSED,  /* not processed: safe to try elsewhere */
	LEG_PROTOCOL, /* malformed */
	LEG_INTERNAL, /* ours */
	LEG_TIMEOUT,
	LEG_REVOKED,  /* no longer allowed */
};

struct leg;

struct leg_ops {               /* exchange → leg */
	void (*head)(struct leg *l, const struct leg_head *h);  /* 1xx heads may come before the final one */
	void (*data)(struct leg *l, const uint8_t *p, size_t n); /* not after full() without a pause of the source, but never refused */
	void (*end)(struct leg *l, const struct h1_field *trailers, unsigned n); /* for TCP: half-close */
	bool (*full)(struct leg *l);                            /* on_drained will follow */
	void (*pause)(struct leg *l);                           /* no on_data until resume */
	void (*resume)(struct leg *l);
	void (*abort)(struct leg *l, enum leg_why why);
	void (*release)(struct leg *l);
};

struct leg_events {            /* leg → exchange */
	void (*on_head)(void *x, const struct leg_head *h);
	void (*on_data)(void *x, const uint8_t *p, size_t n);
	void (*on_end)(void *x, const struct h1_field *trailers, unsigned n);
	void (*on_drained)(void *x);
	/* unsent: nothing of the request can have reached the service, so it may be repeated elsewhere. detail: a stable token. */
	void (*on_abort)(void *x, enum leg_why why, bool unsent, const char *detail);
};

struct leg {
	const struct leg_ops *ops;
	const struct leg_events *ev; /* NULL: nobody listens any more */
	void *x;
};

#endif
