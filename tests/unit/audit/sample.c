/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/audit/sample.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"

int sample_open(struct ring *r, const struct uuid *id, unsigned attempt, uint64_t wall_us, uint64_t now_ms)
{
	struct audit_event e;
	void *p = ring_reserve(r, AUDIT_EVENT_MAX, now_ms);

	if (!p)
		return -1;
	audit_event_init(&e, p, AUDIT_EVENT_MAX, AUDIT_OPEN, id, attempt, wall_us);
	audit_event_text(&e, AUDIT_F_VERDICT, "allow", 5);
	audit_event_text(&e, AUDIT_F_PRINCIPAL, SAMPLE_PRINCIPAL, sizeof(SAMPLE_PRINCIPAL) - 1);
	audit_event_text(&e, AUDIT_F_ASSURANCE, "mtls", 4);
	audit_event_text(&e, AUDIT_F_SERVICE, "tax-svc", 7);
	audit_event_text(&e, AUDIT_F_HOST, "tax-svc.irs.svc.cluster.local", 29);
	audit_event_text(&e, AUDIT_F_METHOD, "GET", 3);
	audit_event_text(&e, AUDIT_F_PATH, "/v1/taxes/2026", 14);
	audit_event_text(&e, AUDIT_F_PROTOCOL, "http/1.1", 8);
	audit_event_text(&e, AUDIT_F_RULE, "hud-calls-irs", 13);
	audit_event_text(&e, AUDIT_F_RULE_AT, "policy.d/10-tax.conf:14", 23);
	audit_event_u64(&e, AUDIT_F_GENERATION, 1);
	audit_event_text(&e, AUDIT_F_DIRECTION, "out", 3);
	audit_event_text(&e, AUDIT_F_PEER, "irs", 3);
	audit_event_text(&e, AUDIT_F_GATEWAY, SAMPLE_GATEWAY_B, sizeof(SAMPLE_GATEWAY_B) - 1);
	audit_event_u64(&e, AUDIT_F_LINK, 1);
	audit_event_text(&e, AUDIT_F_CLIENT, "10.1.0.7:45012", 14);
	audit_event_text(&e, AUDIT_F_LISTENER, "inside", 6);
	audit_event_done(&e);
	ring_commit(r, e.len);
	return 0;
}

int sample_end(struct ring *r, const struct uuid *id, unsigned attempt, uint64_t wall_us, uint64_t now_ms)
{
	struct audit_event e;
	void *p = ring_reserve_end(r, AUDIT_EVENT_MAX, now_ms);

	if (!p)
		return -1;
	audit_event_init(&e, p, AUDIT_EVENT_MAX, AUDIT_END, id, attempt, wall_us);
	audit_event_text(&e, AUDIT_F_REASON, "complete", 8);
	audit_event_u64(&e, AUDIT_F_STATUS, 200);
	audit_event_u64(&e, AUDIT_F_BYTES_IN, 0);
	audit_event_u64(&e, AUDIT_F_BYTES_OUT, 1024);
	audit_event_u64(&e, AUDIT_F_DURATION_US, 812);
	audit_event_done(&e);
	ring_commit(r, e.len);
	return 0;
}

int sample_deny(struct ring *r, const char *client, uint64_t wall_us, uint64_t now_ms)
{
	struct audit_event e;
	struct uuid id;
	void *p = ring_reserve_end(r, AUDIT_EVENT_MAX, now_ms);

	if (!p)
		return -1;
	uuid_make(&id, wall_us);
	audit_event_init(&e, p, AUDIT_EVENT_MAX, AUDIT_DENY, &id, 0, wall_us);
	audit_event_str(&e, AUDIT_F_VERDICT, "deny");
	audit_event_str(&e, AUDIT_F_REASON, "no-rule");
	audit_event_str(&e, AUDIT_F_PRINCIPAL, SAMPLE_PRINCIPAL);
	audit_event_str(&e, AUDIT_F_DIRECTION, "out");
	audit_event_str(&e, AUDIT_F_CLIENT, client);
	audit_event_u64(&e, AUDIT_F_STATUS, 403);
	audit_event_done(&e);
	ring_commit(r, e.len);
	return 0;
}

