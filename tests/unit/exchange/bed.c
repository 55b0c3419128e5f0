/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/exchange/bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/base/le.h"
#include "gateway/base/mem.h"
#include "gateway/config/lookup.h"
#include "gateway/exchange/ingress.h"

#define APP BED_APP

struct bed bed;
static struct config config;
static struct config_peer peer;
static struct config_service services[4];
static struct caller *app;
static struct buf images[8];
static unsigned nimages;
static char link_stub[2][8]; /* two links; only their addresses count */

static void say(const char *fmt, ...)
{
	size_t n = strlen(bed.said);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(bed.said + n, sizeof(bed.said) - n, fmt, ap);
	va_end(ap);
}

/* ---- legs ---- */

static struct stub *stub_of(struct leg *l)
{
	struct stub *s = (struct stub *)l;

	assert_false(s->gone); /* nobody touches a leg after its end */
	return s;
}

static void say_fields(const struct h1_field *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!f[i].hop)
			say(" %.*s=%.*s", (int)f[i].name_len, f[i].name, (int)f[i].value_len, f[i].value);
}

static void op_head(struct leg *l, const struct leg_head *h)
{
	say("%c%u", stub_of(l)->side, h->status);
	for (unsigned i = 0; i < h->nfields; i++) /* the usual ones say nothing new */
		if (h->fields[i].id != H1_F_CONTENT_LENGTH && !(h->fields[i].name_len == 12 && memcmp(h->fields[i].name, "content-type", 12) == 0))
			say_fields(&h->fields[i], 1);
	say("%s;", h->end ? " end" : "");
}

static void op_data(struct leg *l, const uint8_t *p, size_t n)
{
	struct stub *s = stub_of(l);

	if (n > 40) { /* an answer of our own: the status says it */
		say("%c:own;", s->side);
		return;
	}
	say("%c:%.*s;", s->side, (int)n, p);
}

static void op_end(struct leg *l, const struct h1_field *t, unsigned n)
{
	say("%cend", stub_of(l)->side);
	say_fields(t, n);
	say(";");
}

static bool op_full(struct leg *l)
{
	return stub_of(l)->full;
}

static void op_pause(struct leg *l)
{
	say("%cpause;", stub_of(l)->side);
}

static void op_resume(struct leg *l)
{
	say("%cresume;", stub_of(l)->side);
}

static void op_abort(struct leg *l, enum leg_why why)
{
	static const char *const names[] = { "cancel", "reset", "refused", "protocol", "internal", "timeout", "revoked" };
	struct stub *s = stub_of(l);

	say("%cabort %s;", s->side, names[why]);
	l->ev = NULL;
	s->gone = true;
}

static void op_release(struct leg *l)
{
	struct stub *s = stub_of(l);

	say("%crelease;", s->side);
	l->ev = NULL;
	s->gone = true;
}

static const struct leg_ops stub_ops = {
	.head = op_head, .data = op_data, .end = op_end, .full = op_full,
	.pause = op_pause, .resume = op_resume, .abort = op_abort, .release = op_release,
};

static struct stub *out_new(const struct leg_events *ev, void *x)
{
	struct stub *s = &bed.out[bed.nout++];

	assert_true(bed.nout <= sizeof(bed.out) / sizeof(bed.out[0]));
	*s = (struct stub){ .leg = { .ops = &stub_ops, .ev = ev, .x = x }, .side = '>' };
	return s;
}

/* ---- links ---- */

bool link_ready(const struct link_set *s, int p)
{
	(void)s, (void)p;
	return bed.links > 0;
}

struct leg *link_exchange(struct link_set *s, int p, const struct link *avoid, const struct leg_head *h, const struct link_call *call,
    char *mem, const struct leg_events *ev, void *x)
{
	(void)s, (void)p, (void)mem;
	if (bed.links <= (avoid != NULL))
		return NULL;
	say(">link %.*s %u", (int)h->method_len, h->method, call->attempt);
	say_fields(h->fields, h->nfields);
	say("%s;", h->end ? " end" : "");
	return &out_new(ev, x)->leg;
}

