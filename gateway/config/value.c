/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* In each table the unit that texts prefer comes first among those that divide a value. */
static const struct unit size_units[] = {
	{ "TiB", UINT64_C(1) << 40 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "KiB", UINT64_C(1) << 10 },
	{ "TB", UINT64_C(1000000000000) },
	{ "GB", UINT64_C(1000000000) },
	{ "MB", UINT64_C(1000000) },
	{ "kB", UINT64_C(1000) },
	{ "B", 1 },
};
static const struct unit duration_units[] = {
	{ "d", UINT64_C(86400000) },
	{ "h", UINT64_C(3600000) },
	{ "m", UINT64_C(60000) },
	{ "s", UINT64_C(1000) },
	{ "ms", 1 },
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int
fail(const char **why, const char *text)
{
	if (why)
		*why = text;
	return -1;
}

/* 1*DIGIT without leading zeros. Returns what follows it, or NULL. */
static const char *
parse_number(uint64_t *out, const char *s, const char **why)
{
	uint64_t v = 0;

	if (*s < '0' || *s > '9') {
		fail(why, "it does not start with a digit");
		return NULL;
	}
	if (s[0] == '0' && s[1] >= '0' && s[1] <= '9') {
		fail(why, "it has a leading zero");
		return NULL;
	}
	for (; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v)) {
			fail(why, "the number is too large");
			return NULL;
		}
	}
	*out = v;
	return s;
}

static const struct unit *
find_unit(const struct unit *units, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(units[i].name, name))
			return &units[i];
	return NULL;
}

int
value_size(uint64_t *out, const char *s, const char **why)
{
	const struct unit *u;
	uint64_t v;

	s = parse_number(&v, s, why);
	if (!s)
		return -1;
	u = find_unit(size_units, COUNT(size_units), *s ? s : "B");
	if (!u)
		return fail(why, "the unit is none of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB");
	if (__builtin_mul_overflow(v, u->factor, &v))
		return fail(why, "the number is too large");
	*out = v;
	return 0;
}

int
value_duration(uint64_t *out_ms, const char *s, const char **why)
{
	const struct unit *u;
	uint64_t v;

	s = parse_number(&v, s, why);
	if (!s)
		return -1;
	if (!*s) {
		/* 30 what? Only nothing needs no unit. */
		if (v != 0)
			return fail(why, "it has no unit; add one of ms, s, m, h, d");
		*out_ms = 0;
		return 0;
	}
	u = find_unit(duration_units, COUNT(duration_units), s);
	if (!u)
		return fail(why, "the unit is none of ms, s, m, h, d");
	if (__builtin_mul_overflow(v, u->factor, &v))
		return fail(why, "the number is too large");
	*out_ms = v;
	return 0;
}

static char *
text(char *out, uint64_t v, const struct unit *units, size_t n)
{
	const struct unit *u = units;

	while (u < units + n - 1 && v % u->factor != 0)
		u++;
	if (v == 0)
		snprintf(out, VALUE_TEXT_MAX, "0");
	else
		snprintf(out, VALUE_TEXT_MAX, "%" PRIu64 "%s", v / u->factor, u->name);
	return out;
}

char *
value_size_text(char out[VALUE_TEXT_MAX], uint64_t bytes)
{
	return text(out, bytes, size_units, COUNT(size_units));
}

char *
value_duration_text(char out[VALUE_TEXT_MAX], uint64_t ms)
{
	return text(out, ms, duration_units, COUNT(duration_units));
}
