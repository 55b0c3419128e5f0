/* SPDX-License-Identifier: Apache-2.0 */
#include "pki/pairing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "pki/pkifile.h"

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
	};

	return (unsigned)r < PAIRING_RESULTS ? token[r] : "io";
}

static char *
place(const struct pairing_request *r, const char *domain, const char *suffix)
{
	return mem_printf("%s/%s.%s", r->peers_dir, domain, suffix);
}

static enum pairing_result
refuse(struct errs *errs, enum pairing_result r, const char *text)
{
	errs_add(errs, NULL, 0, "refused (%s): %s", pairing_token(r), text);
	return r;
}

/* -- checks of the file alone ------------------------------------------------------------------------ */

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
	if (!pairfile_code_matches(out, r->code))
		return refuse(errs, PAIRING_WRONG_CODE,
		    "the code is not this file's; call the peer's operator, who reads it from \"gwctl pair show\" of the file as it was sent");
	return PAIRING_OK;
}

/* -- checks against what is installed ---------------------------------------------------------------- */

/* Without a pairing, files of these names were put there by hand; content that would be the same does no harm. */
static enum pairing_result
check_unpaired(const struct pairing_request *r, const struct pairfile *p, struct errs *errs)
{
	char *path = place(r, p->domain, "pem"), *there = pkifile_read(path, PAIRFILE_MAX);
	enum pairing_result res = PAIRING_OK;

	if (there ? strcmp(there, p->bundle_pem) != 0 : errno != ENOENT) {
		res = PAIRING_IN_THE_WAY;
		errs_add(errs, path, 0, "refused (%s): no pairing put this file here, and it is not the peer's bundle; move it away, then accept again",
		    pairing_token(res));
	}
	mem_free(there);
	mem_free(path);
	return res;
}

static enum pairing_result
check_paired(const char *path, const struct pairing_request *r, const struct pairfile *p, const char *text, struct errs *errs)
{
	struct pairfile before;
	const char *why;
	enum pairing_result res = PAIRING_OK;

	if (pairfile_read(&before, text, strlen(text), &why) != PAIRFILE_OK) {
		errs_add(errs, path, 0, "refused (%s): what is known of the present pairing cannot be read (%s); move it away to pair anew",
		    pairing_token(PAIRING_IN_THE_WAY), why);
		return PAIRING_IN_THE_WAY;
	}
	if (memcmp(before.key, p->key, sizeof(p->key)) != 0) {
		res = PAIRING_OTHER_KEY;
		errs_add(errs, path, 0,
		    "refused (%s): %s is already paired, by another pairing key; if its operator confirms a new key, remove %s/%s.* and accept again",
		    pairing_token(res), p->domain, r->peers_dir, p->domain);
	} else if (strcmp(before.code, p->code) == 0) {
		res = refuse(errs, PAIRING_REPLAYED, "this very file was accepted before; nothing is to be done");
	} else if (p->created <= before.created) {
		res = refuse(errs, PAIRING_REPLAYED, "the file is older than the one accepted last; ask the peer to export a new one");
	}
	pairfile_fini(&before);
	return res;
}

static enum pairing_result
check_installed(const struct pairing_request *r, const struct pairfile *p, struct errs *errs)
{
	char *path = place(r, p->domain, "pair"), *text = pkifile_read(path, PAIRFILE_MAX);
	enum pairing_result res;

	if (text) {
		res = check_paired(path, r, p, text, errs);
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
	enum pairing_result res = check_file(r, out, errs);

	return res == PAIRING_OK ? check_installed(r, out, errs) : res;
}

/* -- installing ---------------------------------------------------------------------------------------- */

static void
put_list(struct buf *b, const char *name, char *const *list, size_t n)
{
	buf_printf(b, "  %s = [ ", name);
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s\"%s\"", i ? ", " : "", list[i]);
	buf_puts(b, " ];\n");
}

/* None of the texts can hold a quote: names, ids and addresses were parsed. */
char *
pairing_entry(const struct pairing_request *r, const struct pairfile *p)
{
	struct buf b;

	buf_init(&b, 0);
	buf_puts(&b, "{\n");
	if (r->name)
		buf_printf(&b, "  name = \"%s\";\n", r->name);
	else
		buf_printf(&b, "  name = \"%.*s\";\n", (int)strcspn(p->domain, "."), p->domain);
	buf_printf(&b, "  domain = \"%s\";\n", p->domain);
	buf_printf(&b, "  bundle = \"%s/%s.pem\";\n", r->bundle_dir, p->domain);
	put_list(&b, "gateways", p->gateways, p->ngateways);
	if (!r->no_dial && p->naddresses > 0) {
		put_list(&b, "dial", p->addresses, p->naddresses);
		if (r->reverse)
			put_list(&b, "dial_reverse", p->addresses, p->naddresses);
	}
	buf_puts(&b, "}\n");
	return buf_steal(&b);
}

static int
put(const struct pairing_request *r, const char *domain, const char *suffix, const char *text, size_t len, struct errs *errs)
{
	char *path = place(r, domain, suffix);
	int rc = pkifile_replace(path, 0644, text, len);

	if (rc != 0)
		errs_add(errs, path, 0, "cannot write: %s", strerror(errno));
	mem_free(path);
	return rc;
}

/* Two gwctl at once: the second one sees what the first installed. */
static int
lock_peers(const struct pairing_request *r, struct errs *errs)
{
	int fd = -1;

	if ((mkdir(r->peers_dir, 0755) == 0 || errno == EEXIST) &&
	    (fd = open(r->peers_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 && flock(fd, LOCK_EX) == 0)
		return fd;
	errs_add(errs, r->peers_dir, 0, "%s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

enum pairing_result
pairing_accept(const struct pairing_request *r, struct pairfile *out, struct errs *errs)
{
	enum pairing_result res = check_file(r, out, errs);
	char *entry;
	int fd;

	if (res != PAIRING_OK)
		return res;
	fd = lock_peers(r, errs);
	if (fd < 0)
		return PAIRING_IO;
	res = check_installed(r, out, errs);
	if (res == PAIRING_OK) {
		entry = pairing_entry(r, out);
		if (put(r, out->domain, "pem", out->bundle_pem, strlen(out->bundle_pem), errs) != 0 ||
		    put(r, out->domain, "conf", entry, strlen(entry), errs) != 0 || put(r, out->domain, "pair", r->text, r->len, errs) != 0)
			res = PAIRING_IO;
		mem_free(entry);
	}
	close(fd);
	return res;
}
