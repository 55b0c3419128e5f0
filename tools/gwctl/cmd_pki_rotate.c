/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki rotate-ca: a new CA beside the old one, then in its place. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "tools/gwctl/cmd_pki.h"

static const char *const states[] = { [CA_ROTATION_NONE] = "none", [CA_ROTATION_BEGUN] = "begun", [CA_ROTATION_SWITCHED] = "switched" };

static int
status(struct gwctl *g, const char *dir, struct errs *errs)
{
	struct ca_rotation_status s;

	if (ca_rotation_status(dir, cmd_pki_now(), &s, errs) != 0)
		return -1;
	if (g->json)
		return cmd_pki_json(json_pack("{s:s, s:s?, s:s?, s:I, s:I}", "state", states[s.state], "old_issuing", s.state ? s.old_issuing : NULL,
		    "new_issuing", s.state ? s.new_issuing : NULL, "live", (json_int_t)s.live, "live_superseded", (json_int_t)s.live_superseded));
	switch (s.state) {
	case CA_ROTATION_NONE:
		printf("One CA, nothing under way.\n");
		return 0;
	case CA_ROTATION_BEGUN:
		printf("Begun: both CAs are in the bundle, and the old one issues.\n");
		break;
	case CA_ROTATION_SWITCHED:
		printf("Switched: both CAs are in the bundle, and the new one issues.\n");
		break;
	}
	printf("  old         issuing CA %s, %zu certificate%s in force, %zu of them with a successor\n", s.old_issuing, s.live, s.live == 1 ? "" : "s",
	    s.live_superseded);
	printf("  new         issuing CA %s\n", s.new_issuing);
	if (s.state == CA_ROTATION_BEGUN)
		printf("Next: when every gateway, workload and peer has the new bundle, gwctl pki rotate-ca --switch\n");
	else if (s.live)
		printf("Next: renew what \"gwctl pki list --issuer old\" shows; then gwctl pki rotate-ca --retire\n");
	else
		printf("Next: gwctl pki rotate-ca --retire\n");
	return 0;
}

struct rotate {
	int step;          /* 'b', 's', 'r', or '?' for status */
	bool force;
	enum pkey_alg alg;
	struct cmd_pki_secret secret;
};

static void
report(const struct rotate *r, const char *domain, const char *dir)
{
	switch (r->step) {
	case 'b':
		printf("The new CA is made; the old one still issues. The bundle has both:\n  bundle      %s/%s.pem\n", dir, domain);
		printf("Give it to every gateway, workload and peer (\"gwctl pair export\" for peers). Move the new root's key to a safe place.\n");
		printf("Next, when all have it: gwctl pki rotate-ca --switch\n");
		break;
	case 's':
		printf("The new CA issues from now on. What the old one issued is good until it ends.\n");
		printf("Next: renew what \"gwctl pki list --issuer old\" shows; when nothing is left, gwctl pki rotate-ca --retire\n");
		break;
	default:
		printf("The old CA is out of the bundle:\n  bundle      %s/%s.pem\n", dir, domain);
		printf("Its keys are of no more use. Destroy them when every peer has the new bundle.\n");
	}
}

static int
step(struct gwctl *g, struct rotate *r, const char *dir, struct errs *errs)
{
	struct ca *ca = cmd_pki_open(&r->secret, dir, errs);
	int64_t now = cmd_pki_now();
	int rc = -1;

	if (ca) {
		rc = r->step == 'b' ? ca_rotate_begin(ca, r->alg, &r->secret.keys, now, errs) :
		    r->step == 's' ? ca_rotate_switch(ca, &r->secret.keys, now, errs) : ca_rotate_retire(ca, r->force, now, errs);
		if (rc == 0 && !g->json)
			report(r, ca_domain(ca), dir);
	}
	ca_close(ca);
	return rc == 0 && g->json ? status(g, dir, errs) : rc;
}

int
cmd_pki_rotate(struct gwctl *g, int argc, char **argv)
{
	static const struct option options[] = { { "dir", required_argument, NULL, 'd' }, { "begin", no_argument, NULL, 'b' },
		{ "switch", no_argument, NULL, 's' }, { "retire", no_argument, NULL, 'r' }, { "status", no_argument, NULL, 'S' },
		{ "force", no_argument, NULL, 'f' }, { "alg", required_argument, NULL, 'a' }, { "root-key", required_argument, NULL, 'R' },
		{ "passphrase-file", required_argument, NULL, 'p' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	struct rotate r = { 0 };
	const char *dir_option = NULL;
	struct errs errs;
	char *dir;
	int c, rc;

	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		switch (c) {
		case 'd': dir_option = optarg; break;
		case 'j': g->json = true; break;
		case 'f': r.force = true; break;
		case 'p': r.secret.file = optarg; break;
		case 'R': r.secret.root_key = optarg; break;
		case 'a':
			if ((rc = cmd_pki_alg(&r.alg, "pki rotate-ca", optarg)) != GWCTL_OK)
				return rc;
			break;
		case 'b':
		case 's':
		case 'r':
		case 'S':
			if (r.step)
				return gwctl_usage("pki rotate-ca", "one of --begin, --switch, --retire and --status at a time");
			r.step = c;
			break;
		default:
			return gwctl_usage("pki rotate-ca", "%s is no option here, or wants a value", argv[optind - 1]);
		}
	if (argc > optind)
		return gwctl_usage("pki rotate-ca", "\"%s\" is too much", argv[optind]);
	if (r.force && r.step != 'r')
		return gwctl_usage("pki rotate-ca", "--force goes with --retire");
	errs_init(&errs);
	dir = cmd_pki_dir(g, dir_option);
	if (r.step == 0 || r.step == 'S')
		status(g, dir, &errs);
	else
		step(g, &r, dir, &errs);
	cmd_pki_secret_fini(&r.secret);
	mem_free(dir);
	return cmd_pki_done(&errs);
}
