/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies. RFC 9112 7.1, with the state that reads each part:
 *
 *   chunked-body = *chunk last-chunk trailer-section CRLF
 *   chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
 *                  SIZE         EXT         LINE_LF DATA     DATA_CR DATA_LF
 *   last-chunk   = 1*("0") [ chunk-ext ] CRLF
 *   trailer-section = *( field-line CRLF )        TRAILER_START, TRAILER
 *                  and the last CRLF              LAST_LF
 */
#include "gateway/http1/body.h"

#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/http1/field.h"

#define MAX_SIZE_DIGITS 16
#define MAX_LINE 4096        /* octets of one chunk line */
#define MAX_EXTENSIONS 8192  /* octets of extensions over a whole body: they are read for nothing */

enum state {
	S_CONTENT,       /* H1_LENGTH, H1_UNTIL_CLOSE; until left is 0 */
	S_SIZE,          /* chunk-size; until its first octet that is no digit */
	S_BWS,           /* white space before ";" */
	S_EXT,           /* chunk-ext; until CR */
	S_LINE_LF,       /* the LF of a chunk line */
	S_DATA,          /* chunk-data; until left is 0 */
	S_DATA_CR,       /* the CRLF after it */
	S_DATA_LF,
	S_TRAILER_START, /* the first octet of a trailer line: CR ends the section */
	S_TRAILER,       /* in a trailer line; until LF */
	S_LAST_LF,       /* the LF that ends the message */
	S_DONE,          /* for good */
	S_ERROR,         /* for good */
};

void
h1_body_init(struct h1_body *b, enum h1_framing framing, uint64_t content_length)
{
	memset(b, 0, sizeof(*b));
	b->framing = (uint8_t)framing;
	switch (framing) {
	case H1_LENGTH:
		b->left = content_length;
		b->state = content_length ? S_CONTENT : S_DONE;
		break;
	case H1_CHUNKED:
		b->state = S_SIZE;
		break;
	case H1_UNTIL_CLOSE:
		b->state = S_CONTENT;
		break;
	case H1_NONE:
		b->state = S_DONE;
		break;
	}
}

void
h1_body_fini(struct h1_body *b)
{
	mem_free(b->trailers);
	b->trailers = NULL;
	b->trailers_len = b->trailers_cap = 0;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One octet of chunk-size, or the first one after it. */
static enum state
size_octet(struct h1_body *b, char c)
{
	int digit = hex_value(c);

	if (digit >= 0) {
		/* RFC 9112 7.1: must not overflow; and no longer than it can be, so that zeros do not go on for ever. */
		if (b->line++ == MAX_SIZE_DIGITS || b->left > (INT64_MAX >> 4))
			return S_ERROR;
		b->left = b->left << 4 | (unsigned)digit;
		return S_SIZE;
	}
	if (b->line == 0)
		return S_ERROR; /* no digit at all */
	if (c == '\r')
		return S_LINE_LF;
	if (c != ';' && c != ' ' && c != '\t')
		return S_ERROR;
	b->line++;
	b->extensions++;
	return c == ';' ? S_EXT : S_BWS;
}

/* RFC 9112 7.1.1: extensions are ignored, but bounded, and no CR, LF or other control hides in them. */
static enum state
extension_octet(struct h1_body *b, char c)
{
	if (c == '\r')
		return b->state == S_EXT ? S_LINE_LF : S_ERROR; /* white space alone is no extension */
	if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f)
		return S_ERROR;
	if (++b->line > MAX_LINE || ++b->extensions > MAX_EXTENSIONS)
		return S_ERROR;
	if (b->state == S_BWS)
		return c == ';' ? S_EXT : c == ' ' || c == '\t' ? S_BWS : S_ERROR;
	return S_EXT;
}

/* Copies to the end of the line or of the input; returns the octets used, or 0 when the section is too long. */
static size_t
trailer_octets(struct h1_body *b, const char *in, size_t n)
{
	const char *lf = memchr(in, '\n', n);
	size_t used = lf ? (size_t)(lf - in) + 1 : n;

	/* The CRLF that ends the section counts as well, as in a head. */
	if (used > H1_MAX_HEAD - 2 - b->trailers_len)
		return 0;
	if (b->trailers_len + used > b->trailers_cap) {
		uint32_t cap = b->trailers_cap ? b->trailers_cap : 256;

		while (cap < b->trailers_len + used)
			cap *= 2;
		b->trailers = mem_realloc(b->trailers, cap);
		b->trailers_cap = cap;
	}
	memcpy(b->trailers + b->trailers_len, in, used);
	b->trailers_len += (uint32_t)used;
	b->state = lf ? S_TRAILER_START : S_TRAILER;
	/* A line of LF alone has nothing before it; one of CR LF never comes here. */
	if (lf && (b->trailers_len < 2 || b->trailers[b->trailers_len - 2] != '\r'))
		return 0;
	return used;
}

