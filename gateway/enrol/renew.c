/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/enrol/renew.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/mem.h"
#include "gateway/enrol/wire.h"
#include "gateway/enrol/note.h"
#include "gateway/io/conn.h"
#include "gateway/keys/client.h"
#include "gateway/tls/layer.h"
#include "pki/estcert.h"
#include "pki/pkcs7.h"

#define KEYS 3
#define CSR_MS 15000         /* for the keys role: an RSA key takes its time */
#define ASK_MS 20000         /* for one address, from dialling to the whole answer */
#define TAKEN_MS 30000       /* for master to check and store it, and for all to take it over */
#define LOOK_MS 3600000      /* a clock that jumps is noticed by then */
#define PAUSE_MIN_MS 1000
#define PAUSE_MAX_MS 600000
#define READ_MAX 16384
/*
 * A CA lets certificates begin before they are made, for clocks that are behind; ours by this much (pki/ca_int.h). Where that can be so, a life is
 * counted from then on: else one of a minute would be half over before it began.
 */
#define BACKDATE_MS 300000

enum step {
	R_OFF,     /* nothing to renew: no certificate, or not one of our own CA; ends by new trust material */
	R_WAIT,    /* until next_ms */
	R_CSR,     /* the keys role makes a request; ends with it, or after CSR_MS */
	R_ASK,     /* an address is asked; ends with its answer, or after ASK_MS */
	R_TAKEN,   /* master has the new certificate; ends by new trust material, or after TAKEN_MS */
};

struct key {
	struct renew *r;
	unsigned number;             /* enum keys_number */
	uint8_t step;                /* enum step */
	bool same_key;               /* it cannot have a new one */
	unsigned failures;           /* in a row */
	uint64_t from_ms, until_ms;  /* of the present certificate; ms since the epoch */
	uint64_t next_ms;
	char *chain;                 /* the present one, as it was when the above was read */
	char id[SPIFFE_ID_MAX + 1];
	struct loop_timer timer;
	uint8_t *csr;                /* to be sent until it was answered: the new key is in master's hands already */
	size_t csr_len;
	size_t address;              /* in renewal.dial */
	struct conn *conn;           /* NULL unless R_ASK */
	struct tls_conn *tls;
	struct wire_reader reader;
	char error[320];
};

struct renew {
	struct renew_env env;
	bool draining;
	struct svid_bundle *bundle;
	struct key keys[KEYS];
};

static const char *const names[KEYS] = { [KEYS_IDENTITY] = "identity", [KEYS_INSIDE] = "inside", [KEYS_ENROL] = "enrol" };

static void begin(void *ctx);
static void wait_until(struct key *k, uint64_t at_ms);
static void dial(struct key *k);

/* ---- when ---- */

static uint64_t
wall_ms(const struct renew *r)
{
	return loop_wall_us(r->env.loop) / 1000;
}

static uint64_t
kernel_random(uint64_t n)
{
	uint64_t v = 0;

	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v))
		v = clock_mono_us();
	return v % n;
}

uint64_t
renew_due(uint64_t from_ms, uint64_t until_ms, unsigned at, renew_random *random)
{
	uint64_t life = until_ms > from_ms ? until_ms - from_ms : 0, spread = life / 20;

	return from_ms + life / 100 * at + random(2 * spread + 1) - spread;
}

uint64_t
renew_pause(unsigned failures, uint64_t left_ms, renew_random *random)
{
	uint64_t most = left_ms / 50 > PAUSE_MIN_MS ? left_ms / 50 : PAUSE_MIN_MS;

	for (unsigned i = 1; i < failures && most < PAUSE_MAX_MS; i++)
		most *= 2;
	/* However often it failed: some tries are left while there is life. */
	if (left_ms && most > left_ms / 8)
		most = left_ms / 8;
	if (most > PAUSE_MAX_MS)
		most = PAUSE_MAX_MS;
	return PAUSE_MIN_MS + (most > PAUSE_MIN_MS ? random(most - PAUSE_MIN_MS + 1) : 0);
}

static void
on_timer(void *ctx)
{
	struct key *k = ctx;

	if (wall_ms(k->r) < k->next_ms)
		wait_until(k, k->next_ms);
	else
		begin(k);
}

static void
wait_until(struct key *k, uint64_t at_ms)
{
	uint64_t now = wall_ms(k->r), ms = at_ms > now ? at_ms - now : 0;

	k->step = R_WAIT;
	k->next_ms = at_ms;
	if (k->r->draining)
		return;
	timer_set(k->r->env.loop, &k->timer, ms < LOOK_MS ? ms : LOOK_MS, on_timer, k);
}

