/* SPDX-License-Identifier: Apache-2.0 */
/* Domains with certificates, and TLS ends over socket pairs, beside the keys role of tests/unit/keys/bed.h. */
#ifndef TESTS_UNIT_TLS_BED_H
#define TESTS_UNIT_TLS_BED_H

#include <openssl/ssl.h>

#include "gateway/tls/tls.h"
#include "tests/unit/keys/bed.h"
#include "tests/unit/pki/zoo.h"

/* A domain: root CA, bundle. Times are around the real now. */
struct bed_domain {
	const char *name;
	struct zoo_cert ca;
	struct svid_bundle *bundle;
};
struct bed_domain bed_domain(const char *name);
void bed_domain_free(struct bed_domain *d);
/* A leaf with this SPIFFE ID; z may change anything of it (NULL: nothing). */
struct zoo_cert bed_leaf(const struct bed_domain *d, const char *id, enum zoo_key key, const struct zoo *z);
struct tls_env *bed_env(const struct bed_domain *d, const struct zoo_cert *leaf, struct svid_bundle *const *bundles, size_t n);

/* One end of a connection: ours, or OpenSSL's own as a stranger would use it. */
struct bed_end {
	struct tls_conn *t;
	SSL *raw;
	int fd;
	enum tls_status st;
	int woken;      /* wakes not yet acted on */
	unsigned parked;
};
void bed_wake(void *end);
/* Drives all of them until each is done or failed, and the keys channel (-1: none) beside. Fails the test after 10 s. */
void bed_run(struct bed_end *const *ends, size_t n, int keys_fd);
void bed_pair(int fds[2]);
void bed_end_free(struct bed_end *e);

#endif
