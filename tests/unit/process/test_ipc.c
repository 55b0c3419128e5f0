/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between roles: whole, bounded, and without a descriptor that leaks, whatever the other side sends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/process/child.h"
#include "gateway/process/ipc.h"

static uint8_t buf[IPC_MAX_DATA + 16];

static unsigned
open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int
setup(void **state)
{
	static int sv[2];

	assert_int_equal(ipc_pair(sv), 0);
	*state = sv;
	return 0;
}

static int
teardown(void **state)
{
	int *sv = *state;

	close(sv[0]);
	close(sv[1]);
	return 0;
}

static void
test_round_trip(void **state)
{
	int *sv = *state, null = open("/dev/null", O_RDONLY), fds[2] = { null, null };
	struct ipc_msg m;

	assert_int_equal(ipc_recv(sv[1], buf, &m), 0);
	assert_int_equal(ipc_send(sv[0], 7, 9, "hello", 5, fds, 2), 0);
	assert_int_equal(ipc_send(sv[0], 8, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(ipc_recv(sv[1], buf, &m), 1);
	assert_int_equal(m.type, 7);
	assert_int_equal(m.arg, 9);
	assert_int_equal(m.len, 5);
	assert_memory_equal(m.data, "hello", 5);
	assert_int_equal(m.nfds, 2);
	assert_true(fcntl(m.fds[0], F_GETFD) & FD_CLOEXEC);
	ipc_msg_close(&m);
	assert_int_equal(ipc_recv(sv[1], buf, &m), 1);
	assert_int_equal(m.type, 8);
	assert_int_equal(m.len, 0);
	close(null);
}

static void
test_bounds(void **state)
{
	static uint8_t big[IPC_MAX_DATA + 1];
	int *sv = *state, many[IPC_MAX_FDS + 1], null = open("/dev/null", O_RDONLY);
	struct ipc_msg m;

	for (unsigned i = 0; i <= IPC_MAX_FDS; i++)
		many[i] = null;
	assert_int_equal(ipc_send(sv[0], 1, 0, big, sizeof(big), NULL, 0), -2);
	assert_int_equal(ipc_send(sv[0], 1, 0, NULL, 0, many, IPC_MAX_FDS + 1), -2);
	assert_int_equal(ipc_send(sv[0], 1, 0, big, IPC_MAX_DATA, many, IPC_MAX_FDS), 0);
	assert_int_equal(ipc_recv(sv[1], buf, &m), 1);
	assert_int_equal(m.len, IPC_MAX_DATA);
	assert_int_equal(m.nfds, IPC_MAX_FDS);
	ipc_msg_close(&m);
	close(null);
}

static void
test_full_and_closed(void **state)
{
	int *sv = *state, r, n = 0;
	struct ipc_msg m;

	while ((r = ipc_send(sv[0], 1, 0, buf, 1000, NULL, 0)) == 0)
		assert_true(++n < 100000);
	assert_int_equal(r, -1);
	close(sv[0]);
	while ((r = ipc_recv(sv[1], buf, &m)) == 1)
		n--;
	assert_int_equal(r, -1);
	assert_int_equal(n, 0);
	assert_int_equal(ipc_send(sv[1], 1, 0, NULL, 0, NULL, 0), -2);
	sv[0] = dup(sv[1]);
}

/* Whatever was wrong with a message, its descriptors are closed. */
static void
send_raw(int fd, const void *p, size_t n, int pass, unsigned copies)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * 253)];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	memset(&control, 0, sizeof(control));
	if (copies) {
		struct cmsghdr *c;

		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * copies);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * copies);
		for (unsigned i = 0; i < copies; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &pass, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &msg, 0), (int)n);
}

