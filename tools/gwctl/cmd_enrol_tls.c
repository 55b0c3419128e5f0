/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/gwctl/cmd_enrol_tls.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "gateway/base/addr.h"
#include "gateway/base/buf.h"
#include "gateway/base/mem.h"

#define TIMEOUT_S 30

/* Connecting, too, ends then (socket(7)). */
static int
dial_one(int family, const struct sockaddr *to, socklen_t len)
{
	const struct timeval limit = { .tv_sec = TIMEOUT_S };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), e;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(fd, to, len) == 0)
		return fd;
	e = errno == EINPROGRESS ? ETIMEDOUT : errno;
	close(fd);
	errno = e;
	return -1;
}

static int
dial(const struct cmd_enrol_server *s, struct errs *errs)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
	struct addrinfo *list = NULL;
	const char *why;
	struct addr a;
	int fd = -1, r;

	if (s->connect) {
		if (addr_parse(&a, s->connect, &why) != 0)
			errs_add(errs, NULL, 0, "--connect %s: %s; write ADDRESS:PORT", s->connect, why);
		else if ((fd = dial_one(a.ss.ss_family, (const struct sockaddr *)&a.ss, a.len)) < 0)
			errs_add(errs, NULL, 0, "cannot connect to %s: %s; is an enrolment service listening there?", s->connect, strerror(errno));
		return fd;
	}
	r = getaddrinfo(s->host, s->port, &hints, &list);
	if (r != 0) {
		errs_add(errs, NULL, 0, "the address of %s is not known: %s; name it with --connect ADDRESS:PORT", s->host, gai_strerror(r));
		return -1;
	}
	for (const struct addrinfo *i = list; i && fd < 0; i = i->ai_next)
		fd = dial_one(i->ai_family, i->ai_addr, i->ai_addrlen);
	if (fd < 0)
		errs_add(errs, NULL, 0, "cannot connect to %s port %s: %s; is an enrolment service listening there?", s->host, s->port, strerror(errno));
	freeaddrinfo(list);
	return fd;
}

static int
trust(SSL_CTX *ctx, const char *pem)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509 *x;
	int n = 0;

	while (in && (x = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		n += X509_STORE_add_cert(store, x) == 1;
		X509_free(x);
	}
	BIO_free(in);
	ERR_clear_error();
	return n;
}

static const char *
reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());

	return text ? text : "the connection ended";
}

static SSL_CTX *
make_ctx(const struct cmd_enrol_server *s, struct errs *errs)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) {
		errs_add(errs, NULL, 0, "OpenSSL cannot do TLS 1.3 here");
	} else if (s->bundle_pem && !trust(ctx, s->bundle_pem)) {
		errs_add(errs, NULL, 0, "the bundle has no CA certificate in it");
	} else if (s->certificate && (SSL_CTX_use_certificate_chain_file(ctx, s->certificate) != 1)) {
		errs_add(errs, NULL, 0, "%s holds no certificate chain in PEM (%s)", s->certificate, reason());
	} else if (s->certificate && (SSL_CTX_use_PrivateKey_file(ctx, s->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)) {
		errs_add(errs, NULL, 0, "%s is not the key of %s (%s)", s->key, s->certificate, reason());
	} else {
		SSL_CTX_set_verify(ctx, s->bundle_pem ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
		return ctx;
	}
	SSL_CTX_free(ctx);
	return NULL;
}

static void
explain_handshake(const struct cmd_enrol_server *s, const SSL *ssl, struct errs *errs)
{
	long v = SSL_get_verify_result(ssl);

	if (s->bundle_pem && v == X509_V_ERR_HOSTNAME_MISMATCH)
		errs_add(errs, NULL, 0, "the server has a certificate for another name than %s; is the host of --url the \"enrol.host\" of the service?", s->host);
	else if (s->bundle_pem && v != X509_V_OK)
		errs_add(errs, NULL, 0, "the server's certificate does not come from a CA of the bundle (%s); is this the right server, and the right bundle?",
		    X509_verify_cert_error_string(v));
	else
		errs_add(errs, NULL, 0, "TLS with %s failed: %s; is this the enrolment service, and does it know the name %s?",
		    s->connect ? s->connect : s->host, reason(), s->host);
}

static int
exchange(SSL *ssl, struct wire_ask *ask, struct wire_reader *r, struct errs *errs)
{
	const char *why = "the connection ended before an answer";
	struct buf out;
	char in[16384];
	int got = 0, n = 1, rc = -1;

	buf_init(&out, 0);
	wire_write_request(&out, ask);
	if (SSL_write(ssl, out.data, (int)out.len) <= 0) {
		errs_add(errs, NULL, 0, "the request could not be sent: %s", reason());
		goto done;
	}
	while (got == 0 && n > 0) {
		n = SSL_read(ssl, in, sizeof(in));
		/* A server that refuses our certificate says so here (RFC 8446 4.4.2.4). */
		if (n <= 0 && SSL_get_error(ssl, n) != SSL_ERROR_ZERO_RETURN && ERR_peek_error()) {
			errs_add(errs, NULL, 0, "the server ended the connection: %s", reason());
			goto done;
		}
		got = wire_read_answer(r, in, n > 0 ? (size_t)n : 0, n <= 0, &why);
	}
	if (got > 0)
		rc = 0;
	else
		errs_add(errs, NULL, 0, "the server's answer cannot be used: %s", why);
done:
	mem_wipe(out.data, out.len); /* a token may be in it */
	buf_fini(&out);
	return rc;
}

int
cmd_enrol_ask(const struct cmd_enrol_server *s, struct wire_ask *ask, struct wire_reader *r, struct errs *errs)
{
	char *host = strcmp(s->port, "443") == 0 ? mem_strdup(s->host) : mem_printf("%s:%s", s->host, s->port);
	static const uint8_t alpn[] = "\10http/1.1";
	SSL_CTX *ctx = make_ctx(s, errs);
	SSL *ssl = ctx ? SSL_new(ctx) : NULL;
	int fd = ssl ? dial(s, errs) : -1, rc = -1;

	ask->host = host;
	wire_reader_init(r);
	if (fd >= 0) {
		if (SSL_set_fd(ssl, fd) != 1 || SSL_set_tlsext_host_name(ssl, s->host) != 1 || SSL_set1_host(ssl, s->host) != 1 ||
		    SSL_set_alpn_protos(ssl, alpn, sizeof(alpn) - 1) != 0)
			errs_add(errs, NULL, 0, "OpenSSL refuses the host %s", s->host);
		else if (SSL_connect(ssl) != 1)
			explain_handshake(s, ssl, errs);
		else
			rc = exchange(ssl, ask, r, errs);
		if (rc == 0)
			SSL_shutdown(ssl);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	if (fd >= 0)
		close(fd);
	ask->host = NULL;
	mem_free(host);
	return rc;
}
