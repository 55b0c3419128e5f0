/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control role: a line of JSON in, a line of JSON out, on the admin socket. Its objects and their lifetimes:
 *
 *   control   one; owns everything below
 *   channel   one per process that can be asked for its status; ends with that process
 *   client    a connection to the admin socket: at most CLIENTS_MAX, each with one request at a time and a deadline per
 *             state; ends when it closes, is too slow or says something malformed
 *   gather    at most one: all statuses asked for at once, answered within GATHER_MS or reported as not answering;
 *             requests that come meanwhile wait for the next
 *
 *   role.c      the process, its loop and channels      client.c   lines, bounds, deadlines
 *   command.c   the command table                       merge.c    statuses into answers
 */
#ifndef GATEWAY_CONTROL_CONTROL_H
#define GATEWAY_CONTROL_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/audit/ring.h"
#include "gateway/base/buf.h"
#include "gateway/config/config.h"
#include "gateway/process/ipc.h"
#include "gateway/process/role.h"

#define CONTROL_CLIENTS_MAX 32
#define CONTROL_REQUEST_MAX 65536       /* octets of a request, its line feed included */
#define CONTROL_RESPONSE_MAX (8U << 20)
#define CONTROL_IDLE_MS 10000           /* for a whole request, and for taking a response */
#define CONTROL_GATHER_MS 300
#define CONTROL_MASTER_MS 120000        /* a reload takes as long as its workers need to start */
#define CONTROL_CHANNELS_MAX 1024
#define CONTROL_PEER_MAX 64             /* octets of a peer's name */

struct control;
struct control_command;

enum client_state {
	CLIENT_READING,  /* ends with a line feed, or at the deadline */
	CLIENT_GATHER,   /* waits for a gather that has not begun, or for the one under way */
	CLIENT_MASTER,   /* waits for master's answer to request "id" */
	CLIENT_WRITING,  /* ends when the response is out */
};

struct client {
	int fd;                   /* -1: free */
	enum client_state state;
	uid_t uid;                /* SO_PEERCRED: a fact */
	uint64_t deadline;
	struct buf in;            /* bounded by CONTROL_REQUEST_MAX */
	struct buf out;
	size_t sent;
	const struct control_command *command;
	uint32_t id;
	bool in_gather;           /* part of the one under way */
	const char *unrecorded;   /* why the journal did not take the command; NULL */
};

struct channel {
	int fd;                   /* -1: closed, removed at the end of the turn */
	enum role role;
	unsigned index;
	uint32_t instance;
	unsigned outstanding;     /* requests without an answer yet */
	json_t *status;           /* of this gather; NULL */
};

struct gather {
	bool active;
	uint64_t deadline;
	uint32_t master_id;       /* 0: answered */
	json_t *master;           /* NULL: not (yet) */
};

struct control {
	struct role_env *env;
	struct config *config;
	struct ring *ring;        /* NULL: none was given */
	bool own_user;            /* this role has a user of its own: ours is not the daemon's */
	bool stop;
	struct client clients[CONTROL_CLIENTS_MAX];
	struct channel *channels;
	size_t nchannels, channels_cap;
	struct gather gather;
	uint32_t last_id;
	uint8_t buf[IPC_MAX_DATA + 16];
};

/* ---- role.c ---- */
/* Ask master; text: what follows the request's number, or NULL. The number that its answer will carry, or 0 when it cannot be asked. */
uint32_t control_ask_master(struct control *c, enum role_msg type, unsigned arg, const char *text);
void control_gather(struct control *c, uint64_t now);  /* begin one for the clients that wait, unless one is under way */

/* ---- client.c ---- */
void client_init(struct client *cl);
/* Takes a connection. */
void client_start(struct client *cl, int fd, uid_t uid, uint64_t now);
void client_close(struct client *cl);
/* Readable, writable or hung up. */
void client_on_ready(struct client *cl, uint64_t now);
void client_on_deadline(struct client *cl, uint64_t now);
/* A whole line is there and the client waits for nothing; then run it: it may have been there since before the last response. */
bool client_has_request(const struct client *cl);
void client_next_request(struct control *c, struct client *cl, uint64_t now);
/* Queue a response (consumed) and begin to write it. */
void client_respond(struct client *cl, json_t *response, uint64_t now);
void client_fail(struct client *cl, const char *error, uint64_t now);

/* ---- command.c ---- */
/* One request, without its line feed. Responds, now or later. */
void control_command_run(struct control *c, struct client *cl, const char *line, size_t len, uint64_t now);
/* The gather is over, or master answered: the response for this client. */
json_t *control_command_gathered(struct control *c, const struct client *cl);
json_t *control_command_answered(const struct client *cl, unsigned error, const char *json, size_t len);

/* ---- merge.c ---- */
json_t *merge_status(const struct control *c);
json_t *merge_peers(const struct control *c);
json_t *merge_services(const struct control *c);

int control_main(struct role_env *env);

#endif
