/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TLS connection. HANDSHAKING ends with OPEN or BROKEN, OPEN ends with BROKEN, BROKEN ends with tls_free(). A handshake may be
 * parked in the middle of a signature (gateway/keys/client.h); it then owns an ASYNC job that must be resumed before SSL_free().
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/tls/tls_int.h"

#define RECORD 16384           /* RFC 8446 5.1 */
#define RECORDS_PER_KEY (1u << 24) /* RFC 8446 5.5: AES-GCM is good for 2^24.5 full records */
/*
 * At that nobody needs a KeyUpdate a second. libssl calls back three times for one,
 * five times with its answer: about 20 to 30 in a burst, one a second for ever.
 */
#define POST_HANDSHAKE_BURST 100u
#define POST_HANDSHAKE_PER_S 5u

static const char flood[] = "key-update-flood";
static const uint8_t alpn_h2[] = "\2h2", alpn_reverse[] = "\12h2-reverse", alpn_http1[] = "\10http/1.1";

static const struct {
	const uint8_t *wire;   /* length octet and name (RFC 7301 3.1) */
	enum tls_alpn alpn;
	unsigned accept;
} protocols[] = {
	{ alpn_h2, TLS_ALPN_H2, TLS_ACCEPT_PEERS | TLS_ACCEPT_WORKLOADS },
	{ alpn_reverse, TLS_ALPN_H2_REVERSE, TLS_ACCEPT_PEERS },
	{ alpn_http1, TLS_ALPN_HTTP1, TLS_ACCEPT_WORKLOADS | TLS_ACCEPT_ENROL },
};

/* ---- hooks ------------------------------------------------------------------------------------- */

static int
alpn_index(const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < sizeof(protocols) / sizeof(*protocols); i++)
		if (len == protocols[i].wire[0] && !memcmp(name, protocols[i].wire + 1, len))
			return (int)i;
	return -1;
}

int
tls_conn_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
	struct tls_conn *t = SSL_get_app_data(ssl);

	(void)arg;
	/* The client's order decides: of ours each client needs exactly one. OpenSSL has checked the list's form. */
	for (unsigned i = 0; i < in_len; i += 1u + in[i]) {
		int p = alpn_index(in + i + 1, in[i]);

		if (p < 0 || !(protocols[p].accept & t->accept))
			continue;
		*out = protocols[p].wire + 1;
		*out_len = protocols[p].wire[0];
		t->alpn = (uint8_t)protocols[p].alpn;
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* RFC 6066 3: a list of one host_name. Compared without regard to case, as DNS does. */
static bool
asks_for(SSL *ssl, const char *host)
{
	const unsigned char *p;
	size_t n, len = strlen(host);

	return SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) && n == len + 5 && p[0] == (n - 2) >> 8 && p[1] == ((n - 2) & 0xff) &&
	    p[2] == TLSEXT_NAMETYPE_host_name && p[3] == len >> 8 && p[4] == (len & 0xff) && !strncasecmp((const char *)p + 5, host, len);
}

/* The name decides between the enrolment service and everything else, before any other choice is made. */
static bool
choose_service(struct tls_conn *t)
{
	SSL_CTX *service = t->accept & TLS_ACCEPT_ENROL ? t->env->ctx[TLS_CTX_ENROL] : NULL;

	if (!t->env->enrol_host || !asks_for(t->ssl, t->env->enrol_host)) {
		t->accept &= (uint8_t)~TLS_ACCEPT_ENROL;
		return t->accept != 0;
	}
	if (!service || !SSL_set_SSL_CTX(t->ssl, service))
		return false;
	SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL); /* RFC 7030 3.3.2: a client may have no certificate yet */
	t->accept = TLS_ACCEPT_ENROL;
	return true;
}

