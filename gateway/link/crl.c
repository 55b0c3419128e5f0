/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revocation lists between gateways. The HTTP/2 client of a link asks, on the control authority:
 *
 *	POST /crl   sallyport-crl: <which of your CRLs I have>   content: ours, where you lack them
 *	200 or 204  sallyport-crl: <which of yours I have>       content: ours, where you lack them
 *
 * What somebody has is told as svid_bundle_crls_digest() in hex, or "-". So both directions work although one end alone can open streams, and a list that
 * changed is pushed at once. Each gateway of the peer is asked, once for all links of this worker there, one after the other.
 *
 *	link_peer ── crl_far, one per far gateway: when it is asked next, what it has of ours
 *	          ── ask, answer: a request of ours and one of theirs under way (struct crl_talk); never more than one of each
 */
#include "gateway/base/esc.h"
#include "gateway/base/hash.h"
#include "gateway/base/mem.h"
#include "gateway/link/internal.h"

#define TICK_MS 1000
#define EVERY_MS 10000      /* asked again, with jitter */
#define FUTILE_MS 60000     /* the same where content went over and told the other end nothing */
#define HUNGRY_MS 5000      /* the same while a list is missing */
#define BUSY_MS 1000        /* the far end had another request of ours to answer */
#define TALK_MS 60000
#define UNWANTED_MS 2000    /* after content that told us nothing, more of it is not read for so long */
#define NEWER_MS 1000       /* in such a time so many newer lists of one peer are read: each has all callers judged again */
#define NEWER_MAX 3
#define ALERT_MS 60000      /* refused lists of one peer, in the journal */
#define TALKS_MAX 16        /* of all peers, under way towards us */
#define HEX_LEN 64

struct crl_text {           /* our own lists, as a file */
	unsigned refs;
	uint8_t digest[32];
	size_t len;
	char *pem;
};

struct crl_far {
	char *gateway;
	uint64_t due_ms;
	uint8_t has[32];    /* of ours; zeros: none */
	bool known;         /* it said so */
};

struct crl_talk {
	struct link_peer *peer;
	struct link *link;
	struct h2_stream *stream;
	struct loop_timer deadline;
	struct crl_text *out; /* NULL: nothing to send */
	size_t sent;
	struct buf in;
	unsigned status;    /* client: of the answer */
	size_t far;         /* client: whom we ask, an index */
	bool client, sending, wants; /* wants (server): the far end lacks what we have */
};

static const struct leg_events talk_events;
static void ask_next(struct link_peer *p);

/* ---- what we have, and what we know of the peer ---- */

static struct svid_bundle *bundle_of(const struct link_peer *p)
{
	return p->set->env.bundles[1 + p->index];
}

static void text_unref(struct crl_text *t)
{
	if (!t || --t->refs)
		return;
	mem_free(t->pem);
	mem_free(t);
}

/* Our own lists as they are now. True: others than before. */
static bool look_at_own(struct link_set *s)
{
	const struct svid_bundle *b = s->env.bundles[0];
	struct crl_text *t = s->crl_own;
	uint8_t digest[32];

	if (!svid_bundle_crls_digest(b, digest)) {
		s->crl_own = NULL;
		text_unref(t);
		return t != NULL;
	}
	if (t && memcmp(t->digest, digest, sizeof(digest)) == 0)
		return false;
	text_unref(t);
	s->crl_own = t = mem_zalloc(sizeof(*t));
	t->refs = 1;
	memcpy(t->digest, digest, sizeof(digest));
	t->pem = svid_bundle_crls_pem(b, &t->len);
	return true;
}

/* "sallyport-crl" for what we have of the peer's. */
static struct h1_field have_field(const struct link_peer *p, char text[HEX_LEN])
{
	uint8_t digest[32];

	if (!svid_bundle_crls_digest(bundle_of(p), digest))
		return link_field("sallyport-crl", "-", 1);
	esc_hex(text, digest, sizeof(digest));
	return link_field("sallyport-crl", text, HEX_LEN);
}

/* What the far end has of ours: false when it does not say. */
static bool read_field(const struct leg_head *h, uint8_t digest[32])
{
	for (unsigned i = 0; i < h->nfields; i++) {
		const struct h1_field *f = &h->fields[i];

		if (!link_field_is(f, "sallyport-crl"))
			continue;
		memset(digest, 0, 32);
		if (f->value_len == 1 && f->value[0] == '-')
			return true;
		return f->value_len == HEX_LEN && esc_unhex(digest, f->value, HEX_LEN) == 0;
	}
	return false;
}

