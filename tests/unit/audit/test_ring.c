/* SPDX-License-Identifier: Apache-2.0 */
/* Events and rings: what is written is read, wrapped or not; what a hostile writer does breaks its own ring only (case 87). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/audit/event.h"
#include "gateway/audit/ring.h"
#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "tests/unit/audit/sample.h"

#define BYTES 65536u

static struct ring *writer(int fd, int wake)
{
	const char *why = NULL;
	struct ring *r = ring_map_writer(fd, wake, &why);

	assert_non_null(r);
	return r;
}

static struct ring *reader(int fd)
{
	const char *why = NULL;
	struct ring *r = ring_map_reader(fd, &why);

	assert_non_null(r);
	ring_heartbeat(r, 1000);
	return r;
}

/* An event of about n octets with a number in it. */
static int put(struct ring *w, size_t n, uint64_t number, bool end)
{
	struct audit_event e;
	static uint8_t text[AUDIT_TEXT_MAX];
	void *p = end ? ring_reserve_end(w, n + 64, 1000) : ring_reserve(w, n + 64, 1000);

	if (!p)
		return -1;
	audit_event_init(&e, p, n + 64, AUDIT_ALERT, NULL, 0, number);
	audit_event_text(&e, AUDIT_F_DETAIL, text, n);
	audit_event_done(&e);
	ring_commit(w, e.len);
	return 0;
}

static void fields_round_trip(void **state)
{
	uint8_t mem[512];
	struct audit_event e;
	struct audit_fields f;
	struct uuid id;
	const char *why;

	(void)state;
	uuid_make(&id, clock_wall_us());
	audit_event_init(&e, mem, sizeof(mem), AUDIT_OPEN, &id, 3, 12345);
	audit_event_str(&e, AUDIT_F_PRINCIPAL, "spiffe://a/b");
	audit_event_str(&e, AUDIT_F_SERVICE, NULL);
	audit_event_text(&e, AUDIT_F_PATH, "x", 0);
	audit_event_u64(&e, AUDIT_F_STATUS, 200);
	audit_event_done(&e);
	assert_int_equal(e.len % 8, 0);
	assert_int_equal(audit_event_parse(&f, mem, e.len, &why), 0);
	assert_true(f.present == (UINT64_C(1) << AUDIT_F_PRINCIPAL | UINT64_C(1) << AUDIT_F_STATUS));
	assert_int_equal(f.f[AUDIT_F_PRINCIPAL].n, 12);
	assert_int_equal(le_get64(f.f[AUDIT_F_STATUS].p), 200);
	assert_int_equal(f.head.attempt, 3);
	assert_int_equal(f.head.wall_us, 12345);
	assert_memory_equal(&f.head.exchange, &id, sizeof(id));
}

static void text_is_cut_never_refused(void **state)
{
	static uint8_t big[AUDIT_TEXT_MAX + 100];
	uint8_t mem[AUDIT_EVENT_MAX];
	struct audit_fields f;
	struct audit_event e;
	const char *why;

	(void)state;
	memset(big, 'a', sizeof(big));
	audit_event_init(&e, mem, sizeof(mem), AUDIT_DENY, NULL, 0, 0);
	for (int i = AUDIT_F_PATH; i > 0; i--)
		audit_event_text(&e, (enum audit_field)i, big, sizeof(big));
	audit_event_u64(&e, AUDIT_F_COUNT, 1); /* no room: left out */
	audit_event_done(&e);
	assert_true(e.len <= AUDIT_EVENT_MAX);
	assert_int_equal(audit_event_parse(&f, mem, e.len, &why), 0);
	assert_int_equal(f.f[AUDIT_F_PATH].n, AUDIT_TEXT_MAX);
	assert_false(f.present >> AUDIT_F_COUNT & 1);

	for (size_t cap = 32; cap < 80; cap++) {
		audit_event_init(&e, mem, cap, AUDIT_DENY, NULL, 0, 0);
		audit_event_text(&e, AUDIT_F_PATH, big, sizeof(big));
		audit_event_u64(&e, AUDIT_F_COUNT, 7);
		audit_event_done(&e);
		assert_true(e.len <= cap);
		assert_int_equal(audit_event_parse(&f, mem, e.len, &why), 0);
	}
}

