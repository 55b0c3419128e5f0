/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Roles: one binary, re-executed per role. This table says who exists, who may talk to whom and what each
 * sandbox allows; a role's own folder supplies its main function (gateway/main/roles.c joins the two).
 */
#ifndef GATEWAY_PROCESS_ROLE_H
#define GATEWAY_PROCESS_ROLE_H

#include <stdbool.h>
#include <stdint.h>

enum role { ROLE_MASTER, ROLE_KEYS, ROLE_JOURNAL, ROLE_CONTROL, ROLE_WORKER, ROLE_CA, ROLES };

/* What master hands to a child in SETUP messages: one descriptor each, tagged. */
enum role_fd {
	ROLE_FD_CONFIG = 1,   /* sealed memfd: config_decode(); arg: 0 */
	ROLE_FD_POLICY,       /* sealed memfd: policy_open(); arg: 0 */
	ROLE_FD_RING,         /* this role's own ring (journal: a producer's; arg: (enum role << 8) | index; number: its instance) */
	ROLE_FD_RING_WAKE,    /* the journal's eventfd */
	ROLE_FD_LISTENER,     /* arg: index in config.listeners */
	ROLE_FD_CHANNEL,      /* ipc to another role; arg: (enum role << 8) | index */
	ROLE_FD_KEY,          /* keys: a private key file, read-only, or a text with the pkcs11: URI of one; arg: key number */
	ROLE_FD_JOURNAL_DIR,  /* journal: the directory */
	ROLE_FD_CONTROL,      /* control: the listening admin socket */
	ROLE_FD_KEY_CERT,     /* keys: the certificate chain of a key, PEM (sealed memfd); arg: key number; after its ROLE_FD_KEY */
	ROLE_FD_PIN,          /* keys: the file with an HSM's PIN; arg: key number; before its ROLE_FD_KEY */
	ROLE_FD_PASSPHRASE,   /* ca: the file with the issuing key's passphrase, read-only; arg: 0 */
	ROLE_FD_NEW_KEY,      /* keys: a private key that waits for its certificate, as one of them gave it to master; arg: key number; after its ROLE_FD_KEY_CERT */
	ROLE_FD_MAX = 16,
};

/* Messages master <-> children; ranges for each pair of roles so that a table can check them. */
enum role_msg {
	/* master -> child */
	ROLE_MSG_FD = 1,      /* data: struct role_fd_msg[], one per descriptor */
	ROLE_MSG_GO,          /* data: struct role_go: everything is there, start (worker: accept) */
	ROLE_MSG_POLICY,      /* worker: fd: a new policy image; swap it in, judge running exchanges again */
	ROLE_MSG_DRAIN,       /* worker: stop accepting, finish what runs, exit by the deadline (data: u64 ms) */
	ROLE_MSG_STOP,        /* exit now, cleanly */
	ROLE_MSG_CHANNEL_GONE, /* arg: (role << 8) | index, data: u32 instance: that process died; its channel is closed */
	ROLE_MSG_PRODUCER_DIED, /* journal: arg: (role << 8) | index, data: u32 instance */
	ROLE_MSG_LOG_LEVEL,   /* arg: enum log_level */
	ROLE_MSG_TRUST,       /* worker: fd: a newer config image, whose trust material is taken: config_take_trust() */
	ROLE_MSG_CRL,         /* worker: data: a domain, as text; fd: a CRL file of it that nobody has verified */
	ROLE_MSG_CALLER_WANTED, /* worker: arg: who asks, to be given back in the answer; data: a SPIFFE ID: have you seen a newer certificate of it? */
	ROLE_MSG_CALLER,      /* worker: arg: number of certificates; fd: a chain (each: u32 length, DER), the answer to what it asked; unverified */
	/* child -> master */
	ROLE_MSG_READY = 64,  /* data: u32 bits of what the sandbox achieved (enum sandbox_bit) */
	ROLE_MSG_RING_BROKEN, /* journal: data: u32 instance: that producer is to be killed (case 87) */
	ROLE_MSG_KEYS_ABUSE,  /* keys: arg: worker index: it asked for what is no handshake (case 61) */
	ROLE_MSG_NEW_KEY,     /* keys: arg: key number; fd (sealed): a new private key, PKCS#8 PEM: to be kept until its certificate comes */
	ROLE_MSG_KEYS_RATE,   /* keys: arg: worker index: it asks for more signatures than limits.signatures_per_second; once a minute at most */
	ROLE_MSG_DRAINED,     /* worker: nothing left, exiting */
	ROLE_MSG_RING_DONE,   /* journal: data: u32 instance: all of a dead producer's ring is on record */
	ROLE_MSG_NEW_CRL,     /* worker: data: a domain; fd (sealed): a CRL file that came over a link: for its siblings and to keep */
	ROLE_MSG_WANT_CALLER, /* worker: data: a SPIFFE ID: ask the others; arg 0 */
	ROLE_MSG_FOUND_CALLER, /* worker: arg: who asked << 4 | number of certificates; fd (sealed): as ROLE_MSG_CALLER */
	ROLE_MSG_RENEWED,     /* worker: arg: key number; fd (sealed): the new certificate chain, PEM */
	/* control -> master (data: u32 request number), and the answer (data: the same number, then JSON) */
	ROLE_MSG_RELOAD = 96, ROLE_MSG_DRAIN_ALL, ROLE_MSG_MASTER_STATUS,
	ROLE_MSG_SET_LOG_LEVEL, /* arg: enum log_level, for every role */
	ROLE_MSG_SEVER, ROLE_MSG_RESTORE, /* data: u32 request number, then a peer's name as text */
	ROLE_MSG_REPLY = 120, /* arg: 0 or an error */
	/* control <-> worker, journal, keys */
	ROLE_MSG_STATUS = 128, /* request: empty */
	ROLE_MSG_STATUS_REPLY, /* data: JSON object text, at most IPC_MAX_DATA; arg: 1 when cut */
	/* worker <-> keys: 160.. (gateway/keys/proto.h); worker <-> ca: 176.. (gateway/ca/proto.h) */
};