int
tls_conn_on_client_hello(SSL *ssl, int *alert, void *arg)
{
	struct tls_conn *t = SSL_get_app_data(ssl);
	const unsigned char *p;
	size_t n;

	(void)arg;
	if (!choose_service(t)) {
		t->token = "server-name";
		t->detail = mem_strdup(t->accept ? "enrolment is not served here" : "not the name of the enrolment service");
		*alert = SSL_AD_UNRECOGNIZED_NAME;
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p, &n))
		return SSL_CLIENT_HELLO_SUCCESS;
	if (t->accept == TLS_ACCEPT_ENROL || t->accept & TLS_ACCEPT_WORKLOADS) {
		t->alpn = TLS_ALPN_HTTP1;
		return SSL_CLIENT_HELLO_SUCCESS;
	}
	/* Too old a client is told so, rather than this. */
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &p, &n))
		return SSL_CLIENT_HELLO_SUCCESS;
	t->token = "alpn";
	t->detail = mem_strdup("the client offers no protocol");
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

int
tls_conn_on_sni(SSL *ssl, int *alert, void *arg)
{
	(void)ssl;
	(void)alert;
	(void)arg;
	return SSL_TLSEXT_ERR_OK; /* any: the owner judges it after the handshake */
}

static void
count_post_handshake(struct tls_conn *t)
{
	uint32_t now = (uint32_t)(clock_mono_ms() / 1000), passed = now - t->budget_s;

	t->post_handshake = true;
	if (passed) {
		uint32_t add = passed < POST_HANDSHAKE_BURST ? passed * POST_HANDSHAKE_PER_S : POST_HANDSHAKE_BURST;

		t->budget_s = now;
		t->budget = t->budget + add > POST_HANDSHAKE_BURST ? POST_HANDSHAKE_BURST : (uint8_t)(t->budget + add);
	}
	if (t->budget)
		t->budget--;
}

/* Called per handshake message and alert, never per record of data. */
void
tls_conn_on_info(const SSL *ssl, int where, int value)
{
	struct tls_conn *t = SSL_get_app_data(ssl);

	if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT) {
		if (value >> 8 == SSL3_AL_FATAL || (value & 0xff) != SSL_AD_CLOSE_NOTIFY)
			t->alert = value & 0xff;
	} else if ((where & SSL_CB_LOOP) && t->phase == TLS_OPEN) {
		count_post_handshake(t);
	}
}

/* ---- life -------------------------------------------------------------------------------------- */

static struct tls_conn *
conn_new(struct tls_env *e, SSL_CTX *ctx, int fd, enum tls_kind kind, tls_wake_fn *on_wake, void *ctx_arg)
{
	struct tls_conn *t = mem_zalloc(sizeof(*t));

	t->env = e;
	e->refs++;
	t->fd = fd;
	t->kind = (uint8_t)kind;
	t->alert = -1;
	t->budget = POST_HANDSHAKE_BURST;
	keys_park_init(&t->park, on_wake, ctx_arg);
	t->ssl = SSL_new(ctx);
	t->bio = tls_bio_new(t);
	if (!t->ssl || !t->bio || !SSL_set_app_data(t->ssl, t))
		abort(); /* out of memory, as in gateway/base/mem.h */
	SSL_set_bio(t->ssl, t->bio, t->bio);
	return t;
}

struct tls_conn *
tls_server_new(struct tls_env *e, int fd, unsigned accept, tls_wake_fn *on_wake, void *ctx)
{
	bool inside = (accept & ~(unsigned)TLS_ACCEPT_ENROL) == TLS_ACCEPT_WORKLOADS && e->ctx[TLS_CTX_INSIDE];
	struct tls_conn *t = conn_new(e, e->ctx[inside ? TLS_CTX_INSIDE : TLS_CTX_SERVER], fd, TLS_SERVER, on_wake, ctx);

	t->accept = (uint8_t)accept;
	SSL_set_accept_state(t->ssl);
	return t;
}

