/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA's side of EST (RFC 7030): who may have a certificate for what, decided from what the requester itself can prove. For the ca role; no HTTP and no
 * messages here. Whoever hands a request over is not believed: the chain is verified here, the token is compared here, and a certificate, which is
 * public, is worth nothing without its key.
 *
 *     first    a token (pki/token.h): once, for its name
 *     renewal  the certificate that is to be renewed, and its key's word for the new one (RFC 7030 4.2.2): the request has the same key; or its attribute
 *              challengePassword is the base64 of a signature by the old key over "sallyport renewal 1", a zero octet and the new SubjectPublicKeyInfo in DER,
 *              by ECDSA or PKCS#1 v1.5 with SHA-256, from 192 bits of security upwards with SHA-384, or by Ed25519
 *
 * A certificate has one live successor at most. What was handed out is handed out again to the same key, so that a lost answer costs nothing.
 */
#ifndef PKI_EST_H
#define PKI_EST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"
#include "gateway/base/spiffe.h"
#include "pki/ca.h"
#include "pki/svid.h"

enum est_status { /* as HTTP answers it: 200, 400, 401, 403, 409, 503 */
	EST_OK, EST_BAD_REQUEST, EST_UNAUTHORIZED, EST_FORBIDDEN, EST_CONFLICT, EST_UNAVAILABLE,
};

#define EST_CERTS_MAX 8
struct est_certs {
	struct svid_der certs[EST_CERTS_MAX];
	size_t n;
	uint8_t *data;
};
void est_certs_fini(struct est_certs *c);

/* The CA of a store, opened; its lock is held during each call below and not between them. NULL with faults. */
struct est;
struct est_options {
	struct ca_keys keys;                /* only used during est_open() */
	int64_t workload_s, gateway_s;      /* life of what is issued and renewed; 0: the CA's default */
};
struct est *est_open(const char *dir, const struct est_options *o, struct errs *errs);
void est_close(struct est *e);              /* wipes; NULL is a no-op */

struct est_request {
	bool renewal;
	int64_t now;                        /* seconds since the epoch */
	const void *password;               /* HTTP Basic; len 0: none */
	size_t password_len;
	const struct svid_der *chain;       /* of the client, leaf first: for renewal */
	size_t nchain;
	const void *csr;                    /* DER or PEM */
	size_t csr_len;
};
struct est_answer {
	enum est_status status;
	const char *reason;                 /* static; for programs: "issued", "renewed", "repeated"; or why not */
	const char *text;                   /* static; one line for the requester; "" when it is EST_OK */
	bool alert;                         /* nobody who plays by the rules comes here (case 94) */
	char id[SPIFFE_ID_MAX + 1];         /* who it is about, as far as it is proved; "" */
	char serial[CA_SERIAL_MAX + 1];     /* of what is handed out; of a refused renewal: of the old one; "" */
	char detail[512];                   /* for the operator; printable */
	struct est_certs certs;             /* with EST_OK: the certificate, the issuing CA */
};
/* out is filled, whatever happens; est_answer_fini(). With EST_UNAVAILABLE nothing was handed out, and the CA is worth opening anew. */
void est_enroll(struct est *e, const struct est_request *r, struct est_answer *out);
void est_answer_fini(struct est_answer *a);

/* RFC 7030 4.1.3: the issuing CA, the roots, and while they change what certifies the new one by the old. 0, or -1 with faults. */
int est_cacerts(struct est *e, struct est_certs *out, struct errs *errs);
/* RFC 7030 4.5.2: what a request may have in it. CsrAttrs, DER, static. */
const uint8_t *est_csrattrs(size_t *len);

struct est_status_info {
	size_t tokens;                      /* that can be used */
	int64_t not_after;                  /* of the issuing CA */
	int64_t crl_until;                  /* of the published CRL; 0: none */
	bool crl_made;                      /* just now, in the place of one past half of its life */
};
/* Also removes what expired, and publishes a new CRL in time (ca_crl_keep()). 0, or -1 with faults. */
int est_sweep(struct est *e, int64_t now, struct est_status_info *out, struct errs *errs);

#endif