struct role_fd_msg {
	uint16_t kind, arg;   /* enum role_fd */
	uint32_t number;      /* channels, rings: the instance at the other end (a ring's writer; 0: master); else as arg */
};
struct role_go {
	uint32_t index;       /* of this child in its role */
	uint32_t count;       /* workers in all */
	uint32_t instance;    /* unique per start of any child, from 1: journals and links name it */
	uint32_t generation;  /* of the config */
	uint64_t run;         /* master's start, wall ms: with an instance it names a process for good */
	uint32_t signatures_per_s; /* keys: for one worker; 0: the default */
	uint32_t restarts;    /* of this child's place since its generation began; 0: its first process */
};

/* What a role's main function gets: SETUP received, sandbox on. */
#define ROLE_MAX_FDS 4096
struct role_env {
	enum role role;
	struct role_go go;
	int master;           /* channel */
	int config_fd, policy_fd, ring_fd, ring_wake_fd, journal_dir_fd, control_fd; /* -1: not given */
	struct role_env_fd {
		uint16_t kind, arg;
		uint32_t number;
		int fd;
	} *fds;               /* listeners, channels, keys, other producers' rings */
	unsigned nfds;
	uint32_t sandbox;     /* bits achieved */
	int helper_fd;        /* channel to the role's helper; -1: it has none */
	const char *helper;   /* what that was given */
};
typedef int role_main_fn(struct role_env *env);

/*
 * A second process of a role, for what needs more than the role itself may have: forked before either is confined, so that the role is not widened by it.
 * It runs as the role's user, dies with the role, talks to nobody else and is started again whenever it ends, sooner or later as it lived long or
 * not. What it is given is lines: "path /a/b" is a path that it may use, all others are its own.
 */
struct role_helper {
	const char *name;
	/* Before it is confined, without a byte from anybody: what has to be mapped is. 0 or -1. At most 30 s. */
	int (*load)(int channel, const char *given);
	/* The exit code. Its successor reads what is left in the channel. */
	int (*main)(int channel, const char *given, uint32_t sandbox);
};

struct role_desc {
	enum role role;
	const char *name;     /* "worker" */
	const char *summary;
	bool network;         /* may it use AF_INET sockets? */
	unsigned restart;     /* restarted when it dies */
	role_main_fn *main;
	const struct role_helper *helper; /* NULL: none */
};

const char *role_name(enum role r);

#endif