struct tls_conn *
tls_client_new(struct tls_env *e, int fd, enum tls_kind kind, const char *server_name, tls_wake_fn *on_wake, void *ctx)
{
	struct tls_conn *t = conn_new(e, e->ctx[TLS_CTX_CLIENT], fd, kind, on_wake, ctx);
	const uint8_t *alpn = kind == TLS_LINK_REVERSE ? alpn_reverse : alpn_h2;

	if (SSL_set_alpn_protos(t->ssl, alpn, 1u + alpn[0]) != 0 ||
	    (server_name && SSL_set_tlsext_host_name(t->ssl, server_name) != 1)) {
		t->phase = TLS_BROKEN;
		t->token = "server-name";
		ERR_clear_error();
	}
	SSL_set_connect_state(t->ssl);
	return t;
}

/* The certificate of a server's context, for once as a client's. */
static bool
show(SSL *ssl, SSL_CTX *of)
{
	STACK_OF(X509) *chain = NULL;

	return of && SSL_CTX_get0_chain_certs(of, &chain) && SSL_use_certificate(ssl, SSL_CTX_get0_certificate(of)) == 1 &&
	    SSL_use_PrivateKey(ssl, SSL_CTX_get0_privatekey(of)) == 1 && (!chain || SSL_set1_chain(ssl, chain) == 1);
}

struct tls_conn *
tls_est_client_new(struct tls_env *e, int fd, unsigned key, const char *host, tls_wake_fn *on_wake, void *ctx)
{
	static const int of[] = { TLS_CTX_CLIENT, TLS_CTX_INSIDE, TLS_CTX_ENROL }; /* by enum keys_number */
	struct tls_conn *t = conn_new(e, e->ctx[TLS_CTX_CLIENT], fd, TLS_EST_CLIENT, on_wake, ctx);

	if (key >= sizeof(of) / sizeof(*of) || (key && !show(t->ssl, e->ctx[of[key]])) ||
	    SSL_set_alpn_protos(t->ssl, alpn_http1, 1u + alpn_http1[0]) != 0 || SSL_set_tlsext_host_name(t->ssl, host) != 1) {
		t->phase = TLS_BROKEN;
		t->token = "no-certificate";
		ERR_clear_error();
	}
	t->host = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
	SSL_set_connect_state(t->ssl);
	return t;
}

void
tls_free(struct tls_conn *t)
{
	if (!t)
		return;
	keys_park_cancel(&t->park);
	if (SSL_waiting_for_async(t->ssl)) {
		BIO *nowhere = BIO_new(BIO_s_null());

		/* The suspended job ends by failing; the alert that it then writes must not meet a descriptor that may be another's by now. */
		if (!nowhere)
			abort();
		SSL_set_bio(t->ssl, nowhere, nowhere); /* takes one reference for both */
		SSL_do_handshake(t->ssl);
		ERR_clear_error();
	}
	SSL_free(t->ssl);
	tls_env_unref(t->env);
	mem_free(t->peer);
	mem_free(t->detail);
	mem_free(t->chain_der);
	mem_free(t);
}

/* ---- failures ---------------------------------------------------------------------------------- */

static void
set_failure(struct tls_conn *t, const char *token, const char *detail)
{
	t->phase = TLS_BROKEN;
	if (!t->token)
		t->token = token;
	if (!t->detail && detail)
		t->detail = mem_strdup(detail);
}

static const struct {
	int reason;
	const char *token;
} reasons[] = {
	{ SSL_R_UNSUPPORTED_PROTOCOL, "tls-version" },
	{ SSL_R_VERSION_TOO_LOW, "tls-version" },
	{ SSL_R_WRONG_SSL_VERSION, "tls-version" },
	{ SSL_R_BAD_PROTOCOL_VERSION_NUMBER, "tls-version" },
	{ SSL_R_NO_PROTOCOLS_AVAILABLE, "tls-version" },
	{ SSL_R_NO_SHARED_CIPHER, "no-shared-cipher" },
	{ SSL_R_NO_SUITABLE_KEY_SHARE, "no-shared-group" },
	{ SSL_R_NO_SUITABLE_GROUPS, "no-shared-group" },
	{ SSL_R_NO_SHARED_GROUPS, "no-shared-group" },
	{ SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "no-shared-signature" },
	{ SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, "no-shared-signature" },
	{ SSL_R_WRONG_SIGNATURE_TYPE, "no-shared-signature" },
	{ SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "no-certificate" },
	{ SSL_R_NO_APPLICATION_PROTOCOL, "alpn" },
	{ SSL_R_UNEXPECTED_EOF_WHILE_READING, "eof" },
};

