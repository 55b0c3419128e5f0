/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP methods as bits, for the common ones. Methods are case-sensitive (RFC 9110 9.1). */
#ifndef POLICY_METHOD_H
#define POLICY_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METHOD_KNOWN 16

/* The method's bit in a condition, or 0 for one that is not among the known ones. */
uint32_t method_bit(const char *s, size_t n);
/* RFC 9110 5.6.2. */
bool method_is_token(const char *s, size_t n);
/* The known method that differs from s in case only, or NULL. */
const char *method_other_case(const char *s);

#endif
