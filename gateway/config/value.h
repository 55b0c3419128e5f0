/* SPDX-License-Identifier: Apache-2.0 */
/* Values as people write them: sizes and durations. Strict: a number, one unit, nothing else. */
#ifndef GATEWAY_CONFIG_VALUE_H
#define GATEWAY_CONFIG_VALUE_H

#include <stdint.h>

/* "10GiB" "64KiB" "512" (bytes). Units B KiB MiB GiB TiB kB MB GB TB. 0 or -1 (*why). */
int value_size(uint64_t *out, const char *s, const char **why);
/* "30s" "500ms" "5m" "24h" "90d"; a bare "0" is allowed. In milliseconds. */
int value_duration(uint64_t *out_ms, const char *s, const char **why);

#define VALUE_TEXT_MAX 32
/* The shortest text that reads back as the same value. Returns out. */
char *value_size_text(char out[VALUE_TEXT_MAX], uint64_t bytes);
char *value_duration_text(char out[VALUE_TEXT_MAX], uint64_t ms);

#endif
