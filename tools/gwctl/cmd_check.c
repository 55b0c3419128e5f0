/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gwctl check: how long everything lasts that ends. The files that the configuration names are read here, expired ones and all, so that
 * this works where the daemon would not start; the daemon is asked what it holds of them.
 */
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/source.h"
#include "pki/lifetime.h"
#include "pki/svid.h"
#include "tools/gwctl/jsonout.h"
#include "tools/gwctl/request.h"

#define DAY 86400.0

enum level { LEVEL_OK, LEVEL_WARNING, LEVEL_ERROR };
static const char *const level_names[] = { "ok", "warning", "error" };
static const char *const marks[] = { "\u221a", "\u203c", "\u00d7" };

/* One certificate, CA or CRL; or a file that could not be read. Texts are owned. */
struct item {
	const char *what;      /* "certificate", "ca", "crl" */
	const char *kind;      /* "identity", "inside", "enrol", "bundle", "store" */
	char *domain;          /* of a bundle or CRL; "" */
	char *name, *serial;   /* a CRL's number */
	char *file;
	char *fault;           /* NULL, or why nothing else is known */
	int64_t from, until;   /* until 0: never */
	const char *state;
	enum level level;
};

struct check {
	struct gwctl *g;
	const char *store;
	bool prometheus;
	enum level fail_on;
	int64_t now;
	struct item *items;
	size_t n, cap;
	/* where the file at hand belongs */
	const char *what, *kind, *domain, *file;
	bool lists;            /* of CRLs: the file at hand had one */
	char *notes[32];       /* owned */
	size_t nnotes;
	enum level notes_level;
	json_t *daemon;        /* of its status, or NULL */
};

/* ---- what there is ---- */

static struct item *
add(struct check *ck, const char *what, const char *name, const char *serial, int64_t from, int64_t until)
{
	struct item *it;

	mem_grow(&ck->items, &ck->cap, ck->n + 1, sizeof(*ck->items));
	it = &ck->items[ck->n++];
	*it = (struct item){ .what = what, .kind = ck->kind, .domain = mem_strdup(ck->domain), .name = mem_strdup(name), .serial = mem_strdup(serial),
		.file = mem_strdup(ck->file), .from = from, .until = until };
	switch (lifetime_at(from, until, ck->now)) {
	case LIFETIME_GOOD:
		it->state = "ok";
		break;
	case LIFETIME_ENDING:
		it->state = "warning";
		it->level = LEVEL_WARNING;
		break;
	case LIFETIME_OVER:
		it->state = !strcmp(what, "crl") ? "stale" : "expired";
		it->level = LEVEL_ERROR;
		break;
	case LIFETIME_EARLY:
		it->state = "not-yet-valid";
		/* A CA may be announced before its time. */
		it->level = !strcmp(what, "ca") ? LEVEL_WARNING : LEVEL_ERROR;
		break;
	}
	return it;
}

static void
add_fault(struct check *ck, const char *state, const char *fault)
{
	struct item *it = add(ck, ck->what, "", "", 0, 0);

	it->fault = mem_strdup(fault);
	it->state = state;
	it->level = LEVEL_ERROR;
}

static void __attribute__((format(printf, 3, 4)))
note(struct check *ck, enum level level, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (level > ck->notes_level)
		ck->notes_level = level;
	if (ck->nnotes < sizeof(ck->notes) / sizeof(ck->notes[0]))
		ck->notes[ck->nnotes++] = mem_strdup(text);
}

static void
on_cert(void *ctx, const struct svid_cert *c)
{
	struct check *ck = ctx;

	add(ck, c->ca ? "ca" : "certificate", c->id[0] && !c->ca ? c->id : c->subject, c->serial, c->not_before, c->not_after);
}

static void
on_crl(void *ctx, const struct svid_crl *c)
{
	struct check *ck = ctx;

	ck->lists = true;
	add(ck, "crl", c->issuer, c->number, c->this_update, c->next_update);
}

static void
look_at(struct check *ck, const char *what, const char *kind, const char *domain, const char *file)
{
	bool crl = !strcmp(what, "crl");
	const char *why;
	char *pem;
	size_t len;
	int n;

	if (!file)
		return;
	ck->what = what;
	ck->kind = kind;
	ck->domain = domain ? domain : "";
	ck->file = file;
	pem = source_slurp(file, crl ? SVID_CRL_MAX : SOURCE_PEM_MAX, &len, &why);
	if (!pem) {
		add_fault(ck, "unreadable", why);
		return;
	}
	n = crl ? svid_crl_pem_each(pem, len, on_crl, ck, &why) : svid_pem_each(pem, on_cert, ck, &why);
	if (n < 0)
		add_fault(ck, "malformed", why);
	else if (n == 0 && !crl)
		add_fault(ck, "malformed", "no certificate in it");
	mem_free(pem);
}

