/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load client of the benchmark. One thread, epoll, HTTP/1.1; every answer is checked.
 *
 *   load MODE -t ADDRESS:PORT [-c CONNECTIONS] [-w WARM_SECONDS] [-d SECONDS] ...
 *
 *   closed   the next request of a connection goes out as soon as its answer is in
 *   open     -r RATE: a fixed schedule; the answer time counts from when the request was due
 *   close    a new connection for each request
 *   down up  -n OCTETS: bulk, shared by the connections, which are open and warm before the clock starts
 *   idle     opens the connections, asks once on each, and then reads what the gateways' memory grew by
 *            (-C CERT -K KEY -S CA -N NAME: over mutual TLS)
 *
 * -A -B -O: process ids (comma separated) of both gateways and of the origin. Their CPU time is taken from the process
 * CPU clocks, in nanoseconds and with ended threads, at both edges of the measured window. The result is one line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIDS 64
#define NS 1000000000ull

enum state {
	CLOSED,
	CONNECTING, /* until writable */
	READY,      /* no request under way */
	HEAD,       /* until the answer's head is there */
	BODY,       /* until "left" is 0 */
	ENDING,     /* mode close: until the other side closes */
};

struct conn {
	int fd;
	enum state state;
	uint64_t since;     /* when the request was due */
	uint64_t left;      /* octets of the answer's content to come */
	uint64_t up;        /* octets of the request's content to go */
	size_t len;         /* in buf */
	char buf[1024];
};

struct pids {
	pid_t pid[PIDS];
	unsigned n;
};

struct usage {
	double at, a, b, origin, me;
};

static struct {
	const char *mode;
	struct sockaddr_in target;
	unsigned conns;
	double warm, seconds, rate;
	uint64_t octets;
	struct pids a, b, origin;
	const char *cert, *key, *ca, *name;
} opt = { .conns = 1, .seconds = 3, .rate = 2000, .octets = 1ull << 30 };

static const char get_small[] = "GET /small HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: load/1\r\nAccept: */*\r\n\r\n";
static const char get_close[] =
    "GET /small HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: load/1\r\nAccept: */*\r\nConnection: close\r\n\r\n";
static char small_body[63];
static struct conn *conns;
static int ep;
static bool measuring;
static uint64_t good, bad;
static char why[80];

/* ---- clocks ---- */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

static double cpu_of(const struct pids *p)
{
	double sum = 0;

	for (unsigned i = 0; i < p->n; i++) {
		clockid_t clock;
		struct timespec ts;

		if (clock_getcpuclockid(p->pid[i], &clock) || clock_gettime(clock, &ts)) {
			fprintf(stderr, "load: process %d is gone\n", (int)p->pid[i]);
			exit(3);
		}
		sum += (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
	}
	return sum;
}

static void usage_take(struct usage *u)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	u->me = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
	u->a = cpu_of(&opt.a);
	u->b = cpu_of(&opt.b);
	u->origin = cpu_of(&opt.origin);
	u->at = (double)now() / 1e9;
}

static double rss_of(const struct pids *p)
{
	double sum = 0;

	for (unsigned i = 0; i < p->n; i++) {
		char path[64];
		unsigned long size, resident;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/statm", (int)p->pid[i]);
		f = fopen(path, "r");
		if (f && fscanf(f, "%lu %lu", &size, &resident) == 2)
			sum += (double)resident * (double)sysconf(_SC_PAGESIZE);
		if (f)
			fclose(f);
	}
	return sum;
}

/* ---- answer times: buckets of 1/128 ---- */

static uint64_t buckets[64][128], samples;

static void sample(uint64_t ns)
{
	unsigned e = ns < 128 ? 0 : 57u - (unsigned)__builtin_clzll(ns); /* ns >> e is below 128 */

	if (!measuring)
		return;
	good++;
	samples++;
	buckets[e][(ns >> e) & 127]++;
}

