/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Header blocks. One at a time is decoded per process, into the arena; one that is cut between two reads is saved, for
 * other sessions use the arena in between, and goes back to the same place, for its pointers lead there.
 */
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/http2/internal.h"

/*
 * On links: what gateways say about the caller comes beside the application's own fields, and what the far gateway took as an
 * HTTP/1 head of H2_MAX_HEAD octets is up to 28 octets a field larger here.
 */
#define IDENTITY_FIELDS 8
#define IDENTITY_BYTES (64 * 1024)
#define LINK_SLACK 4096

struct block {
	unsigned n, identities, used; /* fields, of which identity; octets */
	unsigned decoded, identity;   /* sizes so far: of the application's fields, of the gateways' (RFC 9113 6.5.2) */
	const char *method, *scheme, *authority, *path, *protocol;
	uint32_t method_len, scheme_len, authority_len, path_len;
	const char *host;
	uint32_t host_len;
	unsigned status;
	uint64_t length;
};

struct block_saved {
	struct block block;
	struct h1_field fields[];     /* and then the octets */
};

static struct block block;
static struct h1_field fields[H2_MAX_FIELDS + IDENTITY_FIELDS];
static char bytes[H2_MAX_HEAD + LINK_SLACK + IDENTITY_BYTES];

void block_begin(struct h2 *h)
{
	h->in_block = true;
	block = (struct block){ .length = LEG_NO_LENGTH };
}

static bool pseudo(const char *name, size_t len, const char *v, uint32_t n)
{
	switch (len) {
	case 5:
		if (memcmp(name, ":path", 5) == 0) {
			block.path = v;
			block.path_len = n;
			return true;
		}
		break;
	case 7:
		if (memcmp(name, ":method", 7) == 0) {
			block.method = v;
			block.method_len = n;
			return true;
		}
		if (memcmp(name, ":scheme", 7) == 0) {
			block.scheme = v;
			block.scheme_len = n;
			return true;
		}
		if (memcmp(name, ":status", 7) == 0) {
			/* nghttp2 has checked that it is three digits; RFC 9110 15: of which the first is 1 to 5. */
			block.status = n == 3 ? (unsigned)((v[0] - '0') * 100 + (v[1] - '0') * 10 + (v[2] - '0')) : 0;
			return block.status >= 100 && block.status <= 599;
		}
		break;
	case 9:
		if (memcmp(name, ":protocol", 9) == 0) {
			block.protocol = v;
			return true;
		}
		break;
	case 10:
		if (memcmp(name, ":authority", 10) == 0) {
			block.authority = v;
			block.authority_len = n;
			return true;
		}
		break;
	}
	return false;
}

/* Cases 5, 6: the decoded size and count are ours to bound; nghttp2 only advertises a limit. */
static bool fits(const struct h2 *h, enum h1_name id, size_t size)
{
	if (h->link && id == H1_F_IDENTITY) {
		block.identity += (unsigned)size;
		return block.identity <= IDENTITY_BYTES && block.identities < IDENTITY_FIELDS;
	}
	block.decoded += (unsigned)size;
	return block.decoded <= H2_MAX_HEAD + (h->link ? LINK_SLACK : 0) && block.n - block.identities < H2_MAX_FIELDS;
}

