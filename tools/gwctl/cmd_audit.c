/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl audit verify, reconcile: are the books whole, do they balance? */
#include "tools/gwctl/cmd_audit.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/audit/reconcile.h"
#include "gateway/audit/segment.h"
#include "gateway/audit/verify.h"
#include "gateway/base/clock.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"

int cmd_audit_dir(const struct gwctl *g, const char *named, char **path)
{
	*path = NULL;
	if (named) {
		*path = mem_strdup(named);
	} else {
		struct config *c;
		struct errs errs;

		errs_init(&errs);
		c = config_load(g->config_path, &errs);
		if (!c)
			gwctl_print_errs(&errs);
		else
			*path = mem_strdup(c->journal.directory);
		config_free(c);
		errs_fini(&errs);
		if (!*path)
			return -1;
	}
	int fd = open(*path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		char *safe = gwctl_safe(*path);
		gwctl_error("%s: %s%s", safe, strerror(errno), errno == EACCES ? "; journals are read as root or as a member of their group" : "");
		mem_free(safe);
	}
	return fd;
}

static int print_json(json_t *j)
{
	int rc = json_dumpf(j, stdout, JSON_INDENT(2));

	putchar('\n');
	json_decref(j);
	return rc;
}

static void hex_root(char out[2 * DIGEST_LEN + 1], const uint8_t *root)
{
	esc_hex(out, root, DIGEST_LEN);
	out[2 * DIGEST_LEN] = 0;
}

/* No operand but an optional directory. -1: usage. */
static int no_options(int argc, char **argv)
{
	static const struct option options[] = {{0}};

	return getopt_long(argc, argv, ":", options, NULL) == -1 ? 0 : -1;
}

/* ---- verify ------------------------------------------------------------------------------------ */

static void verify_json(const char *path, const struct verify_result *r, int rc)
{
	char root[2 * DIGEST_LEN + 1];
	json_t *j = json_pack("{s:s?, s:b, s:I, s:I, s:I, s:I, s:I}", "directory", path, "ok", rc == 0, "records", (json_int_t)r->records,
	    "segments", (json_int_t)r->segments, "octets", (json_int_t)r->octets, "checkpoint_size", (json_int_t)r->checkpoint.size,
	    "unfinished", (json_int_t)r->unfinished);

	hex_root(root, r->root);
	json_object_set_new(j, "root", json_string(root));
	if (rc) {
		json_object_set_new(j, "fault", json_string(r->fault));
		json_object_set_new(j, "record", json_integer((json_int_t)r->seq));
		json_object_set_new(j, "file", json_string(r->file));
		json_object_set_new(j, "line", json_integer((json_int_t)r->line));
	}
	print_json(j);
}

static void verify_text(const char *path, const struct verify_result *r, int rc)
{
	char *safe = gwctl_safe(path), size[32], root[2 * DIGEST_LEN + 1];
	char first[CLOCK_RFC3339_LEN + 1], last[CLOCK_RFC3339_LEN + 1];

	if (rc) {
		printf("BROKEN  %s\n", safe);
		if (r->seq)
			printf("  record %" PRIu64 "  ", r->seq);
		else
			printf("  ");
		if (r->line)
			printf("%s:%" PRIu64 ": ", r->file, r->line);
		else if (r->file[0])
			printf("%s: ", r->file);
		printf("%s\n", r->fault);
		if (r->records)
			printf("  %" PRIu64 " records before it are sound\n", r->records);
	} else {
		clock_rfc3339(first, r->first_us);
		clock_rfc3339(last, r->last_us);
		hex_root(root, r->root);
		printf("sound  %s\n  %" PRIu64 " records in %" PRIu64 " segment%s, %s", safe, r->records, r->segments,
		    r->segments == 1 ? "" : "s", gwctl_bytes(size, (double)r->octets));
		if (r->records)
			printf(", %s to %s", first, last);
		printf("\n  root %s\n  checkpoint covers %" PRIu64 "\n", root, r->checkpoint.size);
		if (r->unfinished || r->tail)
			printf("  at the end: %" PRIu64 " records and %" PRIu64 " octets of a batch that is being written or was cut by a crash\n",
			    r->unfinished, r->tail);
	}
	mem_free(safe);
}

static int cmd_verify(struct gwctl *g, int argc, char **argv)
{
	struct verify_result r;
	char *path;
	int fd, rc;

	if (no_options(argc, argv) != 0 || argc - optind > 1)
		return gwctl_usage("audit verify", "audit verify takes one directory at most");
	fd = cmd_audit_dir(g, argc > optind ? argv[optind] : NULL, &path);
	if (fd < 0) {
		mem_free(path);
		return GWCTL_NO_ANSWER;
	}
	rc = verify_dir(fd, &r);
	if (g->json)
		verify_json(path, &r, rc);
	else
		verify_text(path, &r, rc);
	close(fd);
	mem_free(path);
	return rc == 0 ? GWCTL_OK : GWCTL_FAILED;
}

/* ---- reconcile --------------------------------------------------------------------------------- */

