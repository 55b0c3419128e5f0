/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   sign    u64 id | u16 key | u16 scheme | u32 tbs length | key id | tbs
 *   signed  u64 id | u16 status | u16 0 | u32 signature length | signature
 *   csr     u64 id | u16 key | u16 flags | u32 0
 *   done    u64 id | u16 status | u16 0 | u32 request's length | request (DER)
 */
#include "gateway/keys/proto.h"

#include <string.h>

#include "gateway/base/le.h"

#define HEAD 16

const char *
keys_status_text(unsigned status)
{
	static const char *const text[KEYS_STATUSES] = {
		"ok", "no such key", "scheme does not fit the key", "not a TLS handshake", "signing failed",
		"too many signatures a second", "the HSM does not answer", "a key in an HSM is not replaced"
	};

	return status < KEYS_STATUSES ? text[status] : "unknown status";
}

size_t
keys_proto_put_sign(uint8_t out[KEYS_SIGN_MAX], const struct keys_sign *m)
{
	if (m->tbs_len > KEYS_TBS_MAX)
		return 0;
	le_put64(out, m->id);
	le_put16(out + 8, m->key);
	le_put16(out + 10, m->scheme);
	le_put32(out + 12, (uint32_t)m->tbs_len);
	memcpy(out + HEAD, m->key_id, KEYS_ID_LEN);
	if (m->tbs_len)
		memcpy(out + HEAD + KEYS_ID_LEN, m->tbs, m->tbs_len);
	return HEAD + KEYS_ID_LEN + m->tbs_len;
}

int
keys_proto_get_sign(struct keys_sign *m, const uint8_t *p, size_t len)
{
	uint32_t n;

	if (len < HEAD + KEYS_ID_LEN)
		return -1;
	n = le_get32(p + 12);
	if (n > KEYS_TBS_MAX || len != HEAD + KEYS_ID_LEN + n)
		return -1;
	m->id = le_get64(p);
	m->key = le_get16(p + 8);
	m->scheme = le_get16(p + 10);
	memcpy(m->key_id, p + HEAD, KEYS_ID_LEN);
	m->tbs = p + HEAD + KEYS_ID_LEN;
	m->tbs_len = n;
	return 0;
}

/* Both answers have one form. */
static size_t
put_answer(uint8_t *out, uint64_t id, unsigned status, const uint8_t *body, size_t len)
{
	le_put64(out, id);
	le_put16(out + 8, (uint16_t)status);
	le_put16(out + 10, 0);
	le_put32(out + 12, (uint32_t)len);
	if (len)
		memcpy(out + HEAD, body, len);
	return HEAD + len;
}

static int
get_answer(const uint8_t *p, size_t len, size_t max, uint64_t *id, uint16_t *status, const uint8_t **body, size_t *body_len)
{
	uint32_t n;

	if (len < HEAD)
		return -1;
	n = le_get32(p + 12);
	if (n > max || len != HEAD + n || le_get16(p + 10))
		return -1;
	*id = le_get64(p);
	*status = le_get16(p + 8);
	*body = p + HEAD;
	*body_len = n;
	/* What was asked for comes with success and with nothing else. */
	if (*status >= KEYS_STATUSES || (*status == KEYS_OK) != (n > 0))
		return -1;
	return 0;
}

size_t
keys_proto_put_signed(uint8_t out[KEYS_SIGNED_MAX], const struct keys_signed *m)
{
	return m->sig_len > KEYS_SIG_MAX ? 0 : put_answer(out, m->id, m->status, m->sig, m->sig_len);
}

int
keys_proto_get_signed(struct keys_signed *m, const uint8_t *p, size_t len)
{
	return get_answer(p, len, KEYS_SIG_MAX, &m->id, &m->status, &m->sig, &m->sig_len);
}

size_t
keys_proto_put_csr_done(uint8_t out[KEYS_CSR_DONE_MAX], const struct keys_csr_done *m)
{
	return m->der_len > KEYS_CSR_MAX ? 0 : put_answer(out, m->id, m->status, m->der, m->der_len);
}

int
keys_proto_get_csr_done(struct keys_csr_done *m, const uint8_t *p, size_t len)
{
	return get_answer(p, len, KEYS_CSR_MAX, &m->id, &m->status, &m->der, &m->der_len);
}

size_t
keys_proto_put_csr(uint8_t out[KEYS_CSR_LEN], const struct keys_csr *m)
{
	le_put64(out, m->id);
	le_put16(out + 8, m->key);
	le_put16(out + 10, m->flags);
	le_put32(out + 12, 0);
	return KEYS_CSR_LEN;
}

int
keys_proto_get_csr(struct keys_csr *m, const uint8_t *p, size_t len)
{
	if (len != KEYS_CSR_LEN || le_get32(p + 12))
		return -1;
	m->id = le_get64(p);
	m->key = le_get16(p + 8);
	m->flags = le_get16(p + 10);
	return m->flags & ~KEYS_CSR_NEW_KEY ? -1 : 0;
}

bool
keys_proto_is_certificate_verify(const uint8_t *tbs, size_t len)
{
	/* RFC 8446 4.4.3: 64 spaces, the context string, a zero octet, Transcript-Hash. sizeof counts the zero octet. */
	static const char server[] = "TLS 1.3, server CertificateVerify", client[] = "TLS 1.3, client CertificateVerify";
	const size_t head = 64 + sizeof(server);

	_Static_assert(sizeof(server) == sizeof(client), "both contexts have one length");
	/* RFC 8446 B.4: every TLS 1.3 cipher suite hashes with SHA-256 or SHA-384. */
	if (len != head + 32 && len != head + 48)
		return false;
	for (size_t i = 0; i < 64; i++)
		if (tbs[i] != 0x20)
			return false;
	return !memcmp(tbs + 64, server, sizeof(server)) || !memcmp(tbs + 64, client, sizeof(client));
}
