/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What producers (workers, master, control, keys) put into their ring: small binary events, which the
 * journal role validates, numbers, formats (record.h) and writes. The schema is one table (schema.c).
 */
#ifndef GATEWAY_AUDIT_EVENT_H
#define GATEWAY_AUDIT_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gateway/base/le.h"
#include "gateway/base/uuid.h"

enum audit_type {
	AUDIT_OPEN = 1,   /* an exchange was allowed and is about to cross: MSGID exchange-open, unless its end is in the same batch */
	AUDIT_END,        /* it ended: exchange-end; joined with its open in one batch: exchange */
	AUDIT_DENY,       /* an exchange was denied or refused before it could cross: deny */
	AUDIT_LINK_UP, AUDIT_LINK_DOWN,     /* link-up, link-down */
	AUDIT_REFUSED,    /* a handshake or connection was refused: refused */
	AUDIT_ALERT,      /* something that should never happen: alert */
	AUDIT_GENERATION, /* a config or policy generation was loaded or refused: generation */
	AUDIT_COMMAND,    /* a gwctl command that changes something: command */
	AUDIT_ROLE,       /* a role started, died or was killed: role */
	AUDIT_CERTIFICATE, /* the ca role issued a certificate, or refused to: certificate */
	AUDIT_ENROLMENT,  /* a worker carried a connection on to enrol.forward, or asked for a new certificate of ours: enrolment */
	AUDIT_TYPES,
};

/* Fields: ids are the wire, names and kinds are in schema.c. Text is bytes of any content; the journal escapes. */
enum audit_field {
	AUDIT_F_VERDICT = 1,  /* text: allow, deny */
	AUDIT_F_REASON,       /* text: why denied, refused, ended ("complete", "client-reset", "policy-revoked", …) */
	AUDIT_F_PRINCIPAL,    /* text: SPIFFE ID or empty */
	AUDIT_F_ASSURANCE,    /* text */
	AUDIT_F_SERVICE,      /* text: name */
	AUDIT_F_HOST,         /* text: host:port as asked */
	AUDIT_F_METHOD,       /* text */
	AUDIT_F_PATH,         /* text, as policy saw it, without the query */
	AUDIT_F_STATUS,       /* u64: HTTP status sent to the caller */
	AUDIT_F_RULE,         /* text: name */
	AUDIT_F_RULE_AT,      /* text: file:line */
	AUDIT_F_GENERATION,   /* u64: policy generation */
	AUDIT_F_DIRECTION,    /* text: out (from here to a peer), in (from a peer), local */
	AUDIT_F_PEER,         /* text: peer's name */
	AUDIT_F_GATEWAY,      /* text: the far gateway's id */
	AUDIT_F_LINK,         /* u64: link's number in this worker */
	AUDIT_F_CLIENT,       /* text: source address or uid */
	AUDIT_F_LISTENER,     /* text: name */
	AUDIT_F_ENDPOINT,     /* text: address */
	AUDIT_F_BYTES_IN,     /* u64: octets of content (TCP: stream) from the caller */
	AUDIT_F_BYTES_OUT,    /* u64: to the caller */
	AUDIT_F_DURATION_US,  /* u64 */
	AUDIT_F_CERT,         /* text: the caller's certificate, issuer serial and SHA-256 */
	AUDIT_F_DETAIL,       /* text */
	AUDIT_F_ROLE,         /* text */
	AUDIT_F_DIGEST,       /* text: hex */
	AUDIT_F_UID,          /* u64: admin socket peer credential (fact) */
	AUDIT_F_SUDO_UID,     /* text (claim) */
	AUDIT_F_COMMAND,      /* text */
	AUDIT_F_COUNT,        /* u64: how many of the same were put together in this record */
	AUDIT_F_PROTOCOL,     /* text: http/1.1, h2, tcp */
	AUDIT_F_UPLINK_EXCHANGE, /* text: the id that the next gateway gave (sidecars) */
	AUDIT_FIELDS,
};

#define AUDIT_EVENT_MAX 8192   /* bytes of a whole event; text fields are cut to AUDIT_TEXT_MAX */
#define AUDIT_TEXT_MAX 2048

/* Head of an event in the ring; fields follow: u16 id, u16 len, bytes; u64 for numbers. */
struct audit_head {
	uint32_t len;          /* of everything, a multiple of 8 */
	uint16_t type;         /* enum audit_type */
	uint16_t attempt;      /* of the exchange, from 1; 0: no exchange */
	uint64_t wall_us;
	struct uuid exchange;  /* zero: none */
};

