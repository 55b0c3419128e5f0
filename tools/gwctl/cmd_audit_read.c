/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl audit tail, show: records for people and for programs. Nothing from a record reaches the terminal raw. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/audit/verify.h"
#include "gateway/base/clock.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "tools/gwctl/cmd_audit.h"

#define VALUE_MAX (AUDIT_TEXT_MAX * 5)
#define FOLLOW_MS 200

/* The value's octets, escaped for a terminal. */
static const char *safe_value(char out[4 * VALUE_MAX + 1], struct parse_text t)
{
	uint8_t raw[VALUE_MAX];

	if (t.n > sizeof(raw))
		t.n = 0; /* longer than a writer makes it; never cut within an escape */
	return esc_text(out, 4 * VALUE_MAX + 1, raw, parse_unescape(raw, t));
}

static const char *field(char out[4 * VALUE_MAX + 1], const struct parse_record *r, enum audit_field f)
{
	return r->present >> f & 1 ? safe_value(out, r->f[f]) : NULL;
}

/* For programs: UTF-8 with \xHH for what is not printable, as the record has it without the escapes of RFC 5424. */
static json_t *json_value(struct parse_text t)
{
	char *s = mem_alloc(t.n + 1), safe[512];
	size_t n = 0;

	for (uint32_t i = 0; i < t.n; i++) {
		if (t.p[i] == '\\' && i + 1 < t.n)
			i++;
		s[n++] = t.p[i];
	}
	json_t *j = json_stringn(s, n);
	mem_free(s);
	/* An edited file may hold anything. */
	return j ? j : json_string(esc_text(safe, sizeof(safe), t.p, t.n));
}

static void print_json(const struct parse_record *r, const struct verify_place *at)
{
	char time[CLOCK_RFC3339_LEN + 1], id[UUID_TEXT_LEN + 1] = {0}, src[64];
	json_t *j = json_object();

	clock_rfc3339(time, r->wall_us);
	json_object_set_new(j, "seq", json_integer((json_int_t)r->seq));
	json_object_set_new(j, "time", json_string(time));
	json_object_set_new(j, "msgid", json_value(r->msgid));
	json_object_set_new(j, "severity", json_integer(r->severity));
	json_object_set_new(j, "host", json_value(r->host));
	json_object_set_new(j, "worker", json_value(r->worker));
	if (r->pos == RECORD_NONE)
		snprintf(src, sizeof(src), "%" PRIx64 ":-", r->instance);
	else
		snprintf(src, sizeof(src), "%" PRIx64 ":%" PRIu64, r->instance, r->pos);
	json_object_set_new(j, "src", json_string(src));
	if (r->f[SCHEMA_AT].n)
		json_object_set_new(j, "at", json_value(r->f[SCHEMA_AT]));
	if (r->has_exchange) {
		uuid_format(&r->exchange, id);
		json_object_set_new(j, "exchange", json_string(id));
		json_object_set_new(j, "attempt", json_integer(r->attempt));
	}
	if (r->open_seq)
		json_object_set_new(j, "open", json_integer((json_int_t)r->open_seq));
	for (unsigned i = 0; i < AUDIT_FIELDS - 1; i++) {
		enum audit_field f = (enum audit_field)schema_order[i];
		if (!(r->present >> f & 1))
			continue;
		json_object_set_new(j, schema_fields[f].name,
		    audit_event_is_u64(f) ? json_integer((json_int_t)parse_u64(r, f)) : json_value(r->f[f]));
	}
	json_object_set_new(j, "file", json_string(at->file));
	json_object_set_new(j, "line", json_integer((json_int_t)at->line));
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(j);
}

/* ---- tail -------------------------------------------------------------------------------------- */

static const char *color_of(const struct gwctl *g, const struct parse_record *r)
{
	if (!g->color)
		return NULL;
	if (r->severity <= 2)
		return "\033[1;31m";
	if (r->msg == SCHEMA_DENY || r->msg == SCHEMA_REFUSED || r->severity <= 4)
		return "\033[33m";
	return r->msg == SCHEMA_EXCHANGE || r->msg == SCHEMA_OPEN || r->msg == SCHEMA_END ? "\033[32m" : NULL;
}

