/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator log (not the audit journal): one line per event, key=value, to standard
 * error or wherever log_set_fd() says. Bytes from a peer go through esc_text() first. Never called on the path of an allowed request.
 */
#ifndef GATEWAY_BASE_LOG_H
#define GATEWAY_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LV_ERROR, LOG_LV_WARN, LOG_LV_INFO, LOG_LV_DEBUG };

void log_init(const char *ident);                /* ident is prefixed to each line: "worker/0" */
void log_set_level(enum log_level lv);
enum log_level log_get_level(void);
int log_level_parse(const char *name);           /* "error" "warn" "info" "debug"; -1 */
void log_set_fd(int fd);                         /* default 2; not owned */

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* log_error, then exit(1). For start-up faults and broken invariants, never for input from a network. */
void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* What a peer can trigger: at most "burst" lines per second, the rest counted and reported as suppressed=N. */
struct log_limit {
	uint64_t second;
	uint32_t lines;
	uint32_t suppressed;
};
bool log_limit_ok(struct log_limit *l, uint32_t burst, uint32_t *suppressed);

#endif