/*
 * RFC 9110 6.5.1: what frames, routes or controls a message has to be known before its content. Fields that say who calls
 * are marked H1_F_IDENTITY, for the caller to drop.
 */
static bool
trailers_allowed(struct h1_body *b)
{
	struct h1_field f[H1_MAX_FIELDS];
	int n = h1_field_parse(f, H1_MAX_FIELDS, b->trailers, b->trailers + b->trailers_len);

	for (int i = 0; i < n; i++)
		if (f[i].hop || f[i].id == H1_F_HOST || f[i].id == H1_F_CONTENT_LENGTH || f[i].id == H1_F_EXPECT)
			return false;
	return n >= 0;
}

/* One octet of what is between the data; moves the state. */
static void
framing_octet(struct h1_body *b, char c)
{
	switch ((enum state)b->state) {
	case S_SIZE:
		b->state = size_octet(b, c);
		break;
	case S_BWS:
	case S_EXT:
		b->state = extension_octet(b, c);
		break;
	case S_LINE_LF:
		b->state = c != '\n' ? S_ERROR : b->left ? S_DATA : S_TRAILER_START;
		b->line = 0;
		break;
	case S_DATA_CR:
		b->state = c == '\r' ? S_DATA_LF : S_ERROR;
		break;
	case S_DATA_LF:
		b->state = c == '\n' ? S_SIZE : S_ERROR;
		break;
	default:
		b->state = S_ERROR;
		break;
	}
}

size_t
h1_body_feed(struct h1_body *b, const char *in, size_t n, enum h1_event *ev, const char **data, size_t *data_len)
{
	size_t i = 0, used;

	*data = NULL;
	*data_len = 0;
	for (;;) {
		switch ((enum state)b->state) {
		case S_DONE:
			*ev = H1_EV_END;
			return i;
		case S_ERROR:
			*ev = H1_EV_ERROR;
			return i;
		default:
			break;
		}
		if (i == n) {
			*ev = H1_EV_MORE;
			return i;
		}
		switch ((enum state)b->state) {
		case S_CONTENT:
		case S_DATA:
			*data = in + i;
			*data_len = n - i;
			if (b->framing != H1_UNTIL_CLOSE) {
				if (*data_len > b->left)
					*data_len = (size_t)b->left;
				b->left -= *data_len;
				if (b->left == 0)
					b->state = b->state == S_DATA ? S_DATA_CR : S_DONE;
			}
			*ev = H1_EV_DATA;
			return i + *data_len;
		case S_TRAILER_START:
			if (in[i] == '\r') {
				b->state = S_LAST_LF;
				i++;
				break;
			}
			/* fall through */
		case S_TRAILER:
			used = trailer_octets(b, in + i, n - i);
			i += used;
			if (used == 0)
				b->state = S_ERROR;
			break;
		case S_LAST_LF:
			b->state = in[i++] == '\n' ? S_DONE : S_ERROR;
			if (b->state == S_DONE && b->trailers_len > 0) {
				if (trailers_allowed(b)) {
					*ev = H1_EV_TRAILERS;
					return i;
				}
				b->state = S_ERROR;
			}
			break;
		default:
			framing_octet(b, in[i++]);
			break;
		}
	}
}

unsigned
h1_body_trailers(struct h1_body *b, struct h1_field *out, unsigned max)
{
	struct h1_field f[H1_MAX_FIELDS];
	int n;

	if (b->state != S_DONE || b->trailers_len == 0)
		return 0;
	n = h1_field_parse(f, H1_MAX_FIELDS, b->trailers, b->trailers + b->trailers_len);
	if (n < 0)
		return 0;
	if ((unsigned)n > max)
		n = (int)max;
	memcpy(out, f, (unsigned)n * sizeof(f[0]));
	return (unsigned)n;
}

bool
h1_body_eof_ok(const struct h1_body *b)
{
	return b->state == S_DONE || b->framing == H1_UNTIL_CLOSE;
}

size_t
h1_chunk_head(char out[H1_CHUNK_HEAD_MAX], uint64_t size)
{
	unsigned digits = size ? (67 - (unsigned)__builtin_clzll(size)) / 4 : 1;

	for (unsigned i = digits; i-- > 0; size >>= 4)
		out[i] = "0123456789abcdef"[size & 15];
	out[digits] = '\r';
	out[digits + 1] = '\n';
	return digits + 2;
}