/* CRLs: the file, and what came over a link; of one or the other something is needed where the bundle requires it. */
static void
look_at_crls(struct check *ck, const struct config *c, const char *domain, const char *file, int revocation)
{
	char *kept = c->state_dir ? mem_printf("%s/crl/%s", c->state_dir, domain) : NULL, *pem;
	const char *why = "";
	size_t len;

	ck->lists = false;
	look_at(ck, "crl", "bundle", domain, file);
	pem = kept ? source_slurp(kept, SVID_CRL_MAX, &len, &why) : NULL; /* root's to read; none is no news */
	if (pem)
		look_at(ck, "crl", "link", domain, kept);
	if (!ck->lists && revocation == CONFIG_REV_REQUIRED && !file && (pem || (kept && !strcmp(why, "No such file or directory")))) {
		ck->what = "crl";
		ck->kind = "bundle";
		ck->domain = domain;
		ck->file = "-";
		add_fault(ck, "missing", "revocation is required, and no CRL is kept here: nothing crosses until one comes");
	}
	mem_free(pem);
	mem_free(kept);
}

/* ---- the store of a CA: DIR/ca/NAME.crt, and DIR/ca/N/NAME.crt of the one that replaces it ---- */

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
look_at_dir(struct check *ck, const char *dir, bool deeper)
{
	char **names = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d) {
		if (deeper)
			note(ck, LEVEL_ERROR, "%s: %m", dir);
		return;
	}
	while ((e = readdir(d))) {
		mem_grow(&names, &cap, n + 1, sizeof(*names));
		names[n++] = mem_strdup(e->d_name);
	}
	closedir(d);
	if (n)
		qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 0; i < n; i++) {
		char *path = mem_printf("%s/%s", dir, names[i]);
		size_t len = strlen(names[i]);

		if (len > 4 && !strcmp(names[i] + len - 4, ".crt"))
			look_at(ck, "ca", "store", "", path);
		else if (len > 4 && !strcmp(names[i] + len - 4, ".crl"))
			look_at(ck, "crl", "store", "", path);
		else if (deeper && names[i][0] >= '1' && names[i][0] <= '9')
			look_at_dir(ck, path, false);
		mem_free(path);
		mem_free(names[i]);
	}
	mem_free(names);
}

static void
look_at_store(struct check *ck, const char *store)
{
	char *ca = store ? mem_printf("%s/ca", store) : NULL;

	if (ca)
		look_at_dir(ck, ca, true);
	mem_free(ca);
}

/* ---- the configuration ---- */

static void
look_at_config(struct check *ck, const struct config *c)
{
	look_at(ck, "certificate", "identity", c->domain, c->identity.certificate);
	look_at(ck, "certificate", "inside", c->domain, c->inside.certificate);
	look_at(ck, "certificate", "enrol", c->domain, c->enrol.certificate);
	look_at(ck, "ca", "bundle", c->domain, c->identity.bundle);
	look_at_crls(ck, c, c->domain, c->identity.crl, c->identity.revocation);
	for (size_t i = 0; i < c->npeers; i++) {
		const struct config_peer *p = &c->peers[i];

		if (p->uplink)
			continue;
		look_at(ck, "ca", "bundle", p->domain, p->bundle);
		look_at_crls(ck, c, p->domain, p->crl, p->revocation);
	}
	look_at_store(ck, ck->store ? ck->store : c->ca.store);
}

/* A configuration with faults still names files; one that is not there may be all right where only a CA is. False: nothing to look at. */
static bool
read_config(struct check *ck)
{
	struct errs errs;
	struct config *c;
	bool whole;

	errs_init(&errs);
	c = config_load(ck->g->config_path, &errs);
	whole = c != NULL;
	if (!c)
		c = config_load_shape(ck->g->config_path);
	if (c) {
		if (!whole)
			note(ck, LEVEL_ERROR, "%s has faults (gwctl config check): here is what it names", ck->g->config_path);
		look_at_config(ck, c);
	} else if (ck->store) {
		look_at_store(ck, ck->store);
	} else {
		gwctl_print_errs(&errs);
	}
	errs_fini(&errs);
	whole = c || ck->store;
	config_free(c);
	return whole;
}

/* ---- the daemon ---- */

