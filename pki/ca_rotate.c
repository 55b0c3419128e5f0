/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One CA replaces the other, in steps between which everything works:
 *
 *     begin    the next CA is made; both roots are in the bundle; the old one issues
 *     switch   the next one issues; the old one still signs its CRL
 *     retire   the old root leaves the bundle
 *
 * Each step takes effect when the file "state" is replaced. What must be there before is written before: CRLs, so that none is missing of a CA that
 * issues and none is there of a root that gateways no longer know. What follows from it (books, bundle) is done by ca_settle(), now or on the next open.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>

#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "pki/ca_int.h"
#include "pki/pkifile.h"

static int
take_effect(struct ca *ca, const struct store_state *st, struct errs *errs)
{
	if (store_state_write(&ca->store, st, errs) != 0)
		return -1;
	return ca_load(ca, errs);
}

/* -- status --------------------------------------------------------------------------------------------- */

static void
count(struct ledger *l, const struct ca_gen gens[2], const char *issuer, int64_t now, struct ca_rotation_status *out)
{
	for (uint32_t i = 0, n = ledger_n(l); i < n; i++) {
		struct ca_entry e;

		ca_entry_of(l, gens, i, now, &e);
		if (strcmp(e.issuer, issuer) != 0 || e.state == CA_EXPIRED || e.state == CA_REVOKED)
			continue;
		out->live++;
		out->live_superseded += e.state == CA_SUPERSEDED;
	}
}

static void
status_of(const struct store_state *st, const struct ca_gen gens[2], struct ledger *l, int64_t now,
    struct ca_rotation_status *out)
{
	const struct ca_gen *old = &gens[st->next == 0], *new = &gens[st->next != 0];

	memset(out, 0, sizeof(*out));
	if (st->next == 0 && st->old == 0)
		return;
	out->state = st->next ? CA_ROTATION_BEGUN : CA_ROTATION_SWITCHED;
	memcpy(out->old_issuing, old->issuing_serial, sizeof(out->old_issuing));
	memcpy(out->new_issuing, new->issuing_serial, sizeof(out->new_issuing));
	count(l, gens, out->old_issuing, now, out);
}

int
ca_rotation_status(const char *dir, int64_t now, struct ca_rotation_status *out, struct errs *errs)
{
	struct ca_gen gens[2] = { { 0 }, { 0 } };
	struct ledger *l = NULL;
	struct store_state st;
	struct store s;
	char *path;
	int rc = -1;

	store_init(&s, dir);
	path = store_ca_path(&s, "index");
	memset(out, 0, sizeof(*out));
	if (store_state_read(&s, &st, errs) != 0 || ca_gen_read(&s, st.current, &gens[0], errs) != 0 ||
	    ((st.next || st.old) && ca_gen_read(&s, st.next ? st.next : st.old, &gens[1], errs) != 0) || (l = ledger_open(path, errs)) == NULL)
		goto out;
	status_of(&st, gens, l, now, out);
	rc = 0;
out:
	ledger_close(l);
	ca_gen_fini(&gens[0]);
	ca_gen_fini(&gens[1]);
	mem_free(path);
	store_fini(&s);
	return rc;
}

/* -- begin ---------------------------------------------------------------------------------------------- */

static int
make_next(struct ca *ca, struct ca_birth *b)
{
	uint8_t random[8];
	char hex[17] = "", *tmp, *place = store_gen_path(&ca->store, b->n, "");
	int rc = -1;

	hash_random(random, sizeof(random));
	esc_hex(hex, random, sizeof(random));
	tmp = mem_printf("%s/%u.%s.tmp", ca->store.ca, b->n, hex);
	place[strlen(place) - 1] = 0; /* without the slash */
	b->dir = tmp;
	/* Numbers grow: one above the current that the state does not know was never in the bundle. A crash left it. */
	store_remove_dir(place);
	if (store_make_dir(&ca->store, tmp, b->errs) == 0) {
		if (ca_make(b) == 0) {
			if (rename(tmp, place) == 0 && pkifile_sync_dir(ca->store.ca) == 0)
				rc = 0;
			else
				errs_add(b->errs, place, 0, "cannot put the new CA in its place: %s", strerror(errno));
		}
		if (rc != 0)
			store_remove_dir(tmp);
	}
	mem_free(tmp);
	mem_free(place);
	return rc;
}

