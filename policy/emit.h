/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the image, section after section. */
#ifndef POLICY_EMIT_H
#define POLICY_EMIT_H

#include "policy/compile.h"

/* Appends the image. 0, or -1 with *out as it was, when the image or *out would exceed its bound. */
int emit_image(struct compile *c, struct buf *out);

#endif