/* One line: time, kind, verdict, who -> what, outcome, why, id. */
static void print_line(const struct gwctl *g, const struct parse_record *r)
{
	static const enum audit_field rest[] = {AUDIT_F_REASON, AUDIT_F_RULE, AUDIT_F_PEER, AUDIT_F_ROLE, AUDIT_F_COMMAND, AUDIT_F_UID,
		AUDIT_F_SUDO_UID, AUDIT_F_COUNT, AUDIT_F_DETAIL};
	static char text[4 * VALUE_MAX + 1];
	char time[CLOCK_RFC3339_LEN + 1], id[UUID_TEXT_LEN + 1] = {0}, size[32];
	const char *color = color_of(g, r), *s;

	clock_rfc3339(time, r->wall_us);
	printf("%.10s %.15sZ  %8" PRIu64 "  %s%-13.*s%s", time, time + 11, r->seq, color ? color : "", (int)r->msgid.n, r->msgid.p,
	    color ? "\033[0m" : "");
	if ((s = field(text, r, AUDIT_F_VERDICT)))
		printf("  %s", s);
	if ((s = field(text, r, AUDIT_F_PRINCIPAL)))
		printf("  %s", s);
	if ((s = field(text, r, AUDIT_F_SERVICE)) || (s = field(text, r, AUDIT_F_HOST)))
		printf(" -> %s", s);
	if ((s = field(text, r, AUDIT_F_METHOD)))
		printf(" %s", s);
	if ((s = field(text, r, AUDIT_F_PATH)))
		printf(" %s", s);
	if (r->present >> AUDIT_F_STATUS & 1)
		printf("  %" PRIu64, parse_u64(r, AUDIT_F_STATUS));
	if (r->present >> AUDIT_F_BYTES_OUT & 1)
		printf("  %s", gwctl_bytes(size, (double)parse_u64(r, AUDIT_F_BYTES_OUT)));
	if (r->present >> AUDIT_F_DURATION_US & 1)
		printf("  %.1f ms", (double)parse_u64(r, AUDIT_F_DURATION_US) / 1000);
	for (unsigned i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
		if ((s = field(text, r, rest[i])))
			printf("  %s=%s", schema_fields[rest[i]].name, s);
	if (r->has_exchange) {
		uuid_format(&r->exchange, id);
		printf("  %s", id);
	}
	putchar('\n');
}

struct tail {
	struct gwctl *g;
	struct verify_place at;
	off_t end;                 /* of the last complete line */
};

static int tail_line(void *ctx, const char *line, size_t n, off_t end)
{
	struct tail *t = ctx;
	struct parse_record r;
	const char *why;
	char safe[256];

	if (end == 0)
		return 1;
	t->end = end;
	t->at.line++;
	if (parse_record(&r, line, n, &why) != 0)
		printf("%s:%" PRIu64 ": not a journal record: %s: %s\n", t->at.file, t->at.line, why, esc_text(safe, sizeof(safe), line, n));
	else if (t->g->json)
		print_json(&r, &t->at);
	else
		print_line(t->g, &r);
	return 0;
}

struct count {
	uint64_t lines, skip;      /* skip: lines to pass over */
	off_t at;                  /* offset behind them */
};

static int count_line(void *ctx, const char *line, size_t n, off_t end)
{
	struct count *c = ctx;

	(void)line;
	(void)n;
	if (c->lines++ < c->skip)
		c->at = end;
	return 0;
}

static int open_log(int dir, uint64_t first, char name[SEGMENT_NAME_MAX], off_t *size)
{
	int fd = openat(dir, segment_name(name, first, SEGMENT_LOG), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) != 0) {
		close(fd);
		return -1;
	}
	*size = fd < 0 ? 0 : st.st_size;
	return fd;
}

/* From which segment (index) and offset on are the last "want" records? Names count: first numbers tell how many each has. */
static void tail_start(int dir, const uint64_t *list, long n, uint64_t want, long *segment, struct count *c)
{
	char name[SEGMENT_NAME_MAX];
	off_t size = 0;
	uint64_t have = 0;
	long i = n - 1;
	int fd = open_log(dir, list[i], name, &size);

	memset(c, 0, sizeof(*c));
	if (fd >= 0)
		segment_lines(fd, 0, size, count_line, c, NULL);
	have = c->lines;
	while (have < want && i > 0) {
		i--;
		have += list[i + 1] - list[i];
	}
	*segment = i;
	uint64_t skip = have > want ? have - want : 0;
	if (i < n - 1) {
		if (fd >= 0)
			close(fd);
		fd = open_log(dir, list[i], name, &size);
	}
	*c = (struct count){.skip = skip};
	if (fd >= 0 && skip)
		segment_lines(fd, 0, size, count_line, c, NULL);
	if (fd >= 0)
		close(fd);
	c->lines = skip;
}

