/* SPDX-License-Identifier: Apache-2.0 */
/* What of an exchange goes into the journal. Private to this folder. */
#ifndef GATEWAY_EXCHANGE_BOOKS_H
#define GATEWAY_EXCHANGE_BOOKS_H

#include "gateway/exchange/internal.h"

bool books_open(struct exchange *x, const struct leg_head *h);
void books_end(struct exchange *x, const char *reason);
/* The attempt under way ended with this status and reason, and the next begins: x->attempt is one more. False: it could not be recorded. */
bool books_again(struct exchange *x, unsigned status, const char *reason);
void books_deny(struct exchange *x, const struct leg_head *h, unsigned status, const char *reason, uint32_t rule);
/* Something in a running exchange that should never happen. */
void books_alert(struct exchange *x, const char *reason);
/* An exchange was refused because it could not be recorded: the operator log says so, at most once a second. */
void books_unaudited(struct gate *g, const char *why);
/* Which side ended it early: "client-…" and "service-…" for a leg's detail. Static text. */
const char *books_client_reason(const char *detail);
const char *books_service_reason(const char *detail);

#endif