int
ca_rotate_begin(struct ca *ca, enum pkey_alg alg, const struct ca_keys *keys, int64_t now, struct errs *errs)
{
	struct ca_birth b = { .store = &ca->store, .domain = ca->domain, .passphrase = ca->passphrase, .alg = alg, .now = now, .errs = errs };
	struct store_state st = ca->state;
	int rc;

	if (st.next || st.old) {
		errs_add(errs, ca->store.ca, 0, "%s", st.next ? "a replacement has begun already; next is \"gwctl pki rotate-ca --switch\"" :
		    "a replacement is under way; next is \"gwctl pki rotate-ca --retire\"");
		return -1;
	}
	b.old_root = ca->gen[0].root;
	b.old_root_key = ca_root_key(ca, &ca->gen[0], keys, errs);
	if (b.old_root_key == NULL)
		return -1;
	b.n = st.current + 1;
	rc = make_next(ca, &b);
	EVP_PKEY_free(b.old_root_key);
	if (rc != 0)
		return -1;
	st.next = b.n;
	st.sequence++;
	return take_effect(ca, &st, errs);
}

/* -- switch --------------------------------------------------------------------------------------------- */

int
ca_rotate_switch(struct ca *ca, const struct ca_keys *keys, int64_t now, struct errs *errs)
{
	struct ca_crl_request r = { .now = now, .keys = keys };
	struct store_state st = ca->state;
	struct buf lines;
	int rc;

	if (st.next == 0) {
		errs_add(errs, ca->store.ca, 0, "%s", st.old ? "the new CA issues already; next is \"gwctl pki rotate-ca --retire\"" :
		    "no replacement has begun; first \"gwctl pki rotate-ca --begin\"");
		return -1;
	}
	/* Before it issues anything: where revocation is required, nothing is believed of a CA without a CRL. */
	buf_init(&lines, 0);
	rc = ca_publish(ca, &lines, true, &r, NULL, errs);
	buf_fini(&lines);
	st.old = st.current;
	st.current = st.next;
	st.next = 0;
	return rc == 0 ? take_effect(ca, &st, errs) : -1;
}

/* -- retire --------------------------------------------------------------------------------------------- */

int
ca_rotate_retire(struct ca *ca, bool force, int64_t now, struct errs *errs)
{
	struct ca_crl_request r = { .now = now };
	struct store_state st = ca->state;
	struct ca_rotation_status status;
	struct buf lines;
	int rc;

	if (st.old == 0) {
		errs_add(errs, ca->store.ca, 0, "%s", st.next ? "the old CA still issues; first \"gwctl pki rotate-ca --switch\"" :
		    "there is no old CA to retire");
		return -1;
	}
	status_of(&st, ca->gen, ca->ledger, now, &status);
	if (status.live && !force) {
		errs_add(errs, ca->store.ca, 0, "%zu certificate%s of the old CA %s still in force, %zu of them with a successor (\"gwctl pki list --issuer old\"): "
		    "renew them and wait for their end; or revoke them, or --force, which cuts what still runs on them", status.live, status.live == 1 ? "" : "s",
		    status.live == 1 ? "is" : "are", status.live_superseded);
		return -1;
	}
	st.old = 0;
	st.sequence++;
	/* The CRL file first: who has a bundle without the old root refuses a file with its CRL. */
	buf_init(&lines, 0);
	rc = ca_publish(ca, &lines, false, &r, NULL, errs);
	buf_fini(&lines);
	return rc == 0 ? take_effect(ca, &st, errs) : -1;
}
