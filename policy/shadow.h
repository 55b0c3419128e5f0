/* SPDX-License-Identifier: Apache-2.0 */
/* Allow rules that can never allow anything, since one deny rule covers all they say. */
#ifndef POLICY_SHADOW_H
#define POLICY_SHADOW_H

#include "policy/model.h"

/* Warns about each. The work is bounded: in a huge policy some may go unnoticed. */
void shadow_check(struct model *m);

#endif
