/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as the layer of a conn. */
#ifndef GATEWAY_TLS_LAYER_H
#define GATEWAY_TLS_LAYER_H

#include "gateway/io/conn.h"
#include "gateway/tls/tls.h"

/* The conn owns t from now on and frees it with itself. Pass tls_layer_wake and the conn to tls_*_new(). */
void tls_layer_set(struct conn *c, struct tls_conn *t);
tls_wake_fn tls_layer_wake;

#endif
