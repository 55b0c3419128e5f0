/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: one for dialling, one for listeners, one for listeners with a certificate for ordinary clients. */
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

#include <openssl/err.h>
#include <openssl/pem.h>

#include "gateway/base/mem.h"
#include "gateway/keys/provider.h"
#include "gateway/tls/tls_int.h"

/*
 * The server's order decides. With AES in hardware 128-bit GCM goes first: in TLS 1.3 it is no weaker in practice than
 * the P-256 signatures around it, and it costs a fifth less than 256-bit. Without, ChaCha20 does.
 */
#define SUITES_AES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_CHACHA "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"

/* Best first, until the library takes one: 3.5 sends shares for both (*) and prefers the hybrid even at a further round trip (/). */
static const char *const group_lists[] = {
	"*X25519MLKEM768/*X25519:P-256:P-384",
	"X25519MLKEM768:X25519:P-256:P-384",
	"X25519:P-256:P-384",
};

/* PKCS #1 cannot sign a TLS 1.3 handshake; it is named for the signatures within certificates (RFC 8446 4.2.3). */
#define SIGALGS                                                                                    \
	"ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:"            \
	"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"                             \
	"rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512"

static bool
hardware_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
	return (getauxval(AT_HWCAP) & ((1 << 3) | (1 << 4))) == ((1 << 3) | (1 << 4)); /* HWCAP_AES, HWCAP_PMULL */
#else
	return false;
#endif
}

static bool
set_groups(SSL_CTX *ctx)
{
	for (size_t i = 0; i < sizeof(group_lists) / sizeof(*group_lists); i++)
		if (SSL_CTX_set1_groups_list(ctx, group_lists[i])) {
			ERR_clear_error();
			return true;
		}
	return false;
}

static bool
set_algorithms(SSL_CTX *ctx)
{
	bool aes = hardware_aes();

	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) || !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION))
		return false;
	SSL_CTX_set_security_level(ctx, 2);
	if (aes)
		SSL_CTX_set_options(ctx, SSL_OP_PRIORITIZE_CHACHA); /* for a client that puts it first: it has no AES */
	return SSL_CTX_set_ciphersuites(ctx, aes ? SUITES_AES : SUITES_CHACHA) && set_groups(ctx) &&
	    SSL_CTX_set1_sigalgs_list(ctx, SIGALGS);
}

static void
set_limits(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
#ifdef SSL_OP_NO_RX_CERTIFICATE_COMPRESSION
	SSL_CTX_set_options(ctx, SSL_OP_NO_RX_CERTIFICATE_COMPRESSION | SSL_OP_NO_TX_CERTIFICATE_COMPRESSION);
#endif
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_max_cert_list(ctx, SVID_MAX_BYTES);
	/* Post-handshake messages return to us, to be counted (case 58). */
	SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	    SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_ASYNC);
	/*
	 * One recv for a record, and not one for its head and another for the rest: 13 % of the reader's CPU in bulk. Larger buffers than
	 * the usual one gain nothing: what they save in calls goes into moving the rest to their front.
	 */
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, tls_verify_chain, NULL);
	SSL_CTX_set_info_callback(ctx, tls_conn_on_info);
}

/* The chain and the handle of its key. NULL or why not. */
static const char *
set_identity(SSL_CTX *ctx, const char *pem, uint16_t key_number)
{
	BIO *in = BIO_new_mem_buf(pem, -1);
	X509 *leaf = NULL, *ca;
	EVP_PKEY *key = NULL;
	const char *why = "no certificate in it";
	unsigned n = 1;

	if (!in || !(leaf = PEM_read_bio_X509(in, NULL, NULL, NULL)))
		goto out;
	key = X509_get0_pubkey(leaf) ? keys_provider_key(X509_get0_pubkey(leaf), key_number, &why) : NULL;
	if (!key)
		goto out;
	why = "OpenSSL refused the certificate";
	if (SSL_CTX_use_certificate(ctx, leaf) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		goto out;
	while ((ca = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		if (++n > SVID_MAX_CHAIN || SSL_CTX_add0_chain_cert(ctx, ca) != 1) {
			X509_free(ca);
			why = "its chain is too long";
			goto out;
		}
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
		why = NULL;
	else
		why = "a certificate of its chain is malformed";
out:
	EVP_PKEY_free(key);
	X509_free(leaf);
	BIO_free(in);
	ERR_clear_error();
	return why;
}

static const char *
ctx_new(SSL_CTX **out, bool server, const char *pem, uint16_t key_number)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	*out = ctx;
	if (!ctx || !set_algorithms(ctx))
		return "OpenSSL lacks what TLS 1.3 needs";
	set_limits(ctx);
	if (server) {
		SSL_CTX_set_client_hello_cb(ctx, tls_conn_on_client_hello, NULL);
		SSL_CTX_set_alpn_select_cb(ctx, tls_conn_on_alpn, NULL);
		SSL_CTX_set_tlsext_servername_callback(ctx, tls_conn_on_sni);
	}
	return set_identity(ctx, pem, key_number);
}

struct tls_env *
tls_env_new(const struct tls_env_config *cfg, const char **why)
{
	static char text[160];
	struct tls_env *e = mem_zalloc(sizeof(*e));
	const char *fault, *what = "identity";

	e->refs = 1;
	e->skew_s = cfg->skew_s;
	ERR_clear_error();
	fault = ctx_new(&e->ctx[TLS_CTX_CLIENT], false, cfg->identity_pem, 0);
	if (!fault)
		fault = ctx_new(&e->ctx[TLS_CTX_SERVER], true, cfg->identity_pem, 0);
	if (!fault && cfg->inside_pem) {
		what = "inside";
		fault = ctx_new(&e->ctx[TLS_CTX_INSIDE], true, cfg->inside_pem, 1);
	}
	if (!fault && cfg->enrol_pem) {
		what = "enrol";
		fault = ctx_new(&e->ctx[TLS_CTX_ENROL], true, cfg->enrol_pem, 2);
	}
	e->enrol_host = cfg->enrol_host ? mem_strdup(cfg->enrol_host) : NULL;
	e->nbundles = cfg->nbundles;
	e->bundles = mem_array(cfg->nbundles, sizeof(*e->bundles));
	for (size_t i = 0; i < cfg->nbundles; i++)
		e->bundles[i] = svid_bundle_ref(cfg->bundles[i]);
	ERR_clear_error();
	if (!fault)
		return e;
	snprintf(text, sizeof(text), "%s certificate: %s", what, fault);
	*why = text;
	tls_env_unref(e);
	return NULL;
}

void
tls_env_unref(struct tls_env *e)
{
	if (!e || --e->refs)
		return;
	for (int i = 0; i < TLS_CTXS; i++)
		SSL_CTX_free(e->ctx[i]);
	for (size_t i = 0; i < e->nbundles; i++)
		svid_bundle_unref(e->bundles[i]);
	mem_free(e->bundles);
	mem_free(e->enrol_host);
	mem_free(e);
}

void
tls_env_changed(struct tls_env *e, bool replaced)
{
	e->turns++;
	e->replaced |= replaced;
}
