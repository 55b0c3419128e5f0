/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations and hosts: what is read reads back as the same. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/config/host.h"
#include "gateway/config/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = mem_strndup((const char *)data, size), text[VALUE_TEXT_MAX];
	struct host h, again;
	uint64_t v, w;
	const char *why;

	if (value_size(&v, s, &why) == 0 && (value_size(&w, value_size_text(text, v), &why) != 0 || v != w))
		abort();
	if (value_duration(&v, s, &why) == 0 && (value_duration(&w, value_duration_text(text, v), &why) != 0 || v != w))
		abort();
	if (host_parse(&h, s, &why) == 0 &&
	    (!h.name[0] || strpbrk(h.name, "/ ABCDEFGHIJKLMNOPQRSTUVWXYZ@") || host_parse(&again, h.name, &why) != 0 || strcmp(h.name, again.name) != 0))
		abort();
	mem_free(s);
	return 0;
}
