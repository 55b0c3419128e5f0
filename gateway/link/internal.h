/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share.
 *
 *	link.c      a link's life, its connection and its HTTP/2 session
 *	set.c       all of a worker's links; status
 *	send.c      exchanges out
 *	dial.c      who is dialled when
 *	hello.c     the hello on the control authority
 *	crl.c       revocation lists on it
 *	quarantine.c  what crosses not while such a list is missing
 *	identity.c  who calls: slots and chains, as sender and as receiver
 *	judge.c     callers, judged by what is trusted now
 *	standing.c  links, judged again and made anew; successors of certificates that end
 *	vouch.c     a caller's new certificate, told to the far gateway
 *	caller.c, ids.c  callers interned; exchange ids seen
 */
#ifndef GATEWAY_LINK_INTERNAL_H
#define GATEWAY_LINK_INTERNAL_H

#include <string.h>

#include "gateway/audit/event.h"
#include "gateway/base/log.h"
#include "gateway/base/queue.h"
#include "gateway/link/ids.h"
#include "gateway/link/link.h"

#define MAX_FAR_WORKERS 256 /* as config.workers */

/* Links of one peer that drain while this process lives; the oldest goes beyond that. */
#define LINK_MAX_DRAINING 256
#define LINK_RECENT 512

enum link_state { L_DIALLING, L_HELLO, L_READY, L_DRAINING, L_GONE };

struct slot {              /* of a principal, on one link, as its sender */
	uint32_t lease;    /* unique to each time that a slot is given away on this link; 0: none */
	uint16_t number;
	bool confirmed;    /* an exchange of this lease was answered: the chain need not travel again */
	bool told;         /* the far end was told this caller's certificate without an exchange (vouch.c) */
};

struct link_peer {
	struct link_set *set;
	const struct config_peer *cfg;
	int index;
	TAILQ_HEAD(, link) links;
	unsigned accepted;        /* of which the peer dialled */
	unsigned draining;        /* of which wait for their exchanges to end */
	struct dialler *diallers; /* the forward one first, if any; then one per address dialled in reverse */
	size_t ndiallers;
	struct ids *ids;
	struct log_limit log;
	/* crl.c's, quarantine.c's */
	struct crl_far *far;      /* its gateways */
	size_t nfar;
	struct crl_talk *crl_ask, *crl_answer;
	struct svid_bundle *crl_bundle; /* as last looked at, and what it had then */
	uint8_t crl_digest[32];
	int64_t crl_until;
	bool crl_missing;         /* quarantined as a whole */
	bool crl_stale;           /* one of its lists, of those that are required */
	bool crl_hungry;          /* a list of it would be of use */
	uint64_t crl_deaf_ms, crl_alert_ms, crl_newer_ms;
	unsigned crl_newer;       /* lists that told us something, since crl_newer_ms */
	uint32_t crl_suppressed;
	struct {                  /* why the last link failed that came up no more; at_ms 0: none since one was ready */
		uint64_t at_ms;
		char reason[48], detail[192], address[ADDR_TEXT_MAX]; /* detail: escaped */
	} failed;
};

struct dialler {
	struct link_peer *peer;
	const struct config_dial *targets;
	size_t ntargets, next;
	bool reverse, due;        /* due: the timer is set */
	struct loop_timer timer;
	unsigned fails;           /* in a row */
	unsigned flaps;           /* links in a row that came up and did not last */
	unsigned tries;           /* in a row that landed where no link is missing */
};

struct link {
	TAILQ_ENTRY(link) entry;
	struct link_peer *peer;
	struct conn *conn;
	struct tls_conn *tls;  /* the conn's layer */
	struct h2 *h2;
	enum link_state state;
	struct dialler *dialler; /* NULL: the peer dialled */
	bool client, aged, counted, alarm;
	bool no_crl;           /* quarantined: good for nothing but fetching the CRL that is missing */
	struct caller *far;    /* its certificate, or what took its place; NULL until the handshake is done */
	const char *cut;       /* it ends with its exchanges, and why; static; NULL */
	const char *leaves;    /* draining, or aged: why; static */
	uint32_t identity;     /* the set's, when it was made */
	uint32_t number;
	uint64_t since_ms, ready_ms;
	uint64_t ping_sent_ms; /* 0: none outstanding */
	uint64_t heard_ms;     /* the last input */
	uint64_t rtt_ms;
	struct deadline ping, limit, age;
	struct h2_stream *hello_stream; /* waits for the answer to our hello */
	int64_t clock_ahead;   /* what our clocks differed by when we said it */
	uint32_t far_worker, far_workers;
	bool far_known;
	char *gateway, *via;
	struct addr addr;
	uint64_t exchanges;
	/* sender's slots by caller number; receiver's callers by slot */
	struct slot *slots;
	size_t nslots;
	uint16_t next_slot;
	uint32_t last_lease;
	uint32_t far_slots;    /* how many the far end remembers, as it said; 0: not known */
	struct caller **owner; /* sender: which caller holds a slot */
	struct caller **known; /* receiver */
	size_t nowner, nknown;
};