static double percentile(double p)
{
	uint64_t want = (uint64_t)((double)samples * p), seen = 0;

	for (unsigned e = 0; e < 64; e++)
		for (unsigned m = 0; m < 128; m++) {
			seen += buckets[e][m];
			if (seen > want)
				return (double)((uint64_t)m << e) / 1000.0;
		}
	return 0;
}

/* ---- connections ---- */

__attribute__((format(printf, 2, 3)))
static void fault(struct conn *c, const char *fmt, ...)
{
	va_list ap;

	bad++;
	if (!why[0]) {
		va_start(ap, fmt);
		vsnprintf(why, sizeof(why), fmt, ap);
		va_end(ap);
		for (char *p = why; *p; p++)
			if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
				*p = ' ';
	}
	if (c && c->fd >= 0) {
		close(c->fd);
		c->fd = -1;
	}
	if (c)
		c->state = CLOSED;
}

static void want(struct conn *c, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static void conn_open(struct conn *c)
{
	int one = 1;
	struct epoll_event ev = { .data.ptr = c };

	c->len = 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		fault(c, "socket: %s", strerror(errno));
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!connect(c->fd, (struct sockaddr *)&opt.target, sizeof(opt.target)))
		c->state = READY; /* as is usual on loopback */
	else if (errno == EINPROGRESS)
		c->state = CONNECTING;
	else {
		fault(c, "connect: %s", strerror(errno));
		return;
	}
	ev.events = c->state == READY ? EPOLLIN : EPOLLOUT;
	epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}

static void ask(struct conn *c, const char *request, size_t n)
{
	if (send(c->fd, request, n, MSG_NOSIGNAL) != (ssize_t)n) {
		fault(c, "send: %s", strerror(errno));
		return;
	}
	c->state = HEAD;
	c->len = 0;
}

/* Looks at a complete head in buf; -1 after fault(). Leaves the content that came with it in buf. */
static int on_head(struct conn *c, char *end)
{
	size_t head = (size_t)(end - c->buf) + 4;
	char *length;

	*end = '\0';
	if (strncmp(c->buf, "HTTP/1.1 200 ", 13)) {
		fault(c, "answered %.24s", c->buf);
		return -1;
	}
	length = strcasestr(c->buf, "\r\ncontent-length:");
	if (!length) {
		fault(c, "no Content-Length in the answer");
		return -1;
	}
	c->left = strtoull(length + 17, NULL, 10);
	c->len -= head;
	memmove(c->buf, c->buf + head, c->len);
	c->state = BODY;
	return 0;
}

/* Reads what is there. 1: the answer is complete, 0: more is due, -1: fault() was called. */
static int read_answer(struct conn *c, bool is_small)
{
	for (;;) {
		ssize_t n;

		if (c->state == BODY && !is_small) {
			n = recv(c->fd, NULL, c->left < 8u << 20 ? (size_t)c->left : 8u << 20, MSG_TRUNC);
			if (n > 0) {
				c->left -= (uint64_t)n;
				if (!c->left)
					return 1;
				continue;
			}
		} else {
			n = recv(c->fd, c->buf + c->len, sizeof(c->buf) - 1 - c->len, 0);
		}
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			fault(c, "%s", n ? strerror(errno) : "closed before the answer was complete");
			return -1;
		}
		c->len += (size_t)n;
		c->buf[c->len] = '\0';
		if (c->state == HEAD) {
			char *end = memmem(c->buf, c->len, "\r\n\r\n", 4);
			if (!end && c->len == sizeof(c->buf) - 1) {
				fault(c, "a head of more than %zu octets", sizeof(c->buf) - 1);
				return -1;
			}
			if (!end)
				continue;
			if (on_head(c, end))
				return -1;
		}
		if (c->len > c->left || (is_small && c->left != sizeof(small_body))) {
			fault(c, "wrong length of content");
			return -1;
		}
		if (!is_small) {
			c->left -= c->len;
			c->len = 0;
			if (!c->left)
				return 1;
		} else if (c->len == c->left) {
			if (memcmp(c->buf, small_body, sizeof(small_body))) {
				fault(c, "wrong content");
				return -1;
			}
			return 1;
		}
	}
}

