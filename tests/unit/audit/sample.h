/* SPDX-License-Identifier: Apache-2.0 */
/* Events as a worker makes them, for tests and benchmarks; and a directory to keep a journal in. */
#ifndef TESTS_UNIT_AUDIT_SAMPLE_H
#define TESTS_UNIT_AUDIT_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/audit/event.h"
#include "gateway/audit/journal.h"
#include "gateway/audit/ring.h"

#define SAMPLE_PRINCIPAL "spiffe://hud.example/permit-svc"
#define SAMPLE_GATEWAY_A "spiffe://hud.example/gateway/dmz1"
#define SAMPLE_GATEWAY_B "spiffe://irs.example/gateway/dmz1"

/* 0, or -1 when the ring refuses. */
int sample_open(struct ring *r, const struct uuid *id, unsigned attempt, uint64_t wall_us, uint64_t now_ms);
int sample_end(struct ring *r, const struct uuid *id, unsigned attempt, uint64_t wall_us, uint64_t now_ms);
int sample_deny(struct ring *r, const char *client, uint64_t wall_us, uint64_t now_ms);

/* What one side of an exchange says; NULL and 0 are left out. */
struct sample_side {
	const char *direction, *gateway, *principal, *host, *reason;
	uint64_t status, bytes_in, bytes_out, duration_us;
	const struct uuid *uplink; /* a sidecar's: its gateway's id of the exchange */
};
int sample_exchange(struct ring *r, const struct uuid *id, unsigned attempt, uint64_t wall_us, const struct sample_side *s);

/* A fresh directory below /tmp or $TMPDIR: its descriptor; path (PATH_MAX) is for sample_remove(). */
int sample_dir(char *path, size_t size);
void sample_remove(int dir_fd, const char *path);
/* A file of the directory whole, NUL after it; mem_free(). NULL when it is not there. */
char *sample_read(int dir_fd, const char *name, size_t *n);
void sample_write(int dir_fd, const char *name, const void *p, size_t n);
void sample_copy(int from, int to); /* all files */

/* Defaults for journal_new(): no descriptors but the directory. */
void sample_env(struct journal_env *env, int dir_fd);
/* Turn until nothing is left to do. */
void sample_run(struct journal *j);
/* Stop cleanly and free. */
void sample_stop(struct journal *j);

#endif
