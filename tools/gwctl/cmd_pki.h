/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki: the domain's CA. cmd_pki() itself is declared in gwctl.h; this is what its files share, and what cmd_pair.c uses. */
#ifndef TOOLS_GWCTL_CMD_PKI_H
#define TOOLS_GWCTL_CMD_PKI_H

#include <stdbool.h>
#include <stdint.h>

#include "pki/ca.h"
#include "tools/gwctl/gwctl.h"

#define CMD_PKI_FILE_MAX (1 << 20)

/* The store that --dir names, or "pki" beside the configuration. mem_free(). */
char *cmd_pki_dir(const struct gwctl *g, const char *option);
/* "2026-11-20T09:00:00Z". */
void cmd_pki_time(char out[32], int64_t t);
int64_t cmd_pki_now(void);

/* Subcommands. */
int cmd_pki_issue(struct gwctl *g, int argc, char **argv);
int cmd_pki_renew(struct gwctl *g, int argc, char **argv);
int cmd_pki_list(struct gwctl *g, int argc, char **argv);
int cmd_pki_show(struct gwctl *g, int argc, char **argv);
int cmd_pki_revoke(struct gwctl *g, int argc, char **argv);
int cmd_pki_crl(struct gwctl *g, int argc, char **argv);
int cmd_pki_rotate(struct gwctl *g, int argc, char **argv);
int cmd_pki_token(struct gwctl *g, int argc, char **argv);

/* The faults, printed and forgotten. GWCTL_OK or GWCTL_FAILED. */
int cmd_pki_done(struct errs *errs);
struct json_t;
/* Prints and frees; GWCTL_OK. */
int cmd_pki_json(struct json_t *j);
/* "--days 30", "--lifetime 24h". GWCTL_OK, or what to exit with. */
int cmd_pki_days(int64_t *seconds, const char *command, const char *text);
int cmd_pki_lifetime(int64_t *seconds, const char *command, const char *option, const char *text);
int cmd_pki_alg(enum pkey_alg *out, const char *command, const char *text);

/* -- passphrases (cmd_pki_secret.c) -- */

struct cmd_pki_secret {
	const char *file;          /* --passphrase-file */
	const char *root_key;      /* --root-key */
	char *passphrase;          /* owned, once it is known */
	struct ca_keys keys;       /* what ca.h wants */
};
/* For a store that exists: reads the file, or asks on the terminal where a key is encrypted. 0, or -1 with a fault. */
int cmd_pki_unlock(struct cmd_pki_secret *s, const char *dir, struct errs *errs);
/* For one to be made: the same, asking twice, and no short one. */
int cmd_pki_new_secret(struct cmd_pki_secret *s, struct errs *errs);
void cmd_pki_secret_fini(struct cmd_pki_secret *s);
/* cmd_pki_unlock(), then ca_open(). NULL with faults. */
struct ca *cmd_pki_open(struct cmd_pki_secret *s, const char *dir, struct errs *errs);

/* -- who is meant (cmd_pki_name.c) -- */

/* Whether an id is what somebody calls name: all of it, its path, or a gateway's last segment. */
bool cmd_pki_is_named(const char *id, const char *name);
bool cmd_pki_is_serial(const char *text);
struct cmd_pki_match {
	struct ca_entry *entries;  /* oldest first */
	size_t n, cap;
};
/* What a serial or a name means in the books: gateways and workloads, with a serial CAs, too. -1 with a fault, which knows the nearest name. */
int cmd_pki_match(const struct ca *ca, const char *what, int64_t now, struct cmd_pki_match *out, struct errs *errs);
void cmd_pki_match_fini(struct cmd_pki_match *m);

#endif
