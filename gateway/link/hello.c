/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hello: the HTTP/2 client's first request, on the reserved control authority. Both ends say which worker they are, of how
 * many, and which process.
 */
#include <stdio.h>

#include "gateway/link/internal.h"

static int hello_text(struct link *l, char *out, size_t size)
{
	struct link_env *env = &l->peer->set->env;

	return snprintf(out, size, "%u;%u;%u", env->worker, env->workers, env->instance);
}

static bool hello_parse(struct link *l, const struct leg_head *h)
{
	char text[48];
	unsigned w, n, inst;

	for (unsigned i = 0; i < h->nfields; i++) {
		const struct h1_field *f = &h->fields[i];

		if (!link_field_is(f, "sallyport-hello") || f->value_len >= sizeof(text))
			continue;
		memcpy(text, f->value, f->value_len);
		text[f->value_len] = '\0';
		if (sscanf(text, "%u;%u;%u", &w, &n, &inst) != 3 || n == 0 || n > MAX_FAR_WORKERS || w >= n)
			return false;
		l->far_worker = w;
		l->far_workers = n;
		l->far_instance = inst;
		l->far_known = true;
		if (l->peer->instances[w] != inst) {
			l->peer->instances[w] = inst;
			ids_new_sender(l->peer->ids);
		}
		return true;
	}
	return false;
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
	l->hello_stream->leg.ev = NULL;
	if (!h->end)
		l->hello_stream->leg.ops->abort(&l->hello_stream->leg, LEG_CANCEL);
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
	if (l->state == L_HELLO)
		link_close(l, "hello", detail);
}

static const struct leg_events hello_events = {
	.on_head = on_hello_head, .on_data = on_hello_data, .on_end = on_hello_end,
	.on_drained = on_hello_drained, .on_abort = on_hello_abort,
};

void hello_send(struct link *l)
{
	char text[48];
	struct h1_field f = link_field("sallyport-hello", text, (size_t)hello_text(l, text, sizeof(text)));
	struct h2_request r = {
		.method = "POST", .method_len = 4, .scheme = "https", .scheme_len = 5,
		.authority = LINK_CONTROL_AUTHORITY, .authority_len = sizeof(LINK_CONTROL_AUTHORITY) - 1,
		.path = "/hello", .path_len = 6, .fields = &f, .nfields = 1, .end = true,
	};

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
	char text[48];
	struct h1_field f;
	struct leg_head h = { .status = 200, .fields = &f, .nfields = 1, .end = true };

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
