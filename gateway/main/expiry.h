/* SPDX-License-Identifier: Apache-2.0 */
/* How long certificates, the CAs of bundles and CRLs last: said in status, and in the operator log well before they end. */
#ifndef GATEWAY_MAIN_EXPIRY_H
#define GATEWAY_MAIN_EXPIRY_H

#include <stdint.h>

#include "gateway/main/master.h"

/* Seconds since the epoch at which the first certificate of a PEM chain ends; 0: there is none. NULL is none. */
int64_t expiry_of(const char *pem);
/* Ten seconds after the start, then once an hour: a warning of each that pki/lifetime.h says is to be spoken of. Returns the next deadline. */
uint64_t expiry_tick(struct master *m, uint64_t now);

#endif