/* ---- what ---- */

static void
close_conn(struct key *k)
{
	if (!k->conn)
		return;
	conn_fini(k->conn, false);
	loop_dispose(k->r->env.loop, k->conn);
	k->conn = NULL;
	k->tls = NULL;
	wire_reader_fini(&k->reader);
}

static void
forget_csr(struct key *k)
{
	mem_free(k->csr);
	k->csr = NULL;
	k->csr_len = 0;
}

static void on_csr(void *ctx, const uint8_t *der, size_t len, const char *why);

static void
stop(struct key *k)
{
	timer_cancel(&k->timer);
	if (k->step == R_CSR)
		keys_client_csr_cancel(on_csr, k);
	close_conn(k);
	k->step = R_OFF;
}

static void
note(struct key *k, bool ok, const char *detail)
{
	const struct config *c = k->r->env.config;
	char *text = mem_printf("%s: %s", names[k->number], detail);

	enrol_note(k->r->env.ring, k->r->env.loop, &(struct enrol_note){
		.type = AUDIT_ENROLMENT, .verdict = ok ? "allow" : "deny", .reason = ok ? "renewed" : "renewal-failed", .principal = k->id, .detail = text,
		.endpoint = k->address < c->renewal.ndial ? c->renewal.dial[k->address].text : NULL,
	});
	mem_free(text);
}

static char *
when(char out[CLOCK_RFC3339_LEN + 1], uint64_t ms)
{
	clock_rfc3339(out, ms * 1000);
	memcpy(out + 19, "Z", 2);
	return out;
}

static void
set_error(struct key *k, const char *address, const char *why, const char *detail)
{
	snprintf(k->error, sizeof(k->error), "%s%s%s%s%s", address, why ? ": " : "", why ? why : "", detail && *detail ? ": " : "", detail ? detail : "");
	for (char *p = k->error; *p; p++) /* for the log, and for JSON */
		if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\')
			*p = '\'';
}

/* This time it did not work. */
static void
fail(struct key *k, const char *why)
{
	uint64_t now = wall_ms(k->r), left = k->until_ms > now ? k->until_ms - now : 0, pause;
	char until[CLOCK_RFC3339_LEN + 1], next[CLOCK_RFC3339_LEN + 1];

	stop(k);
	k->failures++;
	if (why != k->error)
		set_error(k, why, NULL, NULL);
	pause = renew_pause(k->failures, left, kernel_random);
	wait_until(k, now + pause);
	log_warn("event=renewal-failed key=%s reason=\"%s\" until=%s next=%s%s", names[k->number], k->error, when(until, k->until_ms),
	    when(next, k->next_ms), left ? "" : " it has expired: renew it by hand");
	note(k, false, k->error);
	k->address = 0;
}

/* The same for the address that was tried: maybe the next one does better. */
static void
fail_address(struct key *k, const char *why, const char *detail)
{
	const struct config *c = k->r->env.config;

	set_error(k, c->renewal.dial[k->address].text, why, detail);
	close_conn(k);
	if (k->csr && k->address + 1 < c->renewal.ndial) {
		k->address++;
		dial(k);
		return;
	}
	fail(k, k->error);
}

static void
take(struct key *k)
{
	struct estcert_want want = {
		.csr = k->csr, .csr_len = k->csr_len, .bundle = k->r->bundle, .id = k->id, .chain_pem = k->chain, .now = (int64_t)(wall_ms(k->r) / 1000),
	};
	struct pkcs7_certs got;
	const char *why = NULL;
	int64_t until = 0;
	uint8_t *der = NULL;
	char *pem = NULL;
	size_t len = 0;

	der = wire_answer_der(&k->reader, &len, &why);
	if (der && pkcs7_decode(&got, der, len, &why) == 0) {
		pem = estcert_take(&want, got.certs, got.n, &until, &why);
		pkcs7_certs_fini(&got);
	}
	mem_free(der);
	if (pem && (uint64_t)until * 1000 <= k->until_ms) {
		mem_free(pem);
		pem = NULL;
		why = "the new certificate lasts no longer than the present one";
	}
	if (!pem) {
		forget_csr(k);
		fail_address(k, why, NULL);
		return;
	}
	close_conn(k);
	k->step = R_TAKEN;
	timer_set(k->r->env.loop, &k->timer, TAKEN_MS, on_timer, k);
	k->next_ms = 0;
	log_info("event=renewed key=%s id=%s seconds=%lld", names[k->number], k->id, (long long)until - want.now);
	note(k, true, "the new certificate goes to master");
	k->r->env.on_renewed(k->r->env.ctx, k->number, pem, strlen(pem));
	mem_free(pem);
}

