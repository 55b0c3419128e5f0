/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file's text, through scanner, libconfig, option table and checks (which open no file here); what loads can be dumped. */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/config/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 forgets the text it was reading when the grammar fails. */
const char *
__lsan_default_suppressions(void)
{
	return "leak:libconfig\nleak:strbuf_append\n";
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source s;
	struct config *c = NULL;
	struct errs errs;
	struct buf dump;

	errs_init(&errs);
	if (source_text(&s, "sallyport.conf", (const char *)data, size, &errs) == 0)
		c = load_source(&s, "sallyport.conf", false, &errs);
	source_fini(&s);
	if (!c != (errs.errors > 0))
		abort();
	if (c) {
		buf_init(&dump, 0);
		config_dump(c, &dump);
		buf_fini(&dump);
	}
	config_free(c);
	errs_fini(&errs);
	return 0;
}
