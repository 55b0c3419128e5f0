/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A config image from a hostile writer. An input that starts with "=" is taken for the body of an image; any other is
 * a list of changes, 3 bytes each (place, new byte), to the body of a good one, which gets much deeper. Length,
 * fingerprint and checksum are made right. What decodes must be usable: encode to the same bytes, dump, look hosts up.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/le.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/load.h"
#include "gateway/config/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER_LEN 32

static const char text[] =
    "domain = \"a.example\"; identity = { certificate = \"c\"; key = \"k\"; bundle = \"b\"; };\n"
    "peers = ( { name = \"p\"; domain = \"b.example\"; bundle = \"b\"; dial = [ \"10.0.0.1:443\" ]; gateways = [ \"spiffe://b.example/gateway/x\" ]; } );\n"
    "listeners = ( { name = \"t\"; address = \"192.0.2.1:443\"; accept = [ \"workloads\" ]; },\n"
    "  { name = \"u\"; path = \"/u\"; accept = [ \"tcp\" ]; service = \"db\"; clients = ( { uid = 5; principal = \"spiffe://a.example/p\"; } ); },\n"
    "  { name = \"l\"; address = \"192.0.2.1:80\"; accept = [ \"plaintext\" ]; clients = ( { address = \"10.0.0.2\"; principal = \"spiffe://a.example/p\"; } ); } );\n"
    "services = ( { name = \"db\"; host = \"db:5\"; kind = \"tcp\"; via = \"p\"; }, { name = \"w\"; host = \"[::2]\"; endpoints = [ \"[::1]:80\", \"unix:/x\" ]; } );\n";

static struct buf good;

/* The certificates are not looked into after loading, so any text does. */
static void
make_good(void)
{
	struct source s;
	struct errs errs;
	struct config *c;

	errs_init(&errs);
	if (source_text(&s, "f", text, sizeof(text) - 1, &errs) != 0)
		abort();
	c = load_source(&s, "f", false, &errs);
	if (!c)
		abort();
	c->identity.certificate_pem = mem_strdup("c");
	c->identity.bundle_pem = mem_strdup("b");
	c->identity.id = mem_strdup("spiffe://a.example/w");
	c->peers[0].bundle_pem = mem_strdup("b");
	buf_init(&good, 0);
	config_encode(c, &good);
	config_free(c);
	source_fini(&s);
	errs_fini(&errs);
}

static void
use(const struct config *c, const uint8_t *image, size_t size)
{
	struct buf out;

	buf_init(&out, 0);
	config_encode(c, &out);
	if (out.len != size || memcmp(out.data, image, size) != 0)
		abort();
	buf_reset(&out);
	config_dump(c, &out);
	buf_fini(&out);
	for (size_t i = 0; i < c->nservices; i++) {
		config_service_by_host(c, c->services[i].host, strlen(c->services[i].host), 443);
		if (c->services[i].via && !c->peers[c->services[i].peer_index].name)
			abort();
	}
	for (size_t i = 0; i < c->nlisteners; i++)
		if (c->listeners[i].service_index >= 0 && !c->services[c->listeners[i].service_index].name)
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c;
	const char *why;
	uint8_t *image;
	size_t len;

	if (!good.len)
		make_good();
	if (size > 0 && data[0] == '=') {
		len = HEADER_LEN + size - 1;
		image = mem_alloc(len);
		memcpy(image + HEADER_LEN, data + 1, size - 1);
	} else {
		len = good.len;
		image = mem_alloc(len);
		memcpy(image + HEADER_LEN, good.data + HEADER_LEN, len - HEADER_LEN);
		for (size_t i = 0; i + 3 <= size; i += 3)
			image[HEADER_LEN + le_get16(data + i) % (len - HEADER_LEN)] = data[i + 2];
	}
	memcpy(image, "SPCONF1", 8);
	le_put32(image + 8, (uint32_t)len);
	le_put32(image + 12, 0);
	le_put64(image + 16, options_fingerprint(&options_config));
	le_put64(image + 24, hash_keyed((const uint8_t *)"config checksum", image + HEADER_LEN, len - HEADER_LEN));
	c = config_decode(image, len, &why);
	if (c)
		use(c, image, len);
	else if (!why || (size == 0 && good.len == len))
		abort();
	config_free(c);
	/* And as it is: a header of the fuzzer's own. */
	config_free(config_decode(data, size, &why));
	mem_free(image);
	return 0;
}
