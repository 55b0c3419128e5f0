/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "gateway/audit/segment.h"
#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "gateway/base/mem.h"

#define ALLOC_STEP (16u << 20)
#define RESERVE_BYTES (256u << 10)   /* preallocated behind the end: alarms still fit when the disk is full */
#define RESERVE_FILE_BYTES (16u << 20)
#define TORN_MAX (64u << 20)         /* a batch is never longer */
#define STATE_MAGIC "slystat1"
#define STATE_MAX (1u << 30)

struct store {
	struct store_options o;
	struct store_sys sys;
	int lock, log, leaves;
	struct digest *digest;
	struct store_chain chain;
	uint64_t first;            /* of the open segment */
	char name[SEGMENT_NAME_MAX];
	off_t size;                /* durable octets of the open segment */
	off_t alloc_end;           /* allocated up to here */
	bool no_alloc;             /* the file system cannot */
	bool reserve_file;
	bool dead;
	uint64_t opened_ms;        /* monotonic; before 0 when it is older than this boot's clock */
	int64_t opened_age_ms;     /* age at opened_ms */
	uint64_t checkpointed;     /* size in "checkpoint" */
	bool have_checkpoint;
	uint64_t unsaved;
	struct buf leaves_due;     /* leaf hashes not yet in the file */
};

static int free_bytes(int dir_fd, uint64_t *out)
{
	struct statvfs v;

	if (fstatvfs(dir_fd, &v) != 0)
		return -1;
	*out = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

/* ---- small files ------------------------------------------------------------------------------- */

static enum store_result result(struct store *s, int err)
{
	if (err == ENOSPC || err == EDQUOT)
		return STORE_FULL;
	s->dead = true;
	return STORE_DEAD;
}

static int write_all(struct store *s, int fd, const uint8_t *p, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t w = s->sys.pwrite(fd, p, n, at);
		if (w < 0 && errno == EINTR)
			continue;
		if (w == 0)
			errno = EIO;
		if (w <= 0)
			return -1;
		p += w;
		n -= (size_t)w;
		at += w;
	}
	return 0;
}

