/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairing files. An input that starts with "P" is a payload, which is put into a file that is signed here, so that its
 * parser is reached; any other is a whole file.
 */
#include <assert.h>
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

static char *
wrap(const uint8_t *payload, size_t n)
{
	static struct evp_pkey_st *key;
	uint8_t pub[32], sig[64];
	char *x, *json, *header, *body, *input, *s, *file;

	if (key == NULL)
		key = pkey_new(PKEY_ED25519);
	pkey_public(key, pub);
	x = base64url(pub, sizeof(pub));
	json = mem_printf("{\"alg\":\"EdDSA\",\"typ\":\"sallyport-pairing\",\"jwk\":{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}}", x);
	header = base64url(json, strlen(json));
	body = base64url(payload, n);
	input = mem_printf("%s.%s", header, body);
	assert(pkey_sign(key, input, strlen(input), sig) == 0);
	s = base64url(sig, sizeof(sig));
	file = mem_printf("{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}", header, body, s);
	mem_free(x);
	mem_free(json);
	mem_free(header);
	mem_free(body);
	mem_free(input);
	mem_free(s);
	return file;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = size > 0 && data[0] == 'P' ? wrap(data + 1, size - 1) : mem_strndup((const char *)data, size);
	size_t len = size > 0 && data[0] == 'P' ? strlen(text) : size;
	struct pairfile p;
	const char *why = NULL;

	if (pairfile_read(&p, text, len, &why) == PAIRFILE_OK) {
		assert(pairfile_fault(&p) == NULL);
		assert(strlen(p.code) == PAIRFILE_CODE_LEN && pairfile_code_matches(&p, p.code));
	} else {
		assert(why != NULL && p.domain == NULL);
	}
	pairfile_fini(&p);
	mem_free(text);
	return 0;
}
