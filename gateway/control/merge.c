/* SPDX-License-Identifier: Apache-2.0 */
/* Workers count for themselves; here their figures become those of the gateway. All input is other roles' JSON: believed in nothing but its numbers. */
#include "gateway/control/control.h"

#include <stdio.h>
#include <string.h>

static const char *
ident(const struct channel *ch, char out[32])
{
	if (ch->role == ROLE_WORKER)
		snprintf(out, 32, "%s/%u", role_name(ch->role), ch->index);
	else
		snprintf(out, 32, "%s", role_name(ch->role));
	return out;
}

static json_t *
not_answering(const struct control *c)
{
	json_t *a = json_array();
	char name[32];

	if (!c->gather.master)
		json_array_append_new(a, json_string("master"));
	for (size_t i = 0; i < c->nchannels; i++)
		if (c->channels[i].fd >= 0 && !c->channels[i].status)
			json_array_append_new(a, json_string(ident(&c->channels[i], name)));
	return a;
}

json_t *
merge_status(const struct control *c)
{
	/* What master says is the frame; the others have a member each. */
	json_t *o = json_is_object(c->gather.master) ? json_copy(c->gather.master) : json_object();
	json_t *workers = json_array(), *keys = json_array(), *severed = json_array();

	json_object_set_new(o, "workers", workers);
	json_object_set_new(o, "keys", keys);
	json_object_set_new(o, "journal", json_null());
	for (size_t i = 0; i < c->nchannels; i++) {
		const struct channel *ch = &c->channels[i];
		json_t *s;

		if (!ch->status)
			continue;
		s = json_copy(ch->status);
		json_object_set_new(s, "index", json_integer(ch->index));
		json_object_set_new(s, "instance", json_integer(ch->instance));
		if (ch->role == ROLE_WORKER)
			json_array_append_new(workers, s);
		else if (ch->role == ROLE_KEYS)
			json_array_append_new(keys, s);
		else if (ch->role == ROLE_CA)
			json_object_set_new(o, "ca", s);
		else
			json_object_set_new(o, "journal", s);
	}
	for (size_t i = 0; c->config && i < c->config->npeers; i++)
		if (c->config->peers[i].severed)
			json_array_append_new(severed, json_string(c->config->peers[i].name));
	json_object_set_new(o, "severed", severed);
	json_object_set_new(o, "not_answering", not_answering(c));
	return o;
}

static const char *
text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static json_t *
find_named(json_t *list, const char *key, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
		if (!strcmp(text_of(o, key), name))
			return o;
	return NULL;
}

static void
add_number(json_t *to, const json_t *from, const char *key)
{
	json_int_t sum = json_integer_value(json_object_get(to, key)) + json_integer_value(json_object_get(from, key));

	json_object_set_new(to, key, json_integer(sum));
}

/* Of what the workers say: the latest. */
static void
add_failure(json_t *peer, const json_t *failure)
{
	const json_t *had = json_object_get(peer, "last_failure");
	json_t *f;

	if (!peer || !json_is_object(failure))
		return;
	if (had && json_integer_value(json_object_get(had, "ago_s")) <= json_integer_value(json_object_get(failure, "ago_s")))
		return;
	f = json_copy((json_t *)(uintptr_t)failure);
	json_object_del(f, "peer");
	json_object_set_new(peer, "last_failure", f);
}

json_t *
merge_peers(const struct control *c)
{
	json_t *o = json_object(), *peers = json_array();

	for (size_t i = 0; c->config && i < c->config->npeers; i++) {
		const struct config_peer *p = &c->config->peers[i];

		json_array_append_new(peers, json_pack("{s:s, s:s, s:[], s:b}", "name", p->name, "domain", p->domain, "links", "severed", p->severed));
	}
	for (size_t i = 0; i < c->nchannels; i++) {
		json_t *link;
		size_t n;

		if (c->channels[i].role != ROLE_WORKER || !c->channels[i].status)
			continue;
		json_array_foreach(json_object_get(c->channels[i].status, "links"), n, link) {
			json_t *peer, *l;

			if (!json_is_object(link))
				continue;
			peer = find_named(peers, "name", text_of(link, "peer"));
			if (!peer) { /* of a config that still drains */
				peer = json_pack("{s:s, s:s, s:[]}", "name", text_of(link, "peer"), "domain", "", "links");
				if (!peer)
					continue;
				json_array_append_new(peers, peer);
			}
			l = json_copy(link);
			json_object_set_new(l, "worker", json_integer(c->channels[i].index));
			json_array_append_new(json_object_get(peer, "links"), l);
		}
		json_array_foreach(json_object_get(c->channels[i].status, "link_failures"), n, link)
			add_failure(find_named(peers, "name", text_of(link, "peer")), link);
	}
	json_object_set_new(o, "peers", peers);
	json_object_set_new(o, "not_answering", not_answering(c));
	return o;
}

static json_t *
configured_service(const struct config_service *s)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s?, s:[]}", "name", s->name, "host", s->host, "kind",
	    s->kind == CONFIG_KIND_TCP ? "tcp" : "http", "via", s->via, "endpoints");
	static const char *const counters[] = { "active", "allowed", "denied", "failed" };

	if (!o) /* not UTF-8 */
		o = json_object();
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		json_object_set_new(o, counters[i], json_integer(0));
	for (size_t i = 0; i < s->nendpoints; i++)
		json_array_append_new(json_object_get(o, "endpoints"),
		    json_pack("{s:s, s:i, s:i}", "address", s->endpoints[i].text, "idle", 0, "active", 0));
	return o;
}

static void
add_service(json_t *to, const json_t *from)
{
	json_t *e, *mine, *endpoints = json_object_get(to, "endpoints");
	size_t i;

	add_number(to, from, "active");
	add_number(to, from, "allowed");
	add_number(to, from, "denied");
	add_number(to, from, "failed");
	json_array_foreach(json_object_get(from, "endpoints"), i, e) {
		mine = find_named(endpoints, "address", text_of(e, "address"));
		if (mine) {
			add_number(mine, e, "idle");
			add_number(mine, e, "active");
		}
	}
}

json_t *
merge_services(const struct control *c)
{
	/* By name in an object: 10,000 services of 64 workers must not be searched one by one. */
	json_t *o = json_object(), *list = json_array(), *by_name = json_object();

	for (size_t i = 0; c->config && i < c->config->nservices; i++) {
		json_t *s = configured_service(&c->config->services[i]);

		json_array_append_new(list, s);
		json_object_set(by_name, c->config->services[i].name, s);
	}
	for (size_t i = 0; i < c->nchannels; i++) {
		json_t *s, *to;
		size_t n;

		if (c->channels[i].role != ROLE_WORKER || !c->channels[i].status)
			continue;
		json_array_foreach(json_object_get(c->channels[i].status, "services"), n, s) {
			to = json_object_get(by_name, text_of(s, "name"));
			if (to)
				add_service(to, s);
		}
	}
	json_decref(by_name);
	json_object_set_new(o, "services", list);
	json_object_set_new(o, "not_answering", not_answering(c));
	return o;
}
