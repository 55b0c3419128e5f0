/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/main/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/clock.h"

static struct sockaddr_un to;
static socklen_t to_len;

void
notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;

	if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	to.sun_family = AF_UNIX;
	memcpy(to.sun_path, path, n);
	if (path[0] == '@') /* abstract */
		to.sun_path[0] = '\0';
	to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	unsetenv("NOTIFY_SOCKET");
}

static void
say(const char *text)
{
	int fd;

	if (to_len == 0)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to, to_len);
	close(fd);
}

void
notify_ready(void)
{
	say("READY=1\n");
}

void
notify_reloading(void)
{
	char text[64];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lu\n", (unsigned long)clock_mono_us());
	say(text);
}

void
notify_stopping(void)
{
	say("STOPPING=1\n");
}