/* Opens connections [from, to) and asks each once, a few at a time. */
static void warm_up(unsigned from, unsigned to)
{
	struct epoll_event evs[128];
	unsigned next = from, busy = 0;
	uint64_t until = now() + 120 * NS;

	while ((next < to || busy) && now() < until) {
		while (busy < 64 && next < to) {
			struct conn *c = &conns[next++];

			conn_open(c);
			if (c->state == READY)
				ask(c, get_small, sizeof(get_small) - 1);
			busy += c->state != CLOSED;
		}
		int n = epoll_wait(ep, evs, 128, 1000);
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (c->state == CONNECTING) {
				want(c, EPOLLIN);
				ask(c, get_small, sizeof(get_small) - 1);
			} else if (c->state == READY) {
				fault(c, "closed while idle");
				continue;
			} else {
				int r = read_answer(c, true);
				if (r > 0)
					c->state = READY;
				if (!r)
					continue;
				busy--;
				continue;
			}
			busy -= c->state == CLOSED;
		}
	}
	if (busy || next < to)
		fault(NULL, "the warm-up did not end");
}

static void report(const struct usage *u, const struct usage *v, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void report(const struct usage *u, const struct usage *v, const char *fmt, ...)
{
	va_list ap;

	printf("{\"mode\":\"%s\",\"conns\":%u,\"secs\":%.4f,\"ok\":%llu,\"err\":%llu,\"why\":\"%s\",\"p50\":%.1f,\"p99\":%.1f,"
	       "\"cpu_a\":%.6f,\"cpu_b\":%.6f,\"cpu_origin\":%.6f,\"cpu_load\":%.6f",
	    opt.mode, opt.conns, v->at - u->at, (unsigned long long)good, (unsigned long long)bad, why, percentile(0.5),
	    percentile(0.99), v->a - u->a, v->b - u->b, v->origin - u->origin, v->me - u->me);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("}\n");
}

/* ---- modes ---- */

static void run_closed(bool per_request)
{
	struct epoll_event evs[256];
	struct usage u, v;
	const char *request = per_request ? get_close : get_small;
	size_t length = per_request ? sizeof(get_close) - 1 : sizeof(get_small) - 1;
	uint64_t start, end = UINT64_MAX;

	if (!per_request)
		warm_up(0, opt.conns);
	start = now() + (uint64_t)(opt.warm * 1e9);
	for (unsigned i = 0; i < opt.conns; i++) {
		struct conn *c = &conns[i];

		c->since = now();
		if (per_request)
			conn_open(c);
		if (c->state == READY)
			ask(c, request, length);
	}
	while (now() < end) {
		int n = epoll_wait(ep, evs, 256, 100);

		if (!measuring && now() >= start) {
			usage_take(&u);
			measuring = true;
			end = now() + (uint64_t)(opt.seconds * 1e9);
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (c->state == CONNECTING) {
				want(c, EPOLLIN);
				ask(c, request, length);
			} else if (c->state == READY) {
				fault(c, "closed while idle");
			} else if (c->state == HEAD || c->state == BODY) {
				if (read_answer(c, true) > 0) {
					sample(now() - c->since);
					c->since = now();
					if (per_request)
						c->state = ENDING;
					else
						ask(c, request, length);
				}
			}
			if (c->state == ENDING) {
				char b[8];
				ssize_t r = recv(c->fd, b, sizeof(b), 0);

				if (r > 0 || (r < 0 && errno != EAGAIN)) {
					fault(c, "more than an answer");
				} else if (!r) {
					close(c->fd);
					c->fd = -1;
					c->state = CLOSED;
				}
			}
			if (c->state == CLOSED && bad < 2000) {
				c->since = now();
				conn_open(c);
				if (c->state == READY)
					ask(c, request, length);
			}
		}
	}
	usage_take(&v);
	report(&u, &v, "%s", "");
}

/* Requests fall due every 1/rate seconds; one that finds every connection busy waits, and its answer time shows it. */
static void run_open(void)
{
	struct epoll_event evs[256];
	struct usage u, v;
	unsigned *idle = calloc(opt.conns, sizeof(*idle)), first = 0, free_conns = 0;
	uint64_t begin, start, end, asked = 0;
	double step = 1e9 / opt.rate;

	prctl(PR_SET_TIMERSLACK, 1ul);
	warm_up(0, opt.conns);
	for (unsigned i = 0; i < opt.conns; i++)
		if (conns[i].state == READY)
			idle[free_conns++] = i;
	begin = now();
	start = begin + (uint64_t)(opt.warm * 1e9);
	end = start + (uint64_t)(opt.seconds * 1e9);
	for (uint64_t t; (t = now()) < end;) {
		struct timespec sleep = { 0, 0 };
		uint64_t due = begin + (uint64_t)((double)asked * step);

		if (!measuring && t >= start) {
			usage_take(&u);
			measuring = true;
		}
		while (due <= t && free_conns) {
			struct conn *c = &conns[idle[first]];

			first = (first + 1) % opt.conns;
			free_conns--;
			c->since = due;
			ask(c, get_small, sizeof(get_small) - 1);
			due = begin + (uint64_t)((double)++asked * step);
		}
		t = now();
		if (due > t)
			sleep.tv_nsec = (long)(due - t < NS ? due - t : NS - 1);
		else if (!free_conns)
			sleep.tv_nsec = 1000000;
		int n = epoll_pwait2(ep, evs, 256, &sleep, NULL);
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (c->state == READY) {
				fault(c, "closed while idle");
			} else if (c->state != CLOSED && read_answer(c, true) > 0) {
				if (c->since >= start)
					sample(now() - c->since);
				c->state = READY;
				idle[(first + free_conns++) % opt.conns] = (unsigned)(c - conns);
			}
		}
	}
	usage_take(&v);
	report(&u, &v, ",\"late\":%.0f", (double)(end - begin) / step - (double)asked);
	free(idle);
}

