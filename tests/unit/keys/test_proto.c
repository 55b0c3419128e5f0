/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/le.h"
#include "gateway/base/mem.h"
#include "gateway/keys/proto.h"

static void
test_sign(void **state)
{
	uint8_t msg[KEYS_SIGN_MAX], tbs[KEYS_TBS_MAX + 1];
	struct keys_sign in = { .id = UINT64_C(0x1122334455667788), .key = 7, .scheme = KEYS_ED25519, .tbs = tbs }, out;

	(void)state;
	memset(tbs, 0xa5, sizeof(tbs));
	memset(in.key_id, 3, sizeof(in.key_id));
	for (in.tbs_len = 0; in.tbs_len <= KEYS_TBS_MAX; in.tbs_len++) {
		size_t n = keys_proto_put_sign(msg, &in);
		uint8_t *exact;

		assert_true(n > 0 && n <= sizeof(msg));
		assert_int_equal(keys_proto_get_sign(&out, msg, n), 0);
		assert_true(out.id == in.id && out.key == 7 && out.scheme == KEYS_ED25519 && out.tbs_len == in.tbs_len);
		assert_memory_equal(out.key_id, in.key_id, sizeof(in.key_id));
		assert_memory_equal(out.tbs, tbs, in.tbs_len);
		/* Cut anywhere, or longer than it says: nothing. Each in memory of its exact size. */
		for (size_t cut = 0; cut < n; cut++) {
			exact = mem_alloc(cut);
			memcpy(exact, msg, cut);
			assert_int_equal(keys_proto_get_sign(&out, exact, cut), -1);
			mem_free(exact);
		}
		exact = mem_zalloc(n + 1);
		memcpy(exact, msg, n);
		assert_int_equal(keys_proto_get_sign(&out, exact, n + 1), -1);
		mem_free(exact);
	}
	assert_int_equal(keys_proto_put_sign(msg, &in), 0); /* too long */
	le_put32(msg + 12, UINT32_MAX);
	assert_int_equal(keys_proto_get_sign(&out, msg, sizeof(msg)), -1);
}

static void
test_signed(void **state)
{
	uint8_t msg[KEYS_SIGNED_MAX], sig[KEYS_SIG_MAX + 1];
	struct keys_signed in = { .id = 9, .status = KEYS_OK, .sig = sig, .sig_len = 72 }, out;
	size_t n;

	(void)state;
	memset(sig, 0x5a, sizeof(sig));
	n = keys_proto_put_signed(msg, &in);
	assert_int_equal(keys_proto_get_signed(&out, msg, n), 0);
	assert_true(out.id == 9 && out.status == KEYS_OK && out.sig_len == 72);
	assert_memory_equal(out.sig, sig, 72);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(keys_proto_get_signed(&out, msg, cut), -1);
	msg[10] = 1; /* reserved */
	assert_int_equal(keys_proto_get_signed(&out, msg, n), -1);
	in.sig_len = KEYS_SIG_MAX;
	assert_int_equal(keys_proto_put_signed(msg, &in), KEYS_SIGNED_MAX);
	in.sig_len++;
	assert_int_equal(keys_proto_put_signed(msg, &in), 0);
	/* A signature with a failure, success without one, a status that is none. */
	in.sig_len = 0;
	n = keys_proto_put_signed(msg, &in);
	assert_int_equal(keys_proto_get_signed(&out, msg, n), -1);
	for (in.status = KEYS_NO_KEY; in.status < KEYS_STATUSES; in.status++) {
		n = keys_proto_put_signed(msg, &in);
		assert_int_equal(keys_proto_get_signed(&out, msg, n), 0);
		assert_true(strlen(keys_status_text(in.status)) > 0);
	}
	n = keys_proto_put_signed(msg, &in);
	assert_int_equal(keys_proto_get_signed(&out, msg, n), -1);
	assert_string_equal(keys_status_text(KEYS_STATUSES), "unknown status");
	in.status = KEYS_FAILED;
	in.sig_len = 1;
	n = keys_proto_put_signed(msg, &in);
	assert_int_equal(keys_proto_get_signed(&out, msg, n), -1);
}

