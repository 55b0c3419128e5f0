/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile policy images. An input that starts with the image's magic is opened as it is; any other is a list of
 * changes, 6 bytes each (word number, new value), to a valid image, which gets much deeper. What opens
 * is then asked everything.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/le.h"
#include "gateway/base/mem.h"
#include "policy/explain.h"
#include "policy/image.h"

#define LIST(...) (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct policy_service services[] = { { "web", false }, { "db", true } };
static const struct policy_rule rules[] = {
	{ "one", "f", 1, false, LIST("spiffe://a.example/x", "spiffe://a.example/b/*"), LIST("web", "db"), LIST("GET", "BREW"), LIST("/v1/**", "/v1/x*", "/v2/*/y"), 0 },
	{ "two", "f", 2, true, LIST("*"), LIST("*"), NULL, 0, LIST("/admin/**"), 0 },
	{ "three", "f", 3, false, LIST("spiffe://a.example/**"), LIST("web"), NULL, 0, NULL, 0, 0 },
	{ "four", "f", 4, false, LIST("spiffe://a.example/x"), LIST("web"), LIST("FOO"), LIST("/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9", "/10", "/11"), 0 },
};

static struct buf valid;

static uint8_t *
make_image(const uint8_t *data, size_t size, size_t *len)
{
	uint8_t *image;

	if (size >= 4 && le_get32(data) == IMAGE_MAGIC) {
		*len = size;
		image = mem_alloc(size);
		memcpy(image, data, size);
		return image;
	}
	if (!valid.len) {
		struct policy_input in = { rules, 4, services, 2, 9, "abc" };
		struct errs errs;

		errs_init(&errs);
		if (policy_compile(&in, &valid, &errs) < 0)
			abort();
		errs_fini(&errs);
	}
	*len = valid.len;
	image = mem_alloc(valid.len);
	memcpy(image, valid.data, valid.len);
	for (; size >= 6; data += 6, size -= 6)
		le_put32(image + le_get16(data) % (valid.len / 4) * 4, le_get32(data + 2));
	return image;
}

static void
use(const struct policy *p)
{
	static const char *const ids[] = { "", "spiffe://a.example/x", "spiffe://a.example/b/c", "spiffe://a.example", "spiffe://b.example/a/b/c" };
	static const char *const paths[] = { "/", "/v1/xy", "/v2/a/y", "/admin/1", "/9" };
	static const char *const verbs[] = { "GET", "BREW", "FOO", "", "PUT" };
	struct policy_explained e[POLICY_EXPLAIN_MAX];
	struct policy_rule_info info;
	struct policy_verdict v;
	struct buf text;

	buf_init(&text, 10000);
	for (uint32_t i = 0; i < p->nrules && i < 10; i++)
		policy_rule_info(p, i, &info);
	(void)policy_digest(p);
	for (int i = 0; i < 50; i++) {
		const char *id = ids[i % 5], *path = paths[i / 5 % 5], *verb = verbs[(i + i / 5) % 5];
		struct policy_query q = { policy_principal(p, id, strlen(id)), i < 25 ? policy_service_id(p, "web") : 1, verb, strlen(verb), path,
			strlen(path), (enum policy_assurance)(i % POLICY_ASSURANCES) };

		policy_decide(p, &q, &v);
		if (v.rule != POLICY_NO_ID)
			policy_rule_info(p, v.rule, &info);
		if (p->nrules < 100)
			for (size_t n = policy_explain(p, &q, id, e); n > 0; n--)
				policy_explain_text(p, &e[n - 1], &text);
	}
	buf_fini(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy p;
	const char *why = NULL;
	size_t len;
	uint8_t *image = make_image(data, size, &len);

	if (policy_open(&p, image, len, &why) == 0)
		use(&p);
	else if (!why)
		abort();
	mem_free(image);
	return 0;
}
