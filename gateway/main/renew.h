/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates that a worker got from the CA for us. What came over a network is looked at in a child without privileges, which says whether it may take the
 * place of what we have; then the file is replaced (octets moved by the kernel, by descriptor), and trust.h takes it over.
 */
#ifndef GATEWAY_MAIN_RENEW_H
#define GATEWAY_MAIN_RENEW_H

#include <stdbool.h>

#include "gateway/main/children.h"
#include "gateway/main/master.h"

/* ROLE_MSG_NEW_KEY of the keys role, ROLE_MSG_RENEWED of a worker. False: malformed. */
bool renew_on_key(struct master *m, struct child *c, struct ipc_msg *msg);
bool renew_on_certificate(struct master *m, struct child *c, struct ipc_msg *msg);
/* Before a config's files are read for the first time: a replacement that a crash cut in two is brought to its end, or undone. */
void renew_recover(const char *certificate, const char *key);

/* After it: a new key that waited for its certificate goes on waiting (KEY.new). */
void renew_load(struct master *m, const struct config *c);

#endif