static void reconcile_json(const struct reconcile_result *r)
{
	json_t *list = json_array(), *kinds = json_object(), *j;

	for (size_t i = 0; i < r->nfindings; i++) {
		const struct reconcile_finding *f = &r->findings[i];
		char id[UUID_TEXT_LEN + 1] = {0}, *safe = gwctl_safe(f->text);

		uuid_format(&f->exchange, id);
		json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:I, s:I, s:s}", "kind", reconcile_kind_name(f->kind), "exchange", id,
		    "attempt", (int)f->attempt, "record_a", (json_int_t)f->seq_a, "record_b", (json_int_t)f->seq_b, "text", safe));
		mem_free(safe);
	}
	for (int k = 0; k < RECONCILE_KINDS; k++)
		json_object_set_new(kinds, reconcile_kind_name((enum reconcile_kind)k), json_integer((json_int_t)r->by_kind[k]));
	j = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:I}", "balanced", r->imbalances == 0 && !r->bad_lines[0] && !r->bad_lines[1], "both", (json_int_t)r->both,
	    "denied_by_sender", (json_int_t)r->denied, "unreached", (json_int_t)r->unreached, "unfinished", (json_int_t)r->unfinished,
	    "elsewhere", (json_int_t)r->elsewhere, "imbalances", (json_int_t)r->imbalances, "by_kind", kinds, "findings", list,
	    "bad_lines_a", (json_int_t)r->bad_lines[0], "bad_lines_b", (json_int_t)r->bad_lines[1]);
	json_object_set_new(j, "clock_offset_us", r->have_offset ? json_integer((json_int_t)r->offset_us) : json_null());
	print_json(j);
}

static void reconcile_text(const struct gwctl *g, const struct reconcile_result *r)
{
	static const char *const headings[] = {"WHAT", "EXCHANGE", "TRY", "RECORD A", "RECORD B", "HOW"};
	static const unsigned flags[] = {0, 0, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, 0};

	if (r->nfindings) {
		struct table *t = table_new(headings, flags, 6);
		for (size_t i = 0; i < r->nfindings; i++) {
			const struct reconcile_finding *f = &r->findings[i];
			char id[UUID_TEXT_LEN + 1] = {0}, a[24] = "-", b[24] = "-";

			uuid_format(&f->exchange, id);
			if (f->seq_a)
				snprintf(a, sizeof(a), "%" PRIu64, f->seq_a);
			if (f->seq_b)
				snprintf(b, sizeof(b), "%" PRIu64, f->seq_b);
			table_cell(t, "%s", reconcile_kind_name(f->kind));
			table_cell(t, "%s", id);
			table_cell(t, "%u", f->attempt);
			table_cell(t, "%s", a);
			table_cell(t, "%s", b);
			table_cell(t, "%s", f->text);
		}
		table_print(t, g->color);
		table_free(t);
		if (r->nfindings < r->imbalances)
			printf("… and %" PRIu64 " more\n", r->imbalances - r->nfindings);
		putchar('\n');
	}
	printf("%s: %" PRIu64 " exchange%s in both books, %" PRIu64 " denied by their sender, %" PRIu64 " never reached the other side, "
	       "%" PRIu64 " unfinished, %" PRIu64 " with other gateways, %" PRIu64 " imbalance%s\n",
	    r->imbalances || r->bad_lines[0] || r->bad_lines[1] ? "NOT BALANCED" : "balanced", r->both, r->both == 1 ? "" : "s",
	    r->denied, r->unreached, r->unfinished, r->elsewhere, r->imbalances,
	    r->imbalances == 1 ? "" : "s");
	if (r->have_offset)
		printf("clock of B less clock of A: %+.3f ms\n", (double)r->offset_us / 1000);
	if (r->bad_lines[0] || r->bad_lines[1])
		printf("damaged: %" PRIu64 " lines of A and %" PRIu64 " of B are no records; \"gwctl audit verify\" says more\n", r->bad_lines[0], r->bad_lines[1]);
}

/* An empty book balances with nothing: sooner a mistyped directory. */
static bool no_journal(int fd, const char *path)
{
	uint64_t *list = NULL;
	long n = segment_list(fd, &list);

	if (n == 0) {
		char *safe = gwctl_safe(path);
		gwctl_error("%s: no journal is in this directory", safe);
		mem_free(safe);
	}
	mem_free(list);
	return n == 0;
}

static int cmd_reconcile(struct gwctl *g, int argc, char **argv)
{
	struct reconcile_result r;
	char *path[2] = {NULL, NULL};
	int fd[2] = {-1, -1}, rc = GWCTL_NO_ANSWER, which = 0;

	if (no_options(argc, argv) != 0 || argc - optind != 2)
		return gwctl_usage("audit reconcile", "audit reconcile takes the directories of two journals");
	for (int i = 0; i < 2; i++) {
		fd[i] = cmd_audit_dir(g, argv[optind + i], &path[i]);
		if (fd[i] < 0)
			goto out;
		if (no_journal(fd[i], path[i]))
			goto out;
	}
	if (reconcile_dirs(fd[0], fd[1], &r, &which) != 0) {
		char *safe = gwctl_safe(path[which]);
		gwctl_error("%s: %s", safe, strerror(errno));
		mem_free(safe);
	} else {
		if (g->json)
			reconcile_json(&r);
		else
			reconcile_text(g, &r);
		rc = r.imbalances || r.bad_lines[0] || r.bad_lines[1] ? GWCTL_FAILED : GWCTL_OK;
	}
	reconcile_free(&r);
out:
	for (int i = 0; i < 2; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
		mem_free(path[i]);
	}
	return rc;
}

int cmd_audit(struct gwctl *g, int argc, char **argv)
{
	static const struct gwctl_sub subs[] = {
		{"verify", cmd_verify, "check a journal's chain, leaf hashes and checkpoints: [DIR]"},
		{"tail", cmd_audit_tail, "the last records: [-n N] [-f] [DIR]"},
		{"show", cmd_audit_show, "all records of one exchange: ID [DIR]"},
		{"reconcile", cmd_reconcile, "join the journals of two gateways: DIR_A DIR_B"},
		{0},
	};

	return gwctl_dispatch(g, "audit", subs, argc, argv);
}
