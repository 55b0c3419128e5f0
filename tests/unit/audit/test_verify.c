/* SPDX-License-Identifier: Apache-2.0 */
/* An insider edits, removes, swaps, cuts: verification fails and names the record (cases 77 and 78); so does the next start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/audit/segment.h"
#include "gateway/audit/verify.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "tests/unit/audit/sample.h"

static char path[PATH_MAX], copy_path[PATH_MAX];
static int dir, copy = -1;

static struct journal *journal(int fd, uint64_t segment_bytes, char *why, size_t why_size)
{
	static struct journal_env env;

	sample_env(&env, fd);
	env.segment_bytes = segment_bytes;
	return journal_new(&env, why, why_size);
}

/* Three segments: the first two closed, the third at work. */
static int setup(void **state)
{
	int fd = ring_create(65536);
	char why[512];
	const char *text;

	(void)state;
	log_set_level(LOG_LV_ERROR);
	log_set_fd(-1);
	dir = sample_dir(path, sizeof(path));
	struct journal *j = journal(dir, 3500, why, sizeof(why));
	struct ring *w = ring_map_writer(fd, -1, &text);
	journal_add_ring(j, fd, "worker/0", 5, &text);
	for (unsigned i = 0; i < 12; i++) {
		struct uuid id;
		uuid_make(&id, clock_wall_us());
		sample_open(w, &id, 1, clock_wall_us(), clock_mono_ms());
		if (i % 4)
			sample_end(w, &id, 1, clock_wall_us(), clock_mono_ms());
		journal_turn(j, clock_mono_ms());
	}
	sample_run(j);
	sample_stop(j);
	ring_unmap(w);
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sample_remove(dir, path);
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	copy = sample_dir(copy_path, sizeof(copy_path));
	sample_copy(dir, copy);
	return 0;
}

static int gone(void **state)
{
	(void)state;
	sample_remove(copy, copy_path);
	return 0;
}

static void sound(void **state)
{
	struct verify_result r;

	(void)state;
	if (verify_dir(copy, &r) != 0)
		fail_msg("%s", r.fault);
	assert_true(r.segments >= 3);
	assert_true(r.records >= 12);
	assert_int_equal(r.checkpoint.size, r.records);
	assert_memory_equal(r.checkpoint.root, r.root, DIGEST_LEN);
	assert_int_equal(r.tail, 0);
	assert_int_equal(r.unfinished, 0);
}

/* The number of the record that octet "at" of a segment belongs to. */
static uint64_t record_at(const char *log, size_t at, uint64_t first)
{
	uint64_t n = first;

	for (size_t i = 0; i < at; i++)
		n += log[i] == '\n';
	return n;
}

/* case 78: each bit of each octet of each segment: found, and the number named is the record's or, where a line's end was hit, its neighbour's. */
static void every_bit(void **state)
{
	uint64_t *list;
	long n = segment_list(copy, &list);

	(void)state;
	for (long s = 0; s < n; s++) {
		char name[SEGMENT_NAME_MAX];
		size_t len;
		char *log = sample_read(copy, segment_name(name, list[s], SEGMENT_LOG), &len);
		int fd = openat(copy, name, O_WRONLY | O_CLOEXEC);

		for (size_t i = 0; i < len; i++) {
			struct verify_result r;
			char was = log[i], changed = (char)(was ^ 1 << (i % 8));
			uint64_t want = record_at(log, i, list[s]);

			assert_int_equal(pwrite(fd, &changed, 1, (off_t)i), 1);
			if (verify_dir(copy, &r) != 1)
				fail_msg("octet %zu of %s: not noticed", i, name);
			if (r.seq != want)
				fail_msg("octet %zu of %s: record %" PRIu64 " named, not %" PRIu64 ": %s", i, name, r.seq, want, r.fault);
			assert_string_equal(r.file, name);
			assert_int_equal(pwrite(fd, &was, 1, (off_t)i), 1);
		}
		close(fd);
		mem_free(log);
	}
	mem_free(list);
}

