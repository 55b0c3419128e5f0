/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between a worker and the keys role: a codec without I/O. One signature per request; a
 * request names its key twice, by number and by a fingerprint of its public key, so that old and new
 * certificates can be in use side by side while a key is replaced. A certificate request (RFC 2986) is asked
 * for by number alone: what it says comes from that key's current certificate, never from who asks.
 */
#ifndef GATEWAY_KEYS_PROTO_H
#define GATEWAY_KEYS_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum keys_msg {
	KEYS_MSG_SIGN = 160,  /* worker -> keys */
	KEYS_MSG_SIGNED,      /* keys -> worker */
	KEYS_MSG_CSR,         /* worker -> keys */
	KEYS_MSG_CSR_DONE,    /* keys -> worker */
};

/* Numbers of keys: what the configuration has. */
enum keys_number {
	KEYS_IDENTITY,        /* identity.key: links, and inside listeners without a key of their own */
	KEYS_INSIDE,          /* inside.key */
	KEYS_ENROL,           /* enrol.key */
	KEYS_NUMBERS = 64,    /* the greatest number, and one */
};

enum keys_status {
	KEYS_OK,
	KEYS_NO_KEY,          /* no key of that number and fingerprint */
	KEYS_BAD_SCHEME,      /* the key cannot make that kind of signature */
	KEYS_REFUSED,         /* not a TLS 1.3 CertificateVerify: the channel is closed after this */
	KEYS_FAILED,          /* the library failed */
	KEYS_BUSY,            /* this worker asks too often */
	KEYS_AWAY,            /* the key is in an HSM that does not answer */
	KEYS_FIXED,           /* no new key in its place: it is in an HSM */
	KEYS_STATUSES,
};
const char *keys_status_text(unsigned status);

/* RFC 8446 4.2.3 SignatureScheme: those that we use. */
enum keys_scheme {
	KEYS_ECDSA_P256_SHA256 = 0x0403,
	KEYS_ECDSA_P384_SHA384 = 0x0503,
	KEYS_ECDSA_P521_SHA512 = 0x0603,
	KEYS_RSA_PSS_SHA256 = 0x0804,
	KEYS_RSA_PSS_SHA384 = 0x0805,
	KEYS_RSA_PSS_SHA512 = 0x0806,
	KEYS_ED25519 = 0x0807,
};

#define KEYS_ID_LEN 16        /* leading octets of a SHA-256 over the public key, see ident.h */
#define KEYS_TBS_MAX 192      /* the longest CertificateVerify input is 146 octets */
#define KEYS_SIG_MAX 1024     /* RSA 8192 */
#define KEYS_SIGN_MAX (16 + KEYS_ID_LEN + KEYS_TBS_MAX)
#define KEYS_SIGNED_MAX (16 + KEYS_SIG_MAX)
#define KEYS_CSR_LEN 16
#define KEYS_CSR_MAX 32768    /* DER: a certificate's names, a key and two signatures */
#define KEYS_CSR_DONE_MAX (16 + KEYS_CSR_MAX)

struct keys_sign {
	uint64_t id;          /* chosen by the worker, returned as it is */
	uint16_t key;
	uint16_t scheme;
	uint8_t key_id[KEYS_ID_LEN];
	const uint8_t *tbs;   /* into the message */
	size_t tbs_len;
};
struct keys_signed {
	uint64_t id;
	uint16_t status;
	const uint8_t *sig;   /* into the message; only with KEYS_OK */
	size_t sig_len;
};

#define KEYS_CSR_NEW_KEY 1    /* for a new key; the old one's signature over it goes along, see csr.h */
struct keys_csr {
	uint64_t id;          /* chosen by the worker, returned as it is */
	uint16_t key;
	uint16_t flags;
};
struct keys_csr_done {
	uint64_t id;
	uint16_t status;
	const uint8_t *der;   /* into the message; only with KEYS_OK */
	size_t der_len;
};

/* Write a message of at most KEYS_SIGN_MAX / KEYS_SIGNED_MAX / … octets; return its length, or 0 when it is too long. */
size_t keys_proto_put_sign(uint8_t out[KEYS_SIGN_MAX], const struct keys_sign *m);
size_t keys_proto_put_signed(uint8_t out[KEYS_SIGNED_MAX], const struct keys_signed *m);
/* 0, or -1 when malformed. */
int keys_proto_get_sign(struct keys_sign *m, const uint8_t *p, size_t len);
int keys_proto_get_signed(struct keys_signed *m, const uint8_t *p, size_t len);

size_t keys_proto_put_csr(uint8_t out[KEYS_CSR_LEN], const struct keys_csr *m);
size_t keys_proto_put_csr_done(uint8_t out[KEYS_CSR_DONE_MAX], const struct keys_csr_done *m);
int keys_proto_get_csr(struct keys_csr *m, const uint8_t *p, size_t len);
int keys_proto_get_csr_done(struct keys_csr_done *m, const uint8_t *p, size_t len);

/* True for exactly the input of a TLS 1.3 CertificateVerify (RFC 8446 4.4.3), client's or server's, with a transcript hash of 32 or 48 octets. */
bool keys_proto_is_certificate_verify(const uint8_t *tbs, size_t len);

#endif
