/* SPDX-License-Identifier: Apache-2.0 */
/* The first octets of a TLS client: more of them never take back what was said, and "yes" means that the name is in there. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/enrol/hello.h"

#define HOST "e.x"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int
is_there(const uint8_t *p, size_t len)
{
	/* Fragments may cut it: then the octets are there one by one, which a count cannot show; look only where there is one record. */
	for (size_t i = 0; i + 3 <= len; i++)
		if (!strncasecmp((const char *)p + i, HOST, 3))
			return 1;
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum hello all, last = HELLO_MORE;
	uint8_t *copy;

	if (len > HELLO_OCTETS_MAX)
		len = HELLO_OCTETS_MAX;
	all = hello_asks(data, len, HOST);
	if (all == HELLO_YES && len >= 5 && (size_t)(data[3] << 8 | data[4]) + 5 >= len && !is_there(data, len))
		abort();
	for (size_t n = 0; n <= len; n += len > 256 ? 61 : 1) {
		enum hello r;

		copy = malloc(n + 1); /* so that reading beyond is seen */
		memcpy(copy, data, n);
		r = hello_asks(copy, n, HOST);
		free(copy);
		if (last != HELLO_MORE && r != last)
			abort();
		last = r;
	}
	if (last != HELLO_MORE && last != all)
		abort();
	return 0;
}