static bool lacks(const struct link_set *s, const uint8_t digest[32])
{
	return s->crl_own && memcmp(s->crl_own->digest, digest, 32) != 0;
}

static struct crl_far *far_of(struct link_peer *p, const char *gateway)
{
	for (size_t i = 0; i < p->nfar; i++)
		if (strcmp(p->far[i].gateway, gateway) == 0)
			return &p->far[i];
	p->far = mem_realloc(p->far, (p->nfar + 1) * sizeof(*p->far));
	p->far[p->nfar] = (struct crl_far){ .gateway = mem_strdup(gateway) };
	return &p->far[p->nfar++];
}

static uint64_t jitter(uint64_t ms)
{
	uint8_t r;

	hash_random(&r, 1);
	return ms * 3 / 4 + ms * r / 510;
}

static void note_refused(struct link_peer *p, const char *gateway, const char *why)
{
	uint64_t now = loop_now(p->set->env.loop);

	if (p->crl_alert_ms && now - p->crl_alert_ms < ALERT_MS) {
		p->crl_suppressed++;
		return;
	}
	p->crl_alert_ms = now;
	quarantine_note(p, gateway, "crl-refused", why);
	log_warn("peer=%s gateway=%s event=crl-refused reason=\"%s\" suppressed=%u what was known of its CRLs stays", p->cfg->name, gateway, why,
	    p->crl_suppressed);
	p->crl_suppressed = 0;
}

/* ---- taking ---- */

/* The peer's gateway gave us this. 1: something of it was new. */
static int take(struct link_peer *p, const char *gateway, const char *pem, size_t len)
{
	struct link_env *env = &p->set->env;
	const char *why;
	size_t all_len;
	char *all;
	int rc = svid_bundle_add_crls(bundle_of(p), pem, len, (int64_t)(loop_wall_us(env->loop) / 1000000), &why);

	if (rc < 0)
		note_refused(p, gateway, why);
	if (rc <= 0)
		return rc;
	log_info("peer=%s gateway=%s event=crl a newer list", p->cfg->name, gateway);
	quarantine_look(p);
	/* All that is known: what others keep must not lose the list of one CA when another's comes. */
	all = svid_bundle_crls_pem(bundle_of(p), &all_len);
	if (all && env->on_crl)
		env->on_crl(env->ctx, p->index, all, all_len);
	mem_free(all);
	return rc;
}

/* ---- a request or an answer under way ---- */

/* Both sides of it: the stream goes its way, or went (cut false and stream NULL). */
static void talk_free(struct crl_talk *t, bool cut)
{
	struct link_peer *p = t->peer;

	if (t->stream) {
		struct leg *leg = &t->stream->leg;

		leg->ev = NULL;
		if (cut)
			leg->ops->abort(leg, LEG_CANCEL);
		else
			leg->ops->release(leg);
	}
	timer_cancel(&t->deadline);
	if (t->client) {
		p->crl_ask = NULL;
	} else {
		p->crl_answer = NULL;
		p->set->crl_answers--;
	}
	text_unref(t->out);
	buf_fini(&t->in);
	mem_free(t);
}

static void on_deadline(void *ctx)
{
	struct crl_talk *t = ctx;

	log_warn("link=%u peer=%s event=crl-timeout direction=%s", t->link->number, t->peer->cfg->name, t->client ? "out" : "in");
	talk_free(t, true);
}

static struct crl_talk *talk_new(struct link *l, bool client)
{
	struct crl_talk *t = mem_zalloc(sizeof(*t));
	struct link_peer *p = l->peer;

	t->peer = p;
	t->link = l;
	t->client = client;
	buf_init(&t->in, SVID_CRL_MAX);
	if (client) {
		p->crl_ask = t;
	} else {
		p->crl_answer = t;
		p->set->crl_answers++;
	}
	timer_set(p->set->env.loop, &t->deadline, TALK_MS, on_deadline, t);
	return t;
}

static void talk_on(struct crl_talk *t, struct h2_stream *s)
{
	t->stream = s;
	s->leg.ev = &talk_events;
	s->leg.x = t;
}

/* As much of our lists as the stream takes now. An answer is over with its last octet. */
static void pump(struct crl_talk *t)
{
	struct leg *leg = &t->stream->leg;

	while (t->sent < t->out->len && !leg->ops->full(leg)) {
		size_t n = t->out->len - t->sent;

		if (n > 65536)
			n = 65536;
		leg->ops->data(leg, (const uint8_t *)t->out->pem + t->sent, n);
		t->sent += n;
	}
	if (t->sent < t->out->len)
		return;
	t->sending = false;
	leg->ops->end(leg, NULL, 0);
	if (!t->client)
		talk_free(t, false);
}