static void text(struct audit_event *e, enum audit_field f, const char *s)
{
	audit_event_str(e, f, s);
}

int sample_exchange(struct ring *r, const struct uuid *id, unsigned attempt, uint64_t wall_us, const struct sample_side *s)
{
	struct audit_event e;
	void *p = ring_reserve(r, AUDIT_EVENT_MAX, clock_mono_ms());

	if (!p)
		return -1;
	audit_event_init(&e, p, AUDIT_EVENT_MAX, AUDIT_OPEN, id, attempt, wall_us - s->duration_us);
	text(&e, AUDIT_F_VERDICT, "allow");
	text(&e, AUDIT_F_PRINCIPAL, s->principal);
	text(&e, AUDIT_F_HOST, s->host);
	text(&e, AUDIT_F_METHOD, "GET");
	text(&e, AUDIT_F_DIRECTION, s->direction);
	text(&e, AUDIT_F_GATEWAY, s->gateway);
	audit_event_done(&e);
	ring_commit(r, e.len);
	if (!s->reason)
		return 0;
	p = ring_reserve_end(r, AUDIT_EVENT_MAX, clock_mono_ms());
	if (!p)
		return -1;
	audit_event_init(&e, p, AUDIT_EVENT_MAX, AUDIT_END, id, attempt, wall_us);
	text(&e, AUDIT_F_REASON, s->reason);
	if (s->status)
		audit_event_u64(&e, AUDIT_F_STATUS, s->status);
	audit_event_u64(&e, AUDIT_F_BYTES_IN, s->bytes_in);
	audit_event_u64(&e, AUDIT_F_BYTES_OUT, s->bytes_out);
	audit_event_u64(&e, AUDIT_F_DURATION_US, s->duration_us);
	if (s->uplink) {
		char uplink[UUID_TEXT_LEN];

		uuid_format(s->uplink, uplink);
		audit_event_text(&e, AUDIT_F_UPLINK_EXCHANGE, uplink, UUID_TEXT_LEN);
	}
	audit_event_done(&e);
	ring_commit(r, e.len);
	return 0;
}

int sample_dir(char *path, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(path, size, "%s/sallyport-audit-XXXXXX", tmp ? tmp : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(path)) {
		perror(path);
		abort();
	}
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static DIR *open_dir(int fd)
{
	return fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

void sample_remove(int dir_fd, const char *path)
{
	DIR *d = open_dir(dir_fd);

	for (struct dirent *e; d && (e = readdir(d));)
		unlinkat(dir_fd, e->d_name, 0);
	closedir(d);
	close(dir_fd);
	rmdir(path);
}

char *sample_read(int dir_fd, const char *name, size_t *n)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *p;

	if (fd < 0 || fstat(fd, &st) != 0)
		return NULL;
	p = mem_alloc((size_t)st.st_size + 1);
	*n = (size_t)read(fd, p, (size_t)st.st_size);
	p[*n] = 0;
	close(fd);
	return p;
}

void sample_write(int dir_fd, const char *name, const void *p, size_t n)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	close(fd);
}

void sample_copy(int from, int to)
{
	DIR *d = open_dir(from);

	for (struct dirent *e; d && (e = readdir(d));) {
		size_t n;
		if (e->d_name[0] == '.')
			continue;
		char *p = sample_read(from, e->d_name, &n);
		sample_write(to, e->d_name, p, n);
		mem_free(p);
	}
	closedir(d);
}

void sample_env(struct journal_env *env, int dir_fd)
{
	memset(env, 0, sizeof(*env));
	env->dir_fd = dir_fd;
	env->wake_fd = env->master_fd = -1;
	env->host = "dmz1";
	env->origin = "hud.example/gateway/dmz1";
	env->segment_bytes = 64u << 20;
	env->segment_ms = 86400000;
	env->group_ms = 1;
}

void sample_run(struct journal *j)
{
	for (unsigned idle = 0; idle < 2;)
		idle = journal_turn(j, clock_mono_ms()) ? 0 : idle + 1;
}

void sample_stop(struct journal *j)
{
	journal_stop(j);
	while (!journal_over(j, clock_mono_ms()))
		journal_turn(j, clock_mono_ms());
	journal_free(j);
}
