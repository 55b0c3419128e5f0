/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker sends to the ca role and what comes back; the first octet chooses. One reading, one writing. */
#include <stdlib.h>
#include <string.h>

#include "gateway/ca/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint8_t again[CA_MESSAGE_MAX];

static void
same(size_t n, const uint8_t *p, size_t len)
{
	if (n != len || memcmp(again, p, len) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct ca_answer answer;
	struct ca_ask ask;

	if (len == 0)
		return 0;
	if (data[0] & 1) {
		if (ca_proto_get_answer(&answer, data + 1, len - 1) == 0)
			same(ca_proto_put_answer(again, &answer), data + 1, len - 1);
	} else if (ca_proto_get_ask(&ask, data + 1, len - 1) == 0) {
		same(ca_proto_put_ask(again, &ask), data + 1, len - 1);
	}
	return 0;
}
