/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hello: the HTTP/2 client's first request, on the reserved control authority. Both ends say which worker they are, of how
 * many, and which process.
 */
#include <stdio.h>

#include "gateway/link/internal.h"

/* Our clock was set: the far end is told, for it judges by their time whether exchange ids are new. */
#define CLOCK_STEP_MS 1000

/* "worker;workers;instance;slots;clock": who we are, how many slots we remember, and what our clock shows in ms. */
static int hello_text(struct link *l, char *out, size_t size)
{
	struct link_env *env = &l->peer->set->env;

	return snprintf(out, size, "%u;%u;%u;%u;%llu", env->worker, env->workers, env->instance,
	    (unsigned)env->config->limits.slots, (unsigned long long)loop_wall_us(env->loop) / 1000);
}

/* Exactly n numbers with semicolons between. */
static bool parse_numbers(const char *p, size_t len, uint64_t *v, unsigned n)
{
	const char *end = p + len;

	for (unsigned i = 0; i < n; i++) {
		const char *start = p;

		for (v[i] = 0; p < end && *p >= '0' && *p <= '9' && p - start < 18; p++)
			v[i] = v[i] * 10 + (uint64_t)(*p - '0');
		if (p == start || (i + 1 < n && (p == end || *p++ != ';')))
			return false;
	}
	return p == end;
}

static bool hello_parse(struct link *l, const struct leg_head *h)
{
	const struct h1_field *f = NULL;
	struct link_env *env = &l->peer->set->env;
	uint64_t v[5];

	for (unsigned i = 0; i < h->nfields && !f; i++)
		if (link_field_is(&h->fields[i], "sallyport-hello"))
			f = &h->fields[i];
	if (!f || !parse_numbers(f->value, f->value_len, v, 5) || v[1] == 0 || v[1] > MAX_FAR_WORKERS || v[0] >= v[1] ||
	    v[2] > UINT32_MAX || v[3] == 0)
		return false;
	l->far_worker = (uint32_t)v[0];
	l->far_workers = (uint32_t)v[1];
	l->far_slots = v[3] < UINT16_MAX ? (uint32_t)v[3] : UINT16_MAX;
	l->far_known = true;
	if (ids_clock(l->peer->ids, v[4], loop_now(env->loop)))
		link_note(l, AUDIT_ALERT, "clock-set-back", "ids of the peer's new time are taken again");
	return true;
}

static void hello_over(struct link *l, bool cut)
{
	struct leg *leg = &l->hello_stream->leg;

	l->hello_stream = NULL;
	leg->ev = NULL;
	if (cut)
		leg->ops->abort(leg, LEG_CANCEL);
}

static void on_hello_head(void *x, const struct leg_head *h)
{
	struct link *l = x;

	if (h->status < 200)
		return;
	if (h->status != 200 || !hello_parse(l, h)) {
		link_close(l, "hello", "the far end did not answer as a gateway");
		return;
	}
	hello_over(l, !h->end);
	if (l->state == L_HELLO)
		link_ready_now(l);
}

static void on_hello_data(void *x, const uint8_t *p, size_t n)
{
	(void)x, (void)p, (void)n;
}

static void on_hello_end(void *x, const struct h1_field *t, unsigned n)
{
	(void)x, (void)t, (void)n;
}

static void on_hello_drained(void *x)
{
	(void)x;
}

static void on_hello_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct link *l = x;

	(void)why, (void)unsent;
	l->hello_stream = NULL;
	if (l->state == L_HELLO)
		link_close(l, "hello", detail);
}

static const struct leg_events hello_events = {
	.on_head = on_hello_head, .on_data = on_hello_data, .on_end = on_hello_end,
	.on_drained = on_hello_drained, .on_abort = on_hello_abort,
};

/* Our wall clock against the monotonic one, ms. */
static int64_t clock_ahead(const struct link *l)
{
	const struct loop *loop = l->peer->set->env.loop;

	return (int64_t)(loop_wall_us(loop) / 1000) - (int64_t)loop_now(loop);
}

void hello_check(struct link *l)
{
	int64_t moved = clock_ahead(l) - l->clock_ahead;

	if ((moved > CLOCK_STEP_MS || moved < -CLOCK_STEP_MS) && !l->hello_stream && h2_open_ok(l->h2))
		hello_send(l);
}

void hello_send(struct link *l)
{
	char text[64];
	struct h1_field f = link_field("sallyport-hello", text, (size_t)hello_text(l, text, sizeof(text)));
	struct h2_request r = {
		.method = "POST", .method_len = 4, .scheme = "https", .scheme_len = 5,
		.authority = LINK_CONTROL_AUTHORITY, .authority_len = sizeof(LINK_CONTROL_AUTHORITY) - 1,
		.path = "/hello", .path_len = 6, .fields = &f, .nfields = 1, .end = true,
	};

	l->clock_ahead = clock_ahead(l);
	l->hello_stream = h2_request(l->h2, &r);
	if (!l->hello_stream) {
		link_close(l, "hello", "no stream");
		return;
	}
	l->hello_stream->leg.ev = &hello_events;
	l->hello_stream->leg.x = l;
}

static void refuse_control(struct h2_stream *s, unsigned status)
{
	struct leg_head h = { .status = status, .end = true, .length = 0 };

	s->leg.ops->head(&s->leg, &h);
	s->leg.ops->release(&s->leg);
}

void hello_answer(struct link *l, struct h2_stream *s, const struct leg_head *head)
{
	char text[64];
	struct h1_field f;
	struct leg_head h = { .status = 200, .fields = &f, .nfields = 1, .end = true };

	if (head->path_len == 4 && memcmp(head->path, "/crl", 4) == 0) {
		crl_answer(l, s, head);
		return;
	}
	if (head->path_len != 6 || memcmp(head->path, "/hello", 6) != 0 || !hello_parse(l, head)) {
		refuse_control(s, 404);
		return;
	}
	f = link_field("sallyport-hello", text, (size_t)hello_text(l, text, sizeof(text)));
	s->leg.ops->head(&s->leg, &h);
	s->leg.ops->release(&s->leg);
	if (l->state == L_HELLO)
		link_ready_now(l);
}
