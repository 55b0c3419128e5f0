/* SPDX-License-Identifier: Apache-2.0 */
/* Services by host name and port: a hash table over the services of a config, built once, never changed. */
#ifndef GATEWAY_CONFIG_LOOKUP_H
#define GATEWAY_CONFIG_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/config/config.h"

struct lookup;

/* Of c->services; those without a hostname (faults) are left out. Of two with one host and port the first is in it. */
struct lookup *lookup_new(const struct config *c);
void lookup_free(struct lookup *l);
/* The service of exactly this lower-case name and port (0: none was given), or -1. */
int lookup_find(const struct lookup *l, const struct config *c, const char *hostname, size_t len, uint16_t port);

#endif
