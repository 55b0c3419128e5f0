/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPIFFE X.509-SVIDs (X509-SVID 2–5): who a certificate names, and whether a chain proves it. The one
 * verifier for handshakes (gateway/tls) and for chains that travel with an exchange (gateway/link).
 */
#ifndef PKI_SVID_H
#define PKI_SVID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/spiffe.h"

/* Each failure has its own reason; svid_reason_text() gives the stable token that journal and operator log show. */
enum svid_reason {
	SVID_OK,
	SVID_NO_CERTIFICATE,
	SVID_MALFORMED,         /* not parseable DER */
	SVID_CHAIN_TOO_LONG,    /* more than SVID_MAX_CHAIN certificates or SVID_MAX_BYTES, refused before verification (case 59) */
	SVID_NO_URI_SAN,        /* only a DNS name or CN (case 47) */
	SVID_TWO_URI_SANS,      /* case 44 */
	SVID_BAD_ID,            /* not a SPIFFE ID as spiffe.h has it (cases 45, 46) */
	SVID_CA_LEAF,           /* basicConstraints CA or keyCertSign/cRLSign (case 49) */
	SVID_KEY_USAGE,         /* no digitalSignature */
	SVID_EKU,               /* EKU present without clientAuth/serverAuth as asked (case 43) */
	SVID_UNKNOWN_DOMAIN,    /* no bundle for its trust domain */
	SVID_UNTRUSTED,         /* does not chain to that domain's bundle (case 48 when another domain's CA signed it) */
	SVID_EXPIRED, SVID_NOT_YET_VALID, /* case 52 */
	SVID_REVOKED,
	SVID_NO_CRL,            /* everything else is right: a link may come up with it, quarantined */
	SVID_NAME_CONSTRAINTS,
	SVID_WEAK_KEY,          /* RSA < 2048, curves other than P-256/384/521, Ed25519 allowed; SHA-1/MD5 signatures */
	SVID_OTHER,
	SVID_REASONS,
};
const char *svid_reason_text(enum svid_reason r);

#define SVID_MAX_CHAIN 8
#define SVID_MAX_BYTES 65536

struct svid_bundle;         /* the CAs of one trust domain (one X509_STORE), which never change, and its CRLs; reference-counted, of one thread */
/* From PEM; NULL with *why. Refuses an empty bundle, non-CAs and duplicate keys (case 57). */
struct svid_bundle *svid_bundle_new(const char *domain, const char *pem, const char **why);
struct svid_bundle *svid_bundle_ref(struct svid_bundle *b);
void svid_bundle_unref(struct svid_bundle *b);
const char *svid_bundle_domain(const struct svid_bundle *b);
/* The same CAs: what one of them proved, the other proves, too. */
bool svid_bundle_same_cas(const struct svid_bundle *a, const struct svid_bundle *b);

/*
 * Revocation (RFC 5280 5, 6.3). A bundle's CAs are fixed, its CRLs are not: newer ones are added as they come. A certificate that a known CRL names
 * is refused in both modes, also when that CRL is past its nextUpdate; "required" refuses a leaf for whose issuer there is none in force, too.
 * A CRL of a root, over the CAs below it, is always heeded and never required: roots are offline.
 */
enum svid_revocation { SVID_REV_OFF, SVID_REV_IF_PRESENT, SVID_REV_REQUIRED };
void svid_bundle_set_revocation(struct svid_bundle *b, enum svid_revocation r); /* SVID_REV_OFF at first */
#define SVID_CRL_MAX (4U << 20) /* octets of a CRL file */
/*
 * A CRL file: PEM blocks "X509 CRL", and "CERTIFICATE" for issuers that are not in the bundle. Each CRL is taken when a CA of the bundle, or one below it that
 * may sign CRLs, signed it, and it is newer (crlNumber) than the one known of that issuer. 1: something new was taken; 0: all known or older; -1 with *why (static):
 * malformed, foreign, badly signed or from the future, and nothing was taken. A CRL of an unknown CA beside one of a known CA is passed over: a domain that
 * changes its CA has lists of both in its file before everybody's bundle has both.
 */
