/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE ids: what is accepted is put together again from its parts, and obeys rules written here a second time. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/spiffe.h"

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/";
	struct spiffe_id id;
	const char *why = NULL;
	char *s = malloc(size + 1), *text;

	memcpy(s, data, size);
	s[size] = '\0';
	if (spiffe_parse(&id, s, size, &why) != 0) {
		CHECK(why && *why);
		free(s);
		return 0;
	}
	CHECK(size <= SPIFFE_ID_MAX && size == 9 + id.domain_len + id.path_len);
	CHECK(!strncmp(s, "spiffe://", 9) && id.domain == s + 9 && id.path == id.domain + id.domain_len);
	CHECK(strlen(s) == size && strspn(s + 9, allowed) == size - 9);
	CHECK(spiffe_domain_valid(id.domain, id.domain_len));
	text = strdup(id.domain);
	text[id.domain_len] = '\0';
	CHECK(strpbrk(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ/") == NULL);
	free(text);
	if (id.path_len) {
		text = malloc(id.path_len + 2); /* "/a/b/" */
		snprintf(text, id.path_len + 2, "%s/", id.path);
		CHECK(!strstr(text, "//") && !strstr(text, "/./") && !strstr(text, "/../"));
		free(text);
	}
	CHECK(!spiffe_is_gateway(&id) || !strncmp(id.path, "/gateway/", 9));
	free(s);
	return 0;
}
