/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies: the first octet gives the framing, the second a seed for the cuts, the third the content length; the rest is the
 * wire. Checks that content, trailers, end and error are the same however the octets are cut, and that data lies in the input.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http1/body.h"

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	enum h1_event last;
	size_t used, len, ntrailers;
	bool eof_ok;
	char *content;
	struct h1_body body; /* keeps the trailers that f points into */
	struct h1_field f[H1_MAX_FIELDS];
};

static void
run(struct outcome *o, const uint8_t *data, const char *wire, size_t n, uint32_t seed)
{
	size_t at = 0;

	o->len = o->ntrailers = 0;
	o->content = malloc(n + 1);
	h1_body_init(&o->body, (enum h1_framing)(data[0] % 4), data[2]);
	for (;;) {
		size_t take = n - at, off = 0;
		char *in;

		if (seed) { /* a small generator: cuts of 0 to 15 octets, sometimes more */
			seed = seed * 1664525 + 1013904223;
			take = seed >> 24 & (seed >> 16 & 7 ? 15 : 255);
			if (take > n - at)
				take = n - at;
		}
		in = malloc(take ? take : 1);
		if (take)
			memcpy(in, wire + at, take);
		do {
			const char *p;
			size_t len, used = h1_body_feed(&o->body, in + off, take - off, &o->last, &p, &len);

			CHECK(used <= take - off);
			if (o->last == H1_EV_DATA) {
				CHECK(len > 0 && p >= in + off && p + len == in + off + used);
				memcpy(o->content + o->len, p, len);
				o->len += len;
			} else {
				CHECK(len == 0);
			}
			if (o->last == H1_EV_MORE)
				CHECK(used == take - off);
			if (o->last == H1_EV_TRAILERS)
				o->ntrailers = h1_body_trailers(&o->body, o->f, H1_MAX_FIELDS);
			off += used;
		} while (o->last == H1_EV_DATA || o->last == H1_EV_TRAILERS);
		free(in);
		at += off;
		if (o->last != H1_EV_MORE || at == n)
			break;
	}
	o->used = at;
	o->eof_ok = h1_body_eof_ok(&o->body);
}

static void
check_trailers(const struct outcome *o)
{
	for (size_t i = 0; i < o->ntrailers; i++) {
		const struct h1_field *f = &o->f[i];

		CHECK(h1_name_valid(f->name, f->name_len) && h1_value_valid(f->value, f->value_len));
		CHECK(!f->hop && f->id != H1_F_HOST && f->id != H1_F_CONTENT_LENGTH && f->id != H1_F_TRANSFER_ENCODING);
	}
}

static void
done(struct outcome *o)
{
	free(o->content);
	h1_body_fini(&o->body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome whole, cut;

	if (size < 3)
		return 0;
	run(&whole, data, (const char *)data + 3, size - 3, 0);
	check_trailers(&whole);
	run(&cut, data, (const char *)data + 3, size - 3, 1u + data[1]);
	CHECK(whole.last == cut.last && whole.eof_ok == cut.eof_ok);
	if (whole.last != H1_EV_ERROR)
		CHECK(whole.used == cut.used);
	CHECK(whole.len == cut.len && !memcmp(whole.content, cut.content, cut.len));
	CHECK(whole.ntrailers == cut.ntrailers);
	for (size_t i = 0; i < cut.ntrailers; i++) {
		const struct h1_field *f = &whole.f[i], *g = &cut.f[i];

		CHECK(f->name_len == g->name_len && !memcmp(f->name, g->name, g->name_len));
		CHECK(f->value_len == g->value_len && !memcmp(f->value, g->value, g->value_len));
		CHECK(f->id == g->id);
	}
	done(&whole);
	done(&cut);
	return 0;
}