int svid_bundle_add_crls(struct svid_bundle *b, const char *pem, size_t len, int64_t now, const char **why);
/* Everything that was taken, as a file again, for another process; mem_free(). NULL: there is none. *len without the NUL. */
char *svid_bundle_crls_pem(const struct svid_bundle *b, size_t *len);
/* Of all that was taken, whatever files it came in: the same for everybody who has the same CRLs. false: there is none. */
bool svid_bundle_crls_digest(const struct svid_bundle *b, uint8_t out[32]);
/* A new bundle of the same domain takes over what its CAs signed of the old one's CRLs. */
void svid_bundle_inherit_crls(struct svid_bundle *to, const struct svid_bundle *from, int64_t now);
struct svid_crl {
	const char *issuer;             /* as svid_cert.subject */
	const char *number;             /* hex; "" */
	int64_t this_update, next_update; /* 0: none said */
	size_t revoked;                 /* entries */
	bool root;                      /* of a self-signed CA */
};
typedef void svid_crl_fn(void *ctx, const struct svid_crl *c);
void svid_bundle_crl_each(const struct svid_bundle *b, svid_crl_fn *on_crl, void *ctx);
/* The same of a file, unverified, for tools. Their number, or -1 with *why. */
int svid_crl_pem_each(const char *pem, size_t len, svid_crl_fn *on_crl, void *ctx, const char **why);
/* When the first of the CRLs that are required ceases to be in force: 0 there is none; INT64_MAX nothing is required. */
int64_t svid_bundle_crl_until(const struct svid_bundle *b);
/* Nothing is required, or a CRL of some issuing CA is in force: certificates of the others are refused one by one (SVID_NO_CRL). */
bool svid_bundle_crl_in_force(const struct svid_bundle *b, int64_t now);

enum svid_purpose { SVID_CLIENT, SVID_SERVER, SVID_ANY };

struct svid_info {
	char id[SPIFFE_ID_MAX + 1];
	char domain[SPIFFE_DOMAIN_MAX + 1];
	int64_t not_before, not_after;  /* seconds since the epoch: of the leaf; not_after is the chain's earliest */
	char serial[64];                /* hex */
	uint8_t sha256[32];             /* of the leaf */
};

typedef struct x509_st svid_x509;   /* OpenSSL's X509 without its headers */

/*
 * Verify a chain, leaf first, at time now (seconds). Picks the bundle among "bundles" by the leaf's trust domain. Fills *out as far as
 * it got (id is "" until known). With SVID_OTHER etc. *detail has static text or OpenSSL's.
 */
enum svid_reason svid_verify(svid_x509 *const *chain, size_t n, struct svid_bundle *const *bundles, size_t nbundles,
    enum svid_purpose purpose, int64_t now, struct svid_info *out, const char **detail);
/* The same for DER certificates (what Client-Cert carries, RFC 9440). */
struct svid_der {
	const uint8_t *p;
	size_t len;
};
enum svid_reason svid_verify_der(const struct svid_der *chain, size_t n, struct svid_bundle *const *bundles, size_t nbundles,
    enum svid_purpose purpose, int64_t now, struct svid_info *out, const char **detail);

/*
 * A chain that verified before against a bundle of the same CAs: only its dates and revocation are looked at again; no signature is. SVID_OK, SVID_EXPIRED,
 * SVID_REVOKED, SVID_NO_CRL, SVID_MALFORMED.
 */
enum svid_reason svid_recheck_der(const struct svid_der *chain, size_t n, const struct svid_bundle *bundle, int64_t now);

/* The leaf's id of a PEM chain, with every SVID check but trust and time; for configuration. 0 or -1 (*why). */
int svid_id_of_pem(const char *pem, char out[SPIFFE_ID_MAX + 1], const char **why);
/* svid_verify() of a PEM chain against one bundle, for any purpose; for configuration. */
enum svid_reason svid_verify_pem(const char *pem, struct svid_bundle *bundle, int64_t now, struct svid_info *out, const char **detail);
/* DNS names of the first certificate of a PEM (for inside listeners): space-separated into out. Their number, or -1 (no certificate, no room, odd octets). */
int svid_dns_names_of_pem(const char *pem, char *out, size_t out_size);

/* Content of a PEM bundle or chain for status and "gwctl pki show": on_cert is called for each, in order, before this returns. */
struct svid_cert {
	const char *subject;            /* "/O=…/CN=…" with \xHH escapes; this and the next two die with the call */
	const char *id;                 /* "" when there is none */
	const char *serial;             /* hex */
	const uint8_t *sha256;          /* 32 octets */
	int64_t not_before, not_after;
	bool ca;
	enum svid_reason reason;        /* as a leaf, without trust and time; a CA says SVID_NO_URI_SAN or SVID_CA_LEAF */
	const char *detail;
};
typedef void svid_pem_fn(void *ctx, const struct svid_cert *c);
/* Number of certificates, or -1 (*why) when the PEM has something else in it. */
int svid_pem_each(const char *pem, svid_pem_fn *on_cert, void *ctx, const char **why);

#endif