static int malformed(struct h2 *h)
{
	h->in_block = false; /* nothing of it is wanted any more */
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int block_field(struct h2 *h, const char *name, size_t nlen, const char *value, size_t vlen)
{
	enum h1_name id = nlen && name[0] == ':' ? H1_F_OTHER : h1_name_id(name, nlen);
	struct h1_field *fd;
	char *p;

	if (!fits(h, id, nlen + vlen + 32))
		return malformed(h);
	p = bytes + block.used;
	block.used += (unsigned)(nlen + vlen);
	memcpy(p, name, nlen);
	memcpy(p + nlen, value, vlen);
	if (nlen && p[0] == ':')
		return pseudo(p, nlen, p + nlen, (uint32_t)vlen) ? 0 : malformed(h);
	fd = &fields[block.n++];
	*fd = (struct h1_field){
		.name = p, .name_len = (uint32_t)nlen, .value = p + nlen, .value_len = (uint32_t)vlen, .id = (uint8_t)id,
	};
	switch (id) {
	case H1_F_HOST:
		if (block.host) /* case 33's kin: two Hosts */
			return malformed(h);
		block.host = fd->value;
		block.host_len = fd->value_len;
		fd->hop = true;
		break;
	case H1_F_CONTENT_LENGTH:
		/* nghttp2 has checked that it is one number and that the content keeps to it (case 31). */
		block.length = 0;
		for (size_t i = 0; i < vlen && block.length < UINT64_MAX / 16; i++)
			block.length = block.length * 10 + (uint64_t)(fd->value[i] - '0');
		break;
	case H1_F_TE:
	case H1_F_KEEP_ALIVE:
	case H1_F_PROXY_CONNECTION:
	case H1_F_PROXY_AUTHENTICATE:
	case H1_F_PROXY_AUTHORIZATION:
		fd->hop = true;
		break;
	case H1_F_CONNECTION:
	case H1_F_TRANSFER_ENCODING:
	case H1_F_UPGRADE:
	case H1_F_HTTP2_SETTINGS:
		return malformed(h); /* RFC 9113 8.2.2 (case 32) */
	case H1_F_IDENTITY:
		block.identities += h->link;
		/* fall through */
	default:
		/* Written out as HTTP/1 one day: the checks of that side too (case 30). */
		if (!h1_name_valid(fd->name, fd->name_len) || !h1_value_valid(fd->value, fd->value_len))
			return malformed(h);
	}
	return 0;
}

/* RFC 9113 8.3.1: an authority may come as Host alone; both must agree (case 33). */
static bool find_authority(struct leg_head *head)
{
	head->authority = block.authority;
	head->authority_len = block.authority_len;
	if (!head->authority) {
		head->authority = block.host;
		head->authority_len = block.host_len;
	} else if (block.host && (block.host_len != block.authority_len ||
	    memcmp(block.host, block.authority, block.host_len) != 0)) {
		return false;
	}
	if (!head->authority || !h1_authority_valid(head->authority, head->authority_len))
		return false;
	for (uint32_t i = 0; i < head->authority_len; i++) {
		char *c = (char *)(uintptr_t)&head->authority[i]; /* in the arena */

		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c | 0x20);
	}
	return true;
}

/* Case 34: what two readers could take for two paths goes no further. */
static bool find_path(struct leg_head *head)
{
	head->path = block.path;
	head->path_len = block.path_len;
	if (head->method_id == H1_M_OPTIONS && head->path_len == 1 && head->path[0] == '*') {
		head->path_only_len = 1;
		return true;
	}
	if (!h1_path_valid(head->path, head->path_len))
		return false;
	head->path_len = (uint32_t)h1_path_normalize((char *)(uintptr_t)head->path, head->path, head->path_len,
	    &head->path_only_len);
	return true;
}

void block_request(struct h2 *h, int32_t id, bool end)
{
	struct leg_head head = {
		.method = block.method, .method_len = block.method_len,
		.method_id = h1_method_id(block.method, block.method_len),
		.fields = fields, .nfields = block.n,
		.length = block.length, .end = end,
	};
	struct h2_stream *s;
	bool connect = head.method_id == H1_M_CONNECT;

	h->in_block = false;
	/* Behind a GOAWAY that is on its way out: whoever reads that will ask somebody else, so it must not be done here too. */
	if (h->final && id > h->last) {
		stream_reset(h, id, H2_REFUSED_STREAM);
		return;
	}
	if (block.protocol || !find_authority(&head) || (!connect && !find_path(&head))) {
		stream_reset(h, id, H2_PROTOCOL_ERROR);
		return;
	}
	if (connect)
		head.length = LEG_NO_LENGTH;
	else
		head.https = block.scheme_len == 5 && memcmp(block.scheme, "https", 5) == 0;
	s = stream_new(h, id);
	s->remote_end = end;
	s->head_received = true;
	nghttp2_session_set_stream_user_data(h->ng, id, s);
	h->ops->on_request(h, s, &head);
}

void block_response(struct h2_stream *s, bool end)
{
	struct leg_head head = {
		.status = block.status,
		.fields = fields, .nfields = block.n,
		.length = block.length, .end = end,
	};

	s->h2->in_block = false;
	if (head.status >= 200)
		s->head_received = true;
	if (end)
		s->remote_end = true;
	if (s->leg.ev)
		s->leg.ev->on_head(s->leg.x, &head);
}

void block_trailers(struct h2_stream *s)
{
	s->h2->in_block = false;
	s->remote_end = true;
	if (s->leg.ev)
		s->leg.ev->on_end(s->leg.x, fields, block.n);
}

void block_save(struct h2 *h)
{
	struct block_saved *to = mem_alloc(sizeof(*to) + block.n * sizeof(*fields) + block.used);

	to->block = block;
	memcpy(to->fields, fields, block.n * sizeof(*fields));
	memcpy(to->fields + block.n, bytes, block.used);
	h->saved = to;
}

void block_restore(struct h2 *h)
{
	struct block_saved *from = h->saved;

	block = from->block;
	memcpy(fields, from->fields, block.n * sizeof(*fields));
	memcpy(bytes, from->fields + block.n, block.used);
	mem_free(from);
	h->saved = NULL;
}
