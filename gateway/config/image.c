/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The config as bytes, for roles that may not open files: a header, then every member in the order of the option
 * table. Texts and lists carry their length. The fingerprint of the table says whether reader and writer agree
 * on it, the checksum finds damage, and decoding still believes neither: each length, range and index is checked.
 */
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "gateway/base/hash.h"
#include "gateway/base/le.h"
#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/lookup.h"
#include "gateway/config/options.h"

#define HEADER_LEN 32
#define NO_TEXT UINT32_MAX

static const char magic[8] = "SPCONF1";
static const uint8_t checksum_key[16] = "config checksum";

/* magic, length of all, 0, fingerprint, checksum of what follows */
static void
put_header(uint8_t *h, size_t len)
{
	memcpy(h, magic, sizeof(magic));
	le_put32(h + 8, (uint32_t)len);
	le_put32(h + 12, 0);
	le_put64(h + 16, options_fingerprint(&options_config));
	le_put64(h + 24, hash_keyed(checksum_key, h + HEADER_LEN, len - HEADER_LEN));
}

/* ---- encoding ---- */

static void encode_group(const struct option_group *g, const void *base, unsigned without, struct buf *out);

static void
put32(struct buf *out, uint32_t v)
{
	uint8_t b[4];

	le_put32(b, v);
	buf_append(out, b, sizeof(b));
}

static void
put64(struct buf *out, uint64_t v)
{
	uint8_t b[8];

	le_put64(b, v);
	buf_append(out, b, sizeof(b));
}

static void
put_text(struct buf *out, const char *s)
{
	put32(out, s ? (uint32_t)strlen(s) : NO_TEXT);
	if (s)
		buf_puts(out, s);
}

static void
encode_array(const struct option *o, const void *base, unsigned without, struct buf *out)
{
	const char *array = option_array(o, base);
	size_t n = *option_count(o, base);

	put32(out, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		if (o->type == OPTION_TEXTS)
			put_text(out, ((char *const *)(const void *)array)[i]);
		else
			encode_group(o->group, array + i * o->group->size, without, out);
	}
}

static void
encode_member(const struct option *o, const void *base, unsigned without, struct buf *out)
{
	const void *at = option_at(o, base);
	const struct addr *addr = at;
	const struct addr_cidr *cidr = at;

	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE: put_text(out, *(char *const *)at); break;
	case OPTION_BOOL: put32(out, *(const bool *)at); break;
	case OPTION_COUNT:
	case OPTION_MODE:
	case OPTION_SET:
	case OPTION_LINE: put32(out, *(const unsigned *)at); break;
	case OPTION_CHOICE:
	case OPTION_INT: put32(out, (uint32_t) * (const int *)at); break;
	case OPTION_SET8: put32(out, *(const uint8_t *)at); break;
	case OPTION_U16: put32(out, *(const uint16_t *)at); break;
	case OPTION_U32: put32(out, *(const uint32_t *)at); break;
	case OPTION_COUNT64:
	case OPTION_SIZE:
	case OPTION_DURATION: put64(out, *(const uint64_t *)at); break;
	case OPTION_ADDR:
		put32(out, addr->len);
		buf_append(out, &addr->ss, addr->len);
		break;
	case OPTION_CIDR:
		put32(out, (uint32_t)(cidr->family << 8 | cidr->bits));
		buf_append(out, cidr->ip, sizeof(cidr->ip));
		break;
	case OPTION_TEXTS:
	case OPTION_LIST: encode_array(o, base, without, out); break;
	case OPTION_GROUP: encode_group(o->group, at, without, out); break;
	case OPTION_FIRST: break; /* is in the list already */
	}
}

static void
encode_group(const struct option_group *g, const void *base, unsigned without, struct buf *out)
{
	for (size_t i = 0; i < g->nrows; i++)
		if (!(g->rows[i].flags & without))
			encode_member(&g->rows[i], base, without, out);
}

void
config_encode(const struct config *c, struct buf *out)
{
	static const uint8_t header[HEADER_LEN];
	size_t start = out->len;

	buf_append(out, header, sizeof(header));
	encode_group(&options_config, c, 0, out);
	if (!out->overflow)
		put_header(out->data + start, out->len - start);
}

void
config_encode_frame(const struct config *c, struct buf *out)
{
	encode_group(&options_config, c, OPTION_TRUST, out);
}

/* ---- decoding ---- */

struct reader {
	const uint8_t *p, *end;
	const char *why; /* NULL: no fault yet */
};

static void decode_group(struct reader *r, const struct option_group *g, void *base);

