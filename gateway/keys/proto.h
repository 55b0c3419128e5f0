/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between a worker and the keys role: a codec without I/O. One signature per request; a
 * request names its key twice, by number and by a fingerprint of its public key, so that old and new
 * certificates can be in use side by side while a key is replaced.
 */
#ifndef GATEWAY_KEYS_PROTO_H
#define GATEWAY_KEYS_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum keys_msg {
	KEYS_MSG_SIGN = 160,  /* worker -> keys */
	KEYS_MSG_SIGNED,      /* keys -> worker */
};

enum keys_status {
	KEYS_OK,
	KEYS_NO_KEY,          /* no key of that number and fingerprint */
	KEYS_BAD_SCHEME,      /* the key cannot make that kind of signature */
	KEYS_REFUSED,         /* not a TLS 1.3 CertificateVerify: the channel is closed after this */
	KEYS_FAILED,          /* the library failed */
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

/* Write a message of at most KEYS_SIGN_MAX / KEYS_SIGNED_MAX octets; return its length, or 0 when it is too long. */
size_t keys_proto_put_sign(uint8_t out[KEYS_SIGN_MAX], const struct keys_sign *m);
size_t keys_proto_put_signed(uint8_t out[KEYS_SIGNED_MAX], const struct keys_signed *m);
/* 0, or -1 when malformed. */
int keys_proto_get_sign(struct keys_sign *m, const uint8_t *p, size_t len);
int keys_proto_get_signed(struct keys_signed *m, const uint8_t *p, size_t len);

/* True for exactly the input of a TLS 1.3 CertificateVerify (RFC 8446 4.4.3), client's or server's, with a transcript hash of 32 or 48 octets. */
bool keys_proto_is_certificate_verify(const uint8_t *tbs, size_t len);

#endif
