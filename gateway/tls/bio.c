/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket as OpenSSL sees it. Beside what its own socket BIO does it notes when recv() gave less than was asked, which saves
 * the call that would only say EAGAIN, and lets the kernel join records of one tls_write() into full segments (MSG_MORE).
 */
#include <errno.h>
#include <sys/socket.h>

#include <openssl/bio.h>

#include "gateway/tls/tls_int.h"

static int
bio_read(BIO *b, char *p, size_t len, size_t *got)
{
	struct tls_conn *t = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	*got = 0;
	do
		n = recv(t->fd, p, len, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		t->short_read = (size_t)n < len;
		*got = (size_t)n;
		return 1;
	}
	t->short_read = true;
	if (n == 0)
		t->eof = true;
	else if (errno == EAGAIN || errno == EWOULDBLOCK)
		BIO_set_retry_read(b);
	else
		t->io_errno = errno;
	return 0;
}

static int
bio_write(BIO *b, const char *p, size_t len, size_t *put)
{
	struct tls_conn *t = BIO_get_data(b);
	ssize_t n;

	BIO_clear_retry_flags(b);
	*put = 0;
	do
		n = send(t->fd, p, len, MSG_NOSIGNAL | (t->more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	if (n >= 0) {
		*put = (size_t)n;
		return 1;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		BIO_set_retry_write(b);
	else
		t->io_errno = errno;
	return 0;
}

static long
bio_ctrl(BIO *b, int cmd, long num, void *p)
{
	struct tls_conn *t = BIO_get_data(b);

	(void)num;
	(void)p;
	switch (cmd) {
	case BIO_CTRL_EOF:
		return t->eof;
	case BIO_CTRL_FLUSH:
		return 1;
	default:
		return 0;
	}
}

BIO *
tls_bio_new(struct tls_conn *t)
{
	static BIO_METHOD *method;
	BIO *b;

	if (!method) {
		BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sallyport socket");

		if (!m || !BIO_meth_set_read_ex(m, bio_read) || !BIO_meth_set_write_ex(m, bio_write) || !BIO_meth_set_ctrl(m, bio_ctrl)) {
			BIO_meth_free(m);
			return NULL;
		}
		method = m;
	}
	b = BIO_new(method);
	if (!b)
		return NULL;
	BIO_set_data(b, t);
	BIO_set_init(b, 1);
	return b;
}
