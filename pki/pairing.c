/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/pairing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/buf.h"
#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "gateway/base/spiffe.h"
#include "pki/pkifile.h"
#include "pki/svid.h"
#include "pki/svid_vouch.h"

const char *
pairing_token(enum pairing_result r)
{
	static const char *const token[PAIRING_RESULTS] = {
		[PAIRING_OK] = "ok",
		[PAIRING_MALFORMED] = "malformed",
		[PAIRING_ALTERED] = "altered",
		[PAIRING_OWN_DOMAIN] = "own-domain",
		[PAIRING_EXPIRED] = "expired",
		[PAIRING_FROM_FUTURE] = "from-future",
		[PAIRING_WRONG_CODE] = "wrong-code",
		[PAIRING_OTHER_KEY] = "other-key",
		[PAIRING_REPLAYED] = "replayed",
		[PAIRING_IN_THE_WAY] = "in-the-way",
		[PAIRING_IO] = "io",
		[PAIRING_NOT_PAIRED] = "not-paired",
		[PAIRING_NOT_VOUCHED] = "not-vouched",
	};

	return (unsigned)r < PAIRING_RESULTS ? token[r] : "io";
}

static char *
place(const char *dir, const char *domain, const char *suffix)
{
	return mem_printf("%s/%s.%s", dir, domain, suffix);
}

static enum pairing_result
refuse(struct errs *errs, enum pairing_result r, const char *text)
{
	errs_add(errs, NULL, 0, "refused (%s): %s", pairing_token(r), text);
	return r;
}

/* -- checks of the file alone ------------------------------------------------------------------------ */

static void
note_ca(void *ctx, const struct svid_cert *c)
{
	int64_t *last = ctx;

	if (c->not_after > *last)
		*last = c->not_after;
}

/* A bundle by which nothing could be verified any more. */
static bool
has_ended(const char *bundle_pem, int64_t now)
{
	int64_t last = INT64_MIN;
	const char *why;

	return svid_pem_each(bundle_pem, note_ca, &last, &why) > 0 && last <= now;
}

/* Everything about it but its code. */
static enum pairing_result
check_file(const struct pairing_request *r, struct pairfile *out, struct errs *errs)
{
	const char *why;
	enum pairfile_status st = pairfile_read(out, r->text, r->len, &why);

	if (st == PAIRFILE_ALTERED)
		return refuse(errs, PAIRING_ALTERED, "the file was altered after it was signed; ask the peer for it again");
	if (st != PAIRFILE_OK) {
		errs_add(errs, NULL, 0, "refused (%s): %s; ask the peer for the file that \"gwctl pair export\" wrote",
		    pairing_token(PAIRING_MALFORMED), why);
		return PAIRING_MALFORMED;
	}
	if (strcmp(out->domain, r->own_domain) == 0)
		return refuse(errs, PAIRING_OWN_DOMAIN, "this file is of our own domain; accept the one that the peer exported");
	if (r->now >= out->expires)
		return refuse(errs, PAIRING_EXPIRED, "the file has expired; ask the peer to export a new one");
	if (out->created > r->now + PAIRFILE_SKEW_S)
		return refuse(errs, PAIRING_FROM_FUTURE, "the file was made in the future; compare both hosts' clocks, then ask for a new one");
	if (has_ended(out->bundle_pem, r->now))
		return refuse(errs, PAIRING_EXPIRED, "every CA in the file has expired; the peer needs a new one before it can be paired with");
	return PAIRING_OK;
}

static enum pairing_result
check_code(const struct pairing_request *r, const struct pairfile *p, struct errs *errs)
{
	if (pairfile_code_matches(p, r->code))
		return PAIRING_OK;
	return refuse(errs, PAIRING_WRONG_CODE,
	    "the code is not this file's; call the peer's operator, who reads it from \"gwctl pair show\" of the file as it was sent");
}

/* -- checks against what is installed ---------------------------------------------------------------- */

/* One line of <domain>.removed: the key in hex, and when the newest file that it signed was made. */
#define REMOVED_MAX_BYTES 16384

static enum pairing_result
bad_removed(const char *path, struct errs *errs)
{
	errs_add(errs, path, 0, "refused (%s): this is not what \"gwctl pair remove\" wrote; move it away, then accept again", pairing_token(PAIRING_IN_THE_WAY));
	return PAIRING_IN_THE_WAY;
}

