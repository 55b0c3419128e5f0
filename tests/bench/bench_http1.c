/* SPDX-License-Identifier: Apache-2.0 */
/* What one HTTP/1 head costs, in nanoseconds: bench_http1 [rounds]. The copy that restores the buffer is measured and taken off. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/uuid.h"
#include "gateway/http1/body.h"
#include "gateway/http1/head.h"

static const char curl_get[] =
	"GET /v1/taxes/4711 HTTP/1.1\r\n"
	"Host: tax-svc.irs.svc.cluster.local\r\n"
	"User-Agent: curl/7.88.1\r\n"
	"Accept: */*\r\n\r\n";

static const char browser_get[] =
	"GET /v1/taxes/4711?year=2026&form=1040 HTTP/1.1\r\n"
	"Host: tax-svc.irs.svc.cluster.local\r\n"
	"Connection: keep-alive\r\n"
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
	"Accept-Encoding: gzip, deflate, br\r\n"
	"Accept-Language: en-US,en;q=0.9\r\n"
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
	"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
	"Cache-Control: max-age=0\r\n\r\n";

static const char response[] =
	"HTTP/1.1 200 OK\r\n"
	"Server: nginx/1.22.1\r\n"
	"Date: Fri, 20 Nov 2026 09:00:00 GMT\r\n"
	"Content-Type: application/json\r\n"
	"Content-Length: 1234\r\n"
	"Last-Modified: Thu, 19 Nov 2026 09:00:00 GMT\r\n"
	"Connection: keep-alive\r\n"
	"ETag: \"6378a1b2-4d2\"\r\n"
	"Cache-Control: no-store\r\n"
	"Accept-Ranges: bytes\r\n\r\n";

enum kind { COPY, REQUEST, RESPONSE };

static double
time_one(enum kind kind, const char *text, size_t n, unsigned rounds)
{
	static char buf[4096];
	static struct h1_head h;
	uint64_t from = clock_mono_us();

	for (unsigned i = 0; i < rounds; i++) {
		ssize_t rc = (ssize_t)n;

		memcpy(buf, text, n);
		__asm__ volatile("" : : "r"(buf) : "memory");
		h.scan = 0;
		if (kind == REQUEST)
			rc = h1_parse_request(&h, buf, n);
		else if (kind == RESPONSE)
			rc = h1_parse_response(&h, buf, n, H1_M_GET);
		if (rc != (ssize_t)n) {
			fprintf(stderr, "refused: %zd\n", rc);
			exit(1);
		}
	}
	return (double)(clock_mono_us() - from) * 1000 / rounds;
}

static void
report(const char *name, enum kind kind, const char *text, size_t n, unsigned rounds)
{
	double best = 1e9;

	for (int i = 0; i < 7; i++) { /* the least disturbed of seven */
		double t = time_one(kind, text, n, rounds) - time_one(COPY, text, n, rounds);

		if (t < best)
			best = t;
	}
	printf("%-28s %5zu octets %7.0f ns\n", name, n, best);
}

/* An octet at a time: the scan hint keeps this linear. */
static void
report_trickle(void)
{
	static char head[H1_MAX_HEAD + 1];
	static struct h1_head h;
	size_t n = (size_t)snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\nX: ");
	uint64_t from;
	ssize_t rc = 0;

	memset(head + n, 'x', sizeof(head) - n);
	n = H1_MAX_HEAD;
	memcpy(head + n - 4, "\r\n\r\n", 4);
	h.scan = 0;
	from = clock_mono_us();
	for (size_t i = 1; i <= n; i++)
		rc = h1_parse_request(&h, head, i);
	printf("%-28s %5zu octets %7.0f us in all (%s)\n", "one octet at a time", n, (double)(clock_mono_us() - from),
	       rc == (ssize_t)n ? "accepted" : "refused");
}

static void
report_chunks(unsigned rounds)
{
	static char wire[8 * 1024];
	size_t n = 0;
	double best = 1e9;

	for (int i = 0; i < 64; i++) {
		n += (size_t)snprintf(wire + n, sizeof(wire) - n, "64\r\n");
		memset(wire + n, 'd', 100);
		n += 100;
		memcpy(wire + n, "\r\n", 2);
		n += 2;
	}
	memcpy(wire + n, "0\r\n\r\n", 5);
	n += 5;
	for (int k = 0; k < 7; k++) {
		uint64_t from = clock_mono_us();
		double t;

		for (unsigned i = 0; i < rounds; i++) {
			struct h1_body b;
			enum h1_event ev;
			const char *data;
			size_t at = 0, data_len;

			h1_body_init(&b, H1_CHUNKED, 0);
			do
				at += h1_body_feed(&b, wire + at, n - at, &ev, &data, &data_len);
			while (ev == H1_EV_DATA);
			h1_body_fini(&b);
		}
		t = (double)(clock_mono_us() - from) * 1000 / rounds / 64;
		if (t < best)
			best = t;
	}
	printf("%-28s %5d octets %7.0f ns each\n", "chunk", 100, best);
}

static void
report_uuid(unsigned rounds)
{
	struct uuid u;
	char text[UUID_TEXT_LEN];
	uint64_t from = clock_mono_us();

	for (unsigned i = 0; i < rounds; i++) {
		uuid_make(&u, clock_wall_us());
		uuid_format(&u, text);
		__asm__ volatile("" : : "r"(text) : "memory");
	}
	printf("%-28s %5d octets %7.0f ns\n", "exchange id, with its time", UUID_TEXT_LEN,
	       (double)(clock_mono_us() - from) * 1000 / rounds);
}

int
main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 200000;

	if (rounds == 0) {
		fprintf(stderr, "usage: bench_http1 [rounds]\n");
		return 2;
	}
	report("request, 3 fields (curl)", REQUEST, curl_get, sizeof(curl_get) - 1, rounds);
	report("request, 9 fields (browser)", REQUEST, browser_get, sizeof(browser_get) - 1, rounds);
	report("response, 9 fields", RESPONSE, response, sizeof(response) - 1, rounds);
	report_trickle();
	report_chunks(rounds / 20 + 1);
	report_uuid(rounds);
	return 0;
}
