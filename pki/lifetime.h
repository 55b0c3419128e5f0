/* SPDX-License-Identifier: Apache-2.0 */
/* When something that ends (a certificate, a CRL) is to be spoken of. One rule for the daemon's log, its checks and "gwctl check". */
#ifndef PKI_LIFETIME_H
#define PKI_LIFETIME_H

#include <stdint.h>

#define LIFETIME_WARN_S (INT64_C(30) * 86400)

enum lifetime {
	LIFETIME_GOOD,
	LIFETIME_ENDING,  /* its last 30 days, or its last third if that is shorter: by then it should have been renewed */
	LIFETIME_OVER,
	LIFETIME_EARLY,   /* not yet valid */
};
/* Seconds since the epoch. until 0: it says no end. */
enum lifetime lifetime_at(int64_t from, int64_t until, int64_t now);

#endif
