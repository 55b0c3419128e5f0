/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/gwctl/gwctl.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/mem.h"

char *
gwctl_safe(const char *s)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = strlen(s);
	char *out = mem_alloc(4 * n + 1), *p = out;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x20 && c < 0x7f) {
			*p++ = (char)c;
		} else {
			*p++ = '\\';
			*p++ = 'x';
			*p++ = digits[c >> 4];
			*p++ = digits[c & 15];
		}
	}
	*p = '\0';
	return out;
}

static void __attribute__((format(printf, 1, 0)))
complain(const char *fmt, va_list ap)
{
	char text[4096], *safe;

	vsnprintf(text, sizeof(text), fmt, ap);
	safe = gwctl_safe(text);
	fflush(stdout);
	fprintf(stderr, "gwctl: %s\n", safe);
	mem_free(safe);
}

int
gwctl_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	return GWCTL_FAILED;
}

int
gwctl_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	fprintf(stderr, "See \"gwctl help%s%s\".\n", command ? " " : "", command ? command : "");
	return GWCTL_USAGE;
}

int
gwctl_print_errs(const struct errs *e)
{
	fflush(stdout);
	for (size_t i = 0; i < e->n; i++) {
		char *safe = gwctl_safe(e->items[i].text);

		fprintf(stderr, "%s%s\n", e->items[i].warning ? "warning: " : "", safe);
		mem_free(safe);
	}
	if (e->dropped)
		fprintf(stderr, "%zu more faults\n", e->dropped);
	return e->errors || e->dropped ? GWCTL_FAILED : GWCTL_OK;
}

int
gwctl_dispatch(struct gwctl *g, const char *command, const struct gwctl_sub *subs, int argc, char **argv)
{
	const char *names[32], *near;
	size_t n = 0;

	for (const struct gwctl_sub *s = subs; s->name && n < 32; s++)
		names[n++] = s->name;
	for (const struct gwctl_sub *s = subs; argc > 1 && s->name; s++)
		if (!strcmp(argv[1], s->name)) {
			optind = 0;
			opterr = 0;
			return s->run(g, argc - 1, argv + 1);
		}
	if (argc > 1) {
		char *safe = gwctl_safe(argv[1]);

		near = errs_nearest(argv[1], names, n);
		if (near)
			gwctl_error("there is no \"%s %s\"; did you mean \"%s %s\"?", command, safe, command, near);
		else
			gwctl_error("there is no \"%s %s\"; there are:", command, safe);
		mem_free(safe);
	} else {
		gwctl_error("%s what? There are:", command);
	}
	for (const struct gwctl_sub *s = subs; s->name; s++)
		fprintf(stderr, "  gwctl %s %-12s %s\n", command, s->name, s->summary);
	return GWCTL_USAGE;
}

char *
gwctl_age(char out[32], double seconds)
{
	unsigned long s = seconds > 0 ? (unsigned long)seconds : 0;

	if (s < 60)
		snprintf(out, 32, "%lu s", s);
	else if (s < 3600)
		snprintf(out, 32, "%lu min %lu s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, 32, "%lu h %lu min", s / 3600, s / 60 % 60);
	else
		snprintf(out, 32, "%lu d %lu h", s / 86400, s / 3600 % 24);
	return out;
}

char *
gwctl_bytes(char out[32], double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	unsigned i = 0;

	while (bytes >= 1024 && i < 5) {
		bytes /= 1024;
		i++;
	}
	snprintf(out, 32, i && bytes < 10 ? "%.1f %s" : "%.0f %s", bytes, units[i]);
	return out;
}
