/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 session (RFC 9113) over a conn: nghttp2 inside, legs outside. Its role (client or server) has
 * nothing to do with who dialled.
 *
 * Objects: a session (struct h2, owned by whoever made it) holds streams (struct h2_stream, owned by the
 * session), each of which is a leg of an exchange. A stream lives until both directions are over or it is
 * reset; its owner forgets it at release, abort or on_abort.
 *
 * Windows open only as fast as the other leg drains; what a session may hold for slow legs is bounded by
 * its link window.
 */
#ifndef GATEWAY_HTTP2_SESSION_H
#define GATEWAY_HTTP2_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/queue.h"
#include "gateway/io/conn.h"
#include "gateway/io/leg.h"

#define H2_MAX_FIELDS H1_MAX_FIELDS
#define H2_MAX_HEAD H1_MAX_HEAD /* decoded: name + value + 32 for each field (RFC 9113 6.5.2) */

struct h2;

struct h2_stream {
	struct leg leg;
	struct h2 *h2;
	LIST_ENTRY(h2_stream) entry;
	int32_t id;
	struct outq out;
	uint64_t sent, swept;  /* octets of content handed to the session; the same when it was last looked at */
	uint32_t held;         /* received, and the window not opened yet */
	uint8_t still;         /* looks since "sent" moved, while something waits */
	bool paused, was_full, out_end, deferred;
	bool remote_end, local_end, released, head_received;
	bool reset;            /* by us, of our own will */
	bool unsent;           /* the far end cannot have processed it */
	void *trailers;        /* owned copy, sent after the content */
	uint64_t user;         /* the owner's */
};

struct h2_ops {
	/*
	 * Server: a request arrived on a new stream. The owner sets s->leg.ev and .x, or answers, or resets.
	 * (A client's response heads go to s->leg.ev->on_head.)
	 */
	void (*on_request)(struct h2 *h, struct h2_stream *s, const struct leg_head *head);
	void (*on_ping)(struct h2 *h);                  /* our PING was answered */
	void (*on_goaway)(struct h2 *h, int32_t last_id, uint32_t code); /* the far end takes no more streams */
	void (*on_settings)(struct h2 *h);              /* the far end's first SETTINGS came */
	void (*on_idle)(struct h2 *h);                  /* the last stream closed, or h2_done() became true */
	void (*on_room)(struct h2 *h);                  /* client: h2_open_ok() said no for want of room, and there is some now */
	/*
	 * The session is over: by an error of either side ("protocol", "frame-flood", …; RFC 9113 7), or because a GOAWAY was said and no
	 * stream is left ("goaway"). What there is to say is in the conn's queue. The owner calls h2_free() before it returns.
	 */
	void (*on_error)(struct h2 *h, const char *why);
};

struct h2_config {
	bool server;
	bool link;                     /* the far end is a gateway: room for what it says about callers */
	uint32_t max_streams;          /* that the far end may open */
	uint32_t stream_window;        /* bytes */
	uint32_t session_window;
	uint32_t resets_per_second;    /* 0: not limited (links, where many callers share a session) */
	uint64_t head_ms;              /* for the first SETTINGS, and for a header block that is cut to become whole; 0: for ever */
	uint64_t write_ms;             /* a stream whose output stands still so long (to twice that) is reset; 0: never */
};

/* The conn is borrowed and must be open. Sends the preface and SETTINGS at the end of this turn. */
struct h2 *h2_new(struct conn *c, const struct h2_config *cfg, const struct h2_ops *ops, void *owner);
/*
 * Every stream that is left gets on_abort(why, unsent as known). Allowed in callbacks: the session is freed when the turn is over, its
 * streams at once.
 */
void h2_free(struct h2 *h, enum leg_why why);
void *h2_owner(const struct h2 *h);
/* Bytes from the conn. -1: the session is over (on_error was called). */
int h2_input(struct h2 *h, const uint8_t *p, size_t n);
/* The conn drained below its mark. */
void h2_output_ready(struct h2 *h);
void h2_ping(struct h2 *h);
/*
 * GOAWAY: the streams that run go on. code: RFC 9113 7. A server that leaves without an error gives notice first, so that no request that
 * is on its way is lost (6.8).
 */
void h2_goaway(struct h2 *h, uint32_t code);
bool h2_done(const struct h2 *h);      /* after h2_goaway(): no stream is left and none can come */
bool h2_open_ok(struct h2 *h);         /* client: a new stream may be opened now (no GOAWAY, below the far end's limit) */
unsigned h2_streams(const struct h2 *h);
unsigned h2_room(const struct h2 *h);  /* client: how many more streams may be open at once */

/*
 * Client: a request. Fields are lower-case and end-to-end; their bytes are borrowed until the response's head or
 * on_abort if keep is true, else copied. NULL when no stream can be opened now.
 */
struct h2_request {
	const char *method, *scheme, *authority, *path; /* NULL scheme and path: CONNECT (RFC 9113 8.5) */
	uint32_t method_len, scheme_len, authority_len, path_len;
	const struct h1_field *fields;
	unsigned nfields;
	bool end;
	bool keep;
};
struct h2_stream *h2_request(struct h2 *h, const struct h2_request *r);
/*
 * In on_abort of a request that is unsent: moves the content that it was given to the end of "to". False, with "to" as it was, when some of
 * that has left, or trailers were given with it.
 */
bool h2_take_back(struct h2_stream *s, struct outq *to);
/* A stream as a leg. */
extern const struct leg_ops h2_stream_ops;

/* RFC 9113 7 */
enum { H2_NO_ERROR = 0, H2_PROTOCOL_ERROR = 1, H2_INTERNAL_ERROR = 2, H2_REFUSED_STREAM = 7, H2_CANCEL = 8, H2_CONNECT_ERROR = 10, H2_ENHANCE_YOUR_CALM = 11 };

#endif
