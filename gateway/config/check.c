/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config/check.h"

#include <errno.h>
#include <grp.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/config/lookup.h"
#include "pki/svid.h"

#define NAME_LEN_MAX 64

/* ---- reporting ---- */

static void
place(const struct check *ck, const void *member, const void *owner, const char **file, unsigned *line)
{
	unsigned at = member ? origin_find(ck->origins, member) : 0;

	if (!at && owner)
		at = origin_find(ck->origins, owner);
	*file = ck->c->file;
	*line = 0;
	if (at)
		source_place(ck->source, at, file, line);
}

void
check_fault(struct check *ck, const void *member, const void *owner, const char *fmt, ...)
{
	char text[1024];
	const char *file;
	unsigned line;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	place(ck, member, owner, &file, &line);
	errs_add(ck->errs, file, line, "%s", text);
}

void
check_warn(struct check *ck, const void *member, const void *owner, const char *fmt, ...)
{
	char text[1024];
	const char *file;
	unsigned line;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	place(ck, member, owner, &file, &line);
	errs_warn(ck->errs, file, line, "%s", text);
}

bool
check_written(const struct check *ck, const void *member)
{
	return origin_find(ck->origins, member) != 0;
}

/* ---- shared checks ---- */

static bool
name_valid(const char *s)
{
	size_t n = strlen(s);

	if (n > NAME_LEN_MAX || s[0] == '-' || s[0] == '.')
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static int
by_name(const void *a, const void *b)
{
	const struct check_name *x = a, *y = b;
	int cmp = strcmp(*x->member, *y->member);

	/* Elements of one array: the address is the order in the file. */
	return cmp ? cmp : (x->owner > y->owner) - (x->owner < y->owner);
}

void
check_names(struct check *ck, struct check_name *names, size_t n, const char *kind)
{
	size_t known = 0;
	const char *file;
	unsigned line;

	for (size_t i = 0; i < n; i++) {
		if (!*names[i].member)
			continue;
		if (!name_valid(*names[i].member))
			check_fault(ck, names[i].member, names[i].owner,
			    "%s name \"%s\": a name has at most %d letters, digits, \"-\", \"_\" and \".\", and starts with none of \"-.\"",
			    kind, *names[i].member, NAME_LEN_MAX);
		names[known++] = names[i];
	}
	if (known == 0)
		return;
	qsort(names, known, sizeof(*names), by_name);
	for (size_t i = 1; i < known; i++) {
		if (strcmp(*names[i - 1].member, *names[i].member) != 0)
			continue;
		place(ck, names[i - 1].member, names[i - 1].owner, &file, &line);
		check_fault(ck, names[i].member, names[i].owner, "%s \"%s\" is already defined at %s:%u; choose another name",
		    kind, *names[i].member, file, line);
	}
}

char *
check_pem(struct check *ck, char *const *member, const void *owner)
{
	const char *why;
	size_t len;
	char *pem;

	if (!*member || !ck->files)
		return NULL;
	pem = source_slurp(*member, SOURCE_PEM_MAX, &len, &why);
	if (!pem) {
		check_fault(ck, member, owner, "cannot read \"%s\": %s", *member, why);
		return NULL;
	}
	/* The content of this file goes to every worker. */
	if (strstr(pem, "PRIVATE KEY-----")) {
		check_fault(ck, member, owner, "\"%s\" holds a private key; keep it in a file of its own", *member);
	} else if (!strstr(pem, "-----BEGIN CERTIFICATE-----")) {
		check_fault(ck, member, owner, "\"%s\" holds no certificate in PEM", *member);
	} else {
		return pem;
	}
	mem_wipe(pem, len);
	mem_free(pem);
	return NULL;
}

char *
check_crl(struct check *ck, char *const *member, const void *owner, const char *domain, const char *bundle_pem)
{
	struct svid_bundle *bundle;
	const char *why;
	size_t len;
	char *pem;

	if (!*member || !ck->files)
		return NULL;
	if (access(*member, F_OK) != 0 && errno == ENOENT) {
		check_warn(ck, member, owner, "there is no \"%s\" yet; \"gwctl pki crl\" makes it", *member);
		return NULL;
	}
	pem = source_slurp(*member, SVID_CRL_MAX, &len, &why);
	if (!pem) {
		check_fault(ck, member, owner, "cannot read \"%s\": %s", *member, why);
		return NULL;
	}
	bundle = domain && bundle_pem ? svid_bundle_new(domain, bundle_pem, &why) : NULL;
	if (bundle && svid_bundle_add_crls(bundle, pem, len, (int64_t)(clock_wall_us() / 1000000), &why) < 0) {
		check_fault(ck, member, owner, "\"%s\" is no revocation list of \"%s\": %s", *member, domain, why);
		mem_free(pem);
		pem = NULL;
	}
	svid_bundle_unref(bundle);
	return pem;
}

bool
check_id(struct check *ck, char *const *member, const char *domain, const char *whose, struct spiffe_id *out)
{
	const char *why;

	if (spiffe_parse(out, *member, strlen(*member), &why) != 0) {
		check_fault(ck, member, NULL, "\"%s\" is no SPIFFE ID: %s", *member, why);
		return false;
	}
	if (domain && (out->domain_len != strlen(domain) || memcmp(out->domain, domain, out->domain_len) != 0)) {
		check_fault(ck, member, NULL, "\"%s\" is not in %s domain \"%s\"", *member, whose, domain);
		return false;
	}
	return true;
}

const struct config_listener *
check_own_listener(const struct check *ck, const struct addr *a)
{
	for (size_t i = 0; i < ck->c->nlisteners; i++)
		if (ck->c->listeners[i].addr.len && addr_equal(&ck->c->listeners[i].addr, a))
			return &ck->c->listeners[i];
	return NULL;
}

void
check_once(struct check *ck, const void *array, size_t n, size_t size, const char *option)
{
	const char *base = array;

	for (size_t i = 1; i < n; i++) {
		const char *text, *other;

		memcpy(&text, base + i * size, sizeof(text));
		for (size_t j = 0; text && j < i; j++) {
			memcpy(&other, base + j * size, sizeof(other));
			if (other && !strcmp(text, other)) {
				check_fault(ck, base + i * size, NULL, "\"%s\" has \"%s\" twice; remove one", option, text);
				break;
			}
		}
	}
}

/* ---- the rest ---- */

static void
load_own_addresses(struct check *ck)
{
	struct ifaddrs *list, *i;
	size_t cap = 0;

	if (getifaddrs(&list) != 0)
		return;
	for (i = list; i; i = i->ifa_next) {
		struct addr_cidr *c;

		if (!i->ifa_addr || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		mem_grow(&ck->own, &cap, ck->nown + 1, sizeof(*ck->own));
		c = &ck->own[ck->nown++];
		memset(c, 0, sizeof(*c));
		c->family = (uint8_t)i->ifa_addr->sa_family;
		if (c->family == AF_INET) {
			c->bits = 32;
			memcpy(c->ip, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, 4);
		} else {
			c->bits = 128;
			memcpy(c->ip, &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr, 16);
		}
	}
	freeifaddrs(list);
}

static unsigned
cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return n < 1 ? 1 : n > 256 ? 256 : (unsigned)n;
}

static void
check_log_level(struct check *ck)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	const char *near;

	if (!ck->c->log_level || log_level_parse(ck->c->log_level) >= 0)
		return;
	near = errs_nearest(ck->c->log_level, levels, 4);
	if (near)
		check_fault(ck, &ck->c->log_level, NULL, "log_level is \"%s\"; did you mean \"%s\"?", ck->c->log_level, near);
	else
		check_fault(ck, &ck->c->log_level, NULL, "log_level is \"%s\"; write one of \"error\", \"warn\", \"info\", \"debug\"",
		    ck->c->log_level);
}

