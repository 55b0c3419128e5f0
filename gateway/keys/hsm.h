/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys in an HSM, as the keys role sees them. The HSM's module is strangers' code that wants files and may block, so it lives in a process of its own (helper.c,
 * started by process/child.c), with a sandbox of its own; the keys role stays as narrow and as quick as without one. What that process says is
 * checked like a worker's words: all that it can do is to give a wrong signature, or none.
 *
 * Requests wait here, at most KEYS_HSM_TICKETS of them and 4 s each: for the helper, and for its successor, when one ends over them.
 */
#ifndef GATEWAY_KEYS_HSM_H
#define GATEWAY_KEYS_HSM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/buf.h"
#include "gateway/keys/proto.h"

/* Between the keys role and its helper, beside those of proto.h, whose ids are the tickets'. */
enum keys_hsm_msg {
	KEYS_HSM_HELLO = 168,  /* from it: a new one is there. data: u32 sandbox bits, u32 process id, then "provider" or "engine" */
	KEYS_HSM_FAULT,        /* from it: it cannot start. data: why */
	KEYS_HSM_START,        /* to it: what was sent before was for its predecessor */
	KEYS_HSM_KEY,          /* to it: arg: number; data: URI; fd: file with the PIN, or none */
	KEYS_HSM_HAS,          /* from it: arg: number; data: SubjectPublicKeyInfo */
	KEYS_HSM_LACKS,        /* from it: arg: number; data: u8 1 when trying again is of no use, then why */
	KEYS_HSM_CSR,          /* to it: data: as KEYS_MSG_CSR, then the certificate in DER */
};

#define KEYS_HSM_TICKETS 64
#define KEYS_HSM_WAIT_MS 4000
#define KEYS_HSM_URI_MAX 1024
#define KEYS_HSM_PIN_MAX 256

struct evp_pkey_st;

struct keys_hsm_ops {
	void (*on_key)(void *ctx, uint16_t number, struct evp_pkey_st *public); /* takes public */
	void (*on_signed)(void *ctx, uint64_t who, const struct keys_signed *m); /* the asker's id, not the ticket's */
	void (*on_csr)(void *ctx, uint64_t who, const struct keys_csr_done *m);
};

struct keys_hsm;

/* Takes the channel; given is borrowed for good. */
struct keys_hsm *keys_hsm_new(int fd, const char *given, const struct keys_hsm_ops *ops, void *ctx);
void keys_hsm_free(struct keys_hsm *h);   /* NULL is a no-op */
int keys_hsm_fd(const struct keys_hsm *h); /* -1: there is no helper any more */

/* A key that it shall have; takes pin_fd (-1: none). The same again renews the PIN. -1: no such number, or the URI is too long. */
int keys_hsm_want(struct keys_hsm *h, uint16_t number, const char *uri, int pin_fd);
bool keys_hsm_wanted(const struct keys_hsm *h, uint16_t number);
/* True when each wanted key is there, or said to be missing: *missing then names one (borrowed), with *why. */
bool keys_hsm_settled(const struct keys_hsm *h, uint16_t *missing, const char **why);

/* KEYS_OK: it is under way, and the answer comes by ops; anything else is the answer. who names the asker. */
enum keys_status keys_hsm_sign(struct keys_hsm *h, uint64_t who, const struct keys_sign *m);
enum keys_status keys_hsm_csr(struct keys_hsm *h, uint64_t who, const struct keys_csr *m, const uint8_t *cert, size_t len);

void keys_hsm_on_readable(struct keys_hsm *h);
/* What waited too long is answered. The ms until the next does, -1: none. */
int keys_hsm_tick(struct keys_hsm *h, uint64_t now);
void keys_hsm_status(const struct keys_hsm *h, struct buf *out); /* a JSON object */

#endif
