/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"

#define PREFIX "journal-"
#define CHUNK (1u << 20)

char *segment_name(char out[SEGMENT_NAME_MAX], uint64_t first, const char *suffix)
{
	snprintf(out, SEGMENT_NAME_MAX, PREFIX "%012" PRIu64 ".%s", first, suffix);
	return out;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

long segment_list(int dir_fd, uint64_t **out)
{
	size_t n = 0, cap = 0;
	uint64_t *list = NULL;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	*out = NULL;
	if (!dir) {
		int err = errno;
		if (fd >= 0)
			close(fd);
		errno = err;
		return -1;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		char name[SEGMENT_NAME_MAX], *end;

		if (strncmp(e->d_name, PREFIX, sizeof(PREFIX) - 1) != 0)
			continue;
		uint64_t first = strtoull(e->d_name + sizeof(PREFIX) - 1, &end, 10);
		if (first == 0 || strcmp(segment_name(name, first, SEGMENT_LOG), e->d_name) != 0)
			continue;
		mem_grow(&list, &cap, n + 1, sizeof(*list));
		list[n++] = first;
	}
	closedir(dir);
	if (n)
		qsort(list, n, sizeof(*list), compare);
	*out = list;
	return (long)n;
}

int segment_lines(int fd, off_t from, off_t to, int (*on_line)(void *ctx, const char *line, size_t n, off_t end), void *ctx,
    uint64_t *tail)
{
	char *buf = mem_alloc(CHUNK + SEGMENT_LINE_MAX);
	size_t have = 0;
	off_t at = from; /* of buf[0] */
	int rc = 0;

	while (at + (off_t)have < to) {
		off_t left = to - at - (off_t)have;
		ssize_t n = pread(fd, buf + have, left < (off_t)CHUNK ? (size_t)left : CHUNK, at + (off_t)have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = -1;
		if (n <= 0)
			break;
		have += (size_t)n;

		size_t done = 0;
		for (char *nl; (nl = memchr(buf + done, '\n', have - done)); done = (size_t)(nl - buf) + 1) {
			rc = on_line(ctx, buf + done, (size_t)(nl - buf) - done, at + (nl - buf) + 1);
			if (rc)
				goto out;
		}
		if (have - done > SEGMENT_LINE_MAX) {
			rc = on_line(ctx, buf + done, SEGMENT_LINE_MAX, 0);
			at += (off_t)done;
			have -= done;
			goto out;
		}
		memmove(buf, buf + done, have - done);
		at += (off_t)done;
		have -= done;
	}
out:
	if (tail)
		*tail = rc ? 0 : have;
	mem_free(buf);
	return rc;
}

int segment_read_file(int dir_fd, const char *name, struct buf *out, size_t max)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	while (out->len <= max) {
		uint8_t *p = buf_reserve(out, 65536);
		n = read(fd, p, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		out->len += (size_t)n;
	}
	int err = errno;
	close(fd);
	errno = n < 0 ? err : EFBIG;
	return n < 0 || out->len > max ? -1 : 0;
}

void segment_checkpoint_write(struct buf *b, const char *origin, uint64_t size, const uint8_t root[DIGEST_LEN])
{
	char text[DIGEST_LEN * 2];
	size_t n = esc_base64(text, root, DIGEST_LEN);

	buf_printf(b, "%s\n%" PRIu64 "\n%.*s\n\n", origin, size, (int)n, text);
}

int segment_checkpoint_parse(struct segment_checkpoint *out, const char *p, size_t n, const char **why)
{
	const char *line[3], *end = p + n;
	size_t len[3];
	uint8_t root[DIGEST_LEN + 3];

	for (int i = 0; i < 3; i++) {
		const char *nl = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
		if (!nl) {
			*why = n ? "cut short" : "empty";
			return -1;
		}
		line[i] = p;
		len[i] = (size_t)(nl - p);
		p = nl + 1;
	}
	if (p == end || *p != '\n') {
		*why = "no empty line after the body";
		return -1;
	}
	if (len[0] == 0 || len[0] >= sizeof(out->origin) || memchr(line[0], 0, len[0])) {
		*why = "bad origin";
		return -1;
	}
	memcpy(out->origin, line[0], len[0]);
	out->origin[len[0]] = 0;
	out->size = 0;
	for (size_t i = 0; i < len[1]; i++) {
		unsigned d = (unsigned char)line[1][i] - '0';
		if (d > 9 || (i && line[1][0] == '0') || __builtin_mul_overflow(out->size, 10, &out->size) ||
		    __builtin_add_overflow(out->size, d, &out->size)) {
			*why = "bad size";
			return -1;
		}
	}
	/* Exactly the base64 of 32 octets: the canonical text, so that no two texts mean one root. */
	if (len[1] == 0 || len[2] != 44 || esc_unbase64(root, line[2], len[2]) != DIGEST_LEN) {
		*why = len[1] ? "bad root" : "bad size";
		return -1;
	}
	char back[DIGEST_LEN * 2];
	if (esc_base64(back, root, DIGEST_LEN) != 44 || memcmp(back, line[2], 44) != 0) {
		*why = "bad root";
		return -1;
	}
	memcpy(out->root, root, DIGEST_LEN);
	return 0;
}
