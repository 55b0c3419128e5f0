/* SPDX-License-Identifier: Apache-2.0 */
/* Time: monotonic for deadlines, wall for records and certificates. */
#ifndef GATEWAY_BASE_CLOCK_H
#define GATEWAY_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ms(void);
uint64_t clock_mono_us(void);
uint64_t clock_wall_us(void); /* microseconds since the epoch */

#define CLOCK_RFC3339_LEN 27 /* 2026-11-20T09:00:00.000000Z */
/* Writes CLOCK_RFC3339_LEN bytes and a NUL. */
void clock_rfc3339(char out[CLOCK_RFC3339_LEN + 1], uint64_t wall_us);

#endif
