/* SPDX-License-Identifier: Apache-2.0 */
/* Trust material changes hands: what running processes take over from a newer config without being started anew. */
#include <string.h>

#include "gateway/base/mem.h"
#include "gateway/config/config.h"
#include "gateway/config/options.h"

static void swap(void *a, void *b, size_t n)
{
	uint8_t keep[16];

	memcpy(keep, a, n);
	memcpy(a, b, n);
	memcpy(b, keep, n);
}

static size_t size_of(const struct option *o)
{
	switch (o->type) {
	case OPTION_TEXT:
	case OPTION_FILE:
	case OPTION_TEXTS:
	case OPTION_LIST: return sizeof(void *);
	case OPTION_BOOL: return sizeof(bool);
	case OPTION_CHOICE: return sizeof(int);
	case OPTION_SET: return sizeof(unsigned);
	default: return 0; /* no such row has the flag */
	}
}

/* Rows of lists below are the caller's: which element belongs to which, only he knows. */
static void swap_rows(const struct option_group *g, void *a, void *b)
{
	for (size_t i = 0; i < g->nrows; i++) {
		const struct option *o = &g->rows[i];

		if (o->type == OPTION_GROUP) {
			swap_rows(o->group, option_at(o, a), option_at(o, b));
		} else if (o->flags & OPTION_TRUST) {
			swap(option_at(o, a), option_at(o, b), size_of(o));
			if (o->type == OPTION_TEXTS || o->type == OPTION_LIST)
				swap(option_count(o, a), option_count(o, b), sizeof(size_t));
		}
	}
}

static const struct option_group *peers_group(void)
{
	for (size_t i = 0; i < options_config.nrows; i++)
		if (options_config.rows[i].type == OPTION_LIST && !strcmp(options_config.rows[i].name, "peers"))
			return options_config.rows[i].group;
	return NULL;
}

static struct config_peer *find(struct config *c, const struct config_peer *like)
{
	for (size_t i = 0; i < c->npeers; i++)
		if (c->peers[i].uplink == like->uplink && !strcmp(c->peers[i].domain, like->domain))
			return &c->peers[i];
	return NULL;
}

void config_take_trust(struct config *live, struct config *from)
{
	swap_rows(&options_config, live, from);
	for (size_t i = 0; i < live->npeers; i++) {
		struct config_peer *p = &live->peers[i], *new = find(from, p);

		p->removed = !new;
		if (new)
			swap_rows(peers_group(), p, new);
	}
}
