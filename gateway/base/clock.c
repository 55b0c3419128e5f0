/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/base/clock.h"

#include <time.h>

static uint64_t
read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t
clock_mono_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

uint64_t
clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

uint64_t
clock_wall_us(void)
{
	return read_us(CLOCK_REALTIME);
}

static void
put_digits(char *out, unsigned n, unsigned long v)
{
	while (n-- > 0) {
		out[n] = (char)('0' + v % 10);
		v /= 10;
	}
}

/*
 * Our own calendar: gmtime_r() takes the time zone's lock, and records are stamped at a high rate. Counts days from
 * 0000-03-01, so that the leap day is the last of a year (proleptic Gregorian, RFC 3339 appendix D).
 */
void
clock_rfc3339(char out[CLOCK_RFC3339_LEN + 1], uint64_t wall_us)
{
	uint64_t sec = wall_us / 1000000;
	unsigned long us = (unsigned long)(wall_us % 1000000);
	unsigned long tod = (unsigned long)(sec % 86400);
	uint64_t days = sec / 86400 + 719468;
	uint64_t era = days / 146097;
	unsigned long doe = (unsigned long)(days % 146097);
	unsigned long yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned long doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned long mp = (5 * doy + 2) / 153; /* 0 is March */
	unsigned long day = doy - (153 * mp + 2) / 5 + 1;
	unsigned long month = mp < 10 ? mp + 3 : mp - 9;
	uint64_t year = era * 400 + yoe + (month <= 2);

	if (year > 9999) /* RFC 3339 has four digits */
		year = 9999;
	put_digits(out, 4, (unsigned long)year);
	out[4] = '-';
	put_digits(out + 5, 2, month);
	out[7] = '-';
	put_digits(out + 8, 2, day);
	out[10] = 'T';
	put_digits(out + 11, 2, tod / 3600);
	out[13] = ':';
	put_digits(out + 14, 2, tod / 60 % 60);
	out[16] = ':';
	put_digits(out + 17, 2, tod % 60);
	out[19] = '.';
	put_digits(out + 20, 6, us);
	out[26] = 'Z';
	out[27] = '\0';
}