/* Every octet of an event, changed in every way that matters: parsed or refused, never read beyond. */
static void events_of_a_liar(void **state)
{
	uint8_t mem[256], *copy;
	struct audit_fields f;
	struct audit_event e;
	const char *why = NULL;

	(void)state;
	audit_event_init(&e, mem, sizeof(mem), AUDIT_LINK_UP, NULL, 0, 1);
	audit_event_str(&e, AUDIT_F_PEER, "irs");
	audit_event_u64(&e, AUDIT_F_LINK, 4);
	audit_event_done(&e);
	copy = malloc(e.len); /* exact, so that the sanitizer sees an octet too many */
	for (uint32_t i = 0; i < e.len; i++) {
		for (unsigned v = 0; v < 256; v++) {
			memcpy(copy, mem, e.len);
			copy[i] = (uint8_t)v;
			audit_event_parse(&f, copy, e.len, &why);
		}
	}
	for (uint32_t n = 0; n < e.len; n++) {
		uint8_t *part = malloc(n ? n : 1);
		memcpy(part, mem, n);
		assert_int_equal(audit_event_parse(&f, part, n, &why), -1);
		free(part);
	}
	static const struct {
		uint32_t at;
		uint16_t value;
	} bad[] = {{0, 16}, {0, 4096}, {4, 0}, {4, AUDIT_TYPES}, {32, AUDIT_FIELDS}, {32, 0xffff}, {34, 0}, {34, 4000}, {39, AUDIT_F_PEER},
		{41, 7}, {41, 9}, {16, 1} /* an id that is no UUIDv7 */};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(copy, mem, e.len);
		le_put16(copy + bad[i].at, bad[i].value);
		assert_int_equal(audit_event_parse(&f, copy, e.len, &why), -1);
	}
	free(copy);
}

static void wraps(void **state)
{
	int fd = ring_create(BYTES);
	struct ring *w = writer(fd, -1), *r = reader(fd);
	static uint8_t out[AUDIT_EVENT_MAX];
	const char *why = NULL;
	uint64_t pos, last = 0, sent = 0, got = 0;

	(void)state;
	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		for (unsigned i = (unsigned)rand() % 6; i > 0; i--)
			if (put(w, (size_t)rand() % 2000, sent, rand() & 1) == 0)
				sent++;
		for (unsigned i = (unsigned)rand() % 6; i > 0; i--) {
			struct audit_fields f;
			long n = ring_read(r, out, &pos, &why);
			if (n == 0)
				break;
			assert_true(n > 0);
			assert_int_equal(audit_event_parse(&f, out, (size_t)n, &why), 0);
			assert_int_equal(f.head.wall_us, got++);
			assert_true(got == 1 || pos > last);
			last = pos;
		}
		if (rand() & 1)
			ring_release(r);
	}
	assert_true(sent > 20000);
	assert_true(sent - got < BYTES / 32);
	ring_unmap(w);
	ring_unmap(r);
	close(fd);
}

static void full_leaves_room_for_ends(void **state)
{
	int fd = ring_create(BYTES);
	struct ring *w = writer(fd, -1), *r = reader(fd);
	static uint8_t out[AUDIT_EVENT_MAX];
	const char *why = NULL;
	uint64_t pos;
	unsigned opens = 0, ends = 0;

	(void)state;
	assert_null(ring_refusal(w, 1000));
	while (put(w, 200, 0, false) == 0)
		opens++;
	assert_string_equal(ring_refusal(w, 1000), "ring-full");
	while (put(w, 200, 0, true) == 0)
		ends++;
	assert_true(ends >= BYTES / 4 / 264 - 2);
	assert_null(ring_reserve_end(w, 264, 1000));
	for (unsigned i = 0; i < opens + ends; i++)
		assert_true(ring_read(r, out, &pos, &why) > 0);
	assert_int_equal(ring_read(r, out, &pos, &why), 0);
	assert_null(ring_reserve(w, 256, 1000)); /* read is not released */
	ring_release(r);
	assert_non_null(ring_reserve(w, 256, 1000));
	assert_null(ring_reserve(w, AUDIT_EVENT_MAX + 1, 1000));
	ring_unmap(w);
	ring_unmap(r);
	close(fd);
}

