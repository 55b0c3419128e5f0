/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates as no CA should make them, for tests and fuzzing. Aborts when it cannot. */
#ifndef TESTS_UNIT_PKI_ZOO_H
#define TESTS_UNIT_PKI_ZOO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>

enum zoo_key { ZOO_P256, ZOO_P384, ZOO_ED25519, ZOO_RSA2048, ZOO_RSA1024, ZOO_SECP256K1, ZOO_ED448, ZOO_FIXED /* the same Ed25519 key each time */ };

struct zoo_name { /* one SAN; type is GEN_URI, GEN_DNS, … */
	int type;
	const char *p;
	size_t len; /* 0: strlen(p) */
};

struct zoo_ext { /* one more extension: as openssl.cnf has it, or raw */
	int nid;
	const char *value;
	const uint8_t *der;
	size_t der_len;
};

struct zoo {
	const char *cn;         /* NULL: empty subject */
	struct zoo_name san[4]; /* until type is 0 and p NULL */
	/* Values as in openssl.cnf; NULL: the default for a leaf or CA; "": the extension is left out. */
	const char *bc, *ku, *eku, *nc;
	struct zoo_ext more[2];
	int64_t from, until;    /* 0: zoo_now minus an hour, plus a day (a CA: ten years) */
	enum zoo_key key;
	const char *digest;     /* NULL: SHA-256 */
	bool ca;
	unsigned serial;        /* 0: 1 */
	size_t padding;         /* octets of a private extension */
};

struct zoo_cert {
	X509 *x;
	EVP_PKEY *key;
};

extern const int64_t zoo_now;

/* issuer NULL: self-signed. */
struct zoo_cert zoo_make(const struct zoo *z, const struct zoo_cert *issuer);
void zoo_free(struct zoo_cert *c);
/* A CA of a domain with URI constraints, signed by issuer or by itself. */
struct zoo_cert zoo_ca(const char *domain, const struct zoo_cert *issuer);
char *zoo_pem(X509 *const *certs, size_t n); /* mem_free() */

struct zoo_crl {
	unsigned number;        /* 0: none */
	int64_t from, until;    /* 0: zoo_now minus an hour, plus a day; until < 0: no nextUpdate */
	unsigned revoked[8];    /* serial numbers, until 0 */
	unsigned many;          /* and so many from 1000000 on */
	int reason;             /* of each: CRL_REASON_…; 0: none said */
	int nid, entry_nid;     /* one more extension, and one of the first entry, whose value is an empty SEQUENCE */
	bool critical;          /* these two */
	bool no_key_id;
	const char *digest;     /* NULL: SHA-256 */
};
X509_CRL *zoo_crl(const struct zoo_crl *z, const struct zoo_cert *issuer);
char *zoo_crl_pem(X509_CRL *const *crls, size_t n, X509 *const *certs, size_t ncerts); /* mem_free() */

#endif