static void run_bulk(bool up)
{
	static char chunk[262144];
	struct epoll_event evs[64];
	struct usage u, v;
	uint64_t each = opt.octets / opt.conns, until;
	unsigned live = 0;
	char request[160];
	int n;

	for (size_t i = 0; i < sizeof(chunk); i++)
		chunk[i] = (char)(i * 2654435761u >> 13);
	warm_up(0, opt.conns);
	n = up ? snprintf(request, sizeof(request), "POST /drop HTTP/1.1\r\nHost: bench.local\r\nContent-Length: %llu\r\n\r\n",
		 (unsigned long long)each)
	       : snprintf(request, sizeof(request), "GET /data/%llu HTTP/1.1\r\nHost: bench.local\r\n\r\n", (unsigned long long)each);
	usage_take(&u);
	measuring = true;
	for (unsigned i = 0; i < opt.conns; i++) {
		struct conn *c = &conns[i];

		if (c->state != READY)
			continue;
		c->since = now();
		ask(c, request, (size_t)n);
		live += c->state == HEAD;
		c->up = up ? each : 0;
		if (up)
			want(c, EPOLLIN | EPOLLOUT);
	}
	until = now() + 120 * NS;
	while (live && now() < until) {
		int k = epoll_wait(ep, evs, 64, 1000);

		for (int i = 0; i < k; i++) {
			struct conn *c = evs[i].data.ptr;
			int r = 0;

			for (unsigned turn = 0; turn < 8 && c->up && evs[i].events & EPOLLOUT; turn++) {
				ssize_t w = send(c->fd, chunk, c->up < sizeof(chunk) ? (size_t)c->up : sizeof(chunk), MSG_NOSIGNAL);

				if (w < 0 && errno == EAGAIN)
					break;
				if (w < 0) {
					fault(c, "upload: %s", strerror(errno));
					r = -1;
					break;
				}
				c->up -= (uint64_t)w;
				if (!c->up)
					want(c, EPOLLIN);
			}
			if (!r && c->state != CLOSED && evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
				if (c->state == READY)
					fault(c, "closed while idle");
				else
					r = read_answer(c, false);
			}
			if (!r)
				continue;
			live--;
			if (r > 0) {
				if (c->up)
					fault(c, "answered before the upload was complete");
				else
					sample(now() - c->since);
				c->state = READY;
			}
		}
	}
	usage_take(&v);
	if (live)
		fault(NULL, "bulk did not end");
	report(&u, &v, ",\"gib\":%.6f", (double)(each * opt.conns) / (1ull << 30));
}