struct link *link_of_leg(struct leg *l)
{
	return (struct link *)(void *)link_stub[(struct stub *)l - bed.out > 0];
}

void link_confirm(struct leg *l, struct caller *c)
{
	(void)l, (void)c;
}

bool link_take_back(struct leg *l, struct outq *to)
{
	(void)l;
	if (!bed.kept)
		return false;
	outq_append(to, (const uint8_t *)bed.kept, strlen(bed.kept));
	return true;
}

void link_forget_slot(struct leg *l, struct caller *c)
{
	(void)l, (void)c;
	say("forget;");
}

const char *link_error(const struct leg_head *r, uint32_t *len)
{
	for (unsigned i = 0; i < r->nfields; i++)
		if (r->fields[i].name_len == 15 && memcmp(r->fields[i].name, "sallyport-error", 15) == 0) {
			*len = r->fields[i].value_len;
			return r->fields[i].value;
		}
	return NULL;
}

bool link_exchange_id(const struct leg_head *r, struct uuid *id)
{
	(void)r, (void)id;
	return false;
}

const char *link_gateway(const struct link *l)
{
	(void)l;
	return "spiffe://irs.example/gateway/dmz1";
}

char *link_via_of(const char *id)
{
	(void)id;
	return mem_strdup("1.1 dmz1.hud.example");
}

const char *link_via(const struct link *l)
{
	(void)l;
	return "1.1 dmz1.irs.example";
}

uint32_t link_number(const struct link *l)
{
	(void)l;
	return 1;
}

int link_peer(const struct link *l)
{
	(void)l;
	return 0;
}

const char *link_caller_refusal(struct link_set *s, struct caller *c)
{
	(void)s;
	return c->refusal ? c->refusal : c->good_until < (int64_t)(clock_wall_us() / 1000000) ? "expired" : NULL;
}

const char *link_peer_refusal(const struct link_set *s, int p)
{
	(void)s, (void)p;
	return bed.barred;
}

const char *link_cut_reason(const struct link *l)
{
	(void)l;
	return bed.cut;
}

struct caller *link_successor(struct link_set *s, struct caller *c, bool server_too, bool *wait)
{
	struct caller *n = NULL, *o = NULL;

	(void)server_too;
	while ((o = caller_of_id(bed.gate.callers, c->id, c->id_len, o)))
		if (!link_caller_refusal(s, o) && (!n || o->not_after > n->not_after))
			n = o;
	*wait = bed.wait;
	if (!n || n->not_after <= c->not_after)
		return NULL;
	caller_follow(bed.gate.callers, c, n);
	return n;
}

int64_t link_notice_s(const struct caller *c)
{
	return (c->not_after - c->not_before) / 10;
}

bool link_vouch(struct leg *l, struct caller *newer)
{
	(void)l, (void)newer;
	say("vouch;");
	return true;
}

bool link_set_tick(struct link_set *s)
{
	(void)s;
	return false;
}

void ingress_rebind(struct ingress_client *c, struct caller *to)
{
	(void)c, (void)to;
	fail();
}

/* ---- local services ---- */

static struct leg *local(const struct leg_head *h, const struct leg_events *ev, void *x, const char **why)
{
	if (bed.local_fails) {
		*why = "connect-failed";
		return NULL;
	}
	if (h) {
		say(">local %.*s", (int)h->method_len, h->method);
		for (unsigned i = 0; i < h->nfields; i++) /* ids differ each time */
			if (h->fields[i].name_len != 18 && h->fields[i].name_len != 11)
				say_fields(&h->fields[i], 1);
		say("%s;", h->end ? " end" : "");
	} else {
		say(">tcp;");
	}
	return &out_new(ev, x)->leg;
}

struct leg *upstream_http(struct upstream_set *s, int service, const struct leg_head *h, const struct leg_events *ev, void *x, const char **why)
{
	(void)s, (void)service;
	return local(h, ev, x, why);
}