static void silent_or_stopped_refuses_opens(void **state)
{
	int fd = ring_create(BYTES);
	struct ring *w = writer(fd, -1), *r;

	(void)state;
	assert_string_equal(ring_refusal(w, 5000), "journal-silent"); /* never mapped by a journal */
	r = reader(fd);
	ring_heartbeat(r, 5000);
	assert_null(ring_refusal(w, 7000));
	assert_string_equal(ring_refusal(w, 7001), "journal-silent");
	assert_null(ring_reserve(w, 64, 7001));
	assert_non_null(ring_reserve_end(w, 64, 7001));
	assert_null(ring_refusal(w, 4000)); /* the loop's clock is a little older */
	ring_set_stopped(r, RING_STOPPED_SPACE);
	assert_string_equal(ring_refusal(w, 5000), "no-space");
	ring_set_stopped(r, RING_STOPPED_IO);
	assert_string_equal(ring_refusal(w, 5000), "journal-stopped");
	assert_null(ring_reserve(w, 64, 5000));
	assert_non_null(ring_reserve_end(w, 64, 5000));
	ring_set_stopped(r, RING_RUNNING);
	assert_non_null(ring_reserve(w, 64, 5000));
	ring_unmap(w);
	ring_unmap(r);
	close(fd);
}

static void woken_only_from_idle(void **state)
{
	int fd = ring_create(BYTES), wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct ring *w = writer(fd, wake), *r = reader(fd);
	uint64_t n;

	(void)state;
	put(w, 10, 0, false);
	assert_int_equal(read(wake, &n, sizeof(n)), -1);
	ring_set_idle(r, true);
	assert_true(ring_pending(r));
	put(w, 10, 1, false);
	put(w, 10, 2, false);
	assert_int_equal(read(wake, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	ring_unmap(w);
	ring_unmap(r);
	close(fd);
	close(wake);
}

/* What a dead reader had read and not released is read again. */
static void reader_restarts(void **state)
{
	int fd = ring_create(BYTES);
	struct ring *w = writer(fd, -1), *r = reader(fd);
	static uint8_t out[AUDIT_EVENT_MAX];
	const char *why = NULL;
	uint64_t pos, again;

	(void)state;
	put(w, 10, 0, false);
	put(w, 20, 1, false);
	ring_read(r, out, &pos, &why);
	ring_release(r);
	ring_read(r, out, &pos, &why);
	ring_unmap(r);
	r = reader(fd);
	assert_true(ring_read(r, out, &again, &why) > 0);
	assert_int_equal(again, pos);
	ring_unmap(w);
	w = writer(fd, -1); /* so does a writer, where it was */
	put(w, 30, 2, false);
	assert_true(ring_read(r, out, &pos, &why) > 0);
	assert_int_equal(le_get64(out + 8), 2);
	ring_unmap(w);
	ring_unmap(r);
	close(fd);
}

/* case 87: shrinking and growing are refused by the kernel; a descriptor without the seals is refused by us. */
static void seals(void **state)
{
	int fd = ring_create(BYTES), bare;
	const char *why = NULL;

	(void)state;
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	close(fd);
	bare = memfd_create("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(bare, 4096 + BYTES), 0);
	assert_null(ring_map_reader(bare, &why));
	assert_non_null(strstr(why, "sealed"));
	fcntl(bare, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	assert_null(ring_map_reader(bare, &why)); /* no header */
	close(bare);
	assert_null(ring_map_reader(0, &why));
	assert_int_equal(ring_create(BYTES + 8), -1);
	assert_int_equal(ring_create(1024), -1);
}

/* case 87: every 8 octets of the header and of the first records overwritten with what hurts most. */
static void scribbles(void **state)
{
	static const uint64_t value[] = {0, 1, 7, 8, 9, 24, 32, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, BYTES, BYTES - 8, BYTES + 8,
		UINT64_MAX, UINT64_MAX - 7, INT64_MAX, 0x0001000000000020, 0x0001000000000028, 0x0000000000010000, 0x0001ffffffffffff};
	static uint8_t out[AUDIT_EVENT_MAX];
	unsigned broken = 0;

	(void)state;
	for (size_t at = 0; at < 4096 + 512; at += 8) {
		if (at == 512)
			at = 4096;
		for (size_t v = 0; v < sizeof(value) / sizeof(value[0]); v++) {
			int fd = ring_create(BYTES);
			struct ring *w = writer(fd, -1), *r = reader(fd);
			uint8_t *raw = mmap(NULL, 4096 + BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			const char *why = NULL;
			uint64_t pos;
			long n;

			for (unsigned i = 0; i < 3; i++)
				put(w, 40, i, false);
			ring_read(r, out, &pos, &why);
			le_put64(raw + at, value[v]);
			for (unsigned i = 0; i < 10000 && (n = ring_read(r, out, &pos, &why)) > 0; i++) {
				struct audit_fields f;
				assert_true(n <= AUDIT_EVENT_MAX);
				audit_event_parse(&f, out, (size_t)n, &why);
			}
			if (n < 0) {
				broken++;
				assert_non_null(why);
				assert_int_equal(ring_read(r, out, &pos, &why), -1); /* and stays so */
				assert_false(ring_pending(r));
			}
			ring_release(r);
			/* The writer's side lives too: a journal that went mad must not hurt a worker. */
			for (unsigned i = 0; i < 300; i++)
				put(w, 100, i, i & 1);
			munmap(raw, 4096 + BYTES);
			ring_unmap(w);
			ring_unmap(r);
			close(fd);
		}
	}
	assert_true(broken > 50);
}

struct race {
	int fd, wake;
	uint64_t n;
};

static void *race_writer(void *arg)
{
	struct race *c = arg;
	struct ring *w = writer(c->fd, c->wake);

	for (uint64_t i = 0; i < c->n;) {
		if (put(w, i % 300, i, true) == 0)
			i++;
		else
			sched_yield();
		if (i % 1000 == 0)
			usleep(50); /* let the reader fall asleep now and then */
	}
	ring_unmap(w);
	return NULL;
}

/* Two threads: order, content, and no wake-up that is lost (a lost one would block here for its whole 2 s). */
static void races(void **state)
{
	struct race c = {ring_create(BYTES), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 200000};
	struct ring *r = reader(c.fd);
	static uint8_t out[AUDIT_EVENT_MAX];
	const char *why = NULL;
	uint64_t pos, got = 0, sleeps = 0;
	pthread_t t;

	(void)state;
	pthread_create(&t, NULL, race_writer, &c);
	while (got < c.n) {
		long n = ring_read(r, out, &pos, &why);
		assert_true(n >= 0);
		if (n > 0) {
			struct audit_fields f;
			assert_int_equal(audit_event_parse(&f, out, (size_t)n, &why), 0);
			assert_int_equal(f.head.wall_us, got++);
			continue;
		}
		ring_release(r);
		ring_set_idle(r, true);
		if (!ring_pending(r)) {
			struct pollfd p = {c.wake, POLLIN, 0};
			assert_int_equal(poll(&p, 1, 2000), 1);
			sleeps++;
			if (read(c.wake, &n, sizeof(n)) < 0)
				assert_int_equal(errno, EAGAIN);
		}
		ring_set_idle(r, false);
	}
	assert_true(sleeps > 0);
	pthread_join(t, NULL);
	ring_unmap(r);
	close(c.fd);
	close(c.wake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_round_trip),
		cmocka_unit_test(text_is_cut_never_refused),
		cmocka_unit_test(events_of_a_liar),
		cmocka_unit_test(wraps),
		cmocka_unit_test(full_leaves_room_for_ends),
		cmocka_unit_test(silent_or_stopped_refuses_opens),
		cmocka_unit_test(woken_only_from_idle),
		cmocka_unit_test(reader_restarts),
		cmocka_unit_test(seals),
		cmocka_unit_test(scribbles),
		cmocka_unit_test(races),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