static const uint8_t *
take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->why || n > (size_t)(r->end - r->p)) {
		if (!r->why)
			r->why = "the config image is cut short";
		return NULL;
	}
	r->p += n;
	return p;
}

static uint32_t
take32(struct reader *r)
{
	const uint8_t *p = take(r, 4);

	return p ? le_get32(p) : 0;
}

static uint64_t
take64(struct reader *r)
{
	const uint8_t *p = take(r, 8);

	return p ? le_get64(p) : 0;
}

static void
refuse(struct reader *r, bool bad)
{
	if (bad && !r->why)
		r->why = "a value in the config image is out of range";
}

static char *
take_text(struct reader *r, bool optional)
{
	uint32_t n = take32(r);
	const uint8_t *p;

	if (!r->why && n == NO_TEXT) {
		refuse(r, !optional);
		return NULL;
	}
	p = take(r, n);
	if (!p)
		return NULL;
	refuse(r, memchr(p, 0, n) != NULL);
	return mem_strndup((const char *)p, n);
}

static void
take_addr(struct reader *r, struct addr *a)
{
	uint32_t n = take32(r);
	const uint8_t *p;
	sa_family_t family;

	if (n == 0)
		return;
	refuse(r, n > sizeof(a->ss) || n < sizeof(family));
	p = take(r, n);
	if (!p)
		return;
	memcpy(&family, p, sizeof(family));
	refuse(r, !(family == AF_INET && n == sizeof(struct sockaddr_in)) &&
		      !(family == AF_INET6 && n == sizeof(struct sockaddr_in6)) &&
		      !(family == AF_UNIX && n == sizeof(struct sockaddr_un) && p[n - 1] == 0));
	if (r->why)
		return;
	memcpy(&a->ss, p, n);
	a->len = n;
}

static void
take_cidr(struct reader *r, struct addr_cidr *c)
{
	uint32_t v = take32(r);
	const uint8_t *p = take(r, sizeof(c->ip));

	if (!p)
		return;
	c->family = (uint8_t)(v >> 8);
	c->bits = (uint8_t)v;
	memcpy(c->ip, p, sizeof(c->ip));
	refuse(r, v >> 16 != 0 || (c->family != 0 && c->family != AF_INET && c->family != AF_INET6) ||
		      c->bits > (c->family == 0 ? 0 : c->family == AF_INET ? 32 : 128));
}

static void
decode_array(struct reader *r, const struct option *o, void *base)
{
	size_t size = o->type == OPTION_TEXTS ? sizeof(char *) : o->group->size;
	size_t n = take32(r), *count = option_count(o, base);
	char *array;

	refuse(r, n > o->max || (o->flags & OPTION_REQUIRED && n < o->min));
	/* Each element takes at least its length; so what is allocated is bounded by what is there. */
	refuse(r, n > (size_t)(r->end - r->p) / 4);
	if (r->why || n == 0)
		return;
	array = mem_array(n, size);
	option_set_array(o, base, array);
	for (size_t i = 0; i < n && !r->why; i++) {
		++*count;
		if (o->type == OPTION_TEXTS)
			((char **)(void *)array)[i] = take_text(r, false);
		else
			decode_group(r, o->group, array + i * size);
	}
}

static unsigned
all_bits(const struct option_name *names)
{
	unsigned bits = 0;

	for (; names->name; names++)
		bits |= names->value;
	return bits;
}

static bool
is_choice(const struct option_name *names, uint32_t v)
{
	for (; names->name; names++)
		if (names->value == v)
			return true;
	return false;
}

static void
decode_32(struct reader *r, const struct option *o, void *at)
{
	uint32_t v = take32(r);

	switch (o->type) {
	case OPTION_BOOL:
		refuse(r, v > 1);
		*(bool *)at = v == 1;
		break;
	case OPTION_COUNT:
		refuse(r, v < o->min || v > o->max);
		*(unsigned *)at = v;
		break;
	case OPTION_MODE:
		refuse(r, v > 0777);
		*(unsigned *)at = v;
		break;
	case OPTION_SET:
		refuse(r, (v & ~all_bits(o->names)) != 0);
		*(unsigned *)at = v;
		break;
	case OPTION_SET8:
		refuse(r, (v & ~all_bits(o->names)) != 0);
		*(uint8_t *)at = (uint8_t)v;
		break;
	case OPTION_CHOICE:
		refuse(r, !is_choice(o->names, v));
		*(int *)at = (int)v;
		break;
	case OPTION_INT:
		*(int *)at = (int)v;
		break;
	case OPTION_U16:
		refuse(r, v > UINT16_MAX);
		*(uint16_t *)at = (uint16_t)v;
		break;
	default: /* OPTION_LINE, OPTION_U32 */
		memcpy(at, &v, sizeof(v));
		break;
	}
}

