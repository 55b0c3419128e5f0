/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What audit costs: a worker's part (building an event in its ring), and the journal's (reading, joining, formatting,
 * hashing, tree, writing) in CPU time per record. The disk's part is CPU time of this process too; waiting for it is not.
 *
 *   bench_journal [DIRECTORY [EXCHANGES]]     DIRECTORY is emptied of journal files by whoever calls
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/audit/journal.h"
#include "gateway/audit/ring.h"
#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "tests/unit/audit/sample.h"

static double seconds(clockid_t c)
{
	struct timespec t;

	clock_gettime(c, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "/dev/shm/bench_journal";
	uint64_t total = argc > 2 ? strtoull(argv[2], NULL, 10) : 500000, left = total, records;
	struct journal_env env = {.wake_fd = -1, .master_fd = -1, .host = "dmz1", .origin = "hud.example/gateway/dmz1",
		.segment_bytes = UINT64_C(4) << 30, .segment_ms = 86400000, .group_ms = 10, .min_free = 0};
	double writer = 0, journal = 0, wall;
	char why[256];
	const char *text;

	if (mkdir(dir, 0750) != 0 && errno != EEXIST) {
		perror(dir);
		return 1;
	}
	env.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct journal *j = journal_new(&env, why, sizeof(why));
	int fd = ring_create(4u << 20);
	if (!j || fd < 0 || journal_add_ring(j, fd, "worker/0", clock_wall_us(), &text) != 0) {
		fprintf(stderr, "bench_journal: %s\n", j ? strerror(errno) : why);
		return 1;
	}
	struct ring *r = ring_map_writer(fd, -1, &text);
	wall = seconds(CLOCK_MONOTONIC);
	while (left > 0) {
		uint64_t now = clock_mono_ms(), wall_us = clock_wall_us(), n;
		double t = seconds(CLOCK_PROCESS_CPUTIME_ID);
		/* A group of 10 ms at 200,000 exchanges a second. */
		for (n = 0; n < 2000 && left > 0; n++, left--) {
			struct uuid id;
			uuid_make(&id, wall_us);
			if (sample_open(r, &id, 1, wall_us, now) != 0)
				break;
			sample_end(r, &id, 1, wall_us, now);
		}
		double t2 = seconds(CLOCK_PROCESS_CPUTIME_ID);
		journal_turn(j, now);
		writer += t2 - t;
		journal += seconds(CLOCK_PROCESS_CPUTIME_ID) - t2;
	}
	wall = seconds(CLOCK_MONOTONIC) - wall;
	struct buf b;
	buf_init(&b, 0);
	journal_status_json(j, &b);
	records = strtoull(strstr(buf_cstr(&b), "\"records\":") + 10, NULL, 10);
	printf("worker:  %6.0f ns per event (ids included)\n", writer * 1e9 / (double)total / 2);
	printf("journal: %6.0f ns CPU per record (an exchange: two events), %" PRIu64 " records\n", journal * 1e9 / (double)records, records);
	printf("         %6.0f records/s in one process, disk included\n", (double)records / (wall - writer));
	buf_fini(&b);
	ring_unmap(r);
	journal_stop(j);
	while (!journal_over(j, clock_mono_ms()))
		journal_turn(j, clock_mono_ms());
	journal_free(j);
	return 0;
}