static void
test_csr(void **state)
{
	struct keys_csr in = { .id = UINT64_C(0x1122334455667788), .key = 2, .flags = KEYS_CSR_NEW_KEY }, out;
	uint8_t msg[KEYS_CSR_LEN + 1] = { 0 }, *big = mem_zalloc(KEYS_CSR_DONE_MAX), *der = mem_zalloc(KEYS_CSR_MAX + 1);
	struct keys_csr_done done = { .id = 7, .status = KEYS_OK, .der = der, .der_len = 300 }, got;
	size_t n;

	(void)state;
	assert_int_equal(keys_proto_put_csr(msg, &in), KEYS_CSR_LEN);
	assert_int_equal(keys_proto_get_csr(&out, msg, KEYS_CSR_LEN), 0);
	assert_true(out.id == in.id && out.key == 2 && out.flags == KEYS_CSR_NEW_KEY);
	for (size_t cut = 0; cut < KEYS_CSR_LEN; cut++)
		assert_int_equal(keys_proto_get_csr(&out, msg, cut), -1);
	assert_int_equal(keys_proto_get_csr(&out, msg, KEYS_CSR_LEN + 1), -1);
	msg[12] = 1; /* reserved */
	assert_int_equal(keys_proto_get_csr(&out, msg, KEYS_CSR_LEN), -1);
	in.flags = 2; /* a flag that nobody knows */
	keys_proto_put_csr(msg, &in);
	assert_int_equal(keys_proto_get_csr(&out, msg, KEYS_CSR_LEN), -1);

	n = keys_proto_put_csr_done(big, &done);
	assert_int_equal(keys_proto_get_csr_done(&got, big, n), 0);
	assert_true(got.id == 7 && got.status == KEYS_OK && got.der_len == 300);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(keys_proto_get_csr_done(&got, big, cut), -1);
	done.der_len = KEYS_CSR_MAX;
	assert_int_equal(keys_proto_put_csr_done(big, &done), KEYS_CSR_DONE_MAX);
	assert_int_equal(keys_proto_get_csr_done(&got, big, KEYS_CSR_DONE_MAX), 0);
	done.der_len++;
	assert_int_equal(keys_proto_put_csr_done(big, &done), 0);
	/* A request with a failure, success without one. */
	done.der_len = 1;
	done.status = KEYS_BUSY;
	n = keys_proto_put_csr_done(big, &done);
	assert_int_equal(keys_proto_get_csr_done(&got, big, n), -1);
	done.der_len = 0;
	n = keys_proto_put_csr_done(big, &done);
	assert_int_equal(keys_proto_get_csr_done(&got, big, n), 0);
	done.status = KEYS_OK;
	n = keys_proto_put_csr_done(big, &done);
	assert_int_equal(keys_proto_get_csr_done(&got, big, n), -1);
	mem_free(big);
	mem_free(der);
}

static size_t
input(uint8_t *out, const char *context, size_t hash)
{
	memset(out, ' ', 64);
	strcpy((char *)out + 64, context);
	memset(out + 64 + strlen(context) + 1, 0xee, hash);
	return 64 + strlen(context) + 1 + hash;
}

static void
test_certificate_verify(void **state) /* case 61 */
{
	static const struct {
		const char *context;
		size_t hash;
		bool ok;
	} t[] = {
		{ "TLS 1.3, server CertificateVerify", 32, true },
		{ "TLS 1.3, client CertificateVerify", 32, true },
		{ "TLS 1.3, server CertificateVerify", 48, true },
		{ "TLS 1.3, client CertificateVerify", 48, true },
		{ "TLS 1.3, server CertificateVerify", 0, false },
		{ "TLS 1.3, server CertificateVerify", 20, false },
		{ "TLS 1.3, server CertificateVerify", 31, false },
		{ "TLS 1.3, server CertificateVerify", 33, false },
		{ "TLS 1.3, server CertificateVerify", 47, false },
		{ "TLS 1.3, server CertificateVerify", 64, false }, /* no cipher suite of TLS 1.3 hashes so */
		{ "TLS 1.3, server Certificateverify", 32, false },
		{ "TLS 1.3, Server CertificateVerify", 32, false },
		{ "TLS 1.3, middle CertificateVerify", 32, false },
		{ "TLS 1.2, server CertificateVerify", 32, false },
		{ "TLS 1.3, server CertificateVerif", 33, false },
		{ "Exported Authenticator", 43, false },
		{ "", 65, false },
	};
	uint8_t buf[256];

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		size_t n = input(buf, t[i].context, t[i].hash);
		bool context_ok = !strcmp(t[i].context, t[0].context) || !strcmp(t[i].context, t[1].context);

		assert_int_equal(keys_proto_is_certificate_verify(buf, n), t[i].ok);
		/* Any other octet before the hash makes it something else; the hash may be anything. */
		for (size_t at = 0; t[i].ok && at < n; at++) {
			bool in_hash = at >= n - t[i].hash;

			buf[at] ^= 0x01;
			assert_int_equal(keys_proto_is_certificate_verify(buf, n), in_hash);
			buf[at] ^= 0x01;
		}
		/* In memory of its exact size, cut anywhere. */
		for (size_t cut = 0; cut < n; cut++) {
			uint8_t *exact = mem_alloc(cut);
			/* Right again only where a longer hash was cut to a shorter one of the right length. */
			bool right = context_ok && (cut == 64 + 34 + 32 || cut == 64 + 34 + 48);

			memcpy(exact, buf, cut);
			assert_int_equal(keys_proto_is_certificate_verify(exact, cut), right);
			mem_free(exact);
		}
	}
	assert_false(keys_proto_is_certificate_verify(NULL, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sign),
		cmocka_unit_test(test_signed),
		cmocka_unit_test(test_csr),
		cmocka_unit_test(test_certificate_verify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
