/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ca role: holds the issuing key of the domain's CA (pki/), and answers EST requests that workers hand over. It has no network and one directory,
 * the CA's store, and believes no worker: tokens and proofs are checked here.
 */
#ifndef GATEWAY_CA_ROLE_H
#define GATEWAY_CA_ROLE_H

#include "gateway/process/role.h"

/*
 * env: config, ring, the store's descriptor (as its one directory), ROLE_FD_PASSPHRASE when the key is encrypted, channels to workers and control. A store that
 * cannot be used does not end it: requests are answered CA_UNAVAILABLE until it can.
 */
int ca_main(struct role_env *env);

#endif