static void
answered(struct key *k)
{
	unsigned status = k->reader.status;
	char text[200], why[64];

	if (status == 200) {
		take(k);
		return;
	}
	wire_answer_text(&k->reader, text, sizeof(text));
	snprintf(why, sizeof(why), "the enrolment service answers %u", status);
	if (status / 100 == 4 && status != 408 && status != 429)
		forget_csr(k); /* not this one */
	fail_address(k, why, text);
}

/* ---- asking ---- */

static void
on_open(struct conn *c)
{
	struct key *k = c->owner;
	const struct config *cfg = k->r->env.config;
	unsigned port = addr_port(&cfg->renewal.dial[k->address].addr);
	char *host = port == 443 ? mem_strdup(cfg->renewal.host) : mem_printf("%s:%u", cfg->renewal.host, port);
	struct buf out;

	buf_init(&out, 0);
	wire_write_request(&out, &(struct wire_ask){ .op = WIRE_REENROLL, .host = host, .csr = k->csr, .csr_len = k->csr_len });
	conn_write(c, out.data, out.len);
	buf_fini(&out);
	mem_free(host);
}

static void
on_input(struct conn *c)
{
	static uint8_t octets[READ_MAX];
	struct key *k = c->owner;
	const char *why;
	ssize_t n;
	int r;

	n = conn_read(c, octets, sizeof(octets));
	if (n < 0)
		return;
	r = wire_read_answer(&k->reader, octets, (size_t)n, n == 0, &why);
	if (r > 0)
		answered(k);
	else if (r < 0)
		fail_address(k, why, NULL);
	else if (c->readable)
		conn_again(c);
}

static void
on_drained(struct conn *c)
{
	(void)c;
}

static void
on_close(struct conn *c, const char *why)
{
	struct key *k = c->owner;
	const char *detail = NULL;

	if (strcmp(why, "handshake") == 0)
		why = tls_failure(k->tls, &detail);
	else if (c->error)
		detail = strerror(c->error);
	fail_address(k, why, detail);
}

static const struct conn_ops ops = { .on_open = on_open, .on_input = on_input, .on_drained = on_drained, .on_close = on_close };

static void
on_ask_limit(void *ctx)
{
	fail_address(ctx, "no answer in time", NULL);
}

static void
dial(struct key *k)
{
	const struct config *c = k->r->env.config;
	int fd = conn_dial(&c->renewal.dial[k->address].addr);

	if (fd < 0) {
		fail_address(k, "cannot connect", NULL);
		return;
	}
	k->step = R_ASK;
	k->conn = mem_alloc(sizeof(*k->conn));
	wire_reader_init(&k->reader);
	conn_init(k->conn, k->r->env.loop, fd, true, &ops, k);
	k->tls = tls_est_client_new(*k->r->env.tls, fd, k->number, c->renewal.host, tls_layer_wake, k->conn);
	tls_layer_set(k->conn, k->tls);
	timer_set(k->r->env.loop, &k->timer, ASK_MS, on_ask_limit, k);
}

static void
on_csr(void *ctx, const uint8_t *der, size_t len, const char *why)
{
	struct key *k = ctx;

	k->step = R_WAIT;
	timer_cancel(&k->timer);
	if (!der && !k->same_key && strcmp(why, keys_status_text(KEYS_FIXED)) == 0) {
		k->same_key = true;
		begin(k);
		return;
	}
	if (!der) {
		/* Asked again too soon: what went wrong before tells more. */
		fail(k, k->error[0] && strcmp(why, keys_status_text(KEYS_BUSY)) == 0 ? k->error : why);
		return;
	}
	k->csr = mem_alloc(len);
	memcpy(k->csr, der, len);
	k->csr_len = len;
	dial(k);
}

static void
on_csr_limit(void *ctx)
{
	fail(ctx, "the keys role did not make a request in time");
}

static void
begin(void *ctx)
{
	struct key *k = ctx;

	if (k->step == R_TAKEN) {
		/* The same request gets the same certificate again. */
		fail(k, "the new certificate was not taken over; the log of master says why");
		return;
	}
	k->address = 0;
	if (k->csr) {
		dial(k);
		return;
	}
	k->step = R_CSR;
	if (keys_client_csr((uint16_t)k->number, k->r->env.config->renewal.new_key && !k->same_key, on_csr, k) != 0) {
		k->step = R_WAIT;
		fail(k, "the keys role cannot be asked now");
		return;
	}
	timer_set(k->r->env.loop, &k->timer, CSR_MS, on_csr_limit, k);
}

