/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker sends to the keys role and what comes back; the first octet chooses. */
#include <stdlib.h>
#include <string.h>

#include "gateway/keys/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define check(x) \
	do { \
		if (!(x)) \
			abort(); \
	} while (0)

static void
fuzz_sign(const uint8_t *p, size_t len)
{
	uint8_t again[KEYS_SIGN_MAX];
	struct keys_sign m;

	if (keys_proto_get_sign(&m, p, len) < 0)
		return;
	/* One reading, one writing. */
	check(keys_proto_put_sign(again, &m) == len && !memcmp(again, p, len));
	if (keys_proto_is_certificate_verify(m.tbs, m.tbs_len)) {
		check(m.tbs_len == 130 || m.tbs_len == 146);
		check(m.tbs[0] == ' ' && m.tbs[63] == ' ' && !memcmp(m.tbs + 64, "TLS 1.3, ", 9) && m.tbs[97] == 0);
	}
}

static void
fuzz_signed(const uint8_t *p, size_t len)
{
	uint8_t again[KEYS_SIGNED_MAX];
	struct keys_signed m;

	if (keys_proto_get_signed(&m, p, len) < 0)
		return;
	check(keys_proto_put_signed(again, &m) == len && !memcmp(again, p, len));
}

static void
fuzz_csr(const uint8_t *p, size_t len)
{
	static uint8_t again[KEYS_CSR_DONE_MAX];
	struct keys_csr_done done;
	struct keys_csr m;

	if (keys_proto_get_csr(&m, p, len) == 0)
		check(keys_proto_put_csr(again, &m) == len && !memcmp(again, p, len));
	if (keys_proto_get_csr_done(&done, p, len) == 0)
		check(keys_proto_put_csr_done(again, &done) == len && !memcmp(again, p, len));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len == 0)
		return 0;
	if (data[0] & 2)
		fuzz_csr(data + 1, len - 1);
	else if (data[0] & 1)
		fuzz_signed(data + 1, len - 1);
	else
		fuzz_sign(data + 1, len - 1);
	keys_proto_is_certificate_verify(data, len);
	return 0;
}