static int tail_run(struct gwctl *g, int dir, uint64_t want, bool follow)
{
	struct tail t = {.g = g};
	uint64_t *list, current;
	struct count c;
	long segment, n = segment_list(dir, &list);

	if (n <= 0)
		return n < 0 ? -1 : gwctl_error("no journal is in this directory");
	tail_start(dir, list, n, want, &segment, &c);
	current = list[segment];
	t.end = c.at;
	t.at.line = c.lines;
	for (;;) {
		char name[SEGMENT_NAME_MAX];
		off_t size, before = t.end;
		uint64_t next = 0;
		int fd = open_log(dir, current, name, &size);

		t.at.file = name;
		if (fd >= 0) {
			segment_lines(fd, t.end, size, tail_line, &t, NULL);
			close(fd);
		}
		for (long i = 0; i < n && next == 0; i++)
			if (list[i] > current)
				next = list[i];
		/* The next segment begins only when this one is complete: what was listed after this one was read to its end. */
		if (next && t.end == before) {
			current = next;
			t.end = 0;
			t.at.line = 0;
			continue;
		}
		if (next)
			continue;
		if (!follow || fflush(stdout) != 0)
			break;
		if (t.end == before)
			nanosleep(&(struct timespec){.tv_nsec = FOLLOW_MS * 1000000L}, NULL);
		mem_free(list);
		n = segment_list(dir, &list);
		if (n < 0)
			return -1;
	}
	mem_free(list);
	return fflush(stdout) == 0 ? 0 : -1;
}

int cmd_audit_tail(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = {{"follow", no_argument, NULL, 'f'}, {"lines", required_argument, NULL, 'n'}, {0}};
	uint64_t want = 10;
	bool follow = false;
	char *path, *end;
	int c, fd, rc;

	while ((c = getopt_long(argc, argv, ":fn:", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			follow = true;
			break;
		case 'n':
			errno = 0;
			want = strtoull(optarg, &end, 10);
			if (errno || *end || end == optarg || *optarg < '0' || *optarg > '9')
				return gwctl_usage("audit tail", "-n takes a number of records");
			break;
		default:
			return gwctl_usage("audit tail", "audit tail has the options -n N and -f");
		}
	}
	if (argc - optind > 1)
		return gwctl_usage("audit tail", "audit tail takes one directory at most");
	fd = cmd_audit_dir(g, argc > optind ? argv[optind] : NULL, &path);
	rc = fd < 0 ? GWCTL_FAILED : tail_run(g, fd, want, follow);
	if (rc < 0) {
		char *safe = gwctl_safe(path);
		rc = gwctl_error("%s: %s", safe, strerror(errno));
		mem_free(safe);
	}
	if (fd >= 0)
		close(fd);
	mem_free(path);
	return rc;
}

/* ---- show -------------------------------------------------------------------------------------- */

struct show {
	struct gwctl *g;
	struct uuid id;
	uint64_t found;
};

static int show_record(void *ctx, const struct parse_record *r, const struct verify_place *at)
{
	static char text[4 * VALUE_MAX + 1];
	struct show *s = ctx;
	char time[CLOCK_RFC3339_LEN + 1];

	if (!r->has_exchange || memcmp(&r->exchange, &s->id, sizeof(s->id)) != 0)
		return 0;
	s->found++;
	if (s->g->json) {
		print_json(r, at);
		return 0;
	}
	clock_rfc3339(time, r->wall_us);
	printf("%s%.*s  record %" PRIu64 "  %s:%" PRIu64 "\n", s->found > 1 ? "\n" : "", (int)r->msgid.n, r->msgid.p, r->seq, at->file,
	    at->line);
	printf("  %-16s %s\n", "time", time);
	if (r->f[SCHEMA_AT].n)
		printf("  %-16s %s\n", "at", safe_value(text, r->f[SCHEMA_AT]));
	printf("  %-16s %s\n", "worker", safe_value(text, r->worker));
	if (r->attempt)
		printf("  %-16s %u\n", "attempt", r->attempt);
	if (r->open_seq)
		printf("  %-16s record %" PRIu64 "\n", "open", r->open_seq);
	for (unsigned i = 0; i < AUDIT_FIELDS - 1; i++) {
		enum audit_field f = (enum audit_field)schema_order[i];
		if (r->present >> f & 1)
			printf("  %-16s %s\n", schema_fields[f].name, safe_value(text, r->f[f]));
	}
	return 0;
}

int cmd_audit_show(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = {{0}};
	struct show s = {.g = g};
	char *path, *safe;
	int fd, rc;

	if (getopt_long(argc, argv, ":", options, NULL) != -1 || argc - optind < 1 || argc - optind > 2)
		return gwctl_usage("audit show", "audit show takes an exchange id and, if you like, a directory");
	if (uuid_parse(&s.id, argv[optind], (unsigned)strlen(argv[optind])) != 0)
		return gwctl_usage("audit show", "this is no exchange id; it looks like 0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b");
	fd = cmd_audit_dir(g, argc - optind > 1 ? argv[optind + 1] : NULL, &path);
	if (fd < 0) {
		mem_free(path);
		return GWCTL_FAILED;
	}
	rc = verify_each(fd, show_record, &s, NULL);
	safe = gwctl_safe(path);
	if (rc != 0)
		rc = gwctl_error("%s: %s", safe, strerror(errno));
	else if (s.found == 0)
		rc = gwctl_error("no record of this exchange is in %s", safe);
	close(fd);
	mem_free(safe);
	mem_free(path);
	return rc;
}