/* ---- the certificates that we have ---- */

static const char *
chain_of(const struct config *c, unsigned number)
{
	switch (number) {
	case KEYS_IDENTITY: return c->identity.certificate_pem;
	case KEYS_INSIDE: return c->inside.certificate_pem;
	default: return c->enrol.certificate_pem;
	}
}

static void
on_cert(void *ctx, const struct svid_cert *cert)
{
	struct key *k = ctx;

	if (k->until_ms || cert->not_after <= 0 || cert->not_before < 0)
		return;
	k->from_ms = (uint64_t)cert->not_before * 1000;
	k->until_ms = (uint64_t)cert->not_after * 1000;
	if (k->from_ms + BACKDATE_MS < k->until_ms)
		k->from_ms += BACKDATE_MS;
}

/* One of our own CA's, whether or not its time is over. */
static bool
is_ours(struct key *k)
{
	struct svid_info info;
	const char *why;
	enum svid_reason reason = svid_verify_pem(k->chain, k->r->bundle, (int64_t)(wall_ms(k->r) / 1000), &info, &why);

	snprintf(k->id, sizeof(k->id), "%s", info.id);
	return reason == SVID_OK || reason == SVID_EXPIRED || reason == SVID_NOT_YET_VALID || reason == SVID_NO_CRL;
}

static void
look(struct key *k)
{
	const char *chain = chain_of(k->r->env.config, k->number), *why;
	uint64_t due, now = wall_ms(k->r);

	if (chain && k->chain && strcmp(chain, k->chain) == 0 && k->step != R_OFF)
		return;
	stop(k);
	forget_csr(k);
	mem_free(k->chain);
	k->chain = chain ? mem_strdup(chain) : NULL;
	k->from_ms = k->until_ms = k->next_ms = 0;
	k->failures = 0;
	k->error[0] = '\0';
	if (!chain || !k->r->bundle)
		return;
	svid_pem_each(chain, on_cert, k, &why);
	if (!k->until_ms || !is_ours(k))
		return;
	due = renew_due(k->from_ms, k->until_ms, k->r->env.config->renewal.at, kernel_random);
	/* Started late: not all gateways at one moment. */
	if (due <= now)
		due = now + kernel_random((k->until_ms - k->from_ms) / 100 < 10000 ? (k->until_ms - k->from_ms) / 100 + 1 : 10000);
	wait_until(k, due);
}

void
renew_trust(struct renew *r)
{
	const char *why = NULL;

	if (!r)
		return;
	svid_bundle_unref(r->bundle);
	r->bundle = svid_bundle_new(r->env.config->domain, r->env.config->identity.bundle_pem, &why);
	for (unsigned i = 0; i < KEYS; i++)
		look(&r->keys[i]);
}

void
renew_drain(struct renew *r)
{
	if (!r)
		return;
	r->draining = true;
	for (unsigned i = 0; i < KEYS; i++)
		if (r->keys[i].step == R_WAIT)
			timer_cancel(&r->keys[i].timer);
}

struct renew *
renew_new(const struct renew_env *env)
{
	struct renew *r;

	if (!env->config->renewal.host || !env->config->renewal.ndial)
		return NULL;
	r = mem_zalloc(sizeof(*r));
	r->env = *env;
	for (unsigned i = 0; i < KEYS; i++) {
		r->keys[i].r = r;
		r->keys[i].number = i;
	}
	renew_trust(r);
	return r;
}

void
renew_free(struct renew *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < KEYS; i++) {
		stop(&r->keys[i]);
		forget_csr(&r->keys[i]);
		mem_free(r->keys[i].chain);
	}
	svid_bundle_unref(r->bundle);
	mem_free(r);
}

void
renew_status(const struct renew *r, struct buf *out)
{
	static const char *const steps[] = { "off", "waiting", "requesting", "asking", "handed-over" };
	const char *sep = "";

	buf_puts(out, "[");
	for (unsigned i = 0; i < KEYS; i++) {
		const struct key *k = &r->keys[i];
		char until[CLOCK_RFC3339_LEN + 1], next[CLOCK_RFC3339_LEN + 1];

		if (k->step == R_OFF)
			continue;
		buf_printf(out, "%s{\"key\":\"%s\",\"state\":\"%s\",\"until\":\"%s\",\"next\":\"%s\",\"failures\":%u,\"error\":\"%s\"}", sep, names[i],
		    steps[k->step], when(until, k->until_ms), k->step == R_WAIT ? when(next, k->next_ms) : "", k->failures, k->error);
		sep = ",";
	}
	buf_puts(out, "]");
}
