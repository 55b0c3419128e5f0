/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of config_load() from a source on, for tests and fuzzing. */
#ifndef GATEWAY_CONFIG_LOAD_H
#define GATEWAY_CONFIG_LOAD_H

#include <stdbool.h>

#include "gateway/config/config.h"
#include "gateway/config/source.h"

/*
 * The config that a source describes, or NULL and faults. files = false: no file is opened and no user looked up;
 * what comes from them stays empty, so that such a config can be dumped but not encoded.
 */
struct config *load_source(const struct source *s, const char *file, bool files, struct errs *errs);

#endif
