/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pairing files. An input that starts with "P" is a payload, which is put into a file that is signed here, so that its
 * parser is reached; one with "E" is a peer's entry as an operator may have left it, which an update changes; any other is a whole file.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/esc.h"
#include "gateway/base/mem.h"
#include "pki/pairing.h"
#include "pki/pkey.h"
#include "pki/svid.h"
#include "pki/svid_vouch.h"

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

/* What has cross certificates can be asked whether they vouch: never for less than it trusts itself. */
static void
vouch(const struct pairfile *p)
{
	const char *why = NULL;
	struct svid_bundle *b = svid_bundle_new(p->domain, p->bundle_pem, &why);
	char who[256];

	assert(b != NULL);
	assert(svid_vouch(b, b, p->cross_pem, 1795165200, who, &why) == 0);
	svid_bundle_unref(b);
}

static void
entry(const uint8_t *data, size_t size)
{
	char *gateway = mem_strdup("spiffe://irs.example/gateway/dmz1"), *other = mem_strdup("spiffe://irs.example/gateway/b");
	char *address = mem_strdup("203.0.113.20:443"), *text = mem_strndup((const char *)data, size), *by_hand, *same, *changed, *name;
	struct pairfile before = { .gateways = &gateway, .ngateways = 1, .addresses = &address, .naddresses = 1 }, after = before;

	name = pairing_entry_name(text);
	assert(name == NULL || strstr(text, name) != NULL);
	same = pairing_entry_update(text, &before, &before, &by_hand);
	assert(strcmp(same, text) == 0 && by_hand == NULL);
	after.gateways = &other;
	after.naddresses = 0;
	changed = pairing_entry_update(text, &before, &after, &by_hand);
	/* What was changed can be changed back; what was not is named or was not there. */
	assert(strcmp(changed, text) != 0 || by_hand != NULL || strstr(text, other) != NULL);
	mem_free(by_hand);
	mem_free(same);
	mem_free(changed);
	mem_free(name);
	mem_free(text);
	mem_free(gateway);
	mem_free(other);
	mem_free(address);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool payload = size > 0 && data[0] == 'P';
	char *text = payload ? wrap(data + 1, size - 1) : mem_strndup((const char *)data, size);
	size_t len = payload ? strlen(text) : size;
	struct pairfile p;
	const char *why = NULL;

	if (size > 0 && data[0] == 'E')
		entry(data + 1, size - 1);
	if (pairfile_read(&p, text, len, &why) == PAIRFILE_OK) {
		assert(pairfile_fault(&p) == NULL);
		vouch(&p);
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
