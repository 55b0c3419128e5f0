/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The master process. Its objects and their lifetimes:
 *
 *   master        one; owns everything below
 *   generation    a loaded config with the roles that serve it (keys, workers); the newest is current, older
 *                 ones drain and are freed with their last process
 *   child         a place for a process: one role, one index; survives the process, which is restarted in it.
 *                 journal and control belong to no generation: there is one of each across reloads
 *   listen store  listening sockets by address (listen.c), kept across generations
 *   dead rings    rings whose writer died, kept until the journal says that all of them is on record
 *   reload        at most one under way (reload.c); starting up is the first reload
 *
 * One thread, one epoll loop, no libevent; master never reads a byte that came from a network.
 */
#ifndef GATEWAY_MAIN_MASTER_H
#define GATEWAY_MAIN_MASTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/buf.h"
#include "gateway/base/errs.h"
#include "gateway/base/queue.h"
#include "gateway/config/config.h"
#include "gateway/process/ipc.h"
#include "gateway/process/role.h"

#define MASTER_MAX_DRAINING 8      /* generations; the oldest beyond that are cut */
#define MASTER_START_MS 30000      /* a new generation is ready by then, or given up */
#define MASTER_DRAIN_EXTRA_MS 2000 /* after limits.drain_ms a draining process is killed */

struct master;
struct generation;

/* Anything in the epoll set; events of one source are handled before the next is asked for, so that it may be freed. */
struct source {
	void (*on_event)(struct source *s, uint32_t events);
	struct master *master;
	int fd;
};
int master_watch(struct master *m, struct source *s, int fd, uint32_t events, void (*on_event)(struct source *, uint32_t));
void master_rewatch(struct master *m, struct source *s, uint32_t events);
void master_unwatch(struct master *m, struct source *s);  /* before the descriptor is closed */

enum child_state {
	CHILD_NONE,      /* no process; restarted at restart_ms when wanted */
	CHILD_SETUP,     /* started; set up, waits for GO (workers: until keys and journal are ready) */
	CHILD_STARTING,  /* GO was sent; ends with READY */
	CHILD_READY,
	CHILD_DRAINING,  /* DRAIN was sent; ends with its exit, or is killed at kill_ms */
	CHILD_STOPPING,  /* STOP was sent or it was killed; ends with its exit */
};

struct child {
	struct source source;        /* the channel; first member */
	TAILQ_ENTRY(child) next;     /* master.children */
	enum role role;
	unsigned index;
	struct generation *gen;      /* NULL: journal, control */
	bool wanted;                 /* to be restarted when it dies */
	enum child_state state;
	bool was_ready;              /* of this process */
	pid_t pid;
	uint32_t instance;           /* of this process */
	uint32_t sandbox;            /* bits, once ready */
	uid_t uid;
	int ring_fd;                 /* -1: it writes no events */
	uint64_t started_ms;
	uint64_t restart_ms, backoff_ms;
	uint64_t kill_ms;            /* 0: no deadline */
	unsigned restarts;
	const char *killed_for;      /* static; NULL: we did not kill it */
	uint64_t told_ms, alert_ms;  /* a worker: the second in which it told so much for its siblings; when that was last an alert */
	unsigned told;
	STAILQ_HEAD(, queued) queue; /* messages that did not fit into the channel */
	unsigned queued;
};

struct generation {
	TAILQ_ENTRY(generation) next;
	uint32_t number;
	struct config *config;       /* owned */
	struct buf frame;            /* config_encode_frame(): equal ones need no new processes */
	int config_fd;               /* sealed: config_encode() */
	int policy_fd;               /* borrowed: what its workers start with until it is current; then -1, and master's */
	struct child *keys;
	struct child *ca;            /* NULL: no CA here */
	struct child **workers;
	unsigned nworkers;
	bool draining;
	uint64_t since_ms;
};

struct dead_ring {
	TAILQ_ENTRY(dead_ring) next;
	unsigned arg;                /* (role << 8) | index of its writer */
	uint32_t instance;
	int fd;
};

struct listen_store;
struct reload;
struct state;
struct watch;

#define MASTER_KEYS 3              /* enum keys_number */

struct master {
	const char *config_path;
	bool root;                   /* roles get users of their own */
	int epoll, self_fd, lock_fd, wake_fd;
	int journal_dir_fd, control_fd;
	struct source signals;
	uint64_t started_ms, run;    /* monotonic; wall ms, which names this run in the journal */
	TAILQ_HEAD(, child) children;
	TAILQ_HEAD(, generation) generations; /* newest first */
	TAILQ_HEAD(, dead_ring) dead_rings;
	struct generation *current;  /* NULL until the first is ready */
	struct child *journal, *control;
	uint32_t last_generation, last_instance;
	int policy_fd;               /* sealed image; -1 until the first */
	uint64_t policy_generation;
	uint32_t policy_rules;
	char policy_digest[65];
	struct listen_store *listen;
	struct reload *reload;
	struct state *keep;          /* state_dir; NULL before the first config */
	uint64_t trust_ms;           /* when the current trust material was taken over */
	struct watch *watch;         /* files of certificates; trust.c's. NULL before the first generation */
	int new_key[MASTER_KEYS];    /* private keys that the keys role made for a renewal, sealed; -1 */
	uint64_t renewal_ms[MASTER_KEYS]; /* when a certificate that came for one was last looked at */
	uint64_t crl_ms;             /* when a CRL was last written, and whose */
	char crl_domain[256];
	bool crl_waits;              /* a later one of the same domain, crl_fd, is written when its time has come */
	int crl_fd;
	uint64_t expiry_ms;          /* when our certificates' ends are looked at next; 0: not yet set */
	struct ring *ring;           /* producer 0; NULL before the first config */
	int ring_fd;
	enum { MASTER_STARTING, MASTER_RUNNING, MASTER_DRAINING, MASTER_STOPPING, MASTER_LAST /* journal only */ } state;
	int log_level;               /* as gwctl set it, until the config changes it; -1: not set */
	int exit_code;
	bool quit;
	int ready_fd;                /* daemonised: the waiting parent; -1 */
	const char *pid_file;
	bool pid_written;
	char *control_path;          /* of the admin socket, once it is there */
};

struct master_options {
	const char *config_path;
	const char *pid_file;        /* NULL: none */
	int ready_fd;                /* gets one byte, 0, when everything is ready; -1: none */
};
/* Runs the daemon until it is told to stop. Returns the exit code. */
int master_run(const struct master_options *o);

/* Signals and control: stop. now: without draining. */
void master_stop(struct master *m, bool now);
/* The first generation is ready: tell whoever started us. */
void master_started(struct master *m);
/* Starting up failed, or nothing can go on: stop with this exit code. */
void master_fail(struct master *m, int code);
uint64_t master_tick_min(uint64_t a, uint64_t b); /* the earlier of two deadlines; 0 is none */

#endif