struct leg *upstream_tcp(struct upstream_set *s, int service, const struct leg_events *ev, void *x, const char **why)
{
	(void)s, (void)service;
	return local(NULL, ev, x, why);
}

const char *upstream_endpoint(const struct leg *l)
{
	(void)l;
	return "127.0.0.1:1";
}

/* ---- the book ---- */

static const char *text_of(const struct audit_fields *f, enum audit_field id)
{
	static char mem[2][64];
	static int turn;

	if (!(f->present >> id & 1))
		return "-";
	turn ^= 1;
	snprintf(mem[turn], sizeof(mem[0]), "%.*s", (int)f->f[id].n, (const char *)f->f[id].p);
	return mem[turn];
}

const char *bed_book(void)
{
	static char out[4096];
	static _Alignas(8) uint8_t event[AUDIT_EVENT_MAX];
	const char *why = "";
	size_t at = 0;
	uint64_t pos;
	long n;

	out[0] = '\0';
	while ((n = ring_read(bed.reader, event, &pos, &why)) > 0) {
		struct audit_fields f;
		unsigned status;

		assert_int_equal(audit_event_parse(&f, event, (size_t)n, &why), 0);
		status = f.present >> AUDIT_F_STATUS & 1 ? (unsigned)le_get64(f.f[AUDIT_F_STATUS].p) : 0;
		switch (f.head.type) {
		case AUDIT_OPEN:
			at += (size_t)snprintf(out + at, sizeof(out) - at, "open%u;", f.head.attempt);
			break;
		case AUDIT_END:
			at += (size_t)snprintf(out + at, sizeof(out) - at, "end%u %s %u;", f.head.attempt, text_of(&f, AUDIT_F_REASON), status);
			break;
		case AUDIT_ROLE:
			break; /* bed_fill_ring()'s */
		default:
			at += (size_t)snprintf(out + at, sizeof(out) - at, "%s %s %u;", f.head.type == AUDIT_DENY ? "deny" : "alert",
			    text_of(&f, AUDIT_F_REASON), status);
		}
	}
	assert_int_equal(n, 0);
	ring_release(bed.reader);
	return out;
}

const char *bed_said(void)
{
	static char out[sizeof(bed.said)];

	memcpy(out, bed.said, sizeof(out));
	bed.said[0] = '\0';
	return out;
}

void bed_context(const char *text)
{
	config.policy_context = (char *)(uintptr_t)text;
}

void bed_fill_ring(void)
{
	struct audit_event e;
	void *mem;

	while ((mem = ring_reserve(bed.gate.ring, AUDIT_EVENT_MAX, loop_now(bed.gate.loop)))) {
		audit_event_init(&e, mem, AUDIT_EVENT_MAX, AUDIT_ROLE, NULL, 0, 1);
		audit_event_done(&e);
		ring_commit(bed.gate.ring, e.len);
	}
}

/* ---- life ---- */

void bed_policy(bool allow)
{
	static const char *const principals[] = { APP }, *const all[] = { "*" }, *const paths[] = { "/denied" };
	const struct policy_rule rules[] = {
		{ .name = "no", .file = "10.conf", .line = 1, .deny = true, .principals = principals, .nprincipals = 1,
		  .services = all, .nservices = 1, .paths = paths, .npaths = 1 },
		{ .name = "yes", .file = "10.conf", .line = 2, .principals = principals, .nprincipals = 1, .services = all, .nservices = 1,
		  .assurance = 1u << POLICY_UID | 1u << POLICY_MTLS },
	};
	const struct policy_service sv[] = { { "web", false }, { "local", false }, { "db", true }, { "ldb", true } };
	struct policy_input in = { .rules = rules, .nrules = allow ? 2 : 1, .services = sv, .nservices = 4, .generation = nimages + 1, .digest = "" };
	struct buf *image = &images[nimages++];
	struct policy p;
	struct errs errs;
	const char *why;

	assert_true(nimages <= sizeof(images) / sizeof(images[0]));
	errs_init(&errs);
	buf_init(image, 0);
	assert_int_equal(policy_compile(&in, image, &errs), 0);
	assert_int_equal(policy_open(&p, image->data, image->len, &why), 0);
	errs_fini(&errs);
	if (bed.gate.services)
		gate_set_policy(&bed.gate, &p);
	else
		bed.gate.policy = p;
}

