/* SPDX-License-Identifier: Apache-2.0 */
/* A real keys role in a process of its own. */
#ifndef TESTS_UNIT_KEYS_BED_H
#define TESTS_UNIT_KEYS_BED_H

#include <stddef.h>
#include <sys/types.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

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
/* 0: the default. For the next start. */
extern unsigned bed_signatures_per_s;
struct bed_keys bed_keys_start(const struct bed_key *keys, size_t n);
/* One more worker's channel, by message to a running role. */
int bed_keys_channel(struct bed_keys *k, unsigned index);
void bed_keys_add(struct bed_keys *k, unsigned number, EVP_PKEY *key);
void bed_keys_certificate(struct bed_keys *k, unsigned number, X509 *cert);
int bed_keys_stop(struct bed_keys *k); /* its exit code */
void bed_keys_kill(struct bed_keys *k);

#endif