/* Neither the stored leaf hashes nor the checkpoints can be changed for themselves. */
static void every_octet_of_the_rest(void **state)
{
	static const char *const suffix[] = {SEGMENT_LEAVES, SEGMENT_CHECKPOINT};
	uint64_t *list;
	long n = segment_list(copy, &list);

	(void)state;
	for (long s = 0; s <= n; s++) {
		for (unsigned k = 0; k < 2; k++) {
			char name[SEGMENT_NAME_MAX];
			struct verify_result r;
			size_t len;

			if (s == n)
				snprintf(name, sizeof(name), "checkpoint");
			else
				segment_name(name, list[s], suffix[k]);
			char *data = sample_read(copy, name, &len);
			if (!data) {
				assert_true(s == n - 1 && k == 1);
				continue;
			}
			for (size_t i = 0; i < len; i++) {
				/* The origin is a name, which only a signature will bind. */
				if ((s == n || k == 1) && i < strcspn(data, "\n"))
					continue;
				data[i] ^= (char)(1 << (i % 7));
				sample_write(copy, name, data, len);
				if (verify_dir(copy, &r) != 1)
					fail_msg("octet %zu of %s: not noticed", i, name);
				data[i] ^= (char)(1 << (i % 7));
			}
			sample_write(copy, name, data, len);
			assert_int_equal(verify_dir(copy, &r), 0);
			unlinkat(copy, name, 0);
			assert_int_equal(verify_dir(copy, &r), 1);
			sample_write(copy, name, data, len);
			mem_free(data);
		}
	}
	mem_free(list);
}

struct lines {
	char *text;
	size_t len, n, at[128];    /* at[n]: the end */
};

static void read_lines(struct lines *l, const char *name)
{
	l->text = sample_read(copy, name, &l->len);
	l->n = 0;
	l->at[0] = 0;
	for (size_t i = 0; i < l->len; i++)
		if (l->text[i] == '\n')
			l->at[++l->n] = i + 1;
}

static void write_lines(const struct lines *l, const char *name, const size_t *order, size_t n)
{
	char *out = mem_alloc(l->len * 2);
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		size_t k = order[i];
		memcpy(out + len, l->text + l->at[k], l->at[k + 1] - l->at[k]);
		len += l->at[k + 1] - l->at[k];
	}
	sample_write(copy, name, out, len);
	mem_free(out);
}

/* case 78: removed, swapped, doubled, in each segment; case 77 where it is the end. */
static void removed_and_swapped(void **state)
{
	uint64_t *list;
	long n = segment_list(copy, &list);

	(void)state;
	for (long s = 0; s < n; s++) {
		char name[SEGMENT_NAME_MAX];
		struct verify_result r;
		struct lines l;
		size_t order[130];

		read_lines(&l, segment_name(name, list[s], SEGMENT_LOG));
		for (size_t k = 0; k < l.n; k++) {
			size_t m = 0;
			for (size_t i = 0; i < l.n; i++)
				if (i != k)
					order[m++] = i;
			write_lines(&l, name, order, m);
			assert_int_equal(verify_dir(copy, &r), 1);
			assert_int_equal(r.seq, list[s] + k);
			if (k + 1 < l.n) {
				for (size_t i = 0; i < l.n; i++)
					order[i] = i == k ? k + 1 : i == k + 1 ? k : i;
				write_lines(&l, name, order, l.n);
				assert_int_equal(verify_dir(copy, &r), 1);
				assert_int_equal(r.seq, list[s] + k);
				assert_int_equal(r.line, k + 1);
			}
			m = 0;
			for (size_t i = 0; i < l.n; i++) {
				order[m++] = i;
				if (i == k)
					order[m++] = i;
			}
			write_lines(&l, name, order, m);
			assert_int_equal(verify_dir(copy, &r), 1);
			assert_int_equal(r.seq, list[s] + k + 1);
		}
		sample_write(copy, name, l.text, l.len);
		assert_int_equal(verify_dir(copy, &r), 0);
		/* The whole segment, its leaves and its checkpoint with it. */
		unlinkat(copy, name, 0);
		assert_int_equal(verify_dir(copy, &r), 1);
		assert_int_equal(r.seq, list[s]);
		sample_write(copy, name, l.text, l.len);
		mem_free(l.text);
	}
	mem_free(list);
}

