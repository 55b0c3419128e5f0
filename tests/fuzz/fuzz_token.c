/* SPDX-License-Identifier: Apache-2.0 */
/* A token's file: what was understood is written and understood again, and says the same. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/buf.h"
#include "pki/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *why;
	struct token *t = token_parse((const char *)data, len, &why), *t2;
	struct buf one, two;

	if (!t) {
		if (!why)
			abort();
		return 0;
	}
	if (t->ndns > TOKEN_DNS_MAX || t->used != (t->chain_pem != NULL) || t->used != (t->serial != NULL) || !t->id || t->expires < 0)
		abort();
	buf_init(&one, 0);
	buf_init(&two, 0);
	token_format(t, &one);
	t2 = token_parse((const char *)one.data, one.len, &why);
	if (!t2 && one.len <= TOKEN_FILE_MAX)
		abort();
	if (t2) {
		token_format(t2, &two);
		if (one.len != two.len || memcmp(one.data, two.data, one.len) != 0)
			abort();
	}
	buf_fini(&one);
	buf_fini(&two);
	token_free(t);
	token_free(t2);
	return 0;
}
