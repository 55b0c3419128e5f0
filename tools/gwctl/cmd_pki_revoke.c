/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki revoke and crl. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/cmd_pki.h"

/* -- revoke ---------------------------------------------------------------------------------------- */

struct revoke {
	const char *dir, *reason;
	struct cmd_pki_secret secret;
	const char **serials;      /* the CA's texts do not outlive a revocation: copies, owned */
	size_t n, cap;
	json_t *revoked, *already; /* what was done, for both kinds of answer */
};

static const char *
reason_of(const char *text)
{
	const char *reason = ca_reason(text), *near;
	size_t n = 0;

	if (reason)
		return reason;
	while (ca_reasons[n])
		n++;
	near = errs_nearest(text, ca_reasons, n);
	gwctl_error("--reason %s is unknown%s%s%s; RFC 5280 has:", text, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "  %s\n", ca_reasons[i]);
	return NULL;
}

static json_t *
entry_json(const struct ca_entry *e)
{
	char at[32], until[32];

	cmd_pki_time(at, e->revoked_at);
	cmd_pki_time(until, e->not_after);
	return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?}", "id", e->id, "kind", e->kind, "serial", e->serial, "not_after", until, "reason", e->reason,
	    "revoked_at", e->reason ? at : NULL);
}

/* All certificates of one operand. */
static int
choose(struct revoke *r, const struct ca *ca, const char *what, int64_t now, struct errs *errs)
{
	struct cmd_pki_match m;
	size_t live = 0, revoked = 0;

	if (cmd_pki_match(ca, what, now, &m, errs) != 0)
		return -1;
	for (size_t i = 0; i < m.n; i++) {
		if (m.entries[i].state == CA_REVOKED) {
			revoked++;
			json_array_append_new(r->already, entry_json(&m.entries[i]));
		} else if (m.entries[i].state != CA_EXPIRED && m.entries[i].state != CA_RETIRED) {
			live++;
			mem_grow(&r->serials, &r->cap, r->n + 1, sizeof(*r->serials));
			r->serials[r->n++] = mem_strdup(m.entries[i].serial);
			json_array_append_new(r->revoked, entry_json(&m.entries[i]));
		}
	}
	/* Already revoked: the CRL is written again, and with a CA's serial the root's. */
	if (live == 0 && revoked && cmd_pki_is_serial(what)) {
		mem_grow(&r->serials, &r->cap, r->n + 1, sizeof(*r->serials));
		r->serials[r->n++] = mem_strdup(m.entries[0].serial);
	}
	if (live == 0 && revoked == 0)
		errs_add(errs, NULL, 0, "nothing to revoke: %s of \"%s\" ended by itself, or with its CA", m.n == 1 ? "the certificate" : "every certificate", what);
	cmd_pki_match_fini(&m);
	return live || revoked ? 0 : -1;
}

static void
report_revoked(const struct revoke *r, const char *domain, const char *dir)
{
	size_t n = json_array_size(r->revoked), i;
	json_t *j;

	json_array_foreach(r->already, i, j)
		printf("%s, serial %s, was revoked already: %s, at %s.\n", json_string_value(json_object_get(j, "id")),
		    json_string_value(json_object_get(j, "serial")), json_string_value(json_object_get(j, "reason")),
		    json_string_value(json_object_get(j, "revoked_at")));
	if (n > 1)
		printf("%zu certificates were in force, and all of them are revoked:\n", n);
	json_array_foreach(r->revoked, i, j)
		printf("Revoked %s, serial %s (%s).\n", json_string_value(json_object_get(j, "id")), json_string_value(json_object_get(j, "serial")), r->reason);
	printf("  CRL         %s/%s.crl\n", dir, domain);
}

