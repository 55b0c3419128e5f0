/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/tls/layer.h"

static enum conn_hs handshake(void *t)
{
	switch (tls_handshake(t)) {
	case TLS_DONE:
		return CONN_HS_DONE;
	case TLS_FAILED:
		return CONN_HS_FAILED;
	default:
		return CONN_HS_WAIT; /* readiness or the keys role will tell */
	}
}

static ssize_t layer_read(void *t, void *p, size_t n)
{
	return tls_read(t, p, n);
}

static ssize_t layer_write(void *t, const void *p, size_t n, bool more)
{
	return tls_write_more(t, p, n, more);
}

static bool pending(void *t)
{
	return tls_pending(t);
}

static bool wants_write(void *t)
{
	return tls_wants_write(t);
}

static void layer_shutdown(void *t)
{
	tls_shutdown(t);
}

static void layer_free(void *t)
{
	tls_free(t);
}

static const struct conn_layer layer = {
	.handshake = handshake, .read = layer_read, .write = layer_write,
	.pending = pending, .wants_write = wants_write, .shutdown = layer_shutdown, .free = layer_free,
};

void tls_layer_set(struct conn *c, struct tls_conn *t)
{
	conn_set_layer(c, &layer, t);
}

void tls_layer_wake(void *ctx)
{
	conn_kick(ctx);
}