/* Build an event on the stack or in place; no allocation. Inline, because a worker does it for each exchange. */
struct audit_event {
	uint8_t *p;            /* struct audit_head, then fields */
	uint32_t len, cap;
};
#define AUDIT_FIELD_HEAD 4u   /* u16 id, u16 len */

static inline void audit_event_init(struct audit_event *e, void *mem, size_t cap, enum audit_type type, const struct uuid *exchange,
    unsigned attempt, uint64_t wall_us)
{
	struct audit_head h = {0};

	h.type = (uint16_t)type;
	h.attempt = attempt > UINT16_MAX ? UINT16_MAX : (uint16_t)attempt;
	h.wall_us = wall_us;
	if (exchange)
		h.exchange = *exchange;
	memcpy(mem, &h, sizeof(h));
	e->p = mem;
	e->len = sizeof(h);
	/* The sum of everything is a multiple of 8, so what does not fill one is not ours to use. */
	e->cap = (uint32_t)(cap > AUDIT_EVENT_MAX ? AUDIT_EVENT_MAX : cap) & ~7u;
}

/* n 0: left out. Cut, never refused. */
static inline void audit_event_text(struct audit_event *e, enum audit_field f, const void *p, size_t n)
{
	uint8_t *at = e->p + e->len;

	if (n == 0 || e->cap - e->len <= AUDIT_FIELD_HEAD)
		return;
	if (n > AUDIT_TEXT_MAX)
		n = AUDIT_TEXT_MAX;
	if (n > e->cap - e->len - AUDIT_FIELD_HEAD)
		n = e->cap - e->len - AUDIT_FIELD_HEAD;
	le_put16(at, (uint16_t)f);
	le_put16(at + 2, (uint16_t)n);
	memcpy(at + AUDIT_FIELD_HEAD, p, n);
	e->len += AUDIT_FIELD_HEAD + (uint32_t)n;
}

/* NULL or empty: left out. */
static inline void audit_event_str(struct audit_event *e, enum audit_field f, const char *s)
{
	if (s)
		audit_event_text(e, f, s, strlen(s));
}

static inline void audit_event_u64(struct audit_event *e, enum audit_field f, uint64_t v)
{
	uint8_t *at = e->p + e->len;

	if (e->cap - e->len < AUDIT_FIELD_HEAD + sizeof(v))
		return;
	le_put16(at, (uint16_t)f);
	le_put16(at + 2, sizeof(v));
	le_put64(at + AUDIT_FIELD_HEAD, v);
	e->len += AUDIT_FIELD_HEAD + sizeof(v);
}

/* Pads and sets the length; the event is then e->p, e->len. */
static inline void audit_event_done(struct audit_event *e)
{
	while (e->len & 7)
		e->p[e->len++] = 0;
	le_put32(e->p, e->len);
}

/* Which fields are numbers (8 bytes); the others are text. */
#define AUDIT_U64_FIELDS                                                                                             \
	(UINT64_C(1) << AUDIT_F_STATUS | UINT64_C(1) << AUDIT_F_GENERATION | UINT64_C(1) << AUDIT_F_LINK |               \
	    UINT64_C(1) << AUDIT_F_BYTES_IN | UINT64_C(1) << AUDIT_F_BYTES_OUT | UINT64_C(1) << AUDIT_F_DURATION_US |    \
	    UINT64_C(1) << AUDIT_F_UID | UINT64_C(1) << AUDIT_F_COUNT)
static inline bool audit_event_is_u64(enum audit_field f)
{
	return AUDIT_U64_FIELDS >> f & 1;
}

/* Reader: a checked view of one event; points into the bytes that were parsed. */
struct audit_fields {
	struct audit_head head;
	uint64_t present;      /* bits 1 << enum audit_field; f[] is set for these alone */
	struct {
		const uint8_t *p;
		uint16_t n;
	} f[AUDIT_FIELDS];
};
bool audit_event_has_exchange(const struct audit_head *h); /* its id is not zero */
/*
 * Check the "len" bytes of one whole event (private memory: they must not change meanwhile). 0, or -1 with
 * *why static: bad length, type, field, a field twice, padding that is not zero.
 */
int audit_event_parse(struct audit_fields *out, const uint8_t *p, size_t len, const char **why);

#endif
