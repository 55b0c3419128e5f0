/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutual TLS 1.3 handshakes: who makes how many a second, and at what cost. One thread, epoll.
 *
 *   handshake load -t ADDRESS:PORT -C CERT -K KEY -S CA -N NAME [-c CONNECTIONS] [-w WARM_SECONDS] [-d SECONDS] [-A PIDS] [-O PIDS]
 *       each connection: a full handshake with a client certificate, one small request, its answer, the end. One line of JSON,
 *       with the CPU time of the processes -A (and of the origin's, -O) over the measured window.
 *
 *   handshake serve -t ADDRESS:PORT -C CERT -K KEY -S CA [-p PROCESSES]
 *       the floor: a server that does nothing but that, with its private key in the process that needs it, and answers by itself.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDS 64

struct conn {
	int fd;
	SSL *ssl;
	bool asked, writing;   /* writing: epoll waits for room */
	size_t len;
	double since;
	char buf[1024];
};

struct pids {
	pid_t pid[PIDS];
	unsigned n;
};

static struct {
	struct sockaddr_in target;
	unsigned conns, processes;
	double warm, seconds;
	const char *cert, *key, *ca, *name;
	struct pids a, origin;
} opt = { .conns = 32, .processes = 2, .warm = 0.5, .seconds = 4 };

static const char request[] = "GET /small HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: load/1\r\nAccept: */*\r\nConnection: close\r\n\r\n";
static char small_body[63], answer[256];
static SSL_CTX *ctx;
static int ep;
static uint64_t good, bad, resumed;
static bool measuring;
static char why[80];
static double *times;
static size_t ntimes;
#define TIMES 1000000u

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_of(const struct pids *p)
{
	double sum = 0;

	for (unsigned i = 0; i < p->n; i++) {
		clockid_t clock;
		struct timespec ts;

		if (clock_getcpuclockid(p->pid[i], &clock) || clock_gettime(clock, &ts)) {
			fprintf(stderr, "handshake: process %d is gone\n", (int)p->pid[i]);
			exit(3);
		}
		sum += (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
	}
	return sum;
}

static void watch(struct conn *c, int op, bool writing)
{
	struct epoll_event ev = { .events = writing ? EPOLLOUT : EPOLLIN, .data.ptr = c };

	c->writing = writing;
	epoll_ctl(ep, op, c->fd, &ev);
}

static void context(bool server)
{
	ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 || SSL_CTX_use_certificate_chain_file(ctx, opt.cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, opt.key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_load_verify_locations(ctx, opt.ca, NULL) != 1) {
		ERR_print_errors_fp(stderr);
		exit(2);
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set1_groups_list(ctx, "X25519:P-256");
	/* The client looks at the first one only: it shares the machine with those that it measures. */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

/* Without a trace: some thousand a second would fill the kernel's table of those that wait. */
static void drop(struct conn *c)
{
	struct linger l = { .l_onoff = 1 };

	SSL_free(c->ssl);
	c->ssl = NULL;
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(c->fd);
	c->fd = -1;
}

/* ---- load ---- */

static void fault(struct conn *c, const char *what)
{
	const char *tls = ERR_reason_error_string(ERR_peek_error());

	bad++;
	if (!why[0])
		snprintf(why, sizeof(why), "%s: %s", what, tls ? tls : strerror(errno));
	ERR_clear_error();
	if (c->fd >= 0)
		drop(c);
}

static void begin(struct conn *c)
{
	int one = 1;

	c->len = 0;
	c->asked = false;
	c->since = now();
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&opt.target, sizeof(opt.target)) && errno != EINPROGRESS) {
		fault(c, "connect");
		return;
	}
	c->ssl = SSL_new(ctx);
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_tlsext_host_name(c->ssl, opt.name);
	SSL_set_connect_state(c->ssl);
	watch(c, EPOLL_CTL_ADD, true);
}

/* 1: the answer is complete; 0: more is due; -1: failed. */
static int load_step(struct conn *c)
{
	int r;

	ERR_clear_error();
	if (!c->asked) {
		r = SSL_write(c->ssl, request, sizeof(request) - 1); /* the handshake comes first */
		if (r > 0)
			c->asked = true;
	} else {
		r = SSL_read(c->ssl, c->buf + c->len, (int)(sizeof(c->buf) - c->len));
		if (r > 0) {
			c->len += (size_t)r;
			if (c->len > 12 && strncmp(c->buf, "HTTP/1.1 200", 12)) {
				fault(c, "not 200");
				return -1;
			}
			if (memmem(c->buf, c->len, small_body, sizeof(small_body)))
				return 1;
		}
	}
	if (r <= 0) {
		int e = SSL_get_error(c->ssl, r);

		if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
			fault(c, c->asked ? "closed before the answer" : "handshake");
			return -1;
		}
		if ((e == SSL_ERROR_WANT_WRITE) != c->writing)
			watch(c, EPOLL_CTL_MOD, e == SSL_ERROR_WANT_WRITE);
		return 0;
	}
	return load_step(c);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void load(void)
{
	struct conn *conns = calloc(opt.conns, sizeof(*conns));
	double start = now() + opt.warm, end = start + opt.seconds + 100, a = 0, o = 0, at = 0;
	struct epoll_event evs[64];

	context(false);
	times = calloc(TIMES, sizeof(*times));
	for (unsigned i = 0; i < opt.conns; i++)
		begin(&conns[i]);
	while (now() < end && bad < 1000) {
		int n = epoll_wait(ep, evs, 64, 100);

		if (!measuring && now() >= start) {
			measuring = true;
			a = cpu_of(&opt.a);
			o = cpu_of(&opt.origin);
			at = now();
			end = at + opt.seconds;
		}
		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;
			int r = load_step(c);

			if (r == 0)
				continue;
			if (r > 0) {
				SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
				resumed += SSL_session_reused(c->ssl) != 0;
				drop(c);
				if (measuring && ntimes < TIMES)
					times[ntimes++] = now() - c->since;
				good += measuring;
			}
			begin(c);
		}
	}
	if (resumed) {
		bad++;
		snprintf(why, sizeof(why), "%llu sessions were resumed", (unsigned long long)resumed);
	}
	at = now() - at;
	qsort(times, ntimes, sizeof(*times), by_value);
	printf("{\"mode\":\"handshake\",\"conns\":%u,\"secs\":%.4f,\"ok\":%llu,\"err\":%llu,\"why\":\"%s\",\"p50\":%.1f,\"p99\":%.1f,"
	       "\"cpu_a\":%.6f,\"cpu_origin\":%.6f}\n",
	    opt.conns, at, (unsigned long long)good, (unsigned long long)bad, why, ntimes ? times[ntimes / 2] * 1e6 : 0,
	    ntimes ? times[ntimes * 99 / 100] * 1e6 : 0, cpu_of(&opt.a) - a, cpu_of(&opt.origin) - o);
}

/* ---- serve ---- */

static void serve_step(struct conn *c)
{
	int r = SSL_read(c->ssl, c->buf + c->len, (int)(sizeof(c->buf) - c->len));

	if (r > 0) {
		c->len += (size_t)r;
		if (!memmem(c->buf, c->len, "\r\n\r\n", 4))
			return;
		SSL_write(c->ssl, answer, (int)strlen(answer));
		SSL_shutdown(c->ssl);
	} else {
		int e = SSL_get_error(c->ssl, r);

		if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
			if ((e == SSL_ERROR_WANT_WRITE) != c->writing)
				watch(c, EPOLL_CTL_MOD, e == SSL_ERROR_WANT_WRITE);
			return;
		}
		ERR_clear_error();
	}
	SSL_free(c->ssl);
	close(c->fd);
	free(c);
}

