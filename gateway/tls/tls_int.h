/* SPDX-License-Identifier: Apache-2.0 */
/* Inside gateway/tls: what env.c, conn.c and verify.c share. */
#ifndef GATEWAY_TLS_TLS_INT_H
#define GATEWAY_TLS_TLS_INT_H

#include <openssl/ssl.h>

#include "gateway/keys/client.h"
#include "gateway/tls/tls.h"

enum { TLS_CTX_CLIENT, TLS_CTX_SERVER, TLS_CTX_INSIDE, TLS_CTX_ENROL, TLS_CTXS };

struct tls_env {
	unsigned refs, turns;            /* turns: how often trust changed under it */
	bool replaced;                   /* its bundles may be old */
	int64_t skew_s;
	SSL_CTX *ctx[TLS_CTXS];          /* INSIDE, ENROL: NULL without a certificate for it */
	char *enrol_host;                /* NULL: no such service */
	struct svid_bundle **bundles;
	size_t nbundles;
};

enum tls_phase { TLS_HANDSHAKING, TLS_OPEN, TLS_BROKEN };

struct tls_conn {
	struct tls_env *env;
	SSL *ssl;
	BIO *bio;                        /* owned by ssl */
	int fd;
	uint8_t kind;                    /* enum tls_kind */
	uint8_t accept;                  /* TLS_ACCEPT_*; ENROL alone once that was asked for */
	uint8_t phase;                   /* enum tls_phase */
	uint8_t alpn;                    /* enum tls_alpn */
	bool short_read;                 /* the last recv gave less than was asked: nothing more for now */
	bool drained;                    /* the last tls_read left nothing that could be read now */
	bool more;                       /* another record follows at once */
	bool want_write;
	bool eof;
	bool no_crl;                     /* tls_no_crl() */
	unsigned turn;                   /* of env, when the far end was verified */
	bool post_handshake;             /* such a message was seen since the flag was cleared */
	uint8_t budget;                  /* calls for post-handshake messages that are left (case 58) */
	uint32_t budget_s;               /* when that was last refilled, monotonic seconds */
	uint32_t records;                /* written under the present key, about */
	int io_errno;
	int alert;                       /* received, fatal; -1 none */
	struct keys_park park;
	struct svid_info *peer;          /* NULL until a certificate came */
	enum svid_reason reason;
	const char *host;                /* EST client: the name that the server proves; borrowed of ssl */
	const char *token;               /* after a failure; static */
	char *detail;
	uint8_t *chain_der;              /* made when first asked for */
	struct svid_der chain[SVID_MAX_CHAIN];
	size_t nchain;
};

/* conn.c: hooks that env.c puts into its contexts. */
int tls_conn_on_client_hello(SSL *ssl, int *alert, void *arg);
int tls_conn_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg);
int tls_conn_on_sni(SSL *ssl, int *alert, void *arg);
void tls_conn_on_info(const SSL *ssl, int where, int value);
/* bio.c: the socket as OpenSSL sees it; NULL when out of memory. */
BIO *tls_bio_new(struct tls_conn *t);
/* verify.c: in place of OpenSSL's own chain verification. */
int tls_verify_chain(X509_STORE_CTX *ctx, void *arg);

#endif
