/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/lifetime.h"

enum lifetime
lifetime_at(int64_t from, int64_t until, int64_t now)
{
	int64_t third;

	if (now < from)
		return LIFETIME_EARLY;
	if (!until)
		return LIFETIME_GOOD;
	if (now > until) /* RFC 5280 4.1.2.5: the last second belongs to it */
		return LIFETIME_OVER;
	third = (until - from) / 3;
	return until - now < (third < LIFETIME_WARN_S ? third : LIFETIME_WARN_S) ? LIFETIME_ENDING : LIFETIME_GOOD;
}