/* case 77: the end is cut at every octet; verify says so, and the journal does not start on it. */
static void tail_cut(void **state)
{
	char name[SEGMENT_NAME_MAX], why[512];
	struct verify_result r;
	uint64_t *list;
	size_t len, leaves_len;
	long n = segment_list(copy, &list);
	char *log = sample_read(copy, segment_name(name, list[n - 1], SEGMENT_LOG), &len), leaves_name[SEGMENT_NAME_MAX];
	char *leaves = sample_read(copy, segment_name(leaves_name, list[n - 1], SEGMENT_LEAVES), &leaves_len);

	(void)state;
	unlinkat(copy, "state", 0);
	for (size_t cut = 0; cut < len; cut++) {
		sample_write(copy, name, log, cut);
		uint64_t kept = record_at(log, cut, list[n - 1]) - list[n - 1];
		sample_write(copy, leaves_name, leaves, kept * DIGEST_LEN); /* he thinks of that */
		assert_int_equal(verify_dir(copy, &r), 1);
		assert_int_equal(r.seq, list[n - 1] + kept);
		assert_non_null(strstr(r.fault, "the end is missing"));
		if (cut % 50 == 0) {
			assert_null(journal(copy, 3500, why, sizeof(why)));
			assert_non_null(strstr(why, "gwctl audit verify"));
		}
	}
	/* An edited record under the checkpoint keeps it from starting, too. */
	log[len / 2] ^= 1;
	sample_write(copy, name, log, len);
	assert_null(journal(copy, 3500, why, sizeof(why)));
	log[len / 2] ^= 1;
	sample_write(copy, name, log, len);
	struct journal *j = journal(copy, 3500, why, sizeof(why));
	assert_non_null(j);
	sample_stop(j);
	assert_int_equal(verify_dir(copy, &r), 0);
	mem_free(log);
	mem_free(leaves);
	mem_free(list);
}

/* A cache that is damaged or from another time is not believed; the records are read instead. */
static void bad_cache(void **state)
{
	char why[512];
	struct verify_result r;
	size_t len;
	char *data = sample_read(copy, "state", &len);

	(void)state;
	for (size_t i = 0; i < len; i += 5) {
		data[i] ^= 4;
		sample_write(copy, "state", data, len);
		data[i] ^= 4;
		struct journal *j = journal(copy, 1u << 20, why, sizeof(why));
		assert_non_null(j);
		journal_free(j);
	}
	for (size_t n = 0; n < len; n += 7) {
		sample_write(copy, "state", data, n);
		struct journal *j = journal(copy, 1u << 20, why, sizeof(why));
		assert_non_null(j);
		journal_free(j);
	}
	assert_int_equal(verify_dir(copy, &r), 0);
	/* Without it and without the first segment there is nothing to go on from. */
	unlinkat(copy, "state", 0);
	unlinkat(copy, "journal-000000000001.log", 0);
	assert_null(journal(copy, 1u << 20, why, sizeof(why)));
	mem_free(data);
}

static void not_a_journal(void **state)
{
	char empty_path[PATH_MAX];
	int empty = sample_dir(empty_path, sizeof(empty_path));
	struct verify_result r;

	(void)state;
	assert_int_equal(verify_dir(empty, &r), -1);
	sample_write(empty, "journal-1.log", "x", 1); /* not a segment's name */
	assert_int_equal(verify_dir(empty, &r), -1);
	sample_write(empty, "journal-000000000001.log", "x\n", 2);
	sample_write(empty, "journal-000000000001.leaves", "", 0);
	assert_int_equal(verify_dir(empty, &r), 1);
	assert_int_equal(r.line, 1);
	sample_remove(empty, empty_path);
}

static void checkpoints(void **state)
{
	static const char *const bad[] = {"", "a", "a\n", "a\n1\n", "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", "\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
		"a\n01\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n", "a\n\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
		"a\n-1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n", "a\n99999999999999999999\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
		"a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\n", "a\n1\nAAAA\n\n", "a\n1\n\n\n"};
	struct segment_checkpoint cp;
	uint8_t root[DIGEST_LEN] = {1, 2, 3};
	const char *why;
	struct buf b;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (segment_checkpoint_parse(&cp, bad[i], strlen(bad[i]), &why) == 0)
			fail_msg("taken: %s", bad[i]);
	buf_init(&b, 0);
	segment_checkpoint_write(&b, "irs.example/gateway/dmz1", 12345, root);
	buf_puts(&b, "\xe2\x80\x94 irs.example/gateway/dmz1 c2lnbmF0dXJl\n"); /* a signature line of later */
	assert_int_equal(segment_checkpoint_parse(&cp, (char *)b.data, b.len, &why), 0);
	assert_string_equal(cp.origin, "irs.example/gateway/dmz1");
	assert_int_equal(cp.size, 12345);
	assert_memory_equal(cp.root, root, DIGEST_LEN);
	buf_fini(&b);
}

#define T(f) cmocka_unit_test_setup_teardown(f, fresh, gone)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(sound),
		T(every_bit),
		T(every_octet_of_the_rest),
		T(removed_and_swapped),
		T(tail_cut),
		T(bad_cache),
		cmocka_unit_test(not_a_journal),
		cmocka_unit_test(checkpoints),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
