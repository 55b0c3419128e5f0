/* SPDX-License-Identifier: Apache-2.0 */
/* A real keys role in a process of its own, certificates of two domains, and pairs of TLS ends over socket pairs. */
#ifndef TESTS_UNIT_TLS_BED_H
#define TESTS_UNIT_TLS_BED_H

#include <sys/types.h>

#include <openssl/ssl.h>

#include "gateway/tls/tls.h"
#include "tests/unit/pki/zoo.h"

/* First thing in main(): in a keys process it does not return. */
void bed_child(int argc, char **argv);

/* The keys role. Its master and one worker's channel are ours; control too, when asked for. */
struct bed_keys {
	pid_t pid;
	int master, worker, control;
};
struct bed_key {
	unsigned number;
	EVP_PKEY *key;
};
struct bed_keys bed_keys_start(const struct bed_key *keys, size_t n);
/* One more worker's channel, by message to a running role. */
int bed_keys_channel(struct bed_keys *k, unsigned index);
void bed_keys_add(struct bed_keys *k, unsigned number, EVP_PKEY *key);
int bed_keys_stop(struct bed_keys *k); /* its exit code */
void bed_keys_kill(struct bed_keys *k);

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
	bool free_when_parked;
};
void bed_wake(void *end);
/* Drives all of them until each is done or failed, and the keys channel (-1: none) beside. Fails the test after 10 s. */
void bed_run(struct bed_end *const *ends, size_t n, int keys_fd);
void bed_pair(int fds[2]);
void bed_end_free(struct bed_end *e);

#endif
