/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairing files. An input that starts with "P" is a payload, which is put into a file that is signed here, so that its
 * parser is reached; any other is a whole file.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/pairfile.h"
#include "pki/pkey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
base64url(const void *p, size_t n)
{
	char *s = mem_alloc(esc_base64_size(n) + 1);
	size_t len = esc_base64(s, p, n);

	while (len > 0 && s[len - 1] == '=')
		len--;
	s[len] = 0;
	for (size_t i = 0; i < len; i++)
		s[i] = s[i] == '+' ? '-' : s[i] == '/' ? '_' : s[i];
	return s;
}

/* A JSON string: what is not printable ASCII as \u00HH, which makes Latin-1 of any octet but NUL. */
static char *
json_text(const char *p)
{
	char *s = mem_alloc(6 * strlen(p) + 1), *o = s;

	for (; *p; p++) {
		if (*p >= ' ' && *p <= '~' && *p != '"' && *p != '\\')
			*o++ = *p;
		else
			o += snprintf(o, 7, "\\u%04x", (unsigned)(uint8_t)*p);
	}
	*o = 0;
	return s;
}

/* What the reader will see of it: Latin-1 as UTF-8. */
static char *
utf8(const char *p)
{
	char *s = mem_alloc(2 * strlen(p) + 1), *o = s;

	for (; *p; p++) {
		uint8_t c = (uint8_t)*p;

		if (c >= 0x80) {
			*o++ = (char)(0xc0 | c >> 6);
			*o++ = (char)(0x80 | (c & 0x3f));
		} else {
			*o++ = (char)c;
		}
	}
	*o = 0;
	return s;
}

static char *
wrap(const uint8_t *data, size_t n)
{
	static struct evp_pkey_st *key;
	char *payload = mem_strndup((const char *)data, n), *quoted = json_text(payload), *seen = utf8(payload);
	char *x, *json, *header, *input, *s, *file;
	uint8_t pub[32], sig[64];

	if (key == NULL)
		key = pkey_new(PKEY_ED25519);
	pkey_public(key, pub);
	x = base64url(pub, sizeof(pub));
	json = mem_printf("{\"alg\":\"EdDSA\",\"typ\":\"sallyport-pairing\",\"b64\":false,\"crit\":[\"b64\"],"
			  "\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}}", x);
	header = base64url(json, strlen(json));
	input = mem_printf("%s.%s", header, seen);
	assert(pkey_sign(key, input, strlen(input), sig) == 0);
	s = base64url(sig, sizeof(sig));
	file = mem_printf("{\"payload\":\"%s\",\"protected\":\"%s\",\"signature\":\"%s\"}", quoted, header, s);
	mem_free(payload);
	mem_free(quoted);
	mem_free(seen);
	mem_free(x);
	mem_free(json);
	mem_free(header);
	mem_free(input);
	mem_free(s);
	return file;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool payload = size > 0 && data[0] == 'P';
	char *text = payload ? wrap(data + 1, size - 1) : mem_strndup((const char *)data, size);
	size_t len = payload ? strlen(text) : size;
	struct pairfile p;
	const char *why = NULL;

	if (pairfile_read(&p, text, len, &why) == PAIRFILE_OK) {
		assert(pairfile_fault(&p) == NULL);
		assert(strlen(p.code) == PAIRFILE_CODE_LEN && pairfile_code_matches(&p, p.code));
	} else {
		assert(why != NULL && p.domain == NULL);
		/* What wrap() signs, the reader takes for signed: its payload is what gets judged. */
		assert(!payload || size > PAIRFILE_MAX / 8 || strcmp(why, "altered after it was signed") != 0);
	}
	pairfile_fini(&p);
	mem_free(text);
	return 0;
}
