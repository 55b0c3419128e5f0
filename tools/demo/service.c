/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sample service behind the demo's second gateway: what a small application of irs.example could be.
 *
 *   service ADDRESS HTTP_PORT TCP_PORT
 *
 * HTTP: every GET is answered with who the gateway says is calling. TCP: each line comes back with "booked:" before
 * it. One process per connection; plain sockets, no library. For loopback only.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The value of a field in a NUL-terminated head, cut at its line's end; "-" when it is not there. */
static void field(const char *head, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);

	snprintf(out, size, "-");
	for (const char *p = strchr(head, '\n'); p; p = strchr(p + 1, '\n')) {
		if (strncasecmp(p + 1, name, n) != 0 || p[1 + n] != ':')
			continue;
		p += n + 2;
		p += strspn(p, " ");
		snprintf(out, size, "%.*s", (int)strcspn(p, "\r\n"), p);
		return;
	}
}

static void serve_http(int fd)
{
	char in[8192], out[4096], body[3000], who[600], exchange[100], method[16], path[512];
	size_t len = 0;

	for (;;) {
		char *end;
		ssize_t n = read(fd, in + len, sizeof(in) - 1 - len);
		int size;

		if (n <= 0)
			return;
		len += (size_t)n;
		in[len] = '\0';
		end = strstr(in, "\r\n\r\n");
		if (!end)
			continue;
		if (sscanf(in, "%15s %511s", method, path) != 2)
			return;
		field(in, "Sallyport-Principal", who, sizeof(who));
		field(in, "Sallyport-Exchange", exchange, sizeof(exchange));
		n = snprintf(body, sizeof(body), "{ \"service\": \"tax\", \"path\": \"%s\", \"caller\": \"%s\", \"exchange\": \"%s\" }\n", path, who,
		    exchange);
		size = snprintf(out, sizeof(out), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zd\r\n\r\n%s", n,
		    strcmp(method, "HEAD") ? body : "");
		if (write(fd, out, (size_t)size) != size)
			return;
		len -= (size_t)(end + 4 - in);
		memmove(in, end + 4, len);
	}
}

static void serve_tcp(int fd)
{
	FILE *in = fdopen(fd, "r");
	char line[1000];

	while (in && fgets(line, sizeof(line), in))
		if (dprintf(fd, "booked: %s", line) < 0)
			return;
}

static int listen_on(const char *address, const char *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10)) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &sa.sin_addr) != 1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 64)) {
		perror("service: listen");
		return -1;
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct pollfd p[2];

	if (argc != 4) {
		fprintf(stderr, "usage: service ADDRESS HTTP_PORT TCP_PORT\n");
		return 2;
	}
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		p[i] = (struct pollfd){ .fd = listen_on(argv[1], argv[2 + i]), .events = POLLIN };
		if (p[i].fd < 0)
			return 1;
	}
	while (poll(p, 2, -1) > 0)
		for (int i = 0; i < 2; i++) {
			int fd = p[i].revents ? accept(p[i].fd, NULL, NULL) : -1;

			if (fd < 0)
				continue;
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing outlives the demo */
				close(p[0].fd);
				close(p[1].fd);
				if (i == 0)
					serve_http(fd);
				else
					serve_tcp(fd);
				_exit(0);
			}
			close(fd);
		}
	return 1;
}
