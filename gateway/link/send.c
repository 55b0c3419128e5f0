/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges out: by which link, and what travels beside the head. */
#include "gateway/base/decimal.h"
#include "gateway/link/internal.h"

/* How much a link may have waiting for the socket before the next one is taken. */
#define LINK_BUSY (64 * 1024)

/* The first link that is not busy: few links in use means many exchanges in one record and one system call. */
static struct link *pick(const struct link_set *s, int peer, const struct link *avoid)
{
	struct link *l, *best = NULL;

	TAILQ_FOREACH(l, &s->peers[peer].links, entry) {
		if (!l->client || l->state != L_READY || quarantine_of(l) || l == avoid || !h2_open_ok(l->h2))
			continue;
		if (l->conn->out.bytes < LINK_BUSY && !l->aged && l->conn->writable)
			return l;
		if (!best || l->conn->out.bytes < best->conn->out.bytes)
			best = l;
	}
	return best;
}

bool link_ready(const struct link_set *s, int peer)
{
	return pick(s, peer, NULL) != NULL;
}

struct leg *link_exchange(struct link_set *s, int peer, const struct link *avoid, const struct leg_head *head,
    const struct link_call *call, char *mem, const struct leg_events *ev, void *x)
{
	static const char letters[] = { [POLICY_NONE] = 'n', [POLICY_ADDRESS] = 'a', [POLICY_UID] = 'u', [POLICY_MTLS] = 'm' };
	struct link *l = pick(s, peer, avoid);
	struct h1_field fields[H2_MAX_FIELDS + 8];
	struct caller *c = call->caller;
	struct h2_stream *st;
	struct h2_request r;
	unsigned n = 0;
	uint32_t lease = 0;
	char *p = mem;

	if (!l)
		return NULL;
	for (unsigned i = 0; i < head->nfields; i++)
		if (!head->fields[i].hop)
			fields[n++] = head->fields[i];
	uuid_format(&call->id, p);
	p += UUID_TEXT_LEN;
	*p++ = ';';
	p = decimal_put(p, call->attempt);
	*p++ = ';';
	if (s->peers[peer].cfg->uplink) {
		/* Our certificate stands for whoever is mapped by uid; of others we say that they are known less well (DESIGN, sidecar). */
		*p++ = c->assurance >= POLICY_UID ? 'm' : letters[c->assurance];
	} else {
		*p++ = letters[c->assurance];
	}
	if (!s->peers[peer].cfg->uplink && c->assurance != POLICY_NONE) {
		struct slot *slot = identity_slot(l, c);

		lease = slot->lease;
		*p++ = ';';
		p = decimal_put(p, slot->number);
		if (!slot->confirmed && c->assurance != POLICY_MTLS) {
			fields[n++] = link_field("sallyport-principal", c->id, c->id_len);
		} else if (!slot->confirmed) {
			fields[n++] = link_field("client-cert", c->client_cert, c->client_cert_len);
			if (c->client_cert_chain_len)
				fields[n++] = link_field("client-cert-chain", c->client_cert_chain, c->client_cert_chain_len);
		}
	}
	fields[n] = link_field("sallyport-exchange", mem, (size_t)(p - mem));
	fields[n++].id = H1_F_TRACEPARENT; /* changes every time: kept out of the compression table */
	r = (struct h2_request){
		.method = head->method, .method_len = head->method_len,
		.scheme = head->path ? (head->https ? "https" : "http") : NULL, .scheme_len = head->https ? 5 : 4,
		.authority = head->authority, .authority_len = head->authority_len,
		.path = head->path, .path_len = head->path_len,
		.fields = fields, .nfields = n, .end = head->end, .keep = true,
	};
	st = h2_request(l->h2, &r);
	if (!st)
		return NULL;
	st->leg.ev = ev;
	st->leg.x = x;
	st->user = lease;
	l->exchanges++;
	return &st->leg;
}

struct link *link_of_leg(struct leg *l)
{
	return h2_owner(((struct h2_stream *)l)->h2);
}

bool link_take_back(struct leg *l, struct outq *to)
{
	return h2_take_back((struct h2_stream *)l, to);
}

void link_confirm(struct leg *leg, struct caller *c)
{
	identity_answered(link_of_leg(leg), c, (uint32_t)((struct h2_stream *)leg)->user, true);
}

void link_forget_slot(struct leg *leg, struct caller *c)
{
	identity_answered(link_of_leg(leg), c, (uint32_t)((struct h2_stream *)leg)->user, false);
}

const char *link_error(const struct leg_head *response, uint32_t *len)
{
	for (unsigned i = 0; i < response->nfields; i++)
		if (response->fields[i].id == H1_F_IDENTITY && link_field_is(&response->fields[i], "sallyport-error")) {
			*len = response->fields[i].value_len;
			return response->fields[i].value;
		}
	return NULL;
}

bool link_exchange_id(const struct leg_head *response, struct uuid *id)
{
	for (unsigned i = 0; i < response->nfields; i++) {
		const struct h1_field *f = &response->fields[i];

		if (f->id == H1_F_IDENTITY && link_field_is(f, "sallyport-exchange"))
			return uuid_parse(id, f->value, f->value_len) == 0;
	}
	return false;
}