static const char *
text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static const struct item *
on_disk(const struct check *ck, const char *kind)
{
	for (size_t i = 0; i < ck->n; i++)
		if (!strcmp(ck->items[i].kind, kind) && !strcmp(ck->items[i].what, "certificate") && !ck->items[i].fault)
			return &ck->items[i];
	return NULL;
}

/* What runs may be older than what lies on the disk, or newer than what was put there by mistake. */
static void
compare(struct check *ck, const json_t *cert)
{
	const struct item *it = on_disk(ck, text(cert, "name"));
	int64_t until = json_integer_value(json_object_get(cert, "not_after")), from = json_integer_value(json_object_get(cert, "not_before"));
	enum lifetime l = lifetime_at(from, until, ck->now);
	char when[CLOCK_RFC3339_LEN + 1];

	clock_rfc3339(when, (uint64_t)(until > 0 ? until : 0) * 1000000);
	if (it && strcmp(it->serial, text(cert, "serial")) != 0)
		note(ck, LEVEL_WARNING, "the daemon uses another %s certificate than %s: serial %s, until %.19sZ; \"gwctl reload\" takes over what is on disk",
		    text(cert, "name"), it->file, text(cert, "serial"), when);
	/* On disk it is reported as what it is. */
	if ((!it || strcmp(it->serial, text(cert, "serial")) != 0) && l != LIFETIME_GOOD)
		note(ck, l == LIFETIME_ENDING ? LEVEL_WARNING : LEVEL_ERROR, "the %s certificate that the daemon uses %s %.19sZ", text(cert, "name"),
		    l == LIFETIME_ENDING ? "ends at" : l == LIFETIME_OVER ? "EXPIRED at" : "is not valid yet; it ends at", when);
}

/* Whether it answers is another question than this command's: a note at most. */
static void
ask_daemon(struct check *ck)
{
	json_t *answer = NULL, *cert;
	char age[32];
	size_t i;

	if (request_if_running(ck->g, "status", &answer) != 0) {
		note(ck, LEVEL_OK, "no daemon answers: what it holds is not known");
		return;
	}
	if (!json_is_true(json_object_get(answer, "ok")) && json_object_get(answer, "error")) {
		note(ck, LEVEL_OK, "the daemon does not say what it holds: %s", text(answer, "error"));
		json_decref(answer);
		return;
	}
	ck->daemon = answer;
	json_array_foreach(json_object_get(answer, "certificates"), i, cert)
		compare(ck, cert);
	if (json_object_get(answer, "trust_since_s"))
		note(ck, LEVEL_OK, "the daemon uses what it took from these files %s ago",
		    gwctl_age(age, (double)json_integer_value(json_object_get(answer, "trust_since_s"))));
}

/* ---- telling ---- */

static enum level
worst(const struct check *ck)
{
	enum level l = ck->notes_level;

	for (size_t i = 0; i < ck->n; i++)
		if (ck->items[i].level > l)
			l = ck->items[i].level;
	return l;
}

static void
format_time(char out[CLOCK_RFC3339_LEN + 1], int64_t t)
{
	clock_rfc3339(out, (uint64_t)(t > 0 ? t : 0) * 1000000);
	memcpy(out + 19, "Z", 2);
}

/* "89 d", "34 d ago"; to the second where it is less than a day. */
static const char *
left(const struct check *ck, const struct item *it, char out[48])
{
	int64_t s = it->until >= ck->now ? it->until - ck->now : ck->now - it->until;
	char age[32];

	if (it->fault || !it->until)
		return it->fault ? "-" : "for ever";
	if (s >= (int64_t)DAY)
		snprintf(age, sizeof(age), "%lld d", (long long)(s / (int64_t)DAY));
	else
		gwctl_age(age, (double)s);
	snprintf(out, 48, "%s%s", age, it->until >= ck->now ? "" : " ago");
	return out;
}

/* A day, and the time of it where it matters. */
static const char *
until(const struct check *ck, const struct item *it, char out[CLOCK_RFC3339_LEN + 1])
{
	int64_t s = it->until >= ck->now ? it->until - ck->now : ck->now - it->until;

	if (it->fault || !it->until)
		return "-";
	format_time(out, it->until);
	if (s >= (int64_t)DAY)
		out[10] = 0;
	return out;
}

/* What tells it from the others, as short as that is: of a CA's subject the common name. */
static const char *
short_name(const struct item *it)
{
	const char *cn = strstr(it->name, "/CN=");

	if (!it->name[0])
		return it->domain[0] ? it->domain : "-";
	if (cn && strcmp(it->what, "certificate") != 0)
		return cn + 4;
	return strncmp(it->name, "spiffe://", 9) ? it->name : it->name + 9;
}

