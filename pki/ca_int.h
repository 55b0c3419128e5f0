/* SPDX-License-Identifier: Apache-2.0 */
/* What the ca_*.c share; nothing else includes this. */
#ifndef PKI_CA_INT_H
#define PKI_CA_INT_H

#include <openssl/x509.h>

#include "pki/ca.h"
#include "pki/ledger.h"
#include "pki/store.h"
#include "pki/svid.h"

#define CA_PEM_MAX (1 << 20)
#define CA_BACKDATE_CA_S 86400    /* a peer's clock may be behind ours */

/* One CA of the store: a root and the issuing CA below it. */
struct ca_gen {
	unsigned number;            /* 0: there is none */
	X509 *root, *issuing;
	char *root_pem, *issuing_pem; /* these certificates and nothing else */
	char root_serial[CA_SERIAL_MAX + 1], issuing_serial[CA_SERIAL_MAX + 1];
	EVP_PKEY *key;              /* of the issuing CA; NULL until it is needed */
};

struct ca {
	struct store store;
	struct store_state state;
	struct ledger *ledger;
	char *domain;
	char *passphrase;           /* or NULL */
	struct ca_gen gen[2];       /* the one that issues, and the next or old one */
	struct svid_bundle *bundle; /* the issuing one's root */
};

/* Text of a file; with secret as pkifile_read_secret(). NULL with a fault. */
char *ca_read_text(const char *path, bool secret, struct errs *errs);
/* Exactly one certificate of a file, and its PEM. NULL with a fault. */
X509 *ca_read_cert(const char *path, char **pem_out, struct errs *errs);
/* The key of a certificate. NULL with a fault. */
EVP_PKEY *ca_read_key(const char *path, const char *passphrase, X509 *x, struct errs *errs);
/* The issuing key of a generation, read at first use. 0, or -1 with a fault. */
int ca_need_key(struct ca *ca, struct ca_gen *g, struct errs *errs);
/* The root's, from the store or where keys say. NULL with a fault that says where to put it. */
EVP_PKEY *ca_root_key(struct ca *ca, const struct ca_gen *g, const struct ca_keys *keys, struct errs *errs);
/* Certificates of the nth CA, without keys. 0, or -1 with faults; ca_gen_fini() in both cases. */
int ca_gen_read(const struct store *s, unsigned n, struct ca_gen *g, struct errs *errs);
void ca_gen_fini(struct ca_gen *g);
/* The domain is the CA's own SPIFFE ID, so that no file beside it can say otherwise. NULL: it has none. mem_free(). */
char *ca_domain_of(X509 *x);
/* Everything after the lock was taken: which CAs there are, their certificates, the books. */
int ca_load(struct ca *ca, struct errs *errs);

/* A root, an issuing CA and their keys as files in a new directory tmp, for generation n. old (with its key): also a cross certificate. */
struct ca_birth {
	const struct store *store;
	const char *dir, *domain, *passphrase;
	unsigned n;
	enum pkey_alg alg;
	X509 *old_root;
	EVP_PKEY *old_root_key;
	int64_t now;
	struct errs *errs;
};
int ca_make(const struct ca_birth *b);
/* The line of a CA's certificate in the books. */
int ca_put_ca(struct buf *lines, const char *kind, X509 *x, const char *issuer, struct errs *errs);
/* Books and bundle as the state has it: what a crash left to be done. 0, or -1 with faults. */
int ca_settle(struct ca *ca, struct errs *errs);
/* PEM of the roots that the state names. */
char *ca_roots_pem(const struct store *s, const struct store_state *st, struct errs *errs);

/* The CRL file of the CA that issues, and of the other one if so asked, under a new number; the books are added to as "lines" says in the same step. */
int ca_publish(struct ca *ca, struct buf *lines, bool other, const struct ca_crl_request *r, struct ca_crl_done *out, struct errs *errs);

/* gens: the two that the state names. */
void ca_entry_of(struct ledger *l, const struct ca_gen gens[2], uint32_t i, int64_t now, struct ca_entry *out);

#endif