static void
fail_by_reason(struct tls_conn *t, unsigned long err)
{
	const char *text = ERR_reason_error_string(err), *token = "protocol";

	switch (ERR_GET_REASON(err)) {
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
		text = "plain HTTP on a TLS port";
		break;
	case SSL_R_WRONG_VERSION_NUMBER:
		text = "not TLS";
		break;
	case SSL_R_EXCESSIVE_MESSAGE_SIZE:
		if (SSL_get_state(t->ssl) == TLS_ST_SR_CLNT_HELLO || SSL_get_state(t->ssl) == TLS_ST_BEFORE)
			break;
		t->reason = SVID_CHAIN_TOO_LONG; /* case 59; the only long message then is Certificate */
		token = svid_reason_text(t->reason);
		text = "a certificate message of more than 65536 octets";
		break;
	default:
		for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
			if (ERR_GET_LIB(err) == ERR_LIB_SSL && ERR_GET_REASON(err) == reasons[i].reason)
				token = reasons[i].token;
	}
	set_failure(t, token, text);
}

/* From the most telling cause to the least. */
static void
set_failure_from_ssl(struct tls_conn *t)
{
	unsigned long err = ERR_peek_error();

	t->phase = TLS_BROKEN;
	if (t->reason != SVID_OK) {
		set_failure(t, svid_reason_text(t->reason), NULL);
	} else if (keys_park_failure(&t->park)) {
		set_failure(t, "keys", keys_park_failure(&t->park));
	} else if (t->alert >= 0) {
		set_failure(t, "alert", SSL_alert_desc_string_long(t->alert));
	} else if (t->io_errno) {
		set_failure(t, t->io_errno == ECONNRESET || t->io_errno == EPIPE ? "reset" : "io", strerror(t->io_errno));
	} else if (t->eof && (!err || ERR_GET_REASON(err) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
		set_failure(t, "eof", t->token || SSL_is_init_finished(t->ssl) ? "closed without close_notify" : "closed during the handshake");
	} else if (err) {
		fail_by_reason(t, err);
	} else {
		set_failure(t, "protocol", NULL);
	}
	ERR_clear_error();
}

const char *
tls_failure(const struct tls_conn *t, const char **detail)
{
	if (detail)
		*detail = t->detail ? t->detail : "";
	return t->token ? t->token : "";
}

bool
tls_alarming(const struct tls_conn *t)
{
	switch (t->reason) {
	case SVID_UNTRUSTED: /* case 48 */
		return t->peer && t->peer->id[0];
	case SVID_EXPIRED:
	case SVID_NOT_YET_VALID: /* case 52 */
		return true;
	default:
		return t->token == flood; /* case 58 */
	}
}

/* ---- handshake --------------------------------------------------------------------------------- */

static enum tls_status
handshake_done(struct tls_conn *t)
{
	const unsigned char *name;
	unsigned len;
	int p;

	if (t->kind != TLS_SERVER) {
		SSL_get0_alpn_selected(t->ssl, &name, &len);
		if (!name && t->kind == TLS_EST_CLIENT) { /* an HTTP server need not know ALPN */
			name = alpn_http1 + 1;
			len = alpn_http1[0];
		}
		p = name ? alpn_index(name, len) : -1;
		if (p < 0) {
			set_failure(t, "alpn", "the server speaks no protocol of ours");
			return TLS_FAILED;
		}
		t->alpn = (uint8_t)protocols[p].alpn; /* OpenSSL took only what was offered */
	}
	SSL_clear_mode(t->ssl, SSL_MODE_ASYNC);
	t->phase = TLS_OPEN;
	t->budget_s = (uint32_t)(clock_mono_ms() / 1000);
	return TLS_DONE;
}

enum tls_status
tls_handshake(struct tls_conn *t)
{
	int r;

	if (t->phase != TLS_HANDSHAKING)
		return t->phase == TLS_OPEN ? TLS_DONE : TLS_FAILED;
	if (keys_park_waiting(&t->park))
		return TLS_PARKED;
	ERR_clear_error();
	keys_park_enter(&t->park);
	r = SSL_do_handshake(t->ssl);
	keys_park_leave(&t->park);
	if (r == 1)
		return handshake_done(t);
	switch (SSL_get_error(t->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_WANT_ASYNC:
		return TLS_PARKED;
	case SSL_ERROR_WANT_ASYNC_JOB:
		if (keys_park_want_job(&t->park) == 0)
			return TLS_PARKED;
		set_failure(t, "busy", "too many handshakes wait for a signature");
		return TLS_FAILED;
	default:
		set_failure_from_ssl(t);
		return TLS_FAILED;
	}
}

/* ---- what is known of the far end -------------------------------------------------------------- */

const struct svid_info *
tls_peer(const struct tls_conn *t)
{
	static const struct svid_info unknown;

	return t->peer ? t->peer : &unknown;
}

void
tls_peer_forget(struct tls_conn *t)
{
	mem_free(t->peer);
	t->peer = NULL;
}

bool
tls_no_crl(const struct tls_conn *t)
{
	return t->no_crl;
}

bool
tls_current(const struct tls_conn *t)
{
	return t->turn == t->env->turns && !t->env->replaced;
}

enum tls_alpn
tls_alpn(const struct tls_conn *t)
{
	return t->alpn;
}

const char *
tls_sni(const struct tls_conn *t)
{
	return SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
}

bool
tls_enrol(const struct tls_conn *t)
{
	return t->kind == TLS_SERVER && t->accept == TLS_ACCEPT_ENROL;
}

const char *
tls_group(const struct tls_conn *t)
{
	const char *name = SSL_group_to_name(t->ssl, (int)SSL_get_negotiated_group(t->ssl));

	return name ? name : "";
}

const char *
tls_cipher(const struct tls_conn *t)
{
	return SSL_get_cipher_name(t->ssl);
}

/* Leaf first. libssl keeps a server's view of it without the leaf. */
static X509 *
sent_certificate(const struct tls_conn *t, int i)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);

	if (i == 0)
		return SSL_get0_peer_certificate(t->ssl);
	if (t->kind == TLS_SERVER)
		i--;
	return i < sk_X509_num(chain) ? sk_X509_value(chain, i) : NULL;
}