/* ---- idle connections, plain or over mutual TLS ---- */

static SSL_CTX *tls_context(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, opt.cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, opt.key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_load_verify_locations(ctx, opt.ca, NULL) != 1) {
		ERR_print_errors_fp(stderr);
		exit(2);
	}
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	return ctx;
}

/* Blocking: this is about memory. Returns the session, NULL after fault(). */
static SSL *tls_ask(SSL_CTX *ctx, SSL *ssl, struct conn *c)
{
	char b[1024];
	int n, got = 0, one = 1;

	if (!ssl) {
		c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&opt.target, sizeof(opt.target))) {
			fault(c, "connect: %s", strerror(errno));
			return NULL;
		}
		ssl = SSL_new(ctx);
		SSL_set_fd(ssl, c->fd);
		SSL_set_tlsext_host_name(ssl, opt.name);
		if (SSL_connect(ssl) != 1) {
			fault(c, "TLS: %s", ERR_reason_error_string(ERR_peek_error()));
			return NULL;
		}
	}
	SSL_write(ssl, get_small, sizeof(get_small) - 1);
	while (got < 64 || !memmem(b, (size_t)got, small_body, sizeof(small_body))) {
		n = SSL_read(ssl, b + got, (int)sizeof(b) - got);
		if (n <= 0) {
			fault(c, "TLS: closed before the answer");
			return NULL;
		}
		got += n;
		if (strncmp(b, "HTTP/1.1 200", 12)) {
			fault(c, "answered %.24s", b);
			return NULL;
		}
	}
	c->state = READY;
	return ssl;
}

/* Rings and pools are as large as they get after some thousand requests; that is no cost of a connection that idles. */
static void wear_in(SSL_CTX *ctx, SSL **ssl, unsigned few)
{
	struct epoll_event evs[64];

	for (unsigned i = 0; ctx && i < 20000; i++)
		if (conns[i % few].state == READY)
			tls_ask(ctx, ssl[i % few], &conns[i % few]);
	for (unsigned i = 0; !ctx && i < 20000;) {
		unsigned busy = 0;

		for (unsigned k = 0; k < few && k < 64; k++)
			if (conns[k].state == READY) {
				ask(&conns[k], get_small, sizeof(get_small) - 1);
				busy++;
			}
		if (!busy)
			return;
		for (i += busy; busy;) {
			int n = epoll_wait(ep, evs, 64, 5000);

			if (n <= 0)
				return;
			for (int e = 0; e < n; e++) {
				struct conn *c = evs[e].data.ptr;
				int r = c->state == READY ? 0 : read_answer(c, true);

				if (r > 0)
					c->state = READY;
				busy -= r != 0;
			}
		}
	}
}

