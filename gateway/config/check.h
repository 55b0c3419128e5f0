/* SPDX-License-Identifier: Apache-2.0 */
/* The pass after parsing: cross references, derived members, the files that the config names. Every fault at once. */
#ifndef GATEWAY_CONFIG_CHECK_H
#define GATEWAY_CONFIG_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/addr.h"
#include "gateway/base/errs.h"
#include "gateway/base/spiffe.h"
#include "gateway/config/config.h"
#include "gateway/config/origin.h"
#include "gateway/config/source.h"

struct check {
	struct config *c;
	const struct source *source;
	const struct origins *origins;
	struct errs *errs;
	bool files;             /* false: open no file, ask for no user or interface; what comes from those stays empty */
	bool sidecar;           /* there is an uplink */
	struct addr_cidr *own;  /* addresses of this machine */
	size_t nown;
};

/* All of it. Members that could not be parsed are NULL and already reported. */
void check_config(struct check *ck);

/* Parts of it, in the order in which they depend on each other. */
void check_identity(struct check *ck);
void check_peers(struct check *ck);
void check_services(struct check *ck);
void check_listeners(struct check *ck);
void check_enrol(struct check *ck);
void check_hsm(struct check *ck);
void check_peer_trust(struct check *ck, struct config_peer *p); /* bundle and CRL */

/* A private key that master gives to the keys role: can it be, and is it this certificate's? pem NULL: not known. */
void check_key(struct check *ck, char *const *member, const void *owner, const char *certificate, const char *pem);
/* The content of a CRL file that "bundle" (borrowed) proves; a warning where it is not there yet. NULL: none, or a fault. */
char *check_crl(struct check *ck, char *const *member, const void *owner, const char *domain, const char *bundle_pem);

/* At the line that "member" was read from; where it is not written, at that of "owner" (a struct of a list or section). */
void check_fault(struct check *ck, const void *member, const void *owner, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void check_warn(struct check *ck, const void *member, const void *owner, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Is the member written in the file? */
bool check_written(const struct check *ck, const void *member);

/* Names of one kind: their grammar, and that each is there once. */
struct check_name {
	char *const *member;
	const void *owner;
};
void check_names(struct check *ck, struct check_name *names, size_t n, const char *kind);

/* The content of a PEM file of certificates, or NULL and a fault. */
char *check_pem(struct check *ck, char *const *member, const void *owner);
/* Parse a SPIFFE ID that must be in "domain" (NULL: not known, skip). False and a fault when it is not. */
bool check_id(struct check *ck, char *const *member, const char *domain, const char *whose, struct spiffe_id *out);
/* The listener that is bound to the address, or NULL. */
const struct config_listener *check_own_listener(const struct check *ck, const struct addr *a);
/* The same text twice in a list of n elements of "size" bytes that start with a char *. */
void check_once(struct check *ck, const void *array, size_t n, size_t size, const char *option);

#endif