static void
make_chain(struct tls_conn *t)
{
	size_t total = 0, n = 0;
	uint8_t *p;
	int len;
	X509 *x;

	for (; n < SVID_MAX_CHAIN && (x = sent_certificate(t, (int)n)); n++) {
		len = i2d_X509(x, NULL);
		if (len <= 0)
			return;
		t->chain[n].len = (size_t)len;
		total += (size_t)len;
	}
	p = t->chain_der = mem_alloc(total);
	for (size_t i = 0; i < n; i++) {
		t->chain[i].p = p;
		i2d_X509(sent_certificate(t, (int)i), &p); /* moves p */
	}
	t->nchain = n;
}

size_t
tls_peer_chain(const struct tls_conn *t, struct svid_der *out, size_t max)
{
	size_t n;

	if (!t->chain_der)
		make_chain((struct tls_conn *)(uintptr_t)t); /* a cache: what it says does not change */
	n = t->nchain < max ? t->nchain : max;
	memcpy(out, t->chain, n * sizeof(*out));
	return n;
}

/* ---- data -------------------------------------------------------------------------------------- */

enum outcome { WOULD_BLOCK, AGAIN, CLOSED, FAILED };

/*
 * Why a read or write did nothing. By what libssl and the BIO remember, not by SSL_get_error(), which goes astray on any
 * error that anybody left in the thread's queue.
 */
