/* SPDX-License-Identifier: Apache-2.0 */
/* The two tables of the process graph: who exists, and who may talk to whom. */
#ifndef GATEWAY_MAIN_ROLES_H
#define GATEWAY_MAIN_ROLES_H

#include "gateway/process/role.h"

extern const struct role_desc roles_table[ROLES];

/* Besides master, who has a channel to everybody: these pairs have one. */
struct roles_edge {
	enum role a, b;
	bool same_generation;   /* only between processes of one config */
};
extern const struct roles_edge roles_edges[];
extern const unsigned roles_nedges;

/* Main functions; each lives where its work does. */
int worker_main(struct role_env *env);   /* gateway/main/worker.c */
int keys_main(struct role_env *env);     /* gateway/keys/role.c */
int journal_main(struct role_env *env);  /* gateway/main/journal_main.c */
int control_main(struct role_env *env);  /* gateway/control/role.c */
int ca_main(struct role_env *env);       /* gateway/ca/role.c */

#endif
