/* SPDX-License-Identifier: Apache-2.0 */
/* Trust material read again from its files, by master. */
#include <string.h>

#include "gateway/base/buf.h"
#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "gateway/config/config.h"

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