static void
check_globals(struct check *ck)
{
	struct config *c = ck->c;
	const char *p = c->user_prefix;

	if (c->workers == 0)
		c->workers = cores();
	check_log_level(ck);
	/* All digits: the roles' ids are this number and the next (privs_lookup), without names. */
	if (p && (strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(p) || *p == '-' ||
	    (*p >= '0' && *p <= '9' && p[strspn(p, "0123456789")])))
		check_fault(ck, &c->user_prefix, NULL,
		    "user_prefix \"%s\": user names have lower-case letters, digits, \"-\" and \"_\", and start with a letter", p);
	/* RFC 9110 5.5: it becomes a field value, so visible ASCII with single spaces inside. */
	for (p = c->policy_context; p && *p; p++) {
		if ((*p < 0x21 || *p > 0x7e) && !(*p == ' ' && p != c->policy_context && p[1] && p[1] != ' ')) {
			check_fault(ck, &c->policy_context, NULL,
			    "policy_context is sent as a header; write visible ASCII characters, single spaces between them");
			break;
		}
	}
	if (!c->state_dir && c->journal.directory) {
		const char *slash = strrchr(c->journal.directory, '/');

		c->state_dir = mem_printf("%.*sstate", slash ? (int)(slash + 1 - c->journal.directory) : 0, c->journal.directory);
	}
	if (c->limits.link_window < c->limits.stream_window)
		check_fault(ck, check_written(ck, &c->limits.link_window) ? (void *)&c->limits.link_window : &c->limits.stream_window,
		    &c->limits, "link_window is smaller than stream_window; a stream could never use its window");
	if (c->journal.ring_bytes & (c->journal.ring_bytes - 1))
		check_fault(ck, &c->journal.ring_bytes, &c->journal, "ring_size is no power of two; write \"4MiB\" or \"8MiB\"");
	if (c->control.socket && strlen(c->control.socket) > 107)
		check_fault(ck, &c->control.socket, &c->control, "the path of a Unix socket has at most 107 bytes");
	if (c->control.mode & 0002)
		check_warn(ck, &c->control.mode, &c->control, "every local user may connect to the control socket; write \"0660\"");
	if (c->control.group && ck->files && !getgrnam(c->control.group))
		check_fault(ck, &c->control.group, &c->control, "there is no group \"%s\" on this host", c->control.group);
}

void
check_config(struct check *ck)
{
	if (ck->files)
		load_own_addresses(ck);
	ck->sidecar = ck->c->npeers > 0 && ck->c->peers[0].uplink;
	check_globals(ck);
	check_identity(ck);
	check_listeners(ck);
	check_peers(ck);
	check_services(ck);
	check_enrol(ck);
	check_hsm(ck);
	mem_free(ck->own);
	ck->own = NULL;
}