static void
test_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		unsigned fds;
		int expect;
	} cases[] = {
		{ "\1\0\0\0\0\0\0", 7, 1, -2 },                /* shorter than its head */
		{ "\1\0\0\0\1\0\0\0", 8, 3, -2 },              /* says one octet, has none */
		{ "\1\0\0\0\0\0\0\0x", 9, 1, -2 },             /* says none, has one */
		{ "\1\0\0\0\377\377\377\377", 8, 1, -2 },      /* says 4 GiB */
		{ "\1\0\0\0\0\0\0\0", 8, 200, -2 },            /* more descriptors than allowed */
		{ "\1\0\0\0\0\0\0\0", 8, 64, 1 },
		{ "\1\0\0\0\1\0\0\0x", 9, 0, 1 },
	};
	int *sv = *state, null = open("/dev/null", O_RDONLY);
	struct ipc_msg m;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned before = open_fds();

		send_raw(sv[0], cases[i].bytes, cases[i].n, null, cases[i].fds);
		assert_int_equal(ipc_recv(sv[1], buf, &m), cases[i].expect);
		if (cases[i].expect == 1)
			ipc_msg_close(&m);
		assert_int_equal(open_fds(), before);
		assert_int_equal(ipc_recv(sv[1], buf, &m), 0);
	}
	close(null);
}

/* A datagram of every length up to a little beyond a whole head, and one beyond the bound. */
static void
test_every_length(void **state)
{
	static uint8_t raw[IPC_MAX_DATA + 64];
	int *sv = *state;
	struct ipc_msg m;

	for (size_t n = 1; n < 64; n++) {
		uint32_t len = n >= 8 ? (uint32_t)(n - 8) : 0;

		memcpy(raw + 4, &len, 4);
		send_raw(sv[0], raw, n, -1, 0);
		assert_int_equal(ipc_recv(sv[1], buf, &m), n >= 8 ? 1 : -2);
	}
	for (size_t n = IPC_MAX_DATA + 6; n < IPC_MAX_DATA + 20; n++) {
		uint32_t len = (uint32_t)(n - 8);

		memcpy(raw + 4, &len, 4);
		send_raw(sv[0], raw, n, -1, 0);
		assert_int_equal(ipc_recv(sv[1], buf, &m), n <= IPC_MAX_DATA + 8 ? 1 : -2);
	}
}

static void
test_tagged_fds(void **state)
{
	int *sv = *state, null = open("/dev/null", O_RDONLY), fds[2] = { null, null };
	struct role_fd_msg what[3] = {
		{ .kind = ROLE_FD_LISTENER, .arg = 3, .number = 3 }, { .kind = ROLE_FD_CHANNEL, .arg = 0x401, .number = 9 },
		{ .kind = ROLE_FD_MAX, .arg = 0, .number = 0 },
	};
	struct role_env_fd out[IPC_MAX_FDS];
	struct role_env env = { .fds = out, .nfds = 2 };
	struct ipc_msg m;
	unsigned before;

	assert_int_equal(ipc_send(sv[0], ROLE_MSG_FD, 0, what, 2 * sizeof(what[0]), fds, 2), 0);
	assert_int_equal(ipc_recv(sv[1], buf, &m), 1);
	assert_int_equal(child_fds(&m, out), 2);
	assert_int_equal(m.nfds, 0);
	assert_int_equal(out[1].kind, ROLE_FD_CHANNEL);
	assert_int_equal(out[1].number, 9);
	assert_ptr_equal(child_find(&env, ROLE_FD_LISTENER, 3), &out[0]);
	assert_null(child_find(&env, ROLE_FD_LISTENER, 4));
	close(out[0].fd);
	close(out[1].fd);
	before = open_fds();
	/* One tag too few, one descriptor too few, an unknown kind, none at all. */
	assert_int_equal(ipc_send(sv[0], ROLE_MSG_FD, 0, what, sizeof(what[0]), fds, 2), 0);
	assert_int_equal(ipc_send(sv[0], ROLE_MSG_FD, 0, what, 2 * sizeof(what[0]), fds, 1), 0);
	assert_int_equal(ipc_send(sv[0], ROLE_MSG_FD, 0, &what[1], 2 * sizeof(what[0]), fds, 2), 0);
	assert_int_equal(ipc_send(sv[0], ROLE_MSG_FD, 0, NULL, 0, NULL, 0), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(ipc_recv(sv[1], buf, &m), 1);
		assert_int_equal(child_fds(&m, out), -1);
		assert_int_equal(open_fds(), before);
	}
	close(null);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_and_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_length, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tagged_fds, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