/* Whole or not at all, also over a power cut. */
static int replace_file(struct store *s, const char *name, const uint8_t *p, size_t n, bool sync)
{
	char tmp[SEGMENT_NAME_MAX + 4];
	int err;

	snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	int fd = openat(s->o.dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -1;
	if (write_all(s, fd, p, n, 0) != 0 || (sync && s->sys.fdatasync(fd) != 0)) {
		err = errno;
		close(fd);
		unlinkat(s->o.dir_fd, tmp, 0);
		errno = err;
		return -1;
	}
	close(fd);
	return renameat(s->o.dir_fd, tmp, s->o.dir_fd, name);
}

static int write_checkpoint(struct store *s, const char *name)
{
	uint8_t root[DIGEST_LEN];
	struct buf b;

	buf_init(&b, 0);
	merkle_root(&s->chain.tree, s->digest, root);
	segment_checkpoint_write(&b, s->o.origin, s->chain.seq, root);
	int rc = replace_file(s, name, b.data, b.len, true);
	buf_fini(&b);
	return rc;
}

/* ---- segments ---------------------------------------------------------------------------------- */

static int open_segment(struct store *s, uint64_t first, bool create)
{
	char name[SEGMENT_NAME_MAX];
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0);
	int log = openat(s->o.dir_fd, segment_name(name, first, SEGMENT_LOG), flags, 0640);
	int leaves = log < 0 ? -1 :
	    openat(s->o.dir_fd, segment_name(name, first, SEGMENT_LEAVES), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

	if (leaves < 0 || (create && fsync(s->o.dir_fd) != 0)) {
		int err = errno;
		if (leaves >= 0)
			close(leaves);
		if (log >= 0)
			close(log);
		if (log >= 0 && create)
			unlinkat(s->o.dir_fd, segment_name(name, first, SEGMENT_LOG), 0);
		errno = err;
		return -1;
	}
	if (s->log >= 0)
		close(s->log);
	if (s->leaves >= 0)
		close(s->leaves);
	s->log = log;
	s->leaves = leaves;
	s->first = first;
	segment_name(s->name, first, SEGMENT_LOG);
	s->size = s->alloc_end = 0;
	s->opened_ms = clock_mono_ms();
	s->opened_age_ms = 0;
	return 0;
}

/* ---- start: what is there ---------------------------------------------------------------------- */

/* Pass 1 over a segment: the chain, batch by batch. */
struct scan {
	struct store *s;
	struct store_chain ahead;  /* beyond s->chain by the records of an unfinished batch */
	uint64_t first;
	uint64_t batch;            /* records of the unfinished batch */
	off_t good;                /* end of the last finished batch */
	struct buf leaves;         /* of records from leaf_seq on */
	uint64_t leaf_seq;
	const struct segment_checkpoint *checkpoint; /* NULL: none */
	const char *why;
};

static int scan_fail(struct scan *c, const char *why)
{
	c->why = why;
	return 1;
}

static int scan_line(void *ctx, const char *line, size_t n, off_t end)
{
	struct scan *c = ctx;
	struct store *s = c->s;
	struct parse_record r;
	uint8_t leaf[DIGEST_LEN], root[DIGEST_LEN];

	if (end == 0)
		return scan_fail(c, "a line without end");
	if (parse_record(&r, line, n, &c->why) != 0)
		return 1;
	if (r.seq != c->ahead.seq + 1)
		return scan_fail(c, "its number does not follow the one before");
	if (memcmp(r.prev, c->ahead.prev, DIGEST_LEN) != 0)
		return scan_fail(c, "its chain value is not the hash of the record before");
	digest_leaf(s->digest, line, n, leaf);
	c->ahead.seq++;
	memcpy(c->ahead.prev, leaf, DIGEST_LEN);
	merkle_append(&c->ahead.tree, s->digest, leaf);
	buf_append(&c->leaves, leaf, DIGEST_LEN);
	c->batch++;
	if (c->checkpoint && c->checkpoint->size == c->ahead.seq) {
		merkle_root(&c->ahead.tree, s->digest, root);
		if (memcmp(root, c->checkpoint->root, DIGEST_LEN) != 0)
			return scan_fail(c, "the Merkle root up to it is not the one in \"checkpoint\"");
	}
	if (r.sync) {
		if (r.sync != c->batch)
			return scan_fail(c, "its batch has not the number of records that it says");
		s->chain = c->ahead;
		c->good = end;
		c->batch = 0;
		if (c->leaves.len >= 1u << 20) {
			if (write_all(s, s->leaves, c->leaves.data, c->leaves.len, (off_t)((c->leaf_seq - c->first) * DIGEST_LEN)) != 0)
				return -1;
			c->leaf_seq += c->leaves.len / DIGEST_LEN;
			buf_reset(&c->leaves);
		}
	}
	return 0;
}

static int replay_line(void *ctx, const char *line, size_t n, off_t end)
{
	const struct store_replay *replay = ctx;
	struct parse_record r;
	const char *why;

	(void)end;
	if (parse_record(&r, line, n, &why) == 0)
		replay->on_record(replay->ctx, &r);
	return 0;
}

/* What follows the last finished batch goes to a file of its own. */
static int cut(struct store *s, off_t good, off_t size)
{
	char name[SEGMENT_NAME_MAX + 32];
	uint8_t *buf = mem_alloc(1u << 20);
	int rc = -1;

	snprintf(name, sizeof(name), "%s.torn-%" PRIu64, s->name, clock_wall_us() / 1000);
	int fd = openat(s->o.dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	for (off_t at = good; fd >= 0 && at < size;) {
		ssize_t n = pread(s->log, buf, 1u << 20, at);
		/* Best effort: it was never acknowledged, and a full disk must not keep us from starting. */
		if (n <= 0 || write_all(s, fd, buf, (size_t)n, at - good) != 0)
			break;
		at += n;
	}
	if (fd >= 0)
		close(fd);
	if (ftruncate(s->log, good) == 0 && s->sys.fdatasync(s->log) == 0)
		rc = 0;
	mem_free(buf);
	return rc;
}

struct start {
	const struct store_replay *replay;
	const struct segment_checkpoint *checkpoint;
	uint64_t torn;
	char *why;
	size_t why_size;
	bool cache_bad;            /* the first record after the cached state does not follow it */
};

static int start_fail(struct start *st, const char *fmt, const char *name, uint64_t seq, const char *what)
{
	snprintf(st->why, st->why_size, fmt, name, seq, what);
	return -1;
}

static int scan_segment(struct store *s, struct start *st, uint64_t first, off_t from, bool last)
{
	struct scan c = {.s = s, .ahead = s->chain, .first = first, .good = from, .leaf_seq = s->chain.seq + 1,
		.checkpoint = st->checkpoint};
	struct stat sb;
	uint64_t tail = 0;
	int rc;

	if (open_segment(s, first, false) != 0 || fstat(s->log, &sb) != 0)
		return start_fail(st, "%s: cannot be opened (record %" PRIu64 "): %s", s->name, s->chain.seq + 1, strerror(errno));
	if (last) {
		/*
		 * What an earlier failed write left in the page cache as clean must not be taken for what is on the disk: write
		 * what is dirty, drop the rest, read again.
		 */
		if (s->sys.fdatasync(s->log) != 0)
			return start_fail(st, "%s: cannot be made durable (after record %" PRIu64 "): %s", s->name, s->chain.seq,
			    strerror(errno));
		posix_fadvise(s->log, from, 0, POSIX_FADV_DONTNEED);
	}
	buf_init(&c.leaves, 0);
	rc = segment_lines(s->log, from, sb.st_size, scan_line, &c, &tail);
	/* The records of an unfinished batch have no leaf yet. */
	c.leaves.len -= c.batch * DIGEST_LEN < c.leaves.len ? c.batch * DIGEST_LEN : c.leaves.len;
	if (rc >= 0 && (write_all(s, s->leaves, c.leaves.data, c.leaves.len, (off_t)((c.leaf_seq - first) * DIGEST_LEN)) != 0 ||
			       ftruncate(s->leaves, (off_t)((s->chain.seq + 1 - first) * DIGEST_LEN)) != 0))
		rc = -1;
	buf_fini(&c.leaves);
	if (rc < 0)
		return start_fail(st, "%s: cannot be read or repaired (after record %" PRIu64 "): %s", s->name, s->chain.seq,
		    strerror(errno));
	if (c.good == from && sb.st_size > from && rc == 1 && from > 0 && c.ahead.seq == s->chain.seq) {
		st->cache_bad = true;
		return -1;
	}
	if (c.good < sb.st_size) {
		const char *why = rc ? c.why : "it is incomplete";
		/*
		 * Only the batch that was being written at a crash may be unfinished, at the very end; what a checkpoint covers
		 * was acknowledged. Anything else is damage, which is not ours to repair.
		 */
		if (!last || (uint64_t)(sb.st_size - c.good) > TORN_MAX || (st->checkpoint && st->checkpoint->size > s->chain.seq))
			return start_fail(st, "%s: record %" PRIu64 ": %s; run \"gwctl audit verify\" and move the directory away to "
			    "start a new journal", s->name, c.ahead.seq + 1, why);
		st->torn = (uint64_t)(sb.st_size - c.good);
		if (cut(s, c.good, sb.st_size) != 0)
			return start_fail(st, "%s: cannot be cut after record %" PRIu64 ": %s", s->name, s->chain.seq, strerror(errno));
	}
	if (st->replay && st->replay->on_record)
		segment_lines(s->log, from, c.good, replay_line, (void *)(uintptr_t)st->replay, NULL);
	s->size = s->alloc_end = c.good;
	return 0;
}

/*
 * The cache: magic, segment, offset, seq, prev, the tree's nodes, the caller's octets, SHA-256 of all that.
 */
static int load_state(struct store *s, const struct store_replay *replay, uint64_t *first, off_t *from)
{
	const size_t fixed = 8 + 3 * 8 + DIGEST_LEN;
	uint8_t sum[DIGEST_LEN];
	struct buf b;
	int rc = -1;

	buf_init(&b, 0);
	if (segment_read_file(s->o.dir_fd, "state", &b, STATE_MAX) != 0 || b.len < fixed + DIGEST_LEN || memcmp(b.data, STATE_MAGIC, 8) != 0)
		goto out;
	digest_plain(s->digest, b.data, b.len - DIGEST_LEN, sum);
	if (memcmp(sum, b.data + b.len - DIGEST_LEN, DIGEST_LEN) != 0)
		goto out;
	const uint8_t *p = b.data + fixed, *end = b.data + b.len - DIGEST_LEN;
	struct store_chain chain = {.seq = le_get64(b.data + 24)};
	memcpy(chain.prev, b.data + 32, DIGEST_LEN);
	chain.tree.size = chain.seq;
	if ((size_t)(end - p) < (size_t)__builtin_popcountll(chain.seq) * DIGEST_LEN)
		goto out;
	for (unsigned k = 0; k < 64; k++) {
		if (chain.seq >> k & 1) {
			memcpy(chain.tree.node[k], p, DIGEST_LEN);
			p += DIGEST_LEN;
		}
	}
	*first = le_get64(b.data + 8);
	*from = (off_t)le_get64(b.data + 16);
	if (*first == 0 || *first > chain.seq + 1 || *from < 0 || (*from == 0) != (*first == chain.seq + 1))
		goto out;

	/* It must end where a record ends. */
	char name[SEGMENT_NAME_MAX], nl = 0;
	struct stat sb;
	int fd = openat(s->o.dir_fd, segment_name(name, *first, SEGMENT_LOG), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && fstat(fd, &sb) == 0 && sb.st_size >= *from && (*from == 0 || (pread(fd, &nl, 1, *from - 1) == 1 && nl == '\n')))
		rc = 0;
	if (fd >= 0)
		close(fd);
	if (rc == 0) {
		s->chain = chain;
		if (replay && replay->on_state)
			replay->on_state(replay->ctx, p, (size_t)(end - p));
	}
out:
	buf_fini(&b);
	return rc;
}

/* Segments from the one at or after the chain's end on. */
static int scan_all(struct store *s, struct start *st, const uint64_t *list, long n, uint64_t first, off_t from)
{
	for (long i = 0; i < n; i++) {
		if (list[i] < first)
			continue;
		if (list[i] != first && list[i] != s->chain.seq + 1) {
			char name[SEGMENT_NAME_MAX];
			return start_fail(st, "%s: the segment before it is missing: its first record should be %" PRIu64 "; %s",
			    segment_name(name, list[i], SEGMENT_LOG), s->chain.seq + 1, "run \"gwctl audit verify\"");
		}
		if (scan_segment(s, st, list[i], list[i] == first ? from : 0, i == n - 1) != 0)
			return -1;
	}
	return 0;
}

static void forget(struct store *s, const struct store_replay *replay)
{
	memset(&s->chain, 0, sizeof(s->chain));
	if (replay && replay->on_reset)
		replay->on_reset(replay->ctx);
}

static int recover(struct store *s, struct start *st, const uint64_t *list, long n)
{
	uint64_t first = 1;
	off_t from = 0;
	int rc = -1;

	st->cache_bad = load_state(s, st->replay, &first, &from) != 0;
	if (!st->cache_bad)
		rc = scan_all(s, st, list, n, first, from);
	if (st->cache_bad) {
		st->cache_bad = false;
		forget(s, st->replay);
		if (n > 0 && list[0] != 1) {
			char name[SEGMENT_NAME_MAX];
			return start_fail(st, "%s: the segments before record %" PRIu64 " are missing, and %s", segment_name(name, list[0],
			    SEGMENT_LOG), list[0], "so is the state that would replace them");
		}
		rc = scan_all(s, st, list, n, 1, 0);
	}
	if (rc == 0 && st->checkpoint && st->checkpoint->size > s->chain.seq)
		return start_fail(st, "%s: ends at record %" PRIu64 ", but a checkpoint covers more: the end was cut off; %s",
		    n ? s->name : "the journal", s->chain.seq, "run \"gwctl audit verify\" and move the directory away to start a new journal");
	return rc;
}

/* The age of the open segment is that of its first record. */
static void segment_age(struct store *s)
{
	char *buf = mem_alloc(SEGMENT_LINE_MAX);
	ssize_t n = s->size ? pread(s->log, buf, SEGMENT_LINE_MAX, 0) : 0;
	char *nl = n > 0 ? memchr(buf, '\n', (size_t)n) : NULL;
	struct parse_record r;
	const char *why;

	if (nl && parse_record(&r, buf, (size_t)(nl - buf), &why) == 0) {
		int64_t age = ((int64_t)clock_wall_us() - (int64_t)r.wall_us) / 1000;
		s->opened_age_ms = age > 0 ? age : 0;
	}
	mem_free(buf);
}

static int take_lock(struct store *s, char *why, size_t why_size)
{
	struct flock lk = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	s->lock = openat(s->o.dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (s->lock < 0) {
		snprintf(why, why_size, "lock: %s; the journal's user must own the directory", strerror(errno));
		return -1;
	}
	/* An open file description lock: it dies with this process, and no other descriptor of ours can drop it. */
	if (fcntl(s->lock, F_OFD_SETLK, &lk) != 0) {
		snprintf(why, why_size, "lock: %s", errno == EAGAIN || errno == EACCES ?
		    "another journal writes into this directory; give each gateway its own" : strerror(errno));
		return -1;
	}
	return 0;
}

static int load_checkpoint(struct store *s, struct segment_checkpoint *cp, bool *have, char *why, size_t why_size)
{
	const char *text;
	struct buf b;
	int rc = 0;

	buf_init(&b, 0);
	*have = false;
	if (segment_read_file(s->o.dir_fd, "checkpoint", &b, 65536) == 0 && b.len > 0) {
		rc = segment_checkpoint_parse(cp, (const char *)b.data, b.len, &text);
		*have = rc == 0;
		if (rc)
			snprintf(why, why_size, "checkpoint: %s; run \"gwctl audit verify\"", text);
	}
	buf_fini(&b);
	return rc;
}

struct store *store_open(const struct store_options *o, const struct store_replay *replay, uint64_t *torn, char *why, size_t why_size)
{
	struct store *s = mem_zalloc(sizeof(*s));
	struct start st = {.replay = replay, .why = why, .why_size = why_size};
	struct segment_checkpoint cp;
	uint64_t *list = NULL;
	bool have_cp, ok = false;
	long n;

	s->o = *o;
	if (o->sys)
		s->sys = *o->sys;
	if (!s->sys.pwrite)
		s->sys.pwrite = pwrite;
	if (!s->sys.fdatasync)
		s->sys.fdatasync = fdatasync;
	if (!s->sys.fallocate)
		s->sys.fallocate = fallocate;
	if (!s->sys.free_bytes)
		s->sys.free_bytes = free_bytes;
	s->lock = s->log = s->leaves = -1;
	s->digest = digest_new();
	buf_init(&s->leaves_due, 0);
	if (take_lock(s, why, why_size) != 0 || load_checkpoint(s, &cp, &have_cp, why, why_size) != 0)
		goto out;
	st.checkpoint = have_cp ? &cp : NULL;
	n = segment_list(o->dir_fd, &list);
	if (n < 0) {
		snprintf(why, why_size, "the journal's directory cannot be read: %s", strerror(errno));
		goto out;
	}
	if (recover(s, &st, list, n) != 0)
		goto out;
	if (s->log < 0 && open_segment(s, s->chain.seq + 1, true) != 0) {
		snprintf(why, why_size, "cannot create a segment: %s", strerror(errno));
		goto out;
	}
	segment_age(s);
	s->checkpointed = have_cp ? cp.size : 0;
	s->have_checkpoint = have_cp;
	*torn = st.torn;
	ok = true;
out:
	mem_free(list);
	if (ok)
		return s;
	store_close(s);
	return NULL;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->log >= 0)
		close(s->log);
	if (s->leaves >= 0)
		close(s->leaves);
	if (s->lock >= 0)
		close(s->lock);
	buf_fini(&s->leaves_due);
	digest_free(s->digest);
	mem_free(s);
}

/* ---- running ----------------------------------------------------------------------------------- */

struct store_chain *store_chain(struct store *s)
{
	return &s->chain;
}

struct digest *store_digest(struct store *s)
{
	return s->digest;
}

static void make_reserve_file(struct store *s)
{
	static const uint8_t zeros[65536];
	int fd = openat(s->o.dir_fd, "reserve", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	off_t at = 0;

	if (fd < 0)
		return;
	while (at < (off_t)RESERVE_FILE_BYTES && s->sys.pwrite(fd, zeros, sizeof(zeros), at) == (ssize_t)sizeof(zeros))
		at += (off_t)sizeof(zeros);
	close(fd);
	s->reserve_file = at > 0;
}

bool store_release_reserve(struct store *s)
{
	if (!s->reserve_file)
		return false;
	s->reserve_file = false;
	return unlinkat(s->o.dir_fd, "reserve", 0) == 0;
}

enum store_result store_room(struct store *s, size_t n, bool alarm)
{
	off_t end = s->size + (off_t)n + (alarm ? 0 : (off_t)RESERVE_BYTES), step = ALLOC_STEP;

	if (s->dead)
		return STORE_DEAD;
	if (s->no_alloc || end <= s->alloc_end)
		return STORE_OK;
	if (step > (off_t)s->o.segment_bytes)
		step = (off_t)s->o.segment_bytes;
	if (end - s->alloc_end > step)
		step = end - s->alloc_end;
	for (;;) {
		/* FALLOC_FL_KEEP_SIZE: the file ends where its last record does. */
		if (s->sys.fallocate(s->log, FALLOC_FL_KEEP_SIZE, s->alloc_end, step) == 0) {
			s->alloc_end += step;
			return STORE_OK;
		}
		if (errno == EINTR)
			continue;
		if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) {
			s->no_alloc = true;
			make_reserve_file(s);
			return STORE_OK;
		}
		if ((errno == ENOSPC || errno == EDQUOT) && step > end - s->alloc_end) {
			step = end - s->alloc_end;
			continue;
		}
		return result(s, errno);
	}
}

/* Leaves can be had again from the records, so that they need not be durable, only there. */
static void flush_leaves(struct store *s)
{
	uint64_t total = s->chain.seq + 1 - s->first, due = s->leaves_due.len / DIGEST_LEN;

	if (due && write_all(s, s->leaves, s->leaves_due.data, s->leaves_due.len, (off_t)((total - due) * DIGEST_LEN)) == 0)
		buf_reset(&s->leaves_due);
}

enum store_result store_commit(struct store *s, const uint8_t *p, size_t n, const uint8_t *leaves, size_t records)
{
	if (s->dead)
		return STORE_DEAD;
	if (write_all(s, s->log, p, n, s->size) != 0) {
		enum store_result rc = result(s, errno);
		if (rc == STORE_FULL && ftruncate(s->log, s->size) != 0)
			rc = result(s, EIO);
		return rc;
	}
	/* Any failure here leaves pages that the kernel may call clean and that are not on the disk: the end (case 75). */
	if (s->sys.fdatasync(s->log) != 0)
		return result(s, EIO);
	s->size += (off_t)n;
	if (s->alloc_end < s->size)
		s->alloc_end = s->size;
	s->unsaved += n;
	buf_append(&s->leaves_due, leaves, records * DIGEST_LEN);
	flush_leaves(s);
	return STORE_OK;
}

bool store_rotation_due(const struct store *s, uint64_t now_ms)
{
	if (s->size == 0 || s->dead)
		return false;
	return (uint64_t)s->size >= s->o.segment_bytes ||
	    (int64_t)(now_ms - s->opened_ms) + s->opened_age_ms >= (int64_t)s->o.segment_ms;
}

enum store_result store_rotate(struct store *s, uint64_t now_ms)
{
	char name[SEGMENT_NAME_MAX];

	if (s->dead)
		return STORE_DEAD;
	flush_leaves(s);
	if (s->leaves_due.len)
		return STORE_FULL;
	/* Gives back what was preallocated behind the end. */
	if (ftruncate(s->log, s->size) != 0 || s->sys.fdatasync(s->log) != 0 || s->sys.fdatasync(s->leaves) != 0)
		return result(s, EIO);
	s->alloc_end = s->size;
	if (write_checkpoint(s, segment_name(name, s->first, SEGMENT_CHECKPOINT)) != 0)
		return result(s, errno);
	if (open_segment(s, s->chain.seq + 1, true) != 0)
		return result(s, errno);
	s->opened_ms = now_ms;
	return STORE_OK;
}

enum store_result store_checkpoint(struct store *s)
{
	if (s->dead)
		return STORE_DEAD;
	if (s->have_checkpoint && s->checkpointed == s->chain.seq)
		return STORE_OK;
	if (write_checkpoint(s, "checkpoint") != 0)
		return result(s, errno);
	s->checkpointed = s->chain.seq;
	s->have_checkpoint = true;
	return STORE_OK;
}

uint64_t store_unsaved(const struct store *s)
{
	return s->unsaved;
}

enum store_result store_save(struct store *s, const uint8_t *p, size_t n)
{
	uint8_t head[8 + 3 * 8 + DIGEST_LEN], sum[DIGEST_LEN];
	struct buf b;

	if (s->dead)
		return STORE_DEAD;
	/* A start goes on from here and does not look at the leaves before. */
	flush_leaves(s);
	if (s->leaves_due.len || s->sys.fdatasync(s->leaves) != 0)
		return s->leaves_due.len ? STORE_FULL : result(s, EIO);
	memcpy(head, STATE_MAGIC, 8);
	le_put64(head + 8, s->first);
	le_put64(head + 16, (uint64_t)s->size);
	le_put64(head + 24, s->chain.seq);
	memcpy(head + 32, s->chain.prev, DIGEST_LEN);
	buf_init(&b, 0);
	buf_append(&b, head, sizeof(head));
	for (unsigned k = 0; k < 64; k++)
		if (s->chain.seq >> k & 1)
			buf_append(&b, s->chain.tree.node[k], DIGEST_LEN);
	buf_append(&b, p, n);
	digest_plain(s->digest, b.data, b.len, sum);
	buf_append(&b, sum, sizeof(sum));
	int rc = replace_file(s, "state", b.data, b.len, false);
	int err = errno;
	buf_fini(&b);
	s->unsaved = 0;
	return rc ? result(s, err) : STORE_OK;
}

enum store_result store_finish(struct store *s)
{
	enum store_result rc = store_checkpoint(s);

	if (rc == STORE_OK && (ftruncate(s->log, s->size) != 0 || s->sys.fdatasync(s->log) != 0 || s->sys.fdatasync(s->leaves) != 0))
		rc = result(s, EIO);
	s->alloc_end = s->size;
	return rc;
}

int store_free_bytes(struct store *s, uint64_t *out)
{
	return s->sys.free_bytes(s->o.dir_fd, out);
}

const char *store_segment_name(const struct store *s)
{
	return s->name;
}

uint64_t store_segment_size(const struct store *s)
{
	return (uint64_t)s->size;
}