static enum outcome
why_nothing(struct tls_conn *t)
{
	if (t->post_handshake) {
		t->post_handshake = false;
		if (!t->budget) {
			set_failure(t, flood, "too many post-handshake messages"); /* case 58 */
			return FAILED;
		}
		if (t->alert < 0 && SSL_want_read(t->ssl) && !t->eof && !t->io_errno)
			return AGAIN; /* without AUTO_RETRY libssl comes back after each */
	}
	if (SSL_want_read(t->ssl) && BIO_should_read(t->bio))
		return WOULD_BLOCK;
	if (SSL_want_write(t->ssl) && BIO_should_write(t->bio)) {
		t->want_write = true;
		return WOULD_BLOCK;
	}
	if ((SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN) && t->alert < 0 && t->phase == TLS_OPEN && !t->io_errno)
		return CLOSED;
	set_failure_from_ssl(t);
	return FAILED;
}

ssize_t
tls_read(struct tls_conn *t, void *p, size_t len)
{
	size_t got = 0, n;

	if (t->phase != TLS_OPEN)
		return -2;
	t->want_write = false;
	/* What was seen in an earlier call says nothing: the edge for what came since may be spent on this one. */
	t->drained = t->short_read = false;
	while (got < len) {
		if (SSL_read_ex(t->ssl, (uint8_t *)p + got, len - got, &n)) {
			got += n;
			/* The socket is empty and so is the buffer: save the recv that would say so. */
			if (t->short_read && !SSL_has_pending(t->ssl)) {
				t->drained = true;
				break;
			}
			continue;
		}
		switch (why_nothing(t)) {
		case AGAIN:
			continue;
		case WOULD_BLOCK:
			t->drained = true;
			return got ? (ssize_t)got : -1;
		case CLOSED: /* 0 the next time, too */
			return (ssize_t)got;
		case FAILED:
			return got ? (ssize_t)got : -2;
		}
	}
	return (ssize_t)got;
}

/* The next record goes under a new key; libssl sends the KeyUpdate before it. Refused between two parts of a write: then after the next. */
static void
new_key(struct tls_conn *t)
{
	if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
		t->records = 0;
	else
		ERR_clear_error();
}

ssize_t
tls_write(struct tls_conn *t, const void *p, size_t len)
{
	return tls_write_more(t, p, len, false);
}

ssize_t
tls_write_more(struct tls_conn *t, const void *p, size_t len, bool more)
{
	size_t put = 0, n;

	if (t->phase != TLS_OPEN)
		return -2;
	t->want_write = false;
	while (put < len) {
		size_t chunk = len - put < RECORD ? len - put : RECORD;

		t->more = more || len - put > chunk;
		if (SSL_write_ex(t->ssl, (const uint8_t *)p + put, chunk, &n)) {
			put += n;
			if (++t->records >= RECORDS_PER_KEY)
				new_key(t);
			continue;
		}
		switch (why_nothing(t)) {
		case AGAIN:
			continue;
		case WOULD_BLOCK:
			return put ? (ssize_t)put : -1;
		case CLOSED: /* the far end's half: ours is still open, so this is something else */
		case FAILED:
			set_failure(t, "protocol", NULL);
			return put ? (ssize_t)put : -2;
		}
	}
	return (ssize_t)put;
}

bool
tls_wants_write(const struct tls_conn *t)
{
	return t->want_write;
}

bool
tls_pending(const struct tls_conn *t)
{
	return t->phase == TLS_OPEN && !t->drained;
}

void
tls_shutdown(struct tls_conn *t)
{
	if (t->phase != TLS_OPEN || (SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN))
		return;
	t->more = false;
	if (SSL_shutdown(t->ssl) < 0)
		ERR_clear_error();
}