static void send_own(struct crl_talk *t)
{
	t->out = t->peer->set->crl_own;
	t->out->refs++;
	t->sending = true;
	pump(t);
}

static void on_drained(void *x)
{
	struct crl_talk *t = x;

	if (t->sending)
		pump(t);
}

/* ---- we answer ---- */

static void answer(struct crl_talk *t)
{
	struct leg *leg = &t->stream->leg;
	char text[HEX_LEN];
	struct h1_field f = have_field(t->peer, text);
	bool give = t->wants && t->peer->set->crl_own;
	struct leg_head h = { .status = give ? 200 : 204, .fields = &f, .nfields = 1, .length = LEG_NO_LENGTH, .end = !give };

	leg->ops->head(leg, &h);
	if (give)
		send_own(t);
	else
		talk_free(t, false);
}

static void count_newer(struct link_peer *p, uint64_t now)
{
	if (now - p->crl_newer_ms >= NEWER_MS) {
		p->crl_newer_ms = now;
		p->crl_newer = 0;
	}
	if (++p->crl_newer >= NEWER_MAX)
		p->crl_deaf_ms = p->crl_newer_ms + NEWER_MS;
}

/* Their lists are here. */
static void on_request_end(struct crl_talk *t)
{
	struct link_peer *p = t->peer;
	uint64_t now = loop_now(p->set->env.loop);
	struct buf in = t->in;

	buf_init(&t->in, 0);
	if (in.len && take(p, t->link->gateway, buf_cstr(&in), in.len) <= 0)
		p->crl_deaf_ms = now + UNWANTED_MS;
	else if (in.len)
		count_newer(p, now);
	buf_fini(&in);
	/* What was revoked may have been this very link's certificate. */
	if (p->crl_answer == t)
		answer(t);
}

static void refuse(struct link_peer *p, struct h2_stream *s, unsigned status)
{
	char text[HEX_LEN];
	struct h1_field f = have_field(p, text);
	struct leg_head h = { .status = status, .fields = &f, .nfields = 1, .end = true, .length = 0 };

	s->leg.ops->head(&s->leg, &h);
	s->leg.ops->release(&s->leg);
}

void crl_answer(struct link *l, struct h2_stream *s, const struct leg_head *head)
{
	struct link_peer *p = l->peer;
	uint8_t has[32];
	struct crl_talk *t;

	look_at_own(p->set);
	if (l->state < L_READY || p->cfg->uplink || !read_field(head, has)) {
		refuse(p, s, 400);
		return;
	}
	if (p->crl_answer || p->set->crl_answers >= TALKS_MAX || (!head->end && loop_now(p->set->env.loop) < p->crl_deaf_ms)) {
		refuse(p, s, 503);
		return;
	}
	t = talk_new(l, false);
	t->wants = lacks(p->set, has);
	talk_on(t, s);
	if (head->end)
		answer(t);
}

/* ---- we ask ---- */

static void answered(struct crl_talk *t)
{
	struct link_peer *p = t->peer;
	struct link_set *s = p->set;
	struct crl_far *f = &p->far[t->far];
	struct buf in = t->in;
	uint64_t now = loop_now(s->env.loop);
	char *gateway = mem_strdup(f->gateway);
	bool lacking = f->known && lacks(s, f->has), futile = lacking && t->out && t->status != 503;
	size_t far = t->far;

	if (t->status == 503)
		f->due_ms = now + jitter(BUSY_MS);
	else if (lacking && !t->out)
		f->due_ms = 0; /* now we know that it lacks ours: once more, with them */
	else
		f->due_ms = now + jitter(p->crl_hungry ? HUNGRY_MS : EVERY_MS);
	buf_init(&t->in, 0);
	talk_free(t, false);
	if (in.len && take(p, gateway, buf_cstr(&in), in.len) <= 0)
		futile = true;
	/* The array may have moved, and the link, too. */
	f = &p->far[far];
	if (futile && f->due_ms > now)
		f->due_ms = now + jitter(FUTILE_MS);
	buf_fini(&in);
	mem_free(gateway);
	ask_next(p);
}

static void on_answer_head(struct crl_talk *t, const struct leg_head *h)
{
	struct crl_far *f = &t->peer->far[t->far];

	if (h->status < 200)
		return;
	t->status = h->status;
	f->known = read_field(h, f->has);
	if (h->status != 200 || h->end)
		answered(t);
}

