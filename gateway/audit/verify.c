/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/audit/merkle.h"
#include "gateway/base/mem.h"

#define LEAF_CHUNK 4096

struct walk {
	struct verify_result *out;
	struct digest *digest;
	struct merkle tree;
	uint8_t prev[DIGEST_LEN];
	uint64_t seq, batch, line;
	bool last;                 /* the segment at hand */
	int leaves;
	uint64_t leaf_at, leaf_have; /* next in the buffer, of how many; positions are sequential */
	uint8_t leaf[LEAF_CHUNK * DIGEST_LEN];
};

static int fault(struct walk *w, uint64_t seq, uint64_t line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int fault(struct walk *w, uint64_t seq, uint64_t line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->out->fault, sizeof(w->out->fault), fmt, ap);
	va_end(ap);
	w->out->seq = seq;
	w->out->line = line;
	return 1;
}

/* The stored hash of the next record: 1, 0 at the end of the file. */
static int next_leaf(struct walk *w, const uint8_t **out)
{
	if (w->leaf_at == w->leaf_have) {
		size_t have = 0;
		while (have < sizeof(w->leaf)) {
			ssize_t n = read(w->leaves, w->leaf + have, sizeof(w->leaf) - have);
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				break;
			have += (size_t)n;
		}
		w->leaf_at = 0;
		w->leaf_have = have / DIGEST_LEN;
	}
	if (w->leaf_have == 0)
		return 0;
	*out = w->leaf + w->leaf_at++ * DIGEST_LEN;
	return 1;
}

static int on_line(void *ctx, const char *text, size_t n, off_t end)
{
	struct walk *w = ctx;
	const uint8_t *stored;
	uint8_t leaf[DIGEST_LEN], root[DIGEST_LEN];
	struct parse_record r;
	const char *why;

	w->line++;
	if (end == 0)
		return fault(w, w->seq + 1, w->line, "a line without end");
	if (parse_record(&r, text, n, &why) != 0)
		return fault(w, w->seq + 1, w->line, "not a journal record: %s", why);
	if (r.seq != w->seq + 1)
		return fault(w, w->seq + 1, w->line, "record %" PRIu64 " stands here: records were removed, added or moved", r.seq);
	digest_leaf(w->digest, text, n, leaf);
	if (next_leaf(w, &stored)) {
		if (memcmp(stored, leaf, DIGEST_LEN) != 0)
			return fault(w, r.seq, w->line, "the record is not the one whose hash was stored beside it: it was changed");
	} else if (!w->last) {
		return fault(w, r.seq, w->line, "no leaf hash is stored for it");
	}
	if (memcmp(r.prev, w->prev, DIGEST_LEN) != 0) {
		uint64_t bad = w->seq ? w->seq : r.seq;
		return fault(w, bad, w->seq && w->line > 1 ? w->line - 1 : w->line,
		    "the hash of the record is not the chain value (prev) that record %" PRIu64 " has of it", r.seq);
	}
	merkle_append(&w->tree, w->digest, leaf);
	memcpy(w->prev, leaf, DIGEST_LEN);
	w->seq++;
	w->batch++;
	if (r.sync && r.sync != w->batch)
		return fault(w, r.seq, w->line, "it says that its batch has %" PRIu64 " records, not %" PRIu64, r.sync, w->batch);
	if (r.sync)
		w->batch = 0;
	if (w->out->checkpoint.origin[0] && w->out->checkpoint.size == w->seq) {
		merkle_root(&w->tree, w->digest, root);
		if (memcmp(root, w->out->checkpoint.root, DIGEST_LEN) != 0)
			return fault(w, w->seq, w->line, "the Merkle root of the records up to it is not the one in \"checkpoint\"");
	}
	if (w->out->records++ == 0)
		w->out->first_us = r.wall_us;
	w->out->last_us = r.wall_us;
	return 0;
}

static int load_checkpoint(int dir_fd, const char *name, struct segment_checkpoint *cp, const char **why)
{
	struct buf b;
	int rc = -1;

	buf_init(&b, 0);
	*why = "missing";
	if (segment_read_file(dir_fd, name, &b, 65536) == 0)
		rc = segment_checkpoint_parse(cp, (const char *)b.data, b.len, why);
	else if (errno != ENOENT)
		*why = strerror(errno);
	buf_fini(&b);
	if (rc)
		memset(cp, 0, sizeof(*cp));
	return rc;
}

/* A closed segment: what was said of it when it was closed. */
static int check_closed(struct walk *w, int dir_fd, uint64_t first)
{
	char name[SEGMENT_NAME_MAX];
	struct segment_checkpoint cp;
	uint8_t root[DIGEST_LEN];
	const uint8_t *stored;
	const char *why;

	if (next_leaf(w, &stored))
		return fault(w, w->seq + 1, 0, "its leaf hashes go on behind its last record: records were removed");
	if (w->batch)
		return fault(w, w->seq, w->line, "the segment ends within a batch: records were removed");
	if (load_checkpoint(dir_fd, segment_name(name, first, SEGMENT_CHECKPOINT), &cp, &why) != 0)
		return fault(w, w->seq, 0, "the checkpoint of its end (%s): %s", name, why);
	merkle_root(&w->tree, w->digest, root);
	if (cp.size != w->seq || memcmp(cp.root, root, DIGEST_LEN) != 0)
		return fault(w, cp.size < w->seq ? cp.size + 1 : w->seq, 0, "the Merkle root of the records up to it is not the one in %s", name);
	return 0;
}

