/* SPDX-License-Identifier: Apache-2.0 */
/* The pkcs11: URI of a configuration: what is taken can be said in one line, and has no PIN in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/config/p11uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = mem_strndup((const char *)data, len), *key, *pin;
	const char *why = NULL;

	if (p11uri_split(text, &key, &pin, &why) == 0) {
		if (!p11uri_is(key) || strchr(key, '?') || strchr(key, '\n') || strstr(text, "?pin-value=") || strstr(text, "&pin-value="))
			if (!strstr(text, "&pin-value=") || !strstr(key, "&pin-value=")) /* as an object's name, for instance */
				abort();
		if (pin && (pin[0] != '/' || strchr(pin, '\n')))
			abort();
		mem_free(key);
		mem_free(pin);
	} else if (!why || key || pin) {
		abort();
	}
	mem_free(text);
	return 0;
}