static void ask(struct link *l, struct crl_far *f)
{
	struct link_peer *p = l->peer;
	bool give = f->known && lacks(p->set, f->has);
	char text[HEX_LEN];
	struct h1_field field = have_field(p, text);
	struct h2_request r = {
		.method = "POST", .method_len = 4, .scheme = "https", .scheme_len = 5,
		.authority = LINK_CONTROL_AUTHORITY, .authority_len = sizeof(LINK_CONTROL_AUTHORITY) - 1,
		.path = "/crl", .path_len = 4, .fields = &field, .nfields = 1, .end = !give,
	};
	struct h2_stream *s = h2_request(l->h2, &r);
	struct crl_talk *t;

	/* Where nothing comes back, not even the stream's end, it is asked again. */
	f->due_ms = loop_now(p->set->env.loop) + jitter(HUNGRY_MS);
	if (!s)
		return;
	t = talk_new(l, true);
	t->far = (size_t)(f - p->far);
	talk_on(t, s);
	if (give)
		send_own(t);
}

static struct link *link_to(struct link_peer *p, const char *gateway)
{
	struct link *l;

	TAILQ_FOREACH(l, &p->links, entry)
		if (l->client && l->state == L_READY && strcmp(l->gateway, gateway) == 0 && h2_open_ok(l->h2))
			return l;
	return NULL;
}

static void ask_next(struct link_peer *p)
{
	uint64_t now = loop_now(p->set->env.loop);

	if (p->cfg->uplink || p->set->draining)
		return;
	for (size_t i = 0; i < p->nfar && !p->crl_ask; i++) {
		struct link *l = p->far[i].due_ms <= now ? link_to(p, p->far[i].gateway) : NULL;

		if (l)
			ask(l, &p->far[i]);
	}
}

/* ---- both ---- */

static void on_head(void *x, const struct leg_head *h)
{
	struct crl_talk *t = x;

	if (t->client)
		on_answer_head(t, h);
}

static void on_data(void *x, const uint8_t *p, size_t n)
{
	struct crl_talk *t = x;

	if (buf_append(&t->in, p, n) == 0)
		return;
	note_refused(t->peer, t->link->gateway, "larger than 4 MiB");
	talk_free(t, true);
}

static void on_end(void *x, const struct h1_field *trailers, unsigned n)
{
	struct crl_talk *t = x;

	(void)trailers, (void)n;
	if (t->client)
		answered(t);
	else
		on_request_end(t);
}

static void on_abort(void *x, enum leg_why why, bool unsent, const char *detail)
{
	struct crl_talk *t = x;

	(void)why, (void)unsent, (void)detail;
	t->stream = NULL;
	talk_free(t, false);
}

static const struct leg_events talk_events = {
	.on_head = on_head, .on_data = on_data, .on_end = on_end, .on_drained = on_drained, .on_abort = on_abort,
};

/* ---- when ---- */

void crl_ask_again(struct link_peer *p)
{
	for (size_t i = 0; i < p->nfar; i++)
		p->far[i].due_ms = 0;
}

void link_crls_changed(struct link_set *s)
{
	bool own = look_at_own(s);

	for (size_t i = 0; i < s->npeers; i++) {
		if (s->peers[i].cfg->removed)
			continue;
		if (own)
			crl_ask_again(&s->peers[i]);
		quarantine_look(&s->peers[i]);
		ask_next(&s->peers[i]);
	}
}

static void on_tick(void *ctx)
{
	struct link_set *s = ctx;

	timer_set(s->env.loop, &s->crl_tick, TICK_MS, on_tick, s);
	link_crls_changed(s);
}

void crl_start(struct link_set *s)
{
	look_at_own(s);
	timer_set(s->env.loop, &s->crl_tick, TICK_MS, on_tick, s);
}

void crl_link_up(struct link *l)
{
	if (!l->client || l->peer->cfg->uplink)
		return;
	/* A new gateway, or one that was away: its other links may have told it long ago. */
	far_of(l->peer, l->gateway)->due_ms = 0;
	ask_next(l->peer);
}

void crl_fini(struct link_set *s)
{
	timer_cancel(&s->crl_tick);
	for (size_t i = 0; i < s->npeers; i++) {
		struct link_peer *p = &s->peers[i];

		svid_bundle_unref(p->crl_bundle);
		for (size_t k = 0; k < p->nfar; k++)
			mem_free(p->far[k].gateway);
		mem_free(p->far);
	}
	text_unref(s->crl_own);
	s->crl_own = NULL;
}