static void make_config(void)
{
	static const char *const names[] = { "web", "local", "db", "ldb" };

	peer = (struct config_peer){ .name = (char *)(uintptr_t)"irs" };
	for (int i = 0; i < 4; i++)
		services[i] = (struct config_service){ .name = (char *)(uintptr_t)names[i], .host = (char *)(uintptr_t)names[i],
			.hostname = (char *)(uintptr_t)names[i], .kind = i < 2 ? CONFIG_HTTP : CONFIG_KIND_TCP, .response_ms = 200,
			.peer_index = i == 0 || i == 2 ? 0 : -1 };
	config = (struct config){ .domain = (char *)(uintptr_t)"hud.example", .peers = &peer, .npeers = 1, .services = services, .nservices = 4,
		.limits = { .park_ms = 200, .parked = 2 } };
	config.identity.id = (char *)(uintptr_t)"spiffe://hud.example/gateway/dmz1";
	config.hosts = lookup_new(&config);
}

void bed_setup(void)
{
	struct gate *g = &bed.gate;
	const char *why;

	memset(&bed, 0, sizeof(bed));
	make_config();
	bed.links = 2;
	bed.ring_fd = ring_create(65536);
	bed.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bed.reader = ring_map_reader(bed.ring_fd, &why);
	assert_non_null(bed.reader);
	g->loop = loop_new();
	g->config = &config;
	g->ring = ring_map_writer(bed.ring_fd, bed.wake_fd, &why);
	assert_non_null(g->ring);
	g->callers = caller_table_new();
	app = caller_get(g->callers, APP, strlen(APP), POLICY_UID, -1);
	bed_policy(true);
	gate_init(g);
	gate_watch(g);
	ring_heartbeat(bed.reader, clock_mono_ms() + 5000);
}

