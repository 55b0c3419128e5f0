/* SPDX-License-Identifier: Apache-2.0 */
/* Peers, and the uplink of a sidecar, which is kept as one. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/config/check.h"
#include "pki/svid.h"

static bool
is_wildcard(const struct addr *a)
{
	if (a->ss.ss_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)&a->ss)->sin_addr.s_addr == INADDR_ANY;
	return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)&a->ss)->sin6_addr);
}

static void
check_dial(struct check *ck, struct config_dial *d, size_t n, const char *option)
{
	const struct config_listener *own;
	const char *why;

	for (size_t i = 0; i < n; i++) {
		if (!d[i].text)
			continue;
		if (addr_parse(&d[i].addr, d[i].text, &why) != 0) {
			memset(&d[i].addr, 0, sizeof(d[i].addr));
			check_fault(ck, &d[i].text, NULL, "%s address \"%s\": %s", option, d[i].text, why);
			continue;
		}
		if (is_wildcard(&d[i].addr))
			check_fault(ck, &d[i].text, NULL, "%s address \"%s\": write the address of one host", option, d[i].text);
		own = check_own_listener(ck, &d[i].addr);
		if (own)
			check_warn(ck, &d[i].text, NULL, "%s address \"%s\" is our own listener \"%s\"", option, d[i].text,
			    own->name ? own->name : "?");
	}
	check_once(ck, d, n, sizeof(*d), option);
}

static void
check_gateways(struct check *ck, struct config_peer *p)
{
	const char *own = ck->c->identity.id;

	for (size_t i = 0; i < p->ngateways; i++) {
		struct spiffe_id id;

		if (!check_id(ck, &p->gateways[i], p->domain, p->uplink ? "our" : "the peer's", &id))
			continue;
		if (!spiffe_is_gateway(&id))
			check_fault(ck, &p->gateways[i], p, "\"%s\" is no gateway's id, spiffe://%.*s/gateway/NAME", p->gateways[i],
			    (int)id.domain_len, id.domain);
		else if (own && !strcmp(own, p->gateways[i]))
			check_fault(ck, &p->gateways[i], p, "\"%s\" is our own id", p->gateways[i]);
	}
	check_once(ck, p->gateways, p->ngateways, sizeof(*p->gateways), "gateways");
}

void
check_peer_trust(struct check *ck, struct config_peer *p)
{
	struct svid_bundle *bundle;
	const char *why = NULL;

	if (p->uplink) { /* our own domain's, checked with the identity */
		p->bundle_pem = mem_strdup(ck->c->identity.bundle_pem);
		return;
	}
	if (p->bundle && ck->files && access(p->bundle, F_OK) != 0 && errno == ENOENT) {
		check_fault(ck, &p->bundle, p, "there is no \"%s\"; \"gwctl pair accept\" installs a peer's bundle", p->bundle);
		return;
	}
	p->bundle_pem = check_pem(ck, &p->bundle, p);
	if (!p->bundle_pem || !p->domain)
		return;
	bundle = svid_bundle_new(p->domain, p->bundle_pem, &why);
	if (!bundle)
		check_fault(ck, &p->bundle, p, "\"%s\": %s", p->bundle, why);
	svid_bundle_unref(bundle);
	p->crl_pem = check_crl(ck, &p->crl, p, p->domain, p->bundle_pem);
}

static void
check_domain(struct check *ck, struct config_peer *p)
{
	const struct config *c = ck->c;

	if (!p->domain || p->uplink)
		return;
	if (!spiffe_domain_valid(p->domain, strlen(p->domain))) {
		check_fault(ck, &p->domain, p, "domain \"%s\": a trust domain has only lower-case letters, digits, \"-\", \"_\" and \".\"",
		    p->domain);
		mem_free(p->domain); /* so that nothing is compared with it */
		p->domain = NULL;
		return;
	}
	if (c->domain && !strcmp(c->domain, p->domain))
		check_fault(ck, &p->domain, p, "\"%s\" is our own domain; a gateway of it is reached by \"uplink\"", p->domain);
	for (const struct config_peer *other = c->peers; other < p; other++) {
		if (other->uplink || !other->domain || strcmp(other->domain, p->domain) != 0)
			continue;
		check_fault(ck, &p->domain, p, "\"%s\" is already the domain of peer \"%s\" in line %u; name all its gateways there",
		    p->domain, other->name ? other->name : "?", other->line);
		break;
	}
}

/* Without one of these there can never be a link. */
static void
check_reachable(struct check *ck, const struct config_peer *p)
{
	bool listens = false;

	for (size_t i = 0; i < ck->c->nlisteners; i++)
		listens |= (ck->c->listeners[i].accept & CONFIG_PEERS) != 0;
	if (p->ndial > 0 || check_written(ck, &p->dial))
		return;
	if (p->uplink)
		check_fault(ck, p, NULL, "\"uplink\" has no \"dial\"; add the addresses of our gateway");
	else if (p->ndial_reverse == 0 && !listens)
		check_warn(ck, p, NULL,
		    "no link to \"%s\" is possible: it has neither \"dial\" nor \"dial_reverse\", and no listener accepts \"peers\"",
		    p->name ? p->name : "?");
}

void
check_peers(struct check *ck)
{
	struct config *c = ck->c;
	struct check_name *names = mem_array(c->npeers, sizeof(*names));
	size_t n = 0;

	if (c->peers_dir && ck->files && access(c->peers_dir, F_OK) != 0 && errno == ENOENT)
		check_warn(ck, &c->peers_dir, NULL, "there is no \"%s\"; \"gwctl pair accept\" makes it", c->peers_dir);
	/* All that a sidecar sends has its workload's name on it, so it cannot speak for others. */
	if (ck->sidecar && c->npeers > 1)
		check_fault(ck, &c->peers[0], NULL, "\"uplink\" makes this a sidecar, which has no \"peers\"; remove one of them");

	for (size_t i = 0; i < c->npeers; i++) {
		struct config_peer *p = &c->peers[i];

		if (p->uplink) {
			p->name = mem_strdup("uplink");
			p->domain = mem_strdup(c->domain);
			p->bundle = mem_strdup(c->identity.bundle);
		} else {
			names[n].member = &p->name;
			names[n++].owner = p;
			if (p->name && !strcmp(p->name, "uplink"))
				check_fault(ck, &p->name, p, "the name \"uplink\" is reserved; choose another");
		}
		check_domain(ck, p);
		check_peer_trust(ck, p);
		check_gateways(ck, p);
		check_dial(ck, p->dial, p->ndial, "dial");
		check_dial(ck, p->dial_reverse, p->ndial_reverse, "dial_reverse");
		check_reachable(ck, p);
	}
	check_names(ck, names, n, "peer");
	mem_free(names);
}
