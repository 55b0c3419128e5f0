/* SPDX-License-Identifier: Apache-2.0 */
/* Trust material changes hands: what running processes take over from a newer config without being started anew. */
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "gateway/config/config.h"
#include "gateway/config/options.h"

static void swap(void *a, void *b, size_t n)
{
	uint8_t keep[16];

	memcpy(keep, a, n);
	memcpy(a, b, n);
	memcpy(b, keep, n);
}

static size_t size_of(const struct option *o)
{
	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE:
	case OPTION_TEXTS:
	case OPTION_LIST: return sizeof(void *);
	case OPTION_BOOL: return sizeof(bool);
	case OPTION_CHOICE: return sizeof(int);
	case OPTION_SET: return sizeof(unsigned);
	default: return 0; /* no such row has the flag */
	}
}

/* Rows of lists below are the caller's: which element belongs to which, only he knows. */
static void swap_rows(const struct option_group *g, void *a, void *b)
{
	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];

		if (o->type == OPTION_GROUP) {
			swap_rows(o->group, option_at(o, a), option_at(o, b));
		} else if (o->flags & OPTION_TRUST) {
			swap(option_at(o, a), option_at(o, b), size_of(o));
			if (o->type == OPTION_TEXTS || o->type == OPTION_LIST)
				swap(option_count(o, a), option_count(o, b), sizeof(size_t));
		}
	}
}

static const struct option_group *peers_group(void)
{
	for (size_t i = 0; i < options_config.nrows; i++)
		if (options_config.rows[i].type == OPTION_LIST && !strcmp(options_config.rows[i].name, "peers"))
			return options_config.rows[i].group;
	return NULL;
}

static struct config_peer *find(struct config *c, const struct config_peer *like)
{
	for (size_t i = 0; i < c->npeers; i++)
		if (c->peers[i].uplink == like->uplink && !strcmp(c->peers[i].domain, like->domain))
			return &c->peers[i];
	return NULL;
}

void config_take_trust(struct config *live, struct config *from)
{
	swap_rows(&options_config, live, from);
	for (size_t i = 0; i < live->npeers; i++) {
		struct config_peer *p = &live->peers[i], *new = find(from, p);

		p->removed = !new;
		if (new)
			swap_rows(peers_group(), p, new);
	}
}

static void forget(char **text)
{
	mem_free(*text);
	*text = NULL;
}

struct config *config_reread_trust(const struct config *running, struct errs *errs)
{
	struct origins none = { 0 };
	struct check ck = { .origins = &none, .errs = errs, .files = true };
	size_t before = errs->errors;
	const char *why;
	struct buf image;

	buf_init(&image, 0);
	config_encode(running, &image);
	ck.c = config_decode(image.data, image.len, &why);
	buf_fini(&image);
	if (!ck.c) {
		errs_add(errs, running->file, 0, "%s", why);
		return NULL;
	}
	ck.sidecar = ck.c->npeers > 0 && ck.c->peers[0].uplink;
	forget(&ck.c->identity.certificate_pem);
	forget(&ck.c->identity.bundle_pem);
	forget(&ck.c->identity.crl_pem);
	forget(&ck.c->identity.id);
	forget(&ck.c->inside.certificate_pem);
	forget(&ck.c->enrol.certificate_pem);
	check_identity(&ck);
	check_enrol(&ck);
	for (size_t i = 0; i < ck.c->npeers; i++) {
		forget(&ck.c->peers[i].bundle_pem);
		forget(&ck.c->peers[i].crl_pem);
		check_peer_trust(&ck, &ck.c->peers[i]);
	}
	if (ck.c->identity.id && strcmp(ck.c->identity.id, running->identity.id) != 0)
		errs_add(errs, running->file, 0, "\"%s\" is now for \"%s\" and not \"%s\" any more; \"gwctl reload\" takes it over",
		    running->identity.certificate, ck.c->identity.id, running->identity.id);
	if (errs->errors != before) {
		config_free(ck.c);
		return NULL;
	}
	return ck.c;
}

void config_trust_files(const struct config *c, void (*fn)(void *ctx, const char *path), void *ctx)
{
	const char *const own[] = {
		c->identity.certificate, c->identity.key, c->identity.bundle, c->identity.crl, c->inside.certificate, c->inside.key,
		c->enrol.certificate, c->enrol.key,
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] && strncmp(own[i], "pkcs11:", 7) != 0)
			fn(ctx, own[i]);
	for (size_t i = 0; i < c->npeers; i++) {
		if (c->peers[i].uplink)
			continue;
		fn(ctx, c->peers[i].bundle);
		if (c->peers[i].crl)
			fn(ctx, c->peers[i].crl);
	}
}
