/* SPDX-License-Identifier: Apache-2.0 */
/* EST's requests as the service reads them, and answers as clients do, whole and in pieces. The first octet chooses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/enrol/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define check(x) \
	do { \
		if (!(x)) \
			abort(); \
	} while (0)

static void
fuzz_request(const uint8_t *p, size_t len)
{
	static struct h1_head h;
	static struct wire_request r;
	const char *reason = NULL, *why = NULL;
	char *copy = malloc(len + 1);
	unsigned status;

	memcpy(copy, p, len);
	h.scan = 0;
	if (h1_parse_request(&h, copy, len) > 0) {
		status = wire_read_head(&r, &h, "enrol.hud.example", &reason, &why);
		check(status ? reason && why && status >= 400 && status < 500 : r.op < WIRE_OPS);
		check(r.user_len <= WIRE_CREDENTIAL_MAX && r.password_len <= WIRE_CREDENTIAL_MAX);
		if (status == 405)
			check(r.op < WIRE_OPS && wire_allow(r.op));
	}
	free(copy);
}

static int
read_in(struct wire_reader *r, const uint8_t *p, size_t len, size_t step)
{
	const char *why;
	int rc = 0;

	wire_reader_init(r);
	for (size_t i = 0; i < len && rc == 0; i += step)
		rc = wire_read_answer(r, p + i, len - i < step ? len - i : step, false, &why);
	if (rc == 0)
		rc = wire_read_answer(r, NULL, 0, true, &why);
	return rc;
}

static void
fuzz_answer(const uint8_t *p, size_t len)
{
	struct wire_reader a, b;
	char text[100];
	const char *why;
	size_t n;
	int x = read_in(&a, p, len, len ? len : 1), y = read_in(&b, p, len, 1);

	check(x == y);
	check(x != 1 || (a.status == b.status && a.content.len == b.content.len && a.retry_after_s == b.retry_after_s));
	if (x == 1) {
		mem_free(wire_answer_der(&a, &n, &why));
		wire_answer_text(&a, text, sizeof(text));
		check(strlen(text) < sizeof(text));
	}
	wire_reader_fini(&a);
	wire_reader_fini(&b);
}

static void
fuzz_base64(const uint8_t *p, size_t len)
{
	uint8_t *out = malloc(len / 4 * 3 + 1);
	long n = wire_unbase64(out, (const char *)p, len);

	check(n <= (long)(len / 4 * 3));
	free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len == 0 || len > 65536)
		return 0;
	switch (data[0] % 3) {
	case 0: fuzz_request(data + 1, len - 1); break;
	case 1: fuzz_answer(data + 1, len - 1); break;
	default: fuzz_base64(data + 1, len - 1);
	}
	return 0;
}
