/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The origin server of the benchmark: cheap enough that the gateways are what is measured.
 *
 *   origin ADDRESS:PORT
 *
 *   GET  /small     128 octets of answer in all, the body is 63 of them
 *   GET  /data/N    N octets
 *   POST /drop      reads the content and says how many octets it was
 *   anything else   404
 *
 * One thread, epoll, keep-alive, "Connection: close", chunked requests. For loopback only: it has no deadlines.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_MAX 16384
#define PAGE (1 << 20)

enum state {
	HEAD,          /* ends with an empty line */
	CONTENT,       /* ends when "left" octets were seen */
	CHUNK_LINE,    /* a chunk's size; ends at its LF */
	CHUNK_CONTENT, /* ends when "left" octets were seen */
	CHUNK_END,     /* the CRLF after a chunk */
	TRAILER,       /* ends at an empty line */
};

struct conn {
	int fd;
	enum state state;
	bool close_after, wants_write;
	uint64_t left, seen;      /* of the request's content */
	uint64_t page_left;       /* of a /data answer, still to be sent */
	size_t in_len, out_off, out_len;
	char out[4096];
	char in[IN_MAX];
};

static char page[PAGE];
static char small[128];
static int ep;

static void drop(struct conn *c)
{
	close(c->fd);
	free(c);
}

static void watch(struct conn *c, bool write)
{
	struct epoll_event ev = { .events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c };

	if (c->wants_write == write)
		return;
	c->wants_write = write;
	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

/* Sends what is due. -1: the connection is over. */
static int flush(struct conn *c)
{
	while (c->out_off < c->out_len || c->page_left) {
		bool head = c->out_off < c->out_len;
		const char *p = head ? c->out + c->out_off : page;
		size_t n = head ? c->out_len - c->out_off : (c->page_left < 262144 ? (size_t)c->page_left : 262144);
		ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL | (head && c->page_left ? MSG_MORE : 0));

		if (w < 0) {
			if (errno != EAGAIN)
				return -1;
			watch(c, true);
			return 0;
		}
		if (head)
			c->out_off += (size_t)w;
		else
			c->page_left -= (size_t)w;
	}
	c->out_off = c->out_len = 0;
	if (c->close_after && c->state == HEAD)
		return -1;
	watch(c, false);
	return 0;
}

static int put(struct conn *c, const char *p, size_t n)
{
	if (c->out_len + n > sizeof(c->out))
		return -1;
	memcpy(c->out + c->out_len, p, n);
	c->out_len += n;
	return 0;
}

static int answer(struct conn *c, const char *status, uint64_t length, const char *body)
{
	char b[512];
	int n = snprintf(b, sizeof(b), "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %llu\r\n%s\r\n%s",
	    status, (unsigned long long)length, c->close_after ? "Connection: close\r\n" : "", body);

	return put(c, b, (size_t)n);
}

static int content_done(struct conn *c)
{
	char b[32];
	int n = snprintf(b, sizeof(b), "%llu\n", (unsigned long long)c->seen);

	c->state = HEAD;
	return answer(c, "200 OK", (uint64_t)n, b);
}

/* A whole head, NUL-terminated by the caller. */
static int on_head(struct conn *c, const char *h)
{
	const char *v = strcasestr(h, "\r\nconnection: close");

	c->close_after = v != NULL;
	c->seen = 0;
	if (!strncmp(h, "GET /small ", 11)) {
		if (!c->close_after)
			return put(c, small, sizeof(small));
		char b[64] = { 0 };
		memcpy(b, small + 65, 63);
		return answer(c, "200 OK", 63, b);
	}
	if (!strncmp(h, "GET /data/", 10)) {
		c->page_left = strtoull(h + 10, NULL, 10);
		return answer(c, "200 OK", c->page_left, "");
	}
	if (!strncmp(h, "POST /drop ", 11)) {
		if (strcasestr(h, "\r\nexpect: 100-continue") && put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25))
			return -1;
		if (strcasestr(h, "\r\ntransfer-encoding: chunked")) {
			c->state = CHUNK_LINE;
			return 0;
		}
		v = strcasestr(h, "\r\ncontent-length:");
		c->left = v ? strtoull(v + 17, NULL, 10) : 0;
		if (!c->left)
			return content_done(c);
		c->state = CONTENT;
		return 0;
	}
	return answer(c, "404 Not Found", 0, "");
}

