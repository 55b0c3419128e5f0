/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/enrol/hello.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum {
	RECORD_HEAD = 5,
	RECORD_HANDSHAKE = 22,
	RECORD_MAX = 16384, /* RFC 8446 5.1 */
	MESSAGE_HEAD = 4,
	MESSAGE_CLIENT_HELLO = 1,
	EXT_SERVER_NAME = 0,
	NAME_HOST = 0,
};

struct bytes {
	const uint8_t *p;
	size_t n;
};

static bool
take(struct bytes *from, size_t n, struct bytes *out)
{
	if (from->n < n)
		return false;
	*out = (struct bytes){ from->p, n };
	from->p += n;
	from->n -= n;
	return true;
}

/* A vector whose length is written in "size" octets before it, of min to max octets. */
static bool
vector(struct bytes *from, unsigned size, size_t min, size_t max, struct bytes *out)
{
	struct bytes head;
	size_t n = 0;

	if (!take(from, size, &head))
		return false;
	for (unsigned i = 0; i < size; i++)
		n = n << 8 | head.p[i];
	return n >= min && n <= max && take(from, n, out);
}

/* RFC 6066 3: of the kinds of names only one was ever defined, and there is one of it. */
static bool
names(struct bytes ext, const char *host)
{
	struct bytes list, type, name;

	return vector(&ext, 2, 1, 65535, &list) && ext.n == 0 && take(&list, 1, &type) && type.p[0] == NAME_HOST && vector(&list, 2, 1, 255, &name) &&
	    list.n == 0 && name.n == strlen(host) && strncasecmp((const char *)name.p, host, name.n) == 0;
}

static bool
asks(struct bytes m, const char *host)
{
	struct bytes part, exts, ext;
	bool seen = false, asked = false;

	/* legacy_version, random; legacy_session_id, cipher_suites, legacy_compression_methods, extensions */
	if (!take(&m, 2 + 32, &part) || !vector(&m, 1, 0, 32, &part) || !vector(&m, 2, 2, 65534, &part) || part.n % 2 || !vector(&m, 1, 1, 255, &part) ||
	    !vector(&m, 2, 0, 65535, &exts) || m.n)
		return false;
	while (exts.n) {
		unsigned type;

		if (!take(&exts, 2, &part) || !vector(&exts, 2, 0, 65535, &ext))
			return false;
		type = (unsigned)part.p[0] << 8 | part.p[1];
		if (type != EXT_SERVER_NAME)
			continue;
		if (seen)
			return false;
		seen = true;
		asked = names(ext, host);
	}
	return asked;
}

enum hello
hello_asks(const uint8_t *p, size_t len, const char *host)
{
	uint8_t whole[HELLO_MAX]; /* of fragments of several records */
	size_t have = 0, need = MESSAGE_HEAD, at = 0;

	while (have < need) {
		size_t n, left = len - at;

		/* What is wrong is wrong before all of it is here. */
		if ((left > 0 && p[at] != RECORD_HANDSHAKE) || (left > 1 && p[at + 1] != 3))
			return HELLO_NO;
		if (left < RECORD_HEAD)
			return len < HELLO_OCTETS_MAX ? HELLO_MORE : HELLO_NO;
		n = (size_t)p[at + 3] << 8 | p[at + 4];
		if (n == 0 || n > RECORD_MAX || have + n > sizeof(whole))
			return HELLO_NO;
		at += RECORD_HEAD;
		left -= RECORD_HEAD;
		memcpy(whole + have, p + at, left < n ? left : n);
		have += left < n ? left : n;
		if (have > 0 && whole[0] != MESSAGE_CLIENT_HELLO)
			return HELLO_NO;
		if (have >= MESSAGE_HEAD)
			need = MESSAGE_HEAD + ((size_t)whole[1] << 16 | (size_t)whole[2] << 8 | whole[3]);
		if (need > sizeof(whole))
			return HELLO_NO;
		if (left < n)
			return len < HELLO_OCTETS_MAX ? HELLO_MORE : HELLO_NO;
		at += n;
	}
	/* Nothing else is in its last record (RFC 8446 5.1: nor could be, before an answer). */
	if (have != need)
		return HELLO_NO;
	return asks((struct bytes){ whole + MESSAGE_HEAD, need - MESSAGE_HEAD }, host) ? HELLO_YES : HELLO_NO;
}