/* A file of a pairing that was removed is no more new than it was before. */
static enum pairing_result
check_removed(const struct pairing_request *r, const struct pairfile *p, struct errs *errs)
{
	char *path = place(r->peers_dir, p->domain, "removed"), *text = pkifile_read(path, REMOVED_MAX_BYTES), *line, *rest = text, key[65], hex[65] = "";
	enum pairing_result res = PAIRING_OK;
	long long created;
	int n;

	if (!text && errno != ENOENT) {
		errs_add(errs, path, 0, "%s", strerror(errno));
		res = PAIRING_IO;
	}
	esc_hex(hex, p->key, sizeof(p->key));
	while (res == PAIRING_OK && text && (line = strsep(&rest, "\n")) != NULL) {
		n = 0;
		if (!*line)
			continue;
		if (sscanf(line, "%64[0-9a-f] %lld%n", key, &created, &n) != 2 || line[n] || strlen(key) != 64)
			res = bad_removed(path, errs);
		else if (!strcmp(key, hex) && p->created <= created)
			res = refuse(errs, PAIRING_REPLAYED, "a pairing by this file, or a newer one, was removed; ask the peer to export a new one");
	}
	mem_free(text);
	mem_free(path);
	return res;
}

/* Without a pairing, files of these names were put there by hand; content that would be the same does no harm. */
static enum pairing_result
check_unpaired(const struct pairing_request *r, const struct pairfile *p, struct errs *errs)
{
	char *path = place(r->peers_dir, p->domain, "pem"), *there = pkifile_read(path, PAIRFILE_MAX);
	enum pairing_result res = PAIRING_OK;

	if (there ? strcmp(there, p->bundle_pem) != 0 : errno != ENOENT) {
		res = PAIRING_IN_THE_WAY;
		errs_add(errs, path, 0, "refused (%s): no pairing put this file here, and it is not the peer's bundle; move it away, then accept again",
		    pairing_token(res));
	}
	mem_free(there);
	mem_free(path);
	return res == PAIRING_OK ? check_removed(r, p, errs) : res;
}

static enum pairing_result
read_present(const char *path, const char *text, struct pairfile *before, struct errs *errs)
{
	const char *why;

	if (pairfile_read(before, text, strlen(text), &why) == PAIRFILE_OK)
		return PAIRING_OK;
	errs_add(errs, path, 0, "refused (%s): what is known of the present pairing cannot be read (%s); move it away to pair anew",
	    pairing_token(PAIRING_IN_THE_WAY), why);
	return PAIRING_IN_THE_WAY;
}

static enum pairing_result
check_paired(const char *path, const struct pairfile *before, const struct pairfile *p, struct errs *errs)
{
	if (memcmp(before->key, p->key, sizeof(p->key)) != 0) {
		errs_add(errs, path, 0,
		    "refused (%s): %s is already paired, by another pairing key; if its operator confirms a new key, \"gwctl pair remove %s\" and accept again",
		    pairing_token(PAIRING_OTHER_KEY), p->domain, p->domain);
		return PAIRING_OTHER_KEY;
	}
	if (strcmp(before->code, p->code) == 0)
		return refuse(errs, PAIRING_REPLAYED, "this very file was accepted before; nothing is to be done");
	if (p->created <= before->created)
		return refuse(errs, PAIRING_REPLAYED, "the file is not newer than the one accepted last; ask the peer to export a new one");
	return PAIRING_OK;
}

/* Fills change with what is there. */
static enum pairing_result
check_installed(const struct pairing_request *r, const struct pairfile *p, struct pairing_change *change, struct errs *errs)
{
	char *path = place(r->peers_dir, p->domain, "pair"), *text = pkifile_read(path, PAIRFILE_MAX);
	enum pairing_result res;

	if (text) {
		res = read_present(path, text, &change->before, errs);
		change->paired = res == PAIRING_OK;
		if (res == PAIRING_OK)
			res = check_paired(path, &change->before, p, errs);
	} else if (errno == ENOENT) {
		res = check_unpaired(r, p, errs);
	} else {
		errs_add(errs, path, 0, "%s", strerror(errno));
		res = PAIRING_IO;
	}
	mem_free(text);
	mem_free(path);
	return res;
}

