/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's index: any octets, read at once and in two pieces, say the same; what was read can be asked for; what is added is there afterwards. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "pki/ledger.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[] = "/tmp/fuzz_ledger.XXXXXX";
static int fd;

static void
clean(void)
{
	unlink(path);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fd = mkstemp(path);
	assert(fd >= 0);
	atexit(clean);
	return 0;
}

static void
ask_all(struct ledger *l)
{
	for (uint32_t i = 0; i < ledger_n(l); i++) {
		struct ledger_entry e;

		ledger_get(l, i, &e);
		assert(strlen(e.serial) == LEDGER_SERIAL_LEN && strlen(e.issuer) == LEDGER_SERIAL_LEN && e.id[0] && e.kind[0] && e.how[0]);
		assert(ledger_find(l, e.serial) == i && ledger_has_id(l, i, e.id));
		assert((e.reason != NULL) == ledger_is_revoked(l, i));
		assert((e.predecessor != NULL) == (ledger_predecessor(l, i) != LEDGER_NONE));
		assert(strchr(e.id, '\t') == NULL && strchr(e.dns, '\t') == NULL && strchr(e.dns, '\n') == NULL);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ledger_entry e = { .serial = "fedcba9876543210fedcba9876543210fedcba98", .kind = "workload", .id = "spiffe://a/b",
		.issuer = "0000000000000000000000000000000000000001" };
	struct errs errs, again;
	struct ledger *whole, *pieces;
	size_t cut = size ? data[0] * size / 256 : 0;
	struct buf b;

	errs_init(&errs);
	errs_init(&again);
	assert(ftruncate(fd, 0) == 0 && pwrite(fd, data, cut, 0) == (ssize_t)cut);
	pieces = ledger_open(path, &again);
	assert(pwrite(fd, data + cut, size - cut, (off_t)cut) == (ssize_t)(size - cut));
	whole = ledger_open(path, &errs);
	assert(whole && pieces);
	ledger_refresh(pieces, &again);
	assert(ledger_n(whole) == ledger_n(pieces) && errs.errors == again.errors && ledger_crl_number(whole) == ledger_crl_number(pieces));
	ask_all(whole);
	ask_all(pieces);
	if (ledger_find(whole, e.serial) == LEDGER_NONE && errs.errors == 0) {
		buf_init(&b, 0);
		ledger_put_issued(&b, &e);
		ledger_put_revoked(&b, e.serial, 0, "superseded");
		assert(ledger_append(whole, &b, &errs) == 0);
		assert(ledger_is_revoked(whole, ledger_find(whole, e.serial)));
		buf_fini(&b);
	}
	ledger_close(whole);
	ledger_close(pieces);
	errs_fini(&errs);
	errs_fini(&again);
	return 0;
}