void bed_teardown(void)
{
	struct gate *g = &bed.gate;

	assert_true(LIST_EMPTY(&g->exchanges));
	assert_int_equal(g->active, 0);
	assert_int_equal(g->nparked, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(g->services[i].active, 0);
	assert_int_equal(app->active, 0);
	assert_int_equal(app->refs, 1);
	for (unsigned i = 0; i < bed.nin; i++)
		assert_true(bed.in[i].gone);
	for (unsigned i = 0; i < bed.nout; i++)
		assert_true(bed.out[i].gone);
	caller_unref(g->callers, app);
	assert_int_equal(caller_table_count(g->callers), 0);
	gate_fini(g);
	caller_table_free(g->callers);
	ring_unmap(g->ring);
	ring_unmap(bed.reader);
	close(bed.ring_fd);
	close(bed.wake_fd);
	loop_free(g->loop);
	lookup_free(config.hosts);
	while (nimages)
		buf_fini(&images[--nimages]);
}

struct caller *bed_caller(const char *id, int seconds)
{
	static uint8_t number;
	struct svid_info info = { .serial = "1" };
	struct svid_der der = { &number, 1 };
	int64_t now = (int64_t)(clock_wall_us() / 1000000);

	number++;
	snprintf(info.id, sizeof(info.id), "%s", id);
	info.not_before = now + seconds - 100;
	info.not_after = now + seconds;
	return caller_get_mtls(bed.gate.callers, &info, &der, 1, -1);
}

void bed_round(void)
{
	gate_judge_callers(&bed.gate);
	while (bed.gate.trust.running)
		bed.gate.trust.slice.fn(bed.gate.trust.slice.ctx);
	timer_cancel(&bed.gate.trust.timer);
}

void bed_sever(bool severed)
{
	peer.severed = severed;
	bed.barred = severed ? "severed" : NULL;
}

static void on_limit(void *ctx)
{
	(void)ctx;
	loop_stop(bed.gate.loop);
}

void bed_wait(unsigned ms)
{
	timer_set(bed.gate.loop, &bed.limit, ms, on_limit, NULL);
	loop_run(bed.gate.loop);
}

struct h1_field bed_field(const char *name, const char *value)
{
	struct h1_field f = { .name = name, .name_len = (uint32_t)strlen(name), .value = value, .value_len = (uint32_t)strlen(value) };

	f.id = (uint8_t)h1_name_id(name, f.name_len);
	return f;
}

struct stub *bed_ask(const struct bed_ask *a)
{
	static const struct uuid id = { .b = { 1, 2, 3, 4, 5, 6, 0x70, 1, 0x80, 1, 2, 3, 4, 5, 6, 7 } };
	struct stub *s = &bed.in[bed.nin++];
	struct caller *caller = a->caller ? a->caller : app;
	size_t path_len = a->path ? strlen(a->path) : 0;
	struct leg_head h = {
		.method = a->method, .method_len = (uint32_t)strlen(a->method), .method_id = h1_method_id(a->method, strlen(a->method)),
		.authority = a->host, .authority_len = (uint32_t)strlen(a->host), .path = a->path, .path_len = (uint32_t)path_len,
		.path_only_len = (uint32_t)path_len, .fields = a->fields, .nfields = a->nfields, .length = LEG_NO_LENGTH, .end = !a->body,
	};
	struct link_call call = { .caller = a->refusal ? NULL : caller, .id = id, .attempt = 1, .refusal = a->refusal,
		.refusal_status = a->refusal_status, .refusal_id = "" };
	struct exchange_from from = { .listener = "l", .protocol = a->from_link ? "h2" : "http/1.1", .default_port = 80, .tcp_service = a->raw,
		.service = 2, .link = a->from_link ? (struct link *)(void *)link_stub[0] : NULL, .call = a->from_link ? &call : NULL };

	assert_true(bed.nin <= sizeof(bed.in) / sizeof(bed.in[0]));
	*s = (struct stub){ .leg = { .ops = &stub_ops }, .side = '<' };
	exchange_start(&bed.gate, &s->leg, a->refusal ? NULL : caller, &h, &from);
	assert_true(s->gone == !s->leg.ev);
	return s;
}

struct stub *bed_get(const char *method, const char *host, const char *path, bool body)
{
	return bed_ask(&(struct bed_ask){ .method = method, .host = host, .path = path, .body = body });
}

void bed_data(struct stub *s, const char *text)
{
	s->leg.ev->on_data(s->leg.x, (const uint8_t *)text, strlen(text));
}

void bed_end(struct stub *s, const char *trailer)
{
	char name[32] = "", value[] = "t"; /* borrowed for the call */
	struct h1_field f;

	if (trailer)
		snprintf(name, sizeof(name), "%s", trailer);
	f = bed_field(name, value);
	s->leg.ev->on_end(s->leg.x, &f, trailer != NULL);
	memset(name, 'x', sizeof(name));
	value[0] = 'x';
}

void bed_head_with(struct stub *s, unsigned status, bool end, const struct h1_field *f, unsigned n)
{
	struct leg_head h = { .status = status, .fields = f, .nfields = n, .length = LEG_NO_LENGTH, .end = end };

	s->leg.ev->on_head(s->leg.x, &h);
}

void bed_head(struct stub *s, unsigned status, bool end)
{
	bed_head_with(s, status, end, NULL, 0);
}

void bed_abort(struct stub *s, enum leg_why why, bool unsent, const char *detail)
{
	const struct leg_events *ev = s->leg.ev;

	s->leg.ev = NULL;
	s->gone = true;
	ev->on_abort(s->leg.x, why, unsent, detail);
}

void bed_drained(struct stub *s)
{
	s->leg.ev->on_drained(s->leg.x);
}
