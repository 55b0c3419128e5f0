/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory with certificates, a configuration and policy files, as on a gateway. Users, groups and addresses of
 * the machine are made up (the test links with --wrap): user "permit" is 1234, "batch" is 1235, group "ops" is 77; the
 * machine has 127.0.0.1, ::1, 10.1.0.10, 192.0.2.10 and 2001:db8::10.
 */
#ifndef TESTS_UNIT_CONFIG_FIXTURE_H
#define TESTS_UNIT_CONFIG_FIXTURE_H

#include "gateway/base/errs.h"
#include "gateway/config/config.h"

/* The issue's configuration, its text unchanged but for the clients of "ledger". */
extern const char fixture_issue_conf[];

/*
 * Certificates and keys of hud.example in pki/: gateway, workload, inside; foreign (irs.example's); expired, early, soon, impostor (of a CA that
 * is in no bundle); locked.key and garbage.key. The clock stands at zoo_now.
 */
/* Bundles: pki/hud.example.pem, peers/irs.example.pem, peers/gov.example.pem. policy.d/ is empty. */
const char *fixture_setup(void); /* the directory */
void fixture_teardown(void);
void fixture_write(const char *name, const void *p, size_t n);
void fixture_write_text(const char *name, const char *text);
void fixture_remove(const char *name);
char *fixture_path(const char *name);          /* caller frees */
/* Write sallyport.conf and load it. */
struct config *fixture_load(const char *text, struct errs *errs);
/* A fault's text without the directory's name; in a static buffer. */
const char *fixture_plain(const char *text);

#endif
