/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki enrol: a certificate from an enrolment service (EST, RFC 7030), for a key that is made here and stays here. */
#ifndef TOOLS_GWCTL_CMD_ENROL_H
#define TOOLS_GWCTL_CMD_ENROL_H

#include "tools/gwctl/gwctl.h"

int cmd_pki_enrol(struct gwctl *g, int argc, char **argv);

#endif