enum pairing_result
pairing_check(const struct pairing_request *r, struct pairfile *out, struct errs *errs)
{
	struct pairing_change change = { 0 };
	enum pairing_result res = check_file(r, out, errs);

	if (res == PAIRING_OK)
		res = check_code(r, out, errs);
	if (res == PAIRING_OK)
		res = check_installed(r, out, &change, errs);
	pairing_change_fini(&change);
	return res;
}

void
pairing_change_fini(struct pairing_change *c)
{
	pairfile_fini(&c->before);
	mem_free(c->before_pem);
	mem_free(c->entry);
	mem_free(c->by_hand);
	memset(c, 0, sizeof(*c));
}

/* -- installing ---------------------------------------------------------------------------------------- */

static int
put(const char *dir, const char *domain, const char *suffix, const char *text, size_t len, struct errs *errs)
{
	char *path = place(dir, domain, suffix);
	int rc = pkifile_replace(path, 0644, text, len);

	if (rc != 0)
		errs_add(errs, path, 0, "cannot write: %s", strerror(errno));
	mem_free(path);
	return rc;
}

/* Two gwctl at once: the second one sees what the first installed. */
static int
lock_peers(const char *dir, bool make, struct errs *errs)
{
	int fd = -1;

	if ((!make || mkdir(dir, 0755) == 0 || errno == EEXIST) &&
	    (fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 && flock(fd, LOCK_EX) == 0)
		return fd;
	errs_add(errs, dir, 0, "%s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The text of an installed file, or NULL; it is an error only if it is there and cannot be read. */
static int
get(const char *dir, const char *domain, const char *suffix, char **text, struct errs *errs)
{
	char *path = place(dir, domain, suffix);
	int rc = 0;

	*text = pkifile_read(path, PAIRFILE_MAX);
	if (!*text && errno != ENOENT) {
		errs_add(errs, path, 0, "%s", strerror(errno));
		rc = -1;
	}
	mem_free(path);
	return rc;
}

/* The entry as it will be. One that was written for this request replaces another, of which a copy is kept. */
static int
make_entry(const struct pairing_request *r, const struct pairfile *p, struct pairing_change *c, struct errs *errs)
{
	char *there;
	int rc = 0;

	if (get(r->peers_dir, p->domain, "conf", &there, errs) != 0)
		return -1;
	if (there && c->paired && !r->name && !r->no_dial && !r->reverse) {
		c->entry = pairing_entry_update(there, &c->before, p, &c->by_hand);
		c->entry_kept = true;
	} else {
		c->entry = pairing_entry(r, p);
		if (there && strcmp(there, c->entry) != 0)
			rc = put(r->peers_dir, p->domain, "conf.old", there, strlen(there), errs);
	}
	mem_free(there);
	return rc;
}

/* The bundle before the entry that names it; the file that says so last. */
static enum pairing_result
install(const struct pairing_request *r, const struct pairfile *p, struct pairing_change *c, struct errs *errs)
{
	if (make_entry(r, p, c, errs) != 0 || put(r->peers_dir, p->domain, "pem", p->bundle_pem, strlen(p->bundle_pem), errs) != 0 ||
	    put(r->peers_dir, p->domain, "conf", c->entry, strlen(c->entry), errs) != 0 ||
	    put(r->peers_dir, p->domain, "pair", r->text, r->len, errs) != 0)
		return PAIRING_IO;
	return PAIRING_OK;
}

enum pairing_result
pairing_accept(const struct pairing_request *r, struct pairfile *out, struct pairing_change *change, struct errs *errs)
{
	enum pairing_result res = check_file(r, out, errs);
	int fd;

	memset(change, 0, sizeof(*change));
	if (res == PAIRING_OK)
		res = check_code(r, out, errs);
	if (res != PAIRING_OK)
		return res;
	fd = lock_peers(r->peers_dir, true, errs);
	if (fd < 0)
		return PAIRING_IO;
	res = check_installed(r, out, change, errs);
	if (res == PAIRING_OK && get(r->peers_dir, out->domain, "pem", &change->before_pem, errs) != 0)
		res = PAIRING_IO;
	if (res == PAIRING_OK)
		res = install(r, out, change, errs);
	close(fd);
	return res;
}

/* -- updating ------------------------------------------------------------------------------------------ */

static enum pairing_result
check_vouched(const struct pairfile *p, const char *current_pem, int64_t now, struct errs *errs)
{
	struct svid_bundle *current = NULL, *newer = NULL;
	enum pairing_result res = PAIRING_OK;
	const char *why = "there is none";
	char who[256];

	if (current_pem)
		current = svid_bundle_new(p->domain, current_pem, &why);
	if (!current) {
		errs_add(errs, NULL, 0, "refused (%s): the bundle that is trusted now cannot be used: %s; \"gwctl pair accept\" with the code replaces it",
		    pairing_token(PAIRING_IN_THE_WAY), why);
		return PAIRING_IN_THE_WAY;
	}
	newer = svid_bundle_new(p->domain, p->bundle_pem, &why);
	if (!newer || svid_vouch(current, newer, p->cross_pem, now, who, &why) != 0) {
		res = PAIRING_NOT_VOUCHED;
		errs_add(errs, NULL, 0, "refused (%s): the CA %s is new: %s; compare the code by phone, then \"gwctl pair accept\" with it", pairing_token(res),
		    newer ? who : "", why);
	}
	svid_bundle_unref(current);
	svid_bundle_unref(newer);
	return res;
}

enum pairing_result
pairing_update(const struct pairing_request *r, struct pairfile *out, struct pairing_change *change, struct errs *errs)
{
	struct pairing_request keep = *r;
	enum pairing_result res = check_file(r, out, errs);
	int fd;

	memset(change, 0, sizeof(*change));
	if (res != PAIRING_OK)
		return res;
	keep.name = NULL;
	keep.no_dial = keep.reverse = false;
	fd = access(r->peers_dir, F_OK) == 0 || errno != ENOENT ? lock_peers(r->peers_dir, false, errs) : -2;
	if (fd == -1)
		return PAIRING_IO;
	if (fd >= 0)
		res = check_installed(r, out, change, errs);
	if (res == PAIRING_OK && !change->paired)
		res = refuse(errs, PAIRING_NOT_PAIRED, "there is no pairing with its domain to update; \"gwctl pair accept\" with the code makes one");
	if (res == PAIRING_OK && get(r->peers_dir, out->domain, "pem", &change->before_pem, errs) != 0)
		res = PAIRING_IO;
	if (res == PAIRING_OK)
		res = check_vouched(out, change->before_pem, r->now, errs);
	if (res == PAIRING_OK)
		res = install(&keep, out, change, errs);
	if (fd >= 0)
		close(fd);
	return res;
}

/* -- removing ------------------------------------------------------------------------------------------ */

/* What is remembered of a pairing: of each key, how new its newest file was. */
static int
remember(const char *dir, const struct pairfile *p, struct errs *errs)
{
	char *there, hex[65] = "";
	struct buf b;
	size_t n;
	int rc;

	if (get(dir, p->domain, "removed", &there, errs) != 0)
		return -1;
	esc_hex(hex, p->key, sizeof(p->key));
	buf_init(&b, 0);
	buf_printf(&b, "%s %lld\n", hex, (long long)p->created);
	/* Bounded: what was removed so often that it falls off the end has long expired. */
	n = there ? strnlen(there, REMOVED_MAX_BYTES - 2 * b.len) : 0;
	while (n > 0 && there[n - 1] != '\n')
		n--;
	if (n > 0)
		buf_append(&b, there, n);
	rc = put(dir, p->domain, "removed", (const char *)b.data, b.len, errs);
	buf_fini(&b);
	mem_free(there);
	return rc;
}

static int
take_away(const char *dir, const char *domain, const char *suffix, struct errs *errs)
{
	char *path = place(dir, domain, suffix);
	int rc = unlink(path) == 0 || errno == ENOENT ? 0 : -1;

	if (rc != 0)
		errs_add(errs, path, 0, "cannot remove it: %s", strerror(errno));
	mem_free(path);
	return rc;
}

static enum pairing_result
remove_locked(const char *dir, const char *domain, struct errs *errs)
{
	/* The entry first, so that nothing names a bundle that is gone; the file that says so last, so that this can be repeated. */
	static const char *const suffixes[] = { "conf", "conf.old", "pem", "pair" };
	struct pairfile before = { 0 };
	enum pairing_result res = PAIRING_OK;
	char *text, *path = place(dir, domain, "pair");

	if (get(dir, domain, "pair", &text, errs) != 0)
		res = PAIRING_IO;
	else if (!text)
		res = refuse(errs, PAIRING_NOT_PAIRED, "there is no pairing with this domain; \"gwctl pair list\" shows those that there are");
	else
		res = read_present(path, text, &before, errs);
	if (res == PAIRING_OK && strcmp(before.domain, domain) != 0) {
		errs_add(errs, path, 0, "refused (%s): this file is of %s", pairing_token(PAIRING_IN_THE_WAY), before.domain);
		res = PAIRING_IN_THE_WAY;
	}
	if (res == PAIRING_OK && remember(dir, &before, errs) != 0)
		res = PAIRING_IO;
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]) && res == PAIRING_OK; i++)
		if (take_away(dir, domain, suffixes[i], errs) != 0)
			res = PAIRING_IO;
	if (res == PAIRING_OK)
		pkifile_sync_dir(dir);
	pairfile_fini(&before);
	mem_free(text);
	mem_free(path);
	return res;
}