/* Takes one step on p[0..n); returns the octets used, 0 for "need more", -1 for an end. */
static ssize_t step(struct conn *c, char *p, size_t n)
{
	char *lf;

	switch (c->state) {
	case HEAD: {
		char *e = memmem(p, n, "\r\n\r\n", 4);
		if (!e)
			return n == IN_MAX ? -1 : 0;
		e[2] = '\0';
		return on_head(c, p) ? -1 : e + 4 - p;
	}
	case CONTENT:
	case CHUNK_CONTENT: {
		size_t k = n < c->left ? n : (size_t)c->left;
		c->left -= k;
		c->seen += k;
		if (!c->left && c->state == CONTENT)
			return content_done(c) ? -1 : (ssize_t)k;
		if (!c->left)
			c->state = CHUNK_END;
		return (ssize_t)k;
	}
	default:
		break;
	}
	lf = memchr(p, '\n', n);
	if (!lf)
		return n == IN_MAX ? -1 : 0;
	if (c->state == CHUNK_LINE) {
		c->left = strtoull(p, NULL, 16);
		c->state = c->left ? CHUNK_CONTENT : TRAILER;
	} else if (c->state == CHUNK_END) {
		c->state = CHUNK_LINE;
	} else if (lf - p <= 1 && content_done(c)) {
		return -1;
	}
	return lf + 1 - p;
}

static int on_input(struct conn *c)
{
	for (unsigned turn = 0; turn < 16; turn++) {
		ssize_t n;
		size_t used = 0;

		if (c->page_left || c->wants_write)
			return 0; /* one answer after the other */
		if (c->state == CONTENT && !c->in_len) {
			/* MSG_TRUNC: the kernel throws the octets away without a copy. */
			n = recv(c->fd, NULL, c->left < 8u << 20 ? (size_t)c->left : 8u << 20, MSG_TRUNC);
			if (n <= 0)
				return n < 0 && errno == EAGAIN ? 0 : -1;
			c->left -= (uint64_t)n;
			c->seen += (uint64_t)n;
			if (!c->left && (content_done(c) || flush(c)))
				return -1;
			continue;
		}
		n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? 0 : -1;
		bool full = (size_t)n == IN_MAX - c->in_len;
		c->in_len += (size_t)n;
		while (used < c->in_len && !c->page_left) {
			ssize_t k = step(c, c->in + used, c->in_len - used);
			if (k < 0)
				return -1;
			if (!k)
				break;
			used += (size_t)k;
		}
		memmove(c->in, c->in + used, c->in_len - used);
		c->in_len -= used;
		if (flush(c))
			return -1;
		if (!full && c->state == HEAD)
			return 0; /* a short read: nothing more is there */
	}
	return 0;
}

static void on_accept(int ls)
{
	for (;;) {
		int fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;
		struct epoll_event ev = { .events = EPOLLIN };

		if (fd < 0)
			return;
		c = malloc(sizeof(*c));
		if (!c)
			abort();
		memset(c, 0, offsetof(struct conn, out));
		c->fd = fd;
		ev.data.ptr = c;
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	}
}

static int listen_on(char *where)
{
	char *colon = strrchr(where, ':');
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!colon || fd < 0)
		return -1;
	*colon = '\0';
	sa.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, where, &sa.sin_addr) != 1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 4096) ? -1 : fd;
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	struct epoll_event ev = { .events = EPOLLIN }, evs[256];
	int ls, n;

	if (argc != 2) {
		fprintf(stderr, "usage: origin ADDRESS:PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	for (size_t i = 0; i < sizeof(page); i++)
		page[i] = (char)(i * 2654435761u >> 13);
	n = snprintf(small, sizeof(small), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 63\r\n\r\n");
	for (size_t i = (size_t)n; i < sizeof(small); i++)
		small[i] = i == sizeof(small) - 1 ? '\n' : (char)('a' + (i - (size_t)n) % 26);
	ls = listen_on(argv[1]);
	if (ls < 0) {
		perror("origin: listen");
		return 1;
	}
	ep = epoll_create1(EPOLL_CLOEXEC);
	ev.data.ptr = NULL;
	epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
	for (;;) {
		n = epoll_wait(ep, evs, 256, -1);
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;
			int r = 0;

			if (!c) {
				on_accept(ls);
				continue;
			}
			if (evs[i].events & EPOLLOUT)
				r = flush(c);
			if (!r && evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				r = on_input(c);
			if (r)
				drop(c);
		}
	}
}
