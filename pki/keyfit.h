/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a private key belong to a certificate? Asked in a process of its own, which ends with the answer, so that the
 * asker's memory never holds the key: master opens keys for others and reads none.
 */
#ifndef PKI_KEYFIT_H
#define PKI_KEYFIT_H

#include <stdbool.h>

enum keyfit {
	KEYFIT_OK,
	KEYFIT_OTHER,      /* a key, but of another certificate */
	KEYFIT_ENCRYPTED,
	KEYFIT_NO_KEY,     /* no private key in PEM form */
	KEYFIT_UNKNOWN,    /* could not be found out: not readable, no certificate, no process; not a fault of the pair */
};

/* The first certificate of a PEM against the key in a file, a regular one; a pkcs11: URI's is the keys role's to know. Blocks for about a millisecond. */
enum keyfit keyfit_check(const char *certificate_pem, const char *key_path);

/* The same of a key that is here already: for a process that may hold it for a moment and ends. */
enum keyfit keyfit_pem(const char *certificate_pem, const char *key_pem);
/* Are the first certificates of both for one key? */
bool keyfit_same(const char *certificate_pem, const char *other_pem);

#endif
