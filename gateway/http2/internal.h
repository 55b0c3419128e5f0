/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share.
 *
 *	session.c  a session's life, what goes in and out, and when it is over
 *	block.c    header blocks: collected, bounded, checked, and told as heads
 *	stream.c   streams as legs; flow control; content
 *	pool.c     memory for nghttp2
 */
#ifndef GATEWAY_HTTP2_INTERNAL_H
#define GATEWAY_HTTP2_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "gateway/http2/session.h"

struct block_saved;

struct h2 {
	nghttp2_session *ng;
	struct conn *conn;
	const struct h2_ops *ops;
	void *owner;
	LIST_HEAD(, h2_stream) streams;
	unsigned nstreams;
	unsigned nfull;          /* of which owe on_drained */
	struct loop_task send;
	uint32_t session_window;
	size_t held;             /* received for paused streams */
	size_t conn_held;        /* of which the session's window was not opened */
	uint32_t max_resets, resets, glitches;
	uint64_t second;
	unsigned pings;          /* that the far end has not answered */
	const char *why;         /* it is over: told when nghttp2 has returned */
	int32_t last;            /* server, final: the last stream that our GOAWAY admits */
	struct deadline head;    /* until the first SETTINGS, and while a header block is cut */
	struct deadline sweep;   /* looks for streams whose output does not move */
	struct deadline_queue *q_head, *q_sweep;
	bool server, link, told, freed;
	bool goaway_received, settings_seen;
	bool leaving;            /* h2_goaway() was called */
	bool final;              /* and no new stream can come any more */
	bool final_due;          /* client: our GOAWAY waits for requests that were made before it */
	bool said_error;         /* a GOAWAY with an error code was sent */
	bool starved;            /* h2_open_ok() said no for want of room */
	bool room_due;
	/* the header block that is being received; in the arena, or saved while another session uses it */
	bool in_block;
	struct block_saved *saved;
};

/* ---- session.c ---- */

/* Write at the end of the turn. */
void session_kick(struct h2 *h);
/* For nghttp2's callbacks: the session ends with this code; returns what the callback returns. */
int session_give_up(struct h2 *h, const char *why, uint32_t code);

static inline struct h2_stream *session_stream(struct h2 *h, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h->ng, id);
}

/* ---- block.c ---- */

void block_begin(struct h2 *h);
/* 0, or what nghttp2's header callback returns for a stream error. */
int block_field(struct h2 *h, const char *name, size_t nlen, const char *value, size_t vlen);
/* The block is whole: a request on a new stream, an answer, or trailers. */
void block_request(struct h2 *h, int32_t id, bool end);
void block_response(struct h2_stream *s, bool end);
void block_trailers(struct h2_stream *s);
/* A block that is cut between two reads makes room for other sessions' blocks. */
void block_save(struct h2 *h);
void block_restore(struct h2 *h);

/* ---- stream.c ---- */

struct h2_stream *stream_new(struct h2 *h, int32_t id);
/* Frees it at once: only when nghttp2 has closed it. */
void stream_free(struct h2_stream *s);
/* The owner's on_abort, if it still listens. */
void stream_abort_up(struct h2_stream *s, enum leg_why why, const char *detail);
void stream_open_windows(struct h2_stream *s);
void stream_reset(struct h2 *h, int32_t id, uint32_t code);
int stream_on_data(struct h2 *h, int32_t id, const uint8_t *p, size_t n);
int stream_on_close(struct h2 *h, int32_t id, uint32_t code);
int stream_send_data(struct h2 *h, struct h2_stream *s, const uint8_t *framehd, size_t len);
/* on_drained for those that have room again. */
void stream_tell_drained(struct h2 *h);
#define H2_SWEEPS 3 /* of them without a move of its output, and a stream is cut */
void stream_sweep(struct h2 *h);

#endif
