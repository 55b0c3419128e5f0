/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pair: what its files share. cmd_pair() is declared in gwctl.h. */
#ifndef TOOLS_GWCTL_CMD_PAIR_H
#define TOOLS_GWCTL_CMD_PAIR_H

#include <jansson.h>

#include "pki/pairing.h"
#include "tools/gwctl/gwctl.h"

#define CMD_PAIR_REFUSED 10 /* the first of the exit codes of refusals; gwctl-pair(1) has them */
int cmd_pair_exit(enum pairing_result r);

json_t *cmd_pair_json_list(char *const *list, size_t n);
/* A pairing file's content, as "show" has it. */
json_t *cmd_pair_json(const struct pairfile *p);
void cmd_pair_describe(const struct pairfile *p);
void cmd_pair_print_json(json_t *j); /* consumes */

/* Where peers are installed: --peers, else peers_dir of the configuration, else "peers" beside it. mem_free(). */
char *cmd_pair_dir(const struct gwctl *g, const char *option);

/* What the configuration says of one domain; fini frees. */
struct cmd_pair_entry {
	bool readable;              /* there is a configuration, and it can be parsed */
	bool found, listed;         /* listed: it is a file of peers_dir */
	char *name, *file;
	unsigned line;
};
void cmd_pair_find(const struct gwctl *g, const char *domain, struct cmd_pair_entry *e);
void cmd_pair_entry_fini(struct cmd_pair_entry *e);

/* What the running daemon says of its peers ("gwctl peers"), or NULL when none answers: quietly, and the caller's. */
json_t *cmd_pair_running(struct gwctl *g);
/* One peer of it by domain (else by name); NULL. */
const json_t *cmd_pair_running_peer(const json_t *running, const char *domain, const char *name);

int cmd_pair_accept(struct gwctl *g, int argc, char **argv);
int cmd_pair_update(struct gwctl *g, int argc, char **argv);
int cmd_pair_remove(struct gwctl *g, int argc, char **argv);
int cmd_pair_list(struct gwctl *g, int argc, char **argv);

#endif