static void serve(void)
{
	struct epoll_event evs[64], ev = { .events = EPOLLIN };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&opt.target, sizeof(opt.target)) || listen(fd, 4096)) {
		perror("handshake: listen");
		exit(2);
	}
	snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: 63\r\nConnection: close\r\n\r\n%.63s", small_body);
	context(true);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	for (;;) {
		int n = epoll_wait(ep, evs, 64, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (c) {
				serve_step(c);
				continue;
			}
			for (int s; (s = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
				setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				c = calloc(1, sizeof(*c));
				c->fd = s;
				c->ssl = SSL_new(ctx);
				SSL_set_fd(c->ssl, s);
				SSL_set_accept_state(c->ssl);
				watch(c, EPOLL_CTL_ADD, false);
			}
		}
	}
}

static void serve_all(void)
{
	for (unsigned i = 0; i < opt.processes; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			ep = epoll_create1(EPOLL_CLOEXEC);
			serve();
		}
	while (wait(NULL) > 0)
		;
}

static void pids_parse(struct pids *p, char *s)
{
	for (char *end; *s && p->n < PIDS; s = *end ? end + 1 : end)
		p->pid[p->n++] = (pid_t)strtol(s, &end, 10);
}

int main(int argc, char **argv)
{
	char *colon;
	int o;

	if (argc < 2)
		return 2;
	optind = 2;
	while ((o = getopt(argc, argv, "t:c:w:d:p:A:O:C:K:S:N:")) != -1)
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
		case 'p': opt.processes = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'A': pids_parse(&opt.a, optarg); break;
		case 'O': pids_parse(&opt.origin, optarg); break;
		case 'C': opt.cert = optarg; break;
		case 'K': opt.key = optarg; break;
		case 'S': opt.ca = optarg; break;
		case 'N': opt.name = optarg; break;
		default: return 2;
		}
	if (!opt.cert || !opt.key || !opt.ca || !opt.target.sin_port || !opt.conns)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(small_body); i++)
		small_body[i] = i == sizeof(small_body) - 1 ? '\n' : (char)('a' + i % 26);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (!strcmp(argv[1], "load"))
		load();
	else if (!strcmp(argv[1], "serve"))
		serve_all();
	else
		return 2;
	return 0;
}