enum pairing_result
pairing_remove(const char *peers_dir, const char *domain, struct errs *errs)
{
	enum pairing_result res;
	int fd;

	if (!spiffe_domain_valid(domain, strlen(domain)) || (access(peers_dir, F_OK) != 0 && errno == ENOENT))
		return refuse(errs, PAIRING_NOT_PAIRED, "there is no pairing with this domain; \"gwctl pair list\" shows those that there are");
	fd = lock_peers(peers_dir, false, errs);
	if (fd < 0)
		return PAIRING_IO;
	res = remove_locked(peers_dir, domain, errs);
	close(fd);
	return res;
}

/* -- listing ------------------------------------------------------------------------------------------- */

static void
show_one(const char *dir, const char *domain, pairing_installed_fn *fn, void *ctx)
{
	char *path = place(dir, domain, "pair"), *text = pkifile_read(path, PAIRFILE_MAX), *pem = NULL, *entry = NULL;
	struct pairing_installed i = { .domain = domain };
	struct pairfile p = { 0 };
	struct errs ignored;
	struct stat st;

	errs_init(&ignored);
	if (!text)
		i.fault = strerror(errno);
	else if (pairfile_read(&p, text, strlen(text), &i.fault) == PAIRFILE_OK)
		i.pair = &p;
	if (i.pair)
		i.fault = NULL;
	get(dir, domain, "pem", &pem, &ignored);
	get(dir, domain, "conf", &entry, &ignored);
	i.bundle_pem = pem;
	i.entry = entry;
	i.accepted = stat(path, &st) == 0 ? st.st_mtime : 0;
	fn(ctx, &i);
	errs_fini(&ignored);
	pairfile_fini(&p);
	mem_free(text);
	mem_free(pem);
	mem_free(entry);
	mem_free(path);
}

static int
by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int
pairing_each(const char *peers_dir, pairing_installed_fn *fn, void *ctx, struct errs *errs)
{
	static const char suffix[] = ".pair";
	DIR *d = opendir(peers_dir);
	char **domains = NULL;
	size_t n = 0, cap = 0;

	if (!d && errno == ENOENT)
		return 0;
	if (!d) {
		errs_add(errs, peers_dir, 0, "%s", strerror(errno));
		return -1;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL && n < 100000;) {
		size_t len = strlen(e->d_name), k = sizeof(suffix) - 1;

		if (len <= k || strcmp(e->d_name + len - k, suffix) != 0 || !spiffe_domain_valid(e->d_name, len - k))
			continue;
		mem_grow(&domains, &cap, n + 1, sizeof(*domains));
		domains[n++] = mem_strndup(e->d_name, len - k);
	}
	closedir(d);
	if (n > 0)
		qsort(domains, n, sizeof(*domains), by_bytes);
	for (size_t i = 0; i < n; i++) {
		show_one(peers_dir, domains[i], fn, ctx);
		mem_free(domains[i]);
	}
	mem_free(domains);
	return (int)n;
}