static void run_idle(void)
{
	struct epoll_event evs[256];
	struct usage u, v;
	unsigned few = opt.conns / 10 ? opt.conns / 10 : 1, alive = 0, again = 0, asked = 0;
	double a0, b0, a1, b1;
	SSL_CTX *ctx = opt.cert ? tls_context() : NULL;
	SSL **ssl = calloc(opt.conns, sizeof(*ssl));

	/* What the first ones take (pools, a table's first size) is no cost of a connection. */
	for (unsigned i = 0; ctx && i < few; i++)
		ssl[i] = tls_ask(ctx, NULL, &conns[i]);
	if (!ctx)
		warm_up(0, few);
	wear_in(ctx, ssl, few);
	sleep(1);
	a0 = rss_of(&opt.a);
	b0 = rss_of(&opt.b);
	for (unsigned i = few; ctx && i < opt.conns; i++)
		ssl[i] = tls_ask(ctx, NULL, &conns[i]);
	if (!ctx)
		warm_up(few, opt.conns);
	usage_take(&u);
	measuring = true;
	usleep((useconds_t)(opt.seconds * 1e6));
	usage_take(&v);
	a1 = rss_of(&opt.a);
	b1 = rss_of(&opt.b);
	if (!ctx)
		for (int n; (n = epoll_wait(ep, evs, 256, 0)) > 0;)
			for (int i = 0; i < n; i++)
				fault(evs[i].data.ptr, "closed while idle");
	for (unsigned i = 0; i < opt.conns; i++) {
		alive += conns[i].state == READY;
		if (i % 50 || conns[i].state != READY)
			continue;
		asked++;
		if (ctx)
			again += tls_ask(ctx, ssl[i], &conns[i]) != NULL;
		else
			ask(&conns[i], get_small, sizeof(get_small) - 1);
	}
	for (uint64_t until = now() + 10 * NS; !ctx && again < asked && now() < until;) {
		int n = epoll_wait(ep, evs, 256, 100);
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;
			if (c->state != READY && read_answer(c, true) > 0) {
				c->state = READY;
				again++;
			}
		}
	}
	if (again < asked)
		fault(NULL, "%u idle connections no longer answer", asked - again);
	good = alive;
	report(&u, &v, ",\"a_each\":%.0f,\"b_each\":%.0f,\"a_rss\":%.0f,\"b_rss\":%.0f", (a1 - a0) / (opt.conns - few),
	    (b1 - b0) / (opt.conns - few), a0, b0);
}

static void pids_parse(struct pids *p, char *s)
{
	for (char *end; *s && p->n < PIDS; s = *end ? end + 1 : end)
		p->pid[p->n++] = (pid_t)strtol(s, &end, 10);
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	char *colon;
	int o;

	if (argc < 2) {
		fprintf(stderr, "usage: load closed|open|close|down|up|idle -t ADDRESS:PORT ...\n");
		return 2;
	}
	opt.mode = argv[1];
	optind = 2;
	while ((o = getopt(argc, argv, "t:c:w:d:r:n:A:B:O:C:K:S:N:")) != -1)
		switch (o) {
		case 't':
			colon = strrchr(optarg, ':');
			if (!colon)
				return 2;
			*colon = '\0';
			opt.target.sin_family = AF_INET;
			opt.target.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
			if (inet_pton(AF_INET, optarg, &opt.target.sin_addr) != 1)
				return 2;
			break;
		case 'c': opt.conns = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'w': opt.warm = strtod(optarg, NULL); break;
		case 'd': opt.seconds = strtod(optarg, NULL); break;
		case 'r': opt.rate = strtod(optarg, NULL); break;
		case 'n': opt.octets = strtoull(optarg, NULL, 10); break;
		case 'A': pids_parse(&opt.a, optarg); break;
		case 'B': pids_parse(&opt.b, optarg); break;
		case 'O': pids_parse(&opt.origin, optarg); break;
		case 'C': opt.cert = optarg; break;
		case 'K': opt.key = optarg; break;
		case 'S': opt.ca = optarg; break;
		case 'N': opt.name = optarg; break;
		default: return 2;
		}
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	for (size_t i = 0; i < sizeof(small_body); i++)
		small_body[i] = i == sizeof(small_body) - 1 ? '\n' : (char)('a' + i % 26);
	ep = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(opt.conns ? opt.conns : 1, sizeof(*conns));
	if (!conns || !opt.conns)
		return 2;
	for (unsigned i = 0; i < opt.conns; i++)
		conns[i].fd = -1;
	if (!strcmp(opt.mode, "closed"))
		run_closed(false);
	else if (!strcmp(opt.mode, "close"))
		run_closed(true);
	else if (!strcmp(opt.mode, "open"))
		run_open();
	else if (!strcmp(opt.mode, "down"))
		run_bulk(false);
	else if (!strcmp(opt.mode, "up"))
		run_bulk(true);
	else if (!strcmp(opt.mode, "idle"))
		run_idle();
	else
		return 2;
	return 0;
}
