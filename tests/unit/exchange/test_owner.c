/* SPDX-License-Identifier: Apache-2.0 */
/* Whose is the other end of a loopback connection? Nobody's, once its process has closed it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/exchange/owner.h"

static int listener(struct sockaddr_storage *at, socklen_t *len, int family)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6, family == AF_INET ? sizeof(in) : sizeof(in6)) != 0) {
		close(fd);
		return -1;
	}
	assert_int_equal(listen(fd, 8), 0);
	*len = sizeof(*at);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, len), 0);
	return fd;
}

static void one_family(int family)
{
	struct sockaddr_storage at;
	socklen_t len;
	int lfd = listener(&at, &len, family), client, fd;
	struct addr from = { .len = sizeof(from.ss) };
	uint32_t uid = 77;

	if (lfd < 0)
		return; /* no IPv6 here */
	client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, len), 0);
	fd = accept(lfd, (struct sockaddr *)&from.ss, &from.len);
	assert_true(fd >= 0);
	assert_int_equal(owner_of(fd, &from, &uid), 0);
	assert_int_equal(uid, getuid());
	/* Its direction is over, but it is there. */
	assert_int_equal(shutdown(client, SHUT_WR), 0);
	assert_int_equal(owner_of(fd, &from, &uid), 0);
	assert_int_equal(uid, getuid());
	/* The kernel would say that root owns what nobody does. */
	uid = 77;
	close(client);
	assert_int_equal(owner_of(fd, &from, &uid), -1);
	assert_int_equal(uid, 77);
	close(fd);
	assert_int_equal(owner_of(lfd, &from, &uid), -1); /* in TIME_WAIT, or nothing at all */
	close(lfd);
}

static void test_owner(void **state)
{
	(void)state;
	if (owner_init() != 0)
		skip();
	one_family(AF_INET);
	one_family(AF_INET6);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_owner) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
