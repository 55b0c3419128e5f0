/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for nghttp2: it makes and drops some fifteen small objects per stream, which a free list per size serves in
 * a few instructions. One thread; bounded by how many freed blocks are kept.
 */
#ifndef GATEWAY_HTTP2_POOL_H
#define GATEWAY_HTTP2_POOL_H

#include <nghttp2/nghttp2.h>

/* To be passed to nghttp2_session_*_new3(). */
nghttp2_mem *pool_mem(void);

#endif
