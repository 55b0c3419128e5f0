/* SPDX-License-Identifier: Apache-2.0 */
/* The far end's chain, judged by pki/svid.h in place of OpenSSL's own verification, within the handshake. */
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/tls/tls_int.h"

/* What libssl turns into an alert for the far end. Our own log and journal have the exact reason. */
static int
openssl_error(enum svid_reason r)
{
	switch (r) {
	case SVID_OK:
		return X509_V_OK;
	case SVID_EXPIRED:
		return X509_V_ERR_CERT_HAS_EXPIRED;
	case SVID_NOT_YET_VALID:
		return X509_V_ERR_CERT_NOT_YET_VALID;
	case SVID_REVOKED:
		return X509_V_ERR_CERT_REVOKED;
	case SVID_UNTRUSTED:
	case SVID_UNKNOWN_DOMAIN:
		return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
	case SVID_EKU:
	case SVID_KEY_USAGE:
		return X509_V_ERR_INVALID_PURPOSE;
	default:
		return X509_V_ERR_CERT_REJECTED;
	}
}

/* The leaf, not a CA above it, whose dates we do not have here. */
static bool
out_of_time(const struct tls_conn *t, int64_t now)
{
	return (t->reason == SVID_EXPIRED && now > t->peer->not_after) || (t->reason == SVID_NOT_YET_VALID && now < t->peer->not_before);
}

/* Which it is, an old certificate or a wrong clock, the two times tell (case 52). */
static char *
detail_of_time(const struct svid_info *peer, int64_t now)
{
	char from[CLOCK_RFC3339_LEN + 1], until[CLOCK_RFC3339_LEN + 1], here[CLOCK_RFC3339_LEN + 1];

	clock_rfc3339(from, (uint64_t)(peer->not_before > 0 ? peer->not_before : 0) * 1000000);
	clock_rfc3339(until, (uint64_t)(peer->not_after > 0 ? peer->not_after : 0) * 1000000);
	clock_rfc3339(here, (uint64_t)now * 1000000);
	return mem_printf("valid from %.19sZ to %.19sZ, and here it is %.19sZ: if that is not the time, this gateway's clock is wrong, else look at theirs",
	    from, until, here);
}

static enum svid_reason
judge(struct tls_conn *t, X509 **chain, size_t n, size_t nbundles, int64_t now, const char **detail)
{
	enum svid_purpose purpose = t->kind == TLS_SERVER ? SVID_CLIENT : SVID_SERVER;
	const struct tls_env *e = t->env;
	enum svid_reason r = svid_verify(chain, n, e->bundles, nbundles, purpose, now, t->peer, detail);

	/* Past its end, but not for longer than clocks may differ. */
	if (r == SVID_EXPIRED && e->skew_s)
		r = svid_verify(chain, n, e->bundles, nbundles, purpose, now - e->skew_s, t->peer, detail);
	return r;
}

int
tls_verify_chain(X509_STORE_CTX *ctx, void *arg)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *t = SSL_get_app_data(ssl);
	STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx); /* all of it, leaf first */
	X509 *chain[SVID_MAX_CHAIN];
	const char *detail = NULL;
	bool est = t->kind == TLS_EST_CLIENT || tls_enrol(t);
	int64_t now = (int64_t)(clock_wall_us() / 1000000);
	int n = sk_X509_num(sent);

	(void)arg;
	if (!t->peer)
		t->peer = mem_zalloc(sizeof(*t->peer));
	if (n > SVID_MAX_CHAIN) {
		t->reason = SVID_CHAIN_TOO_LONG; /* case 59 */
		detail = "too many certificates";
	} else {
		for (int i = 0; i < n; i++)
			chain[i] = sk_X509_value(sent, i);
		t->turn = t->env->turns;
		t->reason = judge(t, chain, n < 0 ? 0 : (size_t)n, est ? 1 : t->env->nbundles, now, &detail); /* 1: our own domain's */
		/* A link may come up with it, to fetch the CRL; who accepts turns others away (case 53). */
		t->no_crl = t->reason == SVID_NO_CRL && !est;
		if (t->no_crl)
			t->reason = SVID_OK;
	}
	if (t->reason == SVID_OK && t->kind == TLS_EST_CLIENT && X509_check_host(chain[0], t->host, 0, /* RFC 7030 3.6: RFC 6125 */
		X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS, NULL) != 1) {
		t->reason = SVID_OTHER;
		detail = "its certificate is not for the name of the enrolment service";
	}
	X509_STORE_CTX_set_error(ctx, openssl_error(t->reason));
	if (t->reason == SVID_OK)
		return 1;
	mem_free(t->detail);
	t->detail = out_of_time(t, now) ? detail_of_time(t->peer, now) : mem_strdup(detail);
	return 0;
}
