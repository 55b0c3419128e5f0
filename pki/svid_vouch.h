/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May a domain's newer bundle take the place of the one we trust, without anybody's word for it? Yes, if the CAs that we trust say so themselves: each CA
 * that is new must be certified by one that is in force. The new root's key certified by the old root's ("new with old", RFC 4210 4.4)
 * comes beside the bundle as a cross certificate.
 */
#ifndef PKI_SVID_VOUCH_H
#define PKI_SVID_VOUCH_H

#include <stdint.h>

#include "pki/svid.h"

#define SVID_VOUCH_CROSS_MAX 8

/* What makes a PEM of cross certificates unusable whoever signed them (not certificates, no CAs of the domain, self-signed, too many), or NULL. Static text. */
const char *svid_vouch_cross_fault(const char *domain, const char *cross_pem);
/*
 * Is each CA of "newer" one of "current", or vouched for by one of it that is in force now? cross_pem: NULL when there is none. 0; or -1 with
 * who, the subject of the first that is not, and *why (static).
 */
int svid_vouch(const struct svid_bundle *current, const struct svid_bundle *newer, const char *cross_pem, int64_t now, char who[256], const char **why);

#endif
