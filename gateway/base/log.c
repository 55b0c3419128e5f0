/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"

#define LINE_MAX_BYTES 4096 /* PIPE_BUF: a line written to a pipe by several processes stays one line */

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static char log_ident[64] = "sallyport";
static enum log_level log_level = LOG_LV_INFO;
static int log_fd = 2;

void
log_init(const char *ident)
{
	snprintf(log_ident, sizeof(log_ident), "%s", ident);
}

void
log_set_level(enum log_level lv)
{
	log_level = lv;
}

enum log_level
log_get_level(void)
{
	return log_level;
}

int
log_level_parse(const char *name)
{
	for (int i = 0; i <= LOG_LV_DEBUG; i++)
		if (!strcmp(name, level_names[i]))
			return i;
	return -1;
}

void
log_set_fd(int fd)
{
	log_fd = fd;
}

static void __attribute__((format(printf, 2, 0)))
write_line(enum log_level lv, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES], now[CLOCK_RFC3339_LEN + 1];
	int saved_errno = errno, n;
	size_t head, len;
	ssize_t put;

	if (lv > log_level)
		return;
	clock_rfc3339(now, clock_wall_us());
	n = snprintf(line, sizeof(line), "%s %s %s ", now, level_names[lv], log_ident);
	head = len = (size_t)n;
	errno = saved_errno; /* for %m */
	n = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	if (n > 0)
		len += (size_t)n;
	if (len > sizeof(line) - 2) {
		len = sizeof(line) - 2;
		memcpy(line + len - 3, "...", 3);
	}
	/* Callers escape what peers sent; a line stays one line even where one forgot. */
	for (size_t i = head; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	line[len++] = '\n';
	do
		put = write(log_fd, line, len);
	while (put < 0 && errno == EINTR);
	errno = saved_errno;
}

void
log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(LOG_LV_ERROR, fmt, ap);
	va_end(ap);
}

void
log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(LOG_LV_WARN, fmt, ap);
	va_end(ap);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(LOG_LV_INFO, fmt, ap);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(LOG_LV_DEBUG, fmt, ap);
	va_end(ap);
}

void
log_fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_line(LOG_LV_ERROR, fmt, ap);
	va_end(ap);
	exit(1);
}

bool
log_limit_ok(struct log_limit *l, uint32_t burst, uint32_t *suppressed)
{
	uint64_t second = clock_mono_ms() / 1000;

	*suppressed = 0;
	if (second != l->second) {
		l->second = second;
		l->lines = 0;
	}
	if (l->lines >= burst) {
		if (l->suppressed < UINT32_MAX)
			l->suppressed++;
		return false;
	}
	l->lines++;
	*suppressed = l->suppressed;
	l->suppressed = 0;
	return true;
}