/* Below the configuration's directory as it would be written there. */
static const char *
short_path(const struct check *ck, const char *file)
{
	const char *slash = strrchr(ck->g->config_path, '/');
	size_t n = slash ? (size_t)(slash - ck->g->config_path) + 1 : 0;

	return n > 1 && !strncmp(file, ck->g->config_path, n) ? file + n : file;
}

static void
print_table(const struct check *ck)
{
	static const char *const headings[] = { "", "STATE", "WHAT", "NAME", "UNTIL", "LEFT", "FILE" };
	static const unsigned flags[] = { TABLE_OURS, 0, 0, 0, 0, TABLE_RIGHT, 0 };
	struct table *t = table_new(headings, flags, 7);
	size_t counts[3] = { 0 };

	for (size_t i = 0; i < ck->n; i++) {
		const struct item *it = &ck->items[i];
		char when[CLOCK_RFC3339_LEN + 1], age[48];
		bool plain = !strcmp(it->what, "certificate");

		counts[it->level]++;
		table_cell(t, "%s", marks[it->level]);
		table_cell(t, "%s", it->state);
		table_cell(t, "%s%s%s", it->kind, plain ? "" : " ", plain ? "" : it->what);
		table_cell(t, "%s", short_name(it));
		table_cell(t, "%s", until(ck, it, when));
		table_cell(t, "%s", left(ck, it, age));
		table_cell(t, "%s%s%s", short_path(ck, it->file), it->fault ? ": " : "", it->fault ? it->fault : "");
	}
	table_print(t, ck->g->color);
	table_free(t);
	for (size_t i = 0; i < ck->nnotes; i++) {
		char *safe = gwctl_safe(ck->notes[i]);

		printf("%s%s\n", i ? "" : "\n", safe);
		mem_free(safe);
	}
	printf("\n%s %s: %zu good, %zu to be renewed, %zu bad\n", marks[worst(ck)], level_names[worst(ck)], counts[LEVEL_OK],
	    counts[LEVEL_WARNING], counts[LEVEL_ERROR]);
}

static json_t *
item_json(const struct check *ck, const struct item *it)
{
	json_t *o = json_object();
	char when[CLOCK_RFC3339_LEN + 1];

	json_object_set_new(o, "what", jsonout_text(it->what));
	json_object_set_new(o, "kind", jsonout_text(it->kind));
	json_object_set_new(o, "domain", jsonout_text(it->domain));
	json_object_set_new(o, "file", jsonout_text(it->file));
	json_object_set_new(o, "state", jsonout_text(it->state));
	json_object_set_new(o, "level", jsonout_text(level_names[it->level]));
	if (it->fault) {
		json_object_set_new(o, "fault", jsonout_text(it->fault));
		return o;
	}
	json_object_set_new(o, "name", jsonout_text(it->name));
	json_object_set_new(o, strcmp(it->what, "crl") ? "serial" : "number", jsonout_text(it->serial));
	format_time(when, it->from);
	json_object_set_new(o, "not_before", jsonout_text(when));
	if (it->until) {
		format_time(when, it->until);
		json_object_set_new(o, "not_after", jsonout_text(when));
		json_object_set_new(o, "days_left", json_real((double)(it->until - ck->now) / DAY));
	}
	return o;
}

static int
print_json(const struct check *ck, int rc)
{
	json_t *o = json_object(), *items = json_array(), *notes = json_array();

	for (size_t i = 0; i < ck->n; i++)
		json_array_append_new(items, item_json(ck, &ck->items[i]));
	for (size_t i = 0; i < ck->nnotes; i++)
		json_array_append_new(notes, jsonout_text(ck->notes[i]));
	json_object_set_new(o, "ok", json_boolean(rc == GWCTL_OK));
	json_object_set_new(o, "level", jsonout_text(level_names[worst(ck)]));
	json_object_set_new(o, "items", items);
	json_object_set_new(o, "notes", notes);
	if (ck->daemon) {
		json_object_set(o, "running", json_object_get(ck->daemon, "certificates"));
		json_object_set(o, "running_since_s", json_object_get(ck->daemon, "trust_since_s"));
	}
	return jsonout_print(o, rc);
}