struct link_set {
	struct link_env env;
	struct link_peer *peers;
	size_t npeers;
	unsigned count;
	uint32_t next_number;
	bool draining, started;
	void (*on_empty)(void *ctx);
	struct deadline_queue *q_ping, *q_handshake, *q_age, *q_drain;
	/* standing.c's */
	uint32_t identity;        /* counts our certificates: links of an older one are made anew */
	struct loop_timer renew;
	bool renewing;
	uint32_t *cas_since;      /* by bundle: caller_table_trust() since when its CAs are what they are */
	bool *stale;              /* by bundle: no CRL in force where one is required, when last looked at */
	/* References to those that were seen last: a sibling may ask for them. Ours, and peers', who name theirs at will and must not push out ours. */
	struct caller *recent[2][LINK_RECENT];
	unsigned next_recent[2], asked;
	uint64_t asked_second;
	/* crl.c's */
	struct loop_timer crl_tick;
	struct crl_text *crl_own; /* NULL: we have none */
	unsigned crl_answers;
};

/* ---- link.c ---- */

struct link *link_new(struct link_peer *p, struct dialler *d, bool client);
/* For the journal. detail: NULL or text. */
void link_note(struct link *l, enum audit_type type, const char *reason, const char *detail);
/* The one way a link ends. The memory lasts until the turn is over. */
void link_close(struct link *l, const char *why, const char *detail);
/* Take no more exchanges, say GOAWAY, and end when those that run have ended, however long that takes: only a process that ends sets a limit. why: static. */
void link_drain(struct link *l, const char *why);
/* The hello was said: exchanges may come and go. */
void link_ready_now(struct link *l);
extern const struct conn_ops link_conn_ops;
extern const char *const link_state_names[]; /* by enum link_state */
deadline_fn link_on_ping_due, link_on_limit, link_on_drain_limit, link_on_age; /* of ping, limit, limit when draining, age */

static inline struct h1_field link_field(const char *name, const char *value, size_t len)
{
	return (struct h1_field){ .name = name, .name_len = (uint32_t)strlen(name), .value = value, .value_len = (uint32_t)len };
}

static inline bool link_field_is(const struct h1_field *f, const char *name)
{
	return f->name_len == strlen(name) && memcmp(f->name, name, f->name_len) == 0;
}

/* ---- judge.c ---- */

/* Nothing goes to this peer and nothing comes from it: "severed", "peer-removed"; NULL. */
const char *link_barred(const struct config_peer *p);
/* A chain against the bundle of config.peers[peer] (-1: ours). */
enum svid_reason link_verify(struct link_set *s, int peer, const struct svid_der *chain, size_t n, bool server, struct svid_info *info,
    const char **detail);
/* Whose domain it is: an index in config.peers, -1 ours, -2 nobody's. */
int link_peer_of_domain(const struct config *c, const char *domain, size_t len);

/* ---- standing.c ---- */

void standing_init(struct link_set *s);
void standing_fini(struct link_set *s);
/* The handshake is done: who the far end is. NULL, or why it cannot be taken after all (static). */
const char *standing_far_end(struct link *l);
void standing_forget_far(struct link *l);

/* ---- vouch.c ---- */

/* A request for it on the control authority. */
void vouch_answer(struct link *l, struct h2_stream *s, const struct leg_head *head);

/* ---- dial.c ---- */

void dial_init(struct link_peer *p);
void dial_stop(struct link_peer *p);
void dial_fini(struct link_peer *p);
/* Dial what is missing, now or when its time has come. */
void dial_check(struct link_peer *p);
/* The link is ready; has been for a while; ends (asked: the far end said GOAWAY, or we did). No-ops for links that were accepted. */
void dial_up(struct link *l);
void dial_stable(struct link *l);
void dial_down(struct link *l, bool asked);
/* Of a ready link: false when it was dialled in reverse and landed on a far worker that has its links already. */
bool dial_landed(const struct link *l);

/* ---- hello.c ---- */

void hello_send(struct link *l);
/* Say it again if our clock was set since. */
void hello_check(struct link *l);
/* A request to the control authority. */
void hello_answer(struct link *l, struct h2_stream *s, const struct leg_head *head);

/* ---- crl.c ---- */

void crl_start(struct link_set *s);
void crl_fini(struct link_set *s);
/* A link's hello was said. */
void crl_link_up(struct link *l);
/* Its gateways are asked without waiting for their time. */
void crl_ask_again(struct link_peer *p);
/* A request for lists on the control authority. */
void crl_answer(struct link *l, struct h2_stream *s, const struct leg_head *head);

/* ---- quarantine.c ---- */

/* What of a peer is quarantined now; journals the peer's transitions, and wakes who waits for a link. */
void quarantine_look(struct link_peer *p);
/* An alert about a peer. gateway and detail may be NULL. */
void quarantine_note(struct link_peer *p, const char *gateway, const char *reason, const char *detail);
/* Nothing crosses by this link: its far end is covered by no list in force, or all of the peer are not. */
static inline bool quarantine_of(const struct link *l)
{
	return l->no_crl || l->peer->crl_missing;
}

/* ---- identity.c ---- */

/* Sender: the slot of this caller on this link, given now if it has none. Its lease goes with the exchange, to identity_answered(). */
struct slot *identity_slot(struct link *l, struct caller *c);
/* An exchange of this lease was answered: known tells whether the receiver knows the slot now. */
void identity_answered(struct link *l, const struct caller *c, uint32_t lease, bool known);
/* The caller goes: no slot stands for it any more. */
void identity_forget_caller(struct link *l, const struct caller *c);
void identity_fini(struct link *l);
/* Receiver: a reference to who calls; NULL, with the refusal in *call. */
struct caller *identity_of(struct link *l, const struct leg_head *head, struct link_call *call);

#endif