static void
decode_member(struct reader *r, const struct option *o, void *base)
{
	void *at = option_at(o, base);
	uint64_t v;

	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE:
		*(char **)at = take_text(r, !(o->flags & OPTION_REQUIRED) && !o->def);
		break;
	case OPTION_COUNT64:
	case OPTION_SIZE:
	case OPTION_DURATION:
		v = take64(r);
		refuse(r, v < o->min || v > o->max);
		*(uint64_t *)at = v;
		break;
	case OPTION_ADDR: take_addr(r, at); break;
	case OPTION_CIDR: take_cidr(r, at); break;
	case OPTION_TEXTS:
	case OPTION_LIST: decode_array(r, o, base); break;
	case OPTION_GROUP: decode_group(r, o->group, at); break;
	case OPTION_FIRST: break;
	default: decode_32(r, o, at); break;
	}
}

static void
decode_group(struct reader *r, const struct option_group *g, void *base)
{
	for (size_t i = 0; i < g->nrows && !r->why; i++)
		decode_member(r, &g->rows[i], base);
}

/* What the table cannot say: members that belong together. */
static void
check_listeners(struct reader *r, const struct config *c)
{
	for (size_t i = 0; i < c->nlisteners; i++) {
		const struct config_listener *l = &c->listeners[i];

		refuse(r, !l->address == !l->path || !l->address == (l->addr.len != 0));
		refuse(r, l->addr.len != 0 && l->addr.ss.ss_family == AF_UNIX);
		refuse(r, (l->accept == CONFIG_TCP) != (l->service != NULL));
		refuse(r, l->service ? l->service_index < 0 || (size_t)l->service_index >= c->nservices : l->service_index != -1);
		for (size_t j = 0; j < l->nclients; j++)
			refuse(r, !l->clients[j].address == !l->clients[j].user ||
				      !l->clients[j].address == (l->clients[j].cidr.family != 0));
	}
}

static void
check_rest(struct reader *r, const struct config *c)
{
	for (size_t i = 0; i < c->nservices; i++) {
		const struct config_service *s = &c->services[i];

		refuse(r, s->via ? s->peer_index < 0 || (size_t)s->peer_index >= c->npeers : s->peer_index != -1);
		refuse(r, !s->via == (s->nendpoints == 0));
		for (size_t j = 0; j < s->nendpoints; j++)
			refuse(r, s->endpoints[j].addr.len == 0);
	}
	for (size_t i = 0; i < c->npeers; i++) {
		const struct config_peer *p = &c->peers[i];

		refuse(r, p->uplink && i != 0);
		for (size_t j = 0; j < p->ndial; j++)
			refuse(r, p->dial[j].addr.len == 0 || p->dial[j].addr.ss.ss_family == AF_UNIX);
		for (size_t j = 0; j < p->ndial_reverse; j++)
			refuse(r, p->dial_reverse[j].addr.len == 0 || p->dial_reverse[j].addr.ss.ss_family == AF_UNIX);
	}
	refuse(r, c->workers == 0 || (c->journal.ring_bytes & (c->journal.ring_bytes - 1)) != 0);
	refuse(r, !c->inside.certificate != !c->inside.key || !c->inside.certificate != !c->inside.certificate_pem);
}

struct config *
config_decode(const void *image, size_t len, const char **why)
{
	const uint8_t *h = image;
	struct reader r = { .p = h + HEADER_LEN, .end = h + len };
	struct config *c;

	*why = NULL;
	if (len < HEADER_LEN || memcmp(h, magic, sizeof(magic)) != 0)
		*why = "this is no config image";
	else if (le_get64(h + 16) != options_fingerprint(&options_config))
		*why = "the config image was made by another version";
	else if (le_get32(h + 8) != len || le_get32(h + 12) != 0 ||
		 le_get64(h + 24) != hash_keyed(checksum_key, h + HEADER_LEN, len - HEADER_LEN))
		*why = "the config image is damaged";
	if (*why)
		return NULL;
	c = mem_zalloc(sizeof(*c));
	decode_group(&r, &options_config, c);
	refuse(&r, r.p != r.end);
	if (!r.why) {
		check_listeners(&r, c);
		check_rest(&r, c);
	}
	if (r.why) {
		*why = r.why;
		config_free(c);
		return NULL;
	}
	c->hosts = lookup_new(c);
	return c;
}

/* Here, because the roles that get the image link neither the parser nor the checks. */
void
config_free(struct config *c)
{
	if (!c)
		return;
	options_free(&options_config, c, false);
	lookup_free(c->hosts);
	mem_free(c);
}