/* The exposition format escapes these three in a label's value. */
static void
print_label(const char *name, const char *value, const char *before)
{
	printf("%s%s=\"", before, name);
	for (const char *p = value; *p; p++) {
		if (*p == '\\' || *p == '"')
			printf("\\%c", *p);
		else if (*p == '\n')
			fputs("\\n", stdout);
		else
			putchar((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e ? '?' : *p);
	}
	putchar('"');
}

static void
print_metric(const struct check *ck, const char *metric, bool crl, bool time)
{
	for (size_t i = 0; i < ck->n; i++) {
		const struct item *it = &ck->items[i];

		if (!strcmp(it->what, "crl") != crl || (time && (it->fault || !it->until)))
			continue;
		printf("%s{", metric);
		print_label("kind", it->kind, "");
		if (!crl)
			print_label("what", it->what, ",");
		print_label("domain", it->domain, ",");
		print_label("name", it->name, ",");
		print_label(crl ? "number" : "serial", it->serial, ",");
		print_label("file", it->file, ",");
		if (time)
			printf("} %lld\n", (long long)(it->until - ck->now));
		else
			printf("} %d\n", it->level);
	}
}

static void
print_family(const struct check *ck, const char *metric, const char *help, bool crl, bool time)
{
	printf("# HELP %s %s\n# TYPE %s gauge\n", metric, help, metric);
	print_metric(ck, metric, crl, time);
}

/* For a textfile collector; seconds, because that is Prometheus' unit. Times are counted down here, so that a file which nobody writes any more is seen by its own age. */
static void
print_prometheus(const struct check *ck)
{
	print_family(ck, "sallyport_certificate_left_seconds", "Until a certificate or CA ends; negative: since it ended.", false, true);
	print_family(ck, "sallyport_certificate_state", "0 good, 1 to be renewed, 2 expired, not yet valid or unreadable.", false, false);
	print_family(ck, "sallyport_crl_left_seconds", "Until the next CRL is due; negative: since it was.", true, true);
	print_family(ck, "sallyport_crl_state", "0 good, 1 to be renewed, 2 stale, missing or unreadable.", true, false);
	printf("# HELP sallyport_check_state The worst of all that gwctl check looked at: 0, 1 or 2.\n# TYPE sallyport_check_state gauge\n"
	       "sallyport_check_state %d\n"
	       "# HELP sallyport_check_timestamp_seconds When gwctl check looked.\n# TYPE sallyport_check_timestamp_seconds gauge\n"
	       "sallyport_check_timestamp_seconds %lld\n",
	    worst(ck), (long long)ck->now);
}

/* ---- the command ---- */

static int
options(struct check *ck, int argc, char **argv)
{
	static const struct option opts[] = {
		{ "fail-on", required_argument, NULL, 'f' }, { "store", required_argument, NULL, 's' },
		{ "prometheus", no_argument, NULL, 'p' }, { NULL, 0, NULL, 0 },
	};
	int ch;

	opterr = 0;
	while ((ch = getopt_long(argc, argv, ":", opts, NULL)) != -1) {
		switch (ch) {
		case 'f':
			if (!strcmp(optarg, "warning"))
				ck->fail_on = LEVEL_WARNING;
			else if (!strcmp(optarg, "error"))
				ck->fail_on = LEVEL_ERROR;
			else
				return gwctl_usage("check", "--fail-on takes warning or error, not \"%s\"", optarg);
			break;
		case 's': ck->store = optarg; break;
		case 'p': ck->prometheus = true; break;
		case ':': return gwctl_usage("check", "%s needs a value", argv[optind - 1]);
		default: return gwctl_usage("check", "check has no option %s", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return gwctl_usage("check", "check takes no argument \"%s\"", argv[optind]);
	if (ck->prometheus && ck->g->json)
		return gwctl_usage("check", "--prometheus and --json are two formats; choose one");
	return GWCTL_OK;
}

int
cmd_check(struct gwctl *g, int argc, char **argv)
{
	struct check ck = { .g = g, .fail_on = LEVEL_ERROR, .now = (int64_t)(clock_wall_us() / 1000000) };
	int r = options(&ck, argc, argv);

	if (r != GWCTL_OK)
		return r;
	if (!read_config(&ck))
		return GWCTL_NO_ANSWER;
	ask_daemon(&ck);
	r = worst(&ck) >= ck.fail_on ? GWCTL_FAILED : GWCTL_OK;
	if (g->json)
		print_json(&ck, r);
	else if (ck.prometheus)
		print_prometheus(&ck);
	else
		print_table(&ck);
	for (size_t i = 0; i < ck.n; i++) {
		mem_free(ck.items[i].domain);
		mem_free(ck.items[i].name);
		mem_free(ck.items[i].serial);
		mem_free(ck.items[i].file);
		mem_free(ck.items[i].fault);
	}
	mem_free(ck.items);
	for (size_t i = 0; i < ck.nnotes; i++)
		mem_free(ck.notes[i]);
	json_decref(ck.daemon);
	return r;
}