static int check_segment(struct walk *w, int dir_fd, uint64_t first, bool last)
{
	char name[SEGMENT_NAME_MAX];
	struct stat st;
	int rc = -1, log;

	segment_name(w->out->file, first, SEGMENT_LOG);
	w->line = 0;
	w->last = last;
	w->leaf_at = w->leaf_have = 0;
	if (first != w->seq + 1)
		return fault(w, w->seq + 1, 0, "the segment that should begin with it is missing");
	log = openat(dir_fd, w->out->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	w->leaves = openat(dir_fd, segment_name(name, first, SEGMENT_LEAVES), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (log < 0 || fstat(log, &st) != 0) {
		fault(w, w->seq + 1, 0, "%s", strerror(errno));
	} else if (w->leaves < 0) {
		rc = fault(w, w->seq + 1, 0, "%s is missing", name);
	} else {
		w->out->octets += (uint64_t)st.st_size;
		rc = segment_lines(log, 0, st.st_size, on_line, w, &w->out->tail);
		if (rc < 0)
			fault(w, w->seq + 1, w->line + 1, "%s", strerror(errno));
		if (rc == 0 && !last && w->out->tail)
			rc = fault(w, w->seq + 1, w->line + 1, "an incomplete line in a closed segment");
		if (rc == 0 && !last)
			rc = check_closed(w, dir_fd, first);
	}
	if (log >= 0)
		close(log);
	if (w->leaves >= 0)
		close(w->leaves);
	return rc;
}

int verify_dir(int dir_fd, struct verify_result *out)
{
	struct walk *w = mem_zalloc(sizeof(*w));
	uint64_t *list = NULL;
	const char *why;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	w->out = out;
	w->digest = digest_new();
	/* Before the records: they only grow, so that a journal at work is never behind its checkpoint. */
	int cp = load_checkpoint(dir_fd, "checkpoint", &out->checkpoint, &why);
	long n = segment_list(dir_fd, &list);
	if (n < 0) {
		fault(w, 0, 0, "%s", strerror(errno));
		rc = -1;
	} else if (n == 0) {
		fault(w, 0, 0, "no journal is in this directory");
		rc = -1;
	}
	for (long i = 0; i < n && rc == 0; i++) {
		rc = check_segment(w, dir_fd, list[i], i == n - 1);
		out->segments++;
	}
	merkle_root(&w->tree, w->digest, out->root);
	out->unfinished = w->batch;
	if (rc == 0 && cp != 0) {
		snprintf(out->file, sizeof(out->file), "checkpoint");
		rc = fault(w, w->seq, 0, "%s: nothing shows where the journal ends", why);
	}
	/* case 77 */
	if (rc == 0 && out->checkpoint.size > w->seq)
		rc = fault(w, w->seq + 1, 0, "the end is missing: the checkpoint covers %" PRIu64 " records, %" PRIu64 " are there",
		    out->checkpoint.size, w->seq);
	digest_free(w->digest);
	mem_free(list);
	mem_free(w);
	return rc;
}

/* ---- reading only ------------------------------------------------------------------------------ */

struct each {
	int (*on_record)(void *ctx, const struct parse_record *r, const struct verify_place *at);
	void *ctx;
	struct verify_place at;
	uint64_t bad;
};

static int each_line(void *ctx, const char *text, size_t n, off_t end)
{
	struct each *e = ctx;
	struct parse_record r;
	const char *why;

	e->at.line++;
	e->at.text = text;
	e->at.n = n;
	if (end == 0 || parse_record(&r, text, n, &why) != 0) {
		e->bad++;
		return 0;
	}
	return e->on_record(e->ctx, &r, &e->at);
}

int verify_each(int dir_fd, int (*on_record)(void *ctx, const struct parse_record *r, const struct verify_place *at), void *ctx,
    uint64_t *bad_lines)
{
	struct each e = {.on_record = on_record, .ctx = ctx};
	char name[SEGMENT_NAME_MAX];
	uint64_t *list;
	long n = segment_list(dir_fd, &list);
	int rc = n < 0 ? -1 : 0;

	for (long i = 0; i < n && rc == 0; i++) {
		int fd = openat(dir_fd, segment_name(name, list[i], SEGMENT_LOG), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		struct stat st;

		e.at.file = name;
		e.at.line = 0;
		if (fd < 0 || fstat(fd, &st) != 0)
			rc = -1;
		else
			rc = segment_lines(fd, 0, st.st_size, each_line, &e, NULL);
		if (fd >= 0)
			close(fd);
	}
	mem_free(list);
	if (bad_lines)
		*bad_lines = e.bad;
	return rc;
}