static int
revoke_with(struct gwctl *g, struct revoke *r, struct ca *ca, const char *dir, int n, char **what, struct errs *errs)
{
	int64_t now = cmd_pki_now();
	bool done;

	for (int i = 0; i < n; i++)
		if (choose(r, ca, what[i], now, errs) != 0)
			return -1;
	if (ca_revoke(ca, r->serials, r->n, r->reason, &r->secret.keys, now, errs) != 0) {
		done = r->n > 0;
		for (size_t i = 0; i < r->n; i++)
			done = done && ca_is_revoked(ca, r->serials[i]);
		errs_add(errs, NULL, 0, "%s", done ? "revoked, but nobody is told: the CRL could not be written; \"gwctl pki crl\" when that is repaired" :
		    "nothing was revoked");
		return -1;
	}
	if (g->json)
		return cmd_pki_json(json_pack("{s:O, s:O, s:o}", "revoked", r->revoked, "already_revoked", r->already, "crl",
		    json_sprintf("%s/%s.crl", dir, ca_domain(ca))));
	report_revoked(r, ca_domain(ca), dir);
	return 0;
}

int
cmd_pki_revoke(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "reason", required_argument, NULL, 'r' },
		{ "root-key", required_argument, NULL, 'R' }, { "passphrase-file", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' },
		{ 0 } };
	struct revoke r = { .reason = "unspecified" };
	struct errs errs;
	struct ca *ca;
	char *dir;
	int c;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': r.dir = optarg; break;
		case 'j': g->json = true; break;
		case 'p': r.secret.file = optarg; break;
		case 'R': r.secret.root_key = optarg; break;
		case 'r':
			if ((r.reason = reason_of(optarg)) == NULL)
				return GWCTL_USAGE;
			break;
		default:
			return gwctl_usage("pki revoke", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc == optind)
		return gwctl_usage("pki revoke", "what? A serial number, or a name, whose certificates in force are then all revoked");
	errs_init(&errs);
	r.revoked = json_array();
	r.already = json_array();
	dir = cmd_pki_dir(g, r.dir);
	ca = cmd_pki_open(&r.secret, dir, &errs);
	if (ca)
		revoke_with(g, &r, ca, dir, argc - optind, argv + optind, &errs);
	ca_close(ca);
	for (size_t i = 0; i < r.n; i++)
		mem_free((char *)r.serials[i]);
	mem_free(r.serials);
	json_decref(r.revoked);
	json_decref(r.already);
	cmd_pki_secret_fini(&r.secret);
	mem_free(dir);
	return cmd_pki_done(&errs);
}

/* -- crl ------------------------------------------------------------------------------------------- */

int
cmd_pki_crl(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "lifetime", required_argument, NULL, 'l' },
		{ "root", no_argument, NULL, 'r' }, { "root-key", required_argument, NULL, 'R' },
		{ "passphrase-file", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	struct ca_crl_request r = { .now = cmd_pki_now() };
	struct cmd_pki_secret secret = { 0 };
	struct ca_crl_done done = { 0 };
	const char *dir_option = NULL;
	struct errs errs;
	char *dir, until[32];
	struct ca *ca;
	int c, rc;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': dir_option = optarg; break;
		case 'j': g->json = true; break;
		case 'p': secret.file = optarg; break;
		case 'r': r.with_root = true; break;
		case 'R':
			secret.root_key = optarg;
			r.with_root = true;
			break;
		case 'l':
			if ((rc = cmd_pki_lifetime(&r.lifetime_s, "pki crl", "--lifetime", optarg)) != GWCTL_OK)
				return rc;
			break;
		default:
			return gwctl_usage("pki crl", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc > optind)
		return gwctl_usage("pki crl", "\"%s\" is too much", argv[optind]);
	errs_init(&errs);
	dir = cmd_pki_dir(g, dir_option);
	r.keys = &secret.keys;
	ca = cmd_pki_open(&secret, dir, &errs);
	if (ca && ca_crl(ca, &r, &done, &errs) == 0) {
		cmd_pki_time(until, done.next_update);
		if (g->json) {
			cmd_pki_json(json_pack("{s:s, s:s, s:I, s:s}", "crl", done.path, "number", done.number, "revoked", (json_int_t)done.revoked,
			    "next_update", until));
		} else {
			printf("CRL number %s, %zu revoked, good until %s.\n", done.number, done.revoked, until);
			printf("  CRL         %s\n", done.path);
		}
	}
	mem_free(done.path);
	ca_close(ca);
	cmd_pki_secret_fini(&secret);
	mem_free(dir);
	return cmd_pki_done(&errs);
}
