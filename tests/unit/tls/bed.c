/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tls/bed.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "gateway/base/clock.h"
#include "gateway/base/mem.h"
#include "gateway/keys/client.h"

#define must(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "bed: %s:%d: %s (%s)\n", __FILE__, __LINE__, #x, strerror(errno)); \
			ERR_print_errors_fp(stderr); \
			abort(); \
		} \
	} while (0)

/* ---- certificates ---- */

struct bed_domain
bed_domain(const char *name)
{
	struct bed_domain d = { .name = name };
	char *nc = mem_printf("critical,permitted;URI:%s", name), *id = mem_printf("spiffe://%s", name), *cn = mem_printf("%s CA", name);
	struct zoo z = { .ca = true, .cn = cn, .nc = nc, .san = { { GEN_URI, id, 0 } } };
	const char *why;
	char *pem;

	z.from = time(NULL) - 86400;
	z.until = time(NULL) + 30 * 86400;
	d.ca = zoo_make(&z, NULL);
	pem = zoo_pem(&d.ca.x, 1);
	d.bundle = svid_bundle_new(name, pem, &why);
	must(d.bundle);
	mem_free(pem);
	mem_free(nc);
	mem_free(id);
	mem_free(cn);
	return d;
}

void
bed_domain_free(struct bed_domain *d)
{
	svid_bundle_unref(d->bundle);
	zoo_free(&d->ca);
}

struct zoo_cert
bed_leaf(const struct bed_domain *d, const char *id, enum zoo_key key, const struct zoo *z)
{
	struct zoo leaf = { 0 };

	if (z)
		leaf = *z;
	if (!leaf.san[0].p)
		leaf.san[0] = (struct zoo_name){ GEN_URI, id, 0 };
	leaf.key = key;
	if (!leaf.from)
		leaf.from = time(NULL) - 3600;
	if (!leaf.until)
		leaf.until = time(NULL) + 3600;
	return zoo_make(&leaf, &d->ca);
}

struct tls_env *
bed_env(const struct bed_domain *d, const struct zoo_cert *leaf, struct svid_bundle *const *bundles, size_t n)
{
	char *pem = zoo_pem(&leaf->x, 1);
	struct tls_env_config cfg = { .domain = d->name, .identity_pem = pem, .bundles = bundles, .nbundles = n };
	const char *why = NULL;
	struct tls_env *e = tls_env_new(&cfg, &why);

	if (!e)
		fprintf(stderr, "bed: %s\n", why);
	must(e);
	mem_free(pem);
	return e;
}

/* ---- connections ---- */

void
bed_pair(int fds[2])
{
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

void
bed_wake(void *end)
{
	((struct bed_end *)end)->woken++;
}

static bool
finished(const struct bed_end *e)
{
	return e->st == TLS_DONE || e->st == TLS_FAILED;
}

static void
step(struct bed_end *e)
{
	if (e->t) {
		if (e->st == TLS_PARKED && !e->woken)
			return;
		e->woken = 0;
		e->st = tls_handshake(e->t);
		if (e->st == TLS_PARKED)
			e->parked++;
	} else {
		int r = SSL_do_handshake(e->raw), err = SSL_get_error(e->raw, r);

		if (r == 1)
			e->st = TLS_DONE;
		else if (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE)
			e->st = TLS_FAILED;
		ERR_clear_error();
	}
	/* As an owner does: the other end must see it. */
	if (e->st == TLS_FAILED)
		shutdown(e->fd, SHUT_WR);
}

void
bed_run(struct bed_end *const *ends, size_t n, int keys_fd)
{
	uint64_t deadline = clock_mono_ms() + 10000;
	bool all = false;

	for (size_t i = 0; i < n; i++)
		ends[i]->st = TLS_WANT_READ;
	while (!all) {
		struct pollfd p = { .fd = keys_fd, .events = POLLIN };

		must(clock_mono_ms() < deadline);
		all = true;
		for (size_t i = 0; i < n; i++) {
			if (!finished(ends[i]))
				step(ends[i]);
			all = all && finished(ends[i]);
		}
		if (!all && keys_fd >= 0 && poll(&p, 1, 1) > 0 && keys_client_on_readable() < 0)
			keys_fd = -1;
	}
}

void
bed_end_free(struct bed_end *e)
{
	tls_free(e->t);
	SSL_free(e->raw);
	if (e->fd > 0)
		close(e->fd);
	memset(e, 0, sizeof(*e));
}
