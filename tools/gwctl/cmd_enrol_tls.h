/* SPDX-License-Identifier: Apache-2.0 */
/* gwctl pki enrol: one request to an enrolment service and its answer, over TLS 1.3, blocking. */
#ifndef TOOLS_GWCTL_CMD_ENROL_TLS_H
#define TOOLS_GWCTL_CMD_ENROL_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/base/errs.h"
#include "gateway/enrol/wire.h"

struct cmd_enrol_server {
	char *host, *port;           /* of the URL */
	const char *connect;         /* ADDRESS:PORT to dial instead, or NULL */
	const char *bundle_pem;      /* the CAs that vouch for it; NULL: nobody does, and its answer must prove itself */
	const char *certificate, *key; /* files to authenticate with, or NULL */
};
/* 0 with the whole answer in r (the caller's: wire_reader_fini()), or -1 with a fault. ask->host is set here. */
int cmd_enrol_ask(const struct cmd_enrol_server *s, struct wire_ask *ask, struct wire_reader *r, struct errs *errs);

#endif
