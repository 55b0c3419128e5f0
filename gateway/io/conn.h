/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One byte stream over a socket, plain or through a layer (TLS), with its output queue. The owner reads
 * when told that it may, and queues output that is written once at the end of the turn.
 *
 * States: CONNECTING (until the socket is connected), HANDSHAKE (until the layer's handshake is done), OPEN,
 * and CLOSED after on_close; the owner then frees it.
 */
#ifndef GATEWAY_IO_CONN_H
#define GATEWAY_IO_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/base/addr.h"
#include "gateway/io/loop.h"
#include "gateway/io/outq.h"

struct conn;

/* What TLS looks like from here; the meanings are those of gateway/tls/tls.h. */
enum conn_hs { CONN_HS_DONE, CONN_HS_WAIT, CONN_HS_FAILED };
struct conn_layer {
	enum conn_hs (*handshake)(void *layer);
	ssize_t (*read)(void *layer, void *p, size_t n);
	ssize_t (*write)(void *layer, const void *p, size_t n, bool more); /* more follows at once */
	bool (*pending)(void *layer);     /* input is there that no edge will announce */
	bool (*wants_write)(void *layer); /* reading waits for the socket to take output */
	void (*shutdown)(void *layer);
	void (*free)(void *layer);
};

/* None of these is called from within a conn_* function that the owner called, but on_close from conn_connect's failure: that comes later too. */
struct conn_ops {
	void (*on_open)(struct conn *c);                   /* connected, handshake done */
	void (*on_input)(struct conn *c);                  /* conn_read() may give something */
	void (*on_drained)(struct conn *c);                /* output fell below CONN_LOW after conn_full() was true, or became empty after conn_tell_empty() */
	void (*on_close)(struct conn *c, const char *why); /* "reset", "connect-failed", "handshake", "write-timeout", … : over; conn_free() it */
};

#define CONN_HIGH (256 * 1024) /* conn_full() from here */
#define CONN_LOW (64 * 1024)

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_CLOSED };

struct conn {
	struct loop *loop;
	const struct conn_ops *ops;
	void *owner;
	const struct conn_layer *layer; /* NULL: plain */
	void *layer_ctx;
	struct outq out;
	struct loop_task flush; /* writes at the end of the turn; also resumes reading */
	struct io io;
	int fd;
	uint8_t state;
	bool readable, writable;
	bool hup;          /* the far end's FIN was announced: a short read does not mean "empty" */
	bool paused;       /* the owner does not want input now */
	bool was_full;     /* on_drained is owed */
	bool tell_empty;   /* on_drained is owed when the queue is empty */
	bool shut_wanted;  /* close our direction when the queue is empty */
	bool shut_done;
	bool resume;       /* on_input is owed at the end of the turn */
	bool read_waits;   /* reading goes on when the socket takes output */
	bool hear_out;     /* set by the owner of a plain socket: when a write fails, what has arrived is read before on_close */
	bool send_failed;  /* it has: the end of input is a reset */
	bool broken;       /* a read failed: on_close is owed */
	bool borrowing;    /* in the settle list */
	bool parting;      /* conn_part() has it */
	bool refused;      /* its handshake failed */
	bool wrote;        /* output moved since the write deadline was looked at */
	uint32_t dropped;  /* bytes, then */
	LIST_ENTRY(conn) settle;
	int error;         /* errno of what closed it */
	struct deadline write_deadline; /* set while output waits */
	struct deadline_queue *write_q;
};

/* Takes the descriptor (non-blocking). connecting: connect(2) was begun. The layer is set with conn_set_layer() before anything happens. */
void conn_init(struct conn *c, struct loop *l, int fd, bool connecting, const struct conn_ops *ops, void *owner);
void conn_set_layer(struct conn *c, const struct conn_layer *layer, void *ctx); /* layer_ctx is now c's */
/*
 * Close and forget; allowed in any callback. What is queued is offered to the socket once. The memory is the owner's, but must last until the turn is over: loop_dispose().
 * reset: send RST.
 */
void conn_fini(struct conn *c, bool reset);
/*
 * The same for a connection in heap memory that was told why it ends (a GOAWAY, an answer): what is queued is written, and what
 * still arrives is taken in and dropped for a moment, so that our close does not reset those words away. So does one whose
 * handshake failed, for its alert: the layer goes at once. Frees c.
 */
void conn_part(struct conn *c);
void conn_kick(struct conn *c);        /* go on with a handshake that was parked */
/* >0 octets; 0 the far end closed its direction; -1 nothing now; -2 failed (on_close follows). */
ssize_t conn_read(struct conn *c, void *p, size_t n);
/* The far end's FIN is the next thing to be read (known for plain sockets; a layer's is taken by its socket's). */
bool conn_at_end(const struct conn *c);
/*
 * The owner has had all there is and waits for more: look whether a reset came with the last octets. libevent does not tell it apart
 * from more input, so the edge that brought both is spent. on_close follows if so.
 */
void conn_check(struct conn *c);
void conn_write(struct conn *c, const void *p, size_t n);
/* After writing to c->out directly. */
void conn_dirty(struct conn *c);
/*
 * Queue without copying. Whoever owns the bytes calls conn_settle_all() before they go away: it writes what
 * the sockets take and copies the rest.
 */
void conn_borrow(struct conn *c, const void *p, size_t n);
void conn_settle_all(void);
void conn_shutdown(struct conn *c);    /* FIN (or close_notify) once the queue is written */
/* Come back to on_input in the next turn: the owner has read its share. */
void conn_again(struct conn *c);
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);      /* on_input comes at the end of the turn if something may be there */
static inline bool conn_full(struct conn *c)
{
	if (c->out.bytes < CONN_HIGH)
		return false;
	c->was_full = true;
	return true;
}
void conn_tell_empty(struct conn *c);
/* Fail with "write-timeout" when output makes no progress for so long (0: never). */
void conn_write_timeout(struct conn *c, uint64_t ms);

/* ---- sockets ---- */

/* A non-blocking stream socket with connect(2) begun, or -1 with errno. */
int conn_dial(const struct addr *a);
/* Accept from a listener: descriptor, or -1 (errno EAGAIN: none left). Sets TCP_NODELAY. */
int conn_accept(int listener, struct addr *from);

#endif
